"""Statements as findings: present, absent, or not stated."""

import numpy as np
import pytest

from wsisurv.formats.statements import ReportRecord, Statement
from wsisurv.models.finding_table import KINDS, make_table, speaks_of

NAMES = [kind.name for kind in KINDS]


def statement(category, text, polarity="present"):
    return Statement(
        statement_id="c/1",
        category=category,
        polarity=polarity,
        text=text,
        evidence=text,
        start=0,
        end=1,
        match="exact",
    )


def table(**reports):
    records = {
        case_id: ReportRecord(case_id=case_id, fingerprint="", report_sha256="", statements=statements)
        for case_id, statements in reports.items()
    }
    return make_table(records, list(reports))


@pytest.mark.parametrize(
    ("name", "statements", "wanted"),
    [
        ("high_grade", [("grade", "poorly differentiated")], 1),
        ("high_grade", [("grade", "grade 2")], 0),
        ("high_grade", [("grade", "no high grade atypia", "absent")], None),
        ("t3_or_t4", [("invasion", "pT3")], 1),
        ("t3_or_t4", [("invasion", "pT2 (muscularis propria)")], 0),
        ("positive_nodes", [("node", "pN0")], 0),
        ("positive_nodes", [("node", "metastasis in 2 of 14 nodes")], 1),
        ("positive_nodes", [("node", "no metastasis in the nodes", "absent")], 0),
        ("positive_nodes", [("node", "lymph nodes, dissection: multiple")], None),
        ("positive_margin", [("margin", "R1")], 1),
        ("positive_margin", [("margin", "margins free of tumour", "absent")], 0),
        ("positive_margin", [("margin", "2 mm from the radial margin")], None),
        ("positive_margin", [("margin", "tumor involves the radial margin")], 1),
        ("lymphovascular_invasion", [("lymphovascular_invasion", "L1")], 1),
        ("lymphovascular_invasion", [("lymphovascular_invasion", "L0", "absent"), ("invasion", "V1")], 1),
        ("lymphovascular_invasion", [("lymphovascular_invasion", "suspicious", "uncertain")], None),
        ("perineural_invasion", [("perineural_invasion", "Pn0", "absent")], 0),
        ("necrosis", [("necrosis", "extensive necrosis")], 1),
        ("mucin", [("mucin", "no mucin", "absent")], 0),
        ("serous", [("histological_type", "serous carcinoma")], 1),
        ("serous", [("histological_type", "no serous carcinoma", "absent")], None),
    ],
)
def test_what_statements_state(name, statements, wanted):
    made = table(a=tuple(statement(*one) for one in statements))
    value = made.stated[0, NAMES.index(name)]
    assert np.isnan(value) if wanted is None else value == wanted
    assert any(speaks_of(statement(*one), name) for one in statements) == (wanted is not None)


def test_silence_is_absence_only_of_what_reports_tell_where_it_is_there_and_only_in_a_report():
    made = table(speaks=(statement("node", "pN0"),), silent=())
    assert made.reported.tolist() == [True, False]
    for number, kind in enumerate(KINDS):
        target = made.target(number)
        assert np.isnan(target[1])
        assert kind.name == "positive_nodes" or (target[0] == 0) == kind.silent
