"""Pixels of a slide at any exact resolution.

Coordinates are always pixels of level 0, x to the right and y down; sizes are pixels of what is returned.
"""

import math
import threading
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsisurv.errors import SlideError
from wsisurv.formats.tiles import Tiles
from wsisurv.slides.facts import find_bounds
from wsisurv.slides.readers.registry import open_handle
from wsisurv.slides.resolution import GivenMpp, find_mpp, find_resolution

UPSAMPLING = 1.02
"""A level may be enlarged by this much: the second level of a 0.2527 µm/px scan serves 0.5 at a quarter of the work."""

_BLOCK_PX = 1024  # side of what is read at once, so a view needs some 15 MB beside itself, whatever the slide
_VIEW_CACHE_BYTES = 8 << 20  # of decoded pixels at the blocks' borders; OpenSlide's own 32 MB serve a view no better
_SLIVER = 1e-6  # of a pixel: rounding, not a place


class Slide:
    """An open slide; use it as a context manager, and read it in one thread at a time.

    Args:
        path: the slide's file.
        slide_mpp: level-0 resolution, µm per pixel, instead of what the file says.
        mpp_from_objective: where the file states no resolution that can be, take 10 / objective power.

    Attributes:
        path: the slide's file.
        mpp: µm per pixel at level 0.
        mpp_source: where that comes from, in words.
        width: of level 0, pixels.
        height: of level 0, pixels.
        bounds: what was scanned; all of level 0 where the file says nothing.
        levels: those that are used; a level that is no reduction of level 0 is none of them.
        level_downsamples: how many level-0 pixels a pixel of each level spans.
        level_sizes: width and height of each level, its own pixels.
        properties: all that the reader states, by OpenSlide's names.
        reader: ``openslide``, or a package's reader with package and version.
        notes: what should be known of a package's reader, of levels that are left out or filled up.

    Raises:
        SlideError: it can't be opened, or its pixels are not square to within one percent.
        MissingMppError: the file says nothing (plausible) of its resolution and no ``slide_mpp`` is given.
    """

    def __init__(self, path: Path, slide_mpp: float | None = None, *, mpp_from_objective: bool = False) -> None:
        self.path = path
        self._failed: str | None = None
        self._using = threading.Lock()
        self._buffer = np.empty(0, np.uint32)
        opened = open_handle(path)
        self._handle, self.reader, self.notes, self.levels = opened.handle, opened.reader, opened.notes, opened.levels
        try:
            self.properties = properties = dict(self._handle.properties)
            self.width, self.height = self._handle.dimensions
            self.level_downsamples = tuple(level.downsample for level in self.levels)
            self.level_sizes = tuple((level.width, level.height) for level in self.levels)
            self.bounds = find_bounds(properties, self.width, self.height)
            given = GivenMpp(slide_mpp, from_objective=mpp_from_objective).of("", properties)
            self.mpp = given.mpp if given else find_mpp(path, properties)
            source = given or find_resolution(properties)
            self.mpp_source = source.source if source else ""
        except SlideError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, once a read that another thread is in the middle of has ended.

        OpenSlide aborts the whole process when a slide is closed under a read, which Ctrl-C can bring about.
        """
        with self._using:
            self._failed = self._failed or f"{self.path}: closed"
            self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def view(self, mpp: float) -> NDArray[np.uint8]:
        """Read what was scanned (``bounds``) at exactly ``mpp`` µm per pixel, each pixel the mean of what it covers.

        A last row or column that the slide fills only in part shows the part that is there. Read in blocks, so
        that memory stays small for slides without a pyramid too.

        Returns:
            uint8 (ceil(bounds.height · self.mpp / mpp), ceil(bounds.width · self.mpp / mpp), 3), RGB, white where
            nothing was scanned.

        Raises:
            SlideError: the file is damaged.
        """
        self.keep_at_most(_VIEW_CACHE_BYTES)
        bounds = self.bounds
        return self.reduced(bounds.x, bounds.y, bounds.width, bounds.height, mpp / self.mpp)

    def keep_at_most(self, n_bytes: int) -> None:
        """Keep so much of decoded pixels between reads, in place of the reader's own 32 MB or so."""
        with self._using:
            if self._failed is None:
                self._handle.keep_at_most(n_bytes)

    def reduced(self, x: int, y: int, width: int, height: int, scale: float) -> NDArray[np.uint8]:
        """Read a part of level 0, each pixel the mean of ``scale`` by ``scale`` of its pixels; in blocks, as ``view``.

        Args:
            x: left, level-0 pixels.
            y: top, level-0 pixels.
            width: level-0 pixels.
            height: level-0 pixels.
            scale: level-0 pixels a pixel of the result, 1 or more; need not be whole.

        Returns:
            uint8 (ceil(height / scale), ceil(width / scale), 3), RGB, white where nothing was scanned.

        Raises:
            SlideError: the file is damaged.
        """
        level = self.best_level(scale)
        downsample = self.level_downsamples[level]
        ratio = scale / downsample  # level pixels a pixel of the result
        start_x, start_y = x / downsample, y / downsample
        stop_x = min(self.level_sizes[level][0], math.ceil(start_x + width / downsample - _SLIVER))
        stop_y = min(self.level_sizes[level][1], math.ceil(start_y + height / downsample - _SLIVER))
        view = np.empty((_cells(height, scale), _cells(width, scale), 3), np.uint8)
        step = max(1, int(_BLOCK_PX / ratio))
        for top in range(0, view.shape[0], step):
            rows = min(step, view.shape[0] - top)
            from_y = start_y + top * ratio
            y0, y1 = _span(from_y, from_y + rows * ratio, stop_y)
            for left in range(0, view.shape[1], step):
                columns = min(step, view.shape[1] - left)
                from_x = start_x + left * ratio
                x0, x1 = _span(from_x, from_x + columns * ratio, stop_x)
                offset_x, offset_y = from_x - x0, from_y - y0
                right, bottom = offset_x + columns * ratio, offset_y + rows * ratio
                block = _padded(self._image(level, x0, y0, x1 - x0, y1 - y0), right, bottom)
                box = (offset_x, offset_y, min(right, block.width), min(bottom, block.height))
                part = block.resize((columns, rows), Image.Resampling.BOX, box=box)
                view[top : top + rows, left : left + columns] = np.asarray(part)
        return view

    def region(self, x: float, y: float, side_level0_px: float, out_px: int) -> NDArray[np.uint8]:
        """Read a square whose top left is at level-0 (x, y), resampled with antialiasing.

        The filter sees the whole pixels that the square touches and none beside them, so a tile's pixels don't depend
        on what lies around it.

        Args:
            x: left, level-0 pixels.
            y: top, level-0 pixels.
            side_level0_px: side in level-0 pixels; need not be whole.
            out_px: side of the result.

        Returns:
            uint8 (out_px, out_px, 3), RGB, white where nothing was scanned.

        Raises:
            SlideError: the file is damaged.
        """
        level = self.best_level(side_level0_px / out_px)
        downsample = self.level_downsamples[level]
        left, top, side = x / downsample, y / downsample, side_level0_px / downsample
        x0, y0 = first_px(left), first_px(top)
        image = self._image(level, x0, y0, last_px(left + side) - x0, last_px(top + side) - y0)
        return resize(image, left - x0, top - y0, side, out_px)

    def best_level(self, scale: float) -> int:
        """The coarsest level that need not be enlarged to reach ``scale`` level-0 pixels a pixel."""
        fitting = [level for level, factor in enumerate(self.level_downsamples) if factor <= scale * UPSAMPLING]
        return max(fitting, key=lambda level: self.level_downsamples[level], default=0)

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read pixels of a level as they are.

        Args:
            level: which.
            x: left, pixels of that level.
            y: top, pixels of that level.
            width: pixels of that level.
            height: pixels of that level.

        Returns:
            uint8 (height, width, 3), RGB, white where nothing was scanned. Where a level's downsample is not whole,
            OpenSlide interpolates what lies between two pixels.

        Raises:
            SlideError: the file is damaged.
        """
        found = np.empty((height, width, 3), np.uint8)
        copy_colours(self.raw_pixels(level, x, y, width, height), found)
        return found

    def raw_pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As ``pixels``, but as OpenSlide has them, and not copied: the next read overwrites them.

        Returns:
            uint8 (height, width, 4): blue, green, red, and one that means nothing; over white.

        Raises:
            SlideError: the file is damaged.
        """
        n_pixels = width * height
        with self._using:
            if self._failed is not None:
                raise SlideError(self._failed)
            if len(self._buffer) < n_pixels:
                self._buffer = np.empty(n_pixels, np.uint32)
            found = self._buffer[:n_pixels]
            try:
                self._handle.read_into(found, self.levels[level].number, x, y, width, height)
            except SlideError as error:
                self._failed = str(error)  # OpenSlide refuses everything after one, without saying why
                raise
        raw = found.view(np.uint8).reshape(height, width, 4)
        if self.levels[level].filled:
            raw[max(0, self.levels[level].height - y) :] = raw[:, max(0, self.levels[level].width - x) :] = 0
        if np.bitwise_and.reduce(found) >> 24 != 255:  # the quickest way to see that all of it is opaque
            _put_on_white(raw)
        return raw

    def _image(self, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
        raw = self.raw_pixels(level, x, y, width, height)
        return Image.frombuffer("RGB", (width, height), raw, "raw", "BGRX", 0, 1)


def read_tiles(slide: Slide, tiles: Tiles, rows: slice | NDArray[np.int64] = slice(None)) -> NDArray[np.uint8]:
    """Read the pixels of tiles.

    Args:
        slide: the open slide that they were cut from.
        tiles: where they are.
        rows: which of them, as a slice or numbers of ``tiles.coords``.

    Returns:
        uint8 (n, tile_px, tile_px, 3), RGB.

    Raises:
        SlideError: the file is damaged.
    """
    coords = tiles.coords[rows]
    pixels = np.empty((len(coords), tiles.tile_px, tiles.tile_px, 3), np.uint8)
    for index, (x, y) in enumerate(coords):
        pixels[index] = slide.region(int(x), int(y), tiles.tile_level0_px, tiles.tile_px)
    return pixels


def copy_colours(raw: NDArray[np.uint8], to: NDArray[np.uint8]) -> None:
    """Copy ``Slide.raw_pixels`` to RGB, uint8 (height, width, 3)."""
    for channel in range(3):
        to[..., channel] = raw[..., 2 - channel]


def _put_on_white(raw: NDArray[np.uint8]) -> None:
    """Show white where pixels are not opaque; what is there was multiplied by their alpha."""
    colours, alpha = raw[..., :3], raw[..., 3:]
    np.subtract(255, alpha - np.minimum(colours, alpha), out=colours)


def _cells(length: int, scale: float) -> int:
    """How many pixels of ``scale`` cover ``length``; a sliver of rounding does not count."""
    return max(1, math.ceil(length / scale - _SLIVER))


def _span(start: float, stop: float, limit: int) -> tuple[int, int]:
    """Whole pixels that cover start to stop, within 0 to limit and never empty."""
    first = min(math.floor(start), limit - 1)
    return first, max(first + 1, min(math.ceil(stop), limit))


def resize(image: Image.Image, left: float, top: float, side: float, out_px: int) -> NDArray[np.uint8]:
    """Resample a square of an image with antialiasing: uint8 (out_px, out_px, 3)."""
    left, top = max(0.0, left), max(0.0, top)  # a sliver may be missing
    box = (left, top, min(left + side, image.width), min(top + side, image.height))
    return np.asarray(image.resize((out_px, out_px), Image.Resampling.BICUBIC, box=box))


def first_px(start: float) -> int:
    """The first whole pixel that a stretch touches which begins at ``start``."""
    return math.floor(start + _SLIVER)


def last_px(stop: float) -> int:
    """The first whole pixel behind a stretch that ends at ``stop``."""
    return math.ceil(stop - _SLIVER)


def _padded(image: Image.Image, right: float, bottom: float) -> Image.Image:
    """Repeat the last pixels where a view's last pixels reach beyond the slide, to ``right`` and ``bottom``."""
    columns = max(0, math.ceil(right - image.width - _SLIVER))
    rows = max(0, math.ceil(bottom - image.height - _SLIVER))
    if not (columns or rows):
        return image
    return Image.fromarray(np.pad(np.asarray(image), ((0, rows), (0, columns), (0, 0)), mode="edge"))
