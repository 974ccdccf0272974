"""Concordance of risk models with follow-up, and bootstrap intervals of any figure.

``log_hazard`` is higher for worse, everywhere; arguments by name only. lifelines computes Harrell's concordance, in
O(n log n); its bootstrap is our own, because a thousand resamples through lifelines take a hundred times as long as
comparing all pairs once and weighting cases. Figures that also follow censoring are in ``dynamic``, those of
probabilities in ``calibration``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import FollowUp, checked, require_pairs
from wsisurv.survival.resampling import CASES, Interval, Resampled, Units, draw_weights

_ROWS = 512
"""Cases with an event whose pairs are held at once; bounds memory at ``_ROWS · n`` numbers."""
_MAX_DROPPED = 0.5


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

    data = checked(log_hazard, time, event)
    require_pairs(data)
    return float(concordance_index(data.times, -data.risks[0], data.events))


def bootstrap(
    *,
    log_hazard: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    units: Units = CASES,
) -> Interval:
    """Concordance with its percentile bootstrap interval; cases or hospitals are drawn with replacement.

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        resamples: how many.
        seed: of the draws; equal seeds and lengths draw equal cases.
        level: coverage of the interval.
        units: what is drawn whole.

    Raises:
        MetricError: as ``concordance``, or more than half of the resamples have no comparable pair.

    Source: Efron B, Tibshirani RJ. An Introduction to the Bootstrap, 1993, chapter 13.
    """
    one = resample_concordance(
        log_hazard=np.asarray(log_hazard)[None], time=time, event=event, resamples=resamples, seed=seed, units=units
    )
    return one.interval(0, level)


def resample_concordance(
    *,
    log_hazard: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    units: Units = CASES,
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
        units: what is drawn whole.

    Raises:
        MetricError: as ``concordance``, or more than half of the resamples have no comparable pair.
    """
    data = checked(log_hazard, time, event)
    require_pairs(data)
    if resamples < 1:
        raise MetricError(f"{resamples} resamples: at least one is needed")
    n_cases = len(data.times)
    counts = [_count(weights, data) for weights in draw_weights(n_cases, resamples, seed, units)]
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
    return Resampled(whole.score[:, 0] / whole.pairs[0], score[:, kept] / pairs[kept], dropped, units.effective)


def resample(
    figure: Callable[[NDArray[np.int64]], ArrayLike], *, n_cases: int, resamples: int = 1000, seed: int = 0
) -> Resampled:
    """Any figure on the cases as they are and on resamples of them, the same as ``resample_concordance`` draws.

    Args:
        figure: takes numbers of cases, int64 (n_cases,), the same case more than once; gives one number, or one for
            each model (n_models,). A MetricError of a resample drops it; of the cases as they are, it goes through.
        n_cases: how many there are.
        resamples: how many.
        seed: of the draws.

    Raises:
        MetricError: no case or no resample; the cases can't give the figure, or more than half of the resamples can't.
    """
    if n_cases < 1 or resamples < 1:
        raise MetricError(f"{resamples} resamples of {n_cases} cases: at least one of each is needed")
    cases = np.arange(n_cases)
    value = np.atleast_1d(np.asarray(figure(cases), dtype=np.float64))
    columns: list[NDArray[np.float64]] = []
    reason = ""
    for weights in draw_weights(n_cases, resamples, seed):
        for copies in weights:
            drawn = np.repeat(cases, copies.astype(np.int64))
            try:
                columns.append(np.atleast_1d(np.asarray(figure(drawn), dtype=np.float64)))
            except MetricError as error:
                reason = str(error)
    dropped = resamples - len(columns)
    if dropped > _MAX_DROPPED * resamples:
        raise MetricError(
            f"{dropped} of {resamples} bootstrap resamples can't give the figure, the last since: {reason}"
        )
    return Resampled(value, np.stack(columns, axis=1), dropped)


@dataclass(frozen=True)
class _PairCount:
    """Weighted comparable pairs (n_resamples,) and their scores (n_models, n_resamples)."""

    pairs: NDArray[np.float64]
    score: NDArray[np.float64]


def _count(weights: NDArray[np.float32], data: FollowUp) -> _PairCount:
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
    return _PairCount(pairs, score)
