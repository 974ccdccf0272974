"""Draws of hospitals: against a plain slow implementation, and what they cover that draws of cases do not."""

import numpy as np
import pytest
from lifelines.utils import concordance_index

from wsisurv.survival.dynamic import followed_until
from wsisurv.survival.kaplan_meier import censoring_curve
from wsisurv.survival.metrics import bootstrap, resample_concordance
from wsisurv.survival.resampling import CASES, OF_CASES, OF_HOSPITALS, Resampled, Units, choose_units, draw_weights
from wsisurv.survival.splits import make_folds
from wsisurv.survival.stratified import FoldScores, concordance_within, uno_within


def follow_up(n=60, seed=0, hospitals=8):
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=(2, n)).round(1)
    time = np.ceil(10 * rng.exponential(np.exp(-risk[0])))  # ties
    site = rng.integers(hospitals, size=n)
    site[:hospitals] = np.arange(hospitals)
    return risk, time, rng.random(n) < 0.6, site


def drawn_cases(site, resamples, seed):
    """Rows of each resample, hospital after hospital, by the plain definition."""
    rng = np.random.default_rng(seed)
    names = np.unique(site)
    for _ in range(resamples):
        yield np.concatenate([np.flatnonzero(site == names[one]) for one in rng.integers(len(names), size=len(names))])


def test_hospitals_are_drawn_with_all_their_cases():
    risk, time, event, site = follow_up()
    units = Units(site)
    for copies, rows in zip(
        np.concatenate(list(draw_weights(60, 40, 7, units))), drawn_cases(site, 40, 7), strict=True
    ):
        np.testing.assert_array_equal(copies, np.bincount(rows, minlength=60))
        for hospital in range(8):
            assert len(set(copies[site == hospital])) == 1
    drawn = resample_concordance(log_hazard=risk, time=time, event=event, resamples=40, seed=7, units=units)
    for column, rows in zip(drawn.resampled.T, drawn_cases(site, 40, 7), strict=True):
        for model in (0, 1):
            wanted = concordance_index(time[rows], -risk[model, rows], event[rows])
            assert column[model] == pytest.approx(wanted, abs=1e-12)


def test_within_folds_each_resample_is_counted_over_the_folds_of_the_drawn_hospitals():
    risk, time, event, site = follow_up(seed=2)
    fold = site % 2
    tested = [FoldScores(0, np.flatnonzero(fold == k), risk[:, fold == k], 30) for k in (0, 1)]
    within = concordance_within(tested, time=time, event=event, resamples=25, seed=3, units=Units(site))
    others = []
    for rows in drawn_cases(site, 25, 3):
        right = pairs = 0.0
        for i in rows:
            for j in rows:
                if fold[i] == fold[j] and event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                    pairs += 1
                    right += (risk[0, i] > risk[0, j]) + 0.5 * (risk[0, i] == risk[0, j])
        others.append(right / pairs)
    np.testing.assert_allclose(within.whole.resampled[0], others, atol=1e-12)
    # the paired difference is of the same draws
    both = within.whole.resampled[0] - within.whole.resampled[1]
    assert within.whole.difference(0, 1).low == pytest.approx(np.quantile(both, 0.025), abs=1e-12)
    assert within.bootstrap_se(0, 1) == pytest.approx(both.std(ddof=1))


def uno_of(risk, time, event, until, curve):
    weight = np.where(event & (time < until), curve.before(time), np.inf) ** -2.0
    earlier = (time[:, None] < time) | ((time[:, None] == time) & ~event)
    right = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    return (weight @ (earlier * right)).sum() / (weight @ earlier).sum()


@pytest.mark.parametrize("by_hospital", [False, True])
def test_unos_resamples_are_what_unos_concordance_gives_of_the_cases_drawn(by_hospital):
    risk, time, event, site = follow_up(90, seed=4)
    fold = site % 2
    tested = [FoldScores(0, np.flatnonzero(fold == k), risk[:, fold == k], 45) for k in (0, 1)]
    units = Units(site) if by_hospital else CASES
    uno = uno_within(tested, time=time, event=event, resamples=15, seed=5, units=units)
    assert uno.until == followed_until(time=time, event=event)
    draws = drawn_cases(site if by_hospital else np.arange(90), 15, 5)
    for column, rows in zip([uno.whole.value, *uno.whole.resampled.T], [np.arange(90), *draws], strict=True):
        curve = censoring_curve(time=time[rows], event=event[rows])
        parts = [rows[fold[rows] == k] for k in (0, 1)]
        for model in (0, 1):
            values = [uno_of(risk[model, part], time[part], event[part], uno.until, curve) for part in parts]
            wanted = np.average(values, weights=[len(part) for part in parts])
            assert column[model] == pytest.approx(wanted, abs=1e-9)
    interval = uno.whole.interval(0)
    assert interval.low < interval.value < interval.high


def test_hospitals_are_drawn_where_they_are_known_whole_and_enough():
    eight = [f"h{i % 8}" for i in range(80)]
    whole = [np.array([i for i in range(80) if i % 8 < 4]), np.array([i for i in range(80) if i % 8 >= 4])]
    split = [np.arange(40), np.arange(40, 80)]
    units = choose_units(eight, [whole])
    assert (units.method, units.warning) == (OF_HOSPITALS, "")
    assert units.effective == pytest.approx(8)
    assert choose_units(eight).method == OF_HOSPITALS
    assert choose_units(eight, [whole, split]) == CASES
    assert choose_units([None, *eight[1:]], [whole]) == CASES
    assert choose_units([]) == CASES
    for few in (["a", "b", "c", "d", "e"] * 16, ["a"] * 60 + [f"h{i}" for i in range(20)]):
        cases = choose_units(few)
        assert cases.of_case is None
        assert cases.method == OF_CASES
        assert "too few to be drawn" in cases.warning
    assert "one hospital" in choose_units(["a"] * 9).warning


def test_few_hospitals_widen_the_interval_by_the_t_distribution():
    drawn = np.random.default_rng(0).normal(size=(1, 200_000))
    plain, six = (Resampled(np.zeros(1), drawn, 0, few).interval(0) for few in (None, 6.0))
    assert plain.high == pytest.approx(1.96, abs=0.02)
    assert six.high == pytest.approx(2.571 * np.sqrt(6 / 5), abs=0.06)  # t of 5 degrees of freedom
    assert -six.low == pytest.approx(six.high, abs=0.1)


def cohort(rng, hospitals, cases, effect):
    """The risk works better in some hospitals than in others, and stain shifts it in each."""
    site = np.repeat(np.arange(hospitals), cases)
    truth = rng.normal(size=len(site))
    slope, shift = 0.7 + 0.5 * effect * rng.normal(size=hospitals), 0.8 * effect * rng.normal(size=hospitals)
    death, end = rng.exponential(np.exp(-slope[site] * truth)), rng.exponential(1.0, len(site))
    return truth + shift[site], np.minimum(death, end) + 1e-9, death <= end, site


def coverage(effect, folds, *, hospitals, cases, worlds, seed=0):
    """Share of intervals that hold the mean over 600 worlds: by cases, and by hospitals."""
    rng = np.random.default_rng(seed)

    def study():
        risk, time, event, site = cohort(rng, hospitals, cases, effect)
        fold = np.zeros(len(site), int)
        if folds > 1:
            number = int(rng.integers(1 << 30))
            fold = make_folds(event=event, n_folds=folds, seed=number, site=[f"h{one}" for one in site])
        rows = [np.flatnonzero(fold == k) for k in range(folds)]
        return [FoldScores(0, own, risk[None, own], 1) for own in rows], time, event, site

    def whole(units, tested, time, event, resamples):
        return concordance_within(tested, time=time, event=event, resamples=resamples, units=units).whole

    truth = np.mean([whole(CASES, *study()[:3], 2).value[0] for _ in range(600)])
    held = np.zeros(2)
    for _ in range(worlds):
        tested, time, event, site = study()
        for number, units in enumerate((CASES, choose_units([f"h{one}" for one in site]))):
            interval = whole(units, tested, time, event, 300).interval(0)
            held[number] += interval.low <= truth <= interval.high
    return held / worlds


@pytest.mark.slow
@pytest.mark.parametrize("folds", [1, 5])
def test_where_hospitals_differ_intervals_by_hospital_hold_the_truth_more_often(folds):
    by_case, by_hospital = coverage(1.0, folds, hospitals=10, cases=30, worlds=250)
    print(f"{folds} folds, truth held: {100 * by_case:.0f} % by case, {100 * by_hospital:.0f} % by hospital")
    assert by_hospital > by_case + 0.06
    assert by_hospital > 0.9


def test_one_interval_of_hospitals_is_wider_where_they_differ():
    risk, time, event, site = cohort(np.random.default_rng(5), 12, 25, 1.0)
    names = [f"h{one}" for one in site]
    case, hospital = (
        bootstrap(log_hazard=risk, time=time, event=event, units=units) for units in (CASES, choose_units(names))
    )
    assert case.value == hospital.value
    assert hospital.high - hospital.low > 1.2 * (case.high - case.low)
