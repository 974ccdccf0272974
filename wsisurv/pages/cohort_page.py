"""The page of a cohort: its figures drawn and written, its template filled, one file that stands alone."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsisurv.errors import MetricError
from wsisurv.experiments.model_names import EXPLAINED, SELECTED, model_names
from wsisurv.experiments.risk_groups import group_gray_test, risk_groups_table
from wsisurv.formats.commands import Command
from wsisurv.pages.answer import make_answer
from wsisurv.pages.cohort_cases import case_lines, extreme_cases, shown_map
from wsisurv.pages.cohort_figures import CohortFigures, draw_cohort, groups_of, labels
from wsisurv.pages.crossval_figures import CrossvalFigures
from wsisurv.pages.fairness import contrasts
from wsisurv.pages.flow_figure import FLOW, flow_figure, participant_flow
from wsisurv.pages.gathering import Gathered, gather
from wsisurv.pages.hospitals import groups_by_hospital
from wsisurv.pages.numbers import number
from wsisurv.pages.predicted import STUDENT, CasePredictions, horizon_name
from wsisurv.pages.proportional import proportional_figure, proportional_lines, proportional_words
from wsisurv.pages.rendering import write_page
from wsisurv.pages.report_figures import ForestRow, forest
from wsisurv.pages.subgroups import Subgroup, subgroups
from wsisurv.pages.tables import FOLDER as TABLES
from wsisurv.pages.tables import write_tables
from wsisurv.pages.tripod import tripod_rows
from wsisurv.pages.tripod_facts import TripodFacts
from wsisurv.pages.tripod_files import write_tripod
from wsisurv.survival.calibration import Brier, brier, d_calibration
from wsisurv.survival.competing import CompetingBrier, competing_brier
from wsisurv.survival.kaplan_meier import logrank
from wsisurv.survival.planning import StudyPlan, covariate_parameters, plan_study
from wsisurv.workspace.ledger import exclusive
from wsisurv.workspace.paths import Workspace

PAGE = "index.html"
_TESTED = {"cases": "tested", "events": "tested_events"}


@dataclass(frozen=True)
class ReportResult:
    """What came out.

    Attributes:
        page: the file.
        figures: PNG, SVG and PDF files beside it.
        tables: CSV and LaTeX files of all its tables, in the folder ``tables`` beside it.
        missing: part of the page → why it is not there.
        differs: parts of another student or other settings than the rest, a line each.
        pictures: cases whose heatmap is inside the page.
        tripod: files of TRIPOD+AI, where they were asked for.
    """

    page: Path
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    missing: Mapping[str, str]
    differs: Sequence[str]
    pictures: int
    tripod: tuple[Path, ...] = ()


def write_report(
    workspace: Workspace, name: str, *, n_pictures: int = 40, tripod: bool = False, command: Sequence[str] = ()
) -> ReportResult:
    """Write evaluation/index.html of a cohort and its figures; the same inputs give the same bytes.

    What is not there yet is listed on the page with the command that makes it.

    Args:
        workspace: holds the cohort.
        name: of the cohort.
        n_pictures: cases whose heatmap is put into the page, half of highest and half of lowest risk.
        tripod: whether tripod.html, tripod.md and, with python-docx, tripod.docx are written too.
        command: that is running, for the list of commands.

    Raises:
        MissingArtifactError, FormatError: there is no such cohort, or its own files are damaged.
        StorageError: no room or no permission.

    Example:
        >>> import wsisurv
        >>> wsisurv.report(wsisurv.Workspace(Path("workspace")), "crc").page  # doctest: +SKIP
    """
    folder = workspace.cohort(name) / "evaluation"
    with exclusive(workspace, f"report/{name}"):  # of two at once each writes all of its page and figures
        return _write(workspace, name, folder, n_pictures, tripod, command)


def _write(
    workspace: Workspace, name: str, folder: Path, n_pictures: int, tripod: bool, command: Sequence[str]
) -> ReportResult:
    seen = gather(workspace, name)
    figures = draw_cohort(seen, folder)
    maps = [
        shown_map(workspace.cohort(name) / "heatmaps" / case_id, seen.maps[case_id])
        for case_id in extreme_cases(seen, n_pictures)
    ]
    judging = seen.metrics or seen.reports
    tested = {name: _count((judging.cohort if judging else {}).get(key)) for name, key in _TESTED.items()}
    judged = _judged(seen)
    flow = participant_flow(seen.audit, tested=tested, trained=seen.result)
    plan = _plan(seen)
    figures.draw(FLOW, lambda path: flow_figure(path, flow))
    if lines := judged["proportional"]:
        unit = seen.cohort.settings.time_unit
        figures.draw("proportional-hazards", lambda path: proportional_figure(path, lines, time_unit=unit))
    _draw_subgroups(figures, judged["subgroups"])
    unread = {f"heatmap of {shown.map.case_id}": "; ".join(shown.problems) for shown in maps if shown.problems}
    missing = {**seen.missing, **figures.missing, **unread}
    page = write_page(
        folder / PAGE,
        "cohort.html",
        seen=seen,
        missing=missing,
        figures=figures.svg,
        names=labels(seen),
        explained=EXPLAINED,
        reports_names=model_names(seen.reports.covariates if seen.reports else ()),
        why_not=list(dict.fromkeys(seen.missing.values())),
        dropped=[f"row {drop.row} ({drop.case_id}): {drop.reason}" for drop in seen.audit.dropped],
        tested=tested,
        cases=case_lines(seen, {shown.map.case_id for shown in maps}),
        filled=tuple(
            name
            for name in seen.cohort.settings.covariates
            if any(case.covariates.get(name) for case in seen.cohort.cases)
        ),
        maps=maps,
        plan=plan,
        outcome=_outcome(seen),
        links=_links(workspace, folder),
        warnings=_warnings(seen, by_hospital.warning if (by_hospital := judged["by_hospital"]) else ""),
        verdicts=_verdicts(seen),
        answer=make_answer(seen, plan, judged["subgroups"], judged["d_calibration"]),
        trained=_trained(seen.result),
        commands=_commands(seen, command),
        failed=_failed(seen),
        **judged,
    )
    written = [folder / f"{figure}.{ending}" for figure in figures.svg for ending in ("png", "svg", "pdf")]
    tables = write_tables(folder / TABLES, page)
    checklist = []
    if tripod:
        facts = TripodFacts(seen, flow, plan, judged["subgroups"], judged["contrasts"], judged["proportional_words"])
        checklist = write_tripod(folder, name, tripod_rows(facts), figures.svg[FLOW])
    return ReportResult(
        folder / PAGE, tuple(written), tuple(tables), missing, seen.differs, len(maps), tuple(checklist)
    )


def _draw_subgroups(figures: CohortFigures, rows: Sequence[Subgroup]) -> None:
    known = [
        ForestRow(f"{row.by}: {row.name}" if row.by != "all" else row.name, row.concordance, row.low, row.high)
        for row in rows
        if row.concordance is not None and row.low is not None and row.high is not None
    ]
    if len(known) > 1:
        title, label = "Concordance by subgroup", "Concordance within folds"
        figures.draw("subgroups", lambda path: forest(path, known, title=title, label=label, none_at=0.5))


def _plan(seen: Gathered) -> StudyPlan | None:
    """What so many cases and events can tell; None of a cohort without events."""
    cases = seen.cohort.cases
    try:
        return plan_study(
            cases=len(cases), events=sum(case.event for case in cases), covariates=covariate_parameters(cases)
        )
    except MetricError:
        return None


def _judged(seen: Gathered) -> dict[str, Any]:
    """What is computed from the predictions, and of each test that can't be done why."""
    predicted, unit, without = seen.predicted, seen.cohort.settings.time_unit, dict[str, str]()
    found: dict[str, Any] = {
        "proportional": (),
        "proportional_words": (),
        "logrank": None,
        "gray": None,
        "brier": (),
        "d_calibration": None,
        "without": without,
    }
    if predicted is None:
        return {**found, "groups": (), "by_hospital": None, "horizons": (), "subgroups": (), "contrasts": ()}
    try:
        rows = predicted.familiar
        time, event, entry = predicted.follow_up(rows)
        found["logrank"] = logrank(group=np.array(predicted.group)[rows], time=time, event=event, entry=entry)
    except MetricError as error:
        without["logrank"] = str(error)
    groups = groups_of(predicted)
    if predicted.cause is not None:
        try:
            found["gray"] = group_gray_test(groups)
        except MetricError as error:
            without["gray"] = str(error)
    try:
        lines = found["proportional"] = proportional_lines(predicted)
        found["proportional_words"] = proportional_words(lines)
    except MetricError as error:
        without["proportional"] = str(error)
    if STUDENT in predicted.survival:
        try:
            found["brier"] = _brier(predicted, unit)
        except MetricError as error:
            without["brier"] = str(error)
    if predicted.own_survival is not None and STUDENT in predicted.survival:
        own, before = predicted.own_survival
        try:
            n_bins = max(2, min(10, len(own) // 5))  # as crossval has it
            found["d_calibration"] = d_calibration(survival=own, before=before, event=predicted.event, n_bins=n_bins).p
        except MetricError as error:
            without["d_calibration"] = str(error)
    return {
        **found,
        "groups": risk_groups_table(groups),
        "by_hospital": groups_by_hospital(predicted),
        "horizons": [horizon_name(horizon, unit) for horizon in predicted.horizons.tolist()],
        "subgroups": _as_cross_validated(subgroups(predicted), seen.metrics),
        "contrasts": contrasts(predicted),
    }


def _as_cross_validated(rows: tuple[Subgroup, ...], metrics: CrossvalFigures | None) -> tuple[Subgroup, ...]:
    """The first row, of all cases, with crossval's own interval: other draws would give another third digit."""
    own = metrics.row(SELECTED) if metrics else None
    if own is None or own.concordance is None or rows[0].concordance is None:
        return rows
    if abs(own.concordance - rows[0].concordance) > 1e-9:  # of other cases, such as the familiar ones
        return rows
    return (replace(rows[0], low=own.low, high=own.high), *rows[1:])


def _brier(predicted: CasePredictions, unit: str) -> list[dict[str, Any]]:
    """Brier score of the student and of no model, a row a horizon."""
    rows = predicted.familiar
    time, event, entry = predicted.follow_up(rows)
    survival, at, cause = predicted.survival[STUDENT][rows], predicted.horizons, predicted.cause_among(rows)
    score: Brier | CompetingBrier
    if cause is None:
        score = brier(survival=survival, horizons=at, time=time, event=event, entry=entry)
    else:
        score = competing_brier(risk=1 - survival, horizons=at, time=time, cause=cause, entry=entry)
    columns = zip(score.horizons.tolist(), score.score.tolist(), score.reference.tolist(), strict=True)
    return [
        {"horizon": horizon_name(horizon, unit), "score": value, "reference": reference}
        for horizon, value, reference in columns
    ]


def _outcome(seen: Gathered) -> str:
    """What is predicted, by the columns of the clinical table."""
    settings = seen.cohort.settings
    values = f" ({settings.event_values[1]})" if settings.event_values else ""
    competing = f" beside `{settings.competing}`" if settings.competing else ""
    return f"Outcome: `{settings.event}`{values}{competing}; follow-up: `{settings.time}`, in {settings.time_unit}."


def _links(workspace: Workspace, folder: Path) -> dict[str, str]:
    """Pages of the slides and of the reports, from the page's folder; those that are there."""
    pages = {"slides": workspace.contact_sheet, "reports": workspace.root / "reports" / "evaluation" / PAGE}
    return {name: os.path.relpath(path, folder) for name, path in pages.items() if path.exists()}


def _warnings(seen: Gathered, of_hospitals: str) -> list[str]:
    """What should be known, a line each; what two cross-validations say alike once."""
    judged = [line for metrics in (seen.metrics, seen.reports) if metrics is not None for line in metrics.warnings]
    return list(dict.fromkeys([*seen.warnings, *filter(None, [of_hospitals]), *judged]))


def _verdicts(seen: Gathered) -> list[str]:
    """What crossval and, of a student of another cohort, evaluate say of this one."""
    here = [one.record for one in seen.external if one.cohort == seen.cohort.name]
    return [line for one in (seen.metrics, seen.reports, *here) if one is not None for line in one.verdict]


def _trained(result: Mapping[str, Any]) -> dict[str, Any]:
    """What was printed when the student was distilled, as far as it is known."""
    within = " and within hospital" if result.get("within") == "hospital" else ""
    facts = {
        "cases": result.get("n_cases"),
        "events": result.get("n_events"),
        "cases whose report guided the student": result.get("n_reports"),
        "gate (weight of the reports, 0 to 1)": _three_decimals(result.get("gate")),
        "students of other cohorts beside the distilled one, and their weights": ", ".join(
            f"{one['name']} ({one['weight']:.2f})" for one in result.get("experts", ())
        )
        or None,
        "student that training of the distilled one began with": result.get("warm_start"),
        f"concordance out of fold{within}, baseline student (no teacher)": _three_decimals(
            result.get("plain_concordance")
        ),
        f"concordance out of fold{within}, selected student (a little too high: selected by it)": _three_decimals(
            result.get("concordance")
        ),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _three_decimals(value: Any) -> str | None:
    return number(value) if isinstance(value, int | float) else None


def _commands(seen: Gathered, command: Sequence[str]) -> list[str]:
    """Commands as a person would type them, and the one that is running; those that failed are in ``_failed``."""
    lines = [f"$ {shlex.join(one.words)}" for one in _latest(seen) if not one.exit_code]
    return [*lines, f"$ {shlex.join(command)}"] if command else lines


def _failed(seen: Gathered) -> list[str]:
    return [f"$ {shlex.join(one.words)}   # ended with {one.exit_code}" for one in _latest(seen) if one.exit_code]


def _latest(seen: Gathered) -> list[Command]:
    """Of a command that was run again, the last time counts."""
    latest = {one.words: one for one in seen.commands}
    return [one for one in seen.commands if one is latest[one.words] and "report" not in one.words[1:2]]
