"""Readers beside OpenSlide: each held against OpenSlide on slides that both open, else against what was written."""

import builtins
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from dicom_writer import write_level
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import UID

from wsisurv.errors import MissingMppError, NoSlidesError, SlideError
from wsisurv.formats.tiles import Tiles
from wsisurv.slides.facts import read_facts
from wsisurv.slides.find import find_slides
from wsisurv.slides.reader import Slide
from wsisurv.slides.readers import by_tifffile, registry
from wsisurv.slides.readers.by_fastslide import FastSlide
from wsisurv.slides.tiles import TileReader
from wsisurv.units import SlideId

Pixels = NDArray[np.uint8]
MPP, SIDE = 0.25, 128
TAGS: dict[str, Any] = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}


def _halves(image: Pixels, n_levels: int) -> list[Pixels]:
    levels = [image]
    for _ in range(n_levels - 1):
        height, width = (side // 2 * 2 for side in levels[-1].shape[:2])
        blocks = levels[-1][:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
        levels.append(np.rint(blocks.mean((1, 3))).astype(np.uint8))
    return levels


def _write_ome(path: Path, levels: Sequence[Pixels], *, planar: bool = False, **options: Any) -> Path:
    """OME-TIFF as Bio-Formats and raw2ometiff write it: reductions in SubIFDs of level 0's page."""
    options = {"compression": "deflate", "photometric": "rgb", "tile": (SIDE, SIDE), **options}
    if planar:
        options["planarconfig"] = "separate"
    sizes = {f"PhysicalSize{axis}{what}": value for axis in "XY" for what, value in (("", MPP), ("Unit", "µm"))}
    with tifffile.TiffWriter(path, ome=True) as file:
        for number, level in enumerate(levels):
            data = np.moveaxis(level, 2, 0) if planar else level
            if number:
                file.write(data, subfiletype=1, **options)
            else:
                file.write(data, subifds=len(levels) - 1, metadata=sizes, **TAGS, **options)
    return path


def _write_pages(path: Path, levels: Sequence[Pixels], **options: Any) -> Path:
    """The same levels in pages one after another, all of which OpenSlide reads."""
    options = {"compression": "deflate", "photometric": "rgb", "tile": (SIDE, SIDE), "metadata": None, **options}
    with tifffile.TiffWriter(path, byteorder=options.pop("byteorder", "<")) as file:
        for number, level in enumerate(levels):
            file.write(level, subfiletype=int(number > 0), **TAGS, **options)
    return path


@pytest.fixture(scope="module")
def levels(draw_tissue: Callable[..., Pixels]) -> list[Pixels]:
    return _halves(draw_tissue(700, 500), 3)


def _same(one: Slide, other: Slide, most: int = 0) -> None:
    """Levels, resolution and pixels at places of all kinds: within tiles, across them, at the edges."""
    assert one.level_sizes == other.level_sizes
    assert one.level_downsamples == pytest.approx(other.level_downsamples)
    assert one.mpp == pytest.approx(other.mpp)
    for level, (width, height) in enumerate(one.level_sizes):
        for x, y in ((0, 0), (17, 33), (width - 64, height - 64), (SIDE - 20, SIDE - 30), (width - 10, 5)):
            seen, expected = (slide.pixels(level, x, y, 64, 64).astype(int) for slide in (one, other))
            assert np.abs(seen - expected).max() <= most, f"level {level} at {x}, {y}"
    for x, y, side, px in ((40.5, 60.25, 300, 75), (400, 100, 299.3, 64)):
        seen, expected = (slide.region(x, y, side, px).astype(int) for slide in (one, other))
        assert np.abs(seen - expected).max() <= most


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 0), ({"planar": True}, 0), ({"compression": "lzw", "predictor": True}, 0), ({"compression": "jpeg"}, 2)],
    ids=["deflate", "planar", "lzw", "jpeg"],
)
def test_levels_below_the_first_page_are_what_openslide_reads_of_pages(
    tmp_path: Path, levels: list[Pixels], options: dict[str, Any], most: int
) -> None:
    pages = {name: value for name, value in options.items() if name != "planar"}
    with (
        Slide(_write_ome(tmp_path / "a.ome.tiff", levels, **options)) as ours,
        Slide(_write_pages(tmp_path / "a.tiff", levels, **pages)) as theirs,
    ):
        assert (ours.reader, theirs.reader) == ("tifffile", "openslide")
        assert "level 0 proved equal" in ours.notes[0]
        _same(ours, theirs, most)


def test_tiles_of_an_ome_tiff_are_read_from_its_reductions(tmp_path: Path, levels: list[Pixels]) -> None:
    coords = np.array([[0, 0], [112, 224], [350, 100]], np.int64)
    seen = []
    for path in (_write_ome(tmp_path / "a.ome.tiff", levels), _write_pages(tmp_path / "a.tiff", levels)):
        tissue = np.ones(len(coords), np.float32)
        tiles = Tiles(SlideId("a"), path, coords, tissue, MPP, 4 * MPP, 56, 224.0, 0, 700, 500)
        with TileReader(path, tiles) as reader:
            seen.append(reader.read(slice(None)))
    assert np.array_equal(*seen)


def test_where_level_0_is_not_openslides_openslide_reads(
    tmp_path: Path, levels: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = by_tifffile.TiffSlide.pixels

    def brighter(self: by_tifffile.TiffSlide, *place: int) -> Pixels:
        return np.minimum(plain(self, *place), 245) + np.uint8(10)

    monkeypatch.setattr(by_tifffile.TiffSlide, "pixels", brighter)
    with Slide(_write_ome(tmp_path / "a.ome.tiff", levels)) as slide:
        assert slide.reader == "openslide"
        assert slide.level_downsamples == (1.0,)
        assert "and so do we: its pixels differ by 10" in slide.notes[0]


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "lzw"}, {"compression": "deflate", "predictor": True}, {"bigtiff": True}, {"byteorder": ">"}],
    ids=str,
)
def test_a_flat_tiff_is_read_in_strips(tmp_path: Path, levels: list[Pixels], options: dict[str, Any]) -> None:
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, levels[0], photometric="rgb", rowsperstrip=48, **TAGS, **options)
    with Slide(path) as slide:
        assert slide.reader == "tifffile"
        assert slide.mpp == pytest.approx(MPP)
        assert slide.mpp_source == "TIFF resolution tags"
        assert np.array_equal(slide.pixels(0, 30, 20, 300, 200), levels[0][20:220, 30:330])
        assert np.array_equal(slide.pixels(0, 690, 490, 20, 20)[10:, 10:], np.full((10, 10, 3), 255))


def test_a_big_endian_slide_is_read_and_how_to_rewrite_it_is_said(tmp_path: Path, levels: list[Pixels]) -> None:
    path = _write_pages(tmp_path / "big.tif", levels, byteorder=">", compression="jpeg")
    with Slide(path) as ours, Slide(_write_pages(tmp_path / "a.tif", levels, compression="jpeg")) as theirs:
        _same(ours, theirs, 2)
        assert "a big-endian TIFF, read by tifffile" in ours.notes[0]
        assert "tiffcp -L" in ours.notes[0]


def test_ome_tiff_that_openslide_refuses_states_its_resolution_in_xml(tmp_path: Path, levels: list[Pixels]) -> None:
    path = tmp_path / "a.ome.tiff"
    with tifffile.TiffWriter(path, ome=True) as file:
        sizes = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm"}
        file.write(levels[0], tile=(SIDE, SIDE), photometric="rgb", compression="jpeg2000", metadata=sizes)
    with Slide(path) as slide:
        assert slide.mpp == 0.5
        assert slide.mpp_source == "PhysicalSize of an OME description"
        assert np.array_equal(slide.pixels(0, 100, 100, 256, 256), levels[0][100:356, 100:356])


def test_of_several_images_the_largest_is_read_with_its_own_resolution(tmp_path: Path, levels: list[Pixels]) -> None:
    path = tmp_path / "a.ome.tiff"
    with tifffile.TiffWriter(path, ome=True) as file:
        for pixels, size in ((levels[2], 4.0), (levels[0], 0.5)):
            sizes = {"PhysicalSizeX": size, "PhysicalSizeY": size}
            file.write(pixels, tile=(SIDE, SIDE), photometric="rgb", compression="jpeg2000", metadata=sizes)
    with Slide(path) as slide:
        assert (slide.width, slide.height) == levels[0].shape[1::-1]
        assert slide.mpp == 0.5


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "deflate"])
def test_a_tile_that_ends_too_early_is_an_error_and_not_grey(
    tmp_path: Path, levels: list[Pixels], compression: str
) -> None:
    """tifffile itself shows grey for such a JPEG, and black for such an LZW."""
    path = _write_ome(tmp_path / "a.ome.tiff", levels, compression=compression)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0].aspage().pages[0]
        at, size = page.dataoffsets[2], page.databytecounts[2]
    data = bytearray(path.read_bytes())
    data[at + size // 2 : at + size] = (b"\xff\xd9" if compression == "jpeg" else b"\x80\x00").ljust(
        size - size // 2, b"\0"
    )
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"a\.ome\.tiff: can't be read by tifffile"), Slide(path) as slide:
        slide.pixels(1, 0, 0, *slide.level_sizes[1])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("channels", r"3 planes \(3 C.*one picture in colours"),
        ("cmyk", "4 channels of SEPARATED"),
        ("cut", "invalid page offset|ends too early"),
    ],
)
def test_what_is_not_one_picture_in_colours_is_refused_by_what_it_is(
    tmp_path: Path, levels: list[Pixels], kind: str, said: str
) -> None:
    path, image = tmp_path / "big.tif", levels[0]
    if kind == "channels":
        with tifffile.TiffWriter(path, ome=True, byteorder=">") as file:
            file.write(np.moveaxis(image, 2, 0), photometric="minisblack", metadata={"axes": "CYX"}, tile=(SIDE, SIDE))
    elif kind == "cmyk":
        inks = np.concatenate([255 - image, image[..., :1]], axis=2)
        tifffile.imwrite(path, inks, photometric="separated", byteorder=">", tile=(SIDE, SIDE), **TAGS)
    else:
        _write_pages(path, levels, byteorder=">")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 4 // 5])  # level 0 is whole
    with pytest.raises(SlideError, match=said) as told, Slide(path) as slide:
        slide.pixels(0, 0, 0, 700, 500)
    assert str(path) in str(told.value)


ORDERS = pytest.mark.parametrize("byteorder", ["<", ">"])
"""Little-endian files OpenSlide opens, of whatever they are; big-endian ones tifffile does."""


def _write_planes(path: Path, byteorder: str, *images: NDArray[Any], axes: str = "", halves: bool = False) -> Path:
    """OME-TIFF of images, tiled, each with the resolution that its place says: the first 16 µm, the next MPP."""
    with tifffile.TiffWriter(path, ome=True, byteorder=byteorder) as file:
        for number, image in enumerate(images, start=2 - len(images)):
            mpp = MPP if number else 16.0
            sizes: dict[str, Any] = {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp, **({"axes": axes} if axes else {})}
            kind = "rgb" if image.shape[-1] == 3 else "minisblack"
            options: dict[str, Any] = {"photometric": kind, "tile": (SIDE, SIDE), "compression": "deflate"}
            file.write(image, metadata=sizes, subifds=int(halves and number), **(TAGS if number else {}), **options)
            if halves and number:
                file.write(image[:, ::2, ::2] if "Z" in axes else image[::2, ::2], subfiletype=1, **options)
    return path


@ORDERS
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("channels", r"3 planes \(3 C.*one picture in colours"),
        ("deep channels", r"3 planes \(3 C.*one picture in colours"),
        ("stack in grey", r"3 planes \(3 Z"),
        ("deep grey", "one channel of 16 bits"),
        ("pages", "3 planes"),
        ("five channels", "5 channels of MINISBLACK"),
        ("numbers", "float32"),
        ("12 bits", "nothing brighter than 1[56] of 255.*Rewrite it in colours of 8 bits"),
    ],
)
def test_fluorescence_and_numbers_are_refused_by_name_when_opened(
    tmp_path: Path, levels: list[Pixels], kind: str, said: str, byteorder: Any
) -> None:
    """By `check`, which opens, as by `tile`, which reads."""
    path, channels = tmp_path / "a.tif", np.moveaxis(levels[0], 2, 0)
    options: dict[str, Any] = {"tile": (SIDE, SIDE), "metadata": None, "byteorder": byteorder, **TAGS}
    if kind in ("channels", "deep channels"):
        _write_planes(path, byteorder, channels.astype(np.uint16 if "deep" in kind else np.uint8), axes="CYX")
    elif kind == "stack in grey":
        _write_planes(path, byteorder, channels, axes="ZYX")
    elif kind == "deep grey":
        tifffile.imwrite(path, channels[0].astype(np.uint16) * 257, photometric="minisblack", **options)
    elif kind == "pages":
        with tifffile.TiffWriter(path, byteorder=options.pop("byteorder")) as file:
            for channel in channels:
                file.write(channel, photometric="minisblack", **options)
    elif kind == "five channels":
        five = np.concatenate([channels, channels[:2]])
        tifffile.imwrite(path, five, photometric="minisblack", planarconfig="separate", **options)
    elif kind == "numbers":
        tifffile.imwrite(path, levels[0].astype(np.float32), photometric="rgb", **options)
    else:
        tifffile.imwrite(path, levels[0].astype(np.uint16) << 4, photometric="rgb", **options)
    with pytest.raises(SlideError, match=said) as told:
        read_facts(path)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("kind", ["<", ">", "reductions", "png"])
def test_colours_of_16_bits_are_those_of_8_with_a_note(tmp_path: Path, levels: list[Pixels], kind: str) -> None:
    deep, path = levels[0].astype(np.uint16) * 257, tmp_path / "a.tif"
    if kind == "png":
        path = tmp_path / "a.png"
        path.write_bytes(imagecodecs.png_encode(deep))
    elif kind == "reductions":
        _write_ome(path, [level.astype(np.uint16) * 257 for level in levels])
    else:
        _write_pages(path, [deep], byteorder=kind)
    with Slide(path, MPP) as slide:
        assert any("16 bits a channel, not 8: the upper 8 are read" in note for note in slide.notes)
        for number, level in enumerate(levels[: len(slide.levels)]):
            height, width = level.shape[:2]
            assert np.array_equal(slide.pixels(number, 0, 0, width, height), level)
        assert len(slide.levels) == (3 if kind == "reductions" else 1)


@ORDERS
@pytest.mark.parametrize("halves", [False, True], ids=["flat", "reductions"])
def test_of_a_stack_of_planes_the_first_is_read_with_a_note(
    tmp_path: Path, levels: list[Pixels], byteorder: str, halves: bool
) -> None:
    stack = np.stack([levels[0], 255 - levels[0], levels[0] // 2])
    with Slide(_write_planes(tmp_path / "a.ome.tif", byteorder, stack, axes="ZYXS", halves=halves)) as slide:
        assert any("3 planes (3 Z" in note and "the first is read" in note for note in slide.notes)
        assert np.array_equal(slide.pixels(0, 30, 20, 400, 300), levels[0][20:320, 30:430])
        assert len(slide.levels) == 1 + halves


@ORDERS
@pytest.mark.parametrize("first", ["label", "larger label in grey", "another slide"])
@pytest.mark.parametrize("halves", [False, True], ids=["flat", "reductions"])
def test_a_label_before_the_slide_is_not_read_as_the_slide(
    tmp_path: Path, levels: list[Pixels], byteorder: str, first: str, halves: bool
) -> None:
    images = {"label": levels[2], "larger label in grey": levels[1][..., 0], "another slide": levels[0][:480, :690]}
    with Slide(_write_planes(tmp_path / "a.ome.tif", byteorder, images[first], levels[0], halves=halves)) as slide:
        assert (slide.width, slide.height) == levels[0].shape[1::-1]
        assert slide.mpp == MPP
        assert np.array_equal(slide.pixels(0, 30, 20, 400, 300), levels[0][20:320, 30:430])
        height, width = images[first].shape[:2]
        (note,) = (one for one in slide.notes if "is not read" in one)
        assert f"first image of the file, {width} × {height}" in note
        assert ("a slide too" in note) == (first == "another slide")


def test_a_generic_tiff_that_begins_with_another_page_is_read_by_its_largest(
    tmp_path: Path, levels: list[Pixels]
) -> None:
    """OpenSlide takes the first page, and of the others reductions only."""
    path, options = tmp_path / "a.tif", {"photometric": "rgb", "tile": (SIDE, SIDE), "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(np.full((300, 300, 3), 200, np.uint8), **options)
        for number, level in enumerate(levels):
            file.write(level, subfiletype=int(number > 0), **TAGS, **options)
    with Slide(path) as slide, Slide(_write_pages(tmp_path / "b.tif", levels)) as theirs:
        assert slide.level_sizes[0] == theirs.level_sizes[0]
        assert slide.mpp == pytest.approx(MPP)
        assert np.array_equal(slide.pixels(0, 0, 0, 700, 500), levels[0])
        assert any("OpenSlide reads another" in note for note in slide.notes)


def test_what_a_library_says_of_a_damaged_file_is_not_on_the_terminal(
    tmp_path: Path, levels: list[Pixels], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = _write_ome(tmp_path / "a.ome.tif", levels)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
    with pytest.raises(SlideError, match=r"a\.ome\.tif"):
        read_facts(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_picture_that_is_named_is_a_slide_by_its_stated_resolution(
    tmp_path: Path, levels: list[Pixels], ending: str
) -> None:
    path = tmp_path / f"P{ending}"
    Image.fromarray(levels[0]).save(path, dpi=(25400 / 0.5, 25400 / 0.5), quality=100, subsampling=0)
    with Slide(find_slides([path])["P"]) as slide:
        assert slide.reader == "Pillow"
        assert slide.mpp == pytest.approx(0.5, rel=1e-3)
        seen = slide.pixels(0, 50, 60, 200, 200).astype(int)
        assert np.abs(seen - levels[0][60:260, 50:250]).max() <= (0 if ending == ".png" else 12)
    with pytest.raises(NoSlidesError):
        find_slides([tmp_path])  # a folder of previews is none of slides
    Image.fromarray(levels[0]).save(path, dpi=(72, 72))
    with pytest.raises(MissingMppError, match=r"352.*header.*can't be.*--slide-mpp"):
        Slide(path)


def test_a_picture_of_another_kind_or_cut_short_is_refused(tmp_path: Path, levels: list[Pixels]) -> None:
    path = tmp_path / "P.png"
    Image.fromarray(np.dstack([levels[0], levels[0][..., :1]])).save(path)
    with pytest.raises(SlideError, match="PNG of mode RGBA"):
        Slide(path, 0.5)
    buffer = io.BytesIO()
    Image.fromarray(levels[0]).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue()[:4000])
    with pytest.raises(SlideError, match="a JPEG that can't be opened as a slide"):
        Slide(path, 0.5)


@pytest.mark.parametrize("compression", [33003, 33005])
def test_aperios_jpeg_2000_is_read(tmp_path: Path, levels: list[Pixels], compression: int) -> None:
    """33003 holds YCbCr without saying so in the JPEG 2000 itself, 33005 red, green and blue."""
    path = tmp_path / "A.svs"
    said = "Aperio Image Library v11.2.1\r\n700x500 (128x128) J2K/YUV16 Q=70|AppMag = 40|MPP = 0.25"
    image = levels[0]
    if compression == 33003:
        image = np.asarray(Image.fromarray(image).convert("YCbCr"))
    options: dict[str, Any] = {"tile": (SIDE, SIDE), "photometric": "rgb", "metadata": None, "description": said}
    tifffile.imwrite(path, image, compression=compression, **options)
    with Slide(path) as slide:
        assert (slide.reader, slide.mpp) == ("openslide", 0.25)
        seen = slide.pixels(0, 100, 100, 300, 300).astype(int)
    assert np.abs(seen - levels[0][100:400, 100:400]).max() <= (3 if compression == 33003 else 0)


def _rle(tile: Pixels) -> bytes:
    kind = {"photometric_interpretation": "RGB", "pixel_representation": 0, "number_of_frames": 1}
    bits = {"bits_allocated": 8, "bits_stored": 8, "samples_per_pixel": 3, "planar_configuration": 0}
    return bytes(RLELosslessEncoder.encode(tile, rows=SIDE, columns=SIDE, **kind, **bits))


_SYNTAXES: dict[str, tuple[str, Callable[[Pixels], bytes]]] = {
    "JPEG 2000": ("1.2.840.10008.1.2.4.90", lambda tile: imagecodecs.jpeg2k_encode(tile, codecformat="j2k", mct=False)),
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode),
    "JPEG XL": ("1.2.840.10008.1.2.4.110", lambda tile: imagecodecs.jpegxl_encode(tile, lossless=True)),
    "HTJ2K": ("1.2.840.10008.1.2.4.201", imagecodecs.htj2k_encode),
    "RLE": ("1.2.840.10008.1.2.5", _rle),
}


def _write_dicom(folder: Path, levels: Sequence[Pixels], syntax: str) -> Path:
    """A slide without loss, one instance a level."""
    uid, encode = _SYNTAXES[syntax]
    for number, level in enumerate(levels):
        path, (height, width) = folder / f"{number}.dcm", level.shape[:2]
        write_level(path, level, f"1.2.{uid}", MPP * 2**number, first=not number)
        dataset = pydicom.dcmread(path)
        padded = np.pad(level, ((0, -height % SIDE), (0, -width % SIDE), (0, 0)), constant_values=243)
        corners = [(y, x) for y in range(0, height, SIDE) for x in range(0, width, SIDE)]
        frames = [encode(np.ascontiguousarray(padded[y : y + SIDE, x : x + SIDE])) for y, x in corners]
        dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = width * MPP / 1000, height * MPP / 1000
        dataset.PhotometricInterpretation = "RGB"
        dataset.file_meta.TransferSyntaxUID = UID(uid)
        dataset.PixelData = encapsulate(frames)
        dataset.save_as(path, enforce_file_format=True)
    return folder / "0.dcm"


@pytest.mark.parametrize("syntax", ["JPEG-LS", "JPEG XL", "HTJ2K", "RLE"])
def test_dicom_that_openslide_refuses_is_what_it_reads_in_another_syntax(
    tmp_path: Path, levels: list[Pixels], syntax: str
) -> None:
    pytest.importorskip("wsidicom")
    with (
        Slide(_write_dicom(tmp_path / "a", levels, syntax)) as ours,
        Slide(_write_dicom(tmp_path / "b", levels, "JPEG 2000")) as theirs,
    ):
        assert (ours.reader, theirs.reader) == ("wsidicom", "openslide")
        _same(ours, theirs)


def _not_installed(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    plain = builtins.__import__

    def find(name: str, *rest: Any) -> Any:
        if name == package:
            raise ModuleNotFoundError(name)
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", find)


def test_dicom_says_its_transfer_syntax_and_what_would_read_it(
    tmp_path: Path, levels: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    _not_installed(monkeypatch, "wsidicom")
    path = _write_dicom(tmp_path / "a", levels[:1], "JPEG-LS")
    with pytest.raises(
        SlideError, match=r"DICOM in JPEG-LS Lossless.*4\.80.*pip install 'wsisurv\[wsidicom\]'.*rewrite"
    ):
        read_facts(path)


def test_a_format_that_needs_fastslide_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _not_installed(monkeypatch, "fastslide")
    for name, kind in (("A.vsi", "Olympus VSI"), ("B.isyntax", "Philips iSyntax")):
        (tmp_path / name).write_bytes(b"II*\0")
        with pytest.raises(SlideError, match=rf"{kind}.*fastslide does: pip install 'wsisurv\[fastslide\]'"):
            read_facts(tmp_path / name)


def test_fastslides_places_are_those_of_the_level_and_its_pixels_nearly_openslides(
    tmp_path: Path, levels: list[Pixels], make_slide: Callable[..., Path]
) -> None:
    pytest.importorskip("fastslide")
    path = make_slide(tmp_path / "A.tif", levels[0], mpp=MPP, levels=3)
    slide = registry._Packaged(path, FastSlide(path), "fastslide")
    with Slide(path) as ours:
        assert slide.level_dimensions == ours.level_sizes
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(ours.mpp)
        for level, (width, height) in enumerate(ours.level_sizes):
            for x, y in ((0, 0), (37, 21)):
                found = np.empty((width - x) * (height - y), np.uint32)
                slide.read_into(found, level, x, y, width - x, height - y)
                seen = found.view(np.uint8).reshape(height - y, width - x, 4)[..., 2::-1].astype(int)
                difference = np.abs(seen - ours.pixels(level, x, y, width - x, height - y))
                assert difference.mean() < 4, "this noise; another place is 20 off"
    slide.close()
