"""Claims: what one process holds while it works, so that no other does the same or spoils it.

The lock is the kernel's, so that it ends with its process, however that dies. Where the file system has none (NFS
without its lock service, some container mounts), or grants the same on each machine, as its mount says, a file that is
made only where there is none stands for it, touched every few seconds while its process lives; one that was not touched
for long belongs to a process that died.
"""

import errno
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wsisurv.errors import StorageError
from wsisurv.formats.atomic import explain_storage, process_name, process_of_name, write_text

_MOUNTS = Path("/proc/self/mounts")
_OF_ONE_MACHINE = {"localflock", "nolock", "local_lock=all", "local_lock=flock"}
"""Options of a mount of Lustre or NFS by which a lock is granted on each machine."""
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
_BEAT_S, _DEAD_S, _WAIT_S = 5.0, 60.0, 0.05
_LONGEST = 200
_TRIAL = "trial"
_ASK = f"""import pathlib, sys
from wsisurv.workspace import claims
folder = pathlib.Path(sys.argv[1])
if sys.argv[2] == "False":
    claims._without_locks.add(folder)
print(claims.ItemClaim(folder, {_TRIAL!r}).take())
"""
_OCTAL = re.compile(r"\\([0-7]{3})")
_without_locks: set[Path] = set()
_told = False


def note_of_no_locks() -> str | None:
    """What to tell of a file system without locks, once a process; None where there is nothing to tell."""
    global _told
    if _told or not _without_locks:
        return None
    _told = True
    return (
        f"{min(_without_locks)}: this file system has no locks that hold on all machines. Files that are touched "
        f"every {_BEAT_S:g} s stand for them: after a run is killed on another machine, its items are free again "
        f"after {_DEAD_S:g} s."
    )


def has_locks(folder: Path) -> bool:
    """Whether the locks of a folder, in which something was claimed, are the kernel's."""
    return folder not in _without_locks


@dataclass(frozen=True)
class ClaimsTrial:
    """What claims of a folder's storage are worth, as tried by two processes."""

    locks: bool  # whether the kernel's locks are used, and not files that are touched
    holds: bool  # whether a second process was refused what the first held
    exclusive: bool  # whether a file was refused that was to be made (O_EXCL) and was there already


def try_claims(folder: Path) -> ClaimsTrial:
    """Claim something in a folder, ask for it from another process, and make a file twice; leaves a folder of trials.

    Raises:
        StorageError, OSError: nothing can be written there.
    """
    claim, file = ItemClaim(folder, _TRIAL), folder / "exclusive"
    claim.take()
    try:
        ask = [sys.executable, "-c", _ASK, str(folder), str(has_locks(folder))]
        second = subprocess.run(ask, capture_output=True, text=True, check=False)
        file.touch()
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return ClaimsTrial(has_locks(folder), second.stdout.strip() == "False", exclusive=True)
        return ClaimsTrial(has_locks(folder), second.stdout.strip() == "False", exclusive=False)
    finally:
        claim.remove()


class ItemClaim:
    """A claim on a name; ``take`` it, and ``release`` it from any thread.

    Args:
        folder: of claims.
        name: of what is claimed; may hold folders.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        head, _, item = name.rpartition("/")
        if len(os.fsencode(item)) > _LONGEST:  # a file's name holds 255 bytes
            item = sha256(os.fsencode(item)).hexdigest()
        self._path = folder / head / f"{item}.lock"
        self._words = self._path.with_suffix(".json")
        self._lock: FileLock | None = None
        self._beating: threading.Event | None = None

    def take(self, *, wait: bool = False, words: Mapping[str, Any] | None = None) -> bool:
        """Claim it; False where a living process holds it.

        Args:
            wait: until it is free.
            words: what a process that comes second is told (``holder``), beside where this one is.

        Raises:
            StorageError: the claim can't be written.
        """
        with explain_storage(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            while not self._try():
                if not wait:
                    return False
                time.sleep(_WAIT_S)
        if words is not None:
            where = f"{socket.gethostname()}, process {os.getpid()}"
            write_text(self._words, json.dumps({"where": where, "words": dict(words)}))
        return True

    def holder(self) -> dict[str, Any]:
        """What the process that holds it has said; empty where it said nothing."""
        words = self._said("words")
        return words if isinstance(words, dict) else {}

    def where(self) -> str:
        """Machine and process that hold it, or did last; empty where it said nothing."""
        return str(self._said("where") or "")

    def _said(self, what: str) -> Any:
        try:
            return json.loads(self._words.read_text(encoding="utf-8"))[what]
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def is_held(self) -> bool:
        """Whether a living process holds it; asked by taking it, and by reading alone in a workspace of another's."""
        try:
            taken = self.take()
        except StorageError:
            return self._beat_file.exists() or _is_locked(self._path)
        if taken:
            self.release()
        return not taken

    def release(self) -> None:
        """Let it go."""
        if self._beating is not None:
            self._beating.set()
            self._beating = None
            with suppress(OSError):
                self._beat_file.unlink()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def remove(self) -> None:
        """Let it go, and leave nothing behind: only for a name that nobody else takes."""
        for path in (self._words, self._path):
            with suppress(OSError):
                path.unlink()
        self.release()

    def _try(self) -> bool:
        if self._folder not in _without_locks and _locks_are_of_one_machine(self._folder):
            _without_locks.add(self._folder)
        if self._folder in _without_locks:
            return self._try_without_locks()
        lock = FileLock(self._path, timeout=0, thread_local=False)  # one thread may claim and another let go
        try:
            lock.acquire()
        except Timeout:
            return False
        except (OSError, NotImplementedError) as error:  # older filelock raises the latter for ENOSYS
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            _without_locks.add(self._folder)
            return self._try_without_locks()
        self._lock = lock
        return True

    @property
    def _beat_file(self) -> Path:
        return self._path.with_suffix(".held")

    def _try_without_locks(self) -> bool:
        held = self._beat_file
        try:
            descriptor = os.open(held, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return self._is_dead(held) and self._bury(held) and self._try_without_locks()
        with os.fdopen(descriptor, "w") as file:
            file.write(process_name())
        self._beating = threading.Event()
        threading.Thread(target=_beat, args=(held, self._beating), daemon=True).start()
        return True

    def _is_dead(self, held: Path) -> bool:
        """Whether the process that holds it has died: known of one of this machine, of others by their silence."""
        try:
            alive = process_of_name(held.read_text(encoding="utf-8"))
            if alive is not None:
                return not alive
            clock = held.with_suffix(f".{secrets.token_hex(4)}.clock")
            clock.touch()  # the file system's own clock, which need not be this machine's
            silent = clock.stat().st_mtime - held.stat().st_mtime
            clock.unlink()
        except FileNotFoundError:
            return False  # let go just now: the next try has it
        return silent > _DEAD_S

    def _bury(self, held: Path) -> bool:
        """Take a dead process's file away; of several that try, one does."""
        grave = held.with_suffix(f".{secrets.token_hex(4)}.dead")
        try:
            os.rename(held, grave)
        except FileNotFoundError:
            return True
        with suppress(OSError):
            if not self._is_dead(grave):  # another was quicker, and this is its own
                os.link(grave, held)
        grave.unlink(missing_ok=True)
        return True


@cache
def _locks_are_of_one_machine(folder: Path) -> bool:
    """Whether the mount that a folder lies on grants the same lock on each machine."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False  # not Linux
    real = folder.resolve()
    found = (0, "", "")
    for line in lines:
        _, place, kind, options, *_ = line.split(" ")
        at = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), place))
        if at in (real, *real.parents) and len(at.parts) >= found[0]:  # of several on one place the last is seen
            found = (len(at.parts), kind, options)
    return found[1].startswith(("nfs", "lustre")) and bool(_OF_ONE_MACHINE & {*found[2].split(",")})


def _is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file that can be read and not written."""
    import fcntl  # not on Windows

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _beat(held: Path, stop: threading.Event) -> None:
    while not stop.wait(_BEAT_S):
        with suppress(OSError):
            os.utime(held)
