"""Settings of the teacher and of the student."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from wsisurv.errors import SettingsError
from wsisurv.extensions import AGGREGATORS as GROUP
from wsisurv.extensions import added_names
from wsisurv.settings.base import Settings

AGGREGATORS = ("mean", "abmil", "selfattention", "transmil")
"""From tiles to a case: their mean, gated attention, or a transformer, which was called transmil before."""


def aggregator_names() -> tuple[str, ...]:
    """Aggregators of wsisurv and of installed packages.

    Raises:
        SettingsError: a package takes a name that there is already.
    """
    return AGGREGATORS + added_names(GROUP, AGGREGATORS)


def _known_aggregator(name: str) -> str:
    try:
        known = aggregator_names()
    except SettingsError as error:
        raise ValueError(str(error)) from error
    if name not in known:
        raise ValueError(f"known are {', '.join(known)}; a package adds one by an entry point of {GROUP}")
    return name


Aggregator = Annotated[str, AfterValidator(_known_aggregator)]


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
