"""The step: what is written, kept, refused and left after an interruption."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsisurv.embedding import one_device
from wsisurv.embedding.columns import COLUMNS
from wsisurv.embedding.histomics import histomics
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.errors import InputError, SettingsError, StaleError
from wsisurv.formats.features import read_features
from wsisurv.formats.header import make_header, read_header
from wsisurv.formats.tiles import FORMAT, Tiles, write_tiles
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.find import slide_fingerprint
from wsisurv.slides.reader import Slide
from wsisurv.slides.reader import read_tiles as read_pixels
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

AddSlide = Callable[..., Tiles]
UseEncoder = Callable[..., Any]
HISTOMICS = EmbedSettings()
TINY = EmbedSettings(encoder="timm:test_vit", weights="random")


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


def test_batch_size_and_workers_do_not_change_a_bit_of_histomics(workspace: Workspace, add_slide: AddSlide) -> None:
    """What a network may differ by is in test_network."""
    add_slide("a")
    add_slide("b", 5)
    seen = []
    for batch_size, workers in ((64, 1), (1, 1), (4, 4)):
        embed(workspace, resolve_settings(dtype="float32"), batch_size=batch_size, workers=workers)
        paths = [workspace.features("histomics", slide_id) for slide_id in "ab"]
        seen.append(np.concatenate([read_features(path)[0].values for path in paths]))
        for path in paths:
            path.unlink()
    assert np.array_equal(seen[1], seen[0])
    assert np.array_equal(seen[2], seen[0])


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
    monkeypatch.setattr(one_device, "build", lambda *_: pytest.fail("built the encoder"))
    with pytest.raises(StaleError, match="precision: fp32 → fp16"):
        embed(workspace, TINY.model_copy(update={"precision": "fp16"}), device="cpu")
    assert embed(workspace, TINY, device="cpu").kept == ["a"]


def test_an_interrupted_run_leaves_nothing_half_made_and_goes_on_later(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide("a")

    def features(tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
        if len(encoder.batches) == 2:
            raise KeyboardInterrupt
        return np.full((len(tiles), 2), tile_mpp, np.float32)

    encoder = use_encoder(features)
    with pytest.raises(KeyboardInterrupt):
        embed(workspace, HISTOMICS, batch_size=2)
    assert encoder.closed
    assert files(workspace) == []
    monkeypatch.undo()
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
    header = make_header(FORMAT, TileSettings(tile_px=64), {"slide": slide_fingerprint(moved)})
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
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder
) -> None:
    use_encoder(lambda tiles, _: np.zeros((len(tiles), 2)))
    add_slide("a", tile_px=224, tile_mpp=1.0)
    uni = resolve_settings("uni", random_weights=True)
    with pytest.raises(SettingsError, match=r"224 px at 1 µm/px.*wsisurv tile SLIDES… --for uni` in another"):
        embed(workspace, uni)
    with pytest.raises(SettingsError, match="--for prov-gigapath`"):
        embed(workspace, resolve_settings("prov-gigapath", random_weights=True))
    summary = embed(workspace, uni, allow_mismatch=True)
    assert summary.done == ["a"]
    assert "embedded all the same" in summary.notes[0]
    mismatch = read_features(workspace.features(uni.folder, "a"))[0].making.mismatch
    assert "224 px at 1 µm/px" in mismatch
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


@pytest.mark.parametrize(("value", "words"), [(np.nan, "nan, no finite number"), (1e6, "float16 can't hold.*--dtype")])
def test_what_float16_cannot_hold_is_a_failure_of_the_slide(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, value: float, words: str
) -> None:
    tiles = add_slide("a")
    use_encoder(lambda tiles, _: np.where(np.arange(2 * len(tiles)).reshape(-1, 2) == 5, value, 1.0))
    [failure] = embed(workspace, HISTOMICS).failed
    assert re.search(f"feature 1 of tile 2 is .*{words}", failure.message)
    assert str(tiles.slide_path) in failure.message
    assert files(workspace) == []


def test_float32_holds_it(workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder) -> None:
    add_slide("a")
    use_encoder(lambda tiles, _: np.full((len(tiles), 2), 1e6 + 1))
    settings = resolve_settings(dtype="float32")
    assert embed(workspace, settings).done == ["a"]
    features, _ = read_features(workspace.features(settings.folder, "a"))
    assert features.values.dtype == np.float32
    assert (features.values == 1e6 + 1).all()
    with pytest.raises(StaleError, match="dtype: float32 → its default"):
        embed(workspace, resolve_settings())


def test_progress_tells_slides_and_tiles(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    told: list[Any] = []
    embed(workspace, HISTOMICS, batch_size=4, progress=lambda *event: told.append(event))
    assert told[0] == (0, 1, "")
    assert told[-1] == (1, 1, "")
    assert [what for _, _, what in told[1:-1]] == ["a (4/6 tiles)", "a (6/6 tiles)"]


def test_the_file_says_how_it_was_made(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a")
    embed(workspace, TINY, device="cpu")
    making = read_features(workspace.features(TINY.folder, "a"))[0].making
    assert making.weights == "random"
    assert making.transform["resize_px"] == making.transform["input_px"] == 160
    assert (making.precision, making.mismatch) == ("fp32", "")
    assert making.device.startswith("cpu")
    assert making.decoder in {"openslide", "jpeg"}
    assert making.tiles_fingerprint == read_header(workspace.tiles("a"), FORMAT, "").fingerprint
    assert set(making.versions) >= {"wsisurv", "torch", "timm", "openslide-python", "imagecodecs"}


def test_histomics_wants_no_torch() -> None:
    code = "import sys, wsisurv.embedding.step as s; s.resolve_settings(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
