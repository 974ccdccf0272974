"""Olympus VSI, Philips iSyntax and OME-Zarr by the package fastslide (Apache-2.0).

It takes places in pixels of the level, OpenSlide in those of level 0. Its JPEG pixels are 0.4 to 1.9 grey levels off
OpenSlide's on average, so it is used only for what OpenSlide does not open.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import SlideError

FORMATS = {
    ".vsi": "an Olympus VSI slide",
    ".isyntax": "a Philips iSyntax slide",
    ".i2syntax": "a Philips i2Syntax slide",
}
INSTALL = "pip install 'wsisurv[fastslide]'"
NOTE = (
    "its pixels differ from OpenSlide's decoder by about one grey level: compare features only with others read by it"
)


class FastSlide:
    """A slide opened by fastslide; as ``PackagedSlide``.

    Raises:
        ModuleNotFoundError: the package is not installed.
        SlideError: its pixels are not 8-bit colour.
    """

    def __init__(self, path: Path) -> None:
        from fastslide import FastSlide as Opened

        self._slide = Opened.from_file_path(str(path), cache=32 << 20)
        channels, kind = self._slide.num_channels, self._slide.dtype
        if channels != 3 or kind != "uint8":
            self.close()
            raise SlideError(f"{channels} channels of {kind}, and red, green, blue of 8 bits are wanted")
        self.dimensions: tuple[int, int] = tuple(self._slide.dimensions)
        self.level_dimensions: tuple[tuple[int, int], ...] = tuple(map(tuple, self._slide.level_dimensions))
        self.level_downsamples: tuple[float, ...] = tuple(self._slide.level_downsamples)
        self.properties = {"openslide.vendor": str(self._slide.format).lower()}
        if all(math.isfinite(mpp) and mpp > 0 for mpp in self._slide.mpp):
            self.properties |= {
                f"openslide.mpp-{axis}": str(mpp) for axis, mpp in zip("xy", self._slide.mpp, strict=True)
            }
        if power := self._slide.properties.get("objective_magnification"):
            self.properties["openslide.objective-power"] = str(power)
        self.notes: tuple[str, ...] = (NOTE,)
        if (count := self._slide.num_images) > 1:
            self.notes += (f"it holds {count} pictures, of which the largest is read",)

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As ``PackagedSlide``."""
        found: NDArray[np.uint8] = self._slide.read_region((x, y), level, (width, height)).to_interleaved().numpy()
        return found

    def close(self) -> None:
        """Close the file."""
        self._slide.close()
