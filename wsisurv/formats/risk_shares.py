"""``risk.shares/``: what each share of a job array has predicted, until the last to end puts the table together."""

from collections.abc import Callable, Mapping
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
    jsonl: bool = False  # whether it was asked for the rows as JSONL too


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


def count_shares(table: Path, current: Callable[[RiskShare], bool]) -> str:
    """How many shares of the array that wrote last have ended, ``3 of 8 shares``; empty where none lies there.

    Args:
        table: the risk table.
        current: whether what a share has read is still there.
    """
    paths = sorted(shares_folder(table).glob("*-of-*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    arrays = []
    for path in paths:
        number, _, count = path.stem.partition("-of-")
        try:
            share = read_share(table, int(number), int(count))
        except (FormatError, ValueError):
            share = None
        arrays.append((count, share.fingerprint) if share is not None and current(share) else None)
    fit = [one for one in arrays if one is not None]
    if not fit:
        return f"0 shares, and {len(paths)} that can't be used" if paths else ""
    ended, count = fit.count(fit[-1]), fit[-1][0]
    unfit = f", and {left} of another array, of other features or damaged" if (left := len(paths) - ended) else ""
    return f"{ended} of {count} shares{unfit}"


def remove_shares(table: Path) -> None:
    """Take away the shares of a table that is written."""
    for path in shares_folder(table).glob("*-of-*.json"):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # not there, or something of somebody's is in it
        shares_folder(table).rmdir()
