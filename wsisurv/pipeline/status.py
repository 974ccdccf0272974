"""``status``: what of a workspace is done, stale, missing, failed or running, and the command that comes next."""

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsisurv.errors import WsisurvError
from wsisurv.formats import features, tiles
from wsisurv.formats.atomic import PARTIAL, process_of_name
from wsisurv.formats.header import make_header
from wsisurv.formats.statements import read_statements
from wsisurv.pipeline.cohort_status import CohortStatus, cohort_status
from wsisurv.settings.base import changes_between, parse_settings
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.workspace.claims import ItemClaim
from wsisurv.workspace.index import Indexed, read_headers_at
from wsisurv.workspace.ledger import Failure, read_failures
from wsisurv.workspace.paths import Workspace

_ALONE = ("train-teacher", "distill", "crossval", "findings")
"""Steps that one process does for a whole cohort."""
_MAKE_COHORT = "wsisurv cohort NAME --clinical FILE"


@dataclass(frozen=True)
class Running:
    """A process that is at a step now."""

    what: str  # the step, and which encoder or cohort
    where: str  # machine and process; empty where an older wsisurv named none
    since: str  # local time
    here: bool | None  # whether its process was seen alive on this machine; None of another machine


@dataclass(frozen=True)
class StepStatus:
    """One step over all its items."""

    step: str  # with the encoder, where it has one
    done: int  # items that are as they should be
    stale: Mapping[str, int] = field(default_factory=dict)  # what differs → how many items
    missing: int = 0  # items whose input is there, whose output is not, and which did not fail
    failed: Mapping[str, int] = field(default_factory=dict)  # kind of error → how many items
    causes: Mapping[str, int] = field(default_factory=dict)  # what was said, without the item's name → how many items
    problems: tuple[str, ...] = ()  # files that can't be read


@dataclass(frozen=True)
class Status:
    """All that is known of a workspace without opening more than headers and tables."""

    workspace: str
    steps: tuple[StepStatus, ...]
    cohorts: tuple[CohortStatus, ...]
    running: tuple[Running, ...]
    leftovers: tuple[str, ...]  # files that killed runs left, of no use
    next_command: str | None  # None where all is done


def status(workspace: Workspace) -> Status:
    """Look at a workspace. Writes nothing but an index of headers, which may be deleted.

    Opens headers, tables and ledgers alone: that slides and arrays are what they were, ``verify`` tells.

    Raises:
        InputError: there is no such folder.
    """
    workspace.require()
    tiled = _headers(workspace, workspace.tiles("a").parent, workspace.tiled_slides(), tiles.FORMAT, tiles.MADE_BY)
    steps = [_step(workspace, "tile", "tile", tiled, {slide_id: {} for slide_id in tiled})]
    made_of = {slide_id: {"tiles": one.fingerprint} for slide_id, one in tiled.items()}
    embedded: dict[str, dict[str, Indexed]] = {}
    for encoder in workspace.encoders():
        slides, folder = workspace.embedded_slides(encoder), workspace.features(encoder, "a").parent
        embedded[encoder] = _headers(workspace, folder, slides, features.FORMAT, features.MADE_BY)
    for encoder, made in embedded.items():
        if of_tiles := _pooled(made):
            rows_of = {slide_id: {"features": one.fingerprint} for slide_id, one in embedded.get(of_tiles, {}).items()}
            name = f"pool {encoder.removesuffix(f'-{of_tiles}')} of {of_tiles}"
            steps.append(_step(workspace, name, "pool", made, rows_of))
        else:
            steps.append(_step(workspace, f"embed {encoder}", "embed", made, made_of))
    if not embedded and tiled:
        steps.append(StepStatus("embed", 0, missing=len(tiled), **_counted(_failures(workspace, "embed"))))
    steps.append(_reports(workspace))
    cohorts = tuple(cohort_status(workspace, name, embedded) for name in workspace.cohorts())
    return Status(
        workspace=str(workspace.root),
        steps=tuple(steps),
        cohorts=cohorts,
        running=tuple(_running(workspace)),
        leftovers=tuple(_leftovers(workspace.root)),
        next_command=_next_command(steps, cohorts),
    )


def _headers(
    workspace: Workspace, folder: Path, slides: Sequence[str], format: str, made_by: str
) -> dict[str, Indexed]:
    of = {f"{folder}{os.sep}{slide_id}.h5": slide_id for slide_id in slides}
    return {of[place]: one for place, one in read_headers_at(workspace, [*of], format, made_by).items()}


def _failures(workspace: Workspace, step: str) -> list[Failure]:
    """The last failure of each item."""
    return list({each.id: each for each in read_failures(workspace, step)}.values())


def _counted(failures: Sequence[Failure]) -> dict[str, Any]:
    """Failures by kind and by cause, the commonest first."""
    causes = Counter(one.message.replace(one.path, "").replace(one.id, "…").removeprefix(": ") for one in failures)
    return {"failed": dict(Counter(one.error for one in failures)), "causes": dict(causes.most_common())}


def _step(
    workspace: Workspace, name: str, step: str, made: Mapping[str, Indexed], made_of: Mapping[str, Mapping[str, str]]
) -> StepStatus:
    """A step over slides: an item is stale where its input is another now, or its settings are not those of most."""
    usual = Counter(one.settings for one in made.values() if not one.problem).most_common(1)
    stale: Counter[str] = Counter()
    problems = []
    done = 0
    for slide_id, one in made.items():
        inputs = made_of.get(slide_id, {})
        others = [key for key in inputs.keys() & one.inputs.keys() if inputs[key] != one.inputs[key]]
        if one.problem:
            problems.append(one.problem)
        elif others:
            stale[f"{' and '.join(others)} made anew since"] += 1
        elif one.settings != usual[0][0]:
            differs = changes_between(json.loads(one.settings), json.loads(usual[0][0]))
            stale[f"other settings than most: {'; '.join(differs)}"] += 1
        else:
            done += 1
    failures = _failures(workspace, step)
    if step != "tile" and usual:  # several encoders share a ledger, and input that was made anew is to be tried again
        settings, format = json.loads(usual[0][0]), next(iter(made.values())).format
        failures = [
            one
            for one in failures
            if one.fingerprint in ("", make_header(format, settings, made_of.get(one.id, {})).fingerprint)
        ]
    missing = made_of.keys() - made.keys() - {one.id for one in failures}
    return StepStatus(name, done, dict(stale), len(missing), problems=tuple(problems), **_counted(failures))


def _pooled(made: Mapping[str, Indexed]) -> str:
    """Folder of the tiles' features that rows of whole slides were made of; empty for features of tiles."""
    settings: dict[str, Any] = next((json.loads(one.settings) for one in made.values() if not one.problem), {})
    of_tiles = settings.get("of_tiles")
    return parse_settings(EmbedSettings, of_tiles).folder if of_tiles else ""


def _reports(workspace: Workspace) -> StepStatus:
    failed = _counted(_failures(workspace, "extract-report"))
    if not workspace.statements.exists():
        return StepStatus("extract-report", 0, **failed)
    try:
        records = read_statements(workspace.statements)
    except WsisurvError as error:
        return StepStatus("extract-report", 0, problems=(str(error),), **failed)
    return StepStatus("extract-report", len(records), **failed)


def _running(workspace: Workspace) -> list[Running]:
    claims = workspace.root / ".claims"
    found = []
    alone = [path for step in _ALONE for path in sorted((claims / step).glob("**/*.json"))]
    for path in (*sorted(claims.glob("**/*.settings/*.json")), *alone):
        name = path.relative_to(claims).with_suffix("").as_posix()
        claim = ItemClaim(claims, name)
        if claim.is_held():
            shared, is_shared, process = name.partition(".settings/")
            what = shared if is_shared else name.replace("/", " ", 1)
            alive = process_of_name(process.rpartition("-")[0]) if is_shared else None
            found.append(Running(what, claim.where(), _since(path), alive))
    return found


def _since(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))


def _leftovers(root: Path) -> list[str]:
    return sorted(
        os.path.join(folder, name)
        for folder, folders, files in os.walk(root)  # half the time of rglob, where there are a million
        for name in (*folders, *files)
        if name.endswith(PARTIAL) and process_of_name(name) is False
    )


def _next_command(steps: Sequence[StepStatus], cohorts: Sequence[CohortStatus]) -> str | None:
    by_name = {one.step: one for one in steps}
    tile = by_name["tile"]
    embeds = [one for one in steps if one.step.startswith("embed")]
    if not tile.done and not any(one.done for one in embeds) and not by_name["extract-report"].done:
        return "wsisurv check SLIDES, then wsisurv tile SLIDES"
    if tile.stale or tile.problems:
        return "wsisurv tile SLIDES --redo"
    for one in embeds:
        encoder = one.step.partition(" ")[2]
        if one.missing or one.stale or one.problems:
            named = f" --encoder {encoder}" if encoder else ""
            return f"wsisurv embed{named}{' --redo' if one.stale else ''}"
    for one in steps:
        if one.step.startswith("pool ") and (one.missing or one.stale or one.problems):
            _, encoder, _, of_tiles = one.step.split()
            return f"wsisurv pool --encoder {encoder} --tiles {of_tiles}{' --redo' if one.stale else ''}"
    if by_name["extract-report"].problems:
        return "wsisurv extract-report REPORTS --redo"
    if not cohorts:
        if not by_name["extract-report"].done:
            return f"wsisurv extract-report REPORTS, or, without reports, {_MAKE_COHORT}"
        return _MAKE_COHORT
    return next((one.next_command for one in cohorts if one.next_command is not None), None)
