from dataclasses import replace

import numpy as np
import pytest
from lifelines.utils import concordance_index

from wsisurv.demo.population import (
    HOSPITALS,
    MORPHOLOGIES,
    clinical_log_hazard,
    morphology_log_hazard,
    simulate_population,
)
from wsisurv.errors import SettingsError


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("cases", [60, 100, 1000])
def test_censoring_is_between_60_and_75_percent(cases: int, seed: int) -> None:
    population = simulate_population(cases, seed)
    assert 0.60 <= 1 - np.mean([case.event for case in population]) <= 0.75


@pytest.mark.parametrize("cases", [25, 60, 99, 100, 101])
def test_held_out_is_a_fifth_and_whole_hospitals(cases: int) -> None:
    population = simulate_population(cases, seed=0)
    assert len(population) == len({case.case_id for case in population}) == cases
    training = {case.hospital.name for case in population if not case.held_out}
    held_out = {case.hospital.name for case in population if case.held_out}
    assert not training & held_out
    assert abs(sum(case.held_out for case in population) - cases / 5) <= 1


def test_every_hospital_sees_events() -> None:
    population = simulate_population(60, seed=0)
    assert {case.hospital.name for case in population if case.event} == {hospital.name for hospital in HOSPITALS}


def test_the_truth_ranks_better_than_age_and_stage() -> None:
    population = simulate_population(4000, seed=1)
    time = [case.days for case in population]
    event = [case.event for case in population]
    truth = concordance_index(time, [-case.log_hazard for case in population], event)
    clinical = concordance_index(time, [-clinical_log_hazard(case.age, case.stage) for case in population], event)
    assert 0.80 <= truth <= 0.86
    assert 0.60 <= clinical <= 0.67


def test_morphologies_without_weight_do_not_enter_the_hazard() -> None:
    case = simulate_population(25, seed=0)[0]
    idle = [one for one in MORPHOLOGIES if one.weight == 0]
    driving = [one for one in MORPHOLOGIES if one.weight != 0]
    assert idle
    assert len(driving) >= 3
    for one in MORPHOLOGIES:
        lowest, highest = ({**case.shares, one.name: share} for share in (one.least, one.most))
        change = morphology_log_hazard(highest) - morphology_log_hazard(lowest)
        assert np.sign(change) == np.sign(one.weight)


def test_the_hospital_does_not_enter_the_hazard() -> None:
    population = simulate_population(5000, seed=0)
    means = [np.mean([case.log_hazard for case in population if case.hospital is hospital]) for hospital in HOSPITALS]
    assert np.ptp(means) < 0.3  # the deviation within a hospital is about 1.6


def test_what_drives_the_hazard_is_rare_and_often_absent() -> None:
    population = simulate_population(2000, seed=3)
    for one in MORPHOLOGIES:
        shares = np.array([case.shares[one.name] for case in population])
        assert abs(np.mean(shares == 0) - one.absent) < 0.05
        assert ((shares == 0) | ((shares >= one.least) & (shares <= one.most))).all()
        if one.weight:
            assert one.most <= 0.08
            assert one.absent >= 0.3


def test_shares_are_standardised() -> None:
    population = simulate_population(5000, seed=2)
    for one in MORPHOLOGIES:
        values = [one.standardised(case.shares[one.name]) for case in population]
        assert abs(np.mean(values)) < 0.06
        assert abs(np.std(values) - 1) < 0.05


def test_same_seed_same_patients_and_another_seed_others() -> None:
    assert simulate_population(30, seed=5) == simulate_population(30, seed=5)
    assert simulate_population(30, seed=5) != simulate_population(30, seed=6)


def test_times_are_positive_whole_days() -> None:
    days = np.array([case.days for case in simulate_population(2000, seed=0)])
    assert (days >= 1).all()
    assert (days == np.round(days)).all()


@pytest.mark.parametrize(("cases", "seed"), [(24, 0), (0, 0), (60, -1)])
def test_what_can_not_be_simulated_is_refused(cases: int, seed: int) -> None:
    with pytest.raises(SettingsError, match="asked"):
        simulate_population(cases, seed)


def test_cases_are_immutable_records() -> None:
    case = simulate_population(25, seed=0)[0]
    assert replace(case, age=50).log_hazard == case.log_hazard
