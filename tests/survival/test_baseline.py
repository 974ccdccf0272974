"""Baseline hazard against lifelines, torchsurv and by hand; Kaplan-Meier under ties; survival at horizons."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, NelsonAalenFitter
from numpy.typing import NDArray

from wsisurv.errors import MetricError
from wsisurv.survival.baseline import baseline_hazard
from wsisurv.survival.kaplan_meier import kaplan_meier
from wsisurv.survival.prognosis import fit_prognosis


def test_hazard_and_survival_are_those_of_lifelines_where_no_time_is_shared(make_cases: Any) -> None:
    """Where times are shared lifelines pairs Efron's coefficients with Breslow's hazard; see the tests below."""
    data = make_cases(120, 1)
    data["time"] = np.argsort(np.argsort(data["time"], kind="stable")) + 1.0
    fit = CoxPHFitter().fit(pd.DataFrame(data), "time", "event")
    risk = fit.predict_log_partial_hazard(pd.DataFrame(data)).to_numpy()
    baseline = baseline_hazard(log_hazard=risk, time=data["time"], event=data["event"])
    theirs = fit.baseline_cumulative_hazard_["baseline cumulative hazard"]
    assert np.exp(baseline.log_cumulative) == pytest.approx(theirs[baseline.times].to_numpy(), rel=1e-9)
    # between steps lifelines draws a line, we a step: horizons are times of the data, where both agree
    horizons = np.sort(data["time"])[[10, 60, 110]]
    expected = fit.predict_survival_function(pd.DataFrame(data), times=horizons).to_numpy().T
    assert baseline.survival_at(log_hazard=risk, horizons=horizons) == pytest.approx(expected, abs=1e-9)
    median = fit.predict_median(pd.DataFrame(data)).to_numpy()
    assert baseline.median(log_hazard=risk) == pytest.approx(np.where(np.isinf(median), np.nan, median), nan_ok=True)


def test_survival_is_torchsurvs(torchsurv_says: dict[str, Any]) -> None:
    cases = torchsurv_says["cases"]
    survival = baseline_hazard(**cases).survival_at(log_hazard=cases["log_hazard"], horizons=torchsurv_says["horizons"])
    theirs = np.array(torchsurv_says["survival"])
    if len(np.unique(died := cases["time"][cases["event"]])) == len(died):
        assert survival == pytest.approx(theirs, abs=1e-6)
    else:  # theirs is Breslow's, too high where events share a time
        assert (survival < theirs).all()


def test_without_risk_it_is_fleming_and_harringtons(make_cases: Any) -> None:
    data = make_cases(80, 2, distinct=30) | {"log_hazard": np.zeros(80)}
    fitted = NelsonAalenFitter(nelson_aalen_smoothing=True).fit(data["time"], data["event"])
    baseline = baseline_hazard(**data)
    assert np.exp(baseline.log_cumulative) == pytest.approx(
        fitted.cumulative_hazard_.loc[baseline.times].to_numpy()[:, 0], rel=1e-9
    )


@pytest.mark.parametrize("ratio", [0.5, 1.0, 5.35])
def test_tied_events_by_hand(ratio: float) -> None:
    """Therneau's first test set (the package survival, test1), one log hazard ratio; two of four at risk die at 6."""
    time, event, exposed = [9, 1, 1, 6, 6, 8], [1, 1, 0, 1, 1, 0], np.array([0, 1, 1, 1, 0, 0])
    baseline = baseline_hazard(log_hazard=np.log(ratio) * exposed, time=time, event=event)
    steps = [1 / (3 * ratio + 3), 1 / (ratio + 3) + 2 / (ratio + 5), 1]
    assert baseline.times.tolist() == [1, 6, 9]
    assert np.exp(baseline.log_cumulative) == pytest.approx(np.cumsum(steps), rel=1e-12)


def colon(n: int = 580) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Follow-up in days as cohorts of the field have it: a third of the deaths in the first year, much censoring."""
    rng = np.random.default_rng(11)
    death, end = 1600 * rng.weibull(0.8, n), 300 + 1500 * rng.weibull(1.1, n)
    return np.ceil(np.minimum(death, end)), death <= end


UNITS = {"days": 1.0, "months": 30.4375, "half-years": 182.625, "years": 365.25}


@pytest.mark.parametrize("unit", UNITS)
def test_with_no_difference_in_risk_survival_is_kaplan_and_meiers(unit: str) -> None:
    days, event = colon()
    time = np.ceil(days / UNITS[unit])
    years = np.array([1, 2, 3]) * 365.25 / UNITS[unit]
    prognosis = fit_prognosis(log_hazard=np.zeros(len(time)), time=time, event=event)
    truth = kaplan_meier(time=time, event=event)
    assert prognosis.survival(log_hazard=[0.0], horizons=years)[0] == pytest.approx(truth.at(years), abs=0.005)
    if unit == "years":  # Breslow's step
        died, at_risk = truth.fell[0], truth.at_risk[0]
        assert np.exp(-died / at_risk) > truth.at(1.0) + 0.02


@pytest.mark.parametrize("unit", UNITS)
def test_expected_events_of_its_own_cases_are_those_that_happened(unit: str) -> None:
    rng = np.random.default_rng(5)
    risk = rng.normal(0, 0.7, 600)
    death, end = 1500 * rng.exponential(np.exp(-risk)), rng.uniform(100, 3000, 600)
    time, event = np.ceil(np.minimum(death, end) / UNITS[unit]), death <= end
    baseline = baseline_hazard(log_hazard=risk, time=time, event=event)
    expected = baseline.expected_events(log_hazard=risk, time=time)
    assert expected.sum() == pytest.approx(event.sum(), rel=0.02)
    # and of each third of risk, not only of all
    for third in np.array_split(np.argsort(risk), 3):
        assert expected[third].sum() == pytest.approx(event[third].sum(), abs=3 * np.sqrt(event[third].sum()))


def test_the_order_of_rows_changes_no_bit(make_cases: Any) -> None:
    data = make_cases(150, 8, distinct=25)
    baseline = baseline_hazard(**data)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(150)
        again = baseline_hazard(**{name: values[order] for name, values in data.items()})
        assert again.log_cumulative.tolist() == baseline.log_cumulative.tolist()


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_a_constant_added_to_all_log_hazards_changes_no_probability(make_cases: Any, shift: float) -> None:
    data = make_cases(60, 3)
    moved = data | {"log_hazard": data["log_hazard"] + shift}
    horizons = np.quantile(data["time"], [0.2, 0.8])
    plain = baseline_hazard(**data).survival_at(log_hazard=data["log_hazard"], horizons=horizons)
    same = baseline_hazard(**moved).survival_at(log_hazard=moved["log_hazard"], horizons=horizons)
    assert same == pytest.approx(plain, abs=1e-9)
    extreme = baseline_hazard(**data).survival_at(log_hazard=[-1000, 1000], horizons=horizons)
    assert extreme.tolist() == [[1, 1], [0, 0]]


def test_survival_to_ones_own_time_is_that_column_of_the_table(make_cases: Any) -> None:
    data = make_cases(50, 4, distinct=30)
    baseline = baseline_hazard(**data)
    own = baseline.survival_of(log_hazard=data["log_hazard"], time=data["time"])
    table = baseline.survival_at(log_hazard=data["log_hazard"], horizons=data["time"])
    assert np.array_equal(own, np.diag(table))
    last = data["time"].max()
    assert baseline.survival_of(log_hazard=[0.0], time=[last * 5]) == baseline.survival_of(
        log_hazard=[0.0], time=[last]
    )
    early = baseline.survival_of(log_hazard=data["log_hazard"], time=data["time"], before=True)
    assert ((early > own) == np.isin(data["time"], baseline.times)).all()
    assert early == pytest.approx(baseline.survival_of(log_hazard=data["log_hazard"], time=data["time"] - 1e-6))
    before = baseline.times[0] / 2
    assert baseline.survival_at(log_hazard=[3.0], horizons=[before])[0, 0] == 1


def test_what_can_not_be_known(make_cases: Any) -> None:
    data = make_cases(50, 4)
    baseline = baseline_hazard(**data)
    with pytest.raises(MetricError, match=r"survival to .* was followed until .* shorter horizons"):
        baseline.survival_at(log_hazard=[0.0], horizons=[1.0, data["time"].max() + 1])
    with pytest.raises(MetricError, match="survival to nan"):
        baseline.survival_at(log_hazard=[0.0], horizons=[np.nan])
    with pytest.raises(MetricError, match="log_hazard of case 1 is nan"):
        baseline.survival_at(log_hazard=[0.0, np.nan], horizons=[1.0])
    with pytest.raises(MetricError, match="none of 50 cases has an event"):
        baseline_hazard(**data | {"event": np.zeros(50)})
    assert np.isnan(baseline.median(log_hazard=[-50.0])[0])
