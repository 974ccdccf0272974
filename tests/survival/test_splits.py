import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.survival.splits import kept_whole, make_folds


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


FOLDS_OF_REAL_CASES = Path(__file__).parents[1] / "bench" / "real_folds"
DEMO = {"H1": 56, "H2": 44, "H3": 36, "H4": 24}


def real_hospitals(cohort):
    with (FOLDS_OF_REAL_CASES / f"{cohort}.csv").open(encoding="utf-8") as file:
        return [row["case_id"].split("-")[1] for row in csv.DictReader(file)]


def shared_again(one, other, site):
    """Of the pairs of cases of two hospitals that share a fold, the share that does so in the other division."""
    first, second = np.triu_indices(len(one), 1)
    apart = np.asarray(site)[first] != np.asarray(site)[second]
    together, again = (fold[first[apart]] == fold[second[apart]] for fold in (one, other))
    return (together & again).sum() / together.sum()


@pytest.mark.parametrize("cohort", ["crc", "luad", "blca", "ucec"])
@pytest.mark.parametrize("n_folds", [3, 5])
def test_repeats_with_whole_hospitals_differ_and_are_balanced(cohort, n_folds):
    site = real_hospitals(cohort)
    event = np.random.default_rng(0).random(len(site)) < 0.3
    folds = [make_folds(event=event, n_folds=n_folds, seed=seed, site=site) for seed in range(6)]
    assert np.mean([shared_again(*pair, site) for pair in combinations(folds, 2)]) < 1.5 / n_folds  # chance: 1/n_folds
    for fold in folds:
        assert kept_whole(site, fold)
        for weight in (np.ones(len(site)), event):
            share = np.bincount(fold, weights=weight, minlength=n_folds) / weight.sum() * n_folds
            assert 0.45 < share.min() <= share.max() <= 1.65  # one hospital of crc has 28 % of the cases
    assert (folds[0] == make_folds(event=event, n_folds=n_folds, seed=0, site=site)).all()


def test_few_hospitals_are_dealt_out_in_more_than_one_way():
    site = [name for name, cases in DEMO.items() for _ in range(cases)]
    event = np.arange(len(site)) % 3 == 0
    folds = [make_folds(event=event, n_folds=3, seed=seed, site=site) for seed in range(12)]
    ways = {frozenset(frozenset(np.flatnonzero(fold == k).tolist()) for k in range(3)) for fold in folds}
    assert len(ways) > 1
    assert all(kept_whole(site, fold) and np.bincount(fold).max() <= 0.5 * len(site) for fold in folds)
