"""Each command is written into the workspace that it worked in, word by word, for the report page."""

import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from wsisurv.cli.console import warn
from wsisurv.cli.interrupts import INTERRUPTED
from wsisurv.errors import StorageError, WsisurvError
from wsisurv.formats.commands import Command, append_command
from wsisurv.version import __version__
from wsisurv.workspace.claims import note_of_no_locks
from wsisurv.workspace.ledger import exclusive
from wsisurv.workspace.paths import Workspace

_SECRET = re.compile(r"://[^/@\s]+@")
"""User and password in an address; the page is shown to others."""


class Recorded(TyperCommand):
    """A command that leaves a line in ``commands.jsonl`` of its workspace when it ends, however it ends.

    Nothing is written where there is no workspace, or where the command only looks (``--audit-only``, ``--dry-run``,
    ``--plan``).
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command and note it."""
        when, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        exit_code = 1
        try:
            result = super().invoke(ctx)
            exit_code = 0
            return result
        except typer.Exit as ended:
            exit_code = ended.exit_code
            raise
        except WsisurvError as error:
            exit_code = error.exit_code
            raise
        except KeyboardInterrupt:
            exit_code = INTERRUPTED
            raise
        finally:
            workspace = ctx.params.get("workspace")
            looks_only = any(ctx.params.get(name) for name in ("audit_only", "dry_run", "plan_file"))
            if workspace is not None and not looks_only:
                words = ("wsisurv", *without_secrets(sys.argv[1:]))
                seconds = round(time.monotonic() - clock, 1)
                _note(Path(workspace), Command(when, words, _folder(), exit_code, seconds, __version__))
            if note := note_of_no_locks():
                warn(note)


def without_secrets(words: Iterable[str]) -> list[str]:
    """Words of a command without the password in an address."""
    return [_SECRET.sub("://…@", word) for word in words]


def _folder() -> str:
    """Where the command was run; empty where that folder was deleted meanwhile."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _note(workspace: Path, command: Command) -> None:
    if not workspace.is_dir():
        return
    with suppress(OSError, StorageError):  # can be read but not written: the command has said what it could not write
        with exclusive(Workspace(workspace), "commands"):
            append_command(workspace, command)
