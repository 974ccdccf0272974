"""A slide as a pyramid of square tiles that each halve the next, for a viewer in a browser.

The picture is what was scanned (``Slide.bounds``), so that its pixels are those of our GeoJSON and of QuPath.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import InputError
from wsisurv.slides.facts import Bounds
from wsisurv.slides.reader import Slide


@dataclass(frozen=True)
class DeepZoom:
    """Which part of a slide each tile of the pyramid shows.

    Level 0 is one pixel, level ``last`` the slide's own pixels; tiles don't overlap, and those at the right and lower
    edge are cut off there.
    """

    bounds: Bounds  # of the picture, level-0 pixels of the slide
    tile_px: int = 512  # side of a tile

    @property
    def last(self) -> int:
        """The finest level."""
        return math.ceil(math.log2(max(self.bounds.width, self.bounds.height)))

    def part(self, level: int, column: int, row: int) -> tuple[Bounds, int]:
        """Level-0 pixels that a tile shows, and how many of them a pixel of it spans along each side.

        Raises:
            InputError: there is no such tile.
        """
        scale = 2 ** (self.last - level) if 0 <= level <= self.last else 0
        left, top = column * self.tile_px * scale, row * self.tile_px * scale
        bounds = self.bounds
        if not scale or not (0 <= left < bounds.width and 0 <= top < bounds.height):
            raise InputError(f"no tile {column}, {row} on level {level} of {self.last}")
        width, height = (min(self.tile_px * scale, side) for side in (bounds.width - left, bounds.height - top))
        return Bounds(bounds.x + left, bounds.y + top, width, height), scale


def zoom_tile(slide: Slide, zoom: DeepZoom, level: int, column: int, row: int) -> NDArray[np.uint8]:
    """Pixels of a tile, uint8 (height, width, 3), RGB.

    Raises:
        InputError: there is no such tile.
        SlideError: the file is damaged.
    """
    part, scale = zoom.part(level, column, row)
    return slide.reduced(part.x, part.y, part.width, part.height, scale)
