"""The report page of a cohort: its figures drawn and written, its sections filled, one file that stands alone."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from wsisurv.errors import MetricError
from wsisurv.experiments.model_names import COMBINED, COVARIATES, model_names
from wsisurv.experiments.risk_groups import RISK_GROUPS, Group
from wsisurv.formats.atomic import write_text
from wsisurv.formats.heatmaps import CaseMap
from wsisurv.pages.cohort_page import sections, top
from wsisurv.pages.gathering import Gathered, gather
from wsisurv.pages.html import render
from wsisurv.pages.predicted import STUDENT, Predicted, horizon_name
from wsisurv.pages.report_figures import (
    ForestRow,
    agreement,
    calibration_plot,
    decision_plot,
    forest,
    risk_against,
    training_curves,
)
from wsisurv.pages.subgroups import known_covariates, subgroups
from wsisurv.pages.survival_figure import kaplan_meier
from wsisurv.survival.net_benefit import net_benefit
from wsisurv.workspace.paths import Workspace

PAGE = "index.html"
_SMALL_PX = 900
_SMALL_QUALITY = 72


@dataclass
class Figures:
    """What was drawn.

    Attributes:
        svg: name → the picture.
        missing: name → why it could not be drawn.
    """

    svg: dict[str, bytes] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportResult:
    """What came out.

    Attributes:
        page: the file.
        figures: PNG and SVG files beside it.
        missing: part of the page → why it is not there.
        pictures: cases whose heatmap is inside the page.
    """

    page: Path
    figures: tuple[Path, ...]
    missing: Mapping[str, str]
    pictures: int


def write_report(workspace: Workspace, name: str, *, n_pictures: int = 40, command: Sequence[str] = ()) -> ReportResult:
    """Write evaluation/index.html of a cohort and its figures; the same inputs give the same bytes.

    What is not there yet is told on the page with the command that makes it.

    Args:
        workspace: holds the cohort.
        name: of the cohort.
        n_pictures: cases whose heatmap is put into the page, half of highest and half of lowest risk.
        command: that is running, for the list of commands.

    Raises:
        MissingArtifactError, FormatError: there is no such cohort, or its own files are damaged.
        StorageError: no room or no permission.

    Example:
        >>> import wsisurv
        >>> wsisurv.report(wsisurv.Workspace(Path("workspace")), "crc").page  # doctest: +SKIP
    """
    folder = workspace.cohort(name) / "evaluation"
    seen = gather(workspace, name)
    figures = _draw(seen, folder)
    parts = subgroups(seen.predicted) if seen.predicted is not None else ()
    shown = _shown(seen, n_pictures)
    pictures = {case_id: _small(workspace.cohort(name) / "heatmaps" / case_id, seen.maps[case_id]) for case_id in shown}
    missing = {**seen.missing, **figures.missing}
    page = render(
        f"Cohort {name}",
        top(seen),
        sections(seen, figures.svg, missing, parts, pictures, command),
    )
    write_text(folder / PAGE, page)
    written = [folder / f"{figure}.{ending}" for figure in figures.svg for ending in ("png", "svg")]
    return ReportResult(folder / PAGE, tuple(written), missing, len(pictures))


def _draw(seen: Gathered, folder: Path) -> Figures:
    figures = Figures()

    def attempt(name: str, draw: Callable[[Path], tuple[Path, Path]]) -> None:
        try:
            _, svg = draw(folder / f"{name}.png")
        except MetricError as error:
            figures.missing[name] = str(error)
            return
        figures.svg[name] = svg.read_bytes()

    unit = seen.cohort.settings.time_unit
    names = model_names(seen.cohort.settings.covariates if seen.metrics is None else seen.metrics.covariates)
    if (metrics := seen.metrics) is not None:
        models = [
            ForestRow(names.get(row.model, row.model), row.concordance, row.low, row.high) for row in metrics.models
        ]
        attempt(
            "concordance",
            lambda path: forest(path, models, title="Concordance within folds", label="Concordance", none_at=0.5),
        )
        pairs = [
            ForestRow(
                f"{names.get(row.model, row.model)}\n− {names.get(row.minus, row.minus)}", row.value, row.low, row.high
            )
            for row in metrics.differences
        ]
        attempt(
            "differences",
            lambda path: forest(path, pairs, title="Paired differences", label="Difference in concordance", none_at=0),
        )
    if (predicted := seen.predicted) is not None:
        groups = _groups(predicted)
        attempt(
            "survival",
            lambda path: kaplan_meier(path, groups, time_unit=unit, title="Survival by predicted risk group"),
        )
        for number, horizon in enumerate(predicted.horizons.tolist()):
            _draw_horizon(attempt, predicted, number, horizon_name(horizon, unit), names)
        covariates = known_covariates(predicted.cases, seen.cohort.settings.covariates)
        attempt(
            "risk-against-covariates",
            lambda path: risk_against(
                path,
                predicted.percentile,
                predicted.group,
                covariates,
                title="Predicted risk and what the clinic knows",
            ),
        )
    if seen.training:
        attempt("training", lambda path: training_curves(path, seen.training, title="Loss in training"))
    return figures


def _groups(predicted: Predicted) -> dict[str, Group]:
    word = np.array(predicted.group)
    return {name: Group(predicted.time[word == name], predicted.event[word == name]) for name in RISK_GROUPS}


def _draw_horizon(
    attempt: Callable[[str, Callable[[Path], tuple[Path, Path]]], None],
    predicted: Predicted,
    number: int,
    horizon: str,
    names: Mapping[str, str],
) -> None:
    """Calibration and decision curve at one horizon."""
    at, time, event = float(predicted.horizons[number]), predicted.time, predicted.event
    labels = {STUDENT: "student", **{model: names[model] for model in (COVARIATES, COMBINED)}}
    survival = {labels[model]: values[:, number] for model, values in predicted.survival.items()}

    def calibration(path: Path) -> tuple[Path, Path]:
        curves = {
            name: agreement(survival=values, horizon=at, time=time, event=event)
            for name, values in list(survival.items())[:2]
        }
        return calibration_plot(path, curves, horizon=horizon, title=f"Calibration at {horizon}")

    def decision(path: Path) -> tuple[Path, Path]:
        highest = max((float(np.quantile(1 - values, 0.98)) for values in survival.values()), default=0.0)
        thresholds = np.linspace(0.01, min(0.95, max(0.1, highest)), 60)
        curves = {
            name: net_benefit(survival=values, horizon=at, thresholds=thresholds, time=time, event=event)
            for name, values in survival.items()
        }
        return decision_plot(path, curves, horizon=horizon, title=f"Decision curve at {horizon}")

    attempt(f"calibration-{number + 1}", calibration)
    attempt(f"decision-{number + 1}", decision)


def _shown(seen: Gathered, count: int) -> list[str]:
    """Cases whose heatmap is put into the page: of highest and of lowest risk, highest first."""
    order = sorted(
        (case_id for case_id, case in seen.maps.items() if case.log_hazard is not None),
        key=lambda case_id: -(seen.maps[case_id].log_hazard or 0.0),
    )
    return order if len(order) <= count else [*order[: (count + 1) // 2], *order[len(order) - count // 2 :]]


def _small(folder: Path, case: CaseMap) -> list[bytes]:
    """The pictures of a case as small JPEGs; one that can't be read is left out."""
    small = []
    for slide in case.slides:
        try:
            with Image.open(folder / slide.picture) as picture:
                shown = picture.convert("RGB")
        except OSError:
            continue
        shown.thumbnail((_SMALL_PX, 2 * _SMALL_PX), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        shown.save(content, format="JPEG", quality=_SMALL_QUALITY)
        small.append(content.getvalue())
    return small
