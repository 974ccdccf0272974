"""Checksums of text files of ours: a JSON object's is its last key, a table's is in the JSON beside it."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKSUM = "crc32"
TABLE = "table_crc32"
"""Key of a record: checksum of the table beside it."""


def with_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the CRC-32 of all else in it, whatever its spaces and the order of its keys."""
    rest = {key: part for key, part in record.items() if key != CHECKSUM}
    return {**rest, CHECKSUM: _crc32(rest)}


def without_checksum(value: Any) -> Any:
    """An object that was read, without its checksum; one that has none is of an older wsisurv, or somebody's own.

    Raises:
        ValueError: the checksum is another.
    """
    if not isinstance(value, dict) or CHECKSUM not in value:
        return value
    rest = {key: part for key, part in value.items() if key != CHECKSUM}
    if value[CHECKSUM] != _crc32(rest):
        raise ValueError(
            f"not what was written: its checksum is another. Whoever changed it on purpose takes its {CHECKSUM} out"
        )
    return rest


def _crc32(record: Mapping[str, Any]) -> int:
    plain = json.loads(json.dumps(record))  # keys are text, sequences lists, as they will be read
    return zlib.crc32(json.dumps(plain, sort_keys=True).encode())


def table_checksum(table: Path | bytes) -> dict[str, int]:
    """What a record beside a table, or beside its content to be, says of it; nothing where there is none."""
    if isinstance(table, bytes):
        return {TABLE: zlib.crc32(table)}
    return table_checksum(table.read_bytes()) if table.exists() else {}


def require_table(table: Path, record: Mapping[str, Any]) -> None:
    """Hold a table against the record beside it.

    Raises:
        ValueError: it is another than was written with the record; a record that says nothing is of an older wsisurv.
    """
    if TABLE in record and record[TABLE] != zlib.crc32(table.read_bytes()):
        raise ValueError(f"{table.name} is not the table that was written: its checksum is another")
