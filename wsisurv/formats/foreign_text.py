"""Text of any length in another tool's file, read by a process of its own.

HDF5 takes as much memory for such a text as the file says, and in a damaged store of texts it goes round for ever. Here
that ends a small process with little memory and few seconds, not the run.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from wsisurv.errors import BackendError, FormatError

_CHILD = """
import json, resource, sys
import h5py

def limit(kind, most):
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))

limit(resource.RLIMIT_CORE, 0)
try:
    with open("/proc/self/statm") as pages:
        limit(resource.RLIMIT_AS, int(pages.read().split()[0]) * resource.getpagesize() + (256 << 20))
except OSError:
    pass  # no Linux: the limit of processor time holds there
print("ready", flush=True)
for line in sys.stdin:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 3)
    path, item, name = json.loads(line)
    try:
        with h5py.File(path, "r") as file:
            value = file[item].attrs[name]
        answer = {"text": value} if isinstance(value, str) and len(value) <= 4096 else {"error": "no short text"}
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


class _Reader:
    """The process; started when it is first asked, and again after a file has ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, path: Path, item: str, name: str) -> dict[str, str] | None:
        """The process's answer, or None where the file ended it."""
        with self._lock:
            if self._process is None or self._owner != os.getpid():  # a fork must not talk to its parent's
                self._process, self._owner = self._start(), os.getpid()
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps([os.fspath(path), item, name]) + "\n")
                process.stdin.flush()
                if line := process.stdout.readline():
                    answer: dict[str, str] = json.loads(line)
                    return answer
            except (OSError, ValueError):
                pass
            self._stop()
            return None

    def _start(self) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CHILD],  # -P: nothing is imported from the folder that it runs in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for the run
        )
        if process.stdout is None or process.stdout.readline() != "ready\n":
            process.kill()
            process.communicate()
            raise BackendError(f"{sys.executable} with h5py can't be started as a process of its own")
        return process

    def close(self) -> None:
        """End the process, if this one started it."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


_READER = _Reader()
atexit.register(_READER.close)


def read_text(path: Path, item: str, name: str) -> str:
    """An attribute of text of any length.

    Args:
        path: the file.
        item: the group or dataset whose attribute it is.
        name: of the attribute.

    Raises:
        BackendError: the process can't be started.
        FormatError: it is no text of at most 4,096 letters, or what the file says of it can't be.
    """
    answer = _READER.ask(path.absolute(), item, name)
    if answer is None or "text" not in answer:
        why = "its length or its place can't be" if answer is None else answer["error"]
        raise FormatError(f"{path}: attribute {name} is a damaged text ({why})")
    return answer["text"]
