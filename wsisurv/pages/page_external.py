"""External validation on the page of a cohort: how a student did where it was not trained, beside its training."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wsisurv.experiments.external import AtHorizon, ExternalFigures
from wsisurv.experiments.external_record import ExternalRecord
from wsisurv.pages.gathering import External, Gathered
from wsisurv.pages.html import Cell, link, number, paragraph, picture, table, text, verdict
from wsisurv.survival.cox import Slope

_PICTURES = {
    "external_calibration": (
        "Predicted and observed survival of each risk group",
        "Dashed: as the student predicts it, by slope and baseline hazard of its training. Steps: Kaplan–Meier.",
    ),
    "external_groups": (
        "Kaplan–Meier curves by risk group with numbers at risk",
        "Risk groups by the cut-offs of the student's training.",
    ),
}


def external_section(seen: Gathered, missing: Mapping[str, str]) -> str:
    """Each external validation: verdict, figures here and at home, predicted and observed, risk groups, pictures."""
    parts = [paragraph(missing["external"], "missing")] if "external" in missing else []
    parts += [_one(one, seen.cohort.name) for one in seen.external]
    if not parts:
        parts.append(
            paragraph(
                "The student has not been judged on another cohort: `wsisurv evaluate SLIDES --student "
                "cohorts/NAME/student.h5 --cohort OTHER --clinical FILE`.",
                "missing",
            )
        )
    return "\n".join(parts)


def external_verdicts(seen: Gathered) -> str:
    """The verdict on the cohort itself, where it is the other one, for the top of its page."""
    own = [one.record for one in seen.external if one.record.cohort.get("name") == seen.cohort.name]
    return "\n".join(verdict(one.verdict) for one in own)


def _one(one: External, page_of: str) -> str:
    record, figures = one.record, one.record.external
    here, trained = str(record.cohort.get("name", "?")), record.student.get("cohort")
    home = str(trained.get("name", "?")) if isinstance(trained, Mapping) else "?"
    unit = str(record.cohort.get("time_unit", ""))
    notes = (
        "At home: cross-validated on its training cohort. Calibrated slope: of the log hazard as calibrated in "
        "training, 1 where the spread of risks is right. Cut-offs, slope and baseline hazard are those of training; "
        f"nothing that the student's numbers pass through was fitted here. Intervals here: {figures.interval}."
        + (f" Uno's: of events before {figures.uno_until:g} {unit}." if figures.uno_until is not None else "")
    )
    folder = f"../../{here}/evaluation/" if here != page_of else ""
    pictures = "".join(
        picture(
            one.svg[name],
            "svg+xml",
            alt,
            f"{escape(caption)} ({link(f'{folder}{name}.svg', 'SVG')}, {link(f'{folder}{name}.png', 'PNG')})",
        )
        for name, (alt, caption) in _PICTURES.items()
        if name in one.svg
    )
    return "\n".join(
        (
            f"<h3>{escape(here)}, by the student of {escape(home)} ({escape(str(record.student.get('id', '?')))})</h3>",
            verdict(record.verdict),
            *(paragraph(f"Warning: {line}", "missing") for line in record.warnings),
            table(("figure", "here", "at home"), _figures(record)),
            paragraph(notes, "note"),
            table(("years", "predicted", "observed", "95 % interval", "followed"), map(_horizon, figures.at_years)),
            paragraph("Share of the cases with the event by then.", "note"),
            table(("group", "cases", "events", f"median ({unit})"), _groups(figures)),
            f'<div class="pair">{pictures}</div>',
        )
    )


def _figures(record: ExternalRecord) -> list[Sequence[Cell]]:
    figures, home = record.external, record.own or {}
    order = figures.concordance

    def at_home(name: str) -> Cell:
        value = home.get(name)
        return number(float(value) if isinstance(value, int | float) else None)

    rows = [
        (text("cases, events"), _words(f"{figures.cases}, {figures.events}"), _trained(record)),
        (text("concordance"), number(order.value), at_home("concordance")),
        (text("95 % interval"), _range(order.low, order.high), _range(home.get("low"), home.get("high"))),
        (text("Uno's concordance"), number(figures.uno), at_home("uno")),
        (
            text("95 % interval"),
            _range(figures.uno_low, figures.uno_high),
            _range(home.get("uno_low"), home.get("uno_high")),
        ),
        (text("AUC, mean over time"), number(figures.auc), at_home("auc")),
        (text("slope of the log hazard"), _slope(figures.slope), at_home("calibration_slope")),
        (text("calibrated slope"), _slope(figures.calibrated_slope), _words("–")),
        (text("Brier score, over time"), number(figures.brier), at_home("brier")),
        (text("of the cohort's own curve"), number(figures.brier_reference), at_home("brier_reference")),
        (text("D-calibration p"), number(figures.d_calibration_p), at_home("d_calibration_p")),
    ]
    if (found := figures.observed_expected) is not None:
        told = f"{found.observed} / {found.expected:.1f} = {found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})"
        rows.append((text("events / expected"), _words(told), _words("–")))
    if (clinic := record.clinic) is not None and clinic.concordance is not None and clinic.difference is not None:
        names, less = ", ".join(clinic.covariates), clinic.difference
        rows.append((text(f"concordance of {names}"), number(clinic.concordance.value), _words("–")))
        told = f"{less.value:+.3f} ({less.low:+.3f} to {less.high:+.3f})"
        rows.append((text(f"student − {names}"), _words(told), _words("–")))
    return list(rows)


def _trained(record: ExternalRecord) -> Cell:
    trained = record.student.get("cohort")
    counts = [trained.get(name) for name in ("cases", "events")] if isinstance(trained, Mapping) else []
    return _words(", ".join("–" if count is None else str(count) for count in counts) or "–")


def _words(words: str) -> Cell:
    return Cell(escape(words.replace("-", "−")), number=True)


def _range(low: Any, high: Any) -> Cell:
    known = isinstance(low, int | float) and isinstance(high, int | float)
    return _words(f"{low:.3f} to {high:.3f}" if known else "–")


def _slope(slope: Slope | None) -> Cell:
    return _words("–" if slope is None else f"{slope.value:.2f} ± {slope.se:.2f}")


def _horizon(one: AtHorizon) -> Sequence[Cell]:
    said = text(one.reason) if not one.given else _range(one.low, one.high)
    return text(f"{one.years:g}"), number(one.predicted), number(one.observed), said, number(one.at_risk, "d")


def _groups(figures: ExternalFigures) -> list[Sequence[Cell]]:
    return [
        (text(row.name), number(row.cases, "d"), number(row.events, "d"), number(row.median, "g"))
        for row in figures.groups
    ]
