"""Figures of an external validation."""

from pathlib import Path
from typing import Any

import numpy as np

from wsisurv.experiments.external import ExternalCases
from wsisurv.experiments.risk_groups import Group
from wsisurv.pages.style import COLOURS, new_figure, save_figure, shown_time, styled
from wsisurv.pages.survival_figure import FEW_CASES, FEW_LINE, kaplan_meier
from wsisurv.survival import kaplan_meier as curves
from wsisurv.survival.competing import cumulative_incidence
from wsisurv.survival.prognosis import Prognosis

_POINTS = 200


def draw_groups(path: Path, cases: ExternalCases, *, time_unit: str, title: str) -> tuple[Path, Path]:
    """Kaplan-Meier curves of the risk groups, PNG, SVG and PDF; as ``figures.kaplan_meier``."""
    return kaplan_meier(path, cases.groups, time_unit=time_unit, title=title)


def draw_calibration(
    path: Path, cases: ExternalCases, prognosis: Prognosis, *, time_unit: str, title: str
) -> tuple[Path, Path]:
    """Predicted and observed survival of each risk group, predicted as far as ten training cases go (PNG, SVG, PDF).

    Args:
        path: the PNG; SVG and PDF of the same name are written beside it.
        cases: of the other cohort.
        prognosis: of the student.
        time_unit: of the training cohort.
        title: above the picture.

    Raises:
        StorageError: no room or no permission.
    """
    end = min(float(cases.time.max()), prognosis.baseline.followed_until)
    at = np.linspace(0, end, _POINTS)
    word, told = np.array(cases.group), np.array([prognosis.supports(time) for time in at.tolist()])
    scale, unit = shown_time(time_unit)
    with styled():
        figure = new_figure(5.8, 4.4)
        axes = figure.subplots()
        for number, (name, group) in enumerate(cases.groups.items()):
            rows = word == name
            if not rows.any():
                continue
            told_of = prognosis.survival if cases.cause is None else prognosis.event_free
            predicted = told_of(log_hazard=cases.log_hazard[rows], horizons=at[told]).mean(axis=0)
            axes.plot(at[told] / scale, predicted, color=COLOURS[number], linestyle=(0, (4, 2)))
            seen = _seen(group, at)
            few: dict[str, Any] = {"linestyle": FEW_LINE, "linewidth": 0.9} if rows.sum() < FEW_CASES else {}
            label = f"{name} ({int(rows.sum())} cases)"
            axes.step(at / scale, seen, where="post", color=COLOURS[number], label=label, **few)
        axes.plot([], [], color="0.3", linestyle=(0, (4, 2)), label="predicted")
        known = cases.cause is not None
        axes.plot([], [], color="0.3", label=f"observed ({'Aalen-Johansen' if known else 'Kaplan-Meier'})")
        of = "1 − cumulative incidence" if known else "Survival"
        axes.set(xlim=(0, end / scale), ylim=(0, 1.02), xlabel=f"Time ({unit})", ylabel=of, title=title)
        axes.legend(frameon=False, fontsize=9, loc="lower left")
        return save_figure(figure, path)


def _seen(group: Group, at: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Observed survival; nothing where nobody of the group was followed so long."""
    if group.cause is not None:
        free = 1 - cumulative_incidence(time=group.time, cause=group.cause, entry=group.entry).at(at)
        return np.where(at <= group.time.max(), free, np.nan)
    survival = curves.kaplan_meier(time=group.time, event=group.event, entry=group.entry).at(at)
    return np.where(at <= group.time.max(), survival, np.nan)
