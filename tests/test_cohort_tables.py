"""A clinical table is never misread in silence: what is missing, what can't be read, what can hardly be meant."""

import datetime
import re
import unicodedata
from dataclasses import replace

import openpyxl
import pytest

from wsisurv.cohort import (
    build_cohort,
    map_slides,
    match_case,
    read_case_ids,
    read_clinical,
    read_cohort,
    read_slide_map,
    write_cohort,
)
from wsisurv.cohort.values import is_missing
from wsisurv.errors import CohortError
from wsisurv.settings.cohort import CohortSettings

SITE = CohortSettings(site="hospital", covariates=("age",))


@pytest.fixture
def clinical(tmp_path):
    """``clinical(lines, …)``: what is read from a table of these lines."""

    def read(*lines, settings=CohortSettings(), drop=False, header="case_id,time,event"):  # noqa: B008
        path = tmp_path / "clinical.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return read_clinical(path, settings, drop_incomplete=drop)

    return read


def coded(values, n=40):
    """Rows of years of follow-up whose events go through ``values``."""
    return [f"P{i:02d},{500 + 60 * i},{values[i % len(values)]}" for i in range(n)]


@pytest.mark.parametrize(
    "word",
    ["", " ", "NA", "n/a", "NaN", "[Not Available]", "[Not Applicable]", "[Discrepancy]", "Unknown", "[unknown]", "'--"]
    + ["Not Reported", "not reported", "#N/A", "--", ".", "None", "NULL", "?", "<NA>", "[Not Stated]", "k.A.", "n.d."]
    + ["not specified", "unbekannt", "Inconnu", "(unspecified)"],
)
def test_one_list_of_missing_words_for_time_event_site_and_covariates(clinical, word):
    assert is_missing(word)
    lines = [f"A,900,1,North,{word}", f"B,800,0,{word},61", f"C,{word},1,South,61", f"D,700,{word},South,61"]
    header = "case_id,time,event,hospital,age"
    with pytest.raises(CohortError, match=r"row 4 \(C\): time is missing; row 5 \(D\): event is missing.*--drop"):
        clinical(*lines, settings=SITE, header=header)
    read = clinical(*lines, settings=SITE, header=header, drop=True)
    assert [(case.case_id, case.site, case.covariates["age"]) for case in read.cases] == [
        ("A", "North", ""),
        ("B", "", "61"),
    ]
    assert [(drop.row, drop.case_id, drop.reason) for drop in read.dropped] == [
        (4, "C", "time is missing"),
        (5, "D", "event is missing"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (coded(["1", "2"]), r"event is '2'.*and 15 more \(seen: '1' 20×; '2' 20×\).*--event-values 1,2"),
        (coded(["Dead", "alive"]), r"seen: 'Dead' 20×; 'alive' 20×.*--event-values alive,Dead"),
        (coded(["0:LIVING", "1:DECEASED"]), "--event-values 0:LIVING,1:DECEASED"),
        (coded(["0", "1", "dead"]), "event is 'dead', not 0/1/true/false.*Name the two words"),
        (['A,"1,234",1', "B,500,0"], "time is '1,234', not a number.*--decimal , reads it; take out"),
        (['A,"365,5",1', "B,500,0"], "time is '365,5'.*--decimal ,"),
        (["A,2020-05-01,1", "B,500,0"], "time is '2020-05-01'.*These are dates"),
        (["A,01.05.2020,1", "B,500,0"], "These are dates"),
        (["A,12 months,1", "B,500,0"], "time is '12 months', not a number"),
        (["A,1_000,1", "B,500,0"], "time is '1_000', not a number"),
        (["A,inf,1", "B,500,0"], "time is 'inf', not a positive number.*an empty one is left out"),
        (["A,-5,1", "B,500,0"], "time is '-5', not a positive number"),
    ],
)
def test_a_filled_cell_that_can_not_be_read_is_never_dropped(clinical, lines, message):
    for drop in (False, True):
        with pytest.raises(CohortError, match=message):
            clinical(*lines, drop=drop)


def test_a_follow_up_of_zero_is_kept_and_said(clinical):
    rows = ["A,0,1", "B,500,0", "C,0,0", "D,12,1", "E,0.0,1", "F,3,0"]
    for drop in (False, True):
        read = clinical(*rows, drop=drop)
        assert {str(case.case_id): case.time for case in read.cases} == {
            **{"A": 3.0, "E": 3.0},  # events, at the smallest time above 0
            "C": 1.5,  # lost at once: before any event, so in no risk set
            **{"B": 500.0, "D": 12.0, "F": 3.0},
        }
        assert not read.dropped
        assert "3 cases have a follow-up of 0 and are kept: 2 with an event count at 3 days" in read.warnings[0]
    # a row that is left out gives no smallest time
    assert clinical("A,0,1", "B,500,0", "C,1,", drop=True).cases[0].time == 500.0
    with pytest.raises(CohortError, match="time is 0 in all 2 cases"):
        clinical("A,0,1", "B,0,0")


def test_the_options_that_errors_name_read_the_table(clinical):
    r_coding = CohortSettings(event_values=("1", "2"))
    read = clinical(*coded(["1", "2"])[:5], "P05,NA,2", *coded(["1", "2"])[6:], settings=r_coding, drop=True)
    assert (len(read.cases), sum(case.event for case in read.cases)) == (39, 19)
    german = CohortSettings(decimal=",", covariates=("age", "stage"))
    header = "case_id;time;event;age;stage"
    read = clinical("A;365,5;1;61,5;IIA", "B;900;0;70;", header=header, settings=german)
    assert [(case.time, case.covariates["age"]) for case in read.cases] == [(365.5, "61.5"), (900.0, "70")]
    with pytest.raises(CohortError, match="time is '365.5'.*--decimal , a number has no point"):
        clinical("A;365.5;1;61;I", "B;900;0;70;I", header=header, settings=german)
    with pytest.raises(CohortError, match="age is '61,5', not a number.*--decimal ,"):
        clinical("A;365;1;61,5;I", "B;900;0;70;I", header=header, settings=german.model_copy(update={"decimal": "."}))
    words = CohortSettings(event_values=("None", "Relapse"))  # a missing word that the user gives a meaning
    assert [case.event for case in clinical("A,900,None", "B,800,Relapse", settings=words).cases] == [False, True]


def test_all_blockers_come_in_one_list(clinical):
    with pytest.raises(CohortError) as seen:
        clinical("A,NA,2", "A,soon,1", "B/C,900,1", "D,5,1,9", settings=CohortSettings(site="town"))
    for part in (
        "6 things are wrong",
        "row 5: 4 cells",
        "no column 'town'",
        "row 4: case_id 'B/C' can't be a file name",
        "a case twice: 'A' in rows 2 and 3",
        "row 2 (A): time is missing",
        "row 3 (A): time is 'soon'",
        "row 2 (A): event is '2'",
    ):
        assert part in str(seen.value) or part == "6 things are wrong"
    assert str(seen.value).count("(1) ") == 1


@pytest.mark.parametrize(
    ("times", "unit", "hint"),
    [
        ([82, 40, 21], "days", "weeks|months"),
        ([82, 60, 45], "days", "months"),
        ([9.5, 5, 3], "days", "years"),
        ([15, 5, 3], "months", "years"),
        ([120, 25, 20], "weeks", "months"),
        ([2000, 1000, 450], "weeks", "days"),
        ([2000, 1000, 450], "months", "days"),
        ([2000, 1000, 450], "years", "days"),
        ([120, 30, 20], "years", "months"),
        ([44000, 43900, 43800], "days", ""),
    ],
)
def test_a_unit_that_can_hardly_be_is_asked_for(clinical, times, unit, hint):
    lines = [f"P{i},{time},{i % 2}" for i, time in enumerate(times)]
    (warning,) = clinical(*lines, settings=CohortSettings(time_unit=unit)).warnings
    assert f"is {unit} the unit of 'time'?" in warning
    assert hint in warning


@pytest.mark.parametrize(
    ("times", "unit"),
    [([2000, 1000, 450], "days"), ([120, 36, 20], "months"), ([300, 100, 60], "weeks"), ([12, 5, 3], "years")],
)
def test_a_unit_that_may_be_is_not_asked_for(clinical, times, unit):
    lines = [f"P{i},{time},{i % 2}" for i, time in enumerate(times)]
    assert clinical(*lines, settings=CohortSettings(time_unit=unit)).warnings == ()


def test_what_can_be_read_and_can_hardly_be_meant_is_warned_of(clinical):
    (warning,) = clinical("A,900,1", "B,800,1").warnings
    assert "all 2 cases have an event" in warning
    (warning,) = clinical("A,900,1", "B,900,0").warnings
    assert "'time' is 900 in all 2 cases" in warning
    rows = [f"P{i},{900 + i},{i % 2},{['North', 'north '][i % 2]},{60 + i}" for i in range(8)]
    header = "case_id,time,event,hospital,age"
    warnings = clinical(*rows, "=1+1,900,1,South,>89", "Q,950,0,NA,62", settings=SITE, header=header).warnings
    assert [warning.split(":")[0].split(" (")[0] for warning in warnings] == [
        "1 cases of unknown hospital",
        "hospital",
        "age",
        "1 ids look like formulas",
    ]
    assert "'North' and 'north' count as different" in warnings[1]
    assert "1 cells are filled and no number, and count as unknown: >89" in warnings[2]


@pytest.mark.parametrize("cell", ["#REF!", "#VALUE!", "#DIV/0!", "#name?"])
def test_a_formula_that_failed_is_no_hospital_and_no_grade(clinical, cell):
    header = "case_id,time,event,hospital,age"
    for line, column in ((f"A,900,1,{cell},61", "hospital"), (f"A,900,1,North,{cell}", "age")):
        with pytest.raises(CohortError, match=rf"row 2 \(A\): {column} is '{re.escape(cell)}'.*could not work out"):
            clinical(line, "B,800,0,North,60", settings=SITE, header=header, drop=True)
    for line, column in ((f"A,{cell},1,North,61", "time"), (f"A,900,{cell},North,61", "event")):
        with pytest.raises(CohortError, match=f"{column} is '{re.escape(cell)}'"):
            clinical(line, "B,800,0,North,60", settings=SITE, header=header, drop=True)


@pytest.mark.parametrize(
    ("times", "asked"),
    [(["365", "1.234", "2.045"], True), (["365.125", "1.234", "2.045"], False), (["365", "1.5", "2.045"], False)]
    + [(["365", "1234", "2045"], False), (["365", "0.234", "2.045"], False)],
)
def test_a_point_between_thousands_is_asked_for(clinical, times, asked):
    read = clinical(*(f"P{i},{time},{i % 2}" for i, time in enumerate(times)))
    assert any("three digits behind" in warning for warning in read.warnings) == asked


@pytest.mark.parametrize(("times", "asked"), [([2009, 2015, 2021], True), ([209, 2015, 2021], False)])
def test_calendar_years_are_no_follow_up(clinical, times, asked):
    read = clinical(*(f"P{i},{time},{i % 2}" for i, time in enumerate(times)))
    assert any("calendar years" in warning for warning in read.warnings) == asked


def test_slides_are_matched_against_all_rows_before_any_is_dropped(clinical):
    read = clinical("P1,900,1", "P1-2,NA,1", "Q,800,0", drop=True)
    slides = ("P1_a", "P1-2_a", "P1-2-DX1", "Q")
    cohort, audit = build_cohort("c", read, CohortSettings(), slide_ids=slides, report_case_ids=("P1-2", "Z"))
    assert {case.case_id: case.slide_ids for case in cohort.cases} == {"P1": ("P1_a",), "Q": ("Q",)}
    assert audit.slides_of_dropped == ("P1-2-DX1", "P1-2_a")
    assert audit.slides_without_case == ()
    assert audit.reports_without_case == ("Z",)


def test_unicode_forms_of_an_id_are_one_id(clinical):
    written, scanned = (unicodedata.normalize(form, "Müller_é") for form in ("NFC", "NFD"))
    assert written != scanned
    for table, slide in ((written, scanned), (scanned, written)):
        assert match_case(f"{slide}-1", {table, "M"}) == table
        read = clinical(f"{table},900,1", "B,800,0")
        cohort, _ = build_cohort("c", read, CohortSettings(), slide_ids=(f"{slide}-1",), report_case_ids=())
        assert [case.slide_ids for case in cohort.cases] == [(f"{slide}-1",)]
    with pytest.raises(CohortError, match="a case twice"):
        clinical(f"{written},900,1", f"{scanned},800,0")
    with pytest.raises(CohortError, match="two Unicode forms"):
        match_case(f"{written}-1", {written, scanned})


@pytest.mark.parametrize("case_id", ["a\x07b", "a\u202eb", "a\x9bb"])
def test_control_characters_in_ids_are_refused(clinical, case_id):
    with pytest.raises(CohortError, match="holds a control character"):
        clinical(f"{case_id},900,1", "B,800,0")


def test_a_slide_map_is_brought_to_the_slides_that_are_here(clinical, tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("slide_id;case_id\nscan7.svs;A\nnone.svs;A\nscan8.svs;X\n")
    read = clinical("A,900,1", "B,800,0")
    cohort, audit = build_cohort(
        "c",
        read,
        CohortSettings(),
        slide_ids=("scan7", "scan8", "B"),
        report_case_ids=(),
        slide_map=read_slide_map(path),
    )
    assert [(case.case_id, case.slide_ids) for case in cohort.cases] == [("A", ("scan7",))]
    assert audit.slides_without_case == ("B", "scan8")
    assert "1 rows of the slide map name no slide that is here: none.svs" in audit.warnings
    assert "1 cases of the slide map are not in the clinical table: X" in audit.warnings
    with pytest.raises(CohortError, match="none of its 3 rows names a slide"):
        map_slides(["other"], read_slide_map(path))
    with pytest.raises(
        CohortError, match="none of its cases is in the clinical table: it has A, X; cases are called Q"
    ):
        map_slides(["scan7"], read_slide_map(path), ["Q"])
    path.write_text("slide_id,case_id\nscan7,../A\n")
    with pytest.raises(CohortError, match="row 2: case_id '../A' can't be a file name"):
        read_slide_map(path)
    path.write_text("slide_id,case_id\nscan7,\n,A\n")
    with pytest.raises(CohortError, match=r"row 2: case_id is empty.*row 3: slide_id is empty"):
        read_slide_map(path)


@pytest.mark.parametrize("slide", ["K;9_HE", "[K9", '["K9"]', "=K9", "-K9", "'=K9", "K9,b", 'K"9', " K9"])
def test_no_id_breaks_the_cohorts_table(clinical, tmp_path, slide):
    read = clinical("A,900,1", "B,800,0", header="case_id,time,event")
    cohort, audit = build_cohort("c", read, CohortSettings(), slide_ids=("A",), report_case_ids=())
    case = replace(cohort.cases[0], case_id=slide, slide_ids=(slide, "second"), covariates={})
    odd = replace(cohort, cases=(case,))
    write_cohort(tmp_path / "c", odd, audit)
    assert read_cohort(tmp_path / "c") == (odd, audit)


def test_case_ids_alone_are_read_whatever_the_other_cells_say(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("patient,days\nA,soon\nB,\n,3\n")
    assert read_case_ids(path, "patient") == {"A", "B"}
    path.write_text("patient,days\nA,1\nA,2\nB/C,3\n")
    with pytest.raises(CohortError, match="2 things are wrong.*'B/C'.*a case twice"):
        read_case_ids(path, "patient")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dead", "not dead"], "--event-values 'not dead,dead'"),
        (["Event", "No event"], "--event-values 'No event,Event'"),
        (["ja", "nein"], "--event-values nein,ja"),
        (["décédé", "vivant"], "--event-values vivant,décédé"),
        (["1.00", "0.00"], "--event-values 0.00,1.00"),
        (["-1", "0"], "--event-values NO,YES, in this order"),
        (["9", "0"], "--event-values NO,YES, in this order"),
        (["uncensored", "censored"], "--event-values NO,YES, in this order"),
        (["dead", "alive, no relapse"], "without a comma in either"),
    ],
)
def test_which_word_says_that_it_happened_is_never_guessed(clinical, words, said):
    with pytest.raises(CohortError, match=said):
        clinical(*coded([f'"{word}"' for word in words]))


@pytest.mark.parametrize(
    ("one", "other"),
    [("A 1", "A\u00a01"), ("P1", "P\uff11"), ("a1", "A1"), ("A-1", "A\u20131"), ("A.", "A"), ("001", "1")],
)
def test_ids_that_look_alike_are_asked_about(clinical, one, other):
    read = clinical(f"{one},900,1", f"{other},800,0", "C,1200,1")
    assert [warning for warning in read.warnings if "count as different" in warning]


def test_a_slide_that_may_be_of_two_cases_is_an_error_and_one_that_strays_is_told(clinical):
    settings, rows = CohortSettings(), ("A,900,1", "A-1,800,0", "tcga-b,1200,1", "101.0,700,1")
    read = clinical(*rows, drop=True)
    for slide in ("A_1_x", "A.1"):
        with pytest.raises(CohortError, match="of case 'A' or of 'A-1'.*--slide-map"):
            build_cohort("x", read, settings, slide_ids=[slide, "A-1_x"], report_case_ids=[])
    cohort, audit = build_cohort("x", read, settings, slide_ids=["A-1_x", "TCGA-B-01", "101_a"], report_case_ids=[])
    assert [case.slide_ids for case in cohort.cases] == [("A-1_x",)]
    assert "2 slides of no case begin with the id of one" in audit.warnings[-1]
    assert "'TCGA-B-01' (case 'tcga-b'?)" in audit.warnings[-1]


@pytest.mark.parametrize("case_id", ["NA", "unknown", "nan"])
def test_a_word_for_nothing_is_no_case(clinical, case_id):
    with pytest.raises(CohortError, match=rf"row 4 \({case_id}\): case_id is '{case_id}'"):
        clinical("A,900,1", "B,800,0", f"{case_id},500,1")
    read = clinical("A,900,1", "B,800,0", f"{case_id},500,1", f"{case_id},400,1", drop=True)
    assert len(read.cases) == 2
    assert len(read.dropped) == 2


@pytest.mark.parametrize("case_id", ["1.23E+05", "123456789012345000"])
def test_an_id_that_a_spreadsheet_made_is_refused(clinical, case_id):
    with pytest.raises(CohortError, match="what a spreadsheet made of an id"):
        clinical("A,900,1", "B,800,0", f"{case_id},500,1")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["<5", "6", "7"], "of 12 cells are no number .*group of its own"),
        (["61y", "62y", "63y"], "12 of 12 cells are no number"),
        (["2020-01-05", "2020-02-07"], "12 of 12 cells are no number"),
        (["61", "999", "55"], "999 lies far from all other values"),
        (["61", "-9", "55"], "-9 lies far from all other values"),
        (["I", "II", "III"], ""),
        (["61", "99", "55"], ""),
    ],
)
def test_a_number_that_is_read_as_a_group_or_a_code_as_a_number_is_told(clinical, cells, said):
    rows = [f"P{i},{900 + i},{i % 2},{cells[i % len(cells)]}" for i in range(12)]
    warnings = clinical(*rows, header="case_id,time,event,age", settings=CohortSettings(covariates=("age",))).warnings
    assert [bool(re.search(said, warning)) for warning in warnings] == ([True] if said else [])


def test_cells_compare_in_one_unicode_form_and_headers_without_what_is_not_seen(clinical):
    rows = ["A,900,1,Nürnberg", "B,800,0," + unicodedata.normalize("NFD", "Nürnberg"), '="001",700,1,X']
    read = clinical(*rows, header="case_id,time\u200b,event,hospital", settings=CohortSettings(site="hospital"))
    assert [(case.case_id, case.site) for case in read.cases] == [("001", "X"), ("A", "Nürnberg"), ("B", "Nürnberg")]


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08\0", b"PAR1\x15", b"$FL2@(#)", b"RDX3\n"])
def test_what_holds_no_text_is_not_said_to_be_latin_1(tmp_path, content):
    path = tmp_path / "clinical.csv"
    path.write_bytes(content + bytes(range(256)))
    with pytest.raises(CohortError, match="compressed, or of a program of statistics"):
        read_clinical(path, CohortSettings())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda sheet: setattr(sheet.row_dimensions[3], "hidden", True), "1 rows are hidden.*row 3"),
        (lambda sheet: sheet.__setitem__("A2", 123456789012345678), "1 numbers have more digits than.*A2"),
        (lambda sheet: sheet.__setitem__("A2", datetime.datetime(2020, 3, 1)), "what a spreadsheet made of an id"),
        (
            lambda sheet: sheet.parent.create_sheet("old").append(["x"]) or hide(sheet.parent["old"]),
            r"'old' \(hidden\)",
        ),
    ],
)
def test_what_a_spreadsheet_hides_or_changes_is_told(tmp_path, spoil, said):
    book = openpyxl.Workbook()
    for row in (["case_id", "time", "event"], ["A", 900, 1], ["B", 800, 0]):
        book.active.append(row)
    spoil(book.active)
    book.save(tmp_path / "clinical.xlsx")
    with pytest.raises(CohortError, match=said):
        read_clinical(tmp_path / "clinical.xlsx", CohortSettings())


def hide(sheet):
    sheet.sheet_state = "hidden"
