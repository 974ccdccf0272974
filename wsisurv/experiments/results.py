"""From scored folds to figures: a row a model, paired differences, and what the slides add to the covariates."""

from collections.abc import Sequence
from dataclasses import dataclass

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.experiments.landmarks import Landmark, landmark_figures
from wsisurv.experiments.likelihood_ratio import Added, added_to_covariates
from wsisurv.experiments.model_names import (
    COMBINED,
    COVARIATES,
    DISTILLED,
    FULL_TEXT,
    FULL_TEXT_COMBINED,
    LABELS,
    MEAN_POOL,
    PLAIN,
    SELECTED,
    TEACHER,
    TEXT,
    TEXT_COMBINED,
    WORDS,
    WORDS_COMBINED,
    model_names,
)
from wsisurv.experiments.side_by_side import Difference, ModelFigures, compare_models
from wsisurv.experiments.tested import ScoredFold, number_tested
from wsisurv.survival.cox import LOW_SLOPE, LOW_SLOPE_MEANS
from wsisurv.survival.resampling import OF_CASES

_PAIRS = (
    (DISTILLED, PLAIN),
    (SELECTED, PLAIN),
    (SELECTED, MEAN_POOL),
    (SELECTED, COVARIATES),
    (COMBINED, COVARIATES),
    (TEXT, COVARIATES),
    (TEXT_COMBINED, COVARIATES),
    (TEXT_COMBINED, TEXT),
    (WORDS, COVARIATES),
    (WORDS_COMBINED, COVARIATES),
    (WORDS_COMBINED, WORDS),
    (FULL_TEXT, TEXT),
    (FULL_TEXT, WORDS),
    (FULL_TEXT, COVARIATES),
    (FULL_TEXT_COMBINED, COVARIATES),
    (TEACHER, SELECTED),
)


@dataclass(frozen=True)
class ResultsTable:
    """All figures of a cross-validation."""

    models: tuple[ModelFigures, ...]  # a row each
    differences: tuple[Difference, ...]  # paired
    # what the slides add to the covariates; None without slides or covariates, or where it can't be fitted
    added: Added | None
    # concordance of each model in each fold, None where a fold has no comparable pair
    by_fold: tuple[dict[str, float | None], ...]
    cases: int  # tested cases
    events: int  # events among them
    warnings: tuple[str, ...]  # figures that could not be given, and why
    horizons: tuple[float, ...] = ()  # times of the AUC and of the Brier score, in the cohort's unit
    added_by_report: Added | None = None  # what the report adds to them, in the same way
    interval: str = OF_CASES  # what was drawn for the intervals, ``bootstrap of hospitals`` or ``bootstrap of cases``
    uno_until: float | None = None  # time at which Uno's concordance is truncated, in the cohort's unit
    selected: tuple[str, ...] = ()  # the student that was selected in each fold, where slides were read
    landmarks: tuple[Landmark, ...] = ()  # figures among the cases alive at each
    competing: int | None = None  # tested cases with a competing event; None where nothing competes

    def model(self, name: str) -> ModelFigures | None:
        """The row of a model, None where it was left out."""
        return next((row for row in self.models if row.model == name), None)

    def difference(self, model: str, minus: str) -> Difference | None:
        """A paired difference, None where one of the two was left out."""
        return next((row for row in self.differences if (row.model, row.minus) == (model, minus)), None)


def make_results(
    folds: Sequence[ScoredFold],
    cases: Sequence[Case],
    covariates: Sequence[str],
    *,
    resamples: int,
    seed: int,
    landmarks: Sequence[float] = (),
    time_unit: str = "days",
) -> ResultsTable:
    """Figures from the risks of all folds.

    Args:
        folds: all scored by the same models.
        cases: of the cohort, in the order that ``ScoredFold.rows`` counts in.
        covariates: columns of the clinical model.
        resamples: bootstrap draws, of hospitals where those are known, whole in the folds and enough, else of cases.
        seed: of the draws.
        landmarks: years at which the cases still followed are looked at.
        time_unit: of the cases.

    Raises:
        MetricError: too few comparable pairs within folds.
    """
    names = [name for name in LABELS if all(name in fold.risks for fold in folds)]
    tested = number_tested(folds, cases, names)
    pairs = [(a, b) for a, b in _PAIRS if a in names and b in names]
    if DISTILLED not in names:  # then the selected student is the baseline student, by no choice
        pairs = [pair for pair in pairs if pair != (SELECTED, PLAIN)]
    compared = compare_models(tested, names, pairs, resamples=resamples, seed=seed)
    warnings = list(compared.warnings)
    added: dict[str, Added] = {}
    report = WORDS if WORDS in names else TEXT
    for name, who in ((SELECTED, "slides"), (report, "reports")):
        if name in names and COVARIATES in names:
            try:
                added[who] = added_to_covariates(tested, names.index(name), name, covariates)
            except MetricError as error:
                warnings.append(f"no likelihood-ratio test of what the {who} add: {error}")
    return ResultsTable(
        models=compared.models,
        differences=compared.differences,
        added=added.get("slides"),
        added_by_report=added.get("reports"),
        by_fold=compared.by_fold,
        cases=len(tested.cases),
        events=int(tested.event.sum()),
        warnings=(*warnings, *_low_slopes(compared.models, covariates)),
        horizons=compared.horizons,
        interval=compared.interval,
        uno_until=compared.uno_until,
        selected=tuple(fold.selected for fold in folds if fold.selected is not None),
        landmarks=tuple(
            landmark_figures(
                folds, cases, names, pairs, years=years, time_unit=time_unit, resamples=resamples, seed=seed
            )
            for years in landmarks
        ),
        competing=None if tested.cause is None else int((tested.cause == 2).sum()),
    )


def _low_slopes(rows: Sequence[ModelFigures], covariates: Sequence[str]) -> list[str]:
    """Slopes far below 1, and not for want of events: of few a slope may be anything."""
    names = model_names(covariates)
    low = [
        f"{names.get(row.model, row.model)} {row.calibration_slope:.2f}"
        for row in rows
        if row.calibration_slope is not None
        and row.calibration_slope < LOW_SLOPE
        and (row.slope_interval[1] is None or row.slope_interval[1] < 1)
    ]
    return [f"calibration slope below {LOW_SLOPE:g} ({', '.join(low)}): {LOW_SLOPE_MEANS}"] if low else []
