"""Ledger of a step's failures, and the summary of a run."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsisurv.formats.atomic import append_jsonl, read_jsonl, write_jsonl
from wsisurv.units import shown_name
from wsisurv.workspace.claims import ItemClaim
from wsisurv.workspace.paths import Workspace


@dataclass(frozen=True)
class Failure:
    """An item that a step could not do."""

    id: str
    path: str
    error: str
    message: str
    when: str
    fingerprint: str


@dataclass
class Summary:
    """What a step did: counts to print, and the failures that decide the exit code."""

    step: str
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Being done by another process now."""
    failed: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Lines worth a person's attention (zero tiles, damaged file made anew …)."""

    def add(self, other: "Summary") -> None:
        """Take in what another part of the step did."""
        for mine, theirs in (
            (self.done, other.done),
            (self.kept, other.kept),
            (self.elsewhere, other.elsewhere),
            (self.notes, other.notes),
        ):
            mine.extend(theirs)
        self.failed.extend(other.failed)


def make_failure(id: str, path: Path, error: Exception, fingerprint: str) -> Failure:
    """Describe a failure that happened now."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Failure(shown_name(id), shown_name(str(path)), type(error).__name__, str(error), when, fingerprint)


def record_failure(workspace: Workspace, step: str, failure: Failure) -> None:
    """Add a failure to the step's ledger."""
    with exclusive(workspace, f"{step}.ledger"):
        append_jsonl(workspace.failures(step), vars(failure))


def read_failures(workspace: Workspace, step: str) -> list[Failure]:
    """Failures in the step's ledger."""
    return read_jsonl(workspace.failures(step), _parse)


def _parse(value: Any) -> Failure:
    """A failure; what a later wsisurv adds is passed over."""
    return Failure(**{each.name: str(value[each.name]) for each in fields(Failure)})


def forget_failures(workspace: Workspace, step: str, done: Iterable[str]) -> None:
    """Take items that are done now out of the step's ledger, and older failures of the same item."""
    path = workspace.failures(step)
    finished = set(done)

    def left() -> tuple[int, dict[str, Failure]]:
        failures = read_failures(workspace, step)
        return len(failures), {failure.id: failure for failure in failures if failure.id not in finished}

    n_failures, newest = left()
    if n_failures == len(newest):  # nothing is to be written: the place may be one that can't be
        return
    with exclusive(workspace, f"{step}.ledger"):
        _, newest = left()
        if newest:
            write_jsonl(path, [vars(failure) for failure in newest.values()])
        else:
            path.unlink(missing_ok=True)


@contextmanager
def exclusive(workspace: Workspace, name: str) -> Iterator[None]:
    """Hold a file that all runs write, such as a step's ledger: two at once would lose lines, or fail.

    Raises:
        StorageError: no room or no permission.
    """
    claim = ItemClaim(workspace.root / ".claims", name)
    claim.take(wait=True)
    try:
        yield
    finally:
        claim.release()
