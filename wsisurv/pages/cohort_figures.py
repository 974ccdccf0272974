"""Figures of the cohort page, drawn from what was gathered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wsisurv.errors import MetricError
from wsisurv.experiments.model_names import COMBINED, COVARIATES, SELECTED, model_names
from wsisurv.experiments.risk_groups import Group, follow_up_by_group
from wsisurv.pages.crossval_figures import CrossvalFigures
from wsisurv.pages.gathering import ExternalValidation, Gathered
from wsisurv.pages.predicted import ANOTHER_STUDENT, STUDENT, CasePredictions, horizon_name
from wsisurv.pages.report_figures import (
    ForestRow,
    agreement,
    calibration_plot,
    decision_plot,
    forest,
    risk_against,
    training_curves,
)
from wsisurv.pages.subgroups import known_covariates
from wsisurv.pages.survival_figure import kaplan_meier
from wsisurv.survival.net_benefit import net_benefit


@dataclass
class CohortFigures:
    """What was drawn.

    Attributes:
        folder: of the files, PNG, SVG and PDF each.
        svg: name → the picture.
        missing: name → why it could not be drawn.
    """

    folder: Path
    svg: dict[str, bytes] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def draw(self, name: str, drawn: Callable[[Path], tuple[Path, Path]]) -> None:
        """Draw one figure, or note why it can't be drawn."""
        try:
            _, svg = drawn(self.folder / f"{name}.png")
        except MetricError as error:
            self.missing[name] = str(error)
            return
        self.svg[name] = svg.read_bytes()


def draw_cohort(seen: Gathered, folder: Path) -> CohortFigures:
    """Draw all figures for which there is something to draw, as PNG, SVG and PDF, into a folder.

    Raises:
        StorageError: no room or no permission.
    """
    figures = CohortFigures(folder)
    unit = seen.cohort.settings.time_unit
    names = labels(seen)
    if seen.metrics is not None:
        _draw_concordance(figures, seen.metrics, names)
    elif (here := next((one for one in seen.external if one.cohort == seen.cohort.name), None)) is not None:
        _draw_external(figures, here)
    if seen.reports is not None:
        _draw_concordance(figures, seen.reports, model_names(seen.reports.covariates), of="-reports-only")
    if (predicted := seen.predicted) is not None:
        title = "Survival by predicted risk group"
        if predicted.cause is not None:
            title = "Cumulative incidence by predicted risk group"
        figures.draw("survival", lambda path: kaplan_meier(path, groups_of(predicted), time_unit=unit, title=title))
        for number, horizon in enumerate(predicted.horizons.tolist()):
            _draw_horizon(figures, predicted, number, horizon_name(horizon, unit), names)
        covariates = known_covariates(predicted.cases, seen.cohort.settings.covariates)
        title_against = "Predicted risk and clinical covariates"
        figures.draw(
            "risk-against-covariates",
            lambda path: risk_against(path, predicted.percentile, predicted.group, covariates, title=title_against),
        )
    if seen.training:
        figures.draw("training", lambda path: training_curves(path, seen.training, title="Loss in training"))
    return figures


def labels(seen: Gathered) -> dict[str, str]:
    """Model in metrics.json → what it is called on the page."""
    return model_names(seen.cohort.settings.covariates if seen.metrics is None else seen.metrics.covariates)


def groups_of(predicted: CasePredictions) -> dict[str, Group]:
    """Follow-up by risk group, see ``follow_up_by_group``."""
    return follow_up_by_group(
        predicted.group, time=predicted.time, event=predicted.event, entry=predicted.entry, cause=predicted.cause
    )


def _draw_concordance(
    figures: CohortFigures, metrics: CrossvalFigures, names: Mapping[str, str], *, of: str = ""
) -> None:
    models = [
        ForestRow(names.get(row.model, row.model), row.concordance, row.low, row.high, row.model == SELECTED)
        for row in metrics.models
    ]
    figures.draw(
        f"concordance{of}",
        lambda path: forest(path, models, title="Concordance within folds", label="Concordance", none_at=0.5),
    )
    pairs = [
        ForestRow(
            f"{names.get(row.model, row.model)}\n− {names.get(row.minus, row.minus)}", row.value, row.low, row.high
        )
        for row in metrics.differences
    ]
    figures.draw(
        f"differences{of}",
        lambda path: forest(path, pairs, title="Paired differences", label="Difference in concordance", none_at=0),
    )


def _draw_external(figures: CohortFigures, here: ExternalValidation) -> None:
    """Concordance of the student of another cohort here, beside the covariates', and at home."""
    found, clinic, home = here.record.external.concordance, here.record.clinic, here.at_home
    rows = [ForestRow(f"student of {here.trained_on}", found.value, found.low, found.high, marked=True)]
    if clinic is not None and (alone := clinic.concordance) is not None:
        rows.append(ForestRow(", ".join(clinic.covariates), alone.value, alone.low, alone.high))
    value, low, high = (home[name] for name in ("concordance", "low", "high"))
    if value is not None and low is not None and high is not None:
        rows.append(ForestRow("the student at home,\ncross-validated", value, low, high))
    title = "Concordance on this cohort"
    figures.draw("concordance", lambda path: forest(path, rows, title=title, label="Concordance", none_at=0.5))


def _draw_horizon(
    figures: CohortFigures, predicted: CasePredictions, number: int, horizon: str, names: Mapping[str, str]
) -> None:
    """Calibration and decision curve at one horizon."""
    at, rows = float(predicted.horizons[number]), predicted.familiar
    time, event, entry = predicted.follow_up(rows)
    cause = predicted.cause_among(rows)
    student = "student of another cohort" if predicted.source == ANOTHER_STUDENT else names[SELECTED]
    called = {STUDENT: student, **{model: names[model] for model in (COVARIATES, COMBINED)}}
    survival = {called[model]: values[rows, number] for model, values in predicted.survival.items()}

    def calibration(path: Path) -> tuple[Path, Path]:
        curves = {
            name: agreement(survival=values, horizon=at, time=time, event=event, entry=entry, cause=cause)
            for name, values in list(survival.items())[:2]
        }
        title = f"Calibration at {horizon}"
        return calibration_plot(path, curves, horizon=horizon, title=title, competing=cause is not None)

    def decision(path: Path) -> tuple[Path, Path]:
        highest = max((float(np.quantile(1 - values, 0.98)) for values in survival.values()), default=0.0)
        thresholds = np.linspace(0.01, min(0.95, max(0.1, highest)), 60)
        curves = {
            name: net_benefit(
                survival=values, horizon=at, thresholds=thresholds, time=time, event=event, entry=entry, cause=cause
            )
            for name, values in survival.items()
        }
        return decision_plot(path, curves, horizon=horizon, title=f"Decision curve at {horizon}")

    figures.draw(f"calibration-{number + 1}", calibration)
    figures.draw(f"decision-{number + 1}", decision)
