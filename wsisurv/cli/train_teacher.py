"""``wsisurv train-teacher``."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

from wsisurv.cli.clinical import ClinicalOption, MakingOptions, print_audit
from wsisurv.cli.console import ending, number, out, progress_bar, warn
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    AllowRandomOption,
    CohortOption,
    DeviceOption,
    MemoryOption,
    RedoOption,
    WorkspaceOption,
)
from wsisurv.cohort import Cohort, read_cohort, recount_reports, write_cohort
from wsisurv.formats.statements import read_statements
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.training import TeacherSettings
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.formats.cards import TeacherResult


@settings_as_options(
    first=("cohort", "workspace", "clinical", "time", "event", "time_unit", "site", "covariates", "encoder", "redo")
)
def train_teacher(
    *,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    clinical: ClinicalOption = None,
    columns: CohortSettings,
    making: MakingOptions,
    settings: TeacherSettings,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    allow_random_weights: AllowRandomOption = False,
    redo: RedoOption = False,
) -> None:
    """Step 4: make the cohort, print its audit, and train the teacher on tiles and report statements.

    The audit lists which cases were matched with slides and reports, and what was left out and why. Without statements
    there is nothing to learn from reports, and step 5 trains the baseline student alone. Without --encoder it is the
    one that the cohort was made with.

    Reads the clinical table, features/ENCODER/, reports/statements.jsonl and reports/vectors/. Writes cohort.csv,
    audit.json, teacher.h5, guidance.h5 and history.jsonl into cohorts/NAME/, or, with --endpoint, into
    cohorts/NAME/ENDPOINT/ for each endpoint. All further steps then go through the endpoints of --cohort NAME, or do
    one of them, --cohort NAME/ENDPOINT.
    """
    place = Workspace(workspace)
    made = making.make(place, cohort, clinical, columns, encoder=settings.encoder, redo=redo)
    if clinical is None:
        made = [read_cohort(place.cohort(name)) for name in place.the_cohorts(cohort)]
        statements = read_statements(place.statements) if place.statements.exists() else None
        for name, (chosen, audit) in zip(place.the_cohorts(cohort), made, strict=True):
            now = audit if statements is None else recount_reports(chosen, audit, statements)
            if now != audit:
                write_cohort(place.cohort(name), chosen, now)
            print_audit(chosen, now)
    for chosen, audit in made if not making.audit_only else ():
        remembered = {} if "encoder" in settings.model_fields_set or not audit.encoder else {"encoder": audit.encoder}
        _train(
            place,
            chosen,
            settings.model_copy(update=remembered),
            allow_random_weights=allow_random_weights,
            redo=redo,
            device=device,
            memory_gib=memory,
        )


def _train(place: Workspace, chosen: Cohort, settings: TeacherSettings, *, redo: bool, **how: Any) -> None:
    from wsisurv.training.teacher import train_teacher as run

    with progress_bar("train-teacher") as progress:
        result = run(place, chosen, settings, redo=redo, progress=progress, **how)
    _print(result, chosen.name)
    done = "kept" if result.kept else "done"
    ending(f"train-teacher: {done} · {place.cohort(chosen.name) / 'guidance.h5'}", kept=result.kept)


def _print(result: "TeacherResult", name: str) -> None:
    warn(*result.warnings)
    table = Table(title=f"Teacher of {name}", show_header=False, title_justify="left")
    table.add_row("cases, events, with statements", f"{result.n_cases}, {result.n_events}, {result.n_reports}")
    table.add_row("out-of-fold concordance of the reports", number(result.text_concordance))
    table.add_row("… of the slides", number(result.image_concordance))
    table.add_row("… of both", number(result.fused_concordance))
    slope = f"slope {number(result.gate_slope, '+')}, standard error {number(result.gate_se)}"
    table.add_row("gate (weight that the reports get)", f"{result.gate:.2f} of 1 ({slope})")
    out.print(table)
