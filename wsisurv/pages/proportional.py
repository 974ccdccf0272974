"""Does the effect of the risk, and of each covariate, stay the same over time? Lines, sentences and figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.pages.numbers import number, p_equals
from wsisurv.pages.predicted import CasePredictions
from wsisurv.pages.style import COLOURS, new_figure, save_figure, shown_time, styled
from wsisurv.survival.covariates import CovariateColumn, make_columns
from wsisurv.survival.holm import holm
from wsisurv.survival.proportional_hazards import ProportionalHazards, effect_over_time, proportional_hazards

_SMALL = 0.05


@dataclass(frozen=True)
class ProportionalLine:
    """The test of one variable."""

    name: str
    correlation: float  # of scaled residual and transformed time
    p: float
    p_holm: float | None  # of a covariate, for all of them together; None of the risk, which is one question
    test: ProportionalHazards  # of the model that the variable is in
    variable: int  # its number there

    @property
    def how(self) -> str:
        """Which way its effect goes with time."""
        return "grows" if self.correlation > 0 else "fades"


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
    lines = [ProportionalLine("risk", float(found.correlation[0]), float(found.p[0]), None, found, 0)]
    names, variables = _numbers(predicted, rows)
    if names:
        try:
            found = proportional_hazards(variables=variables, time=time, event=event, entry=entry)
        except MetricError:
            return tuple(lines)
        columns = zip(names, found.correlation.tolist(), found.p.tolist(), holm(found.p).tolist(), strict=True)
        lines += [ProportionalLine(*one, found, at) for at, one in enumerate(columns)]
    return tuple(lines)


def proportional_words(lines: Sequence[ProportionalLine]) -> tuple[str, ...]:
    """What the lines show, of the risk and of the covariates, a sentence or two each."""
    risk, *covariates = lines
    test = f"correlation {number(risk.correlation, '+.2f')}, {p_equals(risk.p)}"
    if risk.p >= _SMALL:
        told = (
            f"The effect of the risk is not shown to change with time ({test}); with few events a change may be missed."
        )
    else:
        told = (
            f"The effect of the risk {risk.how} with time ({test}): one hazard ratio is an average over the follow-up, "
            "and probabilities of survival, which suppose that it stays, may be wrong at single horizons."
        )
    if not covariates:
        return (told,)
    many = f" for {len(covariates)} tests" if len(covariates) > 1 else ""
    changing = [one for one in covariates if one.p_holm is not None and one.p_holm < _SMALL]
    if not changing:
        least = min(one.p_holm for one in covariates if one.p_holm is not None)
        what = "that of none of the covariates" if len(covariates) > 1 else f"that of {covariates[0].name}"
        negation = "" if len(covariates) > 1 else " not"
        return told, f"Beside it, {what} is{negation} shown to change (least p by Holm{many}: {number(least)})."
    each = "; ".join(f"that of {one.name} {one.how} ({p_equals(one.p_holm or 0.0)} by Holm{many})" for one in changing)
    return told, f"Of the covariates, {each}: a Cox model of them gives averages over the follow-up."


def proportional_figure(path: Path, lines: Sequence[ProportionalLine], *, time_unit: str) -> tuple[Path, Path]:
    """Draw scaled Schoenfeld residuals over time, a panel a line, with their smoothed course and its 95 % band.

    Args:
        path: the PNG; SVG and PDF of the same name are written beside it.
        lines: of ``proportional_lines``.
        time_unit: of the times, for the axis.

    Raises:
        StorageError: no room or no permission.
    """
    scale, unit = shown_time(time_unit)
    with styled():
        rows, columns = (len(lines) + 1) // 2, min(2, len(lines))
        figure = new_figure(3.4 * columns + 0.4, 0.5 + 2.6 * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, line in zip(grid.flat, lines, strict=False):
            test, course = line.test, effect_over_time(line.test, line.variable)
            axes.plot(test.gone, test.residuals[:, line.variable], "o", color=COLOURS[5], markersize=3, alpha=0.6)
            axes.fill_between(course.at, course.low, course.high, color=COLOURS[0], alpha=0.15, linewidth=0)
            axes.plot(course.at, course.value, color=COLOURS[0], linewidth=2)
            axes.axhline(float(test.coefficients[line.variable]), color="0.3", linestyle="--", linewidth=1)
            axes.set_title(f"{line.name}: {p_equals(line.p)}".replace("$", r"\$"), fontsize=10)
            axes.set(xlabel=f"Time ({unit})", ylabel="Log hazard ratio")
            ticks = np.unique(np.round(np.quantile(np.arange(len(test.times)), np.linspace(0, 1, 5))).astype(int))
            axes.set_xticks(test.gone[ticks], [_tick(at / scale) for at in test.times[ticks]])
        for axes in grid.flat[len(lines) :]:
            axes.set_visible(False)
        return save_figure(figure, path)


def _tick(time: float) -> str:
    """A time on the axis: 0.02, 0.6, 1.5, 12; two digits of 0.0019 years would promise more than a day."""
    return f"{round(time, 2 if time < 1 else 1 if time < 10 else 0):g}"


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
