"""Figures against lifelines, by brute force, and on data that can't give them."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.survival import metrics
from wsisurv.survival.metrics import (
    bootstrap,
    concordance,
    cox_slope,
    logrank,
    paired_bootstrap,
    resample_concordance,
)


def follow_up(n: int, seed: int, *, distinct: int = 1000) -> dict[str, NDArray[Any]]:
    """Cases with a true signal; few ``distinct`` values make ties in time and in risk."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    time = rng.exponential(np.exp(-risk))
    return {
        "log_hazard": np.round(risk * distinct / 10) / (distinct / 10),
        "time": np.ceil(time * distinct / 10),
        "event": rng.random(n) < 0.4,
    }


def by_hand(log_hazard: Any, time: Any, event: Any) -> float:
    """Harrell's definition, pair by pair."""
    pairs = score = 0.0
    for i, j in itertools.permutations(range(len(time)), 2):
        if event[i] and (time[j] > time[i] or (time[j] == time[i] and not event[j])):
            pairs += 1
            score += 1.0 if log_hazard[i] > log_hazard[j] else 0.5 if log_hazard[i] == log_hazard[j] else 0.0
    return score / pairs


@pytest.mark.parametrize("distinct", [10, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_concordance_is_its_definition_with_ties(seed: int, distinct: int) -> None:
    data = follow_up(60, seed, distinct=distinct)
    assert concordance(**data) == pytest.approx(by_hand(**data), abs=1e-12)


def test_higher_log_hazard_is_worse() -> None:
    times = [1.0, 2.0, 3.0, 4.0]
    assert concordance(log_hazard=[4, 3, 2, 1], time=times, event=[True] * 4) == 1.0
    assert concordance(log_hazard=[1, 2, 3, 4], time=times, event=[1, 1, 1, 1]) == 0.0
    assert concordance(log_hazard=[0, 0, 0, 0], time=times, event=[1, 0, 1, 0]) == 0.5


@pytest.mark.parametrize("distinct", [10, 1000])
def test_each_resample_is_what_lifelines_says_of_the_cases_drawn(distinct: int) -> None:
    data = follow_up(40, 5, distinct=distinct)
    drawn = resample_concordance(**data, resamples=50, seed=3)
    weights = np.concatenate(list(metrics._draws(40, 50, 3)))
    for row, ours in zip(weights, drawn.resampled[0], strict=True):
        cases = np.repeat(np.arange(40), row.astype(int))
        expected = concordance_index(data["time"][cases], -data["log_hazard"][cases], data["event"][cases])
        assert ours == pytest.approx(expected, abs=1e-12)
    assert drawn.value[0] == pytest.approx(concordance(**data), abs=1e-12)


def test_resamples_do_not_depend_on_how_the_work_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    data = follow_up(80, 1)
    whole = resample_concordance(**data, resamples=40, seed=2).resampled
    monkeypatch.setattr(metrics, "_ROWS", 7)
    monkeypatch.setattr(metrics, "_WEIGHTS", 80 * 9)
    assert np.array_equal(resample_concordance(**data, resamples=40, seed=2).resampled, whole)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_order_of_cases_and_scale_of_risk_do_not_matter(seed: int) -> None:
    data = follow_up(30, seed, distinct=20)
    try:
        value = concordance(**data)
    except MetricError:
        return
    order = np.random.default_rng(seed).permutation(30)
    shuffled = {name: column[order] for name, column in data.items()}
    shuffled["log_hazard"] = 3 * shuffled["log_hazard"] + 7
    assert concordance(**shuffled) == pytest.approx(value)
    assert concordance(**{**data, "log_hazard": -data["log_hazard"]}) == pytest.approx(1 - value)


def test_interval_holds_the_value_and_narrows_with_cases() -> None:
    small, large = bootstrap(**follow_up(60, 0)), bootstrap(**follow_up(600, 0))
    for interval in (small, large):
        assert interval.low < interval.value < interval.high
        assert (interval.resamples, interval.dropped) == (1000, 0)
    assert large.high - large.low < 0.6 * (small.high - small.low)
    assert bootstrap(**follow_up(60, 0), level=0.5).high < small.high


def test_interval_leaves_the_same_share_out_on_both_sides() -> None:
    drawn = resample_concordance(**follow_up(60, 0), resamples=1000)
    interval = drawn.interval(0, level=0.9)
    assert (drawn.resampled[0] < interval.low).sum() == 50
    assert (drawn.resampled[0] > interval.high).sum() == 50
    with pytest.raises(MetricError, match="level is 95"):
        drawn.interval(0, level=95)


def test_same_seed_same_interval() -> None:
    data = follow_up(50, 4)
    assert bootstrap(**data, resamples=100, seed=1) == bootstrap(**data, resamples=100, seed=1)
    assert bootstrap(**data, resamples=100, seed=1) != bootstrap(**data, resamples=100, seed=2)


def test_pairing_cancels_what_two_models_share() -> None:
    data = follow_up(200, 7)
    same = paired_bootstrap(**data, other=data["log_hazard"])
    assert (same.value, same.low, same.high) == (0, 0, 0)
    near = data["log_hazard"] + np.random.default_rng(0).normal(scale=0.1, size=200)
    paired, alone = paired_bootstrap(**data, other=near), bootstrap(**data)
    assert paired.value == pytest.approx(concordance(**data) - concordance(**{**data, "log_hazard": near}))
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_resamples_without_a_pair_are_dropped_and_counted() -> None:
    # one event in 6 cases: (5/6)^6 = 33 % of resamples have none
    data = {"log_hazard": [3, 1, 2, 0, 4, 5], "time": [1, 2, 3, 4, 5, 6], "event": [1, 0, 0, 0, 0, 0]}
    interval = bootstrap(**data, resamples=500)
    assert 100 < interval.dropped < 250
    assert interval.resamples + interval.dropped == 500
    # the event is last but one: both of two cases are needed, 1 - 2·(5/6)^6 + (4/6)^6 = 42 % have them
    data["event"] = [0, 0, 0, 0, 1, 0]
    with pytest.raises(MetricError, match=r"of 500 bootstrap resamples have no comparable pair: 6 cases with 1 event"):
        bootstrap(**data, resamples=500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_hazard": [1, np.nan, 2]}, "log_hazard of case 1 is nan"),
        ({"log_hazard": [1, 2]}, "lengths differ"),
        ({"time": [1, 2, np.inf]}, "time of case 2 is inf"),
        ({"time": [0, 2, 3]}, "time of case 0 is 0"),
        ({"event": [1, 2, 0]}, "event of case 1 is .*2"),
        ({"event": [1, np.nan, 0]}, "event of case 1 is .*nan"),
        ({"event": [0, 0, 0]}, "no comparable pair in 3 cases with 0 events"),
        ({"event": [0, 0, 1]}, "no comparable pair in 3 cases with 1 events"),
        ({"log_hazard": [], "time": [], "event": []}, "no comparable pair in 0 cases"),
    ],
)
@pytest.mark.parametrize("figure", [concordance, bootstrap, cox_slope])
def test_data_that_cannot_give_the_figure(figure: Any, change: dict[str, Any], message: str) -> None:
    data = {"log_hazard": [1, 2, 3], "time": [1, 2, 3], "event": [1, 1, 0], **change}
    with pytest.raises(MetricError, match=message):
        figure(**data)


def test_one_tied_event_beside_a_censored_case_is_a_pair() -> None:
    assert concordance(log_hazard=[2, 1], time=[5, 5], event=[True, False]) == 1.0
    with pytest.raises(MetricError, match="no comparable pair"):
        concordance(log_hazard=[2, 1], time=[5, 5], event=[True, True])


def test_logrank_finds_a_difference_and_only_where_there_is_one() -> None:
    data = follow_up(300, 2)
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


def test_slope_is_lifelines_own_whatever_the_scale_of_risk() -> None:
    import pandas as pd

    data = follow_up(200, 3, distinct=50)
    fit = CoxPHFitter().fit(pd.DataFrame(data), "time", "event")
    slope = cox_slope(**data)
    assert slope.value == pytest.approx(fit.params_["log_hazard"], rel=1e-5)
    assert slope.se == pytest.approx(fit.standard_errors_["log_hazard"], rel=1e-5)
    wide = cox_slope(**{**data, "log_hazard": data["log_hazard"] * 1000 + 5e4})
    assert wide.value == pytest.approx(slope.value / 1000, rel=1e-5)
    assert 0.7 < slope.value < 1.4


def test_no_slope_of_equal_or_separating_risks() -> None:
    with pytest.raises(MetricError, match="there is no slope"):
        cox_slope(log_hazard=[1, 1, 1], time=[1, 2, 3], event=[1, 1, 0])
    n = 30
    with pytest.raises(MetricError, match="does not converge"):
        cox_slope(log_hazard=-np.arange(n), time=np.arange(1, n + 1), event=np.ones(n))
