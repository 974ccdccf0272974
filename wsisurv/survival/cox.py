"""Cox regressions: coefficients through lifelines, the calibration slope, and what one set of variables adds."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import checked, require_pairs

_STEPS = 60
_CONVERGED = 1e-9
_FLAT = 1e-8
"""Information per squared standard deviation below which the likelihood is flat: it rises without an end."""


@dataclass(frozen=True)
class Slope:
    """Coefficient of a Cox regression on one variable, with its standard error."""

    value: float
    se: float


@dataclass(frozen=True)
class CoxFit:
    """A fitted Cox model.

    Attributes:
        coefficients: float64 (n_variables,), log hazard ratio per unit; 0 for a constant variable.
        se: float64 (n_variables,), standard errors; NaN for a constant variable.
    """

    coefficients: NDArray[np.float64]
    se: NDArray[np.float64]


def fit_cox(*, variables: NDArray[np.float64], time: ArrayLike, event: ArrayLike, ridge: float = 0.0) -> CoxFit:
    """Cox regression with Efron ties through lifelines, on standardised variables.

    Args:
        variables: (n, n_variables).
        time: (n,), positive.
        event: (n,), bool or 0/1.
        ridge: λ of the penalty n·λ/2·Σβ², β per standard deviation.

    Raises:
        MetricError: as ``concordance``; or the fit does not converge.

    Source: Cox DR. Journal of the Royal Statistical Society B 1972;34:187-220.
    """
    import pandas as pd
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning

    data = checked(np.asarray(variables).T, time, event)
    require_pairs(data)
    scale = data.risks.std(axis=1)
    varies = scale > 1e-12 * np.abs(data.risks).max(axis=1)
    coefficients, se = np.zeros(len(scale)), np.full(len(scale), np.nan)
    if not varies.any():
        return CoxFit(coefficients, se)
    centred = data.risks[varies] - data.risks[varies].mean(axis=1, keepdims=True)
    table = pd.DataFrame((centred / scale[varies, None]).T).assign(time=data.times, event=data.events)
    try:
        with warnings.catch_warnings():
            # lifelines warns of collinear or rare columns, which a ridge mends; of a fit that failed it only warns too
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("error", "Newton-Raphson|The log-likelihood", ConvergenceWarning)
            fit = CoxPHFitter(penalizer=ridge).fit(table, "time", "event")
    except (ConvergenceError, ConvergenceWarning) as error:
        raise MetricError(f"the Cox regression of {len(data.times)} cases does not converge: {error}") from error
    coefficients[varies] = fit.params_.to_numpy() / scale[varies]
    se[varies] = fit.standard_errors_.to_numpy() / scale[varies]
    return CoxFit(coefficients, se)


def cox_slope(*, log_hazard: ArrayLike, time: ArrayLike, event: ArrayLike, stratum: ArrayLike | None = None) -> Slope:
    """Slope of a Cox regression of follow-up on ``log_hazard`` (Efron ties): 1 for a calibrated model, 0 for noise.

    lifelines takes some 50 ms for the one number; a hundred of them are wanted in a cross-validation.

    Args:
        log_hazard: (n,), higher is worse.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        stratum: (n,), cases are compared within one only, each of which has a baseline hazard of its own; all in one
            if None.

    Raises:
        MetricError: as ``concordance``; equal log hazards, or a fit that does not converge (perfect separation).

    Source: van Houwelingen HC. Statistics in Medicine 2000;19:3401-3415 (calibration slope).
    """
    data = checked(log_hazard, time, event)
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
        _Deaths.of(centred[rows] / scale, data.times[rows], data.events[rows])
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
    """

    risk: NDArray[np.float64]
    died: NDArray[np.int64]
    ends: NDArray[np.int64]
    ties: NDArray[np.int64]
    share: NDArray[np.float64]

    @staticmethod
    def of(risk: NDArray[np.float64], time: NDArray[np.float64], event: NDArray[np.bool_]) -> "_Deaths":
        order = np.argsort(-time, kind="stable")
        times, died = -time[order], np.flatnonzero(event[order])
        at = times[died]
        ties = np.stack([np.searchsorted(at, at, side="left"), np.searchsorted(at, at, side="right")], axis=1)
        share = (np.arange(len(died)) - ties[:, 0]) / (ties[:, 1] - ties[:, 0])
        return _Deaths(risk[order], died, np.searchsorted(times, at, side="right") - 1, ties, share)

    def at(self, slope: float) -> _Point:
        if not len(self.died):
            return _Point(0.0, 0.0, 0.0)
        eta = slope * self.risk
        top = eta.max()
        sums = np.exp(eta - top) * np.stack([np.ones_like(eta), self.risk, self.risk**2])
        tied = np.concatenate([np.zeros((3, 1)), sums[:, self.died].cumsum(axis=1)], axis=1)
        gone = (tied[:, self.ties[:, 1]] - tied[:, self.ties[:, 0]]) * self.share
        zero, one, two = sums.cumsum(axis=1)[:, self.ends] - gone
        return _Point(
            value=float((eta[self.died] - top - np.log(zero)).sum()),
            gradient=float((self.risk[self.died] - one / zero).sum()),
            information=float((two / zero - (one / zero) ** 2).sum()),
        )


def _at(parts: Sequence[_Deaths], slope: float) -> _Point:
    points = [part.at(slope) for part in parts]
    return _Point(*(sum(getattr(point, name) for point in points) for name in ("value", "gradient", "information")))


@dataclass(frozen=True)
class LikelihoodRatio:
    """What added variables explain beyond those that were there.

    Attributes:
        statistic: twice the gain in log likelihood, chi-squared if the added variables say nothing new.
        degrees_of_freedom: dimensions that they add.
        p: probability of such a gain or more by chance.
        log_likelihood_base: partial log likelihood (Efron) without them.
        log_likelihood_full: with them.
    """

    statistic: float
    degrees_of_freedom: int
    p: float
    log_likelihood_base: float
    log_likelihood_full: float


def likelihood_ratio(
    *, base: NDArray[np.float64], added: NDArray[np.float64], time: ArrayLike, event: ArrayLike
) -> LikelihoodRatio:
    """Likelihood-ratio test of two nested Cox models: ``base`` alone, and ``base`` with ``added``.

    Both models are fitted without a penalty to the cases given. Columns that repeat others (a column for each of all
    stages, say) do no harm: the test sees the space that columns span, not the columns.

    Args:
        base: (n, n_base); n_base may be 0.
        added: (n, n_added).
        time: (n,), positive.
        event: (n,), bool or 0/1.

    Raises:
        MetricError: as ``fit_cox``; or ``added`` holds nothing that ``base`` does not.

    Source: Cox DR, Hinkley DV. Theoretical Statistics, 1974, section 9.3.
    """
    from scipy.stats import chi2

    first, second = np.asarray(base, dtype=np.float64), np.asarray(added, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise MetricError(f"base of shape {first.shape}, added {second.shape}: a row a case in both")
    data = checked(np.concatenate([first, second], axis=1).T, time, event)
    within = _directions(first, np.zeros((len(first), 0)))
    beyond = _directions(second, within)
    if beyond.shape[1] == 0:
        raise MetricError(f"the {second.shape[1]} added variables hold nothing that the {first.shape[1]} others do not")
    without = _fitted_log_likelihood(within, data.times, data.events)
    full = _fitted_log_likelihood(np.concatenate([within, beyond], axis=1), data.times, data.events)
    statistic = max(2 * (full - without), 0.0)
    degrees = beyond.shape[1]
    return LikelihoodRatio(statistic, degrees, float(chi2.sf(statistic, degrees)), without, full)


def _directions(columns: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal directions (n, rank) of the standardised columns beyond ``known`` (n, k), itself orthonormal."""
    centred = columns - columns.mean(axis=0)
    scale = np.linalg.norm(centred, axis=0)
    varies = scale > 1e-12 * np.sqrt(len(columns)) * np.abs(columns).max(axis=0, initial=0.0)
    unit = centred[:, varies] / scale[varies]
    unit -= known @ (known.T @ unit)
    left, size, _ = np.linalg.svd(unit, full_matrices=False)
    return np.asarray(left[:, size > 1e-8], dtype=np.float64)


def _fitted_log_likelihood(
    variables: NDArray[np.float64], times: NDArray[np.float64], events: NDArray[np.bool_]
) -> float:
    import torch

    from wsisurv.survival.losses import cox_log_likelihood

    risk = variables @ fit_cox(variables=variables, time=times, event=events).coefficients
    likelihood = cox_log_likelihood(
        log_hazard=torch.from_numpy(risk), time=torch.from_numpy(times), event=torch.from_numpy(events)
    )
    return float(likelihood)
