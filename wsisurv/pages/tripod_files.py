"""TRIPOD+AI as a page, as Markdown, and, where python-docx is installed, as a Word file."""

import importlib.util
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from wsisurv.formats.atomic import replacing, write_text
from wsisurv.pages.flow_figure import FLOW
from wsisurv.pages.rendering import write_page
from wsisurv.pages.tripod import TripodRow

NO_DOCX = "tripod.docx was not written: python-docx is not installed. `pip install 'wsisurv[docx]'` installs it."
_HEADS = ("item", "what is to be reported", "from this workspace", "for the author")
_INTRODUCTION = (
    "TRIPOD+AI (BMJ 2024;385:e078378) in words of our own, filled in from what the workspace holds. What it "
    "can't know is a "
    "question for the author. Read every line before it goes into a paper."
)


def write_tripod(folder: Path, cohort: str, rows: Sequence[TripodRow], flow: bytes) -> list[Path]:
    """Write tripod.html, tripod.md and, where python-docx is installed, tripod.docx.

    Args:
        folder: evaluation/ of the cohort, where the picture of the flow is.
        cohort: its name.
        rows: items.
        flow: the picture of participant flow, SVG.

    Raises:
        StorageError: no room or no permission.
    """
    page, plain, word = (folder / f"tripod.{ending}" for ending in ("html", "md", "docx"))
    counts = _counts(rows)
    write_page(
        page,
        "tripod.html",
        cohort=cohort,
        rows=rows,
        heads=_HEADS,
        introduction=_INTRODUCTION,
        counts=counts,
        flow=flow,
    )
    write_text(plain, _markdown(cohort, rows, counts))
    if importlib.util.find_spec("docx") is None:
        return [page, plain]
    _write_docx(word, cohort, rows, counts, folder / f"{FLOW}.png")
    return [page, plain, word]


def _counts(rows: Sequence[TripodRow]) -> str:
    found = [sum(row.status == status for row in rows) for status in ("known", "known in part", "for the author")]
    return (
        f"Of {len(rows)} parts of the 27 items {found[0]} are known, {found[1]} in part, {found[2]} are for the author."
    )


def _markdown(cohort: str, rows: Sequence[TripodRow], counts: str) -> str:
    lines = [
        f"# TRIPOD+AI: {_escaped(cohort)}",
        "",
        _escaped(_INTRODUCTION),
        "",
        counts,
        "",
        f"![Flow of participants]({FLOW}.svg)",
        "",
    ]
    lines += [f"| {' | '.join(_HEADS)} |", "|---|---|---|---|"]
    for row in rows:
        item = f"{row.item.number} {row.item.topic}"
        known = "<br>".join(map(_escaped, row.known))
        lines.append(f"| {item} | {_escaped(row.item.asks)} | {known} | {_escaped(row.question)} |")
    return "\n".join([*lines, ""])


def _escaped(words: str) -> str:
    """Words that Markdown shows as they are."""
    return re.sub(r"([\\`*_{}\[\]<>|#&~$])", r"\\\1", " ".join(words.split()))


def _write_docx(path: Path, cohort: str, rows: Sequence[TripodRow], counts: str, flow: Path) -> None:
    import docx
    from docx.enum.section import WD_ORIENT
    from docx.shared import Cm

    document = docx.Document()
    section = document.sections[0]
    section.orientation = WD_ORIENT.LANDSCAPE
    section.page_width, section.page_height = Cm(29.7), Cm(21.0)
    section.left_margin = section.right_margin = Cm(2)
    document.add_heading(f"TRIPOD+AI: {_printable(cohort)}", 1)
    for words in (_INTRODUCTION, counts):
        document.add_paragraph(words)
    table = document.add_table(rows=1, cols=len(_HEADS), style="Table Grid")
    table.autofit = False
    widths = (Cm(3.4), Cm(5.4), Cm(10.9), Cm(6.0))
    cells: list[tuple[str, ...]] = [_HEADS]
    for row in rows:
        parts = (f"{row.item.number} {row.item.topic}", row.item.asks, "\n".join(row.known), row.question)
        cells.append(tuple(map(_printable, parts)))
    for number, line_words in enumerate(cells):
        line = table.rows[0] if number == 0 else table.add_row()
        for cell, text, width in zip(line.cells, line_words, widths, strict=True):
            cell.width = width
            run = cell.paragraphs[0].add_run(text)
            run.bold = number == 0
    if flow.exists():
        document.add_heading("Flow of participants (item 20a)", 2)
        document.add_picture(str(flow), width=Cm(14))
    made = io.BytesIO()
    document.save(made)
    with replacing(path) as partial, zipfile.ZipFile(made) as saved, zipfile.ZipFile(partial, "w") as packed:
        for name in saved.namelist():  # without the time of day, so that the same words are the same bytes
            packed.writestr(zipfile.ZipInfo(name), saved.read(name), zipfile.ZIP_DEFLATED)


def _printable(words: str) -> str:
    """Letters that XML can hold."""
    return "".join(letter for letter in words if letter.isprintable() or letter == "\n")
