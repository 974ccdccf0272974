"""The text branch by itself: both ways find who does worse, and wrong reports are not listened to."""

from pathlib import Path

import numpy as np
import pytest

from wsisurv.engine.progress import no_progress
from wsisurv.settings.training import TeacherSettings
from wsisurv.survival.metrics import concordance
from wsisurv.training.crossfit import ReportedCases, cross_fit_text, fit_gate
from wsisurv.training.loop import Log


def reports(n: int, seed: int) -> ReportedCases:
    """Three to six statements a case; the mean of one direction drives the hazard."""
    random = np.random.default_rng(seed)
    level = random.normal(size=n)
    statements = []
    for one in level:
        rows = random.normal(0, 1, (random.integers(3, 7), 12))
        rows[:, 3] += 2 * one
        statements.append(rows.astype(np.float32))
    death, end = random.exponential(np.exp(-level)), random.exponential(1.0, n)
    return ReportedCases(statements, np.minimum(death, end) + 0.01, death <= end, [None] * n)


def fitted(data: ReportedCases, tmp_path: Path, **changes: object):
    settings = TeacherSettings(text_epochs=20, repeats=1, text_folds=3, **changes)
    log = Log(tmp_path / "history.jsonl", "train-teacher", no_progress)
    return cross_fit_text(data, settings, seed=0, part="text", log=log)


@pytest.mark.parametrize("branch", ["ridge", "attention"])
def test_risks_out_of_fold_and_of_new_reports(tmp_path, branch):
    data, new = reports(150, 0), reports(150, 1)
    fit = fitted(data, tmp_path, text_branch=branch)
    gate = fit_gate(risk=fit.risk, time=data.time, event=data.event)
    assert gate.value > 0.5
    assert concordance(log_hazard=fit.risk, time=data.time, event=data.event) > 0.65
    told = [fit.text.log_hazard(statements) for statements in new.statements]
    assert concordance(log_hazard=told, time=new.time, event=new.event) > 0.6
    assert abs(np.mean([fit.text.log_hazard(statements) for statements in data.statements])) < 0.3


@pytest.mark.parametrize("branch", ["ridge", "attention"])
def test_reports_of_the_wrong_cases_tell_nothing(tmp_path, branch):
    data = reports(150, 2)
    wrong = ReportedCases(data.statements[1:] + data.statements[:1], data.time, data.event, data.site)
    fit = fitted(wrong, tmp_path, text_branch=branch)
    assert fit_gate(risk=fit.risk, time=data.time, event=data.event).value < 0.5


def test_follow_up_that_nobody_outlives_teaches_a_ridge_nothing(tmp_path):
    data = reports(20, 3)
    event = np.zeros(20, dtype=bool)
    event[np.argsort(data.time)[-1]] = True
    alone = ReportedCases(data.statements, data.time, event, data.site)
    fit = fitted(alone, tmp_path, text_branch="ridge")
    assert not fit.risk.any()
    assert fit.text.log_hazard(data.statements[0]) == 0
