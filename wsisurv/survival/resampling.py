"""What a bootstrap draws, cases or whole hospitals, and figures of several models on the same draws.

Cases of one hospital share stain, scanner, treatment and referral. Where hospitals are whole in folds, or all new to a
model, a figure speaks of new hospitals, and how much it varies from one set of them to the next belongs in its
interval: so hospitals are drawn, each with all its cases. From few hospitals that can't be learned, and those of very
unequal size count as fewer: their effective number, n² / Σ m², decides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from wsisurv.errors import MetricError

OF_CASES = "bootstrap of cases"
OF_HOSPITALS = "bootstrap of hospitals"
FEW_HOSPITALS = 5
"""Hospitals, by their effective number, that are too few to be drawn."""
_WEIGHTS = 1 << 24
"""Weights (resamples · cases) held at once, 64 MiB."""


@dataclass(frozen=True)
class Interval:
    """A figure with its bootstrap interval."""

    value: float  # on the cases as they are
    low: float  # lower end
    high: float  # upper end
    resamples: int  # resamples that the ends were taken from
    dropped: int  # resamples that can't give the figure (no comparable pair), left out


@dataclass(frozen=True)
class Resampled:
    """A figure of several models on the same resamples."""

    value: NDArray[np.float64]  # float64 (n_models,), on the cases as they are
    resampled: NDArray[np.float64]  # float64 (n_models, n_resamples - dropped), column by column the same resample
    dropped: int  # resamples that can't give the figure (no comparable pair), left out
    # effective number of those drawn, for which percentiles are taken further out; None to take them as they are
    hospitals: float | None = None

    def interval(self, model: int, level: float = 0.95) -> Interval:
        """Percentile interval of one model's figure; its ends are NaN where there is no resample.

        Source: of hospitals, Hesterberg TC. The American Statistician 2015;69:371-386 (expanded percentile interval).
        """
        return self._interval(float(self.value[model]), self.resampled[model], level)

    def difference(self, model: int, other: int, level: float = 0.95) -> Interval:
        """Percentile interval of the figure of ``model`` minus that of ``other``, resample by resample."""
        value = float(self.value[model] - self.value[other])
        return self._interval(value, self.resampled[model] - self.resampled[other], level)

    def _interval(self, value: float, resampled: NDArray[np.float64], level: float) -> Interval:
        if not 0 < level < 1:
            raise MetricError(f"level is {level}, not between 0 and 1")
        if not len(resampled):
            return Interval(value, np.nan, np.nan, 0, self.dropped)
        outside = (1 - level) / 2
        if self.hospitals is not None:
            # draws of G spread too little by √((G − 1) / G), and have the tails of a normal, not of a t distribution
            reach = np.sqrt(self.hospitals / (self.hospitals - 1)) * stdtrit(self.hospitals - 1, 1 - outside)
            outside = float(ndtr(-reach))
        low, high = np.quantile(resampled, [outside, 1 - outside])
        return Interval(value, float(low), float(high), len(resampled), self.dropped)


@dataclass(frozen=True)
class Units:
    """What a bootstrap draws whole."""

    # int64 (n_cases,), number of each case's hospital; None where cases are drawn one by one
    of_case: NDArray[np.int64] | None = None
    effective: float | None = None  # effective number of hospitals; None where cases are drawn
    warning: str = ""  # why cases are drawn although hospitals are whole; empty where nothing is to be said

    @property
    def method(self) -> str:
        """What the intervals come from, in words."""
        return OF_CASES if self.of_case is None else OF_HOSPITALS


CASES = Units()


def choose_units(site: Sequence[str | None], divisions: Iterable[Sequence[NDArray[np.int64]]] = ()) -> Units:
    """Choose hospitals where they are known, whole and more than five, by their effective number; else cases.

    Args:
        site: hospital of each case; None or empty where unknown.
        divisions: of each repeat, the rows of each fold. A hospital is whole if no repeat has it in two folds; without
            divisions (one model, other cases than it was trained on) all are.

    Source: Field CA, Welsh AH. Bootstrapping clustered data. Journal of the Royal Statistical Society B
    2007;69:369-390; Carter AV, Schnepel KT, Steigerwald DG. Review of Economics and Statistics 2017;99:698-709
    (effective number of clusters).
    """
    if not len(site) or not all(site):
        return CASES
    names, of_case, size = np.unique(np.array(site, dtype=str), return_inverse=True, return_counts=True)
    for folds in divisions:
        if sum(len(np.unique(of_case[rows])) for rows in folds) > len(np.unique(of_case[np.concatenate(folds)])):
            return CASES
    effective = len(site) ** 2 / float((size.astype(np.float64) ** 2).sum())
    if effective > FEW_HOSPITALS:
        return Units(of_case.astype(np.int64), effective)
    if len(names) == 1:
        return Units(warning="all cases are of one hospital: intervals say nothing of what another would give")
    return Units(
        warning=f"{len(names)} hospitals, which count as {effective:.1f} of equal size, are too few to be drawn (more "
        f"than {FEW_HOSPITALS} are needed): intervals are from a {OF_CASES} and too narrow where hospitals differ"
    )


def draw_weights(
    n_cases: int, resamples: int, seed: int, units: Units = CASES, at_once: int = _WEIGHTS
) -> Iterator[NDArray[np.float32]]:
    """How often each case is drawn, float32 (some resamples, n_cases) at a time; the same for a seed however split.

    Args:
        n_cases: how many there are.
        resamples: how many in all.
        seed: of the draws; equal seeds and numbers give equal draws.
        units: what is drawn whole.
        at_once: weights held at once.
    """
    rng = np.random.default_rng(seed)
    of_case = np.arange(n_cases) if units.of_case is None else units.of_case
    n_units = int(of_case.max()) + 1
    rows = max(1, at_once // n_cases)
    for start in range(0, resamples, rows):
        weights = np.empty((min(rows, resamples - start), n_cases), dtype=np.float32)
        for row in weights:
            row[:] = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units)[of_case]
        yield weights
