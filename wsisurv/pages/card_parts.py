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
    """A part of the card."""

    title: str  # of it
    words: tuple[str, ...] = ()  # lines
    facts: Mapping[str, str] = field(default_factory=dict)  # name → value
    head: tuple[str, ...] = ()  # of a table
    rows: tuple[tuple[str, ...], ...] = ()  # of the table
    faded: tuple[int, ...] = ()  # its columns that rest on little


@dataclass(frozen=True)
class FileCard:
    """A file, described for a person."""

    title: str  # one line
    parts: tuple[CardPart, ...]  # in the order in which they are read
    warnings: tuple[str, ...]  # what should be known before it is used
    record: Mapping[str, Any]  # all of it as a JSON object


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
