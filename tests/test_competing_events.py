"""Competing events in the clinical table: read, written, counted, and what can't be."""

import pytest

from wsisurv.cohort import Cohort, build_cohort, cause_of, read_clinical, read_cohort, write_cohort
from wsisurv.errors import CohortError, SettingsError
from wsisurv.settings.cohort import CohortSettings, parse_endpoints

TABLE = """case_id,time,event,died,code,word,age
A-1,120,0,0,0,Alive,61
B-2,300,1,1,1,Cancer,70
C-3,250,0,1,2,Other,55
D-4,180,1,0,1,Cancer,44
"""


def read(tmp_path, table=TABLE, **columns):
    path = tmp_path / "clinical.csv"
    path.write_text(table)
    return read_clinical(path, CohortSettings(**columns))


@pytest.mark.parametrize(
    "columns",
    [
        {"competing": "died"},
        {"event": "code", "event_values": ("0", "1", "2")},
        {"event": "word", "event_values": ("Alive", "Cancer", "Other")},
    ],
)
def test_two_columns_a_code_or_three_words_say_the_same(tmp_path, columns):
    clinical = read(tmp_path, **columns)
    assert [(case.event, case.competing) for case in clinical.cases] == [
        (False, False), (True, False), (False, True), (True, False),
    ]  # fmt: skip
    assert cause_of(clinical.cases).tolist() == [0, 1, 2, 1]
    settings = CohortSettings(**columns)
    cohort, audit = build_cohort("x", clinical, settings, slide_ids=("A-1", "B-2", "C-3"), report_case_ids=())
    assert (audit.events, audit.competing, audit.clinical_events, audit.clinical_competing) == (1, 1, 2, 1)
    write_cohort(tmp_path / "x", cohort, audit)
    assert "C-3,C-3,250.0,2," in (tmp_path / "x" / "cohort.csv").read_text()
    assert read_cohort(tmp_path / "x") == (cohort, audit)
    assert cohort.to_frame()["competing"].tolist() == [False, False, True]


def test_of_two_events_the_own_one_counts_and_it_is_said(tmp_path):
    assert any(
        "1 cases have 'event' and 'died': 'event' counts" in line for line in read(tmp_path, competing="died").warnings
    )


def test_a_cohort_without_competing_events_is_what_it_was(tmp_path):
    plain = read(tmp_path)
    assert cause_of(plain.cases) is None
    none = read(tmp_path, TABLE.replace("250,0,1,2", "250,0,0,2"), competing="died")
    assert none.cases == plain.cases
    assert any("no competing event in 4 cases" in line for line in none.warnings)
    one, other = (Cohort("x", clinical.cases, CohortSettings()) for clinical in (plain, none))
    assert one.fingerprint == other.fingerprint
    assert "competing" not in one.settings.model_dump()
    assert one.fingerprint != Cohort("x", read(tmp_path, competing="died").cases, CohortSettings()).fingerprint


@pytest.mark.parametrize(
    ("cell", "columns", "message"),
    [
        ("3", {"competing": "died"}, r"row 4 \(C-3\): died is '3', not 0/1/true/false.*Code it as 1"),
        ("", {"competing": "died"}, r"row 4 \(C-3\): died is missing.*--drop-incomplete"),
        ("1", {"event": "code"}, r"code is '2'.*competing event.*--event-values 0,1,2"),
        ("1", {"event": "word"}, r"word is 'Alive'.*a third"),
        ("1", {"event": "code", "event_values": ("0", "1", "9")}, r"row 4 \(C-3\): code is '2', not '0' or '1' or '9'"),
        ("1", {"competing": "event"}, "the same column twice: 'event'"),
        ("1", {"competing": "gone"}, "gone"),
        (
            "1",
            {"competing": "died", "event": "code", "event_values": ("0", "1", "2")},
            "competing event is named twice",
        ),
        ("1", {"event": "code", "event_values": ("0", "7", "2")}, "code is '1'"),
    ],
)
def test_what_can_not_be_is_named(tmp_path, cell, columns, message):
    with pytest.raises(CohortError, match=message):
        read(tmp_path, TABLE.replace("250,0,1,2", f"250,0,{cell},2"), **columns)


def test_competing_events_alone_are_no_event(tmp_path):
    table = TABLE.replace(",1,1,1,Cancer", ",0,1,2,Cancer").replace(",1,0,1,Cancer", ",0,1,2,Cancer")
    with pytest.raises(CohortError, match="no event in 4 cases"):
        read(tmp_path, table, competing="died")


def test_a_missing_competing_cell_tells_nothing_of_a_case_with_the_event(tmp_path):
    assert [case.event for case in read(tmp_path, TABLE.replace("300,1,1", "300,1,"), competing="died").cases][1]


@pytest.mark.parametrize(
    ("name", "columns", "told"),
    [
        ("crc/dss", {}, True),
        ("crc/os", {}, False),
        ("crc", {"event": "dfs_event"}, True),
        ("crc/dss", {"competing": "died"}, False),
        ("crc/dss", {"event_values": ("0", "1", "2")}, False),
        ("dssites", {}, False),
    ],
)
def test_an_endpoint_of_the_disease_alone_says_what_other_deaths_are(name, columns, told):
    assert ("count as censored" in Cohort(name, (), CohortSettings(**columns)).outcome_note) is told


def test_an_endpoint_names_what_competes_with_it():
    (one,) = parse_endpoints(["dss=days,dead_of_it,dead"])
    assert (one.time, one.event, one.competing) == ("days", "dead_of_it", "dead")
    for text in ("dss=days,dead_of_it,", "dss=days,a,b,c"):
        with pytest.raises(SettingsError, match="NAME=TIME,EVENT"):
            parse_endpoints([text])
