"""Files that exist are whole: written beside, flushed to disk, then renamed.

A run that is killed leaves at most a hidden ``.PROCESS-RANDOM.partial``, which the next one that writes into the same
folder takes away. Names are never shared: two that write one file at once each write their own, and the last stays.
"""

import errno
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from wsisurv.errors import FormatError, StorageError
from wsisurv.formats.sealed import with_checksum, without_checksum

GROUP_READABLE = "WSISURV_GROUP_READABLE"
"""Variable of the environment that lets a group read reports and follow-up; processes of a run inherit it."""
_OF_SLIDES = {"tiles", "features", "preview", "geojson", "slides"}
"""Folders of what is made of slides alone."""
_MOST_BYTES = 1 << 30
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
PARTIAL = ".partial"
_PROCESS = re.compile(r"\.?([0-9a-f]{8})-([0-9]+)(?:-[0-9a-f]{8}\.partial)?")
_swept: set[Path] = set()


@contextmanager
def explain_storage(path: Path) -> Iterator[None]:
    """Turn a failure to write ``path`` into a StorageError that says what to do.

    Raises:
        StorageError: the disk is full, a quota is reached, or the place can't be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageError(
                f"{path}: no room to write ({os.strerror(error.errno)}). Free some space and run the same command "
                "again: what is done is kept."
            ) from error
        if error.errno in _DENIED:
            raise StorageError(
                f"{path}: can't be written there ({os.strerror(error.errno)}). Change the folder's rights or choose "
                "another --workspace."
            ) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to beside ``path``; on leaving without error it is flushed and renamed to ``path``.

    On any error, an interrupt included, the partial file is removed and ``path`` is as it was.

    Raises:
        StorageError: as ``explain_storage``.
    """
    partial = path.with_name(f".{process_name()}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        with explain_storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            if (mode := _mode(path)) is not None:
                os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, mode))  # before there is anything to read in it
            yield partial
            descriptor = os.open(partial, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(partial, path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # a place that can't be written to can't be tidied: its own error is the one to tell
            partial.unlink(missing_ok=True)


@cache
def _machine() -> str:
    """This machine, where numbers of processes mean something: containers count theirs anew."""
    try:
        numbers = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux
        numbers = 0
    return blake2b(f"{socket.gethostname()} {numbers}".encode(), digest_size=4).hexdigest()


def process_name() -> str:
    """A name for this process, from which others can tell whether it lives."""
    return f"{_machine()}-{os.getpid()}"


def process_of_name(name: str) -> bool | None:
    """Whether the process of a ``process_name``, or of a partial file's name, lives; None of another machine."""
    found = _PROCESS.fullmatch(name)
    if found is None or found[1] != _machine():
        return None
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # there, of another user
    return True


@contextmanager
def own_folder(parent: Path) -> Iterator[Path]:
    """A folder within another for what this process alone needs, and its owner alone may see, until the block ends.

    Those that killed processes of this machine left are taken away.

    Raises:
        StorageError: as ``explain_storage``.
    """
    sweep_folders(parent)
    folder = parent / f".{process_name()}-{secrets.token_hex(4)}{PARTIAL}"
    with explain_storage(folder):
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_folders(parent: Path) -> None:
    """Take away those of ``own_folder`` that killed processes of this machine left."""
    for left in leftovers(parent):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def leftovers(folder: Path) -> list[Path]:
    """Partial files in a folder that processes of this machine left when they were killed."""
    return [path for path in folder.glob(f".*{PARTIAL}") if process_of_name(path.name) is False]


def sweep(folder: Path) -> None:
    """Take leftovers away, once a folder in the life of a process."""
    if folder not in _swept:
        _swept.add(folder)
        for path in leftovers(folder):
            with suppress(IsADirectoryError, PermissionError):  # of ``own_folder``
                path.unlink(missing_ok=True)


def _mode(path: Path) -> int | None:
    """Rights of a file that may hold words of a report or follow-up, which is all but what is made of slides alone.

    None leaves them to the system.
    """
    if _OF_SLIDES & {parent.name for parent in path.parents[:3]}:
        return None
    return 0o640 if os.environ.get(GROUP_READABLE) else 0o600


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems refuse to sync a folder; the rename is still atomic
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all; bytes of names that are no UTF-8 are escaped, as JSON does."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="", errors="backslashreplace")


def write_json(path: Path, record: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write a JSON object with its checksum, whole or not at all."""
    write_text(path, json.dumps(with_checksum(record), indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]], *, checksums: bool = True) -> None:
    """Write JSON objects, one a line, whole or not at all; without checksums where others are to read them."""
    written = map(with_checksum, records) if checksums else records
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in written))


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Add one JSON object as a line with its checksum, flushed to disk before returning.

    A line that a killed run left unfinished is taken off first.
    """
    with explain_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(path)
        with open(path, "ab+", opener=lambda name, flags: os.open(name, flags, mode or 0o666)) as file:
            if mode is not None:
                with suppress(OSError):  # a file system without rights, or another's file
                    os.chmod(path, mode)  # one of an older wsisurv
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # only then is the whole file read: a long run adds many lines
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            line = json.dumps(with_checksum(record), ensure_ascii=False)
            file.write(line.encode("utf-8", "backslashreplace") + b"\n")
            file.flush()
            os.fsync(file.fileno())


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text of anybody's.

    Raises:
        ValueError: it is not JSON, not UTF-8, or nested beyond what Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("lists or objects nested too deeply") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of one JSON object.

    Raises:
        FormatError: a file that can't be read or is larger than any of ours.
        ValueError: as ``parse_json``, no object, or another checksum than it says; the caller knows what made the file.
    """
    value = parse_json(_content(path))
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}, not an object")
    return dict(without_checksum(value))


def read_text(path: Path) -> str:
    """Text of a file.

    Raises:
        FormatError: not UTF-8, by line and byte; a file that can't be read or is larger than any of ours.
    """
    content = _content(path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FormatError(
            f"{path}, line {line}: byte {error.start} (0x{content[error.start]:02X}) is not UTF-8"
        ) from error


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FormatError(f"{path}: {path.stat().st_size} bytes of text; files of ours have {_MOST_BYTES} at most")
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: can't be read ({error.strerror})") from error


def read_jsonl(path: Path, parse: Callable[[Any], Any] = lambda record: record) -> list[Any]:
    """Read JSON records, one a line, each through ``parse``; a missing file is an empty list.

    Only an unfinished last line (a run killed while it wrote) is passed over.

    Raises:
        FormatError: a line that is not JSON or not what was written, or that ``parse`` refuses, by its number.
    """
    if not path.exists():
        return []
    records = []
    lines = _content(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(parse(without_checksum(parse_json(line))))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(lines):
                break  # no newline after it: never finished
            raise FormatError(
                f"{path}, line {number}: {error}. Delete the line or the file, and run the step again."
            ) from error
    return records
