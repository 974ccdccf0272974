"""A small simulated cohort in a workspace, and settings that train in a moment."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import simulation
import torch

from wsisurv.cohort import Cohort
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace

FAST = {"learning_rate": 1e-2, "weight_decay": 1e-3, "dropout": 0.1}
TEACHER = TeacherSettings(**FAST, hidden=16, epochs=15, text_epochs=30, repeats=1, folds=3, text_folds=3)
DISTILL = DistillSettings(**FAST, hidden=16, epochs=15, pretrain_epochs=5, members=3)


@dataclass(frozen=True)
class Trial:
    """A workspace with features and statements, and the cohort of their cases."""

    workspace: Workspace
    cohort: Cohort
    simulation: ModuleType

    def path(self, name: str) -> Path:
        return self.workspace.cohort(self.cohort.name) / name


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    """Small tensors gain nothing from threads, and the suite runs on all cores already."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def teacher_settings() -> TeacherSettings:
    """A teacher that trains in a moment."""
    return TEACHER.model_copy(update={"epochs": 4, "text_epochs": 10, "text_folds": 2})


@pytest.fixture
def distill_settings() -> DistillSettings:
    """A student that trains in a moment."""
    return DISTILL.model_copy(update={"epochs": 4, "pretrain_epochs": 3})


@pytest.fixture(scope="session")
def _drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trial]:
    """A cohort of these options, drawn and taught once; not to be changed."""

    @cache
    def draw(n: int, seed: int, clear: bool, taught: TeacherSettings | None, **options: object) -> Trial:
        world = simulation.make_world(0, n_features=12, n_words=24)
        if clear:
            world = simulation.make_world(1, n_features=24, n_words=24)
            world = replace(world, looks=3 * world.looks, stains=world.stains / 4)
            options = {"tiles": (90, 100), "named": 1.0, "error": 0.1, **options}
        options = {"tiles": (10, 30), "effect": 1.5, **options}
        workspace = Workspace(tmp_path_factory.mktemp("drawn"))
        cohort = simulation.save(workspace, simulation.simulate(world, n, seed, **options))
        if taught:
            train_teacher(workspace, cohort, taught)
        return Trial(workspace, cohort, simulation)

    return draw


@pytest.fixture
def make_trial(tmp_path: Path, _drawn: Callable[..., Trial]) -> Callable[..., Trial]:
    """``make_trial(n=60, seed=0, **options of simulate)``: a copy of its own.

    ``clear``: reports of what tiles show clearly; ``taught``: with a teacher trained by these settings.
    """

    def make(
        n: int = 60,
        seed: int = 0,
        folder: str = "workspace",
        clear: bool = False,
        taught: TeacherSettings | None = None,
        **options: object,
    ) -> Trial:
        drawn = _drawn(n, seed, clear, taught, **options)
        return replace(drawn, workspace=Workspace(shutil.copytree(drawn.workspace.root, tmp_path / folder)))

    return make
