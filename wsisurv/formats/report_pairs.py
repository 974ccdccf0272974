"""Pairs of slide and report, a row a case, with the cohort and hospital of each."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReportPairs:
    """Slides and reports of the same cases; all tuples and arrays have one entry a case.

    Attributes:
        case_ids: the cases; those of two cohorts may share an id.
        cohorts: cohort, that is cancer, of each.
        hospitals: of each; empty where unknown.
        slides: float32 (n_cases, 2 n_features), mean and standard deviation of each case's tiles.
        reports: float32 (n_cases, n_dimensions), mean of its statements' vectors.
    """

    case_ids: tuple[str, ...]
    cohorts: tuple[str, ...]
    hospitals: tuple[str, ...]
    slides: NDArray[np.float32]
    reports: NDArray[np.float32]

    def take(self, rows: NDArray[np.intp]) -> "ReportPairs":
        """Some of the cases."""
        case_ids, cohorts, hospitals = (
            tuple(names[row] for row in rows) for names in (self.case_ids, self.cohorts, self.hospitals)
        )
        return ReportPairs(case_ids, cohorts, hospitals, self.slides[rows], self.reports[rows])

    def without(self, case_ids: Collection[str], hospitals: Collection[str]) -> "ReportPairs":
        """All but these cases and all cases of these hospitals, in every cohort."""
        cases, places = set(case_ids), set(hospitals) - {""}
        keep = [
            case not in cases and hospital not in places
            for case, hospital in zip(self.case_ids, self.hospitals, strict=True)
        ]
        return self.take(np.flatnonzero(keep))

    def comparable(self) -> "ReportPairs":
        """The cases that have another of their hospital and cohort to be compared with."""
        stratum = self.strata()
        others = np.bincount(stratum, minlength=1)[stratum] > 1
        return self.take(np.flatnonzero(others & np.array([bool(name) for name in self.hospitals], dtype=bool)))

    def strata(self) -> NDArray[np.int64]:
        """Number of each case's hospital in its cohort."""
        names = np.array([f"{a}\n{b}" for a, b in zip(self.cohorts, self.hospitals, strict=True)])
        return np.unique(names, return_inverse=True)[1].astype(np.int64)
