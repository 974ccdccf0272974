"""Slides that are not in 8-bit colour: what encoders, tissue finders and people take them for is something else."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from wsisurv.slides import dicom
from wsisurv.slides.levels import Level, shares
from wsisurv.slides.readers.handle import Handle

_PLACES, _SIDE_PX = 24, 48
_DARK = 220  # grey level below which a pixel is no bare glass
_FEWEST = 500  # such pixels, to judge by
_COLOURLESS = 6  # grey levels between the channels of grey, after JPEG
_GREY = ("MINISBLACK", "MINISWHITE", "MONOCHROME1", "MONOCHROME2")
_INDIRECT = {"SEPARATED": "CMYK, inks instead of light", "PALETTE": "a palette of 256 colours at most"}
_GREY_NOTE = "grey: one channel, where stained tissue has colours"


def odd_colours(path: Path, handle: Handle, coarsest: Level) -> tuple[str, ...]:
    """What should be known of a slide's colours: grey, transparent, or of more than 8 bits; nothing of most.

    Raises:
        SlideError: the file is damaged.
    """
    stated = tuple(stated_colours(path))
    return stated if _GREY_NOTE in stated else (*stated, *_seen(handle, coarsest))


def stated_colours(path: Path) -> Iterator[str]:
    """As ``odd_colours``, by the file's header alone; nothing of a file that can't be read."""
    found = dicom.pixel_format(path) or _tiff_format(path)
    if found is None:
        return
    kind, bits, transparent = found
    if kind in _GREY:
        yield _GREY_NOTE
    if kind in _INDIRECT:
        yield f"{_INDIRECT[kind]}: the colours shown are converted, and not those of other slides"
    if bits > 8:
        yield f"{bits} bits a channel, not 8: at best the upper 8 of 16 are shown, dark where fewer were used"
    if transparent:
        yield "transparent: an alpha channel, shown on white"


def _tiff_format(path: Path) -> tuple[str, int, bool] | None:
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0].aspage()
            kind, bits = getattr(page.photometric, "name", ""), np.max(page.bitspersample)
            return kind, int(bits), any(extra in (0, 1, 2) for extra in page.extrasamples)
    except Exception:  # noqa: BLE001  # of whatever file, in whatever state: it is the reader's to say what is wrong
        return None


def _seen(handle: Handle, level: Level) -> Iterable[str]:
    """Grey that is written as three equal channels."""
    dark = [np.empty((0, 3), np.uint8)]
    across, down = min(_SIDE_PX, level.width), min(_SIDE_PX, level.height)
    for x, y in shares(_PLACES):
        found = np.empty(across * down, np.uint32)
        place = int(x * (level.width - across)), int(y * (level.height - down))
        handle.read_into(found, level.number, *place, across, down)
        pixels = found.view(np.uint8).reshape(-1, 4)
        dark.append(pixels[(pixels[:, 3] == 255) & (pixels[:, :3].max(axis=1) < _DARK), :3])
    spread = np.ptp(np.concatenate(dark), axis=1)
    if len(spread) >= _FEWEST and np.quantile(spread, 0.99) <= _COLOURLESS:
        yield "grey: three equal channels, where stained tissue has colours"
