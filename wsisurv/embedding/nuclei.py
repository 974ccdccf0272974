"""Nuclei in a haematoxylin plane: found, parted where they touch, and measured, for a whole batch at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsisurv.embedding.stains import Planes

_MIN_AREA_UM2 = 10.0
_MIN_SPECK_UM2 = 1.0
_SMOOTH_UM = 0.75
_PART_UM = 1.75
_MIN_HAEMATOXYLIN = 0.2
_MIN_CONTRAST = 0.15
"""Floors of the threshold, optical density: in itself, and above the tile's palest tenth of tissue. They keep stroma
without nuclei from being parted into its paler and darker half."""
_BINS_PER_DENSITY = 100
_BINS = 256

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of a batch of tiles, one entry each, sorted by tile."""

    tile: NDArray[np.int64]  # int64, which tile of the batch
    x: Floats  # centre, µm from the tile's left
    y: Floats  # centre, µm from the tile's top
    area: Floats  # µm²
    eccentricity: Floats  # of the ellipse with the same second moments, 0 round to 1 a line
    angle: Floats  # direction of its long axis, radians in (-π/2, π/2]
    fill: Floats  # area over the area of that ellipse: 1 for an ellipse, less for an irregular outline
    haematoxylin: Floats  # mean optical density
    chromatin: Floats  # standard deviation of the optical density inside
    mask: NDArray[np.bool_]  # bool (n_tiles, height, width), the pixels of nuclei
    specks: NDArray[np.int64]  # (n_tiles,) number of dark specks too small for a nucleus, 1 to 10 µm²
    threshold: Floats  # (n_tiles,) optical density that parts nuclei from the rest


def find_nuclei(haematoxylin: Planes, tissue: NDArray[np.bool_], mpp: float) -> Nuclei:
    """Find the nuclei of each tile.

    The smoothed plane is cut at the tile's own threshold (Otsu's, with a floor), so that a stain darker or paler
    as a whole changes little; what touches is parted at the waists of the cut's outline.

    Args:
        haematoxylin: optical density, float32 (n_tiles, height, width).
        tissue: bool of the same shape.
        mpp: µm per pixel.

    Source: Otsu, A threshold selection method from gray-level histograms, 1979.
    """
    smooth = _gaussian(haematoxylin, _SMOOTH_UM / mpp)
    counts = histograms(smooth, tissue)
    threshold = np.maximum(_otsu(counts), quantile(counts, 0.1) + _MIN_CONTRAST).clip(min=_MIN_HAEMATOXYLIN)
    mask = (smooth > threshold[:, None, None]) & tissue
    pixels, labels = _part(mask, _PART_UM / mpp)
    return _measure(haematoxylin, mask, pixels, labels, threshold, mpp)


def _gaussian(planes: Planes, sigma_px: float) -> Planes:
    smooth: Planes = ndimage.gaussian_filter(planes, (0, sigma_px, sigma_px), truncate=3, mode="nearest")
    return smooth


def histograms(planes: Planes, mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Counts (n_tiles, 256) of the masked pixels in steps of 0.01 from 0; what lies outside is in the end bins."""
    scaled = planes * np.float32(_BINS_PER_DENSITY)
    bins = np.clip(scaled, 0, _BINS - 1, out=scaled).astype(np.uint8)
    counts = (np.bincount(tile[inside], minlength=_BINS) for tile, inside in zip(bins, mask, strict=True))
    return np.stack([*counts]) if len(planes) else np.zeros((0, _BINS), np.int64)


def quantile(counts: NDArray[np.int64], share: float) -> Floats:
    """Quantile (n_tiles,) of histograms as ``histograms`` makes them; 0 where nothing was counted."""
    below = counts.cumsum(axis=1)
    bin_ = (below < share * below[:, -1:]).sum(axis=1)
    return np.where(below[:, -1] > 0, (bin_ + 0.5) / _BINS_PER_DENSITY, 0.0)


def _otsu(histogram: NDArray[np.int64]) -> Floats:
    """Otsu's threshold of each tile (n_tiles,); of no meaning where there is nothing to part."""
    counts = histogram.astype(np.float64)
    values = (np.arange(_BINS) + 0.5) / _BINS_PER_DENSITY
    below = counts.cumsum(axis=1)
    above = below[:, -1:] - below
    sum_below = (counts * values).cumsum(axis=1)
    mean_gap = sum_below / np.maximum(below, 1) - (sum_below[:, -1:] - sum_below) / np.maximum(above, 1)
    best: Floats = (below * above * mean_gap**2).argmax(axis=1) + 1.0
    return best / _BINS_PER_DENSITY


def _part(mask: NDArray[np.bool_], sigma_px: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part touching nuclei: each pixel climbs the blurred mask to the top that it belongs to.

    Returns:
        Flat indices of the mask's pixels in order, and for each its nucleus, numbered from 0 in order of tops.
    """
    n_tiles, height, width = mask.shape
    padded = np.zeros((n_tiles, height + 2, width + 2), bool)
    padded[:, 1:-1, 1:-1] = mask
    # Outside is -1: no pixel climbs out of the mask, nor through the padding into another tile.
    hill = np.where(padded, _gaussian(padded.astype(np.float32), sigma_px), np.float32(-1)).ravel()
    here = np.flatnonzero(padded)
    height_best, best = hill[here], here.copy()
    row = width + 2
    # A tie goes to the later pixel, so that a plateau has one way up and no circle.
    for step in (-row - 1, -row, -row + 1, -1, 1, row - 1, row, row + 1):
        place_there = here + step
        there = hill.take(place_there)
        better = there > height_best if step < 0 else there >= height_best
        np.copyto(height_best, there, where=better)
        np.copyto(best, place_there, where=better)
    place = np.empty(hill.size, np.int64)
    place[here] = np.arange(here.size)
    top = place[best]
    while not np.array_equal(top, above := top[top]):
        top = above
    number = np.cumsum(top == np.arange(here.size)) - 1
    return np.flatnonzero(mask), number[top]


def _measure(
    haematoxylin: Planes,
    mask: NDArray[np.bool_],
    pixels: NDArray[np.int64],
    labels: NDArray[np.int64],
    threshold: Floats,
    mpp: float,
) -> Nuclei:
    n_tiles, height, width = mask.shape
    count = np.bincount(labels)
    tile_of_pixel, inside = np.divmod(pixels, height * width)
    y, x = np.divmod(inside, width)

    def mean(values: NDArray[Any]) -> Floats:
        return np.bincount(labels, weights=values, minlength=len(count)) / count

    stain = haematoxylin.ravel()[pixels].astype(np.float64)
    tile = np.rint(mean(tile_of_pixel)).astype(np.int64)
    centre_x, centre_y, stain_mean = mean(x), mean(y), mean(stain)
    dx, dy, dstain = x - centre_x[labels], y - centre_y[labels], stain - stain_mean[labels]
    # A pixel is a square, not a point: 1/12 is its own variance.
    xx, yy, xy = mean(dx * dx) + 1 / 12, mean(dy * dy) + 1 / 12, mean(dx * dy)
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    area = count * mpp**2
    kept = np.zeros(mask.shape, bool)
    is_nucleus = area >= _MIN_AREA_UM2
    kept.ravel()[pixels[is_nucleus[labels]]] = True
    is_speck = ~is_nucleus & (area >= _MIN_SPECK_UM2)
    return Nuclei(
        tile=tile[is_nucleus],
        x=(centre_x[is_nucleus] + 0.5) * mpp,
        y=(centre_y[is_nucleus] + 0.5) * mpp,
        area=area[is_nucleus],
        eccentricity=np.sqrt(2 * spread / (middle + spread))[is_nucleus],
        angle=(np.arctan2(2 * xy, xx - yy) / 2)[is_nucleus],
        fill=(count / (4 * np.pi * np.sqrt(xx * yy - xy**2)))[is_nucleus],
        haematoxylin=stain_mean[is_nucleus],
        chromatin=np.sqrt(mean(dstain**2))[is_nucleus],
        mask=kept,
        specks=np.bincount(tile[is_speck], minlength=n_tiles),
        threshold=threshold,
    )
