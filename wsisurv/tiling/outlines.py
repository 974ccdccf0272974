"""Outlines of a mask as polygons with holes, along the edges of its pixels, for QuPath."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from wsisurv.formats.atomic import write_text
from wsisurv.formats.geojson import annotation, collection
from wsisurv.tiling.tissue import Tissue

Ring = NDArray[np.int64]
"""(n, 2), x and y of the corners, first not repeated; clockwise on screen around tissue, the other way around holes."""

_COLOURS = {"Tissue": (0, 158, 115), "pen marks": (230, 159, 0)}
_MAX_PX = 1024  # longest side of a mask that is traced as it is
_OTHER = (204, 121, 167)  # of whatever else was left out


def trace(mask: NDArray[np.bool_]) -> list[list[Ring]]:
    """Trace every piece (pixels joined by sides) of a mask.

    A border is made of straight runs, each with the piece on its right. Every run across ends where a run up or down
    starts; where two pixels touch by a corner only, two runs do, and the order below keeps the pieces apart.

    Args:
        mask: bool (height, width).

    Returns:
        A list a piece, in order of their first pixel: its outer ring, then its holes; corners in pixels of the mask.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    across_from, across_to = _runs(np.diff(padded, axis=0))  # y, x of the start and end of each run
    up_to, up_from = (ends[:, ::-1] for ends in _runs(np.diff(padded, axis=1).T))
    after_across = _matched(across_to, across_from, up_from, up_to, along=1, flipped=True)
    after_up = _matched(up_to, up_from, across_from, across_to, along=0, flipped=False)
    labels, count = ndimage.label(mask)
    following = after_up[after_across].tolist()
    pieces: list[list[Ring]] = [[] for _ in range(count)]
    seen = bytearray(len(following))
    for first in range(len(following)):
        if seen[first]:
            continue
        runs = []
        run = first
        while not seen[run]:
            seen[run] = 1
            runs.append(run)
            run = following[run]
        corners = np.empty((2 * len(runs), 2), np.int64)
        corners[0::2] = across_from[runs]
        corners[1::2] = up_from[after_across[runs]]
        ring = corners[:, ::-1]
        (y, x), (_, end) = across_from[first], across_to[first]
        piece = pieces[labels[(y, x) if end > x else (y - 1, x - 1)] - 1]
        piece.insert(0, ring) if _signed_area(ring) > 0 else piece.append(ring)
    return pieces


def _runs(steps: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end (row, column) of each run of equal steps along the rows: rightwards for +1, leftwards for -1."""
    steps = steps[:, 1:-1]
    edged = np.pad(steps, ((0, 0), (1, 1)))
    row, column = np.nonzero(np.diff(edged, axis=1))
    values = edged[row, column], edged[row, column + 1]
    starts, ends = values[1] != 0, values[0] != 0
    one = np.stack([row[starts], column[starts]], axis=1)
    other = np.stack([row[ends], column[ends]], axis=1)
    forwards = (values[1][starts] > 0)[:, None]
    return np.where(forwards, one, other), np.where(forwards, other, one)


def _matched(
    ends: NDArray[np.int64],
    others: NDArray[np.int64],
    starts: NDArray[np.int64],
    goals: NDArray[np.int64],
    *,
    along: int,
    flipped: bool,
) -> NDArray[np.int64]:
    """For each run that ends, which run starts there.

    Where two do: the run from the left goes on downwards and the one from the right upwards; the run from above goes
    on to the left and the one from below to the right.
    """
    from_first = others[:, along] > ends[:, along]
    to_first = goals[:, 1 - along] > starts[:, 1 - along]
    one = np.lexsort((from_first, ends[:, 1], ends[:, 0]))
    two = np.lexsort((to_first ^ flipped, starts[:, 1], starts[:, 0]))
    following = np.empty(len(ends), np.int64)
    following[one] = two
    return following


def _signed_area(ring: Ring) -> float:
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def write_outlines(path: Path, tissue: Tissue, scale: float) -> None:
    """Write the outlines of a slide's tissue, and of what was left out of it, as GeoJSON, whole or not at all.

    A large slide's masks are made coarser first: a person looks at the outline, and tiles are cut by the mask itself.

    Args:
        path: the file.
        tissue: of the slide, or of the part that was scanned.
        scale: side of a mask pixel, level-0 pixels.

    Raises:
        StorageError: no room or no permission.
    """
    areas = {"Tissue": tissue.mask, "pen marks": tissue.ink, **tissue.artefacts}
    factor = -(-max(tissue.mask.shape) // _MAX_PX)
    coarser = {name: _coarser(mask, factor) for name, mask in areas.items() if mask.any()}
    write_text(path, render_outlines(coarser, scale * factor))


def _coarser(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Join squares of pixels; one is true where at least half of it is."""
    if factor == 1:
        return mask
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).reduce(factor)) >= 128


def render_outlines(areas: Mapping[str, NDArray[np.bool_]], scale: float) -> str:
    """Give masks as a GeoJSON FeatureCollection, an annotation of its name's class for each piece.

    Args:
        areas: mask by name, bool (height, width) each.
        scale: side of a mask pixel, level-0 pixels.
    """
    return collection(
        [
            annotation(
                name, number, _COLOURS.get(name, _OTHER), [np.rint(ring * scale).astype(np.int64) for ring in rings]
            )
            for name, mask in areas.items()
            for number, rings in enumerate(trace(mask), start=1)
        ]
    )
