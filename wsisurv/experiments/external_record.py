"""The record and the pictures of an external validation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.experiments.external import ExternalFigures
from wsisurv.experiments.external_clinic import BesideClinic
from wsisurv.formats.atomic import read_json, write_json
from wsisurv.formats.sealed import table_checksum
from wsisurv.version import versions

FORMAT = "wsisurv/external"
FILE, RISKS = "external.json", "external_risk.csv"


def write_record(
    path: Path,
    figures: ExternalFigures,
    *,
    cohort: Mapping[str, Any],
    student: Mapping[str, Any],
    own: Mapping[str, Any] | None,
    clinic: BesideClinic | None = None,
    verdict: Sequence[str],
    warnings: Sequence[str],
    command: str,
) -> None:
    """Write external.json, when the table of risks is beside it: what was evaluated, the figures, and what they show.

    Raises:
        StorageError: no room or no permission.
    """
    record = {
        "format": FORMAT,
        "command": command,
        "cohort": dict(cohort),
        "student": dict(student),
        "external": asdict(figures),
        "own": dict(own) if own is not None else None,
        "clinic": asdict(clinic) if clinic is not None else None,
        "verdict": list(verdict),
        "warnings": list(warnings),
        "versions": versions(),
        **table_checksum(path.with_name(RISKS)),
    }
    write_json(path, record)


@dataclass(frozen=True)
class ExternalRecord:
    """What a page takes from external.json; as ``write_record`` was given it."""

    cohort: Mapping[str, Any]
    student: Mapping[str, Any]
    external: ExternalFigures
    own: Mapping[str, Any] | None
    verdict: tuple[str, ...]
    warnings: tuple[str, ...]
    clinic: BesideClinic | None = None


def read_record(path: Path) -> ExternalRecord:
    """Read external.json.

    Raises:
        MissingArtifactError: there is none.
        FormatError: it is damaged.
    """
    name = path.parent.parent.name
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `wsisurv evaluate --cohort {name} --student FILE` first.")
    try:
        record = read_json(path)
        if record["format"] != FORMAT:
            raise ValueError(f"format is {record['format']!r}")
        known = {field: record[field] for field in ExternalRecord.__dataclass_fields__ if field in record}
        return TypeAdapter(ExternalRecord).validate_python(known)
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).splitlines()[:3])
        raise FormatError(
            f"{path}: damaged ({type(error).__name__}: {reason}). Run `wsisurv evaluate --cohort {name}` again."
        ) from error
