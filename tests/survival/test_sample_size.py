"""Riley's criteria against the published example; the interval of a concordance against simulation."""

import numpy as np
import pytest

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.survival.metrics import concordance
from wsisurv.survival.planning import covariate_parameters, plan_study
from wsisurv.survival.sample_size import concordance_se, max_r2, required_sample_size
from wsisurv.units import CaseId


def test_the_published_example() -> None:
    """Recurrence of thromboembolism, BMJ 2020;368:m441: 30 parameters, R² .051; 5143 cases, 692 of them with events."""
    found = required_sample_size(parameters=30, r2=0.051, rate=0.065, mean_follow_up=2.07, timepoint=2)
    assert found.for_shrinkage == 5143
    assert found.for_optimism == 1039
    assert found.cases == 5143
    assert round(5143 * 0.065 * 2.07) == 692
    assert found.max_r2 == pytest.approx(0.55, abs=0.01)


def test_the_overall_risk_is_known_to_within_its_margin() -> None:
    found = required_sample_size(parameters=1, r2=0.3, rate=0.1, mean_follow_up=3, timepoint=5)
    rng = np.random.default_rng(0)
    events = rng.poisson(0.1 * 3 * found.for_overall_risk, 20_000)
    risk = 1 - np.exp(-5 * events / (3 * found.for_overall_risk))
    assert np.quantile(np.abs(risk - (1 - np.exp(-0.5))), 0.95) == pytest.approx(0.05, abs=0.006)
    assert found.cases == found.for_overall_risk  # with one parameter this one decides


def test_more_parameters_and_a_weaker_model_need_more_cases() -> None:
    few, many = (
        required_sample_size(parameters=p, r2=0.1, rate=0.1, mean_follow_up=3, timepoint=5).cases for p in (10, 20)
    )
    weak = required_sample_size(parameters=10, r2=0.05, rate=0.1, mean_follow_up=3, timepoint=5).cases
    assert many > 1.9 * few
    assert weak > 1.9 * few
    # the unit of time is of no account
    again = required_sample_size(parameters=10, r2=0.1, rate=0.1 / 365, mean_follow_up=3 * 365, timepoint=5 * 365)
    assert again.cases == few
    assert max_r2(rate=0.1, mean_follow_up=3) == pytest.approx(max_r2(rate=0.1 / 12, mean_follow_up=36))


@pytest.mark.parametrize(("effect", "events"), [(0.5, 60), (1.0, 120)])
def test_the_expected_error_is_near_that_of_repeated_cohorts(effect: float, events: int) -> None:
    values, seen = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        risk = rng.normal(size=200)
        death, end = rng.exponential(np.exp(-effect * risk)), rng.uniform(0, 0.85 if events == 60 else 2.6, 200)
        values.append(concordance(log_hazard=risk, time=np.minimum(death, end), event=death <= end))
        seen.append((death <= end).sum())
    assert np.mean(seen) == pytest.approx(events, abs=12)
    expected = concordance_se(concordance=float(np.mean(values)), cases=200, events=round(np.mean(seen)))
    assert expected == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("changes", [{"r2": 0.0}, {"r2": 0.9}, {"parameters": 0}, {"rate": 0.0}, {"timepoint": -1.0}])
def test_what_can_not_be(changes: dict[str, float]) -> None:
    with pytest.raises(MetricError):
        required_sample_size(
            **{"parameters": 10, "r2": 0.1, "rate": 0.1, "mean_follow_up": 3.0, "timepoint": 5.0, **changes}
        )
    with pytest.raises(MetricError, match="no standard error"):
        concordance_se(concordance=0.6, cases=50, events=50)


def test_a_plan_says_in_words_when_a_cohort_is_too_small() -> None:
    plan = plan_study(cases=160, events=58, covariates=2)
    assert plan.events_a_parameter == pytest.approx(58 / 3)
    # the shrinkage of .9, by the formula: n = p / ((S − 1) ln(1 − R² / S)), R² 15 % of 1 − exp(2 (ln L0) / n)
    share = 58 / 160
    r2 = 0.15 * (1 - np.exp(2 * (share * np.log(share) - share)))
    assert plan.required.for_shrinkage == np.ceil(3 / (-0.1 * np.log(1 - r2 / 0.9)))
    assert plan.half_width == pytest.approx(1.96 * concordance_se(concordance=0.65, cases=160, events=58))
    assert plan.words.startswith("the cohort is too small for what is asked, 160 cases: 58 events, 19.3 for each of 3")
    large = plan_study(cases=2000, events=700, covariates=2)
    assert not large.too_small
    assert "too small" not in large.words
    assert "0.5, chance, is inside it" in plan_study(cases=60, events=7, covariates=0).words
    assert plan_study(cases=9, events=9, covariates=0).half_width is None
    with pytest.raises(MetricError):
        plan_study(cases=9, events=0, covariates=0)


def test_parameters_are_those_that_the_covariates_become() -> None:
    def cases(*values: str) -> list[Case]:
        return [Case(CaseId(f"c{k}"), 1.0, True, None, {"x": value}) for k, value in enumerate(values)]

    assert covariate_parameters(cases(*"123456")) == 1
    assert covariate_parameters(cases(*(["I", "II", "IIIB"] * 5))) == 1  # a scale
    assert covariate_parameters(cases(*(["red", "green", "blue"] * 5))) == 2  # one is compared with
    assert covariate_parameters(cases(*(["red", "green", ""] * 5))) == 2  # and one for unknown
    assert covariate_parameters([Case(CaseId("c"), 1.0, True)]) == 0
