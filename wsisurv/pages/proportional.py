"""Does the effect of the risk, and of each covariate, stay the same over time? Lines for the page."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.pages.numbers import number, p_equals
from wsisurv.pages.predicted import CasePredictions
from wsisurv.survival.covariates import CovariateColumn, make_columns
from wsisurv.survival.proportional_hazards import proportional_hazards

_SMALL = 0.05


@dataclass(frozen=True)
class ProportionalLine:
    """The test of one variable."""

    name: str
    correlation: float  # of scaled residual and transformed time
    p: float
    words: str = ""  # what it shows, of the risk


def proportional_lines(predicted: CasePredictions) -> tuple[ProportionalLine, ...]:
    """The risk first, then the numbers that the clinical covariates become.

    Raises:
        MetricError: the risk is constant, or too few times of events.
    """
    rows = predicted.familiar
    time, event, entry = predicted.follow_up(rows)
    risk, fold = predicted.log_hazard[rows], predicted.fold[rows]
    for number_ in np.unique(fold):  # log hazards of two folds have no common origin
        risk = np.where(fold == number_, risk - risk[fold == number_].mean(), risk)
    found = proportional_hazards(variables=risk[:, None], time=time, event=event, entry=entry)
    lines = [
        ProportionalLine("risk", float(found.correlation[0]), float(found.p[0]), _words(found.correlation, found.p))
    ]
    names, variables = _numbers(predicted, rows)
    if names:
        try:
            found = proportional_hazards(variables=variables, time=time, event=event, entry=entry)
        except MetricError:
            return tuple(lines)
        pairs = zip(names, found.correlation.tolist(), found.p.tolist(), strict=True)
        lines += [ProportionalLine(*one) for one in pairs]
    return tuple(lines)


def _words(correlation: NDArray[np.float64], p: NDArray[np.float64]) -> str:
    test = f"correlation {number(float(correlation[0]), '+.2f')}, {p_equals(float(p[0]))}"
    if p[0] >= _SMALL:
        return (
            f"The effect of the risk is not shown to change with time ({test}); with few events a change may be missed."
        )
    how = "grows" if correlation[0] > 0 else "fades"
    return (
        f"The effect of the risk {how} with time ({test}): one hazard ratio is an average over the follow-up, and "
        "probabilities of survival, which suppose that it stays, may be wrong at single horizons."
    )


def _numbers(predicted: CasePredictions, rows: NDArray[np.bool_]) -> tuple[list[str], NDArray[np.float64]]:
    """Names and values of what the covariates become, unknown ones as the mean, without those that don't vary."""
    cases = [case for case, kept in zip(predicted.cases, rows.tolist(), strict=True) if kept]
    names: list[str] = []
    columns: list[NDArray[np.float64]] = []
    if not any(case.covariates for case in cases):
        return names, np.zeros((len(cases), 0))
    for column in make_columns(cases):
        values = column.encode(cases)
        first = 1 if column.kind == "words" else 0  # what the other words are compared with
        for label, one in zip(_labels(column)[first:], values.T[first:], strict=True):
            known = np.isfinite(one)
            filled = np.where(known, one, one[known].mean() if known.any() else 0.0)
            if np.ptp(filled) > 0:
                names.append(label)
                columns.append(filled)
    return names, np.stack(columns, axis=1) if columns else np.zeros((len(cases), 0))


def _labels(column: CovariateColumn) -> list[str]:
    found = [f"{column.name}: {word}" for word in column.levels] if column.kind == "words" else [column.name]
    return [*found, f"{column.name}: unknown"] if column.unknown else found
