"""From log hazards to probabilities: the baseline hazard of a cohort, and survival at horizons."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import checked

_MAX_EXPONENT = 700.0
"""exp of more is no float64; survival is 0 long before."""


@dataclass(frozen=True)
class BaselineHazard:
    """Cumulative hazard of a case whose log hazard is 0, a step function; kept as a logarithm, which can't overflow.

    Attributes:
        times: float64 (k,), the distinct times of events, ascending.
        log_cumulative: float64 (k,), log H₀ after each of them.
        followed_until: the longest follow-up of the cohort; nothing is known beyond.
    """

    times: NDArray[np.float64]
    log_cumulative: NDArray[np.float64]
    followed_until: float

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

    def survival_of(self, *, log_hazard: ArrayLike, time: ArrayLike) -> NDArray[np.float64]:
        """Survival of each case to its own time, float64 (n,); what ``d_calibration`` takes.

        Beyond the cohort's follow-up its last value holds.

        Args:
            log_hazard: (n,).
            time: (n,).

        Raises:
            MetricError: lengths differ, or a value is not finite.
        """
        data = checked(log_hazard, time, np.zeros(np.shape(time)))
        return self._survival(data.risks[0] + self._log_hazard_by(data.times))

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

    def _log_hazard_by(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        steps = np.searchsorted(self.times, time, side="right")
        return np.concatenate([[-np.inf], self.log_cumulative])[steps]

    @staticmethod
    def _survival(log_cumulative: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(-np.exp(np.minimum(log_cumulative, _MAX_EXPONENT))), dtype=np.float64)


def baseline_hazard(*, log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike) -> BaselineHazard:
    """Breslow's estimate: at each event time H₀ rises by the events over the sum of exp(η) of all at risk.

    The log hazards must be honest for these cases: out of fold, or of another cohort. Those of a model on its own
    training cases are too extreme, and so are the probabilities that follow.

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: as ``metrics.concordance`` for the values; no event.

    Source: Breslow NE, in the discussion of Cox DR. Journal of the Royal Statistical Society B 1972;34:216-217.
    """
    data = checked(log_hazard, time, event)
    if not data.events.any():
        raise MetricError(f"no baseline hazard: none of {len(data.times)} cases has an event")
    order = np.argsort(data.times)[::-1]
    at_risk = np.logaddexp.accumulate(data.risks[0][order])
    times, events = np.unique(data.times[data.events], return_counts=True)
    # the risk set of t ends with the last case, latest first, whose time is t or later
    last = len(order) - np.searchsorted(data.times[order][::-1], times, side="left") - 1
    log_steps = np.log(events) - at_risk[last]
    return BaselineHazard(times, np.logaddexp.accumulate(log_steps), float(data.times.max()))


def _finite(log_hazard: ArrayLike) -> NDArray[np.float64]:
    risks = np.asarray(log_hazard, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(risks))
    if risks.ndim != 1 or bad.size:
        what = f"log_hazard of case {bad[0]} is {risks.flat[bad[0]]}" if bad.size else f"log_hazard {risks.shape}"
        raise MetricError(f"{what}: one finite number a case is needed")
    return risks
