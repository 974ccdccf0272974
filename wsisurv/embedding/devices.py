"""Several devices: a process each, which take slides in turn; the parent puts together what became of them."""

import multiprocessing
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from wsisurv.embedding import one_device
from wsisurv.embedding.one_device import STEP, Task
from wsisurv.embedding.table import HISTOMICS
from wsisurv.engine.jobs import Job, JobRun
from wsisurv.engine.progress import Progress
from wsisurv.engine.workers import end_with_parent, interrupts_held
from wsisurv.errors import DeviceError, WsisurvError
from wsisurv.workspace.freshness import check
from wsisurv.workspace.ledger import Summary, make_failure, record_failure

_PATIENCE_S = 60.0
"""A child that should stop and has not after this long is ended; it stops after a batch, or a slide's writing."""


@dataclass(frozen=True)
class _Wants:
    """A child asks for its next slide; the answer is its place in the list, or None where none is left."""


@dataclass(frozen=True)
class _Progress:
    """How far a child is."""

    n_ended: int
    what: str


@dataclass(frozen=True)
class _Ended:
    """How a child ended."""

    summary: Summary  # what became of its slides
    notes: list[str] = field(default_factory=list)  # what a person should know
    error: WsisurvError | None = None  # what stopped it, to be raised in the parent
    bug: str = ""  # the traceback of what should not have happened


@dataclass
class _Child:
    device: str
    process: SpawnProcess
    pipe: Connection
    taken: list[int] = field(default_factory=list)
    n_ended: int = 0
    ended: _Ended | None = None


def do_on_devices(task: Task, devices: Sequence[str], progress: Progress) -> Summary:
    """Embed slides on several devices.

    A slide is given to the next process that wants one; claims keep other runs from it. A process that dies (killed
    for memory, a broken driver) leaves its slides as failures, and the others go on.

    Args:
        task: what and how.
        devices: a process each; one may be named twice.
        progress: called as slides are done.

    Raises:
        SettingsError, WeightsError, DeviceError, StorageError: as ``task.do``; all processes have ended then.
    """
    spawning = multiprocessing.get_context("spawn")  # a forked process can't use CUDA
    children: list[_Child] = []
    try:
        with interrupts_held():
            for device in devices:
                here, there = spawning.Pipe()
                share = _share(task, device, len(devices))
                process = spawning.Process(target=_work, args=(share, device, len(devices), there), name=device)
                process.start()
                there.close()
                children.append(_Child(device, process, here))
        _serve(children, len(task.jobs), progress)
    finally:
        _stop(children)
    return _put_together(task, children)


def _share(task: Task, device: str, n_devices: int) -> Task:
    """A process on a CPU gets its share of the threads; an accelerator's only read, and it wants all of them."""
    if device == "cpu" or task.settings.encoder == HISTOMICS:
        return replace(task, workers=max(1, task.workers // n_devices))
    return task


def _serve(children: Sequence[_Child], n_jobs: int, progress: Progress) -> None:
    """Give slides out and pass progress on, until all have ended or one has met what stops the run."""
    progress(0, n_jobs, "")
    turns = iter(range(n_jobs))
    while running := {child.pipe: child for child in children if child.ended is None}:
        for pipe in wait(list(running)):
            child = running[pipe]  # type: ignore[index]
            try:
                message = child.pipe.recv()
                if isinstance(message, _Wants):
                    number = next(turns, None)
                    child.taken += [] if number is None else [number]
                    child.pipe.send(number)
            except (EOFError, ConnectionError):  # it died
                child.process.join()
                child.ended = _Ended(Summary(STEP))
                continue
            if isinstance(message, _Ended):
                child.ended = message
                if message.error is not None:
                    raise message.error
                if message.bug:
                    raise RuntimeError(f"the process on {child.device} failed:\n{message.bug}")
            elif isinstance(message, _Progress):
                child.n_ended = message.n_ended
                progress(sum(one.n_ended for one in children), n_jobs, message.what)
    progress(n_jobs, n_jobs, "")


def _stop(children: Sequence[_Child]) -> None:
    """Close the pipes, at which a child that still works stops, and wait for all."""
    for child in children:
        child.pipe.close()
    for child in children:
        child.process.join(_PATIENCE_S)
        if child.process.is_alive():
            child.process.terminate()
            child.process.join()
        child.process.close()


def _put_together(task: Task, children: Sequence[_Child]) -> Summary:
    summary, seen = Summary(STEP), Summary(STEP)
    held = {task.jobs[number].id: child.device for child in children for number in child.taken}
    for child in children:
        if child.ended is not None:
            seen.add(child.ended.summary)
            summary.notes += [f"{child.device}: {note}" for note in child.ended.notes]
    failures = {failure.id: failure for failure in seen.failed}
    kept, elsewhere = set(seen.kept), set(seen.elsewhere)
    for job in task.jobs:
        if job.id in failures:
            summary.failed.append(failures[job.id])
        elif job.id in kept:
            summary.kept.append(job.id)
        elif job.id in elsewhere:
            summary.elsewhere.append(job.id)
        elif check(job.output, job.header).done:
            summary.done.append(job.id)
        else:
            which = f"the process on {held[job.id]} that had this slide" if job.id in held else "every process"
            error = DeviceError(f"{which} died; was it killed for memory? Run the same command again.")
            failure = make_failure(job.id, job.source, error, job.header.fingerprint)
            record_failure(task.workspace, STEP, failure)
            summary.failed.append(failure)
    summary.notes += seen.notes
    return summary


class _Stop(BaseException):
    """The parent is gone, or wants no more."""


def _work(task: Task, device: str, n_devices: int, pipe: Connection) -> None:
    """What a child does."""
    end_with_parent()
    run = JobRun(task.workspace, STEP, task.jobs, redo=True)  # the parent has looked for stale ones

    def report(what: str) -> None:
        if pipe.poll():  # nothing is sent unasked: it was closed
            raise _Stop
        pipe.send(_Progress(run.n_ended, what))

    try:
        if device == "cpu" and task.settings.encoder != HISTOMICS:
            import torch

            torch.set_num_threads(max(1, torch.get_num_threads() // n_devices))
        ended = _embed(task, device, run, _turns(task.jobs, pipe), report)
        pipe.send(ended)
    except (_Stop, ConnectionError):  # nobody waits for it
        pass
    finally:
        pipe.close()


def _embed(task: Task, device: str, run: JobRun, turns: Iterator[Job], report: Any) -> _Ended:
    try:
        with run:
            notes = one_device.do(task, run, turns, device, report)
    except WsisurvError as error:
        return _Ended(run.summary(), error=error)
    except Exception:  # noqa: BLE001  # a bug: the parent raises it with its traceback
        return _Ended(run.summary(), bug=traceback.format_exc())
    return _Ended(run.summary(), notes)


def _turns(jobs: Sequence[Job], pipe: Connection) -> Iterator[Job]:
    """The slides that fall to this process, asked for one by one."""
    while True:
        pipe.send(_Wants())
        try:
            number = pipe.recv()
        except EOFError:
            raise _Stop from None
        if number is None:
            return
        yield jobs[number]
