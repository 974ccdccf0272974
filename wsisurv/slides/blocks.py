"""Many pictures of a level at a time: regions by OpenSlide, or a mosaic of blocks that neighbours share."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsisurv.slides.reader import Slide, copy_colours

_REGION_PX = 2 << 20  # of what OpenSlide reads at once, some 30 MB
_KEPT_BYTES = 48 << 20  # of blocks: a row of them across the tissue, so that the next row of tiles finds them

_X, _Y = 0, 1

Picture = NDArray[np.uint8]


class Regions:
    """Many pictures of one level by OpenSlide: those that follow one another and touch are one read."""

    def __init__(self, slide: Slide, level: int) -> None:
        self._slide, self._level = slide, level

    def fill(self, pictures: Sequence[Picture], places: NDArray[np.int64]) -> None:
        """Fill pictures with what is at their places; white beside the level.

        Args:
            pictures: uint8 (height, width, 3), RGB, each; neighbours that follow one another are quickest.
            places: int64 (n, 2), x and y of each one's top left, pixels of the level.

        Raises:
            SlideError: the file is damaged.
        """
        boxes = [
            _Box((x, y), (x + picture.shape[1], y + picture.shape[0]), [number])
            for number, (picture, (x, y)) in enumerate(zip(pictures, places.tolist(), strict=True))
        ]
        for axis in (_Y, _X, _Y):  # columns, and columns beside each other; or rows, and rows below each other
            boxes = _joined(boxes, axis)
        for box in boxes:
            (left, top), (right, bottom) = box.start, box.stop
            region = self._slide.raw_pixels(self._level, left, top, right - left, bottom - top)
            for number in box.pictures:
                picture, (x, y) = pictures[number], places[number] - box.start
                copy_colours(region[y : y + picture.shape[0], x : x + picture.shape[1]], picture)


@dataclass(frozen=True)
class _Box:
    """A rectangle filled by pictures, from its left and top to its right and bottom."""

    start: tuple[int, int]
    stop: tuple[int, int]
    pictures: list[int]

    def is_continued_by(self, other: "_Box", axis: int) -> bool:
        across = 1 - axis
        return (
            (self.start[across], self.stop[across]) == (other.start[across], other.stop[across])
            and self.start[axis] <= other.start[axis] <= self.stop[axis] <= other.stop[axis]
            and (other.stop[axis] - self.start[axis]) * (self.stop[across] - self.start[across]) <= _REGION_PX
        )


def _joined(boxes: Iterable[_Box], axis: int) -> list[_Box]:
    """Join boxes that follow one another along an axis."""
    joined: list[_Box] = []
    for box in boxes:
        if joined and joined[-1].is_continued_by(box, axis):
            before = joined.pop()
            box = _Box(before.start, box.stop, before.pictures + box.pictures)
        joined.append(box)
    return joined


class Blocks(Protocol):
    """A level cut into blocks.

    Attributes:
        width: of the level, its pixels.
        height: of the level, its pixels.
        block_width: of a block, the same pixels.
        block_height: of a block, the same pixels.
    """

    width: int
    height: int
    block_width: int
    block_height: int

    def read(self, column: int, row: int) -> Picture:
        """Read a block: uint8 (block_height, block_width, 3), RGB; cut, or not, where the level ends.

        Raises:
            SlideError: the file is damaged.
        """


class Mosaic:
    """Many pictures of one level put together of blocks; keeps the blocks last used, 48 MiB of them."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._kept: OrderedDict[tuple[int, int], Picture] = OrderedDict()
        self._bytes = 0

    def fill(self, pictures: Sequence[Picture], places: NDArray[np.int64]) -> None:
        """As ``Regions.fill``."""
        for picture, (x, y) in zip(pictures, places.tolist(), strict=True):
            self._put_together(picture, x, y)

    def _put_together(self, picture: Picture, x: int, y: int) -> None:
        blocks = self._blocks
        height, width = picture.shape[:2]
        left, right = max(x, 0), min(x + width, blocks.width)
        top, bottom = max(y, 0), min(y + height, blocks.height)
        if (left, top, right, bottom) != (x, y, x + width, y + height):
            picture[:] = 255
        if left >= right or top >= bottom:
            return
        for row in range(top // blocks.block_height, -(-bottom // blocks.block_height)):
            block_y = row * blocks.block_height
            y0, y1 = max(top, block_y), min(bottom, block_y + blocks.block_height)
            for column in range(left // blocks.block_width, -(-right // blocks.block_width)):
                block_x = column * blocks.block_width
                x0, x1 = max(left, block_x), min(right, block_x + blocks.block_width)
                block = self._block(column, row)
                picture[y0 - y : y1 - y, x0 - x : x1 - x] = block[
                    y0 - block_y : y1 - block_y, x0 - block_x : x1 - block_x
                ]

    def _block(self, column: int, row: int) -> Picture:
        place = (column, row)
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        block = self._blocks.read(column, row)
        self._kept[place] = block
        self._bytes += block.nbytes
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
        return block
