"""A slide as a pyramid of square tiles that each halve the next, for a viewer in a browser.

The picture is what was scanned (``Slide.bounds``), so that its pixels are those of our GeoJSON and of QuPath.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
    tile_px: int = 256  # side of a tile: 2 to 8 ms to cut, so that many views can be served in turns

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


_FAR = 8
"""Pixels along a side that a tile may read for each of its own; beyond that, tiles are cut from one overview."""
_OVERVIEW_PX = 4096
"""Longest side of an overview, which takes 50 MB at most."""


@dataclass(frozen=True)
class Overview:
    """All of a picture, for tiles of levels that the slide's file has no reduction near."""

    pixels: NDArray[np.uint8]  # uint8 (height, width, 3), RGB
    level: int  # of the pyramid, whose pixels these are


def overview_level(slide: Slide, zoom: DeepZoom) -> int:
    """The level of the overview that coarse tiles are cut from; -1 where the file's own levels are near enough."""

    def far(level: int) -> bool:
        scale = 2.0 ** (zoom.last - level)
        small = max(zoom.bounds.width, zoom.bounds.height) <= _OVERVIEW_PX * scale
        return small and scale / slide.level_downsamples[slide.best_level(scale)] > _FAR

    return max(filter(far, range(zoom.last)), default=-1)


def make_overview(slide: Slide, zoom: DeepZoom) -> Overview:
    """Read all of a picture once; without a pyramid in the file that is every pixel of it.

    Raises:
        SlideError: the file is damaged.
    """
    level, bounds = overview_level(slide, zoom), zoom.bounds
    scale = 2 ** (zoom.last - level)
    return Overview(slide.reduced(bounds.x, bounds.y, bounds.width, bounds.height, scale), level)


def overview_tile(overview: Overview, zoom: DeepZoom, level: int, column: int, row: int) -> NDArray[np.uint8]:
    """As ``zoom_tile``, of a level of the overview or a coarser one; raises InputError."""
    part, scale = zoom.part(level, column, row)
    factor = 2 ** (overview.level - level)
    fine = scale // factor
    top, left = (part.y - zoom.bounds.y) // fine, (part.x - zoom.bounds.x) // fine
    pixels = overview.pixels[top : top + math.ceil(part.height / fine), left : left + math.ceil(part.width / fine)]
    return np.asarray(Image.fromarray(pixels).reduce(factor)) if factor > 1 else np.ascontiguousarray(pixels)


def zoom_tile(slide: Slide, zoom: DeepZoom, level: int, column: int, row: int) -> NDArray[np.uint8]:
    """Pixels of a tile, uint8 (height, width, 3), RGB.

    Raises:
        InputError: there is no such tile.
        SlideError: the file is damaged.
    """
    part, scale = zoom.part(level, column, row)
    return slide.reduced(part.x, part.y, part.width, part.height, scale)
