"""Which student is selected."""

import numpy as np
import pytest
import torch

from wsisurv.formats.models import read_model
from wsisurv.models.ensemble import ensemble_of
from wsisurv.models.fast_ensemble import CaseStates
from wsisurv.models.student import Student
from wsisurv.survival.resampling import Interval
from wsisurv.training.card import CrossFitted
from wsisurv.training.choice import Choice, choose_student
from wsisurv.training.distill import distill
from wsisurv.training.teacher import train_teacher

N = 120
FOLD = np.arange(N) % 3
RNG = np.random.default_rng(0)
TRUTH = RNG.normal(0, 1, N)
TIME = RNG.exponential(np.exp(-TRUTH)) + 0.01
EVENT = RNG.random(N) < 0.6
GOOD = TRUTH + RNG.normal(0, 0.5, N)
POOR = TRUTH + RNG.normal(0, 3, N)


def cross_fitted(risk):
    ensemble = ensemble_of([(Student(2, 2, 0.0, torch.zeros(2), torch.ones(2)), 0.0)])
    states = tuple(CaseStates(np.full(3, one), np.zeros((3, 2), np.float32)) for one in risk)
    return CrossFitted(ensemble, states, (0, 1, 2), FOLD)


def chosen(distilled, plain, event=EVENT):
    return choose_student(distilled=cross_fitted(distilled), plain=cross_fitted(plain), time=TIME, event=event)


def test_the_better_one_is_selected_and_a_tie_goes_to_the_plain_one():
    assert chosen(GOOD, POOR).winner == "distilled"
    assert chosen(POOR, GOOD).winner == "plain"
    assert chosen(GOOD, GOOD).winner == "plain"
    better = chosen(GOOD, POOR)
    assert better.difference.value == pytest.approx(better.distilled - better.plain)
    assert better.difference.low <= better.difference.value <= better.difference.high


def test_an_origin_of_its_own_in_each_fold_changes_nothing():
    origin = np.array([-5.0, 0.0, 40.0])[FOLD]
    assert chosen(GOOD + origin, POOR) == chosen(GOOD, POOR)


def test_the_pairs_that_were_compared_are_counted():
    comparable = sum(
        EVENT[one] and TIME[one] < TIME[other] and FOLD[one] == FOLD[other] for one in range(N) for other in range(N)
    )
    assert chosen(GOOD, POOR).pairs == comparable > 0


def test_without_a_comparable_pair_the_plain_one_is_selected():
    choice = chosen(GOOD, POOR, event=np.zeros(N, bool))
    assert choice.winner == "plain"
    assert choice.difference is None


@pytest.mark.parametrize("winner", ["distilled", "plain"])
def test_the_file_of_the_winner_is_selected_and_both_are_kept(
    make_trial, teacher_settings, distill_settings, monkeypatch, winner
):
    ahead = 0.03 if winner == "distilled" else -0.03
    choice = Choice(winner, 0.6 + ahead, 0.6, Interval(ahead, ahead - 0.1, ahead + 0.1, 1000, 0), "fold", 7)
    monkeypatch.setattr("wsisurv.training.distill.choose_student", lambda **_: choice)
    settings = teacher_settings.model_copy(update={"text_epochs": 30})
    trial = make_trial(120, effect=2.0, taught=settings)
    assert train_teacher(trial.workspace, trial.cohort, settings).gate > 0
    result = distill(trial.workspace, trial.cohort, distill_settings)
    selected, distilled, plain = (
        read_model(trial.path(name), "student")[0]
        for name in ("student.h5", "student_distilled.h5", "student_plain.h5")
    )
    best, other = (distilled, plain) if winner == "distilled" else (plain, distilled)
    assert result.winner == winner
    assert result.difference == ahead
    assert result.concordance == max(result.distilled_concordance, result.plain_concordance)
    assert selected.card == best.card
    assert selected.card.guided is (winner == "distilled")
    for name, array in selected.arrays.items():
        np.testing.assert_array_equal(array, best.arrays[name])
    assert not np.array_equal(selected.arrays["training_risks"], other.arrays["training_risks"])
    assert any("of 7 pairs of cases alone" in line for line in result.warnings)
    assert any("better by 0.030" in line for line in result.warnings) == (winner == "plain")
    assert distill(trial.workspace, trial.cohort, distill_settings).winner == winner
