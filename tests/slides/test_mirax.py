"""MIRAX, a file beside a folder, of a scan that is a part of the stage: written by hand, read by OpenSlide."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mirax_writer import write_mirax
from numpy.typing import NDArray

from wsisurv.errors import SlideError
from wsisurv.formats.tiles import read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.find import find_slides
from wsisurv.slides.reader import Slide
from wsisurv.slides.tiles import TileReader
from wsisurv.tiling.step import tile
from wsisurv.workspace.paths import Workspace

PLACE = (8, 4)  # of the scan on its stage, tiles of 128 px
CORNER = (1024, 512)


@pytest.fixture
def drawn(draw_tissue: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return draw_tissue(1536, 1024)[:1024, :1536]


@pytest.fixture
def scan(tmp_path: Path, drawn: NDArray[np.uint8]) -> Path:
    return write_mirax(tmp_path / "slides" / "M.mrxs", drawn, origin=PLACE)


def test_tiles_of_a_mirax_slide_show_what_was_scanned(tmp_path: Path, scan: Path, drawn: NDArray[np.uint8]) -> None:
    assert find_slides([scan.parent]) == {"M": scan}
    with Slide(scan) as slide:
        assert slide.mpp == 0.25
        assert (slide.bounds.x, slide.bounds.y, slide.bounds.width, slide.bounds.height) == (*CORNER, 1536, 1024)
        assert slide.view(1.0).shape == (256, 384, 3)
    workspace = Workspace(tmp_path / "w")
    settings = TileSettings(tile_px=64, tile_mpp=0.5, min_piece_um2=0)
    summary = tile(workspace, [scan], settings, preview=False)
    assert summary.done == ["M"], summary.failed
    tiles, _ = read_tiles(workspace.tiles("M"))
    assert (tiles.bounds_x, tiles.bounds_y) == CORNER
    assert len(tiles.coords) > 20
    with Slide(scan) as slide, TileReader(scan, tiles) as reader:
        seen = reader.read(slice(0, len(tiles.coords)))
        for pixels, (x, y) in zip(seen, tiles.coords.tolist(), strict=True):
            part = drawn[y - CORNER[1] : y - CORNER[1] + 128, x - CORNER[0] : x - CORNER[0] + 128]
            halved = part.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
            assert np.abs(pixels - halved).mean() < 4
            assert np.abs(pixels.astype(int) - slide.region(x, y, 128, 64)).max() <= 3


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "Data0000.dat").write_bytes((folder / "Data0000.dat").read_bytes()[:20_000]),
        lambda folder: (folder / "Index.dat").write_bytes((folder / "Index.dat").read_bytes()[:100]),
        lambda folder: (folder / "Slidedat.ini").unlink(),
        lambda folder: (folder / "Data0000.dat").unlink(),
    ],
)
def test_half_of_a_mirax_slide_is_named_and_not_tiled(
    tmp_path: Path, scan: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(scan.with_suffix(""))
    workspace = Workspace(tmp_path / "w")
    summary = tile(workspace, [scan], preview=False)
    assert [failure.id for failure in summary.failed] == ["M"]
    assert "M.mrxs" in summary.failed[0].message
    assert workspace.tiled_slides() == []
    assert summary.failed[0].error == SlideError.__name__
