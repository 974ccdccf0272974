"""What the members make of a case → its row of the risk table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsisurv.bags.cases import CaseRead
from wsisurv.errors import FormatError
from wsisurv.formats.risks import UNFAMILIAR, UNKNOWN, Risk
from wsisurv.models.fast_ensemble import CaseStates
from wsisurv.prediction.card import RiskScale, unseen_members

_CURVE_POINTS = 101


@dataclass(frozen=True)
class OddSlide:
    """What is odd about a slide of a case."""

    slide_id: str  # the slide
    made: tuple[str, ...] = ()  # about how its features were made
    stain: tuple[str, ...] = ()  # what says that it is not H&E
    # what the members make of it alone, where it is one of several with tiles: among many others a slide of another
    # organ moves the case too little to be seen
    alone: CaseStates | None = None


def make_row(
    scale: RiskScale,
    case: CaseRead,
    states: CaseStates | None,
    *,
    odd: Sequence[OddSlide] = (),
    fold: int | None,
    horizons: Sequence[float],
    force_unfamiliar: bool = False,
) -> Risk:
    """Row of a case.

    Args:
        scale: of the student.
        case: what was read.
        states: what the members make of it; None where it has no tile.
        odd: what is odd about its slides.
        fold: of the case in the student's training; None for a new case.
        horizons: years.
        force_unfamiliar: give group and survival of a case too that the student does not know.

    Raises:
        FormatError: the risk is not a finite number: weights or features are damaged.
    """
    if states is None:
        whole = [(slide.slide_id, (*slide.made, *slide.stain)) for slide in odd]
        nothing = dict.fromkeys(horizons)
        no_risk = {} if scale.prognosis.competing is None else nothing
        warning = join_warnings(whole, ["no tile: nothing was seen"])
        return Risk(
            case.case_id,
            case.slide_ids,
            0,
            None,
            None,
            UNKNOWN,
            survival=nothing,
            absolute_risk=no_risk,
            warning=warning,
        )
    unseen = unseen_members(scale.card, fold)
    by_member = states.log_hazard[unseen]
    log_hazard = float(by_member.mean()) if len(by_member) else math.nan
    if not math.isfinite(log_hazard):
        raise FormatError(
            f"case {case.case_id}: the student gives {log_hazard}; its weights or the features of "
            f"{', '.join(case.slide_ids)} are damaged. Make the features anew with `wsisurv embed --redo`."
        )
    distance = _distance(scale, states, fold)
    foreign = [_foreign(scale, slide, fold) for slide in odd]
    believed = force_unfamiliar or not (distance > scale.familiarity.threshold or any(foreign))
    at = [scale.in_unit(years) for years in horizons]
    expected, placed = scale.out_of_fold.expected(log_hazard, fold), scale.out_of_fold.placed(log_hazard, fold)
    survival = scale.prognosis.survival(log_hazard=expected, horizons=at)[0].tolist()
    median = float(scale.prognosis.median(log_hazard=expected)[0])
    risk = (1 - scale.prognosis.event_free(log_hazard=expected, horizons=at)[0]).tolist()
    given = [believed and scale.prognosis.supports(time) for time in at]

    def told(values: Sequence[float]) -> dict[float, float | None]:
        return {years: one if ok else None for years, one, ok in zip(horizons, values, given, strict=True)}

    several = len(by_member) > 1
    return Risk(
        case_id=case.case_id,
        slides=case.slide_ids,
        n_tiles=case.n_tiles,
        log_hazard=log_hazard,
        risk_percentile=scale.percentile(placed),
        risk_group=scale.group(placed) if believed else UNFAMILIAR,
        survival=told(survival),
        absolute_risk=told(risk) if scale.prognosis.competing is not None else {},
        median_survival=median if believed and math.isfinite(median) and scale.prognosis.supports(median) else None,
        risk_low=float(by_member.min()) if several else None,
        risk_high=float(by_member.max()) if several else None,
        familiarity=scale.familiarity.share(distance),
        warning=join_warnings(
            [(slide.slide_id, (*slide.made, *why)) for slide, why in zip(odd, foreign, strict=True)],
            [*_unlike(scale, distance), *_few(scale, case.n_tiles)],
        ),
    )


def case_curve(scale: RiskScale, log_hazard: float, fold: int | None) -> tuple[list[float], list[float]]:
    """Predicted curve of a case: times in the training cohort's unit, and the share without the event at each.

    As far as enough training cases were followed; where events compete it is one minus the absolute risk. At a horizon
    it is what ``make_row`` gives.

    Args:
        scale: of the student.
        log_hazard: of the case, by the members that speak of it.
        fold: of the case in the student's training; None for a new case.
    """
    grid = np.linspace(0, scale.prognosis.baseline.followed_until, _CURVE_POINTS)
    times = [time for time in grid.tolist() if scale.prognosis.supports(time)]
    expected = scale.out_of_fold.expected(log_hazard, fold)
    return times, scale.prognosis.event_free(log_hazard=expected, horizons=times)[0].tolist()


def why_unfamiliar(scale: RiskScale, states: CaseStates, odd: Sequence[OddSlide], *, fold: int | None) -> str:
    """Why the student does not know a case, as its row says it; empty where it does. Arguments as ``make_row``."""
    foreign = [(slide.slide_id, _foreign(scale, slide, fold)) for slide in odd]
    return join_warnings(foreign, _unlike(scale, _distance(scale, states, fold)))


@dataclass(frozen=True)
class Standing:
    """Where a case stands among the training cases, as its row says it."""

    percentile: float
    group: str
    familiarity: float
    why_unfamiliar: str  # empty where the student knows such a case


def stand(
    scale: RiskScale, log_hazard: float, states: CaseStates, odd: Sequence[OddSlide], *, fold: int | None
) -> Standing:
    """Percentile, group and familiarity of a case; arguments as ``make_row``, ``log_hazard`` by the unseen members."""
    why, placed = why_unfamiliar(scale, states, odd, fold=fold), scale.out_of_fold.placed(log_hazard, fold)
    group = UNFAMILIAR if why else scale.group(placed)
    return Standing(scale.percentile(placed), group, scale.familiarity.share(_distance(scale, states, fold)), why)


def _foreign(scale: RiskScale, slide: OddSlide, fold: int | None) -> tuple[str, ...]:
    """Why a slide makes its case unfamiliar: its stain, or that alone it is odder than every training case.

    Not odder than 95 % of them: slides of one case scatter more than cases do, and there may be many.
    """
    if slide.alone is None:
        return slide.stain
    distance, farthest = _distance(scale, slide.alone, fold), float(scale.familiarity.left_out[-1])
    if distance <= farthest:
        return slide.stain
    return (*slide.stain, f"alone unlike every training case (distance {distance:.1f}; the farthest {farthest:.1f})")


def _distance(scale: RiskScale, states: CaseStates, fold: int | None) -> float:
    return float(scale.familiarity.distances(states.pooled)[unseen_members(scale.card, fold)].mean())


def _unlike(scale: RiskScale, distance: float) -> list[str]:
    if distance <= scale.familiarity.threshold:
        return []
    within = f"95 % of them are within {scale.familiarity.threshold:.1f}"
    return [f"unlike the training cases (distance {distance:.1f}; {within})"]


def _few(scale: RiskScale, n_tiles: int) -> list[str]:
    few = scale.card.cohort.tiles_a_case.few
    if n_tiles >= few:
        return []
    return [f"few tiles ({n_tiles}; 99 % of the training cases have {few} or more)"]


def join_warnings(by_slide: Sequence[tuple[str, Sequence[str]]], of_case: Sequence[str]) -> str:
    """One text of all that is odd: what holds of every slide is said once, other things with the slide's name."""
    said = list(of_case)
    common = [text for text in (by_slide[0][1] if by_slide else ()) if all(text in texts for _, texts in by_slide)]
    said += common
    said += [f"{slide_id}: {text}" for slide_id, texts in by_slide for text in texts if text not in common]
    return "; ".join(said)
