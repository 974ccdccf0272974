"""Logistic regression and AUC within hospital, against SciPy and against counting."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu

from wsisurv.errors import MetricError
from wsisurv.survival.binary import auc_within, hospital_offset, logistic_path, pair_likelihood
from wsisurv.survival.resampling import CASES, Units, draw_weights


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5))
    stratum = rng.integers(0, 7, 90)
    present = rng.random(90) < 1 / (1 + np.exp(-x[:, 0] - stratum / 3))
    return x, present, stratum


def test_the_ridge_logistic_regression_is_the_maximum_that_scipy_finds(drawn):
    x, present, stratum = drawn
    offset = hospital_offset(present, stratum)
    path = logistic_path(x, present, offset=offset, ridges=(1.0, 0.1, 0.01))
    for ridge, found in zip((1.0, 0.1, 0.01), path, strict=True):

        def loss(b, ridge=ridge):
            odds = offset + x @ b
            return np.logaddexp(0, np.where(present, -odds, odds)).sum() + len(x) * ridge / 2 * b @ b

        assert np.allclose(found, minimize(loss, np.zeros(5), tol=1e-12).x, atol=1e-5)


def by_hand(score, present, stratum):
    """Van Elteren's weighted mean of the hospitals' AUCs, each by SciPy's Mann-Whitney statistic."""
    total = weight = 0.0
    for one in np.unique(stratum):
        first, second = score[(stratum == one) & present], score[(stratum == one) & ~present]
        if len(first) and len(second):
            share = len(first) * len(second) / (len(first) + len(second) + 1)
            total += share * mannwhitneyu(first, second).statistic / (len(first) * len(second))
            weight += share
    return total / weight


def test_auc_of_pairs_of_one_hospital_is_the_weighted_mean_of_mann_whitney_statistics(drawn):
    x, present, stratum = drawn
    scores = np.round(x[:, :2].T, 1)  # with ties
    found = auc_within(scores, present, stratum, resamples=0)
    assert np.allclose(found.value, [by_hand(score, present, stratum) for score in scores])
    assert np.isclose(auc_within(scores, present, resamples=0).value[0], by_hand(scores[0], present, np.zeros(90)))


@pytest.mark.parametrize("units", ["cases", "hospitals"])
def test_a_draw_gives_what_the_drawn_cases_or_hospitals_give_when_counted_out(drawn, units):
    x, present, stratum = drawn
    unit = CASES if units == "cases" else Units(stratum, 6.0)
    found = auc_within(x[:, :1].T, present, stratum, resamples=20, seed=3, units=unit)
    assert found.dropped == 0
    (weights,) = draw_weights(90, 20, 3, unit)
    for value, weight in zip(found.resampled[0], weights.astype(int), strict=True):
        rows = np.repeat(np.arange(90), weight)
        own = stratum[rows]
        if units == "hospitals":  # a hospital drawn twice is two hospitals
            own = own * 100 + np.concatenate([np.arange(times) for times in weight if times])
        assert np.isclose(value, by_hand(x[rows, 0], present[rows], own))


def test_without_a_pair_of_one_hospital_there_is_no_auc():
    with pytest.raises(MetricError, match="no two cases of one hospital"):
        auc_within(np.zeros((1, 2)), np.array([True, False]), np.array([0, 1]))
    assert pair_likelihood(np.zeros(2), np.array([True, False]), np.array([0, 1])) == -np.inf


def test_the_likelihood_of_pairs_prefers_right_scores_and_punishes_extreme_ones(drawn):
    x, present, stratum = drawn
    right, none, extreme = (pair_likelihood(x[:, 0] * by, present, stratum) for by in (1.0, 0.0, 50.0))
    assert right > none > extreme
    assert np.isclose(none, -np.log(2))


def test_a_hospital_of_one_case_has_an_offset_between_its_own_and_that_of_all():
    present = np.array([True] * 5 + [False] * 5 + [True])
    offset = hospital_offset(present, np.array([0] * 10 + [1]))
    assert offset[0] < offset[-1] < np.inf
    assert np.ptp(hospital_offset(present, None)) == 0
