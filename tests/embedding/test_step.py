"""The step: what is written, kept, refused and left after an interruption."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsisurv.embedding import step
from wsisurv.embedding.histomics import COLUMNS, histomics
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.errors import InputError, SettingsError, StaleError
from wsisurv.formats.features import read_features
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import FORMAT, Tiles, write_tiles
from wsisurv.settings import EmbedSettings, TileSettings
from wsisurv.slides.reader import Slide
from wsisurv.slides.reader import read_tiles as read_pixels
from wsisurv.units import SlideId
from wsisurv.workspace import Workspace, read_failures

AddSlide = Callable[..., Tiles]
HISTOMICS = EmbedSettings()
TINY = EmbedSettings(encoder="timm:test_vit", weights="random")


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
        write_tiles(workspace.tiles(slide_id), tiles, make_header(FORMAT, settings, {"slide": slide_id}))
        return tiles

    return add


def files(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.root / "features").rglob("*") if path.is_file())


def test_features_are_those_of_the_tiles_and_say_how_they_were_made(workspace: Workspace, add_slide: AddSlide) -> None:
    tiles = add_slide("a")
    add_slide("b", n_tiles=2)
    summary = embed(workspace, HISTOMICS)
    assert (summary.done, summary.failed, summary.notes) == (["a", "b"], [], [])
    features, header = read_features(workspace.features("histomics", "a"))
    with Slide(tiles.slide_path) as slide:
        expected = histomics(read_pixels(slide, tiles), 0.5)
    assert np.array_equal(features.values, expected.astype(np.float16))
    assert np.array_equal(features.coords, tiles.coords)
    assert features.names == tuple(column.name for column in COLUMNS)
    assert features.tile_settings["tile_px"] == 64
    assert features.mpp == 0.5
    assert header.settings["encoder"] == features.encoder == "histomics"
    assert header.settings["version"] == 1


@pytest.mark.parametrize("settings", [HISTOMICS, TINY], ids=["histomics", "network"])
def test_batch_size_and_workers_do_not_change_features(
    workspace: Workspace, add_slide: AddSlide, settings: EmbedSettings
) -> None:
    add_slide("a")
    seen = []
    for batch_size, workers in ((64, 1), (1, 1), (4, 4)):
        embed(workspace, settings, batch_size=batch_size, workers=workers, device="cpu")
        path = workspace.features(settings.folder, "a")
        seen.append(read_features(path)[0].values.astype(np.float32))
        path.unlink()
    for other in seen[1:]:
        np.testing.assert_allclose(other, seen[0], rtol=2e-3, atol=2e-3 if settings is TINY else 0)


def test_only_what_is_new_is_done_again(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    embed(workspace, HISTOMICS)
    before = workspace.features("histomics", "a").stat().st_mtime_ns
    add_slide("b")
    summary = embed(workspace, HISTOMICS)
    assert (summary.done, summary.kept) == (["b"], ["a"])
    assert workspace.features("histomics", "a").stat().st_mtime_ns == before
    assert embed(workspace, HISTOMICS, slide_ids=["b"]).kept == ["b"]


def test_other_tiles_make_features_stale(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    embed(workspace, HISTOMICS)
    add_slide("a", n_tiles=3, tile_px=48)
    with pytest.raises(StaleError, match="tiles is not the one"):
        embed(workspace, HISTOMICS)
    assert embed(workspace, HISTOMICS, redo=True).done == ["a"]
    assert len(read_features(workspace.features("histomics", "a"))[0].values) == 3


def test_other_settings_make_features_stale_before_weights_are_sought(
    workspace: Workspace, add_slide: AddSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide("a")
    embed(workspace, TINY, device="cpu")
    monkeypatch.setattr(step, "_build", lambda *_: pytest.fail("built the encoder"))
    with pytest.raises(StaleError, match="precision: fp32 → fp16"):
        embed(workspace, TINY.model_copy(update={"precision": "fp16"}), device="cpu")
    assert embed(workspace, TINY, device="cpu").kept == ["a"]


class _Interrupted:
    name, n_features, names = "histomics", 2, ()

    def __init__(self, error: BaseException) -> None:
        self.error, self.calls, self.closed = error, 0, False

    def encode(self, tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
        self.calls += 1
        if self.calls == 2:
            raise self.error
        return np.full((len(tiles), 2), tile_mpp, np.float32)

    def close(self) -> None:
        self.closed = True


def test_an_interrupted_run_leaves_nothing_half_made_and_goes_on_later(
    workspace: Workspace, add_slide: AddSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide("a")
    encoder = _Interrupted(KeyboardInterrupt())
    with monkeypatch.context() as patch:
        patch.setattr(step, "_build", lambda *_: encoder)
        with pytest.raises(KeyboardInterrupt):
            embed(workspace, HISTOMICS, batch_size=2)
    assert encoder.closed
    assert files(workspace) == []
    assert embed(workspace, HISTOMICS).done == ["a"]
    assert files(workspace) == ["a.h5"]


def test_a_slide_of_zero_tiles_has_features_too(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("blank", n_tiles=0)
    summary = embed(workspace, HISTOMICS)
    assert summary.done == ["blank"]
    assert "blank: no tiles" in summary.notes[0]
    assert read_features(workspace.features("histomics", "blank"))[0].values.shape == (0, len(COLUMNS))


def test_one_bad_slide_does_not_stop_the_others(workspace: Workspace, add_slide: AddSlide) -> None:
    gone, cut, _ = add_slide("gone"), add_slide("cut"), add_slide("good")
    gone.slide_path.unlink()
    cut.slide_path.write_bytes(cut.slide_path.read_bytes()[:2000])
    add_slide("torn")
    workspace.tiles("torn").write_bytes(b"no hdf5")
    summary = embed(workspace, HISTOMICS)
    assert summary.done == ["good"]
    messages = {failure.id: failure.message for failure in summary.failed}
    assert set(messages) == {"cut", "gone", "torn"} == {failure.id for failure in read_failures(workspace, "embed")}
    assert "wsisurv tile" in messages["gone"]
    assert "wsisurv tile" in messages["torn"]
    assert files(workspace) == ["good.h5"]


def test_a_slide_moved_and_tiled_again_is_embedded_from_its_new_place(
    workspace: Workspace, add_slide: AddSlide
) -> None:
    tiles = add_slide("a")
    moved = tiles.slide_path.with_name("moved.tif")
    tiles.slide_path.rename(moved)
    assert embed(workspace, HISTOMICS).failed
    header = make_header(FORMAT, TileSettings(tile_px=64), {"slide": "a"})
    write_tiles(workspace.tiles("a"), replace(tiles, slide_path=moved), header)
    assert embed(workspace, HISTOMICS).done == ["a"]
    assert read_failures(workspace, "embed") == []


def test_the_resolution_that_the_user_gave_is_used(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a", mpp=None)
    assert embed(workspace, HISTOMICS).done == ["a"]


def test_nothing_tiled_names_the_command(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="wsisurv tile"):
        embed(workspace, HISTOMICS)


def test_tiles_that_an_encoder_was_not_trained_on_are_refused_with_the_right_command(
    workspace: Workspace, add_slide: AddSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_build", lambda *_: _Interrupted(ValueError()))
    add_slide("a", tile_px=224, tile_mpp=1.0)
    uni = resolve_settings("uni", random_weights=True)
    with pytest.raises(SettingsError, match=r"224 px at 1 µm/px.*--tile-px 224 --tile-mpp 0\.5"):
        embed(workspace, uni)
    with pytest.raises(SettingsError, match=r"--tile-px 256 --tile-mpp 0\.5"):
        embed(workspace, resolve_settings("prov-gigapath", random_weights=True))
    summary = embed(workspace, uni, allow_mismatch=True)
    assert summary.done == ["a"]
    assert "embedded all the same" in summary.notes[0]
    assert embed(workspace, resolve_settings("kaiko-s16", random_weights=True)).done == ["a"]


def test_random_weights_are_marked_in_folder_and_file(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    embed(workspace, TINY, device="cpu")
    _, header = read_features(workspace.root / "features" / "timm-test_vit-random" / "a.h5")
    assert header.settings["weights"] == "random"


def test_columns_of_another_version_are_not_made(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    with pytest.raises(SettingsError, match="version 99"):
        embed(workspace, EmbedSettings(version=99))


@pytest.mark.parametrize("value", [np.nan, 1e6])
def test_what_float16_cannot_hold_is_a_failure_of_the_slide(
    workspace: Workspace, add_slide: AddSlide, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    class Broken(_Interrupted):
        def encode(self, tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
            return np.full((len(tiles), 2), value + tile_mpp, np.float32)

    monkeypatch.setattr(step, "_build", lambda *_: Broken(ValueError()))
    add_slide("a")
    assert "float16" in embed(workspace, HISTOMICS).failed[0].message
    assert files(workspace) == []


def test_progress_tells_slides_and_tiles(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    told: list[Any] = []
    embed(workspace, HISTOMICS, batch_size=4, progress=lambda *event: told.append(event))
    assert told == [(0, 1, "a"), (0, 1, "a (4/6 tiles)"), (0, 1, "a (6/6 tiles)"), (1, 1, "")]


def test_histomics_wants_no_torch() -> None:
    code = "import sys, wsisurv.embedding.step as s; s.resolve_settings(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
