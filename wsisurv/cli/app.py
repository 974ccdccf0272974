"""The ``wsisurv`` command: its subcommands, and the one place where errors become messages and exit codes.

Exit codes: 0 all done; 1 anything failed; 2 wrong usage; 3 another process is at it; 130 interrupted.
"""

import inspect
import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from wsisurv.cli.ablate import ablate
from wsisurv.cli.check import check
from wsisurv.cli.console import err
from wsisurv.cli.crossval import crossval
from wsisurv.cli.demo import demo
from wsisurv.cli.distill import distill
from wsisurv.cli.embed import embed
from wsisurv.cli.encoders import encoders
from wsisurv.cli.evaluate import evaluate
from wsisurv.cli.evaluate_reports import evaluate_reports
from wsisurv.cli.export import export
from wsisurv.cli.extract_report import extract_report
from wsisurv.cli.heatmap import heatmap
from wsisurv.cli.import_features import import_features
from wsisurv.cli.interrupts import remember_interrupts
from wsisurv.cli.predict import predict
from wsisurv.cli.recorded import INTERRUPTED, Recorded
from wsisurv.cli.report import report
from wsisurv.cli.show import show
from wsisurv.cli.tile import tile
from wsisurv.cli.train_teacher import train_teacher
from wsisurv.cli.verify import verify
from wsisurv.errors import WsisurvError
from wsisurv.formats.atomic import GROUP_READABLE
from wsisurv.version import __version__

app = typer.Typer(
    name="wsisurv",
    help="From raw whole-slide images and pathology reports to survival risk scores.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wsisurv {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    group_readable: Annotated[
        bool,
        typer.Option(
            "--group-readable",
            envvar=GROUP_READABLE,
            help="Let the group read files with report text or follow-up, which are else for their owner alone.",
        ),
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Version of wsisurv: print it and leave."
        ),
    ] = False,
) -> None:
    """From raw whole-slide images and pathology reports to survival risk scores."""
    if group_readable:
        os.environ[GROUP_READABLE] = "1"


_PANELS = {
    "Start here": (demo, check),
    "Steps": (tile, embed, extract_report, train_teacher, distill, predict),
    "Checking and results": (crossval, ablate, evaluate, evaluate_reports, heatmap, report, verify),
    "Files and encoders": (encoders, export),
}


def _flowing(command: Callable[..., None]) -> str:
    """Help of a command: its docstring, a line a paragraph, which a terminal of any width breaks where it must."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(command) or "").split("\n\n"))


for panel, commands in _PANELS.items():
    for command in commands:
        app.command(cls=Recorded, rich_help_panel=panel, help=_flowing(command))(command)
app.command("import", cls=Recorded, rich_help_panel="Files and encoders", help=_flowing(import_features))(
    import_features
)
app.command(rich_help_panel="Files and encoders", help=_flowing(show))(show)


def main() -> None:
    """Run the command line; an expected error is printed in one piece, a bug keeps its traceback."""
    remember_interrupts()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of a file's name that is no text, as stderr does
    try:
        app()
    except WsisurvError as error:
        err.print(f"error: {error}", style="red")
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer turns Ctrl-C into this code and says nothing
            err.print("interrupted: what is done is kept; the same command goes on from there", style="yellow")
        raise
