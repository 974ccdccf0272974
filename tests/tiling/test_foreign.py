import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from openslide import OpenSlide

from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.errors import InputError, NoSlidesError
from wsisurv.formats.export import export_tiles
from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import Tiles, read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.facts import Bounds, read_facts
from wsisurv.slides.find import find_slides
from wsisurv.slides.reader import Slide
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


class _ClamBag:
    """What CLAM's Whole_Slide_Bag_FP reads of a file (commit 4f9d8ae), and the pixels that it asks OpenSlide for."""

    def __init__(self, path: Path, slide: OpenSlide) -> None:
        with h5py.File(path) as file:
            self.coords = file["coords"][()]
            self.level, self.side = (file["coords"].attrs[name] for name in ("patch_level", "patch_size"))
        self.slide = slide

    def __getitem__(self, row: int) -> np.ndarray:
        return np.asarray(self.slide.read_region(self.coords[row], self.level, (self.side, self.side)).convert("RGB"))


@pytest.mark.parametrize(
    ("mpp", "levels", "level"), [(0.5, 1, 0), (0.25, 3, 1), (0.125, 3, 2), (0.25, 1, None), (0.2, 3, None)]
)
def test_our_tiles_open_in_clams_data_set(
    make_slide: Callable[..., Path], tmp_path: Path, mpp: float, levels: int, level: int | None
) -> None:
    """The same tissue, or not at all: of a slide without a level of the tiles' resolution ``export`` makes the file."""
    path = make_slide(tmp_path / "slides" / "S-1.tiff", (1800, 1500), mpp=mpp, levels=levels)
    workspace = Workspace(tmp_path / "w")
    tile(workspace, [path], TileSettings(tile_px=112))
    tiles, _ = read_tiles(workspace.tiles("S-1"))
    assert (tiles.patch_level, len(tiles.coords) > 2) == (level, True)
    with OpenSlide(path) as seen, Slide(path) as slide:
        ours = slide.region(*map(int, tiles.coords[1]), tiles.tile_level0_px, tiles.tile_px)
        if level is None:
            with pytest.raises(KeyError, match="patch_level"):
                _ClamBag(workspace.tiles("S-1"), seen)
            export_tiles(tmp_path / "clam.h5", tiles, "clam")
            theirs = _ClamBag(tmp_path / "clam.h5", seen)[1]
            assert len(theirs) == round(tiles.tile_level0_px)
            theirs, ours = theirs.mean((0, 1)), ours.mean((0, 1))
        else:
            theirs = _ClamBag(workspace.tiles("S-1"), seen)[1]
        assert np.abs(theirs.astype(float) - ours).mean() < 2


def hs2p(folder: Path, tiles: Tiles) -> None:
    """As version 6.1.0 writes it; keys that decide nothing left out."""
    folder.mkdir()
    x, y = tiles.coords.T
    np.savez(folder / "S-1.coordinates.npz", x=x, y=y, tissue_fractions=np.full(len(x), 0.75, np.float32))
    said = {"n_tiles": len(x), "overlap": 0.0, "requested_spacing_um": 0.5, "requested_tile_size_px": 224}
    slide = {"base_spacing_um": MPP, "dimensions": [1800, 1500]}
    notes = {"tiling": {**said, "tile_size_lv0": 448}, "slide": slide}
    (folder / "S-1.coordinates.meta.json").write_text(json.dumps(notes))


def test_hs2ps_tiles_become_ours_with_their_tissue_and_settings(tiled: Workspace, tmp_path: Path) -> None:
    ours, _ = read_tiles(tiled.tiles("S-1"))
    hs2p(tmp_path / "theirs", ours)
    slides, place = find_slides([tmp_path / "slides"]), Workspace(tmp_path / "back")
    assert import_tiles(place, tmp_path / "theirs", slides).done == ["S-1"]
    back, header = read_tiles(place.tiles("S-1"))
    np.testing.assert_array_equal(back.coords, ours.coords)
    assert (back.tile_px, back.tile_mpp, back.tile_level0_px, back.mpp) == (224, 0.5, 448, MPP)
    assert (back.tool, set(back.tissue)) == ("hs2p", {0.75})
    assert back.tool_settings["tiling"]["tile_size_lv0"] == 448
    assert import_tiles(place, tmp_path / "theirs", slides).kept == ["S-1"]
    notes = tmp_path / "theirs" / "S-1.coordinates.meta.json"
    notes.write_text(notes.read_text() + " ")
    assert import_tiles(place, tmp_path / "theirs", slides, redo=True).done == ["S-1"], "notes are an input, too"
    assert len(header.inputs) == 3


def test_quapths_squares_count_from_what_was_scanned(
    tiled: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QuPath shows the scanned part alone: out and in again, and out again after an import of any tool."""
    ours = replace(read_tiles(tiled.tiles("S-1"))[0], bounds_x=100, bounds_y=60)
    export_tiles(tmp_path / "theirs" / "S-1.geojson", ours, "qupath")
    export_tiles(tmp_path / "trident" / "S-1_patches.h5", ours, "trident")
    facts = replace(read_facts(ours.slide_path), bounds=Bounds(100, 60, 1600, 1400))
    monkeypatch.setattr("wsisurv.tiling.foreign.read_facts", lambda _: facts)
    slides, place = find_slides([tmp_path / "slides"]), Workspace(tmp_path / "back")
    words = {"tile_mpp": 0.5, "overlap_px": 0}
    with pytest.raises(InputError, match="QuPath doesn't say how many pixels a tile has. Give --tile-px"):
        import_tiles(place, tmp_path / "theirs", slides, **words)
    for folder, px in (("theirs", 224), ("trident", None)):
        place = Workspace(tmp_path / f"back-{folder}")
        assert import_tiles(place, tmp_path / folder, slides, tile_px=px, **words).done == ["S-1"]
        back, _ = read_tiles(place.tiles("S-1"))
        np.testing.assert_array_equal(back.coords, ours.coords)
        export_tiles(tmp_path / "again.geojson", back, "qupath")
        first, again = (
            json.loads(path.read_text())["features"][0]["geometry"]
            for path in (tmp_path / "theirs" / "S-1.geojson", tmp_path / "again.geojson")
        )
        assert first == again


def test_two_files_of_one_slide_are_named_and_nothing_is_written(tiled: Workspace, tmp_path: Path) -> None:
    """A folder with two settings side by side: TRIDENT names the slide in the file."""
    tiles = exported(tiled, "trident")
    export_tiles(tmp_path / "theirs" / "S-1-coarse_patches.h5", replace(tiles, tile_px=112), "trident")
    place = Workspace(tmp_path / "back")
    with pytest.raises(InputError, match=r"S-1-coarse_patches\.h5 and .*S-1_patches\.h5 are both of slide S-1"):
        import_tiles(place, tmp_path / "theirs", find_slides([tmp_path / "slides"]), tile_mpp=0.5)
    assert not place.tiled_slides()
