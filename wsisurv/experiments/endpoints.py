"""Several endpoints of one cohort side by side: one table over endpoints and models."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from wsisurv.errors import FormatError
from wsisurv.experiments.results import ResultsTable
from wsisurv.formats.atomic import read_text, write_text
from wsisurv.formats.id_cells import read_id, write_id

FILE = "endpoints.csv"


@dataclass(frozen=True)
class EndpointRow:
    """Figures of one model for one endpoint; None where undefined."""

    endpoint: str
    cases: int  # tested
    events: int  # among them
    model: str  # its key in metrics.json
    concordance: float  # Harrell's, within folds
    low: float  # lower end of its 95 % interval
    high: float  # upper end
    uno: float | None
    uno_low: float | None
    uno_high: float | None
    calibration_slope: float | None
    brier: float | None  # integrated
    brier_reference: float | None  # of the tested cases' own Kaplan-Meier curve


def endpoint_rows(endpoint: str, table: ResultsTable) -> list[EndpointRow]:
    """A row a model of the results table of one endpoint."""
    shared = [field.name for field in fields(EndpointRow) if field.name not in {"endpoint", "cases", "events"}]
    return [
        EndpointRow(endpoint, table.cases, table.events, **{name: getattr(row, name) for name in shared})
        for row in table.models
    ]


def read_endpoints(cohort: Path) -> tuple[dict[str, str], ...]:
    """Rows of the table of a cohort with several endpoints, as it was written; none where there is none.

    Raises:
        FormatError: it is damaged.
    """
    path = cohort / "evaluation" / FILE
    if not path.exists():
        return ()
    rows = tuple(csv.DictReader(io.StringIO(read_text(path), newline="")))
    if any(set(row) != {field.name for field in fields(EndpointRow)} or None in row.values() for row in rows):
        raise FormatError(f"{path}: not the table of `wsisurv crossval`. Run it again: folds that are done are kept.")
    return tuple({**row, "endpoint": read_id(row["endpoint"]), "model": read_id(row["model"])} for row in rows)


def write_endpoints(path: Path, rows: Sequence[EndpointRow]) -> None:
    """Write the table as CSV, an empty cell for what is undefined.

    Raises:
        StorageError: no room or no permission.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(EndpointRow)])
    for row in rows:
        values = {**vars(row), "endpoint": write_id(row.endpoint), "model": write_id(row.model)}
        writer.writerow(["" if value is None else value for value in values.values()])
    write_text(path, text.getvalue())
