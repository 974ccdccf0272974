"""One run over the items of a step: each is claimed, done here or by workers, then finished or failed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.workers import Attempt, Pool, finished
from wsisurv.errors import NewerFormatError
from wsisurv.formats.header import Header
from wsisurv.workspace.freshness import Condition, Freshness, check, require_fresh
from wsisurv.workspace.index import read_headers
from wsisurv.workspace.ledger import Summary, forget_failures, make_failure, record_failure
from wsisurv.workspace.paths import Workspace


class AnyJob(Protocol):
    """One item of a step: a small record that can be sent to another process."""

    @property
    def id(self) -> str:
        """Name, unique within the step."""

    @property
    def source(self) -> Path:
        """What it is made from, for the ledger."""

    @property
    def output(self) -> Path:
        """Where it is written; where the file is as it should be, the job is done."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all that is to make it."""

    def look(self) -> Freshness:
        """Whether the output is there as it should be."""


@dataclass(frozen=True)
class Job:
    """One item of a step whose output is an HDF5 file with this header."""

    id: str
    source: Path
    output: Path
    header: Header

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all that is to make it."""
        return self.header.fingerprint

    def look(self) -> Freshness:
        """Whether the output is there as it should be."""
        return check(self.output, self.header)


J = TypeVar("J", bound=AnyJob)


class JobRun:
    """One run over the jobs of a step: each is claimed, and then finished or failed. Use it as a context manager.

    For a step that has several jobs in hand at once; the methods may be called from different threads. On leaving,
    claims that are still held are let go, and the ledger forgets what is done.

    Args:
        workspace: where the ledger and the claims live.
        step: name of the step, e.g. ``tile``.
        jobs: the items, each with the header that its output must have.
        redo: make stale outputs anew; what is done is kept, so that an interrupted redo goes on.

    Raises:
        StaleError: an output was made otherwise.
    """

    def __init__(self, workspace: Workspace, step: str, jobs: Sequence[AnyJob], *, redo: bool = False) -> None:
        self._workspace, self._step, self._jobs = workspace, step, jobs
        done = _known_to_be_done(workspace, jobs)
        self._checks = {job.id: Freshness(Condition.DONE) if job.id in done else job.look() for job in jobs}
        if not redo:
            require_fresh({job.output: self._checks[job.id] for job in jobs})
        self._left = {job.id for job in jobs if not self._checks[job.id].done}
        self._claims: dict[str, ExitStack] = {}
        self._outcomes: dict[str, Summary] = {}

    @property
    def all_done(self) -> bool:
        """True where nothing was to be done when the run began."""
        return all(seen.done for seen in self._checks.values())

    def claim(self, job: AnyJob) -> bool:
        """Claim a job; False where there is nothing for this run to do, which is noted in the summary.

        That is: it is done, another process is at it, or a newer wsisurv made it, which is a failure.

        Raises:
            StorageError: the workspace can't be written.
        """
        if self._checks[job.id].done:
            self._outcomes[job.id] = Summary(self._step, kept=[job.id])
            return False
        with ExitStack() as stack:
            if not stack.enter_context(self._workspace.claim(self._step, job.id)):
                self._note(job, Summary(self._step, elsewhere=[job.id]))
                return False
            if job.look().done:  # another process was quicker
                self._note(job, Summary(self._step, kept=[job.id]))
                return False
            self._claims[job.id] = stack.pop_all()
        if self._checks[job.id].condition is Condition.NEWER:
            self.fail(job, NewerFormatError(self._checks[job.id].changes[0]))
            return False
        return True

    def finish(self, job: AnyJob, note: str | None = None) -> None:
        """Note that a claimed job's output is written."""
        self._end(job, Summary(self._step, done=[job.id], notes=[note] if note else []))

    def fail(self, job: AnyJob, error: Exception) -> None:
        """Write a claimed job's failure to the ledger."""
        failure = make_failure(job.id, job.source, error, job.fingerprint)
        record_failure(self._workspace, self._step, failure)
        self._end(job, Summary(self._step, failed=[failure]))

    def _end(self, job: AnyJob, outcome: Summary) -> None:
        if self._checks[job.id].condition is Condition.DAMAGED:
            outcome.notes.insert(0, f"{job.output}: was damaged, made anew")
        self._note(job, outcome)
        self._claims.pop(job.id).close()

    def _note(self, job: AnyJob, outcome: Summary) -> None:
        self._outcomes[job.id] = outcome
        self._left.discard(job.id)

    @property
    def n_ended(self) -> int:
        """How many jobs need nothing more from this run."""
        return len(self._outcomes)

    @property
    def n_left(self) -> int:
        """How many there are still to do, as far as is known."""
        return len(self._left)

    def summary(self) -> Summary:
        """What became of the jobs, in their order."""
        summary = Summary(self._step)
        for job in self._jobs:
            if job.id in self._outcomes:
                summary.add(self._outcomes[job.id])
        return summary

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._claims:
            self._claims.popitem()[1].close()
        for job in self._jobs:  # what another process was at may be done by now
            outcome = self._outcomes.get(job.id)
            if outcome and outcome.elsewhere and job.look().done:
                self._outcomes[job.id] = Summary(self._step, kept=[job.id])
        summary = self.summary()
        forget_failures(self._workspace, self._step, [*summary.done, *summary.kept])


def _known_to_be_done(workspace: Workspace, jobs: Sequence[AnyJob]) -> set[str]:
    """Jobs whose output is as it should be by the index, which opens no file that it knows; others need a look."""
    by_format: dict[str, list[Job]] = {}
    for job in jobs:
        if isinstance(job, Job) and job.output.suffix == ".h5":
            by_format.setdefault(job.header.format, []).append(job)
    done = set()
    for format, several in by_format.items():
        known = read_headers(workspace, [job.output for job in several], format, "the step")
        done |= {job.id for job in several if job.output in known and known[job.output].fingerprint == job.fingerprint}
    return done


def run_jobs(
    workspace: Workspace,
    step: str,
    jobs: Sequence[J],
    do: Callable[[J], str | None],
    *,
    redo: bool = False,
    progress: Progress = no_progress,
    workers: int = 1,
    processes: bool = False,
    pool: Pool | None = None,
    give_up: Callable[[], None] | None = None,
) -> Summary:
    """Do every job that is not done; one that fails is written to the ledger and the others go on.

    Args:
        workspace: where the ledger and the claims live.
        step: name of the step, e.g. ``tile``.
        jobs: the items, each with what its output must be.
        do: does one job, writes its output, and may return a note for the summary.
        redo: make stale outputs anew; what is done is kept, so that an interrupted redo goes on.
        progress: told as jobs are done.
        workers: how many are done at once. On an error or Ctrl-C those under way are finished.
        processes: workers are processes instead of threads; ``do`` is then a function of a module, or a record.
        pool: other machines to do them on; ``do`` and jobs are then records with absolute paths.
        give_up: called when the run stops early, to make those under way end soon.

    Raises:
        StaleError: an output was made otherwise; raised before any work.
        StorageError: there is no room; the other jobs would fail as well, so the run stops.
        BackendError: a process was killed.
    """
    beside = workers > 1 or processes or pool is not None

    def claimed() -> Iterator[J]:
        for number, job in enumerate(jobs):
            if not beside:
                progress(number, len(jobs), job.id)
            if run.claim(job):
                yield job
            elif beside:
                progress(run.n_ended, len(jobs), job.id)

    with JobRun(workspace, step, jobs, redo=redo) as run:
        if beside:
            progress(0, len(jobs), "")
        if pool is not None:
            pool.expect(run.n_left)
        came_in = finished(Attempt(do), claimed(), workers, processes=processes, pool=pool, give_up=give_up)
        with closing(came_in) as results:
            for job, came in results:
                if isinstance(came, Exception):
                    run.fail(job, came)
                else:
                    run.finish(job, came)
                if beside:
                    progress(run.n_ended, len(jobs), job.id)
                if pool is not None:
                    pool.expect(run.n_left)
        if not beside:
            progress(len(jobs), len(jobs), "")
    return run.summary()
