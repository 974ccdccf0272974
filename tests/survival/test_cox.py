"""Cox regressions against lifelines, and the likelihood-ratio test between two of them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from scipy.stats import chi2

from wsisurv.errors import MetricError
from wsisurv.survival.cox import cox_slope, likelihood_ratio


def test_slope_is_lifelines_own_whatever_the_scale_of_risk(make_cases: Any) -> None:
    data = make_cases(200, 3, distinct=50)
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


def clinic(make_cases: Any, n: int = 200) -> Any:
    """Age and stage, a model's log hazard that knows more than they do, and noise."""
    data = make_cases(n, 4, distinct=50)
    rng = np.random.default_rng(1)
    age = data["log_hazard"] + rng.normal(size=n)
    stage = (data["log_hazard"] + rng.normal(size=n) > 0).astype(float)
    follow_up = {"time": data["time"], "event": data["event"]}
    return np.stack([age, stage], axis=1), data["log_hazard"][:, None], rng.normal(size=(n, 2)), follow_up


def test_likelihood_ratio_is_the_difference_of_two_fits_of_lifelines(make_cases: Any) -> None:
    base, model, _, follow_up = clinic(make_cases)
    table = pd.DataFrame(np.hstack([base, model])).assign(**follow_up)
    without = CoxPHFitter().fit(table.drop(columns=[2]), "time", "event").log_likelihood_
    full = CoxPHFitter().fit(table, "time", "event")
    result = likelihood_ratio(base=base, added=model, **follow_up)
    assert result.log_likelihood_base == pytest.approx(without, abs=1e-6)
    assert result.log_likelihood_full == pytest.approx(full.log_likelihood_, abs=1e-6)
    assert result.statistic == pytest.approx(2 * (full.log_likelihood_ - without), abs=1e-5)
    assert result.degrees_of_freedom == 1
    assert result.p == pytest.approx(chi2.sf(result.statistic, 1))
    assert result.p < 1e-3
    # against nothing it is lifelines' own test of the whole model
    whole = likelihood_ratio(base=np.zeros((200, 0)), added=np.hstack([base, model]), **follow_up)
    own = full.log_likelihood_ratio_test()
    assert whole.statistic == pytest.approx(own.test_statistic, abs=1e-5)
    assert whole.p == pytest.approx(own.p_value, rel=1e-4)
    assert whole.degrees_of_freedom == own.degrees_freedom


def test_noise_adds_nothing_in_nineteen_of_twenty_cohorts(make_cases: Any) -> None:
    base, _, _, follow_up = clinic(make_cases, 80)
    rng = np.random.default_rng(3)
    p = [likelihood_ratio(base=base, added=rng.normal(size=(80, 1)), **follow_up).p for _ in range(60)]
    assert sum(value < 0.05 for value in p) <= 8  # binomial(60, 0.05): more in 1 of 200
    assert 0.3 < np.mean(p) < 0.7


def test_columns_that_repeat_others_change_nothing(make_cases: Any) -> None:
    base, model, noise, follow_up = clinic(make_cases)
    plain = likelihood_ratio(base=base, added=np.hstack([model, noise]), **follow_up)
    stage = base[:, [1]]
    repeated = likelihood_ratio(
        base=np.hstack([base * 1e3, 1 - stage, np.ones_like(stage)]),
        added=np.hstack([model, noise, noise[:, :1] - 3 * model + 5 * base[:, :1]]),
        **follow_up,
    )
    assert repeated.degrees_of_freedom == plain.degrees_of_freedom == 3
    assert repeated.statistic == pytest.approx(plain.statistic, abs=1e-5)


def test_nothing_added_and_data_that_can_not_tell(make_cases: Any) -> None:
    base, model, _, follow_up = clinic(make_cases)
    with pytest.raises(MetricError, match="hold nothing"):
        likelihood_ratio(base=base, added=base @ np.ones((2, 1)), **follow_up)
    with pytest.raises(MetricError, match="a row a case in both"):
        likelihood_ratio(base=base, added=model[1:], **follow_up)
    with pytest.raises(MetricError, match="no comparable pair"):
        likelihood_ratio(base=base, added=model, time=follow_up["time"], event=np.zeros(200))
    with pytest.raises(MetricError, match="is nan"):
        likelihood_ratio(base=base * np.nan, added=model, **follow_up)


def test_slope_over_strata_is_lifelines_own(make_cases: Any) -> None:
    """Strata of another origin and another baseline hazard, with times shared."""
    data = make_cases(240, 5, distinct=40)
    stratum = np.arange(240) % 4
    data["log_hazard"] = data["log_hazard"] + 10.0 * stratum
    data["time"] = data["time"] * (1 + stratum)
    fit = CoxPHFitter().fit(pd.DataFrame(data).assign(stratum=stratum), "time", "event", strata=["stratum"])
    slope = cox_slope(**data, stratum=stratum)
    assert slope.value == pytest.approx(fit.params_["log_hazard"], rel=1e-5)
    assert slope.se == pytest.approx(fit.standard_errors_["log_hazard"], rel=1e-5)
    with pytest.raises(MetricError, match="lengths differ"):
        cox_slope(**data, stratum=stratum[:-1])
    with pytest.raises(MetricError, match="there is no slope"):
        cox_slope(**{**data, "log_hazard": stratum.astype(float)}, stratum=stratum)
