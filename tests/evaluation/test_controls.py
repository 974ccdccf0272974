"""Cox regression on covariates: against lifelines, and on values that training has not seen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.evaluation.controls import fit_covariates
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
    expected = CoxPHFitter(penalizer=0.01).fit(table, "time", "event").params_["age"]
    one_sd = model.log_hazard([with_values(cases[0], age=str(ages.mean() + ages.std()))])
    assert one_sd[0] == pytest.approx(expected, rel=1e-4)


def test_stage_is_categorical_and_its_order_is_found() -> None:
    cases = make_cases(400)
    model = fit_covariates(cases, ["stage"])
    hazards = model.log_hazard([with_values(cases[0], stage=stage) for stage in ("I", "II", "III", "IV")])
    assert (np.diff(hazards) > 0).all()


def test_a_value_that_training_has_not_seen_counts_as_average() -> None:
    cases = make_cases(100)
    model = fit_covariates(cases, ["age", "stage"])
    mean_age = str(np.mean([float(case.covariates["age"]) for case in cases]))
    for age, stage in [("", "X"), ("old", ""), (mean_age, "V"), ("nan", "X")]:
        assert model.log_hazard([with_values(cases[0], age=age, stage=stage)])[0] == pytest.approx(0, abs=1e-9)
    known = model.log_hazard([with_values(cases[0], age="80", stage="IV")])[0]
    assert known > model.log_hazard([with_values(cases[0], age="80", stage="X")])[0] > 0


def test_missing_is_a_level_where_training_has_it() -> None:
    cases = make_cases(300)
    gone = [with_values(case, stage="") if case.covariates["stage"] == "IV" else case for case in cases]
    model = fit_covariates(gone, ["stage"])
    missing, unseen, first = model.log_hazard(
        [with_values(cases[0], stage=""), with_values(cases[0], stage="V"), with_values(cases[0], stage="I")]
    )
    assert missing == unseen > first


def test_one_odd_value_makes_a_number_categorical_and_missing_ages_do_not() -> None:
    cases = make_cases(80)
    holes = [with_values(case, age="") if number % 7 == 0 else case for number, case in enumerate(cases)]
    assert fit_covariates(holes, ["age"]).columns[0].levels == ()
    odd = [with_values(cases[0], age="about 70"), *cases[1:]]
    assert "about 70" in fit_covariates(odd, ["age"]).columns[0].levels


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
