"""What a file's description is made of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wsisurv.formats.shown import plain_value
from wsisurv.pages.numbers import number

_LENGTH = 300


@dataclass(frozen=True)
class CardPart:
    """A part of the card.

    Attributes:
        title: of it.
        words: lines.
        facts: name → value.
        head: of a table.
        rows: of the table.
    """

    title: str
    words: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class FileCard:
    """A file, described for a person.

    Attributes:
        title: one line.
        parts: in the order in which they are read.
        warnings: what should be known before it is used.
        record: all of it as a JSON object.
    """

    title: str
    parts: tuple[CardPart, ...]
    warnings: tuple[str, ...]
    record: Mapping[str, Any]


def said(value: object) -> str:
    """Any value as one line of plain text that can't steer a terminal; a dash where there is none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, ".4g")
    words = value if isinstance(value, str) else json.dumps(plain_value(value), ensure_ascii=False)
    words = "".join(letter if letter.isprintable() else "\ufffd" for letter in words)
    return words if len(words) <= _LENGTH else words[:_LENGTH] + " …"
