"""The pixels of tiles, many at a time: the fast way to what ``Slide.region`` gives one at a time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsisurv.errors import SlideError
from wsisurv.formats.tiles import Tiles
from wsisurv.slides.blocks import Mosaic, Regions
from wsisurv.slides.jpeg import JpegBlocks, JpegLevel, doubt, find_jpeg_level
from wsisurv.slides.reader import UPSAMPLING, Slide, last_px, resize
from wsisurv.slides.readers.registry import OPENSLIDE

Decoder = Literal["openslide", "jpeg", "jpeg-half"]

_WORK_BYTES = 16 << 20  # of pixels that are resampled at once
_COMPARED_PX = 512  # longest side of a region that is compared
_WHOLE_PX = 1e-6  # nearer to a whole pixel than this is one


@dataclass(frozen=True)
class ReadingPlan:
    """How a slide's tiles are read; found out once, and the same for every reader of it."""

    decoder: Decoder  # what reads
    why: str  # why that, in words
    level: int  # of the slide
    jpeg: JpegLevel | None = None  # where that level's JPEG tiles are, for reading them directly

    @property
    def reduce(self) -> Literal[1, 2]:
        """By how much JPEG tiles are made smaller as they are decoded."""
        return 2 if self.decoder == "jpeg-half" else 1


class TileReader:
    """Reads the tiles of one slide; use it as a context manager, one thread at a time.

    Pixels are those of ``Slide.region``, to within 3 grey levels by OpenSlide and 5 by ``jpeg``: what resampling and
    JPEG decoders may round. At a level whose downsample is not whole, each is within half a level-0 pixel of its place,
    and OpenSlide interpolates where ``jpeg`` does not. ``jpeg-half`` decodes at half the scale in the JPEG's own
    transform where that is enough, which gives other pixels (a mean of 2 × 2, not a bicubic filter).

    Quickest when each ``read`` is of some hundred tiles and goes on where the last one ended. Needs up to 120 MB beside
    what it returns, whatever the slide: blocks kept for neighbours, pixels to be resampled, OpenSlide's own cache.

    Args:
        path: the slide's file.
        tiles: where its tiles are.
        decoder: ``auto`` decodes JPEG tiles directly where a few regions prove the pixels equal to OpenSlide's, and has
            OpenSlide read all else; so does ``jpeg-half``. ``jpeg`` refuses all else.
        plan: what another reader of the same slide found out; see ``twin``.

    Attributes:
        decoder: what reads the pixels.
        why: why that one, in words.

    Raises:
        SlideError: the slide can't be opened, or not by ``jpeg``.
    """

    def __init__(
        self,
        path: Path,
        tiles: Tiles,
        *,
        decoder: Literal["auto", "openslide", "jpeg", "jpeg-half"] = "auto",
        plan: ReadingPlan | None = None,
    ) -> None:
        self._tiles = tiles
        self._slide = Slide(path, tiles.mpp)
        self._blocks: JpegBlocks | None = None
        try:
            self._plan = plan or _plan_reading(self._slide, tiles, decoder)
            self.decoder: str = self._plan.decoder if self._slide.reader == OPENSLIDE else self._slide.reader
            self.why = self._plan.why
            if decoder == "jpeg" and self.decoder != "jpeg":
                raise SlideError(f"{path}: its JPEG tiles can't be decoded directly: {self.why}.")
            self._pictures = self._open()
        except SlideError:
            self.close()
            raise
        self._downsample = self._slide.level_downsamples[self._plan.level] * self._plan.reduce
        self._side = tiles.tile_level0_px / self._downsample
        square = last_px(self._side) + 1  # one that begins between two pixels touches one more
        self._squares = np.empty((max(1, _WORK_BYTES // (3 * square**2)), square, square, 3), np.uint8)

    def _open(self) -> Regions | Mosaic:
        if self._plan.jpeg is None:
            return Regions(self._slide, self._plan.level)
        self._blocks = JpegBlocks(self._plan.jpeg, self._slide, self._plan.reduce)
        return Mosaic(self._blocks)

    def twin(self) -> "TileReader":
        """Another reader of the same slide, for another thread; what was found out is not found out again.

        Raises:
            SlideError: the slide can't be opened.
        """
        return TileReader(self._slide.path, self._tiles, plan=self._plan)

    def read(self, rows: slice, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Read tiles.

        Args:
            rows: which, as a slice of ``tiles.coords``.
            out: where to, of the shape returned; None for a new array.

        Returns:
            uint8 (n, tile_px, tile_px, 3), RGB, white where nothing was scanned.

        Raises:
            SlideError: the file is damaged.
        """
        px, side = self._tiles.tile_px, self._side
        coords = self._tiles.coords[rows]
        places = coords / self._downsample
        starts = np.floor(places + _WHOLE_PX).astype(np.int64)
        pixels = np.empty((len(coords), px, px, 3), np.uint8) if out is None else out
        order = _reading_order(coords)
        begins_whole = np.all(np.abs(places - starts) <= _WHOLE_PX, axis=1)[order]
        whole, between = order[begins_whole], order[~begins_whole]
        if side == px:
            self._pictures.fill([pixels[index] for index in whole], starts[whole])
        else:
            for chosen in self._parts(whole):
                squares = self._squares[: len(chosen), : last_px(side), : last_px(side)]
                self._pictures.fill(list(squares), starts[chosen])
                pixels[chosen] = _resize_all(squares, side, px)
        for chosen in self._parts(between):
            stops = np.ceil(places[chosen] + side - _WHOLE_PX).astype(np.int64)
            sizes = (stops - starts[chosen]).tolist()
            pictures = [self._squares[i, :height, :width] for i, (width, height) in enumerate(sizes)]
            self._pictures.fill(pictures, starts[chosen])
            for index, picture, (left, top) in zip(chosen, pictures, places[chosen] - starts[chosen], strict=True):
                pixels[index] = resize(Image.fromarray(picture), left, top, side, px)
        return pixels

    def _parts(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """As many at a time as are resampled at once."""
        for first in range(0, len(rows), len(self._squares)):
            yield rows[first : first + len(self._squares)]

    def close(self) -> None:
        """Close the file."""
        if self._blocks is not None:
            self._blocks.close()
        self._slide.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plan_reading(slide: Slide, tiles: Tiles, decoder: str) -> ReadingPlan:
    scale = tiles.tile_level0_px / tiles.tile_px
    level = slide.best_level(scale)
    if decoder == "openslide":
        return ReadingPlan("openslide", "asked for", level)
    if not len(tiles.coords):
        return ReadingPlan("openslide", "there are no tiles", level)
    found = find_jpeg_level(slide, level)
    if isinstance(found, str):
        return ReadingPlan("openslide", found, level)
    downsample = slide.level_downsamples[level]
    squares = np.floor(tiles.coords / downsample + _WHOLE_PX).astype(np.int64)
    against = doubt(found, slide, squares, min(math.ceil(tiles.tile_level0_px / downsample), _COMPARED_PX))
    if against is not None:
        return ReadingPlan("openslide", against, level)
    proved = "regions of it are equal to OpenSlide's"
    if decoder != "jpeg-half":
        return ReadingPlan("jpeg", proved, level, found)
    if scale * UPSAMPLING < 2 * downsample:
        return ReadingPlan("jpeg", f"{proved}; half the scale of level {level} would be too coarse", level, found)
    return ReadingPlan("jpeg-half", f"asked for; at full scale, {proved}", level, found)


def _reading_order(coords: NDArray[np.int64]) -> NDArray[np.int64]:
    """Across, but down before across where tiles lie in several rows: so fewer pixels are needed twice."""
    x, y = coords.T
    return np.lexsort((y, x) if len(np.unique(y)) > 2 else (x, y))


def _resize_all(squares: NDArray[np.uint8], side: float, out_px: int) -> NDArray[np.uint8]:
    """Resample squares with antialiasing as ``reader.resize`` does, several times as fast.

    Args:
        squares: uint8 (n, s, s, 3); each begins at its top left.
        side: what is to be seen of it, its pixels; above s - 1, up to s.
        out_px: side of the result.

    Returns:
        uint8 (n, out_px, out_px, 3).
    """
    import torch  # its resampling of bytes is vectorised; it takes seconds to import

    planes = torch.from_numpy(squares).permute(0, 3, 1, 2)
    # Not interpolate(), which takes no scale beside the size; and what has the right size already is only copied
    size = out_px + (squares.shape[1] == out_px)
    small = torch.ops.aten._upsample_bicubic2d_aa(planes, [size, size], False, out_px / side, out_px / side)
    found: NDArray[np.uint8] = small.permute(0, 2, 3, 1)[:, :out_px, :out_px].numpy()
    return found
