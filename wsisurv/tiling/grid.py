"""Where tiles lie: a grid at the exact resolution asked, and how much of each tile is tissue."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from wsisurv.errors import SettingsError, SlideError
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.reader import UPSAMPLING

_PIECE_GAP_UM = 100.0  # cells of this size that touch, if only at a corner, are one piece
_NO_SHARE = 1e-6  # less of a tile is rounding
_SLACK = 1e-3  # level-0 pixels by which rounding may carry a tile over the slide's edge


@dataclass(frozen=True)
class Grid:
    """All places of a tile on a slide, in rows and columns."""

    xs: NDArray[np.int64]  # int64 (n_columns,), left of each column in level-0 pixels
    ys: NDArray[np.int64]  # int64 (n_rows,), top of each row in level-0 pixels
    side: float  # side of a tile in level-0 pixels, not rounded

    def coords(self, keep: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Top lefts (x, y) where ``keep`` (n_rows, n_columns) is true, row by row: int64 (n_tiles, 2)."""
        rows, columns = np.nonzero(keep)
        return np.stack([self.xs[columns], self.ys[rows]], axis=1)


def check_overlap(settings: TileSettings) -> None:
    """Refuse an overlap that leaves no step.

    Raises:
        SettingsError: neighbours would share the whole tile or more.
    """
    if settings.overlap_px >= settings.tile_px:
        raise SettingsError(
            f"an overlap of {settings.overlap_px} px leaves no step between tiles of {settings.tile_px} px; "
            f"at most {settings.tile_px - 1} is possible."
        )


def is_finer(settings: TileSettings, mpp: float) -> bool:
    """Whether tiles would be finer than the scan; many 20x scanners are a little above 0.5, which counts as 0.5."""
    return settings.tile_mpp * UPSAMPLING < mpp * (1 - 1e-9)


def make_grid(width: int, height: int, mpp: float, settings: TileSettings, *, allow_upsampling: bool = False) -> Grid:
    """Lay the grid: tile k starts at ``round(k · step)``, step = ``(tile_px - overlap_px) · tile_mpp / mpp``.

    Rounding each start, not the step, keeps the last tile within half a level-0 pixel of where it belongs. Every
    tile lies wholly on the slide.

    Args:
        width: of the slide, level-0 pixels.
        height: of the slide, level-0 pixels.
        mpp: µm per pixel at level 0.
        settings: size, resolution and overlap of the tiles.
        allow_upsampling: enlarge a coarser scan.

    Raises:
        SettingsError: the overlap is not smaller than the tile.
        SlideError: the tiles would be finer than the scan, or larger than the slide.
    """
    check_overlap(settings)
    if is_finer(settings, mpp) and not allow_upsampling:
        raise SlideError(
            f"scanned at {mpp:g} µm per pixel, so tiles of {settings.tile_mpp:g} would be made up, not seen. Use "
            f"--tile-mpp {math.ceil(mpp * 1000) / 1000:g} or more, for every slide of the cohort, leave this one out, "
            "or enlarge it with --allow-upsampling."
        )
    side = settings.tile_px * settings.tile_mpp / mpp
    step = (settings.tile_px - settings.overlap_px) * settings.tile_mpp / mpp
    grid = Grid(_starts(width, side, step), _starts(height, side, step), side)
    if not (len(grid.xs) and len(grid.ys)):
        um = settings.tile_px * settings.tile_mpp
        raise SlideError(
            f"the slide, {width * mpp:.0f} × {height * mpp:.0f} µm, is smaller than one tile of {um:.0f} × {um:.0f} "
            "µm. Use a smaller --tile-px, or check --slide-mpp."
        )
    return grid


def _starts(length: int, side: float, step: float) -> NDArray[np.int64]:
    count = max(0, math.floor((length - side + _SLACK) / step) + 2)  # one too many: rounding may go either way
    starts = np.rint(np.arange(count) * step).astype(np.int64)
    return np.asarray(starts[starts + side <= length + _SLACK])


@dataclass(frozen=True)
class Places:
    """What lies at each place of a grid."""

    shares: NDArray[np.float32]  # float32 (n_rows, n_columns), 0 to 1: how much of each place is tissue
    # int32 (n_rows, n_columns), the piece of tissue that has the largest share; 0 where there is none
    piece: NDArray[np.int32]


def place_tissue(mask: NDArray[np.bool_], mpp: float, scale: float, grid: Grid) -> Places:
    """How much tissue each place has, and of which piece.

    Pieces are numbered from 1 by where they begin, from top to bottom. What lies within some 200 µm is one piece: a
    section torn in cutting stays one.

    Args:
        mask: (height, width), true is tissue; covers the grid.
        mpp: of the mask, µm per pixel.
        scale: side of a mask pixel, level-0 pixels.
        grid: the places.
    """
    cell = max(1, round(_PIECE_GAP_UM / mpp))
    touched = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).reduce(cell)) > 0
    coarse, _ = ndimage.label(touched, np.ones((3, 3)))
    total = np.zeros((len(grid.ys), len(grid.xs)), np.float32)
    best, chosen = np.full_like(total, _NO_SHARE), np.zeros(total.shape, np.int32)
    for number, (down, across) in enumerate(ndimage.find_objects(coarse), start=1):
        part = mask[down.start * cell : down.stop * cell, across.start * cell : across.stop * cell]
        own = (coarse[down, across] == number).repeat(cell, axis=0).repeat(cell, axis=1)
        top, left = down.start * cell * scale, across.start * cell * scale
        bottom, right = top + part.shape[0] * scale, left + part.shape[1] * scale
        rows = slice(*np.searchsorted(grid.ys, (top - grid.side, bottom)))
        columns = slice(*np.searchsorted(grid.xs, (left - grid.side, right)))
        part = part & own[: part.shape[0], : part.shape[1]]
        shares = _shares(part, scale, grid.xs[columns] - left, grid.ys[rows] - top, grid.side)
        total[rows, columns] += shares  # pieces share no pixel, so what they cover adds up
        larger = shares > best[rows, columns]
        best[rows, columns][larger] = shares[larger]
        chosen[rows, columns][larger] = number
    return Places(np.minimum(total, 1), chosen)


def _shares(
    mask: NDArray[np.bool_], scale: float, xs: NDArray[np.float64], ys: NDArray[np.float64], side: float
) -> NDArray[np.float32]:
    """Share of each place's area that is tissue, exact for the mask: its edges cut mask pixels where they fall.

    The integral of a mask is bilinear within each of its pixels, so interpolating the summed-area table between its
    corners gives the area up to any point. Rows and columns are summed one after the other.

    Source: Crow 1984, Summed-area tables for texture mapping.
    """
    down = _between(_summed(mask), ys, side, scale)
    area = _between(_summed(down.T), xs, side, scale).T
    return np.clip(area * (scale / side) ** 2, 0, 1).astype(np.float32)


def _summed(values: NDArray[np.bool_] | NDArray[np.float64]) -> NDArray[np.int32] | NDArray[np.float64]:
    number = np.int32 if values.dtype == bool else np.float64  # a column has fewer than two thousand million pixels
    summed = np.zeros((len(values) + 1, values.shape[1]), number)
    for row, (before, after) in enumerate(pairwise(summed)):  # numpy sums down a column at a time, ten times as slowly
        np.add(before, values[row], out=after)
    return summed


def _between(
    summed: NDArray[np.int32] | NDArray[np.float64], starts: NDArray[np.float64], side: float, scale: float
) -> NDArray[np.float64]:
    """Sum between start and start + side of each place along the first axis, edges cut linearly."""

    def up_to(at: NDArray[np.floating]) -> NDArray[np.float64]:
        at = np.clip(at / scale, 0, len(summed) - 1)
        below = np.minimum(at.astype(np.int64), len(summed) - 2)
        part = (at - below)[:, None]
        return np.asarray(summed[below] * (1 - part) + summed[below + 1] * part)

    return up_to(starts + side) - up_to(starts)
