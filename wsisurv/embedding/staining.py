"""Stains of the slides in progress: each estimated once, in the thread that first reads tiles of it."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.colours import ColourMap, Fit, Pixels, estimate, make_map
from wsisurv.formats.tiles import Tiles
from wsisurv.settings.embedding import StainSettings
from wsisurv.slides.reader import Slide, read_tiles

_SAMPLED_TILES = 32
_SAMPLED_PX = 1 << 18


def sampled_rows(tiles: Tiles, most: int = _SAMPLED_TILES) -> NDArray[np.int64]:
    """Some tiles, spread evenly over the slide and the same every time: rows of ``tiles.coords``."""
    return np.unique(np.linspace(0, len(tiles.coords) - 1, most).astype(np.int64))


def sample_tiles(tiles: Tiles, most: int = _SAMPLED_TILES) -> Pixels:
    """Pixels of ``sampled_rows``: uint8 (n, side, side, 3).

    Raises:
        SlideError: the slide can't be opened or read.
    """
    with Slide(tiles.slide_path, tiles.mpp) as slide:
        return read_tiles(slide, tiles, sampled_rows(tiles, most))


def estimate_tiles(method: str, sample: Pixels) -> Fit:
    """As ``estimate``, in as many of the sample's pixels as suffice."""
    pixels = sample.reshape(-1, 3)
    return estimate(method, pixels[:: -(-len(pixels) // _SAMPLED_PX)])


@dataclass
class _SlideStains:
    """A slide whose stains are being estimated, or are; ``map`` stays None where they could not be."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    fit: Fit | None = None
    map: ColourMap | None = None


class Staining:
    """Brings the tiles of each slide to the reference; a slide that shows too little stain stays as it is.

    Args:
        settings: the method and the reference.
    """

    def __init__(self, settings: StainSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._slides: dict[str, _SlideStains] = {}

    def __call__(self, pixels: Pixels, tiles: Tiles) -> Pixels:
        """Tiles of a slide, uint8 (n, side, side, 3), in their new colours.

        Raises:
            SlideError: the slide can't be read.
        """
        with self._lock:
            slide = self._slides.setdefault(tiles.slide_id, _SlideStains())
        with slide.lock:
            if slide.fit is None:
                fit = estimate_tiles(self._settings.method, sample_tiles(tiles))
                if fit.values is not None:
                    slide.map = make_map(self._settings.method, fit.values, self._settings.reference)
                slide.fit = fit
        return pixels if slide.map is None else slide.map(pixels)

    def restain(self, sample: Pixels) -> Pixels:
        """Tiles taken for a slide of their own: estimated, and brought to the reference."""
        fit = estimate_tiles(self._settings.method, sample)
        if fit.values is None:
            return sample
        return make_map(self._settings.method, fit.values, self._settings.reference)(sample)

    def end(self, slide_id: str) -> dict[str, Any]:
        """Let go of a slide; gives what was seen in it, for its file: empty where nothing was read of it."""
        with self._lock:
            slide = self._slides.pop(slide_id, None)
        if slide is None or slide.fit is None:
            return {}
        seen: dict[str, Any] = {"method": self._settings.method}
        if slide.fit.values is None:
            return {**seen, "left_as_it_is": slide.fit.why_not}
        return {**seen, "slide": [round(value, 6) for value in slide.fit.values]}
