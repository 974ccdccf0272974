"""``wsisurv init``."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from wsisurv.cli.clinical import DropIncomplete
from wsisurv.cli.console import out, warn
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.options import DEFAULT_WORKSPACE, MAKING_A_COHORT, WorkspaceOption
from wsisurv.cli.run_text import run_text
from wsisurv.cohort.clinical import read_clinical
from wsisurv.cohort.proposal import Open, Proposal, propose
from wsisurv.errors import did_you_mean
from wsisurv.formats.atomic import write_text
from wsisurv.formats.tables import Table as ClinicalTable
from wsisurv.formats.tables import refuse, scan_table
from wsisurv.settings.base import parse_settings
from wsisurv.settings.cohort import CohortSettings

_SHOWN = 5
_COLUMNS = ("case", "time", "event", "site")
_HEAD = """Made by `wsisurv init`. `wsisurv run FILE --dry-run` lists all that would stop it.
Any option of a step's command can stand in a table of its name, e.g. [embed] encoder = "uni2-h"."""
_NO_REPORTS = """Pathology reports would guide the student where they help: reports = "reports/", and [extract-report]
model = "qwen3:8b" for the language model that reads them."""


@settings_as_options(
    first=(
        "slides",
        *MAKING_A_COHORT,
        "output",
    )
)
def init(
    *,
    slides: Annotated[list[Path], typer.Argument(help="Slide files, or folders of them.")],
    clinical: Annotated[Path, typer.Option(help="Clinical table with follow-up.", dir_okay=False, show_default=False)],
    reports: Annotated[Path | None, typer.Option(help="Reports, as extract-report takes them.")] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    cohort: Annotated[str, typer.Option(help="Name of the cohort.")] = "study",
    columns: CohortSettings,
    drop_incomplete: DropIncomplete = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.", dir_okay=False)] = Path("run.toml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Look at slides and clinical table, propose what its columns mean, and write a file for `run`.

    Reads the names of the slides and the table. Shows how five of its rows are read. Where a column could be one of
    several, it asks, or, without a terminal, lists them and stops: say the right one by its option. Writes the file,
    with comments, and nothing else.
    """
    from wsisurv.slides.find import find_slides

    if output.exists() and not force:
        raise typer.BadParameter(f"{output} is there already: --force writes over it.", param_hint="--output")
    table = scan_table(clinical)
    refuse(clinical, table.problems)
    given = {name: _plain(getattr(columns, name)) for name in sorted(columns.model_fields_set)}
    _require_columns(table, given)
    slide_ids = [str(one) for one in find_slides(slides)]
    proposal = _settled(table, slide_ids, given)
    settings = parse_settings(CohortSettings, proposal.settings)
    read = read_clinical(clinical, settings, drop_incomplete=drop_incomplete)
    warn(*read.warnings)
    cases = {str(case.case_id): case for case in read.cases}
    for name, value in proposal.settings.items():
        out.print(f"{name}: {', '.join(value) if isinstance(value, list) else value} ({proposal.why[name]})")
    out.print(_reading(table, settings, cases))
    said: dict[str, Any] = {
        "version": 1,
        "slides": [_from(output, one) for one in slides],
        "clinical": _from(output, clinical),
        **({"reports": _from(output, reports)} if reports else {}),
        "workspace": _from(output, workspace),
        "cohort": {"name": cohort, **proposal.settings, **({"drop_incomplete": True} if drop_incomplete else {})},
    }
    comments = {"version": _HEAD, **{f"cohort.{name}": f"{why}" for name, why in proposal.why.items()}}
    comments |= {} if reports else {"workspace": _NO_REPORTS}
    write_text(output, run_text(said, comments))
    out.print(f"init: {len(slide_ids)} slides, {len(cases)} cases · {output}; next: wsisurv run {output} --dry-run")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _require_columns(table: ClinicalTable, given: Mapping[str, Any]) -> None:
    names = [given[name] for name in (*_COLUMNS, "competing", "entry") if given.get(name)]
    refuse(table.path, table.lacking([*names, *given.get("covariates", ())], "Name one of these."))


def _settled(table: ClinicalTable, slide_ids: Sequence[str], given: dict[str, Any]) -> Proposal:
    """The proposal once nothing is open.

    Raises:
        typer.BadParameter: something is, and there is nobody to ask.
    """
    proposal = propose(table, slide_ids, given)
    while proposal.open:
        if not sys.stdin.isatty():
            listed = " ".join(f"({n}) {_asked(one)}" for n, one in enumerate(proposal.open, 1))
            hints = ", ".join("--" + one.setting.replace("_", "-") for one in proposal.open)
            raise typer.BadParameter(f"{table.path}: not clear from the table: {listed} Say it with {hints}.")
        first = proposal.open[0]
        given = {**given, first.setting: _ask(first, table)}
        proposal = propose(table, slide_ids, given)
    return proposal


def _asked(one: Open) -> str:
    return f"{one.question} {' or '.join(one.choices)}".strip() + ("" if not one.choices else "?")


def _ask(one: Open, table: ClinicalTable) -> Any:
    """An answer that can be."""
    while True:
        answer = str(typer.prompt(_asked(one))).strip()
        if one.setting == "event_values":
            return [word.strip() for word in answer.split(",")]
        known = one.choices if one.setting == "time_unit" and one.choices else table.columns
        known = ("days", "weeks", "months", "years") if one.setting == "time_unit" else known
        if answer in known:
            return answer
        out.print(f"no {answer!r}{did_you_mean(answer, known) or f'; there are {chr(44).join(known)}'}")


def _reading(table: ClinicalTable, settings: CohortSettings, cases: Mapping[str, Any]) -> Table:
    """How the first rows are read: what stands in the table, and what is taken of it."""
    shown = Table(title="How the first rows are read", title_justify="left")
    for head in ("case", f"{settings.time}, {settings.time_unit}", settings.event, *filter(None, [settings.site])):
        shown.add_column(Text(head), overflow="fold")
    for name in settings.covariates:
        shown.add_column(Text(name), overflow="fold")
    for row in table.rows[:_SHOWN]:
        case = cases.get(row[settings.case])
        if case is None:
            shown.add_row(Text(row[settings.case]), Text("left out"))
            continue
        what = "event" if case.event else "competing event" if case.competing else "censored"
        words = [str(case.case_id), f"{case.time:g}", f"{row[settings.event]} → {what}"]
        words += [case.site or "unknown"] if settings.site else []
        shown.add_row(*map(Text, [*words, *(case.covariates[name] or "unknown" for name in settings.covariates)]))
    return shown


def _from(file: Path, path: Path) -> str:
    """A path as a file says it: relative to its folder where it lies within, else whole."""
    folder = Path(os.path.abspath(file)).parent
    whole = Path(os.path.abspath(path))
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)
