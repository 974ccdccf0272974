"""Training in little memory: the same result, bit by bit, and a bound that holds."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from wsisurv.bags.memory import FileRows, memory_of
from wsisurv.bags.packed import HeldRows
from wsisurv.formats.header import make_header
from wsisurv.formats.text_vectors import FORMAT as VECTORS
from wsisurv.formats.text_vectors import TextVectors, write_text_vectors
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.training.distill import distill
from wsisurv.training.inputs import read_training_cases
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace

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
    monkeypatch.setattr("wsisurv.bags.packed.PART_ROWS", 64)  # several parts in so small a cohort
    teacher_settings = teacher_settings.model_copy(update={"teacher": "cross-attention"})  # image branch and all
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
import numpy as np
import torch
import torch._dynamo  # which torch's recomputation loads at its first use
from pathlib import Path
from wsisurv.cohort import Case, Cohort
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.training import TeacherSettings
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace
torch.set_num_threads(1)
def status(name):
    with open("/proc/self/status") as lines:
        return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024
def train(folder, n):
    times = np.random.default_rng(0).exponential(900, n)
    names = [f"case{i:04d}" for i in range(n)]
    cases = [Case(name, float(times[i]) + 1, i % 2 == 0, slide_ids=(f"{name}-0",)) for i, name in enumerate(names)]
    settings = TeacherSettings(
        epochs=1, folds=3, repeats=1, teacher="cross-attention", text_branch="attention", text_epochs=1, tiles_per_bag=0
    )
    cohort = Cohort("trial", tuple(cases), CohortSettings())
    train_teacher(Workspace(Path(sys.argv[1]) / folder), cohort, settings, memory_gib=float(sys.argv[2]))
train("small", 12)  # what is imported and set up on the way is not the cohort's
before = status("VmRSS")
train("large", 20)
print(status("VmHWM") - before)
"""


def write_noise(root, simulation, cases, tiles, columns=1024):
    """Features of one slide a case, and ten statements each."""
    workspace, rng = Workspace(root), np.random.default_rng(0)
    noise = rng.normal(0, 1, (tiles, columns)).astype(np.float16)
    for case in range(cases):
        values = np.roll(noise, case, axis=1)
        simulation.write_slide_features(workspace, f"case{case:04d}-0", values, EmbedSettings())
    vectors = TextVectors(
        values=rng.normal(0, 1, (10 * cases, 24)).astype(np.float32),
        case_ids=tuple(f"case{row // 10:04d}" for row in range(10 * cases)),
        statement_ids=tuple(f"statement{row}" for row in range(10 * cases)),
        encoder="hashing",
    )
    write_text_vectors(workspace.vectors("hashing"), vectors, make_header(VECTORS, {}, {"reports": "any"}))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_is_bounded_by_the_setting(make_trial, tmp_path):
    """102 MB of features, and what their gradients keep, within the 60 MB of the setting.

    A teacher of tiles and statements trains its image branch besides, so both are seen.
    """
    simulation = make_trial(4).simulation
    write_noise(tmp_path / "small", simulation, 12, 20)
    write_noise(tmp_path / "large", simulation, 20, 2500)
    # what is freed goes back at once: how much of it an allocator happens to keep is chance
    freed = {
        **os.environ,
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "1000000",
        "MALLOC_TRIM_THRESHOLD_": "1000000",
    }
    command = [sys.executable, "-c", PEAK, str(tmp_path), "0.06"]
    done = subprocess.run(command, env=freed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.06 * 1024
