"""The sections of the report page: what each says, and which command makes it where it is not there yet."""

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from wsisurv.errors import MetricError
from wsisurv.experiments.model_names import model_names
from wsisurv.experiments.risk_groups import RISK_GROUPS, Group, risk_groups_table
from wsisurv.pages.gathering import Gathered
from wsisurv.pages.html import Cell, Section, link, number, pairs, paragraph, picture, table, text, verdict
from wsisurv.pages.page_cases import cases_section, heatmaps_section
from wsisurv.pages.page_external import external_section, external_verdicts
from wsisurv.pages.predicted import STUDENT, Predicted, horizon_name
from wsisurv.pages.subgroups import Subgroup
from wsisurv.survival.calibration import brier, d_calibration
from wsisurv.survival.kaplan_meier import logrank

_SOME = 30
"""Names that a list shows before it says how many more."""


def top(seen: Gathered) -> str:
    """What stands above the sections: counts, and the verdict."""
    audit, unit = seen.audit, seen.cohort.settings.time_unit
    counts = f"{audit.cases} cases, {audit.events} events, {audit.slides} slides, {audit.cases_with_report} reports."
    if audit.median_time is not None:
        counts += f" Median follow-up {audit.median_time:g} {unit}."
    parts = [paragraph(counts), *(paragraph(f"Warning: {line}.", "missing") for line in seen.warnings)]
    if seen.metrics is not None:
        parts.append(verdict(seen.metrics.verdict))
        parts += [paragraph(f"Warning: {line}", "missing") for line in seen.metrics.warnings]
    elsewhere = external_verdicts(seen)
    if elsewhere:  # then it is here to judge a student of another cohort, and needs no cross-validation of its own
        return "\n".join((*parts, elsewhere))
    parts += [_missing(seen.missing, part) for part in ("crossval", "folds") if part in seen.missing]
    return "\n".join(parts)


def sections(
    seen: Gathered,
    svg: Mapping[str, bytes],
    missing: Mapping[str, str],
    parts: Sequence[Subgroup],
    pictures: Mapping[str, Sequence[bytes]],
    command: Sequence[str],
) -> list[Section]:
    """All sections in order.

    Args:
        seen: all that is known.
        svg: figures by name.
        missing: part or figure → why it is not there.
        parts: subgroups.
        pictures: case → its heatmaps as small JPEGs.
        command: that is making the page.
    """
    return [
        Section("audit", "Audit", _audit(seen)),
        Section("concordance", "Concordance", _concordance(seen, svg, missing)),
        Section("survival", "Survival by risk group", _survival(seen, svg, missing)),
        Section("calibration", "Calibration", _calibration(seen, svg, missing)),
        Section("external", "External validation", external_section(seen, missing)),
        Section("decision", "Decision curve", _decision(seen, svg, missing)),
        Section("covariates", "Risk and the clinic", _covariates(seen, svg, missing)),
        Section("subgroups", "Subgroups", _subgroups(seen, parts, missing)),
        Section("training", "Training", _training(seen, svg, missing)),
        Section("cases", "Cases", cases_section(seen, pictures)),
        Section("heatmaps", "Heatmaps", heatmaps_section(seen, pictures, missing)),
        Section("made", "How it was made", _made(seen, missing, command)),
    ]


def _missing(missing: Mapping[str, str], part: str) -> str:
    return paragraph(missing[part], "missing") if part in missing else ""


def _figure(svg: Mapping[str, bytes], missing: Mapping[str, str], name: str, alt: str, caption: str) -> str:
    if name not in svg:
        return _missing(missing, name)
    files = f"{link(f'{name}.svg', 'SVG')}, {link(f'{name}.png', 'PNG')}"
    return picture(svg[name], "svg+xml", alt, f"{escape(caption)} ({files})")


def _source(seen: Gathered) -> str:
    return paragraph(f"Predictions: {seen.predicted.source}.", "note") if seen.predicted else ""


def _listed(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SOME} more" if len(names) > _SOME else ""
    return f"<details><summary>{len(names)} {what}</summary>{paragraph(', '.join(names[:_SOME]) + more)}</details>"


def _audit(seen: Gathered) -> str:
    audit = seen.audit
    tested = seen.metrics.cohort.get("tested") if seen.metrics else None
    rows: list[tuple[str, int | None, int | None]] = [
        ("rows of the clinical table", audit.clinical_rows, None),
        ("with a usable time and event", audit.clinical_cases, audit.clinical_events),
        ("of these with a slide: the cohort", audit.cases, audit.events),
        ("of these with a report", audit.cases_with_report, None),
        ("of these with several slides", audit.cases_of_several_slides, None),
    ]
    if isinstance(tested, int) and seen.metrics is not None:
        events = seen.metrics.cohort.get("tested_events")
        rows.append(("tested in cross-validation", tested, events if isinstance(events, int) else None))
    flow = table(("", "cases", "events"), [(text(name), number(n, "d"), number(e, "d")) for name, n, e in rows])
    sites = table(("site", "cases"), [(text(site), number(n, "d")) for site, n in audit.sites.items()])
    dropped = [f"row {drop.row} ({drop.case_id}): {drop.reason}" for drop in audit.dropped]
    return "\n".join(
        part
        for part in (
            flow,
            sites if audit.sites else "",
            _listed(dropped, "rows left out, and why"),
            _listed(audit.cases_without_slide, "cases without a slide"),
            _listed(audit.slides_without_case, "slides without a case"),
            _listed(audit.reports_without_case, "reports without a case"),
        )
        if part
    )


def _concordance(seen: Gathered, svg: Mapping[str, bytes], missing: Mapping[str, str]) -> str:
    metrics = seen.metrics
    if metrics is None:
        return _missing(missing, "crossval")
    names = model_names(metrics.covariates)
    interval = "95 % interval"
    head = ("model", "concordance", interval, "Uno's", interval, "AUC", "slope", "Brier", "reference", "D-cal. p")
    rows = [
        (
            text(names.get(row.model, row.model)),
            number(row.concordance),
            _interval(row.low, row.high),
            number(row.uno),
            _interval(row.uno_low, row.uno_high),
            number(row.auc),
            number(row.calibration_slope, ".2f"),
            number(row.brier),
            number(row.brier_reference),
            number(row.d_calibration_p, ".2g"),
        )
        for row in metrics.models
    ]
    figure = _figure(
        svg,
        missing,
        "concordance",
        "Concordance of each model with its interval",
        f"Harrell's concordance within folds, mean over repeats, with 95 % intervals ({metrics.interval}). 0.5 is "
        "chance.",
    )
    difference = _figure(
        svg,
        missing,
        "differences",
        "Paired differences of concordance",
        "Paired on the same folds and cases; the interval is 1.96 standard errors, the larger of those of the "
        f"{metrics.interval} and over folds.",
    )
    added = ""
    if metrics.added is not None:
        one = metrics.added
        added = paragraph(
            f"What the {names.get(one.model, one.model)} adds to {names['covariates']}: log hazard ratio "
            f"{one.log_hazard_ratio:+.2f} per standard deviation, likelihood-ratio p {one.p:.3g}."
        )
    truncated = "" if metrics.uno_until is None else f" of events before {metrics.uno_until:g} {metrics.time_unit}"
    notes = (
        f"Intervals: {metrics.interval}. Uno's: concordance{truncated}, pairs weighted for censoring. "
        "Slope: of a Cox regression on the log hazard; 1 is calibrated, below 1 too extreme, which the order does not "
        "mind and probabilities of survival are corrected for (see Calibration). Brier score: lower is "
        "better, the reference knows no case from another. AUC: cumulative/dynamic, mean over time. D-calibration: a "
        "small p speaks against the probabilities."
    )
    return "\n".join((figure, table(head, rows), paragraph(notes, "note"), difference, added))


def _interval(low: float | None, high: float | None) -> Cell:
    return Cell("–" if low is None or high is None else f"{low:.2f} to {high:.2f}", number=True, sort=low)


def _survival(seen: Gathered, svg: Mapping[str, bytes], missing: Mapping[str, str]) -> str:
    predicted = seen.predicted
    if predicted is None:
        return _missing(missing, "predicted")
    word = np.array(predicted.group)
    groups = {name: Group(predicted.time[word == name], predicted.event[word == name]) for name in RISK_GROUPS}
    rows = [
        (text(row.name), number(row.cases, "d"), number(row.events, "d"), number(row.median, "g"))
        for row in risk_groups_table(groups)
    ]
    try:
        test = logrank(group=word, time=predicted.time, event=predicted.event)
        said = f"Log-rank test: chi-squared {test.statistic:.2f} on {test.degrees_of_freedom} d.f., p = {test.p:.2g}."
    except MetricError as error:
        said = f"No log-rank test: {error}."
    figure = _figure(
        svg,
        missing,
        "survival",
        "Kaplan–Meier curves by risk group with numbers at risk",
        "Kaplan–Meier curves with 95 % bands and numbers at risk. The groups' limits were fixed on training cases, "
        "never on the cases shown.",
    )
    unit = seen.cohort.settings.time_unit
    return "\n".join(
        (_source(seen), figure, table(("group", "cases", "events", f"median ({unit})"), rows), paragraph(said))
    )


def _calibration(seen: Gathered, svg: Mapping[str, bytes], missing: Mapping[str, str]) -> str:
    predicted = seen.predicted
    if predicted is None:
        return _missing(missing, "predicted")
    if STUDENT not in predicted.survival:
        return paragraph(f"No calibration: {predicted.without}.", "missing")
    unit = seen.cohort.settings.time_unit
    figures = [
        _figure(
            svg,
            missing,
            f"calibration-{place + 1}",
            f"Predicted against observed survival at {horizon_name(horizon, unit)}",
            "Each point is a group of cases of like prediction; its bar is the 95 % interval of what was observed.",
        )
        for place, horizon in enumerate(predicted.horizons.tolist())
    ]
    note = paragraph(
        "Judged here are probabilities of survival, not log hazards, which by themselves may be too extreme (a slope "
        f"below 1): {predicted.calibrated}.",
        "note",
    )
    return "\n".join((_source(seen), note, _pair(figures), *(paragraph(line) for line in _right(predicted, unit))))


def _right(predicted: Predicted, unit: str) -> list[str]:
    """Brier scores and D-calibration of the student in words."""
    lines = []
    try:
        score = brier(
            survival=predicted.survival[STUDENT],
            horizons=predicted.horizons,
            time=predicted.time,
            event=predicted.event,
        )
        told = ", ".join(
            f"{value:.3f} at {horizon_name(horizon, unit)} ({reference:.3f} without any model)"
            for horizon, value, reference in zip(
                score.horizons.tolist(), score.score.tolist(), score.reference.tolist(), strict=True
            )
        )
        lines.append(f"Brier score of the student: {told}. Lower is better.")
    except MetricError as error:
        lines.append(f"No Brier score: {error}.")
    if predicted.own_survival is not None:
        try:
            found = d_calibration(survival=predicted.own_survival, event=predicted.event)
            lines.append(
                f"D-calibration: p = {found.p:.2g}. A small p speaks against the probabilities; where most cases are "
                "censored, a large one says little."
            )
        except MetricError as error:
            lines.append(f"No D-calibration: {error}.")
    return lines


def _pair(figures: Sequence[str]) -> str:
    return f'<div class="pair">{"".join(figures)}</div>'


def _decision(seen: Gathered, svg: Mapping[str, bytes], missing: Mapping[str, str]) -> str:
    predicted = seen.predicted
    if predicted is None:
        return _missing(missing, "predicted")
    if not predicted.survival:
        return paragraph(f"No decision curve: {predicted.without}.", "missing")
    unit = seen.cohort.settings.time_unit
    figures = [
        _figure(
            svg,
            missing,
            f"decision-{place + 1}",
            f"Net benefit over the threshold at {horizon_name(horizon, unit)}",
            "Net benefit of acting on cases whose predicted risk reaches the threshold, in true positives a case. A "
            "model is of use where its line is above both those of treating all and of treating none.",
        )
        for place, horizon in enumerate(predicted.horizons.tolist())
    ]
    return "\n".join((_source(seen), _pair(figures)))


def _covariates(seen: Gathered, svg: Mapping[str, bytes], missing: Mapping[str, str]) -> str:
    if seen.predicted is None:
        return _missing(missing, "predicted")
    if not seen.cohort.settings.covariates:
        return paragraph(
            "The cohort has no covariates: name columns of the clinical table, e.g. `wsisurv train-teacher --clinical "
            "FILE --covariates age,stage`.",
            "missing",
        )
    caption = "A point a case; boxes are quartiles. What follows age and stage closely tells the clinic little new."
    name = "risk-against-covariates"
    return _source(seen) + _figure(svg, missing, name, "Risk percentile against each covariate", caption)


def _subgroups(seen: Gathered, parts: Sequence[Subgroup], missing: Mapping[str, str]) -> str:
    if not parts:
        return _missing(missing, "predicted")
    rows = [
        (
            text(part.by if part.by != "all" else ""),
            text(part.name),
            number(part.cases, "d"),
            number(part.events, "d"),
            number(part.concordance),
            _interval(part.low, part.high),
        )
        for part in parts
    ]
    note = (
        "Concordance of the student from pairs of cases within one fold, with 95 % bootstrap intervals, by hospital "
        "where more than five are in the part and whole in the folds, else by case. A "
        "dash: fewer than five events, or no comparable pair. With many subgroups some differ by chance alone."
    )
    head = ("by", "part", "cases", "events", "concordance", "95 % interval")
    return _source(seen) + table(head, rows) + paragraph(note, "note")


def _training(seen: Gathered, svg: Mapping[str, bytes], missing: Mapping[str, str]) -> str:
    caption = "Loss of every fit over its epochs, as written in history.jsonl; of each fit the latest."
    parts = [_missing(missing, "training"), _figure(svg, missing, "training", "Loss in training", caption)]
    if not seen.training and "training" not in missing:
        parts.append(
            paragraph("No training is recorded. `wsisurv train-teacher` and `wsisurv distill` write it.", "missing")
        )
    shown = {
        "cases": seen.result.get("n_cases"),
        "events": seen.result.get("n_events"),
        "cases whose report guided the student": seen.result.get("n_reports"),
        "gate (0: the reports are not listened to, 1: fully)": _number(seen.result.get("gate")),
        "concordance out of fold, student": _number(seen.result.get("concordance")),
        "concordance out of fold, without the teacher": _number(seen.result.get("plain_concordance")),
    }
    known = {name: value for name, value in shown.items() if value is not None}
    if known:
        parts.append(paragraph("The cohort's own student, as `wsisurv distill` printed it:") + pairs(known))
    if "student" in missing:
        parts.append(_missing(missing, "student"))
    return "\n".join(part for part in parts if part)


def _number(value: Any) -> str | None:
    return f"{value:.3f}" if isinstance(value, int | float) else None


def _made(seen: Gathered, missing: Mapping[str, str], command: Sequence[str]) -> str:
    latest = {one.words: one for one in seen.commands}  # of a command that was run again, the last time counts
    told = [one for one in seen.commands if one is latest[one.words] and "report" not in one.words[1:2]]
    lines = [
        f"$ {shlex.join(one.words)}" + (f"   # ended with {one.exit_code}" if one.exit_code else "") for one in told
    ]
    lines += [f"$ {shlex.join(command)}"] if command else []
    parts = ["<h3>Commands</h3>", _missing(missing, "commands")]
    if len(lines) <= 1:
        parts.append(paragraph("No earlier command is recorded in this workspace; the settings below tell the same."))
    parts.append(f"<pre>{escape(chr(10).join(lines))}</pre>")
    parts.append("<h3>Settings</h3>")
    parts += [_missing(missing, step) for step in ("statements", "train-teacher", "distill")]
    for step, settings in seen.settings.items():
        flat = {name: _value(value) for name, value in settings.items()}
        parts.append(f"<details><summary>{escape(step)}</summary>{pairs(flat)}</details>")
    parts += ["<h3>Versions</h3>", pairs(seen.versions)]
    if seen.metrics is not None and dict(seen.metrics.versions) != dict(seen.versions):
        parts += [paragraph("Versions by which the cross-validation was run:"), pairs(seen.metrics.versions)]
    return "\n".join(part for part in parts if part)


def _value(value: Any) -> str:
    return "–" if value is None else str(value)
