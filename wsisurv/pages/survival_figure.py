"""Pictures of survival by risk group. The same data give the same bytes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.experiments.risk_groups import Group, group_gray_test
from wsisurv.formats.risks import UNFAMILIAR
from wsisurv.pages.numbers import p_equals
from wsisurv.pages.style import COLOURS, LINES, new_figure, save_figure, shown_time, styled
from wsisurv.survival.competing import cumulative_incidence, incidence_interval
from wsisurv.survival.kaplan_meier import logrank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW_CASES = 5
"""Of fewer a curve is a thin dashed line without a band, which would fill the picture."""
FEW_LINE = (0, (2, 3))
_BAND = 0.09


def kaplan_meier(path: Path, groups: Mapping[str, Group], *, time_unit: str, title: str = "") -> tuple[Path, Path]:
    """Draw survival by group with 95 % bands, censoring marks, numbers at risk and the log-rank p-value.

    Days and weeks are drawn as years; groups of fewer than five cases as thin dashed lines without a band. Where events
    compete, cumulative incidence and Gray's test take the place of survival and the log-rank test.

    Args:
        path: the PNG; SVG and PDF of the same name are written beside it.
        groups: name → follow-up, in the order of the legend; an empty group keeps its colour and is listed with none at
            risk.
        time_unit: of the times.
        title: above the picture.

    Returns:
        The PNG and the SVG.

    Raises:
        MetricError: no case in any group.
        StorageError: no room or no permission.

    Source: Morris TP et al. BMJ Open 2019;9:e030215 (numbers at risk below the curves, bands, extent).
    """
    if not sum(len(group.time) for group in groups.values()):
        raise MetricError(f"no case in any group ({', '.join(groups) or 'no groups'}): there is no curve to draw")
    with styled():
        return save_figure(_draw(groups, time_unit, title), path)


def _draw(groups: Mapping[str, Group], time_unit: str, title: str) -> "Figure":
    scale, unit = shown_time(time_unit)
    groups = {name: _scaled(group, scale) for name, group in groups.items()}
    figure = new_figure(5.8, 4.2 + 0.25 * len(groups))
    curves, table = figure.subplots(2, 1, sharex=True, height_ratios=[10, 0.6 + 0.7 * len(groups)])
    for number, (name, group) in enumerate(groups.items()):
        _curve(curves, number, name, group)
    end = max(group.time.max() for group in groups.values() if len(group.time))
    competing = any(group.cause is not None for group in groups.values())
    curves.set(xlim=(0, end * 1.02), ylim=(0, 1.02), ylabel="Cumulative incidence" if competing else "Survival")
    place = {"y": 0.96, "va": "top"} if competing else {"y": 0.04}
    curves.text(0.02, s=_verdict(groups, competing), transform=curves.transAxes, **place)
    if title:
        figure.suptitle(title)
    curves.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1),
        ncols=2,  # three groups with their counts are too wide for one line
        frameon=False,
        title="events / competing / cases" if competing else "events / cases",
        alignment="left",
        fontsize=9,
        columnspacing=1.0,
        handlelength=2.0,
    )
    _at_risk(table, groups, curves.get_xticks())
    table.set_xlabel(f"Time ({unit})")
    return figure


def _scaled(group: Group, scale: float) -> Group:
    return replace(group, time=group.time / scale, entry=None if group.entry is None else group.entry / scale)


def _curve(axes: "Axes", number: int, name: str, group: Group) -> None:
    colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
    label = f"{name}: {int(group.event.sum())} / {len(group.time)}"
    if group.cause is not None:
        label = f"{name}: {int(group.event.sum())} / {int((group.cause == 2).sum())} / {len(group.time)}"
    few = len(group.time) < FEW_CASES
    width, line = (0.9, FEW_LINE) if few else (1.6, line)
    if not len(group.time):
        axes.plot([], [], color=colour, linestyle=line, label=label)
        return
    if group.cause is not None:
        curve = cumulative_incidence(time=group.time, cause=group.cause, entry=group.entry)
        times, values = np.append(0.0, curve.times), np.append(0.0, curve.incidence)
        ends = [
            incidence_interval(*one) for one in zip(values.tolist(), np.append(0.0, curve.se).tolist(), strict=True)
        ]
        axes.step(times, values, where="post", color=colour, linestyle=line, linewidth=width, label=label)
        low, high = np.array(ends).T
        if not few:
            axes.fill_between(times, low, high, step="post", color=colour, alpha=_BAND, linewidth=0)
        return
    from lifelines import KaplanMeierFitter

    fit = KaplanMeierFitter().fit(group.time, group.event, entry=group.entry)
    survival, band = fit.survival_function_.iloc[:, 0], fit.confidence_interval_
    axes.step(survival.index, survival, where="post", color=colour, linestyle=line, linewidth=width, label=label)
    if not few:
        low, high = band.iloc[:, 0], band.iloc[:, 1]
        axes.fill_between(band.index, low, high, step="post", color=colour, alpha=_BAND, linewidth=0)
    censored = np.unique(group.time[~group.event])
    if len(censored):
        axes.plot(censored, fit.predict(censored), "|", color=colour, markersize=6)


def _at_risk(axes: "Axes", groups: Mapping[str, Group], ticks: NDArray[np.float64]) -> None:
    """Numbers at risk, a row a group, below the curves' own ticks (lifelines' table needs pyplot)."""
    for row, group in enumerate(groups.values()):
        for tick in ticks[(ticks >= 0) & (ticks <= axes.get_xlim()[1])]:
            axes.text(tick, row, str(group.at_risk(float(tick))), ha="center", va="center_baseline")
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.tick_params("y", left=False, pad=16)
    axes.spines["left"].set_visible(False)
    axes.set_title("Number at risk", loc="left", fontsize=10)


def _verdict(groups: Mapping[str, Group], competing: bool) -> str:
    """The p-value of groups that go by risk, log-rank or Gray's, or why there is none."""
    if competing:
        try:
            return f"Gray's test {p_equals(group_gray_test(groups).p)}"
        except MetricError:
            return "no Gray's test: too few events or cases at risk"
    groups = {name: group for name, group in groups.items() if name != UNFAMILIAR}
    label = np.concatenate([np.full(len(group.time), number) for number, group in enumerate(groups.values())])
    time = np.concatenate([group.time for group in groups.values()])
    event = np.concatenate([group.event for group in groups.values()])
    entry = np.concatenate([np.zeros(len(one.time)) if one.entry is None else one.entry for one in groups.values()])
    try:
        p = logrank(group=label, time=time, event=event, entry=entry).p
    except MetricError:
        return "log-rank: needs two groups and an event"
    return f"log-rank {p_equals(p)}"
