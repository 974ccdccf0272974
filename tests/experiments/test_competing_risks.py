"""Competing events and landmarks in the figures of cross-validation and of external validation."""

from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Case, cause_of
from wsisurv.experiments.external import ExternalCases, external_figures
from wsisurv.experiments.landmarks import landmark_figures
from wsisurv.experiments.results import make_results
from wsisurv.experiments.side_by_side import WOLBERS
from wsisurv.experiments.tested import ScoredFold
from wsisurv.survival.competing import cumulative_incidence, gray_test
from wsisurv.survival.metrics import concordance
from wsisurv.survival.prognosis import fit_prognosis
from wsisurv.survival.splits import make_folds
from wsisurv.units import CaseId


def study(seed, n=120):
    """Cases whose hazard follows what slides show, and that."""
    random = np.random.default_rng(seed)
    seen = random.normal(size=n)
    death = random.exponential(np.exp(-seen))
    end = random.uniform(0, np.quantile(death, 0.6), n)
    time, event = np.minimum(death, end) + 0.01, death <= end
    return [Case(CaseId(f"c{i}"), float(time[i]), bool(event[i])) for i in range(n)], seen


def scored(cases, risks, repeats=2, k=4):
    event = np.array([case.event for case in cases])
    folds = []
    for repeat in range(repeats):
        fold = make_folds(event=event, n_folds=k, seed=repeat)
        for rows in (np.flatnonzero(fold == number) for number in range(k)):
            folds.append(ScoredFold(repeat, rows, len(cases) - len(rows), {m: v[rows] for m, v in risks.items()}))
    return folds


def with_competing(seed, n=240):
    """Cases of ``study`` of whom every third without the event leaves by a competing one; what slides show of them."""
    cases, seen = study(seed, n=n)
    return [replace(case, competing=not case.event and number % 3 == 0) for number, case in enumerate(cases)], seen


def test_crossval_orders_by_wolbers_and_scores_absolute_risk():
    cases, seen = with_competing(0)
    table = make_results(scored(cases, {"selected": seen}), cases, [], resamples=100, seed=0)
    row = table.model("selected")
    assert table.competing == sum(case.competing for case in cases)
    assert 0.5 < row.uno_low < row.uno < row.uno_high < 1
    assert 0.5 < row.auc < 1
    assert WOLBERS in table.warnings
    assert 0 < row.brier < row.brier_reference
    plain = make_results(
        scored(cases, {"selected": seen}),
        [replace(case, competing=False) for case in cases],
        [],
        resamples=100,
        seed=0,
    )
    assert plain.competing is None
    assert plain.model("selected").uno != row.uno
    assert plain.model("selected").auc != row.auc
    assert plain.model("selected").concordance != row.concordance
    assert plain.model("selected").calibration_slope == row.calibration_slope  # of the hazard of the event


def test_the_score_of_one_risk_for_all_is_that_of_the_incidence():
    """A model that knows nothing predicts the incidence of the other folds: nearly the reference."""
    cases, _ = with_competing(1)
    table = make_results(scored(cases, {"selected": np.zeros(240)}, repeats=1), cases, [], resamples=100, seed=0)
    row = table.model("selected")
    assert row.brier == pytest.approx(row.brier_reference, abs=0.01)


def test_a_landmark_is_of_those_alive_then():
    cases, seen = study(2, n=200)
    years = float(np.quantile([case.time for case in cases], 0.3))
    folds = scored(cases, {"selected": seen}, repeats=1, k=2)
    table = make_results(folds, cases, [], resamples=100, seed=0, landmarks=(years, 1e6), time_unit="years")
    at, never = table.landmarks
    alive = [number for number, case in enumerate(cases) if case.time > years]
    assert (at.cases, at.events) == (len(alive), sum(cases[number].event for number in alive))
    (row,) = at.models
    pairs, right = 0, 0.0
    for fold in folds:
        here = [number for number in fold.rows.tolist() if cases[number].time > years]
        time, event = [cases[i].time for i in here], [cases[i].event for i in here]
        n = sum(time[i] < time[j] for i in range(len(here)) if event[i] for j in range(len(here)))
        pairs, right = pairs + n, right + n * concordance(log_hazard=seen[here], time=time, event=event)
    assert row.concordance == pytest.approx(right / pairs)
    assert (never.cases, never.models, never.reason) == (0, (), "nobody was followed so long")
    assert make_results(folds, cases, [], resamples=100, seed=0).landmarks == ()


def test_late_comers_are_at_a_landmark_only_if_they_had_come():
    cases, seen = study(3)
    late = [replace(case, entry=0.9 * case.time if number % 2 else 0.0) for number, case in enumerate(cases)]
    found = landmark_figures(
        scored(late, {"selected": seen}), late, ["selected"], [], years=0.5, time_unit="years", resamples=100, seed=0
    )
    assert found.cases == sum(case.entry <= 0.5 < case.time for case in late)


def external(cases, risk):
    return ExternalCases(
        case_ids=tuple(str(case.case_id) for case in cases),
        log_hazard=risk,
        group=tuple(np.array(["low", "intermediate", "high"])[np.digitize(risk, [-0.4, 0.4])].tolist()),
        time=np.array([case.time for case in cases]),
        event=np.array([case.event for case in cases]),
        cause=cause_of(cases),
    )


def test_external_validation_observes_incidence_and_tests_it_by_gray():
    cases, seen = with_competing(4, n=400)
    told = external(cases, seen)
    knows = fit_prognosis(log_hazard=seen, time=told.time, event=told.event, cause=told.cause)
    horizon = float(np.quantile(told.time, 0.5))
    found = external_figures(told, knows, years={1.0: horizon}, landmarks={0.1: horizon / 5}, resamples=100)
    assert found.competing == int((told.cause == 2).sum())
    assert found.gray_p < 1e-6
    assert 0.5 < found.uno_low < found.uno < found.uno_high
    assert 0.5 < found.auc < 1
    assert found.brier < found.brier_reference
    (at,) = found.at_years
    assert at.observed == pytest.approx(float(cumulative_incidence(time=told.time, cause=told.cause).at(horizon)))
    assert at.low < at.predicted < at.high
    assert [row.competing for row in found.groups] == [
        int(((told.cause == 2) & (np.array(told.group) == row.name)).sum()) for row in found.groups
    ]
    assert all(row.mean is None and 0 < row.incidence < 1 and row.incidence_se > 0 for row in found.groups)
    (landmark,) = found.landmarks
    assert landmark.cases == int((told.time > horizon / 5).sum())
    assert 0.5 < landmark.concordance.value < 1
    naive = fit_prognosis(log_hazard=seen, time=told.time, event=told.event)
    overstated = external_figures(told, naive, years={1.0: horizon}, resamples=100)
    assert overstated.at_years[0].predicted > at.predicted + 0.01
    assert any("trained without competing events" in line for line in overstated.warnings)


def test_risk_sets_without_unfamiliar_cases_know_late_entry_too():
    cases, seen = study(6)
    entry = np.array([0.7 * case.time if number % 2 else 0.0 for number, case in enumerate(cases)])
    told = replace(external(cases, seen), entry=entry)
    groups = tuple("unfamiliar" if number % 5 == 0 else word for number, word in enumerate(told.group))
    knows = fit_prognosis(log_hazard=seen, time=told.time, event=told.event, entry=entry)
    found = external_figures(replace(told, group=groups), knows, years={}, resamples=100)
    rows = np.array(groups) != "unfamiliar"
    known = {"log_hazard": seen[rows], "time": told.time[rows], "event": told.event[rows]}
    assert found.concordance_familiar.value == concordance(**known, entry=entry[rows])
    assert found.concordance_familiar.value != concordance(**known)


def test_grays_test_knows_late_entry():
    cases, seen = with_competing(5)
    late = [replace(case, entry=case.time / 4) for case in cases]
    told = replace(external(late, seen), entry=np.array([case.entry for case in late]))
    knows = fit_prognosis(log_hazard=seen, time=told.time, event=told.event, entry=told.entry, cause=told.cause)
    found = external_figures(told, knows, years={}, resamples=100)
    known = {"group": told.group, "time": told.time, "cause": told.cause}
    assert found.gray_p == pytest.approx(gray_test(**known, entry=told.entry).p)
    assert found.gray_p != gray_test(**known).p
    assert found.logrank_p is not None
