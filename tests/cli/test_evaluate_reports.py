import json

import pytest

REPORTS = {
    "A": "MICROSCOPIC DESCRIPTION: Moderately differentiated adenocarcinoma. No lymphovascular invasion is identified.",
    "B": "MICROSCOPIC DESCRIPTION: Poorly differentiated adenocarcinoma with extensive necrosis.",
}


@pytest.fixture
def reports(tmp_path):
    path = tmp_path / "reports.jsonl"
    path.write_text("".join(json.dumps({"case_id": case, "text": text}) + "\n" for case, text in REPORTS.items()))
    return path


def test_an_extraction_is_scored_and_shown(run, reports, tmp_path):
    place = tmp_path / "w"
    assert run("extract-report", reports, "--backend", "rules", "-w", place).code == 0
    gold = tmp_path / "gold.jsonl"
    lines = [{"category": "necrosis", "text": "extensive necrosis", "evidence": "extensive necrosis"}]
    lines += [{"category": "mucin", "text": "mucin pools", "evidence": ""}]
    gold.write_text(json.dumps({"case_id": "B", "statements": lines}) + "\n")
    ended = run("evaluate-reports", reports, "--gold", gold, "-w", place)
    assert ended.code == 0, ended.err
    metrics = json.loads((place / "reports" / "evaluation" / "metrics.json").read_text())
    assert (metrics["against_gold"]["gold"], metrics["against_gold"]["found"]) == (2, 1)
    assert metrics["proved"] == metrics["statements"] > 2
    page = (place / "reports" / "evaluation" / "index.html").read_text()
    assert "<mark" in page
    assert "extensive necrosis" in page


def test_anothers_extraction_is_scored_by_the_same_rule(run, reports, tmp_path):
    theirs = tmp_path / "theirs.jsonl"
    invented = {"category": "mitoses", "text": "21 mitoses", "evidence": "21 mitoses"}
    theirs.write_text(json.dumps({"case_id": "A", "statements": [invented]}) + "\n")
    ended = run("evaluate-reports", reports, "--statements", theirs, "-w", tmp_path / "w")
    assert ended.code == 0, ended.err
    metrics = json.loads((tmp_path / "w" / "reports" / "evaluation" / "metrics.json").read_text())
    assert (metrics["statements"], metrics["proved"]) == (1, 0)


def test_nothing_extracted_yet_other_reports_and_bad_gold(run, reports, tmp_path):
    place = tmp_path / "w"
    ended = run("evaluate-reports", reports, "-w", place)
    assert ended.code == 1
    assert "extract-report" in ended.err
    run("extract-report", reports, "--backend", "rules", "-w", place)
    (tmp_path / "other.jsonl").write_text('{"case_id": "Z", "text": "x"}\n')
    ended = run("evaluate-reports", tmp_path / "other.jsonl", "-w", place)
    assert ended.code == 1
    assert "right reports" in ended.err
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"case_id": "B", "statements": [{"category": "colour", "text": "pink"}]}\n')
    ended = run("evaluate-reports", reports, "--gold", gold, "-w", place)
    assert ended.code == 1
    assert "line 1" in ended.err
