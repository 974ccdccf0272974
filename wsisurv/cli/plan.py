"""What ``--dry-run`` shows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from wsisurv.cli.console import Terminal, err, out, size
from wsisurv.formats.atomic import write_jsonl
from wsisurv.workspace.freshness import Condition, Planned

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="List what would be done and what would fail, and write nothing.")
]
PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", help="File for the result of a dry run, as JSONL, one line a slide.", dir_okay=False),
]
_WORDS = {
    Condition.MISSING: "to do",
    Condition.DONE: "done",
    Condition.STALE: "stale",
    Condition.DAMAGED: "damaged, to do",
}
_WIDTH = 160  # of the table in a log file


def show_plan(step: str, plan: Sequence[Planned], *, redo: bool, bound: bool, jsonl: Path | None) -> None:
    """Print a plan: a line a slide, the problems, and sums over what is to be done.

    Args:
        step: its name.
        plan: what it would do.
        redo: whether stale outputs are to be made anew; if not, they would stop the run.
        bound: whether the tiles are an upper bound, tissue not having been looked at.
        jsonl: a file that gets the same, a line a slide.

    Raises:
        typer.Exit: something would fail.
        StorageError: no room or no permission for ``jsonl``.
    """
    plan = [  # a file of a newer wsisurv fails its item, --redo or not
        replace(item, problem="; ".join(item.changes))
        if item.condition is Condition.NEWER and not item.problem
        else item
        for item in plan
    ]
    if jsonl is not None:
        write_jsonl(jsonl, map(_as_json, plan), checksums=False)
    table = Table("slide", "state", box=None, header_style="bold", pad_edge=False)
    table.add_column("tiles ≤" if bound else "tiles", justify="right")
    table.add_column("space", justify="right")
    for item in plan:
        table.add_row(
            item.id,
            "would fail" if item.problem else _WORDS[item.condition] if item.condition else "–",
            "–" if item.tiles is None else str(item.tiles),
            "–" if item.bytes is None else size(item.bytes),
            style="red" if item.problem else None,
        )
    (out if out.is_terminal else Terminal(width=_WIDTH)).print(table)
    for item in plan:
        if item.problem:
            err.print(f"would fail: {item.id}: {item.problem}", style="red")
    stale = [item for item in plan if item.condition is Condition.STALE]
    if stale and not redo:
        changes = "; ".join(sorted({change for item in stale for change in item.changes}))
        err.print(
            f"would stop: {len(stale)} were made with other settings or from other inputs ({changes}). See --redo.",
        )
    ahead = [item for item in plan if not item.problem and item.condition is not Condition.DONE]
    most = "at most " if bound else ""
    out.print(
        f"{step} --dry-run: {len(ahead)} to do, {sum(item.condition is Condition.DONE for item in plan)} done, "
        f"{sum(bool(item.problem) for item in plan)} would fail · {most}{sum(item.tiles or 0 for item in ahead)} "
        f"tiles, {most}{size(sum(item.bytes or 0 for item in ahead))}; nothing was written",
    )
    if any(item.problem for item in plan) or (stale and not redo):
        raise typer.Exit(1)


def _as_json(item: Planned) -> dict[str, Any]:
    known = {"slide_id": item.id, "path": str(item.source), "state": item.condition.value if item.condition else None}
    return known | {name: getattr(item, name) for name in ("changes", "tiles", "bytes", "problem")}
