"""``wsisurv distill``."""

from collections.abc import Sequence

from rich.table import Table

from wsisurv.cli.console import ending, interval, number, out, progress_bar, warn
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    AlignmentOption,
    CohortOption,
    DeviceOption,
    ExpertsOption,
    MemoryOption,
    RedoOption,
    WarmStartOption,
    WorkspaceOption,
)
from wsisurv.cohort import read_cohort
from wsisurv.formats.cards import DistillResult
from wsisurv.settings.training import DistillSettings
from wsisurv.workspace.paths import Workspace


@settings_as_options(
    first=("cohort", "workspace", "aggregator", "loss", "distill", "adjust_for", "epochs", "members", "seed", "redo")
)
def distill(
    *,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    settings: DistillSettings,
    alignment: AlignmentOption = None,
    experts: ExpertsOption = None,
    warm_start: WarmStartOption = None,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    redo: RedoOption = False,
) -> None:
    """Step 5: train a student on tiles alone with the teacher, and a baseline without; select the better.

    Reads cohorts/NAME/ (cohort.csv, guidance.h5), features/ENCODER/ and reports/vectors/. Writes
    student_distilled.h5, student_plain.h5 (the baseline) and the better of them as student.h5 into cohorts/NAME/, and
    adds to its history.jsonl. Run again after an interruption, it goes on where it was stopped.
    """
    from wsisurv.training.alignment import open_alignment
    from wsisurv.training.distill import distill as run
    from wsisurv.training.experts import open_transfer

    transfer = open_transfer(experts or [], warm_start)
    aligned = None if alignment is None else open_alignment(alignment)
    place = Workspace(workspace)
    for name in place.the_cohorts(cohort, having="guidance.h5"):
        chosen, _ = read_cohort(place.cohort(name))
        with progress_bar("distill") as progress:
            result = run(
                place,
                chosen,
                settings,
                alignment=aligned,
                transfer=transfer,
                redo=redo,
                device=device,
                memory_gib=memory,
                progress=progress,
            )
        _print(result, name)
        done = "kept" if result.kept else "done"
        ending(f"distill: {done} · {place.cohort(name) / 'student.h5'}", kept=result.kept)


def _print(result: DistillResult, name: str) -> None:
    warn(*result.warnings)
    table = Table(title=f"Student of {name}", show_header=False, title_justify="left")
    table.add_row("cases, events", f"{result.n_cases}, {result.n_events}")
    table.add_row("cases whose report guided it", f"{result.n_reports} (gate {result.gate:.2f})")
    if result.reports_told is not None:
        table.add_row("variance of the reports explained by tiles (out-of-fold R²)", number(result.reports_told))
        table.add_row("feature subspace", _subspace(result.directions))
    within = " and within hospital" if result.within == "hospital" else ""
    table.add_row(f"concordance of the distilled student, out of fold{within}", number(result.distilled_concordance))
    table.add_row("concordance of the baseline student (no teacher)", number(result.plain_concordance))
    between = f" (95 % interval {interval(result.difference_low, result.difference_high, '+')})"
    table.add_row("difference", number(result.difference, "+") + ("" if result.difference is None else between))
    for expert in result.experts:
        table.add_row(
            f"weight of the expert of {expert.name} (likelihood gained {expert.gained:+.1f})", number(expert.weight)
        )
    names = {"distilled": "distilled student", "plain": "baseline student"}
    table.add_row("selected as student.h5", names[result.winner])
    table.add_row("concordance of the selected student", _of_the_selected(result))
    out.print(table)


def _of_the_selected(result: DistillResult) -> str:
    """Its concordance where each fold selected anew; else the one it was selected by, and that this is too high."""
    nested = result.nested
    if nested is not None:
        between = f"95 % interval {interval(nested.low, nested.high)}"
        return f"{number(nested.concordance)} ({between}; cross-validated, selected anew in each fold)"
    return (
        f"{number(result.concordance)}, a little too high: it was selected by this figure. `wsisurv crossval` gives "
        "one that is not"
    )


def _subspace(directions: Sequence[int]) -> str:
    """Dimensions of the subspaces that the members see."""
    if not directions:
        return "not used: tiles explain too little of the reports"
    least, most = min(directions), max(directions)
    return f"{least if least == most else f'{least} to {most}'} dimensions"
