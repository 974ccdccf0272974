"""``wsisurv doctor``."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from wsisurv.cli.console import out
from wsisurv.cli.options import DEFAULT_WORKSPACE, WorkspaceOption

_COLOURS = {"good": "green", "warning": "yellow", "fault": "red"}


def doctor(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    encoder: Annotated[str, typer.Option(help="Encoder whose weights are looked for.")] = "histomics",
    model: Annotated[
        str | None,
        typer.Option(help="Model that the Ollama server should have.", show_default="none: it may have any"),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address of the Ollama server.", show_default="$OLLAMA_HOST or 127.0.0.1:11434")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Look whether this machine has what the steps need, and say what to do where it has not.

    Reads versions of the libraries, weights, the Ollama server, storage, GPU, processors and memory. Writes nothing
    that stays. Ends with exit code 1 where there is a fault.
    """
    from wsisurv.pipeline.doctor import doctor as look

    seen = look(workspace, encoder=encoder, host=host, model=model)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in seen], indent=1))
    else:
        table = Table(show_header=False, box=None, pad_edge=False)
        for _ in range(3):
            table.add_column(overflow="fold")
        for one in seen:
            said = f"{one.said}: {one.way_out}" if one.way_out else one.said
            table.add_row(Text(one.state, style=_COLOURS[one.state]), Text(one.what), Text(said))
        out.print(table)
        counts = [f"{sum(one.state == state for one in seen)} {state}" for state in _COLOURS]
        out.print(f"doctor: {', '.join(counts)}")
    if any(one.state == "fault" for one in seen):
        raise typer.Exit(1)
