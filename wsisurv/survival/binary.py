"""Statistics of what is present or absent: logistic regression with a ridge, and the area under the ROC curve (AUC).

Both compare cases of one hospital with each other only, where hospitals are known: style of report and stain of slide
follow the hospital, and what only tells hospitals apart must count as nothing.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.special import expit, logit

from wsisurv.errors import MetricError
from wsisurv.survival.resampling import CASES, Resampled, Units, draw_weights

_STEPS = 50
_CONVERGED = 1e-9
_PRIOR = 2.0
"""Cases of average prevalence that are added to each hospital, so that one of a single case has an offset, too."""


def hospital_offset(present: NDArray[np.bool_], stratum: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Log odds of each case's hospital, shrunk towards those of all cases: float64 (n,); of all where None."""
    overall = (present.sum() + 0.5) / (len(present) + 1)
    if stratum is None:
        return np.full(len(present), float(logit(overall)))
    number, size = np.unique(stratum, return_inverse=True, return_counts=True)[1:]
    there = np.bincount(number, weights=present)
    return np.asarray(logit((there + _PRIOR * overall) / (size + _PRIOR))[number], dtype=np.float64)


def logistic_path(
    variables: NDArray[np.float64],
    present: NDArray[np.bool_],
    *,
    offset: NDArray[np.float64] | float = 0.0,
    ridges: Sequence[float],
) -> NDArray[np.float64]:
    """Coefficients for each ridge λ: the maximum of log L(β) − n λ/2 Σβ², by Newton's method.

    Args:
        variables: (n, n_variables); their scale is the caller's, since the ridge depends on it.
        present: bool (n,).
        offset: (n,) or one, added to the log odds.
        ridges: positive, largest first.

    Returns:
        float64 (n_ridges, n_variables).

    Source: le Cessie S, van Houwelingen JC. Applied Statistics 1992;41:191-201.
    """
    n, width = variables.shape
    start = np.broadcast_to(np.asarray(offset, dtype=np.float64), n)

    def value(coefficients: NDArray[np.float64], penalty: float) -> float:
        odds = start + variables @ coefficients
        likelihood = -np.logaddexp(0, np.where(present, -odds, odds)).sum()
        return float(likelihood - penalty / 2 * coefficients @ coefficients)

    here, path = np.zeros(width), []
    for ridge in ridges:
        penalty, best = n * ridge, value(here, n * ridge)
        for _ in range(_STEPS):
            chance = expit(start + variables @ here)
            slope = variables.T @ (present - chance) - penalty * here
            curve = (variables * (chance * (1 - chance))[:, None]).T @ variables + penalty * np.eye(width)
            step, size = solve(curve, slope, assume_a="pos"), 1.0
            while (gained := value(here + size * step, penalty) - best) < 0 and size > _CONVERGED:
                size /= 2
            if gained > 0:
                here, best = here + size * step, best + gained
            if gained <= _CONVERGED * (1 + abs(best)):
                break
        path.append(here)
    return np.stack(path)


def pair_likelihood(score: NDArray[np.float64], present: NDArray[np.bool_], stratum: NDArray[np.int64] | None) -> float:
    """Mean log likelihood of pairs of a case with and one without, of one hospital each, 0 at best.

    That is the conditional likelihood of matched pairs: like the AUC it knows no prevalence, but it also sees scores
    that are too extreme. Hospitals count as in ``auc_within``. −inf where there is no pair.

    Source: Breslow NE, Day NE. Statistical methods in cancer research I. IARC 1980, chapter 7.
    """
    total = weight = 0.0
    for with_it, without in _pairs(present, stratum):
        share = len(with_it) * len(without) / (len(with_it) + len(without) + 1)
        total -= share * float(np.logaddexp(0, score[without][None, :] - score[with_it][:, None]).mean())
        weight += share
    return total / weight if weight else -np.inf


def auc_within(
    scores: NDArray[np.float64],
    present: NDArray[np.bool_],
    stratum: NDArray[np.int64] | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
    units: Units = CASES,
) -> Resampled:
    """AUC of several scores, of pairs within one hospital where hospitals are known.

    The AUC of each hospital has the weight n₁ n₀ / (n₁ + n₀ + 1), which compares best where all are alike.

    Args:
        scores: (n_scores, n), higher where the finding is likelier.
        present: bool (n,).
        stratum: int64 (n,), hospital of each case; None compares all cases.
        resamples: bootstrap draws.
        seed: of the draws.
        units: what is drawn whole.

    Raises:
        MetricError: no hospital has a case with and a case without the finding.

    Source: van Elteren P. Bulletin of the International Statistical Institute 1960;37:351-361.
    """
    pairs = _pairs(present, stratum)
    if not pairs:
        raise MetricError("no two cases of one hospital, one with the finding and one without, can be compared")
    whole = units.of_case is not None
    values = np.asarray(scores, dtype=np.float64)
    won = [_won(values[:, with_it, None] - values[:, None, without]) for with_it, without in pairs]
    value = _weighted(pairs, won, np.ones((1, len(present)), np.float32), whole=whole)[:, 0]
    drawn = [_weighted(pairs, won, w, whole=whole) for w in draw_weights(len(present), resamples, seed, units)]
    resampled = np.concatenate(drawn, axis=1) if drawn else np.zeros((len(value), 0))
    usable = np.isfinite(resampled).all(axis=0)
    return Resampled(value, resampled[:, usable], int((~usable).sum()), units.effective)


_Pair = tuple[NDArray[np.int64], NDArray[np.int64]]


def _pairs(present: NDArray[np.bool_], stratum: NDArray[np.int64] | None) -> list[_Pair]:
    """Rows with and rows without the finding, of each hospital that has both."""
    of = np.zeros(len(present), dtype=np.int64) if stratum is None else stratum
    groups = [np.flatnonzero(of == one) for one in np.unique(of)]
    split = [(rows[present[rows]], rows[~present[rows]]) for rows in groups]
    return [(with_it, without) for with_it, without in split if len(with_it) and len(without)]


def _won(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the case with the finding has the higher score, ½ where both have the same."""
    return (np.sign(difference) + 1) / 2


def _weighted(
    pairs: Sequence[_Pair], won: Sequence[NDArray[np.float64]], weights: NDArray[np.float32], *, whole: bool
) -> NDArray[np.float64]:
    """AUC (n_scores, n_draws), NaN where a draw has no pair; a hospital drawn whole k times counts as k hospitals."""
    total, weight = np.zeros((won[0].shape[0], len(weights))), np.zeros(len(weights))
    for (with_it, without), wins in zip(pairs, won, strict=True):
        first, second = weights[:, with_it].astype(np.float64), weights[:, without].astype(np.float64)
        ones, noughts = first.sum(axis=1), second.sum(axis=1)
        times = np.maximum(first[:, 0], 1.0) if whole else 1.0
        size = ones + noughts + times
        for number, of_score in enumerate(wins):
            total[number] += ((first @ of_score) * second).sum(axis=1) / size
        weight += ones * noughts / size
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
