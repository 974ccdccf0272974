"""DICOM in JPEG-LS, JPEG XL, HTJ2K and RLE, which OpenSlide refuses, by the package wsidicom (Apache-2.0)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import SlideError
from wsisurv.slides import dicom


class DicomSlide:
    """A slide opened by wsidicom; as ``PackagedSlide``.

    Raises:
        ModuleNotFoundError: the package is not installed.
        SlideError: its pixels are not 8-bit colour.
    """

    def __init__(self, path: Path) -> None:
        from wsidicom import WsiDicom

        self._slide = WsiDicom.open(dicom.instances(path))
        pyramid = self._slide.pyramids[0]
        self._numbers = [level.level for level in pyramid]  # powers of 2, of which some may not be there
        self.level_dimensions = tuple((level.size.width, level.size.height) for level in pyramid)
        self.dimensions = width, height = self.level_dimensions[0]
        self.level_downsamples = tuple((width / across + height / down) / 2 for across, down in self.level_dimensions)
        mpp = self._slide.mpp
        self.properties = {"openslide.vendor": "dicom"}
        self.properties |= {"openslide.mpp-x": str(mpp.width), "openslide.mpp-y": str(mpp.height)}
        self.notes: tuple[str, ...] = ()
        if (count := len(self._slide.pyramids)) > 1:
            self.notes = (f"it holds {count} pyramids, of which the first is read",)

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As ``PackagedSlide``.

        Raises:
            SlideError: its pixels are not 8-bit colour.
        """
        found = self._slide.read_region((x, y), self._numbers[level], (width, height), as_array=True)
        if found.dtype != np.uint8 or found.ndim not in (2, 3) or (found.ndim == 3 and found.shape[2] != 3):
            raise SlideError(f"pixels of {found.dtype} {found.shape}, and red, green, blue of 8 bits are wanted")
        return np.broadcast_to(found if found.ndim == 3 else found[..., None], (height, width, 3))

    def close(self) -> None:
        """Close the files."""
        self._slide.close()
