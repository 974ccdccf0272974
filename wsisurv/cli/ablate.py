"""``wsisurv ablate``."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from wsisurv.cli.console import number, out, progress_bar, warn
from wsisurv.cli.fold_options import (
    CovariatesOption,
    EncoderOption,
    EpochsOption,
    FoldsOption,
    RepeatsOption,
    SplitsOption,
    TextEncoderOption,
    TogetherOption,
)
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    AllowRandomOption,
    CohortOption,
    DeviceOption,
    RedoOption,
    SeedOption,
    WorkspaceOption,
)
from wsisurv.cohort import read_cohort
from wsisurv.errors import SettingsError
from wsisurv.experiments.fold_training import fold_training, named_covariates, trained_settings, with_changes
from wsisurv.settings.base import parse_settings
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.workspace.paths import Workspace

if TYPE_CHECKING:
    from wsisurv.experiments.results import Difference

_DEFAULTS = CrossvalSettings()
_SWITCHES = (
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
    "teacher=concat",
    "teacher=cross-attention",
)
_WORDS = {"better": "better", "worse": "worse", "nothing": "no difference", "undecided": "can't tell"}


def ablate(
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    switch: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, a setting of the student, or of the teacher (teacher.NAME=VALUE where both have it); may "
            "be given again.",
            show_default="every switch of the method: " + ", ".join(_SWITCHES),
        ),
    ] = None,
    folds: FoldsOption = _DEFAULTS.folds,
    repeats: RepeatsOption = _DEFAULTS.repeats,
    splits: SplitsOption = None,
    covariates: CovariatesOption = None,
    encoder: EncoderOption = None,
    text_encoder: TextEncoderOption = None,
    epochs: EpochsOption = None,
    keep_together: TogetherOption = False,
    seed: SeedOption = _DEFAULTS.seed,
    device: DeviceOption = "auto",
    allow_random_weights: AllowRandomOption = False,
    redo: RedoOption = False,
) -> None:
    """Switch one thing at a time and compare the student with the default's, on the same folds and cases.

    Reads what crossval reads, and its finished folds. Writes crossval/, ablation/ and evaluation/ablation.json into
    cohorts/NAME/.
    """
    from wsisurv.experiments.ablation import ablate as run

    place = Workspace(workspace)
    name = place.the_cohort(cohort)
    chosen, _ = read_cohort(place.cohort(name))
    named = named_covariates(chosen, covariates)
    settings = parse_settings(CrossvalSettings, {"folds": folds, "repeats": repeats, "covariates": named, "seed": seed})
    teacher, student = trained_settings(place.cohort(name))
    teacher = with_changes(teacher, encoder=encoder, text_encoder=text_encoder, epochs=epochs)
    student = with_changes(student, epochs=epochs)
    train = partial(fold_training, place, allow_random_weights=allow_random_weights, device=device)
    variants = {}
    for word in switch or _SWITCHES:
        other_teacher, other_student = _switched(word, teacher, student)
        if (other_teacher, other_student) == (teacher, student):
            if switch:
                raise SettingsError(f"--switch {word}: that is how the default is already")
            continue
        same = f"{name}/crossval" if other_teacher == teacher else None
        variants[word] = train(other_teacher, other_student, teachers_of=same)
    with progress_bar("ablate") as progress:
        result = run(
            place,
            chosen,
            settings,
            train(teacher, student),
            variants,
            splits=splits,
            keep_together=keep_together,
            redo=redo,
            progress=progress,
        )
    for line in result.warnings:
        warn(line)
    table = Table(title="One switch at a time, on the same folds", title_justify="left")
    for heading in ("switch", "concordance", "difference", "95 % interval", "shows"):
        if heading in ("switch", "shows"):
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=heading == "95 % interval")
    default, *others = result.models
    table.add_row(default.model, number(default.concordance))
    for row, pair, found in zip(others, result.differences, result.findings, strict=True):
        table.add_row(
            row.model,
            number(row.concordance),
            number(pair.value, "+"),
            f"{number(pair.low, '+')} to {number(pair.high, '+')}",
            _WORDS[found.value],
        )
    out.print(table)
    if result.gains is not None:
        out.print(_gains(result.gains))
    out.print(f"ablate: {len(others)} switches · {result.path}", markup=False)


def _gains(gains: Sequence["Difference"]) -> Table:
    table = Table(
        title="What reports add: each student beside the plain one of the same settings", title_justify="left"
    )
    table.add_column("switch", overflow="fold")
    table.add_column("difference", justify="right")
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for gain in gains:
        table.add_row(gain.model, number(gain.value, "+"), f"{number(gain.low, '+')} to {number(gain.high, '+')}")
    return table


def _switched(word: str, teacher: TeacherSettings, student: DistillSettings) -> tuple[TeacherSettings, DistillSettings]:
    """Both settings with one of them changed."""
    name, equals, text = word.partition("=")
    if not equals or not name or not text or "/" in word:
        raise SettingsError(f"--switch {word!r}: NAME=VALUE is needed, e.g. mixup=none or teacher.repeats=1")
    value = tuple(text.split(",")) if name == "adjust_for" else text
    of_teacher = name in TeacherSettings.model_fields and name not in DistillSettings.model_fields
    if of_teacher or name.startswith("teacher."):
        return with_changes(teacher, **{name.removeprefix("teacher."): value}), student
    return teacher, with_changes(student, **{name: value})
