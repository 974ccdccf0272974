"""``wsisurv evaluate``."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsisurv.cli.clinical import ClinicalOption, DropIncomplete, print_audit
from wsisurv.cli.console import figures_table, finish, interval, number, out, progress_bar, report, warn
from wsisurv.cli.engine_options import NamedSlidesOptions
from wsisurv.cli.from_settings import option, settings_as_options
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    CohortOption,
    DeviceOption,
    ForceUnfamiliarOption,
    LandmarkOption,
    PoolWeightsOption,
    RedoOption,
    SameTissueModelOption,
    SlideMapOption,
    WeightsOption,
    WorkspaceOption,
)
from wsisurv.cli.predict import years_of
from wsisurv.cli.resolution import ResolutionOptions
from wsisurv.experiments.verdict import p_equals
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.crossval import CrossvalSettings, years_of_landmarks
from wsisurv.workspace.ledger import Summary
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.experiments.external import ExternalFigures
    from wsisurv.experiments.external_clinic import BesideClinic
    from wsisurv.pipeline.evaluate import EvaluateResult


@settings_as_options(
    first=("student", "cohort", "workspace", "clinical", "time", "event", "site", "covariates", "slide_map", "redo")
)
def evaluate(
    *,
    student: Annotated[
        Path, typer.Option(help="Student to judge, a file of distill.", show_default=False, dir_okay=False)
    ],
    slides: Annotated[
        list[Path] | None,
        typer.Argument(help="Slides of the other cohort; tiled and embedded first, with the student's settings."),
    ] = None,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    clinical: ClinicalOption = None,
    columns: CohortSettings,
    slide_map: SlideMapOption = None,
    drop_incomplete: DropIncomplete = False,
    drop_known: Annotated[
        bool, typer.Option("--drop-known", help="Leave out cases that the student was trained on, instead of stopping.")
    ] = False,
    horizons: Annotated[
        str, typer.Option(help="Years at which predicted and observed survival are compared.")
    ] = "1,3,5",
    landmark: LandmarkOption = None,
    resamples: Annotated[int, option(CrossvalSettings, "resamples")] = 1000,
    resolution: ResolutionOptions,
    force_unfamiliar: ForceUnfamiliarOption = False,
    weights: WeightsOption = None,
    pool_weights: PoolWeightsOption = None,
    tissue_model: SameTissueModelOption = None,
    device: DeviceOption = "auto",
    where: NamedSlidesOptions,
    redo: RedoOption = False,
) -> None:
    """External validation: judge a student on another cohort, with cut-offs and calibration as fixed in its training.

    Reads the student, and the other cohort: made from --clinical and slides (or their features, where they are in the
    workspace), or made by an earlier run. Writes external.json, the cases' risks, and figures into
    cohorts/NAME/evaluation/: discrimination, calibration and risk groups beside the student's own cross-validation,
    whether calibration has drifted, and what the student adds to --covariates. `wsisurv report --cohort NAME` makes a
    page of it.
    """
    from wsisurv.pipeline.evaluate import evaluate as run

    where.require(slides)
    with where.pool(workspace) as pool, progress_bar("evaluate") as progress:
        result = run(
            Workspace(workspace),
            student,
            slides or (),
            cohort=cohort,
            clinical=clinical,
            columns=columns,
            covariates=columns.covariates if "covariates" in columns.model_fields_set else None,
            slide_map=slide_map,
            drop_incomplete=drop_incomplete,
            drop_known=drop_known,
            horizons=years_of(horizons),
            landmarks=years_of_landmarks(landmark),
            resamples=resamples,
            given=resolution.given(),
            weights_file=weights,
            pool_weights=pool_weights,
            tissue_model=tissue_model,
            force_unfamiliar=force_unfamiliar,
            device=device,
            pool=pool,
            stage=where.stage,
            redo=redo,
            command=shlex.join(["wsisurv", *sys.argv[1:]]),
            progress=progress,
        )
    summary = _print_all(result, workspace)
    finish(*result.summaries, summary)


def _print_all(result: "EvaluateResult", workspace: Path) -> Summary:
    for made in result.summaries:
        report(made, f"in {workspace / 'predict'}")
    if result.audit is not None:
        print_audit(result.cohort, result.audit)
    warn(*result.warnings)
    _print(result.figures, result.own, result.time_unit, result.clinic)
    for line in result.verdict:
        out.print(line)
    summary = Summary("evaluate", list(result.cases.case_ids), failed=list(result.prediction.failed))
    report(summary, f"figures in {result.record}")
    return summary


def _print(
    figures: "ExternalFigures", own: Mapping[str, Any] | None, time_unit: str, clinic: "BesideClinic | None"
) -> None:
    table = figures_table(
        f"The student here ({figures.cases} cases, {figures.events} events) and at home",
        *("figure", "here", "at home"),
        caption="At home: cross-validated on its training cohort. Calibration slope: 1 is right, below 1 risks are too "
        f"extreme. Calibration-in-the-large: 1 is right. Intervals here: {figures.interval}."
        + (f" Uno's: events before {figures.uno_until:g} {time_unit}." if figures.uno_until is not None else ""),
    )
    here = figures.concordance
    home = dict(own or {})
    table.add_row("concordance", number(here.value), number(home.get("concordance")))
    table.add_row("  95 % interval", interval(here.low, here.high), interval(home.get("low"), home.get("high")))
    if clinic is not None and clinic.concordance is not None and clinic.difference is not None:
        names, less = ", ".join(clinic.covariates), clinic.difference
        table.add_row(f"  of {names}, fitted in training", number(clinic.concordance.value), "–")
        between = f"{number(less.value, '+')} ({interval(less.low, less.high, '+')})"
        table.add_row(f"  student − {names}", between, "–")
    table.add_row("Uno's", number(figures.uno), number(home.get("uno")))
    uno = interval(figures.uno_low, figures.uno_high)
    table.add_row("  95 % interval", uno, interval(home.get("uno_low"), home.get("uno_high")))
    table.add_row("AUC, mean over time", number(figures.auc), number(home.get("auc")))
    table.add_row("calibration slope of the log hazard", _slope(figures.slope), number(home.get("calibration_slope")))
    table.add_row("calibration slope as calibrated in training", _slope(figures.calibrated_slope), "–")
    table.add_row("Brier score, over time", number(figures.brier), number(home.get("brier")))
    table.add_row("  of the cohort's own curve", number(figures.brier_reference), number(home.get("brier_reference")))
    table.add_row("D-calibration p", number(figures.d_calibration_p), number(home.get("d_calibration_p")))
    if (found := figures.observed_expected) is not None:
        table.add_row("events observed, expected", f"{found.observed}, {found.expected:.1f}", "–")
        table.add_row("calibration-in-the-large", f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})", "–")
    out.print(table)
    title = "Share of cases with the event by then: predicted and observed"
    table = figures_table(title, "years", "predicted", "observed", "95 % interval", "followed")
    for one in figures.at_years:
        if one.predicted is None:
            table.add_row(f"{one.years:g}", "–", "–", one.reason, f"{one.at_risk}")
        else:
            between = interval(one.low, one.high)
            table.add_row(f"{one.years:g}", number(one.predicted), number(one.observed), between, f"{one.at_risk}")
    out.print(table)
    _print_groups(figures, time_unit)


def _print_groups(figures: "ExternalFigures", time_unit: str) -> None:
    """Print the risk groups, and figures at landmarks."""
    title = f"Risk groups by the cut-offs of training (time in {time_unit})"
    competing = ("competing events",) if figures.competing is not None else ()
    table = figures_table(title, "group", "cases", "events", *competing, "median survival")
    for row in figures.groups:
        others = [f"{row.competing or 0}"] if competing else []
        median = "–" if row.median is None else f"{row.median:g}"
        table.add_row(row.name, f"{row.cases}", f"{row.events}", *others, median)
    out.print(table)
    if figures.gray_p is not None:
        out.print(f"Gray's test of the groups' cumulative incidence: {p_equals(figures.gray_p)}")
    if figures.landmarks:
        table = figures_table(
            "Among those alive at a landmark", "years", "cases", "events", "concordance", "95 % interval", "slope"
        )
        for at in figures.landmarks:
            order = at.concordance
            between = interval(order.low, order.high) if order else "–"
            value = number(order.value if order else None)
            table.add_row(f"{at.years:g}", f"{at.cases}", f"{at.events}", value, between, _slope(at.slope))
        out.print(table)


def _slope(slope: Any) -> str:
    return "–" if slope is None else f"{slope.value:.2f} (SE {slope.se:.2f})"
