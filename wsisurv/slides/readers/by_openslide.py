"""OpenSlide.

It writes into an array of ours, by the call that its Python package wraps: the package makes an image of it with an
alpha, which is thrown away again here, and holds up other threads while that is copied.
"""

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray
from openslide import lowlevel

from wsisurv.errors import SlideError
from wsisurv.slides import dicom

_PIXELS = ctypes.POINTER(ctypes.c_uint32)


def _own_resolution(path: Path, properties: Mapping[str, str], size: tuple[int, int]) -> dict[str, str]:
    """Resolution tags of level 0's page, where a generic TIFF begins with another page, whose tags OpenSlide gives."""
    if properties.get("openslide.vendor") != "generic-tiff":
        return {}
    with suppress(Exception), tifffile.TiffFile(path) as file:  # whatever is damaged is OpenSlide's to say
        first = file.pages[0].aspage()
        if (first.imagewidth, first.imagelength) == size:
            return {}
        pages = (page.aspage() for page in file.pages)
        own = next(page for page in pages if (page.imagewidth, page.imagelength) == size)
        um = {2: 25400.0, 3: 1e4}[int(own.resolutionunit or 0)]  # of a unit, as TIFF numbers it
        found: dict[str, str] = {}
        for axis in "XY":
            up, down = own.tags[f"{axis}Resolution"].value
            found |= {f"tiff.{axis}Resolution": str(up / down), f"openslide.mpp-{axis.lower()}": str(um * down / up)}
        return found
    return {}


class OpenSlideHandle:
    """A slide opened by OpenSlide; as ``Handle``.

    Raises:
        SlideError: it can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        place, self._put_back = dicom.put_apart(path)
        try:
            self._slide = openslide.OpenSlide(place)
        except (openslide.OpenSlideError, OSError) as error:
            self._put_back()
            raise SlideError(f"{path}: can't be opened as a slide (OpenSlide: {error}). Is it whole?") from error
        try:
            self.properties: dict[str, str] = dict(self._slide.properties)
            self.dimensions: tuple[int, int] = self._slide.dimensions
            self.properties |= _own_resolution(path, self.properties, self.dimensions)
            self.level_dimensions: tuple[tuple[int, int], ...] = self._slide.level_dimensions
            self.level_downsamples = tuple(float(factor) for factor in self._slide.level_downsamples)
        except openslide.OpenSlideError as error:
            self.close()
            raise self._error(error) from error

    def read_into(self, found: NDArray[np.uint32], level: int, x: int, y: int, width: int, height: int) -> None:
        """Fill ``found`` with pixels of a level; OpenSlide takes their place in whole pixels of level 0."""
        downsample = self.level_downsamples[level]
        place = round(x * downsample), round(y * downsample)
        try:
            lowlevel._read_region(self._slide._osr, found.ctypes.data_as(_PIXELS), *place, level, width, height)
        except openslide.OpenSlideError as error:
            raise self._error(error) from error

    def keep_at_most(self, n_bytes: int) -> None:
        """Give OpenSlide a cache of this size instead of its 32 MB."""
        self._slide.set_cache(openslide.OpenSlideCache(n_bytes))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()
        self._put_back()

    def _error(self, error: Exception) -> SlideError:
        return SlideError(f"{self._path}: can't be read (OpenSlide: {error}). Is the file whole?")
