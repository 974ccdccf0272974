"""Slides whose levels or colours are not what they seem, through ``check`` and ``tile``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsisurv.formats.tiles import read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.resolution import GivenMpp
from wsisurv.tiling.check import check_slides
from wsisurv.tiling.step import tile
from wsisurv.workspace.paths import Workspace

MakeSlide = Callable[..., Path]


def test_tiles_of_a_slide_with_levels_filled_up_lie_on_its_tissue(make_levels: MakeSlide, tmp_path: Path) -> None:
    """The same as on the exact slide; by OpenSlide's downsamples more than half of them were bare glass."""
    width, height, grain = 4600, 2700, 12
    y, x = np.ogrid[:height, :width]
    tissue = ((x - 3700) / 620) ** 2 + ((y - 2000) / 480) ** 2 <= 1
    texture = np.random.default_rng(0).random((height // grain + 1, width // grain + 1)).astype(np.float32)
    mottles = np.asarray(Image.fromarray(texture).resize((width, height)))[..., None]
    image = np.full((height, width, 3), 243, np.uint8)
    image[tissue] = ((1 - mottles) * (110, 60, 140) + mottles * (225, 160, 195))[tissue]
    small = [np.asarray(Image.fromarray(image).reduce(2**step)) for step in range(1, 6)]
    fill = [np.pad(a, ((0, -a.shape[0] % 512), (0, -a.shape[1] % 512), (0, 0)), constant_values=243) for a in small]
    make_levels(tmp_path / "in" / "exact.tif", [image, *small], tile=512)
    make_levels(tmp_path / "in" / "filled.tif", [image, *fill], tile=512)
    workspace = Workspace(tmp_path / "workspace")
    summary = tile(workspace, [tmp_path / "in"], TileSettings(tile_px=112))
    exact, filled = (read_tiles(workspace.tiles(name))[0] for name in ("exact", "filled"))
    assert not exact.flags
    assert len(filled.flags) == 5
    assert [note.split(":")[0] for note in summary.notes] == ["filled"]
    assert set(map(tuple, exact.coords)) == set(map(tuple, filled.coords))
    assert np.abs(exact.tissue - filled.tissue).max() < 0.1
    side = int(filled.tile_level0_px)
    assert min(tissue[y : y + side, x : x + side].mean() for x, y in filled.coords) > 0.4


def odd(kind: str) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    colours = np.full((700, 900, 3), 243, np.uint8)
    colours[150:600, 200:700] = np.random.default_rng(0).integers(90, 200, (450, 500, 3)) * (1, 0.6, 0.9)
    grey = colours.mean(axis=2).astype(np.uint8)
    alpha = np.where(np.arange(900) < 100, 0, 255) * np.ones((700, 1), np.uint8)
    kinds: dict[str, tuple[np.ndarray[Any, Any], dict[str, Any]]] = {
        "grey": (grey, {"photometric": "minisblack"}),
        "inverted": (255 - grey, {"photometric": "miniswhite"}),
        "equal": (np.dstack([grey] * 3), {"photometric": "rgb"}),
        "transparent": (
            np.dstack([colours, alpha.astype(np.uint8)]),
            {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        ),
        "deep": (colours.astype(np.uint16) << 4, {"photometric": "rgb"}),
        "float": (colours.astype(np.float32), {"photometric": "rgb"}),
        "plain": (colours, {"photometric": "rgb"}),
        "unspecified": (np.dstack([colours, alpha.astype(np.uint8)]), {"photometric": "rgb", "extrasamples": [0]}),
        "inks": (np.dstack([255 - colours, 0 * grey]), {"photometric": "separated"}),
        "palette": (
            grey,
            {"photometric": "palette", "colormap": np.tile(np.arange(256, dtype=np.uint16) << 8, (3, 1))},
        ),
    }
    return kinds[kind]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("grey", "grey: one channel"),
        ("inverted", "grey: one channel"),
        ("equal", "grey: three equal channels"),
        ("transparent", "transparent: an alpha channel"),
        ("deep", "16 bits a channel"),
        ("float", "32"),
        ("unspecified", "transparent: an alpha channel"),
        ("inks", "CMYK"),
        ("palette", "a palette of 256 colours"),
        ("plain", None),
    ],
)
def test_odd_colours_are_named_by_check_and_tile(tmp_path: Path, kind: str, said: str | None) -> None:
    pixels, options = odd(kind)
    path = tmp_path / f"{kind}.tif"
    resolution = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(256, 256), metadata=None, **resolution, **options)
    (checked,) = check_slides([path], TileSettings(), GivenMpp()).slides
    summary = tile(Workspace(tmp_path / "workspace"), [path])
    told = [*summary.notes, *(failure.message for failure in summary.failed)]
    if said is None:
        assert not checked.notes
        assert not told
        return
    assert any(said in note for note in (*checked.notes, *checked.problems))
    assert any(said in line and kind in line for line in told)
