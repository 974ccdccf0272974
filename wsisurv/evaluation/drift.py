"""What an external validation shows, in plain words and by fixed rules."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsisurv.evaluation.external import ExternalFigures
from wsisurv.evaluation.verdict import FEW_EVENTS, SIGNIFICANT

_CHANCE, _NORMAL = 0.5, 1.96
_SIGNS = 3


def drift_verdict(figures: ExternalFigures, own: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Say what the figures show: order, calibration, risk groups.

    Args:
        figures: of the other cohort.
        own: the student's row of its own cross-validation (``concordance``, ``low``, ``high``); None where unknown.
    """
    lines = [_order(figures, own), _spread(figures), _level(figures), *_horizons(figures), _groups(figures)]
    lines.append(_together(figures))
    if figures.events < FEW_EVENTS:
        lines.append(f"Only {figures.events} events: treat every line here as a first impression.")
    return tuple(line for line in lines if line)


def _order(figures: ExternalFigures, own: Mapping[str, Any] | None) -> str:
    here = figures.concordance
    line = f"concordance {here.value:.3f}, 95 % interval {here.low:.3f} to {here.high:.3f}"
    if here.low > _CHANCE:
        line = f"The student tells who does worse here ({line})"
    else:
        line = f"That the student tells who does worse here is not shown ({line})"
    if own is None:
        return line + "; it was never cross-validated, so there is nothing to hold that against."
    there = f"{own['concordance']:.3f} in its own cross-validation"
    difference = here.value - own["concordance"]
    # both are estimates, on other cases: half widths of 95 % intervals add as standard errors do
    reach = float(np.hypot(here.high - here.low, own["high"] - own["low"])) / 2
    if abs(difference) <= reach:
        return f"{line}; that is not shown to differ from the {there}."
    return f"{line}, {'better' if difference > 0 else 'less well'} than the {there}."


def _spread(figures: ExternalFigures) -> str:
    slope = figures.calibrated_slope
    if slope is None:
        return "Whether the spread of the risks is right can't be told here."
    low, high = slope.value - _NORMAL * slope.se, slope.value + _NORMAL * slope.se
    said = f"calibrated slope {slope.value:.2f}, 95 % interval {low:.2f} to {high:.2f}; 1 is right"
    if high < 1:
        return f"Differences between cases are smaller here than predicted: risks are too extreme ({said})."
    if low > 1:
        return f"Differences between cases are larger here than predicted: risks are too timid ({said})."
    return f"The spread of the risks is not shown to be wrong ({said})."


def _level(figures: ExternalFigures) -> str:
    found = figures.observed_expected
    if found is None:
        return "Whether the level of the risks is right can't be told here."
    said = (
        f"{found.observed} events, {found.expected:.1f} expected: ratio {found.ratio:.2f}, 95 % interval "
        f"{found.low:.2f} to {found.high:.2f}"
    )
    if found.low > 1:
        return f"More events happen here than predicted: survival is predicted too long ({said})."
    if found.high < 1:
        return f"Fewer events happen here than predicted: survival is predicted too short ({said})."
    return f"The level of the risks is not shown to be wrong ({said})."


def _horizons(figures: ExternalFigures) -> list[str]:
    lines = []
    for one in figures.at_years:
        if one.predicted is None or one.observed is None or one.low is None or one.high is None:
            continue
        if not one.low <= one.predicted <= one.high:
            lines.append(
                f"By {one.years:g} y, {100 * one.observed:.0f} % had the event ({100 * one.low:.0f} to "
                f"{100 * one.high:.0f} %), where {100 * one.predicted:.0f} % were predicted."
            )
    return lines


def _groups(figures: ExternalFigures) -> str:
    if figures.logrank_p is None:
        return "The risk groups can't be compared here."
    p = "< .001" if figures.logrank_p < 0.001 else f"{figures.logrank_p:.3f}"
    told = "differ" if figures.logrank_p < SIGNIFICANT else "are not shown to differ"
    return f"Risk groups by the cut-offs of training {told} in survival here (log-rank p {p})."


def drift_p(figures: ExternalFigures) -> float | None:
    """Chance of calibration as wrong as this where there is no drift: least p of slope, level and D-calibration, × 3.

    The student's predictions are taken as they are: that they are estimates from a training cohort is not allowed for,
    so a very large cohort finds faults that were there from the beginning.
    """
    from scipy.stats import norm, poisson

    found = [figures.d_calibration_p] if figures.d_calibration_p is not None else []
    if (slope := figures.calibrated_slope) is not None:
        found.append(2 * float(norm.sf(abs(slope.value - 1) / slope.se)))
    if (level := figures.observed_expected) is not None:
        tails = poisson.cdf(level.observed, level.expected), poisson.sf(level.observed - 1, level.expected)
        found.append(2 * float(min(tails)))
    return min(1.0, _SIGNS * min(found)) if found else None


def _together(figures: ExternalFigures) -> str:
    p = drift_p(figures)
    if p is None:
        return "Calibration can't be judged here."
    said = f"slope, level and D-calibration together p {'< .001' if p < 0.001 else f'{p:.3f}'}"
    if p < SIGNIFICANT:
        return (
            f"Calibration has drifted ({said}): don't read the student's probabilities here before slope and baseline "
            "are fitted anew on cases from here; the order of the cases is another matter."
        )
    return f"No drift of calibration is shown by {figures.events} events ({said}); small ones would not be."
