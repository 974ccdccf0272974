"""Models side by side on the same folds and cases: a row of figures each, and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.experiments.over_time import Auc, ProbabilityScores, auc_within, make_horizons, predicted_within
from wsisurv.experiments.tested import ScoredFold, Tested, join_repeats, number_tested
from wsisurv.survival.competing import followed_on
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.resampling import choose_units
from wsisurv.survival.stratified import UnoWithin, Within, concordance_within, uno_within

_NORMAL = 1.96
WOLBERS = (
    "competing events: the concordance is Wolbers's; in Uno's and the AUC too, who had a competing event is below all "
    "who had the event"
)
"""Said where competing events are there."""


@dataclass(frozen=True)
class ModelFigures:
    """One row of the table."""

    model: str  # its name
    concordance: float  # Harrell's (Wolbers's with competing events), pairs within folds only, mean over repeats
    low: float  # lower end of its 95 % bootstrap interval (``Comparison.interval``)
    high: float  # upper end
    fold_mean: float  # mean concordance over folds
    fold_sd: float | None  # its standard deviation over folds; None with one fold
    # Uno's concordance within folds until ``Comparison.uno_until``, which does not depend on how follow-up was cut
    # short; None where undefined
    uno: float | None
    # of a Cox regression within folds on the log hazard, mean over repeats: 1 is calibrated, below 1 too extreme; None
    # where it can't be fitted
    calibration_slope: float | None
    # cumulative/dynamic AUC within folds, mean over ``Comparison.horizons``; None where undefined
    auc: float | None = None
    auc_at: tuple[float | None, ...] = ()  # at each horizon; None where undefined
    # integrated Brier score of predicted survival, censoring weighted for, lower is better; None where there are no
    # probabilities (one fold, too few events)
    brier: float | None = None
    brier_reference: float | None = None  # of the tested cases' own Kaplan-Meier curve
    d_calibration_p: float | None = None  # small where predicted probabilities are wrong
    # of the cases in each tenth of predicted survival, lowest first; equal if calibrated
    d_calibration_share: tuple[float, ...] = ()
    uno_low: float | None = None  # lower end of the 95 % interval of Uno's, by the same draws; None where undefined
    uno_high: float | None = None  # upper end
    # standard error of the slope, mean over repeats, which are of the same cases; None in files of before
    calibration_slope_se: float | None = None

    @property
    def slope_interval(self) -> tuple[float | None, float | None]:
        """95 % interval of the calibration slope."""
        if self.calibration_slope is None or self.calibration_slope_se is None:
            return None, None
        reach = _NORMAL * self.calibration_slope_se
        return self.calibration_slope - reach, self.calibration_slope + reach


@dataclass(frozen=True)
class Difference:
    """Concordance of ``model`` minus that of ``minus``, on the same folds and cases."""

    model: str  # the one asked about
    minus: str  # the one compared with
    value: float  # the difference
    se: float  # its standard error, the larger of the next two: neither sees all that varies
    bootstrap_se: float  # over the draws that the models' intervals are from, the trained models being given
    fold_se: float | None  # over folds, corrected for overlapping training sets; None with one fold
    low: float  # lower end of the 95 % interval, value − 1.96 se
    high: float  # upper end


@dataclass(frozen=True)
class Comparison:
    """Models side by side, on the same folds and cases."""

    models: tuple[ModelFigures, ...]  # a row each
    differences: tuple[Difference, ...]  # paired
    # concordance of each model in each fold, None where a fold has no comparable pair
    by_fold: tuple[dict[str, float | None], ...]
    horizons: tuple[float, ...]  # times of the AUC and of the Brier score, in the cohort's unit
    interval: str  # what was drawn for the intervals, ``bootstrap of hospitals`` or ``bootstrap of cases``
    uno_until: float | None  # time at which Uno's concordance is truncated, in the cohort's unit
    # why it was not hospitals, where they are whole; figures that could not be given, and why
    warnings: tuple[str, ...]


def compare_models(
    tested: Tested, names: Sequence[str], pairs: Sequence[tuple[str, str]], *, resamples: int, seed: int
) -> Comparison:
    """Figures of each model, and of pairs of them.

    Args:
        tested: cases and folds with the models' log hazards.
        names: of the models, in the order of the log hazards.
        pairs: which model minus which.
        resamples: bootstrap draws, of hospitals where those are known, whole in the folds and enough, else of cases.
        seed: of the draws.

    Raises:
        MetricError: too few comparable pairs within folds.
    """
    folds = tested.folds
    divisions = [[fold.rows for fold in folds if fold.repeat == repeat] for repeat in {fold.repeat for fold in folds}]
    units = choose_units([case.site for case in tested.cases], divisions)
    event, entry = tested.event, tested.entry
    harrell = concordance_within(
        folds,
        time=followed_on(tested.time, tested.cause),
        event=event,
        entry=entry,
        resamples=resamples,
        seed=seed,
        units=units,
    )
    uno = uno_within(
        folds,
        time=tested.time,
        event=event,
        entry=entry,
        resamples=resamples,
        seed=seed,
        units=units,
        cause=tested.cause,
    )
    over_time = _over_time(tested, len(names))
    return Comparison(
        models=_rows(tested, names, harrell, uno, over_time),
        differences=tuple(_difference(a, b, names, harrell) for a, b in pairs),
        by_fold=tuple(dict(zip(names, map(_known, row), strict=True)) for row in harrell.by_fold.tolist()),
        horizons=over_time.horizons,
        interval=units.method,
        uno_until=uno.until,
        warnings=(*((units.warning,) if units.warning else ()), *over_time.warnings),
    )


def compare_with_first(folds: Sequence[ScoredFold], cases: Sequence[Case], *, resamples: int, seed: int) -> Comparison:
    """Figures of all models in ``folds``, and each further one minus the first; all else as ``compare_models``."""
    names = list(folds[0].risks)
    pairs = [(name, names[0]) for name in names[1:]]
    return compare_models(number_tested(folds, cases, names), names, pairs, resamples=resamples, seed=seed)


@dataclass(frozen=True)
class _OverTime:
    """AUC and scores of probabilities of each model; None where they can't be given, for a reason in ``warnings``."""

    horizons: tuple[float, ...]
    auc: Auc | None
    predicted: tuple[ProbabilityScores | None, ...]
    warnings: tuple[str, ...]


def _over_time(tested: Tested, n_models: int) -> _OverTime:
    try:
        horizons = make_horizons(time=tested.time, event=tested.event, entry=tested.entry, cause=tested.cause)
    except MetricError as error:
        return _OverTime((), None, (None,) * n_models, (f"no AUC and no Brier score: {error}",))
    auc = auc_within(
        tested.folds,
        time=tested.time,
        event=tested.event,
        entry=tested.entry,
        horizons=horizons,
        cause=tested.cause,
    )
    try:
        predicted = tuple(
            predicted_within(
                tested.folds,
                model,
                time=tested.time,
                event=tested.event,
                entry=tested.entry,
                horizons=horizons,
                cause=tested.cause,
            )
            for model in range(n_models)
        )
    except MetricError as error:
        return _OverTime(tuple(horizons.tolist()), auc, (None,) * n_models, (f"no Brier score: {error}",))
    told = () if tested.cause is None else (WOLBERS,)
    return _OverTime(tuple(horizons.tolist()), auc, predicted, told)


def _rows(
    tested: Tested, names: Sequence[str], within: Within, uno_of: UnoWithin, over_time: _OverTime
) -> tuple[ModelFigures, ...]:
    rows = []
    for number, name in enumerate(names):
        interval, uno = within.whole.interval(number), uno_of.whole.interval(number)
        by_fold = within.by_fold[np.isfinite(within.by_fold[:, number]), number]
        auc, predicted = over_time.auc, over_time.predicted[number]
        slope, slope_se = _slope(tested, number)
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
                calibration_slope=slope,
                calibration_slope_se=slope_se,
                auc=_known(float(auc.mean[number])) if auc else None,
                auc_at=tuple(map(_known, auc.auc[number].tolist())) if auc else (),
                brier=predicted.brier if predicted else None,
                brier_reference=predicted.reference if predicted else None,
                d_calibration_p=predicted.d_p if predicted else None,
                d_calibration_share=tuple(predicted.d_share.tolist()) if predicted else (),
            )
        )
    return tuple(rows)


def _known(value: float) -> float | None:
    """None for a figure that is not defined: NaN is no JSON."""
    return value if np.isfinite(value) else None


def _difference(model: str, minus: str, names: Sequence[str], within: Within) -> Difference:
    one, other = names.index(model), names.index(minus)
    value = float(within.whole.value[one] - within.whole.value[other])
    by_case, by_fold = within.bootstrap_se(one, other), within.fold_se(one, other)
    se = max(by_case, by_fold or 0.0)
    return Difference(model, minus, value, se, by_case, by_fold, value - _NORMAL * se, value + _NORMAL * se)


def _slope(tested: Tested, model: int) -> tuple[float, float] | tuple[None, None]:
    """Calibration slope and its standard error, means over repeats."""
    try:
        slopes = [
            cox_slope(
                log_hazard=repeat.log_hazard[model],
                time=tested.time[repeat.rows],
                event=tested.event[repeat.rows],
                entry=None if tested.entry is None else tested.entry[repeat.rows],
                stratum=repeat.fold,
            )
            for repeat in join_repeats(tested.folds)
        ]
    except MetricError:
        return None, None
    return float(np.mean([one.value for one in slopes])), float(np.mean([one.se for one in slopes]))
