"""Figures against lifelines, by brute force, and on data that can't give them."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index

from wsisurv.errors import MetricError
from wsisurv.survival import stratified
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.follow_up import FollowUp
from wsisurv.survival.metrics import bootstrap, concordance, resample_concordance
from wsisurv.survival.resampling import draw_weights


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
def test_concordance_is_its_definition_with_ties(make_cases: Any, seed: int, distinct: int) -> None:
    data = make_cases(60, seed, distinct=distinct)
    assert concordance(**data) == pytest.approx(by_hand(**data), abs=1e-12)


def test_higher_log_hazard_is_worse() -> None:
    times = [1.0, 2.0, 3.0, 4.0]
    assert concordance(log_hazard=[4, 3, 2, 1], time=times, event=[True] * 4) == 1.0
    assert concordance(log_hazard=[1, 2, 3, 4], time=times, event=[1, 1, 1, 1]) == 0.0
    assert concordance(log_hazard=[0, 0, 0, 0], time=times, event=[1, 0, 1, 0]) == 0.5


@pytest.mark.parametrize("distinct", [10, 1000])
def test_each_resample_is_what_lifelines_says_of_the_cases_drawn(make_cases: Any, distinct: int) -> None:
    data = make_cases(40, 5, distinct=distinct)
    drawn = resample_concordance(**data, resamples=50, seed=3)
    weights = np.concatenate(list(draw_weights(40, 50, 3)))
    for row, ours in zip(weights, drawn.resampled[0], strict=True):
        cases = np.repeat(np.arange(40), row.astype(int))
        expected = concordance_index(data["time"][cases], -data["log_hazard"][cases], data["event"][cases])
        assert ours == pytest.approx(expected, abs=1e-12)
    assert drawn.value[0] == pytest.approx(concordance(**data), abs=1e-12)


@pytest.mark.parametrize("places", [1, 3, 40, 10_000])
@pytest.mark.parametrize("late", [False, True])
def test_counting_by_halves_is_counting_pair_by_pair(monkeypatch: pytest.MonkeyPatch, places: int, late: bool) -> None:
    """Ties of time, of risk and of both; whole halves of one place or without an event; late entry; Uno's weights."""
    rng = np.random.default_rng(places)
    time, event = rng.integers(1, places + 1, 90).astype(float), rng.random(90) < 0.4
    event[time > np.median(time)] &= places < 10_000
    entry = np.floor(time * rng.random(90)) - 1 if late else None
    rows = rng.permutation(90)[:70]
    risks = rng.normal(size=(2, 70)).round(1)
    fold = stratified.FoldScores(0, rows, risks, 1)
    weights = rng.integers(4, size=(5, 90)).astype(np.float32)
    earlier = rng.random((5, 90)) * event
    later = (time[rows][:, None] < time[rows]) | ((time[rows][:, None] == time[rows]) & ~event[rows])
    if entry is not None:
        later &= entry[rows] < time[rows][:, None]
    for size in (1, 2, 5, 1000):
        monkeypatch.setattr(stratified, "_ALL_WITH_ALL", size)
        for factor in (None, earlier):
            first = weights[:, rows] * (event[rows] if factor is None else factor[:, rows])
            follow_up = FollowUp(np.zeros((1, 90)), time, event, entry)
            pairs, score = stratified._count(fold, weights, follow_up, factor)
            np.testing.assert_allclose(pairs, np.einsum("bi,ij,bj->b", first, later, weights[:, rows]), atol=1e-9)
            for model, risk in enumerate(risks):
                right = later * ((risk[:, None] > risk) + 0.5 * (risk[:, None] == risk))
                wanted = np.einsum("bi,ij,bj->b", first, right, weights[:, rows])
                np.testing.assert_allclose(score[model], wanted, atol=1e-9)


def test_resamples_do_not_depend_on_how_the_work_is_split(make_cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_cases(80, 1)
    whole = resample_concordance(**data, resamples=40, seed=2).resampled
    monkeypatch.setattr(stratified, "_ALL_WITH_ALL", 7)
    monkeypatch.setattr(stratified, "_AT_ONCE", 80 * 9)
    assert np.array_equal(resample_concordance(**data, resamples=40, seed=2).resampled, whole)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_order_of_cases_and_scale_of_risk_do_not_matter(make_cases: Any, seed: int) -> None:
    data = make_cases(30, seed, distinct=20)
    try:
        value = concordance(**data)
    except MetricError:
        return
    order = np.random.default_rng(seed).permutation(30)
    shuffled = {name: column[order] for name, column in data.items()}
    shuffled["log_hazard"] = 3 * shuffled["log_hazard"] + 7
    assert concordance(**shuffled) == pytest.approx(value)
    assert concordance(**{**data, "log_hazard": -data["log_hazard"]}) == pytest.approx(1 - value)


def test_interval_holds_the_value_and_narrows_with_cases(make_cases: Any) -> None:
    small, large = bootstrap(**make_cases(60, 0)), bootstrap(**make_cases(600, 0))
    for interval in (small, large):
        assert interval.low < interval.value < interval.high
        assert (interval.resamples, interval.dropped) == (1000, 0)
    assert large.high - large.low < 0.6 * (small.high - small.low)
    assert bootstrap(**make_cases(60, 0), level=0.5).high < small.high


def test_interval_leaves_the_same_share_out_on_both_sides(make_cases: Any) -> None:
    drawn = resample_concordance(**make_cases(60, 0), resamples=1000)
    interval = drawn.interval(0, level=0.9)
    assert (drawn.resampled[0] < interval.low).sum() == 50
    assert (drawn.resampled[0] > interval.high).sum() == 50
    with pytest.raises(MetricError, match="level is 95"):
        drawn.interval(0, level=95)


def test_same_seed_same_interval(make_cases: Any) -> None:
    data = make_cases(50, 4)
    assert bootstrap(**data, resamples=100, seed=1) == bootstrap(**data, resamples=100, seed=1)
    assert bootstrap(**data, resamples=100, seed=1) != bootstrap(**data, resamples=100, seed=2)


def test_pairing_cancels_what_two_models_share(make_cases: Any) -> None:
    data = make_cases(200, 7)
    near = data["log_hazard"] + np.random.default_rng(0).normal(scale=0.1, size=200)
    models = np.stack([data["log_hazard"], near, data["log_hazard"]])
    drawn = resample_concordance(**{**data, "log_hazard": models})
    same = drawn.difference(0, 2)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    paired, alone = drawn.difference(0, 1), bootstrap(**data)
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
