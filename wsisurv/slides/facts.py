"""What a slide's header states; pixels are read only to find its levels."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from wsisurv.slides.find import slide_bytes
from wsisurv.slides.readers.registry import OPENSLIDE, open_handle
from wsisurv.slides.resolution import Objective, Resolution, find_objective, find_resolution


@dataclass(frozen=True)
class Bounds:
    """The part of level 0 that was scanned, pixels of level 0, where a scanner states it (MIRAX, Leica, Ventana …)."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class SlideFacts:
    """A slide's header."""

    vendor: str  # the format, as OpenSlide names it
    width: int  # of level 0, pixels
    height: int  # of level 0, pixels
    level_downsamples: tuple[float, ...]  # how many level-0 pixels a pixel of each level that is used spans
    bounds: Bounds  # what was scanned; all of level 0 where the file says nothing
    file_bytes: int  # size of all files that make up the slide
    resolution: Resolution | None  # the level-0 resolution stated, plausible or not, or None
    objective: Objective | None  # the objective power stated, or None
    properties: dict[str, str]  # all that OpenSlide states
    notes: tuple[str, ...] = ()  # what should be known of its reader and levels


def find_bounds(properties: Mapping[str, str], width: int, height: int) -> Bounds:
    """Where the scanner says that it scanned, held within level 0."""
    names = ("x", "y", "width", "height")
    try:
        x, y, wide, high = (int(properties[f"openslide.bounds-{name}"]) for name in names)
    except (KeyError, ValueError):
        return Bounds(0, 0, width, height)
    x, y = min(max(0, x), width - 1), min(max(0, y), height - 1)
    return Bounds(x, y, max(1, min(wide, width - x)), max(1, min(high, height - y)))


def read_facts(path: Path) -> SlideFacts:
    """Open a slide and read its header; of DICOM also the last row and column of each level, as converters write them.

    Raises:
        SlideError: it can't be opened.
    """
    opened = open_handle(path, whole_edges=True)
    with closing(opened.handle) as handle:
        properties = dict(handle.properties)
        width, height = handle.dimensions
    return SlideFacts(
        vendor=properties.get("openslide.vendor", "unknown" if opened.reader == OPENSLIDE else opened.reader),
        width=width,
        height=height,
        level_downsamples=tuple(level.downsample for level in opened.levels),
        bounds=find_bounds(properties, width, height),
        file_bytes=slide_bytes(path),
        resolution=find_resolution(properties),
        objective=find_objective(properties),
        properties=properties,
        notes=opened.notes,
    )
