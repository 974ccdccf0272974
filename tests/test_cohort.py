import pytest

from wsisurv.cohort import (
    Case,
    Cohort,
    build_cohort,
    match_case,
    read_clinical,
    read_cohort,
    read_slide_map,
    read_table,
    save_cohort,
    write_cohort,
)
from wsisurv.errors import CohortError, FormatError, MissingArtifactError, StaleError
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import CaseId, SlideId

SETTINGS = CohortSettings(site="hospital", covariates=("age", "stage"))
# Rows out of order, tied times, a missing covariate, a case of two slides (B-2).
TABLE = """case_id,time,event,hospital,age,stage
B-2,300,1,north,61,II
A-1,120.5,0,south,NA,III
C-3,300,True,north,45,[Discrepancy]
D-4,10,false,south,70,I
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "clinical.csv"
    path.write_text(TABLE)
    return path


def build(table, slides=("A-1", "B-2_a", "B-2_b", "C-3-DX1", "Z-9"), reports=("A-1", "Q-0"), **options):
    clinical = read_clinical(table, SETTINGS, drop_incomplete=True)
    return build_cohort("crc", clinical, SETTINGS, slide_ids=slides, report_case_ids=reports, **options)


def test_cases_slides_and_reports_are_matched_and_the_rest_is_listed(table):
    cohort, audit = build(table)
    assert [(case.case_id, case.slide_ids) for case in cohort.cases] == [
        ("A-1", ("A-1",)),
        ("B-2", ("B-2_a", "B-2_b")),
        ("C-3", ("C-3-DX1",)),
    ]
    assert [(case.time, case.event) for case in cohort.cases] == [(120.5, False), (300.0, True), (300.0, True)]
    assert audit.cases_without_slide == ("D-4",)
    assert audit.slides_without_case == ("Z-9",)
    assert audit.reports_without_case == ("Q-0",)
    assert (audit.cases, audit.events, audit.slides, audit.cases_with_report) == (3, 2, 4, 1)
    assert cohort.cases[0].covariates == {"age": "", "stage": "III"}


def test_a_cohort_does_not_depend_on_the_order_of_rows(table, tmp_path):
    lines = TABLE.splitlines()
    shuffled = tmp_path / "shuffled.csv"
    shuffled.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert build(table) == build(shuffled)


def test_round_trip(table, tmp_path):
    cohort, audit = build(table)
    write_cohort(tmp_path / "crc", cohort, audit)
    assert read_cohort(tmp_path / "crc") == (cohort, audit)


def test_another_cohort_of_one_name_is_refused_unless_asked(table, tmp_path):
    save_cohort(tmp_path / "crc", *build(table))
    save_cohort(tmp_path / "crc", *build(table))
    fewer = build(table, slides=("A-1", "B-2_a"))
    with pytest.raises(StaleError, match=r"1 cases gone \(C-3\).*1 cases changed \(B-2\)"):
        save_cohort(tmp_path / "crc", *fewer)
    save_cohort(tmp_path / "crc", *fewer, redo=True)
    assert read_cohort(tmp_path / "crc") == fewer


def test_missing_and_damaged_cohorts_are_named(table, tmp_path):
    with pytest.raises(MissingArtifactError, match="--clinical"):
        read_cohort(tmp_path / "crc")
    save_cohort(tmp_path / "crc", *build(table))
    (tmp_path / "crc" / "audit.json").write_text("{")
    with pytest.raises(FormatError, match="damaged"):
        read_cohort(tmp_path / "crc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("time,", "days,"), "no column 'time'; it has case_id, days"),
        (("B-2,300", "B-2,"), r"row 2 \(B-2\): time is missing"),
        (("B-2,300", "B-2,soon"), r"row 2 \(B-2\): time is 'soon', not a number"),
        (("B-2,300", "B-2,-3"), "not a positive number"),
        (("B-2,300", "B-2,inf"), "not a positive number"),
        (("300,1", "300,2"), r"row 2 \(B-2\): event is '2', not 0/1/true/false"),
        (("300,1", "300,"), r"row 2 \(B-2\): event is missing"),
        (("A-1", "B-2"), "a case twice: 'B-2' in rows 2 and 3"),
        (("A-1", "../1"), "can't be a file name"),
        (("A-1,", ","), "case_id is empty"),
        (("A-1,120.5", "A-1,120.5,7"), "row 3: 7 cells, but the header has 6"),
    ],
)
def test_bad_tables_are_refused_with_the_row(table, change, message):
    table.write_text(TABLE.replace(*change))
    with pytest.raises(CohortError, match=message):
        read_clinical(table, SETTINGS)


def test_no_events_no_rows_no_file_wrong_encoding(table, tmp_path):
    table.write_text(TABLE.replace("300,1", "300,0").replace("True", "0"))
    with pytest.raises(CohortError, match="no event in 4 cases"):
        read_clinical(table, SETTINGS)
    table.write_text("")
    with pytest.raises(CohortError, match="empty"):
        read_clinical(table, SETTINGS)
    table.write_bytes(TABLE.replace("north", "Nürnberg").encode("latin-1"))
    with pytest.raises(CohortError, match="not UTF-8"):
        read_clinical(table, SETTINGS)
    with pytest.raises(CohortError, match="no such file"):
        read_clinical(tmp_path / "none.csv", SETTINGS)
    with pytest.raises(CohortError, match="a folder"):
        read_clinical(tmp_path, SETTINGS)


def test_incomplete_rows_are_dropped_only_when_asked_and_are_listed(table):
    table.write_text(TABLE.replace("A-1,120.5", "A-1,[Not Available]"))
    clinical = read_clinical(table, SETTINGS, drop_incomplete=True)
    assert [case.case_id for case in clinical.cases] == ["B-2", "C-3", "D-4"]
    assert [(drop.row, drop.case_id) for drop in clinical.dropped] == [(3, "A-1")]


def test_named_event_values(table):
    text = (
        TABLE.replace("300,1", "300,Dead").replace("True", "Dead").replace(",0,", ",Alive,").replace("false", "Alive")
    )
    table.write_text(text)
    settings = SETTINGS.model_copy(update={"event_values": ("Alive", "Dead")})
    assert [case.event for case in read_clinical(table, settings).cases] == [False, True, True, False]
    table.write_text(text.replace("300,Dead", "300,dead?"))
    with pytest.raises(CohortError, match="'dead\\?', not 'Alive' or 'Dead'"):
        read_clinical(table, settings)


@pytest.mark.parametrize(
    ("slide_id", "case_id"),
    [
        ("case1", "case1"),
        ("case1-A", "case1"),
        ("case1-A-2.x", "case1-A-2"),
        ("case10_a", None),
        ("case", None),
        ("xcase1", None),
    ],
)
def test_a_slide_is_of_the_case_whose_id_begins_its_name(slide_id, case_id):
    assert match_case(slide_id, {"case1", "case1-A-2"}) == case_id


def test_a_slide_map_goes_before_names(table, tmp_path):
    path = tmp_path / "map.tsv"
    path.write_text("slide_id\tcase_id\nscan 7\tA-1\nB-2_a\tC-3\n")
    cohort, audit = build(table, slides=("scan 7", "B-2_a", "B-2"), slide_map=read_slide_map(path))
    assert [(case.case_id, case.slide_ids) for case in cohort.cases] == [("A-1", ("scan 7",)), ("C-3", ("B-2_a",))]
    assert audit.slides_without_case == ("B-2",)
    path.write_text("slide_id\tcase_id\ns\tA-1\ns\tB-2\n")
    with pytest.raises(CohortError, match="row 3: slide 's' belongs to 'A-1'"):
        read_slide_map(path)
    path.write_text("slide\tcase_id\ns\tA-1\n")
    with pytest.raises(CohortError, match="slide_id"):
        read_slide_map(path)


def test_tables_with_a_byte_order_mark_and_a_repeated_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffcase_id,age\nA,3\n".encode())
    assert read_table(path) == [{"case_id": "A", "age": "3"}]
    path.write_text("age,age\n1,2\n")
    with pytest.raises(CohortError, match="age occurs twice"):
        read_table(path)


OTHER = {
    "case": "other_case",
    "time": "other_time",
    "event": "other_event",
    "event_values": ("true", "false"),
    "competing": "other_event",
    "entry": "came",
    "time_unit": "months",
    "decimal": ",",
    "site": None,
    "covariates": ("age",),
}
"""Another value for each setting of a cohort."""


@pytest.mark.parametrize("name", CohortSettings.model_fields)
def test_every_setting_changes_the_cohort(tmp_path, name):
    """A new setting without an entry in ``OTHER`` fails."""
    path = tmp_path / "clinical.csv"
    path.write_text(
        "case_id,time,event,hospital,age,stage,other_case,other_time,other_event,came\n"
        "B-2,300,true,north,61.5,II,A-1,3,false,100\nA-1,120,false,south,70,III,B-2,4,true,0\n"
    )

    def made(settings):
        try:
            clinical = read_clinical(path, settings)
        except CohortError as error:
            return str(error)
        cohort, audit = build_cohort("crc", clinical, settings, slide_ids=("A-1", "B-2"), report_case_ids=())
        return cohort.cases, audit

    assert OTHER[name] != getattr(SETTINGS, name)
    assert made(SETTINGS) == made(SETTINGS)
    assert made(SETTINGS.model_copy(update={name: OTHER[name]})) != made(SETTINGS)


LATE = """case_id,time,event,entry,age
A-1,120,0,0,61
B-2,300,1,100.5,70
C-3,250,1,20,55
"""


def test_late_entry_is_read_written_and_counted(tmp_path):
    path = tmp_path / "clinical.csv"
    path.write_text(LATE)
    settings = CohortSettings(entry="entry", covariates=("age",))
    clinical = read_clinical(path, settings)
    assert [case.entry for case in clinical.cases] == [0, 100.5, 20]
    assert any("2 of 3 cases enter late, at 100.5 days (median)" in line for line in clinical.warnings)
    assert any(
        "at risk at the first event: survival from the origin rests on these few" in line for line in clinical.warnings
    )
    cohort, audit = build_cohort("x", clinical, settings, slide_ids=("A-1", "B-2", "C-3"), report_case_ids=())
    write_cohort(tmp_path / "x", cohort, audit)
    assert read_cohort(tmp_path / "x") == (cohort, audit)
    assert cohort.to_frame()["entry"].tolist() == [0, 100.5, 20]
    ignored = read_clinical(path, CohortSettings(covariates=("age",)))
    assert [case.entry for case in ignored.cases] == [0, 0, 0]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("300", r"entry is not before time: row 3 \(B-2\): entry is 300, time 300.* take the row out"),
        ("400", r"entry is not before time: row 3 \(B-2\): entry is 400, time 300"),
        ("-3", r"row 3 \(B-2\): entry is '-3', not a positive number"),
        ("2019-03-04", "These are dates"),
        ("", r"row 3 \(B-2\): entry is missing"),
    ],
)
def test_entries_that_can_not_be(tmp_path, cell, message):
    path = tmp_path / "clinical.csv"
    path.write_text(LATE.replace("100.5", cell))
    with pytest.raises(CohortError, match=message):
        read_clinical(path, CohortSettings(entry="entry"))


@pytest.mark.parametrize(
    "columns", [{"entry": "time"}, {"event": "time"}, {"competing": "event"}, {"covariates": ("age", "event")}]
)
def test_one_column_is_not_two_things(tmp_path, columns):
    path = tmp_path / "clinical.csv"
    path.write_text(LATE)
    with pytest.raises(CohortError, match="the same column twice: "):
        read_clinical(path, CohortSettings(**columns))


def test_a_cohort_is_a_data_frame_too():
    settings = CohortSettings(covariates=("age",))
    cases = tuple(Case(CaseId(f"c{n}"), 10.0 * n, n > 1, "H1", {"age": str(n)}, (SlideId(f"c{n}-A"),)) for n in (1, 2))
    frame = Cohort("x", cases, settings).to_frame()
    assert list(frame.columns) == ["time", "event", "site", "slide_ids", "age"]
    assert frame.loc["c2"].tolist() == [20.0, True, "H1", ["c2-A"], "2"]
