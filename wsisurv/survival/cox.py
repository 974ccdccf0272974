"""Cox regressions: coefficients through lifelines, of all cases or within folds, and the calibration slope."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import checked, require_pairs
from wsisurv.survival.risk_sets import RiskSets

if TYPE_CHECKING:
    import pandas as pd

LOW_SLOPE = 0.3
"""Calibration slope, out of fold, below which a model is not to be trusted as it is."""
LOW_SLOPE_MEANS = (
    "over-trained, or nothing was learned that holds for new cases; log hazards are far too extreme as they are"
)
_STEPS = 60
_CONVERGED = 1e-9
_TRACE = 1e-4
"""Ridge of a regression within folds, on standardised variables."""
_FLAT = 1e-8
"""Information per squared standard deviation below which the likelihood is flat: it rises without an end."""


def low_slope(slope: float) -> str:
    """Warning of a student whose calibration slope, out of fold, is below ``LOW_SLOPE``."""
    return f"calibration slope {slope:.2f} out of fold, below {LOW_SLOPE:g}: {LOW_SLOPE_MEANS}"


@dataclass(frozen=True)
class Slope:
    """Coefficient of a Cox regression on one variable, with its standard error."""

    value: float
    se: float

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval, by the normal distribution."""
        return self.value - 1.96 * self.se, self.value + 1.96 * self.se


@dataclass(frozen=True)
class CoxFit:
    """A fitted Cox model.

    Attributes:
        coefficients: float64 (n_variables,), log hazard ratio per unit; 0 for a constant variable.
        se: float64 (n_variables,), standard errors; NaN for a constant variable.
    """

    coefficients: NDArray[np.float64]
    se: NDArray[np.float64]


def fit_cox(
    *,
    variables: NDArray[np.float64],
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    ridge: float = 0.0,
) -> CoxFit:
    """Cox regression with Efron ties through lifelines, on standardised variables.

    Args:
        variables: (n, n_variables).
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        ridge: λ of the penalty n·λ/2·Σβ², β per standard deviation.

    Raises:
        MetricError: as ``concordance``; or the fit does not converge.

    Source: Cox DR. Journal of the Royal Statistical Society B 1972;34:187-220.
    """
    import pandas as pd

    data = checked(np.asarray(variables).T, time, event, entry)
    require_pairs(data)
    scale = data.risks.std(axis=1)
    varies = scale > 1e-12 * np.abs(data.risks).max(axis=1)
    coefficients, se = np.zeros(len(scale)), np.full(len(scale), np.nan)
    if not varies.any():
        return CoxFit(coefficients, se)
    centred = data.risks[varies] - data.risks[varies].mean(axis=1, keepdims=True)
    table = pd.DataFrame((centred / scale[varies, None]).T).assign(time=data.times, event=data.events)
    fit = _lifelines_fit(table, data.entries, ridge, f"of {len(data.times)} cases")
    coefficients[varies] = fit.params_.to_numpy() / scale[varies]
    se[varies] = fit.standard_errors_.to_numpy() / scale[varies]
    return CoxFit(coefficients, se)


@dataclass(frozen=True)
class CoxWithin:
    """Cox regression with a baseline hazard of its own in each fold.

    Attributes:
        coefficients: float64 (n_variables,), log hazard ratio per unit.
        log_likelihood: partial log likelihood (Efron), summed over folds.
    """

    coefficients: NDArray[np.float64]
    log_likelihood: float


def cox_within(
    *,
    variables: NDArray[np.float64],
    fold: NDArray[np.int64],
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
) -> CoxWithin:
    """Cox regression stratified by fold, through lifelines; a trace of a ridge keeps rare levels finite.

    Args:
        variables: (n, n_variables).
        fold: (n,), the fold in which each case was scored.
        time: (n,), positive.
        event: bool (n,).
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: no variable varies, or the fit does not converge.

    Source: Kalbfleisch JD, Prentice RL. The Statistical Analysis of Failure Time Data, 2002, section 4.4.
    """
    import pandas as pd

    centred = variables.astype(np.float64)  # only what differs within a fold counts
    for number in np.unique(fold):
        centred[fold == number] -= centred[fold == number].mean(axis=0)
    spread = centred.std(axis=0)
    varies = spread > 1e-12 * np.maximum(np.abs(variables).max(axis=0), 1.0)
    if not varies.any():
        raise MetricError("no variable varies within a fold: there is nothing to fit")
    scaled = centred[:, varies] / spread[varies]
    table = pd.DataFrame(scaled).assign(fold=fold, time=time, event=event)
    fit = _lifelines_fit(table, entry, _TRACE, "within folds", ["fold"])
    scaled_coefficients = fit.params_.to_numpy()
    risk = scaled @ scaled_coefficients
    total = 0.0
    for number in np.unique(fold[event]):
        rows = np.flatnonzero(fold == number)
        late = None if entry is None else entry[rows]
        total += _Deaths.of(risk[rows], time[rows], event[rows], late).at(1.0).value
    coefficients = np.zeros(variables.shape[1])
    coefficients[varies] = scaled_coefficients / spread[varies]
    return CoxWithin(coefficients, total)


@cache
def _fitter() -> Any:
    """Cox regression of lifelines without medians for plots and baselines, which nobody asks: half of its time.

    Where another lifelines calls these methods otherwise, they are computed again, and no coefficient is another.
    """
    import pandas as pd
    from lifelines.fitters.coxph_fitter import SemiParametricPHFitter

    class Coefficients(SemiParametricPHFitter):  # type: ignore[misc]
        def _compute_central_values_of_raw_training_data(self, *_: Any) -> None: ...

        def _compute_baseline_hazards(self, _: Any) -> None: ...

        def _compute_baseline_cumulative_hazard(self, _: Any) -> Any:
            return pd.DataFrame()

        def _compute_baseline_survival(self) -> None: ...

    return Coefficients


def _lifelines_fit(
    table: "pd.DataFrame",
    entry: NDArray[np.float64] | None,
    ridge: float,
    what: str,
    strata: Sequence[str] | None = None,
) -> Any:
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    try:
        with warnings.catch_warnings():
            # lifelines warns of collinear or rare columns, which a ridge mends; of a fit that failed it only warns too
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("error", "Newton-Raphson|The log-likelihood", ConvergenceWarning)
            late = None if entry is None else "entry"
            table = table if entry is None else table.assign(entry=entry)
            return _fitter()(penalizer=ridge).fit(table, "time", "event", strata=strata, entry_col=late)
    except (ConvergenceError, ConvergenceWarning) as error:
        raise MetricError(f"the Cox regression {what} does not converge: {error}") from error


def cox_slope(
    *,
    log_hazard: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    stratum: ArrayLike | None = None,
) -> Slope:
    """Slope of a Cox regression of follow-up on ``log_hazard`` (Efron ties): 1 for a calibrated model, 0 for noise.

    lifelines takes some 50 ms for the one number; a hundred of them are wanted in a cross-validation.

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        stratum: (n,), cases are compared within one only, each of which has a baseline hazard of its own; all in one
            if None.

    Raises:
        MetricError: as ``concordance``; equal log hazards, or a fit that does not converge (perfect separation).

    Source: van Houwelingen HC. Statistics in Medicine 2000;19:3401-3415 (calibration slope).
    """
    data = checked(log_hazard, time, event, entry)
    risk = data.risks[0]
    groups = np.zeros(len(risk), dtype=np.int64) if stratum is None else np.unique(stratum, return_inverse=True)[1]
    if len(groups) != len(risk):
        raise MetricError(f"lengths differ: log_hazard {risk.shape}, stratum {groups.shape}")
    if stratum is None:
        require_pairs(data)
    centred = risk - (np.bincount(groups, weights=risk) / np.bincount(groups))[groups]
    scale = float(centred.std())
    if scale <= 1e-12 * np.abs(risk).max(initial=0.0):
        raise MetricError(f"all {len(risk)} log hazards are {risk[0]:g}: there is no slope")
    parts = [
        _Deaths.of(
            centred[rows] / scale,
            data.times[rows],
            data.events[rows],
            None if data.entries is None else data.entries[rows],
        )
        for rows in (np.flatnonzero(groups == group) for group in range(groups.max() + 1))
    ]
    slope, here = 0.0, _at(parts, 0.0)
    for _ in range(_STEPS):
        if here.information <= _FLAT:
            break
        step, size = here.gradient / here.information, 1.0
        while (there := _at(parts, slope + size * step)).value < here.value - _CONVERGED and size > _CONVERGED:
            size /= 2
        slope, done, here = slope + size * step, abs(size * step) < _CONVERGED, there
        if done:
            return Slope(slope / scale, float(1 / np.sqrt(here.information)) / scale)
    raise MetricError(
        f"the Cox regression of {len(risk)} cases does not converge: do the log hazards order the events without fault?"
    )


@dataclass(frozen=True)
class _Point:
    """Partial log likelihood at one slope, its slope and its curvature."""

    value: float
    gradient: float
    information: float


@dataclass(frozen=True)
class _Deaths:
    """One stratum, latest first, with what Efron's likelihood needs of each death.

    Attributes:
        risk: (n,).
        died: rows with an event.
        ends: last row of each death's risk set.
        ties: (n_deaths, 2), first and past-the-last death of the same time among the deaths.
        share: of the tied deaths that count as gone already.
        late: the deaths' risk sets where cases enter late; None where all are followed from 0.
    """

    risk: NDArray[np.float64]
    died: NDArray[np.int64]
    ends: NDArray[np.int64]
    ties: NDArray[np.int64]
    share: NDArray[np.float64]
    late: RiskSets | None = None

    @staticmethod
    def of(
        risk: NDArray[np.float64],
        time: NDArray[np.float64],
        event: NDArray[np.bool_],
        entry: NDArray[np.float64] | None = None,
    ) -> "_Deaths":
        order = np.argsort(-time, kind="stable")
        times, died = -time[order], np.flatnonzero(event[order])
        at = times[died]
        ties = np.stack([np.searchsorted(at, at, side="left"), np.searchsorted(at, at, side="right")], axis=1)
        share = (np.arange(len(died)) - ties[:, 0]) / (ties[:, 1] - ties[:, 0])
        late = None if entry is None else RiskSets.of(time[order], entry[order], -at)
        return _Deaths(risk[order], died, np.searchsorted(times, at, side="right") - 1, ties, share, late)

    def at(self, slope: float) -> _Point:
        if not len(self.died):
            return _Point(0.0, 0.0, 0.0)
        eta = slope * self.risk
        top = eta.max()
        sums = _moments(self.risk, slope, top)
        tied = np.concatenate([np.zeros((3, 1)), sums[:, self.died].cumsum(axis=1)], axis=1)
        gone = (tied[:, self.ties[:, 1]] - tied[:, self.ties[:, 0]]) * self.share
        at_risk = sums.cumsum(axis=1)[:, self.ends] if self.late is None else self.late.sums(sums.T).T
        zero, one, two = at_risk - gone
        zero = np.maximum(zero, np.finfo(np.float64).tiny)  # beside a case far above it, a risk set's hazards are 0
        return _Point(
            value=float((eta[self.died] - top - np.log(zero)).sum()),
            gradient=float((self.risk[self.died] - one / zero).sum()),
            information=float((two / zero - (one / zero) ** 2).sum()),
        )


def _moments(risk: NDArray[np.float64], slope: float, top: float) -> NDArray[np.float64]:
    """exp(slope · risk − top) times 1, the risk and its square, (3, n)."""
    return np.exp(slope * risk - top) * np.stack([np.ones_like(risk), risk, risk**2])


def _at(parts: Sequence[_Deaths], slope: float) -> _Point:
    points = [part.at(slope) for part in parts]
    return _Point(*(sum(getattr(point, name) for point in points) for name in ("value", "gradient", "information")))
