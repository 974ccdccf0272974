"""Are hazards proportional? Scaled Schoenfeld residuals of a Cox model, and their trend in time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.cox import fit_cox
from wsisurv.survival.follow_up import checked
from wsisurv.survival.kaplan_meier import kaplan_meier


@dataclass(frozen=True)
class ProportionalHazards:
    """Test of proportional hazards for each variable of a Cox model, and for all together."""

    times: NDArray[np.float64]  # (n_events,), ascending
    residuals: NDArray[np.float64]  # (n_events, n_variables), scaled: around the log hazard ratio at each time
    gone: NDArray[np.float64]  # (n_events,), 1 − Kaplan-Meier just before each: the scale of time of the test
    coefficients: NDArray[np.float64]  # (n_variables,), log hazard ratios of the model
    variance: NDArray[np.float64]  # (n_variables,), of one residual, events times that of the log hazard ratio
    correlation: NDArray[np.float64]  # (n_variables,), of residual and transformed time
    statistic: NDArray[np.float64]  # (n_variables,), chi-squared with one degree of freedom
    p: NDArray[np.float64]  # (n_variables,)
    statistic_of_all: float
    p_of_all: float


@dataclass(frozen=True)
class EffectOverTime:
    """Log hazard ratio over time, smoothed, with its 95 % band: (n_points,) each."""

    at: NDArray[np.float64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def effect_over_time(found: ProportionalHazards, variable: int, *, points: int = 60) -> EffectOverTime:
    """Natural spline through the residuals of a variable, of four degrees of freedom where there are times enough.

    Args:
        found: of ``proportional_hazards``.
        variable: its number.
        points: at which it is given, on the scale of ``found.gone``.

    Source: Therneau TM, Grambsch PM. Modeling Survival Data, 2000, chapter 6.
    """
    x = found.gone
    knots = np.unique(np.quantile(x, [0, 1 / 3, 2 / 3, 1]))
    at = np.linspace(knots[0], knots[-1], points)
    of_events, of_points = _natural_spline(x, knots), _natural_spline(at, knots)
    inverse = np.linalg.pinv(of_events.T @ of_events)
    value = of_points @ inverse @ of_events.T @ found.residuals[:, variable]
    spread = np.einsum("pi,ij,pj->p", of_points, inverse, of_points)
    reach = 1.96 * np.sqrt(found.variance[variable] * spread)
    return EffectOverTime(at, value, value - reach, value + reach)


def _natural_spline(x: NDArray[np.float64], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Basis (n, n_knots) of cubic splines that are straight beyond the first and the last knot."""
    last = knots[-1]
    cubes = [((x - knot).clip(0) ** 3 - (x - last).clip(0) ** 3) / (last - knot) for knot in knots[:-1]]
    return np.stack([np.ones_like(x), x, *(one - cubes[-1] for one in cubes[:-1])], axis=1)


def proportional_hazards(
    *, variables: NDArray[np.float64], time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None
) -> ProportionalHazards:
    """Test whether log hazard ratios change with time, against 1 − Kaplan-Meier just before each event.

    At each event the residual is the case's variables less their mean over the risk set, weighted by hazards; of tied
    events by Efron's mean of the d risk sets. It depends on times alone, so that the order of tied rows tells nothing
    (ranks of rows, lifelines' default, gave p = .84, .048 or .004 for one cohort in three orders).

    Args:
        variables: (n, n_variables).
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.

    Raises:
        MetricError: as ``fit_cox``; a constant variable, or fewer than two times of events.

    Source: Grambsch PM, Therneau TM. Biometrika 1994;81:515-526.
    """
    from scipy.stats import chi2

    data = checked(np.asarray(variables, dtype=np.float64).T, time, event, entry)
    x = data.risks.T
    fit = fit_cox(variables=x, time=data.times, event=data.events, entry=data.entries)
    if not np.isfinite(fit.se).all():
        raise MetricError(
            f"variable {int(np.flatnonzero(~np.isfinite(fit.se))[0])} is constant: it has no hazard ratio"
        )
    at = np.unique(data.times[data.events])
    if len(at) < 2:
        raise MetricError(f"events at {len(at)} time(s): whether hazards change with time can't be seen")
    eta = x @ fit.coefficients
    weight = np.exp(eta - eta.max())
    residuals, information = [], np.zeros((x.shape[1], x.shape[1]))
    for t in at:
        here = data.times >= t if data.entries is None else (data.times >= t) & (data.entries < t)
        died = data.events & (data.times == t)
        share = np.arange(died.sum())[:, None] / died.sum()
        w = weight * here - share * (weight * died)  # (d, n), Efron's risk sets
        w /= w.sum(axis=1, keepdims=True)
        mean = w @ x
        information += np.einsum("dn,ni,nj->ij", w, x, x) - mean.T @ mean
        residuals.append(x[died] - mean.mean(axis=0))
    raw = np.concatenate(residuals)
    events = len(raw)
    try:
        covariance = np.linalg.inv(information)
    except np.linalg.LinAlgError as error:
        raise MetricError("the variables depend on each other: there is no test of one beside the others") from error
    scaled = raw @ covariance * events
    times = np.repeat(at, [len(one) for one in residuals])
    gone = 1 - kaplan_meier(time=data.times, event=data.events, entry=data.entries).before(times)
    trend = gone - gone.mean()
    spread = float(trend @ trend)
    slope = trend @ scaled  # one a variable
    statistic = slope**2 / (events * np.diag(covariance) * spread)
    of_all = events * float((trend @ raw) @ covariance @ (trend @ raw)) / spread
    deviation = scaled - scaled.mean(axis=0)
    correlation = slope / np.sqrt(spread * (deviation**2).sum(axis=0))
    return ProportionalHazards(
        times=times,
        residuals=scaled + fit.coefficients,
        gone=gone,
        variance=events * np.diag(covariance),
        coefficients=fit.coefficients,
        correlation=correlation,
        statistic=statistic,
        p=np.asarray(chi2.sf(statistic, 1), dtype=np.float64),
        statistic_of_all=of_all,
        p_of_all=float(chi2.sf(of_all, x.shape[1])),
    )
