"""``risk.shares/``: what each share of a job array has predicted, until the last to end puts the table together."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from wsisurv.errors import FormatError
from wsisurv.formats.atomic import read_json, write_json
from wsisurv.formats.finding_rows import CaseFindings
from wsisurv.formats.risks import Risk

_FORMAT = "wsisurv/risk-share"


@dataclass(frozen=True)
class RiskShare:
    """Risks of one share, nothing rounded."""

    fingerprint: str  # of student, settings and cases of the whole table, and of how many shares there are
    features: Mapping[str, str]  # slide → fingerprint of the features that were read; empty of those that can't be
    risks: tuple[Risk, ...]  # of its cases
    findings: tuple[CaseFindings, ...]  # of its cases, where there are heads
    failed: tuple[Mapping[str, str], ...]  # its cases that failed, as in the ledger


_RECORD = TypeAdapter(RiskShare)


def shares_folder(table: Path) -> Path:
    """Where the shares of a risk table lie: ``risk.shares/`` beside ``risk.csv``."""
    return table.with_suffix(".shares")


def write_share(table: Path, number: int, count: int, share: RiskShare) -> None:
    """Write what a share has predicted.

    Raises:
        StorageError: no room or no permission.
    """
    record = _RECORD.dump_python(share, mode="json")
    write_json(shares_folder(table) / f"{number}-of-{count}.json", {"format": _FORMAT, **record}, indent=None)


def read_share(table: Path, number: int, count: int) -> RiskShare | None:
    """What a share has predicted; None where it has not ended.

    Raises:
        FormatError: its file is damaged.
    """
    path = shares_folder(table) / f"{number}-of-{count}.json"
    if not path.exists():
        return None
    try:
        return _RECORD.validate_python(read_json(path))
    except (ValueError, ValidationError) as error:
        raise FormatError(f"{path}: damaged ({error}). Run that share of `wsisurv predict` again.") from error


def count_shares(table: Path) -> str:
    """How many shares have ended, ``3 of 8 shares``; empty where none lies there."""
    names = [path.stem.partition("-of-") for path in shares_folder(table).glob("*-of-*.json")]
    return f"{len(names)} of {names[0][2]} shares" if names else ""


def remove_shares(table: Path) -> None:
    """Take away the shares of a table that is written."""
    for path in shares_folder(table).glob("*-of-*.json"):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # not there, or something of somebody's is in it
        shares_folder(table).rmdir()
