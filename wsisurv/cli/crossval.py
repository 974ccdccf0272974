"""``wsisurv crossval``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wsisurv.cli.clinical import ClinicalOption, DropIncomplete, MakingOptions
from wsisurv.cli.console import ending, out, progress_bar, warn
from wsisurv.cli.engine_options import EngineOptions
from wsisurv.cli.from_settings import option, settings_as_options
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    AlignmentOption,
    CohortOption,
    ExpertsOption,
    FoldOptions,
    LandmarkOption,
    WarmStartOption,
    WorkspaceOption,
)
from wsisurv.cli.results_table import print_endpoints, print_results
from wsisurv.cohort import read_cohort
from wsisurv.errors import SettingsError, SharesLeftError
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.crossval import CrossvalSettings, years_of_landmarks
from wsisurv.settings.training import TeacherSettings
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.experiments.crossval import CrossvalResult


_OF_REPORTS = "wsisurv crossval --reports-only --cohort NAME --clinical FILE --time COLUMN --event COLUMN"


@settings_as_options(
    first=(
        "cohort",
        "workspace",
        "folds",
        "repeats",
        "splits",
        "covariates",
        "epochs",
        "workers",
        "reports_only",
        "redo",
    )
)
def crossval(
    *,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    settings: CrossvalSettings,
    landmark: LandmarkOption = None,
    how: FoldOptions,
    where: EngineOptions,
    alignment: AlignmentOption = None,
    experts: ExpertsOption = None,
    warm_start: WarmStartOption = None,
    reports_only: Annotated[
        bool,
        typer.Option(
            "--reports-only", help="Cross-validate models of the reports and the covariates alone; needs no slide."
        ),
    ] = False,
    text_branch: Annotated[
        Literal["ridge", "attention"] | None,
        option(TeacherSettings, "text_branch", unset="the cohort's teacher's; ridge with --reports-only"),
    ] = None,
    report_text: Annotated[
        Path | None,
        typer.Option(help="Reports, as given to extract-report, for a model of their whole text; with --reports-only."),
    ] = None,
    clinical: ClinicalOption = None,
    columns: CohortSettings,
    drop_incomplete: DropIncomplete = False,
) -> None:
    """Cross-validate: train teacher and students anew in each fold, and compare them with the clinical covariates.

    Reads cohorts/NAME/ (cohort.csv, and the settings of teacher and student if those were trained before), features/
    and reports/. Writes splits.jsonl, crossval/ and evaluation/metrics.json into cohorts/NAME/. With --reports-only no
    slide is needed: --clinical and its columns make the cohort, and reports-only/ and
    evaluation/metrics-reports-only.json are written.
    """
    from wsisurv.experiments.crossval import crossval as with_slides
    from wsisurv.experiments.crossval import crossval_reports
    from wsisurv.experiments.endpoints import EndpointRow, endpoint_rows, write_endpoints

    place, years = Workspace(workspace), years_of_landmarks(landmark)
    if reports_only and (alignment or experts or warm_start):
        raise SettingsError(
            "--alignment, --experts and --warm-start are for students, which --reports-only trains none of"
        )
    if reports_only and where.engine != "local":
        raise SettingsError("--engine is for folds with slides: those of --reports-only take seconds")
    if not reports_only and report_text is not None:
        raise SettingsError("--report-text is for --reports-only")
    if clinical is None:
        made_by = _OF_REPORTS if reports_only else None
        several = [read_cohort(place.cohort(name))[0] for name in place.the_cohorts(cohort, made_by=made_by)]
    elif not reports_only or cohort is None:
        raise SettingsError(
            "--clinical makes a cohort of reports alone: --reports-only and --cohort NAME are needed with it. A "
            "cohort with slides is made by `wsisurv cohort NAME --clinical FILE`."
        )
    else:
        making = MakingOptions(drop_incomplete=drop_incomplete)
        made = making.make(
            place, cohort, clinical, columns, encoder=TeacherSettings().encoder, reports_only=True, redo=how.redo
        )
        several = [chosen for chosen, _ in made]
    teacher = {**how.changes(), "text_branch": text_branch}
    results: dict[str, CrossvalResult] = {}
    left: dict[str, SharesLeftError] = {}
    # with several endpoints a share looks twice: while it was at the last of them, others may have ended the first
    for chosen in several if len(several) == 1 else [*several, *several]:
        if chosen.name in results:
            continue
        try:
            with where.pool(workspace) as pool, progress_bar("crossval") as progress:
                if reports_only:
                    result = crossval_reports(
                        place,
                        chosen,
                        settings,
                        teacher=teacher,
                        text_branch=text_branch or "ridge",
                        report_text=report_text,
                        landmarks=years,
                        progress=progress,
                        **how.kept(),
                    )
                else:
                    result = with_slides(
                        place,
                        chosen,
                        settings,
                        teacher=teacher,
                        alignment=alignment,
                        experts=experts or [],
                        warm_start=warm_start,
                        landmarks=years,
                        pool=pool,
                        progress=progress,
                        **how.trained(),
                    )
        except SharesLeftError as error:
            left[chosen.name] = error
            continue
        results[chosen.name] = result
        _print(result, chosen.settings.time_unit)
    for name in sorted(left.keys() - results.keys()):
        ending(f"crossval {name}: {left[name]}")
    if len(several) > 1 and len(results) == len(several):
        rows: list[EndpointRow] = []
        for chosen in several:
            rows += endpoint_rows(chosen.name.partition("/")[2], results[chosen.name].table)
        path = place.cohort(several[0].name).parent / "evaluation" / "endpoints.csv"
        write_endpoints(path, rows)
        print_endpoints(rows, several[0].name.partition("/")[0])
        out.print(f"crossval: {len(several)} endpoints · {path}")


def _print(result: "CrossvalResult", time_unit: str) -> None:
    warn(*result.warnings)
    print_results(result.table, result.covariates, time_unit)
    for line in result.verdict:
        out.print(line)
    kept = f", {result.kept} of them kept" if result.kept else ""
    ending(f"crossval: {result.n_folds} folds{kept} · {result.metrics}", kept=result.kept == result.n_folds)
