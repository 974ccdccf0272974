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
    "Aggregator from tiles to a case{}: their mean, gated attention (abmil), a transformer (selfattention), or what an "
    "installed package adds."
)
_PRECISION = "Precision of matrix products in training; losses and sums over tiles stay in single precision."
_SEED = "Seed of random numbers: same seed and device, same result."


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

    encoder: str = Field("histomics", description="Folder of the features, as `wsisurv embed` printed it.")
    text_encoder: str = Field(
        "hashing", description="Vectors of the statements, or tfidf, fitted on the cases trained on."
    )
    text_branch: TextBranch = Field(
        "ridge",
        description="Model of the reports' risk: attention over their statements, or a ridge Cox regression on the "
        "mean statement.",
    )
    teacher: Literal["late", "concat", "cross-attention"] = Field(
        "late",
        description="Teacher target, whose risk guides a student: the reports' alone (late), or that of a model of "
        "tiles and statements, joined at the end (concat) or with statements looking at tiles (cross-attention).",
    )
    aggregator: Aggregator = Field("abmil", description=_AGGREGATOR.format(" in the image branch"))
    hidden: int = Field(32, ge=2, le=2048, description="Width of the image branch's hidden layer.")
    epochs: int = Field(150, ge=1, le=10000, description="Epochs of the image branch: passes over the cohort.")
    learning_rate: float = Field(1e-2, gt=0, description="Learning rate of the image branch.")
    weight_decay: float = Field(1e-3, ge=0, description="Weight decay of the image branch.")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout: share of hidden units left out a step.")
    tiles_per_bag: int = Field(128, ge=0, description="Tiles of a case in a step, drawn at random; 0 takes all.")
    text_hidden: int = Field(16, ge=2, le=2048, description="Width of the hidden layer of --text-branch attention.")
    text_epochs: int = Field(60, ge=1, le=10000, description="Epochs of --text-branch attention.")
    text_learning_rate: float = Field(1e-2, gt=0, description="Learning rate of --text-branch attention.")
    text_weight_decay: float = Field(1e-3, ge=0, description="Weight decay of --text-branch attention.")
    folds: int = Field(
        5,
        ge=2,
        le=20,
        description="Outer folds: each member of a student is trained, and guided, without the outcomes of one.",
    )
    keep_sites: bool = Field(
        False,
        description="Whole hospitals in these folds: figures are then of hospitals never seen, but no member of a "
        "student has seen all of them. `wsisurv crossval` keeps them whole without being asked.",
    )
    # with more folds, each model of the cross-fitting learns from more of the events
    text_folds: int = Field(10, ge=2, le=50, description="Folds of the cross-fitting of the text branch.")
    repeats: int = Field(3, ge=1, le=50, description="Repeats of the cross-fitting of the text branch.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description=_PRECISION)
    seed: int = Field(0, description=_SEED)


class DistillSettings(_TrainingSettings):
    """How the student is distilled."""

    aggregator: Aggregator = Field("abmil", description=_AGGREGATOR.format(""))
    loss: Literal["cox", "discrete", "ranking"] = Field(
        "cox",
        description="Loss of the outcome: Cox's partial likelihood, hazards in time bins (discrete), or pairs in "
        "order (ranking).",
    )
    bins: int = Field(4, ge=2, le=100, description="Time bins of --loss discrete and --distill hazard-kl.")
    distill: Literal["correlation", "mse", "listwise-kl", "hazard-kl", "attention-kl", "none"] = Field(
        "correlation",
        description="Agreement with the teacher: order of risks (correlation), risks (mse), who is next in each risk "
        "set (listwise-kl), hazards in time bins (hazard-kl), attention to tiles (attention-kl), or none.",
    )
    # α is this times the gate times the share of cases with a report
    guidance_weight: float = Field(
        2.0,
        gt=0,
        description="Weight of that agreement beside the outcome, times the gate and the share of cases with a report.",
    )
    feature_subspace: Literal["reports", "all"] = Field(
        "reports",
        description="Feature subspace that a guided student sees: the directions in which tiles explain reports "
        "(reports; all features, where tiles explain too little of them), or all features.",
    )
    filter: Literal["none", "soft", "hard"] = Field(
        "none",
        description="Filter of the tiles that the teacher found irrelevant: none, turned down but still counted "
        "(soft), or left out (hard).",
    )
    keep_share: float = Field(0.5, gt=0, le=1, description="Share of the tiles that --filter keeps.")
    merge_duplicates: bool = Field(
        False, description="Near-duplicate tiles of a case become one tile of their weight in training."
    )
    duplicate_similarity: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Cosine similarity from which tiles of a case are duplicates, of features less the case's mean.",
    )
    ema: bool = Field(False, description="Exponential moving average of the student's weights, to be agreed with too.")
    adjust_for: tuple[str, ...] = Field(
        (),
        description="Covariates, e.g. age,stage, whose risk is fitted in training and taken as given: the student "
        "learns what tiles add. It needs tiles alone, and its risk is beyond theirs.",
    )
    hidden: int = Field(
        32, ge=2, le=2048, description="Width of the hidden layer; doubled where a feature subspace is seen."
    )
    # epochs, learning rate and dropout are of both students: one without reports that is trained too little flatters
    # the one with them
    epochs: int = Field(150, ge=1, le=10000, description="Epochs of the student: passes over the cohort.")
    pretrain_epochs: int = Field(
        0, ge=0, le=10000, description="Epochs of pre-training on the report embedding; 0 for none."
    )
    learning_rate: float = Field(1e-2, gt=0, description="Learning rate of the optimiser.")
    weight_decay: float = Field(1e-3, ge=0, description="Weight decay: pull of the weights towards zero.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout: share of hidden units left out a step.")
    tiles_per_bag: int = Field(
        128,
        ge=0,
        description="Tiles of a case in a step, drawn at random, twice as many where a feature subspace is seen; 0 "
        "takes all.",
    )
    members: int = Field(
        5,
        ge=1,
        le=50,
        description="Members of the ensemble, whose mean is the risk; each is trained without one of the teacher's "
        "folds in turn.",
    )
    mixup: Literal["risk", "random", "none"] = Field(
        "none", description="Mixing of bags: of cases of similar risk (risk), of any two (random), or none."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description=_PRECISION)
    seed: int = Field(0, description=_SEED)

    @property
    def needs_relevance(self) -> bool:
        """Whether the teacher's relevance of single tiles is used in training."""
        return self.filter != "none" or self.distill == "attention-kl"
