"""What a folder holds, in a form that two undisturbed runs of the same command share to the last bit."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

PASSED_OVER = {"commands.jsonl", ".index.sqlite"}
"""One tells when what was run and how it ended: each run adds a line, those that were refused too; the other
is an index that may be thrown away."""
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?( UTC|\+00:00|Z)?)?")
_COMMANDS = re.compile(r'<section[^>]*id="commands".*?</section>', re.DOTALL)
_UNLIKE_BY_NATURE = {"when", "seconds", "command"}


@dataclass
class Difference:
    """What a folder has otherwise than it should.

    Attributes:
        lost: files or lines that are missing.
        doubled: files or lines that are too many.
        other: files that hold something else.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.other)


def content(folder: Path) -> dict[str, Any]:
    """Name → what the file holds: a list of lines for JSONL, else a digest; claims are no files of a person's."""
    held = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".claims" not in path.parts and path.name not in PASSED_OVER:
            held[str(path.relative_to(folder))] = _content(path, str(folder))
    return held


_seen: dict[tuple[str, str, str], Any] = {}
"""Contents by ending, folder and checksum: most files are the same in every trial, and HDF5 is slow to look into."""


def _content(path: Path, root: str) -> Any:
    raw = path.read_bytes()
    key = (path.suffix, root, _digest(raw))
    if key not in _seen:
        _seen[key] = _look(path, raw, root)
    return _seen[key]


def _look(path: Path, raw: bytes, root: str) -> Any:
    if path.suffix == ".h5":
        return _hdf5(path, root)
    if path.suffix == ".jsonl":
        return [_plain(line, root) for line in raw.decode(errors="replace").split("\n") if line]
    if path.suffix in {".json", ".html", ".csv", ".txt"}:
        return _digest(_plain(raw.decode(errors="replace"), root))
    return _digest(raw)


def _plain(text: str, root: str) -> str:
    """Without where it lay and when it was made."""
    text = _COMMANDS.sub("", text.replace(root, "ROOT"))
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        return _TIME.sub("WHEN", json.dumps({k: v for k, v in value.items() if k not in _UNLIKE_BY_NATURE}))
    return _TIME.sub("WHEN", text)


def _hdf5(path: Path, root: str) -> str:
    parts = []

    def look(name: str, item: h5py.HLObject) -> None:
        parts.append((name, _attributes(item, root)))
        if isinstance(item, h5py.Dataset):
            raw = item[()]
            raw = raw.tobytes() if hasattr(raw, "tobytes") else bytes(raw)
            parts.append((str(item.dtype), str(item.shape), _digest(raw)))

    try:
        with h5py.File(path, "r") as file:
            look("/", file)
            file.visititems(look)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return _digest(path.read_bytes())  # spoilt
    return _digest(repr(sorted(map(repr, parts))))


def _attributes(item: h5py.HLObject, root: str) -> list[tuple[str, str]]:
    checked = {"attributes_crc32"}  # of the others, paths among them
    kept = [(name, item.attrs[name]) for name in sorted(item.attrs) if name not in checked]
    return [(name, repr(value).replace(root, "ROOT").replace("\\x00", "")) for name, value in kept]


def _digest(what: str | bytes) -> str:
    return hashlib.sha256(what if isinstance(what, bytes) else what.encode()).hexdigest()


def compare(seen: dict[str, Any], wanted: dict[str, Any], *, but: frozenset[str] = frozenset()) -> Difference:
    """Hold one folder's content against another's, but for some names."""
    difference = Difference()
    for name in sorted(seen.keys() | wanted.keys()):
        if name in but or seen.get(name) == wanted.get(name):
            continue
        if name not in seen:
            difference.lost.append(name)
        elif name not in wanted:
            difference.doubled.append(name)
        elif isinstance(wanted[name], list):
            _compare_lines(name, Counter(seen[name]), Counter(wanted[name]), difference)
        else:
            difference.other.append(name)
    return difference


def _compare_lines(name: str, seen: Counter[str], wanted: Counter[str], difference: Difference) -> None:
    """Lines may stand in another order where runs shared the work."""
    if twice := [line for line in seen if wanted[line] and seen[line] > wanted[line]]:
        difference.doubled.append(f"{name}: {twice[0][:100]}")
    if strange := seen.keys() - wanted.keys():
        difference.other.append(f"{name}: {sorted(strange)[0][:100]}")
    elif missing := wanted - seen:
        difference.lost.append(f"{name}: {sorted(missing)[0][:100]}")
