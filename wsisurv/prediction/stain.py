"""Is this slide H&E? A look at the colours of some of its tiles: brown says immunohistochemistry, no pink no eosin."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.tiles import Tiles
from wsisurv.slides.reader import Slide

_TILES = 24
_STAINED = 0.12
"""Mean optical density from which a pixel is stained: glass, fat and faded paper-white are below."""
_MUCH_BROWN, _LITTLE_PINK = 0.05, 0.05
_LITTLE_EOSIN = 0.02
_DENSITY = -np.log10(np.maximum(np.arange(256, dtype=np.uint8), 1) / np.float32(255))
"""Optical density of each intensity."""


@dataclass(frozen=True)
class Colours:
    """Colours of a slide's stained pixels."""

    # share of them that are brown as diaminobenzidine is, over haematoxylin or alone: blue light is held back about as
    # much as green or more, red less. Eosin and haematoxylin hold back green most, and blood lets nearly all red
    # through.
    brown: float
    pink: float  # share that are pink as eosin is: green is held back most, and much more than red
    pixels: int  # how many stained pixels were seen

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why this may not be H&E, in words."""
        if not self.pixels:
            return ()
        found = []
        if self.brown >= _MUCH_BROWN:
            found.append(
                f"{self.brown:.0%} of the stained area is brown: immunohistochemistry (or pigment), and not H&E?"
            )
        if self.pink < _LITTLE_PINK:
            found.append(f"only {self.pink:.0%} of the stained area is pink as eosin is: another stain than H&E?")
        return tuple(found)


def colours_of(pixels: NDArray[np.uint8]) -> Colours:
    """Count the colours of pixels, uint8 (…, 3), RGB.

    Source: Ruifrok and Johnston 2001, Quantification of histochemical staining by color deconvolution (optical
    densities of haematoxylin, eosin and diaminobenzidine).
    """
    red, green, blue = (_DENSITY[pixels[..., channel].ravel()] for channel in range(3))
    stained = (red + green + blue) / np.float32(3) >= _STAINED
    red, green, blue = red[stained], green[stained], blue[stained]
    if not len(red):
        return Colours(0.0, 0.0, 0)
    brown = (blue >= 0.9 * green) & (red >= 0.2 * blue) & (red <= 0.8 * blue)
    pink = (green >= 1.4 * red) & (green > blue)
    return Colours(float(brown.mean()), float(pink.mean()), len(red))


def look_at(slide: Slide, coords: NDArray[np.int64], *, level0_px: float, tile_px: int) -> Colours:
    """Look at up to 24 tiles of an open slide, spread evenly over it.

    Args:
        slide: that they were cut from.
        coords: int64 (n, 2), top left of each, level-0 pixels.
        level0_px: side of a tile, level-0 pixels.
        tile_px: pixels that are read of it, each way.

    Raises:
        SlideError: the slide can't be read.
    """
    rows = np.unique(np.linspace(0, max(0, len(coords) - 1), _TILES).astype(int))[: len(coords)]
    seen = [slide.region(x, y, level0_px, tile_px) for x, y in coords[rows].tolist()]
    return colours_of(np.stack(seen)) if seen else Colours(0.0, 0.0, 0)


def measured_warnings(tiles: Tiles) -> tuple[str, ...]:
    """What the stain densities stored with the tiles say (``tile --measures``), where they are."""
    eosin, haematoxylin = tiles.measures.get("eosin"), tiles.measures.get("haematoxylin")
    if eosin is None or haematoxylin is None or not len(eosin):
        return ()
    typical = float(np.median(eosin))
    if typical >= _LITTLE_EOSIN:
        return ()
    return (f"hardly any eosin (median density {typical:.3f} a tile): another stain than H&E?",)
