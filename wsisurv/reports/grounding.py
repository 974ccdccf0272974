"""Proof: a claim counts only when the report says it.

The evidence is looked for word by word, after folding white space, case, hyphens at line ends and what scanners
confuse. Three things are never folded away: numbers, grades and negations. Where a rule could err, it refuses: a
statement that is refused is written down with the reason, a statement that is wrong would train a model.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from wsisurv.formats.statements import Category, Polarity, RejectedRecord, Statement
from wsisurv.reports.example import PARROTED, parroted
from wsisurv.reports.languages import LANGUAGES
from wsisurv.reports.polarity import off_topic, wrong_polarity
from wsisurv.reports.restated import GRADES, denies_more, in_another_language, other_findings, unproved_values
from wsisurv.reports.sections import seen_by_eye
from wsisurv.reports.specimens import find_origin
from wsisurv.reports.tokens import Reading, read
from wsisurv.reports.words import NEGATIONS, VALUE_WORDS, Word

Match = Literal["exact", "folded", "inexact"]
PROOF_VERSION = 7
"""Raised when the proof accepts or refuses otherwise: statements of two proofs must never pass for each other."""

LANGUAGE_REFUSED = "it stands in a language whose negations the proof does not know"
_MOST_SKIPPED = 3
"""Words of the report that an inexact match may pass over, in all."""
_NOTHING = frozenset({"none", "absent", "nil"})
"""What stands for no amount at an end of a range: "none to few"."""
_RANGE_WORDS = frozenset({"to", "or", "of", "x", "through"})


@dataclass(frozen=True)
class Claim:
    """A finding that somebody (a model, a rule) says is in a report; not proved yet."""

    category: Category
    polarity: Polarity
    text: str
    evidence: str


@dataclass(frozen=True)
class Extraction:
    """What a backend read in one report."""

    claims: tuple[Claim, ...]  # the findings, not proved yet
    left_out: dict[str, int] = field(default_factory=dict)  # findings left out, counted by kind
    salvaged: int | None = None  # findings taken from answers cut at their token limit; None where none was cut


@dataclass(frozen=True)
class Proof:
    """Where the report says it: characters ``start`` to ``end`` (exclusive), and how they matched."""

    start: int
    end: int
    match: Match


@dataclass(frozen=True)
class Refusal:
    """Why a claim is not proved."""

    reason: str


@dataclass(frozen=True)
class Grounded:
    """Claims of one report after proof."""

    statements: tuple[Statement, ...]
    rejected: tuple[RejectedRecord, ...]


@dataclass(frozen=True)
class _Span:
    """Words ``first`` to ``last`` (exclusive) of the report that cover the evidence."""

    first: int
    last: int
    match: Match


def prove(claim: Claim, report: str) -> Proof | Refusal:
    """Look for the claim's evidence in ``report`` and hold the claim against it.

    A claim with words of the prompt's worked example is refused first, whatever the report holds. The first place that
    passes all checks is the proof. They are: every word of the evidence stands there in order; no
    number, grade or word is cut in two; its language is known; it is not of the gross description; the polarity is what
    the sentence around it says; the restated text brings no number, grade or amount that the evidence lacks, nor words
    that may be one in a language that is not known.

    Args:
        claim: the finding, with its evidence.
        report: the whole text of the report.

    Returns:
        The place in ``report``, or the reason why there is none.
    """
    if parroted(claim.evidence, claim.text):
        return Refusal(PARROTED)
    quote, source = read(claim.evidence, "en"), read(report)
    if not any(word.stems or word.kind == "code" for word in quote.words):
        return Refusal("the evidence has no word that names a finding")
    reason = None
    for span in _places(quote, source):
        found = _objection(claim, source, span)
        if found is None:
            start, end = source.words[span.first].start, source.words[span.last - 1].end
            return _proof(claim.evidence, report, start, end, span.match)
        reason = reason or found
    return Refusal(reason or "the evidence is not in the report")


def _proof(evidence: str, report: str, start: int, end: int, match: Match) -> Proof:
    wanted = evidence.strip()
    if match != "inexact" and (at := report.find(wanted, max(0, start - len(wanted)), end + len(wanted))) >= 0:
        if at <= start and end <= at + len(wanted):
            return Proof(at, at + len(wanted), "exact")
    return Proof(start, end, match)


def _places(quote: Reading, source: Reading) -> Iterator[_Span]:
    """All places where the words of ``quote`` stand in ``source``: without gaps first."""
    gapped: list[_Span] = []
    for first in _beginnings(quote.words, source):
        span = _match_at(quote, source, first)
        if span is None:
            continue
        if span.match == "inexact":
            gapped.append(span)
        else:
            yield span
    yield from gapped


def _beginnings(quote: list[Word], source: Reading) -> list[int]:
    """Words of ``source`` with which ``quote`` may begin: all on which ``_step`` takes a first step."""
    first = quote[0]
    found = set(source.places.get(f"{first.kind} {first.scan}", ()))
    if first.kind == "word" and len(quote) > 1 and quote[1].broken and quote[1].kind == "word":
        found.update(source.places.get(f"word {first.scan}{quote[1].scan}", ()))
    return sorted(found)


def _match_at(quote: Reading, source: Reading, first: int) -> _Span | None:
    match: Match = "folded"
    at, skipped, index = first, 0, 0
    while index < len(quote.words):
        if at >= len(source.words):
            return None
        step = _step(quote.words, index, source.words, at)
        if step is None:
            if index == 0 or skipped == _MOST_SKIPPED or not _may_be_skipped(source, at):
                return None
            skipped += 1
            at += 1
            match = "inexact"
            continue
        if index and _rebinds(quote, index, source, at):
            return None
        if not step.plain:
            match = "inexact"
        index += step.quote
        at += step.source
    return _Span(first, at, match)


@dataclass(frozen=True)
class _Step:
    """How many words of quote and source agree here, and whether without folding scan errors."""

    quote: int
    source: int
    plain: bool


def _step(quote: list[Word], index: int, source: list[Word], at: int) -> _Step | None:
    wanted, seen = quote[index], source[at]
    if wanted.kind == seen.kind and wanted.scan == seen.scan:
        return _Step(1, 1, wanted.plain.replace(" ", "") == seen.plain.replace(" ", ""))
    if wanted.kind == "word" and at + 1 < len(source) and source[at + 1].broken:
        if seen.kind == source[at + 1].kind == "word" and seen.scan + source[at + 1].scan == wanted.scan:
            return _Step(1, 2, True)
    if seen.kind == "word" and index + 1 < len(quote) and quote[index + 1].broken:
        if wanted.kind == quote[index + 1].kind == "word" and wanted.scan + quote[index + 1].scan == seen.scan:
            return _Step(2, 1, True)
    return None


def _may_be_skipped(source: Reading, at: int) -> bool:
    """True for a word without which the sentence still says the same: no number, grade, amount or negation."""
    word = source.words[at]
    weighty = word.kind != "word" or word.values or word.plain in NEGATIONS or source.ends_before(at)
    weighty = weighty or any(table.denies(word.plain) for table in LANGUAGES.values())
    return not weighty and not source.uncertain(at, at + 1) and word.plain not in {"but", "except", "or"}


def _rebinds(quote: Reading, index: int, source: Reading, at: int) -> bool:
    """True when a sentence ends in the report where the quote goes on, so that the quote ties what the report parts.

    "Perineural invasion: no. Lymphovascular invasion: present" doesn't say "no lymphovascular invasion". Without a
    value at the seam, a lost period is only the end of a line.
    """
    if not source.ends_before(at) or re.search(r"[.;:?!\n-]", quote.words[index].gap):
        return False
    return any(source.is_cue(i) or source.words[i].values or not source.words[i].stems for i in (at - 1, at))


def _objection(claim: Claim, source: Reading, span: _Span) -> str | None:
    """The first reason not to believe that ``span`` says ``claim``, or None."""
    languages = {source.language(index) for index in range(span.first, span.last)}
    if unknown := sorted(languages - LANGUAGES.keys()):
        return f"{LANGUAGE_REFUSED} ({unknown[0]})"
    if claim.category != "non_morphology" and seen_by_eye(source.text, source.words[span.first].start):
        return "it stands in the gross description, which no slide shows"
    text = read(claim.text, source.language(span.first))
    return (
        _cut(source, span)
        or unproved_values(text, source, span.first, span.last)
        or in_another_language(text, source, span.first, span.last)
        or other_findings(claim.category, text, source, span.first, span.last)
        or wrong_polarity(claim.polarity, text, source, span.first, span.last)
        or (claim.polarity == "absent" and denies_more(text, source, span.first, span.last))
        or off_topic(claim.category, claim.polarity, text, source, span.first, span.last)
    )


def _cut(source: Reading, span: _Span) -> str | None:
    """A number, grade or word of which the span holds only a part."""
    words, first, last = source.words, span.first, span.last
    before = words[first - 1] if first else None
    after = words[last] if last < len(words) else None
    if before is not None:
        if words[first].hyphened:
            return "the evidence starts inside a word of the report"
        if _tied(before, words[first]) or _ranges(words, first - 1, first):
            return "the evidence starts inside a number or grade of the report"
        if re.search(r"[<>≤≥±~]\s*$", words[first].gap):
            return "the evidence leaves out a sign before a number"
    if after is not None:
        if after.hyphened:
            return "the evidence ends inside a word of the report"
        if _tied(words[last - 1], after) or _ranges(words, last - 1, last):
            return "the evidence ends inside a number or grade of the report"
        several = source.sentence_of[first] != source.sentence_of[last - 1] == source.sentence_of[last]
        if several and after.plain in VALUE_WORDS and re.fullmatch(r"\W*[:–—-]\W*", after.gap):
            return "the evidence ends before its last value"
        if words[last - 1].kind == "number" and after.gap.lstrip().startswith("%"):
            return "the evidence leaves out a unit after a number"
    return None


def _tied(left: Word, right: Word) -> bool:
    """True for two numbers or grades that are one: 0.6, 12. 6, 3/16, 2-3, 6 x 3."""
    if left.kind == right.kind == "word":  # "twenty four"
        spelled = all(word.values and word.values[0].isdigit() for word in (left, right))
        graded = all(GRADES & {*word.values} for word in (left, right))
        return (spelled and right.gap.strip() in {"", "-"}) or (graded and right.gap.strip() in {"/", "-", "–"})
    if "number" not in (left.kind, right.kind) and "code" not in (left.kind, right.kind):
        return False
    if re.fullmatch(r"\s*[/:–—-]\s*", right.gap):
        return bool(left.values) and bool(right.values)
    return left.kind == right.kind == "number" and re.fullmatch(r"\s*[.,]?\s*", right.gap) is not None


def _ranges(words: list[Word], left: int, right: int) -> bool:
    """True when the span's edge cuts "moderately to poorly", "3 of 12" or "6 x 3"."""
    around = [words[i] if 0 <= i < len(words) else None for i in (left - 1, left, right, right + 1)]
    far_left, near_left, near_right, far_right = around
    if near_left is None or near_right is None:
        return False
    if near_left.plain in _RANGE_WORDS and far_left is not None:
        return _is_value(far_left) and _is_value(near_right)
    if near_right.plain in _RANGE_WORDS and far_right is not None:
        return _is_value(near_left) and _is_value(far_right)
    return (
        near_right.gap.strip() in {"/", "-"}
        and _NOTHING & {near_left.plain, near_right.plain} != set()
        and (_is_value(near_left) and _is_value(near_right))
    )


def _is_value(word: Word) -> bool:
    return bool(word.values) or word.plain in _NOTHING


def ground(case_id: str, claims: Iterable[Claim], report: str) -> Grounded:
    """Prove the claims of one report.

    Claims that say the same (category, polarity, and the same place or the same words) are one statement.

    Args:
        case_id: the case; statements are numbered ``<case_id>/1`` … in order of their place in the report.
        claims: what a backend read.
        report: the whole text of the report.

    Returns:
        Statements that are proved, and records of those that are not.
    """
    proved: list[tuple[Proof, Claim]] = []
    rejected: list[RejectedRecord] = []
    for claim in claims:
        verdict = prove(claim, report)
        if isinstance(verdict, Proof):
            proved.append((verdict, claim))
        else:
            rejected.append(
                RejectedRecord(
                    case_id=case_id,
                    category=claim.category,
                    text=claim.text,
                    evidence=claim.evidence,
                    reason=verdict.reason,
                )
            )
    proved.sort(key=lambda pair: (pair[0].start, pair[0].end))
    seen: set[tuple[object, ...]] = set()
    statements: list[Statement] = []
    for proof, claim in proved:
        words = tuple(word.scan for word in read(report[proof.start : proof.end]).words)
        keys = {(claim.category, claim.polarity, words), (claim.category, claim.polarity, proof.start, proof.end)}
        if seen & keys:
            continue
        seen |= keys
        specimen, blocks = find_origin(report, proof.start, proof.end)
        statements.append(
            Statement(
                statement_id=f"{case_id}/{len(statements) + 1}",
                category=claim.category,
                polarity=claim.polarity,
                text=claim.text,
                evidence=claim.evidence,
                start=proof.start,
                end=proof.end,
                match=proof.match,
                specimen=specimen,
                blocks=blocks,
            )
        )
    return Grounded(tuple(statements), tuple(rejected))
