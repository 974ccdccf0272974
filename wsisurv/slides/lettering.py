"""Words and scale bars on pictures of slides, the same on every machine."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import ImageDraw, ImageFont

_FONT = "mpl-data/fonts/ttf/DejaVuSans.ttf"  # comes with matplotlib, so the picture is the same on every machine


@dataclass(frozen=True)
class Lettering:
    """A font, and how it writes what not every font has."""

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont  # for Pillow
    um: str  # micrometres: Pillow's own font has no Greek letter
    square: str  # the figure of a square


def lettering(size_px: int) -> Lettering:
    """The font of this size."""
    package = find_spec("matplotlib")  # found, not imported
    for folder in list(package.submodule_search_locations or ()) if package else []:
        if (path := Path(folder) / _FONT).exists():
            return Lettering(ImageFont.truetype(str(path), size_px), "µm", "²")
    return Lettering(ImageFont.load_default(size_px), "um", "^2")


def draw_scale_bar(
    draw: ImageDraw.ImageDraw, x: float, y: float, room_px: float, mpp: float, letters: Lettering
) -> float:
    """Draw a bar of a round length with its length below.

    Args:
        draw: the picture.
        x: left of the bar.
        y: top of the bar.
        room_px: the bar is no longer than this.
        mpp: µm per pixel of the picture.
        letters: the font.

    Returns:
        Length of the bar, pixels.
    """
    power = 10.0 ** np.floor(np.log10(room_px * mpp))
    um = float(max(step * power for step in (1, 2, 5) if step * power <= room_px * mpp * (1 + 1e-9)))
    bar_px = um / mpp
    draw.rectangle((x, y, x + bar_px, y + 5), fill="black")
    draw.text(
        (x, y + 12), f"{um:g} {letters.um}" if um < 1000 else f"{um / 1000:g} mm", fill="black", font=letters.font
    )
    return bar_px
