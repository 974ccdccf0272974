"""The test of proportional hazards against R's printed example, lifelines, and on tied and shuffled rows."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.statistics import proportional_hazard_test

from wsisurv.errors import MetricError
from wsisurv.survival.proportional_hazards import proportional_hazards

OVARIAN = np.array(
    [
        (59, 1, 72.3315, 1), (115, 1, 74.4932, 1), (156, 1, 66.4658, 2), (421, 0, 53.3644, 1), (431, 1, 50.3397, 1),
        (448, 0, 56.4301, 2), (464, 1, 56.9370, 2), (475, 1, 59.8548, 2), (477, 0, 64.1753, 1), (563, 1, 55.1781, 2),
        (638, 1, 56.7562, 2), (744, 0, 50.1096, 1), (769, 0, 59.6301, 2), (770, 0, 57.0521, 1), (803, 0, 39.2712, 1),
        (855, 0, 43.1233, 2), (1040, 0, 38.8932, 2), (1106, 0, 44.6000, 1), (1129, 0, 53.9068, 1),
        (1206, 0, 44.2055, 1), (1227, 0, 59.5890, 2), (268, 1, 74.5041, 2), (329, 1, 43.1370, 1), (353, 1, 63.2192, 2),
        (365, 1, 64.4247, 1), (377, 0, 58.3096, 1),
    ]
)  # fmt: skip
"""Days, death, age and ECOG status of 26 patients: ovarian of R's package survival."""


def test_figures_are_those_that_r_printed() -> None:
    """``cox.zph(coxph(Surv(futime, fustat) ~ age + ecog.ps, ovarian))`` before its version 3, the same definition."""
    found = proportional_hazards(variables=OVARIAN[:, 2:], time=OVARIAN[:, 0], event=OVARIAN[:, 1])
    assert found.correlation == pytest.approx([-0.243, 0.520], abs=5e-4)
    assert found.statistic == pytest.approx([0.856, 2.545], abs=5e-4)
    assert found.p == pytest.approx([0.355, 0.111], abs=5e-4)
    assert (found.statistic_of_all, found.p_of_all) == pytest.approx((3.195, 0.202), abs=5e-4)


def drawn(n: int, seed: int, *, unit: float = 0.0, change: float = 0.0) -> dict[str, np.ndarray]:
    """Two variables; the effect of the second is 1 before time 1 and 1 + ``change`` after."""
    rng = np.random.default_rng(seed)
    variables = np.stack([rng.normal(size=n), rng.integers(0, 2, n)], axis=1)
    early = np.exp(0.5 * variables[:, 0] + variables[:, 1])
    late = early * np.exp(change * variables[:, 1])
    drawn_hazard = rng.exponential(size=n)
    time = np.where(drawn_hazard < early, drawn_hazard / early, 1 + (drawn_hazard - early) / late)
    end = rng.uniform(0.5, 4, n)
    both = np.minimum(time, end)
    return {"variables": variables, "time": np.ceil(both / unit) if unit else both, "event": time <= end}


def test_it_is_lifelines_where_no_time_is_shared() -> None:
    data = drawn(200, 1)
    table = pd.DataFrame(data["variables"], columns=["a", "b"]).assign(time=data["time"], event=data["event"])
    fit = CoxPHFitter().fit(table, "time", "event")
    theirs = proportional_hazard_test(fit, table, time_transform="km").test_statistic
    assert proportional_hazards(**data).statistic == pytest.approx(theirs, rel=0.03)


@pytest.mark.parametrize("unit", [0.0, 0.25])
def test_it_calls_proportional_hazards_others_as_often_as_it_may(unit: float) -> None:
    calls = np.mean([proportional_hazards(**drawn(150, seed, unit=unit)).p < 0.05 for seed in range(150)], axis=0)
    assert (calls <= 0.11).all()  # binomial(150, .05) goes beyond 16 once in a thousand
    assert (calls > 0).all()


def test_an_effect_that_fades_is_found_and_which() -> None:
    found = proportional_hazards(**drawn(2000, 2, change=-1.5))
    assert found.p[1] < 1e-4 < found.p[0]
    assert found.correlation[1] < 0
    early, late = found.residuals[found.times < 0.5, 1].mean(), found.residuals[found.times > 1, 1].mean()
    assert early == pytest.approx(1, abs=0.4)
    assert late == pytest.approx(-0.5, abs=0.5)


@pytest.mark.parametrize("unit", [0.25, 0.5])
def test_the_order_of_tied_rows_tells_nothing(unit: float) -> None:
    data = drawn(200, 3, unit=unit, change=-0.5)
    first = proportional_hazards(**data)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(200)
        again = proportional_hazards(**{name: values[order] for name, values in data.items()})
        assert again.p == pytest.approx(first.p, rel=1e-6)
        assert again.p_of_all == pytest.approx(first.p_of_all, rel=1e-6)


def test_late_entry_and_what_can_not_be() -> None:
    data = drawn(200, 4)
    late = {**data, "entry": data["time"] * np.random.default_rng(0).uniform(0, 0.9, 200)}
    assert proportional_hazards(**late).p != pytest.approx(proportional_hazards(**data).p, rel=0.01)
    with pytest.raises(MetricError, match="variable 1 is constant"):
        proportional_hazards(**{**data, "variables": np.column_stack([data["variables"][:, 0], np.ones(200)])})
    with pytest.raises(MetricError, match=r"events at 1 time"):
        proportional_hazards(**{**data, "time": np.where(data["event"], 1.0, 2.0)})
