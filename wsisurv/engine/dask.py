"""Work on a Dask cluster: an executor like that of threads and processes, and what is asked of its workers first.

Workers are sent small records with paths in them, never pixels or text of a report.
"""

import ipaddress
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as _wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from wsisurv.engine.workers import Pool
from wsisurv.errors import BackendError, DeviceError, SettingsError, StorageError, WeightsError, WsisurvError
from wsisurv.formats.atomic import PARTIAL, explain_storage, process_name, sweep
from wsisurv.version import __version__
from wsisurv.workspace.paths import Workspace

T = TypeVar("T")
R = TypeVar("R")
_WAIT_S, _GONE_S, _LOOK_S = 20, 600, 1


@dataclass(frozen=True)
class Witness:
    """What a worker must have in common with whoever sends it work."""

    version: str  # of wsisurv
    file: Path  # in the workspace
    words: str  # that stand in it

    def __call__(self) -> None:
        """Look, on a worker.

        Raises:
            BackendError: the worker has another wsisurv, or does not see the workspace.
        """
        if __version__ != self.version:
            raise BackendError(
                f"{_where()} has wsisurv {__version__}, and here is {self.version}: install the same on both."
            )
        seen = ""
        with suppress(OSError):
            seen = self.file.read_text(encoding="utf-8")
        if seen != self.words:
            raise BackendError(
                f"{_where()} does not see {self.file.parents[1]}, or another folder under that name: the workspace "
                "must lie on storage that all workers share, under the same path."
            )


def _where() -> str:
    return f"the Dask worker on {socket.gethostname()}"


_look_once = cache(Witness.__call__)
"""Once in the life of a worker: one may join later than the others were asked."""


_here = threading.local()
"""Of the call that a worker's thread is at: its ``witness``, and when it was ``looked`` at."""


def stop_if_unwanted() -> None:
    """End a call on a worker that nobody waits for any more; to be called by what takes long, at any moment.

    Raises:
        BackendError: whoever sent it has ended.
    """
    witness = getattr(_here, "witness", None)
    if witness is not None and time.monotonic() - _here.looked > _LOOK_S:
        _here.looked = time.monotonic()
        if not witness.file.exists():
            raise BackendError("whoever sent this to the Dask worker has ended")


@dataclass(frozen=True)
class _OnWorker(Generic[T, R]):
    do: Callable[[T], R]
    witness: Witness
    source: Path | None = None  # of the item, where whoever sends it can read it

    def __call__(self, item: T) -> R:
        _look_once(self.witness)
        if self.source is not None and not os.access(self.source, os.R_OK):
            raise BackendError(
                f"{_where()} can't read {self.source}, which can be read where it was sent from: slides must lie on "
                "storage that all workers share, under the same path. What is done is kept."
            )
        _here.witness, _here.looked = self.witness, time.monotonic()
        try:
            return self.do(item)
        except (StorageError, WeightsError, DeviceError) as error:  # which are of this machine
            raise type(error)(f"{_where()}: {error}") from error


class DaskPool(Pool):
    """Executor over the workers of a Dask cluster.

    A call whose worker dies is made on another; after as many deaths as the scheduler allows (by Dask's
    ``allowed-failures`` it is tried elsewhere three times) its result is the error that says so.

    Args:
        client: of ``distributed``.
        witness: what workers are asked before their first call.
    """

    def __init__(self, client: Any, witness: Witness) -> None:
        self._client, self._witness = client, witness
        self._pending: dict[Future[Any], Any] = {}
        self._seen, self._waits = time.monotonic(), True

    def expect(self, n_left: int) -> None:
        """Take note that items are about to be sent, or that one came in: no worker is missed until then."""
        del n_left
        self._seen = time.monotonic()

    def n_threads(self) -> int:
        """Calls that the workers of this moment can do at once.

        Raises:
            BackendError: there has been none for long.
        """
        try:
            count: int = sum(self._client.nthreads().values())
        except (OSError, ValueError):
            return 0  # the scheduler is gone, as the futures will say
        now = time.monotonic()
        self._seen = now if count else self._seen
        self.bear_without(now - self._seen)
        return count

    def bear_without(self, seconds: float) -> None:
        """Go on without any worker, or not.

        Args:
            seconds: since there was one.

        Raises:
            BackendError: that is too long.
        """
        if seconds > _GONE_S:
            self._waits = False
            raise BackendError(
                f"the Dask scheduler has had no worker for {_GONE_S:g} s: Dask begins no worker again that died "
                "while it started. What is done is kept: start workers, and run the same command again."
            )

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Send a call to a worker."""
        if named or len(args) != 1:
            raise TypeError("a function of one item is needed")
        ours: Future[Any] = Future()
        ours.set_running_or_notify_cancel()
        name = f"wsisurv-{secrets.token_hex(8)}"
        source = getattr(args[0], "source", None)
        call = _OnWorker(fn, self._witness, source if source is not None and os.access(source, os.R_OK) else None)
        self._pending[ours] = sent = self._client.submit(call, args[0], key=name, pure=False)
        sent.add_done_callback(lambda done: self._settle(ours, done))
        return ours

    def _settle(self, ours: Future[Any], done: Any) -> None:
        from distributed.scheduler import KilledWorker

        settle: Callable[[Any], None] = ours.set_result
        try:
            # A call that ended may be "lost" by now, where its worker died with what it gave: it is made once more.
            came = done.result()
        except KilledWorker as why:
            came = BackendError(
                f"the Dask worker that had it died, and {why.allowed_failures} others after it, perhaps for want "
                "of memory. Run the same command again with fewer threads a worker."
            )
        except CancelledError:
            settle = ours.set_exception
            came = BackendError("the Dask scheduler is gone. What is done is kept: run the same command again.")
        except Exception as error:  # noqa: BLE001  # what the call raised
            settle, came = ours.set_exception, error
        self._pending.pop(ours, None)  # first: whoever gets the last result asks at once whether any is pending
        settle(came)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the calls under way, never more than workers have threads; the long ones end when they look."""
        del cancel_futures
        if self._pending:
            self._witness.file.unlink(missing_ok=True)
        if wait and self._waits:
            _wait(list(self._pending))


@contextmanager
def dask_pool(scheduler: str, workspace: Workspace) -> Iterator[DaskPool]:
    """Open an executor over a Dask cluster, once its workers are such as can do the work.

    Args:
        scheduler: address (``tls://…``, or ``tcp://`` of this machine), or the scheduler's file.
        workspace: that all workers must see.

    Raises:
        SettingsError: an address of another machine without TLS.
        BackendError: Dask is not installed; no scheduler there; no worker, or one with another wsisurv, without it, or
            that doesn't see the workspace.
        StorageError: the workspace can't be written.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise BackendError("--engine dask needs Dask: pip install 'wsisurv[cluster]'.") from error
    address = _address(scheduler)
    be_quiet()
    try:
        client = Client(address, timeout=_WAIT_S, set_as_default=False)
    except (OSError, ValueError, RuntimeError) as error:  # TimeoutError is an OSError
        raise BackendError(f"{address}: no Dask scheduler answers there ({str(error) or 'time out'}).") from error
    with client, standing_witness(workspace, address) as witness:
        try:
            client.wait_for_workers(1, timeout=_WAIT_S)
        except TimeoutError as error:
            raise BackendError(
                f"{address}: this Dask scheduler has no worker. Start one: dask worker {address}"
            ) from error
        for worker, said in client.run(witness, on_error="return").items():
            if isinstance(said, WsisurvError):
                raise BackendError(f"{worker}: {said}")
            if isinstance(said, Exception):
                raise BackendError(f"{worker}: wsisurv can't be used on this Dask worker ({said!r}). Install it there.")
        yield DaskPool(client, witness)


def be_quiet() -> None:
    """Keep Dask from telling of each worker that goes, and of a scheduler that went, which the run tells itself."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # has a level of its own in Dask's configuration


@contextmanager
def standing_witness(workspace: Workspace, words: str) -> Iterator[Witness]:
    """A file in the workspace, as long as the block lasts, by which a worker knows that it sees the same.

    Those that killed processes of this machine left are taken away.

    Raises:
        StorageError: the workspace can't be written.
    """
    name = f".{process_name()}-{secrets.token_hex(4)}{PARTIAL}"
    witness = Witness(__version__, workspace.root.absolute() / ".claims" / name, words)
    try:
        with explain_storage(witness.file):
            witness.file.parent.mkdir(parents=True, exist_ok=True)
            sweep(witness.file.parent)
            witness.file.write_text(witness.words, encoding="utf-8")
        yield witness
    finally:
        with suppress(OSError):
            witness.file.unlink()


def _address(scheduler: str) -> str:
    """Address of a scheduler, of which what is sent can't be read or changed by others."""
    if "://" not in scheduler:
        try:
            scheduler = str(json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackendError(
                f"--scheduler {scheduler}: neither an address nor a scheduler's file ({error!r})."
            ) from error
    kind, _, place = scheduler.partition("://")
    host = place.rpartition(":")[0].strip("[]")
    local = host == "localhost"
    with suppress(ValueError):
        local = local or ipaddress.ip_address(host).is_loopback
    if kind != "tls" and not (kind == "tcp" and local):
        raise SettingsError(
            f"--scheduler {scheduler}: whoever reaches a Dask scheduler runs what he likes on its workers. Use tls:// "
            "(certificates stand in Dask's configuration, distributed.comm.tls), or tcp:// on 127.0.0.1."
        )
    return scheduler
