"""``wsisurv run``."""

import os
import shlex
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from wsisurv.cli.console import err, out, told_when_done, warn
from wsisurv.cli.from_settings import settings_as_options
from wsisurv.cli.interrupts import INTERRUPTED
from wsisurv.cli.options import DEFAULT_WORKSPACE, MAKING_A_COHORT, RedoOption
from wsisurv.cli.recorded import without_secrets
from wsisurv.cli.run_file import STEPS, RunFile, UnusableFileError, parse_run, read_toml
from wsisurv.cli.run_steps import Step, find_blockers, steps_of
from wsisurv.cli.run_text import run_text
from wsisurv.cli.step_options import command_of, options_of
from wsisurv.errors import WsisurvError, did_you_mean
from wsisurv.formats.atomic import explain_storage, write_text
from wsisurv.settings.base import changes_between
from wsisurv.settings.cohort import CohortSettings
from wsisurv.workspace.paths import Workspace

_LOG = "run.log"


@settings_as_options(
    first=(
        "source",
        *MAKING_A_COHORT,
        "until",
        "dry_run",
        "redo",
    )
)
def run(
    *,
    source: Annotated[
        list[Path],
        typer.Argument(help="A run.toml, which says all; or slides, files or folders, together with --clinical."),
    ],
    clinical: Annotated[Path | None, typer.Option(help="Clinical table with follow-up.", dir_okay=False)] = None,
    reports: Annotated[
        Path | None, typer.Option(help="Reports, as extract-report takes them.", show_default="none: slides alone")
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", "-w", help="Folder for all files.", file_okay=False, show_default="./workspace"),
    ] = None,
    cohort: Annotated[list[str] | None, typer.Option(help="Name of the cohort.", show_default="study")] = None,
    columns: CohortSettings,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="STEP.NAME=VALUE",
            help="Any other setting of a step, e.g. --set embed.encoder=uni2-h; can be given more than once.",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STEP", help="Last step to run.", show_default="report")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List all that would stop any of the steps, and run nothing.")
    ] = False,
    redo: RedoOption = False,
) -> None:
    """Run all steps, from slides and a follow-up table to risks and a page, by one command.

    Reads slides and clinical table, and reports where there are any: without, the student learns from slides and
    follow-up alone. Runs check, the cohort's audit, tile, embed, extract-report, train-teacher, distill, crossval,
    predict and report, each as its own command does. Writes into the workspace what these write, run.log (what was run,
    when, and how it ended) and, where no run.toml is given, the run.toml that says the same. Run again, it goes on
    where it stopped. A slide or report that fails stops nothing; the exit code is then 1.
    """
    if until is not None and until not in STEPS:
        near = did_you_mean(until, STEPS)
        raise typer.BadParameter(f"no step {until!r}{near or '; there are ' + ', '.join(STEPS)}", param_hint="--until")
    given = {"clinical": clinical, "reports": reports, "workspace": workspace, "cohort": cohort, "set": also}
    flags = [f"--{name}" for name, value in given.items() if value] + [
        "--" + name.replace("_", "-") for name in columns.model_fields_set
    ]
    home = os.environ.get("WSISURV_WORKSPACE") or str(DEFAULT_WORKSPACE)
    written = None
    if any(one.suffix.lower() == ".toml" for one in source):
        if len(source) > 1 or flags:
            what = "two cohorts need two runs" if len(source) > 1 else f"leave out {', '.join(flags)}"
            raise typer.BadParameter(f"a run.toml says all of one run: {what}.", param_hint="SOURCE")
        file = parse_run(source[0], read_toml(source[0]), home)
    else:
        written = Path(workspace or home) / "run.toml"
        said = _said(source, clinical, reports, workspace or Path(home), cohort, columns, also or ())
        file = parse_run(written, said, home)
        _refuse_other(written, said)
    steps = steps_of(file, redo=redo)
    steps = steps[: 1 + next((n for n, one in enumerate(steps) if one.name == until), len(steps))] if until else steps
    _refuse_blocked(file, steps, redo=redo, dry_run=dry_run)
    if dry_run:
        return
    if written is not None and not written.exists():
        write_text(written, run_text(said))
    _run(file, steps, written or source[0])


def _said(
    source: Sequence[Path],
    clinical: Path | None,
    reports: Path | None,
    workspace: Path,
    cohort: Sequence[str] | None,
    columns: CohortSettings,
    also: Sequence[str],
) -> dict[str, Any]:
    """What options say, as a run.toml in the workspace says it."""
    if clinical is None:
        named = ", ".join(map(str, source))
        raise typer.BadParameter(f"{named}: no run.toml; with slides, --clinical FILE is needed.", param_hint="SOURCE")
    said: dict[str, Any] = {
        "version": 1,
        "slides": [str(one.absolute()) for one in source],
        "clinical": str(clinical.absolute()),
        **({"reports": str(reports.absolute())} if reports else {}),
        "workspace": str(workspace.absolute()),
    }
    names: Any = list(cohort or ["study"])
    in_cohort = {
        name: _plain(getattr(columns, name)) for name in CohortSettings.model_fields if name in columns.model_fields_set
    }
    said["cohort"] = {"name": names if len(names) > 1 else names[0], **in_cohort}
    for one in also:
        name, equals, value = one.partition("=")
        table, dot, key = name.strip().partition(".")
        if not equals or not dot:
            raise typer.BadParameter(
                f"{one!r}: STEP.NAME=VALUE is needed, e.g. embed.encoder=uni2-h", param_hint="--set"
            )
        option = options_of(step).get(key.replace("-", "_")) if (step := table.replace("_", "-")) in STEPS else None
        path = option is not None and option.kind is Path  # relative to where it is typed, not to the file
        said.setdefault(table, {})[key] = str(Path(value.strip()).absolute()) if path else _value(value.strip())
    return said


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _value(text: str) -> Any:
    """A value as TOML reads it; what is none is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_other(path: Path, said: Mapping[str, Any]) -> None:
    """Stop where another run.toml lies in the workspace: somebody may have written it by hand."""
    if path.exists() and (changes := changes_between(read_toml(path), said)):
        raise UnusableFileError(
            path,
            [
                f"it says otherwise than these options ({'; '.join(changes)}). Run it with `wsisurv run {path}`, "
                "delete it, or name another --workspace"
            ],
        )


def _refuse_blocked(file: RunFile, steps: Sequence[Step], *, redo: bool, dry_run: bool) -> None:
    """Say all that would stop a step; of slides, a dry run alone looks at the headers, which the run does itself.

    Raises:
        typer.Exit: something would.
    """
    blockers, problems = find_blockers(file, steps, redo=redo, slides=dry_run)
    for line in blockers.notes[:20]:
        err.print(f"note: {line}")
    if len(blockers.notes) > 20:
        err.print(f"note: and {len(blockers.notes) - 20} more slides would fail")
    for line in problems:
        err.print(f"would stop: {line}", style="red")
    if dry_run:
        for step in steps:
            for words in step.commands:
                out.print(f"$ wsisurv {shlex.join(words)}")
        out.print(f"run --dry-run: steps {len(steps)}, blockers {len(problems)}; nothing was run")
    elif problems:
        out.print(f"run: nothing was run; blockers {len(problems)}")
    if problems:
        raise typer.Exit(1)


def _run(file: RunFile, steps: Sequence[Step], said_by: Path) -> None:
    """Run the commands of the steps one after the other.

    Raises:
        typer.Exit: one failed, was interrupted, or left items undone.
    """
    place = Workspace(Path(file.workspace))
    failed: list[str] = []
    again = f"`wsisurv run {said_by}` goes on from there"
    for step in steps:
        for words in step.commands:
            err.print(f"$ wsisurv {shlex.join(words)}", style="bold")
            code, whole = _do(place, step.name, words)
            if code == 1 and whole and step.goes_on:
                failed.append(step.name)
            elif code:
                out.print(f"run: stopped at {step.name}; what is done is kept, and {again}")
                raise typer.Exit(code)
    name = file.cohort
    pages = [
        place.cohort(one) / "evaluation" / "index.html" for one in place.cohorts() if one.partition("/")[0] == name
    ]
    where = "".join(f" · {page}" for page in pages if steps[-1].name == "report" and page.exists())
    if failed:
        out.print(f"run: {len(steps)} steps; something failed in {', '.join(dict.fromkeys(failed))}, see above{where}")
        raise typer.Exit(1)
    out.print(f"run: {len(steps)} steps done{where}")


def _do(place: Workspace, step: str, words: Sequence[str]) -> tuple[int, bool]:
    """Run one command in this process, as if it had been typed, and note it in run.log.

    Returns:
        Its exit code, and whether it went through all its items.
    """
    typed = " ".join(["wsisurv", shlex.join(without_secrets(words))])
    began, argv = time.monotonic(), sys.argv
    _log(place, step, "begun", None, typed)
    code, whole, outcome = 1, False, ""
    try:
        sys.argv = ["wsisurv", *words]
        with told_when_done():
            ended = command_of(words[0]).main(list(words[1:]), prog_name=f"wsisurv {words[0]}", standalone_mode=False)
        code, whole = ended if isinstance(ended, int) else 0, True
        outcome = {0: "done", 1: "done, but something failed", INTERRUPTED: "interrupted"}.get(
            code, f"ended with {code}"
        )
    except WsisurvError as error:
        err.print(f"error: {error}", style="red")
        code, outcome = error.exit_code, f"failed: {error}"
    except BaseException as error:
        outcome = f"failed: {type(error).__name__}"
        raise
    finally:
        sys.argv = argv
        _log(place, step, " ".join(outcome.split()), time.monotonic() - began, typed)
    return code, whole


def _log(place: Workspace, step: str, outcome: str, seconds: float | None, typed: str) -> None:
    """Add a line to run.log: time, step, outcome, seconds and command, with tabs between them."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    took = "" if seconds is None else f"{seconds:.1f} s"
    try:
        with explain_storage(place.root / _LOG):
            place.root.mkdir(parents=True, exist_ok=True)
            with open(place.root / _LOG, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("\t".join([when, step, outcome, took, typed]) + "\n")
    except WsisurvError as error:  # the step itself says what it can't write
        warn(str(error))
