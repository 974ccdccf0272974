"""What reads a file that OpenSlide refuses, by what the file is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsisurv.slides import dicom
from wsisurv.slides.readers.by_fastslide import FORMATS, FastSlide
from wsisurv.slides.readers.by_pillow import Picture, picture_format
from wsisurv.slides.readers.by_tifffile import TiffSlide
from wsisurv.slides.readers.by_wsidicom import DicomSlide
from wsisurv.slides.readers.handle import PackagedSlide

_TIFF = {b"II*\0": "a TIFF", b"MM\0*": "a big-endian TIFF", b"II+\0": "a BigTIFF", b"MM\0+": "a big-endian BigTIFF"}
_LITTLE = "`tiffcp -L` rewrites it as little-endian, which OpenSlide opens"
_BASELINE = "JPEG or JPEG 2000, in which wsidicomizer and most scanners' software export, OpenSlide opens"


@dataclass(frozen=True)
class Fallback:
    """A reader of what OpenSlide doesn't open."""

    name: str  # what it is called
    kind: str  # what the file is, in words
    open: Callable[[Path], PackagedSlide]  # any error says that it can't be opened
    extra: str = ""  # what `pip install wsisurv[…]` calls the package that it needs; empty where none
    rewrite: str = ""  # how the file can be brought to what OpenSlide opens

    @property
    def install(self) -> str:
        """What installs the package."""
        return f"pip install 'wsisurv[{self.extra}]'"


def find_fallback(path: Path, refused: str) -> Fallback | None:
    """The reader for a file, by its first bytes or its ending; None where there is none.

    Args:
        path: the file.
        refused: why OpenSlide doesn't open it.

    Raises:
        OSError: it can't be read.
    """
    if kind := FORMATS.get(path.suffix.lower()):
        return Fallback("fastslide", kind, FastSlide, "fastslide")
    with path.open("rb") as file:
        start = file.read(4)
    if kind := _TIFF.get(start):
        return Fallback("tifffile", kind, TiffSlide, rewrite=_LITTLE if kind == "a big-endian TIFF" else "")
    if picture := picture_format(path):
        return Fallback("Pillow", f"a {picture}", Picture)
    if "transfer syntax" in refused and (syntax := dicom.transfer_syntax(path)):
        return Fallback("wsidicom", f"DICOM in {syntax}", DicomSlide, "wsidicom", rewrite=_BASELINE)
    return None
