"""A network on a device: batches, memory that runs out, compilation; a GPU's own part runs only where there is one."""

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray

from wsisurv.embedding.encoders import build_encoder
from wsisurv.embedding.network import ModelEncoder, Transform, round_weights
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.errors import DeviceError, SettingsError
from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import Tiles
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.workspace.paths import Workspace

AddSlide = Callable[..., Tiles]
CPU = torch.device("cpu")
PLAIN = Transform(8, 8, (0, 0, 0), (1 / 255, 1 / 255, 1 / 255))
TINY = EmbedSettings(encoder="timm:test_vit", weights="random", dtype="float32")
TOLERANCE = 1e-4
"""Of features in float32 on one processor, whatever the batches, relative to a tile's largest; a step of float16 is
ten times that."""


class Sum(torch.nn.Module):
    """Sum of each colour, with room for so many tiles."""

    def __init__(self, room: int, error: type[RuntimeError] = torch.OutOfMemoryError, words: str = "") -> None:
        super().__init__()
        self.room, self.error, self.words = room, error, words
        self.sizes: list[int] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(pixels))
        if len(pixels) > self.room:
            raise self.error(self.words)
        return pixels.sum(dim=(2, 3))


def make_encoder(model: torch.nn.Module) -> ModelEncoder:
    return ModelEncoder("sum", model, PLAIN, lambda out: out, 3, CPU, "bf16", weights="random")


@pytest.fixture
def tiles() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


def test_bytes_become_features(tiles: NDArray[np.uint8]) -> None:
    encoder = make_encoder(Sum(5))
    np.testing.assert_allclose(encoder.encode(tiles, 0.5), tiles.sum(axis=(1, 2), dtype=np.float32), rtol=1e-5)
    assert encoder.buffer(3, 8).shape == (3, 8, 8, 3)
    assert encoder.find_batch_size(8) > 1
    assert encoder.making.precision == "fp32", "a CPU computes in fp32"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 2.00 GiB"),
        (RuntimeError, "MPS backend out of memory (MPS allocated: 17 GB)"),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        (RuntimeError, "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        (RuntimeError, "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_runs_out_is_told_as_such(tiles: NDArray[np.uint8], error: type[RuntimeError], words: str) -> None:
    encoder = make_encoder(Sum(4, error, words))
    with pytest.raises(DeviceError, match="no room on cpu for 5 tiles at once.*--device"):
        encoder.submit(tiles, 0.5)
    assert encoder.encode(tiles[:4], 0.5).shape == (4, 3)


def test_other_errors_of_a_network_are_bugs(tiles: NDArray[np.uint8]) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        make_encoder(Sum(0, RuntimeError, "mat1 and mat2 shapes cannot be multiplied")).submit(tiles, 0.5)


def test_a_network_out_of_memory_loses_no_slide(
    workspace: Workspace, add_slide: AddSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide("a", 6, tile_px=16)
    add_slide("b", 3, tile_px=16)
    model = Sum(2, words="out of memory")
    monkeypatch.setattr("wsisurv.embedding.encoders.build_encoder", lambda *_, **__: make_encoder(model))
    summary = embed(workspace, TINY, device="cpu", batch_size=8)
    assert summary.done == ["a", "b"]
    assert "no room for 8 tiles" in summary.notes[0]
    assert model.sizes == [8, 4, 2, 2, 2, 2, 1]


class Hoarder(Sum):
    """Names what it makes, layer below layer, and raises an error that goes in a circle, as Python 3.12 makes one."""

    def __init__(self, room: int) -> None:
        super().__init__(room, words="out of memory")
        self.made: list[weakref.ref[torch.Tensor]] = []
        self.left: list[int] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.left.append(sum(one() is not None for one in self.made))
        doubled = pixels * 2
        return self._layer(doubled) / 2

    def _layer(self, pixels: torch.Tensor) -> torch.Tensor:
        self.made += [weakref.ref(pixels), weakref.ref(more := pixels + 1)]
        try:
            return super().forward(more - 1)
        except RuntimeError as error:
            error.circle = error  # type: ignore[attr-defined]
            raise


@contextmanager
def no_collector() -> Iterator[None]:
    """Circles are not found: it may take the collector long to look for them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_nothing_of_a_batch_without_room_is_left_when_smaller_ones_are_tried(
    workspace: Workspace, add_slide: AddSlide, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_slide("a", 9, tile_px=16)
    model = Hoarder(2)
    monkeypatch.setattr("wsisurv.embedding.encoders.build_encoder", lambda *_, **__: make_encoder(model))
    with no_collector():
        assert embed(workspace, TINY, device="cpu", batch_size=8).done == ["a"]
    assert model.sizes == [8, 4, 2, 2, 2, 2, 1]
    assert model.left == [0] * 7


@pytest.mark.parametrize(("gain", "used"), [(3.7, "bf16"), (0.7, "fp32")])
def test_bf16_on_a_processor_that_is_faster_in_it(
    tiles: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, gain: float, used: str
) -> None:
    """The clock is replaced: fp32 takes ``gain`` times as long."""
    encoder = make_encoder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 16)))
    exact = encoder.encode(tiles, 0.5)
    ticks = iter([0, gain, 0, gain, 0, 1, 0, 1])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    encoder.try_bf16()
    features = encoder.encode(tiles, 0.5)
    assert encoder.making.precision == used
    assert np.array_equal(features, exact) == (used == "fp32")
    np.testing.assert_allclose(features, exact, atol=0.02 * np.abs(exact).max())


def test_bf16_that_makes_other_features_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cancelling(torch.nn.Linear):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            flat = pixels.flatten(1)
            return super().forward(flat + 1000) - super().forward(torch.full_like(flat, 1000))

    encoder = make_encoder(Cancelling(192, 16))
    ticks = iter([0, 4, 0, 4, 0, 1, 0, 1])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    encoder.try_bf16()
    assert encoder.making.precision == "fp32"


def test_compiled_batches_are_filled_up_to_one_size(tiles: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    """What compiles is replaced: a real compiler takes half a minute, and is tried by hand."""
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    model = Sum(4)
    encoder = make_encoder(model)
    encoder.compile()
    whole = encoder.encode(tiles[:4], 0.5)
    assert np.array_equal(encoder.encode(tiles[:3], 0.5), whole[:3])
    assert model.sizes == [4, 4]
    assert encoder.making.precision == "fp32 compiled"
    model.words = "out of memory"
    with pytest.raises(DeviceError):
        encoder.encode(tiles, 0.5)
    encoder.encode(tiles[:2], 0.5)
    assert model.sizes[-1] == 2, "what did not fit is not filled up to any more"


def test_a_network_that_cannot_be_compiled_here_is_told_as_such(
    tiles: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch says it without a C++ compiler, tried by hand."""
    failing = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})
    monkeypatch.setattr(torch, "compile", lambda _, **__: Sum(0, failing, "InvalidCxxCompiler: none found"))
    encoder = make_encoder(Sum(5))
    encoder.compile()
    with pytest.raises(SettingsError, match=r"sum: --compile can't be done here \(InvalidCxxCompiler.* Leave it out"):
        encoder.submit(tiles, 0.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["test_vit", "test_vit4"])
def test_weights_rounded_once_give_the_bits_that_autocast_gives(name: str, dtype: torch.dtype) -> None:
    model = timm.create_model(name, pretrained=False, num_classes=0).eval().requires_grad_(False)
    tiles = torch.randn(3, 3, 160, 160)
    before = sum(parameter.nbytes for parameter in model.parameters())
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        wanted = model(tiles)
        round_weights(model, dtype)
        assert torch.equal(model(tiles), wanted)
    assert sum(parameter.nbytes for parameter in model.parameters()) < 0.6 * before
    assert model.pos_embed.dtype == model.blocks[0].norm1.weight.dtype == torch.float32


def close(seen: NDArray[Any], wanted: NDArray[Any]) -> bool:
    largest = np.abs(wanted).max(axis=1, keepdims=True)
    return bool((np.abs(seen - wanted) <= TOLERANCE * largest).all())


def test_features_agree_whatever_the_batch_size_and_the_threads(workspace: Workspace, add_slide: AddSlide) -> None:
    add_slide("a", 7)
    add_slide("b", 5)
    seen = []
    for batch_size, workers in ((64, 1), (1, 1), (64, 4), (5, 2)):
        embed(workspace, TINY, batch_size=batch_size, workers=workers, device="cpu")
        paths = [workspace.features(TINY.folder, slide_id) for slide_id in "ab"]
        seen.append(np.concatenate([read_features(path)[0].values for path in paths]))
        for path in paths:
            path.unlink()
    assert np.array_equal(seen[2], seen[0]), "threads don't change a bit"
    assert close(seen[1], seen[0])
    assert close(seen[3], seen[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_agrees_with_the_cpu(workspace: Workspace, add_slide: AddSlide, precision: str) -> None:
    add_slide("a", 40)
    add_slide("b", 23)
    settings = TINY.model_copy(update={"precision": precision})
    seen = []
    for device, batch_size in (("cpu", None), ("cuda", None), ("cuda", 1), ("cuda", 7)):
        embed(workspace, settings, batch_size=batch_size, device=device)
        paths = [workspace.features(TINY.folder, slide_id) for slide_id in "ab"]
        seen.append(np.concatenate([read_features(path)[0].values for path in paths]))
        for path in paths:
            path.unlink()
    for other in seen[1:]:
        largest = np.abs(seen[0]).max(axis=1, keepdims=True)
        assert (np.abs(other - seen[0]) <= (1e-3 if precision == "fp32" else 0.05) * largest).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_finds_a_batch_size_that_fits() -> None:
    encoder = build_encoder(resolve_settings("timm:vit_small_patch16_224", random_weights=True), device="cuda")
    size = encoder.find_batch_size(224)
    assert size & (size - 1) == 0
    tiles = encoder.buffer(size, 224)
    assert encoder.submit(tiles, 0.5)().shape == (size, 384)


@pytest.mark.parametrize("encoder", ["histomics", "timm:test_vit"])
def test_jpeg_tiles_decoded_directly_give_the_features_that_openslide_gives(
    workspace: Workspace, add_slide: AddSlide, encoder: str
) -> None:
    """Pixels may differ by three grey levels: features of a network by a hundredth of a tile's largest."""
    add_slide("a", 6)
    settings = resolve_settings(encoder, random_weights=encoder != "histomics", dtype="float32")
    path = workspace.features(settings.folder, "a")
    embed(workspace, settings, device="cpu")
    direct = read_features(path)[0]
    path.unlink()
    embed(workspace, settings, device="cpu", decoder="openslide")
    plain = read_features(path)[0]
    assert (direct.making.decoder, plain.making.decoder) == ("jpeg", "openslide")
    largest = np.abs(plain.values).max(axis=1, keepdims=True)
    assert (np.abs(direct.values - plain.values) <= 0.01 * largest).all()
