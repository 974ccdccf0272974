"""Workers: threads and processes, and what ends them."""

import importlib
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wsisurv.engine.jobs import Job, run_jobs
from wsisurv.engine.workers import Attempt, Shares, finished, interrupts_held
from wsisurv.errors import BackendError, DeviceError, SlideError, StorageError, WeightsError
from wsisurv.formats.header import make_header
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

masks = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks here")
_ASK = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


def blocked() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def blocked_in_a_new_process() -> bool:
    return subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True).stdout == "True\n"


@masks
def test_processes_that_start_meanwhile_never_hear_of_ctrl_c_and_their_parent_does_again() -> None:
    with interrupts_held():
        inside = blocked_in_a_new_process()
    assert inside
    assert not blocked()
    assert not blocked_in_a_new_process()


@masks
def test_a_parent_that_held_it_back_itself_still_does() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with interrupts_held():
            pass
        assert blocked()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@masks
def test_a_press_inside_is_heard_at_the_end() -> None:
    went_on = []

    def press() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            went_on.append(True)

    with pytest.raises(KeyboardInterrupt):
        press()
    assert went_on


def test_every_item_comes_with_its_result_on_threads_and_on_processes() -> None:
    for workers, processes in ((1, False), (3, False), (1, True), (2, True)):
        assert dict(finished(math.sqrt, range(7), workers, processes=processes)) == {n: math.sqrt(n) for n in range(7)}


def test_no_item_is_taken_before_a_worker_is_free_for_it() -> None:
    taken = []
    free = threading.Event()

    def items() -> Iterator[int]:
        for number in range(6):
            taken.append(number)
            yield number

    def wait_for_it(number: int) -> int:
        assert number == 0 or free.wait()
        return number

    with closing(finished(wait_for_it, items(), 2)) as results:
        assert next(results) == (0, 0)
        assert taken == [0, 1]  # one is done, one waits, and the third is not asked for until the caller comes back
        free.set()
        assert sorted(number for number, _ in results) == [1, 2, 3, 4, 5]


def test_the_first_error_ends_the_run_once_those_under_way_have_ended() -> None:
    begun, ended, given_up = [], [], []

    def fail_at_two(number: int) -> None:
        begun.append(number)
        if number == 2:
            raise ValueError("two")
        ended.append(number)

    with pytest.raises(ValueError, match="two"):
        list(finished(fail_at_two, range(100), 2, give_up=lambda: given_up.append(True)))
    assert len(begun) < 100
    assert sorted(begun) == sorted([*ended, 2])


def test_whoever_stops_listening_stops_the_work_and_says_so_to_what_is_under_way() -> None:
    stop = threading.Event()

    def work(number: int) -> int:
        assert number == 0 or stop.wait()
        return number

    results = finished(work, range(100), 2, give_up=stop.set)
    assert next(results) == (0, 0)
    results.close()
    assert stop.is_set()


def test_a_killed_process_is_an_error_that_tells_the_way_out() -> None:
    with pytest.raises(BackendError, match="fewer workers"):
        list(finished(os._exit, [1], 2, processes=True))


def test_a_script_without_a_main_guard_is_not_run_again_in_each_process(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import math\nfrom wsisurv.engine.workers import finished\nprint('begun', __file__)\n"
        "print(dict(finished(math.sqrt, [4.0], 1, processes=True)), __file__)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"begun {script}", f"{{4.0: 2.0}} {script}"]


WATCHED = """
import threading
from wsisurv.engine.workers import tell_share
def work(number):
    tell_share(number, 0.25)
    if number:
        threading.Event().wait()
"""


def test_how_far_items_are_is_seen_and_whoever_stops_listening_ends_their_processes(tmp_path, monkeypatch) -> None:
    (tmp_path / "watched_work.py").write_text(WATCHED)
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[float] = []
    work = importlib.import_module("watched_work").work
    results = finished(work, [0, 1, 2], 2, processes=True, shares=Shares(3, seen.append))
    assert next(results) == (0, None)

    results.close()  # one waits for ever
    assert seen == sorted(seen)
    assert seen[-1] <= 0.5  # of three
    assert multiprocessing.active_children() == []


def test_what_can_be_explained_is_given_and_what_can_not_is_raised() -> None:
    def fail(error: Exception) -> None:
        raise error

    attempt = Attempt(fail)
    for given in (SlideError("a"), OSError("b")):
        assert attempt(given) is given
    for raised in (StorageError("no room"), WeightsError("none"), DeviceError("none"), ZeroDivisionError("bug")):
        with pytest.raises(type(raised)):
            attempt(raised)


WORK = """
from wsisurv.errors import SlideError
from wsisurv.formats.header import create
def write(job):
    if job.id == "b":
        raise SlideError("b is broken")
    with create(job.output, job.header) as file:
        file["values"] = [1]
    return f"{job.id} written"
"""


def test_jobs_are_done_on_processes_and_failures_come_back_to_the_ledger(tmp_path, monkeypatch) -> None:
    (tmp_path / "their_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    do = importlib.import_module("their_work").write
    workspace, header = Workspace(tmp_path / "w"), make_header("wsisurv/test", {}, {})
    jobs = [Job(name, Path(name), workspace.root / f"{name}.h5", header) for name in "abcd"]
    told = []
    summary = run_jobs(
        workspace,
        "test",
        jobs,
        do,
        workers=2,
        processes=True,
        progress=lambda done, total, _: told.append((done, total)),
    )
    assert summary.done == ["a", "c", "d"]
    assert summary.notes == ["a written", "c written", "d written"]
    assert [failure.message for failure in read_failures(workspace, "test")] == ["b is broken"]
    assert told == [(number, 4) for number in range(5)]
    assert run_jobs(workspace, "test", jobs, do, workers=2, processes=True).kept == ["a", "c", "d"]
