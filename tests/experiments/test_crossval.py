"""Cross-validation from folds to metrics.json: who is trained on, what is kept, and what is left out and said."""

import json
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsisurv.cohort import Audit, Cohort, write_cohort
from wsisurv.engine.shards import Shard
from wsisurv.errors import ArtifactError, CohortError, FormatError, MetricError, SharesLeftError, StaleError
from wsisurv.experiments import with_slides
from wsisurv.experiments.fold_models import score_fold
from wsisurv.experiments.folds import draw_folds
from wsisurv.formats.atomic import write_json, write_jsonl
from wsisurv.formats.models import read_model
from wsisurv.formats.splits import read_splits
from wsisurv.pipeline.cohort_status import cohort_status
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.survival.metrics import concordance
from wsisurv.training.teacher import train_teacher
from wsisurv.workspace.paths import Workspace

SETTINGS = CrossvalSettings(folds=2, repeats=2, covariates=("age", "stage"), resamples=100)
ALL = [
    "covariates",
    "mean_pool",
    "text",
    "plain",
    "distilled",
    "selected",
    "teacher",
    "student_and_covariates",
    "text_and_covariates",
]


def run(study, settings=SETTINGS, **options):
    return study.crossval(settings, **options)


@pytest.fixture
def trained(monkeypatch):
    """Cohorts whose teachers are trained, in their order."""
    seen = []

    def noted(workspace, cohort, *arguments, **named):
        seen.append(cohort)
        return train_teacher(workspace, cohort, *arguments, **named)

    monkeypatch.setattr(with_slides, "train_teacher", noted)
    return seen


def risks_of(study, name):
    return json.loads(study.path(f"crossval/{name}/risks.json").read_text())


def test_all_models_over_the_same_folds_in_one_table(make_study, trained):
    study = make_study(70, reported=0.8)
    result = run(study)
    record = json.loads(result.metrics.read_text())
    assert [row["model"] for row in record["models"]] == ALL
    for row in record["models"]:
        assert row["low"] <= row["concordance"] <= row["high"]
        assert 0 < row["auc"] < 1
        assert len(row["auc_at"]) == len(record["horizons"])
        assert 0 < row["brier"] < 0.5
        assert row["brier_reference"] == record["models"][0]["brier_reference"]
        assert 0 <= row["d_calibration_p"] <= 1
        assert sum(row["d_calibration_share"]) == pytest.approx(1)
    folds = read_splits(study.path("splits.jsonl"))
    assert len(folds) == result.n_folds == len(record["folds"]) == 4
    assert record["verdict"] == list(result.verdict)
    assert record["settings"]["crossval"]["seed"] == 0
    assert record["versions"]["torch"]
    assert 0 <= record["added_by_slides"]["p"] <= 1
    assert len(record["added_by_slides"]["p_values"]) == 2
    assert {(row["model"], row["minus"]) for row in record["differences"]} >= {
        ("distilled", "plain"),
        ("student_and_covariates", "covariates"),
    }
    # each fold was trained on its training cases, and on them alone
    assert [[case.case_id for case in cohort.cases] for cohort in trained] == [list(f.train) for f in folds]
    # the written risks give the written figures
    case_of = {case.case_id: case for case in study.cohort.cases}
    for fold, row in zip(folds, record["folds"], strict=True):
        saved = risks_of(study, fold.name)
        assert saved["case_ids"] == list(fold.test)
        tested = [case_of[case_id] for case_id in fold.test]
        for model in ALL:
            wanted = concordance(
                log_hazard=saved["risks"][model],
                time=[case.time for case in tested],
                event=[case.event for case in tested],
            )
            assert row["concordance"][model] == pytest.approx(wanted)
    assert study.workspace.cohorts() == []  # folds are no cohorts of the user's


def test_a_tested_outcome_changes_no_risk_of_its_fold(scored, once):
    """The outcomes of the tested cases are turned round: what was fitted without them must stay as it was."""
    study = scored
    first = read_splits(study.path("splits.jsonl"))[0]
    before = risks_of(study, "1-1")
    turned = {case_id: number for number, case_id in enumerate(first.test)}
    cases = [
        replace(case, time=1000.0 + turned[case.case_id]) if case.case_id in turned else case
        for case in study.cohort.cases
    ]
    study.cohort = Cohort("trial", tuple(cases), study.cohort.settings)
    splits = study.path("mine.jsonl")
    splits.write_text(study.path("splits.jsonl").read_text().splitlines(keepends=True)[0])  # that fold will do
    run(study, once, splits=splits, redo=True)
    after = risks_of(study, "1-1")
    assert before["fingerprint"] != after["fingerprint"]
    assert before["risks"] == after["risks"]
    assert before["case_ids"] == after["case_ids"]


def replace_settings(**changes):
    return SETTINGS.model_copy(update=changes)


def test_finished_folds_are_kept_after_an_interruption(make_study, trained):
    study = make_study(40)
    quick = replace_settings(repeats=1, covariates=())

    def interrupt(done, total, _what):
        if done > 0.7 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, quick, progress=interrupt)
    assert not study.path("evaluation/metrics.json").exists()
    assert [cohort.name for cohort in trained] == ["trial/crossval/1-1", "trial/crossval/1-2"]
    trained.clear()
    result = run(study, quick)
    assert result.kept == 1
    assert [cohort.name for cohort in trained] == ["trial/crossval/1-2"]
    trained.clear()
    again = run(study, quick)
    assert trained == []
    assert again == replace(result, kept=2)


def test_folds_in_processes_give_the_same_and_a_stopped_run_does_none_of_them_twice(make_study):
    study, settings = make_study(40), replace_settings(folds=3, repeats=1)
    study.teacher, study.student = (one.model_copy(update={"epochs": 1}) for one in (study.teacher, study.student))
    place = study.path("crossval")
    wanted = run(study, settings)
    alone = {path.parent.name: path.read_bytes() for path in place.glob("*/risks.json")}
    assert len(alone) == 3
    shutil.rmtree(place)
    told = []

    def stop_after_a_fold(done, total, _what):
        told.append((done, total))
        if list(place.glob("*/risks.json")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, settings, workers=2, progress=stop_after_a_fold)
    assert multiprocessing.active_children() == []
    kept = {path: path.stat().st_mtime_ns for path in place.glob("*/risks.json")}
    assert 1 <= len(kept) < 3
    assert told == sorted(told)
    result = run(study, settings, workers=2)
    assert result == replace(wanted, kept=len(kept))
    assert {path.parent.name: path.read_bytes() for path in place.glob("*/risks.json")} == alone
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


def test_shares_of_folds_give_the_same_files_and_the_last_makes_the_figures(make_study, trained):
    study, settings = make_study(40), replace_settings(folds=3, repeats=1)
    metrics = study.path("evaluation/metrics.json")

    def written():
        files = [metrics, study.path("splits.jsonl"), *study.path("crossval").glob("*/risks.json")]
        return {path: path.read_bytes() for path in files}

    wanted, alone = run(study, settings), written()
    shutil.rmtree(study.path("."))
    trained.clear()
    for number in (2, 1):
        with pytest.raises(SharesLeftError, match="left to other shares"):
            run(study, settings, shard=Shard(number, 4))
        assert not metrics.exists()
    with pytest.raises(SharesLeftError, match="the 0 folds of this share are done, and 1 of 3"):
        run(study, settings, shard=Shard(4, 4))
    assert run(study, settings, shard=Shard(3, 4)) == replace(wanted, kept=2)
    assert written() == alone
    assert len(trained) == 3
    assert run(study, settings, shard=Shard(1, 4)) == replace(wanted, kept=3)  # started again, it finds all done


def test_risks_of_training_cases_are_those_that_distilling_saw(make_study, monkeypatch):
    """A run stopped between students and risks scores the training cases anew, to the same bits."""
    study, settings = make_study(40), replace_settings(repeats=1, covariates=("age",))
    seen = []
    monkeypatch.setattr(
        with_slides, "score_fold", lambda *given, **named: seen.append(named["seen"]) or score_fold(*given, **named)
    )
    run(study, settings)
    assert all(isinstance(of_fold, dict) for of_fold in seen)
    before = risks_of(study, "1-1")
    study.path("crossval/1-1/risks.json").unlink()
    run(study, settings)
    assert seen[-1] is None
    assert risks_of(study, "1-1") == before


def test_a_fold_that_fails_is_named(scored, once, monkeypatch):
    def fail(*_given, **_named):
        raise MetricError("no event")

    monkeypatch.setattr(with_slides, "score_fold", fail)
    scored.path("crossval/1-1/risks.json").unlink()
    with pytest.raises(MetricError, match=r"^fold 1-1: no event"):
        run(scored, once)


def test_other_settings_splits_or_data_are_stale(scored, once):
    study = scored
    study.teacher = study.teacher.model_copy(update={"epochs": 7})
    with pytest.raises(StaleError, match=r"1-1 and 1 more: .*teacher.epochs: 6 → 7.*--redo"):
        run(study, once)
    study.teacher = study.teacher.model_copy(update={"epochs": 6})
    with pytest.raises(StaleError, match=r"splits.jsonl: .*other folds"):
        run(study, replace_settings(repeats=1, covariates=(), seed=1))
    with pytest.raises(StaleError, match="covariates"):
        run(study, replace_settings(repeats=1, covariates=("age",)))
    whole = study.path("crossval/1-2/risks.json").read_bytes()
    for damaged in (b"{", b"[]", whole.replace(b'"risks"', b'"risk"'), b"\xff", whole[:-9]):
        study.path("crossval/1-2/risks.json").write_bytes(damaged)
        with pytest.raises(FormatError, match=r"1-2.*damaged.*Delete it"):
            run(study, once)
    assert run(study, once, redo=True).kept == 1  # what is damaged is no reason to stop what replaces it
    assert study.path("crossval/1-2/risks.json").read_bytes() == whole


def state(study):
    """Of cross-validation, as `status` tells it."""
    audit = Audit(40, 40, 40, 40, 40, 20, 40, 40, 0, "days", 300.0, {}, (), (), (), ())
    write_cohort(study.path(""), study.cohort, audit)
    return cohort_status(study.workspace, study.cohort.name, {}).parts["crossval"]


def test_status_tells_figures_of_other_folds_than_are_there(scored):
    study = scored
    fold = study.path("crossval/1-2/risks.json")
    whole, metrics = fold.read_text(), study.path("evaluation/metrics.json")
    assert state(study) == "done"
    shutil.copy(study.path("crossval/1-1/student.h5"), study.path("student.h5"))
    assert state(study) == "stale: of another cohort than the student"
    study.path("student.h5").unlink()
    write_json(fold, {**json.loads(whole), "fingerprint": "of other settings"})
    assert state(study) == "stale: of 2 folds 1 made anew since the figures"
    fold.write_text("{")
    assert state(study) == "stale: 1 of 2 folds can't be read"
    fold.unlink()
    assert state(study) == "stale: of 2 folds 1 gone since the figures"
    figures = metrics.read_text()
    metrics.unlink()
    assert state(study) == "1 of 2 folds"
    settings = json.loads(whole)["settings"]
    write_json(fold, {**json.loads(whole), "settings": {**settings, "covariates": ["age"]}})
    assert state(study).startswith("stale: 1 of the 2 folds that are done have other settings than most: covariates: ")
    fold.write_text(whole)
    assert state(study) == "2 of 2 folds"
    metrics.write_text(figures)
    study.cohort = replace(study.cohort, cases=study.cohort.cases[1:])
    assert state(study) == "stale: cohort made anew since"
    metrics.write_text("{}")
    assert "metrics.json" in state(study)


def test_without_reports_and_covariates_their_rows_are_left_out_and_said_to_be(make_study):
    study = make_study(50, reported=0.0)
    result = run(study, replace_settings(repeats=1, covariates=()))
    assert [row.model for row in result.table.models] == ["mean_pool", "plain", "selected"]
    frame = result.to_frame()
    assert list(frame.index) == ["mean_pool", "plain", "selected"]
    assert frame.loc["plain", "concordance"] == result.table.model("plain").concordance
    assert frame.loc["plain", "low"] < frame.loc["plain", "high"]
    assert any("no case has statements" in line for line in result.warnings)
    assert any("no covariates named" in line for line in result.warnings)
    assert result.table.added is None
    assert any("name --covariates" in line for line in result.verdict)


def test_a_leak_stops_before_any_training_and_can_be_kept_together(make_study, trained):
    study = make_study(40)
    quick = replace_settings(repeats=1, covariates=())
    first = draw_folds(study.cohort, n_folds=2, repeats=1, seed=0).folds[0]
    one, other = first.train[0], first.test[0]
    slides_of = {case.case_id: case.slide_ids for case in study.cohort.cases}
    cases = tuple(
        replace(case, slide_ids=(*case.slide_ids, *slides_of[other])) if case.case_id == one else case
        for case in study.cohort.cases
    )
    study.cohort = Cohort("trial", cases, study.cohort.settings)
    with pytest.raises(CohortError, match=rf"{one}.*{other}|{other}.*{one}"):
        run(study, quick)
    assert trained == []
    result = run(study, quick, keep_together=True)
    assert result.n_folds == 2
    assert any("on one side" in line for line in result.warnings)


def test_cases_without_a_tile_and_unknown_covariates(make_study):
    study = make_study(40)
    with pytest.raises(CohortError, match=r"no covariate grade; it has age, stage"):
        run(study, replace_settings(covariates=("grade",)))
    from wsisurv.formats.features import read_features, write_features

    path = study.workspace.features("histomics", "case0005-0")
    features, header = read_features(path)
    empty = replace(features, values=np.zeros((0, 10), np.float16), coords=np.zeros((0, 2), np.int64))
    write_features(path, empty, header)
    result = run(study, replace_settings(repeats=1, covariates=()))
    assert any("no tile was found: case0005" in line for line in result.warnings)
    assert result.table.cases == 39


def test_two_runs_at_once_are_refused(make_study):
    study = make_study(40)
    with study.workspace.claim("crossval", "trial"), pytest.raises(ArtifactError, match="another process"):
        run(study)


def test_words_are_learned_in_each_fold_anew(make_study):
    """With tf-idf a word of the tested reports alone must be unknown, and reports must still be read."""
    study = make_study(40)
    random = np.random.default_rng(0)
    words = "gland stroma necrosis mucin grade lymphocytes margin budding".split()
    records = []
    for case in study.cohort.cases:
        said = [f"{words[i]} and {words[j]} {case.case_id}" for i, j in random.integers(8, size=(3, 2))]
        statements = [
            {
                "statement_id": f"{case.case_id}/{number}",
                "category": "other_morphology",
                "polarity": "present",
                "text": text,
                "evidence": text,
                "start": 0,
                "end": len(text),
                "match": "exact",
            }
            for number, text in enumerate(said)
        ]
        records.append(
            {
                "case_id": case.case_id,
                "fingerprint": case.case_id,
                "report_sha256": case.case_id,
                "statements": statements,
            }
        )
    write_jsonl(study.workspace.statements, records)
    study.teacher = study.teacher.model_copy(update={"text_encoder": "tfidf"})
    result = run(study, replace_settings(repeats=1, covariates=()))
    assert result.table.model("text") is not None
    risks = risks_of(study, "1-1")["risks"]["text"]
    assert np.std(risks) > 0
    teacher, _ = read_model(study.path("crossval/1-1/teacher.h5"), "teacher")
    known = set(" ".join(teacher.card.tfidf.terms).split())
    first = read_splits(study.path("splits.jsonl"))[0]
    assert {"gland", "stroma"} <= known
    assert known & set(first.train)  # each case's own id is a word here, said in three statements
    assert not known & set(first.test)


def test_a_damaged_teacher_of_a_fold_is_named_and_not_copied(scored, tmp_path):
    fold = scored.path("crossval/1-1")
    assert with_slides.copy_teacher(fold, tmp_path / "copy") == ()
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"teacher.h5", "guidance.h5"}
    for name in ("teacher.h5", "guidance.h5"):
        whole = (fold / name).read_bytes()
        (fold / name).write_bytes(whole[: len(whole) // 2])
        (warning,) = with_slides.copy_teacher(fold, tmp_path / "other")
        assert str(fold / name) in warning
        assert not (tmp_path / "other").exists()
        (fold / name).write_bytes(whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what distributed warns of is its own
def test_folds_on_a_dask_cluster_are_those_of_this_machine(make_study, once, monkeypatch):
    distributed = pytest.importorskip("distributed")
    from wsisurv.engine.dask import dask_pool

    study, told = make_study(40), []
    study.teacher, study.student = (one.model_copy(update={"epochs": 1}) for one in (study.teacher, study.student))
    place = study.path("crossval")
    wanted = run(study, once)
    alone = {path.parent.name: path.read_bytes() for path in place.glob("*/risks.json")}
    shutil.rmtree(place)
    monkeypatch.chdir(study.workspace.root.parent)  # workers have another working folder
    study.workspace = Workspace(Path(study.workspace.root.name))
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with dask_pool(cluster.scheduler_address, study.workspace) as pool:
            assert run(study, once, pool=pool, progress=lambda *what: told.append(what)).table == wanted.table
    assert {path.parent.name: path.read_bytes() for path in place.glob("*/risks.json")} == alone
    assert told[-1][:2] == (2000, 2000)
