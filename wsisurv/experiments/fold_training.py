"""What ``crossval`` and ``ablate`` share: options, and how a fold is trained."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wsisurv.cohort import Cohort
from wsisurv.engine.progress import Progress
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.header import read_header
from wsisurv.formats.models import model_format
from wsisurv.settings.base import parse_settings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.experiments.fold_job import Training


_Settings = TypeVar("_Settings", TeacherSettings, DistillSettings)


def named_covariates(cohort: Cohort, covariates: str | None) -> tuple[str, ...]:
    """Covariates separated by commas; all of the cohort's where the option was not given."""
    if covariates is None:
        return cohort.settings.covariates
    return tuple(word.strip() for word in covariates.split(",") if word.strip())


def trained_settings(folder: Path) -> tuple[TeacherSettings, DistillSettings]:
    """Settings that the cohort's teacher and student were trained with; the defaults where there are none yet.

    Raises:
        FormatError: a file is damaged.
    """
    teacher, student = TeacherSettings(), DistillSettings()
    if (folder / "guidance.h5").exists():
        teacher = parse_settings(
            TeacherSettings, read_header(folder / "guidance.h5", GUIDANCE, "train-teacher").settings
        )
    if (folder / "student.h5").exists():
        saved = read_header(folder / "student.h5", model_format("student"), "distill").settings
        student = parse_settings(DistillSettings, saved)
    return teacher, student


def with_changes(settings: _Settings, **named: Any) -> _Settings:
    """The settings with those replaced that are not None, validated anew.

    Raises:
        SettingsError: an unknown key or a value out of range.
    """
    changed = {name: value for name, value in named.items() if value is not None}
    return parse_settings(type(settings), {**settings.model_dump(), **changed})


def fold_training(
    place: Workspace,
    teacher: TeacherSettings,
    student: DistillSettings,
    *,
    allow_random_weights: bool,
    device: str,
    teachers_of: str | None = None,
) -> "Training":
    """Training of a fold; the seed of each repeat is its own.

    Args:
        place: the workspace.
        teacher: how the teacher is trained.
        student: how the student is distilled.
        allow_random_weights: train on features of an encoder that was never trained.
        device: ``auto``, ``cpu``, ``cuda`` …
        teachers_of: cohort folder whose folds of the same name have this very teacher already, to be copied from.
    """
    from wsisurv.experiments.fold_job import Training

    return Training(
        run=_runner(place, teacher, student, allow_random_weights, device, teachers_of),
        settings={"teacher": teacher.model_dump(mode="json"), "student": student.model_dump(mode="json")},
        encoder=teacher.encoder,
        text_encoder=teacher.text_encoder,
    )


def _runner(
    place: Workspace,
    teacher: TeacherSettings,
    student: DistillSettings,
    allow_random_weights: bool,
    device: str,
    teachers_of: str | None,
) -> Callable[[Cohort, int, Progress], tuple[str, ...]]:
    """Models of a fold are only a step on the way to its risks, which are what is kept or stale: so ``redo``."""
    from wsisurv.training.distill import distill
    from wsisurv.training.teacher import train_teacher

    def run(cohort: Cohort, repeat: int, progress: Progress) -> tuple[str, ...]:
        if teachers_of is not None:
            _copy_teacher(place.cohort(teachers_of) / Path(cohort.name).name, place.cohort(cohort.name))
        first = train_teacher(
            place,
            cohort,
            teacher.model_copy(update={"seed": teacher.seed + repeat}),
            allow_random_weights=allow_random_weights,
            redo=True,
            device=device,
            progress=lambda done, total, what: progress(done, 2 * total, what),
        )
        distill(
            place,
            cohort,
            student.model_copy(update={"seed": student.seed + repeat}),
            redo=True,
            device=device,
            progress=lambda done, total, what: progress(total + done, 2 * total, what),
        )
        return first.warnings  # those of distill repeat them, or judge the student by less than the account does

    return run


def _copy_teacher(source: Path, target: Path) -> None:
    """Put a fold's teacher where the training looks for one; it is kept there if it is the one that is asked for."""
    if all((source / name).exists() for name in ("teacher.h5", "guidance.h5")):
        target.mkdir(parents=True, exist_ok=True)
        for name in ("guidance.h5", "teacher.h5"):
            shutil.copyfile(source / name, target / name)
