"""Competing risks: cumulative incidence, its comparison between groups, absolute risk, and its Brier score.

A cause is 0 for a case whose follow-up ended without any event, 1 for the event asked about, 2 for one that makes it
impossible. One minus Kaplan-Meier with cause 2 taken as censoring overstates the risk: it supposes that those who died
of something else could still have the event.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.baseline import BaselineHazard
from wsisurv.survival.calibration import mean_over_time
from wsisurv.survival.follow_up import FollowUp, checked_follow_up, checked_horizons, checked_survival
from wsisurv.survival.kaplan_meier import followed_share


@dataclass(frozen=True)
class CumulativeIncidence:
    """Share of cases with the event of one cause by each time, a step function from 0."""

    times: NDArray[np.float64]  # (k,), distinct, ascending
    incidence: NDArray[np.float64]  # (k,), after each time
    se: NDArray[np.float64]  # (k,), standard error after each time

    def at(self, time: ArrayLike) -> NDArray[np.float64]:
        """Incidence by each time; the last value holds beyond the end."""
        return self._step(self.incidence, time)

    def se_at(self, time: ArrayLike) -> NDArray[np.float64]:
        """Standard error by each time."""
        return self._step(self.se, time)

    def _step(self, values: NDArray[np.float64], time: ArrayLike) -> NDArray[np.float64]:
        return np.concatenate([[0.0], values])[np.searchsorted(self.times, time, side="right")]


def cumulative_incidence(
    *, time: ArrayLike, cause: ArrayLike, entry: ArrayLike | None = None, of: int = 1
) -> CumulativeIncidence:
    """Aalen and Johansen's estimate: F(t) = Σ S(u−) d₁(u) / n(u) over u ≤ t, S of any event.

    Events of one time share its risk set, whatever their cause, and come before its censorings; nothing is moved at
    random to part them.

    Args:
        time: (n,), positive.
        cause: (n,), 0 censored, 1 the event, 2 a competing one.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        of: which cause.

    Raises:
        MetricError: as ``kaplan_meier``; a cause that is none of these.

    Source: Aalen OO, Johansen S. Scandinavian Journal of Statistics 1978;5:141-150; standard error, Gaynor JJ et al.
    Journal of the American Statistical Association 1993;88:400-409.
    """
    data, causes = checked_causes(time, cause, entry)
    times = np.unique(data.times)
    step = np.searchsorted(times, data.times)
    n = data.at_risk(times).astype(np.float64)
    own = np.bincount(step, weights=causes == of, minlength=len(times)).astype(np.float64)
    d = np.bincount(step, weights=causes > 0, minlength=len(times)).astype(np.float64)
    before = np.concatenate([[1.0], np.cumprod(1 - d / n)[:-1]])
    jumps = before * own / n
    incidence = np.cumsum(jumps)
    return CumulativeIncidence(times, incidence, np.sqrt(_variance(incidence, before, n, d, own)))


def _variance(
    incidence: NDArray[np.float64],
    before: NDArray[np.float64],
    n: NDArray[np.float64],
    d: NDArray[np.float64],
    own: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Variance after each time, from sums over the times before: (F(t) − F(u))² expands into three running sums."""
    left = n - d
    hazard = np.divide(d, n * left, out=np.zeros_like(n), where=left > 0)  # where nobody is left F no longer changes
    square = before**2 * own * (n - own) / n**3
    cross = before * own / n**2
    s0, s1, s2 = (np.cumsum(hazard * incidence**power) for power in (0, 1, 2))
    value = incidence**2 * s0 - 2 * incidence * s1 + s2 + np.cumsum(square)
    value -= 2 * (incidence * np.cumsum(cross) - np.cumsum(cross * incidence))
    return np.maximum(value, 0.0)


def checked_causes(
    time: ArrayLike, cause: ArrayLike, entry: ArrayLike | None = None
) -> tuple[FollowUp, NDArray[np.int64]]:
    """Follow-up, with any event as the event, and causes int64 (n,).

    Raises:
        MetricError: as ``checked_follow_up``; a cause that is not 0, 1 or 2.
    """
    raw = np.asarray(cause)
    if (bad := np.flatnonzero(~np.isin(raw, [0, 1, 2]))).size:
        raise MetricError(
            f"cause of case {bad[0]} is {raw[bad[0]]!r}: 0 (censored), 1 (event) or 2 (competing event) is needed"
        )
    return checked_follow_up(time, raw > 0, entry), raw.astype(np.int64)


def followed_on(time: ArrayLike, cause: ArrayLike | None) -> NDArray[np.float64]:
    """Times for a concordance of the event itself: a case with a competing event outlives everybody, (n,).

    It will not have the event, so a model of its risk should place it below each case that has. With these times
    Harrell's concordance is Wolbers's; with the times as they are it compares cause-specific hazards.

    Args:
        time: (n,), positive.
        cause: (n,), 0 censored, 1 the event, 2 a competing one; None where nothing competes: the times as they are.

    Source: Wolbers M, Koller MT, Witteman JCM, Steyerberg EW. Epidemiology 2009;20:555-561.
    """
    times = np.asarray(time, dtype=np.float64)
    if cause is None or not len(times):
        return times
    return np.where(np.asarray(cause) == 2, 2 * times.max(), times)


def incidence_interval(value: float, se: float) -> tuple[float, float]:
    """95 % interval of a cumulative incidence, on the scale of log(−log), so that it stays within 0 and 1."""
    if not 0 < value < 1:
        return value, value
    width = 1.959964 * se / abs(value * np.log(value))
    return float(value ** np.exp(width)), float(value ** np.exp(-width))


@dataclass(frozen=True)
class GrayTest:
    """Test of equal cumulative incidence in all groups."""

    p: float  # two-sided
    statistic: float  # chi-squared
    degrees_of_freedom: int  # groups minus one
    score: NDArray[np.float64]  # (n_groups,), events above what equal incidence would give, by Gray's weights


def gray_test(*, group: ArrayLike, time: ArrayLike, cause: ArrayLike, entry: ArrayLike | None = None) -> GrayTest:
    """Gray's test of equal cumulative incidence of cause 1.

    With n_k at risk, S_k of any event and F_k of each group, those who could still be counted are
    R_k = n_k (1 − F_k(t−)) / S_k(t−), and the score is Σ (d_k − R_k d / R). Its covariance is that of equal incidence:
    F_k − F is a sum over events of both causes, each with what it does to S_k and to the score from then on, and of the
    variance of drawing so many of those at risk without putting back.

    Args:
        group: (n,), label of each case's group.
        time: (n,), positive.
        cause: (n,), 0 censored, 1 the event, 2 a competing one.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: as ``cumulative_incidence``; fewer than two groups, no event of cause 1, or all at risk in a group
            have an event while others of it enter later.

    Source: Gray RJ. Annals of Statistics 1988;16:1141-1154.
    """
    from scipy.stats import chi2

    data, causes = checked_causes(time, cause, entry)
    names, of = np.unique(np.asarray(group), return_inverse=True)
    if of.shape != data.times.shape:
        raise MetricError(f"lengths differ: group {of.shape}, time {data.times.shape}")
    if len(names) < 2 or not (causes == 1).any():
        raise MetricError(
            f"Gray's test needs two groups and an event of cause 1: seen {len(names)} and {int((causes == 1).sum())}"
        )
    times = np.unique(data.times[data.events])
    n = np.stack([data.take(of == k).at_risk(times) for k in range(len(names))]).astype(np.float64)
    own, other = (_counts(data.times, of, causes == one, times) for one in (1, 2))
    after = np.cumprod(1 - (own + other) / np.maximum(n, 1), axis=1, dtype=np.float64)
    before = _shifted(after, 1.0)
    if ((n > 0) & (before <= 0)).any():
        raise MetricError("all at risk in a group have an event, and others of it enter later: too few come so early")
    whole = np.divide(n, before, out=np.zeros_like(n), where=n > 0)
    in_group = whole * (1 - _shifted(np.cumsum(before * own / np.maximum(n, 1), axis=1), 0.0))
    d, total = own.sum(axis=0), whole.sum(axis=0)
    score = (own - in_group * d / np.maximum(in_group.sum(axis=0), 1e-300)).sum(axis=1)
    covariance = _gray_covariance(n, whole, before, after, other, d / total, d)
    statistic = float(score @ np.linalg.pinv(covariance, rcond=1e-9, hermitian=True) @ score)
    return GrayTest(float(chi2.sf(statistic, len(names) - 1)), statistic, len(names) - 1, score)


def _counts(
    time: NDArray[np.float64], of: NDArray[np.int64], happened: NDArray[np.bool_], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many of each group it happened to at each time, (n_groups, n_times)."""
    found = np.zeros((of.max() + 1, len(at)))
    np.add.at(found, (of[happened], np.searchsorted(at, time[happened])), 1)
    return found


def _shifted(after: NDArray[np.float64], start: float) -> NDArray[np.float64]:
    """Values just before each time, from those after it."""
    return np.concatenate([np.full((len(after), 1), start), after[:, :-1]], axis=1)


def _gray_covariance(
    n: NDArray[np.float64],
    whole: NDArray[np.float64],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    other: NDArray[np.float64],
    jumps: NDArray[np.float64],
    d: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Covariance of the score where all groups have one incidence, whose jumps are given; all are (n_groups, n_times).

    An event of group k at u moves its incidence at t by 1 − (F(t) − F(u)) / S_k(u) times S_k(u−) / n_k(u), a competing
    one by −(F(t) − F(u)) / S_k(u) times that; the score follows the change of (F_k − F) / (1 − F).
    """
    incidence = np.cumsum(jumps)
    left = np.maximum(1 - np.concatenate([[0.0], incidence[:-1]]), 1e-300)
    share = whole / whole.sum(axis=0)
    pull = whole[:, None] * (np.eye(len(n))[:, :, None] - share[None])  # (n_groups, n_groups, n_times)
    steps = pull * (jumps / left)
    later = steps.sum(axis=2, keepdims=True) - np.cumsum(steps, axis=2)
    falls = np.divide(1 - incidence, after, out=np.zeros_like(after), where=after > 0)
    pooled = whole.sum(axis=0) * before  # of a group's own kind, as many as if all groups were like it
    spread = np.divide(pooled - d, pooled - 1, out=np.ones_like(pooled), where=(d > 1) & (pooled > 1))
    drawn = np.divide(before * jumps * np.maximum(spread, 0), n, out=np.zeros_like(n), where=n > 0)
    kept = np.divide(n - other, n - 1, out=np.ones_like(n), where=(other > 1) & (n > 1))
    gone = np.divide(before**2 * other * kept, n**2, out=np.zeros_like(n), where=n > 0)
    parts = ((pull + (1 - falls) * later, drawn), (falls * later, gone))
    return np.asarray(sum(np.einsum("ikt,jkt,kt->ij", one, one, by) for one, by in parts), dtype=np.float64)


def absolute_risk(
    *,
    event: BaselineHazard,
    competing: BaselineHazard,
    log_hazard: ArrayLike,
    competing_log_hazard: ArrayLike,
    horizons: ArrayLike,
) -> NDArray[np.float64]:
    """Probability of the event by each horizon where competing events may come first, float64 (n, m).

    F(t) = Σ S(u−) q₁(u) over u ≤ t and S(u) = Π (1 − q₁ − q₂), with q = 1 − exp(−ΔH(u) exp η) of each cause-specific
    hazard: Aalen and Johansen's combination, also where events of both causes share a time. (exp(−H₁ − H₂) would keep
    q₁ q₂ of the cases too many there, and with times in years the risk came out .012 too low.)

    Args:
        event: baseline of the event's hazard.
        competing: of the competing event's hazard, of the same cases.
        log_hazard: (n,), η₁.
        competing_log_hazard: (n,), η₂.
        horizons: (m,), in the unit of the baselines, within their follow-up.

    Raises:
        MetricError: a horizon beyond the follow-up, lengths that differ, or a value that is not finite.

    Source: Prentice RL et al. Biometrics 1978;34:541-554; Benichou J, Gail MH. Biometrics 1990;46:813-826.
    """
    at = np.atleast_1d(np.asarray(horizons, dtype=np.float64))
    risks = [np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in (log_hazard, competing_log_hazard)]
    end = min(event.followed_until, competing.followed_until)
    if risks[0].shape != risks[1].shape or not all(np.isfinite(one).all() for one in risks):
        raise MetricError(f"log hazards {risks[0].shape} and {risks[1].shape}: one finite number a case each is needed")
    if (at > end).any():
        raise MetricError(f"risk by {at.max():g}, but the cohort was followed until {end:g} at most")
    times = np.union1d(event.times, competing.times)
    steps = [
        _steps(one, times)[None, :] * np.exp(np.minimum(risk, 700.0))[:, None]
        for one, risk in zip((event, competing), risks, strict=True)
    ]
    first, other = (-np.expm1(-one) for one in steps)
    both = first + other
    gone = np.minimum(both, 1.0)  # a case of extreme risk can't have more than one event
    before = np.concatenate([np.ones((len(risks[0]), 1)), np.cumprod(1 - gone, axis=1)[:, :-1]], axis=1)
    share = np.divide(first, both, out=np.zeros_like(both), where=both > 0)
    risk = np.cumsum(before * share * gone, axis=1)
    risk = np.concatenate([np.zeros((len(risk), 1)), risk], axis=1)
    return np.asarray(risk[:, np.searchsorted(times, at, side="right")], dtype=np.float64)


def _steps(baseline: BaselineHazard, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a cumulative hazard gains at each of the times, which hold all of its own."""
    steps = np.zeros(len(times))
    steps[np.searchsorted(times, baseline.times)] = np.diff(np.exp(baseline.log_cumulative), prepend=0.0)
    return steps


@dataclass(frozen=True)
class CompetingBrier:
    """Mean squared error of predicted absolute risk at each horizon; lower is better."""

    horizons: NDArray[np.float64]  # (m,)
    score: NDArray[np.float64]  # (m,), of the model
    reference: NDArray[np.float64]  # (m,), of the cohort's own cumulative incidence for every case

    @property
    def integrated(self) -> float:
        """Mean of ``score`` over time, from the first horizon to the last."""
        return mean_over_time(self.score, self.horizons)

    @property
    def integrated_reference(self) -> float:
        """That of ``reference``."""
        return mean_over_time(self.reference, self.horizons)


def competing_brier(
    *, risk: ArrayLike, horizons: ArrayLike, time: ArrayLike, cause: ArrayLike, entry: ArrayLike | None = None
) -> CompetingBrier:
    """Brier score of absolute risk, censored cases made up for by weights.

    A case with the event by t counts (1 − F(t))²/G(T−), one with a competing event by t counts F(t)²/G(T−): it will
    not have the event any more; one followed beyond t counts F(t)²/G(t). G is of censoring alone (``followed_share``).

    Args:
        risk: (n, m), predicted probability of the event by each horizon.
        horizons: (m,), ascending, all before the longest follow-up.
        time: (n,), positive.
        cause: (n,), 0 censored, 1 the event, 2 a competing one.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: as ``calibration.brier``, or a cause that is none of these.

    Source: Schoop R, Beyersmann J, Schumacher M, Binder H. Biometrical Journal 2011;53:88-112.
    """
    data, causes = checked_causes(time, cause, entry)
    at = checked_horizons(horizons, data)
    predicted = checked_survival(risk, (len(data.times), len(at)))
    followed = followed_share(time=data.times, event=data.events, entry=data.entries)
    own, late = followed.before(data.times), followed.at(at)
    counted = data.events & (data.times <= at[-1])
    if (own[counted] <= 0).any() or (late <= 0).any():
        raise MetricError(f"horizons to {at[-1]:g}, but all cases are censored before: shorten the horizons")
    marginal = cumulative_incidence(time=data.times, cause=causes, entry=data.entries).at(at)
    score, reference = np.empty(len(at)), np.empty(len(at))
    for number, horizon in enumerate(at):
        weight = np.where(data.events & (data.times <= horizon), 1 / np.maximum(own, 1e-300), 0.0)
        alive = (data.times > horizon) & (True if data.entries is None else data.entries <= horizon)
        weight = weight + alive / late[number]
        truth = (causes == 1) & (data.times <= horizon)
        for scores, guess in ((score, predicted[:, number]), (reference, marginal[number])):
            scores[number] = np.mean(weight * (truth - guess) ** 2)
    return CompetingBrier(at, score, reference)
