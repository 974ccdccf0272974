"""Levels that are no plain reduction of level 0: filled up, cut down, something else, and those that are one."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from wsisurv.formats.tiles import Tiles
from wsisurv.slides.facts import read_facts
from wsisurv.slides.reader import Slide, read_tiles
from wsisurv.slides.tiles import TileReader
from wsisurv.units import SlideId

Pixels = NDArray[np.uint8]
MakeLevels = Callable[..., Path]
GLASS, TILE = 243, 128
WIDTH, HEIGHT = 1952, 1132


def draw(width: int = WIDTH, height: int = HEIGHT, centre: tuple[float, float] = (0.8, 0.72)) -> Pixels:
    """Glass with one piece of mottled tissue, far from the origin, where a wrong factor tells most."""
    rng = np.random.default_rng(3)
    image = np.full((height, width, 3), GLASS, np.uint8)
    y, x = np.ogrid[:height, :width]
    piece = ((x / width - centre[0]) / 0.17) ** 2 + ((y / height - centre[1]) / 0.24) ** 2 <= 1
    mottles = np.zeros((height, width))
    for grain in (6, 40, 200):  # some to be seen in every level
        small = rng.random((height // grain + 2, width // grain + 2))
        mottles += np.asarray(Image.fromarray(small.astype(np.float32)).resize((width, height))) / 3
    image[piece] = ((1 - mottles[..., None]) * (90, 40, 130) + mottles[..., None] * (235, 175, 205))[piece]
    return image


def reduced(image: Pixels, factor: float, rounding: Callable[[float], int] = math.floor) -> Pixels:
    size = max(1, rounding(image.shape[1] / factor)), max(1, rounding(image.shape[0] / factor))
    whole = (0, 0, min(size[0] * factor, image.shape[1]), min(size[1] * factor, image.shape[0]))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX, box=whole))


def filled(image: Pixels, tile: int = TILE, sides: str = "xy", value: int = GLASS) -> Pixels:
    height, width = image.shape[:2]
    more_x = -width % tile if "x" in sides else 0
    more_y = -height % tile if "y" in sides else 0
    return np.pad(image, ((0, more_y), (0, more_x), (0, 0)), constant_values=value)


def cut(image: Pixels, tile: int = TILE) -> Pixels:
    return image[: image.shape[0] // tile * tile, : image.shape[1] // tile * tile]


def factors(path: Path) -> list[tuple[int, float]]:
    with Slide(path) as slide:
        return [(level.number, level.downsample) for level in slide.levels]


IMAGE = draw()
ROUNDINGS: list[Callable[[float], int]] = [math.floor, math.ceil, round]


@pytest.mark.parametrize("sides", ["xy", "x", "y"])
@pytest.mark.parametrize(("steps", "value"), [((2, 4, 8, 16), GLASS), ((4, 16), 0), ((3, 9), 0)])
def test_the_factor_of_a_level_filled_up_is_found(
    make_levels: MakeLevels, tmp_path: Path, sides: str, value: int, steps: Sequence[int]
) -> None:
    levels = [IMAGE, *(filled(reduced(IMAGE, step), sides=sides, value=value) for step in steps)]
    path = make_levels(tmp_path / "S.tif", levels, tile=TILE)
    with Slide(path) as slide:
        assert [level.downsample for level in slide.levels] == pytest.approx([1, *steps], rel=0.002)
        for step, (width, height) in zip((1, *steps), slide.level_sizes, strict=True):
            assert abs(width - WIDTH / step) <= 1
            assert abs(height - HEIGHT / step) <= 1
        assert len(slide.notes) == sum(level.filled for level in slide.levels) > 0
        assert "filled up" in slide.notes[0]
    assert read_facts(path).notes == slide.notes


def test_filled_up_by_a_few_pixels_alone_is_found(make_levels: MakeLevels, tmp_path: Path) -> None:
    """Sizes a hundredth off."""
    path = make_levels(tmp_path / "S.tif", [IMAGE, filled(reduced(IMAGE, 4), 16)], tile=TILE)
    with openslide.OpenSlide(path) as theirs:
        assert 3.9 < theirs.level_downsamples[1] < 3.995
    assert factors(path) == [(0, 1), (1, 4)]


@pytest.mark.parametrize(("tiles", "step"), [((9, 6), 4), ((10, 10), 4), ((8, 8), 16)])
def test_a_whole_number_that_is_a_chance_is_seen_through(
    make_levels: MakeLevels, tmp_path: Path, tiles: tuple[int, int], step: int
) -> None:
    """9 tiles by 6, reduced by 4 and filled up to 3 by 2: OpenSlide's downsample is exactly 3."""
    image = draw(tiles[0] * TILE, tiles[1] * TILE)
    path = make_levels(tmp_path / "S.tif", [image, filled(reduced(image, step))], tile=TILE)
    assert factors(path) == [(0, 1), (1, step)]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("size", [(2047, 1025)])
@pytest.mark.parametrize("steps", [(2, 4, 8, 16, 32, 64, 128, 256), (4, 16, 64), (3, 9, 27), (2.5, 5)])
def test_a_level_of_odd_sizes_is_as_openslide_has_it(
    make_levels: MakeLevels,
    tmp_path: Path,
    rounding: Callable[[float], int],
    size: tuple[int, int],
    steps: Sequence[float],
) -> None:
    """Bit by bit the same tiles as ever: not even the last digit of a factor is another."""
    image = draw(*size)
    path = make_levels(tmp_path / "S.tif", [image, *(reduced(image, step, rounding) for step in steps)], tile=TILE)
    with openslide.OpenSlide(path) as theirs, Slide(path) as ours:
        assert ours.level_downsamples == theirs.level_downsamples
        assert ours.level_sizes == theirs.level_dimensions
        assert not ours.notes


def test_a_long_strip_is_read_by_the_factor_of_its_long_side(make_levels: MakeLevels, tmp_path: Path) -> None:
    """7 pixels high, rounded down from 7.9, the level is no further off than that; OpenSlide's mean is by 6 %."""
    image = draw(6400, 127)
    path = make_levels(tmp_path / "S.tif", [image, reduced(image, 16)], tile=TILE)
    assert factors(path) == [(0, 1), (1, 16)]
    assert not read_facts(path).notes


@pytest.mark.parametrize("size", [(WIDTH // 3, HEIGHT // 3), (470, 400)])
def test_an_overview_among_the_levels_is_left_out(
    make_levels: MakeLevels, tmp_path: Path, size: tuple[int, int]
) -> None:
    """Of the whole glass: even one whose size is exactly a quarter."""
    overview = draw(*size, centre=(0.3, 0.5))
    path = make_levels(tmp_path / "S.tif", [IMAGE, reduced(IMAGE, 2), overview, reduced(IMAGE, 8)], tile=TILE)
    assert factors(path) == [(0, 1), (1, 2), (3, pytest.approx(8, rel=0.005))]
    (note,) = read_facts(path).notes
    assert f"level 2 ({size[0]} × {size[1]} pixels) is left out" in note


def test_a_level_cut_down_or_moved_is_left_out(make_levels: MakeLevels, tmp_path: Path) -> None:
    """What it lacks would be read as glass."""
    half = reduced(IMAGE, 2)
    moved = np.pad(reduced(IMAGE, 4), ((40, 0), (60, 0), (0, 0)), constant_values=GLASS)
    path = make_levels(tmp_path / "S.tif", [IMAGE, cut(half), moved, cut(reduced(IMAGE, 8))], tile=TILE)
    assert factors(path) == [(0, 1)]
    first, second, third = read_facts(path).notes
    assert "shows only a part" in first
    assert "is left out" in second
    assert "is left out" in third


def test_a_level_stretched_along_one_side_is_left_out(make_levels: MakeLevels, tmp_path: Path) -> None:
    stretched = np.asarray(Image.fromarray(IMAGE).resize((WIDTH // 4, round(HEIGHT / 4.2)), Image.Resampling.BOX))
    path = make_levels(tmp_path / "S.tif", [IMAGE, stretched], tile=TILE)
    assert factors(path) == [(0, 1)]


@pytest.mark.parametrize("tile", [TILE, 96])
def test_an_empty_level_is_left_out_and_what_is_coarser_is_not(
    make_levels: MakeLevels, tmp_path: Path, tile: int
) -> None:
    """A writer that was stopped, or a file without that level's tiles."""
    image = draw(2048, 1024)
    path = make_levels(
        tmp_path / "S.tif", [image, np.full((512, 1024, 3), GLASS, np.uint8), reduced(image, 4)], tile=tile
    )
    assert factors(path) == [(0, 1), (2, 4)]
    assert "shows nothing where level 0 shows something" in read_facts(path).notes[0]
    small = draw(2048, 1024, centre=(0.9, 0.8))
    small[:, :1740] = small[:870] = GLASS  # a speck that few places meet
    path = make_levels(tmp_path / "T.tif", [small, reduced(small, 2), reduced(small, 4)], tile=tile)
    assert factors(path) == [(0, 1), (1, 2), (2, 4)]


def test_plain_glass_is_judged_by_its_sizes(make_levels: MakeLevels, tmp_path: Path) -> None:
    glass = np.full((HEIGHT, WIDTH, 3), GLASS, np.uint8)
    levels = [glass, reduced(glass, 2), filled(reduced(glass, 4)), glass[:150, :300]]
    path = make_levels(tmp_path / "S.tif", levels, tile=TILE)
    assert factors(path) == [(0, 1), (1, 2), (2, 4)]
    assert "too plain" in read_facts(path).notes[1]


@pytest.mark.parametrize("decoder", ["openslide", "auto", "jpeg-half"])
def test_tiles_views_and_regions_show_what_an_exact_slide_shows(
    make_levels: MakeLevels, tmp_path: Path, decoder: str
) -> None:
    """Over the edges too, where the filling is black and an exact slide has nothing."""
    small = [reduced(IMAGE, step) for step in (2, 4, 8)]
    exact = make_levels(tmp_path / "exact.tif", [IMAGE, *small], tile=TILE)
    other = make_levels(tmp_path / "filled.tif", [IMAGE, *(filled(a, value=0) for a in small)], tile=TILE)
    places = [(x, y) for y in range(500, 1151, 100) for x in range(1100, 1951, 150)]
    for mpp in (0.5, 0.7, 1.0):
        seen = []
        for path in (exact, other):
            coords, side = np.array(places, np.int64), 56 * mpp / 0.25
            tissue = np.ones(len(coords), np.float32)
            tiles = Tiles(SlideId("S"), path, coords, tissue, 0.25, mpp, 56, side, 0, WIDTH, HEIGHT)
            with Slide(path) as slide, TileReader(path, tiles, decoder=decoder) as reader:  # type: ignore[arg-type]
                assert decoder == "openslide" or reader.decoder.startswith("jpeg"), reader.why
                seen.append((read_tiles(slide, tiles), reader.read(slice(None)), slide.view(8 * mpp)))
        for one, two in zip(*seen, strict=True):
            assert one.shape == two.shape
            off = np.abs(one.astype(int) - two)
            assert off.mean() < 1.5
            assert np.quantile(off, 0.95) < 20  # JPEG blurs what is at the border to the filling


def test_a_damaged_level_is_no_reason_not_to_open_a_slide(make_levels: MakeLevels, tmp_path: Path) -> None:
    path = make_levels(tmp_path / "S.tif", [IMAGE, reduced(IMAGE, 2), reduced(IMAGE, 4)], tile=TILE)
    with tifffile.TiffFile(path) as file:
        places = list(zip(file.pages[2].dataoffsets, file.pages[2].databytecounts, strict=True))
    with path.open("r+b") as raw:
        for offset, count in places:
            raw.seek(offset)
            raw.write(b"\0" * count)
    assert factors(path) == [(0, 1), (1, 2), (2, 4)]
    with Slide(path) as slide:
        assert slide.pixels(0, 1560, 830, 64, 64).std() > 5
