"""From scored folds to figures: a row a model, paired differences, and what the slides add to the covariates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
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
from wsisurv.experiments.over_time import Auc, ProbabilityScores, auc_within, make_horizons, predicted_within
from wsisurv.experiments.tested import ScoredFold, Tested, join_repeats, number_tested
from wsisurv.survival.covariates import encode_covariates, make_columns
from wsisurv.survival.cox import LOW_SLOPE, LOW_SLOPE_MEANS, cox_slope, cox_within
from wsisurv.survival.resampling import OF_CASES, choose_units
from wsisurv.survival.stratified import UnoWithin, Within, concordance_within, uno_within

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
_NORMAL = 1.96


@dataclass(frozen=True)
class ModelFigures:
    """One row of the table.

    Attributes:
        model: its name.
        concordance: Harrell's, pairs within folds only, mean over repeats.
        low: lower end of its 95 % bootstrap interval (``ResultsTable.interval``).
        high: upper end.
        fold_mean: mean concordance over folds.
        fold_sd: its standard deviation over folds; None with one fold.
        uno: Uno's concordance within folds until ``ResultsTable.uno_until``, which does not depend on how follow-up was
            cut short; None where undefined.
        calibration_slope: of a Cox regression within folds on the log hazard, mean over repeats: 1 is calibrated, below
            1 too extreme; None where it can't be fitted.
        auc: cumulative/dynamic AUC within folds, mean over ``ResultsTable.horizons``; None where undefined.
        auc_at: at each horizon; None where undefined.
        brier: integrated Brier score of predicted survival, censoring weighted for, lower is better; None where there
            are no probabilities (one fold, too few events).
        brier_reference: of the tested cases' own Kaplan-Meier curve.
        d_calibration_p: small where predicted probabilities are wrong.
        d_calibration_share: of the cases in each tenth of predicted survival, lowest first; equal if calibrated.
        uno_low: lower end of the 95 % interval of Uno's, by the same draws; None where undefined.
        uno_high: upper end.
    """

    model: str
    concordance: float
    low: float
    high: float
    fold_mean: float
    fold_sd: float | None
    uno: float | None
    calibration_slope: float | None
    auc: float | None = None
    auc_at: tuple[float | None, ...] = ()
    brier: float | None = None
    brier_reference: float | None = None
    d_calibration_p: float | None = None
    d_calibration_share: tuple[float, ...] = ()
    uno_low: float | None = None
    uno_high: float | None = None


@dataclass(frozen=True)
class Difference:
    """Concordance of ``model`` minus that of ``minus``, on the same folds and cases.

    Attributes:
        model: the one asked about.
        minus: the one compared with.
        value: the difference.
        se: its standard error, the larger of the next two: neither sees all that varies.
        bootstrap_se: over the draws that the models' intervals are from, the trained models being given.
        fold_se: over folds, corrected for overlapping training sets; None with one fold.
        low: lower end of the 95 % interval, value − 1.96 se.
        high: upper end.
    """

    model: str
    minus: str
    value: float
    se: float
    bootstrap_se: float
    fold_se: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Added:
    """Likelihood-ratio test of a model's out-of-fold risk beside the covariates.

    Both Cox models are fitted on the tested cases, within folds: the covariates' coefficients are those that suit these
    very cases best, the model's risk comes from fits that have not seen them. So the test favours the covariates. A
    risk that would have to be turned round counts as adding nothing: out-of-fold risks of a model that has learned
    nothing lean that way, so that a two-sided test would find something in 15 % of pure noise instead of 5 %.

    Attributes:
        model: whose risk was added.
        statistic: of each repeat, chi-squared with one degree of freedom if the risk adds nothing; 0 where the
            coefficient is negative.
        p_values: of each repeat.
        p: of all: the median, doubled where there are several repeats, which holds however they depend on each other.
        log_hazard_ratio: coefficient of the standardised risk beside the covariates, mean over repeats.
    """

    model: str
    statistic: tuple[float, ...]
    p_values: tuple[float, ...]
    p: float
    log_hazard_ratio: float


@dataclass(frozen=True)
class ResultsTable:
    """All figures of a cross-validation.

    Attributes:
        models: a row each.
        differences: paired.
        added: what the slides add to the covariates; None without slides or covariates, or where it can't be fitted.
        added_by_report: what the report adds to them, in the same way.
        by_fold: concordance of each model in each fold, None where a fold has no comparable pair.
        cases: tested cases.
        events: events among them.
        warnings: figures that could not be given, and why.
        horizons: times of the AUC and of the Brier score, in the cohort's unit.
        interval: what was drawn for the intervals, ``bootstrap of hospitals`` or ``bootstrap of cases``.
        uno_until: time at which Uno's concordance is truncated, in the cohort's unit.
        selected: the student that was selected in each fold, where slides were read.
    """

    models: tuple[ModelFigures, ...]
    differences: tuple[Difference, ...]
    added: Added | None
    by_fold: tuple[dict[str, float | None], ...]
    cases: int
    events: int
    warnings: tuple[str, ...]
    horizons: tuple[float, ...] = ()
    added_by_report: Added | None = None
    interval: str = OF_CASES
    uno_until: float | None = None
    selected: tuple[str, ...] = ()

    def model(self, name: str) -> ModelFigures | None:
        """The row of a model, None where it was left out."""
        return next((row for row in self.models if row.model == name), None)

    def difference(self, model: str, minus: str) -> Difference | None:
        """A paired difference, None where one of the two was left out."""
        return next((row for row in self.differences if (row.model, row.minus) == (model, minus)), None)


def make_results(
    folds: Sequence[ScoredFold], cases: Sequence[Case], covariates: Sequence[str], *, resamples: int, seed: int
) -> ResultsTable:
    """Figures from the risks of all folds.

    Args:
        folds: all scored by the same models.
        cases: of the cohort, in the order that ``ScoredFold.rows`` counts in.
        covariates: columns of the clinical model.
        resamples: bootstrap draws, of hospitals where those are known, whole in the folds and enough, else of cases.
        seed: of the draws.

    Raises:
        MetricError: too few comparable pairs within folds.
    """
    names = [name for name in LABELS if all(name in fold.risks for fold in folds)]
    tested = number_tested(folds, cases, names)
    drawn = _draw(tested, resamples, seed)
    within = drawn.harrell
    warnings = [drawn.warning] if drawn.warning else []
    pairs = [(a, b) for a, b in _PAIRS if a in names and b in names]
    if DISTILLED not in names:  # then the selected student is the baseline student, by no choice
        pairs = [pair for pair in pairs if pair != (SELECTED, PLAIN)]
    added: dict[str, Added] = {}
    report = WORDS if WORDS in names else TEXT
    for name, who in ((SELECTED, "slides"), (report, "reports")):
        if name in names and COVARIATES in names:
            try:
                added[who] = added_to_covariates(tested, names.index(name), name, covariates)
            except MetricError as error:
                warnings.append(f"no likelihood-ratio test of what the {who} add: {error}")
    by_fold = tuple(
        {name: _known(value) for name, value in zip(names, row.tolist(), strict=True)} for row in within.by_fold
    )
    over_time = _over_time(tested, len(names))
    rows = _rows(tested, names, drawn, over_time)
    warnings.extend((*over_time.warnings, *_low_slopes(rows, covariates)))
    return ResultsTable(
        models=rows,
        differences=tuple(_difference(a, b, names, within) for a, b in pairs),
        added=added.get("slides"),
        added_by_report=added.get("reports"),
        by_fold=by_fold,
        cases=len(tested.cases),
        events=int(tested.event.sum()),
        warnings=tuple(warnings),
        horizons=tuple(over_time.horizons),
        interval=drawn.interval,
        uno_until=drawn.uno.until,
        selected=tuple(fold.selected for fold in folds if fold.selected is not None),
    )


@dataclass(frozen=True)
class Comparison:
    """Any models side by side.

    Attributes:
        models: a row each.
        differences: of each further model minus the first.
        interval: what was drawn for the intervals.
        warnings: why it was not hospitals, where they are whole.
    """

    models: tuple[ModelFigures, ...]
    differences: tuple[Difference, ...]
    interval: str
    warnings: tuple[str, ...]


def compare_within(folds: Sequence[ScoredFold], cases: Sequence[Case], *, resamples: int, seed: int) -> Comparison:
    """Figures of all models in ``folds``, and each further one minus the first; all else as ``make_results``."""
    names = list(folds[0].risks)
    tested = number_tested(folds, cases, names)
    drawn = _draw(tested, resamples, seed)
    differences = tuple(_difference(name, names[0], names, drawn.harrell) for name in names[1:])
    rows = _rows(tested, names, drawn, _over_time(tested, len(names)))
    return Comparison(rows, differences, drawn.interval, (drawn.warning,) if drawn.warning else ())


@dataclass(frozen=True)
class _Drawn:
    """Concordances of all models on one set of bootstrap draws, and what was drawn."""

    harrell: Within
    uno: UnoWithin
    interval: str
    warning: str


def _draw(tested: Tested, resamples: int, seed: int) -> _Drawn:
    repeats = {fold.repeat for fold in tested.folds}
    divisions = [[fold.rows for fold in tested.folds if fold.repeat == repeat] for repeat in repeats]
    units = choose_units([case.site for case in tested.cases], divisions)
    harrell = concordance_within(
        tested.folds, time=tested.time, event=tested.event, resamples=resamples, seed=seed, units=units
    )
    uno = uno_within(tested.folds, time=tested.time, event=tested.event, resamples=resamples, seed=seed, units=units)
    return _Drawn(harrell, uno, units.method, units.warning)


@dataclass(frozen=True)
class _OverTime:
    """What times and probabilities say of each model; None where it can't be told, with the reason in ``warnings``."""

    horizons: tuple[float, ...]
    auc: Auc | None
    predicted: tuple[ProbabilityScores | None, ...]
    warnings: tuple[str, ...]


def _over_time(tested: Tested, n_models: int) -> _OverTime:
    try:
        horizons = make_horizons(time=tested.time, event=tested.event)
    except MetricError as error:
        return _OverTime((), None, (None,) * n_models, (f"no AUC and no Brier score: {error}",))
    auc = auc_within(tested.folds, time=tested.time, event=tested.event, horizons=horizons)
    try:
        predicted = tuple(
            predicted_within(tested.folds, model, time=tested.time, event=tested.event, horizons=horizons)
            for model in range(n_models)
        )
    except MetricError as error:
        return _OverTime(tuple(horizons.tolist()), auc, (None,) * n_models, (f"no Brier score: {error}",))
    return _OverTime(tuple(horizons.tolist()), auc, predicted, ())


def _rows(tested: Tested, names: Sequence[str], drawn: _Drawn, over_time: _OverTime) -> tuple[ModelFigures, ...]:
    within = drawn.harrell
    rows = []
    for number, name in enumerate(names):
        interval, uno = within.whole.interval(number), drawn.uno.whole.interval(number)
        by_fold = within.by_fold[np.isfinite(within.by_fold[:, number]), number]
        auc, predicted = over_time.auc, over_time.predicted[number]
        rows.append(
            ModelFigures(
                model=name,
                concordance=interval.value,
                low=interval.low,
                high=interval.high,
                fold_mean=float(by_fold.mean()),
                fold_sd=float(by_fold.std(ddof=1)) if len(by_fold) > 1 else None,
                uno=_known(uno.value),
                uno_low=_known(uno.low),
                uno_high=_known(uno.high),
                calibration_slope=_slope(tested, number),
                auc=_known(float(auc.mean[number])) if auc else None,
                auc_at=tuple(map(_known, auc.auc[number].tolist())) if auc else (),
                brier=predicted.brier if predicted else None,
                brier_reference=predicted.reference if predicted else None,
                d_calibration_p=predicted.d_p if predicted else None,
                d_calibration_share=tuple(predicted.d_share.tolist()) if predicted else (),
            )
        )
    return tuple(rows)


def _low_slopes(rows: Sequence[ModelFigures], covariates: Sequence[str]) -> list[str]:
    names = model_names(covariates)
    low = [
        f"{names.get(row.model, row.model)} {row.calibration_slope:.2f}"
        for row in rows
        if row.calibration_slope is not None and row.calibration_slope < LOW_SLOPE
    ]
    return [f"calibration slope below {LOW_SLOPE:g} ({', '.join(low)}): {LOW_SLOPE_MEANS}"] if low else []


def _known(value: float) -> float | None:
    """None for a figure that is not defined: NaN is no JSON."""
    return value if np.isfinite(value) else None


def _difference(model: str, minus: str, names: Sequence[str], within: Within) -> Difference:
    one, other = names.index(model), names.index(minus)
    value = float(within.whole.value[one] - within.whole.value[other])
    by_case, by_fold = within.bootstrap_se(one, other), within.fold_se(one, other)
    se = max(by_case, by_fold or 0.0)
    return Difference(model, minus, value, se, by_case, by_fold, value - _NORMAL * se, value + _NORMAL * se)


def _slope(tested: Tested, model: int) -> float | None:
    try:
        slopes = [
            cox_slope(
                log_hazard=repeat.log_hazard[model],
                time=tested.time[repeat.rows],
                event=tested.event[repeat.rows],
                stratum=repeat.fold,
            ).value
            for repeat in join_repeats(tested.folds)
        ]
    except MetricError:
        return None
    return float(np.mean(slopes))


def added_to_covariates(tested: Tested, model: int, name: str, covariates: Sequence[str]) -> Added:
    """Test what a risk adds to covariates.

    Args:
        tested: cases that the risk was not fitted on.
        model: number of the risk in its folds.
        name: of it.
        covariates: to add to.

    Raises:
        MetricError: a covariate that no case has, risks that are all alike, or a fit that fails.
    """
    from scipy.stats import chi2

    numbers = encode_covariates(make_columns(tested.cases, covariates), tested.cases)
    numbers = np.nan_to_num(numbers - np.nanmean(numbers, axis=0))
    statistics, ratios = [], []
    for repeat in join_repeats(tested.folds):
        rows, risk = repeat.rows, repeat.log_hazard[model]
        centred = risk - np.array([risk[repeat.fold == fold].mean() for fold in repeat.fold])
        if centred.std() < 1e-12 * np.abs(risk).max(initial=1.0):
            raise MetricError("all cases of a fold have the same risk")
        both = np.column_stack([numbers[rows], centred / centred.std()])
        base, full = (
            cox_within(variables=variables, fold=repeat.fold, time=tested.time[rows], event=tested.event[rows])
            for variables in (numbers[rows], both)
        )
        ratios.append(float(full.coefficients[-1]))
        statistics.append(max(2 * (full.log_likelihood - base.log_likelihood), 0.0) if ratios[-1] > 0 else 0.0)
    p_values = [float(chi2.sf(statistic, 1)) for statistic in statistics]
    doubled = 2 if len(p_values) > 1 else 1  # Meinshausen et al., JASA 2009;104:1671, with γ = 1/2
    return Added(
        model=name,
        statistic=tuple(statistics),
        p_values=tuple(p_values),
        p=min(1.0, doubled * float(np.median(p_values))),
        log_hazard_ratio=float(np.mean(ratios)),
    )
