"""What a person sees while a command runs and when it ends."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from wsisurv.workspace import Progress, Summary

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar on stderr (items, time spent, time left) while the block runs; gives the function that moves it.

    On a terminal the bar is live; elsewhere (a log file) about ten plain lines are printed instead.
    """
    if not err.is_terminal:
        yield _lines(title)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Bar(*columns, console=err) as bar:
        task = bar.add_task(title, total=None, what="")

        def move(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, what=what)

        yield move


def _lines(title: str) -> Progress:
    shown = -1

    def move(done: int, total: int, what: str) -> None:
        nonlocal shown
        tenth = 10 * done // total if total else 10
        if tenth > shown:
            shown = tenth
            err.print(f"{title}: {done}/{total} {what}".rstrip(), markup=False)

    return move


def report(summary: Summary, where: str) -> None:
    """Print what a step did: notes, failures, one line of counts."""
    for note in summary.notes:
        err.print(f"note: {note}", markup=False)
    for failure in summary.failed:
        err.print(f"failed: {failure.id}: {failure.message}", markup=False, style="red")
    counts = [f"{len(summary.done)} done"]
    counts += [f"{len(summary.kept)} kept"] if summary.kept else []
    counts += [f"{len(summary.elsewhere)} being done by another process"] if summary.elsewhere else []
    counts += [f"{len(summary.failed)} failed"] if summary.failed else []
    out.print(f"{summary.step}: {', '.join(counts)} · {where}", markup=False)


def finish(*summaries: Summary) -> None:
    """Leave with exit code 1 where anything failed.

    Raises:
        typer.Exit: something failed.
    """
    if any(summary.failed for summary in summaries):
        raise typer.Exit(1)


def warn(line: str) -> None:
    """Print a line that deserves attention."""
    err.print(f"warning: {line}", markup=False, style="yellow")


def number(value: float | None, sign: str = "") -> str:
    """A figure for a table, three decimals; a dash where it is undefined."""
    return "–" if value is None else f"{value:{sign}.3f}"
