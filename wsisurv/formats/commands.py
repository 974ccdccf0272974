"""``commands.jsonl``: commands that were run in a workspace, word by word, so that a page can tell what was done."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wsisurv.formats.atomic import append_jsonl, read_jsonl

FILE = "commands.jsonl"


@dataclass(frozen=True)
class Command:
    """One command as it was typed."""

    when: str  # start, UTC, ISO 8601
    words: tuple[str, ...]  # all of it, ``wsisurv`` first
    folder: str  # where it was run
    exit_code: int  # 0 all done, 1 anything failed
    seconds: float  # how long it took
    wsisurv: str  # the version


def append_command(workspace: Path, command: Command) -> None:
    """Add a command to the workspace's list.

    Raises:
        StorageError: no room or no permission.
    """
    append_jsonl(workspace / FILE, asdict(command))


def read_commands(workspace: Path) -> list[Command]:
    """Commands in the order in which they ended; none where the list is not there.

    Raises:
        FormatError: a line that is no command, by its number.
    """
    return read_jsonl(workspace / FILE, _parse)


def _parse(value: Any) -> Command:
    try:
        return Command(
            when=str(value["when"]),
            words=tuple(map(str, value["words"])),
            folder=str(value["folder"]),
            exit_code=int(value["exit_code"]),
            seconds=float(value["seconds"]),
            wsisurv=str(value["wsisurv"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no command ({error})") from error
