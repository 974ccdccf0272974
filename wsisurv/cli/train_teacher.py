"""``wsisurv train-teacher``."""

from pathlib import Path
from typing import Annotated, Literal

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
    build_cohort,
    read_clinical,
    read_cohort,
    read_slide_map,
    save_cohort,
)
from wsisurv.errors import SettingsError
from wsisurv.formats.statements import read_statements
from wsisurv.settings.base import parse_settings
from wsisurv.settings.training import Aggregator, TeacherSettings
from wsisurv.workspace.paths import Workspace

_DEFAULTS = TeacherSettings()


def train_teacher(
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    clinical: ClinicalOption = None,
    case: CaseColumn = "case_id",
    time: TimeColumn = "time",
    event: EventColumn = "event",
    event_values: EventValues = None,
    time_unit: TimeUnit = "days",
    site: SiteColumn = None,
    covariates: Annotated[str, typer.Option(help="Columns to compare with, separated by commas, e.g. age,stage.")] = "",
    slide_map: Annotated[
        Path | None,
        typer.Option(help="Table slide_id,case_id. Without it a slide is of the case whose id begins its name."),
    ] = None,
    drop_incomplete: DropIncomplete = False,
    audit_only: Annotated[
        bool, typer.Option("--audit-only", help="Print the cohort's audit and write nothing.")
    ] = False,
    encoder: Annotated[
        str, typer.Option(help="Folder of the features, as `wsisurv embed` printed it.")
    ] = _DEFAULTS.encoder,
    text_encoder: Annotated[
        str, typer.Option(help="Vectors of the statements, or tfidf, fitted on the cases trained on.")
    ] = _DEFAULTS.text_encoder,
    text_branch: Annotated[
        Literal["attention", "ridge"],
        typer.Option(help="How statements become a risk: attention over them, or a ridge Cox model of their mean."),
    ] = _DEFAULTS.text_branch,
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
    folds: Annotated[
        int, typer.Option(min=2, help="Outer folds: each of a student's members is trained, and told, without one.")
    ] = _DEFAULTS.folds,
    keep_sites: Annotated[
        bool,
        typer.Option(
            "--keep-sites",
            help="Keep hospitals whole in these folds: figures are then of hospitals never seen, but no member of a "
            "student has seen all of them. `wsisurv crossval` keeps them whole without being asked.",
        ),
    ] = _DEFAULTS.keep_sites,
    text_folds: Annotated[
        int, typer.Option(min=2, help="Folds of the cross-fitting of the text branch.")
    ] = _DEFAULTS.text_folds,
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
        settings = cohort_settings(
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
            read_clinical(clinical, settings, drop_incomplete=drop_incomplete),
            settings,
            slide_ids=place.embedded_slides(encoder),
            report_case_ids=_cases_with_statements(place),
            slide_map=read_slide_map(slide_map) if slide_map else None,
        )
    print_audit(chosen, audit)
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
            "text_branch": text_branch,
            "epochs": epochs,
            "folds": folds,
            "keep_sites": keep_sites,
            "text_folds": text_folds,
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


def _cases_with_statements(workspace: Workspace) -> list[str]:
    if not workspace.statements.exists():
        return []
    return [case_id for case_id, record in read_statements(workspace.statements).items() if record.statements]
