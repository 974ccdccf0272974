"""Uno's concordance and dynamic AUC: against torchsurv, by hand where times are shared, and for what they promise."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from wsisurv.errors import MetricError
from wsisurv.survival import dynamic
from wsisurv.survival.dynamic import dynamic_auc, followed_until
from wsisurv.survival.kaplan_meier import censoring_curve
from wsisurv.survival.metrics import concordance
from wsisurv.survival.stratified import FoldScores, uno_within


def uno(log_hazard: Any, time: Any, event: Any, until: float) -> float:
    whole = [FoldScores(0, np.arange(len(time)), np.asarray(log_hazard)[None], len(time))]
    follow_up = {"time": np.asarray(time), "event": np.asarray(event, dtype=bool)}
    return float(uno_within(whole, **follow_up, resamples=1, until=until).whole.value[0])


def uno_by_hand(log_hazard: Any, time: Any, event: Any, until: float) -> float:
    """Pair by pair; P(followed to t) is the product over earlier times of those not censored there."""
    pairs = score = 0.0
    for i in range(len(time)):
        if not event[i] or time[i] >= until:
            continue
        followed = 1.0
        for t in sorted({t for t in time if t < time[i]}):
            at_risk = sum(1 for u, e in zip(time, event, strict=True) if u > t or (u == t and not e))
            followed *= 1 - sum(1 for u, e in zip(time, event, strict=True) if u == t and not e) / max(at_risk, 1)
        for j in range(len(time)):
            if time[j] > time[i] or (time[j] == time[i] and not event[j]):
                pairs += followed**-2
                score += followed**-2 * (0.5 * (log_hazard[i] > log_hazard[j]) + 0.5 * (log_hazard[i] >= log_hazard[j]))
    return score / pairs


def effect_that_fades(n: int, seed: int, *, censored: bool) -> dict[str, Any]:
    """Risk counts for early events only, so that concordance over a short time is higher than over a long one."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    early = rng.exponential(np.exp(-2 * risk))
    event_time = np.where(early < 0.5, early, 0.5 + rng.exponential(1.0, n))
    end = rng.exponential(0.7, n) if censored else np.full(n, 3.0)
    end = np.minimum(end, 3.0)
    return {"log_hazard": risk, "time": np.minimum(event_time, end), "event": event_time <= end}


def test_concordance_is_torchsurvs(torchsurv_says: dict[str, Any]) -> None:
    for until, expected in zip(torchsurv_says["horizons"], torchsurv_says["uno"], strict=True):
        assert uno(**torchsurv_says["cases"], until=until) == pytest.approx(expected, abs=1e-6)


def test_auc_is_torchsurvs(torchsurv_says: dict[str, Any]) -> None:
    result = dynamic_auc(**torchsurv_says["cases"], horizons=torchsurv_says["horizons"])
    assert result.auc == pytest.approx(torchsurv_says["auc"], abs=1e-6)
    assert result.mean == pytest.approx(torchsurv_says["mean_auc"], abs=1e-6)


@pytest.mark.parametrize("distinct", [10, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_concordance_is_its_definition_where_times_and_risks_are_shared(
    make_cases: Any, seed: int, distinct: int
) -> None:
    data = make_cases(45, seed, distinct=distinct)
    for until in (np.median(data["time"]) + 1, data["time"].max(), 1e9):
        assert uno(**data, until=until) == pytest.approx(uno_by_hand(**data, until=until), abs=1e-12)


@given(n=st.integers(2, 70), seed=st.integers(0, 10_000), distinct=st.sampled_from([3, 10, 100]))
@settings(max_examples=60, deadline=None)
def test_without_censoring_weights_it_is_harrells(make_cases: Any, n: int, seed: int, distinct: int) -> None:
    data = make_cases(n, seed, distinct=distinct) | {"event": np.ones(n, dtype=bool)}
    try:
        expected = concordance(**data)
    except MetricError:
        assert np.isnan(uno(**data, until=1e9))
        return
    assert uno(**data, until=1e9) == pytest.approx(expected, abs=1e-12)


def test_figures_of_censored_cases_are_those_of_cases_followed_throughout() -> None:
    whole, cut = effect_that_fades(40_000, 0, censored=False), effect_that_fades(40_000, 1, censored=True)
    some = [{name: values[:10_000] for name, values in data.items()} for data in (whole, cut)]
    truth = uno(**some[0], until=1.5)
    assert uno(**some[1], until=1.5) == pytest.approx(truth, abs=0.01)
    assert abs(concordance(**cut) - concordance(**whole)) > 0.03
    horizons = [0.3, 0.6, 1.0, 1.5]
    expected, auc = dynamic_auc(**whole, horizons=horizons), dynamic_auc(**cut, horizons=horizons)
    assert auc.auc == pytest.approx(expected.auc, abs=0.015)
    assert auc.mean == pytest.approx(expected.mean, abs=0.015)
    assert expected.auc[0] > expected.auc[-1] + 0.05


def test_auc_of_cases_followed_throughout_is_the_plain_one_with_ties_half(make_cases: Any) -> None:
    data = make_cases(120, 2, distinct=20) | {"event": np.ones(120, dtype=bool)}
    horizons = np.unique(data["time"])[1:-1]
    result = dynamic_auc(**data, horizons=horizons)
    for horizon, auc in zip(horizons, result.auc, strict=True):
        died = data["time"] <= horizon
        u = mannwhitneyu(data["log_hazard"][died], data["log_hazard"][~died]).statistic
        assert auc == pytest.approx(u / (died.sum() * (~died).sum()), abs=1e-12)


def test_auc_does_not_depend_on_how_the_work_is_split(make_cases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_cases(90, 1)
    horizons = np.quantile(data["time"], np.linspace(0.1, 0.8, 13))
    whole = dynamic_auc(**data, horizons=horizons).auc
    monkeypatch.setattr(dynamic, "_AT_ONCE", 90 * 4)
    assert np.array_equal(dynamic_auc(**data, horizons=horizons).auc, whole)


def test_weights_may_come_from_training(make_cases: Any) -> None:
    data, training = make_cases(80, 1), make_cases(400, 2)
    curve = censoring_curve(time=training["time"], event=training["event"])
    own = censoring_curve(time=data["time"], event=data["event"])
    until = np.quantile(data["time"], 0.7)
    plain, same, other = (dynamic_auc(**data, horizons=[until], censoring=one).mean for one in (None, own, curve))
    assert same == plain != other
    short = censoring_curve(time=[1.0, 2.0], event=[False, False])
    with pytest.raises(MetricError, match="are all censored before: truncate earlier"):
        dynamic_auc(**data, horizons=[until], censoring=short)


def test_truncation_keeps_weights_below_what_was_asked() -> None:
    data = effect_that_fades(500, 2, censored=True)
    follow_up = {"time": data["time"], "event": data["event"]}
    curve = censoring_curve(**follow_up)
    for share in (0.1, 0.3):
        until = followed_until(**follow_up, share=share)
        assert curve.before(until) >= share > curve.before(data["time"][data["time"] > until].min())
    assert followed_until(time=[1, 2, 3], event=[1, 1, 1]) == 3
    with pytest.raises(MetricError, match="share is 0"):
        followed_until(**follow_up, share=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_hazard": [1, np.nan, 2]}, "log_hazard of case 1 is nan"),
        ({"log_hazard": [[1, 3, 2], [1, 2, 3]]}, "2 models"),
        ({"log_hazard": [], "time": [], "event": []}, "no case"),
        ({"time": [0, 2, 3]}, "time of case 0"),
        ({"event": [0, 0, 0]}, "no comparable pair before|no event by"),
        ({"event": [0, 1, 1]}, "no event by|comparable"),
    ],
)
def test_data_that_can_not_give_the_figure(change: dict[str, Any], message: str) -> None:
    data = {"log_hazard": [1, 2, 3], "time": [1, 2, 3], "event": [1, 1, 0], **change}
    with pytest.raises(MetricError, match=message):
        dynamic_auc(**data, horizons=[1.5])


@pytest.mark.parametrize(
    ("horizons", "message"),
    [
        ([], "ascending"),
        ([2, 1], "ascending"),
        ([0.0], "positive"),
        ([np.nan], "positive"),
        ([3], "beyond 3"),
        ([0.5], "0.5"),
    ],
)
def test_horizons_that_can_not_be(horizons: list[float], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        dynamic_auc(log_hazard=[1, 2, 3], time=[1, 2, 3], event=[1, 1, 0], horizons=horizons)
