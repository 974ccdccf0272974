"""Students of other cohorts: as experts beside a cohort's own, and as a start of its training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wsisurv.bags.packed import pack
from wsisurv.cohort import Audit, write_cohort
from wsisurv.errors import CohortError, EncoderMismatchError, FormatError, SettingsError
from wsisurv.formats.models import read_model
from wsisurv.models.aggregators.registry import make_aggregator
from wsisurv.models.ensemble import Ensemble, load_ensemble, load_student
from wsisurv.models.joining import join, start_from
from wsisurv.models.student import Student
from wsisurv.pages.model_card import model_card
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.survival.metrics import concordance
from wsisurv.training.distill import distill
from wsisurv.training.experts import open_transfer
from wsisurv.training.teacher import train_teacher
from wsisurv.units import CaseId

TEACHER = TeacherSettings(hidden=16, epochs=5, text_epochs=5, repeats=1, folds=3, text_folds=2)
STUDENT = DistillSettings(
    learning_rate=1e-2, weight_decay=1e-3, dropout=0.1, hidden=16, epochs=2, members=3, tiles_per_bag=0
)
AUDIT = Audit(1, 1, 1, 0, 1, 1, 1, 0, 0, "days", 1.0, {}, (), (), (), ())
SOME = (30, 40)
"""Tiles of a case."""


def _student(seed: int, hidden: int = 8, aggregator: str = "abmil", n_features: int = 5) -> Student:
    torch.manual_seed(seed)
    return Student(n_features, hidden, 0.0, torch.randn(n_features), torch.rand(n_features) + 0.5, aggregator).eval()


@pytest.fixture(scope="module")
def bag():
    return np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)


def test_a_joined_student_is_the_weighted_sum_of_its_parts_in_the_whole_and_tile_by_tile(bag):
    parts = [(_student(0), 0.7), (_student(1, 16), 1.5), (_student(2, 6, "mean"), 0.4)]
    joined = join(parts)
    packed = pack([bag, bag[:7]])
    with torch.inference_mode():
        wanted = sum(weight * one(packed) for one, weight in parts)
        torch.testing.assert_close(joined(packed), wanted, atol=1e-5, rtol=1e-5)
    ensemble = Ensemble((joined, join([(_student(3), 1.0), *parts[1:]])), (0.3, -0.2))
    again = load_ensemble(ensemble.arrays())
    scores = again.tile_scores(bag)
    assert scores.exact
    assert scores.attention.sum() == pytest.approx(1)
    assert scores.contribution.sum() == pytest.approx(again.log_hazard(bag), abs=1e-5)
    assert again.log_hazard(bag) == pytest.approx(ensemble.log_hazard(bag), abs=1e-6)


@pytest.mark.parametrize("name", ["joined abmil-8", "joined abmil-8 mean-9", "joined", "joined selfattention-16"])
def test_an_aggregator_of_blocks_that_cannot_be_is_refused(name):
    with pytest.raises((ValueError, FormatError)):
        make_aggregator(name, 16)


def test_a_start_says_what_its_source_says(bag):
    source, student = _student(0), _student(1)
    packed = pack([bag])
    assert not torch.allclose(student(packed), source(packed), atol=1e-3)
    start_from(student, source)
    torch.testing.assert_close(student(packed), source(packed), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def trained_elsewhere(_drawn):
    """Students of two large cohorts without reports: one of the trial's world, and one whose follow-up is chance."""
    found = {}
    for name, n, effect in (("good", 150, 4.0), ("chance", 60, 0.0)):
        trial = _drawn(n, 7, True, None, effect=effect, reported=0.0, tiles=SOME)
        cases = tuple(
            replace(case, case_id=CaseId(f"{name}-{case.case_id}"), site=f"{name}-{case.site}")
            for case in trial.cohort.cases
        )
        cohort = replace(trial.cohort, name=name, cases=cases)
        write_cohort(trial.workspace.cohort(name), cohort, AUDIT)
        train_teacher(trial.workspace, cohort, TEACHER)
        distill(trial.workspace, cohort, STUDENT.model_copy(update={"epochs": 40}))
        found[name] = trial.workspace.cohort(name) / "student.h5"
    return found


def test_experts_join_where_they_help_and_not_where_their_cohort_told_them_nothing(make_trial, trained_elsewhere):
    trial = make_trial(140, seed=3, clear=True, effect=4.0, reported=0.0, tiles=SOME, taught=TEACHER)
    settings = STUDENT
    without = distill(trial.workspace, trial.cohort, settings)
    alone = read_model(trial.path("student_distilled.h5"), "student")[0]
    assert "experts" not in without.model_dump()
    world, simulation = trial.simulation.make_world(1, n_features=24, n_words=24), trial.simulation
    world = replace(world, looks=3 * world.looks, stains=world.stains / 4)
    test = simulation.simulate(world, 200, 11, tiles=SOME, effect=4.0)

    def tested(name):
        ensemble = load_student(read_model(trial.path(name), "student")[0])
        risks = [ensemble.log_hazard(one) for one in test.bags]
        return concordance(log_hazard=risks, time=test.time, event=test.event)

    before = tested("student_distilled.h5")
    both = open_transfer([trained_elsewhere["chance"], trained_elsewhere["good"]])
    assert both.experts[0].cases, "their cohort lies beside them"
    result = distill(trial.workspace, trial.cohort, settings, transfer=both, redo=True)
    chance, good = result.experts
    assert (chance.name, good.name) == ("chance", "good")
    assert good.weight > 0.4
    assert good.weight > 3 * chance.weight
    assert good.gained > 3
    assert result.winner == "distilled"
    assert tested("student_distilled.h5") > before + 0.05
    assert tested("student.h5") == tested("student_distilled.h5")
    model, header = read_model(trial.path("student.h5"), "student")
    assert header.inputs["students of other cohorts"] == both.fingerprint
    assert model.card.result.experts == result.experts
    assert distill(trial.workspace, trial.cohort, settings, transfer=both).kept
    words = [" ".join(model_card(trial.path(name)).parts[0].words) for name in ("student.h5", "student_plain.h5")]
    assert [f"good ({good.weight:.2f})" in one for one in words] == [True, False]

    closed = distill(
        trial.workspace, trial.cohort, settings, transfer=open_transfer([trained_elsewhere["chance"]]), redo=True
    )
    assert [one.weight for one in closed.experts] == [0]
    now = read_model(trial.path("student_distilled.h5"), "student")[0]
    assert all(np.array_equal(now.arrays[name], alone.arrays[name]) for name in alone.arrays)


def test_training_that_starts_from_a_student_knows_at_once_what_that_knew(make_trial, trained_elsewhere):
    trial = make_trial(140, seed=3, clear=True, effect=4.0, reported=0.0, tiles=SOME, taught=TEACHER)
    short = STUDENT.model_copy(update={"epochs": 1, "learning_rate": 1e-4})
    start = open_transfer(start=trained_elsewhere["good"])
    result = distill(trial.workspace, trial.cohort, short, transfer=start)
    assert (result.winner, result.warm_start) == ("distilled", "good")
    assert result.distilled_concordance > result.plain_concordance + 0.1
    with pytest.raises(SettingsError, match="--warm-start needs --hidden 8"):
        distill(trial.workspace, trial.cohort, short.model_copy(update={"hidden": 8}), transfer=start, redo=True)


def test_an_expert_that_saw_the_tested_patients_or_their_hospitals_is_left_out(trained_elsewhere):
    transfer = open_transfer([trained_elsewhere["good"], trained_elsewhere["chance"]], trained_elsewhere["good"])
    case = transfer.experts[0].cases[0]
    stranger = replace(case, case_id=CaseId("new"), site="elsewhere")
    assert transfer.without([stranger]) == transfer
    for tested in (replace(stranger, case_id=case.case_id), replace(stranger, site=case.site)):
        left = transfer.without([stranger, tested])
        assert [one.card.cohort.name for one in left.experts] == ["chance"]
        assert left.start is None
        (said,) = transfer.left_out(left)
        assert "saw tested patients" in said
        assert str(trained_elsewhere["good"]) in said
    assert transfer.without([replace(stranger, site=None)]) == transfer


def test_experts_that_cannot_be_are_refused_by_name(make_trial, trained_elsewhere, tmp_path):
    trial = make_trial(40, taught=TEACHER)

    def refused(error, match, settings=STUDENT, **transfer):
        with pytest.raises(error, match=match):
            distill(trial.workspace, trial.cohort, settings, transfer=open_transfer(**transfer))

    good = trained_elsewhere["good"]
    refused(EncoderMismatchError, r"good/student\.h5.*features a tile", experts=[good])
    refused(SettingsError, "named twice", experts=[good, good])
    refused(FormatError, "student", experts=[trial.path("teacher.h5")])
    distill(trial.workspace, trial.cohort, STUDENT)
    own = trial.path("student_plain.h5")
    write_cohort(own.parent, trial.cohort, AUDIT)
    refused(CohortError, r"trained on 40 case\(s\) of this cohort", experts=[own])
    lone = tmp_path / "lone.h5"
    lone.write_bytes(own.read_bytes())
    refused(SettingsError, "--loss cox or ranking", STUDENT.model_copy(update={"loss": "discrete"}), experts=[lone])
    result = distill(trial.workspace, trial.cohort, STUDENT, transfer=open_transfer([lone]), redo=True)
    assert any("can't be known" in line for line in result.warnings)
    distill(trial.workspace, trial.cohort, STUDENT.model_copy(update={"aggregator": "selfattention"}), redo=True)
    refused(SettingsError, "can't be taken over", experts=[own])
