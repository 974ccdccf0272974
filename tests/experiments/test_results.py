"""Figures from risks that were made up: what noise adds, what the truth adds, and what is left out."""

from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Case
from wsisurv.experiments.model_names import model_names
from wsisurv.experiments.results import make_results
from wsisurv.experiments.tested import ScoredFold
from wsisurv.survival.dynamic import followed_until
from wsisurv.survival.metrics import concordance
from wsisurv.survival.splits import make_folds
from wsisurv.units import CaseId


def study(seed, n=120, hidden=1.0):
    """Cases whose hazard follows age and something that only slides show."""
    random = np.random.default_rng(seed)
    age, seen = random.normal(size=n), random.normal(size=n)
    death = random.exponential(np.exp(-(0.6 * age + hidden * seen)))
    end = random.uniform(0, np.quantile(death, 0.6), n)
    time, event = np.minimum(death, end) + 0.01, death <= end
    stage = np.where(random.random(n) < 0.03, "IV", "I")
    cases = [
        Case(
            CaseId(f"c{i}"), float(time[i]), bool(event[i]), None, {"age": repr(float(age[i])), "stage": str(stage[i])}
        )
        for i in range(n)
    ]
    return cases, age, seen


def scored(cases, risks, repeats=2, k=4, shift=5.0):
    event = np.array([case.event for case in cases])
    folds = []
    for repeat in range(repeats):
        fold = make_folds(event=event, n_folds=k, seed=repeat)
        for number in range(k):
            rows = np.flatnonzero(fold == number)
            moved = {name: values[rows] + shift * number for name, values in risks.items()}
            folds.append(ScoredFold(repeat, rows, len(cases) - len(rows), moved))
    return folds


def test_slides_that_know_more_than_the_clinic_add_to_it():
    cases, age, seen = study(0)
    risks = {"covariates": age, "selected": seen, "student_and_covariates": age + seen}
    table = make_results(scored(cases, risks), cases, ["age", "stage"], resamples=100, seed=0)
    assert table.added.p < 1e-4
    assert table.added.model == "selected"
    assert len(table.added.p_values) == 2
    assert table.added.log_hazard_ratio > 0.5
    assert table.difference("student_and_covariates", "covariates").value > 0.03
    assert table.difference("distilled", "plain") is None
    assert table.model("covariates").calibration_slope == pytest.approx(0.6, abs=0.3)


@pytest.mark.parametrize("sign", [1, -1])
def test_noise_adds_nothing_and_a_risk_turned_round_neither(sign):
    cases, age, seen = study(1)
    noise = np.random.default_rng(9).normal(size=len(cases)) if sign > 0 else -seen
    risks = {"covariates": age, "selected": noise, "student_and_covariates": age + 0.1 * noise}
    table = make_results(scored(cases, risks), cases, ["age"], resamples=100, seed=0)
    assert table.added.p > 0.05
    if sign < 0:
        assert table.added.p == 1
        assert table.added.statistic == (0.0, 0.0)


def test_one_repeat_is_not_doubled_and_a_constant_risk_is_no_error():
    cases, age, seen = study(2, hidden=0.2)
    risks = {"covariates": age, "selected": seen, "student_and_covariates": age}
    one = make_results(scored(cases, risks, repeats=1), cases, ["age"], resamples=100, seed=0)
    assert one.added.p == one.added.p_values[0]
    flat = {**risks, "selected": np.zeros(len(cases))}
    table = make_results(scored(cases, flat), cases, ["age"], resamples=100, seed=0)
    assert table.added is None
    assert "same risk" in table.warnings[0]
    assert "slides add" in table.warnings[0]
    assert table.model("selected").concordance == 0.5
    assert table.model("selected").calibration_slope is None


def test_reports_are_tested_beside_the_covariates_as_slides_are():
    cases, age, seen = study(5)
    risks = {"covariates": age, "text": seen, "text_and_covariates": age + seen, "full_text": -seen}
    table = make_results(scored(cases, risks), cases, ["age"], resamples=100, seed=0)
    assert table.added is None
    assert table.added_by_report.model == "text"
    assert table.added_by_report.p < 1e-3
    assert table.difference("full_text", "text").value < 0
    assert table.difference("text_and_covariates", "text").value > 0


def test_cases_that_no_fold_tests_are_not_counted():
    cases, age, seen = study(3)
    folds = scored(cases, {"selected": seen, "covariates": age}, repeats=1)[:2]
    table = make_results(folds, cases, ["age"], resamples=100, seed=0)
    tested = np.concatenate([fold.rows for fold in folds])
    assert table.cases == len(tested)
    assert table.events == sum(cases[row].event for row in tested)
    for fold, row in zip(folds, table.by_fold, strict=True):
        wanted = concordance(
            log_hazard=seen[fold.rows],
            time=[cases[i].time for i in fold.rows],
            event=[cases[i].event for i in fold.rows],
        )
        assert row["selected"] == pytest.approx(wanted)


def test_the_larger_standard_error_is_the_one_that_counts():
    cases, age, seen = study(4)
    table = make_results(scored(cases, {"selected": seen, "covariates": age}), cases, ["age"], resamples=100, seed=0)
    (row,) = table.differences
    assert row.se == max(row.bootstrap_se, row.fold_se)
    assert row.low == pytest.approx(row.value - 1.96 * row.se)


def by_site(cases, risks, n_sites, k=4):
    """Cases of hospitals, and folds that keep them whole."""
    site = np.arange(len(cases)) % n_sites
    named = [replace(case, site=f"h{number}") for case, number in zip(cases, site, strict=True)]
    folds = []
    for number in range(min(k, n_sites)):
        rows = np.flatnonzero(site % k == number)
        folds.append(
            ScoredFold(0, rows, len(cases) - len(rows), {name: values[rows] for name, values in risks.items()})
        )
    return named, folds


def test_intervals_are_of_hospitals_where_those_are_whole_and_enough():
    cases, age, seen = study(6, n=160)
    risks = {"selected": seen, "covariates": age}
    named, folds = by_site(cases, risks, 8)
    table = make_results(folds, named, ["age"], resamples=200, seed=0)
    one_by_one = make_results(folds, cases, ["age"], resamples=200, seed=0)
    assert (table.interval, one_by_one.interval) == ("bootstrap of hospitals", "bootstrap of cases")
    for here, there in zip(table.models, one_by_one.models, strict=True):
        assert (here.concordance, here.uno) == (there.concordance, there.uno)
        assert (here.low, here.high) != (there.low, there.high)
    assert table.differences[0].bootstrap_se != one_by_one.differences[0].bootstrap_se
    assert table.warnings == one_by_one.warnings
    named, folds = by_site(cases, risks, 4)
    few = make_results(folds, named, ["age"], resamples=200, seed=0)
    assert few.interval == "bootstrap of cases"
    assert "4 hospitals" in few.warnings[0]
    assert "too few" in few.warnings[0]
    named, _ = by_site(cases, risks, 8)  # hospitals are in several of these folds
    assert make_results(scored(cases, risks), named, ["age"], resamples=100, seed=0).interval == "bootstrap of cases"


def test_unos_concordance_has_an_interval_and_says_until_when():
    cases, age, seen = study(7)
    table = make_results(scored(cases, {"selected": seen, "covariates": age}), cases, ["age"], resamples=200, seed=0)
    for row in table.models:
        assert row.uno_low < row.uno < row.uno_high
        assert 0.05 < row.uno_high - row.uno_low < 0.4
    times = np.array([case.time for case in cases])
    assert 0 < table.uno_until <= times.max()
    follow_up = {"time": times, "event": np.array([case.event for case in cases])}
    assert table.uno_until == followed_until(**follow_up)


def test_a_model_whose_slope_says_that_it_learned_nothing_is_warned_of():
    cases, age, seen = study(8, n=300)
    wild = 6 * seen  # orders the cases as well, six times too extreme
    table = make_results(scored(cases, {"selected": wild, "covariates": age}), cases, ["age"], resamples=100, seed=0)
    (line,) = [line for line in table.warnings if "calibration slope" in line]
    assert f"selected student {table.model('selected').calibration_slope:.2f}" in line
    assert "age" not in line
    assert "over-trained" in line
    calm = make_results(scored(cases, {"selected": seen, "covariates": age}), cases, ["age"], resamples=100, seed=0)
    assert not [line for line in calm.warnings if "calibration slope" in line]


def test_a_slope_of_which_few_events_tell_nothing_is_no_sign_of_training_too_long():
    """Noise that varies by .002: the slope is anything, and its interval holds 1."""
    cases, age, _ = study(9, n=40)
    noise = 0.002 * np.random.default_rng(1).normal(size=len(cases))
    table = make_results(scored(cases, {"selected": noise, "covariates": age}), cases, ["age"], resamples=100, seed=0)
    low, high = table.model("selected").slope_interval
    assert low < 0 < 1 < high
    assert low == pytest.approx(2 * table.model("selected").calibration_slope - high)
    assert not [line for line in table.warnings if "calibration slope" in line]


def test_two_ways_of_reading_a_report_are_two_models():
    """The text branch and words and findings are told apart by key and by label."""
    cases, age, seen = study(6)
    noise = np.random.default_rng(3).normal(size=len(cases))
    risks = {"covariates": age, "words_and_findings": seen, "words_and_covariates": age + seen, "full_text": noise}
    table = make_results(scored(cases, risks), cases, ["age"], resamples=100, seed=0)
    assert table.added_by_report.model == "words_and_findings"
    assert table.difference("full_text", "words_and_findings").value < 0
    assert table.model("text") is None
    labels = model_names(["age"])
    assert len(set(labels.values())) == len(labels)


def test_the_selected_student_speaks_for_the_slides():
    """Whichever student is better, what slides add is asked of the selected one."""
    cases, age, seen = study(7)
    noise = np.random.default_rng(4).normal(size=len(cases))
    risks = {
        "covariates": age,
        "plain": seen,
        "distilled": noise,
        "selected": seen,
        "student_and_covariates": age + seen,
    }
    table = make_results(scored(cases, risks), cases, ["age"], resamples=100, seed=0)
    assert table.added.model == "selected"
    assert table.added.p < 1e-3
    assert table.difference("selected", "plain").value == 0
    assert table.difference("distilled", "plain").value < 0


def test_more_draws_give_other_intervals():
    cases, age, seen = study(0)
    risks = {"covariates": age, "plain": seen, "student_and_covariates": age + seen}
    one, other = (make_results(scored(cases, risks), cases, ["age"], resamples=n, seed=0) for n in (100, 200))
    assert [row.concordance for row in one.models] == [row.concordance for row in other.models]
    assert [row.low for row in one.models] != [row.low for row in other.models]
