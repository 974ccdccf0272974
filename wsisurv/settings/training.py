"""Settings of the teacher and of the student."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from wsisurv.errors import SettingsError
from wsisurv.extensions import AGGREGATORS as GROUP
from wsisurv.extensions import added_names
from wsisurv.settings.base import Settings
from wsisurv.settings.renamed import RENAMED_VALUES, present_names

TextBranch = Literal["attention", "ridge"]
AGGREGATORS = ("mean", "abmil", "selfattention")
"""From tiles to a case: their mean, gated attention, or a transformer."""
_AGGREGATOR = (
    "Aggregator from tiles to a case{}: mean, gated attention (abmil), transformer (selfattention), or one of an "
    "installed package."
)
_PRECISION = "Precision of matrix products in training; losses and sums over tiles stay at single precision or better."
_SEED = "Seed of random numbers; the same seed on the same device gives the same result."


def aggregator_names() -> tuple[str, ...]:
    """Aggregators of wsisurv and of installed packages.

    Raises:
        SettingsError: a package takes a name that there is already, or was.
    """
    return AGGREGATORS + added_names(GROUP, (*AGGREGATORS, *RENAMED_VALUES["aggregator"]))


def _known_aggregator(name: str) -> str:
    try:
        known = aggregator_names()
    except SettingsError as error:
        raise ValueError(str(error)) from error
    name = RENAMED_VALUES["aggregator"].get(name, name)
    if name not in known:
        raise ValueError(f"known are {', '.join(known)}; a package adds one by an entry point of {GROUP}")
    return name


Aggregator = Annotated[str, AfterValidator(_known_aggregator)]


class _TrainingSettings(Settings):
    """What teacher and student have in common: names of earlier versions are understood."""

    @model_validator(mode="before")
    @classmethod
    def _by_present_names(cls, values: Any) -> Any:
        return present_names(values) if isinstance(values, dict) else values


class TeacherSettings(_TrainingSettings):
    """How the teacher is trained."""

    encoder: str = Field(
        "histomics", description="Encoder whose features are used: their folder in features/, as `embed` printed it."
    )
    text_encoder: str = Field(
        "hashing",
        description="Text encoder whose vectors of the statements are used, as given to extract-report (hashing: words "
        "counted, no model needed); or tfidf, fitted anew in each fold.",
    )
    text_branch: TextBranch = Field(
        "ridge",
        description="Model of the reports: ridge Cox regression on the mean of a case's statement vectors (ridge), or "
        "attention over its statements.",
    )
    teacher: Literal["late", "concat", "cross-attention"] = Field(
        "late",
        description="Teacher target, the risk that guides a student: of the reports alone (late: slides and report are "
        "added up only where both are at hand), or of a model of tiles and statements, joined by concatenation "
        "(concat) or by cross-attention.",
    )
    aggregator: Aggregator = Field("abmil", description=_AGGREGATOR.format(", in the teacher's model of tiles"))
    hidden: int = Field(32, ge=2, le=2048, description="Hidden units of the teacher's model of tiles.")
    epochs: int = Field(25, ge=1, le=10000, description="Epochs of the teacher's model of tiles.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate of the teacher's model of tiles.")
    weight_decay: float = Field(5.0, ge=0, description="Weight decay of the teacher's model of tiles.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout, a share of the hidden units.")
    tiles_per_bag: int = Field(
        128, ge=0, description="Tiles drawn at random from each case in a training step; 0 takes all."
    )
    text_hidden: int = Field(16, ge=2, le=2048, description="Hidden units of --text-branch attention.")
    text_epochs: int = Field(60, ge=1, le=10000, description="Epochs of --text-branch attention.")
    text_learning_rate: float = Field(1e-2, gt=0, description="Learning rate of --text-branch attention.")
    text_weight_decay: float = Field(1e-3, ge=0, description="Weight decay of --text-branch attention.")
    folds: int = Field(
        5,
        ge=2,
        le=20,
        description="Folds of the cases; each member of a student's ensemble is trained and guided without one.",
    )
    keep_sites: bool = Field(
        False,
        description="Keep each hospital whole in one of --folds: out-of-fold figures are then of hospitals not trained "
        "on, but no member has seen all hospitals. `crossval` always does so in its own folds.",
    )
    # with more folds, each model of the cross-fitting learns from more of the events
    text_folds: int = Field(
        10, ge=2, le=50, description="Folds in which the model of the reports is fitted, for risks out of fold."
    )
    repeats: int = Field(3, ge=1, le=50, description="Repeats of --text-folds, with other folds.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description=_PRECISION)
    seed: int = Field(0, description=_SEED)


class DistillSettings(_TrainingSettings):
    """How the student is distilled."""

    aggregator: Aggregator = Field("abmil", description=_AGGREGATOR.format(""))
    loss: Literal["cox", "discrete", "ranking"] = Field(
        "cox",
        description="Survival loss: Cox partial likelihood, discrete-time hazards (discrete), or pairwise ranking.",
    )
    bins: int = Field(4, ge=2, le=100, description="Time bins of --loss discrete and --distill hazard-kl.")
    distill: Literal["correlation", "mse", "listwise-kl", "hazard-kl", "attention-kl", "none"] = Field(
        "correlation",
        description="Distillation loss between student and teacher: correlation of risks, mean squared error (mse), "
        "divergence over risk sets (listwise-kl), over time bins (hazard-kl) or of attention (attention-kl), or none.",
    )
    # α is this times the gate times the share of cases with a report
    guidance_weight: float = Field(
        2.0,
        gt=0,
        description="Weight of the distillation loss, times the gate (trust in the reports' risk, 0 to 1) "
        "and the share of cases with a report.",
    )
    feature_subspace: Literal["reports", "all"] = Field(
        "reports",
        description="Features that a guided student sees: projected onto the subspace that explains the reports "
        "(reports; where tiles explain too little of them, all features), or all.",
    )
    filter: Literal["none", "soft", "hard"] = Field(
        "none",
        description="Filter of tiles irrelevant to the teacher: down-weighted (soft), left out (hard), or none.",
    )
    keep_share: float = Field(0.5, gt=0, le=1, description="Share of the tiles that --filter keeps.")
    merge_duplicates: bool = Field(
        False, description="Merge near-duplicate tiles of a case into one weighted tile, in training."
    )
    duplicate_similarity: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Cosine similarity from which tiles are near-duplicates, of features centred by case.",
    )
    ema: bool = Field(
        False, description="Exponential moving average of the student's weights: add agreement with it to the loss."
    )
    adjust_for: tuple[str, ...] = Field(
        (),
        description="Covariates, e.g. age,stage, whose fitted risk is an offset in training: the student learns what "
        "tiles add to them, so its log hazard is that part and not the whole risk. It needs no covariates when used.",
    )
    hidden: int = Field(32, ge=2, le=2048, description="Hidden units; doubled with a feature subspace.")
    tuning: Literal["out-of-fold", "none"] = Field(
        "out-of-fold",
        description="Train the student without reports also for long (150 epochs at a rate of .01, weight decay .001, "
        "dropout .1), and both students so where partial likelihood out of fold, within hospital where known, is "
        "clearly higher; none: not. A given --epochs, --learning-rate, --weight-decay or --dropout is taken as it is.",
    )
    # few and slow steps: on real patients at other hospitals better than long training (docs/benchmark.md)
    epochs: int = Field(25, ge=1, le=10000, description="Epochs of training of each student.")
    pretrain_epochs: int = Field(
        0,
        ge=0,
        le=10000,
        description="Epochs of pre-training, in which tiles predict the mean of the statement vectors; 0 for none.",
    )
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate.")
    weight_decay: float = Field(5.0, ge=0, description="Weight decay.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout, a share of the hidden units.")
    tiles_per_bag: int = Field(
        128,
        ge=0,
        description="Tiles drawn at random from each case in a training step, twice as many with a feature subspace; 0 "
        "takes all.",
    )
    members: int = Field(
        5,
        ge=1,
        le=50,
        description="Members of the ensemble, each trained without one of train-teacher's --folds; their mean is used.",
    )
    mixup: Literal["risk", "random", "none"] = Field(
        "none", description="Mix-up of cases of similar risk (risk), of any two cases (random), or none."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description=_PRECISION)
    seed: int = Field(0, description=_SEED)

    @property
    def needs_relevance(self) -> bool:
        """Whether the teacher's relevance of single tiles is used in training."""
        return self.filter != "none" or self.distill == "attention-kl"
