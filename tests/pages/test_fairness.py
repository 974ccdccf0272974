"""Parts of a cohort against each other, and who came into the study."""

from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Audit, Case, Dropped
from wsisurv.pages.fairness import CALIBRATION, CONCORDANCE, contrasts
from wsisurv.pages.flow_figure import flow_figure, participant_flow
from wsisurv.pages.predicted import CasePredictions
from wsisurv.pages.subgroups import parts_of, subgroups
from wsisurv.survival.holm import holm
from wsisurv.survival.stratified import FoldScores
from wsisurv.units import CaseId


def drawn(n: int, *, blind: bool = False, ratio: float = 1.0, seed: int = 0, hospitals: int = 1) -> CasePredictions:
    """Times of hazard exp(risk); for one sex the risk is noise (``blind``), or its hazard ``ratio`` times as high."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    female = rng.random(n) < 0.4
    risk = np.where(female & blind, rng.normal(size=n), truth)
    death = rng.exponential(np.exp(-truth) / np.where(female, ratio, 1.0))
    end = rng.uniform(0.2, 2.5, n)
    time, event = np.minimum(death, end), death <= end
    cases = tuple(
        Case(CaseId(f"c{k}"), float(time[k]), bool(event[k]), f"H{k % hospitals}", {"sex": "MF"[int(female[k])]})
        for k in range(n)
    )
    own = np.exp(-time * np.exp(risk))
    fold = np.zeros(n, dtype=np.int64)
    scores = (FoldScores(0, np.arange(n), risk[None], n),)
    group = ("low",) * n
    return CasePredictions("x", cases, risk, np.zeros(n), group, fold, scores, np.array([1.0]), {}, (own, own))


def test_values_are_those_of_the_parts_each_by_itself() -> None:
    from lifelines.utils import concordance_index

    predicted = drawn(300)
    female = np.array([case.covariates["sex"] == "F" for case in predicted.cases])
    order, calibration = (one for one in contrasts(predicted) if one.by == "sex")
    assert (order.part, order.reference, order.figure, calibration.figure) == ("F", "M", CONCORDANCE, CALIBRATION)
    each = [
        concordance_index(predicted.time[part], -predicted.log_hazard[part], predicted.event[part])
        for part in (female, ~female)
    ]
    assert order.value == pytest.approx(each[0] - each[1], abs=1e-6)
    expected = -np.log(predicted.own_survival[0])
    ratios = [predicted.event[part].sum() / expected[part].sum() for part in (female, ~female)]
    assert calibration.value == pytest.approx(ratios[0] / ratios[1])
    by_part = {row.name: row for row in subgroups(predicted)}
    assert by_part["F"].ratio[0] == pytest.approx(ratios[0])
    # the spread of a ratio of two Poisson counts
    error = np.sqrt(sum(1 / predicted.event[part].sum() for part in (female, ~female)))
    assert np.log(calibration.high / calibration.value) == pytest.approx(1.96 * error, rel=0.25)


def test_with_competing_events_it_is_the_difference_of_the_subgroups_concordances() -> None:
    """Wolbers's in both tables, and not that of the hazards."""
    predicted = drawn(300)
    cases = tuple(
        replace(case, competing=not case.event and number % 2 == 0) for number, case in enumerate(predicted.cases)
    )
    competing = replace(predicted, cases=cases)
    by_part = {row.name: row.concordance for row in subgroups(competing)}
    order = contrasts(competing)[0]
    assert order.value == pytest.approx(by_part["F"] - by_part["M"], abs=1e-9)
    assert order.value != pytest.approx(contrasts(predicted)[0].value, abs=1e-4)


def test_the_error_of_a_difference_is_that_of_repeated_cohorts() -> None:
    found = [contrasts(drawn(150, seed=seed))[0] for seed in range(40)]
    errors = [(one.high - one.low) / 2 / 1.96 for one in found]
    assert np.mean(errors) == pytest.approx(np.std([one.value for one in found]), rel=0.3)


def test_a_part_in_which_the_student_fails_is_seen_and_one_in_which_it_does_not_is_not() -> None:
    order, calibration = contrasts(drawn(500, blind=True))
    assert order.high < 0
    assert order.p_holm < 0.01
    fair, _ = contrasts(drawn(500))
    assert fair.low < 0 < fair.high
    _, more = contrasts(drawn(500, ratio=2.0))
    assert more.low > 1.2
    assert more.p_holm < 0.01


def test_p_values_are_corrected_for_all_contrasts_and_hospitals_are_drawn_where_there_are_enough() -> None:
    predicted = drawn(400, hospitals=8)
    found = contrasts(predicted)
    assert {one.by for one in found} == {"sex", "site"}
    assert len(found) == 2 * (1 + 7)
    assert [one.p_holm for one in found] == pytest.approx(holm([one.p for one in found]).tolist())
    for one in found:
        assert one.low < one.value < one.high  # of one hospital cases are drawn: it would not vary at all
    of_cases = contrasts(drawn(400))
    assert found[0].value == of_cases[0].value
    assert found[0].low != of_cases[0].low


def test_parts_of_few_events_or_unknown_value_are_not_contrasted_and_without_survival_order_alone_is() -> None:
    predicted = drawn(200)
    cases = tuple(
        replace(case, covariates={"sex": case.covariates["sex"] if k % 2 else "", "rare": "x" if k < 3 else "y"})
        for k, case in enumerate(predicted.cases)
    )
    found = contrasts(replace(predicted, cases=cases, own_survival=None))
    assert [(one.by, one.part, one.figure) for one in found] == [("sex", "F", CONCORDANCE)]
    assert all(row.ratio is None for row in subgroups(replace(predicted, own_survival=None)))


def test_stages_of_many_letters_are_parted_by_steps_and_small_hospitals_stand_together() -> None:
    predicted = drawn(240)
    stages = [f"Stage {step}{letter}" for step in ("I", "II", "III") for letter in ("", "A", "B", "C")]
    cases = tuple(
        replace(case, site=f"H{min(k % 24, 20)}", covariates={"stage": "" if k == 0 else stages[k % 12]})
        for k, case in enumerate(predicted.cases)
    )
    parts = dict(parts_of(replace(predicted, cases=cases)))
    assert [name for name, _ in parts["stage"]] == ["1", "2", "3", "unknown"]
    assert [name for name, _ in parts["site"]][-1] == "the other 14"
    for each in parts.values():
        assert (np.sum([chosen for _, chosen in each], axis=0) == 1).all()  # each case in one part


def test_the_flow_adds_up_from_the_table_to_training(tmp_path) -> None:
    dropped = tuple(Dropped(k, f"d{k}", "$time$ is missing" if k < 7 else f"reason {k}") for k in range(20))
    audit = Audit(
        120, 100, 44, 90, 80, 40, 95, 70, 15, "days", 1.0, {}, dropped, tuple(f"c{k}" for k in range(20)), (), ()
    )
    steps = participant_flow(audit, tested={"cases": 75, "events": 38}, trained={"n_cases": 80, "n_events": 40})
    rows, usable, cohort, end = (" ".join(step.there) for step in steps)
    assert rows.startswith("120 ")
    assert "100 cases, 44 with the event" in usable
    assert "80 cases, 40 with the event 95 slides; 70 with a report, 10 without" in cohort
    assert "75 cases, 38 with the event" in end
    assert "80 cases, 40 with the event" in end
    assert sum(int(line.split(":")[0]) for line in steps[0].left_out) == 20  # all reasons, the rare ones together
    assert steps[0].left_out[0] == "7: $time$ is missing"
    assert steps[1].left_out == ("20 without a slide with features",)
    assert steps[2].left_out == ("5 not tested in cross-validation",)
    assert b"<svg" in flow_figure(tmp_path / "flow.png", steps)[1].read_bytes()
    alone = participant_flow(audit, tested={}, trained={})
    assert len(alone) == 3
    assert b"<svg" in flow_figure(tmp_path / "flow.png", alone)[1].read_bytes()
