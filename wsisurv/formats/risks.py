"""``risk.csv``: the table that a person takes away, the same as JSONL, and ``risk.json`` beside it: what made it."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsisurv.errors import FormatError, MissingArtifactError, some
from wsisurv.formats.atomic import read_json, read_text, write_json, write_jsonl, write_text
from wsisurv.formats.id_cells import read_id, read_ids, write_id, write_ids
from wsisurv.formats.sealed import require_table, table_checksum

if TYPE_CHECKING:
    import pandas as pd

_BEFORE = ("case_id", "slides", "n_tiles", "log_hazard", "risk_percentile", "risk_group")
_AFTER = ("median_survival", "risk_low", "risk_high", "familiarity", "warning")
_SURVIVAL, _ABSOLUTE_RISK = re.compile(r"survival_([0-9.]+)y"), re.compile(r"risk_([0-9.]+)y")
_DECIMALS = {"risk_percentile": 1, "median_survival": 1}
NOTES_FORMAT = "wsisurv/risk"
RISK_GROUPS = ("low", "intermediate", "high")
UNFAMILIAR, UNKNOWN = "unfamiliar", "unknown"
"""Group of a case that the student does not know, and of one of which nothing was seen."""


@dataclass(frozen=True)
class Risk:
    """One row: a case. What is not known is None.

    Attributes:
        case_id: the patient.
        slides: the slides that the risk was made from.
        n_tiles: tiles in the bag.
        log_hazard: relative to the training cohort's mean; higher is worse. None where no tile was found.
        risk_percentile: 0 to 100, share of training cases (out of fold) with a lower log hazard.
        risk_group: ``low``, ``intermediate`` or ``high`` by cut-offs fixed in training; ``unfamiliar`` where the
            student does not know such cases, ``unknown`` without a risk.
        survival: horizon in years → probability of outliving it, 0 to 1; None beyond what ten training cases were
            followed to, and of an unfamiliar case. With competing events, of cases that these can't happen to.
        absolute_risk: horizon in years → probability of the event by then, competing events being as in training; None
            where ``survival`` is. Empty where the student knows of no competing event: then it is 1 − survival.
        median_survival: time by which survival is half, in the training cohort's unit; None where that is not reached,
            and where survival to it would be None.
        risk_low: lowest log hazard among the ensemble's members.
        risk_high: highest.
        familiarity: above 0 to 1, share of cases like the training's that look this odd to the student, or odder.
        warning: what should be known before the row is believed, empty where nothing.
    """

    case_id: str
    slides: tuple[str, ...]
    n_tiles: int
    log_hazard: float | None
    risk_percentile: float | None
    risk_group: str
    survival: Mapping[float, float | None] = field(default_factory=dict)
    absolute_risk: Mapping[float, float | None] = field(default_factory=dict, kw_only=True)
    median_survival: float | None = None
    risk_low: float | None = None
    risk_high: float | None = None
    familiarity: float | None = None
    warning: str = ""


def unfamiliar_note(risks: Sequence[Risk]) -> tuple[str, ...]:
    """A line that counts and names the unfamiliar cases among the rows; none where there is none."""
    odd = [risk.case_id for risk in risks if risk.risk_group == UNFAMILIAR]
    if not odd:
        return ()
    return (
        f"{len(odd)} of {len(risks)} cases are unfamiliar: the student does not know such cases, so they have neither "
        f"group nor survival ({some(odd)}); the column warning says why, --force-unfamiliar gives the figures",
    )


def survival_column(years: float) -> str:
    """Name of the column of survival to a horizon: ``survival_1y``, ``survival_2.5y``."""
    return f"survival_{years:g}y"


def risk_column(years: float) -> str:
    """Name of the column of the absolute risk by a horizon: ``risk_1y``."""
    return f"risk_{years:g}y"


def columns(horizons: Sequence[float], *, competing: bool = False) -> tuple[str, ...]:
    """Names of all columns, in order; with ``competing`` those of absolute risk too."""
    return (
        *_BEFORE,
        *map(survival_column, horizons),
        *(map(risk_column, horizons) if competing else ()),
        *_AFTER,
    )


def _columns_of(rows: Sequence[Risk], horizons: Sequence[float]) -> tuple[str, ...]:
    return columns(horizons, competing=any(row.absolute_risk for row in rows))


def write_risks(path: Path, risks: Iterable[Risk], *, horizons: Sequence[float] = ()) -> None:
    """Write the rows sorted by case, whole or not at all; ids as ``id_cells`` writes them, unknown is empty.

    Raises:
        StorageError: no room or no permission.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = sorted(risks, key=lambda risk: risk.case_id)
    names = _columns_of(rows, horizons)
    writer.writerow(names)
    for row in rows:
        values = _record(row, names, horizons)
        writer.writerow([_cell(name, values[name]) for name in names])
    write_text(path, text.getvalue())


def risk_frame(risks: Iterable[Risk], *, horizons: Sequence[float] = ()) -> "pd.DataFrame":
    """The same rows as a data frame by case_id, nothing rounded; slides are lists, what is not known is missing."""
    import pandas as pd

    several = sorted(risks, key=lambda risk: risk.case_id)
    names = _columns_of(several, horizons)
    frame = pd.DataFrame([_record(row, names, horizons) for row in several], columns=list(names))
    numbers = [name for name in frame.columns if name not in ("case_id", "slides", "n_tiles", "risk_group", "warning")]
    return frame.astype(dict.fromkeys(numbers, float)).set_index("case_id")


def write_risks_jsonl(path: Path, risks: Iterable[Risk], *, horizons: Sequence[float] = ()) -> None:
    """Write the same rows as JSON, one a line: slides are a list, what is not known is null, nothing is rounded.

    Raises:
        StorageError: no room or no permission.
    """
    rows = sorted(risks, key=lambda risk: risk.case_id)
    names = _columns_of(rows, horizons)
    write_jsonl(path, [_record(row, names, horizons) for row in rows], checksums=False)


def _record(row: Risk, names: Sequence[str], horizons: Sequence[float]) -> dict[str, Any]:
    values = {**vars(row), "slides": list(row.slides)}
    values |= {survival_column(years): row.survival.get(years) for years in horizons}
    values |= {risk_column(years): row.absolute_risk.get(years) for years in horizons}
    return {name: values[name] for name in names}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{_DECIMALS.get(name, 6)}f}"
    if isinstance(value, list):
        return write_ids(value)
    return write_id(value) if name in ("case_id", "warning") else str(value)


def read_risks(path: Path, record: Path | None = None) -> list[Risk]:
    """Read a risk table.

    Args:
        path: the table.
        record: JSON beside it that holds its checksum; None for that of ``write_notes``.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: it is not what was written with the record; a column is missing or a number is none, by its row.
    """
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `{_predict(path)}` first.")
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    rows: list[Risk] = []
    _require_written(path, record or path.with_suffix(".json"))
    try:
        if missing := {*_BEFORE, *_AFTER} - set(reader.fieldnames or ()):
            raise FormatError(f"{path}: no column {', '.join(sorted(missing))}. Run `wsisurv predict` again.")
        rows.extend(map(_parse, reader))
    except (ValueError, TypeError, KeyError, AttributeError, csv.Error) as error:
        raise FormatError(f"{path}, row {len(rows) + 2}: {error}. Run `wsisurv predict` again.") from error
    return rows


def _require_written(table: Path, record: Path) -> None:
    if not record.exists():
        return
    try:
        saved = read_json(record)
        if str(saved.get("format", "")).startswith("wsisurv/"):
            require_table(table, saved)
    except ValueError as error:
        raise FormatError(f"{table} or {record}: damaged ({error}). Run the command that made it again.") from error


def _parse(row: Mapping[str, str]) -> Risk:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    if row["risk_group"] not in {*RISK_GROUPS, UNFAMILIAR, UNKNOWN}:
        raise ValueError(f"risk_group {row['risk_group']!r}: no group of ours")
    return Risk(
        case_id=read_id(row["case_id"]),
        slides=read_ids(row["slides"]),
        n_tiles=int(row["n_tiles"]),
        log_hazard=number("log_hazard"),
        risk_percentile=number("risk_percentile"),
        risk_group=row["risk_group"],
        survival={float(found[1]): number(name) for name in row if (found := _SURVIVAL.fullmatch(name or ""))},
        absolute_risk={float(one[1]): number(name) for name in row if (one := _ABSOLUTE_RISK.fullmatch(name or ""))},
        median_survival=number("median_survival"),
        risk_low=number("risk_low"),
        risk_high=number("risk_high"),
        familiarity=number("familiarity"),
        warning=read_id(row["warning"]),
    )


def write_notes(table: Path, notes: Mapping[str, Any]) -> Path:
    """Write what made a risk table beside it, as JSON; gives the path, the table's with ``.json`` at the end.

    Raises:
        StorageError: no room or no permission.
    """
    path = table.with_suffix(".json")
    write_json(path, {"format": NOTES_FORMAT, **notes, **table_checksum(table)})
    return path


@dataclass(frozen=True)
class RiskSource:
    """What made a risk table, as far as a page needs it."""

    student: str
    """Fingerprint of the student."""
    trained_on: str
    """Name of its training cohort."""
    forced: bool
    """Whether unfamiliar cases have group and survival."""


def _predict(table: Path) -> str:
    """The command that writes a risk table; of a cohort's own, with its name."""
    return "wsisurv predict" + (f" --cohort {table.parent.name}" if table.parent.parent.name == "cohorts" else "")


def read_source(table: Path) -> RiskSource:
    """What made a risk table, from the notes beside it.

    Raises:
        MissingArtifactError: there are none.
        FormatError: they are damaged; that they are of this table, ``read_risks`` makes sure of.
    """
    path = table.with_suffix(".json")
    if not path.exists():
        raise MissingArtifactError(
            f"{path}: not there, so what made {table.name} is not known. Run `{_predict(table)}`."
        )
    try:
        record = read_json(path)
        student = record["student"]
        source = RiskSource(
            str(student["fingerprint"]), str(student["cohort"]["name"]), record.get("force_unfamiliar") is True
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path}: damaged ({type(error).__name__}: {error}). Run `wsisurv predict` again.") from error
    return source
