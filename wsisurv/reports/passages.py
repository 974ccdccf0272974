"""Long reports cut into passages that fit a model's window, at the best place there is, with overlap."""

import re
from dataclasses import dataclass

_PLACES = tuple(
    re.compile(pattern)
    for pattern in (
        r"\n\s*\n(?P<cut>)",  # an empty line
        r"(?<!\S)(?P<cut>)(?:[A-Z][A-Z/&,()-]{2,} ?){1,5}:",  # before a heading: FINAL DIAGNOSIS:
        r"\n(?P<cut>)",
        r"[.;]\s+(?P<cut>)",
        r"\s+(?P<cut>)",
    )
)
_WORD_START = re.compile(r"\s+(?=\S)")


@dataclass(frozen=True)
class Passage:
    """Part of a report: ``report[start:end]``, characters."""

    start: int
    end: int


def split(text: str, longest: int, overlap: int) -> tuple[Passage, ...]:
    """Cut ``text`` into passages of at most ``longest`` characters that together cover all of it.

    Each begins up to ``overlap`` characters before the end of the one before, so a sentence at the cut is whole in one
    of them. Cuts fall, within the last two fifths of a passage, on an empty line, else before a heading, else at a
    line's end, a sentence's, between words, or, in a text without any of them, where they must.

    Args:
        text: the report.
        longest: characters of a passage, more than twice ``overlap``.
        overlap: characters that neighbours share.
    """
    passages: list[Passage] = []
    start = 0
    while len(text) - start > longest:
        cut = _cut(text, start + (longest * 3) // 5, start + longest)
        passages.append(Passage(start, cut))
        start = _word_start(text, cut - overlap, cut)
    return (*passages, Passage(start, len(text)))


def halves(text: str, overlap: int) -> tuple[Passage, Passage]:
    """Cut ``text`` in two near its middle, with overlap."""
    cut = _cut(text, len(text) // 3, (len(text) * 2) // 3)
    return Passage(0, cut), Passage(_word_start(text, cut - overlap, cut), len(text))


def _cut(text: str, low: int, high: int) -> int:
    """The last good place in (low, high], the best kind of place first."""
    for place in _PLACES:
        cuts = [cut for found in place.finditer(text, low, high) if (cut := found.start("cut")) > low]
        if cuts:
            return cuts[-1]
    return high


def _word_start(text: str, low: int, high: int) -> int:
    """The first beginning of a word in [low, high), else ``low``."""
    found = _WORD_START.search(text, max(low, 0), high)
    return found.end() if found and found.end() < high else max(low, 0)
