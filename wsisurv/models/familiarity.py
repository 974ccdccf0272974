"""How like the training cases a new case is, in the eyes of the students: distance of its state from theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError

_SHARE = 0.95
_NOT_KNOWN = 1e300
"""Distance that nothing exceeds, where there are too few cases to leave any out: then nothing is called odd."""
_PREFIX = "familiarity/"


@dataclass(frozen=True)
class Familiarity:
    """A normal distribution of the training cases' states for each member, and how far cases left out lie from it."""

    mean: NDArray[np.float64]  # float64 (n_members, hidden), of the states of the cases that each member was trained on
    precision: NDArray[np.float64]  # float64 (n_members, hidden, hidden), inverse of their covariance, shrunk
    # float64 (n_cases,), sorted: distance of each training case from the others by members that did not see it, its own
    # hospital left out of "the others" where there are several; so a case of a hospital that was never seen counts as
    # familiar, if its slides are no odder than one hospital's are to the next
    left_out: NDArray[np.float64]

    @property
    def threshold(self) -> float:
        """Distance that 95 % of the training cases, each left out, are within."""
        return float(np.quantile(self.left_out, _SHARE))

    def distances(self, pooled: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mahalanobis distance of a case from each member's training cases.

        Args:
            pooled: (n_members, hidden), the case's state (``CaseStates.pooled``).

        Returns:
            float64 (n_members,).
        """
        away = pooled.astype(np.float64) - self.mean
        squared = np.einsum("mi,mij,mj->m", away, self.precision, away)
        return np.asarray(np.sqrt(squared.clip(0)), dtype=np.float64)

    def share(self, distance: float) -> float:
        """Share of cases like the training's that lie this far out or further, above 0 to 1: a conformal p-value."""
        n = len(self.left_out)
        return (1 + n - int(np.searchsorted(self.left_out, distance, side="left"))) / (n + 1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        return {_PREFIX + name: value for name, value in vars(self).items()}


def fit_familiarity(
    pooled: NDArray[np.floating], *, seen: NDArray[np.bool_], site: Sequence[str | None]
) -> Familiarity:
    """Fit on the training cases.

    Hospitals are left out whole where every case has one and none holds more than half of the cases.

    Args:
        pooled: (n_members, n_cases, hidden), states of the training cases.
        seen: (n_members, n_cases), the cases that each member was trained on; two at least.
        site: hospital of each case.

    Source: Lee K, Lee K, Lee H, Shin J. A simple unified framework for detecting out-of-distribution samples. NeurIPS
    2018 (Mahalanobis distance of hidden states).
    """
    states = pooled.astype(np.float64)
    names = np.array([str(name) for name in site])
    groups = [names == name for name in np.unique(names)]
    if not all(site) or max(group.sum() for group in groups) > len(names) / 2:
        groups = [np.ones(len(names), bool)]
    fits = [_fit(state[rows]) for state, rows in zip(states, seen, strict=True)]
    total, count = np.zeros(len(names)), np.zeros(len(names))
    for state, rows in zip(states, seen, strict=True):
        for group in groups:
            others, asked = rows & (~group | (len(groups) == 1)), group & ~rows
            if others.sum() < 2 or not asked.any():
                continue
            mean, precision = _fit(state[others])
            away = state[asked] - mean
            total[asked] += np.sqrt(np.einsum("ni,ij,nj->n", away, precision, away).clip(0))
            count[asked] += 1
    left_out = np.sort(total[count > 0] / count[count > 0]) if count.any() else np.array([_NOT_KNOWN])
    return Familiarity(np.stack([mean for mean, _ in fits]), np.stack([precision for _, precision in fits]), left_out)


def _fit(states: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean, and inverse of the covariance shrunk towards a sphere.

    Source: Ledoit O, Wolf M. Journal of Multivariate Analysis 2004;88:365-411.
    """
    n, width = states.shape
    mean = states.mean(0)
    away = states - mean
    covariance = away.T @ away / n
    size = np.trace(covariance) / width
    sphere = size * np.eye(width)
    spread = ((covariance - sphere) ** 2).sum()
    noise = ((away**2).sum(1) ** 2).sum() / n**2 - (covariance**2).sum() / n
    share = float(np.clip(noise / spread, 0, 1)) if spread > 0 else 1.0
    # states that are all alike have no spread at all: any other is then very far, but not infinitely so
    shrunk = (1 - share) * covariance + share * sphere + max(1e-6 * size, 1e-12) * np.eye(width)
    return mean, np.linalg.inv(shrunk)


def load_familiarity(arrays: Mapping[str, NDArray[Any]], n_members: int, hidden: int) -> Familiarity:
    """Rebuild from the arrays that ``Familiarity.arrays`` gave.

    Raises:
        FormatError: an array is missing, of another shape than the members ask for, not finite, or not in order.
    """
    try:
        mean, precision, left_out = (
            np.asarray(arrays[_PREFIX + name], dtype=np.float64) for name in ("mean", "precision", "left_out")
        )
    except KeyError as error:
        raise FormatError(f"the model has no {error.args[0]}.") from error
    fits = mean.shape == (n_members, hidden) and precision.shape == (n_members, hidden, hidden) and left_out.ndim == 1
    if not fits or not len(left_out) or not all(np.isfinite(value).all() for value in (mean, precision, left_out)):
        raise FormatError(
            f"the model's familiarity is damaged: shapes {mean.shape}, {precision.shape} and {left_out.shape} of "
            f"{n_members} members of width {hidden}, or a number that is not finite."
        )
    return Familiarity(mean, precision, np.sort(left_out))
