from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from wsisurv.formats.tiles import Tiles
from wsisurv.slides.reader import Slide
from wsisurv.tiling.measures import measure_tiles
from wsisurv.units import SlideId

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29]) / np.linalg.norm([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11]) / np.linalg.norm([0.07, 0.99, 0.11])


def test_focus_falls_with_blur_and_stains_are_told_apart(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    amounts = rng.random((128, 128, 1)) * [[[0.4]]]
    sharp = 255 * 10 ** -(amounts * HAEMATOXYLIN)
    blurred = ndimage.gaussian_filter(sharp, (2, 2, 0))
    pink = np.broadcast_to(255 * 10 ** -(0.3 * EOSIN), sharp.shape)
    white = np.full(sharp.shape, 255.0)
    image = np.rint(np.concatenate([sharp, blurred, pink, white], axis=1)).astype(np.uint8)
    path = make_slide(tmp_path / "S.tiff", image, levels=1, compression="deflate")
    coords = np.array([[0, 0], [128, 0], [256, 0], [384, 0]], np.int64)
    tiles = Tiles(SlideId("S"), path, coords, np.ones(4, np.float32), 0.5, 0.5, 128, 128.0, 0, 512, 128)
    with Slide(path) as slide:
        found = measure_tiles(slide, tiles)
    focus, haematoxylin, eosin = found["focus"], found["haematoxylin"], found["eosin"]
    assert focus[0] > 10 * focus[1] > 0
    assert focus[2] == focus[3] == 0
    assert haematoxylin[0] == pytest.approx(0.2, abs=0.02)
    assert haematoxylin[0] == pytest.approx(haematoxylin[1], abs=0.02)
    assert eosin[2] == pytest.approx(0.3, abs=0.01)
    assert np.abs([eosin[0], eosin[1], haematoxylin[2]]).max() < 0.02
    assert np.abs([eosin[3], haematoxylin[3]]).max() < 1e-6
