"""Ctrl-C in each step, then the same command again; a disk that fills."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wsisurv.formats.features import read_features

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes}))
from wsisurv.cli.app import main
sys.argv = ["wsisurv", *{words!r}]
main()
"""

SLIDES = 5
"""Slides that are tiled and embedded here; the others are linked from where all steps ran."""

PRESSED = """
import os, signal, sys
from wsisurv.cli.app import main

def press():
    os.kill(os.getpid(), signal.SIGINT)

class Dropped:
    def __del__(self):
        press()  # what is raised in here, Python prints and drops

class Watched:
    def __init__(self, stream):
        self.stream, self.lines = stream, 0
    def __getattr__(self, name):
        return getattr(self.stream, name)
    def write(self, text):
        written = self.stream.write(text)
        self.lines += text.count(chr(10))
        if self.lines >= {line}:
            sys.stderr = self.stream
            {how}()
        return written

sys.stderr = Watched(sys.stderr)
sys.argv = ["wsisurv", *{words!r}]
main()
"""
"""Ctrl-C as soon as a line of progress is out, by the process itself: no race with the end of the work."""


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


def interrupt(words: list[str], *, line: int = 2, how: str = "press") -> tuple[int, str]:
    """Run a command that meets Ctrl-C as its ``line``th line of progress is out."""
    program = PRESSED.format(words=words, line=line, how=how)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


def test_ctrl_c_that_python_drops_stops_the_command_all_the_same(folder):
    code, said = interrupt(commands(folder)["extract-report"], line=1, how="Dropped")
    assert code == 130, said
    assert "interrupted" in said


@pytest.mark.slow
def test_interrupted_in_each_step_then_the_same_commands_give_the_same_risks(folder, trained, lend_slides):
    for step, words in commands(folder).items():
        code, said = interrupt(words)
        assert code == 130, (step, said)
        assert "interrupted" in said, step
        assert "Traceback" not in said, step
        assert partial_files(folder) == []
        done = subprocess.run([sys.executable, "-m", "wsisurv", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (step, done.stderr)
        if step == "embed":
            features = Path("workspace") / "features" / "histomics"
            embedded = sorted((folder / features).iterdir())
            assert len(embedded) == SLIDES
            for path in embedded:
                ours, theirs = (read_features(root / features / path.name)[0].values for root in (folder, trained))
                np.testing.assert_array_equal(ours, theirs)
            lend_slides(trained, folder / "workspace")
    student = Path("workspace") / "cohorts" / "demo" / "student.h5"
    assert (folder / student).read_bytes() == (trained / student).read_bytes()


@pytest.mark.parametrize("step", ["tile", "embed", "extract-report", "train-teacher", "distill", "predict"])
def test_a_disk_that_fills_is_said_and_the_same_command_goes_on(step, run, trained, tmp_path):
    """No file may grow beyond a few kilobytes: every writer of the step meets the full disk."""
    place = tmp_path / "demo"
    shutil.copytree(trained, place, copy_function=os.link)
    workspace, words = place / "workspace", commands(place)[step]
    if step in {"train-teacher", "distill"}:
        words += ["--epochs", "5"]
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
    program = LIMITED.format(bytes=size, words=words)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "no room to write" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert partial_files(place) == []
    done = run(*words)
    assert done.code == 0, done.err
