"""``risk.csv``: the table that a person takes away."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.formats.atomic import write_text

COLUMNS = ("case_id", "slides", "n_tiles", "risk", "risk_percentile", "risk_group")


@dataclass(frozen=True)
class Risk:
    """One row: a case.

    Attributes:
        case_id: the patient.
        slides: the slides that the risk was made from.
        n_tiles: tiles in the bag.
        risk: log hazard relative to the training cohort's mean; higher is worse. None where no tile was found.
        risk_percentile: 0 to 100, share of training cases (out of fold) with a lower risk. None with ``risk``.
        risk_group: ``low``, ``intermediate`` or ``high`` by cut-offs fixed in training; ``unknown`` without a risk.
    """

    case_id: str
    slides: tuple[str, ...]
    n_tiles: int
    risk: float | None
    risk_percentile: float | None
    risk_group: str


def write_risks(path: Path, risks: Iterable[Risk]) -> None:
    """Write the rows sorted by case, whole or not at all; slides are joined by ``;``, an absent number is empty.

    Raises:
        StorageError: no room or no permission.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(risks, key=lambda risk: risk.case_id):
        writer.writerow(
            [
                row.case_id,
                ";".join(row.slides),
                row.n_tiles,
                "" if row.risk is None else f"{row.risk:.6f}",
                "" if row.risk_percentile is None else f"{row.risk_percentile:.1f}",
                row.risk_group,
            ]
        )
    write_text(path, text.getvalue())


def read_risks(path: Path) -> list[Risk]:
    """Read a risk table.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: a column is missing or a number is none, by its row.
    """
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `wsisurv predict` first.")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise FormatError(f"{path}: no column {', '.join(sorted(missing))}")
        rows = []
        for number, row in enumerate(reader, start=2):
            try:
                rows.append(
                    Risk(
                        case_id=row["case_id"],
                        slides=tuple(row["slides"].split(";")) if row["slides"] else (),
                        n_tiles=int(row["n_tiles"]),
                        risk=float(row["risk"]) if row["risk"] else None,
                        risk_percentile=float(row["risk_percentile"]) if row["risk_percentile"] else None,
                        risk_group=row["risk_group"],
                    )
                )
            except (ValueError, TypeError) as error:
                raise FormatError(f"{path}, row {number}: {error}") from error
        return rows
