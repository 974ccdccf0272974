"""Every table of a page as CSV and LaTeX, taken off the page itself: page and files can't say different things."""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

from wsisurv.formats.atomic import write_text
from wsisurv.formats.id_cells import write_id

FOLDER = "tables"
_UNKNOWN = "–"
_NO_NUMBER = "-1e300"  # by which the page sorts what is not known
_LONG = 150
_MARK = "% A table of `wsisurv report`: \\usepackage{booktabs}"
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\char34{}", "`": r"\textasciigrave{}", "−": "$-$", "–": "--", "χ": r"$\chi$",
    "²": r"$^2$", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "µ": r"$\mu$", "×": r"$\times$", "…": r"\dots{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # after the end of a row LaTeX reads them as its own
}  # fmt: skip


@dataclass
class TableCell:
    """A cell: its words, and the numbers behind them where it has any."""

    words: str = ""
    numbers: tuple[str, ...] = ()  # one, or both ends of an interval; empty text where not known

    @property
    def plain(self) -> str:
        """The words in one line."""
        return " ".join(self.words.split())


@dataclass
class PageTable:
    """A table of a page."""

    name: str  # of its files
    heads: list[TableCell] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)  # whether a column is of numbers, set to the right
    rows: list[list[TableCell]] = field(default_factory=list)

    def as_csv(self) -> str:
        """Numbers as they were computed, not as the page rounds them; an interval as two columns, ``low`` and ``high``.

        What is not known is empty, and what a spreadsheet takes for a formula has ``'`` in front.
        """
        wide = [any(len(row[at].numbers) == 2 for row in self.rows) for at in range(len(self.right))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if self.heads:
            names = [
                name
                for head, two in zip(self.heads, wide, strict=True)
                for name in ((f"{head.plain} low", f"{head.plain} high") if two else (head.plain,))
            ]
            writer.writerow(map(write_id, names))
        for row in self.rows:
            cells: list[str] = []
            for cell, two in zip(row, wide, strict=True):
                words = "" if cell.plain == _UNKNOWN else write_id(cell.plain)
                cells += [*(cell.numbers or [words]), ""][: 1 + two]
            writer.writerow(cells)
        return text.getvalue()

    def as_latex(self) -> str:
        """A ``tabular`` with the rules of booktabs, for ``input``; numbers as on the page."""
        lines = [_MARK, rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in self.right)}}}", r"\toprule"]
        if self.heads:
            lines += [_latex_row(self.heads), r"\midrule"]
        return "\n".join([*lines, *map(_latex_row, self.rows), r"\bottomrule", r"\end{tabular}", ""])


def latex_text(words: str) -> str:
    """Words as LaTeX sets them, whatever letters they have."""
    shown = "".join(filter(str.isprintable, words))
    pairs = pairwise(f"{shown} ")  # two hyphens would become a dash
    return "".join("-{}" if letter == after == "-" else _LATEX.get(letter, letter) for letter, after in pairs)


def _latex_row(cells: Sequence[TableCell]) -> str:
    return " & ".join(latex_text(cell.plain) for cell in cells) + r" \\"


def file_name(name: str) -> str:
    """The name of a table as that of its files: no folder, not hidden, not too long."""
    safe = name.replace("/", ".").lstrip(".") or "table"
    if len(safe.encode()) <= _LONG:
        return safe
    return f"{safe.encode()[:_LONG].decode(errors='ignore')}-{hashlib.sha256(safe.encode()).hexdigest()[:12]}"


class _TableReader(HTMLParser):
    """Tables of a page that have a name."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[PageTable] = []
        self._table: PageTable | None = None
        self._in_head = False
        self._cell: TableCell | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "table":
            self._table = PageTable(given.get("data-name") or "")
        elif self._table is None:
            return
        elif tag == "thead":
            self._in_head = True
        elif tag == "tr" and not self._in_head:
            self._table.rows.append([])
        elif tag in {"th", "td"}:
            shown = [given[name] or "" for name in ("data-sort", "data-low", "data-high") if name in given]
            self._cell = TableCell(numbers=tuple("" if one in {_NO_NUMBER, "nan"} else one for one in shown))
            (self._table.heads if self._in_head else self._table.rows[-1]).append(self._cell)
            if self._in_head or len(self._table.rows[-1]) > len(self._table.right):
                self._table.right.append(given.get("class") == "n")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"th", "td"}:
            self._cell = None
        elif tag == "thead":
            self._in_head = False
        elif tag == "table" and self._table is not None:
            if self._table.name:
                self.tables.append(self._table)
            self._table = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.words += data


def read_tables(page: str) -> list[PageTable]:
    """All tables of a page that have a name, in its order."""
    reader = _TableReader()
    reader.feed(page)
    return reader.tables


def write_tables(folder: Path, page: str) -> list[Path]:
    """Write all tables of a page as CSV and LaTeX; those of an earlier page that it lacks are taken away.

    Args:
        folder: made where it is not there.
        page: HTML.

    Raises:
        StorageError: no room or no permission.
    """
    written = []
    for table in read_tables(page):
        path = folder / f"{file_name(table.name)}.csv"
        write_text(path, table.as_csv())
        write_text(path.with_suffix(".tex"), table.as_latex())
        written += [path, path.with_suffix(".tex")]
    for path in set(folder.glob("*.tex")) - set(written):
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = file.readline().rstrip("\n") == _MARK
        if ours:  # and no file that somebody put here
            path.with_suffix(".csv").unlink(missing_ok=True)
            path.unlink()
    return written
