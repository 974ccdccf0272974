"""Kaplan-Meier curves of survival and of censoring, the share that is followed, and the log-rank test.

The curve is our own: lifelines puts events and censorings of one time in one risk set, which is right for survival but
not for the curve of censoring, and it takes some milliseconds a curve, which a bootstrap has not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import FollowUp, checked_follow_up


@dataclass(frozen=True)
class SurvivalCurve:
    """A step function that starts at 1 and falls at some of ``times``."""

    times: NDArray[np.float64]  # float64 (k,), distinct, ascending
    survival: NDArray[np.float64]  # float64 (k,), the share that is left after each time
    at_risk: NDArray[np.int64]  # int64 (k,), cases that could have fallen at each time
    fell: NDArray[np.int64]  # int64 (k,), cases that did

    def at(self, time: ArrayLike) -> NDArray[np.float64]:
        """S(t), the share left after each time; the last value holds beyond the end."""
        return self._value(np.searchsorted(self.times, time, side="right"))

    def before(self, time: ArrayLike) -> NDArray[np.float64]:
        """S(t−), the share left just before each time; the last value holds beyond the end."""
        return self._value(np.searchsorted(self.times, time, side="left"))

    @property
    def median(self) -> float | None:
        """First time with half or fewer left; None where that is not reached."""
        reached = np.flatnonzero(self.survival <= 0.5 + 1e-12)
        return float(self.times[reached[0]]) if reached.size else None

    def _value(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.concatenate([[1.0], self.survival])[steps]


def kaplan_meier(*, time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None) -> SurvivalCurve:
    """Kaplan-Meier estimate of survival, P(event after t).

    Args:
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: no case, lengths differ, a time is not positive and finite, or an event not 0/1;
            an entry not before its time.

    Source: Kaplan EL, Meier P. Journal of the American Statistical Association 1958;53:457-481; with late entry, Tsai
    WY, Jewell NP, Wang MC. Biometrika 1987;74:883-886.
    """
    return _curve(checked_follow_up(time, event, entry), of_censoring=False)


def censoring_curve(*, time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None) -> SurvivalCurve:
    """Kaplan-Meier estimate of the censoring distribution, P(censored after t).

    Events come before censorings of the same time: who has the event at t is not at risk of being censored at t.

    Args:
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: as ``kaplan_meier``.

    Source: Graf E, Schmoor C, Sauerbrei W, Schumacher M. Statistics in Medicine 1999;18:2529-2545.
    """
    return _curve(checked_follow_up(time, event, entry), of_censoring=True)


def followed_share(*, time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None) -> SurvivalCurve:
    """Share of the cases that are followed after t, of those whose event is later: what weights are the inverse of.

    Without late entry it is ``censoring_curve``. With it, cases are missing early on too: of n cases R(t) are at risk
    just after t, where n S(t) would be without censoring and with all followed from 0, and R(t) / (n S(t)) is the share
    (up to a constant, which weighted means lose). It may rise as well as fall.

    Args:
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: as ``kaplan_meier``; or all at risk at one time have the event while others enter later.

    Source: Wang MC. Journal of the American Statistical Association 1991;86:130-143 (product-limit weights of truncated
    data).
    """
    data = checked_follow_up(time, event, entry)
    if data.entries is None:
        return _curve(data, of_censoring=True)
    alive = _curve(data, of_censoring=False)
    times = np.unique(np.concatenate([data.times, data.entries]))
    here = (data.entries <= times[:, None]) & (data.times > times[:, None])
    at_risk, survival = here.sum(axis=1), alive.at(times)
    if ((survival <= 0) & (at_risk > 0)).any() or (survival[times < data.times.max()] <= 0).any():
        raise MetricError(
            f"all cases at risk at {alive.times[alive.survival <= 0][0]:g} have the event, and others enter later: too "
            "few are at risk so early. Take the time from later on, or leave those cases out"
        )
    share: NDArray[np.float64] = np.zeros(len(times))
    share[survival > 0] = (at_risk / (len(data.times) * np.maximum(survival, 1e-300)))[survival > 0]
    return SurvivalCurve(times, share, at_risk.astype(np.int64), np.zeros(len(times), np.int64))


def drawn_censoring(
    weights: NDArray[np.float32],
    *,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """``followed_share`` just before each case's time, by the cases of each bootstrap draw.

    Args:
        weights: (n_draws, n), how often each case is drawn.
        time: (n,), positive.
        event: bool (n,).
        entry: (n,), time from which each case was followed; from 0 if None.

    Returns:
        float64 (n_draws, n).
    """
    order = np.argsort(time, kind="stable")
    times, first, step = np.unique(time[order], return_index=True, return_inverse=True)
    drawn = weights[:, order].astype(np.float64)
    size = np.add.reduceat(drawn, first, axis=1)
    events = np.add.reduceat(drawn * event[order], first, axis=1)
    at_risk = size[:, ::-1].cumsum(axis=1)[:, ::-1]
    if entry is None:
        at_risk -= events
        left = np.cumprod(1 - (size - events) / np.maximum(at_risk, 1), axis=1)
        before = np.concatenate([np.ones((len(drawn), 1)), left], axis=1)
    else:
        late = weights.astype(np.float64) @ (entry[:, None] >= times)
        at_risk -= late
        alive = np.cumprod(1 - events / np.maximum(at_risk, 1), axis=1)
        alive = np.concatenate([np.ones((len(drawn), 1)), alive[:, :-1]], axis=1)
        total = drawn.sum(axis=1, keepdims=True)
        before = np.divide(at_risk, total * alive, out=np.full_like(at_risk, np.inf), where=alive > 0)
    followed = np.empty_like(drawn)
    followed[:, order] = before[:, step]
    return followed


def _curve(data: FollowUp, *, of_censoring: bool) -> SurvivalCurve:
    times, case, size = np.unique(data.times, return_inverse=True, return_counts=True)
    events = np.bincount(case, weights=data.events, minlength=len(times)).astype(np.int64)
    at_risk = data.at_risk(times)
    fell = events
    if of_censoring:
        at_risk, fell = at_risk - events, size - events
    left = np.cumprod(1 - fell / np.maximum(at_risk, 1), dtype=np.float64)
    return SurvivalCurve(times, left, at_risk, fell)


@dataclass(frozen=True)
class LogRank:
    """Log-rank test of equal survival in all groups."""

    p: float  # two-sided p-value
    statistic: float  # chi-squared
    degrees_of_freedom: int  # groups minus one


def logrank(*, group: ArrayLike, time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None) -> LogRank:
    """Log-rank test over two or more groups.

    At each time of events, d of n at risk have one; of group g, n_g at risk, d n_g / n are expected, with the
    covariance of drawing d of n without putting back.

    Args:
        group: (n,), label of each case's group.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: as ``kaplan_meier`` for the values; fewer than two groups, or no event at all.

    Source: Mantel N. Cancer Chemotherapy Reports 1966;50:163-170.
    """
    from scipy.stats import chi2

    labels = np.asarray(group)
    if labels.shape != np.shape(time):
        raise MetricError(f"lengths differ: {labels.shape} and {np.shape(time)}")
    data = checked_follow_up(time, event, entry)
    names, of_case = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise MetricError(f"log-rank needs two groups, and all {len(labels)} cases are in {list(names)}")
    if not data.events.any():
        raise MetricError(f"log-rank needs an event, and none of {len(labels)} cases has one")
    times = np.unique(data.times[data.events])
    parts = [data.take(of_case == number) for number in range(len(names))]
    at_risk = np.stack([part.at_risk(times) for part in parts]).astype(np.float64)
    fell = np.stack(
        [np.bincount(np.searchsorted(times, part.times[part.events]), minlength=len(times)) for part in parts]
    )
    n, d = at_risk.sum(axis=0), fell.sum(axis=0)
    share = at_risk / n
    excess = (fell - share * d).sum(axis=1)
    spread = d * (n - d) / np.maximum(n - 1, 1)
    covariance = np.diag((share * spread).sum(axis=1)) - (share * spread) @ share.T
    statistic = float(excess @ np.linalg.pinv(covariance) @ excess)
    return LogRank(float(chi2.sf(statistic, len(names) - 1)), statistic, len(names) - 1)
