"""Another cohort: what is drawn from the student's own predictions shows no drift, what is drawn otherwise does."""

import json
from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Case
from wsisurv.errors import FormatError, MetricError, MissingArtifactError
from wsisurv.experiments.drift import drift_p, drift_verdict
from wsisurv.experiments.external import ExternalCases, external_figures
from wsisurv.experiments.external_clinic import beside_clinic, clinic_verdict
from wsisurv.experiments.external_record import read_record, write_record
from wsisurv.experiments.risk_groups import RISK_GROUPS
from wsisurv.formats.atomic import read_json
from wsisurv.pages.external_figures import draw_calibration, draw_groups
from wsisurv.survival.baseline import BaselineHazard
from wsisurv.survival.metrics import concordance
from wsisurv.survival.prognosis import Prognosis, fit_prognosis
from wsisurv.units import CaseId

END = 60.0
TIMES = np.arange(1.0, END)
KNOWN = Prognosis(0.7, 0.6, BaselineHazard(TIMES, np.log(0.02 * TIMES), END), np.full(101, 50), 0.0, 10**9)
"""As if from a training without end."""
PROGNOSIS = replace(KNOWN, slope_se=0.1, events=100)
YEARS = {1.0: 12.0, 3.0: 36.0, 5.0: 60.0, 10.0: 120.0}


def drawn(n, *, seed=0, level=1.0, spread=1.0, noise=0.0, longest=48.0):
    """Cases whose hazard is ``level`` times what the student says, and differs ``spread`` times as much."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(0.2, 1.0, n)
    truth = np.log(level) + spread * PROGNOSIS.slope * risk + noise * rng.normal(size=n)
    # the baseline rises by 0.02 at 1, 2, 3 …: the event is at the first step that reaches the drawn hazard
    death = np.ceil(rng.exponential(size=n) * np.exp(-truth) / 0.02)
    end = rng.uniform(6, longest, n)
    group = np.array(RISK_GROUPS)[np.digitize(risk, [-0.3, 0.6])]
    return ExternalCases(
        tuple(f"C{number}" for number in range(n)), risk, tuple(group), np.minimum(death, end), death <= end
    )


def figures_of(cases, **changes):
    settings = {"years": YEARS, "resamples": 200, **changes}
    return external_figures(cases, PROGNOSIS, **settings)


def test_a_cohort_as_predicted_shows_no_drift():
    figures = figures_of(drawn(1500))
    assert figures.calibrated_slope.value == pytest.approx(1, abs=3 * figures.calibrated_slope.se)
    assert figures.slope.value == pytest.approx(PROGNOSIS.slope * figures.calibrated_slope.value)
    assert figures.observed_expected.low < 1 < figures.observed_expected.high
    assert figures.brier < figures.brier_reference
    for one in figures.at_years[:2]:
        assert one.low < one.predicted < one.high
    assert drift_p(figures, KNOWN) > 0.05
    assert any(line.startswith("No drift") for line in drift_verdict(figures, PROGNOSIS, None))


@pytest.mark.parametrize("years", [1.0, 0.5])
def test_tied_times_alone_are_no_drift(years):
    """Training and other cohort in whole (half) years: most events share their time with others."""
    calls = 0
    for seed in range(10):
        home, cases = (
            replace(one, time=np.ceil(one.time / 12 / years))
            for one in (drawn(600, seed=seed), drawn(600, seed=50 + seed))
        )
        fitted = fit_prognosis(log_hazard=home.log_hazard, time=home.time, event=home.event)
        figures = external_figures(cases, fitted, years={1.0: 1 / years}, resamples=1)
        calls += drift_p(figures, fitted) < 0.05 or figures.d_calibration_p < 0.01
        assert figures.observed_expected.ratio == pytest.approx(1, abs=0.25)
        assert figures.at_years[0].predicted == pytest.approx(figures.at_years[0].observed, abs=0.08)
    assert calls <= 3  # binomial(10, .06) goes beyond 3 three times in a thousand


def test_chance_calls_drift_seldom():
    """As often as a test at 5 % may, Bonferroni over two signs; 60 cohorts without drift."""
    calls = sum(drift_p(figures_of(drawn(150, seed=seed), resamples=1), KNOWN) < 0.05 for seed in range(60))
    assert calls <= 8  # binomial(60, .05) goes beyond 8 once in 700


def test_slope_and_baseline_of_a_small_training_are_estimates():
    """Taken for the truth, they would look like drift on new cases of the very same kind in half of the trials."""
    calls = naive = 0
    for seed in range(15):
        home, cases = drawn(100, seed=seed), drawn(400, seed=1000 + seed)
        fitted = fit_prognosis(log_hazard=home.log_hazard, time=home.time, event=home.event)
        figures = external_figures(cases, fitted, years={}, resamples=1)
        calls += drift_p(figures, fitted) < 0.05
        naive += drift_p(figures, replace(fitted, slope_se=0.0, events=10**9)) < 0.05
    assert calls <= 4  # binomial(15, .07) goes beyond 4 three times in a thousand
    assert naive > calls


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"level": 1.6}, "More events happen here than predicted"),
        ({"level": 0.6}, "Fewer events happen here than predicted"),
        ({"spread": 0.4}, "too extreme"),
        ({"spread": 1.8}, "too moderate"),
    ],
)
def test_drift_is_told_by_its_kind(changes, words):
    figures = figures_of(drawn(800, **changes))
    verdict = drift_verdict(figures, PROGNOSIS, None)
    assert any(words in line for line in verdict)
    assert any(line.startswith("Calibration has drifted") for line in verdict)


def test_the_ratio_is_that_of_the_hazards():
    ratios = [figures_of(drawn(2000, level=level), resamples=1).observed_expected.ratio for level in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(ratios, [0.5, 1.0, 2.0], rtol=0.1)


def test_what_lies_beyond_the_training_is_neither_expected_nor_counted():
    cases = drawn(300, longest=200.0)
    found = figures_of(cases).observed_expected
    assert found.beyond == (cases.time > END).sum() > 0
    assert found.observed == (cases.event & (cases.time <= END)).sum() < cases.event.sum()
    assert "training cohort was followed" in figures_of(cases).at_years[3].reason


def test_horizons_that_few_reach_are_not_judged():
    far = figures_of(drawn(200, longest=30.0)).at_years[1]
    assert far.predicted is None
    assert "followed so long" in far.reason


def test_a_horizon_that_few_training_cases_reach_is_not_judged():
    few = replace(PROGNOSIS, followed=np.where(np.arange(101) <= 50, 50, 9))
    figures = external_figures(drawn(400), few, years=YEARS, resamples=10)
    assert figures.at_years[0].predicted is not None
    assert figures.at_years[1].predicted is None
    assert figures.at_years[1].reason == "9 training cases were followed so long"


def test_unfamiliar_cases_count_and_are_told(tmp_path):
    cases = drawn(300)
    assert figures_of(cases).unfamiliar == 0
    assert not any("unfamiliar" in line for line in drift_verdict(figures_of(cases), PROGNOSIS, None))
    odd = np.arange(300) % 10 == 0
    group = tuple("unfamiliar" if one else word for one, word in zip(odd, cases.group, strict=True))
    some = replace(cases, group=group)
    figures = figures_of(some)
    assert (figures.cases, figures.unfamiliar) == (300, 30)
    assert figures.concordance == figures_of(cases).concordance  # kept
    rest = ExternalCases(
        tuple(np.array(cases.case_ids)[~odd]),
        cases.log_hazard[~odd],
        tuple(np.array(cases.group)[~odd]),
        cases.time[~odd],
        cases.event[~odd],
    )
    without = figures_of(rest)
    assert figures.concordance_familiar == without.concordance
    assert figures.logrank_p == without.logrank_p
    assert [row.cases for row in figures.groups] == [*(row.cases for row in without.groups), 30]
    [line] = [line for line in drift_verdict(figures, PROGNOSIS, None) if "unfamiliar" in line]
    assert line.startswith("30 of 300 cases are unfamiliar")
    assert f"{without.concordance.value:.3f}" in line
    draw_groups(tmp_path / "groups.png", some, time_unit="months", title="")
    assert len(some.groups) == 4
    draw_calibration(tmp_path / "calibration.png", some, PROGNOSIS, time_unit="months", title="")


def test_the_order_of_the_cases_does_not_matter():
    cases = drawn(120)
    turned = ExternalCases(
        cases.case_ids[::-1], cases.log_hazard[::-1], cases.group[::-1], cases.time[::-1], cases.event[::-1]
    )
    one, other = figures_of(cases), figures_of(turned)
    assert one.concordance.value == pytest.approx(other.concordance.value)
    assert one.brier == pytest.approx(other.brier)
    assert one.groups == other.groups


def test_held_against_its_own_cross_validation():
    figures = figures_of(drawn(600, spread=0.0))
    verdict = drift_verdict(figures, PROGNOSIS, {"concordance": 0.75, "low": 0.7, "high": 0.8})
    assert "less well than the 0.750 in its own cross-validation" in verdict[0]
    same = drift_verdict(figures, PROGNOSIS, {"concordance": figures.concordance.value, "low": 0.4, "high": 0.6})
    assert "not shown to differ" in same[0]
    assert "never cross-validated" in drift_verdict(figures, PROGNOSIS, None)[0]
    few = figures_of(drawn(25, spread=2.0))  # that its own account is an estimate too is allowed for
    own = {"concordance": few.concordance.low - 0.01, "low": 0.2, "high": 0.9}
    assert "not shown to differ" in drift_verdict(few, PROGNOSIS, own)[0]
    assert (
        "better than"
        in drift_verdict(few, PROGNOSIS, {**own, "low": own["concordance"], "high": own["concordance"]})[0]
    )


def all_alike(cases):
    return ExternalCases(cases.case_ids, np.zeros(len(cases.time)), ("low",) * len(cases.time), cases.time, cases.event)


def test_what_can_not_be_given_is_said():
    figures = figures_of(all_alike(drawn(30)))
    assert figures.slope is figures.calibrated_slope is figures.logrank_p is None
    assert any("no slope" in line for line in figures.warnings)
    verdict = drift_verdict(figures, PROGNOSIS, None)
    assert any("calibration slope can't be estimated" in line for line in verdict)
    assert any("risk groups can't be compared" in line for line in verdict)
    assert verdict[-1].startswith("Only ")


def test_a_student_that_knows_nothing_gives_no_slope():
    flat = replace(PROGNOSIS, slope=0.0, slope_of_one=0.0)
    figures = external_figures(drawn(60), flat, years=YEARS, resamples=50)
    assert figures.calibrated_slope is None
    assert figures.slope is not None


@pytest.mark.parametrize("n", [1, 2, 20])
def test_no_event_is_an_error(n):
    cases = drawn(n)
    without = ExternalCases(cases.case_ids, cases.log_hazard, cases.group, cases.time, np.zeros(n, bool))
    with pytest.raises(MetricError, match="comparable pair"):
        figures_of(without)


@pytest.mark.parametrize("n", [5, 8, 12])
def test_few_cases_end_in_figures_or_an_error_that_says_why(n):
    for seed in range(6):
        try:
            figures = figures_of(drawn(n, seed=seed), resamples=50)
        except MetricError:
            continue
        assert drift_verdict(figures, PROGNOSIS, None)


def with_age(cases, *, follows, seed=9):
    """The cases with an age that follows what the student says, or says nothing."""
    rng = np.random.default_rng(seed)
    age = 60 + 10 * (cases.log_hazard if follows else rng.normal(size=len(cases.time)))
    return [
        Case(CaseId(name), float(time), bool(event), site=None, covariates={"age": f"{value:.3f}"}, slide_ids=())
        for name, time, event, value in zip(cases.case_ids, cases.time, cases.event, age, strict=True)
    ]


def test_a_student_beside_what_the_clinic_knows():
    cases, home = drawn(400, spread=1.5), drawn(300, seed=1, spread=1.5)
    alone = beside_clinic(cases, with_age(cases, follows=False), with_age(home, follows=False), ["age"], resamples=200)
    assert alone.concordance.value == pytest.approx(0.5, abs=0.1)
    assert alone.difference.low > 0
    here = concordance(log_hazard=cases.log_hazard, time=cases.time, event=cases.event)
    assert alone.difference.value == pytest.approx(here - alone.concordance.value)
    assert alone.added.p < 1e-6
    better, adds = clinic_verdict(alone)
    assert "is better than age" in better
    assert "adds to age" in adds
    same = beside_clinic(cases, with_age(cases, follows=True), with_age(home, follows=True), ["age"], resamples=200)
    assert same.difference.value == pytest.approx(0, abs=0.002)
    assert same.added is None or same.added.p > 0.05


def test_covariates_that_the_training_cohort_does_not_have_are_told():
    cases = drawn(60)
    known = with_age(cases, follows=False)
    without = beside_clinic(cases, known, [], ["age"], resamples=50)
    assert without.concordance is without.difference is None
    assert without.added is not None
    assert any("does not lie beside the student" in line for line in without.warnings)
    none = beside_clinic(cases, known, known, ["grade"], resamples=50)
    assert none.concordance is none.added is None
    assert len(none.warnings) == 2
    assert clinic_verdict(none) == ()


def test_a_record_is_read_as_it_was_written_and_damage_is_told(tmp_path):
    path = tmp_path / "other" / "evaluation" / "external.json"
    with pytest.raises(MissingArtifactError, match="wsisurv evaluate --cohort other"):
        read_record(path)
    cases = drawn(60)
    figures = figures_of(cases, resamples=50)
    known = with_age(cases, follows=False)
    clinic = beside_clinic(cases, known, known, ["age"], resamples=50)
    write_record(
        path, figures, cohort={"name": "other"}, student={"id": "s"}, own=None, clinic=clinic, verdict=["so"],
        warnings=[], command="wsisurv evaluate",
    )  # fmt: skip
    record = read_record(path)
    assert record.external == figures
    assert record.clinic == clinic
    assert record.verdict == ("so",)
    whole = read_json(path)
    del whole["clinic"]  # as it was before there was one
    path.write_text(json.dumps(whole))
    assert read_record(path) == replace(record, clinic=None)
    for damage in (
        {"external": 3},
        {"format": "x"},
        {"verdict": None},
        {"external": {**whole["external"], "uno": "a"}},
    ):
        path.write_text(json.dumps({**whole, **damage}))
        with pytest.raises(FormatError, match="wsisurv evaluate --cohort other"):
            read_record(path)
    path.write_text("[" * 100_000)
    with pytest.raises(FormatError, match="damaged"):
        read_record(path)


def test_record_and_pictures(tmp_path):
    for cases in (drawn(60), all_alike(drawn(12))):
        figures = figures_of(cases, resamples=50)
        write_record(
            tmp_path / "external.json", figures, cohort={"name": "other"}, student={"id": "s"}, own=None,
            verdict=drift_verdict(figures, PROGNOSIS, None), warnings=figures.warnings, command="wsisurv evaluate",
        )  # fmt: skip
        record = json.loads((tmp_path / "external.json").read_text())
        assert record["external"]["concordance"]["value"] == figures.concordance.value
        for draw in (
            lambda path, cases=cases: draw_groups(path, cases, time_unit="months", title="other"),
            lambda path, cases=cases: draw_calibration(path, cases, PROGNOSIS, time_unit="months", title="other"),
        ):
            png, svg = draw(tmp_path / "picture.png")
            assert png.read_bytes().startswith(b"\x89PNG")
            assert "<svg" in svg.read_text()


def test_intervals_are_of_hospitals_where_those_are_known_and_unos_names_its_truncation():
    cases = drawn(240, seed=3)
    sited = replace(cases, site=tuple(f"h{number % 12}" for number in range(240)))
    plain, of_hospitals = figures_of(cases), figures_of(sited)
    assert (plain.interval, of_hospitals.interval) == ("bootstrap of cases", "bootstrap of hospitals")
    assert plain.concordance.value == of_hospitals.concordance.value
    assert plain.concordance.low != of_hospitals.concordance.low
    for figures in (plain, of_hospitals):
        assert figures.uno_low < figures.uno < figures.uno_high
        assert 6 < figures.uno_until <= 48
    few = figures_of(replace(cases, site=tuple(f"h{number % 3}" for number in range(240))))
    assert few.concordance == plain.concordance
    assert "3 hospitals" in few.warnings[0]
