"""histomics on drawn tiles: known counts, sizes, shapes and colours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsisurv.embedding.columns import COLUMNS
from wsisurv.embedding.encoder import HistomicsEncoder
from wsisurv.embedding.histomics import histomics

Image = NDArray[np.uint8]

SIDE = 224
MPP = 0.5
AREA_MM2 = (SIDE * MPP / 1000) ** 2
GLASS, PINK, PURPLE = (243, 242, 244), (222, 160, 195), (110, 70, 140)
INDEX = {column.name: index for index, column in enumerate(COLUMNS)}


def measure(image: Image, mpp: float = MPP) -> dict[str, float]:
    return {name: float(histomics(image[None], mpp)[0, index]) for name, index in INDEX.items()}


def grid(per_side: int, side: int = SIDE) -> list[tuple[float, float]]:
    centres = (np.arange(per_side) + 0.5) * side / per_side
    return [(x, y) for y in centres for x in centres]


def draw(
    centres: list[tuple[float, float]],
    radii: tuple[float, float] = (7, 7),
    angle: float = 0.0,
    side: int = SIDE,
    ground: tuple[int, int, int] = PINK,
    colour: tuple[int, int, int] = PURPLE,
    noise: float = 2.0,
) -> Image:
    """Ellipses of ``radii`` px, long axis first, turned by ``angle`` from the horizontal."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    image = np.full((side, side, 3), ground, np.float64)
    for centre_x, centre_y in centres:
        dx, dy = x + 0.5 - centre_x, y + 0.5 - centre_y
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        image[(along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1] = colour
    image += np.random.default_rng(0).normal(0, noise, image.shape)
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("per_side", [1, 3, 6])
@pytest.mark.parametrize("radius_px", [5, 7, 10])
def test_discs_are_counted_and_measured(per_side: int, radius_px: int) -> None:
    seen = measure(draw(grid(per_side), (radius_px, radius_px)))
    area_um2 = np.pi * radius_px**2 * MPP**2
    assert seen["nuclei_density"] * 1000 * AREA_MM2 == pytest.approx(per_side**2, rel=1e-3)
    assert seen["nuclei_area_mean"] == pytest.approx(area_um2, rel=0.8 / radius_px)
    assert seen["nuclei_area_share"] == pytest.approx(per_side**2 * area_um2 / (AREA_MM2 * 1e6), rel=0.8 / radius_px)
    assert seen["nuclei_area_sd"] < 0.05 * area_um2
    assert seen["nuclei_eccentricity_mean"] < 0.3
    assert seen["nuclei_fill_mean"] == pytest.approx(1, abs=0.05)


def test_touching_discs_are_parted() -> None:
    pairs = [(x + shift, y) for x, y in grid(4) for shift in (-6.5, 6.5)]
    seen = measure(draw(pairs))
    assert seen["nuclei_density"] * 1000 * AREA_MM2 == pytest.approx(32, abs=1)


def test_small_round_dark_nuclei_are_lymphocyte_like_and_large_ones_are_not() -> None:
    small, large = measure(draw(grid(6), (6, 6))), measure(draw(grid(6), (11, 11)))
    assert small["lymphocyte_share"] == 1
    assert small["lymphocyte_density"] == pytest.approx(small["nuclei_density"])
    assert small["large_nuclei_share"] == 0
    assert large["lymphocyte_share"] == 0
    assert large["large_nuclei_share"] == 1


def test_spindles_are_long_and_aligned() -> None:
    same = measure(draw(grid(4), (14, 4), angle=0.6))
    assert same["spindle_share"] == 1
    assert same["nuclei_eccentricity_mean"] == pytest.approx(np.sqrt(1 - (4 / 14) ** 2), abs=0.03)
    assert same["nuclei_alignment"] > 0.98
    half = len(grid(4)) // 2
    crossed = np.minimum(draw(grid(4)[:half], (14, 4), angle=0.6), draw(grid(4)[half:], (14, 4), 0.6 + np.pi / 2))
    assert measure(crossed)["nuclei_alignment"] < 0.1


def test_distances_and_clusters_are_in_microns_of_the_drawing() -> None:
    even = measure(draw(grid(7)))
    assert even["neighbour_distance_mean"] == pytest.approx(SIDE / 7 * MPP, rel=0.03)
    assert even["nuclei_clustering"] < 0.5
    corner = [(x / 3.2, y / 3.2) for x, y in grid(4, SIDE)]
    assert measure(draw(corner, (5, 5)))["nuclei_clustering"] > 3
    assert measure(draw(corner, (5, 5)))["nucleus_free_share"] > 0.5
    assert even["nucleus_free_share"] == 0


def test_stain_between_tiles_does_not_change_what_is_counted() -> None:
    """A slide stained half as strong again has the same nuclei, of the same size, and darker columns."""
    image = draw(grid(5))
    density = -np.log10(np.maximum(image, 1) / 255)
    dark = np.rint(255 * 10 ** (-1.5 * density)).astype(np.uint8)
    before, after = measure(image), measure(dark)
    for name in ("nuclei_density", "nuclei_area_mean", "lymphocyte_share", "haematoxylin_share"):
        assert after[name] == pytest.approx(before[name], rel=0.1), name
    assert after["haematoxylin_mean"] == pytest.approx(1.5 * before["haematoxylin_mean"], rel=0.05)
    assert after["eosin_p50"] > 1.3 * before["eosin_p50"]


def test_the_same_tissue_at_twice_the_resolution_measures_the_same() -> None:
    coarse = measure(draw(grid(5), noise=0), 0.5)
    fine = measure(draw(grid(5, 2 * SIDE), (14, 14), side=2 * SIDE, noise=0), 0.25)
    for name in ("nuclei_density", "nuclei_area_mean", "neighbour_distance_mean", "haematoxylin_mean", "pink_share"):
        assert fine[name] == pytest.approx(coarse[name], rel=0.05), name


@pytest.mark.parametrize("empty", [np.full((SIDE, SIDE, 3), GLASS, np.uint8), draw([])], ids=["glass", "stroma"])
def test_a_tile_without_nuclei_says_so_and_nothing_is_nan(empty: Image) -> None:
    seen = measure(empty)
    assert all(np.isfinite(list(seen.values())))
    for name in ("nuclei_density", "nuclei_area_mean", "lymphocyte_density", "nuclei_contrast", "speck_density"):
        assert seen[name] == 0, name
    assert seen["neighbour_distance_mean"] == SIDE * MPP


def test_colours_are_told_apart() -> None:
    glass = measure(np.full((SIDE, SIDE, 3), GLASS, np.uint8))
    assert glass["white_share"] == 1
    half = draw([])
    half[: SIDE // 2] = GLASS
    assert measure(half)["white_share"] == pytest.approx(0.5, abs=0.01)
    assert measure(half)["pink_share"] > 0.95
    assert measure(draw([], ground=(212, 214, 236)))["pale_blue_share"] > 0.9
    assert measure(draw([], ground=(230, 80, 110)))["red_share"] > 0.9
    assert measure(draw([], ground=(40, 160, 70)))["foreign_share"] > 0.9
    assert measure(draw([], ground=PINK))["foreign_share"] < 0.01
    assert measure(draw([]))["red_blue_ratio"] == pytest.approx(PINK[0] / PINK[2], rel=0.01)


def test_fibres_are_coherent_and_noise_is_not() -> None:
    y, _ = np.mgrid[:SIDE, :SIDE]
    stripes = draw([])
    stripes[(y // 6) % 2 == 0] = (235, 190, 215)
    fibres, noise = measure(stripes), measure(draw([], noise=15))
    assert fibres["fibre_alignment"] > 0.9
    assert fibres["fibre_coherence"] > 0.9
    assert noise["fibre_alignment"] < 0.1
    assert noise["irregular_share"] > fibres["irregular_share"]


def test_texture_is_found_at_its_own_scale() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    for um in (2, 8):
        period_px = round(um / MPP)
        checks = draw([], noise=0)
        checks[((x // (period_px // 2)) + (y // (period_px // 2))) % 2 == 0] = (180, 120, 170)
        seen = measure(checks)
        shares = {scale: seen[f"eosin_texture_{scale}um"] for scale in (2, 4, 8, 16)}
        assert max(shares, key=lambda scale: shares[scale]) == um


def test_a_tile_measures_the_same_in_any_batch_order_and_number_of_threads() -> None:
    tiles = np.stack([draw(grid(n % 7), (4 + n % 5, 4 + n % 3), noise=n) for n in range(37)])
    together = histomics(tiles, MPP)
    order = np.random.default_rng(1).permutation(len(tiles))
    assert np.array_equal(histomics(tiles[order], MPP), together[order])
    assert np.array_equal(np.concatenate([histomics(tile[None], MPP) for tile in tiles]), together)
    threads = HistomicsEncoder(workers=4)
    assert np.array_equal(threads.submit(tiles, MPP)(), together)
    assert threads.submit(tiles[:0], MPP)().shape == (0, len(COLUMNS))
    threads.close()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), side=st.integers(16, 70), mpp=st.sampled_from([0.12, 0.25, 0.3, 0.5, 1.0, 4.0]))
def test_any_picture_gives_finite_numbers_that_float16_holds(seed: int, side: int, mpp: float) -> None:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (side // 3 + 1, side // 3 + 1, 3)) * rng.integers(0, 2, 3)
    tile = np.kron(blocks, np.ones((3, 3, 1)))[:side, :side].astype(np.uint8)
    values = histomics(tile[None], mpp)
    assert np.isfinite(values.astype(np.float16)).all()


def test_columns_are_named_once_and_explained() -> None:
    assert len(INDEX) == len(COLUMNS)
    assert 40 <= len(COLUMNS) <= 60
    assert all(column.unit and column.definition for column in COLUMNS)
