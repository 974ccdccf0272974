"""Heads of findings: calibration on a planted signal, few tiles, hospitals, and what single tiles add."""

import numpy as np
import pytest

from wsisurv.models.finding_heads import attended, attention, cross_fit_heads
from wsisurv.survival.binary import auc_within, logistic_path
from wsisurv.survival.splits import hospital_strata, make_folds


def planted(n=240, *, few=False, confounded=False, seed=0):
    """Bags of 12 features in 8 hospitals, and a finding.

    The finding shifts all tiles a little; or (``few``) one tile in twenty a lot, the rest of a case being moved as much
    by chance; or (``confounded``) nothing, but hospitals with more of it have another stain.
    """
    rng = np.random.default_rng(seed)
    hospital = rng.integers(0, 8, n)
    stain = rng.normal(size=(8, 12))
    odds = rng.normal(0, 1, n) * 1.5
    if confounded:
        odds = np.where(hospital < 4, 2.0, -2.0)
        stain[:, 0] = np.where(np.arange(8) < 4, 3.0, -3.0)
    present = rng.random(n) < 1 / (1 + np.exp(-odds))
    bags = []
    for case in range(n):
        tiles = rng.normal(size=(40, 12)) + stain[hospital[case]] * (1.0 if confounded else 0.3)
        if few:
            tiles += rng.normal(0, 0.6, 12)
            tiles[:2, 3] += 6.0 * present[case]
        elif not confounded:
            tiles[:, 3] += odds[case]
        bags.append(tiles.astype(np.float16))
    return bags, present, [f"h{one}" for one in hospital], odds


def fit(bags, present, site, *, attend=True):
    means = np.stack([tiles.mean(axis=0, dtype=np.float64) for tiles in bags])
    fold = make_folds(event=present, n_folds=5, seed=0, site=site)
    targets = present[:, None].astype(float)
    return cross_fit_heads(targets, site, fold, means=means, tiles=(lambda: bags) if attend else None), fold


def auc(log_odds, present, site):
    return float(auc_within(log_odds[None], present, hospital_strata(site), resamples=0).value[0])


@pytest.mark.parametrize("attend", [True, False])
def test_a_planted_finding_is_told_and_its_log_odds_are_those_it_was_drawn_with(attend):
    bags, present, site, odds = planted(480)
    crossed, _ = fit(bags, present, site, attend=attend)
    said = crossed.log_odds[:, 0]
    assert auc(said, present, site) > 0.95 * auc(odds, present, site)
    slope, intercept = logistic_path(np.stack([said, np.ones(480)], 1), present, ridges=[1e-9])[0]
    assert 0.75 < slope < 1.35
    assert abs(intercept) < 0.35


def test_a_finding_that_one_tile_in_twenty_shows_is_told_better_with_attention():
    bags, present, site, _ = planted(few=True)
    with_it, without = (
        auc(fit(bags, present, site, attend=attend)[0].log_odds[:, 0], present, site) for attend in (True, False)
    )
    assert with_it > without + 0.05


def test_a_finding_that_only_follows_the_hospital_is_not_told():
    found = []
    for seed in range(4):
        bags, present, site, _ = planted(confounded=True, seed=seed)
        said = fit(bags, present, site)[0].log_odds[:, 0]
        found.append(auc(said, present, site))
        # the same scores without regard to hospitals would look good, were the heads fitted so
        means = np.stack([tiles[:, 0].mean(dtype=float) for tiles in bags])
        assert auc(means, present, [None] * len(present)) > 0.8
    assert np.mean(found) < 0.56


def test_members_have_not_seen_their_fold():
    bags, present, site, _ = planted(120)
    crossed, fold = fit(bags, present, site)
    others = present.copy()
    others[fold == 2] = ~others[fold == 2]
    again, _ = fit_with(bags, others, site, fold)
    assert np.array_equal(crossed.heads[0].weights[2], again.heads[0].weights[2])
    assert not np.array_equal(crossed.heads[0].weights[1], again.heads[0].weights[1])
    for case, tiles in enumerate(bags):
        said = crossed.heads[0].log_odds(tiles)[fold[case]]
        assert np.isclose(said, crossed.log_odds[case, 0])


def fit_with(bags, present, site, fold):
    means = np.stack([tiles.mean(axis=0, dtype=np.float64) for tiles in bags])
    return cross_fit_heads(present[:, None].astype(float), site, fold, means=means, tiles=lambda: bags), fold


@pytest.mark.parametrize("attend", [True, False])
def test_shares_of_tiles_add_up_to_the_log_odds_less_those_of_usual_tiles(attend):
    bags, present, site, _ = planted(120)
    head = fit(bags, present, site, attend=attend)[0].heads[0]
    usual = np.linspace(-1, 1, 12)
    of_usual = head.log_odds(np.tile(usual, (5, 1)))
    assert np.isclose(head.tile_shares(bags[0], usual).sum(), (head.log_odds(bags[0]) - of_usual).mean())


def test_attention_sums_to_one_and_is_even_where_tiles_are_alike():
    rng = np.random.default_rng(0)
    tiles, focus = rng.normal(size=(9, 4)), rng.normal(size=(3, 4))
    weight = attention(tiles, focus)
    assert np.allclose(weight.sum(axis=0), 1)
    along = tiles @ focus.T
    z = (along - along.mean(0)) / along.std(0)
    assert np.allclose(weight, np.exp(z) / np.exp(z).sum(0))
    assert np.allclose(attended(tiles, focus), weight.T @ tiles)
    assert np.allclose(attention(np.ones((4, 4)), focus), 0.25)


def test_too_few_cases_in_a_fold_give_the_prevalence_and_no_error():
    bags, present, site, _ = planted(60)
    present = np.zeros(60, bool)
    present[0] = True
    crossed, fold = fit_with(bags, present, site, np.arange(60) % 5)
    assert np.isfinite(crossed.log_odds).all()
    assert np.ptp(crossed.log_odds[fold == 1]) == 0
