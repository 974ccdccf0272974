"""Tables as people have them: whatever separates the cells, from a spreadsheet too; or refused in one sentence."""

import csv
import datetime
import re

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsisurv.errors import CohortError
from wsisurv.formats.id_cells import formula_note, read_id, read_ids, write_id, write_ids
from wsisurv.formats.slide_names import by_slide_id
from wsisurv.formats.tables import read_table, scan_table

ROWS = [{"case_id": "A 1", "time": "3", "note": "x, y; z"}, {"case_id": "B", "time": "4.5", "note": ""}]


def plain(rows):
    return [dict(row) for row in rows]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "table"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_separates_cells_is_found_whatever_the_ending(tmp_path, name, delimiter, encoding):
    path = tmp_path / name
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([[*ROWS[0]], *(row.values() for row in ROWS)])
    assert plain(read_table(path, "case_id")) == ROWS


def test_lines_above_the_header_and_blank_rows_are_no_rows_and_numbers_stay_those_of_the_file(tmp_path):
    path = tmp_path / "data_clinical_patient.txt"
    path.write_text("#Patient\tTime\n#STRING\tNUMBER\n\nPATIENT_ID\tOS_MONTHS\nA\t3\n\t\n\nB\t4\n\t\n")
    rows = read_table(path)
    assert [(row.number, row["PATIENT_ID"]) for row in rows] == [(5, "A"), (8, "B")]
    path.write_text("sep=;\na;b\n1;2\n;;\n;;\n")
    assert plain(read_table(path)) == [{"a": "1", "b": "2"}]
    path.write_text("a,b,,\n1,2,,\n,,,\n")  # columns that a spreadsheet once had
    assert plain(read_table(path)) == [{"a": "1", "b": "2"}]
    path.write_text('"","case_id"\n"1","A"\n')  # row names, as R writes them
    assert plain(read_table(path)) == [{"case_id": "A"}]
    path.write_bytes(b"a,b\r1,2\r3,4\r")
    assert [row["b"] for row in read_table(path)] == ["2", "4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"# only this\n,,\n", "empty"),
        (
            "a,b\nx,Nürnberg\n".encode("latin-1"),
            r"row 2: byte 7 \(0xFC\) is not UTF-8: the file is in Latin-1 or.*iconv",
        ),
        ("case,b\nx,y\n".encode("utf-16-le") * 4, "UTF-16 without its mark"),
        ("case,b\nx,y\n".encode("utf-16")[:-1], "damaged UTF-16"),
        ("case,b\nx,y\n".encode("utf-32"), "no text"),
        (b"#a,b\nx,y\n", r"no column 'a'; it has x, y \(row 2, the first without #\)"),
        (b"a,b\n" + b"\0" + b"x" * 50, "no text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "before 2007, or one with a password"),
        (b"PK\x03\x04 damaged", "not a spreadsheet that can be read"),
        (b'a,b,c\n1,2,"x\n3,4,5\n', "row 2: .*quote not closed"),
        (b'a,b,c\n1,2,"x\n3,4,5\n6,7,y"\n', "row 2: a quote that isn't closed"),
        (b"a,b\n1\n", "row 2: 1 cells, but the header has 2"),
        (b"case,b\n1,2\n", "no column 'a'; it has case, b"),
    ],
)
def test_what_can_not_be_read_is_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(CohortError, match=message) as seen:
        read_table(path, "a")
    assert "\n" not in str(seen.value)


def test_all_that_is_wrong_comes_in_one_list(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,a,b\n1,2\n1,2,3,4\n")
    with pytest.raises(
        CohortError, match=r"3 things.*a occurs twice.*row 2: 2 cells.*row 3: 4 cells.*no column 'x', 'y'"
    ):
        read_table(path, "x", "y")


class TestSpreadsheet:
    def save(self, path, rows, **sheets):
        book = openpyxl.Workbook()
        for title, more in {"Sheet": rows, **sheets}.items():
            sheet = book["Sheet"] if title == "Sheet" else book.create_sheet(title)
            for row in more:
                sheet.append(row)
        book.save(path)
        return book

    def test_is_read_as_its_csv_would_be(self, tmp_path):
        path = tmp_path / "t.csv"  # the content counts
        rows = [["id", "time", "alive", "when", "note"], [1, 3.0, True, datetime.date(2020, 5, 1), "#N/A"]]
        self.save(path, [*rows, [None] * 5, ["B", 2.5, False, None, " x "]], Empty=[])
        assert plain(read_table(path)) == [
            {"id": "1", "time": "3", "alive": "true", "when": "2020-05-01T00:00:00", "note": "#N/A"},
            {"id": "B", "time": "2.5", "alive": "false", "when": "", "note": "x"},
        ]
        assert [row.number for row in read_table(path)] == [2, 4]

    def test_ids_keep_the_zeros_that_are_shown(self, tmp_path):
        book = openpyxl.Workbook()
        book.active.append(["id"])
        book.active.append([7])
        book.active["A2"].number_format = "0000"
        book.save(tmp_path / "t.xlsx")
        assert plain(read_table(tmp_path / "t.xlsx")) == [{"id": "0007"}]

    def test_formulas_without_values_merged_cells_and_several_sheets_are_refused(self, tmp_path):
        path = tmp_path / "t.xlsx"
        book = self.save(path, [["id", "time"], ["A", "=2*3"], ["B", 4]])
        assert scan_table(path).rows[0]["time"] == ""
        with pytest.raises(CohortError, match="1 formulas have no value saved .the first in B2"):
            read_table(path)
        book.active.merge_cells("A2:A3")
        book.save(path)
        with pytest.raises(CohortError, match="cells A2:A3 are merged.*formulas"):
            read_table(path)
        self.save(path, [["id"], ["A"]], Legend=[["x"]])
        with pytest.raises(CohortError, match="several sheets with cells: 'Sheet', 'Legend'"):
            read_table(path)


IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(ids=st.lists(IDS, max_size=4))
def test_no_id_breaks_a_list(ids):
    assert read_ids(write_ids(ids)) == tuple(ids)


SIGNS = "=+@-\t\r\uff1d\uff0b\uff20\uff0d"


@given(id=st.one_of(IDS, st.from_regex(rf"'{{0,2}}[{re.escape(SIGNS)}].{{0,3}}", fullmatch=True)))
def test_no_id_reaches_a_spreadsheet_as_a_formula(id):
    cell = write_id(id)
    assert read_id(cell) == id
    assert cell[0] not in SIGNS or float(cell) is not None


@given(ids=st.lists(st.one_of(IDS, st.sampled_from(["=1+1", "@x", "-a", "\t=1"])), min_size=1, max_size=4))
def test_no_part_of_a_list_is_a_formula_where_cells_are_cut_at_semicolons(ids):
    cell = write_ids(ids)
    assert read_ids(cell) == tuple(ids)
    parts = [cell] if cell.startswith("[") else cell.split(";")
    assert all(part[:1] not in SIGNS or not part or float(part) is not None for part in parts)


def test_plain_lists_stay_as_they_were_and_old_ones_are_read():
    assert write_ids(["a", "b c"]) == "a;b c"
    assert read_ids("a;b") == ("a", "b")
    assert read_ids("[a;b") == ("[a", "b")
    assert read_ids("") == ()
    assert write_id("-3.5") == "-3.5"
    assert formula_note(["a", "=1+1"], "risk.csv") == [
        "1 ids look like formulas (=1+1 …): in risk.csv they have ' in front, so that no spreadsheet runs them"
    ]
    assert formula_note(["a"], "risk.csv") == []


def test_rows_name_slides_by_id_or_file_in_either_unicode_form():
    here = ["A1", "B.x", "scan.svs", "Mu\u0308ller"]
    given = {"A1.SVS": 1, "B.x.tiff": 2, "scan": 3, "M\u00fcller.ndpi": 4, "folder/none.svs": 5}
    assert by_slide_id(given, here, "t") == (
        {"A1": 1, "B.x": 2, "scan.svs": 3, "Mu\u0308ller": 4},
        ("folder/none.svs",),
    )
    assert by_slide_id({"x/A1.svs": 1}, here, "t")[0] == {"A1": 1}
    assert by_slide_id({"B": 1, "A1": 2}, here, "t") == ({"A1": 2}, ("B",))  # .x is no ending
    for wrong, message in (
        ({"C": 1, "D": 2}, "none of its 2 rows names a slide that is here: it has C, D; slides here are called"),
        ({"A1": 1, "A1.svs": 2}, "'A1' and 'A1.svs' are one slide, with different values"),
    ):
        with pytest.raises(CohortError, match=message):
            by_slide_id(wrong, here, "t")
    with pytest.raises(CohortError, match=r"'A' may be 'A\.svs' or 'A\.tif'"):
        by_slide_id({"A": 1}, ["A.svs", "A.tif"], "t")
    with pytest.raises(CohortError, match="two Unicode forms"):
        by_slide_id({}, ["Mu\u0308ller", "M\u00fcller"], "t")
    assert by_slide_id({"C": 1}, [], "t") == ({}, ("C",))
