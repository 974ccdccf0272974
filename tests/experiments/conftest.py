"""A small simulated workspace, and a training of folds that ends in a moment."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from wsisurv.cohort import Cohort
from wsisurv.engine.progress import Progress
from wsisurv.experiments.fold_job import Training
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.workspace.paths import Workspace

TEACHER = TeacherSettings(hidden=8, epochs=6, text_epochs=20, repeats=1, folds=2, text_folds=2)
STUDENT = DistillSettings(hidden=8, epochs=6, pretrain_epochs=3, members=2)


def _load() -> ModuleType:
    path = Path(__file__).parents[1] / "training" / "simulation.py"
    spec = importlib.util.spec_from_file_location("evaluation_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


simulation = _load()


@dataclass
class Study:
    """A workspace, its cohort, and a training of folds that notes what it was given."""

    workspace: Workspace
    cohort: Cohort
    settings: dict[str, object] = field(default_factory=lambda: {"teacher": {"epochs": TEACHER.epochs}})
    trained: list[Cohort] = field(default_factory=list)
    text_encoder: str = "hashing"

    def training(self) -> Training:
        from wsisurv.training.distill import distill
        from wsisurv.training.teacher import train_teacher

        def run(cohort: Cohort, repeat: int, progress: Progress) -> Sequence[str]:
            self.trained.append(cohort)
            teacher = TEACHER.model_copy(update={"seed": repeat, "text_encoder": self.text_encoder})
            warnings = train_teacher(self.workspace, cohort, teacher, redo=True, progress=progress).warnings
            student = STUDENT.model_copy(update={"seed": repeat})
            distill(self.workspace, cohort, student, redo=True, progress=progress)
            return warnings

        return Training(run, self.settings, "histomics", self.text_encoder)

    def path(self, name: str) -> Path:
        return self.workspace.cohort(self.cohort.name) / name


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Study]:
    """``make_study(n=60, seed=0, **options of simulate)``; age follows the truth, with gaps, stage is noise."""

    def make(n: int = 60, seed: int = 0, **options: object) -> Study:
        options = {"tiles": (8, 20), "effect": 1.5, **options}
        world = simulation.make_world(0, n_features=10, n_words=16)
        workspace = Workspace(tmp_path / "workspace")
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

    return make
