"""Cells of our own CSV that hold ids: no id can break a list, and none reaches a spreadsheet as a formula."""

import json
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"'*[=+@\t\r\uff1d\uff0b\uff20\uff0d-]")  # wide signs count as plain ones in some countries
_NUMBER = re.compile(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")


def write_id(text: str) -> str:
    """The cell of an id, or of a word of the user's: ``'`` goes before what a spreadsheet takes for a formula.

    Source: OWASP, CSV injection.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def read_id(cell: str) -> str:
    """What ``write_id`` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_ids(ids: Sequence[str]) -> str:
    """The cell of several ids: joined by ``;``, or a JSON array where an id holds a ``;`` or begins with ``[``.

    Also where one but the first looks like a formula: in many countries a spreadsheet cuts a CSV at ``;``.
    """
    odd = any(";" in id for id in ids) or any(write_id(id) != id for id in ids[1:])
    if odd or (ids and (ids[0].startswith("[") or not ids[0])):
        return json.dumps(list(ids), ensure_ascii=False)
    return write_id(";".join(ids))


def read_ids(cell: str) -> tuple[str, ...]:
    """What ``write_ids`` was given."""
    if cell.startswith("["):
        try:
            ids = json.loads(cell)
        except ValueError:
            ids = None  # of before JSON was written: an id that begins with a bracket
        if isinstance(ids, list) and all(isinstance(id, str) for id in ids):
            return tuple(ids)
    return tuple(id for id in read_id(cell).split(";") if id)


def formula_note(ids: Iterable[str], where: str) -> list[str]:
    """Say how ids that look like formulas are written; nothing where none does."""
    odd = sorted(id for id in ids if write_id(id) != id)
    if not odd:
        return []
    return [
        f"{len(odd)} ids look like formulas ({odd[0]} …): in {where} they have ' in front, so that no spreadsheet runs "
        "them"
    ]
