"""Models side by side: values, pairing, and what can't be compared."""

from typing import Any

import numpy as np
import pytest

from wsisurv.errors import MetricError
from wsisurv.experiments.comparison import compare
from wsisurv.survival.metrics import bootstrap, concordance, resample_concordance


@pytest.fixture(scope="module")
def held_out() -> dict[str, Any]:
    """Twelve cases with four events, as small as the demo's."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=12)
    time = rng.exponential(np.exp(-truth)) + 0.01
    event = np.arange(12) % 3 == 0
    return {"truth": truth, "noise": rng.normal(size=12), "time": time, "event": event}


def test_each_row_is_what_the_metric_says_alone(held_out: dict[str, Any]) -> None:
    follow_up = {"time": held_out["time"], "event": held_out["event"]}
    rows = compare({"noise": held_out["noise"], "truth": held_out["truth"]}, **follow_up, seed=3)
    assert [row.name for row in rows] == ["noise", "truth"]
    for row in rows:
        assert row.concordance == bootstrap(log_hazard=held_out[row.name], **follow_up, seed=3)
        assert row.concordance.value == pytest.approx(concordance(log_hazard=held_out[row.name], **follow_up))
    assert rows[0].difference is None
    both = np.stack([held_out["noise"], held_out["truth"]])
    assert rows[1].difference == resample_concordance(log_hazard=both, **follow_up, seed=3).difference(0, 1)


def test_all_rows_leave_out_the_same_resamples() -> None:
    rows = compare({"a": [1, 2, 3, 4], "b": [4, 3, 2, 1]}, time=[1, 2, 3, 4], event=[1, 0, 0, 0])
    assert rows[0].concordance.dropped == rows[1].concordance.dropped > 100
    assert (rows[0].concordance.value, rows[1].concordance.value) == (0, 1)
    assert rows[1].difference is not None
    assert (rows[1].difference.value, rows[1].difference.low, rows[1].difference.high) == (-1, -1, -1)


def test_too_few_events_for_an_interval() -> None:
    with pytest.raises(MetricError, match="too few for an interval"):
        compare({"a": [1, 2, 3, 4]}, time=[1, 2, 3, 4], event=[0, 0, 1, 0])


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({}, "no model"),
        ({"a": [1, 2, 3], "b": [1, 2]}, r"b: log hazards of shape \(2,\)"),
        ({"a": [1, 2, 3], "b": [1, np.inf, 2]}, "b: log hazard of case 1 is not finite"),
    ],
)
def test_the_model_at_fault_is_named(models: dict[str, list[float]], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        compare(models, time=[1, 2, 3], event=[1, 1, 0])
