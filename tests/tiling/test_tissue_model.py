"""Tissue by a network of the user's own: an ONNX file that is written here by hand, or weights for torchvision's."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torchvision.models import segmentation

from wsisurv.errors import SettingsError, StaleError
from wsisurv.formats.tiles import read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.reader import Slide
from wsisurv.tiling.step import tile
from wsisurv.tiling.tissue_model import TissueModel, open_tissue_model, tissue_model_inputs
from wsisurv.workspace.paths import Workspace

SPEC = "mpp = 8.0\nside_px = 64\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n"


def _number(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def _field(number: int, value: bytes | str | int) -> bytes:
    """A field of Protocol Buffers: of bytes, or a number."""
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    data = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(data)) + data


def _value(name: str, sizes: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _field(1, one) if isinstance(one, int) else _field(2, one)) for one in sizes)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def _write(
    path: Path, weights: Sequence[Sequence[float]], bias: Sequence[float], *, pool: int = 1, batch: int | str = "n"
) -> Path:
    """A network of one 1 × 1 convolution, and a mean of ``pool`` × ``pool`` behind it (ONNX IR 8, operators 13)."""
    channels = len(bias)

    def tensor(name: str, sizes: Sequence[int], values: Sequence[float]) -> bytes:
        dims = b"".join(_field(1, one) for one in sizes)
        return dims + _field(2, 1) + _field(8, name) + _field(9, struct.pack(f"<{len(values)}f", *values))

    def ints(name: str, values: Sequence[int]) -> bytes:
        return _field(5, _field(1, name) + b"".join(_field(8, one) for one in values) + _field(20, 7))

    conv = b"".join(_field(1, one) for one in ("x", "w", "b")) + _field(2, "y") + _field(4, "Conv")
    mean = _field(1, "y") + _field(2, "z") + _field(4, "AveragePool") + ints("kernel_shape", (pool,) * 2)
    graph = _field(1, conv) + _field(1, mean + ints("strides", (pool,) * 2)) + _field(2, "g")
    graph += _field(5, tensor("w", (channels, 3, 1, 1), np.ravel(weights).tolist())) + _field(
        5, tensor("b", (channels,), bias)
    )
    graph += _field(11, _value("x", (batch, 3, "h", "w0"))) + _field(12, _value("z", (batch, channels, "h1", "w1")))
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13)))
    return path


def _dark(folder: Path, spec: str = SPEC + "threshold = 0.3\n", pool: int = 1, batch: int | str = "n") -> Path:
    """A network of one channel, by how much a pixel is darker than white."""
    path = _write(folder / "dark.onnx", [[-1.0, -1, -1]], [3.0], pool=pool, batch=batch)
    path.with_suffix(".toml").write_text(spec)
    return path


@pytest.fixture
def slide(tmp_path: Path, make_slide: Callable[..., Path]) -> Path:
    return make_slide(tmp_path / "slides" / "A.tif", (3000, 2200), mpp=2.0)


def test_what_a_network_says_is_the_tissue(tmp_path: Path, slide: Path) -> None:
    pytest.importorskip("onnxruntime")
    with Slide(slide) as opened:
        view = opened.view(8.0)
        expected = (1 - view / 255).sum(axis=2) > 0.3
        settings = TileSettings(min_piece_um2=0, max_hole_um2=0)
        for model in (
            TissueModel(_dark(tmp_path)),
            TissueModel(_two_channels(tmp_path)),
            TissueModel(_dark(tmp_path, batch=1)),
        ):
            found = model.find(opened, view.shape[:2], 8.0, settings).mask
            assert np.array_equal(found, expected)
            assert 0.2 < found.mean() < 0.8
        coarse = TissueModel(_dark(tmp_path, pool=4)).find(opened, view.shape[:2], 8.0, settings).mask
        assert (coarse == expected).mean() > 0.9
        assert not np.array_equal(coarse, expected)
        halved = (
            TissueModel(_dark(tmp_path)).find(opened, (view.shape[0] // 2, view.shape[1] // 2), 16.0, settings).mask
        )
        assert halved.shape == (view.shape[0] // 2, view.shape[1] // 2)
        assert halved.mean() == pytest.approx(expected.mean(), abs=0.02)


def _two_channels(folder: Path) -> Path:
    """The same as classes: of two channels the larger counts."""
    path = _write(folder / "two.onnx", [[0.0, 0, 0], [-1, -1, -1]], [0.3, 3.0])
    path.with_suffix(".toml").write_text(SPEC + "tissue = [1]\n")
    return path


def test_weights_beside_an_onnx_file_are_a_part_of_it(tmp_path: Path) -> None:
    """As torch exports a network: NAME.onnx, which says what is computed, and NAME.onnx.data with its weights."""
    path = _dark(tmp_path)
    seen = [tissue_model_inputs(path)]
    for weights in (b"some", b"others"):
        (tmp_path / "dark.onnx.data").write_bytes(weights)
        seen.append(tissue_model_inputs(path))
    assert len({one["tissue model"] for one in seen}) == 3
    assert len({one["tissue model's spec"] for one in seen}) == 1


def test_tiles_are_cut_where_the_network_says_and_go_stale_with_it(tmp_path: Path, slide: Path) -> None:
    pytest.importorskip("onnxruntime")
    workspace, model = Workspace(tmp_path / "w"), _dark(tmp_path)
    settings = TileSettings(tile_px=64, tile_mpp=2.0)
    n_tiles = {}
    for threshold in (-1.0, 0.3, 4.0):
        open_tissue_model.cache_clear()
        model.with_suffix(".toml").write_text(f"{SPEC}threshold = {threshold}\n")
        summary = tile(workspace, [slide], settings, tissue_model=model, redo=True, preview=False)
        assert not summary.failed, summary.failed
        n_tiles[threshold] = len(read_tiles(workspace.tiles("A"))[0].coords)
    assert n_tiles[-1.0] == (3000 // 64) * (2200 // 64) > n_tiles[0.3] > n_tiles[4.0] == 0
    with pytest.raises(StaleError, match="tissue model"):
        tile(workspace, [slide], settings, preview=False)


def test_what_cannot_be_used_is_said_before_the_first_slide(tmp_path: Path, slide: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    with pytest.raises(SettingsError, match=r"dark\.toml: no such file"):
        tile(workspace, [slide], tissue_model=_write(tmp_path / "dark.onnx", [[0.0, 0, 0]], [0.0]))
    pytest.importorskip("onnxruntime")
    (tmp_path / "dark.toml").write_text(SPEC + "mpp_px = 3\n")
    with pytest.raises(SettingsError, match=r"dark\.toml: .*mpp_px.*docs/extending\.md"):
        TissueModel(tmp_path / "dark.onnx")
    (tmp_path / "dark.toml").write_text(SPEC)
    (tmp_path / "dark.onnx").write_bytes(b"no network")
    with pytest.raises(SettingsError, match="no network that takes what its TOML file says"):
        TissueModel(tmp_path / "dark.onnx")
    path = _two_channels(tmp_path)
    path.with_suffix(".toml").write_text(SPEC)
    with pytest.raises(SettingsError, match="has 2 channels; say in its TOML file which of 0 to 1 are tissue"):
        TissueModel(path)
    masks = tmp_path / "masks"
    masks.mkdir()
    with pytest.raises(SettingsError, match="either drawn"):
        tile(workspace, [slide], masks=masks, tissue_model=path)


def _weights(path: Path, architecture: str, *, before: str = "", channels: int = 2, **options: bool) -> torch.nn.Module:
    """A network of torchvision with random weights that tells dark from pale, and its file and spec."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = getattr(segmentation, architecture)(
            weights=None, weights_backbone=None, num_classes=channels, **options
        )
        greys = torch.linspace(-3, 3, 4)[:, None, None, None] + 0.3 * torch.randn(4, 3, 64, 64)
        for _ in range(2):
            network.train()(greys)  # which sets the means of its norms
        last = (
            network.classifier.high_classifier
            if hasattr(network.classifier, "high_classifier")
            else network.classifier[4]
        )
        with torch.no_grad():
            shown = network.eval()(greys)["out"]
            last.bias[0] += (shown[:, 1] - shown[:, 0]).median()
    state = {before + name: value for name, value in network.state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    named = f'architecture = "{architecture}"\nchannels = {channels}\n'
    normalised = "mean = [0.5, 0.4, 0.6]\nstd = [0.2, 0.3, 0.25]\n"
    path.with_suffix(".toml").write_text(f"mpp = 16.0\nside_px = 64\n{normalised}tissue = [1]\n{named}")
    model: torch.nn.Module = network.eval()
    return model


def _plainly(network: torch.nn.Module, view: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The whole view in squares, one after the other."""
    height, width = view.shape[:2]
    padded = np.full((-(-height // 64) * 64, -(-width // 64) * 64, 3), 255, np.uint8)
    padded[:height, :width] = view
    found = np.zeros(padded.shape[:2], bool)
    for y in range(0, height, 64):
        for x in range(0, width, 64):
            square = torch.from_numpy(padded[y : y + 64, x : x + 64]).permute(2, 0, 1)[None] / 255
            square = (square - torch.tensor([0.5, 0.4, 0.6])[:, None, None]) / torch.tensor([0.2, 0.3, 0.25])[
                :, None, None
            ]
            with torch.no_grad():
                found[y : y + 64, x : x + 64] = network(square)["out"][0].argmax(0).numpy() == 1
    return found[:height, :width]


@pytest.mark.parametrize(
    ("name", "architecture", "before", "options"),
    [
        ("a.safetensors", "lraspp_mobilenet_v3_large", "", {}),
        ("hest.ckpt", "deeplabv3_resnet50", "model.", {"aux_loss": True}),
    ],
)
def test_weights_of_a_named_network_find_what_torchvision_finds(
    tmp_path: Path, slide: Path, name: str, architecture: str, before: str, options: dict[str, bool]
) -> None:
    network = _weights(tmp_path / name, architecture, before=before, **options)
    with Slide(slide) as opened:
        view = opened.view(16.0)
        settings = TileSettings(min_piece_um2=0, max_hole_um2=0)
        found = TissueModel(tmp_path / name).find(opened, view.shape[:2], 16.0, settings).mask
    expected = _plainly(network, view)
    assert 0.02 < expected.mean() < 0.98
    assert (found == expected).mean() > 0.999


def test_tiles_are_cut_by_weights_and_go_stale_with_them(tmp_path: Path, slide: Path) -> None:
    path = tmp_path / "a.safetensors"
    _weights(path, "lraspp_mobilenet_v3_large")
    workspace, settings = Workspace(tmp_path / "w"), TileSettings(tile_px=64, tile_mpp=2.0, min_piece_um2=0)
    summary = tile(workspace, [slide], settings, tissue_model=path, preview=False)
    assert not summary.failed
    assert read_tiles(workspace.tiles("A"))[1].inputs["tissue model"]
    path.with_suffix(".toml").write_text(path.with_suffix(".toml").read_text().replace("[1]", "[0]"))
    open_tissue_model.cache_clear()
    with pytest.raises(StaleError, match="tissue model's spec"):
        tile(workspace, [slide], settings, tissue_model=path, preview=False)


def test_weights_that_are_not_the_named_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    _weights(path, "lraspp_mobilenet_v3_large", channels=3)
    spec = path.with_suffix(".toml").read_text()
    path.with_suffix(".toml").write_text(spec.replace("channels = 3", "channels = 2"))
    with pytest.raises(
        SettingsError,
        match=r"a\.safetensors: not the weights of this lraspp_mobilenet_v3_large of 2 channels: it covers 99\.9 %"
        r".*of another shape \(classifier\.high_classifier\.bias \(3,\) instead of \(2,\)",
    ):
        TissueModel(path)
    path.with_suffix(".toml").write_text(spec.replace("lraspp_mobilenet_v3_large", "fcn_resnet50"))
    with pytest.raises(SettingsError, match=r"missing \(backbone"):
        TissueModel(path)
    path.with_suffix(".toml").write_text(spec.replace("lraspp_mobilenet_v3_large", "vgg16"))
    with pytest.raises(SettingsError, match=r"architecture: .*'deeplabv3_resnet50'.*docs/extending\.md"):
        TissueModel(path)
    path.with_suffix(".toml").write_text(SPEC)
    with pytest.raises(SettingsError, match=r"weights want its architecture: a\.toml names none"):
        TissueModel(path)
    path.write_bytes(b"no tensors")
    path.with_suffix(".toml").write_text(spec)
    with pytest.raises(SettingsError, match=r"a\.safetensors: no file of weights"):
        TissueModel(path)
