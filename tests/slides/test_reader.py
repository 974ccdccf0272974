import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from openslide import lowlevel
from PIL import Image

from wsisurv.errors import MissingMppError, SlideError
from wsisurv.formats.tiles import Tiles
from wsisurv.slides import reader
from wsisurv.slides.reader import Slide, read_tiles
from wsisurv.units import SlideId

WIDTH, HEIGHT = 1200, 904
MPP = 0.5


def ramps() -> NDArray[np.uint8]:
    """Red rises along x, green along y: a pixel tells where it is."""
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return np.rint(np.stack([x / WIDTH, y / HEIGHT, 0 * x], axis=-1) * 250).astype(np.uint8)


@pytest.fixture(scope="module")
def ramp_slide(make_slide: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_slide(tmp_path_factory.mktemp("ramp") / "ramp.tiff", ramps(), mpp=MPP, compression="deflate")


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (600, 800, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def noise_slide(
    make_slide: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, noise: NDArray[np.uint8]
) -> Path:
    return make_slide(tmp_path_factory.mktemp("noise") / "noise.tiff", noise, mpp=MPP, levels=1, compression="deflate")


def test_a_slide_tells_its_size_and_resolution(ramp_slide: Path) -> None:
    with Slide(ramp_slide) as slide:
        assert (slide.width, slide.height, slide.mpp) == (WIDTH, HEIGHT, MPP)
        assert slide.level_downsamples == (1, 2, 4)
    with Slide(ramp_slide, slide_mpp=0.3) as slide:
        assert slide.mpp == 0.3


def test_a_region_at_the_resolution_of_the_scan_is_the_scan_itself(noise_slide: Path, noise: NDArray[np.uint8]) -> None:
    with Slide(noise_slide) as slide:
        assert np.array_equal(slide.region(37, 51, 224, 224), noise[51:275, 37:261])


def test_a_region_at_the_resolution_of_a_level_is_that_level(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    image = np.random.default_rng(2).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    halved = np.rint(image.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))).astype(np.uint8)
    with Slide(make_slide(tmp_path / "a.tiff", image, levels=2, compression="deflate")) as slide:
        assert np.array_equal(slide.region(40, 60, 200, 100), halved[30:130, 20:120])


@settings(max_examples=60, deadline=None)
@given(x=st.floats(0, WIDTH - 400), y=st.floats(0, HEIGHT - 400), side=st.floats(50, 400), out_px=st.integers(16, 128))
def test_a_region_shows_the_place_it_names(ramp_slide: Path, x: float, y: float, side: float, out_px: int) -> None:
    with Slide(ramp_slide) as slide:
        region = slide.region(x, y, side, out_px).astype(float)
    centres = (np.arange(out_px) + 0.5) * side / out_px
    assert np.abs(region[:, :, 0].mean(axis=0) - (x + centres) / WIDTH * 250).max() < 1.5
    assert np.abs(region[:, :, 1].mean(axis=1) - (y + centres) / HEIGHT * 250).max() < 1.5


def test_a_region_beside_the_slide_is_white_and_one_at_its_edge_is_not(
    make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    black = np.zeros((300, 300, 3), np.uint8)
    with Slide(make_slide(tmp_path / "a.tiff", black, levels=1, compression="deflate")) as slide:
        assert (slide.region(-500, -500, 100, 50) == 255).all()
        assert (slide.region(200.4, 199.7, 99.6, 50) == 0).all()
        straddling = slide.region(-50, 0, 100, 100)
        assert (straddling[:, :48] == 255).all()
        assert (straddling[:, 52:] == 0).all()


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.7, 1.0, 3.0, 8.0, 50.0])
def test_a_view_is_at_exactly_the_resolution_asked(ramp_slide: Path, mpp: float) -> None:
    scale = mpp / MPP
    with Slide(ramp_slide) as slide:
        view = slide.view(mpp).astype(float)
    assert view.shape == (int(np.ceil(HEIGHT / scale)), int(np.ceil(WIDTH / scale)), 3)
    whole = int(WIDTH / scale)
    centres = (np.arange(whole) + 0.5) * scale
    assert np.abs(view[:, :whole, 0].mean(axis=0) - centres / WIDTH * 250).max() < 1.5


@pytest.mark.parametrize("mpp", [0.5, 1.3, 4.0])
def test_a_view_does_not_depend_on_the_blocks_it_is_read_in(
    noise_slide: Path, mpp: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Slide(noise_slide) as slide:
        whole = slide.view(mpp).astype(int)
        monkeypatch.setattr(reader, "_BLOCK_PX", 130)
        blocks = slide.view(mpp).astype(int)
    assert np.abs(whole - blocks).max() <= 1


def test_a_view_of_a_white_slide_is_white_to_its_last_row(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    grey = np.full((501, 333, 3), 100, np.uint8)
    with Slide(make_slide(tmp_path / "a.tiff", grey, compression="deflate")) as slide:
        assert (slide.view(7.3) == 100).all()


def test_read_tiles_gives_each_tile_as_its_region(ramp_slide: Path) -> None:
    coords = np.array([[0, 0], [303, 0], [0, 303], [606, 303]], np.int64)
    tiles = Tiles(
        SlideId("ramp"), ramp_slide, coords, np.ones(4, np.float32), MPP, 1.0, 150, 300.0, 0, WIDTH, HEIGHT
    )  # fmt: skip
    with Slide(ramp_slide) as slide:
        pixels = read_tiles(slide, tiles)
        assert pixels.shape == (4, 150, 150, 3)
        assert pixels.dtype == np.uint8
        assert all(np.array_equal(pixels[i], slide.region(*coords[i], 300.0, 150)) for i in range(4))
        assert np.array_equal(read_tiles(slide, tiles, slice(1, 3)), pixels[1:3])
        assert read_tiles(slide, tiles, slice(4, None)).shape == (0, 150, 150, 3)


def test_no_resolution_names_the_file_and_the_way_out(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    path = make_slide(tmp_path / "bare.tiff", (300, 300), mpp=None)
    with pytest.raises(MissingMppError, match=r"bare\.tiff.*--slide-mpp"):
        Slide(path)
    with Slide(path, slide_mpp=0.25) as slide:
        assert slide.mpp == 0.25


def test_a_resolution_of_a_screen_is_none(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(MissingMppError, match="352"):
        Slide(make_slide(tmp_path / "dpi.tiff", (300, 300), mpp=25400 / 72))


def test_pixels_that_are_not_square_are_refused(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"0\.5 .*0\.6"):
        Slide(make_slide(tmp_path / "a.tiff", (300, 300), mpp=(0.5, 0.6)))
    with Slide(make_slide(tmp_path / "b.tiff", (300, 300), mpp=(0.5, 0.502))) as slide:
        assert slide.mpp == pytest.approx(0.501)


@settings(max_examples=40, deadline=None)
@given(
    left=st.integers(-300, 900),
    top=st.integers(-300, 700),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    level=st.integers(0, 1),
)
def test_pixels_are_those_of_openslide_s_package_over_white(
    open_slides: tuple[Slide, openslide.OpenSlide], left: int, top: int, width: int, height: int, level: int
) -> None:
    """One slide for all of them: nothing of the read before may show."""
    ours, theirs = open_slides
    downsample = theirs.level_downsamples[level]
    image = theirs.read_region((round(left * downsample), round(top * downsample)), level, (width, height))
    expected = np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
    found = ours.pixels(level, left, top, width, height)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.fixture(scope="module")
def open_slides(
    make_slide: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, noise: NDArray[np.uint8]
) -> Iterator[tuple[Slide, openslide.OpenSlide]]:
    """An odd side, halved: OpenSlide's pixels at the end of that level are transparent in part."""
    path = make_slide(tmp_path_factory.mktemp("odd") / "odd.tiff", noise[:599, :797], levels=2, compression="deflate")
    with Slide(path) as ours, openslide.OpenSlide(path) as theirs:
        yield ours, theirs


@pytest.mark.parametrize("content", [b"", b"no slide at all"])
def test_what_is_no_slide_is_a_slide_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.svs"
    path.write_bytes(content)
    with pytest.raises(SlideError, match=r"a\.svs.*OpenSlide"):
        Slide(path)


def test_damage_inside_is_told_at_reading_and_again_after(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tiff", (1500, 1500), levels=1)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : 2 * len(content) // 3] = bytes(len(content) // 3)
    path.write_bytes(content)
    with Slide(path) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match=r"a\.tiff.*OpenSlide: .*[Jj][Pp][Ee][Gg]"):
                slide.view(4.0)


def test_a_slide_is_closed_only_after_a_read_in_another_thread(
    ramp_slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSlide aborts the whole process otherwise; Ctrl-C beside a thread that reads ahead brings it about."""
    slide = Slide(ramp_slide)
    order: list[str] = []
    begun = threading.Event()
    read_region = lowlevel._read_region

    def slow_read_region(*args: Any) -> None:
        begun.set()
        time.sleep(0.2)
        read_region(*args)
        order.append("read")

    monkeypatch.setattr(lowlevel, "_read_region", slow_read_region)
    reading = threading.Thread(target=lambda: slide.region(0, 0, 100, 100))
    reading.start()
    begun.wait()
    slide.close()
    order.append("closed")
    reading.join()
    assert order == ["read", "closed"]
    with pytest.raises(SlideError, match="closed"):
        slide.region(0, 0, 100, 100)
