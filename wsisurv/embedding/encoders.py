"""Encoders built: a model of the table, any of timm's, or a package's."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.layers.mlp import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer

from wsisurv.embedding.channelwise import ChannelwiseTransformer
from wsisurv.embedding.checkpoint_layouts import fit_positions, rename_tensors
from wsisurv.embedding.encoder import Encoder
from wsisurv.embedding.encoder_row import CHANNELWISE, EncoderSpec, LayoutName
from wsisurv.embedding.heads import WithHead, add_head
from wsisurv.embedding.hub import find_weights, pin_weights
from wsisurv.embedding.network import ModelEncoder, Transform, pool
from wsisurv.embedding.packaged import build_packaged, find_packaged
from wsisurv.embedding.table import find_spec
from wsisurv.embedding.timm_names import timm_name
from wsisurv.engine.devices import choose_device
from wsisurv.errors import SettingsError, WeightsError
from wsisurv.formats.weights import State, load_strictly, read_weights
from wsisurv.settings.architectures import BARE_NAME, require_argument
from wsisurv.settings.base import file_sha256
from wsisurv.settings.embedding import EmbedSettings, OwnEncoder

_RANDOM_SEED = 0
_OF_INPUT = ("input_size", "fixed_input_size", "interpolation", "mean", "std", "num_classes", "classifier")
"""Keys of a repository's config: how a tile is brought to the network, and what of its weights is a classifier."""
_POSITIONS: Mapping[LayoutName, str] = {
    "transformers-dinov2": "bicubic",
    "conch-v1": "bilinear",
    "conch-v1.5": "bilinear",
}
"""How the authors' own loaders bring positions to another grid, where that is otherwise than timm's."""
_SWIGLU: Mapping[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU}
M = TypeVar("M", bound=torch.nn.Module)


def build_encoder(
    settings: EmbedSettings,
    weights_file: Path | None = None,
    device: str = "auto",
    *,
    cpu_bf16: bool = False,
    compiled: bool = False,
) -> Encoder:
    """Build the network, or the package's encoder, that ``settings`` name, with their weights.

    Args:
        settings: with ``weights`` filled in (``resolve_settings``).
        weights_file: the file of weights, where ``settings.weights`` is a sha256.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        cpu_bf16: compute in bf16 on a processor where a trial is faster in it and agrees.
        compiled: compile the network first, which takes minutes and pays off over many slides.

    Raises:
        SettingsError: no such encoder or device.
        WeightsError: weights that can't be had, or that don't fit.
    """
    if (packaged := find_packaged(settings.encoder)) is not None:
        return build_packaged(packaged, settings, device)
    target = choose_device(device)
    check_weights_file(settings, weights_file)
    settings = pin_weights(settings, offline=True)
    if settings.own is not None:
        encoder = _build_own(settings.own, settings, weights_file, target)
    elif (spec := find_spec(settings.encoder)) is not None:
        encoder = _build_published(spec, settings, weights_file, target)
    else:
        encoder = _build_timm(settings, weights_file, target)
    if cpu_bf16:
        encoder.try_bf16()
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
    if settings.own is not None and weights != "random" and not weights.startswith("sha256:"):
        raise SettingsError(f"{settings.encoder}: a model of somebody's own has weights of a file, not {weights}.")
    if weights.startswith("sha256:"):
        if weights_file is None:
            raise WeightsError(
                f"{settings.encoder}: made with a file of weights ({weights}). Give it with --weights FILE."
            )
        if weights_file.is_file() and (seen := f"sha256:{file_sha256(weights_file)}") != weights:
            raise WeightsError(f"{weights_file}: is {seen}, and {weights} is wanted. Give the same file as before.")


def make_architecture(spec: EncoderSpec) -> VisionTransformer | WithHead | ChannelwiseTransformer:
    """The network of a row of the table, giving tokens, with random weights; on ``meta`` it costs nothing."""
    if spec.architecture == CHANNELWISE:
        return ChannelwiseTransformer(**cast(Mapping[str, Any], spec.kwargs))
    trunk = _create(spec.architecture, spec.kwargs, swiglu=spec.swiglu)
    return trunk if spec.head is None else add_head(trunk, spec.head, patches=spec.pooling != "class")


def pool_as(spec: EncoderSpec, tokens: torch.Tensor, n_prefix: int) -> torch.Tensor:
    """The features (n_tiles, n_features) that a row of the table makes of tokens; arguments as of ``pool``."""
    features = pool(tokens, spec.pooling, n_prefix)
    return torch.nn.functional.normalize(features, dim=-1) if spec.unit_length else features


def _create(
    architecture: str, kwargs: Mapping[str, Any], *, swiglu: bool, cfg: Mapping[str, Any] | None = None
) -> VisionTransformer:
    """All tokens are asked for, and pooled here, so that one rule holds for every model."""
    return cast(VisionTransformer, _bare(architecture, {**kwargs, "global_pool": ""}, swiglu=swiglu, cfg=cfg))


def _bare(
    architecture: str, arguments: Mapping[str, Any], *, swiglu: bool = False, cfg: Mapping[str, Any] | None = None
) -> torch.nn.Module:
    """A network of timm with weights that were never trained; the only call of timm's factory, which can also load.

    Raises:
        SettingsError: a name that is not bare, or an argument that is not of a network's shape.
    """
    try:
        for name, value in arguments.items():
            require_argument(name, value)
    except ValueError as error:
        raise SettingsError(f"{architecture}: {error}") from error
    if not re.fullmatch(BARE_NAME, architecture):
        raise SettingsError(f"{architecture!r} is no name of an architecture of timm.")
    kwargs: dict[str, Any] = {**arguments, **(_SWIGLU if swiglu else {}), "pretrained_cfg": dict(cfg) if cfg else None}
    model: torch.nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **kwargs)
    return model


def _create_by_config(spec: EncoderSpec, path: Path) -> VisionTransformer:
    """The network that a repository's config says; only the freedom of size is ours to ask for.

    Raises:
        WeightsError: the config is none, or asks for more than a network's shape.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        said = config.get("pretrained_cfg") or config
        cfg = {name: said[name] for name in _OF_INPUT if name in said}
        own = {name: value for name, value in spec.kwargs.items() if name == "dynamic_img_size"}
        blocks = {"mlp_layer", "act_layer"} if spec.swiglu else set()  # classes there, which the row names
        arguments = {name: value for name, value in (config.get("model_args") or {}).items() if name not in blocks}
        scales = {name: value for name, value in spec.kwargs.items() if name == "init_values"}  # left out by some
        return _create(config["architecture"], {**scales, **arguments, **own}, swiglu=spec.swiglu, cfg=cfg)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SettingsError) as error:
        raise WeightsError(f"{path}: no config of {spec.name} that can be understood ({error}).") from error


def _build_published(
    spec: EncoderSpec, settings: EmbedSettings, weights_file: Path | None, device: torch.device
) -> ModelEncoder:
    mean, std = spec.mean, spec.std
    if settings.random_weights:
        model = _random(lambda: make_architecture(spec))
    elif weights_file is not None:
        model = make_architecture(spec)
        _load_file(model, weights_file, spec.layout)
    else:
        found = find_weights(settings)
        model = make_architecture(spec) if found.config is None else _create_by_config(spec, found.config)
        _load_file(model, found.weights, spec.layout)
        if spec.from_hub_config:
            config = _data_config(model)
            mean, std = tuple(config["mean"]), tuple(config["std"])
    transform = Transform(spec.resize_px or spec.tile_px, spec.input_px, mean, std, spec.interpolation)
    pooled = partial(pool_as, spec, n_prefix=model.num_prefix_tokens)
    return ModelEncoder(
        *(spec.name, model, transform, pooled, spec.n_features, device, settings.precision),
        weights=settings.weights or "",
    )


def _build_own(
    own: OwnEncoder, settings: EmbedSettings, weights_file: Path | None, device: torch.device
) -> ModelEncoder:
    """The user's own model, as its file says; one blank tile is sent through, so that what can't be is said now."""

    def make() -> torch.nn.Module:
        if own.pooling != "own":
            return _create(own.architecture, own.arguments, swiglu=own.swiglu)
        return _bare(own.architecture, own.arguments, swiglu=own.swiglu)

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
        model = _random(lambda: _bare(name, {}))
    else:
        model = _bare(name, {})
        _load_file(model, weights_file or find_weights(settings).weights)
    config = _data_config(model)
    side = int(config["input_size"][-1])
    interpolation = config["interpolation"] if config["interpolation"] == "bilinear" else "bicubic"
    transform = Transform(side, side, tuple(config["mean"]), tuple(config["std"]), interpolation)
    with torch.inference_mode():
        shape = model.eval()(torch.zeros(1, 3, side, side)).shape
    if len(shape) != 2:
        raise SettingsError(f"{settings.encoder}: gives {tuple(shape)} a tile, not one vector. Choose another model.")
    return ModelEncoder(
        *(settings.encoder, model, transform, lambda out: out, shape[1], device, settings.precision),
        weights=settings.weights or "",
    )


def _data_config(model: torch.nn.Module) -> dict[str, Any]:
    """What timm knows of a model's input: input_size, mean, std, interpolation."""
    config: dict[str, Any] = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    return config


def _random(make: Callable[[], M]) -> M:
    """The same random weights every time, without touching the caller's random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        return make()


def _load_file(model: torch.nn.Module, path: Path, layout: LayoutName = "timm") -> None:
    """Load a file as timm would: other projects' names translated, a classifier's weights left out."""
    state = rename_tensors(read_weights(path), layout)
    if not isinstance(model, WithHead):
        load_strictly(model, _as_timm(model, state, layout), str(path))
        return
    head = {name: state.pop(name) for name in list(state) if name.startswith("head.")}
    trunk = _as_timm(model.trunk, state, layout)
    load_strictly(model, head | {f"trunk.{name}": value for name, value in trunk.items()}, str(path))


def _as_timm(model: torch.nn.Module, state: State, layout: LayoutName) -> State:
    mode = _POSITIONS.get(layout)
    if mode is not None and "pos_embed" in state and isinstance(model, VisionTransformer):
        state["pos_embed"] = fit_positions(state["pos_embed"], model.patch_embed.grid_size[0], mode)
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if translate is not None:
        state = translate(state, model)
    own = model.state_dict()
    config: Any = getattr(model, "pretrained_cfg", {})
    classifiers = config.get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ([classifiers] if isinstance(classifiers, str) else classifiers))
    return {name: value for name, value in state.items() if name in own or not name.startswith(prefixes)}
