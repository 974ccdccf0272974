"""``wsisurv crossval --reports-only`` as a person runs it: a table, reports, and no slide."""

import json

import numpy as np
import pytest

from wsisurv.formats.atomic import write_jsonl


@pytest.fixture
def study(tmp_path):
    """A table of 50 cases (stage in words, one row without follow-up), reports, and what the rules drew from them."""
    random = np.random.default_rng(1)
    rows, reports = ["case_id,days,died,age,stage,hospital"], []
    for number in range(50):
        nodes, age = int(random.integers(0, 3)), int(random.integers(40, 90))
        death, end = random.exponential(1500 * np.exp(-1.2 * nodes)), random.uniform(200, 2000)
        stage = ("Stage I", "Stage IIIA", "Stage IIIC")[nodes] if number % 20 else "[Discrepancy]"
        rows.append(f"p{number:02d},{min(death, end) + 1:.0f},{int(death <= end)},{age},{stage},h{number % 8}")
        reports.append({"case_id": f"p{number:02d}", "text": f"Adenocarcinoma of case {number}, G2, pT3. pN{nodes}."})
    rows.append("p99,,0,50,Stage I,h1")
    clinical, texts = tmp_path / "clinical.csv", tmp_path / "reports.jsonl"
    clinical.write_text("\n".join(rows) + "\n")
    write_jsonl(texts, reports)
    return tmp_path / "workspace", clinical, texts


def test_from_a_table_and_reports_to_an_account(run, study):
    workspace, clinical, texts = study
    assert run("extract-report", texts, "-w", workspace, "--backend", "rules").code == 0
    quick = ["--folds", 2, "--repeats", 1, "--seed", 1, "--resamples", 100]
    words = ["crossval", "-w", workspace, "--reports-only", *quick]
    columns = ["--time", "days", "--event", "died", "--site", "hospital", "--covariates", "age,stage"]
    first = [*words, "--cohort", "os", "--clinical", clinical, *columns]
    ended = run(*first)
    assert ended.code == 1
    assert "p99" in ended.err
    assert "--drop-incomplete" in ended.err
    first = [*first, "--drop-incomplete", "--text-encoder", "tfidf", "--report-text", texts]
    ended = run(*first)
    assert ended.code == 0, ended.err
    for line in (
        "cases with follow-up and report",
        "1 rows dropped: row 52 p99",
        "words and findings +",
        "whole text",
    ):
        assert line in ended.out
    assert "slide" not in ended.out.replace("No slide was read", "")
    record = json.loads((workspace / "cohorts" / "os" / "evaluation" / "metrics-reports-only.json").read_text())
    assert record["cohort"]["tested"] == 50
    assert record["settings"]["text"] == {**record["settings"]["text"], "branch": "ridge", "text_encoder": "tfidf"}
    told = {row["model"]: row["concordance"] for row in record["models"]}
    assert told["words_and_findings"] > 0.6
    assert told["covariates"] > 0.6  # stages in words are put on their scale

    ended = run(*words, "--cohort", "os", "--text-branch", "attention")
    assert ended.code == 1
    assert "text.branch: ridge → attention" in ended.err
    ended = run(*words, "--cohort", "os", "--text-branch", "attention", "--redo")
    assert ended.code == 0, ended.err
    record = json.loads((workspace / "cohorts" / "os" / "evaluation" / "metrics-reports-only.json").read_text())
    assert record["settings"]["text"]["branch"] == "attention"
    assert record["settings"]["teacher"]["text_encoder"] == "hashing"

    # the cohort has no slides, and the other commands say so
    ended = run("crossval", "-w", workspace, "--cohort", "os")
    assert ended.code == 1
    assert "no tile was found" in ended.err
    ended = run("train-teacher", "-w", workspace, "--cohort", "os")
    assert ended.code == 1
    assert "cases with tiles" in ended.err


def test_options_that_do_not_belong_together(run, study):
    workspace, clinical, texts = study
    for words, message in (
        (["--clinical", clinical, "--cohort", "os"], "--reports-only and --cohort NAME are needed"),
        (["--reports-only", "--clinical", clinical], "--reports-only and --cohort NAME are needed"),
        (["--reports-only", "--clinical", clinical, "--cohort", "os"], "Run `wsisurv extract-report` first"),
    ):
        ended = run("crossval", "-w", workspace, *words, "--time", "days", "--event", "died", "--drop-incomplete")
        assert ended.code == (1 if "extract-report" in message else 2)
        assert message in ended.err


def test_reports_alone_from_nothing_to_a_page(run, study):
    place, clinical, texts = study
    ended = run("crossval", "--reports-only", "-w", place)
    assert ended.code == 1
    assert "wsisurv crossval --reports-only --cohort NAME --clinical FILE" in " ".join(ended.err.split())
    assert "train-teacher" not in ended.err
    assert run("extract-report", texts, "--backend", "rules", "-w", place).code == 0
    made = ["--cohort", "r", "--clinical", clinical, "--time", "days", "--event", "died", "--covariates", "age,stage"]
    options = ["--drop-incomplete", "--folds", "2", "--repeats", "1", "--resamples", "100", "-w", place]
    assert run("cohort", "r", "--reports-only", *made[2:], "--drop-incomplete", "-w", place).code == 0
    files = {name: (place / "cohorts" / "r" / name).read_bytes() for name in ("cohort.csv", "audit.json")}
    ended = run("crossval", "--reports-only", *made, *options)  # the same cohort: not stale
    assert ended.code == 0, ended.err
    assert {name: (place / "cohorts" / "r" / name).read_bytes() for name in files} == files
    ended = run("report", "-w", place)
    assert ended.code == 0, ended.err
    assert ended.out.count("not on the page") == 1
    page = (place / "cohorts" / "r" / "evaluation" / "index.html").read_text()
    assert "what a report alone tells" in page
    assert "report, words and findings" in page
    assert "with a slide" not in page
