"""Training in little memory: the same result, bit by bit, and a bound that holds."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from wsisurv.settings import EmbedSettings
from wsisurv.survival.bags import HeldRows
from wsisurv.training.distill import distill
from wsisurv.training.inputs import read_training_cases
from wsisurv.training.memory import FileRows, memory_of
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace import Workspace

TINY_GIB = 1e-6


def read(trial, gib):
    return read_training_cases(
        trial.workspace,
        trial.cohort,
        encoder="histomics",
        text_encoder="hashing",
        allow_random_weights=False,
        memory_gib=gib,
    )


def test_features_left_on_disk_are_those_held_in_memory(make_trial):
    trial = make_trial(30)
    held, left = read(trial, 1.0).bags, read(trial, TINY_GIB).bags
    assert isinstance(held.source, HeldRows)
    assert isinstance(left.source, FileRows)
    chosen = torch.tensor([7, 0, 29, 7])
    assert torch.equal(held.select(chosen).load().rows, left.select(chosen).load().rows)
    assert torch.equal(held.load().rows, left.load().rows)


def test_memory_changes_no_bit_of_a_result(make_trial, teacher_settings, distill_settings, monkeypatch):
    monkeypatch.setattr("wsisurv.survival.bags.PART_ROWS", 64)  # several parts in so small a cohort
    files = []
    for folder, gib in (("much", 4.0), ("little", TINY_GIB)):
        trial = make_trial(24, folder=folder)
        train_teacher(trial.workspace, trial.cohort, teacher_settings, memory_gib=gib)
        distill(trial.workspace, trial.cohort, distill_settings, memory_gib=gib)
        files.append([trial.path(name).read_bytes() for name in ("teacher.h5", "guidance.h5", "student.h5")])
    assert files[0] == files[1]


def test_the_share_of_each_part_follows_the_setting():
    assert memory_of(8).features_bytes == 4 << 30
    assert memory_of(8).keep_bytes == 1 << 30
    assert memory_of(None).features_bytes > 0


PEAK = """
import sys
import lifelines.utils
import numpy as np
import torch
from pathlib import Path
from wsisurv.cohort import Case, Cohort
from wsisurv.settings import CohortSettings, TeacherSettings
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace import Workspace
torch.set_num_threads(1)
def status(name):
    with open("/proc/self/status") as lines:
        return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024
times = np.random.default_rng(0).exponential(900, {cases})
names = [f"case{{i:04d}}" for i in range({cases})]
cases = [Case(name, float(times[i]) + 1, i % 2 == 0, slide_ids=(f"{{name}}-0",)) for i, name in enumerate(names)]
settings = TeacherSettings(epochs=1, folds=2, repeats=1, text_epochs=1, tiles_per_bag={tiles_per_bag})
warm = torch.nn.Linear(8, 8)
warm(torch.zeros(8, 8)).sum().backward()
torch.optim.AdamW(warm.parameters()).step()
before = status("VmRSS")
train_teacher(Workspace(Path({root!r})), Cohort("trial", tuple(cases), CohortSettings()), settings, memory_gib={gib})
print(status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_is_bounded_by_the_setting(make_trial, tmp_path):
    """164 MB of features, and what their gradients keep, in 60 MB and what the work on one part takes."""
    trial = make_trial(8)  # for its writer of features
    noise = np.random.default_rng(0).normal(0, 1, (2500, 1024)).astype(np.float16)
    for case in range(32):
        trial.simulation.write_slide_features(
            Workspace(tmp_path / "large"), f"case{case:04d}-0", np.roll(noise, case, axis=1), EmbedSettings()
        )

    program = PEAK.format(root=str(tmp_path / "large"), cases=32, gib=0.06, tiles_per_bag=0)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 140
