from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsisurv.tiling.artefacts import find_ink
from wsisurv.tiling.methods import View, otsu
from wsisurv.tiling.tissue import find_tissue

MPP = 8.0
SIZE = 400  # 3.2 mm
PENS = {"green": (30, 140, 70), "blue": (40, 70, 170), "red": (210, 30, 40), "black": (35, 35, 40)}
HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)  # Ruifrok and Johnston's optical densities

Image = NDArray[np.uint8]


def flat(colour: tuple[int, int, int], noise: float = 4, seed: int = 0) -> Image:
    image = np.full((SIZE, SIZE, 3), colour) + np.random.default_rng(seed).normal(0, noise, (SIZE, SIZE, 3))
    return image.clip(0, 255).astype(np.uint8)


def stained(h: float, e: float) -> NDArray[np.uint8]:
    density = h * np.array(HAEMATOXYLIN) + e * np.array(EOSIN)
    return np.rint(245 * 10**-density).astype(np.uint8)


def with_stroke(image: Image, colour: tuple[int, int, int], width: int = 40) -> tuple[Image, NDArray[np.bool_]]:
    """A pen stroke down the picture, with its mask."""
    image, stroke = image.copy(), np.zeros(image.shape[:2], bool)
    stroke[:, 180 : 180 + width] = True
    image[stroke] = colour
    return image, stroke


@pytest.mark.parametrize("glass", [(255, 255, 255), (243, 242, 244), (230, 228, 222), (240, 234, 218)])
@pytest.mark.parametrize("noise", [0, 4])
def test_blank_glass_gives_nothing(glass: tuple[int, int, int], noise: float) -> None:
    assert not find_tissue(flat(glass, noise), MPP).mask.any()


@pytest.mark.parametrize("stain", [(0.0, 0.12), (0.05, 0.3), (0.6, 0.4)])
def test_a_slide_full_of_tissue_gives_all(stain: tuple[float, float]) -> None:
    colour = tuple(int(value) for value in stained(*stain))
    assert find_tissue(flat(colour), MPP).mask.all()


def test_pale_stroma_beside_dark_tumour_is_tissue_too() -> None:
    image = flat((243, 242, 244))
    image[100:300, 50:200] = stained(0.03, 0.18)
    image[100:300, 200:350] = stained(0.9, 0.5)
    expected = np.zeros((SIZE, SIZE), bool)
    expected[100:300, 50:350] = True
    wrong = find_tissue(image, MPP).mask ^ expected
    assert wrong.sum() < 0.02 * expected.sum()


def test_a_grey_shadow_on_the_glass_is_no_tissue() -> None:
    image = flat((243, 242, 244))
    image[:, 300:320] = (212, 212, 211)
    image[100:200, 100:200] = stained(0.2, 0.3)
    mask = find_tissue(image, MPP).mask
    assert mask[110:190, 110:190].all()
    assert not mask[:, 290:330].any()


@pytest.mark.parametrize("pen", PENS)
def test_a_pen_mark_is_left_out_and_the_tissue_is_kept(pen: str, draw_tissue: Callable[..., Image]) -> None:
    clean = draw_tissue(SIZE, SIZE)
    image, stroke = with_stroke(clean, PENS[pen])
    without, tissue = find_tissue(clean, MPP).mask, find_tissue(image, MPP)
    assert not (tissue.mask & stroke).any()
    assert (tissue.ink & stroke).sum() > 0.95 * stroke.sum()
    near = np.zeros_like(stroke)
    near[:, 170:230] = True
    assert np.array_equal(tissue.mask[~near], without[~near])
    assert tissue.flags == ()


@pytest.mark.parametrize("pen", PENS)
def test_colour_rules_never_erase_a_whole_slide(pen: str) -> None:
    tissue = find_tissue(flat(PENS[pen]), MPP)
    assert tissue.mask.all()
    assert not tissue.ink.any()
    assert "100%" in tissue.flags[0]


def test_a_small_biopsy_ringed_by_a_thick_pen_is_kept_and_the_ring_is_not() -> None:
    image = flat((243, 242, 244))
    image[50:350, 50:350] = PENS["blue"]
    image[90:310, 90:310] = (243, 242, 244)
    image[160:240, 160:240] = stained(0.3, 0.4)
    tissue = find_tissue(image, MPP)
    assert tissue.mask[165:235, 165:235].all()
    assert not tissue.mask[:150].any()
    assert "pen marks" in tissue.flags[0]


@given(h=st.floats(0, 1), e=st.floats(0, 2))
def test_no_mixture_of_haematoxylin_and_eosin_is_ink(h: float, e: float) -> None:
    view = np.broadcast_to(stained(h, e), (40, 40, 3))
    assert not find_ink(View(np.ascontiguousarray(view), MPP)).any()


@pytest.mark.parametrize("mpp", [4.0, 8.0, 16.0])
def test_specks_and_holes_go_by_their_area_in_um(mpp: float) -> None:
    def square(um: float) -> int:
        return round(um / mpp)

    image = np.full((square(3200), square(3200), 3), 244, np.uint8)
    far = square(1600)
    image[far:, far:] = stained(0.3, 0.5)
    image[square(400) :, square(400) :][: square(64), : square(64)] = stained(0.3, 0.5)
    image[square(2000) :, square(2000) :][: square(64), : square(64)] = 244
    image[square(2600) :, square(2600) :][: square(320), : square(320)] = 244
    mask = find_tissue(image, mpp).mask
    assert not mask[: far - square(100), : far - square(100)].any()  # the speck is gone
    assert mask[square(1900) : square(2200), square(1900) : square(2200)].all()  # the small hole is filled
    assert not mask[square(2700) : square(2800), square(2700) : square(2800)].any()  # the large hole stays


def test_otsu_parts_two_classes() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0.1, 0.02, 3000), rng.normal(0.6, 0.05, 1000)]).astype(np.float32)
    assert 0.15 < otsu(values) < 0.45
