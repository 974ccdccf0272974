"""TIFF that OpenSlide passes over: levels of OME-TIFF that hang below level 0's page, strips, big-endian files.

Pages are found by tifffile; tiles and strips are decoded one by one, so that a slide of gigabytes takes little memory.
JPEG is decoded strictly: tifffile's own decoder shows grey where a tile ends too early, and says nothing.
"""

import logging
import math
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, TiffPage

from wsisurv.errors import SlideError
from wsisurv.slides.readers.handle import in_8_bits
from wsisurv.slides.readers.tiff_images import images_of, slide_of

_KEPT_BYTES = 32 << 20  # of decoded tiles
_MOST_BLOCK_BYTES = 1 << 30  # of one tile or strip, decoded
_START_OF_IMAGE = b"\xff\xd8"
_OF_SCANNERS = {"bif", "ndpi", "philips", "qpi", "scn", "sis", "svs"}
"""Structures of their own, by tifffile's names, which OpenSlide reads or refuses with a reason."""
_SHORT: Mapping[int, Callable[[bytes], bytes | bytearray]] = {
    COMPRESSION.LZW: imagecodecs.lzw_decode,
    COMPRESSION.PACKBITS: imagecodecs.packbits_decode,
}
"""Codecs that give less than was asked for where a tile is damaged, which tifffile fills up with black."""
_TAKEN = {
    *_SHORT,
    *(COMPRESSION.NONE, COMPRESSION.DEFLATE, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.ZSTD, COMPRESSION.LZMA),
    *(COMPRESSION.JPEG, COMPRESSION.JPEG2000, COMPRESSION.JPEGXL, COMPRESSION.WEBP),
}
_UNITS = {2: "inch", 3: "centimeter"}  # of a resolution, as TIFF numbers them


def jpeg_start(tables: bytes | None, *, ycbcr: bool) -> bytes:
    """What a JPEG tile of a TIFF begins with: its tables without their end, and Adobe's marker, which says the colour.

    Source: ITU-T T.872, Digital compression and coding of continuous-tone still images, 6.5.3.
    """
    adobe = b"\xff\xee\x00\x0eAdobe" + struct.pack(">HHHB", 100, 0, 0, ycbcr)
    return (tables[:-2] if tables else _START_OF_IMAGE) + adobe


class TiffSlide:
    """A TIFF opened by tifffile; as ``PackagedSlide``.

    Raises:
        SlideError: it isn't one picture in colours or grey, with its reductions; says what it is.

    Attributes:
        notes: what of the file is not read.
    """

    def __init__(self, path: Path) -> None:
        with _complaints() as complaints:
            self._file = tifffile.TiffFile(path)
            try:
                images = images_of(self._file)
                if images.problem:
                    raise SlideError(images.problem)
                self.notes = images.notes
                self._pages = list(_levels(self._file))
                for page in self._pages:
                    _require_plain(page)
                    if (
                        max(map(sum, zip(page.dataoffsets, page.databytecounts, strict=True)))
                        > self._file.filehandle.size
                    ):
                        raise SlideError("the file ends too early")
                if complaints:
                    raise SlideError(complaints[0])
            except BaseException:  # tifffile's own errors too
                self.close()
                raise
        self.level_dimensions = tuple((page.imagewidth, page.imagelength) for page in self._pages)
        self.dimensions = width, height = self.level_dimensions[0]
        self.level_downsamples = tuple((width / across + height / down) / 2 for across, down in self.level_dimensions)
        self.properties = _properties(self._file, self._pages)
        self._kept: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._kept_bytes = 0

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As ``PackagedSlide``; white where a tile was left out.

        Raises:
            SlideError: a tile is damaged.
        """
        page = self._pages[level]
        across, down = _block(page)
        columns = math.ceil(page.imagewidth / across)
        found = np.full((height, width, 3), 255, np.uint8)
        for row in range(y // down, (y + height - 1) // down + 1):
            for column in range(x // across, (x + width - 1) // across + 1):
                block = self._read(level, row * columns + column)
                left, top = column * across, row * down
                x0, y0 = max(x, left), max(y, top)
                part = block[y0 - top : y + height - top, x0 - left : x + width - left]
                found[y0 - y :, x0 - x :][: part.shape[0], : part.shape[1]] = part
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, level: int, number: int) -> NDArray[np.uint8]:
        """A tile or strip, uint8 (height, width, 3) or (height, width, 1); none where it was left out."""
        if (kept := self._kept.get((level, number))) is not None:
            self._kept.move_to_end((level, number))
            return kept
        page = self._pages[level]
        planes = page.samplesperpixel if page.planarconfig == PLANARCONFIG.SEPARATE else 1
        step = len(page.dataoffsets) // planes
        parts = [self._decode(page, number + plane * step) for plane in range(planes)]
        block = np.concatenate(parts, axis=2)
        self._kept[level, number] = block
        self._kept_bytes += block.nbytes
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return block

    def _decode(self, page: TiffPage, index: int) -> NDArray[np.uint8]:
        size = page.databytecounts[index]
        if not size:
            return np.empty((0, 0, 1), np.uint8)
        self._file.filehandle.seek(page.dataoffsets[index])
        data = self._file.filehandle.read(size)
        if len(data) < size:
            raise SlideError(f"tile {index} ends too early")
        if page.compression == COMPRESSION.JPEG:
            if page.samplesperpixel == 1:
                start, colours = (page.jpegtables or b"")[:-2], "GRAY"
            else:
                start, colours = jpeg_start(page.jpegtables, ycbcr=page.photometric == PHOTOMETRIC.YCBCR), "RGB"
            whole = start + data.removeprefix(_START_OF_IMAGE) if start else data
            return np.asarray(simplejpeg.decode_jpeg(whole, colours, strict=True), np.uint8)
        decoded, _, shape = page.decode(data, index)
        if (
            page.compression in _SHORT
            and len(_SHORT[page.compression](data)) < math.prod(shape) * page.bitspersample // 8
        ):
            raise SlideError(f"tile {index} is damaged")
        return in_8_bits(np.asarray(decoded).reshape(shape)[0])


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What tifffile logs as errors, and goes on after: pages that are not where the file says."""
    found: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = tifffile.logger()
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _levels(file: tifffile.TiffFile) -> Iterator[TiffPage]:
    """Level 0's page and those that may be its reductions, coarser and coarser.

    Raises:
        SlideError: a scanner's own structure, or planes of something else than one picture in colours.
    """
    if own := _OF_SCANNERS & file.flags:
        raise SlideError(f"a TIFF of {', '.join(sorted(own))}'s own structure, which only OpenSlide may read")
    series = slide_of(file)
    levels = [level.keyframe for level in series.levels]
    if len(levels) == 1:  # reductions may be pages beside it
        others = {one.keyframe.imagewidth: one.keyframe for one in file.series if len(one.pages) == 1}
        levels += [others[width] for width in sorted(others, reverse=True) if width < levels[0].imagewidth]
    yield levels[0]
    for page in levels[1:]:
        if page.samplesperpixel == levels[0].samplesperpixel and page.imagewidth < levels[0].imagewidth:
            yield page


def _require_plain(page: TiffPage) -> None:
    colours = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) and page.samplesperpixel == 3
    grey = page.photometric == PHOTOMETRIC.MINISBLACK and page.samplesperpixel == 1
    kind = getattr(page.photometric, "name", str(page.photometric))
    if page.dtype is None or page.bitspersample not in (8, 16) or page.bitspersample != 8 * page.dtype.itemsize:
        raise SlideError(f"{page.bitspersample} bits a channel, and 8 are wanted")
    if page.compression == COMPRESSION.JPEG and page.bitspersample != 8:
        raise SlideError(f"JPEG of {page.bitspersample} bits a channel, and 8 are wanted")
    if not (colours or grey) or page.imagedepth != 1:
        raise SlideError(f"{page.samplesperpixel} channels of {kind}, and red, green, blue are wanted")
    if page.compression not in _TAKEN:
        raise SlideError(f"compression {getattr(page.compression, 'name', page.compression)}, which is not read here")
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG:
        raise SlideError(f"YCbCr in compression {page.compression}, which is not read here")
    if page.compression == COMPRESSION.JPEG and page.planarconfig == PLANARCONFIG.SEPARATE and colours:
        raise SlideError("JPEG with each colour in tiles of its own, which is not read here")
    if math.prod(_block(page)) * page.samplesperpixel > _MOST_BLOCK_BYTES:
        raise SlideError("one strip of more than 1 GiB. Rewrite it with tiles, as by `vips tiffsave --tile`")


def _block(page: TiffPage) -> tuple[int, int]:
    """Width and height of its tiles or strips, pixels."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    return page.imagewidth, min(page.rowsperstrip or page.imagelength, page.imagelength)


def _properties(file: tifffile.TiffFile, pages: list[TiffPage]) -> dict[str, str]:
    """Metadata by OpenSlide's names."""
    first = pages[0]
    found = {"openslide.vendor": "ome-tiff" if file.is_ome else "tiff"}
    description = str(first.description or file.pages[0].aspage().description or "")
    images = description.split("<Image ")
    if len(images) == len(file.series) + 1:  # of an OME description, the image that is read alone
        whole = slide_of(file)
        description = f"<OME><Image {images[1 + [one is whole for one in file.series].index(True)]}"
    found["tiff.ImageDescription"] = description
    found["tiff.ResolutionUnit"] = _UNITS.get(int(first.resolutionunit or 0), "")
    for axis in "XY":
        if (tag := first.tags.get(f"{axis}Resolution")) and tag.value[1]:
            found[f"tiff.{axis}Resolution"] = str(tag.value[0] / tag.value[1])
    for number, page in enumerate(pages):
        if page.is_tiled:
            found[f"openslide.level[{number}].tile-width"] = str(page.tilewidth)
            found[f"openslide.level[{number}].tile-height"] = str(page.tilelength)
    return found
