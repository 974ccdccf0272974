"""The fast path, on slides as scanners write them: tables apart, colours untold, tiles left out or damaged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from wsisurv.errors import SlideError
from wsisurv.formats.tiles import Tiles
from wsisurv.slides.reader import Slide
from wsisurv.slides.tiles import TileReader
from wsisurv.units import SlideId

MPP, TILE = 0.25, 128
WIDTH, HEIGHT = 900, 640
APERIO = "Aperio Image Library v12.0.15\r\n900x640 (128x128) JPEG/RGB Q=90|AppMag = 40|MPP = 0.2500"
PHILIPS = (
    '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
    '<Attribute Name="DICOM_MANUFACTURER" Group="0x0008" Element="0x0070" PMSVR="IString">PHILIPS</Attribute>'
    '<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray"><Array>'
    '<DataObject ObjectType="DPScannedImage">'
    '<Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" PMSVR="IString">WSI</Attribute>'
    '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" Element="0x8B01" '
    'PMSVR="IDataObjectArray"><Array>{levels}</Array></Attribute></DataObject></Array></Attribute></DataObject>'
)
PHILIPS_LEVEL = (
    '<DataObject ObjectType="PixelDataRepresentation">'
    '<Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
    "&quot;{spacing}&quot; &quot;{spacing}&quot;</Attribute></DataObject>"
)


@dataclass(frozen=True)
class Kind:
    """How a scanner writes."""

    vendor: str
    photometric: str = "ycbcr"
    tables_apart: bool = True
    markers: bool = False  # what tells colours in each JPEG
    description: str | None = None
    software: str | None = None
    filled_up: bool = False  # levels to whole tiles


KINDS = {
    "aperio-rgb": Kind("aperio", photometric="rgb", description=APERIO),
    "aperio-ycbcr": Kind("aperio", description=APERIO),
    "generic": Kind("generic-tiff", tables_apart=False, markers=True),
    "generic-rgb": Kind("generic-tiff", photometric="rgb", tables_apart=False, markers=True),
    "philips": Kind(
        "philips",
        description=PHILIPS.format(
            levels="".join(PHILIPS_LEVEL.format(spacing=MPP / 1000 * 2**level) for level in range(3))
        ),
        software="Philips DP v1.0",
        filled_up=True,
    ),
}


def segments(jpeg: bytes) -> Iterator[bytes]:
    """The parts of a JPEG after its start, each with its marker; the last holds all the rest."""
    at = 2
    while jpeg[at + 1] != 0xDA:
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        yield jpeg[at : at + length]
        at += length
    yield jpeg[at:]


def encode(picture: NDArray[np.uint8], kind: Kind) -> tuple[bytes, bytes]:
    """A tile's JPEG, and its tables where they are apart."""
    colour = {"rgb": {"outcolorspace": "rgb"}, "ycbcr": {"outcolorspace": "ycbcr", "subsampling": "420"}}
    jpeg = imagecodecs.jpeg_encode(picture, level=90, colorspace="rgb", **colour[kind.photometric])
    parts = list(segments(jpeg))
    tables = [part for part in parts if part[1] in (0xDB, 0xC4)] if kind.tables_apart else []
    kept = [part for part in parts if part not in tables and (kind.markers or part[1] & 0xF0 != 0xE0)]
    return b"\xff\xd8" + b"".join(kept), b"\xff\xd8" + b"".join(tables) + b"\xff\xd9"


def write(
    path: Path, image: NDArray[np.uint8], kind: Kind, left_out: tuple[tuple[int, int], ...] = (), levels: int = 3
) -> Path:
    """Write a pyramid; ``left_out`` names (level, number) of tiles that are not there."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(levels):
            height, width = image.shape[:2]
            rows, columns = -(-height // TILE), -(-width // TILE)
            whole = np.pad(image, ((0, rows * TILE - height), (0, columns * TILE - width), (0, 0)), mode="edge")
            coded = [
                encode(np.ascontiguousarray(whole[y * TILE :, x * TILE :][:TILE, :TILE]), kind)
                for y in range(rows)
                for x in range(columns)
            ]
            options: dict[str, Any] = {"subsampling": (2, 2)} if kind.photometric == "ycbcr" else {}
            if kind.tables_apart:
                options["jpegtables"] = coded[0][1]
            file.write(
                (b"" if (level, number) in left_out else data for number, (data, _) in enumerate(coded)),
                shape=(rows * TILE, columns * TILE, 3) if kind.filled_up else (height, width, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric=kind.photometric,
                compression="jpeg",
                subfiletype=int(level > 0),
                resolution=(1e4 / MPP / 2**level, 1e4 / MPP / 2**level),
                resolutionunit="CENTIMETER",
                description=kind.description if level == 0 or kind.vendor == "aperio" else None,
                software=kind.software or False,
                metadata=None,
                **options,
            )
            image = np.asarray(Image.fromarray(image).reduce(2))
    tell_colours(path, tifffile.PHOTOMETRIC[kind.photometric.upper()])  # tifffile says YCbCr of any JPEG
    return path


def tell_colours(path: Path, photometric: int) -> None:
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            page.tags["PhotometricInterpretation"].overwrite(photometric)


@pytest.fixture(scope="module")
def image(draw_tissue: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return draw_tissue(WIDTH, HEIGHT, seed=4)


def grid(path: Path, tile_mpp: float = 0.25, tile_px: int = 96) -> Tiles:
    side = int(tile_px * tile_mpp / MPP)
    coords = [(x, y) for y in range(0, HEIGHT, side) for x in range(0, WIDTH, side)]
    tissue = np.ones(len(coords), np.float32)
    return Tiles(
        SlideId("S"), path, np.array(coords, np.int64), tissue, MPP, tile_mpp, tile_px, side, 0, WIDTH, HEIGHT
    )  # fmt: skip


def both(path: Path, tiles: Tiles) -> tuple[NDArray[np.int64], TileReader]:
    """How far apart the two ways are in each tile, and the direct reader, closed."""
    with TileReader(path, tiles, decoder="openslide") as reader, TileReader(path, tiles) as direct:
        difference = np.abs(reader.read(slice(None)).astype(int) - direct.read(slice(None)))
    return difference.max(axis=(1, 2, 3)), direct


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("tile_mpp", [0.25, 0.5, 1.0])
def test_what_scanners_write_is_decoded_directly_and_equal(
    name: str, tile_mpp: float, image: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = write(tmp_path / "S.tiff", image, KINDS[name])
    with Slide(path, MPP) as slide:
        assert slide.properties["openslide.vendor"] == KINDS[name].vendor
        assert slide.level_downsamples == (1, 2, 4)
    apart, direct = both(path, grid(path, tile_mpp))
    assert (direct.decoder, direct.why) == ("jpeg", "regions of it are equal to OpenSlide's")
    assert apart.max() <= 2


@pytest.mark.parametrize("name", ["aperio-rgb", "generic", "philips"])
@pytest.mark.parametrize("left_out", [((0, 9), (0, 10)), ((1, 3), (1, 5)), ((0, 20), (1, 3), (2, 0))])
def test_a_tile_that_is_left_out_is_what_openslide_says(
    name: str, left_out: tuple[tuple[int, int], ...], image: NDArray[np.uint8], tmp_path: Path
) -> None:
    """White at the finest level; Aperio's coarser levels are drawn from finer ones, and white where those are."""
    path = write(tmp_path / "S.tiff", image, KINDS[name], left_out)
    for level in range(3):
        tiles = grid(path, MPP * 2**level, 96 // 2**level)
        apart, direct = both(path, tiles)
        assert apart.max() <= 2
        finer_are_there = not any(other < level for other, _ in left_out)
        assert direct.decoder == ("jpeg" if name != "aperio-rgb" or finer_are_there else "openslide")


def test_half_the_scale_where_no_level_has_it(image: NDArray[np.uint8], tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(image).resize((90, 64)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    path = write(tmp_path / "S.tiff", smooth, KINDS["generic"], left_out=((0, 9),), levels=1)
    tiles = grid(path, 2 * MPP, 64)  # each is a tile of the file
    apart = {}
    with TileReader(path, tiles, decoder="openslide") as reader:
        expected = reader.read(slice(None)).astype(int)
    for decoder in ("jpeg", "jpeg-half"):
        with TileReader(path, tiles, decoder=decoder) as reader:  # type: ignore[arg-type]
            assert reader.decoder == decoder
            pixels = reader.read(slice(None))
            assert (pixels[9] == 255).all()
            apart[decoder] = np.abs(pixels - expected)
    assert apart["jpeg"].max() <= 2
    assert 0 < apart["jpeg-half"].mean() < 0.5  # no shift: that would be more on what changes so smoothly
    shifted = np.abs(np.roll(pixels, 1, axis=2) - expected)[:, :, 1:]
    assert shifted.mean() > 2 * apart["jpeg-half"].mean()


def test_half_the_scale_is_not_asked_of_a_level_that_is_too_coarse(image: NDArray[np.uint8], tmp_path: Path) -> None:
    path = write(tmp_path / "S.tiff", image, KINDS["generic"])
    for tile_mpp in (0.25, 0.5, 1.0, 1.9, 2.0):
        with TileReader(path, grid(path, tile_mpp, 20), decoder="jpeg-half") as reader:
            assert reader.decoder == ("jpeg-half" if tile_mpp == 2 else "jpeg")
            assert tile_mpp == 2 or "too coarse" in reader.why


def test_colours_told_wrongly_are_left_to_openslide(image: NDArray[np.uint8], tmp_path: Path) -> None:
    """The tag says RGB, each JPEG says YCbCr: OpenSlide believes the tag."""
    kind = Kind("generic-tiff", photometric="ycbcr", tables_apart=False, markers=True)
    path = write(tmp_path / "S.tiff", image, kind)
    tell_colours(path, tifffile.PHOTOMETRIC.RGB)
    apart, direct = both(path, grid(path))
    assert direct.decoder == "openslide"
    assert "differ from OpenSlide's by" in direct.why
    assert apart.max() == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_an_error_wherever_openslide_says_so_and_never_other_pixels(
    data: st.DataObject, image: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damage"
    folder.mkdir(exist_ok=True)
    whole = folder / "whole.tiff"
    if not whole.exists():
        write(whole, image[:512, :512], KINDS["aperio-rgb"])
    with tifffile.TiffFile(whole) as file:
        page = file.pages[0]
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    number = data.draw(st.integers(0, len(places) - 1), "tile")  # four of the sixteen are compared at opening
    offset, size = places[number]
    start = data.draw(st.integers(0, size - 1), "start")
    damage = data.draw(
        st.one_of(
            st.binary(min_size=1, max_size=40),
            st.sampled_from([20, 100, 5000]).map(bytes),
            st.just(b"\xff\xd9"),
            st.just(b"\xff" * 50),
        ),
        "damage",
    )[: size - start]
    content = bytearray(whole.read_bytes())
    content[offset + start : offset + start + len(damage)] = damage
    path = folder / "damaged.tiff"
    path.write_bytes(content)
    coords = np.array([(x, y) for y in range(0, 512, 128) for x in range(0, 512, 128)], np.int64)
    tiles = Tiles(SlideId("S"), path, coords, np.ones(16, np.float32), MPP, MPP, 128, 128.0, 0, 512, 512)
    found: list[NDArray[np.uint8] | None] = []
    for decoder in ("openslide", "auto"):
        try:
            with TileReader(path, tiles, decoder=decoder) as reader:  # type: ignore[arg-type]
                found.append(reader.read(slice(number, number + 1)))
        except SlideError:
            found.append(None)
    expected, direct = found
    if expected is None or direct is None:
        assert expected is direct
    else:
        assert np.array_equal(direct, expected)


def test_a_file_cut_while_it_is_read_is_a_slide_error(image: NDArray[np.uint8], tmp_path: Path) -> None:
    path = write(tmp_path / "S.tiff", image, KINDS["generic"])
    tiles = grid(path)
    with TileReader(path, tiles) as reader:
        assert reader.decoder == "jpeg"
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 20)
        with pytest.raises(SlideError, match=r"S\.tiff.*OpenSlide"):
            reader.read(slice(None))
