"""What any file of ours says of itself, as plain values to print; nothing in it is trusted."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.formats.atomic import parse_json, read_json
from wsisurv.formats.sealed import without_checksum

if TYPE_CHECKING:
    import h5py

    from wsisurv.formats.header import Header

_LINE, _LINES, _JSON = 1 << 24, 1_000_000, 1 << 26
_JSONL = {
    "statements of reports": {"case_id", "statements", "report_sha256"},
    "findings that could not be proved": {"case_id", "evidence", "reason"},
    "failures of a step": {"id", "error", "message"},
    "folds of a cross-validation": {"repeat", "fold", "train", "test"},
    "commands run in a workspace": {"when", "words", "exit_code"},
    "risk table": {"case_id", "log_hazard", "risk_group"},
    "history of a training": {"part"},
}
_CSV = {
    "risk table": {"case_id", "log_hazard", "risk_group"},
    "cohort": {"case_id", "slides", "time", "event"},
    "map of slides to cases": {"slide_id", "case_id"},
}
_SMALL = 1 << 20
"""Numbers of an array of which range and gaps are told; larger ones are not read."""
_OF_COLUMNS = ("names", "units", "definitions")
_HEAD = {"format", "format_version", "wsisurv_version", "settings", "inputs", "fingerprint"}


@dataclass(frozen=True)
class Array:
    """An array of a file."""

    name: str  # with its groups
    dtype: str  # of a value; ``text`` for words
    shape: tuple[int, ...]  # of it
    low: float | None = None  # smallest finite value; None for words, for large arrays and where there is none
    high: float | None = None  # largest
    not_finite: int | None = None  # values that are NaN or infinite; None where they were not counted
    attributes: Mapping[str, Any] = field(default_factory=dict)  # of the array


@dataclass(frozen=True)
class Shown:
    """What a file says of itself."""

    path: Path  # the file
    what: str  # its format, or what its columns or keys look like
    n_bytes: int  # its size
    header: "Header | None" = None  # what made it; None for text files
    attributes: Mapping[str, Any] = field(default_factory=dict)  # all else that it says, JSON parsed
    arrays: tuple[Array, ...] = ()  # of an HDF5 file
    rows: int | None = None  # of a text file; None elsewhere


def describe(path: Path) -> Shown:
    """Describe a file of ours.

    Raises:
        MissingArtifactError: there is none.
        FormatError: it is no file of ours, or damaged.
    """
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there.")
    if path.is_dir():
        raise FormatError(f"{path}: a folder. Name a file in it.")
    readers = {".jsonl": _jsonl, ".csv": _table, ".tsv": _table, ".json": _json}
    reader = readers.get(path.suffix.lower(), _hdf5)
    try:
        return reader(path)
    except (ValueError, RecursionError, csv.Error) as error:
        raise FormatError(f"{path}: damaged, or not what its name says ({error}).") from error
    except OSError as error:
        raise FormatError(f"{path}: can't be read ({error}).") from error


def _hdf5(path: Path) -> Shown:
    import h5py  # takes longer to load than a text file to read

    from wsisurv.formats.hdf5 import texts
    from wsisurv.formats.header import opened_any

    with opened_any(path) as (file, header):
        arrays: list[Array] = []
        file.visititems(
            lambda name, item: arrays.append(_array(name, item)) if isinstance(item, h5py.Dataset) else None
        )
        said = {name: plain_value(value) for name, value in file.attrs.items() if name not in _HEAD}
        said |= {name: list(texts(file, name)) for name in _OF_COLUMNS if name in file}
    return Shown(path, header.format, path.stat().st_size, header, said, tuple(arrays))


def _array(name: str, item: "h5py.Dataset") -> Array:
    import numpy as np

    attributes = {key: plain_value(value) for key, value in item.attrs.items()}
    shape = tuple(int(length) for length in item.shape)
    if item.dtype.kind not in "fiub":
        return Array(name, "text", shape, attributes=attributes)
    if not 0 < item.size <= _SMALL:
        return Array(name, str(item.dtype), shape, attributes=attributes)
    with np.errstate(all="ignore"):  # damaged floats may be of no kind that numpy knows
        values = np.asarray(item[()], dtype=np.float64)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (None, None)
    return Array(name, str(item.dtype), shape, low, high, int(values.size - known.size), attributes)


def plain_value(value: Any) -> Any:
    """An attribute as JSON can hold it: arrays as lists, JSON text parsed, what is not finite as words."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        if value[:1] in {"{", "["}:
            try:
                return plain_value(parse_json(value))
            except (ValueError, RecursionError):
                return value
        return value
    if hasattr(value, "tolist"):  # of numpy
        return plain_value(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(part) for part in value]
    return value if isinstance(value, int | bool | None) else str(value)


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number in range(1, _LINES + 2):
            line = file.readline(_LINE + 1)
            if not line:
                return
            if len(line) > _LINE or number > _LINES:
                raise ValueError(f"line {number}: more than {_LINE} bytes in a line, or {_LINES} lines")
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")


def _jsonl(path: Path) -> Shown:
    rows, keys = 0, dict[str, int]()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = without_checksum(parse_json(line))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"line {number} is no JSON object")
        rows += 1
        for key in record:
            keys[key] = keys.get(key, 0) + 1
    return Shown(path, _alike(keys, _JSONL), path.stat().st_size, attributes={"keys": keys}, rows=rows)


def _table(path: Path) -> Shown:
    reader = csv.reader(_lines(path), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    head = next(reader, [])
    rows = 0
    for number, cells in enumerate(reader, start=2):
        if cells and len(cells) != len(head):
            raise ValueError(f"row {number}: {len(cells)} cells, but the header has {len(head)}")
        rows += bool(cells)
    what = _alike(dict.fromkeys(head, 0), _CSV)
    return Shown(path, what, path.stat().st_size, attributes={"columns": head}, rows=rows)


def _json(path: Path) -> Shown:
    size = path.stat().st_size
    if size > _JSON:
        raise ValueError(f"{size} bytes of JSON; files of ours have {_JSON} at most")
    record = read_json(path)
    named = record.pop("format", None)
    what = (
        named if isinstance(named, str) else "audit of a cohort" if {"audit", "settings"} <= record.keys() else "JSON"
    )
    return Shown(path, what, size, attributes=plain_value(record))


def _alike(keys: Mapping[str, int], known: Mapping[str, set[str]]) -> str:
    """What a table with these columns is."""
    return next((what for what, wanted in known.items() if wanted <= keys.keys()), "a table that wsisurv did not make")
