"""Kaplan-Meier curves of survival and of censoring, and the log-rank test.

The curve is our own: lifelines puts events and censorings of one time in one risk set, which is right for survival but
not for the curve of censoring, and it takes some milliseconds a curve, which a bootstrap has not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import checked_follow_up


@dataclass(frozen=True)
class SurvivalCurve:
    """A step function that starts at 1 and falls at some of ``times``.

    Attributes:
        times: float64 (k,), distinct, ascending.
        survival: float64 (k,), the share that is left after each time.
        at_risk: int64 (k,), cases that could have fallen at each time.
        fell: int64 (k,), cases that did.
    """

    times: NDArray[np.float64]
    survival: NDArray[np.float64]
    at_risk: NDArray[np.int64]
    fell: NDArray[np.int64]

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


def kaplan_meier(*, time: ArrayLike, event: ArrayLike) -> SurvivalCurve:
    """Kaplan-Meier estimate of survival, P(event after t).

    Args:
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: no case, lengths differ, a time is not positive and finite, or an event not 0/1.

    Source: Kaplan EL, Meier P. Journal of the American Statistical Association 1958;53:457-481.
    """
    return _curve(time, event, of_censoring=False)


def censoring_curve(*, time: ArrayLike, event: ArrayLike) -> SurvivalCurve:
    """Kaplan-Meier estimate of the censoring distribution, P(censored after t).

    Events come before censorings of the same time: who has the event at t is not at risk of being censored at t.

    Args:
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: as ``kaplan_meier``.

    Source: Graf E, Schmoor C, Sauerbrei W, Schumacher M. Statistics in Medicine 1999;18:2529-2545.
    """
    return _curve(time, event, of_censoring=True)


def drawn_censoring(
    weights: NDArray[np.float32], *, time: NDArray[np.float64], event: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """G(T−) of each case by the censoring of each bootstrap draw, as ``censoring_curve`` of the drawn cases gives it.

    Args:
        weights: (n_draws, n), how often each case is drawn.
        time: (n,), positive.
        event: bool (n,).

    Returns:
        float64 (n_draws, n).
    """
    order = np.argsort(time, kind="stable")
    _, first, step = np.unique(time[order], return_index=True, return_inverse=True)
    drawn = weights[:, order].astype(np.float64)
    size = np.add.reduceat(drawn, first, axis=1)
    events = np.add.reduceat(drawn * event[order], first, axis=1)
    at_risk = size[:, ::-1].cumsum(axis=1)[:, ::-1] - events
    left = np.cumprod(1 - (size - events) / np.maximum(at_risk, 1), axis=1)
    followed = np.empty_like(drawn)
    followed[:, order] = np.concatenate([np.ones((len(drawn), 1)), left], axis=1)[:, step]
    return followed


def _curve(time: ArrayLike, event: ArrayLike, *, of_censoring: bool) -> SurvivalCurve:
    data = checked_follow_up(time, event)
    times, case, size = np.unique(data.times, return_inverse=True, return_counts=True)
    events = np.bincount(case, weights=data.events, minlength=len(times)).astype(np.int64)
    at_risk = size[::-1].cumsum()[::-1]
    fell = events
    if of_censoring:
        at_risk, fell = at_risk - events, size - events
    return SurvivalCurve(times, np.cumprod(1 - fell / np.maximum(at_risk, 1)), at_risk, fell)


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


def logrank(*, group: ArrayLike, time: ArrayLike, event: ArrayLike) -> LogRank:
    """Log-rank test over two or more groups, by lifelines.

    Args:
        group: (n,), label of each case's group.
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: as ``kaplan_meier`` for the values; fewer than two groups, or no event at all.

    Source: Mantel N. Cancer Chemotherapy Reports 1966;50:163-170.
    """
    from lifelines.statistics import multivariate_logrank_test

    labels = np.asarray(group)
    if labels.shape != np.shape(time):
        raise MetricError(f"lengths differ: {labels.shape} and {np.shape(time)}")
    data = checked_follow_up(time, event)
    groups = np.unique(labels)
    if len(groups) < 2:
        raise MetricError(f"log-rank needs two groups, and all {len(labels)} cases are in {list(groups)}")
    if not data.events.any():
        raise MetricError(f"log-rank needs an event, and none of {len(labels)} cases has one")
    result = multivariate_logrank_test(data.times, labels, data.events)
    return LogRank(float(result.p_value), float(result.test_statistic), len(groups) - 1)
