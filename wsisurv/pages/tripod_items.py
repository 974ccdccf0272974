"""The 27 items of TRIPOD+AI, in our own words, each part with the question that an author must answer.

Source: Collins GS et al. TRIPOD+AI statement. BMJ 2024;385:e078378.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class TripodItem:
    """One item, or a part of one."""

    number: str  # as in the checklist
    section: str
    topic: str
    asks: str  # what is to be reported
    question: str  # for the author
    whole: bool  # whether what a workspace knows can answer it alone


@cache
def tripod_items() -> tuple[TripodItem, ...]:
    """All parts of all items, in order."""
    text = files("wsisurv.pages").joinpath("tripod_items.csv").read_text(encoding="utf-8")
    return tuple(
        TripodItem(row["number"], row["section"], row["topic"], row["asks"], row["question"], bool(row["whole"]))
        for row in csv.DictReader(text.splitlines())
    )
