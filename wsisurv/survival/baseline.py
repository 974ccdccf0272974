"""From log hazards to probabilities: the baseline hazard of a cohort, and survival at horizons."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import checked

_MAX_EXPONENT = 700.0
"""exp of more is no float64; survival is 0 long before."""

_AT_ONCE = 1 << 22
"""Numbers (cases · event times) held at once."""


@dataclass(frozen=True)
class BaselineHazard:
    """Cumulative hazard of a case whose log hazard is 0, a step function; kept as a logarithm, which can't overflow."""

    times: NDArray[np.float64]  # float64 (k,), the distinct times of events, ascending
    log_cumulative: NDArray[np.float64]  # float64 (k,), log H₀ after each of them
    followed_until: float  # the longest follow-up of the cohort; nothing is known beyond

    def survival_at(self, *, log_hazard: ArrayLike, horizons: ArrayLike) -> NDArray[np.float64]:
        """Survival of each case to each horizon, S(t | η) = exp(−H₀(t) exp η).

        Args:
            log_hazard: (n,), on the scale of the cohort that the baseline is of.
            horizons: (m,), in the unit of that cohort's times.

        Returns:
            float64 (n, m), from 0 to 1.

        Raises:
            MetricError: a horizon beyond the cohort's follow-up, or a value that is not finite.
        """
        at = np.atleast_1d(np.asarray(horizons, dtype=np.float64))
        beyond = at[~(at <= self.followed_until)]
        if beyond.size:
            raise MetricError(
                f"survival to {beyond[0]:g}, but the cohort was followed until {self.followed_until:g} at most: "
                "ask for shorter horizons"
            )
        return self._survival(_finite(log_hazard)[:, None] + self._log_hazard_by(at))

    def survival_of(
        self, *, log_hazard: ArrayLike, time: ArrayLike, entry: ArrayLike | None = None, before: bool = False
    ) -> NDArray[np.float64]:
        """Survival of each case from its entry to its own time, float64 (n,); what ``d_calibration`` takes.

        Beyond the cohort's follow-up its last value holds.

        Args:
            log_hazard: (n,).
            time: (n,).
            entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
            before: survival to just before that time, S(T−), which is higher where the cohort has an event at T.

        Raises:
            MetricError: lengths differ, or a value is not finite.
        """
        data = checked(log_hazard, time, np.zeros(np.shape(time)), entry)
        log_hazard_by = self._log_hazard_by(data.times, "left" if before else "right")
        if data.entries is not None:
            gone = np.exp(self._log_hazard_by(data.entries))
            with np.errstate(divide="ignore"):
                log_hazard_by = np.log(np.maximum(np.exp(log_hazard_by) - gone, 0.0))
        return self._survival(data.risks[0] + log_hazard_by)

    def expected_events(
        self, *, log_hazard: ArrayLike, time: ArrayLike, entry: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Events expected of each case in its follow-up, float64 (n,): Σ of 1 − S(t)/S(t−), event times entry < t ≤ T.

        Where each time is distinct that is the cumulative hazard but for a trifle. Where times are whole months or
        years it is less, and right: a case that dies in a month was at risk for a part of it. The sum over the cases
        that the baseline is of is their number of events, or very near it.

        Args:
            log_hazard: (n,).
            time: (n,).
            entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

        Raises:
            MetricError: lengths differ, or a value is not finite.

        Source: Kalbfleisch JD, Prentice RL. The Statistical Analysis of Failure Time Data, 2002, section 4.6 (grouped
        times).
        """
        data = checked(log_hazard, time, np.zeros(np.shape(time)), entry)
        steps = np.diff(np.exp(self.log_cumulative), prepend=0.0)
        with np.errstate(divide="ignore"):
            log_steps = np.log(steps)
        until = np.searchsorted(self.times, data.times, side="right")
        after = np.searchsorted(self.times, np.zeros(1) if data.entries is None else data.entries, side="right")
        after = np.broadcast_to(after, until.shape)
        expected, number = np.empty(len(until)), np.arange(len(steps))
        rows = max(1, _AT_ONCE // len(steps))
        for start in range(0, len(until), rows):
            part = slice(start, start + rows)
            each = -np.expm1(-np.exp(np.minimum(data.risks[0][part, None] + log_steps, _MAX_EXPONENT)))
            counted = (number >= after[part, None]) & (number < until[part, None])
            expected[part] = np.where(counted, each, 0.0).sum(axis=1)
        return expected

    def median(self, *, log_hazard: ArrayLike) -> NDArray[np.float64]:
        """First time by which survival is half or less, float64 (n,); NaN where the cohort's follow-up ends before.

        Args:
            log_hazard: (n,).

        Raises:
            MetricError: a value is not finite.
        """
        needed = np.log(np.log(2.0)) - _finite(log_hazard)
        step = np.searchsorted(self.log_cumulative, needed - 1e-12, side="left")
        return np.asarray(np.append(self.times, np.nan)[step], dtype=np.float64)

    def _log_hazard_by(
        self, time: NDArray[np.float64], side: Literal["left", "right"] = "right"
    ) -> NDArray[np.float64]:
        steps = np.searchsorted(self.times, time, side=side)
        return np.concatenate([[-np.inf], self.log_cumulative])[steps]

    @staticmethod
    def _survival(log_cumulative: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(-np.exp(np.minimum(log_cumulative, _MAX_EXPONENT))), dtype=np.float64)


def baseline_hazard(
    *, log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None
) -> BaselineHazard:
    """Efron's estimate: of d events at one time, each meets a risk set that is one d-th of the tied ones smaller.

    At each event time H₀ rises by Σ_{j<d} 1 / (Σ_R exp(η) − (j/d) Σ_D exp(η)), R all at risk and D the events of that
    time. For d = 1 that is Breslow's step. For more, Breslow's d / Σ_R exp(η) takes all tied cases as at risk until
    the last of them is gone: with times in years and no differences in risk it gave a survival of .694 to one year
    where Kaplan and Meier's is .634. Efron's step belongs to coefficients that are Efron's too, as ours are.

    The log hazards must be honest for these cases: out of fold, or of another cohort. Those of a model on its own
    training cases are too extreme, and so are the probabilities that follow.

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: as ``metrics.concordance`` for the values; no event.

    Source: Efron B. Journal of the American Statistical Association 1977;72:557-565; Therneau TM, Grambsch PM.
    Modeling Survival Data, 2000, section 3.3 (the hazard that R's survfit pairs with Efron's coefficients).
    """
    data = checked(log_hazard, time, event, entry)
    if not data.events.any():
        raise MetricError(f"no baseline hazard: none of {len(data.times)} cases has an event")
    order = np.lexsort((data.risks[0], data.times))[::-1]  # by risk too, so that the order of rows changes no bit
    risk, at, died = data.risks[0][order], data.times[order], data.events[order]
    times, first, events = np.unique(-at[died], return_index=True, return_counts=True)
    if data.entries is None:
        # the risk set of t ends with the last case, latest first, whose time is t or later
        at_risk = np.logaddexp.accumulate(risk)[np.searchsorted(-at, times, side="right") - 1]
    else:
        late = data.entries[order]
        at_risk = np.array([np.logaddexp.reduce(risk[(late < t) & (at >= t)]) for t in -times])
    tied = np.logaddexp.reduceat(risk[died], first)
    gone = np.arange(len(at[died])) - np.repeat(first, events)
    share = gone / np.repeat(events, events) * np.repeat(np.exp(np.minimum(tied - at_risk, 0.0)), events)
    log_steps = np.logaddexp.reduceat(-np.repeat(at_risk, events) - np.log1p(-share), first)[::-1]
    return BaselineHazard(-times[::-1], np.logaddexp.accumulate(log_steps), float(data.times.max()))


def _finite(log_hazard: ArrayLike) -> NDArray[np.float64]:
    risks = np.asarray(log_hazard, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(risks))
    if risks.ndim != 1 or bad.size:
        what = f"log_hazard of case {bad[0]} is {risks.flat[bad[0]]}" if bad.size else f"log_hazard {risks.shape}"
        raise MetricError(f"{what}: one finite number a case is needed")
    return risks
