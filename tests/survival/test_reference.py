"""Training cases out of fold, brought to the distribution that new cases have by the mean of members."""

import numpy as np
import pytest

from wsisurv.errors import FormatError
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.prognosis import fit_prognosis
from wsisurv.survival.reference import OutOfFoldScale, fit_out_of_fold_scale, load_out_of_fold_scale


def members(rng, n, fold, *, noise=1.5, shared=0.6, learned=0.0, n_members=5):
    """Members that share some noise, have an origin of their own, and know outcomes of their training by heart."""
    truth, outcome = rng.normal(size=n), rng.normal(size=n)
    common, origin = rng.normal(size=n), rng.normal(0, 2, n_members)
    own = rng.normal(size=(n_members, n))
    seen = np.zeros((n_members, n)) if fold is None else (np.arange(n_members)[:, None] != fold)
    by_heart = learned * outcome * seen
    return truth + shared * common + noise * own + by_heart, origin[:, None], truth


def training(rng, n, **options):
    fold = rng.permutation(n) % 5
    scores, origin, truth = members(rng, n, fold, **options)
    scores = scores + origin
    return scores, scores[fold, np.arange(n)], fold, origin, truth


def test_thirds_and_spread_of_new_cases_are_those_of_the_reference():
    rng = np.random.default_rng(0)
    scores, out_of_fold, fold, origin, _ = training(rng, 3000)
    scale = fit_out_of_fold_scale(out_of_fold=out_of_fold, by_member=scores, fold=fold)
    new = (members(rng, 5000, None)[0] + origin).mean(0)
    reference = np.array([scale.placed(*one) for one in zip(out_of_fold, fold, strict=True)])
    assert reference.std() == pytest.approx(new.std(), rel=0.06)
    assert reference.mean() == pytest.approx(new.mean(), abs=0.1)
    low, high = np.quantile(reference, [1 / 3, 2 / 3])
    np.testing.assert_allclose([(new < low).mean(), (new >= high).mean()], 1 / 3, atol=0.03)
    low, high = np.quantile(out_of_fold, [1 / 3, 2 / 3])  # as it was: of single members
    assert max((new < low).mean(), (new >= high).mean()) < 0.27


def test_what_members_know_by_heart_keeps_the_shrinkage_between_the_bounds():
    """Members that have seen a case follow its outcome, and their own judgement of it but half."""
    rng = np.random.default_rng(4)
    fold = rng.permutation(5000) % 5
    new, _, _ = members(rng, 5000, None)
    seen = np.arange(5)[:, None] != fold
    outcome = 3 * rng.normal(size=5000)
    scores = np.where(seen, 0.5 * new + outcome, new)
    out_of_fold = new[fold, np.arange(5000)]
    wanted = new.mean(0).var() / new.var(1).mean()
    scale = fit_out_of_fold_scale(out_of_fold=out_of_fold, by_member=scores, fold=fold)
    low = np.cov(out_of_fold, scores.mean(0))[0, 1] / out_of_fold.var()
    high = scores.mean(0).var() / scores.var(1).mean()
    assert low < wanted < high
    assert low < scale.shrinkage < high
    assert scale.shrinkage == pytest.approx(np.sqrt(low * high), abs=0.01)


def test_what_all_members_would_give_on_average_is_their_mean():
    """Regression of the mean of members on one member, both on cases that none of them has seen."""
    rng = np.random.default_rng(1)
    scores, out_of_fold, fold, _, _ = training(rng, 20_000)
    scale = fit_out_of_fold_scale(out_of_fold=out_of_fold, by_member=scores, fold=fold)
    new = members(rng, 20_000, None)[0]
    slope = np.cov(new[0], new.mean(0))[0, 1] / new[0].var()
    assert scale.shrinkage == pytest.approx(slope, abs=0.02)
    deviation = out_of_fold[0] - scale.fold_mean[fold[0]]
    assert scale.expected(out_of_fold[0], fold[0]) == pytest.approx(scale.mean + scale.shrinkage * deviation)
    assert scale.expected(3.0, None) == scale.placed(3.0, None) == 3.0


def test_survival_of_new_cases_goes_by_the_same_reference():
    rng = np.random.default_rng(2)
    scores, out_of_fold, fold, origin, truth = training(rng, 4000, noise=1.0)
    scale = fit_out_of_fold_scale(out_of_fold=out_of_fold, by_member=scores, fold=fold)
    reference = np.array([scale.placed(*one) for one in zip(out_of_fold, fold, strict=True)])

    def follow_up(truth):
        death, end = rng.exponential(np.exp(-0.8 * truth) / 0.2), rng.uniform(0.5, 8, len(truth))
        return np.minimum(death, end), death <= end

    time, event = follow_up(truth)
    prognosis = fit_prognosis(
        log_hazard=out_of_fold,
        time=time,
        event=event,
        fold=fold,
        averaging=1 / scale.shrinkage,
        reference=reference,
    )
    new, _, later = members(rng, 4000, None, noise=1.0)
    mean = (new + origin).mean(0)
    until, died = follow_up(later)
    assert cox_slope(log_hazard=prognosis.slope * mean, time=until, event=died).value == pytest.approx(1, abs=0.12)
    predicted = prognosis.survival(log_hazard=mean, horizons=[3.0])[:, 0]
    assert predicted.mean() == pytest.approx(np.exp(-0.6 * np.exp(0.8 * later)).mean(), abs=0.03)
    # and so does that of a training case, which one member alone speaks of
    expected = [scale.expected(*one) for one in zip(out_of_fold, fold, strict=True)]
    own = prognosis.survival(log_hazard=expected, horizons=[3.0])[:, 0]
    assert own.mean() == pytest.approx(np.exp(-0.6 * np.exp(0.8 * truth)).mean(), abs=0.03)


def test_members_that_agree_are_not_shrunk_and_noise_not_below_its_mean():
    fold = np.arange(4000) % 4
    risk = np.random.default_rng(3).normal(size=(4, 4000))
    agree = fit_out_of_fold_scale(out_of_fold=risk[0], by_member=risk[[0, 0, 0, 0]], fold=fold)
    assert agree.shrinkage == pytest.approx(1)
    noise = fit_out_of_fold_scale(out_of_fold=risk[fold, np.arange(4000)], by_member=risk, fold=fold)
    assert noise.shrinkage == pytest.approx(0.25, abs=0.02)
    flat = fit_out_of_fold_scale(out_of_fold=np.zeros(4000), by_member=np.zeros((4, 4000)), fold=fold)
    assert (flat.shrinkage, flat.placed(0.0, 2)) == (1, 0)


def test_read_back_as_written_refused_where_damaged_and_files_of_before_stay_as_they_were():
    scale = OutOfFoldScale(0.5, np.array([0.1, -0.2]), np.array([0.7, 0.8]), 0.4)
    arrays = scale.arrays()
    again = load_out_of_fold_scale(arrays, n_folds=2, shrinkage=1.0)
    for fold in (None, 0, 1):
        assert again.placed(1.5, fold) == scale.placed(1.5, fold)
        assert again.expected(1.5, fold) == scale.expected(1.5, fold)
    before = load_out_of_fold_scale({}, n_folds=2, shrinkage=0.6)
    assert before.placed(1.5, 1) == 1.5
    assert before.expected(1.5, 1) == pytest.approx(0.9)
    for name, value in {
        "mean": np.array([np.nan]),
        "fold_mean": np.zeros(3),
        "fold_scale": np.array([1.0, -1.0]),
        "shrinkage": np.array([0.0]),
    }.items():
        with pytest.raises(FormatError, match="reference of risks"):
            load_out_of_fold_scale({**arrays, f"reference/{name}": value}, n_folds=2, shrinkage=1.0)
    with pytest.raises(FormatError, match="reference/mean"):
        load_out_of_fold_scale({"reference/shrinkage": np.ones(1)}, n_folds=2, shrinkage=1.0)
