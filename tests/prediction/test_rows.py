"""What a row says: monotone where it must be, empty where nothing is known, and by members that may speak."""

import json
from dataclasses import replace

import numpy as np
import pytest

from wsisurv.errors import FormatError
from wsisurv.formats.features import read_features
from wsisurv.formats.risks import unfamiliar_note
from wsisurv.prediction.card import open_student, read_scale
from wsisurv.prediction.notes import make_notes
from wsisurv.prediction.step import predict_cases
from wsisurv.prediction.student import LoadedStudent


@pytest.fixture
def bags(slides):
    """Thirty cases of some five tiles."""
    return {f"c{number:02d}": [slides.make(f"c{number:02d}-1", 4 + number % 3)] for number in range(30)}


def test_what_rises_and_falls_with_the_log_hazard(save_student, bags):
    training = np.random.default_rng(0).normal(0, 0.3, 50)
    risks = sorted(predict_cases(save_student(training_risks=training), bags).risks, key=lambda risk: risk.log_hazard)
    assert np.ptp([risk.log_hazard for risk in risks]) > 0.1
    percentiles = [risk.risk_percentile for risk in risks]
    assert percentiles == sorted(percentiles)
    assert [risk.risk_group for risk in risks] == sorted(
        (risk.risk_group for risk in risks), key=["low", "intermediate", "high"].index
    )
    for years in 1.0, 3.0:
        survival = [risk.survival[years] for risk in risks]
        assert survival == sorted(survival, reverse=True)
    medians = [np.inf if risk.median_survival is None else risk.median_survival for risk in risks]
    assert medians == sorted(medians, reverse=True)
    assert all(risk.survival[1.0] >= risk.survival[3.0] for risk in risks)
    assert all(risk.risk_low < risk.log_hazard < risk.risk_high for risk in risks)


def test_a_horizon_beyond_the_training_cohorts_follow_up_is_empty_and_the_notes_say_why(save_student, bags):
    student = save_student()
    prediction = predict_cases(student, bags, horizons=[2, 4, 4.5])
    assert all(risk.survival[2] is not None and risk.survival[4.5] is None for risk in prediction.risks)
    notes = make_notes(student, prediction, horizons=[2, 4, 4.5], training_cases={"c03": 1}, command="wsisurv predict")
    assert [horizon["given"] for horizon in notes["horizons"]] == [True, False, False]
    assert notes["horizons"][2]["reason"] == "the training cohort was followed for 48 months at most"
    assert notes["horizons"][2]["column"] == "survival_4.5y"
    followed = [horizon["training_cases_followed"] for horizon in notes["horizons"]]
    assert followed == sorted(followed, reverse=True)
    assert notes["horizons"][1]["reason"] == "1 training cases were followed so long, and 10 are needed"
    assert notes["cases"]["of_the_training_cohort"] == 1
    assert sum(notes["cases"]["by_group"].values()) == 30
    assert notes["student"]["id"] == read_scale(student).fingerprint[:12]
    assert notes["encoder"]["name"] == "histomics"
    assert notes["mpp"] == 0.5
    json.dumps(notes, allow_nan=False)


def test_survival_beyond_what_ten_training_cases_support_is_not_told(save_student, bags):
    student = save_student()
    prognosis = read_scale(student).prognosis
    years = [number / 10 for number in range(30, 41)]
    followed = [prognosis.followed_to(12 * year) for year in years]
    assert max(followed) > 10 > min(followed)
    risks = predict_cases(student, bags, horizons=years).risks
    for risk in risks:
        assert [risk.survival[year] is not None for year in years] == [count >= 10 for count in followed]
    until = max(12 * year for year, count in zip(years, followed, strict=True) if count >= 10)
    medians = [risk.median_survival for risk in risks if risk.median_survival is not None]
    assert all(prognosis.followed_to(median) >= 10 for median in medians)
    # a baseline that falls to a half in the last months: the median lies there, and is not told
    late = np.array([prognosis.baseline.times[0], (until + 48) / 2 + 1])
    steep = save_student(prognosis__times=late, prognosis__log_cumulative=np.array([-9.0, 9.0]))
    assert np.isfinite(read_scale(steep).prognosis.median(log_hazard=[0.0])).all()
    assert {risk.median_survival for risk in predict_cases(steep, bags).risks} == {None}


def test_one_member_that_may_speak_has_no_spread_but_its_own_familiarity(save_student, slides):
    path, student = slides.make("a-1", 5), save_student()
    opened = open_student(student)
    states = opened.ensemble.states(read_features(path)[0].values)
    for fold in 0, 1:
        [risk] = predict_cases(student, {"a": [path]}, fold_of={"a": fold}).risks
        assert risk.log_hazard == pytest.approx(states.log_hazard[fold], abs=1e-6)
        assert (risk.risk_low, risk.risk_high) == (None, None)
        distance = opened.scale.familiarity.distances(states.pooled)[fold]
        assert risk.familiarity == opened.scale.familiarity.share(distance)


def test_a_fold_that_no_member_left_out_gives_no_risk(save_student, slides):
    with pytest.raises(FormatError, match="case a: the student gives nan"):
        predict_cases(save_student(), {"a": [slides.make("a-1", 5)]}, fold_of={"a": 7})


def test_few_tiles_and_tissue_unlike_the_training_cases_are_said(save_student, slides):
    odd = np.full((5, 6), 30, np.float16)
    student = save_student(familiarity__left_out=np.linspace(0.1, 3, 50))
    bags = {"few": [slides.make("a", 2)], "odd": [slides.make("b", 5, values=odd, coords=np.zeros((5, 2), np.int64))]}
    few, strange = predict_cases(student, bags).risks
    assert few.warning == "few tiles (2; 99 % of the training cases have 3 or more)"
    assert strange.warning.startswith("unlike the training cases (distance ")
    assert strange.familiarity == pytest.approx(1 / 51)
    assert few.risk_group != "unfamiliar"
    assert few.survival[1.0] is not None


STRANGE = np.full((5, 6), 30, np.float16)
BROWN = {"b": ("12 % of the stained area is brown: immunohistochemistry (or pigment), and not H&E?",)}


@pytest.mark.parametrize(("values", "looks", "why"), [(STRANGE, {}, "unlike"), (None, BROWN, "12 % of")])
def test_a_case_that_the_student_does_not_know_has_a_reason_and_no_survival(save_student, slides, values, looks, why):
    student = save_student(familiarity__left_out=np.linspace(0.1, 3, 50))
    changes = {} if values is None else {"values": values, "coords": np.zeros((5, 2), np.int64)}
    bags = {"a": [slides.make("a", 5)], "case": [slides.make("b", 5, **changes)]}
    known, risk = predict_cases(student, bags, looks=looks).risks
    assert known.risk_group != "unfamiliar"
    assert known.survival[1.0] is not None
    assert risk.risk_group == "unfamiliar"
    assert set(risk.survival.values()) == {None}
    assert risk.median_survival is None
    assert risk.warning.startswith(why)
    assert risk.log_hazard is not None
    assert unfamiliar_note([known, risk])[0].startswith("1 of 2 cases are unfamiliar")
    # by force: just what a student says that knows such cases
    forced = predict_cases(student, bags, looks=looks, force_unfamiliar=True).risks[1]
    wide = predict_cases(save_student(), bags).risks[1]
    assert replace(forced, warning="", familiarity=None) == replace(wide, warning="", familiarity=None)
    assert forced.warning == risk.warning


def test_one_slide_of_another_stain_makes_the_whole_case_unfamiliar(save_student, slides):
    bags = {"case": [slides.make("a", 5), slides.make("b", 5)]}
    [risk] = predict_cases(save_student(), bags, looks={"a": (), **BROWN}).risks
    assert risk.risk_group == "unfamiliar"
    assert risk.warning == f"b: {BROWN['b'][0]}"


def test_a_slide_of_another_organ_among_many_tiles_makes_the_case_unfamiliar(save_student, slides):
    student = save_student(familiarity__left_out=np.linspace(0.1, 3, 50))
    strange = slides.make("b", 1, values=STRANGE[:1], coords=np.zeros((1, 2), np.int64))
    both = {"case": [slides.make("a", 400), strange], "many": [slides.make("c", 4), slides.make("d", 400)]}
    case, known = predict_cases(student, both).risks
    assert known.risk_group != "unfamiliar"
    assert known.warning == ""
    assert case.familiarity > 0.05  # all tiles together look as usual
    assert case.risk_group == "unfamiliar"
    assert set(case.survival.values()) == {None}
    assert case.warning.startswith("b: alone unlike every training case (distance ")


def test_from_python_an_unfamiliar_case_has_no_survival_either(save_student):
    student = LoadedStudent.load(save_student(familiarity__left_out=np.linspace(0.1, 3, 50)))
    coords = np.zeros((5, 2), np.int64)
    risk = student.predict(STRANGE, coords).risk
    assert (risk.risk_group, risk.survival[1.0]) == ("unfamiliar", None)
    forced = student.predict(STRANGE, coords, force_unfamiliar=True).risk
    assert forced.risk_group in {"low", "intermediate", "high"}
    assert 0 <= forced.survival[1.0] <= 1


def test_no_tile_no_row_of_numbers(save_student, slides):
    [risk] = predict_cases(save_student(), {"a": [slides.make("a-1", 0)]}).risks
    assert (risk.survival, risk.median_survival, risk.risk_low, risk.familiarity) == (
        {1.0: None, 3.0: None, 5.0: None},
        None,
        None,
        None,
    )
    assert risk.warning == "no tile: nothing was seen"
