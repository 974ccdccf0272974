"""Where a slide has tissue: a low-power view to a mask, without what only looks like tissue."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsisurv.tiling.artefacts import PEN, areas_px, drop_small, find_artefacts
from wsisurv.tiling.methods import METHODS, Method, View

_MAX_SHARE = 0.5  # more "artefacts" than this are tissue that we misread: keep it, and say so
_ALONE_SHARE = 0.9  # a piece with more artefact than this is a stroke beside the tissue


@dataclass(frozen=True)
class Tissue:
    """Tissue of a slide."""

    mask: NDArray[np.bool_]  # bool (height, width), as the view it was found on
    ink: NDArray[np.bool_]  # bool (height, width), what was left out as pen marks
    flags: tuple[str, ...] = ()  # what a person should know of this slide, in words
    # what else was left out, by the names in ``artefacts.FINDERS``: bool (height, width) each
    artefacts: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def find_tissue(
    view: NDArray[np.uint8],
    mpp: float,
    method: Method = "otsu",
    *,
    min_piece_um2: float = 10_000.0,
    max_hole_um2: float = 10_000.0,
    keep_artefacts: bool = False,
) -> Tissue:
    """Find tissue by a method, without artefacts.

    Artefacts never erase a slide: a kind that would bring what is left out above half of the tissue is kept and
    flagged. Strokes that lie alone on the glass don't count in that half, unless there is nothing else.

    Args:
        view: uint8 (height, width, 3), RGB.
        mpp: resolution of the view, µm per pixel.
        method: a name in ``methods.METHODS``.
        min_piece_um2: smaller specks are left out.
        max_hole_um2: smaller holes are filled.
        keep_artefacts: keep pen marks, black edges, lines, bubble rims and folds as tissue.
    """
    seen = View(view, mpp)
    found = drop_small(METHODS[method](seen), mpp, min_piece_um2)
    found = fill_holes(found, mpp, max_hole_um2)
    nothing = np.zeros_like(found)
    if keep_artefacts or not found.any():
        return Tissue(found, nothing)
    left_out: dict[str, NDArray[np.bool_]] = {}
    flags = []
    out = nothing
    pieces = cache(lambda: _pieces(found))
    for name, area in find_artefacts(seen, found):
        area = area & ~out
        share = _share(*pieces(), out | area)
        if share > _MAX_SHARE:
            flags.append(f"{share:.0%} of the tissue looks like {name}; kept, look at the preview")
            continue
        out = out | area
        left_out[name] = area
        if (marks := area.sum() / found.sum()) > _MAX_SHARE:
            flags.append(f"{name} are {marks:.0%} of what is not glass")
    if not left_out:
        return Tissue(found, nothing, tuple(flags))
    ink = left_out.pop(PEN, nothing)
    return Tissue(drop_small(found & ~out, mpp, min_piece_um2), ink, tuple(flags), left_out)


def fill_holes(mask: NDArray[np.bool_], mpp: float, max_um2: float) -> NDArray[np.bool_]:
    """Fill holes smaller than ``max_um2``; what touches the edge of the view is no hole."""
    labels, count = ndimage.label(~mask)
    small = areas_px(labels, count) * mpp**2 < max_um2
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        small[side] = False
    small[0] = False
    return np.asarray(mask | small[labels])


def _pieces(found: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Number of the piece that each pixel is of, and pixels of each piece."""
    labels, count = ndimage.label(found)
    return labels, areas_px(labels, count)[1:]


def _share(labels: NDArray[np.int32], areas: NDArray[np.int64], out: NDArray[np.bool_]) -> float:
    """Share of the tissue that is an artefact, not counting strokes that lie alone on the glass.

    Where every piece looks like such a stroke, nothing else can be the tissue: 1.
    """
    marked = np.bincount(labels[out], minlength=len(areas) + 1)[1:]
    tissue = marked < _ALONE_SHARE * areas
    return float(marked[tissue].sum() / areas[tissue].sum()) if tissue.any() else 1.0
