"""``wsisurv findings``."""

from rich.table import Table

from wsisurv.cli.console import interval, number, out, progress_bar, warn
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    AllowRandomOption,
    CohortOption,
    MemoryOption,
    RedoOption,
    WorkspaceOption,
)
from wsisurv.cohort import read_cohort
from wsisurv.formats.finding_cards import FindingsResult
from wsisurv.settings.findings import FindingsSettings
from wsisurv.workspace.paths import Workspace


@settings_as_options(first=("cohort", "workspace", "encoder", "pooling", "fewest", "redo"))
def findings(
    *,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    settings: FindingsSettings,
    memory: MemoryOption = None,
    allow_random_weights: AllowRandomOption = False,
    redo: RedoOption = False,
) -> None:
    """Learn from slides what reports state (grade, invaded vessels, necrosis …), and say which of it can be told.

    Reads cohorts/NAME/cohort.csv, features/ENCODER/ and reports/statements.jsonl. Writes into cohorts/NAME/
    findings.h5, a calibrated logistic model (a head) of each finding that can be told, and evaluation/findings.json and
    .csv with the figures of all findings. Where hospitals are known, figures are of pairs of cases of one hospital that
    was not seen.
    """
    from wsisurv.training.findings import learn_findings as run

    place = Workspace(workspace)
    for name in place.the_cohorts(cohort):
        chosen, _ = read_cohort(place.cohort(name))
        with progress_bar("findings") as progress:
            result = run(
                place,
                chosen,
                settings,
                allow_random_weights=allow_random_weights,
                memory_gib=memory,
                redo=redo,
                progress=progress,
            )
        _print(result, name)
        out.print(f"findings: {'kept' if result.kept else 'done'} · {place.cohort(name) / 'findings.h5'}")


def _print(result: FindingsResult, name: str) -> None:
    warn(*result.warnings)
    title = f"Findings of {name} that tiles tell: {len(result.told)} of {len(result.findings)}"
    table = Table(title=title, title_justify="left")
    clinic = ", ".join(result.covariates)
    for heading in ("finding", "with", "without", "not stated", "AUC, out of fold", "slope"):
        table.add_column(heading, justify="left" if heading == "finding" else "right")
    if clinic:
        table.add_column(f"AUC of {clinic}", justify="right")
    for row in sorted(result.told, key=lambda row: -(row.auc or 0)):
        auc = f"{number(row.auc)} ({interval(row.low, row.high)})"
        cells = [row.name, str(row.present), str(row.absent), str(row.not_stated), auc, number(row.calibration_slope)]
        table.add_row(*cells, *([number(row.covariates_auc)] if clinic else []))
    if result.told:
        out.print(table)
        out.print(f"AUC out of fold, of pairs of one hospital where hospitals are known; {result.interval}")
    for row in result.findings:
        if not row.told:
            out.print(f"not told: {row.name}: {row.why_not}", markup=False)
