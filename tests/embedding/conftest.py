"""A workspace with tiled slides, and encoders that do as a test wants."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsisurv.embedding import one_device
from wsisurv.formats.features import Making
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import FORMAT, Tiles, write_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.find import slide_fingerprint
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

AddSlide = Callable[..., Tiles]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


@pytest.fixture
def add_slide(workspace: Workspace, tmp_path: Path, make_slide: Callable[..., Path]) -> AddSlide:
    """``add_slide(id, n_tiles=6, tile_px=64, tile_mpp=0.5, mpp=0.5)``: a slide with tiles laid over its middle."""

    def add(
        slide_id: str, n_tiles: int = 6, tile_px: int = 64, tile_mpp: float = 0.5, mpp: float | None = 0.5
    ) -> Tiles:
        path = make_slide(tmp_path / "slides" / f"{slide_id}.tif", (400, 300), mpp=mpp)
        settings = TileSettings(tile_px=tile_px, tile_mpp=tile_mpp, slide_mpp=0.5 if mpp is None else None)
        step_px = np.arange(n_tiles)
        tiles = Tiles(
            slide_id=SlideId(slide_id),
            slide_path=path,
            coords=np.stack([100 + 64 * (step_px % 3), 80 + 64 * (step_px // 3)], axis=1).astype(np.int64),
            tissue=np.ones(n_tiles, np.float32),
            mpp=0.5,
            tile_mpp=tile_mpp,
            tile_px=tile_px,
            tile_level0_px=tile_px * tile_mpp / 0.5,
            overlap_px=0,
            level0_width=400,
            level0_height=300,
        )
        write_tiles(workspace.tiles(slide_id), tiles, make_header(FORMAT, settings, {"slide": slide_fingerprint(path)}))
        return tiles

    return add


class FakeEncoder:
    """``features(tiles, tile_mpp)`` gives the features; ``batches`` are the sizes that were asked for."""

    name, n_features, names, making = "histomics", 2, (), Making(device="fake")
    units = definitions = ()

    def __init__(self, features: Callable[[NDArray[np.uint8], float], Any], in_flight: int = 2) -> None:
        self.features, self.in_flight = features, in_flight
        self.batches: list[int] = []
        self.closed = False

    def buffer(self, n_tiles: int, side: int) -> NDArray[np.uint8]:
        return np.empty((n_tiles, side, side, 3), np.uint8)

    def find_batch_size(self, side: int) -> int:
        del side
        return 4

    def submit(self, tiles: NDArray[np.uint8], tile_mpp: float) -> Callable[[], NDArray[np.float32]]:
        self.batches.append(len(tiles))
        values = np.asarray(self.features(tiles, tile_mpp), np.float32)
        return lambda: values

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def use_encoder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeEncoder]:
    """``use_encoder(features, in_flight=2)``: what ``embed`` uses from now on, whatever encoder is asked for."""

    def use(features: Callable[[NDArray[np.uint8], float], Any], in_flight: int = 2) -> FakeEncoder:
        encoder = FakeEncoder(features, in_flight)
        monkeypatch.setattr(one_device, "build", lambda *_: encoder)
        return encoder

    return use
