"""Concordance of risk models with follow-up, and its bootstrap intervals.

``log_hazard`` is higher for worse, everywhere; arguments by name only. Pairs are counted in O(n log n): lifelines,
which the tests compare them with, takes a second and a half to import, and a hundred times as long for a thousand
resamples. Figures that also follow censoring are in ``dynamic``, those of probabilities in ``calibration``.
"""

import numpy as np
from numpy.typing import ArrayLike

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import checked, require_pairs
from wsisurv.survival.resampling import CASES, Interval, Resampled, Units
from wsisurv.survival.stratified import FoldScores, concordance_within, within_one_fold


def concordance(*, log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None) -> float:
    """Harrell's concordance: the share of comparable pairs in which the case that dies first has the higher risk.

    A pair is comparable when the earlier time is an event, or both times are equal and exactly one is an event, and
    the other case was at risk then: with late entry, its own entry is earlier. Equal risks count half. O(n log n).

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: lengths differ, a value is not finite, a time not positive, an event not 0/1, or no pair is
            comparable.

    Source: Harrell FE, Lee KL, Mark DB. Statistics in Medicine 1996;15:361-387.
    """
    data = checked(log_hazard, time, event, entry)
    require_pairs(data)
    return float(within_one_fold(data)[0])


def bootstrap(
    *,
    log_hazard: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
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
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        resamples: how many.
        seed: of the draws; equal seeds and lengths draw equal cases.
        level: coverage of the interval.
        units: what is drawn whole.

    Raises:
        MetricError: as ``concordance``, or more than half of the resamples have no comparable pair.

    Source: Efron B, Tibshirani RJ. An Introduction to the Bootstrap, 1993, chapter 13.
    """
    one = resample_concordance(
        log_hazard=np.asarray(log_hazard)[None],
        time=time,
        event=event,
        entry=entry,
        resamples=resamples,
        seed=seed,
        units=units,
    )
    return one.interval(0, level)


def resample_concordance(
    *,
    log_hazard: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
    units: Units = CASES,
) -> Resampled:
    """Concordance of several models, on the cases as they are and on the same resamples of them.

    With w_i the copies of case i in a resample, its concordance is Σ w_i w_j s_ij / Σ w_i w_j c_ij, where c_ij is 1
    if i, j are comparable with i first, and s_ij is 1, ½ or 0. Copies of one case have one time and one event and are
    never comparable, so this is what counting the resampled cases one by one gives, in O(resamples · n log n).

    Args:
        log_hazard: (n_models, n), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        resamples: how many.
        seed: of the draws.
        units: what is drawn whole.

    Raises:
        MetricError: as ``concordance``, or more than half of the resamples have no comparable pair.
    """
    data = checked(log_hazard, time, event, entry)
    require_pairs(data)
    if resamples < 1:
        raise MetricError(f"{resamples} resamples: at least one is needed")
    n = len(data.times)
    whole = [FoldScores(0, np.arange(n), data.risks, n)]
    within = concordance_within(
        whole, time=data.times, event=data.events, entry=data.entries, resamples=resamples, seed=seed, units=units
    )
    return within.whole
