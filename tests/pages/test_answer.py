"""The top of the cohort page: what it says by the figures, and what it doesn't."""

from dataclasses import replace
from typing import Any

import pytest

from wsisurv.cohort import Audit, Case, Cohort
from wsisurv.experiments.likelihood_ratio import Added
from wsisurv.experiments.model_names import COMBINED, COVARIATES, SELECTED, WORDS, WORDS_COMBINED
from wsisurv.experiments.side_by_side import Difference, ModelFigures
from wsisurv.pages.answer import CohortAnswer, make_answer
from wsisurv.pages.crossval_figures import CrossvalFigures
from wsisurv.pages.gathering import Gathered
from wsisurv.pages.subgroups import Subgroup
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import CaseId

_ROW = ModelFigures(
    SELECTED, 0.684, 0.612, 0.755, 0.68, 0.04, 0.67, 0.83, brier=0.19, brier_reference=0.21, d_calibration_p=0.0002
)
_GAIN = Difference(COMBINED, COVARIATES, 0.03, 0.01, 0.01, 0.01, 0.0104, 0.0496)
_ADDED = Added(SELECTED, (8.0,), (0.004,), 0.004, 0.5)
_CROSSVAL = CrossvalFigures(
    (_ROW,),
    (_GAIN,),
    _ADDED,
    tuple({"name": f"{r}-{f}"} for r in (1, 2) for f in range(5)),
    (),
    (),
    {"tested_events": 66},
    {"crossval": {"covariates": ["age", "stage"]}},
    {},
)
FOLLOWED = [(100.0, True), (200.0, False), (400.0, True), (700.0, False), (900.0, False)]


def seen(metrics: CrossvalFigures | None = None, reports: CrossvalFigures | None = None) -> Gathered:
    audit = Audit(160, 158, 70, 150, 154, 66, 150, 154, 0, "days", 512.0, {}, (), (), (), ())
    cases = [Case(CaseId(f"c{n}"), time, event) for n, (time, event) in enumerate(FOLLOWED)]
    cohort = Cohort("crc", tuple(cases), CohortSettings(covariates=("age", "stage")))
    nothing: dict[str, Any] = dict.fromkeys(
        ("risks", "maps", "training", "result", "settings", "versions", "missing"), {}
    )
    return Gathered(
        cohort=cohort, audit=audit, metrics=metrics, reports=reports, predicted=None, external=(), findings=None,
        card=None, commands=(), differs=(), warnings=(), **nothing,
    )  # fmt: skip


def answer(gathered: Gathered, *subgroups: Subgroup) -> CohortAnswer:
    return make_answer(gathered, None, subgroups, None)


def test_the_cards_say_what_is_looked_for_first():
    cases, order, clinic, calibration = answer(seen(_CROSSVAL)).cards
    assert cases.value == "154 cases, 66 events"
    # reverse Kaplan-Meier: 3/4 at 200, 3/8 at 700; the median time would be 400
    assert "median follow-up 700 days (reverse Kaplan–Meier)" in cases.lines
    assert (order.value, order.section) == ("0.684", "concordance")
    assert "95 % interval 0.612 to 0.755" in order.lines
    assert "cross-validated, 10 folds in 2 repeats" in order.lines
    assert clinic.title == "What it adds to age and stage"
    assert clinic.value == "+0.030"
    assert "likelihood-ratio test, p = 0.004" in clinic.lines
    assert calibration.value == "slope 0.83"
    assert "Brier score over time 0.190, without a model 0.210" in calibration.lines
    assert "D-calibration, p < 0.001" in calibration.lines


def pair(value: float, se: float) -> Difference:
    return replace(_GAIN, value=value, se=se)


@pytest.mark.parametrize(
    ("low", "gain", "p", "said"),
    [
        (0.6, pair(0.03, 0.01), 0.004, "Slides predict the outcome better than chance, and they add to age and stage"),
        (0.6, pair(0.03, 0.01), 0.2, "chance, and they may add to age and stage, by concordance though not"),
        (0.6, pair(0.03, 0.03), 0.004, "and they carry information beyond age and stage by the likelihood-ratio"),
        (0.6, pair(0.03, 0.03), 0.2, "chance, but it is not shown that they add to age and stage"),
        (0.6, pair(0.001, 0.005), 0.2, "chance, but they add nothing to age and stage"),
        (0.6, pair(-0.03, 0.01), 0.2, "chance, but they make age and stage worse"),
        (0.5, pair(0.03, 0.03), 0.2, "better than chance, and it is not shown that they add"),
        (0.5, pair(0.03, 0.01), 0.004, "is not shown that slides predict the outcome better than chance, but they add"),
        (0.6, None, None, "Slides predict the outcome better than chance."),
    ],
)  # fmt: skip
def test_the_sentence_says_no_more_than_the_figures_show(low, gain, p, said):
    row = replace(_ROW, low=low)
    added = None if p is None else replace(_ADDED, p=p)
    found = answer(seen(replace(_CROSSVAL, models=(row,), differences=(gain,) if gain else (), added=added))).sentence
    plain = found.replace(f" (concordance 0.684, 95 % interval {low:.3f} to 0.755)", "")
    assert said in plain
    assert ("likelihood-ratio test, p = " in found) == (p is not None)


def test_few_events_are_said_in_the_sentence_itself():
    few = replace(_CROSSVAL, cohort={"tested_events": 31})
    assert answer(seen(few)).sentence.startswith("A first impression from 31 events: slides predict")


def test_reports_alone_are_judged_where_there_is_no_slide():
    row, gain = replace(_ROW, model=WORDS), replace(_GAIN, model=WORDS_COMBINED)
    told = replace(_CROSSVAL, models=(row,), differences=(gain,), added=None, added_by_report=_ADDED)
    found = answer(seen(reports=told))
    assert found.sentence.startswith("Reports predict the outcome better than chance")
    assert found.cards[1].title == "Concordance of the reports"
    assert "likelihood-ratio test, p = 0.004" in found.cards[2].lines


def test_without_cross_validation_the_predictions_stand_in_and_nothing_is_claimed_of_the_clinic():
    whole = Subgroup("all", "all cases", 154, 66, 0.66, 0.58, 0.74, (0.95, 0.7, 1.2))
    found = answer(seen(), whole)
    assert "concordance 0.660, 95 % interval 0.580 to 0.740" in found.sentence
    assert found.sentence.startswith("Not cross-validated yet")
    assert "better than chance" not in found.sentence  # it may have been selected by that very figure
    assert "age and stage" not in found.sentence
    assert any("not cross-validated" in line for line in found.cards[1].lines)
    assert found.cards[2].value == "–"
    assert "observed / expected events 0.95 (0.70 to 1.20)" in found.cards[3].lines
    assert "crossval" in answer(seen(), replace(whole, ratio=None)).cards[3].lines[0]


def test_with_nothing_judged_it_says_so():
    found = answer(seen())
    assert found.sentence == "Nothing is shown yet: no model was judged on cases that it had not seen."
    assert [card.value for card in found.cards[1:]] == ["–", "–", "–"]
