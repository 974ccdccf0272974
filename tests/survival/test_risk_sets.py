"""Sums over risk sets of late entries: against a dense table, and where hazards differ by many orders of magnitude."""

from typing import Any

import numpy as np
import pytest

from wsisurv.survival.cox import cox_slope
from wsisurv.survival.follow_up import one_after_another
from wsisurv.survival.ridge import ridge_path
from wsisurv.survival.risk_sets import RiskSets


@pytest.mark.parametrize(("n", "n_sets"), [(1, 1), (7, 1), (7, 2), (40, 5), (60, 8), (200, 33)])
def test_sums_are_those_over_a_table_of_who_is_at_risk(n: int, n_sets: int) -> None:
    rng = np.random.default_rng(n)
    entry = rng.integers(0, 30, n).astype(float)
    time = entry + rng.integers(1, 30, n)
    at = -np.sort(-rng.choice(np.arange(1, 60), n_sets, replace=False).astype(float))
    there = (entry < at[:, None]) & (time >= at[:, None])
    sets, rows = RiskSets.of(time, entry, at), rng.normal(size=(n, 3))
    assert sets.sums(rows) == pytest.approx(there @ rows, abs=1e-12)
    assert sets.sums(rows[:, 0]) == pytest.approx(there @ rows[:, 0], abs=1e-12)
    weight = rng.random(n_sets)
    assert sets.over(weight) == pytest.approx(weight @ there, abs=1e-12)


def test_a_hazard_far_above_leaves_no_trace_in_sets_without_its_case() -> None:
    sets = RiskSets.of(np.array([3.0, 2.0, 1.5]), np.array([2.5, 0.0, 0.0]), np.array([3.0, 1.0]))
    assert sets.sums(np.array([1e30, 1.0, 2.0])).tolist() == [1e30, 3.0]


def in_two_hospitals(apart: float) -> dict[str, Any]:
    """Cases of two hospitals, whose first variable lies so far apart that one hospital's hazards are all of the sum."""
    rng = np.random.default_rng(3)
    hospital = np.repeat([0, 1], 60)
    variables = rng.normal(size=(120, 3))
    death = rng.exponential(np.exp(-variables[:, 0]))
    time, event = np.minimum(death, 2.0) + 1e-3, death <= 2.0
    at, entry = one_after_another(time, hospital)
    return {"variables": variables + apart * hospital[:, None], "time": at, "event": event, "entry": entry}


def test_hospitals_far_apart_change_nothing_within_them() -> None:
    """Risk sets hold cases of one hospital, so what is added to all of another cancels."""
    near, far = (ridge_path(**in_two_hospitals(apart), ridges=(0.1, 0.01)) for apart in (0.0, 25.0))
    assert far == pytest.approx(near, rel=1e-6)


def test_a_slope_too() -> None:
    near, far = (in_two_hospitals(apart) for apart in (0.0, 40.0))
    slopes = [
        cox_slope(log_hazard=one["variables"][:, 0], **{key: one[key] for key in ("time", "event", "entry")})
        for one in (near, far)
    ]
    assert slopes[1].value == pytest.approx(slopes[0].value, rel=1e-6)
    assert slopes[1].se == pytest.approx(slopes[0].se, rel=1e-6)
