"""Reports as a person brings them: a folder of .txt files, or a CSV or JSONL with ``case_id,text``."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsisurv.cohort.clinical import unusable_id
from wsisurv.errors import ReportError, some
from wsisurv.formats.atomic import parse_json
from wsisurv.formats.slide_names import composed

_SHOWN = 5
_UUID = re.compile(r"\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_LINES = {".jsonl", ".ndjson"}


@dataclass(frozen=True)
class Reports(Mapping[str, str]):
    """Texts by case_id, in order of case_id."""

    texts: Mapping[str, str]  # the text of each case, not changed in any way (a byte-order mark is taken off)
    places: Mapping[str, str]  # where each case's report is: the file, or the file and its row
    # files that could not be read, by case_id; always empty where ``strict`` was asked
    unreadable: Mapping[str, ReportError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what of the folder was passed over, in words

    def __getitem__(self, case_id: str) -> str:
        """The text of a case."""
        return self.texts[case_id]

    def __iter__(self) -> Iterator[str]:
        """Yield case_ids in order."""
        return iter(self.texts)

    def __len__(self) -> int:
        """Count the reports that can be read."""
        return len(self.texts)


@dataclass(frozen=True)
class _Row:
    case_id: str
    text: str
    place: str


def read_reports(path: Path, *, strict: bool = True) -> Reports:
    """Read the reports at ``path``.

    A folder gives one report a ``.txt`` file; its case_id is the file's name without the ending, and without the
    ``.<uuid>`` that TCGA adds (``TCGA-AA-3672.8B1F….txt`` is of ``TCGA-AA-3672``). Folders inside are not entered.
    A file gives one report a row: ``.csv``, ``.tsv`` or ``.jsonl``, with the columns or keys ``case_id`` and ``text``
    (others are passed over). An empty text is a report like any other.

    Args:
        path: folder or file.
        strict: raise on the first .txt that can't be read; else it is listed in ``unreadable`` and the others are read.

    Raises:
        ReportError: nothing there; no report in it; not UTF-8 (file, row and byte are named); a case twice (both
            places are named); a missing column; a line that is no JSON object; a case_id that is empty or can't be
            a file name.
    """
    if path.is_dir():
        return _read_folder(path, strict)
    if not path.exists():
        raise ReportError(f"{path}: no such file or folder. Name a folder of .txt files, or a CSV or JSONL.")
    ending = path.suffix.lower()
    if ending in _TABLES:
        return _collect(path, _read_table(path, _TABLES[ending]))
    if ending in _LINES:
        return _collect(path, _read_lines(path))
    raise ReportError(
        f"{path}: the ending {ending!r} says no format. Give .csv, .tsv or .jsonl with case_id and text, or a folder "
        "of .txt files."
    )


def _read_folder(folder: Path, strict: bool) -> Reports:
    rows: list[_Row] = []
    unreadable: dict[str, ReportError] = {}
    files: dict[str, Path] = {}
    others: list[Path] = []
    for file in sorted(file for file in folder.iterdir() if not file.name.startswith(".")):
        if file.suffix.lower() != ".txt" or not file.is_file():
            others.append(file)
            continue
        case_id = _case_of(file)
        files[case_id] = file
        try:
            rows.append(_Row(case_id, _decode(file, lambda _: ""), str(file)))
        except ReportError as error:
            if strict:
                raise
            unreadable[case_id] = error
    if not rows and unreadable:
        raise next(iter(unreadable.values()))
    for case_id in unreadable.keys() & {row.case_id for row in rows}:
        raise ReportError(f"{folder}: a case twice: {case_id!r} has two files, one of them unreadable. Keep one.")
    notes = _passed_over(folder, others)
    if not rows and notes:
        raise ReportError(f"{folder}: no report in it: {' '.join(notes)}")
    reports = _collect(folder, rows)
    places = {**reports.places, **{case_id: str(files[case_id]) for case_id in unreadable}}
    return Reports(reports.texts, places, unreadable, notes)


def _case_of(file: Path) -> str:
    return composed(_UUID.sub("", file.stem))


def _passed_over(folder: Path, others: Sequence[Path]) -> tuple[str, ...]:
    """A note on what of a folder is read as no report, empty where there is nothing."""
    files, folders = [one.name for one in others if one.is_file()], [f"{one.name}/" for one in others if one.is_dir()]
    counts = [f"{len(files)} files"] if files else []
    counts += [f"{len(folders)} folders"] if folders else []
    if not counts:
        return ()
    return (
        f"{' and '.join(counts)} of {folder} were passed over, since .txt files of the folder itself are read and no "
        f"others: {some([*files, *folders])}.",
    )


def _collect(path: Path, rows: list[_Row]) -> Reports:
    places: dict[str, str] = {}
    twice: list[str] = []
    for row in rows:
        if not row.case_id:
            raise ReportError(f"{row.place}: case_id is empty. Give each report the case that it is of.")
        if reason := unusable_id(row.case_id):
            raise ReportError(f"{row.place}: case_id {row.case_id!r} {reason}. Give it a plain name.")
        if row.case_id in places:
            twice.append(f"{row.case_id!r} in {places[row.case_id]} and {row.place}")
        else:
            places[row.case_id] = row.place
    if twice:
        more = f"; and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
        raise ReportError(f"{path}: a case twice: {'; '.join(twice[:_SHOWN])}{more}. Keep or join one report a case.")
    if not rows:
        raise ReportError(f"{path}: no report in it. Name a folder of .txt files, or a CSV or JSONL with rows.")
    texts = {row.case_id: row.text for row in rows}
    order = sorted(texts)
    return Reports({case_id: texts[case_id] for case_id in order}, {case_id: places[case_id] for case_id in order})


def _decode(path: Path, where: Callable[[str], str]) -> str:
    """The file's text; ``where`` names the row from the text before the first byte that is not UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path}: can't be read ({error.strerror}).") from error
    way_out = "Save it as UTF-8, e.g. `iconv -f {} -t UTF-8 OLD > NEW`."
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content:
        raise ReportError(
            f"{path}: byte {max(content.find(0), 0)}: looks like UTF-16, not UTF-8. {way_out.format('UTF-16')}"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        row = where(content[: error.start].decode("utf-8-sig", errors="replace"))
        raise ReportError(
            f"{path}{row}: byte {error.start} (0x{byte:02X}) is not UTF-8. {way_out.format('WINDOWS-1252')}"
        ) from error


def _row_reached(before: str) -> str:
    try:
        return f", row {len(list(csv.reader(io.StringIO(before, newline=''))))}"
    except csv.Error:  # the bytes before it are no good table either
        return ""


def _read_table(path: Path, delimiter: str) -> list[_Row]:
    text = _decode(path, _row_reached)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    number = 1
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if missing := [name for name in ("case_id", "text") if name not in header]:
            raise ReportError(
                f"{path}: no column {', '.join(map(repr, missing))}; it has {', '.join(header)[:200] or 'nothing'}. "
                "Name the columns case_id and text."
            )
        case, report = header.index("case_id"), header.index("text")
        for number, cells in enumerate(reader, start=2):
            if not cells:
                continue  # an empty line
            if len(cells) != len(header):
                raise ReportError(
                    f"{path}, row {number}: {len(cells)} cells, but the header has {len(header)}. Put quotes around "
                    "texts that hold the delimiter or line ends."
                )
            if not any(cell.strip() for cell in cells):
                continue  # an empty row of a spreadsheet
            rows.append(_Row(composed(cells[case].strip()), cells[report], f"{path}, row {number}"))
    except csv.Error as error:
        raise ReportError(f"{path}, row {number + 1}: {error}. Mend the row, or bring the reports as JSONL.") from error
    return rows


def _read_lines(path: Path) -> list[_Row]:
    text = _decode(path, lambda before: f", row {before.count(chr(10)) + 1}")
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, row {number}"
        try:
            record = parse_json(line)
        except ValueError as error:
            raise ReportError(f"{place}: {error}. Each line is one JSON object.") from error
        if not isinstance(record, dict):
            raise ReportError(f"{place}: a JSON {type(record).__name__}, not an object with case_id and text.")
        if missing := [key for key in ("case_id", "text") if key not in record]:
            raise ReportError(f"{place}: no {' and no '.join(missing)}; it has {', '.join(record)[:200] or 'nothing'}.")
        case_id, report = record["case_id"], record["text"]
        if not isinstance(case_id, str | int) or isinstance(case_id, bool):
            raise ReportError(f"{place}: case_id is {case_id!r}, not a text.")
        if not isinstance(report, str):
            raise ReportError(f"{place}: text is a JSON {type(report).__name__}, not a text.")
        if _SURROGATE.search(report) or _SURROGATE.search(str(case_id)):
            raise ReportError(f"{place}: half of a surrogate pair (\\ud800…) is no text. Write the row anew as UTF-8.")
        rows.append(_Row(composed(str(case_id).strip()), report, place))
    return rows
