"""Cox regression on covariates: against lifelines, and on values that training has not seen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.survival.covariates import RIDGES, fit_covariates, make_columns
from wsisurv.survival.metrics import concordance
from wsisurv.units import CaseId


def make_cases(n: int, seed: int = 0) -> list[Case]:
    """Age and stage drive the hazard; hospital does not."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(n):
        age, stage = rng.integers(40, 90), rng.choice(["I", "II", "III", "IV"])
        hazard = 0.04 * (age - 65) + {"I": -1, "II": 0, "III": 0.5, "IV": 1.5}[stage]
        time = rng.exponential(1000 * np.exp(-hazard)) + 1
        censored = rng.uniform(100, 2000)
        cases.append(
            Case(
                CaseId(f"c{number}"),
                float(np.ceil(min(time, censored))),
                bool(time <= censored),
                covariates={"age": str(age), "stage": str(stage), "hospital": str(rng.choice(["A", "B"]))},
            )
        )
    return cases


def with_values(case: Case, **values: str) -> Case:
    return replace(case, covariates={**case.covariates, **values})


def test_age_and_stage_predict_unseen_cases() -> None:
    train, test = make_cases(200), make_cases(200, seed=1)
    model = fit_covariates(train, ["age", "stage"])
    value = concordance(
        log_hazard=model.log_hazard(test), time=[case.time for case in test], event=[case.event for case in test]
    )
    assert value > 0.7
    assert abs(model.log_hazard(train).mean()) < 1e-9


def test_numeric_coefficient_is_lifelines_own() -> None:
    cases = make_cases(150)
    model = fit_covariates(cases, ["age"])
    ages = np.array([float(case.covariates["age"]) for case in cases])
    table = pd.DataFrame(
        {
            "age": (ages - ages.mean()) / ages.std(),
            "time": [case.time for case in cases],
            "event": [case.event for case in cases],
        }
    )
    assert model.ridge in RIDGES
    expected = CoxPHFitter(penalizer=model.ridge).fit(table, "time", "event").params_["age"]
    one_sd = model.log_hazard([with_values(cases[0], age=str(ages.mean() + ages.std()))])
    assert one_sd[0] == pytest.approx(expected, rel=1e-4)


def test_stages_stand_on_their_scale_whatever_they_are_called() -> None:
    cases = make_cases(400)
    for written in ("Stage {}", "{}", "AJCC stage {}A", "stage-{}b"):
        named = [with_values(case, stage=written.format(case.covariates["stage"])) for case in cases]
        (column,) = make_columns(named, ["stage"])
        assert column.kind == "scale"
        model = fit_covariates(named, ["stage"])
        order = [written.format(stage) for stage in ("I", "II", "III", "IV")]
        assert (np.diff(model.log_hazard([with_values(cases[0], stage=stage) for stage in order])) > 0).all()


@pytest.mark.parametrize(
    ("values", "places"),
    [
        (["Stage I", "Stage IIA", "Stage IIB", "Stage III", "Stage IVB"], [1, 2, 2.25, 3, 4.25]),
        (["G1", "G2", "G3", "G4"], [1, 2, 3, 4]),
        (["pT1", "pT2b", "ypT3", "T4a (serosa)"], [1, 2.25, 3, 4]),
        (["grade 1", "Grade 3", "grade 2"], [1, 3, 2]),
    ],
)
def test_scales_and_their_parts(values: list[str], places: list[float]) -> None:
    cases = [with_values(case, stage=value) for case in make_cases(10) for value in values]
    (column,) = make_columns(cases, ["stage"])
    assert column.kind == "scale"
    assert column.encode(cases)[: len(values), 0].tolist() == places


def test_words_without_an_order_stay_words() -> None:
    for values in (["COAD", "READ"], ["A", "B", "C"], ["male", "female"], ["T", "N"], ["mixed", "vein", "stage x"]):
        cases = [with_values(case, stage=value) for case in make_cases(10) for value in values]
        (column,) = make_columns(cases, ["stage"])
        assert column.kind == "words"
        assert column.levels == tuple(sorted(values))


def test_a_value_that_training_has_not_seen_counts_as_average() -> None:
    cases = make_cases(100)
    model = fit_covariates(cases, ["age", "hospital"])
    mean_age = str(np.mean([float(case.covariates["age"]) for case in cases]))
    for age, hospital in [("", "X"), ("old", ""), (mean_age, "Y"), ("nan", "X")]:
        new = [with_values(cases[0], age=age, hospital=hospital)]
        assert model.log_hazard(new)[0] == pytest.approx(0, abs=1e-9)
    known = model.log_hazard([with_values(cases[0], age="80", hospital="A")])[0]
    assert known != model.log_hazard([with_values(cases[0], age="80", hospital="Z")])[0] > 0


def test_unknown_has_a_column_where_training_has_enough_of_it() -> None:
    """The worst cases' stages are lost, as a number's, a scale's and a word's: each must still tell who does badly."""
    cases = make_cases(300)
    bad = [case.covariates["stage"] == "IV" for case in cases]
    known = [with_values(case, hospital="") if worst else case for case, worst in zip(cases, bad, strict=True)]
    model = fit_covariates(known, ["hospital"])
    missing, unseen, first = model.log_hazard([with_values(cases[0], hospital=value) for value in ("", "Z", "A")])
    assert missing == unseen > first
    stages = [
        with_values(case, stage="[Discrepancy]") if worst and n % 5 == 0 else case
        for n, (case, worst) in enumerate(zip(cases, bad, strict=True))
    ]
    (column,) = make_columns(stages, ["stage"])
    assert column.kind == "scale"
    assert column.unknown
    model = fit_covariates(stages, ["stage"])
    odd, second = model.log_hazard([with_values(cases[0], stage=value) for value in ("[Discrepancy]", "II")])
    assert odd > second
    ages = [with_values(case, age="") if worst else case for case, worst in zip(cases, bad, strict=True)]
    (column,) = make_columns(ages, ["age"])
    assert (column.kind, column.unknown) == ("number", True)


def test_rare_words_share_a_column_and_odd_numbers_are_unknown() -> None:
    cases = make_cases(80)
    holes = [with_values(case, age="") if number % 40 == 0 else case for number, case in enumerate(cases)]
    (column,) = make_columns(holes, ["age"])
    assert (column.kind, column.unknown) == ("number", False)
    odd = [with_values(cases[0], age="about 70"), *cases[1:]]
    assert make_columns(odd, ["age"])[0].kind == "number"
    rare = [with_values(case, hospital=f"H{number}") if number < 8 else case for number, case in enumerate(cases)]
    (column,) = make_columns(rare, ["hospital"])
    assert column.levels == ("A", "B")
    assert column.unknown
    assert column.encode(rare)[:8].tolist() == [[0, 0, 1]] * 8


def test_a_rare_stage_without_events_stays_finite() -> None:
    cases = [replace(case, event=False) if case.covariates["stage"] == "I" else case for case in make_cases(120)]
    assert np.abs(fit_covariates(cases, ["stage"]).coefficients).max() < 10


def test_a_constant_covariate_says_nothing() -> None:
    cases = [with_values(case, age="60", stage="II") for case in make_cases(40)]
    assert not fit_covariates(cases, ["age", "stage"]).log_hazard(make_cases(5)).any()


def test_all_covariates_by_default() -> None:
    assert [column.name for column in fit_covariates(make_cases(60)).columns] == ["age", "hospital", "stage"]


def test_no_covariate_and_no_event() -> None:
    cases = make_cases(20)
    with pytest.raises(MetricError, match="asked for: grade; the cohort has age, hospital, stage"):
        fit_covariates(cases, ["grade"])
    with pytest.raises(MetricError, match="asked for: none; the cohort has none"):
        fit_covariates([replace(case, covariates={}) for case in cases])
    with pytest.raises(MetricError, match="no comparable pair in 20 cases with 0 events"):
        fit_covariates([replace(case, event=False) for case in cases])
