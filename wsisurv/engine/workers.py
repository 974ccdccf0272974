"""Where work runs beside the caller: on threads or on processes, with one answer to Ctrl-C, errors and a death."""

import multiprocessing
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Any, Generic, TypeVar

from wsisurv.errors import BackendError, DeviceError, StorageError, WeightsError, WsisurvError

T = TypeVar("T")
R = TypeVar("R")
_LOOK_S = 0.5
_THREADS_OF = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finished(
    do: Callable[[T], R],
    items: Iterable[T],
    workers: int,
    *,
    processes: bool = False,
    give_up: Callable[[], None] | None = None,
    shares: "Shares | None" = None,
    pool: "Pool | None" = None,
) -> Generator[tuple[T, R], None, None]:
    """Do every item; gives each with what came of it, as they come.

    An item is taken from ``items`` only when a worker is free for it, in the caller's thread, so that taking one may
    claim it. One worker on threads is the caller's own thread, one item after the other. After an error, Ctrl-C, or
    ``close``, no further item is begun and those under way are waited for, or, with ``shares``, their processes ended.

    Args:
        do: what to do; its first error stops the run and is raised here.
        items: what to do it to.
        workers: how many at once.
        processes: on processes instead of threads; ``do``, items and results are then pickled.
        give_up: called when the run stops early, to make items under way end soon.
        shares: how far items are, for long ones on processes: looked at twice a second. Each process keeps to one
            thread, and ends at once where the run stops early.
        pool: other machines to do it on, instead of threads or processes here; as many at once as it has threads. It
            is told how many are left, where ``items`` is a sequence.

    Raises:
        BackendError: a process was killed.
    """
    if workers <= 1 and not processes and pool is None:
        for item in items:
            yield item, do(item)
        return
    executor = pool or _open_pool(workers, processes, shares)
    turns = iter(items)
    running: dict[Future[R], T] = {}
    told, n_left = (pool, len(items)) if isinstance(items, Sequence) else (None, 0)
    try:
        if told is not None:
            told.expect(n_left)
        while True:
            while len(running) < (workers if pool is None else max(1, pool.n_threads())):
                try:
                    item = next(turns)
                except StopIteration:
                    break
                with _processes_begin() if processes else nullcontext():
                    running[executor.submit(do, item)] = item
            if not running:
                return
            if shares is not None:
                shares.look()
            timeout = None if shares is None and pool is None else _LOOK_S  # workers may come
            for future in wait(running, timeout, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
                n_left -= 1
                if told is not None:
                    told.expect(n_left)
    except BrokenProcessPool as error:
        raise BackendError(
            "a process was killed, perhaps for want of memory. Run the same command again with fewer workers: what is "
            "done is kept."
        ) from error
    finally:
        if running and give_up is not None:
            give_up()
        if running and shares is not None:
            shares.end()
        executor.shutdown(wait=True, cancel_futures=True)


class Pool(Executor, ABC):
    """Workers on other machines, as many as there are at the moment."""

    @abstractmethod
    def n_threads(self) -> int:
        """How many items they can do at once."""

    def expect(self, n_left: int) -> None:
        """Take note of how many items are left to do."""


@dataclass(frozen=True)
class Attempt(Generic[T, R]):
    """Does an item; an error that can be explained is given instead of raised, but for one that all would meet."""

    do: Callable[[T], R]

    def __call__(self, item: T) -> R | WsisurvError | OSError:
        """What came of the item."""
        try:
            return self.do(item)
        except (StorageError, WeightsError, DeviceError):
            raise
        except (WsisurvError, OSError) as error:
            return error


class Shares:
    """How far each of several items is that run on processes, as shares of 1, seen from the caller's process.

    Args:
        n: number of items.
        look: called with the sum of all shares, about twice a second.
    """

    def __init__(self, n: int, look: Callable[[float], None]) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._of = spawning.RawArray("d", n)
        self._theirs, self._ours = spawning.Pipe(duplex=False)  # closed on this side, or with its process, it ends them
        self._look = look

    def look(self) -> None:
        """Tell the sum."""
        self._look(sum(self._of))

    def end(self) -> None:
        """End the processes that are at work on the items."""
        self._ours.close()

    def initial(self) -> tuple[Any, connection.Connection]:
        """What a process is started with."""
        return self._of, self._theirs


_shares_of_parent: Any = None


def tell_share(number: int, share: float) -> None:
    """Tell the caller's process how far the item of this number is, 0 to 1; for functions that run with ``shares``."""
    _shares_of_parent[number] = share


def _open_pool(workers: int, processes: bool, shares: Shares | None) -> Executor:
    if not processes:
        return ThreadPoolExecutor(workers, thread_name_prefix="worker")
    spawning = multiprocessing.get_context("spawn")  # safe beside threads, with CUDA, and the same on every system
    initial = shares.initial() if shares is not None else ()
    return ProcessPoolExecutor(workers, mp_context=spawning, initializer=_begin, initargs=initial)


def _begin(shares: Any = None, parent: connection.Connection | None = None) -> None:
    global _shares_of_parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells its processes to stop
    end_with_parent(parent)
    if shares is not None:
        _shares_of_parent = shares
        for library in _THREADS_OF:  # before numpy and torch are loaded
            os.environ.setdefault(library, "1")


def end_with_parent(also: connection.Connection | None = None) -> None:
    """End this process when its parent does, which may be killed and tell nothing, or when ``also`` is closed."""
    threading.Thread(target=_wait_for_parent, args=(also,), daemon=True).start()


def _wait_for_parent(also: connection.Connection | None) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel] if also is None else [parent.sentinel, also])
        os._exit(1)


@contextmanager
def _processes_begin() -> Iterator[None]:
    """Let processes begin in the block, without Ctrl-C and without running the caller's script a second time.

    ``spawn`` runs the script of ``__main__`` in each process, for functions that are defined there. Ours are not, and a
    script that asks for processes outside ``if __name__ == "__main__"`` would ask again in each.
    """
    main = sys.modules["__main__"]
    spec, file = main.__spec__, main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        with interrupts_held():
            yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back in the block, and for good in the processes started in it: the parent tells them to stop.

    They inherit the signal's being blocked; left to themselves each would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    resource_tracker.ensure_running()  # its start lets Ctrl-C through, whatever was held before, so it comes first
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
