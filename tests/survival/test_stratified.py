"""Concordance and Cox regression within folds, against pair by pair counting and lifelines."""

import numpy as np
import pytest

from wsisurv.errors import MetricError
from wsisurv.survival.cox import cox_within
from wsisurv.survival.metrics import bootstrap, concordance
from wsisurv.survival.stratified import FoldScores, concordance_within, uno_within


def follow_up(n=60, seed=0):
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    time = np.ceil(10 * rng.exponential(np.exp(-risk)))  # ties
    return risk, time, rng.random(n) < 0.5


def split(n, k, repeats=1, seed=0):
    rng = np.random.default_rng(seed)
    return [(r, np.sort(part)) for r in range(repeats) for part in np.array_split(rng.permutation(n), k)]


def counted(parts, risk, time, event):
    right = pairs = 0.0
    for rows in parts:
        for i in rows:
            for j in rows:
                if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                    pairs += 1
                    right += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    return right / pairs


def test_it_counts_pairs_within_folds_and_no_others():
    risk, time, event = follow_up()
    risk = np.round(risk, 1)
    parts = split(60, 4, repeats=2)
    tested = [FoldScores(r, rows, np.stack([risk[rows], -risk[rows]]), 45) for r, rows in parts]
    wanted = np.mean([counted([rows for k, rows in parts if k == r], risk, time, event) for r in (0, 1)])
    within = concordance_within(tested, time=time, event=event, resamples=20)
    value = within.whole.value
    assert value[0] == pytest.approx(wanted)
    assert value[1] == pytest.approx(1 - wanted)
    for (_, rows), row in zip(parts, within.by_fold, strict=True):
        assert row[0] == pytest.approx(concordance(log_hazard=risk[rows], time=time[rows], event=event[rows]))


def test_another_origin_and_scale_of_each_fold_change_nothing():
    risk, time, event = follow_up()
    parts = split(60, 3)
    plain = [FoldScores(0, rows, risk[rows][None], 40) for _, rows in parts]
    moved = [FoldScores(0, rows, (10.0 * k - 7 + (k + 1) * risk[rows])[None], 40) for k, (_, rows) in enumerate(parts)]
    one, two = (concordance_within(tested, time=time, event=event, resamples=50) for tested in (plain, moved))
    assert one.whole.value == two.whole.value
    np.testing.assert_array_equal(one.whole.resampled, two.whole.resampled)


def test_one_fold_is_the_plain_concordance_with_its_interval():
    risk, time, event = follow_up(150)
    one = concordance_within([FoldScores(0, np.arange(150), risk[None], 150)], time=time, event=event, resamples=2000)
    plain = bootstrap(log_hazard=risk, time=time, event=event, resamples=2000)
    assert one.whole.value[0] == pytest.approx(plain.value)
    assert one.whole.interval(0).low == pytest.approx(plain.low, abs=0.01)
    assert one.whole.interval(0).high == pytest.approx(plain.high, abs=0.01)


def test_standard_errors_of_a_difference():
    risk, time, event = follow_up(200)
    noise = np.random.default_rng(1).normal(size=200)
    tested = [FoldScores(r, rows, np.stack([risk, noise, risk])[:, rows], 160) for r, rows in split(200, 5, repeats=2)]
    within = concordance_within(tested, time=time, event=event, resamples=200)
    assert within.bootstrap_se(0, 2) == 0 == within.fold_se(0, 2)
    assert 0.01 < within.bootstrap_se(0, 1) < 0.1
    difference = within.by_fold[:, 0] - within.by_fold[:, 1]
    assert within.fold_se(0, 1) == pytest.approx(difference.std(ddof=1) * np.sqrt(1 / 10 + 40 / 160))
    alone = concordance_within(tested[:1], time=time, event=event, resamples=50)
    assert alone.fold_se(0, 1) is None


def test_degenerate_folds():
    risk, time, event = follow_up(20)
    none = [FoldScores(0, np.array([i]), risk[None, [i]], 19) for i in range(20)]
    with pytest.raises(MetricError, match="no comparable pair"):
        concordance_within(none, time=time, event=event)
    with pytest.raises(MetricError, match="no fold"):
        concordance_within([], time=time, event=event)
    bad = FoldScores(0, np.arange(20), np.full((1, 20), np.nan), 20)
    with pytest.raises(MetricError, match="not finite"):
        concordance_within([bad], time=time, event=event)
    some = [FoldScores(0, np.arange(10), risk[None, :10], 10), FoldScores(0, np.array([11]), risk[None, [11]], 10)]
    within = concordance_within(some, time=time, event=event, resamples=20)
    assert np.isnan(within.by_fold[1, 0])
    assert within.fold_se(0, 0) is None


def test_cox_within_folds_has_a_baseline_for_each():
    rng = np.random.default_rng(3)
    n = 400
    fold = np.arange(n) % 4
    x = rng.normal(size=n)
    time = rng.exponential(np.exp(-(0.8 * x + 3 * fold)))  # hazards of the folds differ by far
    event = np.ones(n, dtype=bool)
    shifted = x + 5.0 * fold
    fit = cox_within(variables=shifted[:, None], fold=fold, time=time, event=event)
    assert fit.coefficients[0] == pytest.approx(0.8, abs=0.15)
    null = cox_within(variables=np.column_stack([rng.normal(size=n), np.ones(n)]), fold=fold, time=time, event=event)
    assert fit.log_likelihood > null.log_likelihood + 50
    assert null.coefficients[1] == 0
    with pytest.raises(MetricError, match="nothing to fit"):
        cox_within(variables=np.ones((n, 1)), fold=fold, time=time, event=event)


def test_the_likelihood_within_one_fold_is_lifelines():
    import pandas as pd
    from lifelines import CoxPHFitter

    risk, time, event = follow_up(80)
    fit = cox_within(variables=risk[:, None], fold=np.zeros(80, dtype=int), time=time, event=event)
    table = pd.DataFrame({"x": risk, "time": time, "event": event})
    lifelines = CoxPHFitter().fit(table, "time", "event")
    assert fit.log_likelihood == pytest.approx(lifelines.log_likelihood_, abs=1e-4)
    assert fit.coefficients[0] == pytest.approx(lifelines.params_["x"], rel=1e-3)


def test_what_a_variable_adds_is_lifelines_likelihood_ratio_over_strata():
    """Five folds, each with a baseline hazard of its own, tied times, and two covariates beside the risk."""
    import pandas as pd
    from lifelines import CoxPHFitter

    rng = np.random.default_rng(4)
    n, fold = 250, np.arange(250) % 5
    variables = rng.normal(size=(n, 3))
    variables[:, 1] = variables[:, 1] > 0
    time = np.ceil(rng.exponential(np.exp(-variables @ [0.5, 0.4, 0.6])) * 20 * (1 + fold))
    event = rng.random(n) < 0.6

    def lifelines_likelihood(columns):
        table = pd.DataFrame(variables[:, columns]).assign(fold=fold, time=time, event=event)
        return CoxPHFitter().fit(table, "time", "event", strata=["fold"]).log_likelihood_

    base, full = (
        cox_within(variables=variables[:, columns], fold=fold, time=time, event=event).log_likelihood
        for columns in ([0, 1], [0, 1, 2])
    )
    assert 2 * (full - base) == pytest.approx(2 * (lifelines_likelihood([0, 1, 2]) - lifelines_likelihood([0, 1])))
    assert 2 * (full - base) > 10


def test_uno_within_folds_is_harrells_without_censoring_and_leaves_out_empty_folds():
    risk, time, _ = follow_up(90)
    event = np.ones(90, dtype=bool)
    parts = split(90, 3)
    tested = [FoldScores(0, rows, np.stack([risk[rows], -risk[rows]]), 60) for _, rows in parts]
    time = time + np.linspace(0, 0.5, 90)
    wanted = np.mean(
        [
            concordance(log_hazard=risk[rows], time=time[rows], event=event[rows] & (time[rows] < time.max()))
            for _, rows in parts
        ]
    )
    uno = uno_within(tested, time=time, event=event).whole.value
    assert uno[0] == pytest.approx(wanted, abs=0.005)
    assert uno[0] + uno[1] == pytest.approx(1)
    alone = [*tested, FoldScores(0, np.array([3]), np.stack([risk[[3]], -risk[[3]]]), 60)]
    np.testing.assert_allclose(uno_within(alone, time=time, event=event).whole.value, uno)
    assert np.isnan(uno_within(alone[-1:], time=time, event=event).whole.value).all()
