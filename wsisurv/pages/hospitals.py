"""Does the risk group follow the hospital? Its stain and scanner may then make the groups, not the tumour."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.experiments.verdict import SIGNIFICANT, p_equals
from wsisurv.pages.numbers import number
from wsisurv.pages.predicted import CasePredictions
from wsisurv.pages.subgroups import parts_of

_GROUPS = ("low", "intermediate", "high")
_STRONG = 0.3
"""Cramér's V from which an association is called one."""
_PERMUTATIONS = 999


@dataclass(frozen=True)
class GroupsByHospital:
    """Cases of each risk group in each hospital."""

    groups: tuple[str, ...]  # those that there are, m
    rows: tuple[tuple[str, tuple[int, ...]], ...]  # hospital, and its cases by group
    v: float  # Cramér's, corrected for chance: 0 none, 1 the hospital tells the group
    p: float  # by permutation of the groups

    @property
    def warning(self) -> str:
        """What it may mean; empty where no strong association is shown."""
        if self.p >= SIGNIFICANT or self.v < _STRONG:
            return ""
        return (
            f"the risk group follows the hospital ({self._figures}): what tells the groups apart may be stain, scanner "
            "or who is treated where, not the tumour. See the concordance in each hospital, and `wsisurv encoders "
            "--robustness`"
        )

    @property
    def sentence(self) -> str:
        """What the table shows."""
        if self.warning:
            return f"{self.warning[0].upper()}{self.warning[1:]}."
        how = "follows the hospital a little" if self.p < SIGNIFICANT else "is not shown to follow the hospital"
        return f"The risk group {how}: {self._figures}."

    @property
    def _figures(self) -> str:
        return f"Cramér's V {number(self.v, '.2f')}, {p_equals(self.p)}"


def groups_by_hospital(predicted: CasePredictions) -> GroupsByHospital | None:
    """Count the cases of each group in each hospital, unfamiliar ones left out; of many hospitals small ones joined.

    V is Bergsma's. Its p is by permutation, seeded, so that few cases need no approximation.

    Args:
        predicted: the cases, their groups and hospitals.

    Returns:
        None where fewer than two hospitals or groups are known.

    Source: Bergsma W. Journal of the Korean Statistical Society 2013;42:323-328.
    """
    by, hospitals = (parts_of(predicted) or [("", [])])[-1]
    group = np.array(predicted.group)
    inside = [(name, chosen & predicted.familiar) for name, chosen in hospitals]
    inside = [(name, chosen) for name, chosen in inside if chosen.any()]
    here = [one for one in _GROUPS if (group == one).any()]
    if by != "site" or len(inside) < 2 or len(here) < 2:
        return None
    chosen = np.stack([rows for _, rows in inside])
    known = chosen.any(axis=0)
    hospital = np.stack([rows[known] for rows in chosen]).astype(float)
    member = np.stack([group[known] == one for one in here]).astype(float)
    counts = hospital @ member.T
    rng = np.random.default_rng(0)
    drawn = [_chi2(hospital @ rng.permutation(member, axis=1).T) for _ in range(_PERMUTATIONS)]
    chi2 = _chi2(counts)
    p = (1 + sum(one >= chi2 - 1e-9 for one in drawn)) / (1 + _PERMUTATIONS)
    rows = tuple((name, tuple(map(int, row))) for (name, _), row in zip(inside, counts, strict=True))
    return GroupsByHospital(tuple(here), rows, _cramers_v(chi2, counts), p)


def _chi2(counts: NDArray[np.float64]) -> float:
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def _cramers_v(chi2: float, counts: NDArray[np.float64]) -> float:
    """Cramér's V less what chance gives."""
    n, sides = counts.sum(), np.array(counts.shape, dtype=np.float64)
    if n < 2:
        return 0.0
    by_chance = (sides - 1) ** 2 / (n - 1)
    least = float((sides - by_chance - 1).min())
    squared = chi2 / n - (sides - 1).prod() / (n - 1)
    return float(np.sqrt(max(squared, 0.0) / least)) if least > 0 else 0.0
