"""All that the report page of a cohort is made from, read from the workspace; what is not there yet says so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wsisurv.cohort import Audit, Cohort, read_cohort, recount_reports
from wsisurv.errors import ArtifactError, FormatError, MissingArtifactError
from wsisurv.experiments.endpoints import read_endpoints
from wsisurv.experiments.external_record import FILE as EXTERNAL
from wsisurv.experiments.external_record import RISKS, ExternalRecord, read_record
from wsisurv.formats.atomic import read_jsonl
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.commands import Command, read_commands
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.header import read_header
from wsisurv.formats.heatmaps import CaseMap, read_case_map
from wsisurv.formats.models import model_format, read_model
from wsisurv.formats.risks import UNFAMILIAR, Risk, read_risks
from wsisurv.formats.statements import ReportRecord, read_statements
from wsisurv.pages.crossval_figures import CrossvalFigures, read_metrics
from wsisurv.pages.finding_parts import FindingParts, read_finding_parts
from wsisurv.pages.one_student import PageParts, what_differs
from wsisurv.pages.predicted import (
    ANOTHER_STUDENT,
    OUT_OF_FOLD,
    CasePredictions,
    predicted_by_folds,
    predicted_by_table,
)
from wsisurv.pages.report_figures import FitLoss
from wsisurv.survival.cox import LOW_SLOPE, low_slope
from wsisurv.version import versions
from wsisurv.workspace.paths import Workspace

T = TypeVar("T")
_AT_HOME = (
    "concordance low high uno uno_low uno_high auc calibration_slope brier brier_reference d_calibration_p".split()
)


@dataclass(frozen=True)
class ExternalValidation:
    """An external validation, and its pictures.

    Attributes:
        record: of ``wsisurv evaluate``.
        svg: picture → its bytes; those that are there.
        has_pdf: whether they are there as PDF too, as ``evaluate`` writes them now.
    """

    record: ExternalRecord
    svg: Mapping[str, bytes]
    has_pdf: bool = True

    @property
    def cohort(self) -> str:
        """Name of the cohort on which the student was judged."""
        return str(self.record.cohort.get("name", "?"))

    @property
    def unit(self) -> str:
        """Unit of its times."""
        return str(self.record.cohort.get("time_unit", ""))

    @property
    def trained_on(self) -> str:
        """Name of the cohort on which the student was trained."""
        return str(self._training.get("name", "?"))

    @property
    def trained_counts(self) -> str:
        """Cases and events of that cohort, ``60, 30``; a dash where not known."""
        counts = [self._training.get(name) for name in ("cases", "events")]
        return "–" if counts == [None, None] else ", ".join("–" if count is None else str(count) for count in counts)

    @property
    def at_home(self) -> dict[str, float | None]:
        """Figures of the student's own cross-validation, by name; None where there are none."""
        known = ((name, (self.record.own or {}).get(name)) for name in _AT_HOME)
        return {name: float(value) if isinstance(value, int | float) else None for name, value in known}

    @property
    def _training(self) -> Mapping[str, Any]:
        trained = self.record.student.get("cohort")
        return trained if isinstance(trained, Mapping) else {}


@dataclass(frozen=True)
class Gathered:
    """Everything for the page; what is not there is None or empty, and ``missing`` says why and which command helps.

    Attributes:
        cohort: the cases.
        audit: what was matched and left out.
        metrics: of crossval.
        reports: of crossval of reports and covariates alone.
        predicted: out-of-fold predictions.
        risks: rows of risk.csv, by case.
        external: validations of another student on this cohort, and of this cohort's student on others.
        maps: heatmaps, by case.
        findings: what reports state, told from slides; None where `findings` was not run.
        training: kind of fit → its latest fits.
        card: of the cohort's own student.
        result: what was printed when the student was distilled.
        settings: of each step, by its name.
        versions: of software, now.
        commands: that were run in the workspace.
        differs: parts that come from another student or other settings than the rest, one line each.
        warnings: what else should be known, one line each.
        missing: part of the page → why it is not there.
        endpoints: rows of endpoints.csv, where the cohort is one of several endpoints.
    """

    cohort: Cohort
    audit: Audit
    metrics: CrossvalFigures | None
    reports: CrossvalFigures | None
    predicted: CasePredictions | None
    risks: Mapping[str, Risk]
    external: Sequence[ExternalValidation]
    maps: Mapping[str, CaseMap]
    findings: FindingParts | None
    training: Mapping[str, Sequence[FitLoss]]
    card: StudentCard | None
    result: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    commands: Sequence[Command]
    differs: Sequence[str]
    warnings: Sequence[str]
    missing: Mapping[str, str]
    endpoints: Sequence[Mapping[str, str]] = ()

    @property
    def unfamiliar(self) -> dict[str, str]:
        """Cases that the student does not know, by the table of risks or by their heatmap, and why."""
        drawn = {case_id: one.unfamiliar for case_id, one in self.maps.items() if one.unfamiliar}
        told = {case_id: one.warning for case_id, one in self.risks.items() if one.risk_group == UNFAMILIAR}
        return {
            str(one.case_id): (drawn | told)[one.case_id] for one in self.cohort.cases if one.case_id in drawn | told
        }


class _Reading:
    """Reads one part of the page after the other, and notes which are not there or damaged."""

    def __init__(self) -> None:
        self.missing: dict[str, str] = {}
        self._not_there: list[str] = []

    def attempt(self, part: str, read: Callable[[], T]) -> T | None:
        """What ``read`` gives; None where the file is missing or damaged."""
        try:
            return read()
        except ArtifactError as error:
            self.missing[part] = str(error)
            if isinstance(error, MissingArtifactError):
                self._not_there.append(part)
            return None

    def without_slides(self, name: str) -> None:
        """Say, for a cohort of reports alone, once what all those parts need that are not there yet."""
        for part in self._not_there:
            self.missing.pop(part, None)
        self.missing["slides"] = (
            "The cohort is of reports alone: without slides there are neither students nor risks, risk groups and "
            "heatmaps. `wsisurv tile`, `wsisurv embed`, then `wsisurv train-teacher --cohort "
            f"{name} --clinical FILE --redo` make it one of slides."
        )


def gather(workspace: Workspace, name: str) -> Gathered:
    """Read all that is known of a cohort.

    A damaged file of one part leaves out that part and the page says so; the cohort itself must be whole.

    Raises:
        MissingArtifactError, FormatError: as ``read_cohort``.
    """
    folder = workspace.cohort(name)
    cohort, audit = read_cohort(folder)
    reading = _Reading()
    attempt, missing = reading.attempt, reading.missing
    figures = folder / "evaluation"
    metrics = attempt("crossval", lambda: read_metrics(figures / "metrics.json"))
    reports = None
    if (alone := figures / "metrics-reports-only.json").exists() or not audit.slides:
        reports = attempt("reports-only", lambda: read_metrics(alone, reports_only=True))
    told = _predictions(folder, cohort, metrics, reading)
    model = attempt("student", lambda: read_model(folder / "student.h5", "student"))
    student = model[0].card if model else None
    maps, problems = _maps(folder / "heatmaps", cohort)
    if problems:
        missing["heatmaps"] = problems[0] + (f" And {len(problems) - 1} more." if len(problems) > 1 else "")
    elif not maps:
        missing["heatmaps"] = f"No heatmap of a case. Run `wsisurv heatmap --all --cohort {name}`."
    external = _external(workspace, name, model[1].fingerprint if model else None, attempt)
    if not external and "external" not in missing:
        missing["external"] = (
            "The student has not been judged on another cohort: `wsisurv evaluate SLIDES --student "
            f"cohorts/{name}/student.h5 --cohort OTHER --clinical FILE`."
        )
    training = attempt("training", lambda: read_training(folder / "history.jsonl")) or {}
    statements = attempt(
        "statements", lambda: read_statements(workspace.statements) if workspace.statements.exists() else None
    )
    settings = _settings(folder, student, metrics, statements or {}, attempt)
    commands = attempt("commands", lambda: read_commands(workspace.root)) or []
    if statements is not None:
        audit = recount_reports(cohort, audit, statements)
    if not audit.slides:
        for part in ("predicted", "heatmaps", "external"):
            missing.pop(part, None)
        reading.without_slides(name)
    here = next((one.record for one in external if one.cohort == name), None)
    own = (student, model[1]) if student is not None and model is not None else None
    parts = PageParts(folder, cohort, own, metrics, told.table, told.risks, maps, here)
    notes = list(filter(None, [cohort.outcome_note]))
    low = [f"the cohort's own student: {low_slope(student.calibration.slope)}"] if student is not None else []
    return Gathered(
        cohort=cohort,
        audit=audit,
        metrics=metrics,
        reports=reports,
        predicted=told.predicted,
        risks=told.risks,
        external=external,
        maps=maps,
        findings=attempt("findings", lambda: read_finding_parts(folder, cohort)),
        training=training,
        card=student,
        result=student.result.model_dump() if student else {},
        settings=settings,
        versions=versions(),
        commands=commands,
        differs=what_differs(parts),
        warnings=notes + (low if student is not None and student.calibration.slope < LOW_SLOPE else []),
        endpoints=attempt("endpoints", lambda: read_endpoints(folder.parent)) or () if "/" in name else (),
        missing=missing,
    )


@dataclass(frozen=True)
class _Told:
    """What is predicted of the cases."""

    predicted: CasePredictions | None
    risks: Mapping[str, Risk]
    """Rows of ``table``, by case."""
    table: Path


def _predictions(folder: Path, cohort: Cohort, metrics: CrossvalFigures | None, reading: _Reading) -> _Told:
    """Predictions from the folds of crossval; else from risk.csv; else from a validation by another student."""
    table, predicted = folder / "risk.csv", None

    def rows(path: Path, record: Path | None = None) -> dict[str, Risk]:
        return {row.case_id: row for row in read_risks(path, record)}

    risks = reading.attempt("risks", lambda: rows(table)) or {}
    if metrics is not None:
        tested = metrics.folds
        predicted = reading.attempt("folds", lambda: predicted_by_folds(folder, cohort, tested))
    if predicted is None:
        predicted = predicted_by_table(cohort, list(risks.values()), OUT_OF_FOLD)
    if predicted is None and (other := folder / "evaluation" / RISKS).exists():
        table, risks = other, reading.attempt("external", lambda: rows(other, other.with_name(EXTERNAL))) or {}
        predicted = predicted_by_table(cohort, list(risks.values()), ANOTHER_STUDENT)
        reading.missing.pop("risks", None)
    if predicted is None:
        reading.missing["predicted"] = (
            "No predictions of the cohort's cases by models that have not seen them. `wsisurv crossval --cohort "
            f"{cohort.name}` gives them (best), or `wsisurv predict --cohort {cohort.name}`."
        )
        if not table.exists():
            reading.missing["risks"] = reading.missing["predicted"]
    return _Told(predicted, risks, table)


def _external(
    workspace: Workspace, name: str, student: str | None, attempt: Callable[[str, Callable[[], Any]], Any]
) -> list[ExternalValidation]:
    """Validations on this cohort, and those of this student on the others of the workspace, by name."""
    found = []
    place = workspace.root / "cohorts"
    for path in sorted(file for depth in ("*", "*/*") for file in place.glob(f"{depth}/evaluation/external.json")):
        of = path.parent.parent.relative_to(place).as_posix()
        record = attempt("external", partial(read_record, path))
        if record is not None and (of == name or record.student.get("fingerprint") == student):
            pictures = {one.stem: one.read_bytes() for one in sorted(path.parent.glob("external_*.svg"))}
            found.append(ExternalValidation(record, pictures, any(path.parent.glob("external_*.pdf"))))
    return found


def read_training(path: Path) -> dict[str, list[FitLoss]]:
    """Losses of the latest fit of each part, by kind of fit; an empty history gives none.

    Raises:
        MissingArtifactError: there is no history.
        FormatError: a line of it is damaged.
    """
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. `wsisurv train-teacher` and `wsisurv distill` write it.")
    points: dict[str, list[tuple[float, float]]] = {}
    for number, line in enumerate(read_jsonl(path), start=1):
        if not isinstance(line, dict):
            raise FormatError(f"{path}, line {number}: no JSON object. Delete the line.")
        part, epoch, loss = line.get("part"), line.get("epoch"), line.get("loss")
        if not isinstance(part, str) or not isinstance(epoch, int | float) or not isinstance(loss, int | float):
            continue  # the gate, and what was printed at the end
        known = points.setdefault(part, [])
        if known and epoch <= known[-1][0]:
            known.clear()  # trained anew
        known.append((float(epoch), float(loss)))
    fits: dict[str, list[FitLoss]] = {}
    for part, known in points.items():
        numbers = np.array(known)
        fits.setdefault(_kind(part), []).append(FitLoss(part, numbers[:, 0], numbers[:, 1]))
    return fits


def _kind(part: str) -> str:
    """What all fits of a kind share: ``plain student`` of ``plain student 3 of 5``."""
    first, comma, rest = part.partition(",")
    words = first.split()
    cut = next((place for place, word in enumerate(words) if word.isdigit() or word == "without"), len(words))
    return " ".join(words[:cut]) + (comma + rest)


def _maps(folder: Path, cohort: Cohort) -> tuple[dict[str, CaseMap], list[str]]:
    maps, problems = {}, []
    for case in cohort.cases:
        try:
            maps[str(case.case_id)] = read_case_map(folder / case.case_id)
        except MissingArtifactError:
            continue
        except FormatError as error:
            problems.append(str(error))
    return maps, problems


def _settings(
    folder: Path,
    card: StudentCard | None,
    metrics: CrossvalFigures | None,
    statements: Mapping[str, ReportRecord],
    attempt: Callable[[str, Callable[[], Any]], Any],
) -> dict[str, Mapping[str, Any]]:
    """Settings of each step, as its files have them."""
    found: dict[str, Mapping[str, Any]] = {}
    if card is not None:
        found |= {"tile": card.tile_settings, "embed": card.embed_settings}
    reports = [record.settings for record in statements.values() if record.settings]
    if reports:
        found["extract-report"] = reports[0]
    made = (
        ("train-teacher", partial(read_header, folder / "guidance.h5", GUIDANCE, "wsisurv train-teacher")),
        ("distill", partial(read_header, folder / "student.h5", model_format("student"), "wsisurv distill")),
    )
    for step, read in made:
        if (header := attempt(step, read)) is not None:
            found[step] = {**header.settings, "wsisurv version": header.wsisurv_version}
    if metrics is not None and isinstance(metrics.settings.get("crossval"), Mapping):
        found["crossval"] = metrics.settings["crossval"]
    return found
