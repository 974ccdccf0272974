"""Where every artifact lives; what is done, stale or failed; claims on work; the loop of a step over many items."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from wsisurv.errors import (
    FormatError,
    InputError,
    MissingArtifactError,
    StaleError,
    StorageError,
    WsisurvError,
)
from wsisurv.formats.atomic import append_jsonl, explain_storage, read_jsonl, write_jsonl
from wsisurv.formats.header import Header, read_header
from wsisurv.settings import changed_settings

Progress = Callable[[int, int, str], None]
"""Called with (items done, items in all, what is being done now)."""


def no_progress(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""
    del done, total, what


@dataclass(frozen=True)
class Workspace:
    """The folder that holds a project's artifacts."""

    root: Path

    def tiles(self, slide_id: str) -> Path:
        """Tiles of a slide."""
        return self.root / "tiles" / f"{slide_id}.h5"

    def tiled_slides(self) -> list[str]:
        """Ids of all tiled slides, sorted."""
        return _stems(self.root / "tiles")

    def preview(self, slide_id: str) -> Path:
        """Preview picture of a slide."""
        return self.root / "preview" / f"{slide_id}.jpg"

    def outlines(self, slide_id: str) -> Path:
        """Outlines of a slide's tissue, as QuPath opens them."""
        return self.root / "geojson" / f"{slide_id}.geojson"

    @property
    def contact_sheet(self) -> Path:
        """Page of all previews."""
        return self.root / "preview" / "index.html"

    def features(self, encoder: str, slide_id: str) -> Path:
        """Features of a slide by an encoder (``EmbedSettings.folder``)."""
        return self.root / "features" / encoder / f"{slide_id}.h5"

    def embedded_slides(self, encoder: str) -> list[str]:
        """Ids of all slides with features of an encoder, sorted."""
        return _stems(self.root / "features" / encoder)

    def encoders(self) -> list[str]:
        """Folder names of the encoders that have features here, sorted."""
        return sorted(folder.name for folder in (self.root / "features").glob("*") if folder.is_dir())

    @property
    def statements(self) -> Path:
        """Statements of all reports."""
        return self.root / "reports" / "statements.jsonl"

    @property
    def rejected(self) -> Path:
        """Findings that could not be proved."""
        return self.root / "reports" / "rejected.jsonl"

    def vectors(self, text_encoder: str) -> Path:
        """Vectors of the statements by a text encoder; ``ollama:some/model`` becomes ``ollama-some-model.h5``."""
        return self.root / "reports" / "vectors" / f"{text_encoder.replace(':', '-').replace('/', '-')}.h5"

    def cohort(self, name: str) -> Path:
        """Folder of a cohort: cohort.csv, audit.json, teacher.h5, guidance.h5, student.h5, risk.csv and others."""
        return self.root / "cohorts" / name

    def cohorts(self) -> list[str]:
        """Names of the cohorts, sorted."""
        return sorted(file.parent.name for file in (self.root / "cohorts").glob("*/cohort.csv"))

    def the_cohort(self, name: str | None) -> str:
        """``name``, or the only cohort there is.

        Raises:
            InputError: no name was given and there is not exactly one cohort, or there is none of that name.
        """
        names = self.cohorts()
        if name is None and len(names) == 1:
            return names[0]
        if name in names:
            return str(name)
        known = f"cohorts here: {', '.join(names)}" if names else "no cohort here yet"
        wanted = "--cohort NAME is needed" if name is None else f"no cohort {name!r}"
        raise InputError(
            f"{self.root}: {wanted}; {known}. `wsisurv train-teacher --cohort NAME --clinical FILE` makes one."
        )

    def failures(self, step: str) -> Path:
        """Ledger of a step's failures."""
        return self.root / "failures" / f"{step}.jsonl"

    @contextmanager
    def claim(self, step: str, item: str) -> Iterator[bool]:
        """Claim an item for this process; gives False when a living process holds it.

        The lock is the kernel's, so it ends with its process, however that dies.
        """
        path = self.root / ".claims" / step / f"{item}.lock"
        with explain_storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0, thread_local=False)  # one thread may claim and another let go
            try:
                lock.acquire()
            except Timeout:
                yield False
                return
        try:
            yield True
        finally:
            lock.release()


def _stems(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.h5") if not file.name.startswith("."))


class State(Enum):
    """What is known of an artifact before any work."""

    MISSING = "missing"
    DONE = "done"
    STALE = "stale"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Check:
    """State of an artifact, with what differs where it is stale."""

    state: State
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """What a step would do with one item, as ``--dry-run`` shows it.

    Attributes:
        id: the item.
        source: its input.
        state: of what is there already; None where that can't be told.
        changes: what differs, where it is stale.
        tiles: how many; where tissue was not looked at yet, at most.
        bytes: what the output takes; None where that is not known.
        problem: why it would fail, or empty.
    """

    id: str
    source: Path
    state: State | None = None
    changes: tuple[str, ...] = ()
    tiles: int | None = None
    bytes: int | None = None
    problem: str = ""


def check(path: Path, wanted: Header) -> Check:
    """Compare the file at ``path`` with the header that it should have."""
    try:
        header = read_header(path, wanted.format, made_by="the step")
    except MissingArtifactError:
        return Check(State.MISSING)
    except FormatError:
        return Check(State.DAMAGED)
    if header.fingerprint == wanted.fingerprint:
        return Check(State.DONE)
    changes = changed_settings(header.settings, wanted.settings)
    changes += [f"{name} is not the one it was made from" for name in _changed_inputs(header.inputs, wanted.inputs)]
    return Check(State.STALE, tuple(changes))


def _changed_inputs(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


def refuse_stale(stale: Mapping[Path, Sequence[str]]) -> None:
    """Stop before any work where artifacts are stale.

    Raises:
        StaleError: ``stale`` is not empty; names the changed settings and a file.
    """
    if not stale:
        return
    changes = sorted({change for changes in stale.values() for change in changes})
    first = next(iter(stale))
    more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
    raise StaleError(
        f"{first}{more}: made otherwise than asked now ({'; '.join(changes)}). "
        "Use --redo to make it anew, the old settings to keep it, or another --workspace to have both."
    )


@dataclass(frozen=True)
class Failure:
    """An item that a step could not do."""

    id: str
    path: str
    error: str
    message: str
    when: str
    fingerprint: str


@dataclass
class Summary:
    """What a step did: counts to print, and the failures that decide the exit code."""

    step: str
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Being done by another process now."""
    failed: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Lines worth a person's attention (zero tiles, damaged file made anew …)."""

    def add(self, other: "Summary") -> None:
        """Take in what another part of the step did."""
        for mine, theirs in (
            (self.done, other.done),
            (self.kept, other.kept),
            (self.elsewhere, other.elsewhere),
            (self.notes, other.notes),
        ):
            mine.extend(theirs)
        self.failed.extend(other.failed)


@dataclass(frozen=True)
class Job:
    """One item of a step: from ``source`` to ``output``."""

    id: str
    source: Path
    output: Path
    header: Header


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

    def __init__(self, workspace: Workspace, step: str, jobs: Sequence[Job], *, redo: bool = False) -> None:
        self._workspace, self._step, self._jobs = workspace, step, jobs
        self._checks = {job.id: check(job.output, job.header) for job in jobs}
        if not redo:
            stale = {job.output: self._checks[job.id] for job in jobs if self._checks[job.id].state is State.STALE}
            refuse_stale({path: seen.changes for path, seen in stale.items()})
        self._claims: dict[str, ExitStack] = {}
        self._outcomes: dict[str, Summary] = {}

    @property
    def all_done(self) -> bool:
        """True where nothing was to be done when the run began."""
        return all(seen.state is State.DONE for seen in self._checks.values())

    def claim(self, job: Job) -> bool:
        """Claim a job; False where it is done or another process is at it, which is noted in the summary.

        Raises:
            StorageError: the workspace can't be written.
        """
        if self._checks[job.id].state is State.DONE:
            self._outcomes[job.id] = Summary(self._step, kept=[job.id])
            return False
        with ExitStack() as stack:
            if not stack.enter_context(self._workspace.claim(self._step, job.id)):
                self._outcomes[job.id] = Summary(self._step, elsewhere=[job.id])
                return False
            if check(job.output, job.header).state is State.DONE:  # another process was quicker
                self._outcomes[job.id] = Summary(self._step, kept=[job.id])
                return False
            self._claims[job.id] = stack.pop_all()
        return True

    def finish(self, job: Job, note: str | None = None) -> None:
        """Note that a claimed job's output is written."""
        self._end(job, Summary(self._step, done=[job.id], notes=[note] if note else []))

    def fail(self, job: Job, error: Exception) -> None:
        """Write a claimed job's failure to the ledger."""
        failure = make_failure(job.id, job.source, error, job.header.fingerprint)
        record_failure(self._workspace, self._step, failure)
        self._end(job, Summary(self._step, failed=[failure]))

    def _end(self, job: Job, outcome: Summary) -> None:
        if self._checks[job.id].state is State.DAMAGED:
            outcome.notes.insert(0, f"{job.output}: was damaged, made anew")
        self._outcomes[job.id] = outcome
        self._claims.pop(job.id).close()

    @property
    def n_ended(self) -> int:
        """How many jobs need nothing more from this run."""
        return len(self._outcomes)

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
        summary = self.summary()
        forget_failures(self._workspace, self._step, [*summary.done, *summary.kept])


def run_jobs(
    workspace: Workspace,
    step: str,
    jobs: Sequence[Job],
    do: Callable[[Job], str | None],
    *,
    redo: bool = False,
    progress: Progress = no_progress,
    workers: int = 1,
) -> Summary:
    """Do every job that is not done; one that fails is written to the ledger and the others go on.

    Args:
        workspace: where the ledger and the claims live.
        step: name of the step, e.g. ``tile``.
        jobs: the items, each with the header that its output must have.
        do: does one job, writes its output, and may return a note for the summary.
        redo: make stale outputs anew; what is done is kept, so that an interrupted redo goes on.
        progress: told as jobs are done.
        workers: threads, each on a job of its own. On an error or Ctrl-C those in hand are finished.

    Raises:
        StaleError: an output was made otherwise; raised before any work.
        StorageError: there is no room; the other jobs would fail as well, so the run stops.
    """

    def one(job: Job) -> None:
        if not run.claim(job):
            return
        try:
            note = do(job)
        except StorageError:
            raise
        except (WsisurvError, OSError) as error:
            run.fail(job, error)
        else:
            run.finish(job, note)

    with JobRun(workspace, step, jobs, redo=redo) as run:
        if workers > 1:
            _run_threads(one, jobs, workers, progress)
        else:
            for number, job in enumerate(jobs):
                progress(number, len(jobs), job.id)
                one(job)
            progress(len(jobs), len(jobs), "")
    return run.summary()


def _run_threads(run: Callable[[Job], None], jobs: Sequence[Job], workers: int, progress: Progress) -> None:
    threads = ThreadPoolExecutor(workers, thread_name_prefix="job")
    try:
        progress(0, len(jobs), "")
        futures = {threads.submit(run, job): job for job in jobs}
        for number, future in enumerate(as_completed(futures), start=1):
            future.result()
            progress(number, len(jobs), futures[future].id)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def make_failure(id: str, path: Path, error: Exception, fingerprint: str) -> Failure:
    """Describe a failure that happened now."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Failure(id, str(path), type(error).__name__, str(error), when, fingerprint)


def record_failure(workspace: Workspace, step: str, failure: Failure) -> None:
    """Add a failure to the step's ledger."""
    with exclusive(workspace, f"{step}.ledger"):
        append_jsonl(workspace.failures(step), vars(failure))


def read_failures(workspace: Workspace, step: str) -> list[Failure]:
    """Failures in the step's ledger."""
    return read_jsonl(workspace.failures(step), lambda value: Failure(**value))


def forget_failures(workspace: Workspace, step: str, done: Iterable[str]) -> None:
    """Take items that are done now out of the step's ledger, and older failures of the same item."""
    path = workspace.failures(step)
    if not path.exists():
        return
    finished = set(done)
    with exclusive(workspace, f"{step}.ledger"):
        newest = {failure.id: failure for failure in read_failures(workspace, step) if failure.id not in finished}
        if newest:
            write_jsonl(path, [vars(failure) for failure in newest.values()])
        else:
            path.unlink(missing_ok=True)


@contextmanager
def exclusive(workspace: Workspace, name: str) -> Iterator[None]:
    """Hold a file that all runs write, such as a step's ledger: two at once would lose lines, or fail.

    Raises:
        StorageError: no room or no permission.
    """
    path = workspace.root / ".claims" / f"{name}.lock"
    with explain_storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
