"""What ``tile`` leaves for a person beside the tiles."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv import tile
from wsisurv.errors import StaleError
from wsisurv.formats.header import seal
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace.paths import Workspace

MakeSlide = Callable[..., Path]


def pictures(workspace: Workspace) -> dict[str, bytes]:
    files = [*(workspace.root / "preview").rglob("*.*"), *(workspace.root / "geojson").iterdir()]
    return {file.relative_to(workspace.root).as_posix(): file.read_bytes() for file in files}


def test_a_run_leaves_previews_outlines_and_a_sheet_the_same_each_time(make_slide: MakeSlide, tmp_path: Path) -> None:
    for name in "ab":
        make_slide(tmp_path / "in" / f"{name}.tiff", (1300, 1100), mpp=0.31)
    make_slide(tmp_path / "in" / "glass.tiff", np.full((900, 900, 3), 244, np.uint8))
    one, two = Workspace(tmp_path / "one"), Workspace(tmp_path / "two")
    for workspace in one, two:
        tile(workspace, [tmp_path / "in"], TileSettings())
    assert set(pictures(one)) == {
        *(f"preview/{folder}{name}.jpg" for name in ("a", "b", "glass") for folder in ("", "thumbnails/")),
        *(f"geojson/{name}.geojson" for name in ("a", "b", "glass")),
        "preview/index.html",
    }
    assert pictures(one) == pictures(two)
    (piece,) = json.loads(one.outlines("a").read_text())["features"]
    corners = np.array(piece["geometry"]["coordinates"][0])
    assert np.abs(corners.min(axis=0) - (0.08 * 1300, 0.12 * 1100)).max() < 60
    assert np.abs(corners.max(axis=0) - (0.92 * 1300, 0.88 * 1100)).max() < 60
    assert json.loads(one.outlines("glass").read_text())["features"] == []


def test_the_sheet_follows_new_slides_and_no_picture_is_made_unasked(make_slide: MakeSlide, tmp_path: Path) -> None:
    make_slide(tmp_path / "in" / "a.tiff", (700, 700))
    workspace = Workspace(tmp_path / "w")
    tile(workspace, [tmp_path / "in"], TileSettings(), preview=False)
    assert sorted(path.name for path in workspace.root.iterdir() if not path.name.startswith(".")) == ["tiles"]
    make_slide(tmp_path / "in" / "b.tiff", (700, 700))
    tile(workspace, [tmp_path / "in"], TileSettings())
    page = workspace.contact_sheet.read_text()
    assert 'data-slide="a"' in page
    assert 'data-slide="b"' in page
    page_of_a_killed_run = page.replace('data-slide="b"', "")
    workspace.contact_sheet.write_text(page_of_a_killed_run)
    os.utime(workspace.contact_sheet, ns=(0, 0))
    tile(workspace, [tmp_path / "in"], TileSettings())
    assert workspace.contact_sheet.read_text() == page
    before = workspace.contact_sheet.stat().st_mtime_ns
    tile(workspace, [tmp_path / "in"], TileSettings())
    assert workspace.contact_sheet.stat().st_mtime_ns == before


def test_tiles_made_without_a_picture_get_one_when_asked_and_stay_as_they_are(
    make_slide: MakeSlide, tmp_path: Path
) -> None:
    make_slide(tmp_path / "in" / "a.tiff", (700, 700))
    workspace, direct = Workspace(tmp_path / "one"), Workspace(tmp_path / "two")
    settings = TileSettings(measures=True)
    tile(direct, [tmp_path / "in"], settings)
    tile(workspace, [tmp_path / "in"], settings, preview=False)
    same = tmp_path / "same.h5"
    same.write_bytes(direct.tiles("a").read_bytes().replace(b"/two/", b"/one/"))
    with h5py.File(same, "a") as file:
        seal(same, file)
    assert workspace.tiles("a").read_bytes() == same.read_bytes()
    before = workspace.tiles("a").stat()
    assert tile(workspace, [tmp_path / "in"], settings).done == ["a"]
    assert pictures(workspace) == pictures(direct)
    assert workspace.tiles("a").stat() == before
    assert tile(workspace, [tmp_path / "in"], settings).kept == ["a"]
    workspace.preview("a").unlink()
    with pytest.raises(StaleError):
        tile(workspace, [tmp_path / "in"], TileSettings())


def test_no_picture_of_other_tiles_is_left(make_slide: MakeSlide, tmp_path: Path) -> None:
    make_slide(tmp_path / "in" / "a.tiff", (700, 700))
    workspace = Workspace(tmp_path / "w")
    tile(workspace, [tmp_path / "in"], TileSettings())
    tile(workspace, [tmp_path / "in"], TileSettings(tile_px=128), preview=False, redo=True)
    assert set(pictures(workspace)) == {"preview/index.html"}
    tile(workspace, [tmp_path / "in"], TileSettings(tile_px=128))
    assert set(pictures(workspace)) == {
        "preview/index.html",
        "preview/a.jpg",
        "preview/thumbnails/a.jpg",
        "geojson/a.geojson",
    }
