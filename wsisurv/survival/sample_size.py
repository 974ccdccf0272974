"""Is a cohort large enough for a survival model? Riley's criteria, and the interval to expect of a concordance."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import bisect

from wsisurv.errors import MetricError
from wsisurv.survival.follow_up import FollowUp
from wsisurv.survival.stratified import within_one_fold

_NORMAL = 1.959964
_SHRINKAGE = 0.9
_OPTIMISM = 0.05
_MARGIN = 0.05


@dataclass(frozen=True)
class SampleSize:
    """Cases that a Cox model of so many parameters needs."""

    for_shrinkage: int  # expected shrinkage of predictor effects at least .9
    for_optimism: int  # Nagelkerke's R² apparent less adjusted at most .05
    for_overall_risk: int  # the overall risk at the time known to within ± .05
    max_r2: float  # largest Cox-Snell R² that such follow-up allows

    @property
    def cases(self) -> int:
        """Cases that all three need."""
        return max(self.for_shrinkage, self.for_optimism, self.for_overall_risk)


def required_sample_size(
    *, parameters: int, r2: float, rate: float, mean_follow_up: float, timepoint: float
) -> SampleSize:
    """Cases needed to develop a Cox model, by Riley's three criteria.

    Args:
        parameters: candidate predictor parameters.
        r2: Cox-Snell R² that is expected of the model, above 0, below the largest possible.
        rate: events per unit of time at risk.
        mean_follow_up: of a case, in the same unit.
        timepoint: at which the overall risk is wanted.

    Raises:
        MetricError: a value out of range.

    Source: Riley RD et al. Statistics in Medicine 2019;38:1276-1296 and BMJ 2020;368:m441.
    """
    if parameters < 1 or min(rate, mean_follow_up, timepoint) <= 0:
        raise MetricError(
            f"{parameters} parameters, rate {rate:g}, follow-up {mean_follow_up:g}, time {timepoint:g}: positive "
            "numbers are needed"
        )
    largest = max_r2(rate=rate, mean_follow_up=mean_follow_up)
    if not 0 < r2 < largest:
        raise MetricError(f"R² {r2:g}: above 0 and below {largest:.3f}, the largest with such follow-up, is needed")

    def for_shrinkage(shrinkage: float) -> int:
        return math.ceil(parameters / ((shrinkage - 1) * math.log(1 - r2 / shrinkage)))

    first = for_shrinkage(_SHRINKAGE)
    second = for_shrinkage(r2 / (r2 + _OPTIMISM * largest))
    third = math.ceil(_for_overall_risk(rate, timepoint, mean_follow_up))
    return SampleSize(first, second, third, largest)


def max_r2(*, rate: float, mean_follow_up: float) -> float:
    """Largest Cox-Snell R², from the likelihood of an exponential model without predictors.

    The mean follow-up is taken as the unit of time, so that it is ln L = E ln(E / n) − E for E events of n cases.
    """
    events = rate * mean_follow_up
    return 1 - math.exp(2 * events * (math.log(events) - 1))


def _for_overall_risk(rate: float, timepoint: float, mean_follow_up: float) -> float:
    """Cases by which the interval of exp(−rate t) reaches no further than the margin on either side."""
    low, high = 1.0, 1e12
    while high - low > 0.5:
        cases = (low + high) / 2
        reach = _NORMAL * math.sqrt(rate / (cases * mean_follow_up))
        ends = [1 - math.exp(-max(rate + sign * reach, 0.0) * timepoint) for sign in (-1, 1)]
        middle = 1 - math.exp(-rate * timepoint)
        low, high = (low, cases) if max(ends[1] - middle, middle - ends[0]) <= _MARGIN else (cases, high)
    return high


def concordance_se(*, concordance: float, cases: int, events: int, repeats: int = 200) -> float:
    """Standard error to expect of Harrell's concordance, before anything is trained: that of simulated cohorts.

    Log hazards are normal, and spread so that the concordance is the one asked for; times are exponential, censored
    uniformly so that so many events are seen. (Formulas for events against cases without one, as of an AUC, came out
    half as wide again where most cases have the event: they leave pairs of events out.)

    Args:
        concordance: that is expected, from .5 up to 1.
        cases: that will be tested, once each.
        events: among them.
        repeats: simulated cohorts; the same numbers give the same error.

    Raises:
        MetricError: a value out of range, or no event or none without.
    """
    if not 0.5 <= concordance < 0.99 or not 1 <= events < cases:
        raise MetricError(
            f"concordance {concordance:g} of {cases} cases with {events} events: no standard error can be expected"
        )
    rng = np.random.default_rng(0)
    pairs = np.abs(rng.normal(size=20_000)) * math.sqrt(2)
    spread = bisect(lambda sd: float((1 / (1 + np.exp(-sd * pairs))).mean()) - concordance, 0.0, 100.0, xtol=1e-4)
    risk = spread * rng.normal(size=(repeats, cases))
    death, leaving = rng.exponential(np.exp(-risk)), rng.random(size=(repeats, cases))
    share = events / cases

    def too_few(log_end: float) -> float:
        return share - float((death <= leaving * math.exp(log_end)).mean())

    end = leaving * math.exp(bisect(too_few, -100.0, 100.0, xtol=1e-3))
    values = []
    for eta, time, last in zip(risk, death, end, strict=True):
        happened = time <= last
        data = FollowUp(eta[None], np.minimum(time, last), happened)
        values.append(float(within_one_fold(data)[0]))
    return float(np.nanstd(values))
