"""What looks like tissue and is none: pen marks, black edges, coverslip lines, rims of air bubbles, folds."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsisurv.tiling.methods import View

Mask = NDArray[np.bool_]

PEN, EDGE, LINE, FOLD = "pen marks", "black edges", "lines or bubble rims", "folds"

_BAND_PX = 500_000  # counted at a time
_MPP = 16.0  # artefacts are looked for at this resolution
_MIN_INK_UM2 = 5_000.0  # ink comes in strokes; a grain of pigment or a few odd pixels are smaller
_MIN_RED_UM2 = 40_000.0  # blood in a vessel can be as red as ink, but seldom as large
_RED = np.float32(0.65)  # of its light is what red ink has more of than of green or blue
_NAVY = np.float32(0.45)  # of its blue is what dark blue ink has less of in red
_SOFT_EDGE_UM = 32.0  # of a stroke, too pale for its colour to show
_EDGE_SHARE = 0.5  # of one side of the scan is black along a black edge; a stroke that leaves the scan has less
_GREY = 0.75  # least absorption over greatest; no mixture of haematoxylin and eosin has more than 0.45
_LINE_WIDTH_UM = 120.0  # at most
_LINE_LENGTH_UM = 1500.0  # at least
_FOLD_MPP = 32.0  # folds are looked for at this resolution
_FOLD_DENSITY = 0.35  # at least: 100 of 255 where the glass is 225
_FOLD_CONTRAST = 1.8  # times the tissue around: two layers or three instead of one
_FOLD_AROUND_UM = 600.0
_FOLD_WIDTH_UM = 250.0  # at most
_FOLD_LENGTH_UM = 600.0  # at least
_FOLD_LIKENESS = 0.985  # cosine of its colour with that of the tissue around; an epithelium beside stroma has 0.97


def find_ink(view: View) -> Mask:
    """Pen marks of green, blue, red, black, yellow and orange ink, with their soft edges: bool (height, width).

    Haematoxylin and eosin both absorb green most, so a pixel where red is absorbed more than green (green and blue
    ink), or blue by far (yellow, orange), is none of theirs. Red ink absorbs blue as much as green, and far more than
    eosin does. Black ink is dark without any colour, where the darkest nuclei and folds stay purple; dark blue ink has
    the colour of more haematoxylin than a section holds over 16 µm. Violet and pink ink have the colours of
    haematoxylin and eosin, brown that of pigment, and can't be distinguished from them.
    """
    red, green, blue = (plane.astype(np.int16) for plane in view.planes)
    over_red, over_blue = green - red, green - blue
    kinds = (
        ((over_red > 20) & (over_blue > -10), _MIN_INK_UM2),  # green
        ((over_red > 8) & (blue - red > 50), _MIN_INK_UM2),  # blue
        ((blue < 110) & (red < _NAVY * blue) & (blue - green > 40), _MIN_INK_UM2),  # dark blue
        ((over_blue > 80) & (red > 150), _MIN_INK_UM2),  # yellow, orange; the brown of DAB has 30
        ((red > 120) & (red - np.maximum(green, blue) > _RED * red), _MIN_RED_UM2),
        (_black(view), _MIN_INK_UM2),
    )
    ink = np.zeros(red.shape, bool)
    for kind, least in kinds:
        ink |= drop_small(kind, view.mpp, least)
    return _with_soft_edge(ink, view.mpp)


def find_black_edges(view: View) -> Mask:
    """Black along a side of the scan, where the scanner saw its own frame: bool (height, width)."""
    black = _black(view)
    sides = (black[0], black[-1], black[:, 0], black[:, -1])
    if not any(side.mean() >= _EDGE_SHARE for side in sides):
        return np.zeros_like(black)
    labels, count = ndimage.label(black)
    along = np.zeros(count + 1, bool)
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        along |= np.bincount(side, minlength=count + 1) >= _EDGE_SHARE * len(side)
    along[0] = False
    return _with_soft_edge(along[labels], view.mpp)


def find_lines(view: View) -> Mask:
    """Edges of the coverslip and rims of air bubbles, straight or bent: long, thin and grey: bool (height, width)."""
    white = float(view.white.mean())
    levels = np.arange(256)
    brightest_if_grey = np.where(levels < 0.75 * white, white * (levels / white) ** _GREY, 0).astype(np.uint8)
    grey = view.brightest <= brightest_if_grey.take(view.darkest)
    return _with_soft_edge(_bands(grey, view.mpp, _LINE_WIDTH_UM, _LINE_LENGTH_UM), view.mpp)


def find_folds(view: View) -> Mask:
    """Bands where the tissue lies on itself: bool (height, width).

    A fold absorbs about twice as much as the tissue around it, in the same colour. A band of other tissue (an
    epithelium, a row of lymphocytes) is darker too, but of another colour.
    """
    coarse = view.reduced(_FOLD_MPP)
    mpp = coarse.mpp
    density = np.maximum(0, -np.log10(np.maximum(coarse.rgb.astype(np.float32), 1) / view.white))
    depth = density.max(axis=-1)
    tissue = (depth > 0.07).astype(np.float32)
    side = max(3, round(_FOLD_AROUND_UM / mpp))
    share = ndimage.uniform_filter(tissue, side)
    around = ndimage.uniform_filter(depth * tissue, side) / np.maximum(share, 1e-3)
    dark = (depth > _FOLD_DENSITY) & (depth > _FOLD_CONTRAST * around)
    bands = _bands(dark, mpp, _FOLD_WIDTH_UM, _FOLD_LENGTH_UM)
    folds = np.zeros_like(bands)
    labels, _ = ndimage.label(bands, np.ones((3, 3)))
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        place = _widened(place, 4, bands.shape)
        band = labels[place] == number
        beside = ndimage.binary_dilation(band, iterations=4) & ~ndimage.binary_dilation(dark[place])
        beside &= tissue[place] > 0
        if beside.any() and _cosine(density[place][band], density[place][beside]) >= _FOLD_LIKENESS:
            folds[place] |= band
    return enlarge(folds, view.rgb.shape[0], view.rgb.shape[1])


def find_artefacts(view: View, found: Mask) -> Iterator[tuple[str, Mask]]:
    """Each kind of artefact within what was found, as its name and bool (height, width), where there is any.

    Looked for at about 16 µm per pixel: all of them are larger than that.
    """
    coarse = view.reduced(_MPP)
    for name, find in FINDERS.items():
        seen = find(coarse)
        if seen.any() and (area := enlarge(seen, *found.shape) & found).any():
            yield name, area


def enlarge(mask: Mask, height: int, width: int) -> Mask:
    """The mask of a reduced view, each pixel repeated, for the view itself: bool (height, width)."""
    factor = max(-(-height // mask.shape[0]), -(-width // mask.shape[1]))
    return np.asarray(mask.repeat(factor, axis=0)[:height].repeat(factor, axis=1)[:, :width])


FINDERS: Mapping[str, Callable[[View], Mask]] = MappingProxyType(
    {EDGE: find_black_edges, PEN: find_ink, LINE: find_lines, FOLD: find_folds}
)
"""By name, in the order in which they are left out."""


def drop_small(mask: Mask, mpp: float, min_um2: float) -> Mask:
    """Leave out pieces (joined by sides) smaller than ``min_um2``."""
    if np.count_nonzero(mask) * mpp**2 < min_um2:
        return np.zeros_like(mask)
    labels, count = ndimage.label(mask)
    large = areas_px(labels, count) * mpp**2 >= min_um2
    large[0] = False
    return np.asarray(large[labels])


def areas_px(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Pixels of each label from 0 to ``count``: int64 (count + 1,).

    Band by band: numpy counts a copy of eight bytes a pixel, the largest thing there would be for a large slide.
    """
    areas = np.zeros(count + 1, np.int64)
    for band in np.array_split(labels, max(1, labels.size // _BAND_PX)):
        areas += np.bincount(band.ravel(), minlength=count + 1)
    return areas


def _black(view: View) -> Mask:
    black = view.brightest < 85
    if black.any():
        black &= view.brightest - view.darkest < 25
    return np.asarray(black)


def _bands(mask: Mask, mpp: float, max_width_um: float, min_length_um: float) -> Mask:
    """Pieces of ``mask`` that are long and thin, straight or bent.

    The mean distance to the edge of a band is a quarter of its width, and its area over its width is its length.
    """
    bands = np.zeros_like(mask)
    least = min_length_um / mpp  # pixels, were it one wide
    if np.count_nonzero(mask) < least:
        return bands
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    areas = areas_px(labels, count)
    areas[0] = 0
    if areas.max() < least:
        return bands
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if areas[number] < least or areas[number] < (max(piece.stop - piece.start for piece in place) - 1):
            continue
        piece = np.pad(labels[place] == number, 1)
        width = max(1.0, 4 * float(ndimage.distance_transform_edt(piece)[piece].mean()) - 1)
        if width * mpp <= max_width_um and areas[number] / width >= least:
            bands[place] |= piece[1:-1, 1:-1]
    return bands


def _with_soft_edge(mask: Mask, mpp: float) -> Mask:
    places = ndimage.find_objects(mask.astype(np.uint8))
    if not places or places[0] is None:
        return mask
    place = _widened(places[0], int(_SOFT_EDGE_UM / mpp) + 1, mask.shape)
    wide = np.zeros_like(mask)
    wide[place] = ndimage.distance_transform_edt(~mask[place]) * mpp <= _SOFT_EDGE_UM
    return wide


def _widened(place: tuple[slice, ...], by: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, part.start - by), min(length, part.stop + by)) for part, length in zip(place, shape, strict=True)
    )


def _cosine(band: NDArray[np.float32], beside: NDArray[np.float32]) -> float:
    a, b = band.mean(axis=0), beside.mean(axis=0)
    return float(a @ b / max(1e-9, np.linalg.norm(a) * np.linalg.norm(b)))
