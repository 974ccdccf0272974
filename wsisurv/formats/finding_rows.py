"""``findings.csv`` of ``predict``: how likely each finding is in each case."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsisurv.formats.atomic import write_text
from wsisurv.formats.id_cells import write_id


@dataclass(frozen=True)
class CaseFindings:
    """What heads say of one case."""

    case_id: str
    n_tiles: int
    familiarity: float  # share of cases like the training's that look this odd, or odder
    probability: Mapping[str, float]  # finding → probability; empty for a case that the heads do not know
    warning: str = ""  # why it is empty


def findings_path(table: Path) -> Path:
    """Where the findings lie beside a risk table: ``findings.csv`` of ``risk.csv``, ``NAME-findings.csv`` of others."""
    return table.with_name("findings.csv" if table.name == "risk.csv" else f"{table.stem}-findings.csv")


def write_case_findings(path: Path, rows: Iterable[CaseFindings], names: Sequence[str]) -> None:
    """Write a row a case, sorted, whole or not at all: case_id, n_tiles, a probability a finding, familiarity, warning.

    Raises:
        StorageError: no room or no permission.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case_id", "n_tiles", *map(write_id, names), "familiarity", "warning"])
    for row in sorted(rows, key=lambda one: one.case_id):
        chances = [f"{row.probability[name]:.4f}" if name in row.probability else "" for name in names]
        writer.writerow([write_id(row.case_id), row.n_tiles, *chances, f"{row.familiarity:.4f}", write_id(row.warning)])
    write_text(path, text.getvalue())
