"""What the members make of a case → its row of the risk table."""

import math
from collections.abc import Sequence

from wsisurv.bags.cases import CaseRead
from wsisurv.errors import FormatError
from wsisurv.formats.risks import Risk
from wsisurv.models.fast_ensemble import CaseStates
from wsisurv.prediction.card import RiskScale, unseen_members

UNKNOWN = "unknown"


def make_row(
    scale: RiskScale,
    case: CaseRead,
    states: CaseStates | None,
    odd: Sequence[tuple[str, Sequence[str]]],
    *,
    fold: int | None,
    horizons: Sequence[float],
) -> Risk:
    """Row of a case.

    Args:
        scale: of the student.
        case: what was read.
        states: what the members make of it; None where it has no tile.
        odd: slide_id and what is odd about it, of each slide.
        fold: of the case in the student's training; None for a new case.
        horizons: years.

    Raises:
        FormatError: the risk is not a finite number: weights or features are damaged.
    """
    if states is None:
        nothing = dict.fromkeys(horizons)
        warning = join_warnings(odd, ["no tile: nothing was seen"])
        return Risk(case.case_id, case.slide_ids, 0, None, None, UNKNOWN, survival=nothing, warning=warning)
    unseen = unseen_members(scale.card, fold)
    by_member = states.log_hazard[unseen]
    log_hazard = float(by_member.mean()) if len(by_member) else math.nan
    if not math.isfinite(log_hazard):
        raise FormatError(
            f"case {case.case_id}: the student gives {log_hazard}; its weights or the features of "
            f"{', '.join(case.slide_ids)} are damaged. Make the features anew with `wsisurv embed --redo`."
        )
    distance = float(scale.familiarity.distances(states.pooled)[unseen].mean())
    at = [scale.in_unit(years) for years in horizons]
    expected, placed = scale.out_of_fold.expected(log_hazard, fold), scale.out_of_fold.placed(log_hazard, fold)
    known = scale.prognosis.survival(log_hazard=expected, horizons=at)[0]
    median = scale.prognosis.median(log_hazard=expected)[0]
    several = len(by_member) > 1
    return Risk(
        case_id=case.case_id,
        slides=case.slide_ids,
        n_tiles=case.n_tiles,
        log_hazard=log_hazard,
        risk_percentile=scale.percentile(placed),
        risk_group=scale.group(placed),
        survival=dict(zip(horizons, map(_known, known.tolist()), strict=True)),
        median_survival=_known(float(median)),
        risk_low=float(by_member.min()) if several else None,
        risk_high=float(by_member.max()) if several else None,
        familiarity=scale.familiarity.share(distance),
        warning=join_warnings(odd, _of_case(scale, case.n_tiles, distance)),
    )


def _of_case(scale: RiskScale, n_tiles: int, distance: float) -> list[str]:
    said = []
    if distance > scale.familiarity.threshold:
        said.append(
            f"unlike the training cases (distance {distance:.1f}; 95 % of them are within "
            f"{scale.familiarity.threshold:.1f})"
        )
    few = scale.card.cohort.tiles_a_case.few
    if n_tiles < few:
        said.append(f"few tiles ({n_tiles}; 99 % of the training cases have {few} or more)")
    return said


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def join_warnings(by_slide: Sequence[tuple[str, Sequence[str]]], of_case: Sequence[str]) -> str:
    """One text of all that is odd: what holds of every slide is said once, other things with the slide's name."""
    said = list(of_case)
    common = [text for text in (by_slide[0][1] if by_slide else ()) if all(text in texts for _, texts in by_slide)]
    said += common
    said += [f"{slide_id}: {text}" for slide_id, texts in by_slide for text in texts if text not in common]
    return "; ".join(said)
