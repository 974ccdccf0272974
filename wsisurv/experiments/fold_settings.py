"""Settings of the folds: as the cohort's own teacher and student were trained, apart from what is asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from wsisurv.cohort import Cohort
from wsisurv.errors import CohortError, did_you_mean
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.header import read_header
from wsisurv.formats.models import model_format
from wsisurv.settings.base import parse_settings
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings

Changes = Mapping[str, Any]
"""Field of the settings → its value; None leaves it as it is."""
_Trained = TypeVar("_Trained", TeacherSettings, DistillSettings)


def teacher_settings(folder: Path, asked: TeacherSettings | Changes | None = None) -> TeacherSettings:
    """Settings of each fold's teacher.

    Args:
        folder: of the cohort, whose own teacher's settings are taken, or the defaults where it has none yet.
        asked: changes to those; or all settings.

    Raises:
        SettingsError: an unknown key or a value out of range.
        FormatError: guidance.h5 is damaged.
    """
    if isinstance(asked, TeacherSettings):
        return asked
    own, path = TeacherSettings(), folder / "guidance.h5"
    if path.exists():
        own = parse_settings(TeacherSettings, read_header(path, GUIDANCE, "train-teacher").settings)
    return with_changes(own, asked or {})


def student_settings(folder: Path, asked: DistillSettings | Changes | None = None) -> DistillSettings:
    """Settings of each fold's students; all else as ``teacher_settings``."""
    if isinstance(asked, DistillSettings):
        return asked
    own, path = DistillSettings(), folder / "student.h5"
    if path.exists():
        own = parse_settings(DistillSettings, read_header(path, model_format("student"), "distill").settings)
    return with_changes(own, asked or {})


def with_changes(settings: _Trained, changes: Changes) -> _Trained:
    """The settings with those replaced that are not None, validated anew.

    Raises:
        SettingsError: an unknown key or a value out of range.
    """
    changed = {name: value for name, value in changes.items() if value is not None}
    return parse_settings(type(settings), {**settings.model_dump(), **changed})


def named_covariates(cohort: Cohort, covariates: Sequence[str] | None) -> tuple[str, ...]:
    """The covariates that were named; all of the cohort's where None.

    Raises:
        CohortError: one that the cohort has not.
    """
    known = cohort.settings.covariates
    if covariates is None:
        return known
    if unknown := set(covariates) - set(known):
        raise CohortError(
            f"cohort {cohort.name} has no covariate {', '.join(sorted(unknown))}; it has "
            f"{', '.join(known) or 'none'}{did_you_mean(min(unknown), known) or '.'} Make it with "
            "them: `wsisurv cohort NAME --clinical FILE --covariates … --redo`."
        )
    return tuple(covariates)


def with_covariates(settings: CrossvalSettings, cohort: Cohort) -> CrossvalSettings:
    """The settings with their covariates named.

    Raises:
        CohortError: as ``named_covariates``.
    """
    return settings.model_copy(update={"covariates": named_covariates(cohort, settings.covariates)})
