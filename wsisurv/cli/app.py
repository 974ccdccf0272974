"""The ``wsisurv`` command: its subcommands, and the one place where errors become messages and exit codes.

Exit codes: 0 all done; 1 anything failed; 2 wrong usage; 3 another process is at it; 130 interrupted.
"""

import inspect
import io
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from copy import copy
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from wsisurv.cli.interrupts import INTERRUPTED, pressed, remember_interrupts
from wsisurv.errors import WsisurvError
from wsisurv.formats.atomic import GROUP_READABLE
from wsisurv.version import __version__

PANELS: Mapping[str, Mapping[str, str]] = {
    "Start here": {
        "demo": "See the six steps work on a synthetic cohort, in under five minutes.",
        "doctor": "Look whether this machine has what the steps need, and say what to do where it has not.",
        "init": "Look at slides and clinical table, propose what its columns mean, and write a file for `run`.",
        "run": "Run all steps, from slides and a follow-up table to risks and a page, by one command.",
        "check": "Before step 1: list what each slide is, and on which `tile` would fail.",
    },
    "Steps": {
        "tile": "Step 1: find the tissue of each slide and lay a grid of tiles over it.",
        "embed": "Step 2: turn every tile into features with an encoder.",
        "extract-report": "Step 3: extract from each report the findings that a slide can show, each proved by a "
        "verbatim quote.",
        "cohort": "Match a clinical table with slides and reports, print the audit, and train nothing.",
        "train-teacher": "Step 4: make the cohort, print its audit, and train the teacher on tiles and report "
        "statements.",
        "distill": "Step 5: train a student on tiles alone with the teacher, and a baseline without; select the "
        "better.",
        "predict": "Step 6: predict the risk of each case, from slides alone.",
    },
    "Checking and results": {
        "crossval": "Cross-validate: train teacher and students anew in each fold, and compare them with the clinical "
        "covariates.",
        "ablate": "Ablation: change one setting at a time, and compare the selected student with the default's on the "
        "same folds.",
        "evaluate": "External validation: judge a student on another cohort, with cut-offs and calibration as fixed in "
        "its training.",
        "evaluate-reports": "Score extracted statements, and make a page that shows each report with its statements "
        "marked in place.",
        "findings": "Learn from slides what reports state (grade, invaded vessels, necrosis …), and say which of it "
        "can be told.",
        "heatmap": "Draw which tiles raised and which lowered the risk of a case.",
        "report": "Make one HTML page of a cohort: audit, figures, tables, heatmaps, and how all of it was made.",
        "status": "Show what of a workspace is done, stale, missing, failed or running, and which command to run next.",
        "view": "Look at slides, what each tile did, and what is known of the case, in a browser.",
        "verify": "Check every file of a workspace against its checksums, its name, and the files it was made from.",
    },
    "On a cluster": {
        "submit": "Send a step to SLURM as a job array, whose tasks have a share of the work each.",
    },
    "Files and encoders": {
        "align": "Learn across cohorts what tiles tell about reports, without any outcome, for distill --alignment.",
        "encoders": "List the encoders of `embed`: tiles, features, licence, and whether the weights are here.",
        "export": "Write tiles or features in the layout of another tool.",
        "import": "Import tiles or features that another tool made, instead of running tile and embed.",
        "pool": "Make one row of each slide's tiles by an encoder of whole slides.",
        "show": "Print what is in a file: the model card of a student, or the settings and shapes of any other file.",
    },
}
"""Commands by panel of the help, each with the first paragraph of its own help: a list that is printed without them."""
_MODULES = {"import": "import_features"}
"""Modules that are not called as their command."""


class Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for: one takes up to half a second."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            panel = next((panel for panel, names in PANELS.items() if name in names), None)
            if panel is None:
                raise KeyError(name)
            self._made[name] = _make(name, panel)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return (name for names in PANELS.values() for name in names)

    def __len__(self) -> int:
        return sum(map(len, PANELS.values()))


def _make(name: str, panel: str) -> Any:
    """The command itself; its help is its docstring, a line a paragraph, which a terminal breaks where it must."""
    called = _MODULES.get(name, name.replace("-", "_"))
    function = getattr(import_module(f"wsisurv.cli.{called}"), called)
    text = "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(function) or "").split("\n\n"))
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name, cls=_kind(name), rich_help_panel=panel, help=text)(function)
    return get_command(single)


def _kind(name: str) -> type[TyperCommand]:
    if name == "submit":
        from wsisurv.cli.submit import Submit

        return Submit
    if name in ("doctor", "init", "run", "show", "status", "view"):  # run notes its steps; the others make nothing
        return TyperCommand
    from wsisurv.cli.recorded import Recorded

    return Recorded


class Root(TyperGroup):
    """``wsisurv`` itself: knows its commands by name, and lists them without importing any."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{**how, "commands": Commands()})

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands; what each is, nobody needs to know here."""
        del ctx
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with the commands as the table here names them."""
        listed = copy(self)
        listed.commands = {
            name: TyperCommand(name, help=text, rich_help_panel=panel)
            for panel, names in PANELS.items()
            for name, text in names.items()
        }
        super(Root, listed).format_help(ctx, formatter)


app = typer.Typer(
    name="wsisurv",
    cls=Root,
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
    _quiet: Annotated[
        bool, typer.Option("--quiet", help="Print no progress and no notes; can stand anywhere on the line.")
    ] = False,
    _verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            help="Print a line for each item, and where an error came from; can stand anywhere on the line. NO_COLOR=1 "
            "in the environment takes out the colours.",
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


def _take_out_talk() -> None:
    """Take --quiet and --verbose off the command line, wherever they stand: they are no part of what is done."""
    words = sys.argv[1:]
    options = words[: words.index("--")] if "--" in words else words
    wanted = [one for one in options if one in ("--quiet", "--verbose")]
    if wanted:
        sys.argv[1:] = [one for one in options if one not in wanted] + words[len(options) :]
    if wanted or "wsisurv.cli.console" in sys.modules:
        from wsisurv.cli.console import talk

        talk("quiet" if "--quiet" in wanted else "verbose" if wanted else "usual")


def main() -> None:
    """Run the command line; an expected error is printed in one piece, a bug keeps its traceback."""
    remember_interrupts()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of a file's name that is no text, as stderr does
    _take_out_talk()
    try:
        try:
            app()
        except WsisurvError as error:
            if pressed():  # a signal to the whole job ends its processes too, and that is no error of theirs
                raise SystemExit(INTERRUPTED) from error
            raise
    except WsisurvError as error:
        from wsisurv.cli.console import err, verbose

        err.print(f"error: {error}", style="red")
        if verbose():
            err.print("".join(traceback.format_exception(error)))
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer turns Ctrl-C into this code and says nothing
            from wsisurv.cli.console import err

            err.print("interrupted: what is done is kept; the same command goes on from there", style="yellow")
        raise
