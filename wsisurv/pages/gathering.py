"""All that the report page of a cohort is made from, read from the workspace; what is not there yet says so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wsisurv.cohort import Audit, Cohort, read_cohort
from wsisurv.errors import ArtifactError, FormatError, MissingArtifactError
from wsisurv.experiments.external_record import FILE as EXTERNAL
from wsisurv.experiments.external_record import RISKS, ExternalRecord, read_record
from wsisurv.formats.atomic import read_jsonl
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.commands import Command, read_commands
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.header import read_header
from wsisurv.formats.heatmaps import CaseMap, read_case_map
from wsisurv.formats.models import model_format, read_model
from wsisurv.formats.risks import Risk, read_risks
from wsisurv.formats.statements import read_statements
from wsisurv.pages.crossval_figures import CrossvalFigures, read_metrics
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
    """

    record: ExternalRecord
    svg: Mapping[str, bytes]

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
        predicted: out-of-fold predictions.
        risks: rows of risk.csv, by case.
        external: validations of another student on this cohort, and of this cohort's student on others.
        maps: heatmaps, by case.
        training: kind of fit → its latest fits.
        result: what was printed when the student was distilled.
        settings: of each step, by its name.
        versions: of software, now.
        commands: that were run in the workspace.
        warnings: what does not fit together, one line each.
        missing: part of the page → why it is not there.
    """

    cohort: Cohort
    audit: Audit
    metrics: CrossvalFigures | None
    predicted: CasePredictions | None
    risks: Mapping[str, Risk]
    external: Sequence[ExternalValidation]
    maps: Mapping[str, CaseMap]
    training: Mapping[str, Sequence[FitLoss]]
    result: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    commands: Sequence[Command]
    warnings: Sequence[str]
    missing: Mapping[str, str]


def gather(workspace: Workspace, name: str) -> Gathered:
    """Read all that is known of a cohort.

    A damaged file of one part leaves out that part and the page says so; the cohort itself must be whole.

    Raises:
        MissingArtifactError, FormatError: as ``read_cohort``.
    """
    folder = workspace.cohort(name)
    cohort, audit = read_cohort(folder)
    missing: dict[str, str] = {}

    def attempt(part: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except ArtifactError as error:
            missing[part] = str(error)
            return None

    metrics = attempt("crossval", lambda: read_metrics(folder / "evaluation" / "metrics.json"))
    risks = attempt("risks", lambda: {row.case_id: row for row in read_risks(folder / "risk.csv")}) or {}
    predicted = None
    if metrics is not None:
        tested = metrics.folds
        predicted = attempt("folds", lambda: predicted_by_folds(folder, cohort, tested))
    if predicted is None:
        predicted = predicted_by_table(cohort, list(risks.values()), OUT_OF_FOLD)
    if predicted is None and (other := folder / "evaluation" / RISKS).exists():
        risks = (
            attempt("external", lambda: {row.case_id: row for row in read_risks(other, other.with_name(EXTERNAL))})
            or {}
        )
        predicted = predicted_by_table(cohort, list(risks.values()), ANOTHER_STUDENT)
        missing.pop("risks", None)
    if predicted is None:
        missing["predicted"] = (
            "No predictions of the cohort's cases by models that have not seen them. `wsisurv crossval --cohort "
            f"{name}` gives them (best), or `wsisurv predict --cohort {name}`."
        )
    model = attempt("student", lambda: read_model(folder / "student.h5", "student"))
    student = model[0].card if model else None
    maps, problems = _maps(folder / "heatmaps", cohort)
    if problems:
        more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
        missing["heatmaps"] = problems[0] + more
    return Gathered(
        cohort=cohort,
        audit=audit,
        metrics=metrics,
        predicted=predicted,
        risks=risks,
        external=_external(workspace, name, model[1].fingerprint if model else None, attempt),
        maps=maps,
        training=attempt("training", lambda: read_training(folder / "history.jsonl")) or {},
        result=student.result.model_dump() if student else {},
        settings=_settings(workspace, folder, student, metrics, attempt),
        versions=versions(),
        commands=attempt("commands", lambda: read_commands(workspace.root)) or [],
        warnings=_warnings(cohort, metrics, student),
        missing=missing,
    )


def _external(
    workspace: Workspace, name: str, student: str | None, attempt: Callable[[str, Callable[[], Any]], Any]
) -> list[ExternalValidation]:
    """Validations on this cohort, and those of this student on the others of the workspace, by name."""
    found = []
    for path in sorted((workspace.root / "cohorts").glob("*/evaluation/external.json")):
        record = attempt("external", partial(read_record, path))
        if record is not None and (path.parent.parent.name == name or record.student.get("fingerprint") == student):
            pictures = {one.stem: one.read_bytes() for one in sorted(path.parent.glob("external_*.svg"))}
            found.append(ExternalValidation(record, pictures))
    return found


def _warnings(cohort: Cohort, metrics: CrossvalFigures | None, student: StudentCard | None) -> list[str]:
    found = []
    if metrics is not None and metrics.cohort.get("fingerprint") not in {None, cohort.fingerprint}:
        found.append(
            "the figures of the cross-validation are of other cases, or of other follow-up, than the cohort has now: "
            f"run `wsisurv crossval --redo --cohort {cohort.name}`"
        )
    if student is not None and student.calibration.slope < LOW_SLOPE:
        found.append(f"the cohort's own student: {low_slope(student.calibration.slope)}")
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
    workspace: Workspace,
    folder: Path,
    card: StudentCard | None,
    metrics: CrossvalFigures | None,
    attempt: Callable[[str, Callable[[], Any]], Any],
) -> dict[str, Mapping[str, Any]]:
    """Settings of each step, as its files have them."""
    found: dict[str, Mapping[str, Any]] = {}
    if card is not None:
        found |= {"tile": card.tile_settings, "embed": card.embed_settings}
    records = attempt(
        "statements", lambda: read_statements(workspace.statements) if workspace.statements.exists() else {}
    )
    reports = [record.settings for record in (records or {}).values() if record.settings]
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
