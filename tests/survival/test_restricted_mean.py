"""Restricted mean survival time against R's printed example, and its error against repeated cohorts."""

import numpy as np
import pytest

from wsisurv.errors import MetricError
from wsisurv.survival.restricted_mean import restricted_mean

MAINTAINED = {"time": [9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161], "event": [1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0]}
NOT_MAINTAINED = {"time": [5, 5, 8, 8, 12, 16, 23, 27, 30, 33, 43, 45], "event": [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1]}
"""aml of R's package survival: weeks of remission of leukaemia, with and without maintenance."""


def test_means_and_errors_are_those_that_r_prints() -> None:
    """``print(survfit(Surv(time, status) ~ x, aml), rmean = "common")``: 52.6 (19.83) and 22.7 (4.18), up to 161."""
    one, other = (restricted_mean(**group, until=161) for group in (MAINTAINED, NOT_MAINTAINED))
    assert (one.value, one.se) == pytest.approx((52.6, 19.83), abs=0.05)
    assert (other.value, other.se) == pytest.approx((22.7, 4.18), abs=0.05)
    between = one.minus(other)
    assert between.value == pytest.approx(one.value - other.value)
    assert between.se == pytest.approx((one.se**2 + other.se**2) ** 0.5)


@pytest.mark.parametrize("unit", [0.01, 1.0])
def test_the_error_is_of_the_mean_and_shrinks_with_more_cases(unit: float) -> None:
    def drawn(n: int, seed: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        death, end = rng.exponential(4, n), rng.uniform(1, 12, n)
        time = np.ceil(np.minimum(death, end) / unit)
        found = restricted_mean(time=time, event=death <= end, until=5 / unit)
        return found.value * unit, found.se * unit

    values, errors = np.array([drawn(100, seed) for seed in range(300)]).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.12)
    if unit < 1:
        assert values.mean() == pytest.approx(4 * (1 - np.exp(-5 / 4)), abs=0.05)
    assert drawn(10_000, 1)[1] == pytest.approx(errors.mean() / 10, rel=0.1)


def test_late_comers_and_shuffled_rows() -> None:
    rng = np.random.default_rng(3)
    time, entry = np.ceil(rng.exponential(40, 300)), np.floor(rng.exponential(10, 300))
    came = entry < time
    data = {"time": time[came], "event": rng.random(came.sum()) < 0.7, "entry": entry[came]}
    order = rng.permutation(came.sum())
    mixed = {name: values[order] for name, values in data.items()}
    assert restricted_mean(**data, until=30) == restricted_mean(**mixed, until=30)
    ignored = restricted_mean(time=data["time"], event=data["event"], until=30)
    assert ignored.value > restricted_mean(**data, until=30).value + 1


@pytest.mark.parametrize("until", [0, -1, float("nan"), 162])
def test_a_time_that_can_not_be(until: float) -> None:
    with pytest.raises(MetricError, match="restricted mean up to"):
        restricted_mean(**MAINTAINED, until=until)
