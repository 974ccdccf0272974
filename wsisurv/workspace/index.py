"""What the headers of a workspace's HDF5 files say, kept so that a file is opened again only where it changed.

``.index.sqlite`` in the workspace is no more than a help: deleted, damaged or not writable, it is made anew or done
without, and only slower.
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsisurv.errors import WsisurvError
from wsisurv.formats.header import read_root
from wsisurv.settings.base import canonical_json
from wsisurv.workspace.paths import Workspace

FILE = ".index.sqlite"
_TABLE = """CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, changed INTEGER, bytes INTEGER, format TEXT,
    settings TEXT, inputs TEXT, fingerprint TEXT, problem TEXT, slide_id TEXT, slide_path TEXT,
    crc32 INTEGER)"""


@dataclass(frozen=True)
class Indexed:
    """What is known of one file."""

    format: str
    settings: str  # JSON, keys sorted: equal where the settings are
    inputs: dict[str, str]  # name → fingerprint of each input
    fingerprint: str
    problem: str = ""  # why it can't be read; then all else is empty
    slide_id: str = ""  # the slide that it says it is of; of tiles, as the path
    slide_path: str = ""  # where its slide was


def read_headers(workspace: Workspace, paths: Sequence[Path], format: str, made_by: str) -> dict[Path, Indexed]:
    """Headers of files of one format; those that were read before and have the same size and time are not opened.

    Args:
        workspace: that holds the files, and the index.
        paths: the files; one that is gone is left out.
        format: what they must be, e.g. ``wsisurv/tiles``.
        made_by: command that makes them, for messages.
    """
    of = {str(path): path for path in paths}
    return {of[place]: one for place, one in read_headers_at(workspace, [*of], format, made_by).items()}


def read_headers_at(workspace: Workspace, places: Sequence[str], format: str, made_by: str) -> dict[str, Indexed]:
    """As ``read_headers``, by paths as text: of a hundred thousand files, paths take longer than all else."""
    known, root = _load(workspace, format), os.path.join(workspace.root, "")
    found: dict[str, Indexed] = {}
    fresh: list[tuple[Any, ...]] = []
    for place in places:
        try:
            state = os.stat(place)
        except OSError:
            continue
        key = place.removeprefix(root).replace(os.sep, "/")
        at, size, indexed = known.get(key, (0, -1, None))
        if indexed is None or (at, size) != (state.st_mtime_ns, state.st_size):
            indexed = _read(Path(place), format, made_by)
            fresh.append(
                (
                    *(key, state.st_mtime_ns, state.st_size, format, indexed.settings),
                    *(json.dumps(indexed.inputs), indexed.fingerprint, indexed.problem),
                    *(indexed.slide_id, indexed.slide_path),
                )
            )
        found[place] = indexed
    if fresh:
        _save(workspace, fresh)
    return found


def _read(path: Path, format: str, made_by: str) -> Indexed:
    try:
        header, slide = read_root(path, format, made_by, ("slide_id", "slide_path"))
    except (WsisurvError, OSError) as error:
        return Indexed(format, "", {}, "", str(error))
    try:
        "".join(slide).encode()
    except UnicodeEncodeError:  # of a name that is no text, which the index can't hold
        slide = ("", "")
    return Indexed(format, canonical_json(header.settings), header.inputs, header.fingerprint, "", *slide)


def _load(workspace: Workspace, format: str) -> dict[str, tuple[int, int, Indexed]]:
    path = workspace.root / FILE
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(path, timeout=5)) as index:
            rows = index.execute("SELECT * FROM files WHERE format = ?", (format,)).fetchall()
        return {
            str(key): (int(at), int(size), Indexed(format, settings, json.loads(inputs), fingerprint, *rest))
            for *row, crc32 in rows
            if _crc32(row) == crc32
            for key, at, size, _, settings, inputs, fingerprint, *rest in [row]
        }
    except sqlite3.OperationalError:  # another process is writing, or there is no such table yet
        return {}
    except (sqlite3.Error, ValueError, TypeError):
        with suppress(OSError):
            path.unlink()
        return {}


def _save(workspace: Workspace, rows: Sequence[tuple[Any, ...]]) -> None:
    with suppress(sqlite3.Error), closing(sqlite3.connect(workspace.root / FILE, timeout=5)) as index:
        with index:
            index.execute(_TABLE)
            index.executemany(
                f"INSERT OR REPLACE INTO files VALUES ({', '.join('?' * (len(rows[0]) + 1))})",
                ((*row, _crc32(row)) for row in rows),
            )


def _crc32(row: Sequence[Any]) -> int:
    """Checksum of a row: SQLite keeps none, and what is planned by must be what was read."""
    return zlib.crc32("\0".join(map(str, row)).encode())
