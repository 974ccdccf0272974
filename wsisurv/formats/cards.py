"""The cards of ``student.h5`` and ``teacher.h5``: what a model must be told to be used, and what came out of training.

Each card is written and read by one model, so that a key can't be written that no reader knows. No card holds a row of
a patient.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from wsisurv.units import name_problem

_COUNT = Field(ge=0)
_Share = tuple[float | None, ...] | None


class Card(BaseModel):
    """Base of cards and of their parts: frozen, an unknown key is an error, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def first_problem(error: ValidationError) -> str:
    """``field: what is wrong with it`` of the first field that a card's model refuses."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


class CutOffs(Card):
    """Log hazards between ``low``, ``intermediate`` and ``high``: tertiles of ``StudentCard.reference``."""

    low: float
    high: float

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class CalibrationSlopes(Card):
    """By which a log hazard is multiplied before it becomes a probability: of all members' mean, and of one member."""

    slope: float
    slope_of_one: float


class FamiliarityLimit(Card):
    """Distance that 95 % of the training cases, each left out, are within."""

    threshold: float


class TilesACase(Card):
    """Tiles of a training case: fewest, as many as 99 % have at least, median, most."""

    least: int = _COUNT
    few: int = _COUNT
    median: float
    most: int = _COUNT


_UNSAID = (("competing", None), ("outcome_note", ""))


class TrainingCohort(Card):
    """Summary of the cases that a student was trained on; times in ``time_unit``."""

    name: str
    cases: int = _COUNT
    events: int = _COUNT
    slides: int = _COUNT
    sites: int = _COUNT
    """Hospitals; 0 where they are not told."""
    time_unit: Literal["days", "weeks", "months", "years"]
    median_time: float
    median_follow_up: float | None
    """By the reverse Kaplan-Meier estimator; None where it is not reached."""
    longest_follow_up: float
    tiles_a_case: TilesACase
    competing: int | None = Field(None, ge=0)
    """Cases with a competing event; None where the clinical table doesn't say."""
    outcome_note: str = ""
    """What should be known of deaths of other causes; empty where nothing."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what there is nothing to say of, as in cards of before."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if (name, value) not in _UNSAID}


class TeacherResult(Card):
    """What training the teacher gave; concordances are out of fold, None where undefined."""

    kept: bool = False
    """True when the files were there already, made by the same settings from the same inputs."""
    n_cases: int
    n_events: int
    n_slides: int
    n_reports: int
    """Cases with statements."""
    text_concordance: float | None
    """Concordance of the report's risk, over cases with statements."""
    image_concordance: float | None
    """Concordance of the image branch's risk, over all cases."""
    fused_concordance: float | None
    """Concordance of both together; of the image alone where there is no report."""
    gate: float
    """0 to 1, how much weight the teacher target has in a student's training."""
    gate_slope: float | None
    """b of the Cox model of follow-up on the report's risk; None where it can't be fitted."""
    gate_se: float | None
    warnings: tuple[str, ...]
    """What a person should know, one line each."""


class FigureRow(Card):
    """Figures of one model in ``crossval``; None where undefined or not in the file."""

    model: str
    concordance: float | None = None
    low: float | None = None
    high: float | None = None
    fold_mean: float | None = None
    fold_sd: float | None = None
    uno: float | None = None
    uno_low: float | None = None
    uno_high: float | None = None
    calibration_slope: float | None = None
    auc: float | None = None
    auc_at: _Share = None
    brier: float | None = None
    brier_reference: float | None = None
    d_calibration_p: float | None = None
    d_calibration_share: _Share = None


class ExpertWeight(Card):
    """A student of another cohort beside the cohort's own."""

    name: str
    """Name of the cohort that it was trained on."""
    weight: float
    """Weight of its log hazard in standard deviations, beside the student's, mean over members; 0 for none."""
    gained: float
    """Partial log likelihood out of fold, of student and experts together above the student alone."""


class DistillResult(Card):
    """What distilling gave; concordances are out of fold, None where undefined."""

    kept: bool = False
    """True when the files were there already, made by the same settings from the same inputs."""
    n_cases: int
    n_events: int
    n_reports: int
    """Cases whose report guided the student."""
    gate: float
    """0 to 1, how far the distilled student listened to the reports."""
    reports_told: float | None
    """Share of the variance of reports that tiles tell out of fold, mean over members; None where not asked."""
    directions: tuple[int, ...]
    """Dimensions of the feature subspace of each distilled member; empty where they see all features."""
    winner: Literal["distilled", "plain"]
    """The selected student, which is in student.h5."""
    within: Literal["fold", "hospital"] = "fold"
    """What the pairs have in common that concordances count: their hospital where these are known, else their fold."""
    concordance: float | None
    """Concordance of the selected student; a little too high, since it was selected by this figure."""
    nested: FigureRow | None = None
    """Concordance of the selected student by ``crossval``, which selects anew in each fold: not too high. None where
    that was not run, and in a card, where it stands under ``evaluation``."""
    distilled_concordance: float | None
    plain_concordance: float | None
    difference: float | None
    """The distilled one's concordance minus the plain one's."""
    difference_low: float | None
    """Lower end of its 95 % bootstrap interval, by hospital where those are whole and enough, else by case."""
    difference_high: float | None
    low: float
    """Log hazard below which a case is of low risk."""
    high: float
    """Log hazard from which a case is of high risk."""
    experts: tuple[ExpertWeight, ...] = ()
    """Students of other cohorts beside the distilled one; empty where none was named."""
    warm_start: str = ""
    """Cohort of the student that training of the distilled one began with; empty where it began with new weights."""
    warnings: tuple[str, ...]
    """What a person should know, one line each."""

    @model_serializer(mode="wrap")
    def _without_others(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out students of other cohorts where there are none, as in cards of before."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if name not in {"experts", "warm_start"} or value}


class DifferenceRow(Card):
    """Concordance of ``model`` minus that of ``minus`` in ``crossval``."""

    model: str
    minus: str
    value: float
    se: float | None = None
    bootstrap_se: float | None = None
    fold_se: float | None = None
    low: float | None = None
    high: float | None = None


class AddedRow(Card):
    """Likelihood-ratio test of a model's risk beside the covariates."""

    model: str = ""
    statistic: tuple[float, ...] = ()
    p_values: tuple[float, ...] = ()
    p: float | None = None
    log_hazard_ratio: float | None = None


class CrossvalCohort(Card):
    """The cases of a cross-validation."""

    name: str = ""
    fingerprint: str = ""
    cases: int | None = None
    cases_with_statements: int | None = None
    tested: int | None = None
    tested_events: int | None = None
    time_unit: str = ""


STUDENTS = ("selected", "distilled", "plain")
"""Keys of the students in ``evaluation/metrics.json``; ``selected`` is the one in student.h5."""
_OF_THE_SELECTED = "student_and_covariates"


class Evaluation(Card):
    """What a student's card takes of ``evaluation/metrics.json``: not the single folds.

    A card of the baseline or of the distilled student has no rows of the other students, nor the verdict and the
    likelihood-ratio test, which are of the selected one.
    """

    model: str = ""
    """Key of the student whose card it is; empty where an older version wrote it."""
    cohort: CrossvalCohort = CrossvalCohort()
    splits: str = ""
    interval: str = ""
    """What was drawn for the intervals: hospitals or cases."""
    uno_until: float | None = None
    """Time at which Uno's concordance is truncated."""
    models: tuple[FigureRow, ...] = ()
    differences: tuple[DifferenceRow, ...] = ()
    added_by_slides: AddedRow | None = None
    verdict: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = {}

    @property
    def own(self) -> FigureRow | None:
        """Figures of the student whose card it is; None where they are not there."""
        return next((row for row in self.models if row.model == self.model), None)

    @classmethod
    def of_metrics(cls, record: Mapping[str, Any], model: str) -> "Evaluation":
        """The figures that a card takes, from what ``crossval`` wrote.

        Args:
            record: metrics.json.
            model: key of the student whose card it is.

        Raises:
            ValidationError: a figure is of another type.
        """
        parts: dict[str, Any] = _known(cls, record) | {"model": model}
        rows: dict[str, type[Card]] = {"models": FigureRow, "differences": DifferenceRow}
        for name, row in rows.items():
            if isinstance(parts.get(name), list):
                parts[name] = [_known(row, one) for one in parts[name]]
        parts["cohort"] = _known(CrossvalCohort, parts.get("cohort", {}))
        if parts.get("added_by_slides") is not None:
            parts["added_by_slides"] = _known(AddedRow, parts["added_by_slides"])
        whole = cls.model_validate(parts)
        return whole if model == STUDENTS[0] else whole._without_others()

    def _without_others(self) -> "Evaluation":
        """The figures without those of other students."""
        others = {*STUDENTS, _OF_THE_SELECTED} - {self.model}
        return self.model_copy(
            update={
                "models": tuple(row for row in self.models if row.model not in others),
                "differences": tuple(row for row in self.differences if not {row.model, row.minus} & others),
                "added_by_slides": None,
                "verdict": (),
            }
        )


def _known(part: type[Card], record: Any) -> Any:
    """The keys of a JSON object that a part of a card has; anything else as it is."""
    return {name: record[name] for name in part.model_fields if name in record} if isinstance(record, dict) else record


class StudentCard(Card):
    """What a student must be told of its input, what its number means, and how good it is."""

    encoder: str
    """Folder of the features that it was trained on (``EmbedSettings.folder``)."""
    n_features: int = Field(gt=0)
    """Columns of its features."""
    feature_names: tuple[str, ...]
    """Names of the columns; empty where the encoder has none."""
    embed_settings: dict[str, Any]
    """Settings in the header of the features that it was trained on."""
    encoder_weights: str
    """Where the encoder's weights came from, with the revision; empty where it has none or the files don't say."""
    tile_settings: dict[str, Any]
    """Tile settings that it was trained on, as in the features files."""
    cut_offs: CutOffs
    reference: Literal["mean of members", "single members"] = "single members"
    """What percentiles, cut-offs and survival go by: training cases out of fold, brought to the mean of members that a
    new case has; or, in students of before, as single members gave them, which makes the outer thirds too small."""
    baseline: Literal["efron", "breslow"] = "breslow"
    """Step of the baseline hazard where events share a time; in students of before Breslow's, which predicts too long
    a survival there."""
    risk_mean: float
    """Mean log hazard of the training cases, out of fold."""
    guided: bool
    """Whether any member listened to reports."""
    member_folds: tuple[int, ...] = Field(min_length=1)
    """The fold of training cases that each member did not see."""
    calibration: CalibrationSlopes
    familiarity: FamiliarityLimit
    cohort: TrainingCohort
    result: DistillResult
    evaluation: Evaluation | None = None
    """Figures of ``crossval`` of the same cohort and settings, where it was run."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if problem := name_problem(self.encoder):
            raise ValueError(f"encoder {problem}")
        weights = self.embed_settings.get("weights")
        if isinstance(weights, str) and self.encoder_weights.startswith(f"{weights}@"):
            self.embed_settings["weights"] = self.encoder_weights  # the commit, which stood beside the settings before
        return self


class TfidfTerms(Card):
    """Words that the teacher's text branch was fitted on, and the weight of each."""

    terms: tuple[str, ...]
    idf: tuple[float, ...]


class TeacherCard(Card):
    """What a teacher must be told of its input, and what came out of its training."""

    encoder: str
    text_encoder: str
    result: TeacherResult
    tfidf: TfidfTerms | None = None
    """Only where the statements' vectors were fitted on the training cases."""
