"""``wsisurv submit``."""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from wsisurv.cli.console import out
from wsisurv.cli.step_options import look
from wsisurv.errors import BackendError, InputError, SettingsError
from wsisurv.formats.remote import slide_place
from wsisurv.workspace.paths import Workspace

_EACH = 20
_WRITTEN = ("workspace", "output", "plan", "stage")
"""Paths of a step that need not be there."""


def _cases(wanted: Mapping[str, Any]) -> int:
    """Cases that predict or heatmap are asked for, and at most as many as slides where none of a cohort."""
    from wsisurv.cohort import read_cohort, read_slide_map

    place = Workspace(wanted["workspace"])
    if wanted["slide_map"]:
        read_slide_map(wanted["slide_map"])
    if "cases" in wanted:
        from wsisurv.pipeline.heatmap import count_cases

        asked = {name: wanted[name] for name in ("student", "cohort", "all_cases", "slide_map")}
        return count_cases(place, wanted["cases"] or (), finding=wanted["finding"], **asked)
    if wanted["slides"]:
        return _slides(wanted)
    if wanted["student"] and not wanted["cohort"]:
        return len(place.tiled_slides())
    names = place.the_cohorts(wanted["cohort"], having="student.h5")
    return max(len(read_cohort(place.cohort(name))[0].cases) for name in names)


def _slides(wanted: Mapping[str, Any]) -> int:
    from wsisurv.slides.find import find_slides

    found = find_slides(wanted["slides"])
    wanted["resolution"].given().of_slides(found.keys())
    return len(found)


def _tiled(wanted: Mapping[str, Any]) -> int:
    place = Workspace(wanted["workspace"])
    place.require("; `wsisurv tile SLIDES…` makes one")
    return len(place.tiled_slides())


def _reports(wanted: Mapping[str, Any]) -> int:
    from wsisurv.reports.sources import read_reports

    return len(read_reports(wanted["reports"], strict=False))


def _folds(wanted: Mapping[str, Any]) -> int:
    """Folds to be drawn, or those of --splits, which must be of the cohort's cases."""
    from wsisurv.cohort import read_cohort
    from wsisurv.experiments.folds import read_folds

    drawn: int = wanted["settings"].folds * wanted["settings"].repeats
    if wanted.get("clinical") is not None:  # the tasks make the cohort
        return drawn
    place, splits = Workspace(wanted["workspace"]), wanted["how"].splits
    several = [read_cohort(place.cohort(name))[0] for name in place.the_cohorts(wanted["cohort"])]
    return drawn if splits is None else max(len(read_folds(splits, cohort).folds) for cohort in several)


def _require_files(wanted: Mapping[str, Any]) -> None:
    """Refuse a file or folder that is to be read and is not there: each task would fail of it.

    Raises:
        InputError: names the option.
    """
    for name, value in wanted.items():
        if is_dataclass(value) and not isinstance(value, type):
            _require_files(vars(value))
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and name not in _WRITTEN and not slide_place(path).exists():
                raise InputError(f"{path}: no such file or folder (--{name.replace('_', '-')})")


_ITEMS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "tile": _slides,
    "embed": _tiled,
    "extract-report": _reports,
    "predict": _cases,
    "heatmap": _cases,
    "crossval": _folds,
    "ablate": _folds,
}
"""How many items a step has, by what its command is asked."""


class Submit(TyperCommand):
    """A command that leaves options that it doesn't know to the step that it sends."""

    ignore_unknown_options = True


def submit(
    step: Annotated[
        str, typer.Argument(help="Step to send: tile, embed, extract-report, predict, heatmap, crossval, ablate.")
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="...", help="Its arguments and options, as without submit.")
    ] = None,
    each: Annotated[
        int | None,
        typer.Option(min=1, help="Slides, cases, reports or folds that a task does.", show_default=f"{_EACH}; 1 fold"),
    ] = None,
    at_once: Annotated[
        int | None, typer.Option(min=1, help="Tasks that run at the same time.", show_default="all")
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(help="Option of sbatch, e.g. --sbatch=--partition=gpu. Can be given several times."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script, and send nothing.")] = False,
) -> None:
    """Send a step to SLURM as a job array, whose tasks have a share of the work each.

    The command is looked at first, as if it were run here, with the files and cases that it names, and reads and
    writes what it does; each task runs it with its own --shard. What tasks print goes to slurm/ in the workspace.
    Before its time is up a task is stopped as by Ctrl-C and begun again, three times at most; a pre-empted one SLURM
    begins again itself. What is done is kept. More tasks than an array of this SLURM may have are sent as several
    arrays.
    """
    from wsisurv.engine.slurm import arrays, send

    if step not in _ITEMS:
        raise typer.BadParameter(f"{step!r} is not done in shares; these are: {', '.join(_ITEMS)}")
    command = [step, *(words or [])]
    if any(word.partition("=")[0] == "--shard" for word in command):
        raise typer.BadParameter("--shard: each task gets its own; leave it out")
    wanted = look(command)
    _require_files(wanted)
    n_items = _ITEMS[step](wanted)
    if not n_items:
        raise SettingsError(f"{step}: there is nothing to do")
    tasks = math.ceil(n_items / (each or (1 if step in ("crossval", "ablate") else _EACH)))
    place = Workspace(wanted["workspace"])
    logs = place.root / "slurm"
    run = [sys.executable, "-m", "wsisurv", *command]
    made = list(arrays(step, run, tasks, logs=logs, options=sbatch or (), at_once=at_once))
    if dry_run:
        for one in made:
            out.print(one.script)
        return
    logs.mkdir(parents=True, exist_ok=True)
    ids: list[str] = []
    for one in made:
        try:
            ids.append(send(one))
        except BackendError as error:
            if not ids:
                raise
            raise BackendError(
                f"{error}. Job {', '.join(ids)} was sent before, with the first {len(ids)} of {len(made)} arrays. When "
                "it has ended, send the same again: what is done is kept."
            ) from error
    out.print(
        f"submit: {step}, {n_items} items in {tasks} tasks, job {', '.join(ids)} · logs in {logs} · "
        f"when they have ended: wsisurv status {place.root}"
    )
