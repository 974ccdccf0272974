"""Encoders built: a model of the table, any of timm's, or histomics.

The only module that imports timm.
"""

import difflib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.data.config import resolve_model_data_config
from timm.layers.mlp import SwiGLUPacked
from timm.models import get_pretrained_cfg
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch.nn.functional import interpolate

from wsisurv.embedding.encoder import Encoder, HistomicsEncoder
from wsisurv.embedding.table import HISTOMICS, TIMM_PREFIX, Colour, EncoderSpec, Pooling, find_spec
from wsisurv.embedding.weights import explain_hub, fetch_file, load_strictly, read_weights
from wsisurv.errors import SettingsError, WeightsError
from wsisurv.settings import EmbedSettings, file_sha256

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
_RANDOM_SEED = 0
M = TypeVar("M", bound=torch.nn.Module)


@dataclass(frozen=True)
class Transform:
    """From the pixels of a tile to what a model wants.

    Attributes:
        resize_px: side that a tile is resampled to, where it has another.
        input_px: side of the centre that the model sees.
        mean: subtracted, in 0 to 1.
        std: divided by.
        interpolation: of the resampling, ``bicubic`` or ``bilinear``, antialiased.
    """

    resize_px: int
    input_px: int
    mean: Colour
    std: Colour
    interpolation: str = "bicubic"

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """Normalised float32 (n, 3, input_px, input_px) of uint8 (n, side, side, 3), on the tiles' device."""
        pixels = tiles.permute(0, 3, 1, 2).float()
        if pixels.shape[-1] != self.resize_px:
            size = (self.resize_px, self.resize_px)
            pixels = interpolate(pixels, size, mode=self.interpolation, antialias=True, align_corners=False)
            pixels = pixels.round().clamp(0, 255)  # as an image of bytes, which models are trained on
        start = (self.resize_px - self.input_px) // 2
        pixels = pixels[..., start : start + self.input_px, start : start + self.input_px]
        mean = torch.tensor(self.mean, device=tiles.device).view(3, 1, 1) * 255
        std = torch.tensor(self.std, device=tiles.device).view(3, 1, 1) * 255
        return (pixels - mean) / std


def pool(tokens: torch.Tensor, pooling: Pooling, n_prefix: int) -> torch.Tensor:
    """One vector a tile from a transformer's tokens.

    Args:
        tokens: (n_tiles, n_prefix + n_patches, width); the class token first, then registers, then patches.
        pooling: ``class`` or ``class+mean``.
        n_prefix: the class token and the registers.

    Returns:
        (n_tiles, width), or (n_tiles, 2 · width) for ``class+mean``.
    """
    first = tokens[:, 0]
    return first if pooling == "class" else torch.cat([first, tokens[:, n_prefix:].mean(dim=1)], dim=-1)


class ModelEncoder:
    """A network, its transform and its pooling, on one device."""

    names: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        model: torch.nn.Module,
        transform: Transform,
        pooled: Callable[[torch.Tensor], torch.Tensor],
        n_features: int,
        device: torch.device,
        precision: str,
    ) -> None:
        self.name, self.n_features = name, n_features
        self._model = model.eval().requires_grad_(False).to(device)
        self._transform, self._pooled, self._device = transform, pooled, device
        # Half precision is for accelerators; a CPU is slower in it, and its fp32 agrees within its rounding.
        self._dtype = None if device.type == "cpu" else _DTYPES.get(precision)

    def _arithmetic(self) -> AbstractContextManager[object]:
        return nullcontext() if self._dtype is None else torch.autocast(self._device.type, self._dtype)

    def encode(self, tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
        """Features float32 (n_tiles, n_features); bytes travel to the device and are normalised there."""
        del tile_mpp  # checked before; a network sees pixels
        with torch.inference_mode(), self._arithmetic():
            pixels = self._transform(torch.from_numpy(tiles).to(self._device))
            features: NDArray[np.float32] = self._pooled(self._model(pixels)).float().cpu().numpy()
        return features

    def close(self) -> None:
        """Nothing to let go of."""


def choose_device(wanted: str) -> torch.device:
    """``auto`` is CUDA where there is one, else Apple's, else the CPU.

    Raises:
        SettingsError: torch knows no such device, or there is none here.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            f"--device {wanted}: {str(error).splitlines()[0]}. Use auto, cpu, cuda, cuda:1 or mps."
        ) from error
    return device


def hub_id_of(encoder: str) -> str:
    """Hub repository of an encoder of the table or of ``timm:NAME``.

    Raises:
        SettingsError: no such encoder.
        WeightsError: timm has no weights for this architecture.
    """
    spec = find_spec(encoder)
    if spec is not None:
        return spec.hub_id
    config = get_pretrained_cfg(timm_name(encoder))
    if config is None or not config.hf_hub_id:
        raise WeightsError(
            f"{encoder}: timm has no weights for it. Give some with --weights FILE, or --random-weights."
        )
    return str(config.hf_hub_id)


def timm_name(encoder: str) -> str:
    """NAME of ``timm:NAME``.

    Raises:
        SettingsError: timm has no such architecture or weights; near names are listed.
    """
    name = encoder.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name) or ("." in name and not timm.is_model_pretrained(name)):
        known = [*timm.list_models(), *timm.list_pretrained()]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise SettingsError(
            f"timm has no model {name!r}"
            + (f"; there is {', '.join(near)}" if near else "")
            + '. `python -c "import timm; print(timm.list_models())"` lists all.'
        )
    return name


def build_encoder(
    settings: EmbedSettings, weights_file: Path | None = None, device: str = "auto", workers: int = 1
) -> Encoder:
    """Build the encoder that ``settings`` name, with their weights.

    Args:
        settings: with ``weights`` filled in (``resolve_settings``).
        weights_file: the file of weights, where ``settings.weights`` is a sha256.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        workers: threads of histomics.

    Raises:
        SettingsError: no such encoder or device.
        WeightsError: weights that can't be had, or that don't fit.
    """
    if settings.encoder == HISTOMICS:
        return HistomicsEncoder(workers)
    spec = find_spec(settings.encoder)
    target = choose_device(device)
    check_weights_file(settings, weights_file)
    if spec is not None:
        return _build_published(spec, settings, weights_file, target)
    return _build_timm(settings, weights_file, target)


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
    return _create(spec.architecture, spec, spec.kwargs, pretrained=False)


def _create(source: str, spec: EncoderSpec, kwargs: Mapping[str, Any], *, pretrained: bool) -> VisionTransformer:
    """All tokens are asked for, and pooled here, so that one rule holds for every model."""
    blocks: dict[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": torch.nn.SiLU} if spec.swiglu else {}
    model = timm.create_model(source, pretrained=pretrained, num_classes=0, global_pool="", **kwargs, **blocks)
    return cast(VisionTransformer, model)  # every row of the table is one


def _create_from_hub(spec: EncoderSpec) -> VisionTransformer:
    """Where the repository's config says the architecture, only the freedom of size is ours to ask for."""
    own = {"dynamic_img_size"} if spec.from_hub_config else set(spec.kwargs)
    kwargs = {key: value for key, value in spec.kwargs.items() if key in own}
    return _create(f"hf-hub:{spec.hub_id}", spec, kwargs, pretrained=True)


def _build_published(
    spec: EncoderSpec, settings: EmbedSettings, weights_file: Path | None, device: torch.device
) -> Encoder:
    mean, std = spec.mean, spec.std
    if settings.random_weights:
        model = _random(lambda: make_architecture(spec))
    elif weights_file is not None:
        model = make_architecture(spec)
        _load_file(model, weights_file)
    else:
        with explain_hub(spec.name, spec.hub_id, spec.weights_file, gated=spec.access == "gated"):
            if spec.hub_file:
                model = make_architecture(spec)
                _load_file(model, fetch_file(spec.hub_id, spec.weights_file))
            else:
                model = _create_from_hub(spec)
        if spec.from_hub_config:
            config = _data_config(model)
            mean, std = tuple(config["mean"]), tuple(config["std"])
    transform = Transform(spec.tile_px, spec.input_px, mean, std)
    n_prefix = model.num_prefix_tokens
    return ModelEncoder(
        spec.name,
        model,
        transform,
        lambda tokens: pool(tokens, spec.pooling, n_prefix),
        spec.n_features,
        device,
        settings.precision,
    )


def _build_timm(settings: EmbedSettings, weights_file: Path | None, device: torch.device) -> Encoder:
    name = timm_name(settings.encoder)
    if settings.random_weights:
        model = _random(lambda: timm.create_model(name, pretrained=False, num_classes=0))
    elif weights_file is not None:
        model = timm.create_model(name, pretrained=False, num_classes=0)
        _load_file(model, weights_file)
    else:
        with explain_hub(settings.encoder, hub_id_of(settings.encoder), "model.safetensors", gated=False):
            model = timm.create_model(name, pretrained=True, num_classes=0)
    config = _data_config(model)
    side = int(config["input_size"][-1])
    interpolation = config["interpolation"] if config["interpolation"] == "bilinear" else "bicubic"
    transform = Transform(side, side, tuple(config["mean"]), tuple(config["std"]), interpolation)
    with torch.inference_mode():
        shape = model.eval()(torch.zeros(1, 3, side, side)).shape
    if len(shape) != 2:
        raise SettingsError(f"{settings.encoder}: gives {tuple(shape)} a tile, not one vector. Choose another model.")
    return ModelEncoder(settings.encoder, model, transform, lambda out: out, shape[1], device, settings.precision)


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
