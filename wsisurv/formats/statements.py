"""``reports/statements.jsonl``: one line a report, with the statements proved in it."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from wsisurv.errors import MissingArtifactError
from wsisurv.formats.atomic import read_jsonl
from wsisurv.settings.base import canonical_json

MADE_BY = "wsisurv extract-report"

Morphology = Literal[
    "histological_type",
    "grade",
    "growth_pattern",
    "invasion",
    "lymphovascular_invasion",
    "perineural_invasion",
    "necrosis",
    "mucin",
    "mitoses",
    "stroma",
    "inflammation",
    "margin",
    "node",
    "precursor",
    "other_morphology",
]
"""Categories of what H&E morphology can show."""
Category = Literal[Morphology, "non_morphology"]
"""What a statement is about; ``non_morphology`` occurs only with ``--keep all``."""

Polarity = Literal["present", "absent", "uncertain"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Statement(_Record):
    """One finding in a report, with its verbatim evidence."""

    statement_id: str
    """``<case_id>/<number>``."""
    category: Category
    polarity: Polarity
    text: str
    """The finding, restated briefly."""
    evidence: str
    """The report's own words."""
    start: int = Field(ge=0)
    """Where the evidence starts in the report's text, characters."""
    end: int = Field(ge=0)
    """Where it ends (exclusive)."""
    match: Literal["exact", "folded", "inexact"]
    """How the evidence was found in the report."""
    specimen: str | None = None
    """Label of the specimen that the evidence is of (A, 2), where the report numbers them; else not in the file."""
    blocks: tuple[str, ...] = ()
    """Blocks of that specimen that the evidence's sentence names (A3); none is not in the file."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_told(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in whole(self).items() if value or key not in {"specimen", "blocks"}}


class ReportRecord(_Record):
    """What one report gave; an empty ``statements`` says that it gave nothing."""

    case_id: str
    fingerprint: str
    """sha256 of the settings and of the report's text."""
    report_sha256: str
    statements: tuple[Statement, ...]
    left_out: dict[str, int] = Field(default_factory=dict)
    """Findings left out, counted by kind (gross, immunohistochemistry, history …)."""
    rejected: int = 0
    """Findings that could not be proved; they are in rejected.jsonl."""
    salvaged: int | None = None
    """Findings, proved or not, of answers that were cut at their token limit: the report was read in part. None, and
    not in the file, where no answer was cut."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The ReportSettings that made it, so that a stale record can be told by what changed."""

    def as_line(self) -> dict[str, Any]:
        """The record as it stands in the file."""
        return self.model_dump(mode="json", exclude={"salvaged"} if self.salvaged is None else None)


class RejectedRecord(_Record):
    """A finding that could not be proved, and why."""

    case_id: str
    category: str
    text: str
    evidence: str
    reason: str


def _parse(model: type[_Record], value: Any) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def read_statements(path: Path) -> dict[str, ReportRecord]:
    """Read the newest record of each case, by case_id.

    Raises:
        MissingArtifactError: there is no such file.
        FormatError: a line that is no record, by its number.
    """
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `{MADE_BY}` first.")
    records = read_jsonl(path, lambda value: _parse(ReportRecord, value))
    return {record.case_id: record for record in records}


def read_rejected(path: Path) -> list[RejectedRecord]:
    """Read the findings that could not be proved, in the order in which they were written; none where there is no file.

    Raises:
        FormatError: a line that is no record, by its number.
    """
    return read_jsonl(path, lambda value: _parse(RejectedRecord, value))


def iterate_statements(records: dict[str, ReportRecord]) -> Iterator[tuple[str, Statement]]:
    """Yield (case_id, statement) in order of case and place in the report."""
    for case_id in sorted(records):
        for statement in records[case_id].statements:
            yield case_id, statement


def statements_fingerprint(statements: Sequence[Statement]) -> str:
    """sha256 of what the vectors depend on: ids, categories, polarities and texts, in order."""
    lines = [canonical_json([s.statement_id, s.category, s.polarity, s.text]) for s in statements]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
