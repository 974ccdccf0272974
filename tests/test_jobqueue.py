"""Slides on workers that are jobs of a queue: a small one of processes here, `make slurm` for the real one."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import util
from pathlib import Path

import pytest

from wsisurv.engine import jobqueue
from wsisurv.engine.jobqueue import queue_pool
from wsisurv.engine.workers import Attempt, finished
from wsisurv.errors import BackendError, SettingsError
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

if util.find_spec("dask_jobqueue") is None:  # not imported here: it takes Ctrl-C
    pytest.skip("no dask-jobqueue", allow_module_level=True)
distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # what distributed warns of is its own
_QUEUE = {
    "sbatch": 'cp "$1" "$0.$$"; setsid bash "$0.$$" >"$0.$$.log" 2>&1 & echo "Submitted batch job $!"',
    "scancel": 'kill -TERM -- -"$1"',
    "squeue": "ps -eo sid= | sort -u",
}


@pytest.fixture(autouse=True, scope="module")
def _defaults():
    """Its configuration, before tests change that; importing takes Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    import dask_jobqueue  # noqa: F401

    signal.signal(signal.SIGINT, before)


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """``queue(sbatch=…)`` puts the commands of a queue into PATH, whose jobs are sessions of processes here."""

    def put(**commands: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        for name, script in (_QUEUE | commands).items():
            (folder / name).write_text(f"#!/bin/bash\n{script}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder

    return put


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(tmp_path / "w")


@pytest.fixture
def slides(tmp_path, make_slide) -> Path:
    for name in "ABCDE":
        make_slide(tmp_path / "in" / f"{name}.tiff", (700, 700), seed=ord(name))
    (tmp_path / "in" / "broken.svs").write_bytes(b"II*\0 no slide")
    return tmp_path / "in"


def tiles(place: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place.root / "tiles").glob("*.h5")}


def call(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "wsisurv", *map(str, words)], stderr=subprocess.PIPE, text=True)


def jobs(folder: Path) -> list[int]:
    """Sessions of jobs that live."""
    listed = subprocess.run(["ps", "-wweo", "sid=,args="], capture_output=True, text=True, check=True).stdout
    return sorted({int(line.split()[0]) for line in listed.splitlines() if str(folder / "sbatch.") in line})


def wait(until, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


def http_ends(scheduler) -> list[tuple[str, int]]:
    return [socket.getsockname() for socket in scheduler.http_server._sockets.values()]


def work_on(place: Workspace, **how: int) -> None:
    with queue_pool("slurm", place, **how) as pool:
        pool.expect(1)
        list(finished(abs, [1], 1, pool=pool))


def test_tiles_are_those_of_this_machine_and_nothing_is_left(queue, place, slides):
    from wsisurv import tile

    folder = queue()
    tile(place, [slides])
    alone = tiles(place)
    shutil.rmtree(place.root)
    run = call("tile", slides, "-w", place.root, "--engine", "slurm", "--max-jobs", 2)
    wait(lambda: jobs(folder) or run.poll() is not None)
    assert run.poll() is None, run.stderr.read()
    script = next(path for path in folder.glob("sbatch.*") if path.suffix != ".log").read_text()
    key = Path(re.search(r"--tls-key (\S+)", script)[1])  # type: ignore[index]
    assert key.parent.stat().st_mode & 0o077 == 0
    address = re.search(r"tls://\S+", script)[0]  # type: ignore[index]
    with pytest.raises(OSError, match="(?i)ssl|certificate|timed out"):  # whoever lacks the key of the run
        distributed.Client(address, security=distributed.Security.temporary(), timeout=3, set_as_default=False)
    assert run.wait(100) == 1, run.stderr.read()  # the broken one
    assert tiles(place) == alone
    assert [failure.id for failure in read_failures(place, "tile")] == ["broken"]
    wait(lambda: not jobs(folder))
    assert not key.parent.exists()
    assert not list(place.root.rglob("*.partial"))


def test_ctrl_c_ends_the_jobs(queue, place, make_slide, tmp_path):
    folder = queue()
    first = make_slide(tmp_path / "in" / "0.tiff", (4000, 4000), levels=1)
    for number in range(1, 30):
        os.link(first, first.with_stem(str(number)))
    run = call("tile", tmp_path / "in", "-w", place.root, "--engine", "slurm", "--max-jobs", 1)
    wait(lambda: tiles(place))
    run.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert run.wait(20) == 130
    wait(lambda: not jobs(folder))
    assert time.monotonic() - began < 15
    assert 1 <= len(tiles(place)) < 30


def test_a_worker_that_is_killed_is_begun_anew_and_one_that_never_comes_is_named(queue, place, monkeypatch, tmp_path):
    folder = queue()
    monkeypatch.setattr(jobqueue, "_ASKED_S", 2)
    deaths = tmp_path / "deadly"
    deaths.mkdir()
    (deaths / "deadly_job.py").write_text(
        "import os, signal\nfrom pathlib import Path\n"
        "def work(item):\n"
        "    if not Path(item).exists():\n"
        "        Path(item).touch()\n"
        "        os.killpg(0, signal.SIGKILL)\n"
        "    return 'done'\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{deaths}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.syspath_prepend(deaths)
    import deadly_job
    from dask import config

    with config.set({"distributed.deploy.lost-worker-timeout": "1s"}), queue_pool("slurm", place, most=1) as pool:
        pool.expect(1)
        came = list(finished(Attempt(deadly_job.work), [str(tmp_path / "once")], 1, pool=pool))
    assert came == [(str(tmp_path / "once"), "done")]
    assert len(list(folder.glob("sbatch.*.log"))) == 2
    queue(sbatch='echo "Submitted batch job 4194303"')
    with pytest.raises(BackendError, match=r"have ended.*slurm"):
        work_on(place, most=1)


def test_a_pause_between_two_steps_is_none_of_the_jobs(queue, place, monkeypatch):
    folder = queue()
    monkeypatch.setattr(jobqueue, "_ASKED_S", 4)
    with queue_pool("slurm", place, most=1) as pool:
        for number in (1, 2):
            pool.expect(1)
            assert list(finished(abs, [number], 1, pool=pool)) == [(number, number)]
            pool.expect(0)
            wait(lambda: not jobs(folder))
            time.sleep(jobqueue._ASKED_S)
    assert len(list(folder.glob("sbatch.*.log"))) == 2


def test_what_cannot_be_is_named_before_any_work(queue, place, tmp_path, monkeypatch):
    def refused(error: type[Exception], said: str, where: Workspace = place, **how: int) -> None:
        with pytest.raises(error, match=said):
            work_on(where, **how)

    queue(sbatch='echo "sbatch: error: invalid partition" >&2; exit 1')
    refused(BackendError, "sbatch refused.*invalid partition$")
    refused(SettingsError, "the first must not be more", least=3, most=2)
    refused(SettingsError, "blanks", Workspace(tmp_path / "a blank"))
    monkeypatch.setenv("PATH", "/nowhere")
    refused(BackendError, "sbatch: not on this machine")


@pytest.mark.parametrize(
    ("system", "sender", "lines"),
    [
        ("pbs", "qsub", ["#PBS -N wsisurv", "#PBS -q long", "#PBS -l select=1:ncpus=2:mem=7630MB"]),
        ("lsf", "bsub", ["#BSUB -J wsisurv", "#BSUB -q long", "#BSUB -n 2", "#BSUB -M 8000"]),
    ],
)
def test_scripts_for_pbs_and_lsf(queue, place, system, sender, lines):
    """Neither was run: what would be sent is looked at."""
    from dask import config

    queue(**{sender: "exit 1"})
    asked: dict[str, object] = {f"jobqueue.{system}.queue": "long", f"jobqueue.{system}.cores": 2}
    asked["jobqueue.lsf.lsf-units"] = "mb"
    asked[f"jobqueue.{system}.scheduler-options"] = {"protocol": "tcp://", "dashboard_address": ":0"}  # not with us
    with config.set(asked), queue_pool(system, place) as pool:
        cluster = pool._client.cluster
        script = cluster.job_script()
        assert cluster.scheduler_address.startswith("tls://")
        assert [end[0] for end in http_ends(cluster.scheduler)] == ["127.0.0.1"]
    assert set(lines) <= set(script.splitlines())
    assert "export DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False" in script.splitlines()
    command = script.splitlines()[-1]
    for part in ("--nthreads 1", "--nworkers 2", "--protocol tls://", "--tls-key", "--dashboard-address 127.0.0.1:0"):
        assert part in command


@pytest.mark.parametrize(
    ("system", "sender", "asked", "answer"),
    [
        ("slurm", "sbatch", "squeue", "echo 12; echo 13_4; echo ' 14'"),
        ("pbs", "qsub", "qselect", "echo 12.host; echo 15.host"),
        ("lsf", "bsub", "bjobs", "echo 12; echo 16"),
    ],
)
def test_jobs_that_are_left_are_those_that_the_system_lists(queue, system, sender, asked, answer):
    jobs = jobqueue._Jobs(jobqueue._SYSTEMS[system], sent={"12", "77"})
    queue(**{sender: "exit 1", asked: answer})
    assert jobs.left() == {"12"}
    queue(**{asked: "echo No unfinished job found >&2; exit 255"})
    assert jobs.left() == set()
    queue(**{asked: "echo the controller does not answer >&2; exit 1"})
    assert jobs.left() is None
