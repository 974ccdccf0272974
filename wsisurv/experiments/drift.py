"""What an external validation shows, in plain words and by fixed rules."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsisurv.experiments.external import ExternalFigures
from wsisurv.experiments.verdict import FEW_EVENTS, SIGNIFICANT, p_equals
from wsisurv.survival.prognosis import Prognosis

_CHANCE, _NORMAL = 0.5, 1.96
_SIGNS = 2


def drift_verdict(figures: ExternalFigures, prognosis: Prognosis, own: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Say what the figures show: discrimination, calibration, risk groups.

    Args:
        figures: of the other cohort.
        prognosis: of the student.
        own: the student's row of its own cross-validation (``concordance``, ``low``, ``high``); None where unknown.
    """
    lines = [
        _discrimination(figures, own),
        _slope(figures),
        _in_the_large(figures),
        *_horizons(figures),
        _groups(figures),
    ]
    lines += [_together(figures, prognosis), _unfamiliar(figures)]
    if figures.events < FEW_EVENTS:
        lines.append(f"Only {figures.events} events: treat every line here as a first impression.")
    return tuple(line for line in lines if line)


def _discrimination(figures: ExternalFigures, own: Mapping[str, Any] | None) -> str:
    here = figures.concordance
    line = f"concordance {here.value:.3f}, 95 % interval {here.low:.3f} to {here.high:.3f}"
    if here.low > _CHANCE:
        line = f"The student predicts the outcome better than chance here ({line})"
    else:
        line = f"The student is not shown to predict the outcome better than chance here ({line})"
    if own is None:
        return line + "; it was never cross-validated, so there is nothing to hold that against."
    there = f"{own['concordance']:.3f} in its own cross-validation"
    difference = here.value - own["concordance"]
    # both are estimates, on other cases: half widths of 95 % intervals add as standard errors do
    reach = float(np.hypot(here.high - here.low, own["high"] - own["low"])) / 2
    if abs(difference) <= reach:
        return f"{line}; that is not shown to differ from the {there}."
    return f"{line}, {'better' if difference > 0 else 'less well'} than the {there}."


def _slope(figures: ExternalFigures) -> str:
    slope = figures.calibrated_slope
    if slope is None:
        return "The calibration slope can't be estimated here."
    low, high = slope.value - _NORMAL * slope.se, slope.value + _NORMAL * slope.se
    figure = f"calibration slope {slope.value:.2f}, 95 % interval {low:.2f} to {high:.2f}; 1 is right"
    if high < 1:
        return f"Differences between cases are smaller here than predicted: risks are too extreme ({figure})."
    if low > 1:
        return f"Differences between cases are larger here than predicted: risks are too moderate ({figure})."
    return f"The spread of the risks is not shown to be wrong ({figure})."


def _in_the_large(figures: ExternalFigures) -> str:
    found = figures.observed_expected
    if found is None:
        return "Calibration-in-the-large can't be judged here."
    figure = (
        f"calibration-in-the-large: {found.observed} events, {found.expected:.1f} expected, ratio {found.ratio:.2f}, "
        f"95 % interval {found.low:.2f} to {found.high:.2f}"
    )
    if found.low > 1:
        return f"More events happen here than predicted: survival is predicted too long ({figure})."
    if found.high < 1:
        return f"Fewer events happen here than predicted: survival is predicted too short ({figure})."
    return f"The level of the risks is not shown to be wrong ({figure})."


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
    differ = "differ" if figures.logrank_p < SIGNIFICANT else "are not shown to differ"
    return (
        f"Risk groups by the cut-offs of training {differ} in survival here (log-rank {p_equals(figures.logrank_p)})."
    )


def _unfamiliar(figures: ExternalFigures) -> str:
    if not figures.unfamiliar:
        return ""
    line = (
        f"{figures.unfamiliar} of {figures.cases} cases are unfamiliar to the student. They count in every figure here "
        "but the log-rank test of the risk groups, since leaving them out would flatter it"
    )
    if (rest := figures.concordance_familiar) is None:
        return line + "."
    return f"{line}; without them its concordance is {rest.value:.3f}, 95 % interval {rest.low:.3f} to {rest.high:.3f}."


def drift_p(figures: ExternalFigures, prognosis: Prognosis) -> float | None:
    """P-value of no drift, by calibration slope and calibration-in-the-large: the lesser of the two, times two.

    Slope and baseline of the student are estimates too, from the events of its training. Taken for the truth, drift was
    called in 25 % of cohorts of 150 cases without any, and in 58 % of 500 (160 training cases). So the slopes are
    compared with both standard errors, and the ratio of events is allowed the error of a baseline from so few events:
    with D events in training, those expected elsewhere are known to within a gamma distribution of shape D, and what
    is counted is negative binomial.
    """
    from scipy.stats import nbinom, norm

    found = []
    if (slope := figures.slope) is not None:
        away = abs(slope.value - prognosis.slope) / np.hypot(slope.se, prognosis.slope_se)
        found.append(2 * float(norm.sf(away)))
    if (ratio := figures.observed_expected) is not None:
        counted = nbinom(prognosis.events, prognosis.events / (prognosis.events + ratio.expected))
        found.append(2 * float(min(counted.cdf(ratio.observed), counted.sf(ratio.observed - 1))))
    return min(1.0, _SIGNS * min(found)) if found else None


def _together(figures: ExternalFigures, prognosis: Prognosis) -> str:
    p = drift_p(figures, prognosis)
    if p is None:
        return "Calibration can't be judged here."
    test = f"calibration slope and calibration-in-the-large together {p_equals(p)}"
    if p < SIGNIFICANT:
        return (
            f"Calibration has drifted ({test}, beyond what its {prognosis.events} events in training left open): don't "
            "read the student's probabilities here before slope and baseline hazard are fitted anew on cases from "
            "here; the order of the cases is not affected."
        )
    return (
        f"No drift of calibration is shown by {figures.events} events here and {prognosis.events} in training "
        f"({test}): a small one would not be."
    )
