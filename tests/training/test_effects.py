"""Every setting of the teacher and of the student changes what is trained: a new one without an entry here fails."""

import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import simulation

from wsisurv.cohort import Cohort
from wsisurv.formats.guidance import read_guidance, write_guidance
from wsisurv.formats.header import seal
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training import tuning
from wsisurv.training.distill import distill
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace

TEACHER = TeacherSettings(hidden=4, epochs=2, text_epochs=2, text_hidden=4, repeats=1, folds=3, text_folds=2)
DISTILL = DistillSettings(hidden=4, epochs=2, members=3, tiles_per_bag=8)
ATTENTION = {"text_branch": "attention"}
OF_TEACHER = {
    "encoder": ({}, "other"),
    "text_encoder": ({}, "other"),
    "teacher": ({}, "concat"),
    "aggregator": ({}, "mean"),
    "hidden": ({}, 5),
    "epochs": ({}, 3),
    "learning_rate": ({}, 2e-2),
    "weight_decay": ({}, 0.5),
    "dropout": ({}, 0.3),
    "tiles_per_bag": ({}, 4),
    "text_branch": ({}, "attention"),
    "text_hidden": (ATTENTION, 5),
    "text_epochs": (ATTENTION, 3),
    "text_learning_rate": (ATTENTION, 2e-2),
    "text_weight_decay": (ATTENTION, 0.5),
    "folds": ({}, 2),
    "keep_sites": ({}, True),
    "text_folds": ({}, 3),
    "repeats": ({}, 2),
    "precision": ({}, "bf16"),
    "seed": ({}, 1),
}
"""For each setting: what else must be set for it to matter, and another value."""
OF_STUDENT = {
    "aggregator": ({}, "mean"),
    "loss": ({}, "ranking"),
    "bins": ({"loss": "discrete"}, 3),
    "distill": ({}, "mse"),
    "guidance_weight": ({}, 1.0),
    "feature_subspace": ({}, "all"),
    "filter": ({}, "soft"),
    "keep_share": ({"filter": "hard"}, 0.7),
    "merge_duplicates": ({"duplicate_similarity": 0.3}, True),
    "duplicate_similarity": ({"merge_duplicates": True}, 0.3),
    "ema": ({}, True),
    "adjust_for": ({}, ("age",)),
    "hidden": ({}, 5),
    "epochs": ({}, 3),
    "tuning": ({"epochs": 25}, "none"),
    "pretrain_epochs": ({}, 1),
    "learning_rate": ({}, 2e-2),
    "weight_decay": ({}, 0.5),
    "dropout": ({}, 0.3),
    "tiles_per_bag": ({}, 4),
    "members": ({}, 4),
    "mixup": ({}, "risk"),
    "precision": ({}, "bf16"),
    "seed": ({}, 1),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> tuple[Workspace, Cohort]:
    """A cohort whose tiles tell their reports, with features of a second encoder, and a teacher that is listened to."""
    world = simulation.make_world(1, n_features=12)
    world = replace(world, looks=4 * world.looks, stains=world.stains / 4)
    workspace = Workspace(tmp_path_factory.mktemp("effects"))
    data = simulation.simulate(world, 48, 1, tiles=(30, 40), effect=3.0)
    means = [bag.mean(0, dtype=np.float32) for bag in data.bags]
    data = replace(data, reports=[np.stack([mean, mean**2]) for mean in means])
    cohort = simulation.save(workspace, data)
    cases = tuple(replace(case, covariates={"age": str(40 + i)}) for i, case in enumerate(cohort.cases))
    cohort = replace(cohort, cases=cases)
    shutil.copytree(workspace.root / "features" / "histomics", workspace.root / "features" / "other")
    for path in [*(workspace.root / "features" / "other").glob("*.h5"), copied(workspace)]:
        with h5py.File(path, "a") as file:
            name = "features" if "features" in file else "vectors"
            file[name][:] = file[name][:] * np.linspace(0.5, 2, file[name].shape[1])
            file.attrs.create("encoder", "other", dtype=h5py.string_dtype("utf-8", 5))
            seal(path, file)
    train_teacher(workspace, cohort, TEACHER)
    path = workspace.cohort(cohort.name) / "guidance.h5"
    guidance, header = read_guidance(path)
    write_guidance(path, replace(guidance, gate=1.0, gate_without=np.ones_like(guidance.gate_without)), header)
    return workspace, cohort


def copied(workspace: Workspace):
    """Vectors of a second text encoder."""
    return shutil.copy(workspace.vectors("hashing"), workspace.vectors("other"))


def arrays(*paths) -> dict[str, np.ndarray]:
    """All numbers of some files; not what they say of their making."""
    found = {}
    for path in paths:
        with h5py.File(path) as file:
            file.visititems(lambda name, item, path=path: found.update(_values(path, name, item)))
    return found


def _values(path, name, item) -> dict[str, np.ndarray]:
    return {f"{path.name}/{name}": item[()]} if isinstance(item, h5py.Dataset) and item.dtype.kind in "fiu" else {}


def differ(one, other) -> bool:
    return one.keys() != other.keys() or any(not np.array_equal(one[k], other[k], equal_nan=True) for k in one)


@pytest.fixture(scope="module")
def taught(place):
    """Numbers of a teacher trained by some settings; each is trained once."""
    workspace, cohort = place
    done = {}

    def teach(**changes):
        settings = TEACHER.model_copy(update=changes)
        if settings not in done:
            name = f"teacher{len(done)}"
            train_teacher(workspace, replace(cohort, name=name), settings)
            folder = workspace.cohort(name)
            done[settings] = arrays(folder / "teacher.h5", folder / "guidance.h5")
        return done[settings]

    return teach


@pytest.fixture(scope="module")
def distilled(place):
    """Numbers of the two students distilled by some settings."""
    workspace, cohort = place
    done = {}

    def learn(**changes):
        settings = DISTILL.model_copy(update=changes)
        if settings not in done:
            distill(workspace, cohort, settings, redo=True)
            folder = workspace.cohort(cohort.name)
            done[settings] = arrays(folder / "student_distilled.h5", folder / "student_plain.h5")
        return done[settings]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "AHEAD", -np.inf)  # long training is taken wherever it is tried
        yield learn


def test_no_setting_lacks_an_entry():
    assert OF_TEACHER.keys() == TeacherSettings.model_fields.keys()
    assert OF_STUDENT.keys() == DistillSettings.model_fields.keys()


@pytest.mark.parametrize("name", OF_TEACHER)
def test_a_setting_of_the_teacher_changes_the_teacher(taught, name):
    given, value = OF_TEACHER[name]
    assert value != getattr(TEACHER, name)
    assert differ(taught(**given), taught(**given, **{name: value}))


@pytest.mark.parametrize("name", OF_STUDENT)
def test_a_setting_of_the_student_changes_the_student(distilled, name):
    given, value = OF_STUDENT[name]
    assert value != getattr(DISTILL, name)
    assert differ(distilled(**given), distilled(**given, **{name: value}))


def test_what_is_compared_is_the_same_for_the_same_settings(place, distilled):
    first = distilled()
    assert not differ(first, distilled())
    workspace, cohort = place
    distill(workspace, cohort, DISTILL, redo=True)
    folder = workspace.cohort(cohort.name)
    assert not differ(first, arrays(folder / "student_distilled.h5", folder / "student_plain.h5"))
