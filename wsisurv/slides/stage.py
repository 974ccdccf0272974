"""Copies of slides on a disk of this machine, for as long as they are read there.

A slide is copied whole, with all files that belong to it. Where there is no room, it waits for other copies to go. What
killed processes of this machine left is taken away by the next copy.
"""

import errno
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from wsisurv.errors import SettingsError, SlideError, StorageError
from wsisurv.formats.atomic import PARTIAL, explain_storage, own_folder, sweep_folders
from wsisurv.formats.remote import RemotePath
from wsisurv.slides.find import slide_files

_CHUNK, _SPARE = 8 << 20, 16 << 20
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_LOOK_S = 0.5


class UnwantedError(SlideError):
    """Nobody wants the slide any more."""


class Turns:
    """So many slides are read at a time, by twice as many threads: the others copy the next ones meanwhile.

    Args:
        n: how many.

    Attributes:
        free: held by each that is read.
        ended: set where none is to be begun any more.
    """

    def __init__(self, n: int) -> None:
        self.free, self.ended = threading.Semaphore(n), threading.Event()


@contextmanager
def staged(
    path: Path,
    folder: Path | None,
    *,
    turns: "Turns | None" = None,
    unwanted: Callable[[], bool] = lambda: False,
) -> Iterator[Path]:
    """Give a slide's file to read: a copy in ``folder``, which goes at the end of the block, or itself without one.

    Args:
        path: the slide's file.
        folder: where to; None for no copy.
        turns: one is waited for once the slide is copied.
        unwanted: asked while it is copied, which is then given up; as where no turns are given any more.

    Raises:
        StorageError: the folder can't be written, or has no room for the slide and no other copy to wait for.
        SlideError: the slide can't be read; what is raised in the block names the slide and not its copy.
    """
    if folder is None:
        yield path
        return
    given_up = unwanted if turns is None else turns.ended.is_set
    with ExitStack() as stack:
        place: Path | None = None
        while place is None:
            _wait_for_room(path, folder, given_up)
            place = _copied(stack, path, folder, given_up)
        with nullcontext() if turns is None else turns.free:
            _look(path, given_up)
            try:
                yield place / path.name
            except SlideError as error:
                raise of_original(error, path, place) from error


def require_stage(paths: Sequence[Path], folder: Path | None) -> None:
    """Refuse to read slides at URLs where they lie.

    Raises:
        SettingsError: no folder for copies is given.
    """
    if folder is None and (remote := next((path for path in paths if isinstance(path, RemotePath)), None)):
        raise SettingsError(f"{remote}: slides at URLs are copied before they are read; say where to: --stage DIR")


def of_original(error: SlideError, path: Path, place: Path) -> SlideError:
    """An error in words that name a slide's own file, instead of its copy in a folder."""
    return type(error)(str(error).replace(str(place), str(path.parent)))


def _wait_for_room(path: Path, folder: Path, unwanted: Callable[[], bool]) -> None:
    """Wait until a slide has room, as long as there are copies that may go."""
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    size = _size(path)
    while (free := shutil.disk_usage(folder).free) < size + _SPARE:
        sweep_folders(folder)
        if not any(folder.glob(f".*{PARTIAL}")):
            raise StorageError(
                f"{folder}: no room for {path}, of {size / 1e6:,.0f} MB, and {_SPARE / 1e6:,.0f} MB to spare: "
                f"{free / 1e6:,.0f} MB are free. Free some, choose another --stage, or leave it out: what is done is "
                "kept."
            )
        _look(path, unwanted)
        time.sleep(_LOOK_S)


def _copied(stack: ExitStack, path: Path, folder: Path, unwanted: Callable[[], bool]) -> Path | None:
    """The folder of a copy, which goes with ``stack``; None where another took the room meanwhile."""
    with ExitStack() as here:
        with _explained(folder):
            place = here.enter_context(own_folder(folder))
        for file in slide_files(path):
            target = place / file.relative_to(path.parent)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as written, _opened(file, path) as source:
                    while chunk := _read(source, path):
                        _look(path, unwanted)
                        written.write(chunk)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    break
                raise StorageError(
                    f"{folder}: {path.name} can't be copied there ({error.strerror or error}). Choose another --stage, "
                    "or leave it out: what is done is kept."
                ) from error
        else:
            stack.push(here.pop_all())
            return place
    time.sleep(random.uniform(_LOOK_S, 3 * _LOOK_S))  # not all at once again
    return None


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say of which option a folder is that can't be written."""
    try:
        with explain_storage(folder):
            yield
    except StorageError as error:
        raise StorageError(str(error).replace("--workspace", "--stage")) from error
    except OSError as error:  # of a mount that is not on this machine
        raise StorageError(
            f"{folder}: can't be made here ({error.strerror or error}). Choose another --stage."
        ) from error


def _size(path: Path) -> int:
    try:
        return sum(file.stat().st_size for file in slide_files(path))
    except OSError as error:
        raise SlideError(f"{path}: can't be read ({error.strerror or error}).") from error


def _opened(file: Path, path: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise SlideError(f"{path}: {file.name} can't be read ({error.strerror or error}).") from error


def _read(source: BinaryIO, path: Path) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:
        raise SlideError(f"{path}: can't be read ({error.strerror or error}).") from error


def _look(path: Path, unwanted: Callable[[], bool]) -> None:
    if unwanted():
        raise UnwantedError(f"{path}: not wanted any more")
