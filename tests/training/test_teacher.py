from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Cohort
from wsisurv.errors import (
    CohortError,
    EncoderMismatchError,
    MissingArtifactError,
    SettingsError,
    StaleError,
)
from wsisurv.formats.atomic import read_jsonl
from wsisurv.formats.guidance import read_guidance
from wsisurv.formats.models import read_model
from wsisurv.models.teacher import load_teacher
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.training import TeacherSettings
from wsisurv.training.teacher import train_teacher

FAST = TeacherSettings(
    hidden=16,
    epochs=10,
    learning_rate=2e-2,
    text_branch="attention",
    text_hidden=16,
    text_epochs=30,
    repeats=2,
    folds=3,
    text_folds=3,
)


def test_reports_that_tell_the_risk_open_the_gate(make_trial):
    trial = make_trial(80, seed=3, effect=2.0, reported=0.9)
    result = train_teacher(trial.workspace, trial.cohort, FAST)
    guidance, header = read_guidance(trial.path("guidance.h5"))
    told = np.isfinite(guidance.risk)
    assert result.gate > 0
    assert result.text_concordance > 0.55
    assert result.warnings == ()
    assert told.sum() == result.n_reports < result.n_cases == 80
    assert header.inputs["cohort"] == trial.cohort.fingerprint
    assert guidance.case_ids == tuple(case.case_id for case in trial.cohort.cases)

    assert set(guidance.fold) == {0, 1, 2}
    for k, risk in enumerate(guidance.risk_without):
        assert (np.isfinite(risk) == (told & (guidance.fold != k))).all()

    for case in trial.cohort.cases:
        assert guidance.relevance[case.case_id].sum() == pytest.approx(1, abs=1e-5)

    teacher = load_teacher(read_model(trial.path("teacher.h5"), "teacher")[0])
    tiles = np.zeros((3, 12), np.float16)
    assert np.isfinite(teacher.log_hazard(tiles, np.zeros((2, 24), np.float32)))

    lines = read_jsonl(trial.path("history.jsonl"))
    assert {"step", "part", "epoch", "loss"} <= lines[0].keys()
    assert lines[-1]["gate"] == result.gate
    assert lines[-1]["gate_se"] == result.gate_se


def test_guidance_without_a_fold_knows_no_outcome_of_it(make_trial):
    """Swap the outcomes of one fold's cases among themselves: guidance made without that fold must not move."""
    trial = make_trial(60)
    train_teacher(trial.workspace, trial.cohort, FAST)
    before, _ = read_guidance(trial.path("guidance.h5"))
    cases = list(trial.cohort.cases)
    rows = [i for i in np.flatnonzero(before.fold == 1) if cases[i].event]
    turned = [cases[i].time for i in rows[1:] + rows[:1]]
    for i, time in zip(rows, turned, strict=True):
        cases[i] = replace(cases[i], time=time)
    train_teacher(trial.workspace, replace(trial.cohort, cases=tuple(cases)), FAST, redo=True)
    after, _ = read_guidance(trial.path("guidance.h5"))
    assert (before.fold == after.fold).all()
    np.testing.assert_array_equal(before.risk_without[1], after.risk_without[1])
    assert before.gate_without[1] == after.gate_without[1]
    assert (before.risk != after.risk).any()
    assert (before.risk_without[0][before.fold == 2] != after.risk_without[0][before.fold == 2]).any()


@pytest.mark.parametrize("keep", [False, True])
def test_hospitals_are_kept_whole_where_asked(make_trial, keep):
    trial = make_trial(60)  # six hospitals
    train_teacher(trial.workspace, trial.cohort, FAST.model_copy(update={"keep_sites": keep}))
    guidance, _ = read_guidance(trial.path("guidance.h5"))
    sites = np.array([case.site for case in trial.cohort.cases])
    folds_of = [set(guidance.fold[sites == site].tolist()) for site in np.unique(sites)]
    assert all(len(folds) == 1 for folds in folds_of) is keep


def test_hospitals_that_can_t_be_kept_whole_are_a_warning(make_trial):
    trial = make_trial(30)
    unknown = replace(trial.cohort, cases=tuple(replace(case, site=None) for case in trial.cohort.cases))
    result = train_teacher(trial.workspace, unknown, FAST.model_copy(update={"keep_sites": True}))
    assert any("hospitals could not be kept whole" in line for line in result.warnings)


def test_a_case_has_no_say_in_its_own_risk(make_trial):
    """A case that is held out of a text model must not move that model: its report may say anything."""
    trial = make_trial(60)
    train_teacher(trial.workspace, trial.cohort, replace_settings(repeats=1))
    guidance, _ = read_guidance(trial.path("guidance.h5"))
    told = np.isfinite(guidance.risk)
    in_sample = read_model(trial.path("teacher.h5"), "teacher")[0].arrays["text/centres"]
    assert told.all()
    assert len(in_sample) == FAST.folds


def replace_settings(**changes):
    return FAST.model_copy(update=changes)


def test_run_again_keeps_the_files_and_says_the_same(make_trial):
    trial = make_trial(40)
    first = train_teacher(trial.workspace, trial.cohort, FAST)
    stamp = trial.path("teacher.h5").stat().st_mtime_ns
    again = train_teacher(trial.workspace, trial.cohort, FAST)
    assert again == first.model_copy(update={"kept": True})
    assert trial.path("teacher.h5").stat().st_mtime_ns == stamp


def test_one_seed_gives_one_file_bit_by_bit(make_trial):
    one, two = make_trial(40, folder="one"), make_trial(40, folder="two")
    for trial in (one, two):
        train_teacher(trial.workspace, trial.cohort, FAST)
    for name in ("teacher.h5", "guidance.h5", "history.jsonl"):
        assert one.path(name).read_bytes() == two.path(name).read_bytes(), name
    train_teacher(two.workspace, two.cohort, replace_settings(seed=1), redo=True)
    assert one.path("guidance.h5").read_bytes() != two.path("guidance.h5").read_bytes()


def test_other_settings_or_another_cohort_are_stale(make_trial):
    trial = make_trial(40)
    train_teacher(trial.workspace, trial.cohort, FAST)
    with pytest.raises(StaleError, match="epochs: 10 → 11"):
        train_teacher(trial.workspace, trial.cohort, replace_settings(epochs=11))
    smaller = Cohort("trial", trial.cohort.cases[:-1], trial.cohort.settings)
    with pytest.raises(StaleError, match="cohort"):
        train_teacher(trial.workspace, smaller, FAST)
    assert not train_teacher(trial.workspace, smaller, FAST, redo=True).kept


def test_an_interrupted_training_leaves_nothing_half_made(make_trial):
    trial = make_trial(40)

    def interrupt(done, total, _what):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_teacher(trial.workspace, trial.cohort, FAST, progress=interrupt)
    assert [path.name for path in trial.path("").glob("*")] == ["history.jsonl"]
    assert not train_teacher(trial.workspace, trial.cohort, FAST).kept


def test_no_reports_at_all_closes_the_gate_and_warns(make_trial):
    trial = make_trial(40, reported=0.0)
    result = train_teacher(trial.workspace, trial.cohort, FAST)
    guidance, _ = read_guidance(trial.path("guidance.h5"))
    assert result.gate == 0
    assert result.n_reports == 0
    assert result.text_concordance is None
    assert np.isnan(guidance.risk).all()
    assert "no case of this cohort has statements" in result.warnings[0]


def test_reports_of_other_cases_close_the_gate_and_warn(make_trial):
    trial = make_trial(60, effect=0.0)
    result = train_teacher(trial.workspace, trial.cohort, FAST)
    assert result.gate < 0.5
    if result.gate == 0:
        assert "gate 0" in result.warnings[-1]


def test_missing_features_name_the_slide_and_the_command(make_trial):
    trial = make_trial(40)
    slide = trial.cohort.cases[3].slide_ids[0]
    trial.workspace.features("histomics", slide).unlink()
    with pytest.raises(MissingArtifactError, match=rf"{slide}.*wsisurv embed"):
        train_teacher(trial.workspace, trial.cohort, FAST)


def test_vectors_of_another_text_encoder_are_named(make_trial):
    trial = make_trial(40)
    with pytest.raises(MissingArtifactError, match="vectors of hashing"):
        train_teacher(trial.workspace, trial.cohort, replace_settings(text_encoder="bert"))


@pytest.mark.parametrize(
    ("width", "mpp", "named"), [(13, 0.5, "features a tile: 12 and 13"), (12, 0.25, "tile_mpp: 0.5 and 0.25")]
)
def test_slides_made_in_different_ways_are_refused(make_trial, width, mpp, named):
    trial = make_trial(40)
    trial.simulation.write_slide_features(
        trial.workspace, "case0005-0", np.ones((5, width), np.float16), EmbedSettings(), mpp
    )
    with pytest.raises(EncoderMismatchError, match=rf"case0000-0 and case0005-0.*{named}"):
        train_teacher(trial.workspace, trial.cohort, FAST)


def test_random_weights_are_refused_unless_allowed(make_trial):
    trial = make_trial(40)
    embed = EmbedSettings(encoder="timm:vit", weights="random")
    data = trial.simulation.simulate(trial.simulation.make_world(0, 12, 24), 40, 0, tiles=(10, 30))
    cohort = trial.simulation.save(trial.workspace, data, embed=embed)
    settings = replace_settings(encoder=embed.folder, repeats=1, text_epochs=5, epochs=3)
    with pytest.raises(SettingsError, match="--allow-random-weights"):
        train_teacher(trial.workspace, cohort, settings)
    assert train_teacher(trial.workspace, cohort, settings, allow_random_weights=True).n_cases == 40


def test_cases_without_a_tile_are_left_out_and_named(make_trial):
    trial = make_trial(40)
    trial.simulation.write_slide_features(trial.workspace, "case0005-0", np.ones((0, 12), np.float16), EmbedSettings())
    result = train_teacher(trial.workspace, trial.cohort, FAST)
    assert result.n_cases == 39
    assert "case0005" in result.warnings[0]


def test_too_few_events(make_trial):
    trial = make_trial(40)
    none = tuple(replace(case, event=False) for case in trial.cohort.cases)
    with pytest.raises(CohortError, match=r"0 event\(s\)"):
        train_teacher(trial.workspace, replace(trial.cohort, cases=none), FAST)
    few = tuple(replace(case, event=number % 10 == 0) for number, case in enumerate(trial.cohort.cases))
    result = train_teacher(trial.workspace, replace(trial.cohort, cases=few), FAST)
    assert "only 4 events" in result.warnings[0]


def test_a_device_that_is_not_there_is_refused(make_trial):
    trial = make_trial(40)
    with pytest.raises(SettingsError, match="--device nonsense"):
        train_teacher(trial.workspace, trial.cohort, FAST, device="nonsense")


def test_a_ridge_as_the_text_branch_is_in_the_teacher_s_file(make_trial):
    trial = make_trial(40, effect=2.0)
    ridge = FAST.model_copy(update={"text_branch": "ridge", "epochs": 1, "repeats": 1, "folds": 2})
    result = train_teacher(trial.workspace, trial.cohort, ridge)
    guidance, _ = read_guidance(trial.path("guidance.h5"))
    assert np.isfinite(guidance.risk).sum() == result.n_reports
    assert any("ridge" in line for line in read_jsonl(trial.path("history.jsonl")))
    teacher = load_teacher(read_model(trial.path("teacher.h5"), "teacher")[0])
    reports = [np.random.default_rng(seed).normal(0, 1, (3, 24)).astype(np.float32) for seed in range(5)]
    assert len({teacher.text.log_hazard(report) for report in reports}) == 5
