"""What the clinic knows without a model: a Cox regression on covariates such as age and stage, fitted in training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.survival.cox import fit_cox

_RIDGE = 0.01
"""Small, on standardised columns: keeps a rare stage without events finite and moves the others little."""


@dataclass(frozen=True)
class Column:
    """How one covariate becomes numbers.

    Attributes:
        name: the covariate.
        levels: values of a categorical covariate in training, empty text for "missing"; none for a numeric one.
    """

    name: str
    levels: tuple[str, ...] = ()

    def encode(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Numbers (n_cases, 1), or a column of 0 and 1 for each level (n_cases, n_levels); NaN where unknown.

        Unknown is a missing number, a word where numbers are meant, and a level that training has not seen, unless
        training had a level for missing values, as which it then counts.
        """
        values = [case.covariates.get(self.name, "") for case in cases]
        if not self.levels:
            return np.array([[_number(value)] for value in values])
        values = [value if value in self.levels else "" for value in values]
        rows = np.array([[value == level for level in self.levels] for value in values], dtype=np.float64)
        rows[rows.sum(axis=1) == 0] = np.nan
        return rows


@dataclass(frozen=True)
class CovariateModel:
    """A fitted Cox model of covariates.

    Attributes:
        columns: the covariates, in order.
        mean: (n_numbers,), of the training cases' known values.
        coefficients: (n_numbers,), log hazard ratio per unit.
    """

    columns: tuple[Column, ...]
    mean: NDArray[np.float64]
    coefficients: NDArray[np.float64]

    def log_hazard(self, cases: Sequence[Case]) -> NDArray[np.float64]:
        """Log hazard (n_cases,) relative to the training mean, which also stands for unknown values."""
        centred = np.nan_to_num(_encode(self.columns, cases) - self.mean)
        return np.asarray(centred @ self.coefficients, dtype=np.float64)


def fit_covariates(cases: Sequence[Case], names: Sequence[str] | None = None) -> CovariateModel:
    """Fit a Cox model with a small ridge (Efron ties) on the covariates of the training cases.

    A covariate is numeric if all of its values that are there parse as numbers, else categorical, with a column for
    each level, missing being one where training has missing values.

    Args:
        cases: training cases, and no others.
        names: covariates to use; all of the cohort's if None.

    Raises:
        MetricError: no covariate, one that no case has, no comparable pair, or a fit that fails.
    """
    have = sorted({name for case in cases for name in case.covariates})
    wanted = have if names is None else list(names)
    if not wanted or set(wanted) - set(have):
        raise MetricError(
            f"covariates asked for: {', '.join(wanted) or 'none'}; the cohort has {', '.join(have) or 'none'}. "
            "Name columns of the clinical table with --covariates when the cohort is made."
        )
    columns = tuple(_column(name, cases) for name in wanted)
    numbers = _encode(columns, cases)
    mean = np.nanmean(numbers, axis=0)
    fit = fit_cox(
        variables=np.nan_to_num(numbers - mean),
        time=[case.time for case in cases],
        event=[case.event for case in cases],
        ridge=_RIDGE,
    )
    return CovariateModel(columns, mean, fit.coefficients)


def _column(name: str, cases: Sequence[Case]) -> Column:
    values = {case.covariates.get(name, "") for case in cases}
    there = values - {""}
    if there and not any(math.isnan(_number(value)) for value in there):
        return Column(name)
    return Column(name, levels=tuple(sorted(values)))


def _encode(columns: Sequence[Column], cases: Sequence[Case]) -> NDArray[np.float64]:
    return np.concatenate([column.encode(cases) for column in columns], axis=1)


def _number(value: str) -> float:
    """The number, or NaN where it is none or not finite."""
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
