"""Who came into the study and who did not, step by step, and a picture of it."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsisurv.cohort import Audit
from wsisurv.pages.style import new_figure, save_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOW = "flow"
"""Name of the picture."""
_REASONS = 6
_WIDTHS = (38, 40)  # letters a line, of a step and of who is left out
_LINE, _GAP = 0.19, 0.42  # inches


@dataclass(frozen=True)
class FlowStep:
    """A step: who is there, and who is left out before the next."""

    there: tuple[str, ...]  # lines
    left_out: tuple[str, ...] = ()  # lines; none where nobody is


def participant_flow(
    audit: Audit, *, tested: Mapping[str, int | None], trained: Mapping[str, Any]
) -> tuple[FlowStep, ...]:
    """Steps from the rows of the clinical table to training, as far as they are known.

    Args:
        audit: of the cohort.
        tested: ``cases`` and ``events`` in cross-validation, None where there was none.
        trained: ``n_cases``, ``n_events`` and ``n_reports`` of the student; empty where there is none.
    """
    reasons = Counter(drop.reason for drop in audit.dropped).most_common()
    more = sum(count for _, count in reasons[_REASONS:])
    dropped = [f"{count}: {reason}" for reason, count in reasons[:_REASONS]] + (
        [f"{more}: other reasons"] if more else []
    )
    what, without = (
        ("slide with features", audit.cases_without_slide) if audit.slides else ("report", audit.cases_without_report)
    )
    lost = [f"{len(without)} without a {what}"] if without else []
    cohort = [f"The cohort: {_people(audit.cases, audit.events)}"]
    if audit.slides:
        reports = audit.cases_with_report
        cohort += [f"{audit.slides} slides; {reports} with a report, {audit.cases - reports} without"]
    end: list[str] = []
    not_used: list[str] = []
    if tested.get("cases") is not None:
        end.append(
            f"Cross-validation: {_people(tested['cases'], tested.get('events'))}, tested by models trained without them"
        )
        if audit.cases > (tested["cases"] or 0):
            not_used.append(f"{audit.cases - (tested['cases'] or 0)} not tested in cross-validation")
    if isinstance(cases := trained.get("n_cases"), int):
        guided = trained.get("n_reports")
        end.append(
            f"Training of the student: {_people(cases, trained.get('n_events'))}"
            + (f", {guided} guided by their report" if isinstance(guided, int) and guided else "")
        )
        if audit.cases > cases:
            not_used.append(f"{audit.cases - cases} not used in training")
    steps = [
        FlowStep((f"{audit.clinical_rows} rows of the clinical table",), tuple(dropped)),
        FlowStep((f"With time and event: {_people(audit.clinical_cases, audit.clinical_events)}",), tuple(lost)),
        FlowStep(tuple(cohort), tuple(not_used)),
    ]
    return (*steps, FlowStep(tuple(end))) if end else tuple(steps)


def flow_figure(path: Path, steps: Sequence[FlowStep]) -> tuple[Path, Path]:
    """Draw the steps from top to bottom, and who is left out beside the arrow to the next.

    Args:
        path: the PNG; SVG and PDF of the same name are written beside it.
        steps: from the top.

    Raises:
        StorageError: no room or no permission.
    """
    boxes = [_wrapped(step.there, _WIDTHS[0]) for step in steps]
    aside = [_wrapped(("Left out:", *step.left_out), _WIDTHS[1]) if step.left_out else "" for step in steps]
    heights = [(text.count("\n") + 2) * _LINE for text in boxes]
    gaps = [max(_GAP, (text.count("\n") + 2.6) * _LINE) if text else _GAP for text in aside]
    with styled():
        total = sum(heights) + sum(gaps[:-1]) + 0.3
        wide = 6.6 if any(aside) else 3.4
        figure = new_figure(wide, total)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, wide), ylim=(-total + 0.15, 0.15))
        axes.set_axis_off()
        top = 0.0
        for number, (text, height, gap) in enumerate(zip(boxes, heights, gaps, strict=True)):
            _box(axes, 1.7, top - height / 2, text)
            if number + 1 < len(steps):
                _arrow(axes, (1.7, top - height), (1.7, top - height - gap))
                if aside[number]:
                    middle = top - height - gap / 2
                    _arrow(axes, (1.7, middle), (3.4, middle))
                    _box(axes, 3.42, middle, aside[number], left=True)
            top -= height + gap
        return save_figure(figure, path)


def _people(cases: int | None, events: Any) -> str:
    return f"{cases} cases" + (f", {events} with the event" if isinstance(events, int) else "")


def _wrapped(lines: Sequence[str], width: int) -> str:
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width)).replace("$", r"\$")


def _box(axes: "Axes", x: float, y: float, text: str, *, left: bool = False) -> None:
    style = {"boxstyle": "square,pad=0.45", "facecolor": "white", "edgecolor": "0.25", "linewidth": 1}
    axes.text(
        x + 0.1 * left, y, text, ha="left" if left else "center", va="center", fontsize=9, linespacing=1.25, bbox=style
    )


def _arrow(axes: "Axes", start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.25", "shrinkA": 0, "shrinkB": 0})
