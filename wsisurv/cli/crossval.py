"""``wsisurv crossval``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from wsisurv.cli.console import number, out, progress_bar, warn
from wsisurv.cli.fold_training import (
    CovariatesOption,
    EncoderOption,
    EpochsOption,
    FoldsOption,
    RepeatsOption,
    SplitsOption,
    TextEncoderOption,
    TogetherOption,
    fold_training,
    named_covariates,
    trained_settings,
    with_changes,
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
from wsisurv.settings import CrossvalSettings, parse_settings
from wsisurv.workspace import Workspace

if TYPE_CHECKING:
    from wsisurv.evaluation.account import Account

_DEFAULTS = CrossvalSettings()


def crossval(
    cohort: CohortOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
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
    """The honest account: train all anew in each fold, and compare with what the clinic knows without slides.

    Reads cohorts/NAME/ (cohort.csv, and the settings of its teacher and student where they are trained), features/ and
    reports/. Writes splits.jsonl, crossval/ and evaluation/metrics.json into cohorts/NAME/.
    """
    from wsisurv.evaluation.crossval import crossval as run

    place = Workspace(workspace)
    name = place.the_cohort(cohort)
    chosen, _ = read_cohort(place.cohort(name))
    named = named_covariates(chosen, covariates)
    settings = parse_settings(CrossvalSettings, {"folds": folds, "repeats": repeats, "covariates": named, "seed": seed})
    teacher, student = trained_settings(place.cohort(name))
    teacher = with_changes(teacher, encoder=encoder, text_encoder=text_encoder, epochs=epochs)
    student = with_changes(student, epochs=epochs)
    training = fold_training(place, teacher, student, allow_random_weights=allow_random_weights, device=device)
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


def _print(account: "Account", covariates: tuple[str, ...]) -> None:
    labels = {
        "covariates": ", ".join(covariates),
        "mean_pool": "mean tile, Cox",
        "text": "report alone",
        "plain": "plain student",
        "distilled": "student",
        "teacher": "slides and report",
        "student_and_covariates": f"student + {', '.join(covariates)}",
        "text_and_covariates": f"report + {', '.join(covariates)}",
    }
    table = Table(
        title=f"Concordance within folds ({account.cases} cases, {account.events} events)",
        caption="AUC: cumulative/dynamic, mean over time",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("model", "concordance", "95 % interval", "Uno's", "AUC"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in account.models:
        interval = f"{number(row.low)} to {number(row.high)}"
        table.add_row(labels[row.model], number(row.concordance), interval, number(row.uno), number(row.auc))
    out.print(table)
    _print_calibration(account, labels)
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


def _print_calibration(account: "Account", labels: Mapping[str, str]) -> None:
    reference = next((row.brier_reference for row in account.models if row.brier_reference is not None), None)
    table = Table(
        title="Calibration",
        caption="slope: of a Cox regression on the log hazard; 1 is calibrated, below 1 too extreme. Brier: of "
        f"probabilities, over time; the cohort's own curve has {number(reference)}. D: p of D-calibration, small if "
        "they are wrong.",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("model", "slope", "Brier", "D"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in account.models:
        p = "–" if row.d_calibration_p is None else f"{row.d_calibration_p:.2g}"
        table.add_row(labels[row.model], number(row.calibration_slope), number(row.brier), p)
    out.print(table)
