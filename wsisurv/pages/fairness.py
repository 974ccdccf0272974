"""Does the student work as well in one part of the cohort as in another? Contrasts with intervals, and how many."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from wsisurv.pages.predicted import CasePredictions
from wsisurv.pages.subgroups import FEW_EVENTS, RESAMPLES, UNKNOWN, expected_events, parts_of
from wsisurv.survival.holm import holm
from wsisurv.survival.resampling import CASES, Units, choose_units, draw_weights
from wsisurv.survival.stratified import concordance_of_parts

CONCORDANCE = "concordance"
CALIBRATION = "observed / expected events"


@dataclass(frozen=True)
class Contrast:
    """One part against the largest of its kind."""

    by: str  # what the cohort is divided by
    part: str
    reference: str  # the part with most cases
    figure: str  # CONCORDANCE, of which the difference is given, or CALIBRATION, of which the ratio is
    value: float
    low: float  # lower end of its 95 % interval
    high: float  # upper end
    p: float  # two-sided
    p_holm: float  # for all contrasts of the cohort together


def contrasts(predicted: CasePredictions) -> tuple[Contrast, ...]:
    """Each part of five events or more against the largest such part of its kind, in concordance and calibration.

    Both parts are on the same bootstrap draws, of hospitals where both have more than five, whole in the folds, else of
    cases; intervals and p values are from the spread of the draws (normal; of hospitals t).

    Args:
        predicted: the cases and the risks of the folds.
    """
    draws: dict[bool, NDArray[np.float32]] = {}
    found: list[Contrast] = []
    for by, parts in parts_of(predicted):
        known = [one for one in parts if one[0] != UNKNOWN and predicted.event[one[1]].sum() >= FEW_EVENTS]
        if len(known) < 2:
            continue
        largest = max(known, key=lambda one: int(one[1].sum()))
        for name, chosen in known:
            if name == largest[0]:
                continue
            units, effective = _units(predicted, (chosen, largest[1]))
            drawn = units.of_case is not None
            if drawn not in draws:
                each = draw_weights(len(predicted.cases), RESAMPLES, 0, units)
                whole = np.ones((1, len(predicted.cases)), dtype=np.float32)  # first, the cases as they are
                draws[drawn] = np.concatenate([whole, *each])
            pair = (chosen, largest[1])
            figures = (
                (CONCORDANCE, _concordance(predicted, pair, draws[drawn])),
                (CALIBRATION, _ratio(predicted, pair, draws[drawn])),
            )
            for figure, values in figures:
                if values is not None and (one := _contrast(values, effective)) is not None:
                    value, reach, p = one
                    scale = np.exp if figure == CALIBRATION else float
                    ends = [float(scale(one)) for one in (value, value - reach, value + reach)]
                    found.append(Contrast(by, name, largest[0], figure, ends[0], ends[1], ends[2], p, p))
    adjusted = holm([one.p for one in found]).tolist()
    return tuple(replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True))


def _units(predicted: CasePredictions, parts: Sequence[NDArray[np.bool_]]) -> tuple[Units, float | None]:
    """Hospitals of all cases, and the least effective number of the parts, where each part has enough; else cases."""
    sites = [case.site for case in predicted.cases]
    repeats = sorted({fold.repeat for fold in predicted.folds})
    divisions = [[fold.rows for fold in predicted.folds if fold.repeat == repeat] for repeat in repeats]
    each = [choose_units([site for site, inside in zip(sites, part, strict=True) if inside]) for part in parts]
    units = choose_units(sites, divisions)
    effective = [one.effective for one in each if one.effective is not None]
    return (units, min(effective)) if units.of_case is not None and len(effective) == len(parts) else (CASES, None)


def _concordance(
    predicted: CasePredictions, parts: Sequence[NDArray[np.bool_]], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    found = concordance_of_parts(
        predicted.folds,
        parts,
        time=predicted.ordered_time,
        event=predicted.event,
        entry=predicted.entry,
        weights=weights,
    )
    return np.asarray(found[0] - found[1])


def _ratio(
    predicted: CasePredictions, parts: Sequence[NDArray[np.bool_]], weights: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    """Log of the ratio of observed to expected events in one part over that in the other."""
    expected = expected_events(predicted)
    if expected is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        each = [
            np.log(weights[:, part] @ predicted.event[part] / (weights[:, part] @ expected[part])) for part in parts
        ]
        return np.asarray(each[0] - each[1])


def _contrast(values: NDArray[np.float64], hospitals: float | None) -> tuple[float, float, float] | None:
    """Value, half the width of its interval, and p; the first of ``values`` is of the cases, the others of draws."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or 2 * len(drawn) < len(values) - 1:
        return None
    value, error = float(values[0]), float(drawn.std(ddof=1))
    if error <= 0:
        return None
    if hospitals is None:
        return value, float(norm.ppf(0.975)) * error, float(2 * norm.sf(abs(value) / error))
    error *= (hospitals / (hospitals - 1)) ** 0.5  # draws of so few spread too little
    return value, float(t.ppf(0.975, hospitals - 1)) * error, float(2 * t.sf(abs(value) / error, hospitals - 1))
