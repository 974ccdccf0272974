"""Switches of ``ablate``: one setting of the student or of the teacher, changed."""

from wsisurv.errors import SettingsError
from wsisurv.experiments.fold_settings import with_changes
from wsisurv.settings.training import DistillSettings, TeacherSettings

SWITCHES = (
    "aggregator=mean",
    "aggregator=selfattention",
    "text_branch=attention",
    "loss=discrete",
    "loss=ranking",
    "distill=mse",
    "distill=listwise-kl",
    "distill=hazard-kl",
    "distill=attention-kl",
    "distill=none",
    "pretrain_epochs=60",
    "guidance_weight=1",
    "feature_subspace=all",
    "filter=soft",
    "filter=hard",
    "merge_duplicates=true",
    "mixup=risk",
    "mixup=random",
    "ema=true",
    "tuning=none",
    "teacher=concat",
    "teacher=cross-attention",
)
"""Every switch of the method."""


def switched(
    switch: str, teacher: TeacherSettings, student: DistillSettings
) -> tuple[TeacherSettings, DistillSettings]:
    """Both settings with one of them changed.

    Args:
        switch: ``NAME=VALUE``, a setting of the student; or of the teacher, ``teacher.NAME=VALUE`` where both have it.
        teacher: the default's.
        student: the default's.

    Raises:
        SettingsError: no such switch, or a value out of range.
    """
    name, equals, text = switch.partition("=")
    if not equals or not name or not text or "/" in switch:
        raise SettingsError(f"--switch {switch!r}: NAME=VALUE is needed, e.g. mixup=none or teacher.repeats=1")
    value = tuple(text.split(",")) if name == "adjust_for" else text
    of_teacher = name in TeacherSettings.model_fields and name not in DistillSettings.model_fields
    if of_teacher or name.startswith("teacher."):
        return with_changes(teacher, {name.removeprefix("teacher."): value}), student
    return teacher, with_changes(student, {name: value})
