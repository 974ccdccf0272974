"""Whose each slide is, and the cohort that comes of it."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from wsisurv.cohort.cases import Audit, Case, Clinical, Cohort
from wsisurv.cohort.clinical import unusable_id
from wsisurv.errors import CohortError, some
from wsisurv.formats.slide_names import by_slide_id, composed, looks, unknown_note
from wsisurv.formats.tables import read_table, refuse
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import SlideId


def read_slide_map(path: Path) -> dict[str, str]:
    """Read a table ``slide_id,case_id`` that says whose each slide is.

    Returns:
        case_id by slide, the slides as the table names them: ``map_slides`` brings them to those that are here.

    Raises:
        CohortError: a missing column, an empty cell, a case_id that can't be a file name, or one slide of two cases.
    """
    cases: dict[str, str] = {}
    problems = []
    for row in read_table(path, "slide_id", "case_id"):
        slide_id, case_id = composed(row["slide_id"]), composed(row["case_id"])
        if not slide_id or not case_id:
            problems.append(f"row {row.number}: {'case_id' if slide_id else 'slide_id'} is empty.")
        elif reason := unusable_id(case_id):
            problems.append(f"row {row.number}: case_id {case_id!r} {reason}.")
        elif cases.setdefault(slide_id, case_id) != case_id:
            problems.append(f"row {row.number}: slide {slide_id!r} belongs to {cases[slide_id]!r} already.")
    refuse(path, problems or ([] if cases else ["no row"]))
    return cases


def map_slides(
    slide_ids: Collection[str], slide_map: Mapping[str, str], case_ids: Collection[str] | None = None
) -> tuple[dict[str, str], list[str]]:
    """Whose each slide is by a slide map.

    Args:
        slide_ids: slides that are here.
        slide_map: as ``read_slide_map`` gives it.
        case_ids: cases that there are; None where any is right.

    Returns:
        case_id by slide_id, and what of the map was of no use, in words.

    Raises:
        CohortError: no row of the map names a slide that is here, or none a case; two rows contradict each other.
    """
    found, unknown = by_slide_id(slide_map, slide_ids, "the slide map")
    notes = unknown_note(unknown, "the slide map") if slide_ids else []
    strangers = sorted(set(slide_map.values()) - set(case_ids)) if case_ids is not None else []
    if strangers and len(strangers) == len(set(slide_map.values())):
        raise CohortError(
            f"the slide map: none of its cases is in the clinical table: it has {some(strangers, 2)}; cases are called "
            f"{some(sorted(case_ids or ()), 2)}."
        )
    if strangers:
        notes.append(f"{len(strangers)} cases of the slide map are not in the clinical table: {some(strangers)}")
    return found, notes


def match_case(slide_id: str, case_ids: Collection[str]) -> str | None:
    """The case of a slide by its name: the longest case_id that is the slide_id or begins it up to ``-``, ``_``, ``.``.

    ``TCGA-AA-3672-01Z-00-DX1`` is of ``TCGA-AA-3672``; ``case10_a`` is not of ``case1``. Both Unicode forms of a letter
    are the same letter.

    Args:
        slide_id: the slide.
        case_ids: all cases that there are, those too that are left out: else their slides would go to others.

    Raises:
        CohortError: two case_ids are the same but for their Unicode form.
    """
    if slide_id.isascii():
        return next((start for start in _beginnings(slide_id) if start in case_ids), None)
    known: dict[str, str] = {}
    for case_id in case_ids:
        if known.setdefault(composed(case_id), case_id) != case_id:
            raise CohortError(f"two cases are called {case_id!r}, in two Unicode forms. Keep one.")
    return next((known[start] for start in _beginnings(composed(slide_id)) if start in known), None)


def _beginnings(name: str) -> Iterator[str]:
    """A name, and what it begins with up to a separator, the longest first."""
    yield name
    for found in reversed(list(re.finditer(r"[-_. ]", name))):
        yield name[: found.start()]


def _nearly(case_of: Mapping[str, str | None], case_ids: Collection[str]) -> list[str]:
    """Slides whose names begin like the id of another case, but for case, blanks and separators, in words.

    Raises:
        CohortError: a slide is of one case by its letters, and of one with a longer id but for them.
    """
    alike = {looks(case_id): case_id for case_id in case_ids}
    strayed = []
    for slide_id, case_id in sorted(case_of.items()):
        near = next((alike[start] for start in _beginnings(looks(slide_id)) if start in alike), None)
        if near is None or (case_id is not None and looks(near) == looks(case_id)):
            continue
        if case_id is not None:
            raise CohortError(
                f"slide {slide_id!r} is of case {case_id!r} or of {near!r}, with which it begins but for separators "
                "and capitals. Say which with --slide-map."
            )
        strayed.append(f"{slide_id!r} (case {near!r}?)")
    if not strayed:
        return []
    return [
        f"{len(strayed)} slides of no case begin with the id of one but for separators, capitals or blanks: "
        f"{some(strayed, 3)}; --slide-map says whose they are"
    ]


def build_cohort(
    name: str,
    clinical: Clinical,
    settings: CohortSettings,
    *,
    slide_ids: Collection[str],
    report_case_ids: Collection[str],
    slide_map: Mapping[str, str] | None = None,
    reports_only: bool = False,
) -> tuple[Cohort, Audit]:
    """Match follow-up, slides and reports. Cases without a slide are listed in the audit and not in the cohort.

    Slides are matched against all rows, and those of a row that was left out go to no other case. With
    ``reports_only`` no slide is looked for, and the cases are those with a report.

    Raises:
        CohortError: a slide map of which no row is of use, or that contradicts itself.
    """
    usable = {str(case.case_id) for case in clinical.cases}
    left_out = {drop.case_id for drop in clinical.dropped} - {""}
    warnings = list(clinical.warnings)
    case_ids = usable | left_out
    if slide_map is None:
        case_of = {slide_id: match_case(slide_id, case_ids) for slide_id in slide_ids}
        warnings += _nearly(case_of, case_ids)
    else:
        mapped, notes = map_slides(slide_ids, slide_map, case_ids)
        case_of = {slide_id: mapped.get(slide_id) for slide_id in slide_ids}
        warnings += notes
    slides_of: dict[str, list[SlideId]] = {}
    orphans: list[str] = []
    of_dropped: list[str] = []
    for slide_id, case_id in sorted(case_of.items()):
        if case_id in usable:
            slides_of.setdefault(str(case_id), []).append(SlideId(slide_id))
        else:
            (of_dropped if case_id in left_out else orphans).append(slide_id)
    there: Collection[str] = set(report_case_ids) if reports_only else slides_of.keys()
    cases = tuple(
        replace(case, slide_ids=tuple(slides_of.get(case.case_id, ())))
        for case in clinical.cases
        if case.case_id in there
    )
    audit = Audit(
        clinical_rows=len(clinical.cases) + len(clinical.dropped),
        clinical_cases=len(clinical.cases),
        clinical_events=sum(case.event for case in clinical.cases),
        clinical_cases_with_report=sum(case.case_id in report_case_ids for case in clinical.cases),
        cases=len(cases),
        events=sum(case.event for case in cases),
        slides=sum(len(case.slide_ids) for case in cases),
        cases_with_report=sum(case.case_id in report_case_ids for case in cases),
        cases_of_several_slides=sum(len(case.slide_ids) > 1 for case in cases),
        time_unit=settings.time_unit,
        median_time=_middle(cases),
        sites=_sites(cases),
        dropped=clinical.dropped,
        cases_without_slide=() if reports_only else tuple(sorted(usable - slides_of.keys())),
        slides_without_case=tuple(orphans),
        reports_without_case=tuple(sorted(set(report_case_ids) - case_ids)),
        cases_without_report=tuple(sorted(usable - set(there))) if reports_only else (),
        slides_of_dropped=tuple(of_dropped),
        clinical_median_time=_middle(clinical.cases),
        clinical_sites=_sites(clinical.cases),
        warnings=tuple(warnings),
        competing=sum(case.competing for case in cases) if settings.knows_competing else None,
        clinical_competing=sum(case.competing for case in clinical.cases) if settings.knows_competing else None,
    )
    return Cohort(name, cases, settings), audit


def _middle(cases: Sequence[Case]) -> float | None:
    """Median follow-up, the later of two."""
    times = sorted(case.time for case in cases)
    return times[len(times) // 2] if times else None


def _sites(cases: Sequence[Case]) -> dict[str, int]:
    """Cases a hospital, those of an unknown one apart."""
    return dict(sorted(Counter(case.site for case in cases if case.site).items()))
