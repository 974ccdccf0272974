"""Cross-validation without slides: reports beside covariates, each fold by what its own training cases say."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Case, Cohort
from wsisurv.engine.shards import Shard
from wsisurv.errors import CohortError, MissingArtifactError, SharesLeftError
from wsisurv.experiments import report_models
from wsisurv.experiments.crossval import crossval_reports
from wsisurv.formats.atomic import read_jsonl, write_jsonl
from wsisurv.formats.splits import read_splits
from wsisurv.settings.cohort import CohortSettings
from wsisurv.settings.crossval import CrossvalSettings
from wsisurv.survival.metrics import concordance
from wsisurv.units import CaseId
from wsisurv.workspace.paths import Workspace

WORDS = {"text_encoder": "tfidf"}
SETTINGS = CrossvalSettings(folds=3, repeats=1, covariates=("age",), resamples=100)


def statement(case_id, number, category, text):
    return {
        "statement_id": f"{case_id}/{number}",
        "category": category,
        "polarity": "present",
        "text": text,
        "evidence": text,
        "start": 0,
        "end": len(text),
        "match": "exact",
    }


@pytest.fixture
def study(tmp_path):
    """150 cases without a slide; nodes and the word "brisk" drive the hazard, every tenth report says nothing."""
    random = np.random.default_rng(0)
    workspace = Workspace(tmp_path / "workspace")
    cases, records, texts = [], [], {}
    for number in range(150):
        case_id = f"c{number:03d}"
        nodes, brisk, age = random.integers(0, 3), random.integers(0, 2), random.normal()
        death, end = random.exponential(np.exp(1.0 - nodes + 0.7 * brisk - 0.4 * age)), random.exponential(3.0)
        said = [f"pN{nodes}", "brisk inflammation" if brisk else "sparse inflammation", f"adenocarcinoma {case_id}"]
        texts[case_id] = ". ".join([*said, "Received in formalin"])
        silent = number % 10 == 0
        kinds = ("node", "inflammation", "histological_type")
        lines = [statement(case_id, n, kind, text) for n, (kind, text) in enumerate(zip(kinds, said, strict=True))]
        record = {"case_id": case_id, "fingerprint": case_id, "report_sha256": case_id}
        records.append(record | {"statements": [] if silent else lines})
        cases.append(
            Case(CaseId(case_id), min(death, end) + 0.01, bool(death <= end), f"s{number % 9}", {"age": f"{age:.2f}"})
        )
    write_jsonl(workspace.statements, records)
    settings = CohortSettings(site="site", covariates=("age",))
    return workspace, Cohort("trial", tuple(cases), settings), texts


def test_reports_tell_what_they_say_and_the_whole_text_too(study):
    workspace, cohort, texts = study
    reports = workspace.root / "reports.jsonl"
    write_jsonl(reports, [{"case_id": case_id, "text": text} for case_id, text in texts.items()])
    result = crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS, report_text=reports)
    named = [row.model for row in result.table.models]
    assert named == [
        "covariates",
        "words_and_findings",
        "full_text",
        "words_and_covariates",
        "full_text_and_covariates",
    ]
    assert result.table.model("words_and_findings").concordance > 0.65
    assert result.table.model("full_text").concordance > 0.65
    assert result.table.difference("words_and_covariates", "covariates").value > 0.03
    assert result.table.added is None
    assert result.table.added_by_report.p < 0.001
    assert result.verdict[0].startswith("Reports ")
    record = json.loads(result.metrics.read_text())
    assert result.metrics.name == "metrics-reports-only.json"
    assert record["settings"]["text"]["branch"] == "ridge"
    assert record["folds"][0]["gate"] is None
    folder = workspace.cohort("trial")
    assert not (folder / "splits.jsonl").exists()  # those of a cross-validation with slides are others
    first = read_splits(folder / "reports-only" / "splits.jsonl")[0]
    silent = [number for number, case_id in enumerate(first.test) if int(case_id[1:]) % 10 == 0]
    saved = json.loads((folder / "reports-only" / "1-1" / "risks.json").read_text())
    assert not np.array(saved["risks"]["words_and_findings"])[silent].any()  # a silent report is average
    assert np.array(saved["risks"]["full_text"])[silent].all()
    assert crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS, report_text=reports).kept == 3

    metrics = workspace.cohort("trial") / "evaluation" / "metrics-reports-only.json"
    alone = metrics.read_bytes()
    shutil.rmtree(workspace.cohort("trial"))
    with pytest.raises(SharesLeftError, match="2 of 3 are left"):
        crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS, report_text=reports, shard=Shard(2, 2))
    crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS, report_text=reports, shard=Shard(1, 2))
    assert metrics.read_bytes() == alone


def test_a_tested_outcome_changes_no_risk_of_its_fold(study):
    workspace, cohort, _ = study
    crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS)
    folder = workspace.cohort("trial") / "reports-only"
    splits = folder / "mine.jsonl"
    splits.write_bytes((folder / "splits.jsonl").read_bytes())
    first = read_splits(splits)[0]
    before = json.loads((folder / "1-1" / "risks.json").read_text())["risks"]
    turned = tuple(
        replace(case, time=100.0 + number, event=not case.event) if case.case_id in first.test else case
        for number, case in enumerate(cohort.cases)
    )
    crossval_reports(workspace, replace(cohort, cases=turned), SETTINGS, teacher=WORDS, splits=splits, redo=True)
    assert json.loads((folder / "1-1" / "risks.json").read_text())["risks"] == before


def test_the_teachers_attention_is_fitted_on_the_training_cases_alone(study, monkeypatch):
    workspace, cohort, _ = study
    case_at = {case.time: str(case.case_id) for case in cohort.cases}
    asked = []

    class Fitted:
        def __init__(self, n_cases):
            self.risk = np.arange(n_cases, dtype=np.float64)
            self.text = self

        def log_hazard(self, statements):
            return float(len(statements))

    def fit(reports, teacher, *, seed, **_named):
        lengths = {len(rows) for rows in reports.statements}
        asked.append(({case_at[time] for time in reports.time.tolist()}, lengths, seed, teacher.text_branch))
        return Fitted(len(reports.time))

    monkeypatch.setattr(report_models, "cross_fit_text", fit)
    result = crossval_reports(workspace, cohort, SETTINGS, teacher={**WORDS, "seed": 7}, text_branch="attention")
    folds = read_splits(workspace.cohort("trial") / "reports-only" / "splits.jsonl")
    for fold, (seen, lengths, seed, branch) in zip(folds, asked, strict=True):
        assert seen == {case_id for case_id in fold.train if int(case_id[1:]) % 10}
        assert lengths == {3}
        assert (seed, branch) == (7, "attention")
    record = json.loads(result.metrics.read_text())
    assert record["settings"]["text"]["branch"] == record["settings"]["teacher"]["text_branch"] == "attention"
    named = [row["model"] for row in record["models"]]  # it is the model that the text branch is with slides, too
    assert named == ["covariates", "text", "text_and_covariates"]


def test_an_identical_report_of_two_cases_stops_it_and_cases_without_a_report_are_left_out(study):
    workspace, cohort, _ = study
    records = read_jsonl(workspace.statements)
    records[3]["report_sha256"] = records[77]["report_sha256"]
    write_jsonl(workspace.statements, records[:120])
    with pytest.raises(CohortError, match=r"cases c003 and c077: identical report"):
        crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS)
    result = crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS, keep_together=True)
    assert result.table.cases == 120
    assert any("there is no report: c120" in line and "22 more" in line for line in result.warnings)
    write_jsonl(workspace.statements, [{**records[0], "case_id": "stranger"}])
    with pytest.raises(CohortError, match="none of its 150 cases can be scored, since there is no report"):
        crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS)


def test_vectors_that_are_not_there_and_reports_without_events(study):
    workspace, cohort, _ = study
    with pytest.raises(MissingArtifactError, match="Name vectors that are"):
        crossval_reports(workspace, cohort, SETTINGS, teacher={"text_encoder": "hashing"})
    records = read_jsonl(workspace.statements)
    quiet = {case.case_id for case in cohort.cases if not case.event}
    mute = [record if record["case_id"] in quiet else {**record, "statements": []} for record in records]
    write_jsonl(workspace.statements, mute)
    result = crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS)
    assert result.table.model("words_and_findings").concordance == 0.5
    assert any("reports count as unknown" in line for line in result.warnings)


def test_risks_are_out_of_fold_and_relative_to_each_folds_own_training(study):
    workspace, cohort, _ = study
    result = crossval_reports(workspace, cohort, SETTINGS, teacher=WORDS)
    case_of = {case.case_id: case for case in cohort.cases}
    for fold, row in zip(
        read_splits(workspace.cohort("trial") / "reports-only" / "splits.jsonl"), result.table.by_fold, strict=True
    ):
        saved = json.loads((workspace.cohort("trial") / "reports-only" / fold.name / "risks.json").read_text())
        tested = [case_of[case_id] for case_id in fold.test]
        wanted = concordance(
            log_hazard=saved["risks"]["words_and_findings"],
            time=[case.time for case in tested],
            event=[case.event for case in tested],
        )
        assert row["words_and_findings"] == pytest.approx(wanted)
