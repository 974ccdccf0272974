"""What an external validation shows, in plain words and by fixed rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsisurv.evaluation.external import ExternalFigures
from wsisurv.evaluation.verdict import FEW_EVENTS, SIGNIFICANT

_CHANCE, _NORMAL = 0.5, 1.96


def drift_verdict(figures: ExternalFigures, own: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Say what the figures show: order, calibration, risk groups.

    Args:
        figures: of the other cohort.
        own: the student's row of its own cross-validation (``concordance``, ``low``, ``high``); None where unknown.
    """
    spread, level = _spread(figures), _level(figures)
    lines = [_order(figures, own), spread.words, level.words, *_horizons(figures), _groups(figures)]
    lines.append(_together(figures, drifted=spread.off or level.off, judged=spread.judged and level.judged))
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
    if here.high < own["concordance"]:
        return f"{line}, less well than the {there}."
    if here.low > own["concordance"]:
        return f"{line}, better than the {there}."
    return f"{line}; that is not shown to differ from the {there}."


@dataclass(frozen=True)
class _Judged:
    """One side of calibration, in words; whether it is off, and whether that could be told."""

    words: str
    off: bool = False
    judged: bool = True


def _spread(figures: ExternalFigures) -> _Judged:
    slope = figures.calibrated_slope
    if slope is None:
        return _Judged("Whether the spread of the risks is right can't be told here.", judged=False)
    low, high = slope.value - _NORMAL * slope.se, slope.value + _NORMAL * slope.se
    said = f"calibration slope {slope.value:.2f}, 95 % interval {low:.2f} to {high:.2f}; 1 is right"
    if high < 1:
        return _Judged(
            f"Differences between cases are smaller here than predicted: risks are too extreme ({said}).", off=True
        )
    if low > 1:
        return _Judged(
            f"Differences between cases are larger here than predicted: risks are too timid ({said}).", off=True
        )
    return _Judged(f"The spread of the risks is not shown to be wrong ({said}).")


def _level(figures: ExternalFigures) -> _Judged:
    found = figures.observed_expected
    if found is None:
        return _Judged("Whether the level of the risks is right can't be told here.", judged=False)
    said = (
        f"{found.observed} events, {found.expected:.1f} expected: ratio {found.ratio:.2f}, 95 % interval "
        f"{found.low:.2f} to {found.high:.2f}"
    )
    if found.low > 1:
        return _Judged(f"More events happen here than predicted: survival is predicted too long ({said}).", off=True)
    if found.high < 1:
        return _Judged(f"Fewer events happen here than predicted: survival is predicted too short ({said}).", off=True)
    return _Judged(f"The level of the risks is not shown to be wrong ({said}).")


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


def _together(figures: ExternalFigures, *, drifted: bool, judged: bool) -> str:
    wrong = figures.d_calibration_p is not None and figures.d_calibration_p < SIGNIFICANT
    if drifted or wrong:
        how = "" if drifted else f" (D-calibration p {figures.d_calibration_p:.2g})"
        return (
            f"Calibration has drifted{how}: don't read the student's probabilities here before slope and baseline are "
            "fitted anew on cases from here; the order of the cases is another matter."
        )
    if not judged:
        return "Calibration can't be judged here."
    return f"No drift of calibration is shown by {figures.events} events; small ones would not be."
