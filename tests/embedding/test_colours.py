"""Stains and colours: known mixtures found again, slides brought to the reference, and shifts of known size."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from wsisurv.embedding.colours import (
    MACENKO_REFERENCE,
    REINHARD_REFERENCE,
    ColourMap,
    estimate,
    find_stain_settings,
    make_map,
)
from wsisurv.embedding.stain_shifts import STRENGTHS, measure_spread, stain_shifts
from wsisurv.embedding.stains import separate_stains
from wsisurv.errors import InputError, SettingsError

Pixels = NDArray[np.uint8]
STAINS = ((0.65, 0.70, 0.29), (0.15, 0.85, 0.50))
OTHER = ((0.58, 0.75, 0.32), (0.25, 0.80, 0.55))


def tissue(stains: tuple[tuple[float, ...], ...] = STAINS, strength: float = 1.0, n: int = 20_000) -> Pixels:
    """Pixels of two stains in random amounts, some of almost one only; none too pale to tell."""
    rng = np.random.default_rng(3)
    amounts = 0.3 + rng.gamma(2, 0.15, (n, 2))
    alone = rng.random(n)
    amounts[alone < 0.2, 0], amounts[alone > 0.85, 1] = 0.02, 0.02
    amounts[alone < 0.2, 1] += 1  # eosin holds back little red: where it is pale the method leaves it out
    vectors = np.array(stains) / np.linalg.norm(stains, axis=1, keepdims=True)
    pixels = (240 * np.exp(-strength * amounts @ vectors) - 1).round().clip(0, 255).astype(np.uint8)
    return pixels[(pixels < 200).all(axis=1)]


def as_tiles(pixels: Pixels) -> Pixels:
    side = int(np.sqrt(len(pixels)))
    return pixels[: side * side].reshape(1, side, side, 3)


def angle(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other))))


def test_macenko_finds_the_stains_that_were_mixed() -> None:
    seen = estimate("macenko", tissue()).values
    assert seen is not None
    assert angle(np.array(seen[:3]), np.array(STAINS[0])) < 1
    assert angle(np.array(seen[3:6]), np.array(STAINS[1])) < 1
    twice = estimate("macenko", tissue(strength=1.5)).values
    assert twice is not None
    np.testing.assert_allclose(twice[6:], 1.5 * np.array(seen[6:]), rtol=0.03)


def test_macenko_agrees_with_an_independent_library() -> None:
    """Figures of torchstain 1.4.1 (numpy) on the same pixels: tests/reference/macenko.py."""
    expected = np.loadtxt(Path(__file__).parents[1] / "reference" / "macenko.csv", delimiter=",")
    np.testing.assert_allclose(estimate("macenko", tissue(n=10_000)).values, expected, rtol=1e-6)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_two_slides_of_one_tissue_look_the_same_afterwards(method: str) -> None:
    """The same amounts of other stains, and stronger: far apart before, close together after."""
    slides = [tissue(n=8000), tissue(OTHER, strength=1.2, n=8000)]
    both = min(map(len, slides))
    reference = MACENKO_REFERENCE if method == "macenko" else REINHARD_REFERENCE
    mapped = []
    for slide in slides:
        seen = estimate(method, slide).values
        assert seen is not None
        mapped.append(make_map(method, seen, reference)(as_tiles(slide)))
    before = np.abs(np.mean(slides[0][:both], axis=0) - np.mean(slides[1][:both], axis=0)).max()
    after = np.abs(mapped[0].mean(axis=(0, 1, 2)) - mapped[1].mean(axis=(0, 1, 2))).max()
    assert before > 12
    assert after < before / 3


def test_reinhard_reaches_the_means_of_the_reference() -> None:
    seen = estimate("reinhard", tissue(strength=0.8)).values
    other = estimate("reinhard", tissue(OTHER)).values
    assert seen is not None
    assert other is not None
    moved = estimate("reinhard", make_map("reinhard", seen, other)(as_tiles(tissue(strength=0.8)))).values
    assert moved is not None
    np.testing.assert_allclose(moved, other, atol=0.03)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_its_own_reference_changes_nothing_and_glass_stays_glass(method: str) -> None:
    tiles = as_tiles(tissue())
    seen = estimate(method, tiles).values
    assert seen is not None
    same = make_map(method, seen, seen)(tiles)
    assert np.abs(same.astype(int) - tiles).max() <= 3
    glass = np.full((2, 8, 8, 3), 243, np.uint8)
    reference = MACENKO_REFERENCE if method == "macenko" else REINHARD_REFERENCE
    assert make_map(method, seen, reference)(glass).min() >= 238


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
@pytest.mark.parametrize("colour", [(255, 255, 255), (243, 242, 244), (0, 0, 0)])
def test_white_black_and_one_colour_tell_nothing_and_say_so(method: str, colour: tuple[int, ...]) -> None:
    fit = estimate(method, np.full((40, 40, 3), colour, np.uint8))
    assert fit.values is None
    assert fit.why_not


def test_one_stain_alone_is_not_taken_for_two() -> None:
    assert estimate("macenko", tissue((STAINS[0], STAINS[0]))).values is None


def test_a_table_of_colours_is_the_map() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), np.uint8)
    assert np.array_equal(ColourMap(lambda colours: colours)(tiles), tiles)
    turned = ColourMap(lambda colours: 0.5 * colours[:, ::-1])(tiles)
    assert np.abs(turned - 0.5 * tiles[..., ::-1]).max() <= 1
    assert ColourMap(lambda colours: colours)(tiles[:0]).shape == (0, 20, 30, 3)


def test_a_reference_of_ones_own_is_estimated_in_the_picture(tmp_path: Path) -> None:
    picture = tmp_path / "he.png"
    Image.fromarray(as_tiles(tissue(OTHER))[0]).save(picture)
    settings = find_stain_settings("macenko", picture)
    assert settings is not None
    assert settings.source.startswith("sha256:")
    assert angle(np.array(settings.reference[:3]), np.array(OTHER[0])) < 1
    assert len(settings.reference) == 8
    assert find_stain_settings("none") is None
    built_in = find_stain_settings("reinhard")
    assert built_in is not None
    assert built_in.source.startswith("built in")


def test_a_reference_that_is_none_is_refused(tmp_path: Path) -> None:
    white, text = tmp_path / "white.png", tmp_path / "text.png"
    Image.new("RGB", (50, 50), "white").save(white)
    text.write_text("no picture")
    with pytest.raises(InputError, match=r"white\.png.*only 0 pixels"):
        find_stain_settings("macenko", white)
    with pytest.raises(InputError, match=r"text\.png: no picture"):
        find_stain_settings("reinhard", text)
    with pytest.raises(InputError, match=r"gone\.png: no picture"):
        find_stain_settings("reinhard", tmp_path / "gone.png")
    with pytest.raises(SettingsError, match="--stain macenko"):
        find_stain_settings("none", white)


def test_shifts_make_each_stain_stronger_by_what_they_say_and_measure_the_spread_it_makes() -> None:
    tiles = as_tiles(tissue(strength=0.6))

    def amounts(shifted: Pixels) -> NDArray[np.float64]:
        stains = separate_stains(shifted)
        return np.array([[stains.haematoxylin.mean(), stains.eosin.mean(), 1.0]])

    shifts = stain_shifts()
    middle = amounts(tiles)[0]
    weakest, strongest = amounts(shifts[0](tiles))[0], amounts(shifts[-1](tiles))[0]
    np.testing.assert_allclose(weakest[:2] / middle[:2], STRENGTHS[0], atol=0.02)
    np.testing.assert_allclose(strongest[:2] / middle[:2], STRENGTHS[2], atol=0.02)
    assert np.abs(shifts[len(shifts) // 2](tiles).astype(int) - tiles).max() <= 1
    by_stain, by_tile = measure_spread(np.concatenate([amounts(shift(tiles)) for shift in shifts]), len(shifts))
    np.testing.assert_allclose(by_stain[:2], np.std(STRENGTHS) * middle[:2], rtol=0.05)
    assert by_stain[2] == 0
    assert by_tile.tolist() == [0, 0, 0]
