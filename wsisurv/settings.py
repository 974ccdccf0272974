"""What made a file: one frozen model a step, unknown keys refused, and the fingerprint of it all.

Only what can change a result is a setting. Workers, devices and progress are arguments of the step.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from wsisurv.errors import SettingsError


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TileSettings(Settings):
    """How slides are cut into tiles."""

    tile_px: int = Field(224, ge=16, le=4096)
    """Side of a tile in pixels at ``tile_mpp``."""
    tile_mpp: float = Field(0.5, gt=0.05, le=32)
    """Resolution of a tile, µm per pixel; exact, not rounded to a magnification."""
    overlap_px: int = Field(0, ge=0)
    """Pixels at ``tile_mpp`` that neighbours share."""
    min_tissue: float = Field(0.5, ge=0, le=1)
    """A tile is kept when at least this share of its area is tissue."""
    tissue: Literal["otsu", "hsv", "entropy"] = "otsu"
    """How tissue is told from glass."""
    tissue_mpp: float = Field(8.0, gt=0, le=64)
    """Resolution of the view on which tissue is found, µm per pixel."""
    min_piece_um2: float = Field(10_000.0, ge=0)
    """Smaller specks of tissue are left out; about the area of one default tile."""
    max_hole_um2: float = Field(10_000.0, ge=0)
    """Smaller holes in the tissue are filled."""
    keep_artefacts: bool = False
    """Keep pen marks, black edges, lines, bubble rims and folds as tissue."""
    measures: bool = False
    """Store focus and stain densities of each tile, for which its pixels are read."""
    slide_mpp: float | None = Field(None, gt=0.01, le=32)
    """Level-0 resolution given by the user; overrides the file's, µm per pixel."""


_LATER: dict[str, Any] = {
    "dtype": "float16",
    "half_scale": False,
    "own": None,
    "stain": None,
    "augment_stain": False,
}
"""Settings of embedding that the first files don't name, and what they were then."""

Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=1)]


class OwnEncoder(Settings):
    """A model of the user's own: what a file of ``embed --encoder-spec`` says."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)
    """As it is called from now on: in the files, and as the folder of its features."""
    architecture: str
    """timm's name of the architecture."""
    arguments: dict[str, bool | int | float | str | list[int | float]] = Field(default_factory=dict)
    """Of the architecture, e.g. ``img_size``, ``init_values``, ``reg_tokens``."""
    swiglu: bool = False
    """SwiGLU blocks (packed, with SiLU) instead of plain ones."""
    pooling: Literal["class", "class+mean", "own"]
    """The class token; the class token and the mean of the patch tokens; or what the architecture gives by itself."""
    mean: tuple[Share, Share, Share]
    """Of the normalisation, red, green, blue, 0 to 1."""
    std: tuple[Spread, Spread, Spread]
    """Of the normalisation."""
    tile_px: int = Field(ge=16, le=4096)
    """Side of the tiles that it was trained on."""
    tile_mpp: float = Field(gt=0.05, le=32)
    """Their resolution, µm per pixel."""
    resize_px: int | None = Field(None, ge=16, le=4096)
    """Side that a tile is resampled to; None for ``tile_px``: as it is."""
    input_px: int = Field(ge=16, le=4096)
    """Side of the centre that the model sees."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Of the resampling, antialiased."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Arithmetic on an accelerator."""
    licence: str = "not said"
    """Goes into the files."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.input_px > (self.resize_px or self.tile_px):
            raise ValueError("input_px is the centre of the tile: it can't be larger than resize_px, or tile_px")
        return self


class StainSettings(Settings):
    """To which colours the tiles of a slide are brought before they are encoded."""

    method: Literal["macenko", "reinhard"]
    source: str
    """Where the reference comes from: words for the one built in, ``sha256:…`` of a picture."""
    reference: tuple[float, ...]
    """macenko: haematoxylin's and eosin's optical density in red, green, blue, and the most of each (8 numbers);
    reinhard: mean and standard deviation of l, α, β (6 numbers)."""


class EmbedSettings(Settings):
    """How tiles become features."""

    encoder: str = "histomics"
    """``histomics``, a name of the encoder table, ``timm:NAME``, or the name of the user's own."""
    weights: str | None = None
    """Where the weights came from: ``sha256:…`` of a file, ``hub:ID``, ``random``, or None (none needed)."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Arithmetic of the forward pass on an accelerator; a CPU computes in fp32, which agrees within the rounding."""
    version: int | None = None
    """Version of the columns of ``histomics``; None for a model, or for the present one."""
    dtype: Literal["float16", "float32"] = "float16"
    """In which the features are stored."""
    half_scale: bool = False
    """Pixels halved by the JPEG decoder itself, where a slide's format allows it: faster, and not quite the same."""
    own: OwnEncoder | None = None
    """A model of the user's own; then ``encoder`` is its name."""
    stain: StainSettings | None = None
    """Colours brought to a reference; None leaves them as they are."""
    augment_stain: bool = False
    """Also write how far stain shifts move the features."""

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
    def folder(self) -> str:
        """Folder name of this encoder's features in a workspace; random weights and stains have their own."""
        name = self.encoder.replace(":", "-").replace("/", "-")
        name = name + "-random" if self.random_weights else name
        return f"{name}-{self.stain.method}" if self.stain else name


class ReportSettings(Settings):
    """How reports become statements."""

    backend: Literal["ollama", "rules"] = "ollama"
    model: str | None = None
    """Model name at the Ollama server; None for ``rules``."""
    model_digest: str | None = None
    """Digest of that model, as the server tells it."""
    prompt: str | None = None
    """sha256 of prompt and schema; None for ``rules``."""
    rules_version: int | None = None
    """Version of the embedded rules; None for ``ollama``."""
    proof_version: int | None = None
    """Version of the proof that every statement has passed."""
    keep: Literal["morphology", "all"] = "morphology"
    """Keep what H&E morphology can show, or every finding."""
    options: dict[str, int | float | bool] = Field(default_factory=dict)
    """Options of the model (temperature, seed, num_ctx …)."""


class CohortSettings(Settings):
    """Which columns of the clinical table mean what."""

    time: str = "time"
    event: str = "event"
    time_unit: Literal["days", "weeks", "months", "years"] = "days"
    event_values: tuple[str, str] | None = None
    """The table's words for (did not happen, happened), e.g. ``("Alive", "Dead")``; None takes 0/1/true/false."""
    case: str = "case_id"
    site: str | None = None
    covariates: tuple[str, ...] = ()


Aggregator = Literal["mean", "abmil", "transmil"]


class TeacherSettings(Settings):
    """How the teacher is trained."""

    encoder: str = "histomics"
    """Folder of the features, as ``EmbedSettings.folder``."""
    text_encoder: str = "hashing"
    teacher: Literal["late", "concat", "cross-attention"] = "late"
    """Whose risk a student is told: the report's alone, its branches being fused late, or that of a model of both."""
    aggregator: Aggregator = "abmil"
    """From tiles to a case, in the image branch."""
    hidden: int = Field(32, ge=2, le=2048)
    """Width of the image branch's hidden layer."""
    epochs: int = Field(150, ge=1, le=10000)
    """Passes of the image branch over the whole cohort."""
    learning_rate: float = Field(1e-2, gt=0)
    weight_decay: float = Field(1e-3, ge=0)
    dropout: float = Field(0.2, ge=0, lt=1)
    tiles_per_bag: int = Field(128, ge=0)
    """Random tiles a bag a step; 0 takes all."""
    text_branch: Literal["attention", "ridge"] = "ridge"
    """How a report's statements become its risk: attention over them, or a ridge Cox regression on their mean."""
    text_hidden: int = Field(16, ge=2, le=2048)
    """Width of the hidden layer of the text branch with attention."""
    text_epochs: int = Field(60, ge=1, le=10000)
    text_learning_rate: float = Field(1e-2, gt=0)
    text_weight_decay: float = Field(1e-3, ge=0)
    folds: int = Field(5, ge=2, le=20)
    """Outer folds, whose outcomes a student's guidance must not have seen."""
    keep_sites: bool = False
    """Keep hospitals whole in the outer folds: figures are then of hospitals never seen, but each member of a student
    has never seen some of them either."""
    text_folds: int = Field(10, ge=2, le=50)
    """Folds of the cross-fitting of the text branch: with more, each of its models learns from more of the events."""
    repeats: int = Field(3, ge=1, le=50)
    """Repeats of the cross-fitting."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the image branch's matrix products; losses and sums over tiles are never in bf16."""
    seed: int = 0


class DistillSettings(Settings):
    """How the student is distilled."""

    aggregator: Aggregator = "abmil"
    """From tiles to a case."""
    loss: Literal["cox", "discrete", "ranking"] = "cox"
    """Of the outcome."""
    bins: int = Field(4, ge=2, le=100)
    """Time bins of the discrete loss and of ``hazard-kl``."""
    distill: Literal["correlation", "mse", "listwise-kl", "hazard-kl", "attention-kl", "none"] = "correlation"
    """What of the teacher's word the student is to agree with."""
    guidance_weight: float = Field(2.0, gt=0)
    """Of that agreement beside the outcome: α is this times the gate times the share of cases with a report."""
    tile_directions: Literal["reports", "all"] = "reports"
    """What of the tiles' features a guided student sees: directions along which they tell what reports say, or all."""
    filter: Literal["none", "soft", "hard"] = "none"
    """Turn down (soft) or leave out (hard) the tiles that the teacher found irrelevant."""
    keep_share: float = Field(0.5, gt=0, le=1)
    """Share of the tiles that the filter keeps."""
    merge_duplicates: bool = False
    """Train on near-duplicate tiles of a case as one tile of their weight."""
    duplicate_similarity: float = Field(0.9, gt=0, le=1)
    """Cosine similarity, of features less the case's mean, from which tiles are duplicates."""
    ema: bool = False
    """Agree with a moving average of oneself, too."""
    adjust_for: tuple[str, ...] = ()
    """Covariates whose risk, fitted in training, is taken as given: the student learns what tiles add to it."""
    hidden: int = Field(32, ge=2, le=2048)
    epochs: int = Field(150, ge=1, le=10000)
    pretrain_epochs: int = Field(0, ge=0, le=10000)
    """Epochs of learning to predict the report's vector before the outcome is seen; 0 for none."""
    learning_rate: float = Field(1e-2, gt=0)
    """Of both students, as their epochs and dropout: one without reports that is trained too little flatters them."""
    weight_decay: float = Field(1e-3, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    tiles_per_bag: int = Field(128, ge=0)
    """Random tiles a bag a step; 0 takes all."""
    members: int = Field(5, ge=1, le=50)
    """Students in the ensemble, each trained without one of the teacher's folds in turn, whose mean is the risk."""
    mixup: Literal["risk", "random", "none"] = "none"
    """Mix bags of cases of similar risk, of any two, or none."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of matrix products in training; losses and sums over tiles are never in bf16."""
    seed: int = 0


class CrossvalSettings(Settings):
    """How a cohort is cross-validated; how each fold is trained is in the other two."""

    folds: int = Field(5, ge=2, le=50)
    """Outer folds, in each of which all is trained anew; not used with the user's own splits."""
    repeats: int = Field(3, ge=1, le=100)
    """Divisions of the cohort into folds; not used with the user's own splits."""
    covariates: tuple[str, ...] = ()
    """Columns of the clinical model that the slides are compared with; none leaves it out."""
    seed: int = 0
    """Of the folds and of the bootstrap; repeat r is trained with the training's own seed plus r."""
    resamples: int = Field(1000, ge=100, le=100000)
    """Bootstrap draws of cases."""


S = TypeVar("S", bound=Settings)


def parse_settings(model: type[S], values: Mapping[str, Any]) -> S:
    """Validate ``values`` as ``model``.

    Raises:
        SettingsError: an unknown key or a value out of range, each named.
    """
    try:
        return model(**values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']} (seen: {problem['input']!r})"
            for problem in error.errors()
        )
        raise SettingsError(problems) from error


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, floats by repr, NaN refused."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(settings: Any, inputs: Mapping[str, str]) -> str:
    """sha256 of the settings and of the inputs' fingerprints, as 64 hex digits."""
    text = canonical_json({"settings": json.loads(canonical_json(settings)), "inputs": dict(inputs)})
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """``name: old → new`` for each top-level key that differs between two JSON objects."""
    keys = sorted(old.keys() | new.keys())
    return [f"{key}: {_told(old, key)} → {_told(new, key)}" for key in keys if old.get(key) != new.get(key)]


def _told(values: Mapping[str, Any], key: str) -> str:
    """A setting for a message; what stands at a default that came later is left out of files."""
    if key not in values:
        return "its default"
    return "none" if values[key] is None else str(values[key])
