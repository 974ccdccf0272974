"""Slides that are not in 8-bit colour: what encoders, tissue finders and people take them for is something else."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsisurv.errors import SlideError
from wsisurv.slides import dicom
from wsisurv.slides.levels import Level, shares
from wsisurv.slides.readers.handle import Handle

_PLACES, _SIDE_PX = 24, 48
_DARK = 220  # grey level below which a pixel is no bare glass
_BRIGHT = 128  # grey level that some place of any stained slide reaches
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
    found = _format(path)
    if found is None:
        return
    kind, bits, transparent = found
    if kind in _GREY:
        yield _GREY_NOTE
    if kind in _INDIRECT:
        yield f"{_INDIRECT[kind]}: the colours shown are converted, and not those of other slides"
    if bits > 8:
        yield f"{bits} bits a channel, not 8: the upper 8 are read"
    if transparent:
        yield "transparent: an alpha channel, shown on white"


def too_dark(path: Path, handle: Handle, coarsest: Level) -> str:
    """Why a slide of more than 8 bits a channel can't be shown in 8, in words; empty where it can, and of all others.

    White is near the top of what the bits can hold where all of them are used. Numbers of 12 bits in 16 end at 15 of
    255, those of fluorescence are bright nowhere but in spots: both would be read as something else than they are.
    """
    found = _format(path)
    if found is None or found[1] <= 8:
        return ""
    try:
        brightest = max((int(pixels[:, :3].max(initial=0)) for pixels in _places(handle, coarsest)), default=255)
    except SlideError:  # damaged there, which is for those to say who read there
        return ""
    if brightest >= _BRIGHT:
        return ""
    return (
        f"{found[1]} bits a channel, whose upper 8 show nothing brighter than {brightest} of 255: fewer bits are used, "
        "or it is fluorescence. Rewrite it in colours of 8 bits, white as 255"
    )


def _format(path: Path) -> tuple[str, int, bool] | None:
    """Photometric interpretation, bits a channel, and whether there is an alpha; None where that can't be read."""
    return dicom.pixel_format(path) or _png_format(path) or _tiff_format(path)


def _png_format(path: Path) -> tuple[str, int, bool] | None:
    with suppress(OSError), path.open("rb") as file:
        header = file.read(26)  # ends with bit depth and colour type (PNG specification, 11.2.2)
        if header.startswith(b"\x89PNG") and len(header) == 26:
            return "RGB" if header[25] & 2 else "MINISBLACK", header[24], bool(header[25] & 4)
    return None


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
    for pixels in _places(handle, level):
        dark.append(pixels[pixels[:, :3].max(axis=1) < _DARK, :3])
    spread = np.ptp(np.concatenate(dark), axis=1)
    if len(spread) >= _FEWEST and np.quantile(spread, 0.99) <= _COLOURLESS:
        yield "grey: three equal channels, where stained tissue has colours"


def _places(handle: Handle, level: Level) -> Iterator[NDArray[np.uint8]]:
    """Opaque pixels at some places, uint8 (n, 4)."""
    across, down = min(_SIDE_PX, level.width), min(_SIDE_PX, level.height)
    for x, y in shares(_PLACES):
        found = np.empty(across * down, np.uint32)
        place = int(x * (level.width - across)), int(y * (level.height - down))
        handle.read_into(found, level.number, *place, across, down)
        pixels = found.view(np.uint8).reshape(-1, 4)
        yield pixels[pixels[:, 3] == 255]
