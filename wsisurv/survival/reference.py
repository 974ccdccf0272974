"""What a training case's log hazard, by members that did not see it, says of the mean of all members.

A new case has the mean of all members, in which their noise averages out. A training case has the mean of those alone
that did not see it, often of one: more spread out, and with an origin of that member's own. Cut-offs, percentiles and
survival belong to the mean of members, so the training cases are brought to its distribution.

How much members agree on new cases can't be seen on training cases, since no case was left out by two members of
different folds; but it is bounded. Members that have seen a case agree too much on it: both know its outcome by heart.
One that has and one that has not agree too little: what the one knows by heart is no matter to the other. The share of
its spread that a member's log hazard keeps in the mean of all, λ, is the geometric mean of both bounds. Of students
trained on twelve simulated cohorts the bounds were .31 and .66, their mean .45, and λ on new cases .38 (docs/log.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError

_PREFIX = "reference/"


@dataclass(frozen=True)
class OutOfFoldScale:
    """From the log hazard of a training case, by members that did not see it, to that of a new case."""

    mean: float  # mean log hazard of new cases
    fold_mean: NDArray[np.float64]  # float64 (n_folds,), mean of each fold's training cases out of fold
    # float64 (n_folds,), by which what lies beyond that mean is multiplied, for the spread of new cases
    fold_scale: NDArray[np.float64]
    shrinkage: float  # λ, share of it that the mean of all members is expected to keep

    def placed(self, log_hazard: float, fold: int | None) -> float:
        """Log hazard of a new case that stands where this one does; of a new case (``fold`` None) its own."""
        if fold is None:
            return log_hazard
        return self.mean + float(self.fold_scale[fold] * (log_hazard - self.fold_mean[fold]))

    def expected(self, log_hazard: float, fold: int | None) -> float:
        """What all members would give on average, for survival; of a new case its own log hazard."""
        if fold is None:
            return log_hazard
        return self.mean + float(self.shrinkage * (log_hazard - self.fold_mean[fold]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        return {_PREFIX + name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in vars(self).items()}


def fit_out_of_fold_scale(
    *, out_of_fold: NDArray[np.float64], by_member: NDArray[np.float64], fold: NDArray[np.int64]
) -> OutOfFoldScale:
    """Fit on the training cases.

    Args:
        out_of_fold: (n,), log hazard of each case by the members that did not see it.
        by_member: (n_members, n), by each member, whether it saw the case or not.
        fold: (n,), of each case, from 0.
    """
    size = np.bincount(fold).astype(np.float64)
    fold_mean, of_mean = (
        np.bincount(fold, weights=x) / np.maximum(size, 1) for x in (out_of_fold, by_member.mean(axis=0))
    )
    own, common = out_of_fold - fold_mean[fold], by_member.mean(axis=0) - of_mean[fold]
    least, variance, spread = 1 / len(by_member), float(own @ own), float(by_member.var(axis=1).mean())
    # var(mean) = Σ cov / n_members², and the covariances with the member that did not see the case are those with own
    low = float(np.clip(own @ common / variance, least, 1)) if variance > 0 else 1.0
    high = float(np.clip(by_member.mean(axis=0).var() / spread, low, 1)) if spread > 0 else 1.0
    shrinkage = float(np.sqrt(low * high))
    # the mean of a fold takes one degree of freedom from its cases
    return OutOfFoldScale(
        mean=float(out_of_fold.mean()),
        fold_mean=fold_mean,
        fold_scale=np.sqrt(shrinkage * size / np.maximum(size - 1, 1)),
        shrinkage=shrinkage,
    )


def load_out_of_fold_scale(arrays: Mapping[str, NDArray[Any]], *, n_folds: int, shrinkage: float) -> OutOfFoldScale:
    """Rebuild from the arrays that ``OutOfFoldScale.arrays`` gave.

    Args:
        arrays: of a student's file.
        n_folds: of its training.
        shrinkage: for survival, where the file was made before there were such arrays: its cut-offs and percentiles are
            of single members, as they are.

    Raises:
        FormatError: an array is missing, of another length than the folds, not finite, or not in its range.
    """
    if not any(name.startswith(_PREFIX) for name in arrays):
        return OutOfFoldScale(0.0, np.zeros(n_folds), np.ones(n_folds), shrinkage)
    try:
        found = {
            name: np.asarray(arrays[_PREFIX + name], dtype=np.float64) for name in OutOfFoldScale.__dataclass_fields__
        }
    except KeyError as error:
        raise FormatError(f"the model has no {error.args[0]}.") from error
    lengths = {"mean": 1, "fold_mean": n_folds, "fold_scale": n_folds, "shrinkage": 1}
    fits = all(found[name].shape == (length,) and np.isfinite(found[name]).all() for name, length in lengths.items())
    if not fits or (found["fold_scale"] < 0).any() or not 0 < found["shrinkage"][0] <= 1:
        raise FormatError("the model's reference of risks is damaged.")
    return OutOfFoldScale(
        float(found["mean"][0]), found["fold_mean"], found["fold_scale"], float(found["shrinkage"][0])
    )
