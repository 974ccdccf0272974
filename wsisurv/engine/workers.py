"""Where work runs beside the caller: on threads or on processes, with one answer to Ctrl-C, errors and a death."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Generic, TypeVar

from wsisurv.errors import BackendError, StorageError, WsisurvError

T = TypeVar("T")
R = TypeVar("R")


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
) -> Generator[tuple[T, R], None, None]:
    """Do every item; gives each with what came of it, as they come.

    An item is taken from ``items`` only when a worker is free for it, in the caller's thread, so that taking one may
    claim it. One worker on threads is the caller's own thread, one item after the other. After an error, Ctrl-C, or
    ``close``, no further item is begun and those under way are waited for.

    Args:
        do: what to do; its first error stops the run and is raised here.
        items: what to do it to.
        workers: how many at once.
        processes: on processes instead of threads; ``do``, items and results are then pickled.
        give_up: called when the run stops early, to make items under way end soon.

    Raises:
        BackendError: a process was killed.
    """
    if workers <= 1 and not processes:
        for item in items:
            yield item, do(item)
        return
    pool = _open_pool(workers, processes)
    turns = iter(items)
    running: dict[Future[R], T] = {}
    try:
        while True:
            while len(running) < workers:
                try:
                    item = next(turns)
                except StopIteration:
                    break
                with interrupts_held() if processes else nullcontext():  # a process may begin here
                    running[pool.submit(do, item)] = item
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise BackendError(
            "a process was killed, perhaps for want of memory. Run the same command again with fewer workers: what is "
            "done is kept."
        ) from error
    finally:
        if running and give_up is not None:
            give_up()
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class Attempt(Generic[T, R]):
    """Does an item; an error that can be explained is given instead of raised, except that there is no room."""

    do: Callable[[T], R]

    def __call__(self, item: T) -> R | WsisurvError | OSError:
        """What came of the item."""
        try:
            return self.do(item)
        except StorageError:
            raise
        except (WsisurvError, OSError) as error:
            return error


def _open_pool(workers: int, processes: bool) -> Executor:
    if not processes:
        return ThreadPoolExecutor(workers, thread_name_prefix="worker")
    spawning = multiprocessing.get_context("spawn")  # safe beside threads, with CUDA, and the same on every system
    return ProcessPoolExecutor(workers, mp_context=spawning, initializer=_begin)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells its processes to stop
    end_with_parent()


def end_with_parent() -> None:
    """End this process when its parent does: one that was killed can't tell its children to stop."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


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
