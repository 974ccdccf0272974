"""How good is an extraction: claim by claim against a gold standard, or against the report itself.

The rule. A statement of ours matches a gold statement of the same case and category when their evidence overlaps by
half of the shorter one, or when half of the content words of the shorter of the two texts are in the other. Of all
that match, the best is taken: one that agrees in polarity and numbers before one that doesn't. A match with the other
polarity is a polarity error; one that states a number or grade which the gold has neither in that statement nor in
another at the same place is a number error; neither supports anything. A gold statement may support several of ours,
for reports say things twice; it is found once.

Precision follows the idea of WSI-Precision, relevance that of WSI-Relevance; here they are counted by this rule, not
judged by a language model, so that a figure is the same tomorrow.

Source: the ideas of Liang et al., WSI-LLaVA, arXiv:2412.02141 (WSI-Precision, WSI-Relevance).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from wsisurv.errors import FormatError, MetricError, ReportError
from wsisurv.formats.atomic import read_jsonl
from wsisurv.formats.slide_names import composed
from wsisurv.formats.statements import Category, Polarity, ReportRecord, Statement
from wsisurv.reports.grounding import Claim, Proof, prove
from wsisurv.reports.sections import Sentence, find_sections, find_sentences
from wsisurv.reports.tokens import read
from wsisurv.reports.words import stated

_ENDING = re.compile(r"\.(?:txt|text|pdf|json|xml)$", re.IGNORECASE)
_ENOUGH = 0.5
"""Share of the shorter evidence, or of the shorter text's content words, that makes a match."""


@dataclass(frozen=True)
class GoldScores:
    """Against a gold standard; counts over all reports together."""

    reports: int  # cases that have a gold standard
    statements: int  # our statements of those cases
    supported: int  # those that a gold statement supports
    gold: int  # gold statements
    found: int  # gold statements that one of ours says
    polarity_errors: int  # ours that say the opposite of the gold statement that they match
    number_errors: int  # ours whose number or grade the matched gold statement does not have

    @property
    def precision(self) -> float | None:
        """Share of our statements that the gold supports; None when we said nothing."""
        return self.supported / self.statements if self.statements else None

    @property
    def relevance(self) -> float | None:
        """Share of the gold statements that we found; None when there are none."""
        return self.found / self.gold if self.gold else None


@dataclass(frozen=True)
class ReportScores:
    """How good an extraction is."""

    reports: int  # reports that were read
    with_statements: int  # reports that gave at least one statement
    statements: int  # all statements
    proved: int  # statements that pass the proof against the report
    sentences: int  # sentences in the parts that say what a slide can show, as the rules see it; headings apart
    covered: int  # those of them that at least one statement quotes
    unproved: dict[str, int] = field(default_factory=dict)  # why the others don't, counted by reason
    # statements (``non_morphology`` apart) quoted from a sentence of another kind, counted by kind. The kind is told by
    # the rules' headings and words, so leakage that these can't see is not in it.
    leakage: dict[str, int] = field(default_factory=dict)
    # findings that the extraction left out, by kind, as its records say
    left_out: dict[str, int] = field(default_factory=dict)
    against_gold: GoldScores | None = None  # None without a gold standard

    @property
    def proved_share(self) -> float | None:
        """Share of the statements that pass the proof; None without statements."""
        return self.proved / self.statements if self.statements else None

    @property
    def coverage(self) -> float | None:
        """Share of what a slide can show that is quoted; None when no report says any."""
        return self.covered / self.sentences if self.sentences else None

    @property
    def leakage_share(self) -> float | None:
        """Share of the statements that come from elsewhere; None without statements."""
        return sum(self.leakage.values()) / self.statements if self.statements else None


def evaluate_reports(
    ours: Mapping[str, ReportRecord], reports: Mapping[str, str], gold: Mapping[str, ReportRecord] | None = None
) -> ReportScores:
    """Score an extraction, ours or another's.

    Args:
        ours: records by case_id.
        reports: the text of each report by case_id; every case of ``ours`` must be there.
        gold: records of a gold standard. Cases without gold are not in its figures; a gold case that ``ours`` lacks
            counts as not found.

    Returns:
        Counts and shares over all reports together.

    Raises:
        ReportError: a case has no report.
        MetricError: the gold standard and the extraction have no case in common.
    """
    missing = sorted(ours.keys() - reports.keys())
    if missing:
        raise ReportError(f"no report for {missing[0]!r} and {len(missing) - 1} more; are these the right reports?")
    unproved: Counter[str] = Counter()
    leakage: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    sentences = covered = 0
    for case_id, record in ours.items():
        text = reports[case_id]
        unproved.update(_reasons(record.statements, text))
        left_out.update(record.left_out)
        parts = list(find_sentences(text))
        leakage.update(kind for s in record.statements if (kind := _leaks(s, parts)) is not None)
        titles = [section.start + len(section.title) for section in find_sections(text)]
        shown = [part for part in parts if part.kind == "microscopic" and part.end not in titles]
        shown = [part for part in shown if _says_something(part, text)]
        sentences += len(shown)
        covered += sum(any(_overlap(part, s) > 0 for s in record.statements) for part in shown)
    total = sum(len(record.statements) for record in ours.values())
    return ReportScores(
        reports=len(ours),
        with_statements=sum(bool(record.statements) for record in ours.values()),
        statements=total,
        proved=total - sum(unproved.values()),
        sentences=sentences,
        covered=covered,
        unproved=dict(unproved.most_common()),
        leakage=dict(leakage.most_common()),
        left_out=dict(left_out.most_common()),
        against_gold=None if gold is None else _score(ours, gold),
    )


def _reasons(statements: Iterable[Statement], report: str) -> list[str]:
    verdicts = [prove(Claim(s.category, s.polarity, s.text, s.evidence), report) for s in statements]
    return [verdict.reason for verdict in verdicts if not isinstance(verdict, Proof)]


def _says_something(sentence: Sentence, report: str) -> bool:
    words = read(report).words[sentence.first : sentence.last]
    return any(word.stems for word in words)


def _overlap(one: Sentence | Statement, other: Sentence | Statement) -> int:
    return max(0, min(one.end, other.end) - max(one.start, other.start))


def _leaks(statement: Statement, sentences: list[Sentence]) -> str | None:
    """Kind of the sentence that the evidence mostly lies in, unless a slide can show it."""
    if statement.category == "non_morphology" or not sentences:
        return None
    home = max(sentences, key=lambda sentence: _overlap(sentence, statement))
    return None if home.kind == "microscopic" or not _overlap(home, statement) else home.kind


def _score(ours: Mapping[str, ReportRecord], gold: Mapping[str, ReportRecord]) -> GoldScores:
    if not ours.keys() & gold.keys():
        raise MetricError(
            f"the gold standard ({len(gold)} cases) and the extraction ({len(ours)}) have no case in common; "
            f"gold has {next(iter(gold), None)!r}, the extraction {next(iter(ours), None)!r}."
        )
    counts: Counter[str] = Counter()
    for case_id, wanted in gold.items():
        said = ours[case_id].statements if case_id in ours else ()
        found: set[int] = set()
        for statement in said:
            here = [other for other in wanted.statements if _overlap(statement, other)]
            known = {number for other in here for number in _numbers(other.text) | _numbers(other.evidence)}
            verdicts = {i: _verdict(statement, other, known) for i, other in enumerate(wanted.statements)}
            found |= {i for i, verdict in verdicts.items() if verdict == "supported"}
            best = min((v for v in verdicts.values() if v is not None), key=_BEST_FIRST.index, default="unmatched")
            counts[best] += 1
        counts["statements"] += len(said)
        counts["gold"] += len(wanted.statements)
        counts["found"] += len(found)
    return GoldScores(
        reports=len(gold),
        statements=counts["statements"],
        supported=counts["supported"],
        gold=counts["gold"],
        found=counts["found"],
        polarity_errors=counts["polarity"],
        number_errors=counts["number"],
    )


_BEST_FIRST = ["supported", "number", "polarity"]


def _verdict(ours: Statement, gold: Statement, known: set[str]) -> str | None:
    """``supported``, ``polarity`` or ``number`` (what is wrong), or None where they are of different things.

    ``known`` are numbers that the gold standard has at the place of ours: a sentence may hold several statements.
    """
    if ours.category != gold.category or not (_same_place(ours, gold) or _same_words(ours, gold)):
        return None
    if ours.polarity != gold.polarity:
        return "polarity"
    return "supported" if _numbers(ours.text) <= known | _numbers(gold.text) | _numbers(gold.evidence) else "number"


def _same_place(ours: Statement, gold: Statement) -> bool:
    shorter = min(ours.end - ours.start, gold.end - gold.start)
    return shorter > 0 and _overlap(ours, gold) >= _ENOUGH * shorter


def _same_words(ours: Statement, gold: Statement) -> bool:
    left, right = ({stem for word in read(s.text).words for stem in word.stems} for s in (ours, gold))
    shorter = min(len(left), len(right))
    return shorter > 0 and len(left & right) >= _ENOUGH * shorter


def _numbers(text: str) -> set[str]:
    return {value for value in stated(read(text).words) if any(letter.isdigit() for letter in value)}


class _Line(BaseModel):
    """A statement that somebody wrote by hand or with another tool: no ids; words of its own, or a place alone."""

    model_config = ConfigDict(frozen=True)

    category: Category
    polarity: Polarity = "present"
    text: str = ""
    evidence: str = ""
    start: int | None = None
    end: int | None = None


class _Lines(BaseModel):
    model_config = ConfigDict(frozen=True)

    case_id: str
    report_sha256: str = ""
    statements: tuple[_Line, ...]


def read_gold(path: Path, reports: Mapping[str, str]) -> dict[str, ReportRecord]:
    """Read statements written by a person or another tool.

    One JSON object a line: ``{"case_id": …, "statements": [{"category", "polarity", "text", "evidence"}, …]}``; other
    keys are passed over, so a ``statements.jsonl`` is read as well. A case may be named by its report's file. Each
    evidence is looked for in the report; where it isn't found, the statement is matched by its words alone. ``start``
    and ``end`` (characters of the report) may stand in the place of text and evidence, so that a gold standard holds no
    word of a report; ``report_sha256`` beside ``case_id`` must then say of which text they are.

    Raises:
        ReportError: there is no such file.
        FormatError: a line that is no such object, by its number, a case twice, or statements of another text.
    """
    if not path.exists():
        raise ReportError(f"{path}: no such file")
    found: dict[str, ReportRecord] = {}
    for lines in read_jsonl(path, _parse):
        case_id = composed(lines.case_id)
        if case_id not in reports and _ENDING.sub("", case_id) in reports:
            case_id = _ENDING.sub("", case_id)
        if case_id in found:
            raise FormatError(f"{path}: case {case_id!r} is there twice. Join its statements in one line.")
        report = reports.get(case_id, "")
        digest = sha256(report.encode()).hexdigest()
        if case_id in reports and lines.report_sha256 not in {"", digest}:
            raise FormatError(
                f"{path}: the statements of case {case_id!r} are of another text of its report (sha256 "
                f"{lines.report_sha256[:12]}, not {digest[:12]}). Give the reports that they were made from."
            )
        statements = tuple(
            _placed(case_id, n, _worded(path, case_id, line, report, lines.report_sha256), report)
            for n, line in enumerate(lines.statements, start=1)
        )
        found[case_id] = ReportRecord(case_id=case_id, fingerprint="", report_sha256="", statements=statements)
    if not found:
        raise FormatError(f"{path}: no record in it")
    return found


def _parse(value: Any) -> _Lines:
    try:
        return _Lines.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def _worded(path: Path, case_id: str, line: _Line, report: str, digest: str) -> _Line:
    """The statement with words, where it has a place alone."""
    if line.text or line.evidence:
        return line
    if line.start is None or line.end is None:
        raise FormatError(f"{path}: a statement of case {case_id!r} has neither text nor start and end.")
    if report and not 0 <= line.start < line.end <= len(report):
        raise FormatError(
            f"{path}: case {case_id!r}: characters {line.start} to {line.end} are not in its report of {len(report)}. "
            "Is it another text?"
        )
    if report and not digest:
        raise FormatError(
            f"{path}: case {case_id!r} has places without words, and no report_sha256 that says of which text they are."
        )
    said = report[line.start : line.end]
    return line.model_copy(update={"text": " ".join(said.split()), "evidence": said})


def _placed(case_id: str, number: int, line: _Line, report: str) -> Statement:
    proof = prove(Claim(line.category, line.polarity, line.text, line.evidence), report)
    start = report.find(line.evidence) if line.evidence else -1
    if line.start is not None and line.end is not None and report[line.start : line.end] == line.evidence:
        start, proof = line.start, Proof(line.start, line.end, "exact")
    place = proof if isinstance(proof, Proof) else Proof(max(start, 0), max(start, 0) + len(line.evidence), "exact")
    if not isinstance(proof, Proof) and start < 0:
        place = Proof(0, 0, "inexact")
    return Statement(
        statement_id=f"{case_id}/{number}",
        category=line.category,
        polarity=line.polarity,
        text=line.text,
        evidence=line.evidence,
        start=place.start,
        end=place.end,
        match=place.match,
    )
