import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.errors import InputError, NoSlidesError
from wsisurv.formats.export import export_tiles
from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import Tiles, read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.find import find_slides
from wsisurv.slides.resolution import GivenMpp
from wsisurv.tiling.foreign import import_tiles
from wsisurv.tiling.step import tile
from wsisurv.workspace.paths import Workspace

MPP = 0.25


@pytest.fixture
def tiled(make_slide: Callable[..., Path], tmp_path: Path) -> Workspace:
    make_slide(tmp_path / "slides" / "S-1.tiff", (1800, 1500), mpp=MPP)
    workspace = Workspace(tmp_path / "ours")
    tile(workspace, [tmp_path / "slides"], TileSettings(tile_px=224))
    return workspace


def exported(tiled: Workspace, layout: str) -> Tiles:
    tiles, _ = read_tiles(tiled.tiles("S-1"))
    assert len(tiles.coords) > 3
    name = "S-1_patches.h5" if layout == "trident" else "S-1.h5"
    export_tiles(tiled.root.parent / "theirs" / name, tiles, layout)  # type: ignore[arg-type]
    return tiles


@pytest.mark.parametrize("layout", ["trident", "clam"])
def test_tiles_that_went_out_and_came_back_give_the_same_bag(tiled: Workspace, tmp_path: Path, layout: str) -> None:
    ours = exported(tiled, layout)
    slides = find_slides([tmp_path / "slides"])
    place = Workspace(tmp_path / "back")
    tile_mpp, overlap = (0.5, None) if layout == "trident" else (MPP, 0)
    summary = import_tiles(place, tmp_path / "theirs", slides, tile_mpp=tile_mpp, overlap_px=overlap)
    assert (summary.done, summary.failed) == (["S-1"], [])
    back, header = read_tiles(place.tiles("S-1"))
    np.testing.assert_array_equal(back.coords, ours.coords)
    assert np.isnan(back.tissue).all()
    assert (back.tile_level0_px, back.mpp, back.slide_path) == (448, pytest.approx(MPP), ours.slide_path)
    assert (back.level0_width, back.level0_height) == (1800, 1500)
    tool = "TRIDENT" if layout == "trident" else "CLAM"
    asked = {"tool": tool, "tile_px": back.tile_px, "tile_mpp": tile_mpp, "overlap_px": 0, "slide_mpp": None}
    assert header.settings == asked  # how tissue was found is not ours to say
    assert (back.tool, ours.tool) == (tool, "")
    assert back.mpp_source == ours.mpp_source != ""
    assert import_tiles(place, tmp_path / "theirs", slides, tile_mpp=tile_mpp, overlap_px=overlap).kept == ["S-1"]
    if layout == "trident":
        for workspace in tiled, place:
            embed(workspace, resolve_settings(), workers=1)
        one, two = (read_features(workspace.features("histomics", "S-1"))[0] for workspace in (tiled, place))
        np.testing.assert_array_equal(one.values, two.values)


def test_what_is_lacking_is_asked_for(tiled: Workspace, tmp_path: Path) -> None:
    exported(tiled, "clam")
    theirs, place = tmp_path / "theirs", Workspace(tmp_path / "back")
    slides = find_slides([tmp_path / "slides"])
    with pytest.raises(InputError, match=r"'S-1'.*--slides"):
        import_tiles(place, theirs, {}, tile_mpp=MPP, overlap_px=0)
    with pytest.raises(InputError, match="--overlap-px"):
        import_tiles(place, theirs, slides, tile_mpp=MPP)
    with pytest.raises(NoSlidesError):
        import_tiles(place, tmp_path / "slides", slides, tile_mpp=MPP)
    assert not place.tiled_slides()


@pytest.mark.parametrize(
    ("change", "tile_mpp", "given", "message"),
    [
        ({}, 1.0, None, r"makes 0\.5 µm/px, not 1.*--tile-mpp"),
        ({}, 0.5, GivenMpp(every=0.3), r"makes 0\.6 µm/px, not 0\.5"),
        ({"level0_width": 999}, 0.5, None, "999 × 1500"),
        ({"overlap": 3}, 0.5, None, "--overlap-px 0 was given, but the file says 3"),
    ],
)
def test_what_can_not_be_is_refused(
    tiled: Workspace, tmp_path: Path, change: dict[str, int], tile_mpp: float, given: GivenMpp | None, message: str
) -> None:
    exported(tiled, "trident")
    with h5py.File(tmp_path / "theirs" / "S-1_patches.h5", "a") as file:
        file["coords"].attrs.update(change)
    slides = find_slides([tmp_path / "slides"])
    try:
        summary = import_tiles(
            Workspace(tmp_path / "back"), tmp_path / "theirs", slides, tile_mpp=tile_mpp, overlap_px=0, given=given
        )
        said = summary.failed[0].message
    except InputError as error:
        said = str(error)
    assert re.search(message, said)


def test_tiles_of_another_slide_are_refused(tiled: Workspace, tmp_path: Path) -> None:
    exported(tiled, "trident")
    with h5py.File(tmp_path / "theirs" / "S-1_patches.h5", "a") as file:
        file["coords"][0] = (1800, 0)
    summary = import_tiles(
        Workspace(tmp_path / "back"), tmp_path / "theirs", find_slides([tmp_path / "slides"]), tile_mpp=0.5
    )
    assert "starts outside" in summary.failed[0].message


def test_a_file_that_cannot_be_fails_alone(tiled: Workspace, tmp_path: Path) -> None:
    """Damaged; or of a slide by a name that leads elsewhere."""
    exported(tiled, "trident")
    theirs = tmp_path / "theirs"
    (theirs / "S-2.h5").write_text("no HDF5")
    with h5py.File(theirs / "S-1_patches.h5") as good, h5py.File(theirs / "S-3.h5", "w") as file:
        good.copy("coords", file)
        file["coords"].attrs["name"] = "../../S-3"
    summary = import_tiles(Workspace(tmp_path / "back"), theirs, find_slides([tmp_path / "slides"]), tile_mpp=0.5)
    assert summary.done == ["S-1"]
    assert {failure.id for failure in summary.failed} == {"S-2", "S-3"}
    assert any("begins with a dot" in failure.message for failure in summary.failed)


@pytest.mark.usefixtures("tiled")
def test_mussels_resolution_must_be_the_slides(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    said = {"mpp": 0.5, "native_mpp": MPP, "overlap": 0, "patch_level": 0, "name": "S-1", "patch_size": 448}
    with h5py.File(tmp_path / "theirs" / "S-1.h5", "w") as file:
        made = file.create_dataset("coords", data=np.array([[0, 0], [448, 0]]))
        made.attrs.update({**said, "patch_size_to_resize_to_for_desired_mpp": 224, "level_dim": (1800, 1500)})
    slides, place = find_slides([tmp_path / "slides"]), Workspace(tmp_path / "back")
    assert import_tiles(place, tmp_path / "theirs", slides).done == ["S-1"]
    assert read_tiles(place.tiles("S-1"))[0].tile_mpp == 0.5
    with pytest.raises(InputError, match="--tile-mpp 1 was given, but the file says 0"):
        import_tiles(place, tmp_path / "theirs", slides, tile_mpp=1.0)
    other = import_tiles(Workspace(tmp_path / "other"), tmp_path / "theirs", slides, given=GivenMpp(every=0.5))
    assert "took the slide to be of 0.25" in other.failed[0].message
