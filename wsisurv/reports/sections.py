"""Which part of a report is what: seen under the microscope, seen by eye, stained, told, handled, or a name.

Learnt from real reports of many hospitals. A heading opens a section and the next heading closes it; a sentence can
also say by its own words that it belongs elsewhere ("Received fresh …" below "Diagnosis").
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from wsisurv.reports.lexicon import HEADINGS, OWN_WORDS, Kind, alternatives
from wsisurv.reports.tokens import Reading, read

LEFT_OUT_KINDS: tuple[Kind, ...] = ("gross", "immunohistochemistry", "history", "handling", "identifiers")


@dataclass(frozen=True)
class Section:
    """Characters ``start`` to ``end`` (exclusive) of a report, all of one kind; ``title`` is empty before a heading."""

    kind: Kind
    title: str
    start: int
    end: int
    by_eye: bool = False  # whether it is of what a heading calls gross or macroscopic


@dataclass(frozen=True)
class Sentence:
    """Words ``first`` to ``last`` (exclusive) of a reading, and characters ``start`` to ``end`` of its text."""

    kind: Kind
    first: int
    last: int
    start: int
    end: int


_LONG = 25
"""Words; a longer sentence is a list of clauses."""
_HEADING = re.compile(
    r"(?:(?<=[.;\n])|(?<=[.;:][\s-])|(?<=\s\s)|^)[\s*•#-]*(?P<title>"
    + "|".join(f"(?P<{kind}>{alternatives(lines)})" for kind, lines in HEADINGS.items())
    + r")\s*\**\s*(?:[:\n]|\.(?=\s)|$)",
    re.IGNORECASE,
)
_CAPITAL_HEADING = re.compile(
    r"""\b(?P<title>(?P<gross>GROSS\ DESCRIPTION|GROSS\ EXAMINATION|MACROSCOPIC\ DESCRIPTION)
    |(?P<microscopic>MICROSCOPIC\ (?:DESCRIPTION|EXAMINATION)|(?:FINAL\ |PATHOLOGIC\ )?DIAGNOSIS(?=\ *[:.])
      |SYNOPTIC\ REPORT|CASE\ SYNOPSIS)
    |(?P<handling>BLOCK\ SUMMARY|Block\ Summary|Summary\ of\ [Ss]ections)
    |(?P<history>CLINICAL\ (?:HISTORY|NOTES|DATA|INFORMATION))
    |(?P<immunohistochemistry>IMMUNOHISTOCHEMI\w+|SPECIAL\ STUDIES)(?=\ *[:.]))""",
    re.VERBOSE,
)
"""Headings that stand out by their capitals wherever they are."""


_BY_EYE = re.compile(r"gross|ma[ck]ro", re.IGNORECASE)
_ITEM = re.compile(r"(?:(?:regional|surgical) )?(?:lymph nodes?|margins?)(?: of resection)?$", re.IGNORECASE)
"""Headings that stand within a gross description as well as in a list of what the microscope showed."""
_BY_MICROSCOPE = re.compile(
    r"\d ?/ ?\d|\bp?N[0-3x]|\bR[0-2]\b|tumou?r|metast|posit|negat|carcin|malig|neopl|cancer|invol|infiltr|invas"
    r"|\bfree\b|\bno(?:ne|t)?\b|clear|reactive|benign|dyspla|microscop",
    re.IGNORECASE,
)
"""Words of what nobody sees in a node or a margin by eye."""


def seen_by_eye(text: str, at: int) -> bool:
    """True where the character ``at`` lies under a heading that says gross or macroscopic."""
    return any(section.by_eye and section.start <= at < section.end for section in find_sections(text))


@lru_cache(maxsize=64)
def find_sections(text: str) -> tuple[Section, ...]:
    """Split a report by its headings; the sections cover the text without overlap.

    What comes before the first heading counts as microscopic: short reports have no headings at all. Nodes and margins
    that are counted and measured within a gross description ("Lymph nodes: 29 identified") are of it.
    """
    marks: dict[int, tuple[Kind, str]] = {}
    for pattern in (_HEADING, _CAPITAL_HEADING):
        for found in pattern.finditer(text):
            start = found.start("title")
            if any(at <= start < at + len(title) for at, (_, title) in marks.items()):
                continue  # the DIAGNOSIS in "PRE-OP DIAGNOSIS"
            kind = next(kind for kind in HEADINGS if found.groupdict().get(kind) is not None)
            marks[start] = (kind, found.group("title"))
    starts = sorted(marks)
    sections = [Section("microscopic", "", 0, starts[0] if starts else len(text))]
    for start, end in zip(starts, [*starts, len(text)][1:], strict=True):
        kind, title = marks[start]
        within = sections[-1].by_eye and _ITEM.match(title) and not _BY_MICROSCOPE.search(text, start, end)
        by_eye = bool(within or (kind == "gross" and _BY_EYE.search(title)))
        sections.append(Section("gross" if within else kind, title, start, end, by_eye))
    return tuple(section for section in sections if section.end > section.start)


def find_sentences(text: str) -> Iterator[Sentence]:
    """Yield the sentences of a report in order, each with the kind that its section or its own words give it.

    A long sentence, of the sort that holds a whole report, is cut at its commas and brackets instead of being left
    out for a word in one of them.
    """
    reading = read(text)
    sections = find_sections(text)
    at = 0
    for words in reading.sentences:
        for first, last in _split(reading, words, sections):
            while at + 1 < len(sections) and sections[at + 1].start <= reading.words[first].start:
                at += 1
            whole = _sentence(reading, first, last, sections[at].kind)
            by_words = sections[at].kind == "microscopic" and whole.kind not in {"microscopic", "gross"}
            if by_words and last - first > _LONG:
                yield from _parts(reading, first, last)
            else:
                yield whole


def _sentence(reading: Reading, first: int, last: int, section: Kind) -> Sentence:
    start, end = reading.words[first].start, reading.words[last - 1].end
    return Sentence(_kind(reading.text[start:end], section), first, last, start, end)


def _parts(reading: Reading, first: int, last: int) -> Iterator[Sentence]:
    """A sentence's clauses, each of its own kind; neighbours of one kind stay together."""
    seams = [i for i in range(first + 1, last) if re.search(r"[,()]", reading.words[i].gap)]
    start = first
    kind: Kind | None = None
    for left, right in zip([first, *seams], [*seams, last], strict=True):
        part = _sentence(reading, left, right, "microscopic")
        if kind is not None and part.kind != kind:
            yield Sentence(kind, start, left, reading.words[start].start, reading.words[left - 1].end)
            start = left
        kind = part.kind
    if kind is not None:
        yield Sentence(kind, start, last, reading.words[start].start, reading.words[last - 1].end)


def _split(reading: Reading, words: range, sections: tuple[Section, ...]) -> Iterator[tuple[int, int]]:
    """Cut a sentence where a section starts inside it."""
    starts = {section.start for section in sections}
    first = words.start
    for index in range(words.start + 1, words.stop):
        if reading.words[index].start in starts:
            yield first, index
            first = index
    yield first, words.stop


def _kind(sentence: str, section: Kind) -> Kind:
    if section != "microscopic" and section != "history" and OWN_WORDS["identifiers"].search(sentence):
        return "identifiers"
    if section != "microscopic":
        return section
    return next((kind for kind, words in OWN_WORDS.items() if words.search(sentence)), "microscopic")
