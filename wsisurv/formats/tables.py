"""A table that a user brings, as text: CSV, TSV, semicolons, cBioPortal's ``#`` lines, or a sheet of an .xlsx file."""

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsisurv.errors import CohortError, near_names
from wsisurv.formats.spreadsheets import read_sheet

_DELIMITERS = (",", "\t", ";", "|")
_MOST_BYTES = 256 << 20
_NO_TEXT = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf",
    b"PAR1",
    b"$FL2",
    b"<stata",
    b"RDX",
    b"%PDF",
)
"""How files begin that hold no text: gzip (.rds too), bzip2, xz, zstd, 7z, Parquet, SPSS, Stata, R, PDF."""
_SHOWN = 5


class Row(dict[str, str]):
    """Cells of a row by column, without blanks around them, in Unicode's composed form.

    Attributes:
        number: of the row in the file, counted from 1 as a spreadsheet does; a cell of several lines is one row.
    """

    def __init__(self, number: int, cells: dict[str, str]) -> None:
        super().__init__(cells)
        self.number = number


@dataclass(frozen=True)
class Table:
    """A table as it was found."""

    path: Path  # its file
    columns: tuple[str, ...]  # names of the header; columns without a name are left out
    rows: tuple[Row, ...]  # those with at least one filled cell and as many cells as the header
    problems: tuple[str, ...]  # what is wrong with header and rows, in words
    header_row: int = 1  # its number

    def lacking(self, columns: Sequence[str], way_out: str) -> list[str]:
        """Say in words which of ``columns`` are not there; nothing where all are."""
        missing = [name for name in dict.fromkeys(columns) if name not in self.columns]
        have = ", ".join(self.columns) or "no named column"
        have += ", one column: cells are parted by a comma, tab, semicolon or |" if len(self.columns) == 1 else ""
        place = f" (row {self.header_row}, the first without #)" if self.header_row > 1 else ""
        near = [(name, near_names(name, self.columns)) for name in missing]
        asked = [f"{' or '.join(found)} for {name!r}" for name, found in near if found]
        end = f"; did you mean {', '.join(asked)}?" if asked else "."
        return [f"no column {', '.join(map(repr, missing))}; it has {have}{place}{end} {way_out}"] if missing else []


def read_table(path: Path, *columns: str) -> list[Row]:
    """Read a table that must have these columns.

    Raises:
        CohortError: as ``scan_table``, and for all that is wrong with its columns and rows, in one list.
    """
    table = scan_table(path)
    refuse(path, [*table.problems, *table.lacking(columns, f"Columns {' and '.join(columns)} are needed.")])
    return list(table.rows)


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Stop at the problems of a table, all in one message; nothing where there is none.

    Raises:
        CohortError: there is one.
    """
    if len(problems) == 1:
        raise CohortError(f"{path}: {problems[0]}")
    if problems:
        listed = " ".join(f"({number}) {problem}" for number, problem in enumerate(problems, start=1))
        raise CohortError(f"{path}: {len(problems)} things are wrong. {listed}")


def scan_table(path: Path) -> Table:
    """Read a table as text, whatever separates its cells, and list what is wrong with its rows.

    What separates cells (comma, semicolon, tab or ``|``) is what gives every row as many cells as the header, whatever
    the file's ending. Lines that begin with ``#`` above the header, Excel's ``sep=`` and rows without a filled cell are
    passed over.

    Raises:
        CohortError: no such file, no table, text in another encoding than UTF-8 (or UTF-16 with its mark), or empty.
    """
    content = _content(path)
    if content.startswith(b"PK\x03\x04"):
        records, problems = read_sheet(path, content)
    else:
        records, problems = _split(_decode(path, content), tab_first=path.suffix.lower() in {".tsv", ".tab"})
    filled = [(number, cells) for number, cells in records if any(cells)]
    if not filled:
        raise CohortError(f"{path}: empty")
    (header_row, header), *body = ((number, [_plain(cell) for cell in cells]) for number, cells in filled)
    header = ["".join(letter for letter in name if unicodedata.category(letter) != "Cf").strip() for name in header]
    named = [name for name in header if name]
    if repeated := sorted({name for name in named if named.count(name) > 1}):
        problems.append(f"column {', '.join(repeated)} occurs twice")
    rows, uneven = [], []
    for number, cells in body:
        if len(cells) < len(header) or any(cells[len(header) :]):
            uneven.append(f"row {number}: {len(cells)} cells, but the header has {len(header)}")
        else:
            rows.append(Row(number, {name: cell for name, cell in zip(header, cells, strict=False) if name}))
    if uneven:
        problems.append(listed(uneven))
    return Table(path, tuple(dict.fromkeys(named)), tuple(rows), tuple(problems), header_row)


def _plain(cell: str) -> str:
    """A cell in Unicode's composed form; ``="001"``, which keeps a spreadsheet from making it 1, is 001."""
    text = re.fullmatch(r'="([^"]*)"', cell)
    return unicodedata.normalize("NFC", text[1] if text else cell)


def listed(items: Sequence[str]) -> str:
    """The first few of a list for a message, and how many more there are."""
    return "; ".join(items[:_SHOWN]) + (f"; and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise CohortError(f"{path}: {size / 1e6:.0f} MB, too large for a table")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CohortError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise CohortError(f"{path}: a folder, not a table") from error
    except OSError as error:
        raise CohortError(f"{path}: can't be read ({error.strerror or error})") from error
    if content.startswith(b"\xd0\xcf\x11\xe0"):
        raise CohortError(f"{path}: an Excel file of before 2007, or one with a password. Save it as .xlsx or CSV.")
    return content


def _decode(path: Path, content: bytes) -> str:
    """The text of a file.

    Raises:
        CohortError: it is none, or in an encoding that can't be told from others.
    """
    if content.startswith(_NO_TEXT):
        raise CohortError(f"{path}: compressed, or of a program of statistics. Unpack it, or save it as UTF-8 CSV.")
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    zeros = (content[:200:2].count(0), content[1:200:2].count(0))
    if not marked and max(zeros) > 20 and min(zeros) == 0:
        raise CohortError(f"{path}: UTF-16 without its mark. Save it as UTF-8 CSV.")
    try:
        text = content.decode("utf-16" if marked else "utf-8")
    except UnicodeDecodeError as error:
        if marked:
            raise CohortError(f"{path}: damaged UTF-16 (byte {error.start}). Save it as UTF-8 CSV.") from error
        row = content.count(b"\n", 0, error.start) + 1
        raise CohortError(
            f"{path}, row {row}: byte {error.start} (0x{content[error.start]:02X}) is not UTF-8: the file is in "
            "Latin-1 or another encoding. Save it as UTF-8 CSV, e.g. `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`."
        ) from error
    if "\0" in text:
        raise CohortError(f"{path}: no text, but a file of another kind. Save it as UTF-8 CSV or .xlsx.")
    return text.removeprefix("\ufeff")


def _split(text: str, *, tab_first: bool) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Rows by number, as the delimiter that fits best cuts them, and what is wrong."""
    lines = list(io.StringIO(text, newline=""))
    above = 0
    while above < len(lines) and _no_header(lines[above]):
        above += 1
    order = ("\t", *_DELIMITERS) if tab_first else _DELIMITERS
    cut = [_cut(lines[above:], delimiter) for delimiter in order]
    records, problem = max(cut, key=_fit)
    return [(above + place, cells) for place, cells in records], [problem] if problem else []


def _no_header(line: str) -> bool:
    bare = line.strip().strip('",;|\t ')
    return not bare or bare.startswith("#") or bare.lower() == "sep="


def _cut(lines: Sequence[str], delimiter: str) -> tuple[list[tuple[int, list[str]]], str]:
    """Rows cut at a delimiter, and what stopped the cutting, empty where nothing did."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    records: list[tuple[int, list[str]]] = []
    try:
        for place, cells in enumerate(reader, start=1):
            header = records[0][1] if records else cells
            swallowed = [cell for cell in cells if len(header) > 2 and _holds_row(cell, delimiter, len(header))]
            if swallowed:
                return (
                    records,
                    f"row {place}: a quote that isn't closed runs over the next ({swallowed[0][:40]!r})",
                )
            records.append((place, [cell.strip() for cell in cells]))
    except csv.Error as error:
        return records, f"row {len(records) + 1}: {error}: is a quote not closed?"
    return records, ""


def _holds_row(cell: str, delimiter: str, width: int) -> bool:
    return any(line.count(delimiter) >= width - 1 for line in cell.splitlines()[1:])


def _fit(cut: tuple[list[tuple[int, list[str]]], str]) -> tuple[bool, bool, float, int]:
    """How well a delimiter fits: more columns than one, nothing broken, rows as wide as the header, many columns."""
    records, problem = cut
    filled = [cells for _, cells in records if any(cells)]
    width = len(filled[0]) if filled else 0
    return width > 1, not problem, sum(len(cells) == width for cells in filled) / max(len(filled), 1), width
