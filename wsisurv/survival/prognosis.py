"""What a log hazard means in years: probabilities of survival, calibrated on risks that are out of fold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import FormatError, MetricError
from wsisurv.survival.baseline import BaselineHazard, baseline_hazard
from wsisurv.survival.competing import absolute_risk, checked_causes
from wsisurv.survival.cox import cox_slope, cox_within
from wsisurv.survival.follow_up import FollowUp, checked

PER_YEAR = {"days": 365.25, "weeks": 365.25 / 7, "months": 12.0, "years": 1.0}
"""How many of each time unit make a year."""

FEW_FOLLOWED = 10
"""Training cases that must be followed to a time before survival to it is told to anyone."""
_PREFIX = "prognosis/"
_NUMBERS = ("followed_until", "slope", "slope_of_one", "slope_se", "events")
_ARRAYS = ("times", "log_cumulative", "followed", *_NUMBERS)
_COMPETING = "prognosis/competing/"


@dataclass(frozen=True)
class CompetingCause:
    """Hazard of a competing event, H₀(t) exp(γ η): with it the risk of the event is what will be seen."""

    slope: float  # γ of the mean of all members, may be below 0; 0 where the student does not tell of this event
    baseline: BaselineHazard  # H₀, Efron's


@dataclass(frozen=True)
class Prognosis:
    """Turns log hazards of a student into survival, S(t | η) = exp(−H₀(t) exp(b η))."""

    # b of the mean of all members, for a new case: below 1 where its log hazards are too extreme, 0 where they order
    # the cases no better than chance, so that every case has the survival of the whole cohort
    slope: float
    slope_of_one: float  # b of a member alone, as it was found on training cases that this one had not seen
    baseline: BaselineHazard  # H₀, Efron's
    # int64 (101,), cases that were followed to 0, 1, … 100 % of the longest follow-up at least
    followed: NDArray[np.int64]
    slope_se: float  # standard error of ``slope``
    events: int  # that the baseline rests on
    competing: CompetingCause | None = None  # where the training cases had competing events

    def survival(self, *, log_hazard: ArrayLike, horizons: ArrayLike) -> NDArray[np.float64]:
        """Survival of each case to each horizon.

        Args:
            log_hazard: (n,), as the student gives it; of a training case ``OutOfFoldScale.expected``.
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

    def event_free(self, *, log_hazard: ArrayLike, horizons: ArrayLike) -> NDArray[np.float64]:
        """One minus the absolute risk of the event by each horizon, competing events being what they were in training.

        Where there were none it is survival. Arguments, shape, NaN and errors as ``survival``.
        """
        if self.competing is None:
            return self.survival(log_hazard=log_hazard, horizons=horizons)
        at = np.atleast_1d(np.asarray(horizons, dtype=np.float64))
        risks = np.atleast_1d(np.asarray(log_hazard, dtype=np.float64))
        known = at <= self.baseline.followed_until
        values = np.full((len(risks), len(at)), np.nan)
        if known.any():
            values[:, known] = 1 - absolute_risk(
                event=self.baseline,
                competing=self.competing.baseline,
                log_hazard=self._scaled(risks),
                competing_log_hazard=self.competing.slope * risks,
                horizons=at[known],
            )
        return values

    def median(self, *, log_hazard: ArrayLike) -> NDArray[np.float64]:
        """Time by which survival is half or less, float64 (n,), in the cohort's unit; NaN where that is not reached."""
        return self.baseline.median(log_hazard=self._scaled(log_hazard))

    def own_survival(
        self, *, log_hazard: ArrayLike, time: ArrayLike, entry: ArrayLike | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Survival of each case from its entry to its own time, and to just before it, float64 (n,) each.

        What ``d_calibration`` takes. Beyond the cohort's follow-up the last value holds.
        """
        risks, at = self._scaled(log_hazard), self.baseline
        to, before = (at.survival_of(log_hazard=risks, time=time, entry=entry, before=one) for one in (False, True))
        return to, before

    def followed_to(self, time: float) -> int:
        """Training cases that were followed to ``time``, or to a little more; 0 beyond the longest follow-up."""
        if time > self.baseline.followed_until:
            return 0
        return int(self.followed[math.ceil(time / self.baseline.followed_until * (len(self.followed) - 1) - 1e-9)])

    def supports(self, time: float) -> bool:
        """Whether ten training cases at least were followed to ``time``, so that survival to it can be told."""
        return self.followed_to(time) >= FEW_FOLLOWED

    def _scaled(self, log_hazard: ArrayLike) -> NDArray[np.float64]:
        return self.slope * np.atleast_1d(np.asarray(log_hazard, dtype=np.float64))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        named = vars(self) | vars(self.baseline)
        arrays: dict[str, NDArray[Any]] = {_PREFIX + name: np.atleast_1d(named[name]) for name in _ARRAYS}
        if (other := self.competing) is not None:
            arrays[_COMPETING + "slope"] = np.array([other.slope])
            arrays[_COMPETING + "times"] = other.baseline.times
            arrays[_COMPETING + "log_cumulative"] = other.baseline.log_cumulative
        return arrays


def fit_prognosis(
    *,
    log_hazard: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    fold: ArrayLike | None = None,
    averaging: float = 1.0,
    reference: ArrayLike | None = None,
    cause: ArrayLike | None = None,
) -> Prognosis:
    """Fit slopes and baseline; of the competing event too where there is one.

    The slope is that of a Cox regression on the out-of-fold log hazards within folds: those of two members have no
    common origin, and a slope over all folds at once came out at a third to a half of what was right for new cases. A
    new case has the mean of all members, in which their noise averages out: var(member) / var(mean) times the slope.
    Slopes are shrunk by (χ² − 1) / χ², to 0 where χ² is below 1: of ten events a slope may come out tenfold, and with
    it all that is predicted; of a hundred it hardly changes.

    Args:
        log_hazard: (n,), of each training case by a member that has not seen it.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        fold: (n,), the fold of each case; None where one model gave all log hazards.
        averaging: var(member) / var(mean of members) over new cases, 1 or more.
        reference: (n,), the log hazards brought to those of new cases (``OutOfFoldScale.placed``), for the baseline;
            if None, within folds and with their variance over ``averaging``.
        cause: (n,), 0 censored, 1 the event, 2 a competing one; None where nothing competes. The competing hazard is a
            Cox model of its own on the same log hazard: one slope, since competing events are usually few.

    Raises:
        MetricError: as ``baseline_hazard``; ``cause`` is none of these, or 1 elsewhere than ``event`` is true.

    Source: van Houwelingen HC. Statistics in Medicine 2000;19:3401-3415 (validation by calibration of slope and
    baseline); shrinkage, van Houwelingen JC, le Cessie S. Statistics in Medicine 1990;9:1303-1325.
    """
    data = checked(log_hazard, time, event, entry)
    risks = data.risks[0].copy()
    folds = np.zeros(len(risks), np.int64) if fold is None else np.asarray(fold, dtype=np.int64)
    for number in np.unique(folds) if fold is not None else ():
        risks[folds == number] -= risks[folds == number].mean()
    try:
        fit = cox_within(variables=risks[:, None], fold=folds, time=data.times, event=data.events, entry=data.entries)
        se = cox_slope(log_hazard=risks, time=data.times, event=data.events, entry=data.entries, stratum=folds).se
        slope = max(0.0, _shrunk(float(fit.coefficients[0]), se))
    except MetricError:  # all log hazards of a fold are equal, or they order the cases perfectly, or all the wrong way
        slope = se = 1.0 if _gradient(risks, folds, data) > 0 else 0.0
    new = risks / math.sqrt(averaging) if reference is None else np.asarray(reference, dtype=np.float64)
    competing = None
    if cause is not None:
        competing = _fit_competing(risks, new, folds, data, checked_causes(time, cause, entry)[1], averaging)
    baseline = baseline_hazard(
        log_hazard=slope * averaging * new, time=data.times, event=data.events, entry=data.entries
    )
    grid = np.linspace(0, baseline.followed_until, 101)
    followed = len(data.times) - np.searchsorted(np.sort(data.times), grid * (1 - 1e-12), side="left")
    return Prognosis(
        slope=slope * averaging,
        slope_of_one=slope,
        baseline=baseline,
        followed=followed.astype(np.int64),
        slope_se=se * averaging,
        events=int(data.events.sum()),
        competing=competing,
    )


def _fit_competing(
    risks: NDArray[np.float64],
    new: NDArray[np.float64],
    folds: NDArray[np.int64],
    data: FollowUp,
    causes: NDArray[np.int64],
    averaging: float,
) -> CompetingCause | None:
    """The competing hazard on the same log hazard; None where no case has a competing event."""
    if ((causes == 1) != data.events).any():
        raise MetricError(f"cause of case {np.flatnonzero((causes == 1) != data.events)[0]} and its event disagree")
    other = causes == 2
    if not other.any():
        return None
    try:
        fit = cox_slope(log_hazard=risks, time=data.times, event=other, entry=data.entries, stratum=folds)
        slope = _shrunk(fit.value, fit.se) * averaging
    except MetricError:  # the log hazards tell nothing, or order the competing events perfectly
        slope = 0.0
    return CompetingCause(
        slope, baseline_hazard(log_hazard=slope * new, time=data.times, event=other, entry=data.entries)
    )


def _shrunk(slope: float, se: float) -> float:
    """A slope times (χ² − 1) / χ², 0 where χ² is below 1."""
    return slope * max(0.0, 1 - (se / slope) ** 2) if slope else 0.0


def no_further(log_hazard: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log hazards of another model, no further out than those that a prognosis was fitted to.

    Models of two folds have scales of their own, and those of few events very different ones; a slope that was found
    on a narrow scale says nothing of risks far outside it.
    """
    return np.clip(log_hazard, known.min(), known.max())


def _gradient(risks: NDArray[np.float64], folds: NDArray[np.int64], data: FollowUp) -> float:
    """Sum over events of the log hazard less its mean in the event's risk set: below 0 if the order is wrong."""
    told = 0.0
    for row in np.flatnonzero(data.events):
        here = (folds == folds[row]) & (data.times >= data.times[row])
        if data.entries is not None:
            here &= data.entries < data.times[row]
        told += risks[row] - risks[here].mean()
    return told


def load_prognosis(arrays: Mapping[str, NDArray[Any]]) -> Prognosis:
    """Rebuild from the arrays that ``Prognosis.arrays`` gave.

    Raises:
        FormatError: an array is missing, of another shape, not finite, or not in order.
    """
    try:
        found = {name: np.asarray(arrays[_PREFIX + name], dtype=np.float64) for name in _ARRAYS}
    except KeyError as error:
        raise FormatError(f"the model has no {error.args[0]}.") from error
    times, heights = found["times"], found["log_cumulative"]
    whole = times.ndim == 1 and len(times) and times.shape == heights.shape and found["followed"].shape == (101,)
    whole = whole and all(found[name].shape == (1,) for name in _NUMBERS)
    if not whole or not all(np.isfinite(value).all() for value in found.values()):
        raise FormatError("the model's baseline hazard is damaged.")
    until, slope, of_one, se, events = (float(found[name][0]) for name in _NUMBERS)
    if (np.diff(times) <= 0).any() or (np.diff(heights) < 0).any() or times[-1] > until or times[0] <= 0:
        raise FormatError("the model's baseline hazard does not rise with time.")
    if slope < 0 or of_one < 0 or se < 0 or not 1 <= events < 2**53:
        raise FormatError(f"the model's slopes are {slope} ± {se} and {of_one}, from {events:g} events: that can't be.")
    baseline = BaselineHazard(times, heights, until)
    followed, competing = found["followed"].astype(np.int64), _load_competing(arrays, until)
    return Prognosis(slope, of_one, baseline, followed, se, int(events), competing)


def _load_competing(arrays: Mapping[str, NDArray[Any]], until: float) -> CompetingCause | None:
    names = ("slope", "times", "log_cumulative")
    found = [np.asarray(arrays[_COMPETING + name], dtype=np.float64) for name in names if _COMPETING + name in arrays]
    if not found:
        return None
    if len(found) < len(names) or not all(one.ndim == 1 and len(one) and np.isfinite(one).all() for one in found):
        raise FormatError("the model's hazard of competing events is damaged.")
    slope, times, heights = found
    if len(slope) != 1 or times.shape != heights.shape or times[0] <= 0 or times[-1] > until:
        raise FormatError("the model's hazard of competing events is damaged.")
    if (np.diff(times) <= 0).any() or (np.diff(heights) < 0).any():
        raise FormatError("the model's hazard of competing events does not rise with time.")
    return CompetingCause(float(slope[0]), BaselineHazard(times, heights, until))
