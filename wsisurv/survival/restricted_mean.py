"""Restricted mean survival time: the mean time without the event up to a time, with the error of that mean."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from wsisurv.errors import MetricError
from wsisurv.survival.kaplan_meier import kaplan_meier


@dataclass(frozen=True)
class RestrictedMean:
    """Mean survival time up to ``until``, with its standard error."""

    until: float
    value: float
    se: float

    def minus(self, other: "RestrictedMean") -> "RestrictedMean":
        """Difference to another group's, whose cases are others."""
        return RestrictedMean(self.until, self.value - other.value, float(np.hypot(self.se, other.se)))


def restricted_mean(
    *, time: ArrayLike, event: ArrayLike, until: float, entry: ArrayLike | None = None
) -> RestrictedMean:
    """Area under the Kaplan-Meier curve from 0 to ``until``.

    With A(t) the area from t on, its variance is Σ A(t)² d(t) / (n(t) (n(t) − d(t))) over event times: the error of the
    mean. (The spread of survival times between patients, which lifelines returns as variance, is something else and
    does not shrink with more cases.)

    Args:
        time: (n,), positive.
        event: (n,), bool or 0/1.
        until: positive; somebody must be followed so long, or all have had the event before.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: as ``kaplan_meier``; or ``until`` is not positive, or beyond the last follow-up.

    Source: Klein JP, Moeschberger ML. Survival Analysis, 2003, section 4.5; as R's survfit prints it.
    """
    curve = kaplan_meier(time=time, event=event, entry=entry)
    if not 0 < until < np.inf:
        raise MetricError(f"restricted mean up to {until}: a positive time is needed")
    if until > curve.times[-1] and curve.survival[-1] > 0:
        raise MetricError(f"restricted mean up to {until:g}, but nobody was followed beyond {curve.times[-1]:g}")
    early = curve.times < until
    times = np.concatenate([[0.0], curve.times[early], [until]])
    areas = np.diff(times) * np.concatenate([[1.0], curve.survival[early]])
    beyond = areas[1:][::-1].cumsum()[::-1]  # from each event time on
    n, d = curve.at_risk[early].astype(np.float64), curve.fell[early].astype(np.float64)
    hazard = np.divide(d, n * (n - d), out=np.zeros_like(n), where=n > d)
    return RestrictedMean(until, float(areas.sum()), float(np.sqrt((beyond**2 * hazard).sum())))
