import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from wsisurv.errors import DuplicateSlideError, InputError, NoSlidesError, SettingsError, StaleError
from wsisurv.formats.pictures import read_comment
from wsisurv.formats.tiles import read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides import find
from wsisurv.slides.reader import Slide
from wsisurv.slides.resolution import GivenMpp
from wsisurv.tiling.measures import measure_tiles
from wsisurv.tiling.outlines import write_outlines
from wsisurv.tiling.step import tile
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

MakeSlide = Callable[..., Path]
SETTINGS = TileSettings()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_a_slide_becomes_tiles_on_its_tissue(make_slide: MakeSlide, tmp_path: Path, workspace: Workspace) -> None:
    path = make_slide(tmp_path / "in" / "S-1.tiff", (2400, 2000), mpp=0.2527)
    summary = tile(workspace, [tmp_path / "in"], SETTINGS)
    assert (summary.done, summary.failed, summary.notes) == (["S-1"], [], [])
    tiles, header = read_tiles(workspace.tiles("S-1"))
    assert header.settings == SETTINGS.model_dump(mode="json")
    assert (tiles.slide_id, tiles.slide_path) == ("S-1", path)
    assert (tiles.mpp, tiles.level0_width, tiles.level0_height) == (pytest.approx(0.2527), 2400, 2000)
    assert tiles.tile_level0_px == pytest.approx(224 * 0.5 / 0.2527)
    assert len(tiles.coords) == len(tiles.tissue) > 4
    assert (tiles.tissue >= 0.5).all()
    centres = tiles.coords + tiles.tile_level0_px / 2
    oval = ((centres - (1200, 1000)) / (0.42 * 2400, 0.38 * 2000)) ** 2
    assert (oval.sum(axis=1) < 1.2).all()
    with Image.open(workspace.preview("S-1")) as picture:
        assert max(picture.size) <= 1600
    with Image.open(workspace.thumbnail("S-1")) as picture:
        assert max(picture.size) == 400
    area, left_out = read_comment(workspace.thumbnail("S-1")).splitlines()  # the contact sheet's caption
    assert re.fullmatch(r"tissue 0\.\d+ mm², \d+% of the slide", area)
    assert re.match(r"left out: \d+ places of too little tissue", left_out)


def test_min_tissue_zero_keeps_all_and_one_keeps_what_is_full(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace
) -> None:
    path = make_slide(tmp_path / "S-1.tiff", np.full((700, 900, 3), (200, 120, 170), np.uint8))
    tile(workspace, [path], TileSettings(min_tissue=1))
    assert len(read_tiles(workspace.tiles("S-1"))[0].coords) == 3 * 4
    glass = make_slide(tmp_path / "S-2.tiff", np.full((700, 900, 3), 244, np.uint8))
    tile(Workspace(tmp_path / "other"), [glass], TileSettings(min_tissue=0))
    assert len(read_tiles(tmp_path / "other" / "tiles" / "S-2.h5")[0].coords) == 3 * 4


def test_overlap_gives_more_tiles_of_the_same_size(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide(tmp_path / "S-1.tiff", np.full((896, 896, 3), (200, 120, 170), np.uint8))
    for overlap, count in ((0, 16), (112, 49)):
        workspace = Workspace(tmp_path / str(overlap))
        tile(workspace, [path], TileSettings(overlap_px=overlap))
        tiles, _ = read_tiles(workspace.tiles("S-1"))
        assert (len(tiles.coords), tiles.overlap_px, tiles.tile_level0_px) == (count, overlap, 224)
    with pytest.raises(SettingsError):
        tile(Workspace(tmp_path / "never"), [path], TileSettings(overlap_px=224))


def test_blank_glass_is_a_result_of_zero_tiles(make_slide: MakeSlide, tmp_path: Path, workspace: Workspace) -> None:
    path = make_slide(tmp_path / "blank.tiff", np.full((900, 900, 3), 244, np.uint8))
    summary = tile(workspace, [path], SETTINGS)
    assert summary.done == ["blank"]
    assert "zero tiles (no tissue found)" in summary.notes[0]
    tiles, _ = read_tiles(workspace.tiles("blank"))
    assert tiles.coords.shape == (0, 2)
    assert workspace.preview("blank").exists()
    assert tile(workspace, [path], SETTINGS).kept == ["blank"]


def test_bad_slides_fail_by_name_and_the_good_ones_are_done(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    for name in ("a-good", "z-good"):
        make_slide(folder / f"{name}.tiff", (900, 900))
    make_slide(folder / "no-mpp.tiff", (900, 900), mpp=None)
    make_slide(folder / "coarse.tiff", (900, 900), mpp=2.0)
    make_slide(folder / "tiny.tiff", (200, 200), levels=1)
    (folder / "text.svs").write_text("not a slide")
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), dtype=np.uint8)
    whole = make_slide(folder / "truncated.tiff", noise, levels=1, compression="deflate")
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    unreadable = make_slide(folder / "unreadable.tiff", (900, 900))
    fingerprint = find.slide_fingerprint

    def refuse(path: Path) -> str:
        return fingerprint(folder / "gone" if path == unreadable else path)

    monkeypatch.setattr("wsisurv.tiling.step.slide_fingerprint", refuse)
    summary = tile(workspace, [folder], SETTINGS)
    assert summary.done == ["a-good", "z-good"]
    failed = {failure.id: failure for failure in summary.failed}
    assert {name: failure.error for name, failure in failed.items()} == {
        "no-mpp": "MissingMppError",
        "coarse": "SlideError",
        "tiny": "SlideError",
        "text": "SlideError",
        "truncated": "SlideError",
        "unreadable": "SlideError",
    }
    assert all(name in failure.message or name == "unreadable" for name, failure in failed.items())
    assert {failure.id for failure in read_failures(workspace, "tile")} == set(failed)
    assert workspace.tiled_slides() == ["a-good", "z-good"]

    monkeypatch.undo()
    make_slide(folder / "truncated.tiff", (900, 900))
    again = tile(workspace, [folder], SETTINGS)
    assert (again.kept, again.done) == (["a-good", "z-good"], ["truncated", "unreadable"])
    assert "truncated" not in {failure.id for failure in read_failures(workspace, "tile")}


def test_the_resolution_given_by_hand_is_used(make_slide: MakeSlide, tmp_path: Path, workspace: Workspace) -> None:
    path = make_slide(tmp_path / "S-1.tiff", (1200, 1200), mpp=None)
    tile(workspace, [path], TileSettings(slide_mpp=0.25))
    tiles, _ = read_tiles(workspace.tiles("S-1"))
    assert (tiles.mpp, tiles.tile_level0_px) == (0.25, 448)


def test_the_same_work_gives_the_same_bytes(make_slide: MakeSlide, tmp_path: Path, workspace: Workspace) -> None:
    path = make_slide(tmp_path / "S-1.tiff", (1300, 1100), mpp=0.31)
    files = (workspace.tiles("S-1"), workspace.preview("S-1"), workspace.thumbnail("S-1"))
    tile(workspace, [path], SETTINGS)
    first = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    tile(workspace, [path], SETTINGS)
    assert [file.read_bytes() for file in files] == first


def test_other_settings_stop_before_any_work_unless_redone(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace
) -> None:
    path = make_slide(tmp_path / "S-1.tiff", (900, 900))
    tile(workspace, [path], SETTINGS)
    with pytest.raises(StaleError, match="tile_px: 224 → 128"):
        tile(workspace, [path], TileSettings(tile_px=128))
    assert tile(workspace, [path], TileSettings(tile_px=128), redo=True).done == ["S-1"]
    assert read_tiles(workspace.tiles("S-1"))[0].tile_px == 128


def test_tiles_follow_a_slide_that_moved(make_slide: MakeSlide, tmp_path: Path, workspace: Workspace) -> None:
    path = make_slide(tmp_path / "old" / "S-1.tiff", (900, 900))
    tile(workspace, [path], SETTINGS)
    before, header = read_tiles(workspace.tiles("S-1"))
    moved = tmp_path / "new" / "S-1.tiff"
    moved.parent.mkdir()
    path.rename(moved)
    assert tile(workspace, [tmp_path / "new"], SETTINGS).kept == ["S-1"]
    after, header_after = read_tiles(workspace.tiles("S-1"))
    assert header_after == header
    assert after.slide_path == moved
    assert np.array_equal(after.coords, before.coords)
    assert np.array_equal(after.tissue, before.tissue)
    assert replace(after, slide_path=path, coords=before.coords, tissue=before.tissue, piece=before.piece) == before


def test_nothing_to_do_and_doubles_are_refused(make_slide: MakeSlide, tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(NoSlidesError):
        tile(workspace, [tmp_path], SETTINGS)
    for folder in ("x", "y"):
        make_slide(tmp_path / folder / "S-1.tiff", (300, 300))
    with pytest.raises(DuplicateSlideError):
        tile(workspace, [tmp_path], SETTINGS)
    assert not workspace.tiled_slides()


@pytest.mark.skipif("WSISURV_REAL_SLIDE" not in os.environ, reason="WSISURV_REAL_SLIDE names no slide of a scanner")
def test_a_real_slide_has_tissue_and_glass(workspace: Workspace) -> None:
    summary = tile(workspace, [Path(os.environ["WSISURV_REAL_SLIDE"])], SETTINGS)
    assert (len(summary.done), summary.failed) == (1, [])
    tiles, _ = read_tiles(workspace.tiles(summary.done[0]))
    assert len(tiles.coords) > 0
    assert (tiles.coords + tiles.tile_level0_px <= (tiles.level0_width, tiles.level0_height)).all()
    assert workspace.preview(tiles.slide_id).exists()


def two_pieces() -> np.ndarray:
    image = np.full((1600, 2000, 3), 244, np.uint8)
    image[200:700, 1200:1900] = (200, 120, 170)
    image[500:1500, 100:800] = (190, 110, 165)
    return image


def test_pieces_are_numbered_from_the_top_and_tiles_come_row_by_row_within_each(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace
) -> None:
    path = make_slide(tmp_path / "S-1.tiff", two_pieces())
    tile(workspace, [path], TileSettings(tile_px=64))
    tiles, _ = read_tiles(workspace.tiles("S-1"))
    assert tiles.piece is not None
    assert set(tiles.piece.tolist()) == {1, 2}
    assert (tiles.coords[tiles.piece == 1, 0] > 1000).all()
    assert (tiles.coords[tiles.piece == 2, 0] < 1000).all()
    order = [(piece, y, x) for piece, (x, y) in zip(tiles.piece.tolist(), tiles.coords.tolist(), strict=True)]
    assert order == sorted(order)


class Bounded(openslide.OpenSlide):
    """A slide whose scanner says that only a part of level 0 was scanned, as MIRAX does."""

    @property
    def properties(self) -> dict[str, str]:
        bounds = {"x": "1000", "y": "100", "width": "950", "height": "700"}
        return {**super().properties, **{f"openslide.bounds-{name}": value for name, value in bounds.items()}}


def test_scanner_bounds_restrict_the_grid(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_slide(tmp_path / "S-1.tiff", two_pieces(), compression="deflate")
    monkeypatch.setattr("openslide.OpenSlide", Bounded)
    tile(workspace, [path], TileSettings(tile_px=50, min_tissue=1, tissue_mpp=2.0))
    tiles, _ = read_tiles(workspace.tiles("S-1"))
    assert (tiles.bounds_x, tiles.bounds_y, tiles.level0_width) == (1000, 100, 2000)
    assert set(((tiles.coords - (1000, 100)) % 50).ravel().tolist()) == {0}
    with Slide(path) as slide:
        for x, y in tiles.coords.tolist():
            assert (slide.region(x, y, 50, 50) == (200, 120, 170)).all()
        assert slide.view(2.0).shape == (175, 238, 3)
    assert tiles.coords.min(axis=0).tolist() == [1200, 200]
    assert len(tiles.coords) == 10 * 14


def test_drawn_tissue_is_used_and_what_it_is_made_from_is_known(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace
) -> None:
    path = make_slide(tmp_path / "S-1.tiff", two_pieces())
    masks = tmp_path / "masks"
    masks.mkdir()
    summary = tile(workspace, [path], SETTINGS, masks=masks)
    assert "S-1.geojson" in summary.failed[0].message
    drawn = {"type": "Polygon", "coordinates": [[[0, 0], [448, 0], [448, 672], [0, 672], [0, 0]]]}
    (masks / "S-1.geojson").write_text(json.dumps(drawn))
    assert tile(workspace, [path], SETTINGS, masks=masks).done == ["S-1"]
    tiles, _ = read_tiles(workspace.tiles("S-1"))
    assert tiles.coords.tolist() == [[x, y] for y in (0, 224, 448) for x in (0, 224)]
    with pytest.raises(StaleError, match="tissue mask is not the one"):
        tile(workspace, [path], SETTINGS)
    with pytest.raises(InputError, match="no such folder"):
        tile(workspace, [path], SETTINGS, masks=tmp_path / "nowhere")


def test_where_the_resolution_comes_from_is_stored_and_a_guess_is_flagged(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace
) -> None:
    for name in ("A", "B"):
        make_slide(tmp_path / "in" / f"{name}.tiff", (1200, 1200), mpp=None)
    make_slide(tmp_path / "in" / "C.tiff", (1200, 1200), mpp=0.5)
    bare = tmp_path / "in" / "B.tiff"
    image = np.full((1200, 1200, 3), (200, 120, 170), np.uint8)
    words = "a copy |AppMag = 40|Left = 1"
    tifffile.imwrite(
        bare, image, tile=(256, 256), photometric="rgb", compression="jpeg", description=words, metadata=None
    )
    given = GivenMpp(by_slide={"A": 0.4}, from_objective=True)
    summary = tile(workspace, [tmp_path / "in"], SETTINGS, given=given)
    assert summary.failed == []
    found = {name: read_tiles(workspace.tiles(name)) for name in "ABC"}
    assert {name: tiles.mpp for name, (tiles, _) in found.items()} == {"A": 0.4, "B": 0.25, "C": 0.5}
    assert "table" in found["A"][0].mpp_source
    assert "objective" in found["B"][0].mpp_source
    assert "objective" in found["B"][0].flags[0]
    assert found["C"][0].flags == ()
    assert {name: header.settings["slide_mpp"] for name, (_, header) in found.items()} == {
        "A": 0.4, "B": None, "C": None,
    }  # fmt: skip
    assert tile(workspace, [tmp_path / "in"], SETTINGS, given=GivenMpp(by_slide={"A": 0.4})).kept == ["A", "B", "C"]
    with pytest.raises(StaleError, match="slide_mpp"):
        tile(workspace, [tmp_path / "in"], SETTINGS, given=GivenMpp(by_slide={"A": 0.3}))


def test_a_coarse_scan_is_enlarged_only_when_allowed_and_flagged(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace
) -> None:
    path = make_slide(tmp_path / "S-1.tiff", np.full((600, 600, 3), (200, 120, 170), np.uint8), mpp=1.0)
    assert "--allow-upsampling" in tile(workspace, [path], SETTINGS).failed[0].message
    summary = tile(workspace, [path], SETTINGS, allow_upsampling=True)
    assert "scanned at 1 µm/px, enlarged to 0.5" in summary.notes[0]
    tiles, _ = read_tiles(workspace.tiles("S-1"))
    assert (tiles.tile_level0_px, len(tiles.coords)) == (112, 25)


def test_measures_are_stored_a_tile_and_read_back(make_slide: MakeSlide, tmp_path: Path, workspace: Workspace) -> None:
    path = make_slide(tmp_path / "S-1.tiff", (1200, 1000))
    tile(workspace, [path], TileSettings(measures=True))
    tiles, _ = read_tiles(workspace.tiles("S-1"))
    assert set(tiles.measures) == {"focus", "haematoxylin", "eosin"}
    assert all(len(values) == len(tiles.coords) > 0 for values in tiles.measures.values())
    with Slide(path) as slide:
        again = measure_tiles(slide, tiles)
    assert all(np.array_equal(values, again[name]) for name, values in tiles.measures.items())


def test_by_default_as_many_slides_are_tiled_at_once_as_there_are_processors(
    make_slide: MakeSlide, tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ABC":
        make_slide(tmp_path / "in" / f"{name}.tiff", (700, 700), mpp=0.5)
    together = threading.Barrier(3, timeout=60)

    def waiting(*words: object, **named: object) -> None:
        together.wait()  # three come here, or none goes on
        write_outlines(*words, **named)

    monkeypatch.setattr("wsisurv.tiling.step.write_outlines", waiting)
    monkeypatch.setattr("wsisurv.tiling.step.cores", lambda: 3)
    summary = tile(workspace, [tmp_path / "in"])
    assert (sorted(summary.done), summary.failed) == (["A", "B", "C"], [])
