import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.errors import SlideError
from wsisurv.formats.tiles import Tiles
from wsisurv.slides import tiles as module
from wsisurv.slides.reader import Slide, read_tiles
from wsisurv.slides.tiles import TileReader
from wsisurv.units import SlideId

MakeSlide = Callable[..., Path]
WIDTH, HEIGHT = 1104, 912
ROUNDING = 3  # grey levels: either way rounds weights, and bytes after each direction of resampling
JPEG_ROUNDING = 2
needs_real_slide = pytest.mark.skipif(
    "WSISURV_REAL_SLIDE" not in os.environ, reason="WSISURV_REAL_SLIDE names no slide of a scanner"
)


def places(
    path: Path, coords: list[tuple[int, int]], mpp: float, tile_mpp: float, tile_px: int, size: tuple[int, int]
) -> Tiles:
    table = np.array(coords, np.int64).reshape(-1, 2)
    tissue = np.ones(len(table), np.float32)
    return Tiles(SlideId("S"), path, table, tissue, mpp, tile_mpp, tile_px, tile_px * tile_mpp / mpp, 0, *size)


def apart(tiles: Tiles, decoder: str, rows: slice = slice(None)) -> int:
    """How far, at most, the pixels are from those of the authority."""
    with Slide(tiles.slide_path, tiles.mpp) as slide, TileReader(tiles.slide_path, tiles, decoder=decoder) as reader:  # type: ignore[arg-type]
        pixels = reader.read(rows)
        assert pixels.dtype == np.uint8
        difference = np.abs(pixels.astype(int) - read_tiles(slide, tiles, rows))
        return int(difference.max(initial=0))


@pytest.fixture(scope="module")
def slide(make_slide: MakeSlide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Levels of exactly 1, 2 and 4."""
    return make_slide(tmp_path_factory.mktemp("tiles") / "S.tiff", (WIDTH, HEIGHT), mpp=0.25, tile=128)


@pytest.mark.parametrize("decoder", ["openslide", "auto"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_tiles_are_as_the_authority_reads_them(slide: Path, decoder: str, data: st.DataObject) -> None:
    """Any place, over the edges too, any order, any resolution, and so any level, up to where it is a whole one."""
    mpp = data.draw(st.sampled_from([0.25, 0.2527, 0.2485]), "mpp")
    tile_mpp = data.draw(st.sampled_from([0.25, 0.5, 0.44, 1.0, 1.37]), "tile_mpp")
    tile_px = data.draw(st.sampled_from([32, 56, 75]), "tile_px")
    step = data.draw(st.sampled_from([1, 37, 112, 224]), "step")
    corner = st.tuples(st.integers(-300, WIDTH + 100), st.integers(-300, HEIGHT + 100))
    x, y = data.draw(corner, "corner")
    grid = [(x + step * column, y + step * row) for row in range(3) for column in range(3)]
    coords = data.draw(st.permutations(grid + data.draw(st.lists(corner, max_size=3), "others")), "coords")
    tiles = places(slide, coords, mpp, tile_mpp, tile_px, (WIDTH, HEIGHT))
    assert apart(tiles, decoder) <= ROUNDING + (JPEG_ROUNDING if decoder == "auto" else 0)


@pytest.mark.parametrize("decoder", ["openslide", "auto", "jpeg-half"])
def test_pixels_do_not_depend_on_how_many_are_read_at_once(
    slide: Path, decoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    coords = [(int(x), int(y)) for x, y in random.integers(-50, 900, (23, 2))]
    tiles = places(slide, coords, 0.25, 0.5, 64, (WIDTH, HEIGHT))
    monkeypatch.setattr(module, "_WORK_BYTES", 5 * 3 * 129**2)
    with TileReader(slide, tiles, decoder=decoder) as reader:  # type: ignore[arg-type]
        whole = reader.read(slice(None))
        assert whole.shape == (23, 64, 64, 3)
        for size in (1, 4, 10):
            parts = [reader.read(slice(start, start + size)) for start in range(0, 23, size)]
            assert np.array_equal(np.concatenate(parts), whole)
        assert np.array_equal(reader.read(slice(5, 1, -2)), whole[5:1:-2])
        assert reader.read(slice(23, None)).shape == (0, 64, 64, 3)
        target = np.zeros((3, 64, 64, 3), np.uint8)
        assert reader.read(slice(7, 10), out=target) is target
        assert np.array_equal(target, whole[7:10])


@pytest.mark.parametrize("decoder", ["openslide", "auto"])
def test_a_twin_reads_the_same_and_outlives_the_first(slide: Path, decoder: str) -> None:
    tiles = places(slide, [(10, 20), (300, 400)], 0.25, 0.5, 64, (WIDTH, HEIGHT))
    with TileReader(slide, tiles, decoder=decoder) as reader:  # type: ignore[arg-type]
        twin = reader.twin()
        expected = reader.read(slice(None))
    with twin:
        assert (twin.decoder, twin.why) == (reader.decoder, reader.why)
        assert np.array_equal(twin.read(slice(None)), expected)


@pytest.mark.parametrize("decoder", ["openslide", "auto"])
def test_what_lies_beside_a_slide_is_white_and_its_last_pixels_are_not(
    make_slide: MakeSlide, tmp_path: Path, decoder: str
) -> None:
    path = make_slide(tmp_path / "grey.tiff", np.full((500, 700, 3), 100, np.uint8), mpp=0.25)
    coords = [(-224, 0), (700, 500), (-112, -112), (700 - 448, 500 - 448), (588, 388)]
    tiles = places(path, coords, 0.25, 0.5, 224, (700, 500))
    with TileReader(path, tiles, decoder=decoder) as reader:  # type: ignore[arg-type]
        left, beside, corner, inside, last = reader.read(slice(None))
    assert (beside == 255).all()
    assert (left[:, :111] == 255).all()
    assert (np.abs(inside.astype(int) - 100) < 15).all()  # what the file's own JPEG tiles hold beyond the edge rings
    assert (corner[:55] == 255).all()
    assert (corner[58:, 58:] == 100).all()
    assert (np.abs(last[:54, :54].astype(int) - 100) < 15).all()
    assert (last[58:] == 255).all()


def test_a_level_of_no_whole_downsample_is_read_in_its_place(make_slide: MakeSlide, tmp_path: Path) -> None:
    """Halved from an odd size: OpenSlide says 2.003, and interpolates."""
    x, y = np.meshgrid(np.arange(901) / 901, np.arange(703) / 703)
    path = make_slide(tmp_path / "odd.tiff", np.rint(np.stack([x, y, 0 * x], -1) * 250).astype(np.uint8), mpp=0.25)
    coords = [(x, y) for y in (0, 131, 401) for x in (0, 203, 611)]
    tiles = places(path, coords, 0.25, 0.5, 112, (901, 703))
    with Slide(path) as slide:
        assert slide.level_downsamples[1] not in (1, 2)
    for decoder in ("openslide", "auto"):
        assert apart(tiles, decoder) <= ROUNDING + JPEG_ROUNDING  # a ramp of 250 levels over 900 px


def test_tiles_between_pixels_of_a_level_are_resampled_to_their_place(make_slide: MakeSlide, tmp_path: Path) -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[:, 200:] = 250
    path = make_slide(tmp_path / "edge.tiff", image, mpp=0.25, levels=2, compression="deflate")
    tiles = places(path, [(100, 0), (101, 0), (102, 0)], 0.25, 0.5, 64, (400, 400))
    with TileReader(path, tiles) as reader:
        edges = 64 - reader.read(slice(None))[:, :, :, 0].astype(float).mean(axis=1).sum(axis=1) / 250
    np.testing.assert_allclose(edges, [50, 49.5, 49], atol=0.02)


def test_no_tiles_are_an_empty_array(slide: Path) -> None:
    tiles = places(slide, [], 0.25, 0.5, 224, (WIDTH, HEIGHT))
    with TileReader(slide, tiles) as reader:
        assert (reader.decoder, reader.why) == ("openslide", "there are no tiles")
        assert reader.read(slice(None)).shape == (0, 224, 224, 3)


def test_a_reader_says_what_reads_and_why(slide: Path, make_slide: MakeSlide, tmp_path: Path) -> None:
    deflated = make_slide(tmp_path / "S.tiff", (600, 600), mpp=0.25, compression="deflate")
    for path, size, decoder, why in (
        (slide, (WIDTH, HEIGHT), "openslide", "asked for"),
        (deflated, (600, 600), "auto", "JPEG"),
    ):
        tiles = places(path, [(100, 100)], 0.25, 0.5, 64, size)
        with TileReader(path, tiles, decoder=decoder) as reader:  # type: ignore[arg-type]
            assert reader.decoder == "openslide"
            assert re.search(why, reader.why)
    with pytest.raises(SlideError, match=r"S\.tiff.*directly"):
        TileReader(deflated, tiles, decoder="jpeg")


def test_a_slide_that_is_gone_or_cut_is_a_slide_error(slide: Path, tmp_path: Path) -> None:
    tiles = places(slide, [(100, 100)], 0.25, 0.5, 64, (WIDTH, HEIGHT))
    with pytest.raises(SlideError, match="gone"):
        TileReader(tmp_path / "gone.tiff", tiles)
    cut = tmp_path / "cut.tiff"
    cut.write_bytes(slide.read_bytes()[:2000])
    with pytest.raises(SlideError, match="cut"):
        TileReader(cut, tiles)


@needs_real_slide
@pytest.mark.parametrize("decoder", ["openslide", "auto"])
@pytest.mark.parametrize(("mpp", "tile_mpp"), [(0.499, 0.5), (0.25, 0.5), (0.2527, 0.5), (0.25, 0.25)])
def test_tiles_of_a_scanner_s_slide_are_as_the_authority_reads_them(decoder: str, mpp: float, tile_mpp: float) -> None:
    path = Path(os.environ["WSISURV_REAL_SLIDE"])
    with Slide(path) as slide:
        size = slide.width, slide.height
    random = np.random.default_rng(6)
    coords = [(int(random.integers(size[0])), int(random.integers(size[1]))) for _ in range(12)]
    assert apart(places(path, coords, mpp, tile_mpp, 224, size), decoder) <= ROUNDING + JPEG_ROUNDING
