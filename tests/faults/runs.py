"""One command in a process of its own, forked from a warm one, and what may befall it."""

import os
import random
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

BOUND_S = 240.0
"""A command of the campaign takes about a second: this long is for ever."""
_TOUCHES = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "os.utime", "os.truncate",
    "os.listdir", "os.scandir", "shutil.rmtree",
}  # fmt: skip


@dataclass(frozen=True)
class Death:
    """How a run is to die; the fields that are None do not kill.

    Attributes:
        operation: before its so-manieth operation on a file.
        bytes: in the write that makes a file longer than this.
        moment: so many seconds after its start.
    """

    operation: int | None = None
    bytes: int | None = None
    moment: float | None = None


NEVER = Death()


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: exit code; negative: the signal.
        out: what it printed.
        err: what it said on stderr.
        stuck: it had to be killed after ``BOUND_S``.
        seconds: that it took.
        operations: on files, where it ended by itself.
        modules: that it had imported then.
    """

    code: int
    out: str
    err: str
    stuck: bool
    seconds: float
    operations: int
    modules: frozenset[str] = frozenset()


class Run:
    """A command that has been started in a folder; ``end`` waits for it."""

    def __init__(self, words: tuple[str, ...], folder: Path, death: Death = NEVER, name: str = "run") -> None:
        self._files = [folder.parent / f"{folder.name}.{name}.{kind}" for kind in ("out", "err", "ops")]
        for file in self._files:
            file.write_text("")
        self._started = time.monotonic()
        self._death = death
        self.process = os.fork()
        if not self.process:
            self._work(words, folder, death)

    def _work(self, words: tuple[str, ...], folder: Path, death: Death) -> NoReturn:
        code = 70
        try:
            os.setpgid(0, 0)  # with the processes that it starts
            os.chdir(folder)
            for number, file in zip((1, 2), self._files, strict=False):
                os.dup2(os.open(file, os.O_WRONLY | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            sys.argv = ["wsisurv", *words]
            os.environ["COLUMNS"] = "200"
            operations = _watch(folder, death)
            if death.bytes is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_FSIZE, (death.bytes, death.bytes))
            from wsisurv.cli.app import main

            try:
                main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
            self._files[2].write_text(" ".join([str(operations[0]), *sys.modules]))
        except BaseException:  # noqa: BLE001 - as the interpreter would
            import traceback

            traceback.print_exc()
            code = 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def end(self) -> Ended:
        """Wait, kill it where that is its death, and tell what became of it."""
        stuck, patience = False, 0.001
        while True:
            done, status = os.waitpid(self.process, os.WNOHANG)
            passed = time.monotonic() - self._started
            if done:
                break
            if self._death.moment is not None and passed >= self._death.moment:
                self._kill()
            elif passed > BOUND_S:
                stuck = True
                self._kill()
            time.sleep(patience)
            patience = min(0.02, patience * 1.2) if self._death.moment is None else 0.001
        out, err, left = (file.read_text(errors="replace") for file in self._files)
        operations, *modules = left.split() or ["0"]
        for file in self._files:
            file.unlink()
        return Ended(os.waitstatus_to_exitcode(status), out, err, stuck, passed, int(operations), frozenset(modules))

    def _kill(self) -> None:
        for kill in (os.killpg, os.kill):
            try:
                kill(self.process, signal.SIGKILL)
            except ProcessLookupError:
                pass


def run(words: tuple[str, ...], folder: Path, death: Death = NEVER) -> Ended:
    """Run a command to its end."""
    return Run(words, folder, death).end()


def draw_death(chance: random.Random, undisturbed: Ended, largest_file: int) -> Death:
    """A death somewhere in a run that, undisturbed, ended so."""
    how = chance.randrange(5)
    if how < 3:
        return Death(operation=chance.randint(1, max(1, undisturbed.operations)))
    if how == 3:
        return Death(bytes=int(largest_file ** chance.random()))
    return Death(moment=chance.random() * undisturbed.seconds)


def _watch(folder: Path, death: Death) -> list[int]:
    """Count operations on files under a folder from now on, and die before the chosen one."""
    count, root = [0], str(folder)

    def hook(event: str, what: tuple[Any, ...]) -> None:
        if event not in _TOUCHES or not what or not isinstance(what[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(what[0]))
        if path.startswith(root):
            count[0] += 1
            if count[0] == death.operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count
