"""Which image of a TIFF is the slide, and what it may not be: channels of fluorescence, numbers that are no colours."""

import math
from dataclasses import dataclass
from pathlib import Path

import tifffile
from tifffile import PHOTOMETRIC

_GREY = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
_ALPHA = (1, 2)  # of extra samples, as TIFF numbers them
_ANOTHER = 0.5  # of the slide's area: no label, macro or reduction of it


@dataclass(frozen=True)
class TiffImages:
    """What a TIFF holds, by its tags alone."""

    width: int  # of the largest image, which is the slide, pixels
    height: int
    problem: str  # why it is no stained slide, in words; empty where nothing speaks against it
    notes: tuple[str, ...]  # what of the file is not read
    hidden_levels: bool  # whether the first page has reductions below it, where OpenSlide does not look


def look_into(path: Path) -> TiffImages | None:
    """Look which images are in a TIFF; None where that can't be read, which is the reader's to say."""
    try:
        with tifffile.TiffFile(path) as file:
            return images_of(file)
    except Exception:  # noqa: BLE001  # of whatever file, in whatever state
        return None


def images_of(file: tifffile.TiffFile) -> TiffImages:
    """As ``look_into``, of an open file."""
    slide = slide_of(file)
    page, planes = slide.keyframe, len(slide.pages)
    notes = (
        [f"{planes} planes ({_axes(slide)}): the first is read, which need not be the one in focus"]
        if planes > 1
        else []
    )
    for number, other in enumerate(file.series):
        key = other.keyframe
        large = math.prod(key.shape) > _ANOTHER * math.prod(page.shape)
        if other is not slide and (large or not number):
            which = "another" if number else "the first"
            asks = ": is it a slide too?" if large else ""
            notes.append(f"{which} image of the file, {key.imagewidth} × {key.imagelength}, is not read{asks}")
    hidden = bool(file.pages[0].aspage().subifds)
    return TiffImages(page.imagewidth, page.imagelength, _problem(slide), tuple(notes), hidden)


def slide_of(file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """The largest image."""
    return max(file.series, key=lambda one: math.prod(one.keyframe.shape))


def _problem(slide: tifffile.TiffPageSeries) -> str:
    page, planes = slide.keyframe, len(slide.pages)
    grey, channels = page.photometric in _GREY, page.samplesperpixel
    if planes > 1 and channels == 1:
        return (
            f"{planes} planes ({_axes(slide)}): stained slides are one picture in colours. `raw2ometiff --rgb` "
            "makes one of channels in pages of their own"
        )
    if grey and channels - sum(extra in _ALPHA for extra in page.extrasamples) > 1:
        return f"{channels} channels of {PHOTOMETRIC(page.photometric).name}, and red, green, blue are wanted"
    if page.dtype is None or page.dtype.kind not in "ub" or page.dtype.itemsize > 2:
        return f"numbers of {page.bitspersample} bits ({page.dtype}) that are no colours, which have 8"
    if grey and page.dtype.itemsize == 2:
        return f"one channel of {page.bitspersample} bits a pixel, as of fluorescence, and red, green, blue are wanted"
    return ""


def _axes(slide: tifffile.TiffPageSeries) -> str:
    return ", ".join(f"{size} {axis}" for size, axis in zip(slide.shape, slide.axes, strict=True))
