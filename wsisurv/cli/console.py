"""What a person sees while a command runs and when it ends."""

import io
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, Literal

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from wsisurv.cli.interrupts import stop_if_pressed
from wsisurv.engine.progress import Progress
from wsisurv.errors import BusyError

if TYPE_CHECKING:
    from wsisurv.workspace.ledger import Summary

_RAW = re.compile("[^\\n\\t -~\u00a0-\U0010ffff]|[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""What a terminal takes as an order, or can't show: control characters, marks that turn the direction, surrogates."""


def visible(text: str) -> str:
    """``text`` with escapes for what a terminal must not get raw; also valid within JSON."""
    return _RAW.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


class Terminal(Console):
    """A console on which names of files and words of servers are only words: no markup, no emoji, nothing raw."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(
            stderr=stderr, width=width, highlight=False, soft_wrap=width is None, markup=False, emoji=False
        )

    def render_str(self, text: str, **how: Any) -> Text:
        """A string as rich takes it; the escapes count for its width."""
        return super().render_str(visible(text), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the pieces of what is printed; rich's own orders to the terminal stay as they are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


_talk: Literal["quiet", "usual", "verbose"] = "usual"


def talk(how: Literal["quiet", "usual", "verbose"]) -> None:
    """Say how much commands tell of their progress: none and no notes, the usual, or a line for each item."""
    global _talk
    _talk = how


def verbose() -> bool:
    """Whether a person wants to know where an error came from."""
    return _talk == "verbose"


def note(line: str) -> None:
    """Print a line that is good to know, unless a person wants quiet."""
    if _talk != "quiet":
        err.print(f"note: {line}")


out = Terminal()
err = Terminal(stderr=True)


class _Rate(ProgressColumn):
    """Items a second, or a minute where that is less than one a second."""

    def render(self, task: Task) -> Text:
        """The rate as text; empty until it is known."""
        return Text(_rate(task.speed) if task.speed else "")


def _rate(a_second: float) -> str:
    return f"{a_second:.1f}/s" if a_second >= 1 else f"{60 * a_second:.1f}/min"


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar on stderr (items, rate, time spent, time left) while the block runs; gives the function that moves it.

    Where a command is several steps, the bar begins anew with each.

    On a terminal the bar is live; elsewhere (a log file) about ten plain lines are printed instead.
    """
    if _talk == "quiet":
        yield _no_progress
        return
    if _talk == "verbose" or not err.is_terminal:
        yield _lines(title)
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Bar(*columns, console=err) as bar:
        task = bar.add_task(title, total=None, what="")

        def move(done: int, total: int, what: str) -> None:
            stop_if_pressed()
            if done < bar.tasks[0].completed:
                bar.reset(task)
            bar.update(task, completed=done, total=total, what=what)

        yield move


def _no_progress(done: int, total: int, what: str) -> None:
    del done, total, what
    stop_if_pressed()


def _lines(title: str) -> Progress:
    shown, start, first = -1, time.monotonic(), 0

    def move(done: int, total: int, what: str) -> None:
        nonlocal shown, start, first
        stop_if_pressed()
        tenth = 10 * done // total if total else 10
        if tenth < shown:
            shown = -1
        if shown < 0:
            start, first = time.monotonic(), done
        if tenth > shown or _talk == "verbose":
            shown = tenth
            spent = time.monotonic() - start
            rate = (done - first) / spent if spent > 1 else 0.0  # what was done before says nothing of what is left
            left = f"{_rate(rate)}, {timedelta(seconds=round((total - done) / rate))} left" if rate else ""
            err.print(" · ".join(part for part in (f"{title}: {done}/{total}", left, what) if part))

    return move


_endings: list[tuple[str, bool]] = []
_held_warnings: list[str] | None = None


def ending(line: str, *, kept: bool = False) -> None:
    """Print the line that a command ends with.

    Args:
        line: what was done, and where it lies.
        kept: nothing was to be done: all was there already.
    """
    _endings.append((line, kept))
    out.print(line)


class _Held(io.StringIO):
    """Text that is printed later, formatted as for where it will go."""

    def __init__(self, to: IO[str]) -> None:
        super().__init__()
        self._to = to

    def isatty(self) -> bool:
        return self._to.isatty()


@contextmanager
def told_when_done() -> Iterator[None]:
    """Hold what a step prints until it ends; of one that had nothing to do, print its last line alone.

    Progress and errors are printed as they come.
    """
    global _held_warnings
    _endings.clear()
    _held_warnings = []
    real, held = sys.stdout, _Held(sys.stdout)
    sys.stdout = held
    nothing_done = False
    try:
        yield
        nothing_done = bool(_endings) and all(kept for _, kept in _endings)
    finally:
        sys.stdout, warnings, _held_warnings = real, _held_warnings, None
        if nothing_done:
            for line, _ in _endings:
                out.print(line)
        else:
            warn(*warnings)
            sys.stdout.write(held.getvalue())
        sys.stdout.flush()


def report(summary: "Summary", where: str) -> None:
    """Print what a step did: notes, failures, one line of counts."""
    for line in summary.notes:
        note(line)
    for failure in summary.failed:
        err.print(f"failed: {failure.id}: {failure.message}", style="red")
    counts = [f"{len(summary.done)} done"]
    counts += [f"{len(summary.kept)} kept"] if summary.kept else []
    counts += [f"{len(summary.elsewhere)} being done by another process"] if summary.elsewhere else []
    counts += [f"{len(summary.failed)} failed"] if summary.failed else []
    nothing_done = not (summary.done or summary.elsewhere or summary.failed)
    ending(f"{summary.step}: {', '.join(counts)} · {where}", kept=nothing_done)


def finish(*summaries: "Summary") -> None:
    """Leave with exit code 1 where anything failed, with 3 where another process is still at something.

    Raises:
        typer.Exit: something failed, or is not done yet.
    """
    if any(summary.failed for summary in summaries):
        raise typer.Exit(1)
    if count := sum(len(summary.elsewhere) for summary in summaries):
        warn(
            f"another process is at {count} of them now, so not all is done. Run the same command again when it has "
            "ended: what is done is kept."
        )
        raise typer.Exit(BusyError.exit_code)


def warn(*lines: str) -> None:
    """Print lines that deserve attention."""
    if _held_warnings is not None:
        _held_warnings.extend(lines)
        return
    for line in lines:
        err.print(f"warning: {line}", style="yellow")


def figures_table(title: str, *headings: str, caption: str | None = None) -> Table:
    """Make a table of figures: names to the left in the first column, numbers to the right in the others."""
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", overflow="ellipsis" if number else "fold")
    return table


def number(value: float | None, sign: str = "") -> str:
    """A figure for a table, three decimals; a dash where it is undefined."""
    return "–" if value is None else f"{value:{sign}.3f}"


def interval(low: float | None, high: float | None, sign: str = "") -> str:
    """An interval for a table: 0.500 to 0.700; a dash where there is none."""
    return "–" if low is None and high is None else f"{number(low, sign)} to {number(high, sign)}"


def size(n_bytes: int) -> str:
    """Bytes for a person: 1.2 GB."""
    value, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"
