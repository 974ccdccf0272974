"""Figures of a risk model against follow-up. ``log_hazard`` is higher for worse, everywhere; arguments by name only.

lifelines computes what it computes well (Harrell's concordance in O(n log n), log-rank, Cox); the bootstrap is our own,
because a thousand resamples through it take a hundred times as long as comparing all pairs once and weighting cases.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError

_ROWS = 512
"""Cases with an event whose pairs are held at once; bounds memory at ``_ROWS · n`` numbers."""
_WEIGHTS = 1 << 24
"""Weights (resamples · cases) held at once, 64 MiB."""
_MAX_DROPPED = 0.5


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval.

    Attributes:
        value: on the cases as they are.
        low: lower end.
        high: upper end.
        resamples: resamples that the ends were taken from.
        dropped: resamples without a comparable pair, left out.
    """

    value: float
    low: float
    high: float
    resamples: int
    dropped: int


@dataclass(frozen=True)
class Resampled:
    """Concordance of several models on the same resamples.

    Attributes:
        value: float64 (n_models,), on the cases as they are.
        resampled: float64 (n_models, n_resamples - dropped), column by column the same resample.
        dropped: resamples without a comparable pair, left out.
    """

    value: NDArray[np.float64]
    resampled: NDArray[np.float64]
    dropped: int

    def interval(self, model: int, level: float = 0.95) -> Interval:
        """Percentile interval of one model's concordance."""
        return self._interval(float(self.value[model]), self.resampled[model], level)

    def difference(self, model: int, other: int, level: float = 0.95) -> Interval:
        """Percentile interval of the concordance of ``model`` minus that of ``other``, resample by resample."""
        value = float(self.value[model] - self.value[other])
        return self._interval(value, self.resampled[model] - self.resampled[other], level)

    def _interval(self, value: float, resampled: NDArray[np.float64], level: float) -> Interval:
        if not 0 < level < 1:
            raise MetricError(f"level is {level}, not between 0 and 1")
        low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
        return Interval(value, float(low), float(high), len(resampled), self.dropped)


@dataclass(frozen=True)
class LogRank:
    """Log-rank test of equal survival in all groups.

    Attributes:
        p: two-sided p-value.
        statistic: chi-squared.
        degrees_of_freedom: groups minus one.
    """

    p: float
    statistic: float
    degrees_of_freedom: int


@dataclass(frozen=True)
class Slope:
    """Coefficient of a Cox regression on one variable, with its standard error."""

    value: float
    se: float


def concordance(*, log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike) -> float:
    """Harrell's concordance: the share of comparable pairs in which the case that dies first has the higher risk.

    A pair is comparable when the earlier time is an event, or both times are equal and exactly one is an event. Equal
    risks count half. O(n log n).

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: lengths differ, a value is not finite, a time not positive, an event not 0/1, or no pair is
            comparable.

    Source: Harrell FE, Lee KL, Mark DB. Statistics in Medicine 1996;15:361-387.
    """
    from lifelines.utils import concordance_index

    data = _checked(log_hazard, time, event)
    _require_pairs(data)
    return float(concordance_index(data.times, -data.risks[0], data.events))


def bootstrap(
    *,
    log_hazard: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Concordance with its percentile bootstrap interval; cases are drawn with replacement.

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        resamples: how many.
        seed: of the draws; equal seeds and lengths draw equal cases.
        level: coverage of the interval.

    Raises:
        MetricError: as ``concordance``, or more than half of the resamples have no comparable pair.

    Source: Efron B, Tibshirani RJ. An Introduction to the Bootstrap, 1993, chapter 13.
    """
    one = resample_concordance(
        log_hazard=np.asarray(log_hazard)[None], time=time, event=event, resamples=resamples, seed=seed
    )
    return one.interval(0, level)


def paired_bootstrap(
    *,
    log_hazard: ArrayLike,
    other: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Concordance of ``log_hazard`` minus that of ``other``, both on the same resamples.

    Args:
        log_hazard: (n,), of the model asked about, higher is worse.
        other: (n,), of the model compared with.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        resamples: how many.
        seed: of the draws.
        level: coverage of the interval.

    Raises:
        MetricError: as ``bootstrap``.
    """
    _same_length(log_hazard, other)
    both = np.stack([np.asarray(log_hazard), np.asarray(other)])
    return resample_concordance(log_hazard=both, time=time, event=event, resamples=resamples, seed=seed).difference(
        0, 1, level
    )


def resample_concordance(
    *, log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike, resamples: int = 1000, seed: int = 0
) -> Resampled:
    """Concordance of several models, on the cases as they are and on the same resamples of them.

    With w_i the copies of case i in a resample, its concordance is Σ w_i w_j s_ij / Σ w_i w_j c_ij, where c_ij is 1
    if i, j are comparable with i first, and s_ij is 1, ½ or 0. Copies of one case have one time and one event and are
    never comparable, so this is what counting the resampled cases one by one gives, in O(resamples · n · events).

    Args:
        log_hazard: (n_models, n), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        resamples: how many.
        seed: of the draws.

    Raises:
        MetricError: as ``concordance``, or more than half of the resamples have no comparable pair.
    """
    data = _checked(log_hazard, time, event)
    _require_pairs(data)
    if resamples < 1:
        raise MetricError(f"{resamples} resamples: at least one is needed")
    n_cases = len(data.times)
    counts = [_count(weights, data) for weights in _draws(n_cases, resamples, seed)]
    pairs = np.concatenate([count.pairs for count in counts])
    score = np.concatenate([count.score for count in counts], axis=1)
    kept = pairs > 0
    dropped = int((~kept).sum())
    if dropped > _MAX_DROPPED * resamples:
        raise MetricError(
            f"{dropped} of {resamples} bootstrap resamples have no comparable pair: {n_cases} cases with "
            f"{int(data.events.sum())} events are too few for an interval"
        )
    whole = _count(np.ones((1, n_cases), dtype=np.float32), data)
    return Resampled(whole.score[:, 0] / whole.pairs[0], score[:, kept] / pairs[kept], dropped)


@dataclass(frozen=True)
class _FollowUp:
    """Checked input: log hazards (n_models, n), times (n,), events (n,)."""

    risks: NDArray[np.float64]
    times: NDArray[np.float64]
    events: NDArray[np.bool_]


@dataclass(frozen=True)
class _Count:
    """Weighted comparable pairs (n_resamples,) and their scores (n_models, n_resamples)."""

    pairs: NDArray[np.float64]
    score: NDArray[np.float64]


def _count(weights: NDArray[np.float32], data: _FollowUp) -> _Count:
    """Count pairs with cases weighted by each row of ``weights`` (n_resamples, n).

    Row sums are whole numbers below 2^24 (twice the scores, so that a tie is 1), exact in float32.
    """
    times, events = data.times, data.events
    pairs = np.zeros(len(weights))
    score = np.zeros((len(data.risks), len(weights)))
    first_cases = np.flatnonzero(events)
    for start in range(0, len(first_cases), _ROWS):
        first = first_cases[start : start + _ROWS]
        comparable = (times > times[first, None]) | ((times == times[first, None]) & ~events)
        own = weights[:, first]
        pairs += np.einsum("bi,bi->b", own, weights @ comparable.T.astype(np.float32), dtype=np.float64)
        for model, risk in enumerate(data.risks):
            twice = (risk[first, None] > risk).astype(np.float32) + (risk[first, None] >= risk)
            twice *= comparable
            score[model] += np.einsum("bi,bi->b", own, weights @ twice.T, dtype=np.float64) / 2
    return _Count(pairs, score)


def _draws(n_cases: int, resamples: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each case is drawn, (some resamples, n_cases) at a time; the same for a seed however it is split."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS // n_cases)
    for start in range(0, resamples, at_once):
        weights = np.empty((min(at_once, resamples - start), n_cases), dtype=np.float32)
        for row in weights:
            row[:] = np.bincount(rng.integers(n_cases, size=n_cases), minlength=n_cases)
        yield weights


def logrank(*, group: ArrayLike, time: ArrayLike, event: ArrayLike) -> LogRank:
    """Log-rank test over two or more groups.

    Args:
        group: (n,), label of each case's group.
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: as ``concordance`` for the values; fewer than two groups, or no event at all.

    Source: Mantel N. Cancer Chemotherapy Reports 1966;50:163-170.
    """
    from lifelines.statistics import multivariate_logrank_test

    labels = np.asarray(group)
    _same_length(labels, time)
    data = _checked(np.zeros(len(labels)), time, event)
    groups = np.unique(labels)
    if len(groups) < 2:
        raise MetricError(f"log-rank needs two groups, and all {len(labels)} cases are in {list(groups)}")
    if not data.events.any():
        raise MetricError(f"log-rank needs an event, and none of {len(labels)} cases has one")
    result = multivariate_logrank_test(data.times, labels, data.events)
    return LogRank(float(result.p_value), float(result.test_statistic), len(groups) - 1)


def cox_slope(*, log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike) -> Slope:
    """Slope of a Cox regression of follow-up on ``log_hazard`` (Efron ties): 1 for a calibrated model, 0 for noise.

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: as ``concordance``; equal log hazards, or a fit that does not converge (perfect separation).

    Source: van Houwelingen HC. Statistics in Medicine 2000;19:3401-3415 (calibration slope).
    """
    risk = _checked(log_hazard, time, event).risks[0]
    if risk.size and risk.std() == 0:
        raise MetricError(f"all {len(risk)} log hazards are {risk[0]:g}: there is no slope")
    fit = fit_cox(variables=risk[:, None], time=time, event=event)
    return Slope(float(fit.coefficients[0]), float(fit.se[0]))


@dataclass(frozen=True)
class CoxFit:
    """A fitted Cox model.

    Attributes:
        coefficients: float64 (n_variables,), log hazard ratio per unit; 0 for a constant variable.
        se: float64 (n_variables,), standard errors; NaN for a constant variable.
    """

    coefficients: NDArray[np.float64]
    se: NDArray[np.float64]


def fit_cox(*, variables: NDArray[np.float64], time: ArrayLike, event: ArrayLike, ridge: float = 0.0) -> CoxFit:
    """Cox regression with Efron ties through lifelines, on standardised variables.

    Args:
        variables: (n, n_variables).
        time: (n,), positive.
        event: (n,), bool or 0/1.
        ridge: λ of the penalty n·λ/2·Σβ², β per standard deviation.

    Raises:
        MetricError: as ``concordance``; or the fit does not converge.

    Source: Cox DR. Journal of the Royal Statistical Society B 1972;34:187-220.
    """
    import pandas as pd
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    data = _checked(np.asarray(variables).T, time, event)
    _require_pairs(data)
    scale = data.risks.std(axis=1)
    varies = scale > 1e-12 * np.abs(data.risks).max(axis=1)
    coefficients, se = np.zeros(len(scale)), np.full(len(scale), np.nan)
    if not varies.any():
        return CoxFit(coefficients, se)
    centred = data.risks[varies] - data.risks[varies].mean(axis=1, keepdims=True)
    table = pd.DataFrame((centred / scale[varies, None]).T).assign(time=data.times, event=data.events)
    try:
        with warnings.catch_warnings():
            # lifelines warns of collinear or rare columns, which a ridge mends; of a fit that failed it only warns too
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("error", "Newton-Raphson|The log-likelihood", ConvergenceWarning)
            fit = CoxPHFitter(penalizer=ridge).fit(table, "time", "event")
    except (ConvergenceError, ConvergenceWarning) as error:
        raise MetricError(f"the Cox regression of {len(data.times)} cases does not converge: {error}") from error
    coefficients[varies] = fit.params_.to_numpy() / scale[varies]
    se[varies] = fit.standard_errors_.to_numpy() / scale[varies]
    return CoxFit(coefficients, se)


def _same_length(one: ArrayLike, other: ArrayLike) -> None:
    if np.shape(one) != np.shape(other):
        raise MetricError(f"lengths differ: {np.shape(one)} and {np.shape(other)}")


def _checked(log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike) -> _FollowUp:
    """The input as arrays, or a MetricError that says which case is wrong."""
    risks = np.atleast_2d(np.asarray(log_hazard, dtype=np.float64))
    times, raw_events = np.asarray(time, dtype=np.float64), np.asarray(event)
    if risks.ndim != 2 or times.ndim != 1 or not risks.shape[1] == len(times) == raw_events.size:
        raise MetricError(
            f"lengths differ: log_hazard {np.shape(log_hazard)}, time {times.shape}, event {raw_events.shape}"
        )
    if not np.isfinite(risks).all():
        model, case = np.argwhere(~np.isfinite(risks))[0]
        raise MetricError(f"log_hazard of case {case} is {risks[model, case]}")
    if (bad := np.flatnonzero(~np.isfinite(times) | (times <= 0))).size:
        raise MetricError(f"time of case {bad[0]} is {times[bad[0]]}, not a positive number")
    if (bad := np.flatnonzero((raw_events != 0) & (raw_events != 1))).size:
        raise MetricError(f"event of case {bad[0]} is {raw_events[bad[0]]!r}, not true or false")
    return _FollowUp(risks, times, raw_events.astype(bool))


def _require_pairs(data: _FollowUp) -> None:
    """Where any event has a comparable partner, the earliest one has."""
    if data.events.any():
        first = data.times[data.events].min()
        if ((data.times > first) | (~data.events & (data.times == first))).any():
            return
    raise MetricError(
        f"no comparable pair in {len(data.times)} cases with {int(data.events.sum())} events: nobody was followed "
        "beyond an event"
    )
