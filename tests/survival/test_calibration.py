"""Brier score against torchsurv and plain squared error; D-calibration by hand and in simulation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from wsisurv.errors import MetricError
from wsisurv.survival.baseline import baseline_hazard
from wsisurv.survival.calibration import brier, d_calibration
from wsisurv.survival.kaplan_meier import censoring_curve
from wsisurv.survival.prognosis import fit_prognosis


def proportional(n: int, seed: int, *, censored: bool = True) -> dict[str, Any]:
    """Exponential times: S(t | risk) = exp(−t exp risk)."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    event_time = rng.exponential(np.exp(-risk))
    end = rng.exponential(1.5, n) if censored else np.full(n, 1e6)
    return {"risk": risk, "time": np.minimum(event_time, end), "event": event_time <= end}


def test_score_is_torchsurvs(torchsurv_says: dict[str, Any]) -> None:
    cases = torchsurv_says["cases"]
    result = brier(
        survival=torchsurv_says["predicted"],
        horizons=torchsurv_says["horizons"],
        time=cases["time"],
        event=cases["event"],
    )
    assert result.score == pytest.approx(torchsurv_says["brier"], abs=1e-6)
    assert result.integrated == pytest.approx(torchsurv_says["integrated_brier"], abs=1e-6)


def test_score_of_cases_followed_throughout_is_the_squared_error() -> None:
    data = proportional(300, 0, censored=False)
    horizons = np.array([0.2, 0.5, 2.0])
    predicted = np.exp(-np.exp(data["risk"])[:, None] * horizons)
    result = brier(survival=predicted, horizons=horizons, time=data["time"], event=data["event"])
    alive = data["time"][:, None] > horizons
    assert result.score == pytest.approx(((alive - predicted) ** 2).mean(axis=0), abs=1e-12)
    share = alive.mean(axis=0)
    assert result.reference == pytest.approx(share * (1 - share), abs=1e-12)


def test_censoring_does_not_move_the_score_and_the_truth_scores_best() -> None:
    whole, cut = proportional(40_000, 1, censored=False), proportional(40_000, 2)
    horizons = np.array([0.2, 0.5, 1.0, 1.8])

    def score(data: dict[str, Any], slope: float) -> Any:
        predicted = np.exp(-np.exp(slope * data["risk"])[:, None] * horizons)
        return brier(survival=predicted, horizons=horizons, time=data["time"], event=data["event"])

    assert score(cut, 1).score == pytest.approx(score(whole, 1).score, abs=0.005)
    assert score(cut, 1).reference == pytest.approx(score(whole, 1).reference, abs=0.005)
    truth = score(cut, 1)
    assert truth.integrated < min(score(cut, 0.5).integrated, score(cut, 2).integrated, truth.integrated_reference)


def test_score_by_hand_where_an_event_and_a_censoring_share_a_time() -> None:
    # at 2 one of four has the event, then one of the three left is censored: G is 1 before, 2/3 after
    time, event = [2, 2, 4, 5], [1, 0, 1, 0]
    predicted = [[0.4], [0.5], [0.3], [0.9]]
    expected = (0.4**2 / 1 + 0.7**2 / (2 / 3) + 0.1**2 / (2 / 3)) / 4
    for horizon in (2, 3):  # who is censored at the horizon is not known to outlive it
        result = brier(survival=predicted, horizons=[horizon], time=time, event=event)
        assert result.score.tolist() == pytest.approx([expected])
        assert result.integrated == pytest.approx(expected)


def test_weights_may_come_from_training() -> None:
    data, training = proportional(100, 3), proportional(400, 4)
    horizons = [0.2, 0.4]
    given_all = {"survival": np.full((100, 2), 0.5), "horizons": horizons, "time": data["time"], "event": data["event"]}
    curve = censoring_curve(time=training["time"], event=training["event"])
    assert brier(**given_all, censoring=curve).integrated != brier(**given_all).integrated
    with pytest.raises(MetricError, match="are all censored before: shorten the horizons"):
        brier(**given_all, censoring=censoring_curve(time=[0.1, 0.15], event=[False, False]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"survival": [[0.5], [0.5]]}, r"shape \(2, 1\); \(3, 1\) is needed"),
        ({"survival": [[0.5], [1.5], [0.5]]}, "survival of case 1 is 1.5"),
        ({"survival": [[0.5], [0.5], [np.nan]]}, "survival of case 2 is nan"),
        ({"horizons": [3.0]}, "nobody was followed beyond 3"),
        ({"time": [1, 2, -3]}, "time of case 2"),
    ],
)
def test_data_that_can_not_give_a_score(change: dict[str, Any], message: str) -> None:
    data = {"survival": [[0.5]] * 3, "horizons": [2.5], "time": [1, 2, 3], "event": [1, 0, 1], **change}
    with pytest.raises(MetricError, match=message):
        brier(**data)


def d_by_hand(survival: Any, event: Any, n_bins: int) -> list[float]:
    """Case by case, as the paper has it: bin k is [k/K, (k + 1)/K), the last one closed."""
    count = [0.0] * n_bins
    for s, e in zip(survival, event, strict=True):
        own = min(int(s * n_bins), n_bins - 1)
        if e:
            count[own] += 1
        elif s == 0:
            count[0] += 1
        else:
            count[own] += (s - own / n_bins) / s
            for lower in range(own):
                count[lower] += 1 / (n_bins * s)
    return [value / len(survival) for value in count]


@given(n=st.integers(20, 60), seed=st.integers(0, 1000), n_bins=st.sampled_from([2, 4]))
@settings(max_examples=40, deadline=None)
def test_d_calibration_is_its_definition(n: int, seed: int, n_bins: int) -> None:
    rng = np.random.default_rng(seed)
    survival = np.round(rng.random(n), 2)  # exact 0 and 1, and edges of bins
    survival[:2] = 0, 1
    event = rng.random(n) < 0.5
    event[2] = True
    result = d_calibration(survival=survival, event=event, n_bins=n_bins)
    assert result.share.tolist() == pytest.approx(d_by_hand(survival, event, n_bins), abs=1e-12)
    assert result.share.sum() == pytest.approx(1)
    against = chisquare(result.share * n)  # of equal shares
    assert (result.statistic, result.p) == pytest.approx((against.statistic, against.pvalue))


def test_true_probabilities_are_calibrated_and_others_are_not() -> None:
    p_true, p_wide = [], []
    for seed in range(60):
        data = proportional(400, seed)
        for slope, into in ((1.0, p_true), (2.5, p_wide)):
            survival = np.exp(-data["time"] * np.exp(slope * data["risk"]))
            into.append(d_calibration(survival=survival, event=data["event"]).p)
    assert sum(p < 0.05 for p in p_true) <= 6  # spreading censored cases makes the test careful
    assert sum(p < 0.05 for p in p_wide) >= 50


def test_baseline_gives_calibrated_probabilities_of_new_cases() -> None:
    training, new = proportional(2000, 1), proportional(1000, 2)
    baseline = baseline_hazard(log_hazard=training["risk"], time=training["time"], event=training["event"])
    survival = baseline.survival_of(log_hazard=new["risk"], time=new["time"])
    assert d_calibration(survival=survival, event=new["event"]).p > 0.05
    twice = baseline.survival_of(log_hazard=new["risk"] + np.log(2), time=new["time"])
    assert d_calibration(survival=twice, event=new["event"]).p < 1e-6


@pytest.mark.parametrize("years", [1.0, 0.5, 1 / 12])
def test_right_probabilities_are_calibrated_where_times_are_tied(years: float) -> None:
    """Events of one year fall in one place, and look wrong, unless they count over all that the year takes away."""
    p_spread, p_one_place = [], []
    for seed in range(20):
        training, new = proportional(1500, seed), proportional(400, 100 + seed)
        for data in (training, new):
            data["time"] = np.ceil(data["time"] * 3 / years)
        prognosis = fit_prognosis(log_hazard=training["risk"], time=training["time"], event=training["event"])
        own, before = prognosis.own_survival(log_hazard=new["risk"], time=new["time"])
        p_spread.append(d_calibration(survival=own, before=before, event=new["event"]).p)
        p_one_place.append(d_calibration(survival=own, event=new["event"]).p)
    assert sum(p < 0.05 for p in p_spread) <= 4  # binomial(20, .05) goes beyond 4 three times in a thousand
    assert years < 0.5 or sum(p < 0.05 for p in p_one_place) >= 10


@pytest.mark.parametrize(
    ("survival", "event", "message"),
    [
        ([0.5] * 30, [0] * 30, "none of 30 cases has an event"),
        ([0.5] * 30, [1] * 30, "five cases a bin"),
        ([0.5] * 60, [1] * 59, r"shape \(60,\)"),
        ([0.5, -0.1] * 30, [1] * 60, "survival of case 1 is -0.1"),
        ([], [], "no case"),
    ],
)
def test_data_that_can_not_give_d_calibration(survival: list[float], event: list[int], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        d_calibration(survival=survival, event=event)
