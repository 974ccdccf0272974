"""Statements and whole reports as numbers: what is read, and what is not taken for a finding."""

import math

import numpy as np
import pytest

from wsisurv.formats.statements import Statement
from wsisurv.models.findings import FINDINGS, finding_values, text_values


def statement(category: str, text: str, polarity: str = "present") -> Statement:
    return Statement(
        statement_id="c/1",
        category=category,
        polarity=polarity,
        text=text,
        evidence=text,
        start=0,
        end=len(text),
        match="exact",
    )


def told(*statements: Statement) -> dict[str, float]:
    values = finding_values(statements)
    return {name: float(value) for name, value in zip(FINDINGS, values, strict=True) if not math.isnan(value)}


@pytest.mark.parametrize(
    ("category", "text", "wanted"),
    [
        ("invasion", "pT3", {"T": 3}),
        ("invasion", "ypT 4a (serosa)", {"T": 4}),
        ("node", "pNO (0/29)", {"N": 0, "nodes": 0, "nodes examined": math.log(30), "share of nodes": 0}),
        ("node", "pN1b", {"N": 1}),
        (
            "node",
            "Metastatic carcinoma in three of 27 lymph nodes",
            {"nodes": math.log(4), "nodes examined": math.log(28), "share of nodes": 3 / 27},
        ),
        ("lymphovascular_invasion", "L1, V0", {"L": 1, "V": 0}),
        ("margin", "RO", {"R": 0}),
        ("node", "pT2 NO MX", {"T": 2, "N": 0}),
        ("node", "pNo, L O", {"N": 0, "L": 0}),
        ("grade", "G2 to 3", {"G": 2}),
        ("grade", "Grade: moderately to poorly differentiated", {"G": 3}),
        ("grade", "well-differentiated", {"G": 1}),
        ("grade", "grade III", {"G": 3}),
        ("histological_type", "moderately differentiated adenocarcinoma", {"G": 2}),
    ],
)
def test_codes_grades_and_nodes(category: str, text: str, wanted: dict[str, float]) -> None:
    assert told(statement(category, text)) == pytest.approx({**wanted, category: 1.0})


def test_nodes_without_tumour_are_not_counted_as_positive() -> None:
    assert told(statement("node", "No tumor in 9 of 9 lymph nodes", "absent")) == {"node": 0}
    assert told(statement("node", "9 lymph nodes negative (0/9)", "absent"))["share of nodes"] == 0


@pytest.mark.parametrize(
    ("category", "text"),
    [
        ("invasion", "GIST of the wall, T cells"),  # letters of other words
        ("other_morphology", "No mucin. NO NECROSIS. Nodular, round, Low columnar, Lobular, Vocal, Rounded"),
        ("stroma", "3 of 12 sections fibrotic"),  # no nodes
        ("node", "0/0"),
        ("node", "7 of 3 nodes"),
        ("necrosis", "poorly preserved"),  # no grade
        ("mitoses", "V12, L4-L5, R 25"),
    ],
)
def test_what_is_no_finding(category: str, text: str) -> None:
    assert told(statement(category, text)) == {category: 1.0}


def test_the_worst_counts_and_a_denial_is_no_silence() -> None:
    values = told(
        statement("invasion", "pT2"),
        statement("invasion", "pT3"),
        statement("perineural_invasion", "none", "absent"),
        statement("necrosis", "none", "absent"),
        statement("necrosis", "possible", "uncertain"),
        statement("grade", "no poorly differentiated part", "absent"),
    )
    assert values == {"T": 3, "invasion": 1, "perineural_invasion": 0, "necrosis": 0.5, "grade": 0}


def test_order_does_not_matter_and_nothing_is_all_unknown() -> None:
    some = [statement("invasion", "pT3"), statement("node", "pN1 (2/14)"), statement("grade", "G3")]
    np.testing.assert_array_equal(finding_values(some), finding_values(some[::-1]))
    assert np.isnan(finding_values([])).all()
    assert len(FINDINGS) == len(set(FINDINGS)) == len(finding_values([]))


def test_a_whole_report_is_read_for_codes_grade_and_nodes_only_where_they_can_be() -> None:
    text = (
        "Received 12/04/2010. Sections 1/3 to 3/3.\nModerately differentiated adenocarcinoma, pT3 pN1. "
        "Lymph nodes: 2/14 with metastasis; poorly preserved mucosa. Stage M1."
    )
    values = dict(zip(FINDINGS, text_values(text).tolist(), strict=True))
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    assert known == pytest.approx(
        {
            "T": 3,
            "N": 1,
            "M": 1,
            "G": 2,
            "nodes": math.log(3),
            "nodes examined": math.log(15),
            "share of nodes": 2 / 14,
        }
    )
