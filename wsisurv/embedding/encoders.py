"""Encoders built: a model of the table, any of timm's, or a package's."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.layers.mlp import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from wsisurv.embedding.encoder import Encoder
from wsisurv.embedding.hub import explain_hub, fetch_file, hub_revision
from wsisurv.embedding.network import ModelEncoder, Transform, pool
from wsisurv.embedding.packaged import build_packaged, find_packaged
from wsisurv.embedding.table import EncoderSpec, find_spec
from wsisurv.embedding.timm_names import timm_name
from wsisurv.embedding.weights import load_strictly, read_weights
from wsisurv.engine.devices import choose_device
from wsisurv.errors import SettingsError, WeightsError
from wsisurv.settings.base import file_sha256
from wsisurv.settings.embedding import EmbedSettings, OwnEncoder

_RANDOM_SEED = 0
_SWIGLU: Mapping[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
M = TypeVar("M", bound=torch.nn.Module)


def build_encoder(
    settings: EmbedSettings, weights_file: Path | None = None, device: str = "auto", *, compiled: bool = False
) -> Encoder:
    """Build the network, or the package's encoder, that ``settings`` name, with their weights.

    Args:
        settings: with ``weights`` filled in (``resolve_settings``).
        weights_file: the file of weights, where ``settings.weights`` is a sha256.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        compiled: compile the network first, which takes minutes and pays off over many slides.

    Raises:
        SettingsError: no such encoder or device.
        WeightsError: weights that can't be had, or that don't fit.
    """
    if (packaged := find_packaged(settings.encoder)) is not None:
        return build_packaged(packaged, settings, device)
    target = choose_device(device)
    check_weights_file(settings, weights_file)
    if settings.own is not None:
        encoder = _build_own(settings.own, settings, weights_file, target)
    elif (spec := find_spec(settings.encoder)) is not None:
        encoder = _build_published(spec, settings, weights_file, target)
    else:
        encoder = _build_timm(settings, weights_file, target)
    if compiled:
        encoder.compile()
    return encoder


def check_weights_file(settings: EmbedSettings, weights_file: Path | None) -> None:
    """Hold a file of weights against the settings that name it.

    Raises:
        SettingsError: the settings don't say where weights come from.
        WeightsError: a file is wanted and not given, or it is another one.
    """
    weights = settings.weights
    if weights is None:
        raise SettingsError(f"{settings.encoder}: settings without weights; make them with resolve_settings.")
    if weights.startswith("sha256:"):
        if weights_file is None:
            raise WeightsError(
                f"{settings.encoder}: made with a file of weights ({weights}). Give it with --weights FILE."
            )
        if weights_file.is_file() and (seen := f"sha256:{file_sha256(weights_file)}") != weights:
            raise WeightsError(f"{weights_file}: is {seen}, and {weights} is wanted. Give the same file as before.")


def make_architecture(spec: EncoderSpec) -> VisionTransformer:
    """The network of a row of the table, giving all tokens, with random weights; on ``meta`` it costs nothing."""
    return _create(spec.architecture, spec.kwargs, swiglu=spec.swiglu, pretrained=False)


def _create(source: str, kwargs: Mapping[str, Any], *, swiglu: bool, pretrained: bool) -> VisionTransformer:
    """All tokens are asked for, and pooled here, so that one rule holds for every model."""
    blocks = _SWIGLU if swiglu else {}
    model = timm.create_model(source, pretrained=pretrained, num_classes=0, global_pool="", **kwargs, **blocks)
    return cast(VisionTransformer, model)  # every row of the table is one


def _create_from_hub(spec: EncoderSpec) -> VisionTransformer:
    """Where the repository's config says the architecture, only the freedom of size is ours to ask for."""
    own = {"dynamic_img_size"} if spec.from_hub_config else set(spec.kwargs)
    kwargs = {key: value for key, value in spec.kwargs.items() if key in own}
    return _create(f"hf-hub:{spec.hub_id}", kwargs, swiglu=spec.swiglu, pretrained=True)


def _build_published(
    spec: EncoderSpec, settings: EmbedSettings, weights_file: Path | None, device: torch.device
) -> ModelEncoder:
    mean, std = spec.mean, spec.std
    if settings.random_weights:
        model = _random(lambda: make_architecture(spec))
    elif weights_file is not None:
        model = make_architecture(spec)
        _load_file(model, weights_file)
    else:
        with explain_hub(spec.name):
            if spec.hub_file:
                model = make_architecture(spec)
                _load_file(model, fetch_file(spec.hub_id, spec.weights_file))
            else:
                model = _create_from_hub(spec)
        if spec.from_hub_config:
            config = _data_config(model)
            mean, std = tuple(config["mean"]), tuple(config["std"])
    transform = Transform(spec.tile_px, spec.input_px, mean, std)
    pooled = partial(pool, pooling=spec.pooling, n_prefix=model.num_prefix_tokens)
    weights = _weights(settings, spec.hub_id, spec.weights_file)
    return ModelEncoder(
        spec.name, model, transform, pooled, spec.n_features, device, settings.precision, weights=weights
    )


def _build_own(
    own: OwnEncoder, settings: EmbedSettings, weights_file: Path | None, device: torch.device
) -> ModelEncoder:
    """The user's own model, as its file says; one blank tile is sent through, so that what can't be is said now."""

    def make() -> torch.nn.Module:
        if own.pooling != "own":
            return _create(own.architecture, own.arguments, swiglu=own.swiglu, pretrained=False)
        blocks = _SWIGLU if own.swiglu else {}
        arguments: dict[str, Any] = {**own.arguments, **blocks}
        model: torch.nn.Module = timm.create_model(own.architecture, num_classes=0, **arguments)
        return model

    try:
        model = _random(make).eval()
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise SettingsError(f"{own.name}: timm can't build {own.architecture} with these arguments: {error}") from error
    pooling, n_prefix = own.pooling, int(getattr(model, "num_prefix_tokens", 0))
    if pooling != "own" and not n_prefix:
        raise SettingsError(f'{own.name}: {own.architecture} has no class token. Say pooling = "own".')
    if weights_file is not None:
        _load_file(model, weights_file)

    def pooled(output: torch.Tensor) -> torch.Tensor:
        return output if pooling == "own" else pool(output, pooling, n_prefix)

    try:
        with torch.inference_mode():
            shape = tuple(pooled(model(torch.zeros(1, 3, own.input_px, own.input_px))).shape)
    except (RuntimeError, AssertionError, IndexError) as error:
        raise SettingsError(
            f"{own.name}: {own.architecture} takes no tile of input_px = {own.input_px} ({error})."
        ) from error
    if len(shape) != 2:
        raise SettingsError(f'{own.name}: gives {shape} a tile, not one vector. Say pooling = "class".')
    transform = Transform(own.resize_px or own.tile_px, own.input_px, own.mean, own.std, own.interpolation)
    weights = settings.weights or ""
    return ModelEncoder(own.name, model, transform, pooled, shape[1], device, settings.precision, weights=weights)


def _build_timm(settings: EmbedSettings, weights_file: Path | None, device: torch.device) -> ModelEncoder:
    name = timm_name(settings.encoder)
    if settings.random_weights:
        model = _random(lambda: timm.create_model(name, pretrained=False, num_classes=0))
    elif weights_file is not None:
        model = timm.create_model(name, pretrained=False, num_classes=0)
        _load_file(model, weights_file)
    else:
        with explain_hub(settings.encoder):
            model = timm.create_model(name, pretrained=True, num_classes=0)
    config = _data_config(model)
    side = int(config["input_size"][-1])
    interpolation = config["interpolation"] if config["interpolation"] == "bilinear" else "bicubic"
    transform = Transform(side, side, tuple(config["mean"]), tuple(config["std"]), interpolation)
    with torch.inference_mode():
        shape = model.eval()(torch.zeros(1, 3, side, side)).shape
    if len(shape) != 2:
        raise SettingsError(f"{settings.encoder}: gives {tuple(shape)} a tile, not one vector. Choose another model.")
    weights = _weights(settings, str(config.get("hf_hub_id", "")), "model.safetensors")
    return ModelEncoder(
        settings.encoder, model, transform, lambda out: out, shape[1], device, settings.precision, weights=weights
    )


def _weights(settings: EmbedSettings, hub_id: str, weights_file: str) -> str:
    """Where the weights came from, with the commit where the hub's cache has it."""
    weights = settings.weights or ""
    revision = hub_revision(hub_id, weights_file) if weights.startswith("hub:") else None
    return f"{weights}@{revision}" if revision else weights


def _data_config(model: torch.nn.Module) -> dict[str, Any]:
    """What timm knows of a model's input: input_size, mean, std, interpolation."""
    config: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    return config


def _random(make: Callable[[], M]) -> M:
    """The same random weights every time, without touching the caller's random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        return make()


def _load_file(model: torch.nn.Module, path: Path) -> None:
    """Load a file as timm would: other projects' names translated, a classifier's weights left out."""
    state = read_weights(path)
    if isinstance(model, VisionTransformer):
        state = checkpoint_filter_fn(state, model)
    own = model.state_dict()
    config: Any = model.pretrained_cfg
    classifiers = config.get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ([classifiers] if isinstance(classifiers, str) else classifiers))
    kept = {name: value for name, value in state.items() if name in own or not name.startswith(prefixes)}
    load_strictly(model, kept, str(path))
