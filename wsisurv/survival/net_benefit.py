"""Is it better to act on a predicted risk than to treat everybody, or nobody? The decision curve."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.competing import cumulative_incidence
from wsisurv.survival.follow_up import checked_follow_up, checked_horizons, checked_survival
from wsisurv.survival.kaplan_meier import kaplan_meier


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit at each threshold probability; in true positives a case, false ones counted against them."""

    thresholds: NDArray[np.float64]  # float64 (k,), probability of the event from which one would act
    # float64 (k,), of acting on the model; NaN where the last of the cases acted on is censored before the horizon
    model: NDArray[np.float64]
    treat_all: NDArray[np.float64]  # float64 (k,), of acting on everybody; acting on nobody is 0


def net_benefit(
    *,
    survival: ArrayLike,
    horizon: float,
    thresholds: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    cause: ArrayLike | None = None,
) -> NetBenefit:
    """Net benefit of acting on cases whose predicted probability of the event by the horizon reaches a threshold.

    With x the cases acted on and S_x their Kaplan-Meier curve, true positives are (1 − S_x(t)) P(x), false ones
    S_x(t) P(x), and the net benefit is the former less p/(1 − p) of the latter. True positives are no more than the
    events of all, 1 − S(t): of few cases S_x is rough, and would give a net benefit that no model can have.

    Args:
        survival: (n,), predicted probability of outliving the horizon.
        horizon: before the longest follow-up.
        thresholds: (k,), above 0, below 1.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        cause: (n,), 0 censored, 1 the event, 2 a competing one, for the cumulative incidence in place of 1 − S; None
            where nothing competes.

    Raises:
        MetricError: lengths differ, a value is out of range, or nobody is followed beyond the horizon.

    Source: Vickers AJ, Cronin AM, Elkin EB, Gonen M. BMC Medical Informatics and Decision Making 2008;8:53.
    """
    data = checked_follow_up(time, event, entry)
    at = float(checked_horizons([horizon], data)[0])
    risk = 1 - checked_survival(survival, (len(data.times),))
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if not ((levels > 0) & (levels < 1)).all():
        raise MetricError(f"thresholds {levels.tolist()}: probabilities above 0 and below 1 are needed")
    odds = levels / (1 - levels)
    causes = data.events.astype(int) if cause is None else np.asarray(cause)

    def free_of_it(rows: NDArray[np.bool_]) -> float:
        some = data.take(rows)
        if cause is None:
            return float(kaplan_meier(time=some.times, event=some.events, entry=some.entries).at(at))
        return 1 - float(cumulative_incidence(time=some.times, cause=causes[rows], entry=some.entries).at(at))

    def unknown(rows: NDArray[np.bool_]) -> bool:
        last = data.times[rows] == data.times[rows].max()
        return bool(data.times[rows].max() < at and (causes[rows][last] == 0).any())

    everybody = free_of_it(np.ones(len(data.times), dtype=bool))
    model = np.zeros(len(levels))
    for number, level in enumerate(levels):
        chosen = risk >= level
        if chosen.any():
            if unknown(chosen):
                model[number] = np.nan
                continue
            hits = min(chosen.mean() * (1 - free_of_it(chosen)), 1 - everybody)
            model[number] = hits - (chosen.mean() - hits) * odds[number]
    return NetBenefit(levels, model, (1 - everybody) - everybody * odds)
