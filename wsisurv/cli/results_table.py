"""The results table of a cross-validation: discrimination, differences between models, calibration."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wsisurv.cli.console import figures_table, interval, number, out
from wsisurv.experiments.model_names import model_names
from wsisurv.experiments.verdict import p_equals

if TYPE_CHECKING:
    from wsisurv.experiments.endpoints import EndpointRow
    from wsisurv.experiments.likelihood_ratio import Added
    from wsisurv.experiments.results import ResultsTable


def print_results(results: "ResultsTable", covariates: tuple[str, ...], time_unit: str) -> None:
    """Print the tables: concordance, calibration, paired differences, and the likelihood-ratio tests.

    Args:
        results: the figures.
        covariates: names of the clinical columns.
        time_unit: of the cohort.
    """
    labels = model_names(covariates)
    table = figures_table(
        f"Concordance within folds ({results.cases} cases, {results.events} events"
        + (")" if results.competing is None else f", {results.competing} competing)"),
        *("model", "concordance", "95 % interval", "Uno's", "95 % interval", "AUC"),
        caption=f"Intervals: {results.interval}. Uno's: events before {_time(results.uno_until)} {time_unit}. "
        "AUC: cumulative/dynamic, mean over time.",
    )
    for row in results.models:
        harrell, uno = interval(row.low, row.high), interval(row.uno_low, row.uno_high)
        table.add_row(labels[row.model], number(row.concordance), harrell, number(row.uno), uno, number(row.auc))
    out.print(table)
    _print_calibration(results, labels)
    _print_landmarks(results, labels)
    table = figures_table("Paired differences", "concordance of", "difference", "SE", "95 % interval")
    for pair in results.differences:
        table.add_row(
            f"{labels[pair.model]} − {labels[pair.minus]}",
            number(pair.value, "+"),
            number(pair.se),
            interval(pair.low, pair.high, "+"),
        )
    out.print(table)
    for added in (results.added, results.added_by_report):
        if added is not None:
            _print_added(added, labels)


def print_endpoints(rows: "Sequence[EndpointRow]", cohort: str) -> None:
    """Print one table over the endpoints of a cohort, a row a model of each."""
    labels = model_names(())
    table = figures_table(
        f"Endpoints of {cohort}: concordance within the same folds",
        *("endpoint", "cases, events", "model", "concordance", "95 % interval", "Uno's", "slope"),
    )
    for row in rows:
        table.add_row(
            row.endpoint,
            f"{row.cases}, {row.events}",
            labels[row.model],
            number(row.concordance),
            interval(row.low, row.high),
            number(row.uno),
            number(row.calibration_slope),
        )
    out.print(table)


def _time(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _print_added(added: "Added", labels: Mapping[str, str]) -> None:
    out.print(
        f"What the {labels[added.model]} adds to {labels['covariates']}: log hazard ratio "
        f"{added.log_hazard_ratio:+.2f} per standard deviation; likelihood-ratio test, {p_equals(added.p)}",
    )


def _print_landmarks(results: "ResultsTable", labels: Mapping[str, str]) -> None:
    """Print concordances among the cases alive at each landmark."""
    for at in results.landmarks:
        table = figures_table(
            f"Among the {at.cases} cases alive at {at.years:g} years ({at.events} events after it)",
            *("model", "concordance", "95 % interval", "slope"),
        )
        for row in at.models:
            order = interval(row.low, row.high)
            table.add_row(labels[row.model], number(row.concordance), order, number(row.calibration_slope))
        out.print(table if at.models else f"No figures at {at.years:g} years: {at.reason}")


def _print_calibration(results: "ResultsTable", labels: Mapping[str, str]) -> None:
    reference = next((row.brier_reference for row in results.models if row.brier_reference is not None), None)
    table = figures_table(
        "Calibration",
        *("model", "slope", "Brier", "D-cal. p"),
        caption="Slope: of a Cox regression on the log hazard; 1 is calibrated, below 1 risks are too extreme. Brier: "
        f"integrated Brier score, lower is better; the cohort's own Kaplan-Meier curve has {number(reference)}. "
        "D-cal. p: p-value of D-calibration, small where predicted probabilities are wrong.",
    )
    for row in results.models:
        p = row.d_calibration_p
        table.add_row(
            labels[row.model],
            number(row.calibration_slope),
            number(row.brier),
            "< 0.001" if p is not None and p < 0.001 else number(p),
        )
    out.print(table)
