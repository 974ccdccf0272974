import json
from hashlib import sha256
from pathlib import Path

import pytest

from wsisurv.errors import FormatError, MetricError, ReportError
from wsisurv.formats.statements import Category, Polarity, ReportRecord, Statement
from wsisurv.reports.evaluation import GoldScores, evaluate_reports, read_gold
from wsisurv.reports.grounding import ground
from wsisurv.reports.rules import extract_rules

REPORT = (
    "GROSS DESCRIPTION: The tumour measures 3 cm and invades fat. MICROSCOPIC DESCRIPTION: Moderately differentiated "
    "adenocarcinoma. Necrosis is focal. There are 12 mitoses per mm2. No lymphovascular invasion is seen. "
    "IMMUNOHISTOCHEMISTRY: MLH1 is retained in the tumour."
)
REPORTS = {"a": REPORT, "b": "Microscopy. Perineural invasion is present."}


def said(category: Category, evidence: str, polarity: Polarity = "present", text: str | None = None) -> Statement:
    start = REPORT.find(evidence)
    assert start >= 0
    return Statement(
        statement_id="a/1",
        category=category,
        polarity=polarity,
        text=text or evidence,
        evidence=evidence,
        start=start,
        end=start + len(evidence),
        match="exact",
    )


def record(*statements: Statement, case_id: str = "a") -> dict[str, ReportRecord]:
    made = ReportRecord(case_id=case_id, fingerprint="", report_sha256="", statements=statements, left_out={"gross": 1})
    return {case_id: made}


GOLD = record(
    said("grade", "Moderately differentiated"),
    said("necrosis", "Necrosis is focal"),
    said("mitoses", "12 mitoses per mm2"),
    said("lymphovascular_invasion", "No lymphovascular invasion is seen", "absent"),
)


def scored(*statements: Statement) -> GoldScores:
    scores = evaluate_reports(record(*statements), REPORTS, GOLD).against_gold
    assert scores is not None
    return scores


def test_gold_against_itself_is_perfect() -> None:
    scores = scored(*GOLD["a"].statements)
    assert scores.precision == scores.relevance == 1
    assert scores.polarity_errors == scores.number_errors == 0


def test_half_found_and_one_made_up() -> None:
    scores = scored(
        said("grade", "Moderately differentiated adenocarcinoma", text="moderately differentiated"),
        said("necrosis", "Necrosis is focal", text="focal tumour necrosis"),
        said("mucin", "adenocarcinoma", text="mucinous adenocarcinoma"),
    )
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.relevance == 0.5


def test_the_other_polarity_is_an_error_and_supports_nothing() -> None:
    scores = scored(said("lymphovascular_invasion", "lymphovascular invasion", text="lymphovascular invasion"))
    assert (scores.polarity_errors, scores.supported, scores.found) == (1, 0, 0)


def test_another_number_is_an_error_and_supports_nothing() -> None:
    scores = scored(said("mitoses", "12 mitoses per mm2", text="21 mitoses per mm2"))
    assert (scores.number_errors, scores.supported, scores.found) == (1, 0, 0)


def test_saying_it_twice_finds_it_once() -> None:
    twice = said("necrosis", "Necrosis is focal")
    scores = scored(twice, twice)
    assert (scores.supported, scores.found, scores.gold) == (2, 1, 4)


def test_another_category_matches_nothing() -> None:
    scores = scored(said("stroma", "Necrosis is focal"))
    assert (scores.supported, scores.polarity_errors, scores.number_errors) == (0, 0, 0)


def test_a_gold_case_that_we_lack_counts_as_not_found() -> None:
    gold = GOLD | record(said("necrosis", "Necrosis is focal"), case_id="b")
    scores = evaluate_reports(record(*GOLD["a"].statements), REPORTS, gold).against_gold
    assert scores is not None
    assert scores.relevance == pytest.approx(4 / 5)
    assert scores.precision == 1


def test_without_gold_it_is_proof_coverage_and_leakage() -> None:
    scores = evaluate_reports(
        record(
            said("necrosis", "Necrosis is focal"),
            said("necrosis", "Necrosis is focal", "absent", text="no necrosis"),
            said("invasion", "invades fat"),
            said("histological_type", "MLH1 is retained in the tumour", text="tumour"),
        ),
        REPORTS,
    )
    assert scores.against_gold is None
    assert (scores.reports, scores.statements, scores.proved) == (1, 4, 2)
    assert sorted(scores.unproved.values()) == [1, 1]  # one says absent, one is of the gross description
    assert scores.leakage == {"gross": 1, "immunohistochemistry": 1}
    assert scores.coverage == pytest.approx(1 / 4)
    assert scores.left_out == {"gross": 1}


def test_the_rules_on_this_report_prove_all_and_leak_nothing() -> None:
    extraction = extract_rules(REPORT, keep="morphology")
    ours = record(*ground("a", extraction.claims, REPORT).statements)
    scores = evaluate_reports(ours, REPORTS, GOLD)
    assert scores.proved_share == scores.coverage == 1
    assert scores.leakage_share == 0
    assert scores.against_gold is not None
    assert scores.against_gold.relevance == 1


def test_an_empty_extraction_has_no_shares_but_no_failure() -> None:
    scores = evaluate_reports(record(), REPORTS)
    assert scores.proved_share is None
    assert scores.leakage_share is None
    assert scores.coverage == 0


def test_a_record_without_its_report_is_named() -> None:
    with pytest.raises(ReportError, match="'z'"):
        evaluate_reports(record(case_id="z"), REPORTS)


def test_gold_of_other_cases_gives_no_figure() -> None:
    with pytest.raises(MetricError, match="no case in common"):
        evaluate_reports(record(), REPORTS, record(case_id="b"))


def test_gold_written_by_hand_is_placed_in_the_report(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    line = {
        "case_id": "a",
        "statements": [
            {"category": "necrosis", "text": "focal necrosis", "evidence": "Necrosis is focal"},
            {"category": "grade", "polarity": "present", "text": "poorly differentiated"},
        ],
    }
    path.write_text(json.dumps(line) + "\n")
    first, second = read_gold(path, REPORTS)["a"].statements
    assert REPORT[first.start : first.end] == "Necrosis is focal"
    assert first.statement_id == "a/1"
    assert (second.start, second.end) == (0, 0)


def test_gold_that_is_none_is_told_by_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    with pytest.raises(ReportError, match=r"gold\.jsonl"):
        read_gold(path, REPORTS)
    path.write_text('{"case_id": "a", "statements": []}\n{"case_id": "b", "statements": [{"category": "hue"}]}\n')
    with pytest.raises(FormatError, match=r"line 2: statements\.0\.category"):
        read_gold(path, REPORTS)
    path.write_text("")
    with pytest.raises(FormatError, match="no record"):
        read_gold(path, REPORTS)


def test_gold_of_places_alone_holds_no_word_of_the_report(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    digest = sha256(REPORT.encode()).hexdigest()
    at = REPORT.index("Necrosis is focal")
    statement = {"category": "necrosis", "polarity": "present", "start": at, "end": at + len("Necrosis is focal")}
    path.write_text(json.dumps({"case_id": "a", "report_sha256": digest, "statements": [statement]}) + "\n")
    (placed,) = read_gold(path, REPORTS)["a"].statements
    assert placed.text == placed.evidence == REPORT[placed.start : placed.end] == "Necrosis is focal"
    assert evaluate_reports(read_gold(path, REPORTS), REPORTS, read_gold(path, REPORTS)).against_gold is not None


def test_gold_of_another_text_is_refused_by_case(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    statement = {"category": "necrosis", "start": 0, "end": 5}
    path.write_text(json.dumps({"case_id": "a", "report_sha256": "0" * 64, "statements": [statement]}) + "\n")
    with pytest.raises(FormatError, match="case 'a' are of another text"):
        read_gold(path, REPORTS)
    path.write_text(json.dumps({"case_id": "a", "statements": [statement]}) + "\n")
    with pytest.raises(FormatError, match="no report_sha256"):
        read_gold(path, REPORTS)
    path.write_text(json.dumps({"case_id": "a", "statements": [{**statement, "end": 9999}]}) + "\n")
    with pytest.raises(FormatError, match="characters 0 to 9999 are not in its report"):
        read_gold(path, REPORTS)
    path.write_text(json.dumps({"case_id": "a", "statements": [{"category": "necrosis"}]}) + "\n")
    with pytest.raises(FormatError, match="neither text nor start and end"):
        read_gold(path, REPORTS)


def test_our_gold_standard_holds_places_and_digests_alone() -> None:
    folder = Path(__file__).parents[1] / "reference" / "gold"
    listed = dict(line.split()[1:] for line in (folder / "reports.txt").read_text().splitlines() if line[0] != "#")
    records = [json.loads(line) for line in (folder / "statements.jsonl").read_text().splitlines()]
    assert len(listed) == 100
    assert len(records) == 40
    for record in records:
        assert record["report_sha256"] == listed[record["case_id"]]
        assert all(set(one) == {"category", "polarity", "start", "end"} for one in record["statements"])


def test_a_sentence_of_two_gold_statements_has_the_numbers_of_both(tmp_path: Path) -> None:
    report = "Stage: pT3, pN1 (1/15)."
    path = tmp_path / "gold.jsonl"
    places = [("invasion", "pT3"), ("node", "pN1 (1/15)")]
    wanted = [
        {"category": kind, "start": report.index(said), "end": report.index(said) + len(said)} for kind, said in places
    ]
    digest = sha256(report.encode()).hexdigest()
    path.write_text(json.dumps({"case_id": "a", "report_sha256": digest, "statements": wanted}) + "\n")
    gold = read_gold(path, {"a": report})
    for text, errors in ((report, 0), (report.replace("15", "16"), 1)):
        ours = [{"category": "invasion", "text": text, "evidence": report}]
        (tmp_path / "ours.jsonl").write_text(json.dumps({"case_id": "a", "statements": ours}) + "\n")
        scores = evaluate_reports(read_gold(tmp_path / "ours.jsonl", {"a": report}), {"a": report}, gold).against_gold
        assert scores is not None
        assert scores.number_errors == errors
        assert scores.supported == 1 - errors
