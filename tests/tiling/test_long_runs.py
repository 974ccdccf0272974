"""Many slides: threads, shards, two runs at once, and runs killed at any moment."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from wsisurv.engine.shards import Shard
from wsisurv.settings.tiles import TileSettings
from wsisurv.tiling.grid import Grid, make_grid
from wsisurv.tiling.step import tile
from wsisurv.workspace.index import FILE
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

MakeSlide = Callable[..., Path]
SLIDES = 12

RUN = """
import os, signal, sys
root, slides, workers, left = words
from pathlib import Path
from wsisurv.settings.tiles import TileSettings
from wsisurv.tiling.step import tile
from wsisurv.workspace.paths import Workspace
def die_in_time(event, args):
    global left
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die_in_time)
tile(Workspace(root), [slides], TileSettings(), workers=workers)
"""
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["wsisurv.tiling.step"])  # a process then starts in no time, and forty do


@pytest.fixture(scope="module")
def slides(make_slide: MakeSlide, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for number in range(SLIDES):
        make_slide(folder / f"S-{number:02}.tiff", (900 + 16 * number, 800), seed=number)
    return folder


@pytest.fixture(scope="module")
def undisturbed(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("undisturbed")
    tile(Workspace(root), [slides], TileSettings())
    return made(root)


def made(root: Path) -> dict[str, bytes]:
    """Every file of a workspace but its locks and the index, byte for byte."""
    files = (path for path in root.rglob("*") if path.is_file() and not {".claims", FILE} & {*path.parts})
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def start(root: Path, slides: Path, workers: int = 1, dies_at: int = 0) -> BaseProcess:
    """A run in a process of its own, which kills itself (-9) just before its ``dies_at``-th doing with a file."""
    process = PROCESSES.Process(target=exec, args=(RUN, {"words": (root, slides, workers, dies_at)}))
    process.start()
    return process


def test_threads_make_the_same_files_and_report_in_order(
    slides: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for path in slides.iterdir():
        (tmp_path / "in" / path.name).symlink_to(path)
    (tmp_path / "in" / "A-bad.svs").write_text("not a slide")
    (tmp_path / "in" / "S-05-bad.svs").write_text("not a slide")
    seen: list[tuple[int, int]] = []
    summary = tile(
        Workspace(tmp_path / "w"), [tmp_path / "in"], TileSettings(), workers=3,
        progress=lambda done, total, _what: seen.append((done, total)),
    )  # fmt: skip
    assert summary.done == [f"S-{number:02}" for number in range(SLIDES)]
    assert [failure.id for failure in summary.failed] == ["A-bad", "S-05-bad"]
    assert {failure.id for failure in read_failures(Workspace(tmp_path / "w"), "tile")} == {"A-bad", "S-05-bad"}
    assert seen == [(number, SLIDES + 2) for number in range(SLIDES + 3)]
    for number in range(SLIDES):
        name = f"preview/S-{number:02}.jpg"
        assert made(tmp_path / "w")[name] == undisturbed[name]


def test_shards_share_the_slides_and_together_do_all(
    slides: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    done: list[str] = []
    for number in range(1, 6):
        done += tile(Workspace(tmp_path), [slides], TileSettings(), shard=Shard(number, 5)).done
    assert sorted(done) == [f"S-{number:02}" for number in range(SLIDES)]
    assert made(tmp_path).keys() == undisturbed.keys()
    assert tile(Workspace(tmp_path), [slides], TileSettings(), shard=Shard(20, 20)).done == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_hundred_slides_in_a_row_take_no_more_memory_than_twenty_five(make_slide: MakeSlide, tmp_path: Path) -> None:
    """One view of these slides is 0.5 MB, one open slide more: 75 of either kept would show."""
    one = make_slide(tmp_path / "one.tiff", (420, 420), levels=1)
    (tmp_path / "in").mkdir()
    for number in range(100):
        (tmp_path / "in" / f"{number:03}.tiff").hardlink_to(one)
    seen: dict[int, int] = {}

    def look(done: int, _total: int, _what: str) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        seen[done] = pages * os.sysconf("SC_PAGE_SIZE")

    assert len(tile(Workspace(tmp_path / "w"), [tmp_path / "in"], TileSettings(), progress=look).done) == 100
    assert seen[100] - seen[25] < 20e6


@pytest.mark.slow
def test_killed_at_twenty_random_moments_then_rerun_is_as_if_undisturbed(slides: Path, tmp_path: Path) -> None:
    """Two runs at a time on one workspace, one of them in threads, until twenty were killed; then one that ends."""
    root = tmp_path / "workspace"
    tile(Workspace(root), [slides], TileSettings())
    undisturbed = made(root)
    shutil.rmtree(root)
    dice = random.Random(0)
    killed = 0
    while killed < 20:
        if made(root).keys() == undisturbed.keys():
            shutil.rmtree(root)
        both = [start(root, slides, workers, dies_at=dice.randrange(1, 60)) for workers in (1, 2)]
        for process in both:
            process.join()
            killed += process.exitcode == -signal.SIGKILL
    assert tile(Workspace(root), [slides], TileSettings()).failed == []
    assert made(root) == undisturbed


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
def test_ctrl_c_in_threads_leaves_whole_files_and_the_same_command_goes_on(
    slides: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    process = start(tmp_path, slides, workers=2)
    while process.is_alive() and not list((tmp_path / "tiles").glob("*.h5")):
        time.sleep(0.005)
    assert process.pid
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert not [path for path in tmp_path.rglob("*.partial")]
    summary = tile(Workspace(tmp_path), [slides], TileSettings())
    assert len(summary.done) + len(summary.kept) == SLIDES
    assert summary.kept
    assert all(made(tmp_path)[name] == content for name, content in undisturbed.items() if name.endswith(".jpg"))


def test_ctrl_c_in_threads_finishes_what_is_in_hand_and_starts_nothing_new(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread is held up in its slide until the pool is told to end: what comes first is no matter of time."""
    ending = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            ending.set()
            super().shutdown(wait=wait)

    def held_up(*args: Any, **options: Any) -> Grid:
        assert first.acquire(blocking=False) or ending.wait()
        return make_grid(*args, **options)

    def press_ctrl_c(done: int, _total: int, _what: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    first = threading.Semaphore(1)  # one slide may be done before
    monkeypatch.setattr("wsisurv.engine.workers.ThreadPoolExecutor", Pool)
    monkeypatch.setattr("wsisurv.tiling.step.make_grid", held_up)
    with pytest.raises(KeyboardInterrupt):
        tile(Workspace(tmp_path), [slides], TileSettings(), workers=2, progress=press_ctrl_c)
    assert 1 <= len(Workspace(tmp_path).tiled_slides()) <= 3
    assert not [path for path in tmp_path.rglob("*.partial")]
