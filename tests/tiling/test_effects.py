"""Every setting of tiling changes the tiles: a new one without an entry here fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from wsisurv.settings.tiles import TileSettings
from wsisurv.tiling.step import tile
from wsisurv.workspace.paths import Workspace

BASE = TileSettings(min_tissue=0.1)
OTHER: dict[str, Any] = {
    "tile_px": 256,
    "tile_mpp": 0.6,
    "overlap_px": 32,
    "tissue": "hsv",
    "tissue_mpp": 16.0,
    "min_tissue": 0.9,
    "min_piece_um2": 0.0,
    "max_hole_um2": 0.0,
    "keep_artefacts": True,
    "measures": True,
    "slide_mpp": 0.4,
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory, make_slide: Callable[..., Path]) -> Path:
    """Tissue, some of it pale, with a hole of 8,100 µm²; a piece as small; and a pen mark."""
    image = np.full((2400, 3200, 3), 244, np.float64)
    image[400:1500, 400:1700] = (200, 120, 170)
    image[400:1500, 1700:2600] = (235, 215, 230)
    image[800:980, 800:980] = 244
    image[1800:1980, 800:980] = (200, 120, 170)
    image[2150:2230, 300:2900] = (30, 140, 70)
    image += np.random.default_rng(0).normal(0, 3, image.shape)
    return make_slide(tmp_path_factory.mktemp("slides") / "S-1.tiff", image.clip(0, 255).astype(np.uint8))


def tiles(slide: Path, folder: Path, settings: TileSettings) -> dict[str, NDArray[Any]]:
    """All numbers of the file; not the settings that it says it was made with."""
    workspace = Workspace(folder)
    assert not tile(workspace, [slide], settings, preview=False).failed
    found: dict[str, NDArray[Any]] = {}

    def collect(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(workspace.tiles("S-1")) as file:
        file.visititems(collect)
    return found


@pytest.fixture(scope="module")
def base(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[Any]]:
    return tiles(slide, tmp_path_factory.mktemp("base"), BASE)


def differ(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    return one.keys() != other.keys() or any(not np.array_equal(one[name], other[name]) for name in one)


def test_no_setting_lacks_an_entry() -> None:
    assert OTHER.keys() == TileSettings.model_fields.keys()


def test_what_is_compared_is_the_same_for_the_same_settings(
    slide: Path, base: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    assert not differ(base, tiles(slide, tmp_path, BASE))


@pytest.mark.parametrize("name", OTHER)
def test_a_setting_changes_the_tiles(slide: Path, base: dict[str, NDArray[Any]], tmp_path: Path, name: str) -> None:
    assert OTHER[name] != getattr(BASE, name)
    assert differ(base, tiles(slide, tmp_path, BASE.model_copy(update={name: OTHER[name]})))
