"""Settings of embedding, of stains and of a user's own encoder."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from wsisurv.settings.architectures import BARE_NAME, require_argument
from wsisurv.settings.base import Settings
from wsisurv.units import name_problem

_LATER: dict[str, Any] = {
    "dtype": "float16",
    "half_scale": False,
    "own": None,
    "stain": None,
    "augment_stain": False,
    "of_tiles": None,
}
"""Settings of embedding that the first files don't name, and what they were then."""


_COMMIT = "[0-9a-f]{40}"
_WEIGHTS = (
    rf"^(random|imported|sha256:[0-9a-f]{{64}}|package:[ -~]+|hub:[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@{_COMMIT})?)$"
)


Share = Annotated[float, Field(ge=0, le=1)]


Spread = Annotated[float, Field(gt=0, le=1)]


class OwnEncoder(Settings):
    """A model of the user's own: what a file of ``embed --encoder-spec`` says."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$",
        max_length=64,
        description="Name from now on: in the files, and of the folder of its features.",
    )
    architecture: str = Field(pattern=BARE_NAME, max_length=128, description="Architecture, by timm's name.")
    arguments: dict[str, bool | int | float | str | list[int | float]] = Field(
        default_factory=dict, description="Arguments of the architecture, e.g. img_size, init_values, reg_tokens."
    )
    swiglu: bool = Field(False, description="SwiGLU blocks (packed, with SiLU) instead of plain ones.")
    pooling: Literal["class", "class+mean", "own"] = Field(
        description="Pooling: the class token; that and the mean of the patch tokens; or the architecture's own."
    )
    mean: tuple[Share, Share, Share] = Field(description="Mean of the normalisation, red, green, blue, 0 to 1.")
    std: tuple[Spread, Spread, Spread] = Field(description="Standard deviation of the normalisation.")
    tile_px: int = Field(ge=16, le=4096, description="Side of the tiles that it was trained on, pixels.")
    tile_mpp: float = Field(gt=0.05, le=32, description="Resolution of those tiles, µm per pixel.")
    resize_px: int | None = Field(
        None, ge=16, le=4096, description="Side that a tile is resampled to; None for tile_px: as it is."
    )
    input_px: int = Field(ge=16, le=4096, description="Side of the centre that the model sees.")
    interpolation: Literal["bicubic", "bilinear"] = Field(
        "bicubic", description="Interpolation of the resampling, antialiased."
    )
    precision: Literal["fp32", "fp16", "bf16"] = Field("fp32", description="Precision of arithmetic on an accelerator.")
    licence: str = Field("not said", description="Licence, which goes into the files.")

    @field_validator("arguments")
    @classmethod
    def _of_shape_alone(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, value in arguments.items():
            require_argument(name, value)
        return arguments

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.input_px > (self.resize_px or self.tile_px):
            raise ValueError("input_px is the centre of the tile: it can't be larger than resize_px, or tile_px")
        return self


class StainSettings(Settings):
    """To which colours the tiles of a slide are brought before they are encoded."""

    method: Literal["macenko", "reinhard"] = Field(description="Method of normalisation.")
    source: str = Field(description="Source of the reference: words for the one built in, sha256:… of a picture.")
    reference: tuple[float, ...] = Field(
        description="Reference. macenko: haematoxylin's and eosin's optical density in red, green, blue, and the most "
        "of each (8 numbers); reinhard: mean and standard deviation of l, α, β (6 numbers)."
    )


class EmbedSettings(Settings):
    """How tiles become features."""

    encoder: str = Field(
        "histomics",
        description="Encoder: histomics (built in), a published model (uni, virchow2 …), timm:NAME, or an installed "
        "package's. `wsisurv encoders` lists them.",
    )
    weights: str | None = Field(
        None,
        pattern=_WEIGHTS,
        description="Weights: sha256:… of a file, hub:ID@COMMIT, package:NAME VERSION, random, or None (none needed).",
    )
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        "fp32",
        description="Precision of the forward pass on an accelerator; a CPU computes in fp32, which agrees within the "
        "rounding.",
    )
    version: int | None = Field(
        None, description="Version of the columns of histomics; None for a model, or for the present one."
    )
    dtype: Literal["float16", "float32"] = Field(
        "float16", description="Number type of the stored features; float16 is checked for overflow."
    )
    half_scale: bool = Field(
        False,
        description="Pixels halved by the JPEG decoder itself, where a slide's format allows it: faster, and not "
        "quite the same.",
    )
    own: OwnEncoder | None = Field(None, description="Model of the user's own; then encoder is its name.")
    stain: StainSettings | None = Field(None, description="Stain normalisation; None leaves colours as they are.")
    augment_stain: bool = Field(
        False, description="Write also how much the features change when stains are weaker or stronger."
    )

    of_tiles: "EmbedSettings | None" = Field(
        None, description="Settings of the tiles' features, where they were pooled to one row a slide; None for tiles."
    )

    @field_validator("encoder")
    @classmethod
    def _can_be_a_folder(cls, encoder: str) -> str:
        if problem := name_problem(encoder.removeprefix("timm:")):
            raise ValueError(f"the name of an encoder {problem}")
        return encoder

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later and stands at its default, so that older files are not stale."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}

    @property
    def random_weights(self) -> bool:
        """True when the weights were never trained: for trying things out, not for results."""
        return self.weights == "random"

    @property
    def hub_commit(self) -> str | None:
        """Commit that weights of the hub are pinned by; None for others, and where it is not known yet."""
        weights = self.weights or ""
        return weights.rpartition("@")[2] if weights.startswith("hub:") and "@" in weights else None

    @property
    def folder(self) -> str:
        """Folder name of this encoder's features in a workspace; random weights and stains have their own."""
        name = self.encoder.replace(":", "-")
        name = name + "-random" if self.random_weights else name
        return f"{name}-{self.stain.method}" if self.stain else name


def is_untrained(embed_settings: Mapping[str, Any]) -> bool:
    """True where features, or the tiles' features that were pooled to them, are of weights that were never trained.

    Args:
        embed_settings: as a file has them (JSON object).
    """
    settings = (embed_settings, embed_settings.get("of_tiles") or {})
    return any(one.get("weights") == "random" for one in settings)
