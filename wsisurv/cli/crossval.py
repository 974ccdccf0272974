"""``wsisurv crossval``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table

from wsisurv.cli.console import number, out, progress_bar, warn
from wsisurv.cli.options import (
    DEFAULT_WORKSPACE,
    AllowRandomOption,
    CohortOption,
    DeviceOption,
    RedoOption,
    SeedOption,
    WorkspaceOption,
)
from wsisurv.cohort import Cohort, read_cohort
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.header import read_header
from wsisurv.formats.models import model_format
from wsisurv.settings import CrossvalSettings, DistillSettings, TeacherSettings, parse_settings
from wsisurv.workspace import Progress, Workspace

if TYPE_CHECKING:
    from wsisurv.evaluation.account import Account

_DEFAULTS = CrossvalSettings()
_Settings = TypeVar("_Settings", TeacherSettings, DistillSettings)


def crossval(
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cohort; sites are kept whole.")] = _DEFAULTS.folds,
    repeats: Annotated[int, typer.Option(min=1, help="How often the cohort is divided anew.")] = _DEFAULTS.repeats,
    splits: Annotated[
        Path | None,
        typer.Option(help="Your own folds: a splits.jsonl, or a folder in the style of SurvPath or PANTHER."),
    ] = None,
    covariates: Annotated[
        str | None,
        typer.Option(
            help="What to compare with, e.g. age,stage; all of the cohort's if not named.", show_default=False
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Folder of the features; the cohort's teacher's if not named.", show_default=False),
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Vectors of the statements, or tfidf; likewise.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes of teacher and student; likewise.", show_default=False)
    ] = None,
    keep_together: Annotated[
        bool, typer.Option("--keep-together", help="Put cases that share a slide, a report or tissue on one side.")
    ] = False,
    seed: SeedOption = _DEFAULTS.seed,
    device: DeviceOption = "auto",
    allow_random_weights: AllowRandomOption = False,
    redo: RedoOption = False,
) -> None:
    """The honest account: train all anew in each fold, and compare with what the clinic knows without slides.

    Reads cohorts/NAME/ (cohort.csv, and the settings of its teacher and student where they are trained), features/ and
    reports/. Writes splits.jsonl, crossval/ and evaluation/metrics.json into cohorts/NAME/.
    """
    from wsisurv.evaluation.crossval import crossval as run
    from wsisurv.evaluation.fold_job import Training

    place = Workspace(workspace)
    name = place.the_cohort(cohort)
    chosen, _ = read_cohort(place.cohort(name))
    named = chosen.settings.covariates
    if covariates is not None:
        named = tuple(word.strip() for word in covariates.split(",") if word.strip())
    settings = parse_settings(CrossvalSettings, {"folds": folds, "repeats": repeats, "covariates": named, "seed": seed})
    teacher, student = _trained_settings(place.cohort(name))
    teacher = _with(teacher, encoder=encoder, text_encoder=text_encoder, epochs=epochs)
    student = _with(student, epochs=epochs)
    training = Training(
        run=_trainer(place, teacher, student, allow_random_weights=allow_random_weights, device=device),
        settings={"teacher": teacher.model_dump(mode="json"), "student": student.model_dump(mode="json")},
        encoder=teacher.encoder,
        text_encoder=teacher.text_encoder,
    )
    with progress_bar("crossval") as progress:
        result = run(
            place,
            chosen,
            settings,
            training,
            splits=splits,
            keep_together=keep_together,
            redo=redo,
            progress=progress,
        )
    for line in result.warnings:
        warn(line)
    _print(result.account, named)
    for line in result.verdict:
        out.print(line, markup=False)
    kept = f", {result.kept} of them kept" if result.kept else ""
    out.print(f"crossval: {result.n_folds} folds{kept} · {result.metrics}", markup=False)


def _trained_settings(folder: Path) -> tuple[TeacherSettings, DistillSettings]:
    """Settings that the cohort's teacher and student were trained with; the defaults where there are none yet."""
    teacher, student = TeacherSettings(), DistillSettings()
    if (folder / "guidance.h5").exists():
        teacher = parse_settings(
            TeacherSettings, read_header(folder / "guidance.h5", GUIDANCE, "train-teacher").settings
        )
    if (folder / "student.h5").exists():
        saved = read_header(folder / "student.h5", model_format("student"), "distill").settings
        student = parse_settings(DistillSettings, saved)
    return teacher, student


def _with(settings: _Settings, **named: str | int | None) -> _Settings:
    """The settings with those replaced that were named, validated anew."""
    changed = {name: value for name, value in named.items() if value is not None}
    return parse_settings(type(settings), {**settings.model_dump(), **changed})


def _trainer(
    place: Workspace,
    teacher: TeacherSettings,
    student: DistillSettings,
    *,
    allow_random_weights: bool,
    device: str,
) -> Callable[[Cohort, int, Progress], tuple[str, ...]]:
    """Train teacher and students on the cases of a fold; the seed of each repeat is its own.

    Models of a fold are only a step on the way to its risks, which are what is kept or stale: so ``redo``.
    """
    from wsisurv.training.distill import distill
    from wsisurv.training.teacher import train_teacher

    def run(cohort: Cohort, repeat: int, progress: Progress) -> tuple[str, ...]:
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


def _print(account: "Account", covariates: tuple[str, ...]) -> None:
    labels = {
        "covariates": ", ".join(covariates),
        "mean_pool": "mean tile, Cox",
        "text": "report alone",
        "plain": "plain student",
        "distilled": "student",
        "teacher": "slides and report",
        "student_and_covariates": f"student + {', '.join(covariates)}",
    }
    table = Table(
        title=f"Concordance within folds ({account.cases} cases, {account.events} events)", title_justify="left"
    )
    for heading in ("model", "concordance", "95 % interval", "calibration slope"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in account.models:
        interval = f"{number(row.low)} to {number(row.high)}"
        table.add_row(labels[row.model], number(row.concordance), interval, number(row.calibration_slope))
    out.print(table)
    table = Table(title="Paired differences", title_justify="left")
    for heading in ("concordance of", "difference", "SE", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "concordance of" else "right")
    for pair in account.differences:
        table.add_row(
            f"{labels[pair.model]} − {labels[pair.minus]}",
            number(pair.value, "+"),
            number(pair.se),
            f"{number(pair.low, '+')} to {number(pair.high, '+')}",
        )
    out.print(table)
    if account.added is not None:
        out.print(
            f"What the {labels[account.added.model]} adds to {labels['covariates']}: log hazard ratio "
            f"{account.added.log_hazard_ratio:+.2f} per standard deviation, likelihood-ratio p {account.added.p:.3g}",
            markup=False,
        )
