"""How long and how hard students are trained is chosen by what they say of cases that they did not see."""

import numpy as np
import pytest
import torch

from wsisurv.formats.atomic import read_jsonl
from wsisurv.formats.models import read_model
from wsisurv.models.ensemble import load_student
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training.card import CrossFitted
from wsisurv.training.distill import distill
from wsisurv.training.loop import Log
from wsisurv.training.students import StudentPlan, train_path
from wsisurv.training.tuning import epochs_of, ways_of, worth

TEACHER = TeacherSettings(hidden=8, epochs=2, folds=3, text_folds=3, repeats=1)
LONG = DistillSettings(hidden=16, epochs=60, members=3, learning_rate=3e-2)


def lines_of(trial, part):
    return [line for line in read_jsonl(trial.path("history.jsonl")) if str(line.get("part")).endswith(part)]


def outcomes(n: int, seed: int) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    risk = random.normal(size=n)
    death, end = random.exponential(np.exp(-risk)), random.exponential(1.5, n)
    return risk, np.arange(n) % 5, np.ceil(20 * np.minimum(death, end)), death <= end


def test_worth_is_the_likelihood_within_folds_at_the_best_scale():
    risk, fold, time, event = outcomes(200, 0)

    def gained(log_hazard):
        told = 0.0
        for i in np.flatnonzero(event):
            here = (fold == fold[i]) & (time >= time[i])
            tied = np.flatnonzero(event & (fold == fold[i]) & (time == time[i]))
            gone = np.flatnonzero(tied == i)[0] / len(tied)  # Efron's
            for sign, one in ((1, log_hazard), (-1, 0 * log_hazard)):
                told += sign * (one[i] - np.log(np.exp(one[here]).sum() - gone * np.exp(one[tied]).sum()))
        return told

    found = worth(4 * risk, fold, time, event)  # four times too extreme
    assert found.scale == pytest.approx(0.25, abs=0.06)
    assert found.gained == pytest.approx(gained(found.scale * 4 * risk), rel=1e-6)
    for other in (0.9, 1.1):
        assert gained(other * found.scale * 4 * risk) < found.gained
    shifted = 4 * risk + 100.0 * fold  # members of different folds have no common origin
    assert worth(shifted, fold, time, event).gained == pytest.approx(found.gained, rel=1e-6)
    assert worth(risk / 10, fold, time, event).scale == 1  # it calms, and never excites
    for nothing in (-risk, np.zeros(200)):
        assert worth(nothing, fold, time, event).gained == pytest.approx(0)
        assert 0 < worth(nothing, fold, time, event).scale < 0.1


def test_a_tuned_student_is_not_over_confident_and_the_choice_is_told(make_trial):
    trial = make_trial(100, effect=2.0, taught=TEACHER)
    distill(trial.workspace, trial.cohort, LONG.model_copy(update={"tuning": "out-of-fold"}), device="cpu")
    assert read_model(trial.path("student_plain.h5"), "student")[0].card.calibration.slope > 0.5
    chosen = lines_of(trial, "chosen")
    assert {line["part"].split(" ")[0] for line in chosen} >= {"plain"}
    assert all(line["epochs"] <= 60 and 0 < line["scale"] <= 1 for line in chosen)


def test_log_hazards_are_scaled_by_their_slope_out_of_fold_and_keep_their_order(make_trial, monkeypatch):
    trial = make_trial(100, effect=2.0, taught=TEACHER)
    bags = np.random.default_rng(0).normal(size=(20, 30, 12)).astype(np.float16)
    risks, slopes = [], []
    for calmed in (CrossFitted.calmed, lambda fitted, _: fitted):
        monkeypatch.setattr(CrossFitted, "calmed", calmed)
        trial.path("student.h5").unlink(missing_ok=True)  # kept otherwise: nothing that it was made from has changed
        result = distill(trial.workspace, trial.cohort, LONG, device="cpu")
        model = read_model(trial.path("student_plain.h5"), "student")[0]
        student = load_student(model)
        risks.append(np.array([student.log_hazard(bag) for bag in bags]))
        slopes.append(model.card.calibration.slope)
        assert any("divided by that" in line for line in result.warnings) == (len(risks) == 1)
    factor = lines_of(trial, "plain students, scaled")[0]["factor"]
    assert factor == pytest.approx(slopes[1])
    assert 0.01 < factor < 0.3
    assert slopes[0] == pytest.approx(1)
    assert risks[0] == pytest.approx(factor * risks[1], rel=1e-4, abs=1e-6)


def test_students_on_the_way_are_those_of_a_run_that_ends_there(make_trial, tmp_path):
    from wsisurv.training.inputs import read_training_cases

    trial = make_trial(40)
    cases = read_training_cases(
        trial.workspace, trial.cohort, encoder="histomics", text_encoder="hashing", allow_random_weights=False
    )
    settings = DistillSettings(hidden=8, epochs=9)
    log = Log(tmp_path / "history.jsonl", "distill", lambda *_: None)
    plans = [StudentPlan(np.arange(30), 1), StudentPlan(np.arange(10, 40), 2)]
    cpu = torch.device("cpu")
    path = train_path(cases, plans, settings, device=cpu, part="a", log=log, epochs=(4, 9, 20))
    assert set(path) == {4, 9}
    weights = {epoch: students[1].embed.weight for epoch, students in path.items()}
    again = train_path(cases, plans, settings, device=cpu, part="b", log=log, epochs=(8,))
    assert torch.equal(again[9][1].embed.weight, weights[9])
    assert (weights[4] - again[8][1].embed.weight).norm() > (weights[9] - again[8][1].embed.weight).norm() > 0


def test_ways_never_train_longer_than_asked():
    ways = ways_of(DistillSettings(epochs=10, dropout=0.6))
    assert len(ways) == len(set(ways)) == 3  # none twice: more dropout is what was asked for
    assert {way.epochs for way in ways} == {10}
    assert {way.dropout for way in ways} == {0.6}
    assert len(ways_of(DistillSettings())) == 4
    assert epochs_of(DistillSettings(epochs=100, tuning="out-of-fold")) == 100 + 3 * 60
    assert epochs_of(DistillSettings(epochs=100, tuning="none")) == 100
    assert ways[0] == DistillSettings(epochs=10, dropout=0.6)
