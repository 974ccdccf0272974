"""What a cohort can tell, before anything is trained: events a parameter, Riley's criteria, width of an interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.survival.covariates import make_columns
from wsisurv.survival.sample_size import SampleSize, concordance_se, max_r2, required_sample_size

EXPECTED = 0.65
"""Concordance for which the width of the interval is told."""
_R2 = 0.15
"""Share of the largest possible Cox-Snell R² that Riley's criteria suppose where nothing is known of the model."""
_NORMAL = 1.96


@dataclass(frozen=True)
class StudyPlan:
    """What so many cases and events can tell."""

    cases: int
    events: int
    covariates: int  # parameters of the clinical covariates
    required: SampleSize  # cases that a Cox model of the risk and the covariates needs
    half_width: float | None  # of the 95 % interval of a concordance of .65; None where no case is censored

    @property
    def parameters(self) -> int:
        """Parameters of a Cox model of the covariates and the risk."""
        return self.covariates + 1

    @property
    def events_a_parameter(self) -> float:
        """Events for each of them."""
        return self.events / self.parameters

    @property
    def too_small(self) -> bool:
        """Whether fewer cases are there than Riley's criteria ask for."""
        return self.cases < self.required.cases

    @property
    def words(self) -> str:
        """The result in a plain sentence or two."""
        of = f"the risk and {self.covariates} of the covariates" if self.covariates else "the risk alone"
        need = self.required
        told = (
            f"{self.events} events, {self.events_a_parameter:.3g} for each of {self.parameters} "
            f"parameter{'s' if self.covariates else ''} ({of}); Riley's criteria ask for {need.cases} cases "
            f"(shrinkage {need.for_shrinkage}, optimism {need.for_optimism}, overall risk {need.for_overall_risk})"
        )
        if self.too_small:
            told = (
                f"the cohort is too small for what is asked, {self.cases} case{'' if self.cases == 1 else 's'}: {told}"
            )
        if self.half_width is not None:
            low, high = EXPECTED - self.half_width, EXPECTED + self.half_width
            told += f"; a concordance of {EXPECTED} would have a 95 % interval of about {low:.2f} to {min(high, 1):.2f}"
            if low <= 0.5:
                told += ", and 0.5, chance, is inside it"
        return told


def plan_study(*, cases: int, events: int, covariates: int) -> StudyPlan:
    """What a cohort can tell.

    The criteria suppose 15 % of the largest possible R², and the overall risk is that at the mean follow-up. The own
    weights of a student are held by penalties and can't be counted: what is asked here is the least, that its risk
    beside the covariates can be estimated.

    Args:
        cases: of the cohort.
        events: among them.
        covariates: parameters of the clinical covariates.

    Raises:
        MetricError: no case, or no event.

    Source: Riley RD et al. BMJ 2020;368:m441.
    """
    if not 0 < events <= cases:
        raise MetricError(f"{cases} cases with {events} events: nothing can be planned")
    rate = events / cases  # with the mean follow-up as the unit of time
    r2 = _R2 * max_r2(rate=rate, mean_follow_up=1)
    required = required_sample_size(parameters=covariates + 1, r2=r2, rate=rate, mean_follow_up=1, timepoint=1)
    if events == cases:
        return StudyPlan(cases, events, covariates, required, None)
    error = concordance_se(concordance=EXPECTED, cases=cases, events=events)
    return StudyPlan(cases, events, covariates, required, _NORMAL * error)


def covariate_parameters(cases: Sequence[Case]) -> int:
    """Parameters of a Cox model of all the covariates that the cases have; of words one is compared with."""
    if not any(case.covariates for case in cases):
        return 0
    columns = make_columns(cases)
    return sum((max(len(one.levels) - 1, 0) if one.kind == "words" else 1) + one.unknown for one in columns)
