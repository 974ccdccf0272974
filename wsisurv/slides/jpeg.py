"""The fast path: TIFF tiles in JPEG, decoded without OpenSlide.

OpenSlide stays the authority. Nothing is read this way before regions of the same slide were compared with it, and a
tile that is missing, or that the decoder finds anything wrong with, is read by OpenSlide, which knows what is meant to
be there or says what is the matter.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from wsisurv.errors import SlideError
from wsisurv.slides.blocks import Mosaic
from wsisurv.slides.reader import Slide
from wsisurv.slides.readers.by_tifffile import jpeg_start
from wsisurv.slides.readers.registry import OPENSLIDE

_FORMATS = ("aperio", "generic-tiff", "philips")  # whose tiles lie edge to edge from the top left
_START_OF_IMAGE = b"\xff\xd8"
_MAX_BLOCK_PX = 4 << 20  # of a tile
# What tifffile raises on a file that is not as it should be, beside its own error
_REGIONS = 4  # of a slide are compared
_ROUNDING = 2  # grey levels by which two decoders may differ
_INTERPOLATING = 1  # and one more where OpenSlide interpolates, to an eighth of a bit
_PARSING = (tifffile.TiffFileError, ValueError, KeyError, IndexError, TypeError, OSError, struct.error)


@dataclass(frozen=True)
class JpegLevel:
    """Where the JPEG tiles of a level are in a file."""

    path: Path  # the file
    level: int  # which level
    width: int  # of the level, its pixels, by OpenSlide
    height: int  # of the level, its pixels, by OpenSlide
    tile_width: int  # of a tile, pixels
    tile_height: int  # of a tile, pixels
    columns: int  # tiles in a row
    offsets: NDArray[np.int64]  # int64 (n,), of each tile in the file, row by row
    sizes: NDArray[np.int64]  # int64 (n,), bytes of each; 0 where there is none
    start: bytes  # what every tile's JPEG begins with: tables and the kind of colour, which the tiles leave out


def find_jpeg_level(slide: Slide, level: int) -> JpegLevel | str:
    """Find the JPEG tiles of a level; where there are none that can be read directly, say in words why."""
    if slide.reader != OPENSLIDE:
        return f"it is read by {slide.reader}"
    vendor = slide.properties.get("openslide.vendor", "unknown")
    if vendor not in _FORMATS:
        return f"the format is {vendor}, and not one of {', '.join(_FORMATS)}"
    width, height = slide.level_sizes[level]
    try:
        with tifffile.TiffFile(slide.path) as file:
            pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage) and page.is_tiled]
            found = next((page for page in pages if _may_be(page, width, height)), None)
            finer = [page for page in pages if page.imagewidth > width]
            if found is None:
                return f"level {level} has no tiles in JPEG, 8 bit RGB"
            if vendor == "aperio" and not all(np.all(page.databytecounts) for page in finer):
                return f"tiles are left out that are finer than level {level}, and OpenSlide shows that in coarser ones"
            return _level(slide, level, found)
    except _PARSING as error:
        return f"tifffile can't read it ({error})"


def _may_be(page: tifffile.TiffPage, width: int, height: int) -> bool:
    """Whether a page is a level; Philips' are filled up to whole tiles."""
    return (
        0 <= page.imagewidth - width < page.tilewidth
        and 0 <= page.imagelength - height < page.tilelength
        and page.compression == tifffile.COMPRESSION.JPEG
        and page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
        and (page.bitspersample, page.samplesperpixel, page.imagedepth) == (8, 3, 1)
        and page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        and page.tilewidth * page.tilelength <= _MAX_BLOCK_PX
    )


def _level(slide: Slide, level: int, page: tifffile.TiffPage) -> JpegLevel | str:
    width, height = slide.level_sizes[level]
    columns, rows = -(-page.imagewidth // page.tilewidth), -(-page.imagelength // page.tilelength)
    offsets, sizes = np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64)
    if not len(offsets) == len(sizes) == columns * rows:
        return f"level {level} has {len(offsets)} tiles, not {columns} × {rows}"
    return JpegLevel(
        path=slide.path,
        level=level,
        width=width,
        height=height,
        tile_width=page.tilewidth,
        tile_height=page.tilelength,
        columns=columns,
        offsets=offsets,
        sizes=sizes,
        start=jpeg_start(page.jpegtables, ycbcr=page.photometric == tifffile.PHOTOMETRIC.YCBCR),
    )


class JpegBlocks:
    """A level decoded directly; as ``blocks.Blocks``.

    Args:
        level: where its tiles are.
        slide: the same slide, for tiles that can't be read directly.
        reduce: 2 decodes at half the scale, in the JPEG's own transform.

    Attributes:
        decoded: how many tiles were.
        refused: how many are there, but were not as they should be.

    Raises:
        SlideError: the file can't be opened.
    """

    def __init__(self, level: JpegLevel, slide: Slide, reduce: Literal[1, 2] = 1) -> None:
        self._level, self._slide, self._reduce = level, slide, reduce
        try:
            self._file = level.path.open("rb", buffering=0)
        except OSError as error:
            raise SlideError(f"{level.path}: can't be read ({error.strerror or error}).") from error
        self.decoded = self.refused = 0
        self.width, self.height = -(-level.width // reduce), -(-level.height // reduce)
        self.block_width, self.block_height = level.tile_width // reduce, level.tile_height // reduce

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, column: int, row: int) -> NDArray[np.uint8]:
        """Read a block."""
        found = self._decode(column + row * self._level.columns)
        return self._by_openslide(column, row) if found is None else found

    def _decode(self, number: int) -> NDArray[np.uint8] | None:
        """A tile, or None where it is not as it should be."""
        size = int(self._level.sizes[number])
        if not size:
            return None
        try:
            self._file.seek(int(self._level.offsets[number]))
            data = self._file.read(size)
            block: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                self._level.start + data.removeprefix(_START_OF_IMAGE),
                min_width=self.block_width,
                min_height=self.block_height,
                min_factor=self._reduce,
                strict=True,  # as OpenSlide: no pixels of a tile that ends too early
            )
        except (ValueError, OSError):
            block = np.empty((0, 0, 3), np.uint8)
        if block.shape != (self.block_height, self.block_width, 3):
            self.refused += 1
            return None
        self.decoded += 1
        return block

    def _by_openslide(self, column: int, row: int) -> NDArray[np.uint8]:
        level, step = self._level, self._reduce
        x, y = column * level.tile_width, row * level.tile_height
        width, height = min(level.tile_width, level.width - x), min(level.tile_height, level.height - y)
        block = self._slide.pixels(level.level, x, y, width, height)
        if step == 1:
            return block
        even = np.pad(block, ((0, height % step), (0, width % step), (0, 0)), mode="edge")
        parts = even.reshape(even.shape[0] // step, step, even.shape[1] // step, step, 3)
        return np.asarray(np.rint(parts.mean(axis=(1, 3))), np.uint8)


def doubt(level: JpegLevel, slide: Slide, squares: NDArray[np.int64], side: int) -> str | None:
    """Compare a few regions with OpenSlide, the authority; say in words why not to decode directly.

    Where a level's downsample, as OpenSlide takes it, is not whole, OpenSlide moves what it reads by a part of a pixel,
    to where the level-0 pixel asked for begins; the same is done here to the pixels compared.

    Args:
        level: where the JPEG tiles are.
        slide: the same slide.
        squares: int64 (n, 2), x and y of what is to be read, pixels of the level.
        side: of the squares, the same pixels.

    Returns:
        None where the pixels are equal to within the decoders' rounding.

    Raises:
        SlideError: the file is damaged there.
    """
    blocks = JpegBlocks(level, slide)
    try:
        mosaic = Mosaic(blocks)
        picture = np.empty((side, side, 3), np.uint8)
        for x, y in np.random.default_rng(0).permutation(squares)[:_REGIONS]:
            mosaic.fill([picture], np.array([[x, y]], np.int64))
            moved, shifts = picture.astype(np.float32), []
            downsample = slide.levels[level.level].placing
            for axis, start in ((1, int(x)), (0, int(y))):
                shifts.append(round(start * downsample) / downsample - start)
                moved = _moved(moved, shifts[-1], axis)
            allowed = _ROUNDING + _INTERPOLATING * any(shifts)
            seen = slide.pixels(level.level, int(x), int(y), side, side)
            right, below = level.width - int(x) - 1, level.height - int(y) - 1  # where OpenSlide mixes in filling
            compared = slice(1, max(1, min(side, below) - 1)), slice(1, max(1, min(side, right) - 1))
            inner = compared if slide.levels[level.level].filled else (slice(1, -1), slice(1, -1))
            difference = np.abs(moved - seen)[inner].max(initial=0)
            if difference > allowed:
                return f"at {x}, {y} of level {level.level} its pixels differ from OpenSlide's by {difference:.0f}"
        if blocks.refused:
            return f"{blocks.refused} of its JPEG tiles could not be decoded strictly"
        if not blocks.decoded:
            return "no JPEG tile is where pixels were compared"
    finally:
        blocks.close()
    return None


def _moved(picture: NDArray[np.float32], shift: float, axis: int) -> NDArray[np.float32]:
    """What lies ``shift`` pixels on, in a line between pixels; not for the outermost ones."""
    neighbour = np.roll(picture, -1 if shift > 0 else 1, axis)
    return np.asarray((1 - abs(shift)) * picture + abs(shift) * neighbour, np.float32)
