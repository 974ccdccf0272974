"""Where a slide has tissue: a low-power view to a mask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_SMOOTH_UM = 10.0  # nuclei and gaps between fibres belong to the tissue around them
_WHITE_RANGE = (225, 255)  # glass is at least this bright, so a slide full of pale tissue is not taken for white
_WHITE_TINT = 15.0  # and its channels differ by less than this; more is stain
_THRESHOLD_RANGE = (0.04, 0.07)  # below: noise of blank glass; above: pale stroma beside dark tumour is tissue
_MIN_PIECE_UM2 = 10_000.0  # specks below, and holes below are filled: about the area of one default tile
_MIN_INK_UM2 = 5_000.0  # ink comes in strokes; a grain of pigment or a few odd pixels are smaller
_MIN_RED_UM2 = 40_000.0  # blood in a vessel can be as red as ink, but seldom as large
_INK_EDGE_UM = 32.0  # a stroke's soft edge, too pale for its colour to show
_MAX_INK_SHARE = 0.5  # more "ink" than this is a stain we misread: keep it, and say so
_STROKE_SHARE = 0.9  # a piece with more ink than this is a stroke beside the tissue
_BINS = 256


@dataclass(frozen=True)
class Tissue:
    """Tissue of a slide.

    Attributes:
        mask: bool (height, width), as the view it was found on.
        ink: bool (height, width), what was left out as pen marks.
        flags: what a person should know of this slide, in words.
    """

    mask: NDArray[np.bool_]
    ink: NDArray[np.bool_]
    flags: tuple[str, ...] = ()


def find_tissue(view: NDArray[np.uint8], mpp: float) -> Tissue:
    """Find tissue by its optical density and colour, without pen marks.

    A pixel's score is its largest optical density over the channels less half of the smallest, so that coloured
    absorption counts twice as much as grey (dust, shadows of the coverslip). The threshold is Otsu's on the score,
    held within a range, so that blank glass gives nothing and a slide full of tissue gives all.

    Args:
        view: uint8 (height, width, 3), RGB.
        mpp: resolution of the view, µm per pixel.

    Source: Otsu 1979, A threshold selection method from gray-level histograms.
    """
    score = _score(view, mpp)
    found = score > np.clip(otsu(score), *_THRESHOLD_RANGE)
    found = _fill_holes(_drop_small(found, mpp, _MIN_PIECE_UM2), mpp, _MIN_PIECE_UM2)
    ink = find_ink(view, mpp) & found
    nothing = np.zeros_like(found)
    if not ink.any():
        return Tissue(found, nothing)
    if (share := _inked(found, ink)) > _MAX_INK_SHARE:
        return Tissue(found, nothing, (f"{share:.0%} of the tissue has the colour of ink; kept, look at the preview",))
    marks = ink.sum() / found.sum()
    flags = (f"pen marks are {marks:.0%} of what is not glass",) if marks > _MAX_INK_SHARE else ()
    return Tissue(_drop_small(found & ~ink, mpp, _MIN_PIECE_UM2), ink, flags)


def _inked(found: NDArray[np.bool_], ink: NDArray[np.bool_]) -> float:
    """Share of the tissue that has the colour of ink, not counting strokes that lie alone on the glass.

    Where every piece looks like such a stroke, nothing else can be the tissue: 1.
    """
    labels, _ = ndimage.label(found)
    areas = np.bincount(labels.ravel())[1:]
    inked = np.bincount(labels[ink], minlength=len(areas) + 1)[1:]
    tissue = inked < _STROKE_SHARE * areas
    return float(inked[tissue].sum() / areas[tissue].sum()) if tissue.any() else 1.0


def _score(view: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    white = np.clip(np.percentile(view.reshape(-1, 3), 99.5, axis=0), *_WHITE_RANGE)
    white = np.maximum(white, white.max() - _WHITE_TINT)
    levels = np.arange(256, dtype=np.float32)[:, None]
    density = np.maximum(0, -np.log10(np.maximum(levels, 1) / white)).astype(np.float32)  # by value and channel
    highest = density[view[..., 0], 0]
    lowest = highest.copy()
    for channel in (1, 2):  # one at a time: a large slide's view is tens of megabytes a channel
        absorbed = density[view[..., channel], channel]
        np.maximum(highest, absorbed, out=highest)
        np.minimum(lowest, absorbed, out=lowest)
    score = highest - 0.5 * lowest
    return np.asarray(ndimage.gaussian_filter(score, _SMOOTH_UM / mpp / 2, mode="nearest"))


def otsu(values: NDArray[np.float32]) -> float:
    """Threshold that parts the values into two classes of greatest variance between them."""
    counts, edges = np.histogram(values, bins=_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    return float(edges[1 + np.argmax(np.nan_to_num(between))])


def find_ink(view: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Pen marks of green, blue, red and black ink, with their soft edges: bool (height, width).

    Haematoxylin and eosin both absorb green most, so a pixel where red is absorbed more than green (green and blue
    ink) is none of theirs. Red ink absorbs blue as much as green, and far more than eosin does. Black ink is dark
    without any colour, where the darkest nuclei and folds stay purple.
    """
    red, green, blue = (view[..., channel].astype(np.int16) for channel in range(3))
    brightest, darkest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    ink = _drop_small((green - red > 20) & (green - blue > -10), mpp, _MIN_INK_UM2)  # green
    ink |= _drop_small((blue - red > 50) & (green - red > 8), mpp, _MIN_INK_UM2)  # blue
    ink |= _drop_small((brightest < 85) & (brightest - darkest < 25), mpp, _MIN_INK_UM2)  # black
    ink |= _drop_small((red > 120) & (red - np.maximum(green, blue) > 0.65 * red), mpp, _MIN_RED_UM2)  # red
    if not ink.any():
        return ink
    return np.asarray(ndimage.distance_transform_edt(~ink) * mpp <= _INK_EDGE_UM)


def _drop_small(mask: NDArray[np.bool_], mpp: float, min_um2: float) -> NDArray[np.bool_]:
    """Leave out pieces (joined by sides) smaller than ``min_um2``."""
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) * mpp**2 >= min_um2
    large[0] = False
    return np.asarray(large[labels])


def _fill_holes(mask: NDArray[np.bool_], mpp: float, max_um2: float) -> NDArray[np.bool_]:
    """Fill holes smaller than ``max_um2``; what touches the edge of the view is no hole."""
    holes = np.asarray(ndimage.binary_fill_holes(mask)) & ~mask
    return mask | (holes & ~_drop_small(holes, mpp, max_um2))
