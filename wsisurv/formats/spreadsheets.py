"""The sheet of an .xlsx file as text, as it would be in CSV."""

import datetime
import io
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

from wsisurv.errors import CohortError

_MOST_BYTES = 512 << 20
_SHORTENED = 10**15
_ZEROS = re.compile(r"0{2,}")


def read_sheet(path: Path, content: bytes) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Rows of the only sheet with cells, by their number, and what is wrong with them; ``path`` is for messages.

    Dates become ISO text. Numbers shown with leading zeros keep them.

    Raises:
        CohortError: no .xlsx, damaged, or several sheets with cells.
    """
    shown = _open(path, content, computed=True)
    filled = [sheet for sheet in shown.worksheets if any(any(row) for row in sheet.iter_rows(values_only=True))]
    if len(filled) > 1:
        names = ", ".join(
            repr(sheet.title) + (" (hidden)" if sheet.sheet_state != "visible" else "") for sheet in filled
        )
        raise CohortError(f"{path}: several sheets with cells: {names}. Keep the one that is meant, or save it as CSV.")
    if not filled:
        return [], []
    (sheet,) = filled
    written = _open(path, content, computed=False)[sheet.title]
    problems = [f"cells {merged} are merged; give each its own value" for merged in map(str, sheet.merged_cells.ranges)]
    hidden = [number for number, line in written.row_dimensions.items() if line.hidden and number <= written.max_row]
    if hidden:
        problems.append(
            f"{len(hidden)} rows are hidden, by a filter or by hand (the first is row {min(hidden)}): show them all, "
            "or delete those that are not meant"
        )
    cut = [
        cell.coordinate
        for row in sheet.iter_rows()
        for cell in row
        if isinstance(cell.value, int | float) and abs(cell.value) >= _SHORTENED
    ]
    if cut:
        problems.append(
            f"{len(cut)} numbers have more digits than a spreadsheet keeps (the first in {cut[0]}): store ids as text"
        )
    unsaved = [
        cell.coordinate
        for row in written.iter_rows()
        for cell in row
        if cell.data_type == "f" and sheet[cell.coordinate].value is None
    ]
    if unsaved:
        problems.append(
            f"{len(unsaved)} formulas have no value saved (the first in {unsaved[0]}): open it in a spreadsheet "
            "program and save it, or save it as CSV"
        )
    records = [
        (number, [_text(cell) for cell in row]) for number, row in enumerate(sheet.iter_rows(), start=sheet.min_row)
    ]
    return records, problems


def _open(path: Path, content: bytes, *, computed: bool) -> Any:
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > _MOST_BYTES:
            raise CohortError(f"{path}: {size / 1e6:.0f} MB when unpacked, too large for a table")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and lists to choose from, which are not read
            return load_workbook(io.BytesIO(content), data_only=computed)
    except CohortError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways
        raise CohortError(f"{path}: not a spreadsheet that can be read ({error}). Save it as .xlsx or CSV.") from error


def _text(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, int | float):
        number = int(value) if float(value).is_integer() else value
        zeros = _ZEROS.fullmatch(cell.number_format or "")
        return str(number).zfill(len(zeros[0])) if zeros else str(number)
    return str(value).strip()
