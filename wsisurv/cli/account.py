"""The account of a cross-validation as a person reads it: who is ahead, by how much, how right probabilities are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from wsisurv.cli.console import number, out

if TYPE_CHECKING:
    from wsisurv.experiments.results import Account, Added


def print_account(account: "Account", covariates: tuple[str, ...]) -> None:
    """Print the tables: concordance, calibration, paired differences, and the likelihood-ratio tests.

    Args:
        account: the figures.
        covariates: names of the clinical columns.
    """
    labels = {
        "covariates": ", ".join(covariates),
        "mean_pool": "mean tile, Cox",
        "text": "report alone",
        "plain": "plain student",
        "distilled": "student",
        "teacher": "slides and report",
        "student_and_covariates": f"student + {', '.join(covariates)}",
        "text_and_covariates": f"report + {', '.join(covariates)}",
        "full_text": "whole text of the report",
        "full_text_and_covariates": f"whole text + {', '.join(covariates)}",
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
    for added in (account.added, account.added_by_report):
        if added is not None:
            _print_added(added, labels)


def _print_added(added: "Added", labels: Mapping[str, str]) -> None:
    out.print(
        f"What the {labels[added.model]} adds to {labels['covariates']}: log hazard ratio "
        f"{added.log_hazard_ratio:+.2f} per standard deviation, likelihood-ratio p {added.p:.3g}",
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
