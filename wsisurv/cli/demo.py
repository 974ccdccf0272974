"""``wsisurv demo``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from wsisurv.cli.console import err, out, progress_bar, warn
from wsisurv.cli.options import SeedOption

if TYPE_CHECKING:
    from wsisurv.survival.resampling import Interval


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder that everything is written to.", file_okay=False)] = Path(
        "wsisurv-demo"
    ),
    cases: Annotated[int, typer.Option(help="Number of invented patients, the held-out fifth included.")] = 200,
    seed: SeedOption = 0,
    small: Annotated[bool, typer.Option("--small", help="Draw slides of a third of the area: quicker.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that draw slides.", show_default="one a core, 4 at most")
    ] = min(4, os.cpu_count() or 1),
    draw_only: Annotated[
        bool, typer.Option("--draw-only", help="Draw slides, reports and follow-up into FOLDER/data, and stop there.")
    ] = False,
) -> None:
    """See the six steps work on a synthetic cohort, in under five minutes.

    Draws slides, reports and follow-up of invented patients, prints and runs the command of each step, and ends with
    the concordance on the cases of a hospital that was kept out of training. Run again after an interruption, it goes
    on where it was stopped.
    """
    from wsisurv.demo.run import draw, run_demo

    if draw_only:
        with progress_bar("draw slides") as progress:
            cohort = draw(folder, cases=cases, seed=seed, small=small, workers=workers, progress=progress)
        out.print(f"drawn: {len(cohort.cases)} invented cases in {cohort.folder}")
        return

    with progress_bar("draw slides") as progress:
        result = run_demo(
            folder,
            cases=cases,
            seed=seed,
            small=small,
            workers=workers,
            say=lambda line: err.print(line, style="bold"),
            progress=progress,
        )
    if result.left_out:
        warn(f"held-out cases without a risk, not in the table: {', '.join(result.left_out)}")
    table = Table(
        title=f"Concordance on {result.cases} held-out cases ({result.events} events) of the synthetic cohort",
        caption="In brackets 95 % bootstrap intervals by case; 0.5 is chance. Baseline: without the teacher.",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("model", "concordance", "student ahead by"):
        table.add_column(column, no_wrap=True)
    for row in result.rows:
        ahead = "" if row.difference is None else _interval(row.difference, "+")
        table.add_row(row.name, _interval(row.concordance), ahead)
    out.print(table)
    for name, path in (
        ("risk of each held-out case", result.risk),
        ("survival by risk group", result.survival),
        ("a slide with its tiles", result.preview),
    ):
        out.print(f"{name}: {path}")


def _interval(interval: "Interval", sign: str = "") -> str:
    return f"{interval.value:{sign}.3f} ({interval.low:{sign}.2f} to {interval.high:{sign}.2f})"
