"""Baseline hazard against lifelines and torchsurv; survival at horizons."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, NelsonAalenFitter

from wsisurv.errors import MetricError
from wsisurv.survival.baseline import baseline_hazard


@pytest.mark.parametrize("distinct", [20, 1000])
def test_hazard_and_survival_are_those_of_lifelines(make_cases: Any, distinct: int) -> None:
    data = make_cases(120, 1, distinct=distinct)
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
    assert survival == pytest.approx(np.array(torchsurv_says["survival"]), abs=1e-6)


def test_without_risk_it_is_nelson_and_aalens(make_cases: Any) -> None:
    data = make_cases(80, 2, distinct=30) | {"log_hazard": np.zeros(80)}
    fitted = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(data["time"], data["event"])
    baseline = baseline_hazard(**data)
    assert np.exp(baseline.log_cumulative) == pytest.approx(
        fitted.cumulative_hazard_.loc[baseline.times].to_numpy()[:, 0], rel=1e-9
    )


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
