"""``wsisurv distill``."""

from typing import Annotated, Literal

import typer
from rich.table import Table

from wsisurv.cli.console import number, out, progress_bar, warn
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    CohortOption,
    DeviceOption,
    MemoryOption,
    PrecisionOption,
    RedoOption,
    SeedOption,
    WorkspaceOption,
)
from wsisurv.cohort import read_cohort
from wsisurv.settings import DistillSettings, parse_settings
from wsisurv.workspace import Workspace

_DEFAULTS = DistillSettings()


def distill(
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the cohort.")] = _DEFAULTS.epochs,
    pretrain_epochs: Annotated[
        int, typer.Option(min=0, help="Passes of learning to predict the report before the outcome is seen.")
    ] = _DEFAULTS.pretrain_epochs,
    learning_rate: Annotated[float, typer.Option(help="Step of the optimiser.")] = _DEFAULTS.learning_rate,
    weight_decay: Annotated[float, typer.Option(help="Pull of the weights towards zero.")] = _DEFAULTS.weight_decay,
    dropout: Annotated[float, typer.Option(help="Share of hidden units left out a step.")] = _DEFAULTS.dropout,
    hidden: Annotated[int, typer.Option(help="Width of the hidden layer.")] = _DEFAULTS.hidden,
    tiles_per_bag: Annotated[
        int, typer.Option(min=0, help="Random tiles of a case a step; 0 takes all.")
    ] = _DEFAULTS.tiles_per_bag,
    members: Annotated[
        int, typer.Option(min=1, help="Students whose mean is the risk, each trained without one fold.")
    ] = _DEFAULTS.members,
    mixup: Annotated[
        Literal["risk", "none"], typer.Option(help="Mix bags of cases of similar risk, or don't.")
    ] = _DEFAULTS.mixup,
    seed: SeedOption = _DEFAULTS.seed,
    precision: PrecisionOption = _DEFAULTS.precision,
    device: DeviceOption = "auto",
    memory: MemoryOption = None,
    redo: RedoOption = False,
) -> None:
    """Step 5: distil a student that sees tiles alone, and the same without the teacher; the better one is handed on.

    Reads cohorts/NAME/ (cohort.csv, guidance.h5), features/ENCODER/ and reports/vectors/. Writes
    student_distilled.h5, student_plain.h5 and the better of them as student.h5 into cohorts/NAME/, and adds to its
    history.jsonl. Interrupted, the same command goes on where it was.
    """
    from wsisurv.training.distill import distill as run

    place = Workspace(workspace)
    name = place.the_cohort(cohort)
    chosen, _ = read_cohort(place.cohort(name))
    settings = parse_settings(
        DistillSettings,
        {
            "epochs": epochs,
            "pretrain_epochs": pretrain_epochs,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "dropout": dropout,
            "hidden": hidden,
            "tiles_per_bag": tiles_per_bag,
            "members": members,
            "precision": precision,
            "mixup": mixup,
            "seed": seed,
        },
    )
    with progress_bar("distill") as progress:
        result = run(place, chosen, settings, redo=redo, device=device, memory_gib=memory, progress=progress)
    for line in result.warnings:
        warn(line)
    table = Table(title=f"Student of {name}", show_header=False, title_justify="left")
    table.add_row("cases, events", f"{result.n_cases}, {result.n_events}")
    table.add_row("cases whose report guided it", f"{result.n_reports} (gate {result.gate:.2f})")
    table.add_row("concordance out of fold, within folds", number(result.distilled_concordance))
    table.add_row("… without the teacher", number(result.plain_concordance))
    interval = f" (95 % interval {number(result.difference_low, '+')} to {number(result.difference_high, '+')})"
    table.add_row("difference", number(result.difference, "+") + ("" if result.difference is None else interval))
    without = {"distilled": "the distilled one", "plain": "the plain one, without the teacher"}
    table.add_row("handed on as student.h5", without[result.winner])
    out.print(table)
    out.print(f"distill: {'kept' if result.kept else 'done'} · {place.cohort(name) / 'student.h5'}", markup=False)
