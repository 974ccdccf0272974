"""Risk groups beside hospitals: planted confounding is warned of, chance is not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from wsisurv.cohort import Case
from wsisurv.pages.hospitals import groups_by_hospital
from wsisurv.pages.predicted import CasePredictions
from wsisurv.survival.stratified import FoldScores
from wsisurv.units import CaseId

GROUPS = ("low", "intermediate", "high")


def predicted(sites: list[str], groups: list[str]) -> CasePredictions:
    n = len(sites)
    cases = tuple(Case(CaseId(f"c{k}"), 1.0, True, site or None) for k, site in enumerate(sites))
    scores = (FoldScores(0, np.arange(n), np.zeros((1, n)), n),)
    zeros = np.zeros(n)
    return CasePredictions("x", cases, zeros, zeros, tuple(groups), np.zeros(n, np.int64), scores, np.array([1.0]))


def drawn(n: int, follows: float, seed: int = 0) -> CasePredictions:
    """Each case's group is its hospital's with a chance of ``follows``, else any."""
    rng = np.random.default_rng(seed)
    site, group = rng.integers(0, 3, n), rng.integers(0, 3, n)
    group = np.where(rng.random(n) < follows, site, group)
    return predicted([f"H{one}" for one in site], [GROUPS[one] for one in group])


def test_the_table_counts_and_v_is_near_that_of_scipy_for_many_cases() -> None:
    seen = drawn(3000, 0.5)
    found = groups_by_hospital(seen)
    assert found is not None
    counts = np.array([cases for _, cases in found.rows])
    sites = np.array([case.site for case in seen.cases])
    for hospital, cases in found.rows:
        assert cases == tuple(int(((sites == hospital) & (np.array(seen.group) == one)).sum()) for one in GROUPS)
    assert found.v == pytest.approx(association(counts, method="cramer"), abs=0.01)
    assert found.p == pytest.approx(0.001)


def test_planted_confounding_is_warned_of_and_chance_is_not() -> None:
    found = groups_by_hospital(drawn(60, 0.8))
    assert found is not None
    assert "follows the hospital" in found.warning
    by_chance = [groups_by_hospital(drawn(60, 0.0, seed)) for seed in range(20)]
    assert sum(bool(one and one.warning) for one in by_chance) <= 1
    weak = groups_by_hospital(drawn(3000, 0.1))
    assert weak is not None
    assert weak.p < 0.05
    assert not weak.warning  # shown, and of no weight
    assert "a little" in weak.sentence
    assert "follows the hospital (" in found.sentence
    assert sum("is not shown to follow" in one.sentence for one in by_chance if one) >= 17


def test_p_is_that_of_the_chi_squared_test_where_cases_are_many() -> None:
    found = groups_by_hospital(drawn(300, 0.08, seed=4))
    assert found is not None
    assert found.p == pytest.approx(chi2_contingency([cases for _, cases in found.rows]).pvalue, abs=0.03)


def test_nothing_is_said_of_one_hospital_none_or_one_group() -> None:
    many = drawn(30, 0.5)
    assert groups_by_hospital(predicted(["A"] * 6, ["low", "high"] * 3)) is None
    assert groups_by_hospital(predicted([""] * 6, ["low", "high"] * 3)) is None
    assert groups_by_hospital(replace(many, group=("low",) * 30)) is None


def test_unfamiliar_cases_are_of_no_group() -> None:
    found = groups_by_hospital(predicted(["A", "A", "B", "B", "B"], ["low", "high", "low", "high", "unfamiliar"]))
    assert found is not None
    assert sum(sum(cases) for _, cases in found.rows) == 4
