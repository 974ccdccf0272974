"""Networks: the table against timm, pooling, transform, and weights from file, hub and nowhere."""

import json
import pickle
import socket
from pathlib import Path
from typing import Any

import huggingface_hub.constants  # by itself: it is there only once somebody asked for it
import huggingface_hub.errors
import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from wsisurv.embedding import encoders, hub
from wsisurv.embedding.encoder_row import EncoderSpec
from wsisurv.embedding.encoders import build_encoder, make_architecture, pool_as
from wsisurv.embedding.heads import WithHead
from wsisurv.embedding.network import Transform, pool
from wsisurv.embedding.step import resolve_settings
from wsisurv.embedding.table import ENCODERS
from wsisurv.errors import SettingsError, WeightsError
from wsisurv.settings.embedding import EmbedSettings

TINY = "timm:test_vit"


@pytest.fixture
def tiles() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), np.uint8)


@pytest.mark.parametrize("spec", ENCODERS.values(), ids=lambda spec: spec.name)
def test_each_row_of_the_table_is_what_timm_builds(spec: EncoderSpec) -> None:
    """Rows "from the hub's config" are checked in the architecture that serves --weights."""
    with torch.device("meta"):
        model = make_architecture(spec)
        pixels = torch.empty(2, 3, spec.input_px, spec.input_px)
        tokens = (model.trunk if isinstance(model, WithHead) else model)(pixels)
        features = pool_as(spec, model(pixels), model.num_prefix_tokens)
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(spec.params_m, abs=0.051)
    assert tokens.shape[1] == spec.n_tokens
    assert features.shape == (2, spec.n_features)


def test_the_table_is_the_whole_list() -> None:
    assert list(ENCODERS) == [
        *("uni", "uni2-h", "virchow", "virchow2", "h-optimus-0", "h-optimus-1", "h0-mini", "h0-mini-mean"),
        *("prov-gigapath", "gigapath-flash", "pathorchestra", "prost40m", "gpfm", "mstar", "phikon"),
        *("kaiko-s8", "kaiko-s16", "kaiko-b8", "kaiko-b16", "kaiko-l14", "lunit-s8", "lunit-s16"),
        *("openmidnight", "midnight", "mascaret", "phikon-v2", "phaet", "hibou-b", "hibou-l", "keep"),
        *("conch-v1", "conch-v1.5", "crown", "musk", "genbio-pathfm"),
        *("mettle", "mettle-mean"),
    ]


def test_pooling_takes_the_class_token_and_leaves_registers_out() -> None:
    tokens = torch.zeros(1, 1 + 4 + 3, 2)
    tokens[:, 0] = 5
    tokens[:, 1:5] = 1000
    tokens[:, 5:] = torch.tensor([[1.0, 10], [2, 20], [6, 60]])
    assert pool(tokens, "class", 5).tolist() == [[5, 5]]
    assert pool(tokens, "class+mean", 5).tolist() == [[5, 5, 3, 30]]


def test_pooling_agrees_with_timms_own_on_a_small_transformer_with_registers() -> None:
    torch.manual_seed(0)
    small: dict[str, Any] = {"embed_dim": 24, "depth": 2, "num_heads": 3, "reg_tokens": 4, "num_classes": 0}
    model = timm.create_model("vit_tiny_patch16_224", global_pool="", **small).eval()
    by_class = timm.create_model("vit_tiny_patch16_224", global_pool="token", **small).eval()
    by_class.load_state_dict(model.state_dict())
    pixels = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        tokens = model(pixels)
        assert torch.equal(pool(tokens, "class", model.num_prefix_tokens), by_class(pixels))
    both = pool(tokens, "class+mean", model.num_prefix_tokens)
    torch.testing.assert_close(both[:, 24:], tokens[:, -196:].mean(1))


def test_the_transform_normalises_each_colour() -> None:
    tiles = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    tiles[..., 1], tiles[..., 2] = 255, 51
    seen = Transform(4, 4, (0.5, 0.5, 0.1), (0.5, 0.25, 0.1))(tiles)
    assert seen.shape == (1, 3, 4, 4)
    torch.testing.assert_close(seen[0, :, 0, 0], torch.tensor([-1.0, 2.0, 1.0]))


def test_the_transform_crops_the_centre_and_resamples_what_has_another_size() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).repeat(256, 1)[None, :, :, None].repeat(1, 1, 1, 3)
    transform = Transform(256, 224, (0, 0, 0), (1 / 255, 1 / 255, 1 / 255))
    assert torch.equal(transform(ramp)[0, 0, 0], torch.arange(16, 240).float())
    double = ramp.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert (transform(double) - transform(ramp)).abs().max() <= 1


def test_random_weights_are_the_same_every_time_and_leave_the_callers_numbers_alone(tiles: NDArray[np.uint8]) -> None:
    settings = resolve_settings(TINY, random_weights=True)
    assert settings.folder == "timm-test_vit-random"
    torch.manual_seed(1)
    first = build_encoder(settings, device="cpu")
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)
    second = build_encoder(settings, device="cpu")
    features = first.encode(tiles, 0.5)
    assert features.dtype == np.float32
    assert features.shape == (5, first.n_features)
    assert np.array_equal(features, second.encode(tiles, 0.5))
    assert np.std(features, axis=0).max() > 0
    one_by_one = np.concatenate([first.encode(tile[None], 0.5) for tile in tiles])
    np.testing.assert_allclose(one_by_one, features, atol=1e-4)


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_convnext", "timm:test_vit3"])
def test_any_architecture_of_timm_encodes(tiles: NDArray[np.uint8], name: str) -> None:
    encoder = build_encoder(resolve_settings(name, random_weights=True), device="cpu")
    assert encoder.encode(tiles, 0.5).shape == (5, encoder.n_features)


@pytest.mark.parametrize("kind", ["plain.safetensors", "plain.pt", "wrapped.pth", "module.bin", "classifier.pt"])
def test_weights_of_a_file_are_what_computes(tmp_path: Path, tiles: NDArray[np.uint8], kind: str) -> None:
    torch.manual_seed(7)
    model = timm.create_model("test_vit", num_classes=10 if kind.startswith("classifier") else 0)
    state = model.state_dict()
    path = tmp_path / kind
    if kind.endswith("safetensors"):
        save_file(state, path)
    elif kind.startswith("wrapped"):
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif kind.startswith("module"):
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    settings = resolve_settings(TINY, path)
    assert settings.weights is not None
    assert settings.weights.startswith("sha256:")
    seen = build_encoder(settings, path, "cpu").encode(tiles, 0.5)
    model.reset_classifier(0)
    config = model.pretrained_cfg
    side = config["input_size"][-1]
    with torch.inference_mode():
        expected = model.eval()(Transform(side, side, config["mean"], config["std"])(torch.from_numpy(tiles)))
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-5)


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    state = timm.create_model("test_vit", num_classes=0).state_dict()
    del state["norm.weight"]
    state["extra.bias"] = torch.zeros(1)
    state["cls_token"] = torch.zeros(1, 1, 3)
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"norm\.weight.*extra\.bias.*cls_token \(1, 1, 3\)") as caught:
        build_encoder(resolve_settings(TINY, path), path, "cpu")
    assert str(path) in str(caught.value)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


@pytest.mark.parametrize("kind", ["code.pt", "list.pt", "text.safetensors", "text.bin", "cut.pt", "empty.pt"])
def test_a_file_that_is_no_weights_is_refused_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / kind
    if kind == "code.pt":
        path.write_bytes(pickle.dumps(_Code(), protocol=2))
    elif kind == "list.pt":
        torch.save([1, 2], path)
    elif kind == "cut.pt":
        torch.save({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:500])
    else:
        path.write_bytes(b"" if kind == "empty.pt" else b"these are no weights, whatever the name says")
    with pytest.raises(WeightsError, match=kind) as told:
        build_encoder(resolve_settings(TINY, path), path, "cpu")
    assert "weights_only" not in str(told.value), "torch's advice to run what is in it"
    assert capsys.readouterr().out == ""


def test_a_missing_or_exchanged_file_of_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere.pt"):
        resolve_settings(TINY, tmp_path / "nowhere.pt")
    path = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), path)
    settings = resolve_settings(TINY, path)
    with pytest.raises(WeightsError, match="--weights FILE"):
        build_encoder(settings, None, "cpu")
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="Give the same file"):
        build_encoder(settings, path, "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("unii",), "virchow2"),
        (("timm:vit_tinny_patch16_224",), "vit_tiny_patch16_224"),
        (("timm:vit_tiny_patch16_224.nonsense",), "timm has no model"),
        (("timm:",), "no encoder"),
        (("histomics", None, True), "no weights"),
        ((TINY, Path(__file__), True), "exclude"),
    ],
)
def test_settings_that_cannot_be_are_explained(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        resolve_settings(*arguments)


def test_settings_say_where_weights_come_from() -> None:
    assert resolve_settings("uni") == EmbedSettings(encoder="uni", weights="hub:MahmoodLab/UNI", precision="fp16")
    assert resolve_settings("timm:resnet18").weights == "hub:timm/resnet18.a1_in1k"
    assert resolve_settings().weights is None


def _unreachable(*_: Any, **__: Any) -> None:
    raise huggingface_hub.errors.HTTPError("Name or service not known")  # type: ignore[attr-defined]


def _gated(*_: Any, **__: Any) -> None:
    error = huggingface_hub.errors.GatedRepoError.__new__(huggingface_hub.errors.GatedRepoError)
    error.args = ("403 Client Error",)
    raise error


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("name", ["uni", "gpfm", "kaiko-s16", "timm:resnet18"])
def test_a_hub_out_of_reach_names_the_ways_out_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(hub.HfApi, "auth_check", _unreachable)
    with pytest.raises(WeightsError, match="--weights FILE") as caught:
        hub.pin_weights(resolve_settings(name))
    assert "not known" in str(caught.value)
    assert ("HF_TOKEN" in str(caught.value)) == (name == "uni")
    assert {"uni": "pytorch_model.bin", "gpfm": "GPFM.pth"}.get(name, "model.safetensors") in str(caught.value)


@pytest.mark.usefixtures("empty_cache")
def test_a_gated_model_names_the_licence_and_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.HfApi, "auth_check", _gated)
    with pytest.raises(WeightsError, match=r"does not let.*accept the licence.*HF_TOKEN.*--weights FILE"):
        hub.pin_weights(resolve_settings("virchow2"))


def _put_in_cache(cache: Path, hub_id: str) -> Path:
    """A repository as the hub's client keeps it on disk."""
    folder = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    return snapshot


def test_weights_in_the_hubs_cache_are_used_without_a_network(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, tiles: NDArray[np.uint8]
) -> None:
    """The real way through the cache of the hub's client; mean and std are the repository's."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    spec = ENCODERS["kaiko-s16"]
    torch.manual_seed(3)
    model = make_architecture(spec).eval()
    snapshot = _put_in_cache(empty_cache, spec.hub_id)
    save_file(model.state_dict(), snapshot / "model.safetensors")
    config = {"input_size": [3, 224, 224], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "num_classes": 0}
    text = {"architecture": spec.architecture, "num_classes": 0, "global_pool": "token", "pretrained_cfg": config}
    (snapshot / "config.json").write_text(json.dumps(text))
    encoder = build_encoder(resolve_settings("kaiko-s16"), device="cpu")
    assert encoder.making.weights == f"hub:{spec.hub_id}@{snapshot.name}"
    seen = encoder.encode(tiles[:2], 0.5)
    transform = Transform(224, 224, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    with torch.inference_mode():
        expected = model(transform(torch.from_numpy(tiles[:2])))[:, 0]
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "hf-hub:somebody/else"},
        {"architecture": "local-dir:/tmp"},
        {"architecture": "../vit_small_patch16_224"},
        {"architecture": "vit_small_patch16_224", "model_args": {"checkpoint_path": "/tmp/x.pth"}},
        {"architecture": "vit_small_patch16_224", "model_args": {"pretrained_cfg_overlay": {"file": "/tmp/x.pth"}}},
        {"model_args": {}},
        [],
    ],
    ids=str,
)
def test_a_config_of_the_hub_asks_for_a_networks_shape_alone(
    empty_cache: Path, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders.timm, "create_model", lambda *_, **__: pytest.fail("went on"))
    snapshot = _put_in_cache(empty_cache, ENCODERS["kaiko-s16"].hub_id)
    save_file({"one": torch.zeros(1)}, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"config\.json: no config of kaiko-s16"):
        build_encoder(resolve_settings("kaiko-s16"), device="cpu")


def test_timms_own_models_come_from_the_hubs_cache(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, tiles: NDArray[np.uint8]
) -> None:
    """Without their classifier; and what lacks a tensor is refused, which timm itself fills with random numbers."""
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket"))
    model = timm.create_model("test_resnet", pretrained=False).eval()
    snapshot = _put_in_cache(empty_cache, "timm/test_resnet.r160_in1k")
    save_file(model.state_dict(), snapshot / "model.safetensors")
    settings = hub.pin_weights(resolve_settings("timm:test_resnet"), offline=True)
    encoder = build_encoder(settings, device="cpu")
    assert encoder.making.weights == settings.weights == f"hub:timm/test_resnet.r160_in1k@{snapshot.name}"
    config = model.pretrained_cfg
    seen = encoder.encode(tiles[:2, :160, :160], 0.5)
    transform = Transform(160, 160, config["mean"], config["std"])
    with torch.inference_mode():
        expected = model.forward_head(
            model.forward_features(transform(torch.from_numpy(tiles[:2, :160, :160]))), pre_logits=True
        )
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-5)
    left = {name: value for name, value in model.state_dict().items() if not name.startswith("layer4")}
    save_file(left, snapshot / "model.safetensors")
    with pytest.raises(WeightsError, match=r"covers \d+\.\d % of the parameters.*missing \(layer4"):
        build_encoder(settings, device="cpu")


def test_a_repository_of_bare_weights_is_fetched_by_its_file(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = _put_in_cache(empty_cache, "majiabo/GPFM")
    torch.save({"wrong": torch.zeros(1)}, snapshot / "GPFM.pth")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with torch.device("meta"):
        model = make_architecture(ENCODERS["gpfm"])
    monkeypatch.setattr(encoders, "make_architecture", lambda _: model)
    with pytest.raises(WeightsError, match=r"GPFM\.pth: not the weights of this encoder.*1 unexpected \(wrong\)"):
        build_encoder(resolve_settings("gpfm"), device="cpu")
