"""A picture in PNG or JPEG, all of it in memory."""

from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from wsisurv.errors import SlideError
from wsisurv.slides.readers.handle import in_8_bits

_MOST_BYTES = 2 << 30
_SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG"}


def picture_format(path: Path) -> str:
    """``PNG`` or ``JPEG``, by a file's first bytes; empty for any other."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), "")


class Picture:
    """A picture as ``PackagedSlide``.

    Raises:
        SlideError: it is not in 8-bit colour or grey, or too large to be in memory.
    """

    def __init__(self, path: Path) -> None:
        kind = picture_format(path)
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is asked below, and nothing decoded here
        try:
            with Image.open(path, formats=(kind,)) as header:
                self.dimensions, mode, dpi = header.size, header.mode, header.info.get("dpi")
        finally:
            Image.MAX_IMAGE_PIXELS = most
        if mode not in ("RGB", "L"):
            raise SlideError(f"a {kind} of mode {mode}, and 8-bit colour or grey is wanted")
        if self.dimensions[0] * self.dimensions[1] * 3 > _MOST_BYTES:
            raise SlideError(
                f"a {kind} of more than 2 GiB of pixels. Rewrite it with tiles, as by `vips tiffsave --tile`"
            )
        data = path.read_bytes()
        found = imagecodecs.png_decode(data) if kind == "PNG" else simplejpeg.decode_jpeg(data, "RGB", strict=True)
        self._pixels = in_8_bits(found if found.ndim == 3 else found[..., None])
        self.level_dimensions, self.level_downsamples = (self.dimensions,), (1.0,)
        self.properties = {"openslide.vendor": kind.lower()}
        if dpi and all(dpi):
            self.properties |= {
                f"openslide.mpp-{axis}": str(25400 / float(one)) for axis, one in zip("xy", dpi, strict=True)
            }

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As ``PackagedSlide``."""
        del level
        return np.broadcast_to(self._pixels[y : y + height, x : x + width], (height, width, 3))

    def close(self) -> None:
        """Nothing is open."""
