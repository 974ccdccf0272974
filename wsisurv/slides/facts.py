"""What a slide's header tells, without reading a pixel."""

from dataclasses import dataclass
from pathlib import Path

import openslide

from wsisurv.errors import SlideError
from wsisurv.slides.bounds import Bounds, find_bounds
from wsisurv.slides.find import slide_bytes
from wsisurv.slides.resolution import Objective, Resolution, find_objective, find_resolution


@dataclass(frozen=True)
class SlideFacts:
    """A slide's header.

    Attributes:
        vendor: the format, as OpenSlide names it.
        width: of level 0, pixels.
        height: of level 0, pixels.
        level_downsamples: how many level-0 pixels a pixel of each level spans.
        bounds: what was scanned; all of level 0 where the file says nothing.
        file_bytes: size of all files that make up the slide.
        resolution: the level-0 resolution stated, plausible or not, or None.
        objective: the objective power stated, or None.
        properties: all that OpenSlide tells.
    """

    vendor: str
    width: int
    height: int
    level_downsamples: tuple[float, ...]
    bounds: Bounds
    file_bytes: int
    resolution: Resolution | None
    objective: Objective | None
    properties: dict[str, str]


def read_facts(path: Path) -> SlideFacts:
    """Open a slide and read its header.

    Raises:
        SlideError: it can't be opened.
    """
    try:
        with openslide.OpenSlide(path) as handle:
            properties = dict(handle.properties)
            width, height = handle.dimensions
            downsamples = tuple(float(factor) for factor in handle.level_downsamples)
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideError(f"{path}: can't be opened as a slide (OpenSlide: {error}). Is it whole?") from error
    return SlideFacts(
        vendor=properties.get("openslide.vendor", "unknown"),
        width=width,
        height=height,
        level_downsamples=downsamples,
        bounds=find_bounds(properties, width, height),
        file_bytes=slide_bytes(path),
        resolution=find_resolution(properties),
        objective=find_objective(properties),
        properties=properties,
    )
