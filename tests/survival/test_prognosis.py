"""Probabilities of survival are right where the log hazards are, and where these are too extreme."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsisurv.errors import FormatError, MetricError
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.prognosis import fit_prognosis, load_prognosis

RATE = 0.2  # events a year at log hazard 0


def simulated(n, seed, *, until=8.0):
    """Cases followed until some time between half a year and ``until`` years."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(0, 0.8, n)
    death, end = rng.exponential(np.exp(-risk) / RATE), rng.uniform(0.5, until, n)
    return risk, np.minimum(death, end), death <= end


@pytest.fixture(scope="module")
def prognosis():
    risk, time, event = simulated(400, 0)
    return fit_prognosis(log_hazard=risk, time=time, event=event)


@pytest.mark.parametrize("stretch", [1.0, 3.0])
def test_three_year_survival_is_that_of_the_simulation(stretch):
    """A model whose log hazards are three times too extreme is brought back by its slope."""
    risk, time, event = simulated(2000, 1)
    prognosis = fit_prognosis(log_hazard=stretch * risk, time=time, event=event)
    new = np.random.default_rng(2).normal(0, 0.8, 500)
    predicted = prognosis.survival(log_hazard=stretch * new, horizons=[3.0])[:, 0]
    truth = np.exp(-3 * RATE * np.exp(new))
    assert np.abs(predicted - truth).mean() < 0.03
    assert prognosis.slope == pytest.approx(1 / stretch, rel=0.1)


def test_members_without_a_common_origin_and_the_mean_of_several_are_calibrated():
    """Each fold's log hazards have an offset and noise of their own; a new case has the mean of five members."""
    rng = np.random.default_rng(5)
    risk, time, event = simulated(3000, 6)
    fold, noise, offset = rng.integers(0, 5, 3000), rng.normal(0, 0.8, (5, 3000)), rng.normal(0, 1, 5)
    own = risk + noise[fold, np.arange(3000)] + offset[fold]
    averaging = (risk + noise).var(1).mean() / (risk + noise).mean(0).var()
    prognosis = fit_prognosis(log_hazard=own, time=time, event=event, fold=fold, averaging=averaging)
    new, later, died = simulated(3000, 7)
    mean = new + rng.normal(0, 0.8, (5, 3000)).mean(0)
    assert cox_slope(log_hazard=prognosis.slope * mean, time=later, event=died).value == pytest.approx(1, abs=0.12)
    assert prognosis.slope_of_one < 0.7 * prognosis.slope
    pooled = fit_prognosis(log_hazard=own, time=time, event=event)
    assert pooled.slope < 0.6 * prognosis.slope
    survival = prognosis.survival(log_hazard=mean, horizons=[3.0])[:, 0]
    assert survival.mean() == pytest.approx(np.exp(-3 * RATE * np.exp(new)).mean(), abs=0.03)


def test_few_events_give_a_slope_that_is_held_back_and_many_one_as_it_is():
    """Log hazards that know nothing, and some ten events: what the slope makes of chance is a fifth of what it was."""
    found, raw = np.zeros(60), np.zeros(60)
    for seed in range(60):
        risk, time, event = simulated(30, 100 + seed, until=2.0)
        noise = np.random.default_rng(seed).permutation(risk)
        fit = cox_slope(log_hazard=noise, time=time, event=event)
        found[seed], raw[seed] = fit_prognosis(log_hazard=noise, time=time, event=event).slope, max(fit.value, 0.0)
        assert 0 <= found[seed] <= raw[seed] + 1e-9
        assert found[seed] == 0 or (fit.value / fit.se) ** 2 > 1
    assert (found**2).mean() < 0.3 * (raw**2).mean()
    risk, time, event = simulated(2000, 99)
    many = cox_slope(log_hazard=risk, time=time, event=event).value
    assert fit_prognosis(log_hazard=risk, time=time, event=event).slope == pytest.approx(many, rel=0.01)


def test_log_hazards_that_know_nothing_give_every_case_the_cohorts_survival():
    _, time, event = simulated(300, 3)
    noise = np.random.default_rng(7).normal(size=300)
    worthless = noise if fit_prognosis(log_hazard=noise, time=time, event=event).slope == 0 else -noise
    prognosis = fit_prognosis(log_hazard=worthless, time=time, event=event)
    assert prognosis.slope == 0
    survival = prognosis.survival(log_hazard=[-3, 0, 3], horizons=[2.0])[:, 0]
    assert np.ptp(survival) == 0
    assert 0.5 < survival[0] < 0.8


@given(
    log_hazard=st.lists(st.floats(-50, 50), min_size=1, max_size=5),
    years=st.lists(st.floats(0.01, 7), min_size=1, max_size=5),
)
def test_survival_falls_with_time_and_with_risk(prognosis, log_hazard, years):
    survival = prognosis.survival(log_hazard=sorted(log_hazard), horizons=sorted(years))
    assert ((survival >= 0) & (survival <= 1)).all()
    assert (np.diff(survival, axis=0) <= 0).all()
    assert (np.diff(survival, axis=1) <= 0).all()
    medians = np.nan_to_num(prognosis.median(log_hazard=sorted(log_hazard)), nan=np.inf)
    assert (medians[:-1] >= medians[1:]).all()


def test_beyond_the_follow_up_nothing_is_said(prognosis):
    until = prognosis.baseline.followed_until
    survival = prognosis.survival(log_hazard=[0.0], horizons=[until, until + 0.01, 100])
    assert np.isnan(survival[0]).tolist() == [False, True, True]


def test_how_many_were_followed():
    time = np.array([1.0, 2.0, 3.0, 4.0])
    prognosis = fit_prognosis(log_hazard=[0, 1, 0, 1], time=time, event=[True, True, False, True])
    assert [prognosis.followed_to(at) for at in (0.5, 1, 2, 3, 4, 4.1)] == [4, 4, 3, 2, 1, 0]


def test_a_perfect_order_is_believed_and_the_inverse_is_not():
    time, fold = np.arange(1.0, 13.0), np.repeat([0, 1, 2], 4)
    for entry in (None, np.zeros(12)):
        right, wrong = (
            fit_prognosis(log_hazard=risk, time=time, event=np.ones(12, bool), entry=entry, fold=fold, averaging=1.0)
            for risk in (-0.1 * time, 0.1 * time)
        )
        assert right.slope == 1
        assert wrong.slope == 0


def test_equal_log_hazards_and_no_event():
    _, time, event = simulated(50, 4)
    assert fit_prognosis(log_hazard=np.zeros(50), time=time, event=event).slope == 0
    with pytest.raises(MetricError, match="none of 50"):
        fit_prognosis(log_hazard=np.zeros(50), time=time, event=np.zeros(50, bool))


def test_read_back_as_written_and_refused_where_damaged(prognosis):
    arrays = prognosis.arrays()
    again = load_prognosis(arrays)
    np.testing.assert_array_equal(
        again.survival(log_hazard=[0, 1], horizons=[1, 5]), prognosis.survival(log_hazard=[0, 1], horizons=[1, 5])
    )
    for name, value in {
        "times": arrays["prognosis/times"][::-1],
        "log_cumulative": arrays["prognosis/log_cumulative"][:-1],
        "followed_until": np.array([0.1]),
        "slope": np.array([1.0, 2.0]),
        "slope_of_one": np.zeros(0),
        "slope_se": np.array([np.nan]),
    }.items():
        with pytest.raises(FormatError, match="baseline hazard"):
            load_prognosis({**arrays, f"prognosis/{name}": value})
