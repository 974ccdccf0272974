"""The words and figures beside the slide, as JSON: the cohort's list and curves, and one case's panel."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from wsisurv.cohort import Case
from wsisurv.errors import WsisurvError
from wsisurv.experiments.risk_groups import Group, follow_up_by_group
from wsisurv.formats.risks import UNFAMILIAR, Risk
from wsisurv.formats.slide_names import slides_of_block
from wsisurv.models.finding_table import KINDS, speaks_of
from wsisurv.prediction.rows import case_curve
from wsisurv.slides.deep_zoom import DeepZoom
from wsisurv.survival.competing import cumulative_incidence
from wsisurv.survival.kaplan_meier import kaplan_meier
from wsisurv.viewer.study import Study

Record = dict[str, Any]


def cohort_panel(study: Study) -> Record:
    """The list of cases and the curves of the risk groups; what is not there is in ``missing``, with the way out."""
    missing: dict[str, str] = {}
    risks = _attempt(missing, "risks", lambda: study.risks) or {}
    heads = _attempt(missing, "findings", lambda: study.heads)
    names = set(heads.heads) if heads else set()
    cohort = study.cohort
    return {
        "name": cohort.name,
        "time_unit": cohort.settings.time_unit,
        "cases": [_line(case, risks.get(str(case.case_id))) for case in cohort.cases],
        "groups": _attempt(missing, "curves", lambda: group_curves(study)) or {},
        "competing": cohort.settings.knows_competing,
        "findings": [{"name": kind.name, "what": kind.what} for kind in KINDS if kind.name in names],
        "missing": missing,
    }


def _attempt(missing: dict[str, str], part: str, read: Callable[[], Any]) -> Any:
    """What ``read`` gives; None, and why in ``missing``, where it can't be had."""
    try:
        return read()
    except WsisurvError as error:
        missing[part] = str(error)
        return None


def _line(case: Case, risk: Risk | None) -> Record:
    return {
        "id": case.case_id,
        "time": case.time,
        "event": "competing" if case.competing else case.event,
        "site": case.site,
        "slides": len(case.slide_ids),
        "log_hazard": risk.log_hazard if risk else None,
        "percentile": risk.risk_percentile if risk else None,
        "group": risk.risk_group if risk else "",
        "warning": risk.warning if risk else "",
    }


def group_curves(study: Study) -> dict[str, Record]:
    """Curves of the risk groups, as on the cohort's page; raises as ``Study.risks``."""
    found = study.predicted
    if found is None:
        return {}
    groups = follow_up_by_group(found.group, time=found.time, event=found.event, entry=found.entry, cause=found.cause)
    return {name: _curve(group) for name, group in groups.items() if len(group.time)}


def _curve(group: Group) -> Record:
    """Steps of Kaplan and Meier, or of one minus the cumulative incidence where events compete."""
    counts = {"cases": len(group.time), "events": int(group.event.sum())}
    if group.cause is not None:
        incidence = cumulative_incidence(time=group.time, cause=group.cause, entry=group.entry)
        return {**counts, "times": incidence.times.tolist(), "free": (1 - incidence.incidence).tolist()}
    curve = kaplan_meier(time=group.time, event=group.event, entry=group.entry)
    return {**counts, "times": curve.times.tolist(), "free": curve.survival.tolist()}


def case_panel(study: Study, case_id: str) -> Record:
    """All that is known of a case beside its tiles.

    Raises:
        InputError: there is no such case.
    """
    case, missing = study.case(case_id), dict[str, str]()
    risks = _attempt(missing, "risk", lambda: study.risks) or {}
    row = risks.get(case_id)
    slides = [_attempt(missing, str(slide), partial(slide_line, study, str(slide))) for slide in case.slide_ids]
    if not case.slide_ids:
        missing["slides"] = f"{case_id}: no slide of this case is in the cohort."
    record = _attempt(missing, "statements", lambda: study.statements) or {}
    return {
        "id": case_id,
        "slides": [one for one in slides if one is not None],
        "follow_up": case.time,
        "clinical": _clinical(study, case),
        "risk": _risk(study, row) if row else None,
        "curve": _attempt(missing, "curve", lambda: _own_curve(study, row)) if row else None,
        "statements": [_statement(one, case) for one in record[case_id].statements] if case_id in record else [],
        "reported": case_id in record,
        "missing": missing,
    }


def slide_line(study: Study, slide_id: str) -> Record:
    """Size of a slide's picture, and why its pixels are not there; raises as ``Study.bounds``."""
    bounds, problem = study.bounds(slide_id)
    zoom = DeepZoom(bounds)
    return {
        "id": slide_id,
        **asdict(bounds),
        "mpp": study.slide_file(slide_id).mpp,
        "tile_px": zoom.tile_px,
        "problem": problem,
    }


def _clinical(study: Study, case: Case) -> Record:
    settings = study.cohort.settings
    unit = settings.time_unit
    what = "competing event" if case.competing else "event" if case.event else "no event"
    row: Record = {"follow-up": f"{case.time:g} {unit}, {what}"}
    row |= {"followed from": f"{case.entry:g} {unit}"} if case.entry else {}
    row |= {"hospital": case.site or "not known"} if case.site is not None else {}
    return row | {name: value or "not known" for name, value in case.covariates.items()}


def _risk(study: Study, row: Risk) -> Record:
    return {
        "log_hazard": row.log_hazard,
        "low": row.risk_low,
        "high": row.risk_high,
        "percentile": row.risk_percentile,
        "group": row.risk_group,
        "survival": {f"{years:g}": value for years, value in row.survival.items()},
        "absolute_risk": {f"{years:g}": value for years, value in row.absolute_risk.items()},
        "median": row.median_survival,
        "familiarity": row.familiarity,
        "warning": row.warning,
        "out_of_fold": row.case_id in study.explainer.fold_of,
    }


def _own_curve(study: Study, row: Risk | None) -> Record | None:
    if row is None or row.log_hazard is None or row.risk_group == UNFAMILIAR:
        return None
    scale = study.explainer.scale
    times, free = case_curve(scale, row.log_hazard, study.explainer.fold_of.get(row.case_id))
    return {"times": times, "free": free}


def _statement(one: Any, case: Case) -> Record:
    findings = [kind.name for kind in KINDS if speaks_of(one, kind.name)]
    return {
        "id": one.statement_id,
        "category": one.category.replace("_", " "),
        "polarity": one.polarity,
        "text": one.text,
        "evidence": one.evidence,
        "specimen": one.specimen,
        "blocks": one.blocks,
        "slides": [slide for block in one.blocks for slide in slides_of_block(block, case.case_id, case.slide_ids)],
        "findings": findings,
    }


def findings_panel(study: Study, case_id: str) -> list[Record]:
    """How likely each finding of a case is by its slides; raises as ``Study.explained`` and ``Study.heads``."""
    heads = study.heads
    tiles = study.explained(case_id).tiles.values
    if not len(tiles):
        return []
    told = heads.of_case(case_id, tiles, fold=study.fold_of_heads(case_id))
    rows: Mapping[str, Any] = {row.name: row for row in heads.card.result.findings}
    return [
        {
            "name": name,
            "probability": told.probability.get(name),
            "prevalence": rows[name].prevalence,
            "warning": told.warning,
        }
        for name in heads.heads
    ]
