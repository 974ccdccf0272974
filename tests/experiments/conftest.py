"""A small simulated workspace, and settings by which a fold is trained in a moment."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import simulation
import torch

from wsisurv.cohort import Cohort
from wsisurv.experiments.crossval import CrossvalResult, crossval
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.workspace.paths import Workspace

TEACHER = TeacherSettings(hidden=8, epochs=6, text_epochs=20, repeats=1, folds=2, text_folds=2)
ONCE = CrossvalSettings(folds=2, repeats=1, covariates=(), resamples=100)
STUDENT = DistillSettings(
    learning_rate=1e-2, weight_decay=1e-3, dropout=0.1, hidden=8, epochs=6, pretrain_epochs=3, members=2
)


@dataclass
class Study:
    """A workspace, its cohort, and how its folds are trained."""

    workspace: Workspace
    cohort: Cohort
    teacher: TeacherSettings = TEACHER
    student: DistillSettings = STUDENT

    def crossval(self, settings: CrossvalSettings, **options: object) -> CrossvalResult:
        options = {"workers": 1, "teacher": self.teacher, "student": self.student, **options}
        return crossval(self.workspace, self.cohort, settings, **options)

    def path(self, name: str) -> Path:
        return self.workspace.cohort(self.cohort.name) / name


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn_study(folder: Path, n: int, seed: int, **options: object) -> Study:
    """A study in a folder; age follows the truth, with gaps, stage is noise."""
    options = {"tiles": (8, 20), "effect": 1.5, **options}
    world = simulation.make_world(0, n_features=10, n_words=16)
    workspace = Workspace(folder)
    data = simulation.simulate(world, n, seed, **options)
    drawn = simulation.save(workspace, data)
    random = np.random.default_rng(seed)
    cases = tuple(
        replace(
            case,
            covariates={
                "age": "" if number % 9 == 0 else f"{60 + 5 * risk + 5 * random.normal():.0f}",
                "stage": "I II III".split()[random.integers(3)],
            },
        )
        for number, (case, risk) in enumerate(zip(drawn.cases, data.truth, strict=True))
    )
    return Study(workspace, Cohort("trial", cases, CohortSettings(site="site", covariates=("age", "stage"))))


def copied(study: Study, folder: Path) -> Study:
    """A copy of its own."""
    return replace(study, workspace=Workspace(shutil.copytree(study.workspace.root, folder / "workspace")))


@pytest.fixture(scope="session")
def _drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Study]:
    """A study of these options, drawn once; not to be changed."""
    return cache(lambda n, seed, **options: drawn_study(tmp_path_factory.mktemp("drawn"), n, seed, **options))


@pytest.fixture
def make_study(_drawn: Callable[..., Study], tmp_path: Path) -> Callable[..., Study]:
    """``make_study(n=60, seed=0, **options of simulate)``: to be changed at will."""
    return lambda n=60, seed=0, **options: copied(_drawn(n, seed, **options), tmp_path)


@pytest.fixture(scope="session")
def _scored(_drawn: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = copied(_drawn(40, 0), tmp_path_factory.mktemp("scored"))
    study.crossval(ONCE)
    return study


@pytest.fixture
def scored(_scored: Study, tmp_path: Path) -> Study:
    """Forty cases after a cross-validation as ``ONCE`` says."""
    return copied(_scored, tmp_path)


@pytest.fixture
def once() -> CrossvalSettings:
    """Two folds, no covariates."""
    return ONCE
