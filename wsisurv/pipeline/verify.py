"""``verify``: everything of a workspace held against its checksums, its names, and what it was made of."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wsisurv.bags.checks import require_own_tiles
from wsisurv.cohort import read_cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import FormatError, WsisurvError
from wsisurv.formats import alignment, features, finding_maps, guidance, heatmaps, text_vectors, tiles
from wsisurv.formats.atomic import PARTIAL, process_of_name, read_jsonl
from wsisurv.formats.commands import FILE as COMMANDS
from wsisurv.formats.commands import read_commands
from wsisurv.formats.digests import read_array
from wsisurv.formats.header import Header, opened_any, read_header
from wsisurv.formats.models import KINDS, model_format, read_model
from wsisurv.formats.pictures import read_whole_picture
from wsisurv.formats.risks import read_risks
from wsisurv.formats.shown import describe
from wsisurv.formats.statements import read_rejected, read_statements
from wsisurv.slides.find import require_tiled
from wsisurv.workspace.freshness import Origin, require_made_of
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

_READ: Mapping[str, Callable[[Path], Any]] = {
    "statements.jsonl": read_statements,
    "rejected.jsonl": read_rejected,
    COMMANDS: lambda path: read_commands(path.parent),
    heatmaps.FILE: lambda path: heatmaps.read_case_map(path.parent),
    finding_maps.FILE: lambda path: finding_maps.read_finding_map(path.parent),
    "cohort.csv": lambda path: read_cohort(path.parent),
    "risk.csv": read_risks,
}
"""Readers of the files that are known by name; others are looked through as ``show`` does."""
_TEXT = {".csv", ".json", ".jsonl"}
_PICTURES = {".jpg", ".png"}
_ENDS = {".html": b"</html>", ".svg": b"</svg>", ".pdf": b"%%EOF"}
"""How a page or figure ends that is whole."""


@dataclass(frozen=True)
class Verified:
    """What was looked at."""

    n_files: int  # files
    problems: tuple[str, ...]  # what is wrong, one line each, with the file's name
    notes: tuple[str, ...]  # what is no fault but worth knowing: leftovers of killed runs, slides that are not there


def verify(workspace: Workspace, *, progress: Progress = no_progress) -> Verified:
    """Read all files of a workspace; writes nothing.

    Checksums of all arrays and of all else in HDF5 files, ids against names, features against tiles, tiles against
    slides, models against guidance and cohort, every line of every ledger, and what killed runs left.

    Args:
        workspace: to be looked at.
        progress: told before each file.

    Raises:
        InputError: there is no such folder.
    """
    workspace.require()
    files = [path for path in sorted(workspace.root.rglob("*")) if path.is_file() and ".claims" not in path.parts]
    problems: list[str] = []
    notes: list[str] = []
    for number, path in enumerate(files):
        progress(number, len(files), path.name)
        if path.name.endswith(PARTIAL):
            alive = process_of_name(path.name)
            if alive is None:
                notes.append(f"{path}: of a process of another machine. Where that has ended, it can be deleted.")
            elif not alive:
                notes.append(f"{path}: left by a run that was killed, and of no use. It can be deleted.")
            continue
        try:
            notes += _look(path)
        except WsisurvError as error:
            problems.append(str(error))
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{path}: can't be read ({type(error).__name__}: {error})")
    progress(len(files), len(files), "")
    return Verified(len(files), tuple(problems), tuple(notes))


def _look(path: Path) -> list[str]:
    """Look at one file; gives notes, raises what is wrong."""
    if path.suffix in _PICTURES:
        read_whole_picture(path)
    elif path.suffix == ".geojson":
        json.loads(path.read_bytes())
    elif path.suffix in _ENDS:
        if not path.read_bytes().rstrip().endswith(_ENDS[path.suffix]):
            raise FormatError(f"{path}: empty or cut. The command that wrote it writes it anew.")
    elif path.suffix == ".h5":
        return _look_at_hdf5(path)
    if path.name in _READ:
        _READ[path.name](path)
    elif path.parent.name == "failures" and path.suffix == ".jsonl":
        read_failures(Workspace(path.parent.parent), path.stem)
    elif path.suffix in _TEXT:
        describe(path)
    if path.suffix == ".jsonl":
        if path.name != COMMANDS:  # the same command may be run twice within a second
            _require_single(path)
        if path.read_bytes()[-1:] not in {b"", b"\n"}:
            return [f"{path}: ends within a line, as where a run was killed; what is whole is read."]
    if path.name == "audit.json" and not (path.parent / "cohort.csv").exists():
        raise FormatError(f"{path}: its cohort.csv is not there. Run `wsisurv cohort NAME --clinical FILE` again.")
    return []


def _look_at_hdf5(path: Path) -> list[str]:
    with opened_any(path) as (file, header):
        if header.format not in _READERS:
            file.visititems(lambda _, item: _read(item))
            return [f"{path}: of a training that was interrupted; the same command goes on from it."]
    if (wanted := _format_of_place(path)) not in {None, header.format}:
        raise FormatError(f"{path}: holds {header.format}, where {wanted} should be: it was put there from elsewhere.")
    if header.format == tiles.FORMAT:
        return _look_at_tiles(path)
    _READERS[header.format](path)
    _require_lineage(path, header)
    if header.format == text_vectors.FORMAT and not (beside := path.parents[1] / "statements.jsonl").exists():
        return [f"{path}: {beside}, which it is of, is not there. `wsisurv extract-report` makes both."]
    return []


def _format_of_place(path: Path) -> str | None:
    """What the file of this name in this folder should hold; None where it may be anything."""
    if path.parent.name == "tiles":
        return tiles.FORMAT
    if path.parent.parent.name == "features":
        return features.FORMAT
    kind = path.stem.partition("_")[0]
    for known in KINDS:
        if "cohorts" in path.parts and kind == known:
            return model_format(known)
    return guidance.FORMAT if path.name == "guidance.h5" else None


def _look_at_features(path: Path) -> None:
    made, header = features.read_features(path)
    if path.parent.name not in {made.encoder, f"{made.encoder}-random"}:
        raise FormatError(f"{path}: features of {made.encoder!r}, in the folder of {path.parent.name!r}.")
    require_own_tiles(path, header)
    own = path.parents[2] / "tiles" / path.name
    if (
        "tiles" in header.inputs
        and own.exists()
        and not np.array_equal(tiles.read_tiles(own)[0].coords, made.place.coords)
    ):
        raise FormatError(f"{path}: of other places than the tiles of {own}. Run `wsisurv embed --redo`.")


_READERS: Mapping[str, Callable[[Path], Any]] = {
    tiles.FORMAT: tiles.read_tiles,
    features.FORMAT: _look_at_features,
    guidance.FORMAT: guidance.read_guidance,
    alignment.FORMAT: alignment.read_alignment,
    text_vectors.FORMAT: text_vectors.read_text_vectors,
    model_format("teacher"): lambda path: read_model(path, "teacher"),
    model_format("student"): lambda path: read_model(path, "student"),
    model_format("findings"): lambda path: read_model(path, "findings"),
}


def _read(item: h5py.HLObject) -> None:
    if isinstance(item, h5py.Dataset):
        read_array(item)


def _look_at_tiles(path: Path) -> list[str]:
    tiled, header = tiles.read_tiles(path)
    if not tiled.slide_path.exists():
        return [f"{path}: its slide is not at {tiled.slide_path} now."]
    require_tiled(tiled.slide_path, tiled.slide_id, header.inputs.get("slide"))
    return []


def _require_lineage(path: Path, header: Header) -> None:
    """Hold a model against the guidance and the cohort beside it, where they are what it names as its inputs."""
    folder = path.parent
    if "guidance" in header.inputs and (beside := folder / "guidance.h5").exists():
        now = read_header(beside, guidance.FORMAT, guidance.MADE_BY)
        require_made_of(path, header.inputs["guidance"], now, f"what {beside} holds", "Run `wsisurv distill --redo`.")
    if "cohort" in header.inputs and (beside := folder / "cohort.csv").exists():
        cohort = Origin(read_cohort(folder)[0].fingerprint)
        require_made_of(path, header.inputs["cohort"], cohort, f"the cases of {beside}", "Train anew with --redo.")


def _require_single(path: Path) -> None:
    """Refuse a line that stands there twice in a row, or a report twice: nothing of ours writes one."""
    lines = read_jsonl(path)
    n_unlike = len({json.dumps(line, sort_keys=True) for line in lines})
    if path.name == "statements.jsonl" and n_unlike < len(lines):
        raise FormatError(f"{path}: {len(lines) - n_unlike} lines stand there twice. Delete one of each two.")
    for number, (one, next_one) in enumerate(zip(lines[:-1], lines[1:], strict=True), start=2):
        if one == next_one:
            raise FormatError(f"{path}, line {number}: the same as the line before. Delete one of the two.")
