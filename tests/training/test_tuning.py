"""How long and how hard students are trained is chosen by what they say of cases that they did not see."""

from dataclasses import replace

import numpy as np
import pytest

from wsisurv.formats.atomic import read_jsonl
from wsisurv.formats.models import read_model
from wsisurv.models.ensemble import load_student
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training import distill as distilling
from wsisurv.training import tuning
from wsisurv.training.card import CrossFitted
from wsisurv.training.distill import distill
from wsisurv.training.students import train_students
from wsisurv.training.teacher import train_teacher
from wsisurv.training.tuning import epochs_of, ways_of, worth

TEACHER = TeacherSettings(hidden=8, epochs=2, folds=3, text_folds=3, repeats=1)
LONG = DistillSettings(hidden=16, epochs=60, members=3, learning_rate=3e-2, weight_decay=1e-3, dropout=0.1)


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


@pytest.mark.parametrize(("ahead", "long"), [(1.9, False), (2.0, True), (-3.0, False)])
def test_long_training_is_taken_where_it_is_clearly_ahead_and_for_both_students(
    make_trial, teacher_settings, monkeypatch, ahead, long
):
    trial = make_trial(120, effect=2.0, taught=teacher_settings)
    monkeypatch.setattr(tuning, "_LONG", {**tuning._LONG, "epochs": 40})
    asked, seen = [], []

    def train(cases, plans, settings, **_):
        asked.append((settings.epochs, settings.learning_rate, plans[0].target is not None))
        return train_students(cases, plans, settings.model_copy(update={"epochs": 1}), **_)

    def judged(*_):
        seen.append(1)
        return tuning.Worth(10.0 if len(seen) == 1 else 10.0 + ahead, 1.0)

    monkeypatch.setattr(tuning, "train_students", train)
    monkeypatch.setattr(distilling, "train_students", train)
    monkeypatch.setattr(tuning, "_out_of_fold", judged)
    distill(trial.workspace, trial.cohort, DistillSettings(hidden=4, members=3), device="cpu")
    assert asked[:2] == [(25, 2e-3, False), (40, 1e-2, False)]
    assert asked[2:] in ([], [(40, 1e-2, True) if long else (25, 2e-3, True)])
    assert len(asked) == 3  # the gate is open, so that there is a guided student
    gained = [
        line["likelihood_gained"] for line in lines_of(trial, "way 1") + lines_of(trial, "way 2") if "scale" in line
    ]
    assert gained == [10.0, 10.0 + ahead]


def test_judged_are_cases_of_one_hospital_where_hospitals_are_known(make_trial, monkeypatch):
    trial = make_trial(60, effect=2.0, taught=TEACHER)
    strata = []
    monkeypatch.setattr(tuning, "worth", lambda _, stratum, *__: strata.append(stratum) or tuning.Worth(0.0, 1.0))
    monkeypatch.setattr(tuning, "_LONG", {**tuning._LONG, "epochs": 2})
    for sites, n_strata in (([None], 3), (["A", "B"], 2)):
        cases = tuple(replace(case, site=sites[n % len(sites)]) for n, case in enumerate(trial.cohort.cases))
        cohort = replace(trial.cohort, name=f"of{n_strata}", cases=cases)
        train_teacher(trial.workspace, cohort, TEACHER, device="cpu")
        distill(trial.workspace, cohort, DistillSettings(hidden=4, members=3), device="cpu")
        assert len(np.unique(strata[-1])) == n_strata


def test_log_hazards_are_scaled_by_their_slope_out_of_fold_and_keep_their_order(make_trial, monkeypatch):
    trial = make_trial(100, effect=2.0, taught=TEACHER)
    bags = np.random.default_rng(0).normal(size=(20, 30, 12)).astype(np.float16)
    risks, slopes = [], []
    for calmed in (CrossFitted.calmed, lambda fitted, _: fitted):
        monkeypatch.setattr(CrossFitted, "calmed", calmed)
        trial.path("student.h5").unlink(missing_ok=True)  # kept otherwise: nothing that it was made from has changed
        result = distill(trial.workspace, trial.cohort, LONG.model_copy(update={"distill": "none"}), device="cpu")
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


def test_what_is_asked_for_is_not_tuned():
    default = DistillSettings()
    assert [way.epochs for way in ways_of(default)] == [25, 150]
    assert epochs_of(default) == 175
    assert ways_of(default.model_copy(update={"tuning": "none"})) == [default.model_copy(update={"tuning": "none"})]
    for asked in ({"epochs": 10}, {"dropout": 0.6}, {"learning_rate": 1e-2}, {"weight_decay": 0.0}):
        assert ways_of(DistillSettings(**asked)) == [DistillSettings(**asked)]
    assert len(ways_of(DistillSettings(hidden=8))) == 2
