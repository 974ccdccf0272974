"""Which part of level 0 was scanned, where a scanner says so (MIRAX, Leica, Ventana …)."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """The part of level 0 that was scanned, pixels of level 0."""

    x: int
    y: int
    width: int
    height: int


def find_bounds(properties: Mapping[str, str], width: int, height: int) -> Bounds:
    """Where the scanner says that it scanned, held within level 0."""
    names = ("x", "y", "width", "height")
    try:
        x, y, wide, high = (int(properties[f"openslide.bounds-{name}"]) for name in names)
    except (KeyError, ValueError):
        return Bounds(0, 0, width, height)
    x, y = min(max(0, x), width - 1), min(max(0, y), height - 1)
    return Bounds(x, y, max(1, min(wide, width - x)), max(1, min(high, height - y)))
