"""Ctrl-C in each step, then the same command again; a disk that fills."""

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest

from wsisurv.cli import interrupts
from wsisurv.errors import BackendError
from wsisurv.formats.features import read_features

CASES = 30  # as conftest.py draws them
SLIDES = 5
"""Slides that are tiled and embedded here; the others are linked from where all steps ran."""


class Watched:
    """A stream that does something as soon as a number of lines went through: no race with the end of the work."""

    def __init__(self, stream: TextIO, line: int, then: Callable[[], object]) -> None:
        self.stream, self.left, self.then = stream, line, then

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        written = self.stream.write(text)
        self.left -= text.count("\n")
        if self.left <= 0:
            sys.stderr = self.stream
            self.then()
        return written


def press() -> None:
    signal.raise_signal(signal.SIGINT)


class Dropped:
    def __del__(self) -> None:
        press()  # what is raised in here, Python prints and drops


def commands(place: Path) -> dict[str, list[str]]:
    data, where = place / "data", ["-w", str(place / "workspace")]
    slides = sorted(map(str, (data / "slides").iterdir()))[-SLIDES:]
    return {
        "tile": ["tile", *slides, *where],
        "embed": ["embed", *where],
        "extract-report": ["extract-report", str(data / "reports"), "--backend", "rules", *where],
        "train-teacher": ["train-teacher", "--cohort", "demo", "--clinical", str(data / "clinical.csv"),
                          "--time", "days", "--site", "hospital", "--covariates", "age,stage", *where],
        "distill": ["distill", *where],
        "predict": ["predict", str(data / "heldout" / "slides"), "-o", str(place / "risk.csv"), *where],
    }  # fmt: skip


def partial_files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*.partial")]


@pytest.fixture
def interrupt(run, monkeypatch):
    """``interrupt(words, line=2, then=press)``: a command that meets Ctrl-C when so many lines of progress are out."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def interrupted(words: list[str], *, line: int = 2, then: Callable[[], object] = press) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Watched(sys.stderr, line, then))
            ended = run(*words)
        interrupts._pressed.clear()  # the next command begins as a process of its own would
        return ended

    yield interrupted
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_python_drops_stops_the_command_all_the_same(folder, interrupt):
    ended = interrupt(commands(folder)["extract-report"], line=1, then=Dropped)
    assert ended.code == 130, ended.err
    assert "interrupted" in ended.err


def test_a_schedulers_signal_is_as_ctrl_c_and_so_is_what_it_does_to_our_processes(folder, interrupt, run, monkeypatch):
    words = commands(folder)["extract-report"]
    ended = interrupt(words, line=1, then=lambda: signal.raise_signal(signal.SIGTERM))
    assert ended.code == 130, ended.err
    assert "interrupted: what is done is kept" in ended.err

    def killed(*_given, **_named):
        interrupts._pressed.set()
        raise BackendError("a process was killed")

    monkeypatch.setattr("wsisurv.reports.step.extract", killed)
    ended = run(*words)
    interrupts._pressed.clear()
    assert ended.code == 130
    assert "a process was killed" not in ended.err
    monkeypatch.undo()
    assert run(*words).code == 0


@pytest.mark.slow
def test_the_quickstart_interrupted_in_each_step_gives_what_the_demo_gave(
    folder, trained, quick, lend_slides, interrupt, run, typed
):
    """Another folder, the example's commands one by one, each stopped and run again: the same bytes."""
    drawing, *steps = typed("quickstart", OUT=folder, CASES=CASES)
    assert run(*drawing).code == 0
    few = sorted(map(str, (folder / "data" / "slides").iterdir()))[-SLIDES:]
    asked = {step: words for step, *words in steps}
    assert list(asked) == list(commands(folder))
    assert asked["tile"][0] == str(folder / "data" / "slides")
    asked["tile"] = [*few, *asked["tile"][1:]]
    for step, words in asked.items():
        command = quick([step, *words])
        ended = interrupt(command)
        assert ended.code == 130, (step, ended.err)
        assert "interrupted" in ended.err, step
        assert "Traceback" not in ended.err, step
        assert partial_files(folder) == []
        done = run(*command)
        assert done.code == 0, (step, done.err)
        if step == "embed":
            features = Path("workspace") / "features" / "histomics"
            embedded = sorted((folder / features).iterdir())
            assert len(embedded) == SLIDES
            for path in embedded:
                ours, theirs = (read_features(root / features / path.name)[0].values for root in (folder, trained))
                np.testing.assert_array_equal(ours, theirs)
            lend_slides(trained, folder / "workspace")
    for name in Path("workspace") / "cohorts" / "demo" / "student.h5", Path("risk.csv"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize("step", ["tile", "embed", "extract-report", "train-teacher", "distill", "predict"])
def test_a_disk_that_fills_is_said_and_the_same_command_goes_on(step, run, quick, trained, tmp_path):
    """No file may grow beyond a few kilobytes: every writer of the step meets the full disk."""
    place = tmp_path / "demo"
    shutil.copytree(trained, place, copy_function=os.link)
    workspace, words = place / "workspace", quick(commands(place)[step])
    (place / "risk.csv").unlink()
    shutil.rmtree(workspace / "predict")
    made = {
        "tile": [workspace / "tiles"],
        "embed": sorted((workspace / "features" / "histomics").iterdir())[-SLIDES:],
        "extract-report": [workspace / "reports"],
        "train-teacher": [workspace / "cohorts"],
        "distill": (workspace / "cohorts" / "demo").glob("student*.h5"),
    }
    for path in made.get(step, []):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    size = 600 if step == "predict" else 3000
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        ended = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.code == 1, ended.err
    assert "no room to write" in ended.err
    assert "Traceback" not in ended.err
    assert partial_files(place) == []
    done = run(*words)
    assert done.code == 0, done.err
