"""What tiles tell about reports, learned from pairs of slide and report of many cohorts; no outcome is used.

Style of report and stain of slide both follow the hospital, and what a report speaks of follows the cancer. So both
sides are centred within each hospital of each cohort, and rank and ridge are chosen at hospitals that were not fitted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.report_pairs import ReportPairs
from wsisurv.models.principal import principal_directions
from wsisurv.models.report_subspace import RIDGES, ridge_path
from wsisurv.survival.splits import hospital_folds, within_strata

_FOLDS = 10
_MOST_COLUMNS = 512
"""Principal directions of the slides' columns that the regression sees, where there are more."""
_REPORT_DIMENSIONS = 32
"""Principal directions of the reports."""
_TINY = 1e-300


@dataclass(frozen=True)
class AlignmentFit:
    """Directions of tiles that speak for reports.

    Attributes:
        directions: float64 (n_features, r), in the features' own units; r may be 0.
        agreement: float64 (r,), correlation with the reports at hospitals that were not fitted, of the first, second …
            direction of the fits without them.
        explained: variance of the reports explained there by those (R², within hospital).
        explained_in: the same of each cohort's reports.
        n_cases: that were compared with others of their hospital.
        n_hospitals: of those.
    """

    directions: NDArray[np.float64]
    agreement: NDArray[np.float64]
    explained: float
    explained_in: Mapping[str, float]
    n_cases: int
    n_hospitals: int


def fit_alignment(pairs: ReportPairs) -> AlignmentFit:
    """Fit a reduced-rank ridge of centred reports on centred slides; rank and ridge are chosen at unseen hospitals.

    Of the slides' columns the regression sees means and standard deviations of tiles; a tile is looked at along the
    directions of the means.

    Args:
        pairs: of at least two hospitals that have two cases each; all others are left out.

    Raises:
        ValueError: fewer than two such hospitals.

    Source: Izenman 1975 (reduced-rank regression).
    """
    pairs = pairs.comparable()
    hospital = np.unique(np.array(pairs.hospitals, dtype=str), return_inverse=True)[1].astype(np.int64)
    n_hospitals = len(set(pairs.hospitals))
    if n_hospitals < 2:
        raise ValueError(f"{n_hospitals} hospital(s) with two cases or more; two are needed")
    stratum = pairs.strata()
    slides = within_strata(pairs.slides.astype(np.float64), stratum)
    reports = within_strata(pairs.reports.astype(np.float64), stratum)
    sd = np.sqrt(np.square(slides).mean(0))
    scale = np.where(sd > 1e-9, 1 / np.maximum(sd, 1e-9), 0.0)  # a column that never differs says nothing
    columns = slides * scale
    to_columns = np.diag(scale)
    if columns.shape[1] > _MOST_COLUMNS:
        found = principal_directions(columns, _MOST_COLUMNS)
        columns, to_columns = columns @ found.rows.T, scale[:, None] * found.rows.T
    said = principal_directions(reports, _REPORT_DIMENSIONS)
    reports = reports @ said.rows.T
    folds = hospital_folds(hospital, np.zeros(len(hospital), dtype=np.bool_), _FOLDS)
    names, cohort = np.unique(np.array(pairs.cohorts, dtype=str), return_inverse=True)
    held = _held_out(columns, reports, folds, cohort)
    ridge, rank = held.best()
    fit = ridge_path(columns, reports)[ridge]
    ranked = principal_directions(columns @ fit, min(reports.shape)).rows[:rank].T
    of_means = (to_columns @ fit @ ranked)[: slides.shape[1] // 2]
    gains = held.gains[:, :, ridge, :rank].sum((1, 2))
    squares = np.bincount(cohort, np.square(reports).sum(1))
    return AlignmentFit(
        directions=of_means,
        agreement=held.agreement(ridge, rank),
        explained=float(gains.sum() / max(squares.sum(), _TINY)),
        explained_in=dict(zip(names.tolist(), (gains / np.maximum(squares, _TINY)).tolist(), strict=True)),
        n_cases=len(pairs.case_ids),
        n_hospitals=n_hospitals,
    )


@dataclass(frozen=True)
class _HeldOut:
    """What fits without some hospitals foretell of those; directions are of each fit, the strongest first.

    Attributes:
        gains: (n_cohorts, n_folds, n_ridges, k), by how much each direction lowers the squares of what is left of the
            reports.
        products: (3, n_ridges, k), over all folds: sums of told × said, told² and said².
    """

    gains: NDArray[np.float64]
    products: NDArray[np.float64]

    def best(self) -> tuple[int, int]:
        """Ridge and rank of the largest gain; rank 0 where that is within two standard errors of nothing."""
        cumulated = self.gains.sum(0).cumsum(2)
        total = cumulated.sum(0)
        ridge, last = np.unravel_index(int(total.argmax()), total.shape)
        by_fold = cumulated[:, ridge, last]
        error = by_fold.std(ddof=1) * len(by_fold) ** 0.5
        return int(ridge), int(last) + 1 if total[ridge, last] > 2 * error else 0

    def agreement(self, ridge: int, rank: int) -> NDArray[np.float64]:
        """Correlations of what is told with what is said, (rank,)."""
        both, told, said = self.products[:, ridge, :rank]
        return np.asarray(both / np.sqrt(np.maximum(told * said, _TINY)), dtype=np.float64)


def _held_out(
    columns: NDArray[np.float64], reports: NDArray[np.float64], folds: NDArray[np.int64], cohort: NDArray[np.intp]
) -> _HeldOut:
    """Fit without each fold in turn, and see what the fit says of it; nothing of a fold is in its directions."""
    width = min(reports.shape)
    gains = np.zeros((cohort.max() + 1, len(np.unique(folds)), len(RIDGES), width))
    products = np.zeros((3, len(RIDGES), width))
    for number, one in enumerate(np.unique(folds)):
        held, others = folds == one, folds != one
        for ridge, fit in enumerate(ridge_path(columns[others], reports[others])):
            ranked = principal_directions(columns[others] @ fit, width).rows.T
            told, said = columns[held] @ fit @ ranked, reports[held] @ ranked
            k = ranked.shape[1]
            np.add.at(gains[:, number, ridge, :k], cohort[held], 2 * told * said - np.square(told))
            products[:, ridge, :k] += (told * said).sum(0), np.square(told).sum(0), np.square(said).sum(0)
    return _HeldOut(gains, products)
