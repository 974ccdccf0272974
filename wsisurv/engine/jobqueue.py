"""Workers that are jobs of SLURM, PBS or LSF, begun and ended by dask-jobqueue as there is work for them.

What a job may take (queue, cores, memory, time, modules to load) is said in dask-jobqueue's own configuration. The
scheduler is in the process that sends the work; what goes between it and the workers is encrypted by a key of the run.
"""

import getpass
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wsisurv.engine.dask import DaskPool, Witness, be_quiet, standing_witness
from wsisurv.errors import BackendError, SettingsError
from wsisurv.formats.atomic import explain_storage, own_folder
from wsisurv.workspace.paths import Workspace

Queue = Literal["slurm", "pbs", "lsf"]
_ASKED_S, _TOLD_S = 20, 60
_CORES, _GB_A_CORE = 1, 4
_CALM = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "1s",
    "distributed.worker.profile.enabled": False,
}
"""How often Dask looks at itself; as it comes (distributed 2026.8) that takes 3 % of a processor for each worker."""
_UNQUOTED = re.compile(r"[\w@+=:,./-]+")


@dataclass(frozen=True)
class _System:
    """A queueing system: dask-jobqueue's class, what sends a job, and what lists my jobs, by number, until they end."""

    cluster: str
    submit: str
    mine: tuple[str, ...]


_SYSTEMS = {
    "slurm": _System("SLURMCluster", "sbatch", ("squeue", "--noheader", "--format=%i", "--user={user}")),
    "pbs": _System("PBSCluster", "qsub", ("qselect", "-u", "{user}")),
    "lsf": _System("LSFCluster", "bsub", ("bjobs", "-noheader", "-o", "jobid")),
}


@dataclass
class _Jobs:
    """What is known of a run's jobs."""

    system: _System
    wanted: int = 0  # workers that would have something to do
    sent: set[str] = field(default_factory=set)  # numbers
    refused: str = ""  # why one was, in the words of whoever refused it

    def left(self) -> set[str] | None:
        """Those that wait or run; None where the system can't be asked."""
        words = [word.format(user=getpass.getuser()) for word in self.system.mine]
        try:
            said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if said.returncode and "No unfinished job" not in said.stderr:  # LSF's word for none
            return None
        return self.sent & set(re.findall(r"^\s*(\d+)", said.stdout, re.MULTILINE))


class QueuePool(DaskPool):
    """Executor over workers that are jobs of a queueing system, and end with it.

    Args:
        client: of ``distributed``.
        witness: what workers are asked before their first call.
        jobs: the workers' jobs.
        logs: where these print.
        tell: called with what a person should know.
    """

    def __init__(
        self, client: Any, witness: Witness, jobs: _Jobs, logs: Path, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        super().__init__(client, witness)
        self._waits = False  # the jobs are cancelled, and what they were at is done by the next run
        self._jobs, self._logs, self._tell = jobs, logs, tell
        self._asked, self._told = 0.0, False

    def expect(self, n_left: int) -> None:
        """Take note of how many items are left, so that no more workers are kept."""
        super().expect(n_left)
        self._jobs.wanted = n_left

    def bear_without(self, seconds: float) -> None:
        """Go on without any worker as long as a job waits in the queue, or runs.

        Raises:
            BackendError: jobs are refused, or have all ended.
        """
        if not seconds:
            return
        if self._jobs.refused and not self._jobs.sent:
            raise BackendError(f"{self._jobs.system.submit} refused a job of this run: {self._jobs.refused}")
        now = time.monotonic()
        if seconds < _ASKED_S or now - self._asked < _ASKED_S:
            return
        self._asked, left = now, self._jobs.left()
        if left == set() and self._jobs.sent:
            raise BackendError(
                f"the {len(self._jobs.sent)} jobs of this run have ended, and none of them is a worker now: see what "
                f"they printed in {self._logs}. What is done is kept."
            )
        if seconds >= _TOLD_S and not self._told:
            self._told = True
            self._tell(f"no worker yet: {len(left or self._jobs.sent)} jobs wait in the queue. Ctrl-C takes them out.")


@contextmanager
def queue_pool(
    queue: Queue,
    workspace: Workspace,
    *,
    most: int = 10,
    least: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[QueuePool]:
    """Open an executor over workers that a queueing system starts; its jobs are cancelled at the end of the block.

    Args:
        queue: which system.
        workspace: that all workers must see; jobs print into its ``slurm/``, ``pbs/`` or ``lsf/``.
        most: jobs at once, where there are as many items.
        least: jobs that are kept though they have nothing to do.
        tell: called with what a person should know.

    Raises:
        SettingsError: ``least`` is more than ``most``, or a workspace with signs in its name that must be quoted.
        BackendError: dask-jobqueue is not installed, the system is not on this machine, or the configuration is
            not right.
        StorageError: the workspace can't be written.
    """
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
        from dask import config
        from distributed import Client
    except ImportError as error:
        raise BackendError(f"--engine {queue} needs dask-jobqueue: pip install 'wsisurv[cluster]'.") from error
    if signal.getsignal(signal.SIGINT) is not on_ctrl_c:  # it puts sys.exit() in its place (0.9.0, findings/)
        signal.signal(signal.SIGINT, on_ctrl_c)
    if not 0 <= least <= most:
        raise SettingsError(f"at least {least} jobs and at most {most}: the first must not be more than the second.")
    system, root = _SYSTEMS[queue], workspace.root.absolute()
    if shutil.which(system.submit) is None:
        raise BackendError(f"{system.submit}: not on this machine. Run it where jobs are sent from.")
    if not _UNQUOTED.fullmatch(str(root)):
        raise SettingsError(
            f"{root}: dask-jobqueue writes this name into a script as it is, so that blanks and the like can't be in "
            f"it. Choose another --workspace, or use `wsisurv submit`."
        )
    be_quiet()
    jobs, logs = _Jobs(system), root / queue
    with explain_storage(logs):
        logs.mkdir(parents=True, exist_ok=True)
    with config.set(_CALM), own_folder(logs) as keys, standing_witness(workspace, keys.name) as witness:
        kind = getattr(dask_jobqueue, system.cluster)
        try:
            cluster = kind(**_arguments(queue, kind.job_cls, jobs, logs, keys))
        except (ImportError, ValueError, OSError, RuntimeError) as error:
            raise BackendError(
                f"dask-jobqueue can't begin ({error}). Look at its configuration, jobqueue.yaml."
            ) from error
        with cluster, Client(cluster, set_as_default=False) as client:
            cluster.adapt(Adaptive=_by_items(jobs), minimum_jobs=least, maximum_jobs=most)
            yield QueuePool(client, witness, jobs, logs, tell)


def _arguments(queue: Queue, kind: Any, jobs: _Jobs, logs: Path, keys: Path) -> dict[str, Any]:
    """Of dask-jobqueue's cluster: what it is configured to, and what must be so."""
    from dask import config

    asked = config.get(f"jobqueue.{queue}")
    names = {name: f"DASK_{name.replace('.', '__').replace('-', '_').upper()}" for name in _CALM}
    cores = asked["cores"] or _CORES
    pages = "127.0.0.1:0"  # they ask for no password
    return {
        "job_cls": _told(kind, jobs),
        "job_name": "wsisurv",
        "cores": cores,
        "memory": asked["memory"] or f"{_GB_A_CORE * cores} GB",
        "processes": asked["processes"] or cores,  # one thread each: readers of pictures keep a lock
        "job_script_prologue": [
            *(asked["job-script-prologue"] or []),
            *(f"export {names[name]}={value}" for name, value in _CALM.items()),
        ],
        "log_directory": asked["log-directory"] or str(logs),
        "worker_extra_args": [*asked["worker-extra-args"], "--dashboard-address", pages],
        "scheduler_options": {**asked["scheduler-options"], "dashboard_address": pages, "protocol": "tls://"},
        "protocol": "tls://",
        "security": _written(keys),
    }


def _written(folder: Path) -> Any:
    """Certificates and keys that are good for one run, in files: jobs are told where, and keep to those alone."""
    from distributed.security import Security

    made, files = Security.temporary(), {}
    for name in (
        "ca_file",
        *(f"{role}_{what}" for role in ("scheduler", "worker", "client") for what in ("cert", "key")),
    ):
        files[f"tls_{name}"] = str(folder / f"{name}.pem")
        with explain_storage(folder):
            Path(files[f"tls_{name}"]).write_text(getattr(made, f"tls_{name}"), encoding="utf-8")
    return Security(require_encryption=True, **files)


def _told(kind: Any, jobs: _Jobs) -> Any:
    """The class of a job that tells its number, or why it was refused: dask-jobqueue writes that to a log alone."""
    from distributed.core import Status

    class ToldJob(kind):  # type: ignore[misc]
        async def start(self) -> None:
            try:
                await super().start()
                jobs.sent.add(str(self.job_id))
            except (OSError, RuntimeError, ValueError) as error:
                jobs.refused = str(error).partition("stderr:")[2].strip() or str(error)
                self.status = Status.running  # what it raises would end up in a log, and its end in another error

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return ToldJob


def _by_items(jobs: _Jobs) -> Callable[..., Any]:
    """What says how many workers there should be: one an item. Dask itself would ask for those sent to it alone."""
    from distributed.deploy.adaptive import Adaptive

    class ByItems(Adaptive):  # type: ignore[misc]
        async def target(self) -> int:
            self.cluster.scale(jobs=len(self.cluster.worker_spec))  # begins those anew whose job has died
            return jobs.wanted

    return ByItems
