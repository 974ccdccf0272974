"""A cohort whose cases enter late: what is trained, gated and calibrated goes by who was at risk."""

from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Cohort
from wsisurv.formats.models import read_model
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.survival.kaplan_meier import kaplan_meier
from wsisurv.survival.prognosis import load_prognosis
from wsisurv.training.distill import distill
from wsisurv.training.teacher import train_teacher


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ({}, {}),
        ({"text_branch": "ridge"}, {"loss": "ranking", "distill": "listwise-kl"}),
        ({"teacher": "concat", "folds": 3}, {"loss": "discrete", "distill": "hazard-kl"}),
    ],
)
def test_survival_is_that_of_those_at_risk(make_trial, teacher_settings, distill_settings, teacher, student):
    trial = make_trial(n=80)
    rng = np.random.default_rng(0)
    late = tuple(
        replace(case, entry=case.time * rng.uniform(0.5, 0.95) if number % 3 else 0.0)
        for number, case in enumerate(trial.cohort.cases)
    )
    at_teacher = TeacherSettings(**{**teacher_settings.model_dump(), **teacher})
    at_student = DistillSettings(**{**distill_settings.model_dump(), **student})
    found = {}
    for name, cases in (("late", late), ("from-0", trial.cohort.cases)):
        cohort = Cohort(name, cases, trial.cohort.settings)
        result = train_teacher(trial.workspace, cohort, at_teacher)
        distill(trial.workspace, cohort, at_student)
        model, _ = read_model(trial.workspace.cohort(name) / "student.h5", "student")
        prognosis = load_prognosis(model.arrays)
        horizon = float(np.quantile([case.time for case in cases], 0.4))
        predicted = prognosis.survival(log_hazard=model.arrays["training_risks"], horizons=[horizon]).mean()
        time, event, entry = (np.array([getattr(one, what) for one in cases]) for what in ("time", "event", "entry"))
        truth = float(kaplan_meier(time=time, event=event, entry=entry).at(horizon))
        assert predicted == pytest.approx(truth, abs=0.06)
        found[name] = (truth, result.gate_slope, model.arrays["members/0/hazard.weight"].tolist())
    assert found["late"][0] < found["from-0"][0] - 0.1
    assert found["late"][1] != found["from-0"][1]
    assert found["late"][2] != found["from-0"][2]
