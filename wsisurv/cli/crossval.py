"""``wsisurv crossval``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wsisurv.cli.account import print_account
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
from wsisurv.cli.console import out, progress_bar, warn
from wsisurv.cli.fold_options import (
    CovariatesOption,
    EncoderOption,
    EpochsOption,
    FoldsOption,
    RepeatsOption,
    SplitsOption,
    TextEncoderOption,
    TogetherOption,
)
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    AllowRandomOption,
    CohortOption,
    DeviceOption,
    RedoOption,
    SeedOption,
    WorkspaceOption,
)
from wsisurv.cohort import Cohort, build_cohort, read_clinical, read_cohort, save_cohort
from wsisurv.errors import SettingsError
from wsisurv.experiments.fold_training import fold_training, named_covariates, trained_settings, with_changes
from wsisurv.experiments.report_training import report_training
from wsisurv.formats.models import add_figures
from wsisurv.formats.statements import read_statements
from wsisurv.settings.base import parse_settings
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.experiments.fold_job import Scorer

_DEFAULTS = CrossvalSettings()


def crossval(
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    folds: FoldsOption = _DEFAULTS.folds,
    repeats: RepeatsOption = _DEFAULTS.repeats,
    splits: SplitsOption = None,
    covariates: CovariatesOption = None,
    encoder: EncoderOption = None,
    text_encoder: TextEncoderOption = None,
    epochs: EpochsOption = None,
    keep_together: TogetherOption = False,
    reports_only: Annotated[
        bool, typer.Option("--reports-only", help="Read no slide: what do reports tell beside age and stage?")
    ] = False,
    text_branch: Annotated[
        Literal["ridge", "attention"] | None,
        typer.Option(
            help="How statements become a risk: attention over them, or a ridge on their mean (with --reports-only: on "
            "words and findings).",
            show_default="the cohort's teacher's; ridge with --reports-only",
        ),
    ] = None,
    report_text: Annotated[
        Path | None,
        typer.Option(help="With --reports-only: the reports themselves, for a row of their whole text."),
    ] = None,
    clinical: ClinicalOption = None,
    case: CaseColumn = "case_id",
    time: TimeColumn = "time",
    event: EventColumn = "event",
    event_values: EventValues = None,
    time_unit: TimeUnit = "days",
    site: SiteColumn = None,
    drop_incomplete: DropIncomplete = False,
    seed: SeedOption = _DEFAULTS.seed,
    device: DeviceOption = "auto",
    allow_random_weights: AllowRandomOption = False,
    redo: RedoOption = False,
) -> None:
    """The honest account: train all anew in each fold, and compare with what the clinic knows without slides.

    Reads cohorts/NAME/ (cohort.csv, and the settings of its teacher and student where they are trained), features/ and
    reports/. Writes splits.jsonl, crossval/ and evaluation/metrics.json into cohorts/NAME/. With --reports-only no
    slide is needed: --clinical and its columns make the cohort, and reports-only/ and
    evaluation/metrics-reports-only.json are written.
    """
    from wsisurv.experiments.crossval import crossval as run

    place = Workspace(workspace)
    if clinical is not None:
        if not reports_only or cohort is None:
            raise SettingsError(
                "--clinical makes a cohort of reports alone: --reports-only and --cohort NAME are needed with it. A "
                "cohort with slides is made by `wsisurv train-teacher --clinical FILE`."
            )
        columns = cohort_settings(
            case=case,
            time=time,
            event=event,
            event_values=event_values,
            time_unit=time_unit,
            site=site,
            covariates=covariates,
        )
        chosen = _cohort_of_reports(place, cohort, clinical, columns, drop_incomplete=drop_incomplete, redo=redo)
    else:
        chosen, _ = read_cohort(place.cohort(place.the_cohort(cohort)))
    if not reports_only and report_text is not None:
        raise SettingsError("--report-text is for --reports-only")
    named = named_covariates(chosen, covariates)
    settings = parse_settings(CrossvalSettings, {"folds": folds, "repeats": repeats, "covariates": named, "seed": seed})
    teacher, student = trained_settings(place.cohort(chosen.name))
    teacher = with_changes(teacher, encoder=encoder, text_encoder=text_encoder, text_branch=text_branch, epochs=epochs)
    student = with_changes(student, epochs=epochs)
    training: Scorer
    if reports_only:
        training = report_training(place, teacher, text_branch or "ridge", report_text)
    else:
        training = fold_training(place, teacher, student, allow_random_weights=allow_random_weights, device=device)
    with progress_bar("crossval") as progress:
        result = run(
            place,
            chosen,
            settings,
            training,
            splits=splits,
            keep_together=keep_together,
            redo=redo,
            progress=progress,
        )
    if not reports_only:  # the student's card tells how good it was where it was tested
        add_figures(place.cohort(chosen.name) / "student.h5", result.metrics)
    for line in result.warnings:
        warn(line)
    print_account(result.account, named)
    for line in result.verdict:
        out.print(line, markup=False)
    kept = f", {result.kept} of them kept" if result.kept else ""
    out.print(f"crossval: {result.n_folds} folds{kept} · {result.metrics}", markup=False)


def _cohort_of_reports(
    place: Workspace, name: str, table: Path, columns: CohortSettings, *, drop_incomplete: bool, redo: bool
) -> Cohort:
    """Make, print and save a cohort whose cases have follow-up and a report."""
    chosen, audit = build_cohort(
        name,
        read_clinical(table, columns, drop_incomplete=drop_incomplete),
        columns,
        slide_ids=(),
        report_case_ids=list(read_statements(place.statements)),
        reports_only=True,
    )
    print_audit(chosen, audit)
    save_cohort(place.cohort(name), chosen, audit, redo=redo)
    return chosen
