"""Which specimen a stretch of a report is of, where the report numbers them (A., 1), Part B:), and the blocks it names.

No specimen is better than another's: findings are numbered too. A list counts as one of specimens only where it says
"part" or "specimen", where its items name procedures, or where the same labels stand before the same words elsewhere
in the report (what was submitted, the gross description). What follows a label that was passed over, or a heading that
is no item of a diagnosis, has no specimen.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from wsisurv.reports.sections import find_sections

_LABEL = re.compile(
    r"(?:^|(?<=[\n.;:]))[ \t]*[-*•]?[ \t]*\(?(?P<part>(?i:part|specimen)[ \t]*#?[ \t]*)?(?P<label>[A-Z]|[1-9]\d?)"
    r"(?:[.):]|[ \t]+[-–])[ \t]*[.:]?\s+(?=\W{0,3}\d?[A-Z])"
)
_PROCEDURE = re.compile(
    r"ectom|excis|resect(?!ions? margin)|biops|dissection|curett|\bTUR|amputat|sampl|\bshave", re.IGNORECASE
)
_ITEM = re.compile(
    r"tumou?r|histolog\w+ (?:\w+ )?(?:type|grade)|margin|nodes?\b|invasion|procedure|extent|distance|perforation"
    r"|findings",
    re.IGNORECASE,
)
"""Headings of what is said of one specimen; all others end what was said of it."""
_CLOSING = re.compile(
    r"(?:(?<=[.;\n])|(?<=[.;]\s))\s*(?:[^\s.;]+ ){0,4}?(?:(?:pathologic|staging) parameters|protocol|comm?ent?s?\b"
    r"|\w?attest|certify|signature|electronically|end of report|template|checklist|synop|summary|addend|supplement"
    r"|frozen section|intraoperative|this (?:final|report)|stag(?:e|ing)\b|ajcc|p?tnm\b|y?pt ?(?:[0-4x]|is)\w?\b)",
    re.IGNORECASE,
)
"""Openings of sentences that are of the whole report again; a stage is of the patient."""
_USUAL = frozenset("left right upper lower with from fresh received labeled labelled formalin specimen tumor".split())
_PASSED = 2
"""Labels that a scanner may have lost between two of a list; a number further on is another one."""
_MOST_LISTS = 50
"""Lists of one report; a text of more is none that a person wrote, and takes long to compare."""
_HEAD = 120
"""Characters behind a label that say what it stands for."""


@dataclass(frozen=True)
class _Specimen:
    """A label, and the characters ``start`` to ``end`` (exclusive) that are of it."""

    label: str
    start: int
    end: int
    form: str  # part, letter or number
    head: str  # its first words

    @property
    def order(self) -> int:
        return int(self.label) if self.label.isdigit() else ord(self.label) - ord("A") + 1


def find_origin(text: str, start: int, end: int) -> tuple[str | None, tuple[str, ...]]:
    """Give the specimen that characters ``start`` to ``end`` of a report are of, and the blocks named with them.

    Args:
        text: the whole report.
        start: first character of the evidence.
        end: behind its last.

    Returns:
        The specimen's label (A, 2; None where the report does not tell), and blocks of that specimen (A3) that stand in
        brackets or behind "block" or "slide", in the evidence or in the rest of its sentence.
    """
    found = next((one for one in find_specimens(text) if one.start <= start < one.end), None)
    if found is None:
        return None, ()
    rest = re.compile(r"[.;\n](?=\s|$)").search(text, end, found.end)
    block = found.label + (r"-?[A-Z]" if found.label.isdigit() else r"-?\d{1,2}")
    places = re.findall(
        r"\(([^()]*)\)|\b(?:blocks?|slides?)\s+([^;()]*)", text[start : rest.start() if rest else found.end]
    )
    blocks = (name for place in places for name in re.findall(rf"(?<!\w){block}(?!\w)", " ".join(place)))
    return found.label, tuple(dict.fromkeys(name.replace("-", "") for name in blocks))


@lru_cache(maxsize=64)
def find_specimens(text: str) -> tuple[_Specimen, ...]:
    """Stretches of a report that are of one specimen each, in order, without overlap."""
    lists = sorted(_lists(text), key=lambda one: one[0].start)
    if len(lists) > _MOST_LISTS:
        return ()
    taken: list[_Specimen] = []
    for place, items in enumerate(lists):
        others = [other for at, other in enumerate(lists) if at != place and other[0].form == items[0].form]
        inside = any(one.start <= items[0].start < one.end for one in taken)  # findings numbered within a specimen
        if inside or not (_of_procedures(items) or any(_alike(items, other) for other in others)):
            continue
        if any(other[-1].order > items[-1].order for other in others):  # labels behind the last one were not read
            items = [*items[:-1], replace(items[-1], end=items[-1].start)]
        letters = [re.findall(r"\(([A-Z])\)", one.head) for one in items]
        if items[0].form == "number" and all(len(one) == 1 for one in letters):  # 1. Right lung, excision (A)
            items = [replace(one, label=letter) for one, (letter,) in zip(items, letters, strict=True)]
        taken += items
    return tuple(taken)


def _lists(text: str) -> Iterator[list[_Specimen]]:
    """Labels of one form that begin at A or 1 and rise, two at least."""
    headings = [one for one in find_sections(text) if one.title]
    closing = [one.start for one in headings if not _ITEM.search(one.title)]
    foreign = [one.start for one in headings if one.kind != "microscopic" and not _ITEM.search(one.title)]
    titles = {one.start + len(one.title) for one in headings}
    found = [one for one in _LABEL.finditer(text) if not _is_value(text, one, titles)]
    for form in ("part", "letter", "number"):
        marks = [
            one
            for one in found
            if form == ("part" if one["part"] else "number" if one["label"].isdigit() else "letter")
        ]
        items: list[_Specimen] = []
        for mark, following in zip(marks, [*(one.start() for one in marks), len(text)][1:], strict=True):
            start = mark.end()
            said = _CLOSING.search(text, start + 1, following)
            at = bisect_right(closing, start)
            end = min([said.start() if said else following, *closing[at : at + 1]])
            one = _Specimen(mark["label"], start, end, form, text[start : min(end, start + _HEAD)])
            elsewhere = items and bisect_right(foreign, start) > bisect_right(foreign, items[-1].start)
            if one.order == 1 or elsewhere:
                if len(items) > 1:
                    yield items
                items = []
            passed = one.order - (items[-1].order if items else 0) - 1
            if items and passed > 0:  # whose the words between are is not known
                items[-1] = replace(items[-1], end=items[-1].start)
            if passed == 0 or (items and 0 < passed <= _PASSED):
                items.append(one)
        if len(items) > 1:
            yield items


def _is_value(text: str, label: re.Match[str], titles: set[int]) -> bool:
    """Whether a number is what stands before it counts ("Total examined: 1."), and not the first below a heading."""
    before = text[: label.start()].rstrip()
    return label["label"].isdigit() and before.endswith(":") and len(before.rstrip(": \t\n")) not in titles


def _of_procedures(items: list[_Specimen]) -> bool:
    named = sum(bool(_PROCEDURE.search(one.head)) for one in items)
    return items[0].form == "part" or 2 * named >= len(items)


def _alike(items: list[_Specimen], others: list[_Specimen]) -> bool:
    """Whether half of the labels stand before a word in both lists."""
    heads = {one.label: _words(one.head) for one in others}
    return 2 * sum(bool(_words(one.head) & heads.get(one.label, set())) for one in items) >= len(items)


def _words(head: str) -> set[str]:
    return set(re.findall(r"\w{4,}", head.casefold())) - _USUAL
