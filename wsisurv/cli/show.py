"""``wsisurv show``."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from wsisurv.cli.console import out, warn


def show(
    file: Annotated[Path, typer.Argument(help="A student, or any other file of a workspace.", show_default=False)],
    html: Annotated[Path | None, typer.Option("--html", help="HTML page to write.", dir_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Print what is in a file: the model card of a student, or the settings and shapes of any other file.

    Reads one file. Runs nothing that is in it, and follows no link out of it. Writes nothing but the page that --html
    asks for.
    """
    from wsisurv.pages.file_card import file_card, write_card

    card = file_card(file)
    if html is not None:
        write_card(html, card)
    if as_json:
        typer.echo(json.dumps(card.record, indent=1, allow_nan=False))
        return
    out.print(card.title, style="bold")
    for part in card.parts:
        out.print(f"\n{part.title}", style="bold")
        for line in part.words:
            out.print(line)
        if part.facts:
            _print(["", ""], part.facts.items(), heads=False)
        if part.head:
            _print(part.head, part.rows, heads=True, faded=part.faded)
    warn(*card.warnings)
    if html is not None:
        out.print(f"show: {html}")


def _print(head: Sequence[str], rows: Iterable[Sequence[str]], *, heads: bool, faded: Sequence[int] = ()) -> None:
    table = Table(show_header=heads)
    for number, name in enumerate(head):
        table.add_column(Text(name), overflow="fold", style="dim" if number in faded else None)
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
