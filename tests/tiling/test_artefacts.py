import numpy as np
import pytest
from numpy.typing import NDArray

from wsisurv.tiling.artefacts import EDGE, FOLD, LINE, find_ink
from wsisurv.tiling.methods import METHODS, View
from wsisurv.tiling.tissue import Tissue, find_tissue

MPP = 8.0
SIZE = 600  # 4.8 mm
GLASS = (243, 242, 244)
HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def stained(h: float, e: float) -> Image:
    return np.rint(245 * 10 ** -(h * HAEMATOXYLIN + e * EOSIN)).astype(np.uint8)


def slide(seed: int = 0) -> tuple[Image, Mask]:
    """Glass with a square of textured tissue, and where that is."""
    rng = np.random.default_rng(seed)
    image = np.full((SIZE, SIZE, 3), GLASS, np.uint8)
    tissue = np.zeros((SIZE, SIZE), bool)
    tissue[150:450, 150:450] = True
    image[tissue] = stained(0.1, 0.25)
    nuclei = tissue & (rng.random((SIZE, SIZE)) < 0.2)
    image[nuclei] = stained(0.5, 0.3)
    noise = rng.normal(0, 2, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8), tissue


def lost(found: Tissue, tissue: Mask) -> float:
    return float((tissue & ~found.mask).sum() / tissue.sum())


def test_clean_tissue_loses_nothing() -> None:
    image, tissue = slide()
    found = find_tissue(image, MPP)
    assert not found.artefacts
    assert not found.ink.any()
    assert lost(found, tissue) < 0.01


@pytest.mark.parametrize(
    "colour", [(240, 220, 40), (245, 140, 30), (20, 150, 180), (30, 140, 70), (40, 70, 170), (25, 30, 90)]
)
def test_pens_of_other_colours_are_ink(colour: tuple[int, int, int]) -> None:
    image, _ = slide()
    image[480:500, 50:550] = colour
    ink = find_ink(View(image, MPP))
    assert ink[485:495, 60:540].all()
    assert not ink[:470].any()


def test_a_black_edge_is_left_out_and_no_pen_mark() -> None:
    image, tissue = slide()
    image[:, :80] = (6, 5, 6)
    found = find_tissue(image, MPP)
    assert set(found.artefacts) == {EDGE}
    assert not found.mask[:, :80].any()
    assert not found.ink.any()
    assert lost(found, tissue) < 0.01


@pytest.mark.parametrize("shape", ["coverslip", "slanted", "bubble"])
def test_long_thin_grey_lines_are_left_out_straight_or_bent(shape: str) -> None:
    image, tissue = slide()
    y, x = np.mgrid[:SIZE, :SIZE]
    line = {
        "coverslip": np.abs(x - 60) < 4,
        "slanted": np.abs(x - 0.2 * y - 10) < 4,
        "bubble": np.abs(np.hypot(x - 300, y - 75) - 60) < 4,
    }[shape]
    image[line] = (120, 119, 121)
    found = find_tissue(image, MPP)
    assert LINE in found.artefacts
    assert not (found.mask & line & ~tissue).any()
    assert lost(found, tissue) < 0.02


def test_a_fold_is_left_out_and_an_epithelium_is_not() -> None:
    image, tissue = slide()
    density = -np.log10(np.maximum(image.astype(float), 1) / 245)
    fold, epithelium = np.zeros_like(tissue), np.zeros_like(tissue)
    fold[220:236, 160:440] = True
    epithelium[360:376, 160:440] = True
    image[fold] = np.rint(245 * 10 ** -(2.4 * density[fold].mean(axis=0))).astype(np.uint8)
    image[epithelium] = stained(1.0, 0.25)
    found = find_tissue(image, MPP)
    assert set(found.artefacts) == {FOLD}
    assert (found.artefacts[FOLD] & fold).sum() > 0.8 * fold.sum()
    assert found.mask[epithelium].all()
    assert lost(found, tissue & ~fold) < 0.03


def test_artefacts_that_would_take_more_than_half_are_kept_and_flagged() -> None:
    image = np.full((SIZE, SIZE, 3), GLASS, np.uint8)
    image[200:400, 200:400] = stained(0.2, 0.3)
    image[200:400, 200:330] = (40, 70, 170)
    found = find_tissue(image, MPP)
    assert found.mask[205:395, 205:395].all()
    assert any("kept" in flag and "pen marks" in flag for flag in found.flags)


def test_artefacts_stay_where_they_are_wanted() -> None:
    image, _ = slide()
    image[480:500, 50:550] = (30, 140, 70)
    assert not find_tissue(image, MPP).mask[485:495].any()
    assert find_tissue(image, MPP, keep_artefacts=True).mask[485:495, 60:540].all()


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("mpp", [4.0, 8.0])
def test_every_method_finds_textured_tissue_and_no_glass(method: str, mpp: float) -> None:
    image, tissue = slide()
    mask = METHODS[method](View(image, mpp))
    inner, outer = np.zeros_like(tissue), np.zeros_like(tissue)
    inner[165:435, 165:435] = True
    outer[130:470, 130:470] = True
    assert mask[inner].mean() > 0.98
    assert not mask[~outer].any()
    glass = np.random.default_rng(1).normal(GLASS, 3, (SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)
    assert not METHODS[method](View(glass, mpp)).any()
    assert METHODS[method](View(np.ascontiguousarray(image[170:430, 170:430]), mpp)).mean() > 0.98


def test_entropy_finds_pale_texture_without_colour_that_the_others_miss() -> None:
    rng = np.random.default_rng(0)
    image = np.full((SIZE, SIZE, 3), 240, np.uint8)
    image[150:450, 150:450] = rng.integers(185, 256, (300, 300, 1))
    assert METHODS["entropy"](View(image, MPP))[170:430, 170:430].mean() > 0.95
    assert not METHODS["hsv"](View(image, MPP)).any()
