"""A report's risk from words and findings: what it learns, and that nothing unknown or alike breaks it."""

from typing import Any

import numpy as np
import pytest

from wsisurv.models.report_ridge import DIRECTIONS, fit_report_ridge, fit_report_scaling
from wsisurv.survival.metrics import concordance
from wsisurv.survival.ridge import cross_fit_ridge


def reports(n: int, seed: int) -> dict[str, Any]:
    """Word 0 and finding 0 drive the hazard; a third of finding 1 is unknown, which tells nothing."""
    rng = np.random.default_rng(seed)
    words = (rng.random((n, 100)) < 0.2).astype(np.float32)
    findings = rng.normal(size=(n, 3))
    death = rng.exponential(np.exp(-(2 * words[:, 0] + findings[:, 0])))
    findings[rng.random(n) < 1 / 3, 1] = np.nan
    findings[:, 2] = np.nan
    end = rng.exponential(1.0, n)
    return {"words": words, "findings": findings, "time": np.minimum(death, end) + 1e-3, "event": death <= end}


def test_words_and_findings_are_both_learned_and_new_reports_are_scored() -> None:
    data, new = reports(400, 0), reports(400, 1)
    model = fit_report_ridge(**data)

    def right(risk: Any, of: dict[str, Any]) -> float:
        return concordance(log_hazard=risk, time=of["time"], event=of["event"])

    both = right(model.log_hazard(new["words"], new["findings"]), new)
    words = fit_report_ridge(**{**data, "findings": data["findings"][:, :0]})
    told = fit_report_ridge(**{**data, "words": data["words"][:, :0]})
    assert both > right(words.log_hazard(new["words"], new["findings"][:, :0]), new) + 0.05
    assert both > right(told.log_hazard(new["words"][:, :0], new["findings"]), new) + 0.005
    follow_up = {"time": data["time"], "event": data["event"]}
    variables = model.scaling(data["words"], data["findings"])
    assert right(cross_fit_ridge(variables=variables, **follow_up), data) > 0.65
    assert abs(model.log_hazard(data["words"], data["findings"]).mean()) < 1e-6


def test_blocks_have_one_variance_and_directions_keep_their_sizes() -> None:
    data = reports(300, 2)
    scaling = fit_report_scaling(data["words"], data["findings"])
    columns = scaling(data["words"], data["findings"])
    assert columns.shape == (300, DIRECTIONS + 6)
    assert np.abs(columns.mean(axis=0)).max() < 1e-6
    variance = columns.var(axis=0)
    assert variance[:DIRECTIONS].sum() == pytest.approx(variance[DIRECTIONS:].sum(), rel=1e-5)
    assert (np.diff(variance[:DIRECTIONS]) <= 1e-9).all()
    used = variance > 1e-12
    assert used[DIRECTIONS:].tolist() == [True, True, False, False, True, False]
    assert variance[used].mean() == pytest.approx(1, rel=1e-5)


def test_what_is_unknown_or_all_alike_is_no_trouble() -> None:
    data = reports(60, 3)
    alike = {**data, "words": np.ones((60, 5), np.float32), "findings": np.full((60, 2), np.nan)}
    model = fit_report_ridge(**alike)
    assert not model.log_hazard(alike["words"], alike["findings"]).any()
    new = fit_report_ridge(**data).log_hazard(np.zeros((2, 100), np.float32), np.full((2, 3), np.nan))
    assert np.isfinite(new).all()
    assert new[0] == new[1]


def test_the_outcome_has_no_part_in_the_columns() -> None:
    data = reports(80, 4)
    one = fit_report_ridge(**data).scaling
    other = fit_report_ridge(**{**data, "time": data["time"][::-1], "event": data["event"][::-1]}).scaling
    np.testing.assert_array_equal(one.directions, other.directions)
    np.testing.assert_array_equal(one.scale, other.scale)
