"""Ids in types: a slide can't pass for a case; and which names can be those of files."""

from functools import lru_cache
from typing import NewType

CaseId = NewType("CaseId", str)
"""One patient."""
SlideId = NewType("SlideId", str)
"""One whole-slide image: its file name without the ending."""

_LONGEST = 240
"""Bytes; file systems have room for 255, and endings come behind it."""


def shown_name(name: str) -> str:
    """A name as it can be printed: control characters, and bytes that are no UTF-8, as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in name)


@lru_cache(256)  # one encoder's name is asked for with each slide
def name_problem(name: str) -> str:
    """Why nothing can be named after this in a workspace, or empty."""
    if any("\udc80" <= one <= "\udcff" for one in name):
        return "has bytes that are no UTF-8"
    if shown_name(name) != name:
        return "has control characters"
    if not name.strip():
        return "is empty"
    if name.startswith(".") or "/" in name or "\\" in name:
        return "begins with a dot, or has a / or \\ in it"
    if len(name.encode()) > _LONGEST:
        return f"is longer than {_LONGEST} bytes"
    return ""
