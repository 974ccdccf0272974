"""``wsisurv train-teacher``."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from wsisurv.cli.console import number, out, progress_bar, warn
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    AllowRandomOption,
    CohortOption,
    DeviceOption,
    MemoryOption,
    PrecisionOption,
    RedoOption,
    SeedOption,
    WorkspaceOption,
)
from wsisurv.cohort import (
    Audit,
    Cohort,
    build_cohort,
    read_clinical,
    read_cohort,
    read_slide_map,
    save_cohort,
)
from wsisurv.errors import SettingsError
from wsisurv.formats.statements import read_statements
from wsisurv.settings import Aggregator, CohortSettings, TeacherSettings, parse_settings
from wsisurv.workspace import Workspace

_DEFAULTS = TeacherSettings()
_LISTED = 8


def train_teacher(
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    clinical: Annotated[
        Path | None,
        typer.Option(help="Follow-up table (CSV or TSV, a row a case); needed the first time.", dir_okay=False),
    ] = None,
    case: Annotated[str, typer.Option(help="Column of the case.")] = "case_id",
    time: Annotated[str, typer.Option(help="Column of the follow-up time.")] = "time",
    event: Annotated[str, typer.Option(help="Column of the event: 0/1/true/false, or see --event-values.")] = "event",
    event_values: Annotated[
        str | None, typer.Option(help="The table's words for (did not happen, happened), e.g. Alive,Dead.")
    ] = None,
    time_unit: Annotated[
        Literal["days", "weeks", "months", "years"], typer.Option(help="Unit of the follow-up time.")
    ] = "days",
    site: Annotated[str | None, typer.Option(help="Column of the hospital; folds keep hospitals whole.")] = None,
    covariates: Annotated[str, typer.Option(help="Columns to compare with, separated by commas, e.g. age,stage.")] = "",
    slide_map: Annotated[
        Path | None,
        typer.Option(help="Table slide_id,case_id. Without it a slide is of the case whose id begins its name."),
    ] = None,
    drop_incomplete: Annotated[
        bool, typer.Option("--drop-incomplete", help="Leave out, and list, rows without a usable time or event.")
    ] = False,
    audit_only: Annotated[
        bool, typer.Option("--audit-only", help="Print the cohort's audit and write nothing.")
    ] = False,
    encoder: Annotated[
        str, typer.Option(help="Folder of the features, as `wsisurv embed` printed it.")
    ] = _DEFAULTS.encoder,
    text_encoder: Annotated[
        str, typer.Option(help="Vectors of the statements, or tfidf, fitted on the cases trained on.")
    ] = _DEFAULTS.text_encoder,
    teacher: Annotated[
        Literal["late", "concat", "cross-attention"],
        typer.Option(
            help="Whose risk a student will be told: the reports' alone, or that of a model of tiles and statements, "
            "joined at the end or with statements looking at tiles."
        ),
    ] = _DEFAULTS.teacher,
    aggregator: Annotated[
        Aggregator, typer.Option(help="From tiles to a case: their mean, gated attention, or a transformer.")
    ] = _DEFAULTS.aggregator,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the cohort.")] = _DEFAULTS.epochs,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-fitting.")] = _DEFAULTS.folds,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of the cross-fitting.")] = _DEFAULTS.repeats,
    seed: SeedOption = _DEFAULTS.seed,
    precision: PrecisionOption = _DEFAULTS.precision,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    allow_random_weights: AllowRandomOption = False,
    redo: RedoOption = False,
) -> None:
    """Step 4: make the cohort, print its audit, and train the teacher, which sees tiles and statements.

    Reads the clinical table, features/ENCODER/, reports/statements.jsonl and reports/vectors/. Writes cohort.csv,
    audit.json, teacher.h5, guidance.h5 and history.jsonl into cohorts/NAME/.
    """
    place = Workspace(workspace)
    if clinical is None:
        name = place.the_cohort(cohort)
        chosen, audit = read_cohort(place.cohort(name))
    elif cohort is None:
        raise SettingsError("--cohort NAME is needed with --clinical: it names the folder of the new cohort")
    else:
        settings = parse_settings(
            CohortSettings,
            {
                "case": case,
                "time": time,
                "event": event,
                "event_values": _pair(event_values),
                "time_unit": time_unit,
                "site": site,
                "covariates": tuple(name.strip() for name in covariates.split(",") if name.strip()),
            },
        )
        chosen, audit = build_cohort(
            cohort,
            read_clinical(clinical, settings, drop_incomplete=drop_incomplete),
            settings,
            slide_ids=place.embedded_slides(encoder),
            report_case_ids=_cases_with_statements(place),
            slide_map=read_slide_map(slide_map) if slide_map else None,
        )
    _print_audit(chosen, audit)
    if audit_only:
        return
    if clinical is not None:
        save_cohort(place.cohort(chosen.name), chosen, audit, redo=redo)
        out.print(f"the whole audit: {place.cohort(chosen.name) / 'audit.json'}", markup=False)

    from wsisurv.training.teacher import train_teacher as run

    chosen_settings = parse_settings(
        TeacherSettings,
        {
            "teacher": teacher,
            "aggregator": aggregator,
            "encoder": encoder,
            "text_encoder": text_encoder,
            "epochs": epochs,
            "folds": folds,
            "repeats": repeats,
            "precision": precision,
            "seed": seed,
        },
    )
    with progress_bar("train-teacher") as progress:
        result = run(
            place,
            chosen,
            chosen_settings,
            allow_random_weights=allow_random_weights,
            redo=redo,
            device=device,
            memory_gib=memory,
            progress=progress,
        )
    for line in result.warnings:
        warn(line)
    table = Table(title=f"Teacher of {chosen.name}", show_header=False, title_justify="left")
    table.add_row("cases, events, with statements", f"{result.n_cases}, {result.n_events}, {result.n_reports}")
    table.add_row("out-of-fold concordance of the reports", number(result.text_concordance))
    table.add_row("… of the slides", number(result.image_concordance))
    table.add_row("… of both", number(result.fused_concordance))
    slope = f"slope {number(result.gate_slope, '+')}, standard error {number(result.gate_se)}"
    table.add_row("gate (how far a student will listen)", f"{result.gate:.2f} of 1 ({slope})")
    out.print(table)
    done = "kept" if result.kept else "done"
    out.print(f"train-teacher: {done} · {place.cohort(chosen.name) / 'guidance.h5'}", markup=False)


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if len(words) != 2 or words[0] == words[1]:
        raise SettingsError(f"--event-values {text!r}: two different words are needed, e.g. Alive,Dead")
    return words[0], words[1]


def _cases_with_statements(workspace: Workspace) -> list[str]:
    if not workspace.statements.exists():
        return []
    return [case_id for case_id, record in read_statements(workspace.statements).items() if record.statements]


def _print_audit(cohort: Cohort, audit: Audit) -> None:
    table = Table(title=f"Cohort {cohort.name}", show_header=False, title_justify="left")
    rows = {
        "rows in the clinical table": f"{audit.clinical_rows}, of them usable {audit.clinical_cases}"
        f" ({audit.clinical_events} events, {audit.clinical_cases_with_report} with statements)",
        "cases with follow-up and slide": f"{audit.cases}, of several slides {audit.cases_of_several_slides}",
        "events": f"{audit.events}"
        + (f" ({100 - 100 * audit.events / audit.cases:.0f} % censored)" if audit.cases else ""),
        "slides": f"{audit.slides}",
        "cases with statements": f"{audit.cases_with_report}",
        "median follow-up": "–" if audit.median_time is None else f"{audit.median_time:g} {audit.time_unit}",
        "sites": f"{len(audit.sites)}" if cohort.settings.site else "no site column named",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)
    _print_left_out("rows dropped", [f"row {drop.row} {drop.case_id}: {drop.reason}" for drop in audit.dropped])
    _print_left_out("cases without a slide (not in the cohort)", audit.cases_without_slide)
    _print_left_out("slides without a case (not used)", audit.slides_without_case)
    _print_left_out("reports without a case (not used)", audit.reports_without_case)


def _print_left_out(title: str, items: tuple[str, ...] | list[str]) -> None:
    if items:
        more = f"; and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
        out.print(f"{len(items)} {title}: {'; '.join(items[:_LISTED])}{more}", markup=False)
