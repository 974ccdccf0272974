"""Cox regression with a ridge, for many columns and many ridges; the ridge is chosen inside the cases given.

lifelines fits one ridge in some 0.3 s; choosing among eight in ten folds needs two hundred fits a training split, which
the few lines below give in a second. The tests compare them with lifelines.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import FollowUp, checked, require_pairs
from wsisurv.survival.risk_sets import RiskSets
from wsisurv.survival.splits import make_folds

RIDGES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
"""Largest first: each fit starts from the one before."""
_FOLDS = 5
_STEPS = 50
_CONVERGED = 1e-9


@dataclass(frozen=True)
class RidgeFit:
    """A Cox regression whose ridge was chosen by cross-validation.

    Attributes:
        ridge: the one chosen.
        mean: float64 (n_variables,), of the cases fitted on.
        coefficients: float64 (n_variables,).
    """

    ridge: float
    mean: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    def log_hazard(self, variables: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, n_variables) → log hazard (n,) relative to the mean of the cases fitted on."""
        return np.asarray((variables - self.mean) @ self.coefficients, dtype=np.float64)


def ridge_path(
    *,
    variables: NDArray[np.float64],
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    ridges: Sequence[float] = RIDGES,
) -> NDArray[np.float64]:
    """Coefficients for each ridge λ: the maximum of log L(β) − n λ/2 Σβ², by Newton's method, Breslow's ties.

    Args:
        variables: (n, n_variables); their scale is the caller's, since the ridge depends on it.
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        ridges: positive, largest first.

    Returns:
        float64 (n_ridges, n_variables).

    Raises:
        MetricError: as ``metrics.concordance``; a ridge that is not positive.

    Source: Verweij PJM, van Houwelingen HC. Statistics in Medicine 1994;13:2427-2436.
    """
    data = checked(np.asarray(variables).T, time, event, entry)
    require_pairs(data)
    if not ridges or min(ridges) <= 0:
        raise MetricError(f"ridges {list(ridges)}: positive numbers are needed")
    likelihood = _Likelihood.of(data)
    coefficients = np.zeros(len(data.risks))
    path = []
    for ridge in ridges:
        coefficients = likelihood.maximum(coefficients, len(data.times) * ridge)
        path.append(coefficients)
    return np.stack(path)


def choose_ridge(
    *,
    variables: NDArray[np.float64],
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    site: Sequence[str | None] | None = None,
    ridges: Sequence[float] = RIDGES,
    repeats: int = 2,
    seed: int = 0,
) -> RidgeFit:
    """Fit with the ridge of highest cross-validated partial likelihood.

    What a fold adds to the likelihood is log L of all cases less log L of the cases fitted on, both at the
    coefficients of the latter; unlike concordance it also sees log hazards that are too extreme.

    Args:
        variables: (n, n_variables).
        time: (n,), positive.
        event: (n,), bool or 0/1; with fewer than two events the largest ridge is taken.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        site: hospital of each case, kept whole in the folds where they can be.
        ridges: to choose from, largest first.
        repeats: of the five folds.
        seed: of the folds.

    Raises:
        MetricError: as ``ridge_path``.

    Source: Verweij PJM, van Houwelingen HC. Statistics in Medicine 1993;12:2305-2314.
    """
    mean = variables.mean(axis=0)
    centred = variables - mean
    path = ridge_path(variables=centred, time=time, event=event, entry=entry, ridges=ridges)
    data = checked(np.zeros(np.shape(time)), time, event, entry)
    gained = np.zeros(len(ridges))
    for seen in _folds(data.events, site, _FOLDS, repeats, seed):
        part = data.take(seen)
        try:
            fits = ridge_path(
                variables=centred[seen], time=part.times, event=part.events, entry=part.entries, ridges=ridges
            )
        except MetricError:
            continue  # no comparable pair is left to learn from: this fold has no say
        for number, log_hazard in enumerate(fits @ centred.T):
            gained[number] += _log_likelihood(log_hazard, data) - _log_likelihood(log_hazard[seen], part)
    best = int(np.argmax(gained))
    return RidgeFit(ridges[best], mean, path[best])


def cross_fit_ridge(
    *,
    variables: NDArray[np.float64],
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    site: Sequence[str | None] | None = None,
    folds: int = 5,
    repeats: int = 2,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Log hazard of each case by fits that have not seen it, float64 (n,), mean over repeats.

    The ridge is chosen anew in each fold: chosen once for all, it would suit the cases that are then predicted, and in
    pure noise the risks would look like more than nothing in one cohort of five instead of one in twenty.

    Args:
        variables: (n, n_variables).
        time: (n,), positive.
        event: (n,), bool or 0/1.
        entry: (n,), time from which each case was followed, before ``time``; from 0 if None.
        site: hospital of each case, kept whole in the folds where they can be.
        folds: at most as many as there are events.
        repeats: divisions into folds.
        seed: of the folds.

    Raises:
        MetricError: as ``ridge_path``.
    """
    ridge_path(variables=variables[:, :0], time=time, event=event, entry=entry)  # refuses follow-up that can't be
    data = checked(np.zeros(np.shape(time)), time, event, entry)
    risk = np.zeros(len(data.times))
    for seen in _folds(data.events, site, folds, repeats, seed):
        part = data.take(seen)
        try:
            fit = choose_ridge(
                variables=variables[seen],
                time=part.times,
                event=part.events,
                entry=part.entries,
                site=None if site is None else [site[row] for row in np.flatnonzero(seen).tolist()],
                repeats=1,
                seed=seed,
            )
        except MetricError:
            continue  # nothing can be learned without this fold, so its cases count as average
        risk[~seen] += fit.log_hazard(variables[~seen]) / repeats
    return risk


def _folds(
    events: NDArray[np.bool_], site: Sequence[str | None] | None, folds: int, repeats: int, seed: int
) -> Iterator[NDArray[np.bool_]]:
    """Cases to learn from, one fold after the other; none with fewer than two events."""
    n_folds = min(folds, int(events.sum()))
    for repeat in range(repeats if n_folds > 1 else 0):
        fold = make_folds(event=events, n_folds=n_folds, seed=seed * 1000 + repeat, site=site)
        yield from (fold != k for k in range(n_folds))


@dataclass(frozen=True)
class _Likelihood:
    """Partial likelihood of cases ordered by time, latest first, so that each risk set is a prefix.

    Attributes:
        variables: (n, p).
        deaths: rows with an event.
        sets: (n_sets,), the last row of each risk set.
        begins: (n_sets,), its first row that the set before has not.
        events: (n_sets,), how many it belongs to.
        died: (p,), sum of the variables of the rows with an event.
        late: the risk sets where cases enter late; None where all are followed from 0.
    """

    variables: NDArray[np.float64]
    deaths: NDArray[np.int64]
    sets: NDArray[np.int64]
    begins: NDArray[np.int64]
    events: NDArray[np.float64]
    died: NDArray[np.float64]
    late: RiskSets | None = None

    @staticmethod
    def of(data: FollowUp) -> "_Likelihood":
        order = np.argsort(-data.times, kind="stable")
        time, event, variables = data.times[order], data.events[order], data.risks.T[order]
        deaths = np.flatnonzero(event)
        ends = np.bincount(np.searchsorted(-time, -time[event], side="right") - 1, minlength=len(time))
        sets = np.flatnonzero(ends)
        begins = np.concatenate([[0], sets[:-1] + 1])
        late = None if data.entries is None else RiskSets.of(time, data.entries[order], time[sets])
        died = variables[deaths].sum(0)
        return _Likelihood(variables, deaths, sets, begins, ends[sets].astype(np.float64), died, late)

    def value(self, log_hazard: NDArray[np.float64]) -> float:
        """Partial log likelihood."""
        if self.late is None:
            at_risk = np.logaddexp.accumulate(log_hazard)[self.sets]
        else:
            top = log_hazard.max()
            at_risk = top + np.log(self._sums(np.exp(log_hazard - top)))
        return float(log_hazard[self.deaths].sum() - self.events @ at_risk)

    def maximum(self, start: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        """The coefficients that maximise log L − penalty/2 Σβ²; strictly concave, so Newton's steps find them."""

        def at(coefficients: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
            log_hazard = self.variables @ coefficients
            value = self.value(log_hazard) - penalty / 2 * float(coefficients @ coefficients)
            return coefficients, log_hazard, value

        here, log_hazard, best = at(start)
        for _ in range(_STEPS):
            step = self._newton_step(here, log_hazard, penalty)
            size = 1.0
            while (there := at(here + size * step))[2] < best and size > _CONVERGED:
                size /= 2
            gain = there[2] - best
            if gain > 0:
                here, log_hazard, best = there
            if gain <= _CONVERGED * (1 + abs(best)):
                break
        return here

    def _sums(self, hazard: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the hazards of each risk set."""
        return hazard.cumsum()[self.sets] if self.late is None else self.late.sums(hazard)

    def _newton_step(
        self, coefficients: NDArray[np.float64], log_hazard: NDArray[np.float64], penalty: float
    ) -> NDArray[np.float64]:
        hazard = np.exp(log_hazard - log_hazard.max())
        sums = self._sums(hazard)
        weight = self.events / sums
        weighted = hazard[:, None] * self.variables
        if self.late is None:  # a case is in the risk sets that end at its row or later
            share = np.zeros(len(hazard))
            share[self.sets] = weight
            share = hazard * share[::-1].cumsum()[::-1]
            means = np.add.reduceat(weighted, self.begins).cumsum(axis=0) / sums[:, None]
        else:
            share = hazard * self.late.over(weight)
            means = self.late.sums(weighted) / sums[:, None]
        gradient = self.died - share @ self.variables - penalty * coefficients
        curvature = (self.variables * share[:, None]).T @ self.variables - (means * self.events[:, None]).T @ means
        curvature.flat[:: len(curvature) + 1] += penalty
        return np.asarray(np.linalg.solve(curvature, gradient))


def _log_likelihood(log_hazard: NDArray[np.float64], data: FollowUp) -> float:
    order = np.argsort(-data.times, kind="stable")
    none = FollowUp(np.zeros((0, len(order))), data.times, data.events, data.entries)
    return _Likelihood.of(none).value(log_hazard[order])
