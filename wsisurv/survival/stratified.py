"""Concordance within folds: models of different folds have no common origin, so no pair across folds is compared."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.dynamic import followed_until, uno_concordance
from wsisurv.survival.kaplan_meier import censoring_curve
from wsisurv.survival.metrics import Resampled

_TRACE = 1e-4
"""Ridge of a regression within folds, on standardised variables."""
_AT_ONCE = 1 << 22
"""Weights (resamples · cases) held at once."""


@dataclass(frozen=True)
class FoldScores:
    """One fold, scored.

    Attributes:
        repeat: which division of the cohort it is part of.
        rows: int64 (n_test,), numbers of its cases in the cohort.
        log_hazard: float64 (n_models, n_test), by models that have not seen them; higher is worse.
        n_train: cases that the models were trained on.
    """

    repeat: int
    rows: NDArray[np.int64]
    log_hazard: NDArray[np.float64]
    n_train: int


@dataclass(frozen=True)
class Within:
    """Concordance of several models within folds.

    Attributes:
        whole: value and bootstrap resamples of each model: cases are drawn, and one draw serves all repeats; the
            value is the mean over repeats of (concordant pairs of all folds) / (comparable pairs of all folds).
        by_fold: float64 (n_folds, n_models), NaN for a fold without a comparable pair.
        test_share: mean of n_test / n_train over folds.
    """

    whole: Resampled
    by_fold: NDArray[np.float64]
    test_share: float

    def bootstrap_se(self, model: int, other: int) -> float:
        """Standard error of the difference of two models over draws of cases, the trained models being given."""
        return float((self.whole.resampled[model] - self.whole.resampled[other]).std(ddof=1))

    def fold_se(self, model: int, other: int) -> float | None:
        """Standard error of the difference over folds, models trained anew included; None with fewer than two folds.

        Training sets overlap, so the plain s/√J is far too small; s·√(1/J + n_test/n_train) corrects for it.

        Source: Nadeau C, Bengio Y. Inference for the generalization error. Machine Learning 2003;52:239-281.
        """
        difference = self.by_fold[:, model] - self.by_fold[:, other]
        known = difference[np.isfinite(difference)]
        if len(known) < 2:
            return None
        return float(known.std(ddof=1) * np.sqrt(1 / len(known) + self.test_share))


def value_within(
    tested: Sequence[FoldScores], *, time: NDArray[np.float64], event: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Concordance of each model, float64 (n_models,), from pairs within one fold only; as ``Within.whole.value``.

    Raises:
        MetricError: as ``concordance_within``.
    """
    if not tested:
        raise MetricError("no fold was scored")
    for fold in tested:
        if not np.isfinite(fold.log_hazard).all():
            raise MetricError(f"a log hazard of repeat {fold.repeat + 1} is not finite")
    value = _over_repeats(tested, np.ones((1, len(time)), np.float32), time, event)[:, 0]
    if not np.isfinite(value).all():
        raise MetricError(
            f"{len(tested)} folds of {len(time)} cases with {int(event.sum())} events: a repeat has no comparable pair "
            "in any fold. Fewer --folds or more events are needed."
        )
    return value


def concordance_within(
    tested: Sequence[FoldScores],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    resamples: int = 1000,
    seed: int = 0,
) -> Within:
    """Harrell's concordance of each model, from pairs within one fold only.

    Args:
        tested: folds, all with the same models.
        time: (n_cases,) of the cohort, positive.
        event: bool (n_cases,).
        resamples: bootstrap draws of cases.
        seed: of the draws.

    Raises:
        MetricError: no fold, a log hazard that is not finite, or a repeat without a comparable pair in any fold (or in
            more than half of its resamples).
    """
    value = value_within(tested, time=time, event=event)
    n_cases, n_models = len(time), len(tested[0].log_hazard)
    random = np.random.default_rng(seed)
    drawn_values = []
    at_once = max(1, _AT_ONCE // n_cases)
    for start in range(0, resamples, at_once):
        draws = [random.integers(n_cases, size=n_cases) for _ in range(min(at_once, resamples - start))]
        weights = np.stack([np.bincount(draw, minlength=n_cases) for draw in draws]).astype(np.float32)
        drawn_values.append(_over_repeats(tested, weights, time, event))
    drawn = np.concatenate(drawn_values, axis=1)
    kept = np.isfinite(drawn).all(0)
    if 2 * int(kept.sum()) < resamples:
        raise MetricError(
            f"{int((~kept).sum())} of {resamples} bootstrap resamples have a repeat without a comparable pair: fewer "
            "--folds or more events are needed"
        )
    by_fold = np.full((len(tested), n_models), np.nan)
    for number, fold in enumerate(tested):
        count = _count(fold, np.ones((1, n_cases), np.float32), time, event)
        if count.pairs[0] > 0:
            by_fold[number] = count.score[:, 0] / count.pairs[0]
    share = float(np.mean([len(fold.rows) / fold.n_train for fold in tested]))
    return Within(Resampled(value, drawn[:, kept], int((~kept).sum())), by_fold, share)


@dataclass(frozen=True)
class _FoldPairs:
    """Weighted comparable pairs (n_draws,) of a fold and how many of them each model has right (n_models, n_draws)."""

    pairs: NDArray[np.float64]
    score: NDArray[np.float64]


def _over_repeats(
    tested: Sequence[FoldScores],
    weights: NDArray[np.float32],
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Mean over repeats of the concordance of all folds: (n_models, n_draws), NaN where a repeat has no pair."""
    values = []
    for repeat in sorted({fold.repeat for fold in tested}):
        counts = [_count(fold, weights, time, event) for fold in tested if fold.repeat == repeat]
        pairs = np.sum([count.pairs for count in counts], axis=0)
        score = np.sum([count.score for count in counts], axis=0)
        values.append(np.divide(score, pairs, out=np.full_like(score, np.nan), where=pairs > 0))
    return np.asarray(np.mean(values, axis=0))


def _count(
    fold: FoldScores, weights: NDArray[np.float32], time: NDArray[np.float64], event: NDArray[np.bool_]
) -> _FoldPairs:
    """Count pairs of one fold with cases weighted by each row of ``weights`` (n_draws, n_cases)."""
    own, times, events = weights[:, fold.rows], time[fold.rows], event[fold.rows]
    first = np.flatnonzero(events)
    if not len(first):
        return _FoldPairs(np.zeros(len(weights)), np.zeros((len(fold.log_hazard), len(weights))))
    comparable = (times > times[first, None]) | ((times == times[first, None]) & ~events)

    def total(matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(np.einsum("bi,bi->b", own[:, first], own @ matrix.T, dtype=np.float64))

    score = [
        total(comparable * ((risk[first, None] > risk) + 0.5 * (risk[first, None] == risk)).astype(np.float32))
        for risk in fold.log_hazard
    ]
    return _FoldPairs(total(comparable.astype(np.float32)), np.stack(score))


def uno_within(
    tested: Sequence[FoldScores], *, time: NDArray[np.float64], event: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Uno's concordance of each model, float64 (n_models,): mean over folds, each weighted by its cases.

    All folds are truncated at one time, to which a tenth of all tested cases escaped censoring, and weighted by the
    censoring of all tested cases, which is smoother than that of one fold. Folds without a comparable pair are left
    out; NaN where that is all.

    Args:
        tested: folds, all with the same models.
        time: (n_cases,), positive.
        event: bool (n_cases,).
    """
    until = followed_until(time=time, event=event)
    censoring = censoring_curve(time=time, event=event)
    values, weights = [], []
    for fold in tested:
        uno = partial(uno_concordance, time=time[fold.rows], event=event[fold.rows], until=until, censoring=censoring)
        try:
            values.append([uno(log_hazard=risk) for risk in fold.log_hazard])
        except MetricError:
            continue
        weights.append(len(fold.rows))
    if not values:
        return np.full(len(tested[0].log_hazard), np.nan)
    return np.asarray(np.average(values, axis=0, weights=weights))


@dataclass(frozen=True)
class CoxWithin:
    """Cox regression with a baseline hazard of its own in each fold.

    Attributes:
        coefficients: float64 (n_variables,), log hazard ratio per unit.
        log_likelihood: partial log likelihood (Efron), summed over folds.
    """

    coefficients: NDArray[np.float64]
    log_likelihood: float


def cox_within(
    *, variables: NDArray[np.float64], fold: NDArray[np.int64], time: NDArray[np.float64], event: NDArray[np.bool_]
) -> CoxWithin:
    """Cox regression stratified by fold, through lifelines; a trace of a ridge keeps rare levels finite.

    Args:
        variables: (n, n_variables).
        fold: (n,), the fold in which each case was scored.
        time: (n,), positive.
        event: bool (n,).

    Raises:
        MetricError: no variable varies, or the fit does not converge.

    Source: Kalbfleisch JD, Prentice RL. The Statistical Analysis of Failure Time Data, 2002, section 4.4.
    """
    import pandas as pd
    import torch
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    from wsisurv.survival.losses import cox_log_likelihood

    centred = variables.astype(np.float64)  # only what differs within a fold counts
    for number in np.unique(fold):
        centred[fold == number] -= centred[fold == number].mean(axis=0)
    spread = centred.std(axis=0)
    varies = spread > 1e-12 * np.maximum(np.abs(variables).max(axis=0), 1.0)
    if not varies.any():
        raise MetricError("no variable varies within a fold: there is nothing to fit")
    scaled = centred[:, varies] / spread[varies]
    table = pd.DataFrame(scaled).assign(fold=fold, time=time, event=event)
    try:
        with warnings.catch_warnings():
            # lifelines warns of rare or collinear columns, which the ridge mends; of a failed fit it only warns too
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("error", "Newton-Raphson|The log-likelihood", ConvergenceWarning)
            fit = CoxPHFitter(penalizer=_TRACE).fit(table, "time", "event", strata=["fold"])
    except (ConvergenceError, ConvergenceWarning) as error:
        raise MetricError(f"the Cox regression within folds does not converge: {error}") from error
    scaled_coefficients = fit.params_.to_numpy()
    risk = torch.from_numpy(scaled @ scaled_coefficients)
    total = 0.0
    for number in np.unique(fold[event]):
        rows = torch.from_numpy(np.flatnonzero(fold == number))
        total += float(
            cox_log_likelihood(
                log_hazard=risk[rows], time=torch.from_numpy(time)[rows], event=torch.from_numpy(event)[rows]
            )
        )
    coefficients = np.zeros(variables.shape[1])
    coefficients[varies] = scaled_coefficients / spread[varies]
    return CoxWithin(coefficients, total)
