import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.survival.splits import make_folds


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(2, 6), st.integers(0, 99))
def test_folds_are_balanced_in_cases_and_events(n, n_folds, seed):
    event = np.random.default_rng(seed).random(n) < 0.4
    if n < n_folds:
        with pytest.raises(ValueError, match="folds of"):
            make_folds(event=event, n_folds=n_folds, seed=seed)
        return
    fold = make_folds(event=event, n_folds=n_folds, seed=seed)
    events = np.bincount(fold, weights=event, minlength=n_folds)
    cases = np.bincount(fold, minlength=n_folds)
    assert np.ptp(events) <= 1
    assert np.ptp(cases) <= 1
    assert cases.min() >= 1


def test_sites_are_kept_whole_where_there_are_enough():
    rng = np.random.default_rng(0)
    site = [f"s{number}" for number in rng.integers(0, 9, 120)]
    fold = make_folds(event=rng.random(120) < 0.3, n_folds=4, seed=1, site=site)
    assert set(fold) == {0, 1, 2, 3}
    for name in set(site):
        assert len({k for k, s in zip(fold, site, strict=True) if s == name}) == 1


@pytest.mark.parametrize("site", [["a"] * 60 + ["b"] * 60, ["a"] * 110 + list("bcdefghijk"), [None] * 120])
def test_cases_are_dealt_out_where_sites_cannot_be_kept_whole(site):
    event = np.arange(120) % 3 == 0
    fold = make_folds(event=event, n_folds=5, seed=1, site=site)
    assert np.bincount(fold).tolist() == [24] * 5


def test_a_seed_means_the_same_folds_and_another_seed_others():
    event = np.arange(50) % 2 == 0
    first = make_folds(event=event, n_folds=5, seed=1)
    assert (first == make_folds(event=event, n_folds=5, seed=1)).all()
    assert (first != make_folds(event=event, n_folds=5, seed=2)).any()
