"""Directions of the features that explain what reports say: the feature subspace; no outcome is used in the fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.models.principal import principal_directions

RIDGES = np.geomspace(1e-6, 1.0, 13)
"""That are tried, as shares of the largest squared singular value of the cases' mean tiles."""
_NOTHING = 1e-12
"""Variance of reports in one unit: below, they differ by rounding."""
_LEAST_CORRELATION = 3.0
"""Least correlation of a direction out of fold, in standard errors of none (1 / √n): chance gives the first of many
more than two."""


@dataclass(frozen=True)
class ReportDirections:
    """Directions of tiles that explain what reports say."""

    columns: NDArray[np.float64]  # float64 (n_features, r), orthonormal; r may be 0
    explained: float  # out-of-fold R², the variance of reports explained by mean tiles; negative where they mislead


def fit_report_directions(
    tiles: NDArray[np.floating], reports: NDArray[np.floating], fold: NDArray[np.int64]
) -> ReportDirections:
    """Reduced-rank ridge regression of reports on the mean of their case's tiles.

    The ridge is chosen out of fold. The directions are the leading ones of the fitted reports, up to
    the first that doesn't agree with the reports out of fold by more than chance.

    Args:
        tiles: (n_cases, n_features), mean of each case's tiles, features on one scale.
        reports: (n_cases, n_dimensions), a vector a case.
        fold: (n_cases,), at least two: cases of one are predicted by a fit to all others.

    Source: Izenman 1975 (reduced-rank regression); Mukherjee and Zhu 2011 (with a ridge).
    """
    tiles, reports = np.asarray(tiles, dtype=np.float64), np.asarray(reports, dtype=np.float64)
    predicted = np.empty((len(RIDGES), *reports.shape))
    for one in np.unique(fold):
        held, others = fold == one, fold != one
        centre = tiles[others].mean(0)
        fits = ridge_path(tiles[others] - centre, reports[others] - reports[others].mean(0))
        predicted[:, held] = (tiles[held] - centre) @ fits + reports[others].mean(0)
    centred = reports - reports.mean(0)
    errors = np.square(reports - predicted).sum((1, 2))
    best = int(errors.argmin())
    spread = float(np.square(centred).sum())
    if spread <= _NOTHING * reports.size:
        return ReportDirections(np.zeros((tiles.shape[1], 0)), 0.0)
    explained = float(1 - errors[best] / spread)
    fit = ridge_path(tiles - tiles.mean(0), centred)[best]
    ranked = principal_directions((tiles - tiles.mean(0)) @ fit, min(reports.shape)).rows.T
    agreement = _correlations(predicted[best] @ ranked, centred @ ranked)
    chance = agreement < _LEAST_CORRELATION / len(reports) ** 0.5
    n_directions = int(chance.argmax()) if chance.any() else len(chance)
    return ReportDirections(np.linalg.qr(fit @ ranked[:, :n_directions])[0], explained)


def ridge_path(tiles: NDArray[np.float64], reports: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients by each of ``RIDGES`` of centred reports on centred tiles: (n_ridges, n_features, n_dimensions)."""
    found = principal_directions(tiles, min(tiles.shape))
    squares = np.square(found.sizes)
    along = found.rows @ (tiles.T @ reports)
    ridges = RIDGES[:, None] * (squares[:1] if len(squares) else 1.0)
    return np.asarray(found.rows.T @ (along / (squares + ridges)[:, :, None]), dtype=np.float64)


def _correlations(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations of columns; 0 where one doesn't vary."""
    one, other = one - one.mean(0), other - other.mean(0)
    size = np.sqrt(np.square(one).sum(0) * np.square(other).sum(0))
    return np.asarray((one * other).sum(0) / np.where(size > 0, size, 1.0), dtype=np.float64)
