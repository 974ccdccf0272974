"""The verdict says what the figures say: each rule with figures made up for it."""

from dataclasses import replace

import pytest

from wsisurv.experiments.likelihood_ratio import Added
from wsisurv.experiments.results import ResultsTable
from wsisurv.experiments.side_by_side import Difference, ModelFigures
from wsisurv.experiments.verdict import Judgement, judge, verdict


def difference(model, minus, value, se):
    return Difference(model, minus, value, se, se, se, value - 1.96 * se, value + 1.96 * se)


def model(name, concordance, low):
    return ModelFigures(name, concordance, low, 2 * concordance - low, concordance, 0.05, concordance, 1.0)


def table(models=(), differences=(), p=None, ratio=0.5, events=200):
    added = None if p is None else Added("selected", (1.0,), (p,), p, ratio)
    return ResultsTable(tuple(models), tuple(differences), added, (), 500, events, ())


@pytest.mark.parametrize(
    ("value", "se", "wanted"),
    [
        (0.03, 0.01, Judgement.BETTER),
        (-0.03, 0.01, Judgement.WORSE),
        (0.001, 0.005, Judgement.NOTHING),
        (-0.01, 0.01, Judgement.NOTHING),
        (0.01, 0.01, Judgement.UNDECIDED),
        (0.03, 0.03, Judgement.UNDECIDED),
    ],
)
def test_two_standard_errors_decide(value, se, wanted):
    assert judge(difference("a", "b", value, se)) is wanted


@pytest.mark.parametrize(
    ("value", "se", "p", "ratio", "wanted"),
    [
        (
            0.03,
            0.01,
            0.001,
            0.5,
            "Slides add to age and stage here (difference in concordance +0.030, standard error 0.010",
        ),
        (0.03, 0.01, 0.4, 0.1, "Slides may add to age and stage"),
        (0.01, 0.01, 0.001, 0.5, "Slides carry prognostic information beyond age and stage"),
        (0.001, 0.005, 0.6, 0.1, "Slides add nothing to age and stage here ("),
        (0.01, 0.03, 0.6, 0.1, "It is not shown that slides add to age and stage here: 200 events"),
        (-0.03, 0.01, 0.6, 0.1, "Slides make age and stage worse"),
    ],
)
def test_slides_beside_the_clinic(value, se, p, ratio, wanted):
    gain = difference("student_and_covariates", "covariates", value, se)
    assert verdict(table(differences=[gain], p=p, ratio=ratio), ("age", "stage"))[0].startswith(wanted)


def test_a_gain_without_a_test_still_counts():
    gain = difference("student_and_covariates", "covariates", 0.05, 0.01)
    assert verdict(table(differences=[gain]), ("age",))[0].startswith("Slides add to age here")


def test_what_is_left_out_is_said_to_be():
    lines = verdict(table([model("selected", 0.6, 0.55)]), ())
    assert lines[0].startswith("No covariates were named")
    assert (
        lines[1]
        == "Slides alone predict the outcome better than chance (concordance 0.600, 95 % interval 0.550 to 0.650)."
    )
    assert lines[2].startswith("No case has statements")
    assert len(lines) == 3


def test_chance_is_called_chance_and_few_events_are_named():
    lines = verdict(table([model("selected", 0.55, 0.46), model("text", 0.52, 0.4)], events=20), ())
    assert "Slides alone are not shown to predict the outcome better than chance" in lines[1]
    assert any("reports by themselves are not shown to predict" in line for line in lines)
    assert lines[-1].startswith("Only 20 events")


@pytest.mark.parametrize(
    ("value", "se", "wanted"),
    [
        (0.05, 0.01, "make a better student"),
        (-0.05, 0.01, "use the baseline student"),
        (0.0, 0.0, "gate 0"),
        (0.0, 0.005, "add nothing to the student here ("),
        (0.0, 0.05, "a gain up to +0.100 can't be ruled out"),
    ],
)
def test_reports_in_training(value, se, wanted):
    lines = verdict(table(differences=[difference("distilled", "plain", value, se)]), ())
    assert sum(wanted in line for line in lines) == 1


def test_the_mean_tile_is_not_passed_over():
    def lines(value):
        return " ".join(verdict(table(differences=[difference("selected", "mean_pool", value, 0.01)]), ()))

    assert "does better than the selected student" in lines(-0.05)
    assert "not shown to do better" in lines(0.0)
    assert "mean tile" not in lines(0.05)


def test_a_better_report_at_hand_is_recommended():
    rows = [model("text", 0.7, 0.65)]
    pairs = [difference("text", "covariates", 0.05, 0.01), difference("teacher", "selected", 0.08, 0.01)]
    line = next(line for line in verdict(table(rows, pairs), ("age", "stage")) if "reports by themselves" in line)
    assert "better than age and stage" in line
    assert "add" not in line
    assert "where there is a report, use it" in line
    for value, words in (
        (0.05, "beside age and stage they add something (difference in concordance +0.050"),
        (0.0, "not shown to add anything"),
    ):
        pairs = [difference("text_and_covariates", "covariates", value, 0.01)]
        rows = [model("text", 0.7, 0.65), model("selected", 0.6, 0.55)]
        line = next(line for line in verdict(table(rows, pairs), ("age", "stage")) if "reports by themselves" in line)
        assert words in line


@pytest.mark.parametrize(
    ("value", "se", "p", "full", "wanted"),
    [
        (
            0.03,
            0.01,
            0.001,
            (0.03, 0.01),
            ("Reports add to age and stage here", "whole text of the reports predicts better"),
        ),
        (
            0.01,
            0.02,
            0.001,
            (0.0, 0.005),
            ("Reports carry prognostic information beyond", "no better than their statements"),
        ),
        (0.01, 0.02, 0.4, (0.0, 0.02), ("It is not shown that reports add to age and stage here:", "is not shown")),
        (0.0, 0.005, 0.4, (-0.03, 0.01), ("Reports add nothing to age and stage here (", "predict better than")),
    ],
)
@pytest.mark.parametrize(
    ("key", "combined"), [("text", "text_and_covariates"), ("words_and_findings", "words_and_covariates")]
)
def test_without_slides_it_speaks_of_reports_alone(value, se, p, full, wanted, key, combined):
    rows = [model("covariates", 0.7, 0.65), model(key, 0.7, 0.65)]
    pairs = [difference(combined, "covariates", value, se), difference("full_text", key, *full)]
    test = Added(key, (1.0,), (p,), p, 0.5)
    lines = verdict(replace(table(rows, pairs), added_by_report=test), ("age", "stage"))
    assert lines[0].startswith(wanted[0])
    assert "concordance 0.700" in lines[1]
    assert wanted[1] in lines[2]
    assert lines[-1].startswith("No slide was read")
    assert not any("lides" in line for line in lines[:-1])
    assert verdict(table(rows), ())[0].startswith("No covariates were named")


def test_which_student_was_selected_is_said_where_there_was_a_choice():
    pairs = [difference("distilled", "plain", 0.01, 0.01), difference("selected", "plain", 0.02, 0.01)]
    folds = replace(table(differences=pairs), selected=("plain", "distilled", "distilled"))
    (line,) = [line for line in verdict(folds, ()) if "student.h5" in line]
    assert "the distilled one in 2 of 3 folds" in line
    assert "+0.020, standard error 0.010" in line
    no_choice = replace(table(), selected=("plain", "plain"))
    assert not any("student.h5" in line for line in verdict(no_choice, ()))
