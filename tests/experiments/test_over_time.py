"""AUC and probabilities within folds: against the plain figures, and on models that are right or too sure."""

import numpy as np
import pytest

from wsisurv.errors import MetricError
from wsisurv.experiments import over_time
from wsisurv.experiments.over_time import auc_within, make_horizons, predicted_within
from wsisurv.survival.dynamic import dynamic_auc
from wsisurv.survival.splits import make_folds
from wsisurv.survival.stratified import FoldScores


def study(n=300, seed=0):
    """True log hazards, exponential times, half of the cases censored."""
    random = np.random.default_rng(seed)
    risk = random.normal(size=n)
    death, end = random.exponential(np.exp(-risk)), random.exponential(1.0, n)
    return risk, np.minimum(death, end), death <= end


def scored(risks, event, repeats=2, k=3):
    folds = []
    for repeat in range(repeats):
        fold = make_folds(event=event, n_folds=k, seed=repeat)
        for number in range(k):
            rows = np.flatnonzero(fold == number)
            folds.append(FoldScores(repeat, rows, np.stack([risk[rows] for risk in risks]), len(event) - len(rows)))
    return folds


def test_one_fold_is_the_plain_auc():
    risk, time, event = study()
    horizons = make_horizons(time=time, event=event)
    one = auc_within([FoldScores(0, np.arange(300), risk[None], 1)], time=time, event=event, horizons=horizons)
    plain = dynamic_auc(log_hazard=risk, time=time, event=event, horizons=horizons)
    np.testing.assert_allclose(one.auc[0], plain.auc)
    assert one.mean[0] == pytest.approx(plain.mean)


def test_pairs_across_folds_do_not_count_and_folds_without_a_pair_are_left_out():
    risk, time, event = study()
    horizons = make_horizons(time=time, event=event)
    folds = scored([risk], event, repeats=1)
    moved = [FoldScores(f.repeat, f.rows, 3 * f.log_hazard + 100 * number, f.n_train) for number, f in enumerate(folds)]
    one, two = (auc_within(f, time=time, event=event, horizons=horizons) for f in (folds, moved))
    np.testing.assert_allclose(one.auc, two.auc)
    quiet = np.flatnonzero(~event)[:5]
    more = [*folds, FoldScores(0, quiet, risk[None, quiet], 1)]
    np.testing.assert_allclose(auc_within(more, time=time, event=event, horizons=horizons).auc, one.auc)
    none = auc_within(more[-1:], time=time, event=event, horizons=horizons)
    assert np.isnan(none.auc).all()
    assert np.isnan(none.mean).all()


def test_the_truth_is_calibrated_and_better_than_knowing_nothing():
    risk, time, event = study(600, 1)
    noise = np.random.default_rng(9).normal(size=600)
    folds = scored([risk, noise, 5 * risk], event)
    horizons = make_horizons(time=time, event=event)
    truth, nothing, extreme = (
        predicted_within(folds, number, time=time, event=event, horizons=horizons) for number in range(3)
    )
    assert truth.brier < 0.9 * truth.reference
    assert nothing.brier == pytest.approx(nothing.reference, rel=0.03)
    assert truth.d_p > 0.05
    assert truth.d_share.sum() == pytest.approx(1)
    assert extreme.brier == pytest.approx(truth.brier, rel=0.02)  # the slope of the other folds takes it back


def test_a_case_has_no_part_in_its_own_probability():
    """Times and events of one fold are changed: the baseline of the other folds' cases moves, its own does not."""
    risk, time, event = study(120, 2)
    folds = scored([risk], event, repeats=1)
    horizons = make_horizons(time=time, event=event)

    def first_fold_brier(shift):
        # cases of the first fold are told worse than they are: with a baseline of their own this would be mended
        moved = [
            FoldScores(0, f.rows, f.log_hazard + (shift if number == 0 else 0.0), f.n_train)
            for number, f in enumerate(folds)
        ]
        return predicted_within(moved, 0, time=time, event=event, horizons=horizons).brier

    assert first_fold_brier(5.0) > first_fold_brier(0.0) + 0.02


def test_a_fold_whose_log_hazards_have_a_scale_of_their_own_is_not_told_the_impossible(monkeypatch):
    """Students of few events: those of two folds vary by .002, those of the third by .25."""

    def brier_of(seed):
        risk, time, event = study(36, seed)
        folds = scored([risk], event, repeats=1)
        scales = (0.002, 0.002, 0.25)
        moved = [FoldScores(0, f.rows, by * f.log_hazard, f.n_train) for by, f in zip(scales, folds, strict=True)]
        horizons = make_horizons(time=time, event=event)
        return predicted_within(moved, 0, time=time, event=event, horizons=horizons).brier

    limited = [brier_of(seed) for seed in range(5)]
    monkeypatch.setattr(over_time, "no_further", lambda log_hazard, _: log_hazard)
    assert all(one < brier_of(seed) for seed, one in enumerate(limited))


def test_data_that_can_not_give_probabilities():
    risk, time, event = study(60, 3)
    horizons = make_horizons(time=time, event=event)
    alone = [FoldScores(0, np.arange(60), risk[None], 1)]
    with pytest.raises(MetricError, match="too few events for a baseline"):
        predicted_within(alone, 0, time=time, event=event, horizons=horizons)
    with pytest.raises(MetricError, match="no event before"):
        make_horizons(time=time, event=np.zeros(60, bool))
