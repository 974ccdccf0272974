"""``submit`` on a real SLURM of one node: `make slurm`, where slurmctld and slurmd run.

Tasks are counted by what SLURM says of them, and what they leave is held against a run without SLURM.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path

import pytest

from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("sbatch") is None, reason="no SLURM on this machine"),
]
N_SLIDES = 72


@pytest.fixture(scope="module")
def slides(tmp_path_factory, make_slide) -> Path:
    """Slides that take a moment each: they have no smaller level."""
    folder = tmp_path_factory.mktemp("with a blank") / "slides"
    first = make_slide(folder / "S00.tiff", (5000, 5000), levels=1)
    for number in range(1, N_SLIDES):
        os.link(first, folder / f"S{number:02}.tiff")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """One place for all workspaces: tiles say in which folder they were made."""
    return tmp_path_factory.mktemp("workspaces") / "w"


@pytest.fixture(scope="module")
def alone(slides, root) -> dict[str, bytes]:
    """The tiles of one run, without SLURM."""
    place = Workspace(root)
    call("tile", slides, "-w", root)
    made = {slide_id: place.tiles(slide_id).read_bytes() for slide_id in place.tiled_slides()}
    shutil.rmtree(root)
    return made


@pytest.fixture
def place(root) -> Iterator[Workspace]:
    yield Workspace(root)
    shutil.rmtree(root, ignore_errors=True)


def call(*words: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "wsisurv", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def ask(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def left() -> list[str]:
    """Tasks that have not ended, with their state."""
    return ask("squeue", "-h", "-r", "-o", "%i %T %r").splitlines()


def wait(until, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, left()
        time.sleep(0.2)


def same(place: Workspace, alone: dict[str, bytes]) -> None:
    """The same tiles, bit for bit, and nothing more, nothing failed and nothing left over."""
    assert {slide_id: place.tiles(slide_id).read_bytes() for slide_id in place.tiled_slides()} == alone
    assert read_failures(place, "tile") == []
    assert [path for path in place.root.rglob("*.partial")] == []


def logs(place: Workspace) -> str:
    return "\n".join(path.read_text() for path in sorted((place.root / "slurm").glob("*.log")))


def test_more_tasks_than_an_array_may_have_are_several_arrays(slides, place):
    most = int(ask("scontrol", "show", "config").partition("MaxArraySize")[2].split()[1])
    for number in range(most + 3 - N_SLIDES):
        os.link(slides / "S00.tiff", slides / f"T{number:03}.tiff")
    script = call("submit", "--dry-run", "tile", slides, "-w", place.root, "--each", 1)
    for path in slides.glob("T*.tiff"):
        path.unlink()
    assert [line for line in script.splitlines() if "--array" in line] == [
        f"#SBATCH --array=0-{most - 1}",
        "#SBATCH --array=0-2",
    ]
    assert f"{most + 1}))/{most + 3}" in script
    assert "T000" not in script


def test_an_array_makes_what_one_run_makes(slides, alone, place):
    said = call("submit", "--each", N_SLIDES // 3, "--sbatch=--time=5", "tile", slides, "-w", place.root)
    assert f"{N_SLIDES} items in 3 tasks" in said
    wait(lambda: not left())
    same(place, alone)
    assert logs(place).count(f"tile: {N_SLIDES // 3} done") == 3


def test_a_node_drained_in_the_middle_and_a_task_begun_again_lose_and_double_nothing(slides, alone, place):
    node = ask("sinfo", "-h", "-o", "%n").split()[0]
    call("submit", "--each", N_SLIDES // 6, "--at-once", 1, "tile", slides, "-w", place.root, "--workers", 1)
    wait(lambda: len(place.tiled_slides()) >= 2)
    running = [line.split()[0] for line in left() if "RUNNING" in line]
    ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        ask("scontrol", "requeue", running[0])
        wait(lambda: not any("RUNNING" in line or "COMPLETING" in line for line in left()))
        there = {path: path.stat().st_mtime_ns for path in (place.root / "tiles").glob("*.h5")}
        assert 2 <= len(there) < N_SLIDES
    finally:
        ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    for line in left():  # SLURM lets a task that was begun again wait two minutes
        ask("scontrol", "update", f"JobId={line.split()[0]}", "StartTime=now")
    wait(lambda: not left())
    same(place, alone)
    assert {path: path.stat().st_mtime_ns for path in there} == there  # none was made twice


def by_engine(slides, place: Workspace, max_jobs: int) -> list[str]:
    """The command that tiles on workers which are SLURM's jobs."""
    words = [sys.executable, "-m", "wsisurv", "tile", slides, "-w", place.root, "--engine", "slurm"]
    return [str(word) for word in (*words, "--max-jobs", max_jobs)]


def test_workers_of_an_engine_beside_an_array_a_job_cancelled_and_the_node_drained(slides, alone, place):
    if util.find_spec("dask_jobqueue") is None:
        pytest.skip("no dask-jobqueue")
    node = ask("sinfo", "-h", "-o", "%n").split()[0]
    command = by_engine(slides, place, max_jobs=1)
    engine = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait(lambda: any("RUNNING" in line for line in left()))
    worker = left()[0].split()[0]
    wait(lambda: len(place.tiled_slides()) >= 2)
    call("submit", "--each", N_SLIDES, "tile", slides, "-w", place.root, "--workers", 1)
    wait(lambda: "RUNNING" in ask("squeue", "-h", "-n", "wsisurv-tile", "-o", "%T"))
    ask("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    try:
        ask("scancel", worker)
        there = {path: path.stat().st_mtime_ns for path in (place.root / "tiles").glob("*.h5")}
        assert 2 <= len(there) < N_SLIDES
        assert engine.poll() is None
        wait(lambda: worker not in ask("squeue", "-h", "-o", "%i").split())
    finally:
        ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
    said, problems = engine.communicate(timeout=180)
    assert engine.returncode in (0, 3), problems  # 3: the array was still at a slide
    wait(lambda: not any("RUNNING" in line or "COMPLETING" in line for line in left()))
    for line in left():  # the array, where the engine was still at a slide
        ask("scontrol", "update", f"JobId={line.split()[0]}", "StartTime=now")
    wait(lambda: not left())
    same(place, alone)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    done = [int(number) for number in re.findall(r"(\d+) done", said + logs(place))]
    assert len(done) >= 2
    assert sum(done) == N_SLIDES  # none was made twice
    assert not [path for path in (place.root / "slurm").iterdir() if path.is_dir()]  # keys


def test_jobs_of_an_engine_end_with_ctrl_c_and_with_a_client_that_is_killed(slides, place):
    if util.find_spec("dask_jobqueue") is None:
        pytest.skip("no dask-jobqueue")
    command = by_engine(slides, place, max_jobs=2)
    for number, within in ((signal.SIGINT, 15), (signal.SIGKILL, 90)):
        before = len(place.tiled_slides())
        engine = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait(lambda before=before: len(place.tiled_slides()) > before)
        engine.send_signal(number)
        assert engine.wait() == (130 if number == signal.SIGINT else -number)
        wait(lambda: not left(), within)
    assert call("tile", slides, "-w", place.root).count("tile: ") == 1
    assert not [path for path in place.root.rglob("*.partial") if path.is_file()]


@contextmanager
def held_up(place: Workspace) -> Iterator[None]:
    """Make a tile run wait, without work, until the block ends."""
    with place.claim("tile.settings", "door", wait=True):
        yield


def test_a_task_whose_time_is_up_is_stopped_and_begun_again(slides, alone, place):
    with held_up(place):
        call("submit", "--each", N_SLIDES, "--sbatch=--time=3", "tile", slides, "-w", place.root)
        wait(lambda: "interrupted: what is done is kept" in logs(place))
        # not before: in the moment of its own requeue, begun again by force, its first end counts for its second run
        wait(lambda: any("BeginTime" in line for line in left()))
    ask("scontrol", "update", f"JobId={left()[0].split()[0]}", "StartTime=now")
    wait(lambda: not left())
    same(place, alone)


def test_a_cancelled_task_ends_as_by_ctrl_c_and_stays_ended(slides, place):
    with held_up(place):
        call("submit", "--each", N_SLIDES, "tile", slides, "-w", place.root)
        wait(lambda: any("RUNNING" in line for line in left()))
        time.sleep(5)  # until the command has begun
        ask("scancel", "--name=wsisurv-tile")
        wait(lambda: not left())
    assert "interrupted: what is done is kept" in logs(place)
