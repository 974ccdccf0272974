"""A model of the user's own: its file, what is refused, and that it computes what it says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from wsisurv.embedding.encoder_spec import read_encoder_spec
from wsisurv.embedding.encoders import build_encoder
from wsisurv.embedding.network import Transform
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.errors import SettingsError
from wsisurv.formats.features import read_features
from wsisurv.settings.base import fingerprint, parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.workspace.paths import Workspace

SPEC = """
name = "mine"
architecture = "vit_tiny_patch16_224"
pooling = "class+mean"
mean = [0.7, 0.6, 0.7]
std = [0.2, 0.3, 0.2]
tile_px = 64
tile_mpp = 0.5
resize_px = 80
input_px = 64
interpolation = "bilinear"
precision = "bf16"
licence = "ours"
[arguments]
img_size = 64
embed_dim = 24
depth = 1
num_heads = 3
reg_tokens = 4
"""

PLACES = (
    *("hf-hub:x/y", "hf_hub:x/y", "local-dir:/tmp/x", "timm:vit_tiny_patch16_224", "https://x/y", "/tmp/x", "x/y"),
    *("../vit_tiny_patch16_224", r"vit_tiny_patch16_224\n", r"vit\\x", "", "a.b.c"),
)
ARGUMENTS = (
    *("checkpoint_path = '/tmp/x.pth'", "pretrained = true", "pretrained_cfg = 'x'", "cache_dir = '/'", "in_chans = 4"),
    *("features_only = true", "num_classes = 7", "scriptable = true", "pretrained_strict = false", "weight_init = ''"),
)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(old, new, …)``: the file above with some of its text replaced."""

    def write_spec(*changes: str) -> Path:
        text = SPEC
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write_spec


def test_it_computes_what_the_file_says(tmp_path: Path, write: Callable[..., Path]) -> None:
    torch.manual_seed(5)
    shape = {"img_size": 64, "embed_dim": 24, "depth": 1, "num_heads": 3, "reg_tokens": 4}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="", **shape).eval()
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    own = read_encoder_spec(write())
    settings = resolve_settings(weights_file=tmp_path / "mine.safetensors", own=own)
    assert (settings.encoder, settings.folder, settings.precision) == ("mine", "mine", "bf16")
    assert settings.weights is not None
    assert settings.weights.startswith("sha256:")
    tiles: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    encoder = build_encoder(settings, tmp_path / "mine.safetensors", "cpu")
    seen = encoder.encode(tiles, 0.5)
    transform = Transform(80, 64, (0.7, 0.6, 0.7), (0.2, 0.3, 0.2), "bilinear")
    with torch.inference_mode():
        tokens = model(transform(torch.from_numpy(tiles)))
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], dim=1)
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-5)
    assert encoder.making.transform["interpolation"] == "bilinear"


def test_its_file_is_in_the_features_and_decides_their_fingerprint(
    workspace: Workspace, add_slide: Callable[..., object], write: Callable[..., Path]
) -> None:
    add_slide("a")
    settings = resolve_settings(random_weights=True, own=read_encoder_spec(write()))
    assert embed(workspace, settings, device="cpu").done == ["a"]
    features, header = read_features(workspace.features("mine-random", "a"))
    assert features.values.shape == (6, 48)
    assert features.encoder == header.settings["encoder"] == "mine"
    assert header.settings["own"]["arguments"]["reg_tokens"] == 4
    assert header.settings["own"]["licence"] == "ours"
    assert parse_settings(EmbedSettings, header.settings) == settings  # as predict does with a model's
    other = resolve_settings(random_weights=True, own=read_encoder_spec(write("[0.7, 0.6, 0.7]", "[0.5, 0.6, 0.7]")))
    assert fingerprint(other, {}) != fingerprint(settings, {})


def test_tiles_that_it_was_not_trained_on_are_refused(
    workspace: Workspace, add_slide: Callable[..., object], write: Callable[..., Path]
) -> None:
    add_slide("a")
    own = read_encoder_spec(write("tile_mpp = 0.5", "tile_mpp = 0.25"))
    settings = resolve_settings(random_weights=True, own=own)
    with pytest.raises(SettingsError, match=r"mine was trained on 64 px at 0\.25.*--tile-px 64 --tile-mpp 0\.25`"):
        embed(workspace, settings, device="cpu")
    assert embed(workspace, settings, device="cpu", allow_mismatch=True).done == ["a"]
    making = read_features(workspace.features("mine-random", "a"))[0].making
    assert "mine was trained on 64 px at 0.25 µm/px" in making.mismatch


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (('name = "mine"', ""), "name: Field required"),
        (('name = "mine"', 'name = "uni"'), "name 'uni' is that of another encoder"),
        (('name = "mine"', 'name = "../mine"'), "name: String should match"),
        (("pooling", "pool"), "pool: Extra inputs are not permitted"),
        (('"class+mean"', '"max"'), r"pooling: .*seen: 'max'"),
        (("std = [0.2,", "std = [0.0,"), r"std\.0: Input should be greater than 0"),
        (("std = [0.2, 0.3, 0.2]", "std = [0.2, 0.3]"), r"std\.2: Field required"),
        (("input_px = 64", "input_px = 96"), "input_px is the centre of the tile"),
        (("depth = 1", "depth = "), "no TOML"),
        (("depth = 1", "depht = 1"), "depht: timm is given arguments of a network's shape alone"),
        (("depth = 1", "depth = 1_000_000"), "depth: 1000000 is no number from 0 to 256"),
        (("depth = 1", "depth = nan"), r"arguments\.depth.*finite"),
        (("depth = 1", "norm_layer = '/tmp/x'"), "norm_layer: '/tmp/x' is no word"),
        *((("vit_tiny_patch16_224", place), "architecture: String should match") for place in PLACES),
        *((("depth = 1", argument), "timm is given arguments") for argument in ARGUMENTS),
        (("depth = 1", "pretrained_cfg_overlay = {file = '/tmp/x.pth'}"), "arguments"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_the_field(
    write: Callable[..., Path], changes: tuple[str, str], words: str
) -> None:
    with pytest.raises(SettingsError, match=rf"mine\.toml: .*{words}"):
        read_encoder_spec(write(*changes))


def test_whatever_timm_would_load_is_refused_in_settings_of_any_origin(write: Callable[..., Path]) -> None:
    """A student's card and the header of features are read as settings, too."""
    settings = resolve_settings(random_weights=True, own=read_encoder_spec(write())).model_dump(mode="json")
    assert parse_settings(EmbedSettings, settings)
    for change in ({"architecture": "local-dir:/tmp/x"}, {"arguments": {"checkpoint_path": "/tmp/x.pth"}}):
        with pytest.raises(SettingsError, match="architecture|checkpoint_path"):
            parse_settings(EmbedSettings, settings | {"own": settings["own"] | change})
    with pytest.raises(SettingsError, match="weights of a file, not imported"):
        build_encoder(parse_settings(EmbedSettings, settings | {"weights": "imported"}), device="cpu")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml: can't be read"):
        read_encoder_spec(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (('"vit_tiny_patch16_224"', '"vit_nonsense"'), "can't build vit_nonsense"),
        (("depth = 1", "depth = 1\nwindow_size = 7"), "can't build .*window_size"),
        (("img_size = 64", "img_size = 32"), "takes no tile of input_px = 64"),
        (('"vit_tiny_patch16_224"', '"test_resnet"', SPEC[SPEC.index("[arg") :], ""), 'Say pooling = "own"'),
    ],
)
def test_an_architecture_that_cannot_be_is_said_before_the_first_slide(
    write: Callable[..., Path], changes: tuple[str, ...], words: str
) -> None:
    settings = resolve_settings(random_weights=True, own=read_encoder_spec(write(*changes)))
    with pytest.raises(SettingsError, match=words):
        build_encoder(settings, device="cpu")


def test_an_architecture_may_pool_by_itself(write: Callable[..., Path]) -> None:
    path = write('"class+mean"', '"own"', '"vit_tiny_patch16_224"', '"test_resnet"', SPEC[SPEC.index("[arg") :], "")
    encoder = build_encoder(resolve_settings(random_weights=True, own=read_encoder_spec(path)), device="cpu")
    assert encoder.encode(np.zeros((2, 64, 64, 3), np.uint8), 0.5).shape == (2, encoder.n_features)


def test_it_needs_weights(write: Callable[..., Path]) -> None:
    with pytest.raises(SettingsError, match="mine: a model of your own needs --weights FILE"):
        resolve_settings(own=read_encoder_spec(write()))


def test_swiglu_blocks_are_other_blocks(write: Callable[..., Path]) -> None:
    def n_weights(path: Path) -> int:
        encoder = build_encoder(resolve_settings(random_weights=True, own=read_encoder_spec(path)), None, "cpu")
        return sum(one.numel() for one in encoder._plain.parameters())

    plain = n_weights(write())
    assert n_weights(write('pooling = "class+mean"', 'swiglu = true\npooling = "class+mean"')) != plain
