"""Reports as a person brings them, and every way in which they can be wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsisurv.errors import ReportError
from wsisurv.reports.sources import read_reports

UUID = "8B1F2C3D-0000-4aaa-9bbb-0123456789AB"


def folder(tmp_path: Path, **files: bytes) -> Path:
    for name, content in files.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    return tmp_path


def test_folder_gives_a_report_a_file(tmp_path: Path) -> None:
    folder(tmp_path, B=b"two\r\nlines", A=b"", **{f"TCGA-AA-3672.{UUID}": "Größe".encode()})
    (tmp_path / "notes.md").write_text("no report")
    (tmp_path / ".hidden.txt").write_text("no report")
    (tmp_path / "inner").mkdir()
    reports = read_reports(tmp_path)
    assert dict(reports) == {"A": "", "B": "two\r\nlines", "TCGA-AA-3672": "Größe"}
    assert list(reports) == sorted(reports)
    assert reports.places["B"].endswith("B.txt")


def test_name_with_other_dots_is_kept_whole(tmp_path: Path) -> None:
    assert list(read_reports(folder(tmp_path, **{"case.1.final": b"x"}))) == ["case.1.final"]


def test_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert read_reports(folder(tmp_path, A=b"\xef\xbb\xbfAdenocarcinoma"))["A"] == "Adenocarcinoma"


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_table_gives_a_report_a_row(tmp_path: Path, ending: str) -> None:
    texts = {"1": 'says "no",\nthen yes', "2": "", "TCGA-1": "a\tb"}
    path = tmp_path / f"reports.{ending}"
    if ending == "jsonl":
        path.write_text("\n".join(json.dumps({"case_id": c, "text": t, "more": 1}) for c, t in texts.items()) + "\n\n")
    else:
        mark = "," if ending == "csv" else "\t"
        quoted = [f'{c}{mark}7{mark}"{t.replace(chr(34), chr(34) * 2)}"' for c, t in texts.items()]
        path.write_text("\n".join([f"case_id{mark}age{mark}text", *quoted]) + "\n", newline="")
    reports = read_reports(path)
    assert dict(reports) == texts
    assert "row" in reports.places["1"]


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_text_is_read_as_it_was_written(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("reports") / "reports.jsonl"
    path.write_text(json.dumps({"case_id": "A", "text": text}, ensure_ascii=False), newline="", encoding="utf-8")
    assert read_reports(path)["A"] == text


class TestWrongEncoding:
    def test_names_file_byte_and_way_out(self, tmp_path: Path) -> None:
        folder(tmp_path, A=b"fine", B="Größe".encode("latin-1"))
        with pytest.raises(ReportError, match=r"B\.txt: byte 2 \(0xF6\) is not UTF-8.*iconv"):
            read_reports(tmp_path)

    def test_does_not_stop_the_others_where_not_strict(self, tmp_path: Path) -> None:
        folder(tmp_path, A=b"fine", B="Größe".encode("latin-1"))
        reports = read_reports(tmp_path, strict=False)
        assert list(reports) == ["A"]
        assert list(reports.unreadable) == ["B"]
        assert reports.places["B"].endswith("B.txt")

    def test_of_every_file_stops(self, tmp_path: Path) -> None:
        with pytest.raises(ReportError, match="byte 0"):
            read_reports(folder(tmp_path, B=b"\xff"), strict=False)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_of_two_bytes_is_named(self, tmp_path: Path, encoding: str) -> None:
        with pytest.raises(ReportError, match="UTF-16"):
            read_reports(folder(tmp_path, A="Adenocarcinoma".encode(encoding)))

    def test_names_the_row_of_a_csv(self, tmp_path: Path) -> None:
        path = tmp_path / "reports.csv"
        path.write_bytes(b'case_id,text\nA,"two\nlines"\nB,fine\nC,Gr\xf6sse\n')
        with pytest.raises(ReportError, match=r"reports\.csv, row 4: byte 38 "):
            read_reports(path)

    def test_names_the_row_of_a_jsonl(self, tmp_path: Path) -> None:
        path = tmp_path / "reports.jsonl"
        path.write_bytes(b'{"case_id": "A", "text": ""}\n{"case_id": "B", "text": "Gr\xf6sse"}\n')
        with pytest.raises(ReportError, match=r"reports\.jsonl, row 2: byte 57 "):
            read_reports(path)

    def test_half_of_a_surrogate_pair_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "reports.jsonl"
        path.write_text('{"case_id": "A", "text": "\\ud83d"}')
        with pytest.raises(ReportError, match="row 1.*surrogate"):
            read_reports(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("r.csv", "case_id,report\nA,x\n", r"no column 'text'; it has case_id, report"),
        ("r.csv", "", r"no column 'case_id', 'text'; it has nothing"),
        ("r.csv", "case_id,text\n", "no report in it"),
        ("r.csv", "case_id,text\nA,x\nB,y\nA,z\n", r"'A' in .*row 2 and .*row 4"),
        ("r.csv", "case_id,text\nA,x,y\n", "row 2: 3 cells"),
        ("r.csv", "case_id,text\n,x\n", "row 2: case_id is empty"),
        ("r.csv", "case_id,text\n../A,x\n", "row 2.*can't be a file name"),
        ("r.csv", "case_id,text\nA\x9b,x\n", "row 2.*holds a control character"),
        ("r.csv", "case_id,text\nA," + "x" * 200_000 + "\n", "row 2.*JSONL"),
        ("r.jsonl", '{"case_id": "A", "text": "x"}\n{"case_id": "A"}\n', "row 2: no text"),
        ("r.jsonl", '{"case_id": "A", "text": "x"}\n{"case_id": "A", "text": ""}\n', "row 1 and .*row 2"),
        ("r.jsonl", '{"case_id": "A", "text": null}\n', "row 1: text is a JSON NoneType"),
        ("r.jsonl", '{"case_id": true, "text": "x"}\n', "row 1: case_id is True"),
        ("r.jsonl", "[1]\n", "row 1: a JSON list"),
        ("r.jsonl", '{"case_id": "A"\n', "row 1"),
        ("r.xlsx", "", r"\.xlsx.*says no format"),
    ],
)
def test_bad_file_is_told_by_row(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ReportError, match=words):
        read_reports(path)


def test_case_of_two_files_names_both(tmp_path: Path) -> None:
    folder(tmp_path, A=b"x", **{f"A.{UUID}": b"y"})
    with pytest.raises(ReportError, match=rf"'A' in .*A\.{UUID}\.txt and .*A\.txt|'A' in .*A\.txt and .*{UUID}"):
        read_reports(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no such file"):
        read_reports(tmp_path / "none")
    with pytest.raises(ReportError, match="no report in it"):
        read_reports(tmp_path)
