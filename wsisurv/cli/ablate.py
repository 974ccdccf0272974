"""``wsisurv ablate``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from wsisurv.cli.console import ending, figures_table, interval, number, out, progress_bar, warn
from wsisurv.cli.engine_options import EngineOptions
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import DEFAULT_WORKSPACE, CohortOption, FoldOptions, WorkspaceOption
from wsisurv.cohort import read_cohort
from wsisurv.errors import SharesLeftError
from wsisurv.experiments.switches import SWITCHES
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.experiments.side_by_side import Difference

_WORDS = {"better": "better", "worse": "worse", "nothing": "no difference", "undecided": "undecided"}


@settings_as_options(
    first=(
        "cohort",
        "workspace",
        "switch",
        "folds",
        "repeats",
        "splits",
        "covariates",
        "epochs",
        "workers",
        "redo",
    )
)
def ablate(
    *,
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    switch: Annotated[
        list[str] | None,
        typer.Option(
            help="Setting to change, NAME=VALUE, of the student or of the teacher (teacher.NAME=VALUE where both have "
            "it). Can be given several times.",
            show_default="every switch of the method: " + ", ".join(SWITCHES),
        ),
    ] = None,
    settings: CrossvalSettings,
    how: FoldOptions,
    where: EngineOptions,
) -> None:
    """Ablation: change one setting at a time, and compare the selected student with the default's on the same folds.

    Reads what `crossval` reads, and uses its finished folds. Writes crossval/, ablation/ and evaluation/ablation.json
    into cohorts/NAME/.
    """
    from wsisurv.experiments.ablation import ablate as run

    place = Workspace(workspace)
    chosen, _ = read_cohort(place.cohort(place.the_cohort(cohort)))
    try:
        with where.pool(workspace) as pool, progress_bar("ablate") as progress:
            result = run(
                place,
                chosen,
                settings,
                switches=switch or None,
                teacher=how.changes(),
                pool=pool,
                progress=progress,
                **how.trained(),
            )
    except SharesLeftError as left:
        ending(f"ablate: {left}")
        return
    warn(*result.warnings)
    title = "One setting changed at a time, on the same folds"
    table = figures_table(title, "setting", "concordance", "difference", "95 % interval", "finding")
    default, *others = result.models
    table.add_row(default.model, number(default.concordance))
    for row, pair, judged in zip(others, result.differences, result.judgements, strict=True):
        table.add_row(
            row.model,
            number(row.concordance),
            number(pair.value, "+"),
            interval(pair.low, pair.high, "+"),
            _WORDS[judged.value],
        )
    out.print(table)
    if result.gains is not None:
        out.print(_gains(result.gains))
    out.print(f"ablate: {len(others)} switches · {result.path}")


def _gains(gains: Sequence["Difference"]) -> Table:
    title = "What reports add: distilled student − baseline student, with the same settings"
    table = figures_table(title, "setting", "difference", "95 % interval")
    for gain in gains:
        table.add_row(gain.model, number(gain.value, "+"), interval(gain.low, gain.high, "+"))
    return table
