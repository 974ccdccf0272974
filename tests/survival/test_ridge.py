"""Ridge Cox regression against lifelines, and the choice of the ridge."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from wsisurv.errors import MetricError
from wsisurv.survival.metrics import concordance
from wsisurv.survival.ridge import RIDGES, choose_ridge, cross_fit_ridge, ridge_path
from wsisurv.survival.splits import make_folds


def drawn(n: int, p: int, seed: int, *, effect: float = 1.0) -> dict[str, Any]:
    """Cases of p columns, the first two of which count; no two times are equal."""
    rng = np.random.default_rng(seed)
    variables = rng.normal(size=(n, p))
    death = rng.exponential(np.exp(-effect * (variables[:, 0] - variables[:, 1])))
    end = rng.exponential(1.0, n)
    return {"variables": variables, "time": np.minimum(death, end) + 1e-3, "event": death <= end}


@pytest.mark.parametrize("p", [1, 4])
def test_each_ridge_is_lifelines_own(p: int) -> None:
    data = drawn(90, 4, 0)
    columns = data["variables"][:, :p]
    scaled = (columns - columns.mean(0)) / columns.std(0, ddof=1)  # as lifelines does before it penalises
    ridges = (3.0, 0.1, 1e-4)
    path = ridge_path(variables=scaled, time=data["time"], event=data["event"], ridges=ridges)
    table = pd.DataFrame(scaled).assign(time=data["time"], event=data["event"])
    for ridge, coefficients in zip(ridges, path, strict=True):
        said = CoxPHFitter(penalizer=ridge).fit(table, "time", "event", fit_options={"precision": 1e-12})
        assert coefficients == pytest.approx(said.params_.to_numpy(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("unit", "shrunk"), [(1 / 365, 0.99), (1 / 12, 0.95), (1.0, 0.75)])
def test_breslows_ties_order_cases_as_efrons_do(unit: float, shrunk: float) -> None:
    """Why they may stay (docs/method.md): lifelines has Efron's; only the scale is less, and that is fitted anew."""
    data = drawn(300, 4, 7, effect=0.5)
    scaled = data["variables"] / data["variables"].std(0, ddof=1)
    time = np.ceil(4 * data["time"] / unit)
    (ours,) = ridge_path(variables=scaled, time=time, event=data["event"], ridges=(0.05,))
    table = pd.DataFrame(scaled).assign(time=time, event=data["event"])
    efron = scaled @ CoxPHFitter(penalizer=0.05).fit(table, "time", "event").params_.to_numpy()
    breslow = scaled @ ours
    assert np.corrcoef(breslow, efron)[0, 1] > 0.999
    assert shrunk < breslow.std() / efron.std() < 1.001
    one, other = (concordance(log_hazard=risk, time=time, event=data["event"]) for risk in (breslow, efron))
    assert one == pytest.approx(other, abs=0.002)


def test_the_gradient_is_zero_where_times_are_shared_too() -> None:
    data = drawn(60, 3, 1)
    time = np.ceil(data["time"] * 4)
    (coefficients,) = ridge_path(variables=data["variables"], time=time, event=data["event"], ridges=(0.2,))

    def penalised(at: Any) -> float:
        risk = data["variables"] @ at
        died = np.flatnonzero(data["event"])
        likelihood = sum(risk[i] - np.log(np.exp(risk[time >= time[i]]).sum()) for i in died)
        return likelihood - 60 * 0.2 / 2 * float(at @ at)

    for column in range(3):
        step = np.zeros(3)
        step[column] = 1e-3
        assert penalised(coefficients) > max(penalised(coefficients + step), penalised(coefficients - step))


def test_noise_gets_the_largest_ridge_and_a_signal_a_small_one() -> None:
    noise = drawn(150, 30, 2, effect=0.0)
    assert choose_ridge(**noise).ridge == RIDGES[0]
    assert choose_ridge(**drawn(300, 3, 3)).ridge <= 0.1


def test_out_of_fold_risks_are_honest() -> None:
    """In pure noise the cases' own fit looks good and the out-of-fold risks do not; with a signal both do."""
    noise = drawn(120, 40, 4, effect=0.0)
    follow_up = {name: noise[name] for name in ("time", "event")}
    fit = choose_ridge(**noise, ridges=(0.01,))
    assert concordance(log_hazard=fit.log_hazard(noise["variables"]), **follow_up) > 0.75
    assert concordance(log_hazard=cross_fit_ridge(**noise), **follow_up) < 0.6
    told = drawn(200, 10, 5)
    fit, new = choose_ridge(**told), drawn(200, 10, 6)
    assert concordance(log_hazard=cross_fit_ridge(**told), time=told["time"], event=told["event"]) > 0.7
    assert concordance(log_hazard=fit.log_hazard(new["variables"]), time=new["time"], event=new["event"]) > 0.7
    assert abs(fit.log_hazard(told["variables"]).mean()) < 1e-9


def test_a_cases_own_outcome_has_no_part_in_its_out_of_fold_risk() -> None:
    data = drawn(80, 4, 9)
    fold = make_folds(event=data["event"], n_folds=4, seed=0)
    time = data["time"].copy()
    time[fold == 1] = time[fold == 1][::-1]
    before, after = (cross_fit_ridge(**{**data, "time": t}, folds=4, repeats=1) for t in (data["time"], time))
    np.testing.assert_array_equal(before[fold == 1], after[fold == 1])
    assert not np.array_equal(before, after)


def test_huge_values_and_constant_columns_are_no_trouble() -> None:
    data = drawn(50, 3, 7)
    data["variables"] = np.column_stack([1e4 * data["variables"][:, 0], np.full(50, 7.0), np.zeros(50)])
    fit = choose_ridge(**data)
    assert np.isfinite(fit.coefficients).all()
    assert not fit.coefficients[1:].any()
    assert np.isfinite(cross_fit_ridge(**data)).all()


def test_data_that_can_not_be_fitted() -> None:
    data = drawn(20, 2, 8)
    with pytest.raises(MetricError, match="no comparable pair"):
        choose_ridge(**{**data, "event": np.zeros(20, bool)})
    with pytest.raises(MetricError, match="no comparable pair"):
        cross_fit_ridge(**{**data, "event": np.zeros(20, bool)})
    with pytest.raises(MetricError, match="positive numbers"):
        ridge_path(**data, ridges=(0.0,))
    one = np.zeros(20, bool)
    one[np.argmin(data["time"])] = True
    assert choose_ridge(**{**data, "event": one}).ridge == RIDGES[0]  # one event: nothing to choose by
    assert not cross_fit_ridge(**{**data, "event": one}).any()
