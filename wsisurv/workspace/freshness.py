"""Whether an artifact is there, is what was asked for, and what differs where it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from wsisurv.errors import (
    FormatError,
    MissingArtifactError,
    StaleError,
)
from wsisurv.formats.header import Header, read_header
from wsisurv.settings.base import changed_settings


class State(Enum):
    """What is known of an artifact before any work."""

    MISSING = "missing"
    DONE = "done"
    STALE = "stale"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Check:
    """State of an artifact, with what differs where it is stale."""

    state: State
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """What a step would do with one item, as ``--dry-run`` shows it.

    Attributes:
        id: the item.
        source: its input.
        state: of what is there already; None where that can't be told.
        changes: what differs, where it is stale.
        tiles: how many; where tissue was not looked at yet, at most.
        bytes: what the output takes; None where that is not known.
        problem: why it would fail, or empty.
    """

    id: str
    source: Path
    state: State | None = None
    changes: tuple[str, ...] = ()
    tiles: int | None = None
    bytes: int | None = None
    problem: str = ""


def check(path: Path, wanted: Header) -> Check:
    """Compare the file at ``path`` with the header that it should have."""
    try:
        header = read_header(path, wanted.format, made_by="the step")
    except MissingArtifactError:
        return Check(State.MISSING)
    except FormatError:
        return Check(State.DAMAGED)
    if header.fingerprint == wanted.fingerprint:
        return Check(State.DONE)
    changes = changed_settings(header.settings, wanted.settings)
    changes += [f"{name} is not the one it was made from" for name in _changed_inputs(header.inputs, wanted.inputs)]
    return Check(State.STALE, tuple(changes))


def _changed_inputs(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


def refuse_stale(stale: Mapping[Path, Sequence[str]]) -> None:
    """Stop before any work where artifacts are stale.

    Raises:
        StaleError: ``stale`` is not empty; names the changed settings and a file.
    """
    if not stale:
        return
    changes = sorted({change for changes in stale.values() for change in changes})
    first = next(iter(stale))
    more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
    raise StaleError(
        f"{first}{more}: made otherwise than asked now ({'; '.join(changes)}). "
        "Use --redo to make it anew, the old settings to keep it, or another --workspace to have both."
    )
