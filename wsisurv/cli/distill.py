"""``wsisurv distill``."""

from collections.abc import Sequence
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
from wsisurv.formats.models import add_figures
from wsisurv.settings.base import parse_settings
from wsisurv.settings.training import Aggregator, DistillSettings
from wsisurv.workspace.paths import Workspace

_DEFAULTS = DistillSettings()
_TOLD = "What the teacher says (nothing of it where the gate is 0)"


def distill(
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    aggregator: Annotated[
        Aggregator, typer.Option(help="From tiles to a case: their mean, gated attention, or a transformer.")
    ] = _DEFAULTS.aggregator,
    loss: Annotated[
        Literal["cox", "discrete", "ranking"],
        typer.Option(help="Of the outcome: Cox's partial likelihood, hazards in time bins, or pairs in order."),
    ] = _DEFAULTS.loss,
    bins: Annotated[int, typer.Option(min=2, help="Time bins of --loss discrete and --distill hazard-kl.")] = (
        _DEFAULTS.bins
    ),
    distill: Annotated[
        Literal["correlation", "mse", "listwise-kl", "hazard-kl", "attention-kl", "none"],
        typer.Option(
            rich_help_panel=_TOLD,
            help="What is to agree with the teacher: order of risks, risks, who is next in each risk set, hazards in "
            "time bins, attention to tiles, or nothing.",
        ),
    ] = _DEFAULTS.distill,
    pretrain_epochs: Annotated[
        int,
        typer.Option(
            min=0,
            rich_help_panel=_TOLD,
            help="Passes of learning to predict the report before the outcome is seen.",
        ),
    ] = _DEFAULTS.pretrain_epochs,
    guidance_weight: Annotated[
        float,
        typer.Option(
            rich_help_panel=_TOLD,
            help="Weight of that beside the outcome, times the gate and the share of cases with a report.",
        ),
    ] = _DEFAULTS.guidance_weight,
    feature_subspace: Annotated[
        Literal["reports", "all"],
        typer.Option(
            "--feature-subspace",
            "--tile-directions",
            rich_help_panel=_TOLD,
            help="What is seen of the tiles' features: directions along which they tell what reports say (all, where "
            "they tell too little of it), or all.",
        ),
    ] = _DEFAULTS.feature_subspace,
    mixup: Annotated[
        Literal["risk", "random", "none"],
        typer.Option(rich_help_panel=_TOLD, help="Mix bags of cases of similar risk, of any two, or none."),
    ] = _DEFAULTS.mixup,
    filter: Annotated[
        Literal["none", "soft", "hard"],
        typer.Option(
            rich_help_panel=_TOLD,
            help="Tiles that the teacher found irrelevant: as they are, turned down but still counted, or left out.",
        ),
    ] = _DEFAULTS.filter,
    keep_share: Annotated[
        float, typer.Option(rich_help_panel=_TOLD, help="Share of the tiles that --filter keeps.")
    ] = _DEFAULTS.keep_share,
    merge_duplicates: Annotated[
        bool, typer.Option("--merge-duplicates", help="Train on near-duplicate tiles as one tile of their weight.")
    ] = _DEFAULTS.merge_duplicates,
    duplicate_similarity: Annotated[
        float, typer.Option(help="Cosine similarity within a case from which tiles are duplicates.")
    ] = _DEFAULTS.duplicate_similarity,
    ema: Annotated[bool, typer.Option("--ema", help="Agree with a moving average of oneself, too.")] = _DEFAULTS.ema,
    adjust_for: Annotated[
        str,
        typer.Option(
            help="Covariates, e.g. age,stage, whose risk is fitted in training and taken as given: the student learns "
            "what tiles add. It needs tiles alone, and its risk is beyond theirs."
        ),
    ] = "",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the cohort.")] = _DEFAULTS.epochs,
    learning_rate: Annotated[float, typer.Option(help="Step of the optimiser.")] = _DEFAULTS.learning_rate,
    weight_decay: Annotated[float, typer.Option(help="Pull of the weights towards zero.")] = _DEFAULTS.weight_decay,
    dropout: Annotated[float, typer.Option(help="Share of hidden units left out a step.")] = _DEFAULTS.dropout,
    hidden: Annotated[
        int, typer.Option(help="Width of the hidden layer; twice that along directions.")
    ] = _DEFAULTS.hidden,
    tiles_per_bag: Annotated[
        int, typer.Option(min=0, help="Random tiles of a case a step, twice as many along directions; 0 takes all.")
    ] = _DEFAULTS.tiles_per_bag,
    members: Annotated[
        int, typer.Option(min=1, help="Students whose mean is the risk, each trained without one fold.")
    ] = _DEFAULTS.members,
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
            "aggregator": aggregator,
            "loss": loss,
            "bins": bins,
            "distill": distill,
            "pretrain_epochs": pretrain_epochs,
            "guidance_weight": guidance_weight,
            "feature_subspace": feature_subspace,
            "mixup": mixup,
            "filter": filter,
            "keep_share": keep_share,
            "merge_duplicates": merge_duplicates,
            "duplicate_similarity": duplicate_similarity,
            "ema": ema,
            "adjust_for": tuple(word.strip() for word in adjust_for.split(",") if word.strip()),
            "epochs": epochs,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "dropout": dropout,
            "hidden": hidden,
            "tiles_per_bag": tiles_per_bag,
            "members": members,
            "precision": precision,
            "seed": seed,
        },
    )
    with progress_bar("distill") as progress:
        result = run(place, chosen, settings, redo=redo, device=device, memory_gib=memory, progress=progress)
    folder = place.cohort(name)
    add_figures(folder / "student.h5", folder / "evaluation" / "metrics.json")
    for line in result.warnings:
        warn(line)
    table = Table(title=f"Student of {name}", show_header=False, title_justify="left")
    table.add_row("cases, events", f"{result.n_cases}, {result.n_events}")
    table.add_row("cases whose report guided it", f"{result.n_reports} (gate {result.gate:.2f})")
    if result.reports_told is not None:
        table.add_row("share of the reports that tiles tell", f"{max(result.reports_told, 0):.0%}")
        table.add_row("so what it sees of the features", _seen(result.directions))
    table.add_row("concordance out of fold, within folds", number(result.distilled_concordance))
    table.add_row("… without the teacher", number(result.plain_concordance))
    interval = f" (95 % interval {number(result.difference_low, '+')} to {number(result.difference_high, '+')})"
    table.add_row("difference", number(result.difference, "+") + ("" if result.difference is None else interval))
    without = {"distilled": "the distilled one", "plain": "the plain one, without the teacher"}
    table.add_row("handed on as student.h5", without[result.winner])
    out.print(table)
    out.print(f"distill: {'kept' if result.kept else 'done'} · {place.cohort(name) / 'student.h5'}", markup=False)


def _seen(directions: Sequence[int]) -> str:
    """What members see of the features, in words."""
    if not directions:
        return "all of them: that is too little to look for alone"
    least, most = min(directions), max(directions)
    return f"what tells the reports: {least if least == most else f'{least} to {most}'} directions"
