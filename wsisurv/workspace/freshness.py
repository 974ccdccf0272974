"""Whether an artifact is there and is what was asked for, and what differs where it is not.

Every step asks here, and ``StaleError`` is raised nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from wsisurv.errors import FormatError, MissingArtifactError, NewerFormatError, OlderFormatError, StaleError
from wsisurv.formats.header import Header, read_header
from wsisurv.settings.base import changes_between

REDO = "Use --redo to make it anew, the old settings to keep it, or another --workspace to have both."


class Condition(Enum):
    """What is known of an artifact before any work."""

    MISSING = "missing"
    DONE = "done"
    STALE = "stale"
    DAMAGED = "damaged"
    NEWER = "newer"
    """Made by a newer wsisurv; never written over."""


@dataclass(frozen=True)
class Freshness:
    """Condition of an artifact, with what differs where it is stale."""

    condition: Condition
    changes: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether it is what was asked for."""
        return self.condition is Condition.DONE


@dataclass(frozen=True)
class Origin:
    """What made an artifact that has no header of its own."""

    fingerprint: str  # of all that made it; decides
    settings: Mapping[str, Any] = field(default_factory=dict)  # for the message
    inputs: Mapping[str, str] = field(default_factory=dict)  # fingerprints of its inputs, for the message


@dataclass(frozen=True)
class Planned:
    """What a step would do with one item, as ``--dry-run`` shows it."""

    id: str  # the item
    source: Path  # its input
    condition: Condition | None = None  # of what is there already; None where that can't be told
    changes: tuple[str, ...] = ()  # what differs, where it is stale
    tiles: int | None = None  # how many; where tissue was not looked at yet, at most
    bytes: int | None = None  # what the output takes; None where that is not known
    problem: str = ""  # why it would fail, or empty


def compare(made: Header | Origin, wanted: Header | Origin, *, also: Sequence[str] = ()) -> Freshness:
    """Compare what made an artifact with what is to make it now.

    Args:
        made: of the artifact.
        wanted: of what is asked for.
        also: what else differs where the fingerprints do, in words.
    """
    if made.fingerprint == wanted.fingerprint:
        return Freshness(Condition.DONE)
    changes = [*also, *changes_between(made.settings, wanted.settings)]
    for name in sorted(made.inputs.keys() | wanted.inputs.keys()):
        if made.inputs.get(name) != wanted.inputs.get(name):
            changes.append(f"{name} is not the one it was made from")
    return Freshness(Condition.STALE, tuple(changes) or ("its inputs are not those that it was made from",))


def check(path: Path, wanted: Header) -> Freshness:
    """Compare the file at ``path`` with the header that it should have."""
    try:
        header = read_header(path, wanted.format, made_by="the step")
    except MissingArtifactError:
        return Freshness(Condition.MISSING)
    except OlderFormatError:
        return Freshness(Condition.STALE, ("made by an older wsisurv, in a format that is not read any more",))
    except NewerFormatError as error:
        return Freshness(Condition.NEWER, (str(error),))
    except FormatError:
        return Freshness(Condition.DAMAGED)
    return compare(header, wanted)


def require_made_of(path: Path, made_of: str, now: Origin | Header, what: str, remedy: str) -> None:
    """Refuse a file that was made of something else than lies there now.

    Args:
        path: the file.
        made_of: fingerprint of its input.
        now: of what is there.
        what: the input, for the message.
        remedy: the way out, as a sentence.

    Raises:
        StaleError: they are two.
    """
    if now.fingerprint != made_of:
        require_fresh({path: Freshness(Condition.STALE, (f"made of {what}, which is another now",))}, remedy=remedy)


def all_done(wanted: Mapping[Path, Header], *, redo: bool) -> bool:
    """Whether all files of one run are there as they should be.

    Raises:
        NewerFormatError: one is of a newer wsisurv.
        StaleError: one is stale, and not ``redo``.
    """
    seen = {path: check(path, header) for path, header in wanted.items()}
    for one in seen.values():
        if one.condition is Condition.NEWER:
            raise NewerFormatError(one.changes[0])
    if all(one.done for one in seen.values()):
        return True
    if not redo:
        require_fresh(seen)
    return False


def require_fresh(seen: Mapping[Path, Freshness], *, remedy: str = REDO) -> None:
    """Stop before any work where artifacts are stale.

    Args:
        seen: what was found of each.
        remedy: the way out, as a sentence.

    Raises:
        StaleError: one is stale; names what changed and a file.
    """
    stale = {path: one.changes for path, one in seen.items() if one.condition is Condition.STALE}
    if not stale:
        return
    changes = list(dict.fromkeys(change for several in stale.values() for change in several))
    first = next(iter(stale))
    more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
    raise StaleError(f"{first}{more}: made from other settings or inputs than now ({'; '.join(changes)}). {remedy}")
