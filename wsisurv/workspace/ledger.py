"""Ledger of a step's failures, and the summary of a run."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from wsisurv.formats.atomic import append_jsonl, explain_storage, read_jsonl, write_jsonl
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
    return Failure(id, str(path), type(error).__name__, str(error), when, fingerprint)


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
    if not path.exists():
        return
    finished = set(done)
    with exclusive(workspace, f"{step}.ledger"):
        newest = {failure.id: failure for failure in read_failures(workspace, step) if failure.id not in finished}
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
    path = workspace.root / ".claims" / f"{name}.lock"
    with explain_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
