"""A level of a slide in blocks: each is read once and kept for its neighbours; any place is put together of them."""

from collections import OrderedDict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsisurv.slides.reader import Slide

_REGION_PX = 512  # about the side of what OpenSlide reads at once: many tiles' worth, little beyond the tissue
_KEPT_BYTES = 48 << 20  # of blocks: two rows of a slide's tissue, so that the next row of tiles finds them


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

    def read(self, column: int, row: int) -> NDArray[np.uint8]:
        """Read a block: uint8 (block_height, block_width, 3), RGB; cut, or not, where the level ends.

        Raises:
            SlideError: the file is damaged.
        """


class OpenSlideBlocks:
    """A level as OpenSlide reads it, in regions made up of whole tiles of the file; as ``Blocks``."""

    def __init__(self, slide: Slide, level: int) -> None:
        self._slide, self._level = slide, level
        self.width, self.height = slide.level_sizes[level]
        self.block_width = self._side("width")
        self.block_height = self._side("height")

    def _side(self, name: str) -> int:
        tile = int(self._slide.properties.get(f"openslide.level[{self._level}].tile-{name}", _REGION_PX))
        return tile * max(1, round(_REGION_PX / tile)) if tile <= _REGION_PX else _REGION_PX

    def read(self, column: int, row: int) -> NDArray[np.uint8]:
        """Read a block."""
        x, y = column * self.block_width, row * self.block_height
        width, height = min(self.block_width, self.width - x), min(self.block_height, self.height - y)
        return self._slide.pixels(self._level, x, y, width, height)


class Mosaic:
    """Any place of a level, put together of blocks; keeps the blocks last used, 48 MiB of them."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._kept: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def fill(self, picture: NDArray[np.uint8], x: int, y: int) -> None:
        """Fill a picture with what is at x, y, pixels of the level; white beside the level.

        Args:
            picture: uint8 (height, width, 3), RGB.
            x: where its left is.
            y: where its top is.

        Raises:
            SlideError: the file is damaged.
        """
        blocks = self._blocks
        height, width = picture.shape[:2]
        left, right = max(x, 0), min(x + width, blocks.width)
        top, bottom = max(y, 0), min(y + height, blocks.height)
        if (left, top, right, bottom) != (x, y, x + width, y + height):
            picture[:] = 255
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

    def _block(self, column: int, row: int) -> NDArray[np.uint8]:
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
