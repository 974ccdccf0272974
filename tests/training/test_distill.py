from dataclasses import replace

import numpy as np
import pytest

from wsisurv.bags.cases import find_bags
from wsisurv.errors import MissingArtifactError, SettingsError, StaleError
from wsisurv.formats.guidance import Guidance, read_guidance, write_guidance
from wsisurv.formats.models import CARD_VERSION, read_model, write_model
from wsisurv.models.ensemble import load_student
from wsisurv.prediction.card import read_scale
from wsisurv.prediction.step import predict_cases, training_folds
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.training import DistillSettings, TeacherSettings
from wsisurv.training.distill import distill
from wsisurv.training.inputs import METHOD_VERSION
from wsisurv.training.teacher import train_teacher

TEACHER = TeacherSettings(hidden=16, epochs=5, text_hidden=16, text_epochs=30, repeats=1, folds=3, text_folds=3)
FAST = DistillSettings(hidden=16, epochs=4, pretrain_epochs=2, members=3)


def test_both_students_are_written_with_all_that_use_needs(make_trial):
    trial = make_trial(120, effect=2.0, taught=TEACHER)
    assert train_teacher(trial.workspace, trial.cohort, TEACHER).gate > 0
    result = distill(trial.workspace, trial.cohort, FAST)
    student, header = read_model(trial.path("student_distilled.h5"), "student")
    plain, _ = read_model(trial.path("student_plain.h5"), "student")
    assert result.difference == pytest.approx(result.distilled_concordance - result.plain_concordance)
    assert result.difference_low <= result.difference <= result.difference_high
    assert set(header.inputs) == {"cohort", "features", "statements", "guidance", *METHOD_VERSION, *CARD_VERSION}
    assert student.card.encoder == "histomics"
    assert student.card.n_features == 12
    assert len(student.card.feature_names) == 12
    assert student.card.tile_settings == {"tile_px": 224, "tile_mpp": 0.5}
    assert student.card.embed_settings["encoder"] == "histomics"
    assert student.card.cut_offs.low < student.card.cut_offs.high
    assert student.card.guided is True
    assert plain.card.guided is False
    assert "case00" not in str(student.card)
    risks = student.arrays["training_risks"]
    assert risks.shape == (120,)
    assert (np.diff(risks) >= 0).all()
    assert not np.array_equal(risks, plain.arrays["training_risks"])
    low, high = np.quantile(risks, [1 / 3, 2 / 3])
    assert (student.card.cut_offs.low, student.card.cut_offs.high) == pytest.approx((low, high))
    assert student.card.reference == "mean of members"
    assert (student.card.calibration.slope < 0.3) == any("calibration slope" in line for line in result.warnings)
    ensemble = load_student(student)
    assert len(ensemble.members) == 3
    assert np.isfinite(ensemble.log_hazard(np.ones((4, 12), np.float16)))


def test_the_result_says_what_tiles_tell_of_reports_and_along_how_many_directions_they_are_seen(make_trial):
    trial = make_trial(150, clear=True, taught=TEACHER)
    result = distill(trial.workspace, trial.cohort, FAST)
    ensemble = load_student(read_model(trial.path("student_distilled.h5"), "student")[0])
    ranks = [np.linalg.matrix_rank(one.embed.weight.detach().numpy(), rtol=1e-4) for one in ensemble.members]
    assert result.reports_told > 0.25
    assert result.directions == tuple(ranks)
    assert 0 < max(ranks) < 16
    assert distill(trial.workspace, trial.cohort, FAST) == result.model_copy(update={"kept": True})
    all_features = distill(
        trial.workspace, trial.cohort, FAST.model_copy(update={"feature_subspace": "all"}), redo=True
    )
    assert all_features.reports_told is None
    assert all_features.directions == ()


def test_members_look_along_directions_all_or_none_so_that_they_have_one_width(make_trial):
    """A fold whose gate is shut has a plain member, which sees all features."""
    trial = make_trial(150, clear=True, taught=TEACHER)
    path = trial.path("guidance.h5")
    guidance, header = read_guidance(path)
    gates = guidance.gate_without.copy()
    gates[1] = 0
    write_guidance(path, replace(guidance, gate_without=gates), header)
    result = distill(trial.workspace, trial.cohort, FAST)
    ensemble = load_student(read_model(trial.path("student_distilled.h5"), "student")[0])
    assert result.n_reports == 150
    assert (result.reports_told, result.directions) == (None, ())
    assert {one.embed.out_features for one in ensemble.members} == {16}


def test_a_closed_gate_makes_the_student_the_plain_one(make_trial):
    trial = make_trial(40, reported=0.0, taught=TEACHER)
    result = distill(trial.workspace, trial.cohort, FAST)
    student, _ = read_model(trial.path("student.h5"), "student")
    plain, _ = read_model(trial.path("student_plain.h5"), "student")
    assert result.gate == 0
    assert result.difference == 0
    assert any("gate 0" in line for line in result.warnings)
    for name, array in student.arrays.items():
        np.testing.assert_array_equal(array, plain.arrays[name])


def test_out_of_fold_risks_owe_nothing_to_the_outcomes_of_the_fold(make_trial):
    """Turn the outcomes of one fold round: members that must not know the fold stay as they were."""
    trial = make_trial(60, effect=2.0)
    members = []
    cohort = trial.cohort
    for turn in range(2):
        train_teacher(trial.workspace, cohort, TEACHER, redo=True)
        distill(trial.workspace, cohort, FAST, redo=True)
        members.append(read_model(trial.path("student_distilled.h5"), "student")[0].arrays)
        if turn == 0:
            fold = read_guidance(trial.path("guidance.h5"))[0].fold
            cases = list(cohort.cases)
            rows = [i for i in np.flatnonzero(fold == 0) if cases[i].event]
            for i, time in zip(rows, [cases[i].time for i in rows[::-1]], strict=True):
                cases[i] = replace(cases[i], time=time)
            cohort = replace(cohort, cases=tuple(cases))
    name = "members/{}/embed.weight"
    np.testing.assert_array_equal(members[0][name.format(0)], members[1][name.format(0)])
    assert not np.array_equal(members[0][name.format(1)], members[1][name.format(1)])


def test_run_again_keeps_and_one_seed_gives_one_file(make_trial):
    one, two = make_trial(40, folder="one"), make_trial(40, folder="two")
    for trial in (one, two):
        train_teacher(trial.workspace, trial.cohort, TEACHER)
        result = distill(trial.workspace, trial.cohort, FAST)
    for name in ("student.h5", "student_distilled.h5", "student_plain.h5"):
        assert one.path(name).read_bytes() == two.path(name).read_bytes()
    assert distill(two.workspace, two.cohort, FAST) == result.model_copy(update={"kept": True})


def test_mixup_trains_another_student(make_trial):
    trial = make_trial(120, effect=2.0, taught=TEACHER)
    arrays = []
    for mixup in ("none", "risk"):
        distill(trial.workspace, trial.cohort, FAST.model_copy(update={"mixup": mixup}), redo=True)
        student = read_model(trial.path("student_distilled.h5"), "student")[0]
        assert student.card.guided
        arrays.append(student.arrays)
    names = [f"members/{member}/hazard.weight" for member in range(3)]
    assert all(np.isfinite(arrays[1][name]).all() for name in names)
    assert any((arrays[0][name] != arrays[1][name]).any() for name in names)


def test_distilling_needs_guidance_of_this_cohort(make_trial):
    trial = make_trial(40)
    with pytest.raises(MissingArtifactError, match="wsisurv train-teacher"):
        distill(trial.workspace, trial.cohort, FAST)
    train_teacher(trial.workspace, trial.cohort, TEACHER)
    other = replace(trial.cohort, cases=trial.cohort.cases[:-1])
    with pytest.raises(StaleError, match="cohort is not the one it was made from"):
        distill(trial.workspace, other, FAST)


def test_new_features_make_guidance_stale(make_trial):
    trial = make_trial(40, taught=TEACHER)
    trial.simulation.write_slide_features(trial.workspace, "case0005-0", np.ones((9, 12), np.float16), EmbedSettings())
    with pytest.raises(StaleError, match="features is not the one it was made from"):
        distill(trial.workspace, trial.cohort, FAST)


def test_other_settings_are_stale_and_too_few_members_refused(make_trial):
    trial = make_trial(40, taught=TEACHER)
    with pytest.raises(SettingsError, match="--members 2 is fewer than the teacher's 3 folds"):
        distill(trial.workspace, trial.cohort, FAST.model_copy(update={"members": 2}))
    distill(trial.workspace, trial.cohort, FAST)
    with pytest.raises(StaleError, match="dropout"):
        distill(trial.workspace, trial.cohort, FAST.model_copy(update={"dropout": 0.3}))
    path = trial.path("student.h5")
    model, header = read_model(path, "student")
    older = {name: value for name, value in header.inputs.items() if name not in CARD_VERSION}
    write_model(path, model, replace(header, inputs=older))
    with pytest.raises(StaleError, match="wsisurv's version of the student's card is not the one"):
        distill(trial.workspace, trial.cohort, FAST)
    assert not distill(trial.workspace, trial.cohort, FAST, redo=True).kept
    assert read_model(path, "student")[1].inputs == header.inputs


def test_guidance_is_read_back_as_written(tmp_path, make_trial):
    trial = make_trial(40, taught=TEACHER)
    guidance, header = read_guidance(trial.path("guidance.h5"))
    write_guidance(tmp_path / "copy.h5", guidance, header)
    again, _ = read_guidance(tmp_path / "copy.h5")
    assert isinstance(again, Guidance)
    np.testing.assert_array_equal(again.risk_without, guidance.risk_without)
    np.testing.assert_array_equal(again.fold, guidance.fold)
    np.testing.assert_array_equal(again.gate_without, guidance.gate_without)


def test_predict_gives_a_training_case_the_risk_of_its_training_to_the_bit(make_trial):
    trial = make_trial(40, taught=TEACHER)
    distill(trial.workspace, trial.cohort, FAST)
    slides = {str(case.case_id): case.slide_ids for case in trial.cohort.cases}
    folds = training_folds(trial.path("student.h5"), trial.path("guidance.h5"))
    predicted = predict_cases(trial.path("student.h5"), find_bags(trial.workspace, "histomics", slides), fold_of=folds)
    scale = read_scale(trial.path("student.h5"))
    placed = {risk.case_id: scale.out_of_fold.placed(risk.log_hazard, folds[risk.case_id]) for risk in predicted.risks}
    assert sorted(placed.values()) == scale.training_risks.tolist()
    by_risk = sorted(predicted.risks, key=lambda risk: placed[risk.case_id])
    assert [risk.risk_percentile for risk in by_risk] == pytest.approx([100 * n / 40 for n in range(40)])
