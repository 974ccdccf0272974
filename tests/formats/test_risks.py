"""The risk table as people and programs read it."""

import csv
import json
from dataclasses import fields, replace

import pandas as pd
import pytest

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.experiments.endpoints import EndpointRow, read_endpoints, write_endpoints
from wsisurv.formats.atomic import read_json
from wsisurv.formats.finding_rows import CaseFindings, write_case_findings
from wsisurv.formats.risks import Risk, columns, read_risks, risk_frame, write_notes, write_risks, write_risks_jsonl

ROWS = [
    Risk(
        "b", ("b1", "b2"), 12, 0.5, 75.0, "high", {1.0: 0.75, 2.5: None}, 400.5, -0.25, 1.25, 0.5,
        'b1: "brown", and so on; b2: odd'
    ),
    Risk("a", ("a1",), 0, None, None, "unknown", {1.0: None, 2.5: None}, warning="no tile: nothing was seen"),
]  # fmt: skip


def test_risks_round_trip_sorted_by_case(tmp_path):
    write_risks(tmp_path / "risk.csv", ROWS, horizons=(1.0, 2.5))
    header = (tmp_path / "risk.csv").read_text().splitlines()[0]
    assert header == (
        "case_id,slides,n_tiles,log_hazard,risk_percentile,risk_group,survival_1y,survival_2.5y,median_survival,"
        "risk_low,risk_high,familiarity,warning"
    )
    assert read_risks(tmp_path / "risk.csv") == [ROWS[1], ROWS[0]]


def test_pandas_reads_numbers_and_gaps(tmp_path):
    write_risks(tmp_path / "risk.csv", ROWS, horizons=(1.0,))
    table = pd.read_csv(tmp_path / "risk.csv", index_col="case_id")
    assert table["log_hazard"].dtype == float
    assert table["survival_1y"].isna().to_dict() == {"a": True, "b": False}
    assert table.loc["b", "warning"] == ROWS[0].warning
    assert table.loc["b", "n_tiles"] == 12


def test_jsonl_says_the_same(tmp_path):
    write_risks(tmp_path / "risk.csv", ROWS, horizons=(1.0,))
    write_risks_jsonl(tmp_path / "risk.jsonl", ROWS, horizons=(1.0,))
    lines = [json.loads(line) for line in (tmp_path / "risk.jsonl").read_text().splitlines()]
    with (tmp_path / "risk.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for line, row in zip(lines, table, strict=True):
        assert list(line) == list(row) == list(columns((1.0,)))
        assert ";".join(line["slides"]) == row["slides"]
        assert (line["log_hazard"] is None) == (row["log_hazard"] == "")
        assert line["warning"] == row["warning"]
    assert lines[1]["survival_1y"] == 0.75


def test_a_table_that_is_none(tmp_path):
    with pytest.raises(MissingArtifactError, match="wsisurv predict"):
        read_risks(tmp_path / "risk.csv")
    (tmp_path / "risk.csv").write_text("case_id,risk\na,1\n")
    with pytest.raises(FormatError, match="no column familiarity, log_hazard"):
        read_risks(tmp_path / "risk.csv")
    write_risks(tmp_path / "risk.csv", ROWS)
    text = (tmp_path / "risk.csv").read_text()
    (tmp_path / "risk.csv").write_text(text.replace("0.500000", "half", 1))
    with pytest.raises(FormatError, match="row 3"):
        read_risks(tmp_path / "risk.csv")


def test_notes_lie_beside_the_table(tmp_path):
    path = write_notes(tmp_path / "risk.csv", {"command": "wsisurv predict"})
    assert path == tmp_path / "risk.json"
    assert read_json(path) == {"format": "wsisurv/risk", "command": "wsisurv predict"}


def test_absolute_risk_has_columns_of_its_own_where_something_competes(tmp_path):
    horizons = (1.0, 2.5)
    rows = [
        replace(
            row, absolute_risk=dict.fromkeys(horizons, 0.25) if row.log_hazard is not None else dict.fromkeys(horizons)
        )
        for row in ROWS
    ]
    write_risks(tmp_path / "risk.csv", rows, horizons=horizons)
    header = (tmp_path / "risk.csv").read_text().splitlines()[0].split(",")
    assert header == list(columns(horizons, competing=True))
    assert [name for name in header if name not in columns(horizons)] == ["risk_1y", "risk_2.5y"]
    again = read_risks(tmp_path / "risk.csv")
    assert [row.absolute_risk for row in again] == [
        row.absolute_risk for row in sorted(rows, key=lambda row: row.case_id)
    ]
    assert list(risk_frame(rows, horizons=horizons).columns) == header[1:]
    write_risks(tmp_path / "plain.csv", ROWS, horizons=horizons)
    assert all(not row.absolute_risk for row in read_risks(tmp_path / "plain.csv"))


def test_no_word_of_findings_or_endpoints_reaches_a_spreadsheet_as_a_formula(tmp_path):
    row = CaseFindings("-a", 3, 0.5, {"=x": 0.1}, "=HYPERLINK(1): brown")
    write_case_findings(tmp_path / "findings.csv", [row], ["=x"])
    with (tmp_path / "findings.csv").open(newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell[:1] in {"=", "+", "-", "@"}]
    figures = dict.fromkeys((field.name for field in fields(EndpointRow)), 0.5)
    write_endpoints(
        tmp_path / "evaluation" / "endpoints.csv", [EndpointRow(**figures | {"endpoint": "=1+1", "model": "m"})]
    )
    assert "\n'=1+1," in (tmp_path / "evaluation" / "endpoints.csv").read_text()
    assert read_endpoints(tmp_path)[0]["endpoint"] == "=1+1"
