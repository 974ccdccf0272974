"""Cox regressions against lifelines."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from wsisurv.errors import MetricError
from wsisurv.survival.cox import cox_slope


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
