"""Ctrl-C in each step, then the same command again; a disk that fills."""

import os
import shutil
import signal
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


def commands(place: Path) -> dict[str, list[str]]:
    data, where = place / "data", ["-w", str(place / "workspace")]
    return {
        "tile": ["tile", str(data / "slides"), *where],
        "embed": ["embed", *where],
        "extract-report": ["extract-report", str(data / "reports"), "--backend", "rules", *where],
        "train-teacher": ["train-teacher", "--cohort", "demo", "--clinical", str(data / "clinical.csv"),
                          "--time", "days", "--site", "hospital", "--covariates", "age,stage", *where],
        "distill": ["distill", *where],
        "predict": ["predict", str(data / "heldout" / "slides"), "-o", str(place / "risk.csv"), *where],
    }  # fmt: skip


def partial_files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*.partial")]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wsisurv", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def interrupt(words: list[str]) -> tuple[int, str]:
    """Start a command, press Ctrl-C once its second progress line is there, and wait."""
    with start(words) as process:
        assert process.stderr is not None
        seen = [process.stderr.readline(), process.stderr.readline()]
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        return process.wait(), "".join(seen) + rest


@pytest.mark.slow
def test_interrupted_in_each_step_then_the_same_commands_give_the_same_risks(folder, trained):
    for step, words in commands(folder).items():
        code, said = interrupt(words)
        assert code == 130, (step, said)
        assert "interrupted" in said, step
        assert "Traceback" not in said, step
        assert partial_files(folder) == []
        done = subprocess.run([sys.executable, "-m", "wsisurv", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (step, done.stderr)
    features = Path("workspace") / "features" / "histomics"
    for path in sorted((folder / features).iterdir()):
        ours, theirs = (read_features(root / features / path.name)[0].values for root in (folder, trained))
        np.testing.assert_array_equal(ours, theirs)
    student = Path("workspace") / "cohorts" / "demo" / "student.h5"
    assert (folder / student).read_bytes() == (trained / student).read_bytes()


@pytest.mark.parametrize("step", ["tile", "embed", "extract-report", "train-teacher", "distill", "predict"])
def test_a_disk_that_fills_is_said_and_the_same_command_goes_on(step, trained, tmp_path):
    """No file may grow beyond a few kilobytes: every writer of the step meets the full disk."""
    place = tmp_path / "demo"
    shutil.copytree(trained, place, copy_function=os.link)
    workspace = place / "workspace"
    (place / "risk.csv").unlink()
    shutil.rmtree(workspace / "predict")
    made = {
        "tile": workspace / "tiles",
        "embed": workspace / "features",
        "extract-report": workspace / "reports",
        "train-teacher": workspace / "cohorts",
        "distill": workspace / "cohorts" / "demo" / "student.h5",
    }.get(step)
    if made is not None:
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    words = commands(place)[step]
    size = 600 if step == "predict" else 3000
    program = LIMITED.format(bytes=size, words=words)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "no room to write" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert partial_files(place) == []
    done = subprocess.run([sys.executable, "-m", "wsisurv", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
