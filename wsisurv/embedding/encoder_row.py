"""What the table says of one published tile encoder. Nothing heavy is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Pooling = Literal["class", "class+mean"]
Precision = Literal["fp32", "fp16", "bf16"]
Commercial = Literal["yes", "no", "ask"]
Colour = tuple[float, float, float]
LayoutName = Literal[
    "timm", "dinov2-in-chunks", "transformers-dinov2", "keep", "mettle", "conch-v1", "conch-v1.5", "musk"
]
HeadName = Literal["projection", "refinement", "coca", "attention"]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
BIOPTIMUS_MEAN: Colour = (0.707223, 0.578729, 0.703617)
BIOPTIMUS_STD: Colour = (0.211883, 0.230117, 0.177517)
CHANNELWISE = "channelwise"
"""Architecture of ``embedding/channelwise.py``, which is none of timm's."""
HALF: Colour = (0.5, 0.5, 0.5)
_NONE: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True)
class EncoderSpec:
    """One published encoder."""

    name: str  # as users write it
    hub_id: str  # repository at the Hugging Face hub
    # timm's name of the architecture. Where ``from_hub_config`` is True the repository's own config says it in the end,
    # and this one serves ``--weights FILE`` and ``--random-weights``. ``CHANNELWISE`` is our own.
    architecture: str
    params_m: float  # parameters, millions
    n_tokens: int  # tokens that the model gives for one tile, class token and registers included
    n_features: int  # features a tile, after pooling
    licence: str  # as known when this was written; the hub's page of the model decides
    commercial: Commercial  # whether it lets a company use the model; ``ask`` where sources differ or say nothing
    # ``gated`` wants a token of an account that accepted the licence; ``open`` doesn't
    access: Literal["gated", "open"]
    kwargs: Mapping[str, object] = field(default_factory=lambda: _NONE)  # arguments of the architecture
    swiglu: bool = False  # True for SwiGLU blocks (packed, with SiLU) instead of plain ones
    # ``class``, the class token; ``class+mean``, the class token and after it the mean of the patch tokens, registers
    # left out
    pooling: Pooling = "class"
    tile_px: int = 224  # side of the tiles it wants, pixels
    tile_mpp: float = 0.5  # their resolution, µm per pixel
    mpp_range: tuple[float, float] = (0.5, 0.5)  # resolutions that it was trained on, µm per pixel
    resize_px: int | None = None  # side that a tile is resampled to; None for its own
    input_px: int = 224  # side that the model sees: the centre of that
    mean: Colour = IMAGENET_MEAN  # of the normalisation, red, green, blue, 0 to 1
    std: Colour = IMAGENET_STD  # of the normalisation
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # of the resampling of tiles of another size
    head: HeadName | None = (
        None  # what its authors put behind the class token, or (``coca``, ``attention``) behind all tokens
    )
    unit_length: bool = False  # True where its features are scaled to length 1
    layout: LayoutName = "timm"  # how the tensors of its file are named; ``checkpoint_layouts`` has them
    precision: Precision = "fp32"  # arithmetic that its authors use on an accelerator
    weights_file: str = "model.safetensors or pytorch_model.bin"  # name of the weights in the repository
    hub_file: bool = False  # True where the repository holds only weights, without a config that timm can read
    from_hub_config: bool = False  # True where architecture, mean and std come from the repository's config
    paper: str = ""  # where its authors describe it
