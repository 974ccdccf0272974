"""``wsisurv status``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from wsisurv.cli.console import err, out
from wsisurv.cli.options import DEFAULT_WORKSPACE
from wsisurv.workspace.paths import Workspace

_CAUSES = 5
"""Of failures, that are told; all are in the JSON."""


def status(
    workspace: Annotated[
        Path, typer.Argument(envvar="WSISURV_WORKSPACE", help="Workspace to look at.", file_okay=False)
    ] = DEFAULT_WORKSPACE,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Show what of a workspace is done, stale, missing, failed or running, and which command to run next.

    Reads headers, tables and lists of failures. Writes nothing but .index.sqlite, which keeps what the headers say and
    can be deleted. Whether slides and arrays are what they were, `wsisurv verify` tells.
    """
    from wsisurv.pipeline.status import status as look

    seen = look(Workspace(workspace))
    if as_json:
        typer.echo(json.dumps(asdict(seen), indent=1))
        return
    table = _table("step", "done", "stale", "missing", "failed")
    for one in seen.steps:
        failed = ", ".join(f"{n} {kind}" for kind, n in one.failed.items())
        counts = [sum(one.stale.values()) + len(one.problems), one.missing]
        table.add_row(one.step, str(one.done), *(str(n) if n else "" for n in counts), Text(failed))
    out.print(table)
    for one in seen.steps:
        for why, n in one.stale.items():
            err.print(f"{one.step}: {n} stale, {why}")
        for problem in one.problems:
            err.print(f"{one.step}: {problem}")
        for why, n in [*one.causes.items()][:_CAUSES]:
            err.print(f"{one.step}: {n} failed, {why}")
        if one.failed:
            step = one.step.partition(" ")[0]
            more = f"{len(one.causes) - _CAUSES} more causes, and " if len(one.causes) > _CAUSES else ""
            err.print(
                f"{one.step}: {more}which failed of what is in {workspace / 'failures' / step}.jsonl; `wsisurv {step}` "
                "tries them again"
            )
    for cohort in seen.cohorts:
        out.print(f"\ncohort {cohort.name}: {cohort.cases} cases, {cohort.events} events", style="bold")
        parts = _table("step", "state")
        for part, state in cohort.parts.items():
            parts.add_row(Text(part), Text(state))
        out.print(parts)
    for process in seen.running:
        where = f" in {process.where}" if process.where else ""
        out.print(f"running: {process.what}{where}, since {process.since}")
    for leftover in seen.leftovers:
        out.print(f"left by a killed run, can be deleted: {leftover}")
    some_failed = any(one.failed for one in seen.steps)
    left = "mend what failed, and run its step again" if some_failed else "nothing, all is done"
    out.print(f"next: {seen.next_command or left}")


def _table(*heads: str) -> Table:
    table = Table()
    for head in heads:
        table.add_column(head, overflow="fold", justify="right" if head in ("done", "stale", "missing") else "left")
    return table
