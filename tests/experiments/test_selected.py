"""The selected student has a row of its own: chosen anew in each fold, and the default everywhere."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from wsisurv.experiments import fold_models
from wsisurv.experiments.fold_models import beside_covariates
from wsisurv.formats.features import read_features
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import STUDENT_FILES, read_model
from wsisurv.models.ensemble import load_student
from wsisurv.pages.model_card import own_figures
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.survival.metrics import concordance
from wsisurv.training import distill as distilling
from wsisurv.training.choice import choose_student
from wsisurv.training.distill import distill
from wsisurv.training.teacher import train_teacher

SETTINGS = CrossvalSettings(folds=2, repeats=1, covariates=("age",), resamples=100)


@pytest.fixture
def alternating(monkeypatch):
    """Distilling selects the distilled student, then the plain one, and so on."""
    winners = itertools.cycle(("distilled", "plain"))

    def choose(**students):
        return replace(choose_student(**students), winner=next(winners))

    monkeypatch.setattr(distilling, "choose_student", choose)


def figures(path):
    model, header = read_model(path, "student")
    return own_figures(path, model.card, header)[0]


def unseen(study, path, cases):
    """Log hazard of each case by the members of a student that did not see it."""
    student, _ = read_model(path, "student")
    guidance, _ = read_guidance(path.parent / "guidance.h5")
    fold_of = dict(zip(guidance.case_ids, guidance.fold.tolist(), strict=True))
    risks = []
    for case in cases:
        parts = [read_features(study.workspace.features("histomics", slide))[0].values for slide in case.slide_ids]
        members = load_student(student).members_log_hazard(np.concatenate(parts))
        risks.append(members[np.array(student.card.member_folds) == fold_of[case.case_id]].mean())
    return risks


@pytest.mark.usefixtures("alternating")
def test_each_fold_selects_its_own_student_and_figures_are_of_the_selected(make_study, monkeypatch):
    study = make_study(150, effect=2.0)
    study.teacher = study.teacher.model_copy(update={"text_epochs": 60})
    assert train_teacher(study.workspace, study.cohort, study.teacher).gate > 0
    trained = distill(study.workspace, study.cohort, study.student)
    assert trained.winner == "distilled"
    assert trained.nested is None
    combined = []

    def note(covariates, known, seen, new, risk):
        combined.append((known, np.array(seen), np.array(risk)))
        return beside_covariates(covariates, known, seen, new, risk)

    monkeypatch.setattr(fold_models, "beside_covariates", note)
    result = study.crossval(SETTINGS)  # the folds' choices begin with the plain one
    record = json.loads(result.metrics.read_text())
    assert [fold["selected"] for fold in record["folds"]] == ["plain", "distilled"]
    assert result.table.selected == ("plain", "distilled")
    assert any("the distilled one in 1 of 2 folds" in line for line in result.verdict)
    case_of = {case.case_id: case for case in study.cohort.cases}
    for fold, (known, seen, new) in zip(
        record["folds"], combined[::2], strict=True
    ):  # the other half is of the reports
        saved = json.loads(study.path(f"crossval/{fold['name']}/risks.json").read_text())
        risks, at = saved["risks"], study.path(f"crossval/{fold['name']}")
        assert risks["plain"] != risks["distilled"]  # there is something to choose from
        assert risks["selected"] == risks[fold["selected"]]
        student, _ = read_model(at / "student.h5", "student")
        assert student.card.result.winner == fold["selected"]
        # and it is the one that stands beside the covariates, out of fold in training
        np.testing.assert_allclose(seen, unseen(study, at / "student.h5", known), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(new, risks["selected"])
        tested = [case_of[case_id] for case_id in saved["case_ids"]]
        assert fold["concordance"]["selected"] == pytest.approx(
            concordance(
                log_hazard=risks["selected"],
                time=[case.time for case in tested],
                event=[case.event for case in tested],
            )
        )
    rows = {row["model"]: row["concordance"] for row in record["models"]}
    assert len({rows["plain"], rows["distilled"], rows["selected"]}) == 3
    assert record["added_by_slides"]["model"] == "selected"
    # the cards carry the figures of their own model
    for key, file in STUDENT_FILES.items():
        assert figures(study.path(file)).own.concordance == rows[key]
    # distilling tells the figure that the choice has not flattered
    again = distill(study.workspace, study.cohort, study.student)
    assert again.kept
    assert again.nested.concordance == rows["selected"]
