"""Figures of the report page: concordances, calibration, decision curve, risk against covariates, training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.formats.risks import RISK_GROUPS, UNFAMILIAR
from wsisurv.pages import numbers
from wsisurv.pages.style import COLOURS, LINES, new_figure, save_figure, styled
from wsisurv.survival.competing import cumulative_incidence, incidence_interval
from wsisurv.survival.net_benefit import NetBenefit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 5.8
_MARKERS = ("o", "s", "^", "D")
_LETTERS = 32
"""Of all words below an axis, beyond which they would run into each other, and are turned."""


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest."""

    name: str  # what it is of
    value: float  # the figure
    low: float  # lower end of its interval
    high: float  # upper end
    marked: bool = False  # the one that it is about


def forest(path: Path, rows: Sequence[ForestRow], *, title: str, label: str, none_at: float) -> tuple[Path, Path]:
    """Draw figures with their intervals, one below the other.

    Args:
        path: the PNG; SVG and PDF of the same name are written beside it.
        rows: from the top.
        title: of the figure.
        label: of the axis.
        none_at: where there is no effect: a dashed line.

    Raises:
        MetricError: no row.
        StorageError: no room or no permission.
    """
    if not rows:
        raise MetricError("no figure to draw")
    with styled():
        lines = max(row.name.count("\n") + 1 for row in rows)
        figure = new_figure(_WIDTH, 1.1 + (0.18 + 0.18 * lines) * len(rows))
        axes = figure.subplots()
        place = np.arange(len(rows))
        value = np.array([row.value for row in rows])
        ends = np.array([[row.value - row.low, row.high - row.value] for row in rows]).T.clip(min=0)
        axes.errorbar(value, place, xerr=ends, fmt="s", color=COLOURS[0], ecolor="black", capsize=3, markersize=6)
        marked = np.array([row.marked for row in rows])
        axes.plot(value[marked], place[marked], "D", color=COLOURS[2], markersize=9)
        axes.axvline(none_at, color="0.4", linestyle="--", linewidth=1)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=label, yticks=place)
        axes.set_yticklabels([row.name for row in rows])
        axes.tick_params("y", left=False)
        axes.spines["left"].set_visible(False)
        written = axes.secondary_yaxis("right")
        figures = [f"{numbers.number(row.value)} ({numbers.interval(row.low, row.high)})" for row in rows]
        written.set_yticks(place, figures)
        for words in (axes.get_yticklabels(), written.get_yticklabels()):
            for row, one in zip(rows, words, strict=True):
                one.set_fontweight("bold" if row.marked else "normal")
        written.tick_params("y", right=False)
        written.spines["right"].set_visible(False)
        figure.suptitle(title)
        return save_figure(figure, path)


@dataclass(frozen=True)
class GroupAgreement:
    """Predicted and observed survival of one group of cases."""

    predicted: float  # mean predicted probability of outliving the horizon
    observed: float  # Kaplan-Meier estimate of the same
    low: float  # lower end of its 95 % interval
    high: float  # upper end
    cases: int  # in the group


def agreement(
    *,
    survival: NDArray[np.float64],
    horizon: float,
    time: NDArray[np.float64],
    event: NDArray[np.bool_],
    entry: NDArray[np.float64] | None = None,
    cause: NDArray[np.int64] | None = None,
    n_groups: int = 5,
) -> tuple[GroupAgreement, ...]:
    """Predicted against observed survival in groups of rising prediction, cases of one prediction together.

    Args:
        survival: (n,), predicted probability of outliving the horizon.
        horizon: positive.
        time: (n,).
        event: (n,).
        entry: (n,), time from which each case was followed; from 0 if None.
        cause: (n,), 0 censored, 1 the event, 2 a competing one: all is then of not having had the event, and observed
            is one minus its cumulative incidence; None where nothing competes.
        n_groups: at most; fewer where a group would be of fewer than eight cases.

    Source: Royston P, Altman DG. BMC Medical Research Methodology 2013;13:33.
    """
    from lifelines import KaplanMeierFitter

    n_groups = max(1, min(n_groups, len(survival) // 8))
    edges = np.quantile(survival, np.linspace(0, 1, n_groups + 1)[1:-1])
    group = np.searchsorted(edges, survival, side="right")
    rows = []
    for number in np.unique(group):
        chosen = group == number
        late = None if entry is None else entry[chosen]
        predicted = float(survival[chosen].mean())
        if cause is not None:
            curve = cumulative_incidence(time=time[chosen], cause=cause[chosen], entry=late)
            risk = float(curve.at(horizon))
            ends = incidence_interval(risk, float(curve.se_at(horizon)))
            rows.append(GroupAgreement(predicted, 1 - risk, 1 - ends[1], 1 - ends[0], int(chosen.sum())))
            continue
        fit = KaplanMeierFitter().fit(time[chosen], event[chosen], entry=late)
        before = fit.confidence_interval_.loc[:horizon].to_numpy()[-1]
        observed = float(np.asarray(fit.predict(horizon)))
        low, high = (float(end) if np.isfinite(end) else observed for end in before)
        rows.append(GroupAgreement(predicted, observed, low, high, int(chosen.sum())))
    return tuple(rows)


def calibration_plot(
    path: Path,
    curves: Mapping[str, Sequence[GroupAgreement]],
    *,
    horizon: str,
    title: str,
    competing: bool = False,
) -> tuple[Path, Path]:
    """Draw predicted against observed survival, with the line on which both agree; arguments as ``forest``.

    With ``competing`` events it is the share of cases without the event, whatever else happened to them.
    """
    if not any(curves.values()):
        raise MetricError("no predicted survival to compare")
    with styled():
        figure = new_figure(4.9, 4.6)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.4", linestyle="--", linewidth=1, label="perfect")
        for number, (name, rows) in enumerate(curves.items()):
            x, y = np.array([row.predicted for row in rows]), np.array([row.observed for row in rows])
            ends = np.array([[row.observed - row.low, row.high - row.observed] for row in rows]).T.clip(min=0)
            axes.errorbar(
                x, y, yerr=ends, fmt=_MARKERS[number], color=COLOURS[2 * number], linestyle="none", capsize=3,
                label=name,
            )  # fmt: skip
        axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        axes.set(xlabel=f"Predicted survival to {horizon}", ylabel="Observed survival (Kaplan–Meier)")
        if competing:
            axes.set(xlabel=f"1 − predicted risk by {horizon}", ylabel="1 − observed incidence (Aalen–Johansen)")
        axes.legend(frameon=False, loc="lower right")  # the diagonal leaves it free
        figure.suptitle(title)
        return save_figure(figure, path)


def decision_plot(path: Path, curves: Mapping[str, NetBenefit], *, horizon: str, title: str) -> tuple[Path, Path]:
    """Draw net benefit over the threshold, with those of treating all and none; arguments as ``forest``."""
    if not curves:
        raise MetricError("no predicted survival to decide by")
    with styled():
        figure = new_figure(_WIDTH, 4.2)
        axes = figure.subplots()
        for number, (name, curve) in enumerate(curves.items()):
            axes.plot(
                curve.thresholds,
                curve.model,
                color=COLOURS[2 * number],
                linestyle=LINES[number],
                linewidth=2,
                label=name,
            )
        first = next(iter(curves.values()))
        axes.plot(first.thresholds, first.treat_all, color="0.35", linestyle=LINES[3], linewidth=1, label="treat all")
        axes.axhline(0, color="black", linewidth=1, label="treat none")
        top = max(float(np.nanmax([first.treat_all[0], 0.01, *curve.model])) for curve in curves.values())
        axes.set(xlim=(0, float(first.thresholds[-1])), ylim=(-0.35 * top, 1.08 * top))
        axes.set(xlabel=f"Threshold: risk of the event by {horizon}", ylabel="Net benefit")
        axes.legend(frameon=False)
        figure.suptitle(title)
        return save_figure(figure, path)


@dataclass(frozen=True)
class CovariateValues:
    """A covariate of the cases."""

    name: str  # the covariate
    number: NDArray[np.float64] | None = None  # float64 (n,), NaN where unknown; None for words
    word: tuple[str, ...] = ()  # n words, empty where unknown; none for numbers


def risk_against(
    path: Path,
    percentile: NDArray[np.float64],
    group: Sequence[str],
    covariates: Sequence[CovariateValues],
    *,
    title: str,
) -> tuple[Path, Path]:
    """Draw the risk percentile over each covariate: a point a case, in words also boxes; arguments as ``forest``."""
    if not covariates:
        raise MetricError("no covariate to draw the risk against")
    with styled():
        rows = (len(covariates) + 1) // 2
        columns = min(2, len(covariates))
        figure = new_figure(_WIDTH if columns == 2 else 4.4, 0.9 + 3.0 * rows)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, covariate in zip(grid.flat, covariates, strict=False):
            _against(axes, covariate, percentile, group)
        for axes in grid.flat[len(covariates) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel("Risk percentile")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, title="risk group")
        figure.suptitle(title)
        return save_figure(figure, path)


def _against(axes: "Axes", covariate: CovariateValues, percentile: NDArray[np.float64], group: Sequence[str]) -> None:
    random = np.random.default_rng(0)
    if covariate.number is not None:
        x, names = covariate.number, []
    else:
        names = sorted(set(covariate.word), key=lambda word: (word == "", word))
        place = {word: number for number, word in enumerate(names)}
        x = np.array([place[word] for word in covariate.word], dtype=np.float64)
        boxes = [percentile[x == number] for number in range(len(names))]
        axes.boxplot(boxes, positions=range(len(names)), widths=0.6, showfliers=False, medianprops={"color": "black"})
        x = x + random.uniform(-0.16, 0.16, len(x))
    for number, name in enumerate((*RISK_GROUPS, UNFAMILIAR) if UNFAMILIAR in group else RISK_GROUPS):
        chosen = np.array([word == name for word in group])
        axes.plot(
            x[chosen], percentile[chosen], _MARKERS[number], color=COLOURS[number], markersize=4, alpha=0.75,
            markeredgewidth=0, label=name,
        )  # fmt: skip
    if names:
        words = [name or "unknown" for name in names]
        axes.set_xticks(range(len(names)), words)
        if sum(len(word) + 1 for word in words) > _LETTERS:
            axes.tick_params("x", rotation=90, labelsize=9)
    else:
        axes.text(0.02, 1.0, _rank_correlation(x, percentile), transform=axes.transAxes, va="bottom", fontsize=9)
    axes.set(xlabel=covariate.name, ylim=(-3, 103))


def _rank_correlation(x: NDArray[np.float64], percentile: NDArray[np.float64]) -> str:
    from scipy.stats import spearmanr

    known = np.isfinite(x)
    if known.sum() < 3 or np.ptp(x[known]) == 0 or np.ptp(percentile[known]) == 0:
        return ""
    found = spearmanr(x[known], percentile[known])
    return f"Spearman {numbers.number(found.statistic, '+.2f')}, {numbers.p_equals(found.pvalue)}"


@dataclass(frozen=True)
class FitLoss:
    """Loss of one fit over its epochs: (k,) each."""

    name: str
    epoch: NDArray[np.float64]
    loss: NDArray[np.float64]


def training_curves(path: Path, panels: Mapping[str, Sequence[FitLoss]], *, title: str) -> tuple[Path, Path]:
    """Draw the loss of every fit, a panel for each kind; arguments as ``forest``."""
    if not panels:
        raise MetricError("no training to draw")
    with styled():
        rows = (len(panels) + 1) // 2
        figure = new_figure(_WIDTH, 0.6 + 2.1 * rows)
        grid = figure.subplots(rows, 2, squeeze=False)
        for axes, (name, fits) in zip(grid.flat, panels.items(), strict=False):
            for number, fit in enumerate(fits):
                axes.plot(
                    fit.epoch, fit.loss, color=COLOURS[number % len(COLOURS)], linestyle=LINES[number % len(LINES)],
                    marker=".",
                )  # fmt: skip
            axes.set_title(f"{name}: {len(fits)} fit{'' if len(fits) == 1 else 's'}", fontsize=10)
            axes.set_xlabel("Epoch")
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel("Loss")
        figure.suptitle(title)
        return save_figure(figure, path)
