"""A hospital's style of report and stain of slide, and its patients, are not what reports tell of a case."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simulation
import torch

from wsisurv.engine.progress import no_progress
from wsisurv.settings.training import TeacherSettings
from wsisurv.survival.follow_up import one_after_another
from wsisurv.survival.ridge import ridge_path
from wsisurv.survival.splits import hospital_folds, hospital_strata, within_strata
from wsisurv.training import teacher
from wsisurv.training.crossfit import ReportedCases, cross_fit_text, fit_gate
from wsisurv.training.inputs import read_training_cases
from wsisurv.training.loop import Log
from wsisurv.training.subspace import find_subspaces
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace

HOSPITALS = 8


def confounded(n: int, seed: int, own: float = 0.0) -> Any:
    """Style, stain and hazard follow the hospital; ``own`` of a case's hazard is in its report and in its tiles."""
    random = np.random.default_rng(seed)
    hospital = random.integers(0, HOSPITALS, n)
    style, stain = random.normal(size=(HOSPITALS, 24)), random.normal(size=(HOSPITALS, 16))
    level, worse = random.normal(size=n), np.linspace(-1.5, 1.5, HOSPITALS)[random.permutation(HOSPITALS)]
    said, shown = style[hospital] + random.normal(0, 0.5, (n, 24)), stain[hospital]
    said[:, 0] += 3 * own * level
    shown[:, 0] += 3 * own * level
    bags = [(one + random.normal(0, 1, (30, 16))).astype(np.float16) for one in shown]
    reports = [(one + random.normal(0, 0.5, (4, 24))).astype(np.float32) for one in said]
    hazard = worse[hospital] + own * level
    death, end = random.exponential(np.exp(-hazard)) * 500, random.uniform(100, 1500, n)
    return simulation.Simulated(
        bags, reports, np.minimum(death, end).round() + 1, death <= end, [f"h{one}" for one in hospital], hazard
    )


def gate(data: Any, tmp_path: Path, branch: str, *, known: bool) -> float:
    site = data.site if known else [None] * len(data.site)
    reported = ReportedCases(data.reports, data.time, data.event, site)
    settings = TeacherSettings(text_epochs=20, repeats=1, text_folds=4, text_branch=branch)
    log = Log(tmp_path / "history.jsonl", "train-teacher", no_progress)
    risk = cross_fit_text(reported, settings, seed=0, part="text", log=log).risk
    return fit_gate(risk=risk, time=data.time, event=data.event, site=site).value


@pytest.mark.parametrize("branch", ["ridge", "attention"])
def test_a_report_that_only_names_the_hospital_opens_no_gate(tmp_path, branch):
    worlds = [confounded(160, seed) for seed in range(5)]
    assert np.mean([gate(world, tmp_path, branch, known=True) for world in worlds]) < 0.2
    if branch == "ridge":
        assert min(gate(world, tmp_path, branch, known=False) for world in worlds) == 1  # what was planted
    assert gate(confounded(160, 9, own=1.0), tmp_path, branch, known=True) == 1


def test_gate_and_subspace_stay_closed_and_unknown_hospitals_are_said(tmp_path, monkeypatch):
    settings = TeacherSettings(epochs=2, folds=2, text_folds=4, repeats=1)

    def trained(name: str, data: Any, *, known: bool) -> tuple[Any, float | None, bool]:
        workspace = Workspace(tmp_path / name)
        cohort = simulation.save(workspace, data)
        if not known:
            cohort = replace(cohort, cases=tuple(replace(case, site=None) for case in cohort.cases))
        read = []
        monkeypatch.setattr(
            teacher,
            "read_training_cases",
            lambda *given, **named: read.append(read_training_cases(*given, **named)) or read[-1],
        )
        result = train_teacher(workspace, cohort, settings, device="cpu")
        (cases,) = read
        log, everyone = Log(tmp_path / f"{name}.jsonl", "distill", no_progress), np.arange(len(cases.case_ids))
        found = find_subspaces(cases, [everyone], [0], torch.device("cpu"), log)
        return result, found.explained, found.bases is not None

    planted = confounded(160, 0)
    result, explained, opened = trained("known", planted, known=True)
    assert (result.gate, opened) == (0, False)
    assert explained < 0.05
    assert not any("can't be excluded" in warning for warning in result.warnings)
    result, explained, opened = trained("unknown", planted, known=False)
    assert (result.gate, opened) == (1, True)
    assert explained > 0.3
    assert any("known of 0 of 160 cases: it can't be excluded" in warning for warning in result.warnings)
    result, explained, opened = trained("linked", confounded(160, 0, own=1.0), known=True)
    assert (result.gate, opened) == (1, True)  # what holds within a hospital is found as before


def test_strata_are_the_likelihood_of_each_alone():
    random = np.random.default_rng(0)
    x, stratum = random.normal(size=(90, 2)), np.repeat([2, 0, 1], 30)
    time, event = np.ceil(random.exponential(5, 90)), random.random(90) < 0.6
    at, entry = one_after_another(time, stratum)
    (found,) = ridge_path(variables=x, time=at, event=event, entry=entry, ridges=(0.1,))

    def penalised(at: Any) -> float:
        risk = x @ at
        at_risk = (time[None] >= time[:, None]) & (stratum[None] == stratum[:, None])
        told = sum(risk[i] - np.log(np.exp(risk[at_risk[i]]).sum()) for i in np.flatnonzero(event))
        return float(told - 90 * 0.1 / 2 * at @ at)

    for step in np.eye(2) * 1e-3:
        assert penalised(found) > max(penalised(found + step), penalised(found - step))
    shifted = x + 100.0 * stratum[:, None]  # what is the same within each tells nothing
    (again,) = ridge_path(variables=shifted, time=at, event=event, entry=entry, ridges=(0.1,))
    assert again == pytest.approx(found, abs=1e-6)


def test_an_unknown_hospital_may_be_any():
    assert hospital_strata(["a", "a", None, "", "b", "b"]).tolist() == [2, 2, 0, 1, 3, 3]
    assert hospital_strata(["a", None, ""]) is None
    assert hospital_strata(["a", "a"]) is None
    assert hospital_strata([]) is None
    hospital = np.array([0] * 8 + [1, 2])
    assert len(set(zip(hospital, hospital_folds(hospital, hospital < 2, 10), strict=True))) == 3
    assert within_strata(np.arange(10.0)[:, None], hospital)[8:].tolist() == [[0.0], [0.0]]
