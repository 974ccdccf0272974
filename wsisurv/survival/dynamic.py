"""AUC over time that doesn't depend on how follow-up was cut short: weights by the inverse of being followed.

A case with an event at T stands for all like it that were censored before: it counts 1/G(T−), where G is the
Kaplan-Meier curve of censoring. Where an event and a censoring share a time, torchsurv divides by G(T) instead, which
takes the censorings of that very time off as well; without such ties both are equal, and the tests compare them.
With competing events G is of censoring alone, and who had one by the horizon stays among those without the event.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.competing import checked_causes, cumulative_incidence
from wsisurv.survival.follow_up import FollowUp, checked, checked_horizons
from wsisurv.survival.kaplan_meier import SurvivalCurve, followed_share

_AT_ONCE = 1 << 22
"""Numbers (cases · horizons) held at once."""


@dataclass(frozen=True)
class DynamicAuc:
    """Cumulative/dynamic AUC."""

    horizons: NDArray[np.float64]  # float64 (m,)
    # float64 (m,), the chance that a case with the event by the horizon has a higher risk than one without
    auc: NDArray[np.float64]
    # average over the horizons, weighted by the share of the cohort whose event falls before each and after the one
    # before (Kaplan-Meier, cumulative incidence with competing events)
    mean: float


def followed_until(*, time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None, share: float = 0.1) -> float:
    """Where to truncate: the last time in the data to which at least this share escaped censoring, by Kaplan-Meier.

    Beyond it, few cases stand for all the others, and a figure with weights follows those few.

    Args:
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        share: above 0, below 1; no weight before that time is then above 1/share.

    Raises:
        MetricError: as ``kaplan_meier`` for the values; or share out of range.
    """
    if not 0 < share < 1:
        raise MetricError(f"share is {share}, not between 0 and 1")
    curve = followed_share(time=time, event=event, entry=entry)
    times = np.unique(np.asarray(time, dtype=np.float64))
    return float(times[curve.before(times) >= share][-1])


def dynamic_auc(
    *,
    log_hazard: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    horizons: ArrayLike,
    entry: ArrayLike | None = None,
    censoring: SurvivalCurve | None = None,
    cause: ArrayLike | None = None,
) -> DynamicAuc:
    """Cumulative/dynamic AUC at each horizon: cases with the event by then against all others.

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        horizons: (m,), ascending, all before the longest follow-up.
        censoring: ``followed_share`` of the training cases; of these cases if None.
        cause: (n,), 0 censored, 1 the event, 2 a competing one; None where nothing competes.

    Raises:
        MetricError: as ``metrics.concordance`` for the values; no event by a horizon, nobody followed beyond one, or
            ``censoring`` says that nobody is followed to the time of an event.

    Source: Uno H, Cai T, Tian L, Wei LJ. Journal of the American Statistical Association 2007;102:527-537; mean as in
    Lambert J, Chevret S. Statistical Methods in Medical Research 2016;25:2088-2102; with competing events, Blanche P,
    Dartigues JF, Jacqmin-Gadda H. Statistics in Medicine 2013;32:5381-5397 (their second definition of controls).
    """
    data = checked(log_hazard, time, event, entry)
    causes = checked_causes(time, data.events * 1 if cause is None else cause, entry)[1]
    if len(data.risks) != 1:
        raise MetricError(f"log hazards of {len(data.risks)} models; one is needed")
    at = checked_horizons(horizons, data)
    first = np.flatnonzero(data.events & (data.times <= at[-1]))
    if not len(first) or data.times[first].min() > at[0]:
        raise MetricError(f"no event by {at[0]:g}, so there is no AUC at that horizon: lengthen it")
    weight = np.zeros(len(data.times))
    curve = censoring or followed_share(time=data.times, event=causes > 0, entry=data.entries)
    known = np.flatnonzero((causes > 0) & (data.times <= at[-1]))
    weight[known] = _weights(data, known, curve)
    order = np.argsort(data.risks[0], kind="stable")
    risks, times, weight = data.risks[0][order], data.times[order], weight[order]
    entries = None if data.entries is None else data.entries[order]
    other = np.where(causes[order] == 2, weight, 0.0)
    # without competing events it is the same for all, and cancels out
    late = np.maximum(curve.at(at), 1e-300) if other.any() else np.ones(len(at))
    starts = np.flatnonzero(np.diff(risks, prepend=-np.inf))  # cases of equal risk form a group
    step = max(1, _AT_ONCE // len(times))
    parts = [
        _auc(times, entries, weight - other, other, starts, at[part], late[part])
        for part in (slice(start, start + step) for start in range(0, len(at), step))
    ]
    auc = np.concatenate(parts)
    rises = np.diff(cumulative_incidence(time=data.times, cause=causes, entry=data.entries).at(at), prepend=0.0)
    return DynamicAuc(at, auc, float(rises @ auc / rises.sum()))


def _auc(
    times: NDArray[np.float64],
    entries: NDArray[np.float64] | None,
    weight: NDArray[np.float64],
    other: NDArray[np.float64],
    starts: NDArray[np.int64],
    at: NDArray[np.float64],
    late: NDArray[np.float64],
) -> NDArray[np.float64]:
    """AUC at each horizon; cases by ascending risk, in groups of equal risk that begin at ``starts``.

    Weights of the event, of a competing one, and by how much those followed beyond each horizon are divided.
    """
    alive = times > at[:, None]
    cases = np.add.reduceat(np.where(alive, 0.0, weight), starts, axis=1)
    if entries is not None:
        alive &= entries <= at[:, None]
    without = alive / late[:, None] + np.where(times > at[:, None], 0.0, other)
    controls = np.add.reduceat(without, starts, axis=1, dtype=np.float64)
    lower = controls.cumsum(axis=1) - controls / 2  # an equal risk counts half
    return np.asarray((cases * lower).sum(axis=1) / (cases.sum(axis=1) * controls.sum(axis=1)), dtype=np.float64)


def _weights(data: FollowUp, first: NDArray[np.int64], curve: SurvivalCurve) -> NDArray[np.float64]:
    """1/G(T−) of the cases numbered ``first``."""
    followed = curve.before(data.times[first])
    if (followed <= 0).any():
        time = data.times[first][followed <= 0].min()
        raise MetricError(
            f"an event at {time:g}, but the cases that censoring was learned from are all censored before: "
            "truncate earlier"
        )
    return 1 / followed
