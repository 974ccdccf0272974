"""Whether all parts of a cohort's page come from one student with one set of settings, and which don't."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsisurv.cohort import Cohort
from wsisurv.errors import ArtifactError, some
from wsisurv.experiments.external_record import ExternalRecord
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.header import Header, read_header
from wsisurv.formats.heatmaps import CaseMap
from wsisurv.formats.models import unlike_student
from wsisurv.formats.risks import Risk, read_source
from wsisurv.pages.crossval_figures import CrossvalFigures
from wsisurv.settings.base import changed_settings
from wsisurv.settings.renamed import present_names

_CLOSE = 1e-3
"""By which log hazards of the same student on the same features may differ, of their size or of 1."""


@dataclass(frozen=True)
class PageParts:
    """Parts of the page that a student made."""

    folder: Path
    """Folder of the cohort."""
    cohort: Cohort
    student: tuple[StudentCard, Header] | None
    """The cohort's own."""
    metrics: CrossvalFigures | None
    table: Path
    """risk.csv, or external_risk.csv of another cohort's student."""
    risks: Mapping[str, Risk]
    """Its rows, by case."""
    maps: Mapping[str, CaseMap]
    external: ExternalRecord | None
    """The validation on this cohort."""


def what_differs(parts: PageParts) -> list[str]:
    """Which parts of the page are of another student or other settings than the rest, a line each; none if all agree.

    What is compared with is the cohort's student.h5, or, where there is none, the student of the table of risks.
    """
    lines = [*_student(parts), *_crossval(parts), *_strangers(parts)]
    made_table = ""
    if parts.risks:
        made_table, more = _table(parts)
        lines += more
    own = parts.student[1].fingerprint if parts.student else ""
    if own and parts.external is not None and parts.external.student.get("fingerprint") != own:
        lines.append("the external validation on this cohort is of another student than student.h5")
    return lines + _heatmaps(parts, own or made_table) + _contradictions(parts)


def _student(parts: PageParts) -> list[str]:
    """Whether student.h5 is of the cohort and the teacher as they are now."""
    if parts.student is None:
        return []
    header, name, lines = parts.student[1], parts.cohort.name, []
    if header.inputs.get("cohort") not in {None, parts.cohort.fingerprint}:
        lines.append(
            "student.h5 was trained on other cases, or other follow-up, than the cohort has now: run `wsisurv "
            f"train-teacher --redo --cohort {name}`, then `wsisurv distill --redo --cohort {name}`"
        )
    elif (teacher := _teacher(parts)) is not None and header.inputs.get("guidance") not in {None, teacher.fingerprint}:
        lines.append(
            f"the teacher was trained anew since student.h5 was distilled: run `wsisurv distill --redo --cohort {name}`"
        )
    return lines


def _teacher(parts: PageParts) -> Header | None:
    try:
        return read_header(parts.folder / "guidance.h5", GUIDANCE, "wsisurv train-teacher")
    except ArtifactError:
        return None  # the page says so elsewhere


def _crossval(parts: PageParts) -> list[str]:
    """Whether the figures of crossval are of the cohort and of students trained as student.h5."""
    metrics, name = parts.metrics, parts.cohort.name
    if metrics is None:
        return []
    made_from = metrics.cohort.get("fingerprint")
    if made_from not in {None, parts.cohort.fingerprint}:
        return [
            "the figures of the cross-validation are of other cases, or of other follow-up, than the cohort has now: "
            f"run `wsisurv crossval --redo --cohort {name}`"
        ]
    if parts.student is None or made_from is None:
        return []
    card, header = parts.student
    record: dict[str, Any] = {"cohort": metrics.cohort, "settings": metrics.settings}
    why, teacher = unlike_student(header, card, record), _teacher(parts)
    tested = metrics.settings.get("teacher")
    if not why and card.guided and teacher is not None and isinstance(tested, Mapping):
        changes = changed_settings(present_names(teacher.settings), present_names(tested))
        why = f"of a teacher with other settings (this one's → those: {'; '.join(changes)})" if changes else ""
    if not why:
        return []
    return [
        f"the cross-validation, from which the figures and the cases' log hazards are, is {why}, not of student.h5: "
        f"`wsisurv crossval --redo --cohort {name}` tests students that are trained as it was"
    ]


def _table(parts: PageParts) -> tuple[str, list[str]]:
    """Fingerprint of the student of the table of risks, empty where not known; and what is wrong with that."""
    name, file = parts.cohort.name, parts.table.name
    if file != "risk.csv":
        return str(parts.external.student.get("fingerprint", "")) if parts.external else "", []
    try:
        source = read_source(parts.table)
    except ArtifactError as error:
        return "", [str(error).rstrip(".")]
    lines = []
    if parts.student is not None and source.student != parts.student[1].fingerprint:
        lines.append(
            f"{file} is by another student ({source.student[:12]}, trained on {source.trained_on}) than student.h5: "
            f"run `wsisurv predict --cohort {name}`"
        )
    if source.forced:
        lines.append(
            f"{file} was made with --force-unfamiliar: cases that the student does not know have group and survival"
        )
    return source.student, lines


def _strangers(parts: PageParts) -> list[str]:
    """Rows of the table of risks that are of no case of the cohort."""
    known = {str(case.case_id) for case in parts.cohort.cases}
    strange = [case_id for case_id in parts.risks if case_id not in known]
    if not strange:
        return []
    return [
        f"{len(strange)} of the {len(parts.risks)} rows of {parts.table.name} are of no case of the cohort "
        f"({some(strange)}), and are not shown"
    ]


def _heatmaps(parts: PageParts, student: str) -> list[str]:
    """Heatmaps by another student than ``student``; where that is not known, than the first."""
    again = f"`wsisurv heatmap --all --cohort {parts.cohort.name}` draws them by the cohort's student"
    without = [case_id for case_id, one in parts.maps.items() if not one.student]
    told = {case_id: one.student for case_id, one in parts.maps.items() if one.student}
    student = student or next(iter(told.values()), "")
    others = [case_id for case_id, made_by in told.items() if made_by != student]
    lines = []
    if others:
        by = sorted({told[case_id][:12] for case_id in others})
        lines.append(f"{len(others)} heatmaps ({some(others)}) are by another student ({some(by)}): {again}")
    if without:
        lines.append(
            f"{len(without)} heatmaps ({some(without)}) were made by an older wsisurv, which did not note its student: "
            f"{again}"
        )
    return lines


def _contradictions(parts: PageParts) -> list[str]:
    """Cases whose heatmap adds up to another log hazard than the table of risks has."""
    found: list[str] = []
    for case_id, drawn in parts.maps.items():
        risk = parts.risks.get(case_id)
        if risk is None or risk.log_hazard is None or drawn.log_hazard is None:
            continue
        if abs(risk.log_hazard - drawn.log_hazard) > _CLOSE * max(1.0, abs(risk.log_hazard)):
            found.append(f"{case_id}: {drawn.log_hazard:+.3f}, {risk.log_hazard:+.3f}")
    if not found:
        return []
    return [
        f"{len(found)} heatmaps add up to another log hazard than {parts.table.name} has ({some(found)}): student, "
        "tiles or features were made anew in between"
    ]
