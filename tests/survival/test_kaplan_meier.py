"""Curves against lifelines and by hand; the log-rank test by hand."""

from typing import Any

import numpy as np
import pytest
from lifelines import KaplanMeierFitter

from wsisurv.errors import MetricError
from wsisurv.survival.kaplan_meier import censoring_curve, kaplan_meier, logrank


@pytest.mark.parametrize("distinct", [10, 1000])
def test_curve_is_that_of_lifelines(make_cases: Any, distinct: int) -> None:
    data = make_cases(150, 1, distinct=distinct)
    curve = kaplan_meier(time=data["time"], event=data["event"])
    fitted = KaplanMeierFitter().fit(data["time"], data["event"])
    at = np.concatenate([[0.0], data["time"], data["time"] + 0.5, [1e9]])
    assert curve.at(at) == pytest.approx(fitted.predict(at).to_numpy(), abs=1e-12)
    assert curve.at_risk.tolist() == fitted.event_table["at_risk"].to_list()[1:]
    assert curve.median == fitted.median_survival_time_


def test_curve_of_censoring_takes_events_of_a_time_before_its_censorings() -> None:
    # at 2: one event, then two of the three left are censored; at 4 the last case
    curve = censoring_curve(time=[1, 2, 2, 2, 4], event=[1, 1, 0, 0, 0])
    assert curve.survival.tolist() == pytest.approx([1, 1 / 3, 0])
    assert curve.before([1, 2, 2.5, 4, 9]).tolist() == pytest.approx([1, 1, 1 / 3, 1 / 3, 0])
    assert curve.at([0.5, 2, 4]).tolist() == pytest.approx([1, 1 / 3, 0])


def test_curve_of_censoring_is_that_of_lifelines_where_no_time_is_shared() -> None:
    rng = np.random.default_rng(0)
    time, event = rng.permutation(200) + 1.0, rng.random(200) < 0.5
    fitted = KaplanMeierFitter().fit(time, ~event)
    assert censoring_curve(time=time, event=event).at(time) == pytest.approx(fitted.predict(time).to_numpy(), abs=1e-12)


def test_inverse_of_the_curve_of_censoring_is_torchsurvs_weight(torchsurv_says: dict[str, Any]) -> None:
    time, event = torchsurv_says["cases"]["time"], torchsurv_says["cases"]["event"]
    followed = censoring_curve(time=time, event=event).at(time)
    weight = np.divide(1, followed, out=np.zeros(len(time)), where=followed > 0)
    assert weight == pytest.approx(np.array(torchsurv_says["weight"]), rel=1e-5)


def test_no_median_where_more_than_half_are_left_and_one_at_exactly_half() -> None:
    assert kaplan_meier(time=[1, 2, 3, 4], event=[1, 0, 0, 0]).median is None
    assert kaplan_meier(time=[1, 2, 3, 4], event=[1, 1, 0, 0]).median == 2


@pytest.mark.parametrize(
    ("time", "event", "message"),
    [([], [], "no case"), ([1, -1], [1, 0], "time of case 1"), ([1, 2], [1], "lengths"), ([1], [2], "event of case 0")],
)
@pytest.mark.parametrize("curve", [kaplan_meier, censoring_curve])
def test_follow_up_that_is_none(curve: Any, time: list[float], event: list[int], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        curve(time=time, event=event)


def test_logrank_finds_a_difference_and_only_where_there_is_one(make_cases: Any) -> None:
    data = make_cases(300, 2)
    high = data["log_hazard"] > 0
    result = logrank(group=np.where(high, "high", "low"), time=data["time"], event=data["event"])
    assert result.p < 1e-6
    assert result.degrees_of_freedom == 1
    chance = np.random.default_rng(0).integers(3, size=300)
    noise = logrank(group=chance, time=data["time"], event=data["event"])
    assert noise.p > 0.01
    assert noise.degrees_of_freedom == 2


def test_logrank_by_hand() -> None:
    # two groups, no ties: observed minus expected events of group a, and its hypergeometric variance
    time, event, group = [1, 2, 3, 4, 5, 6], [1, 1, 1, 0, 1, 1], list("aababb")
    deviation = variance = 0.0
    for t, e in zip(time, event, strict=True):
        at_risk = [g for s, g in zip(time, group, strict=True) if s >= t]
        share = at_risk.count("a") / len(at_risk)
        if e:
            deviation += (group[t - 1] == "a") - share
            variance += share * (1 - share)
    assert logrank(group=group, time=time, event=event).statistic == pytest.approx(deviation**2 / variance)


@pytest.mark.parametrize(
    ("group", "event", "message"),
    [(["a", "a"], [1, 0], "two groups"), (["a", "b"], [0, 0], "needs an event"), (["a"], [1, 0], "lengths differ")],
)
def test_logrank_needs_groups_and_events(group: list[str], event: list[int], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        logrank(group=group, time=[1, 2], event=event)
