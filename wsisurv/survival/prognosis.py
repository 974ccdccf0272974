"""What a log hazard means in years: probabilities of survival, calibrated on risks that are out of fold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import FormatError, MetricError
from wsisurv.survival.baseline import BaselineHazard, baseline_hazard
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.follow_up import checked

PER_YEAR = {"days": 365.25, "weeks": 365.25 / 7, "months": 12.0, "years": 1.0}
"""How many of each time unit make a year."""

_PREFIX = "prognosis/"
_ARRAYS = ("times", "log_cumulative", "followed", "followed_until", "slope")


@dataclass(frozen=True)
class Prognosis:
    """Turns log hazards of a student into survival, S(t | η) = exp(−H₀(t) exp(b η)).

    Attributes:
        slope: b, of a Cox regression of the training cases' follow-up on their out-of-fold log hazards: below 1 where
            these are too extreme. 0 where they order the cases no better than chance, so that every case has the
            survival of the whole cohort.
        baseline: H₀, Breslow's, on b η of the same cases.
        followed: int64 (101,), cases that were followed to 0, 1, … 100 % of the longest follow-up at least.
    """

    slope: float
    baseline: BaselineHazard
    followed: NDArray[np.int64]

    def survival(self, *, log_hazard: ArrayLike, horizons: ArrayLike) -> NDArray[np.float64]:
        """Survival of each case to each horizon.

        Args:
            log_hazard: (n,), as the student gives it.
            horizons: (m,), in the training cohort's time unit.

        Returns:
            float64 (n, m), from 0 to 1; NaN beyond the cohort's longest follow-up, of which nothing is known.

        Raises:
            MetricError: a log hazard is not finite.
        """
        risks = self._scaled(log_hazard)
        at = np.atleast_1d(np.asarray(horizons, dtype=np.float64))
        known = at <= self.baseline.followed_until
        values = np.full((len(risks), len(at)), np.nan)
        values[:, known] = self.baseline.survival_at(log_hazard=risks, horizons=at[known])
        return values

    def median(self, *, log_hazard: ArrayLike) -> NDArray[np.float64]:
        """Time by which survival is half or less, float64 (n,), in the cohort's unit; NaN where that is not reached."""
        return self.baseline.median(log_hazard=self._scaled(log_hazard))

    def followed_to(self, time: float) -> int:
        """Training cases that were followed to ``time``, or to a little more; 0 beyond the longest follow-up."""
        if time > self.baseline.followed_until:
            return 0
        return int(self.followed[math.ceil(time / self.baseline.followed_until * (len(self.followed) - 1) - 1e-9)])

    def _scaled(self, log_hazard: ArrayLike) -> NDArray[np.float64]:
        return self.slope * np.atleast_1d(np.asarray(log_hazard, dtype=np.float64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        values = (
            self.baseline.times,
            self.baseline.log_cumulative,
            self.followed,
            np.array([self.baseline.followed_until]),
            np.array([self.slope]),
        )
        return {_PREFIX + name: value for name, value in zip(_ARRAYS, values, strict=True)}


def fit_prognosis(*, log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike) -> Prognosis:
    """Fit slope and baseline.

    Args:
        log_hazard: (n,), of each training case by models that have not seen it.
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: as ``baseline_hazard``.

    Source: van Houwelingen HC. Statistics in Medicine 2000;19:3401-3415 (validation by calibration of slope and
    baseline).
    """
    data = checked(log_hazard, time, event)
    try:
        slope = max(0.0, cox_slope(log_hazard=data.risks[0], time=data.times, event=data.events).value)
    except MetricError:  # all log hazards are equal, or they order the cases perfectly
        slope = 0.0 if np.ptp(data.risks[0]) == 0 else 1.0
    baseline = baseline_hazard(log_hazard=slope * data.risks[0], time=data.times, event=data.events)
    grid = np.linspace(0, baseline.followed_until, 101)
    followed = len(data.times) - np.searchsorted(np.sort(data.times), grid * (1 - 1e-12), side="left")
    return Prognosis(slope, baseline, followed.astype(np.int64))


def load_prognosis(arrays: Mapping[str, NDArray[Any]]) -> Prognosis:
    """Rebuild from the arrays that ``Prognosis.arrays`` gave.

    Raises:
        FormatError: an array is missing, of another shape, not finite, or not in order.
    """
    try:
        found = {name: np.asarray(arrays[_PREFIX + name], dtype=np.float64) for name in _ARRAYS}
    except KeyError as error:
        raise FormatError(f"the model has no {error.args[0]}. Run `wsisurv distill --redo`.") from error
    times, heights = found["times"], found["log_cumulative"]
    whole = times.ndim == 1 and len(times) and times.shape == heights.shape and found["followed"].shape == (101,)
    whole = whole and found["followed_until"].shape == found["slope"].shape == (1,)
    if not whole or not all(np.isfinite(value).all() for value in found.values()):
        raise FormatError("the model's baseline hazard is damaged (shapes or numbers). Run `wsisurv distill --redo`.")
    until, slope = float(found["followed_until"][0]), float(found["slope"][0])
    if (np.diff(times) <= 0).any() or (np.diff(heights) < 0).any() or times[-1] > until or times[0] <= 0 or slope < 0:
        raise FormatError("the model's baseline hazard does not rise with time. Run `wsisurv distill --redo`.")
    return Prognosis(slope, BaselineHazard(times, heights, until), found["followed"].astype(np.int64))
