from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsisurv.slides import blocks
from wsisurv.slides.blocks import Mosaic, Regions
from wsisurv.slides.reader import Slide

WIDTH, HEIGHT = 300, 230
SQUARES = st.lists(
    st.tuples(st.integers(-60, WIDTH + 20), st.integers(-60, HEIGHT + 20), st.integers(1, 90), st.integers(1, 90)),
    max_size=12,
)


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


class Drawn:
    """Blocks of an image, counted as they are read."""

    def __init__(self, image: NDArray[np.uint8], side: int = 32) -> None:
        self.height, self.width = image.shape[:2]
        self.block_width = self.block_height = side
        self.image = image
        self.read_so_far: list[tuple[int, int]] = []

    def read(self, column: int, row: int) -> NDArray[np.uint8]:
        self.read_so_far.append((column, row))
        y, x = row * self.block_height, column * self.block_width
        return self.image[y : y + self.block_height, x : x + self.block_width]


def expected(image: NDArray[np.uint8], x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
    around = np.pad(image, ((100, 200), (100, 200), (0, 0)), constant_values=255)
    return around[y + 100 : y + 100 + height, x + 100 : x + 100 + width]


def empty(squares: list[tuple[int, int, int, int]]) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    places = np.array([(x, y) for x, y, _, _ in squares], np.int64).reshape(-1, 2)
    return [np.zeros((height, width, 3), np.uint8) for _, _, width, height in squares], places


@settings(deadline=None)
@given(squares=SQUARES, kept=st.sampled_from([0, 10_000, 1 << 20]))
def test_a_mosaic_shows_what_is_there_and_white_beside_it(
    image: NDArray[np.uint8], squares: list[tuple[int, int, int, int]], kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_KEPT_BYTES", kept)
        pictures, places = empty(squares)
        Mosaic(Drawn(image)).fill(pictures, places)
    assert all(np.array_equal(found, expected(image, *square)) for found, square in zip(pictures, squares, strict=True))


def test_a_mosaic_reads_a_block_once_and_keeps_no_more_than_its_bound(
    image: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(image)
    mosaic = Mosaic(drawn)
    squares = [(x, y, 40, 40) for y in range(0, 160, 40) for x in range(0, 240, 40)]
    for _ in range(2):
        mosaic.fill(*empty(squares))
    assert len(drawn.read_so_far) == len(set(drawn.read_so_far)) == 8 * 5
    assert mosaic._bytes == sum(block.nbytes for block in mosaic._kept.values())
    monkeypatch.setattr(blocks, "_KEPT_BYTES", 10_000)
    mosaic.fill(*empty([(200, 200, 30, 30)]))
    assert 0 < mosaic._bytes == sum(block.nbytes for block in mosaic._kept.values()) <= 10_000


@pytest.fixture(scope="module")
def slide_path(
    make_slide: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, image: NDArray[np.uint8]
) -> Path:
    return make_slide(tmp_path_factory.mktemp("regions") / "a.tiff", image, levels=1, compression="deflate", tile=64)


@settings(max_examples=60, deadline=None)
@given(squares=SQUARES, most=st.sampled_from([1, 5_000, 1 << 20]))
def test_regions_show_what_is_there_and_white_beside_it(
    slide_path: Path, image: NDArray[np.uint8], squares: list[tuple[int, int, int, int]], most: int
) -> None:
    with Slide(slide_path) as slide, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_REGION_PX", most)
        pictures, places = empty(squares)
        Regions(slide, 0).fill(pictures, places)
    assert all(np.array_equal(found, expected(image, *square)) for found, square in zip(pictures, squares, strict=True))


@pytest.mark.parametrize("order", ["across", "down"])
@pytest.mark.parametrize("step", [40, 25])
def test_neighbours_are_one_read(slide_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, step: int) -> None:
    grid = [(x, y, 40, 40) for y in range(0, 4 * step, step) for x in range(0, 6 * step, step)]
    with Slide(slide_path) as slide:
        reads: list[tuple[int, ...]] = []
        raw_pixels = slide.raw_pixels

        def counted(level: int, *box: int) -> NDArray[np.uint8]:
            reads.append(box)
            return raw_pixels(level, *box)

        monkeypatch.setattr(slide, "raw_pixels", counted)
        Regions(slide, 0).fill(*empty(sorted(grid) if order == "down" else grid))
        assert reads == [(0, 0, 5 * step + 40, 3 * step + 40)]
        reads.clear()
        Regions(slide, 0).fill(*empty([(0, 0, 40, 40), (41, 0, 40, 40), (41, 40, 40, 39)]))
        assert len(reads) == 2  # a gap is not read
