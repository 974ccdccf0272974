"""``wsisurv evaluate``."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from wsisurv.cli.clinical import (
    CaseColumn,
    ClinicalOption,
    DropIncomplete,
    EventColumn,
    EventValues,
    SiteColumn,
    TimeColumn,
    TimeUnit,
    cohort_settings,
    print_audit,
)
from wsisurv.cli.console import finish, number, out, progress_bar, report, warn
from wsisurv.cli.fold_options import CovariatesOption, listed
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, DeviceOption, RedoOption, WorkspaceOption
from wsisurv.cli.predict import prepare, torch_device, years_of
from wsisurv.cli.resolution import MppFromObjectiveOption, MppTableOption, SlideMppOption, read_mpp_table
from wsisurv.cohort import Case, Cohort, build_cohort, read_clinical, read_cohort, read_slide_map, save_cohort
from wsisurv.errors import CohortError, SettingsError
from wsisurv.experiments.fold_settings import named_covariates
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import read_model
from wsisurv.formats.risks import Risk, write_risks
from wsisurv.workspace.ledger import Summary
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.experiments.external import ExternalCases, ExternalFigures
    from wsisurv.experiments.external_clinic import BesideClinic
    from wsisurv.formats.cards import FigureRow

_SHOWN = 5


def evaluate(
    student: Annotated[Path, typer.Option(help="The student's file.", show_default=False, dir_okay=False)],
    slides: Annotated[
        list[Path] | None,
        typer.Argument(help="The other cohort's slides; tiled and embedded first, as the student's were."),
    ] = None,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    clinical: ClinicalOption = None,
    case: CaseColumn = "case_id",
    time: TimeColumn = "time",
    event: EventColumn = "event",
    event_values: EventValues = None,
    time_unit: TimeUnit = "days",
    site: SiteColumn = None,
    covariates: CovariatesOption = None,
    slide_map: Annotated[
        Path | None,
        typer.Option(help="Table slide_id,case_id. Without it a slide is of the case whose id begins its name."),
    ] = None,
    drop_incomplete: DropIncomplete = False,
    drop_known: Annotated[
        bool, typer.Option("--drop-known", help="Leave out cases that the student was trained on, instead of stopping.")
    ] = False,
    horizons: Annotated[str, typer.Option(help="Years at which predicted and observed are compared.")] = "1,3,5",
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap draws of cases.")] = 1000,
    slide_mpp: SlideMppOption = None,
    mpp_table: MppTableOption = None,
    mpp_from_objective: MppFromObjectiveOption = False,
    weights: Annotated[
        Path | None, typer.Option(help="The encoder's weights, where the student was trained on features of a file.")
    ] = None,
    device: DeviceOption = "auto",
    redo: RedoOption = False,
) -> None:
    """External validation: a student on another cohort, with cut-offs and calibration as fixed in its training.

    Reads the student, and the other cohort: made from --clinical and slides (or features that are there), or made
    before. Writes external.json, the cases' risks, and figures into cohorts/NAME/evaluation/: order, calibration and
    risk groups beside the student's own cross-validation, whether calibration has drifted, and what the student adds to
    --covariates. `wsisurv report --cohort NAME` makes a page of it.
    """
    from wsisurv.experiments.drift import drift_verdict
    from wsisurv.experiments.external import external_figures
    from wsisurv.experiments.external_clinic import beside_clinic, clinic_verdict
    from wsisurv.experiments.external_record import write_record
    from wsisurv.experiments.risk_groups import RISK_GROUPS
    from wsisurv.pages.contact_sheet import update_contact_sheet
    from wsisurv.pages.external_figures import draw_calibration, draw_groups
    from wsisurv.pages.model_card import own_figures
    from wsisurv.prediction.card import read_scale
    from wsisurv.prediction.step import find_bags, look_at_slides, predict_cases
    from wsisurv.slides.resolution import GivenMpp

    years = years_of(horizons)
    place = Workspace(workspace)
    scale = read_scale(student)
    card = scale.card
    warnings: list[str] = []
    home, made, slide_ids = place, list[Summary](), list[str]()
    if slides:
        given = GivenMpp(slide_mpp, read_mpp_table(mpp_table), mpp_from_objective)
        home, slide_ids, made = prepare(place, slides, card, given, False, weights, device, redo)
        update_contact_sheet(home)
    if clinical is not None:
        if cohort is None:
            raise SettingsError("--cohort NAME is needed with --clinical: it names the folder of the new cohort")
        if student.parent.resolve() == place.cohort(cohort).resolve():
            raise SettingsError(f"--cohort {cohort} is the cohort that the student was trained on; name the other one")
        columns = cohort_settings(
            case=case,
            time=time,
            event=event,
            event_values=event_values,
            time_unit=time_unit,
            site=site,
            covariates=covariates,
        )
        chosen, audit = build_cohort(
            cohort,
            read_clinical(clinical, columns, drop_incomplete=drop_incomplete),
            columns,
            slide_ids=slide_ids or home.embedded_slides(card.encoder),
            report_case_ids=(),
            slide_map=read_slide_map(slide_map) if slide_map else None,
        )
        print_audit(chosen, audit)
        tested = _without_known(chosen, student, drop_known, warnings)
        save_cohort(place.cohort(cohort), chosen, audit, redo=redo)
    else:
        chosen, _ = read_cohort(place.cohort(place.the_cohort(cohort)))
        tested = _without_known(chosen, student, drop_known, warnings)
    of_case = {str(one.case_id): one.slide_ids for one in tested.cases}
    looks: Mapping[str, tuple[str, ...]] = {}
    if slides:
        with progress_bar("look at the stain") as progress:
            looks = look_at_slides(home, slide_ids, progress=progress)
    with progress_bar("predict") as progress:
        prediction = predict_cases(
            student,
            find_bags(home, card.encoder, of_case),
            horizons=years,
            looks=looks,
            tiles=home,
            device=torch_device(device),
            progress=progress,
        )
    cases = _cases(tested, prediction.risks, card.cohort.time_unit)
    figures = external_figures(
        cases,
        scale.prognosis,
        years={one: scale.in_unit(one) for one in years},
        group_names=RISK_GROUPS,
        resamples=resamples,
    )
    named = named_covariates(chosen, listed(covariates))
    clinic = None
    if named:
        by_id = {str(one.case_id): one for one in tested.cases}
        known = [by_id[case_id] for case_id in cases.case_ids]
        clinic = beside_clinic(cases, known, _trained(student), named, resamples=resamples)
        warnings += clinic.warnings
    warnings += _told(tested, prediction.risks, figures)
    model, header = read_model(student, "student")
    evaluation, source = own_figures(student, model.card, header)
    own = _own_row(evaluation.models if evaluation else ())
    if own is None:
        warnings.append(f"nothing to hold these figures against: {source}")
    verdict = drift_verdict(figures, scale.prognosis, own) + (clinic_verdict(clinic) if clinic else ())
    folder = place.cohort(chosen.name) / "evaluation"
    title = f"{chosen.name}, by the student of {card.cohort.name}"
    draw_groups(folder / "external_groups.png", cases, time_unit=card.cohort.time_unit, title=title)
    draw_calibration(
        folder / "external_calibration.png", cases, scale.prognosis, time_unit=card.cohort.time_unit, title=title
    )
    write_risks(folder / "external_risk.csv", prediction.risks, horizons=years)
    write_record(
        folder / "external.json",
        figures,
        cohort={
            "name": chosen.name,
            "fingerprint": chosen.fingerprint,
            "cases": len(chosen.cases),
            "evaluated": len(cases.case_ids),
            "time_unit": card.cohort.time_unit,
        },
        student={"id": scale.fingerprint[:12], "fingerprint": scale.fingerprint, "cohort": card.cohort.model_dump()},
        own=own,
        clinic=clinic,
        verdict=verdict,
        warnings=warnings,
        command=shlex.join(["wsisurv", *sys.argv[1:]]),
    )
    for line in warnings:
        warn(line)
    _print(figures, own, card.cohort.time_unit, clinic)
    for line in verdict:
        out.print(line, markup=False)
    summary = Summary("evaluate", list(cases.case_ids), failed=list(prediction.failed))
    report(summary, f"figures in {folder / 'external.json'}")
    finish(*made, summary)


def _without_known(chosen: Cohort, student: Path, drop: bool, warnings: list[str]) -> Cohort:
    """The cohort without cases that the student was trained on, as far as that can be known.

    Raises:
        CohortError: there are such cases and they are not to be dropped, or none is left.
    """
    beside = student.parent
    known_cases: set[str] = set()
    known_slides: set[str] = set()
    if (beside / "guidance.h5").exists():
        known_cases |= set(read_guidance(beside / "guidance.h5")[0].case_ids)
    if (beside / "cohort.csv").exists():
        trained = read_cohort(beside)[0].cases
        known_cases |= {str(one.case_id) for one in trained}
        known_slides = {str(slide_id) for one in trained for slide_id in one.slide_ids}
    if not known_cases:
        warnings.append(
            "whether cases of the training cohort are among these can't be known: neither cohort.csv nor guidance.h5 "
            "lies beside the student"
        )
    again = [
        str(one.case_id)
        for one in chosen.cases
        if str(one.case_id) in known_cases or known_slides.intersection(map(str, one.slide_ids))
    ]
    if not again:
        return chosen
    listed = ", ".join(again[:_SHOWN]) + (f" and {len(again) - _SHOWN} more" if len(again) > _SHOWN else "")
    if not drop:
        raise CohortError(
            f"{len(again)} of {len(chosen.cases)} cases were in the student's training ({listed}): figures on them "
            "would flatter it. Leave them out with --drop-known, or judge the training cohort by `wsisurv crossval`."
        )
    left = tuple(one for one in chosen.cases if str(one.case_id) not in set(again))
    if not left:
        raise CohortError(f"all {len(again)} cases were in the student's training. Use `wsisurv crossval`.")
    warnings.append(f"left out, since the student was trained on them: {listed}")
    return Cohort(chosen.name, left, chosen.settings)


def _trained(student: Path) -> tuple[Case, ...]:
    """The student's training cases, where their cohort lies beside it."""
    return read_cohort(student.parent)[0].cases if (student.parent / "cohort.csv").exists() else ()


def _cases(chosen: Cohort, risks: tuple[Risk, ...], time_unit: str) -> "ExternalCases":
    """Follow-up and risks, times in the unit of the student's training cohort."""
    from wsisurv.experiments.external import ExternalCases
    from wsisurv.survival.prognosis import PER_YEAR

    scale = PER_YEAR[time_unit] / PER_YEAR[chosen.settings.time_unit]
    follow_up = {str(one.case_id): one for one in chosen.cases}
    known = [(risk, follow_up[risk.case_id]) for risk in risks if risk.log_hazard is not None]
    if not known:
        raise CohortError(f"cohort {chosen.name}: no case has a risk, so there is nothing to evaluate")
    return ExternalCases(
        case_ids=tuple(risk.case_id for risk, _ in known),
        log_hazard=np.array([risk.log_hazard for risk, _ in known], dtype=np.float64),
        group=tuple(risk.risk_group for risk, _ in known),
        time=np.array([one.time * scale for _, one in known]),
        event=np.array([one.event for _, one in known]),
    )


def _told(chosen: Cohort, risks: tuple[Risk, ...], figures: "ExternalFigures") -> list[str]:
    lines = list(figures.warnings)
    if odd := [risk for risk in risks if risk.warning]:
        lines.append(
            f"{len(odd)} of {len(risks)} cases carry a warning of predict, the first {odd[0].case_id}: {odd[0].warning}"
        )
    if without := len(chosen.cases) - figures.cases:
        lines.append(f"{without} cases have no risk and are left out")
    return lines


def _own_row(rows: "tuple[FigureRow, ...]") -> dict[str, Any] | None:
    """The student's row of its own cross-validation: distilled where reports were listened to, else plain."""
    named = {row.model: row for row in rows}
    row = named.get("distilled") or named.get("plain")
    return None if row is None or None in (row.concordance, row.low, row.high) else row.model_dump()


def _print(
    figures: "ExternalFigures", own: Mapping[str, Any] | None, time_unit: str, clinic: "BesideClinic | None"
) -> None:
    table = Table(
        title=f"The student here ({figures.cases} cases, {figures.events} events) and at home",
        caption="at home: cross-validated, mean over folds. Calibrated slope: 1 where the spread of risks is right.",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("figure", "here", "at home"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    here = figures.concordance
    home = dict(own or {})
    table.add_row("concordance", number(here.value), number(home.get("concordance")))
    table.add_row(
        "  95 % interval",
        f"{number(here.low)} to {number(here.high)}",
        f"{number(home.get('low'))} to {number(home.get('high'))}" if own else "–",
    )
    if clinic is not None and clinic.concordance is not None and clinic.difference is not None:
        names, less = ", ".join(clinic.covariates), clinic.difference
        table.add_row(f"  of {names}, fitted in training", number(clinic.concordance.value), "–")
        table.add_row(
            f"  student − {names}",
            f"{number(less.value, '+')} ({number(less.low, '+')} to {number(less.high, '+')})",
            "–",
        )
    table.add_row("Uno's", number(figures.uno), number(home.get("uno")))
    table.add_row("AUC, mean over time", number(figures.auc), number(home.get("auc")))
    table.add_row("slope of the log hazard", _slope(figures.slope), number(home.get("calibration_slope")))
    table.add_row("calibrated slope", _slope(figures.calibrated_slope), "–")
    table.add_row("Brier, over time", number(figures.brier), number(home.get("brier")))
    table.add_row("  of the cohort's own curve", number(figures.brier_reference), number(home.get("brier_reference")))
    table.add_row("D-calibration p", number(figures.d_calibration_p), number(home.get("d_calibration_p")))
    if (found := figures.observed_expected) is not None:
        table.add_row("events, expected", f"{found.observed}, {found.expected:.1f}", "–")
        table.add_row("  observed / expected", f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})", "–")
    out.print(table)
    table = Table(title="Event by then: predicted and observed", title_justify="left")
    for heading in ("years", "predicted", "observed", "95 % interval", "followed"):
        table.add_column(heading, justify="right")
    for one in figures.at_years:
        if one.predicted is None:
            table.add_row(f"{one.years:g}", "–", "–", one.reason, f"{one.at_risk}")
        else:
            interval = f"{number(one.low)} to {number(one.high)}"
            table.add_row(f"{one.years:g}", number(one.predicted), number(one.observed), interval, f"{one.at_risk}")
    out.print(table)
    table = Table(title=f"Risk groups by the cut-offs of training (time in {time_unit})", title_justify="left")
    for heading in ("group", "cases", "events", "median survival"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for row in figures.groups:
        table.add_row(row.name, f"{row.cases}", f"{row.events}", "–" if row.median is None else f"{row.median:g}")
    out.print(table)


def _slope(slope: Any) -> str:
    return "–" if slope is None else f"{slope.value:.2f} ± {slope.se:.2f}"
