"""``reports/evaluation/index.html``: each report with its statements marked in place, to be read by a person.

It holds the reports' whole text and is as confidential as they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsisurv.errors import ReportError
from wsisurv.formats.atomic import write_text
from wsisurv.formats.statements import Category, RejectedRecord, ReportRecord, Statement
from wsisurv.pages.rendering import render
from wsisurv.reports.evaluation import ReportScores
from wsisurv.reports.sections import LEFT_OUT_KINDS, find_sections, find_sentences

_FAMILIES: tuple[tuple[int, tuple[Category, ...]], ...] = (
    (205, ("histological_type", "grade", "growth_pattern", "precursor")),
    (25, ("invasion", "lymphovascular_invasion", "perineural_invasion")),
    (335, ("necrosis", "mucin", "mitoses")),
    (135, ("stroma", "inflammation")),
    (275, ("margin", "node")),
    (55, ("other_morphology", "non_morphology")),
)
"""Six hues, degrees, as many as are told apart: the tumour's kind, its invasion, its cells, what surrounds it, how far
it goes, the rest. Which category it is stands beside each mark."""
_HUES = {category: hue for hue, categories in _FAMILIES for category in categories}


@dataclass(frozen=True)
class TextPiece:
    """A stretch of a report that is marked in one way."""

    text: str  # of it
    css: str = ""  # polarity of a statement, ``out`` and the kind of what is left out, or empty
    category: str = ""  # of the statement whose colour it has; empty where it is of none
    label: str = ""  # written beside it
    title: str = ""  # shown where the pointer rests on it


@dataclass(frozen=True)
class ShownReport:
    """A report as the page shows it; ``left_out`` counts sentences by kind, ``length`` letters."""

    case_id: str
    length: int
    paragraphs: Sequence[Sequence[TextPiece]]  # one begins where a heading stands
    statements: Sequence[Statement]
    rejected: Sequence[RejectedRecord]
    left_out: Mapping[str, int]


def write_statements_page(
    path: Path,
    records: Mapping[str, ReportRecord],
    reports: Mapping[str, str],
    rejected: Iterable[RejectedRecord] = (),
    scores: ReportScores | None = None,
) -> None:
    """Write the page of an extraction, whole or not at all.

    Args:
        path: the HTML file.
        records: what the extraction gave, by case_id.
        reports: the text of each report, by case_id.
        rejected: findings that could not be proved.
        scores: figures for the top of the page.

    Raises:
        ReportError: a case has no report.
        StorageError: no room or no permission.
    """
    write_text(path, render_statements(records, reports, rejected, scores))


def render_statements(
    records: Mapping[str, ReportRecord],
    reports: Mapping[str, str],
    rejected: Iterable[RejectedRecord] = (),
    scores: ReportScores | None = None,
) -> str:
    """Give the page as text; arguments and errors as ``write_statements_page``."""
    missing = sorted(records.keys() - reports.keys())
    if missing:
        raise ReportError(f"no report for {missing[0]!r} and {len(missing) - 1} more; are these the right reports?")
    refused: dict[str, list[RejectedRecord]] = {}
    for record in rejected:
        refused.setdefault(record.case_id, []).append(record)
    shown = [_shown(records[case], reports[case], refused.get(case, [])) for case in sorted(records)]
    return render("statements.html", reports=shown, categories=_HUES, scores=scores)


def _shown(record: ReportRecord, text: str, rejected: Sequence[RejectedRecord]) -> ShownReport:
    left_out: dict[str, int] = {kind: record.left_out[kind] for kind in LEFT_OUT_KINDS if record.left_out.get(kind)}
    paragraphs = _paragraphs(text, record.statements)
    return ShownReport(record.case_id, len(text), paragraphs, record.statements, rejected, left_out)


def _paragraphs(text: str, statements: Sequence[Statement]) -> list[list[TextPiece]]:
    """The report's text, a paragraph a heading, cut wherever a statement or a part left out starts or ends.

    Where statements overlap, the mark has the colour of the one that starts last and names them all.
    """
    left_out = [part for part in find_sentences(text) if part.kind != "microscopic"]
    cuts = {0, len(text)} | {place for one in statements for place in (one.start, one.end)}
    cuts |= {place for part in left_out for place in (part.start, part.end)}
    starts = {section.start for section in find_sections(text)}
    cuts |= starts
    edges = sorted(cut for cut in cuts if 0 <= cut <= len(text))
    paragraphs: list[list[TextPiece]] = [[]]
    kind_before = None
    for start, end in zip(edges, edges[1:], strict=False):
        if start in starts and paragraphs[-1]:
            paragraphs.append([])
        piece, pieces = text[start:end], paragraphs[-1]
        here = [one for one in statements if one.start <= start and end <= one.end]
        kind = next((part.kind for part in left_out if part.start <= start and end <= part.end), None)
        if here:
            pieces.append(_marked(piece, here, ends=[one for one in here if one.end == end]))
        elif kind is not None:
            label = kind if kind != kind_before else ""
            pieces.append(TextPiece(piece, f"out {kind}", label=label, title=f"left out: {kind}"))
        else:
            pieces.append(TextPiece(piece))
        if any(letter.isalnum() for letter in piece):
            kind_before = kind
    return paragraphs


def _marked(piece: str, here: Sequence[Statement], ends: Sequence[Statement]) -> TextPiece:
    top = max(here, key=lambda one: one.start)
    title = "; ".join(f"{_named(one.category)}, {one.polarity}: {one.text} ({one.match})" for one in here)
    label = ", ".join(dict.fromkeys(_named(one.category) for one in ends))
    return TextPiece(piece, top.polarity, top.category, label, title)


def _named(category: str) -> str:
    return category.replace("_", " ")
