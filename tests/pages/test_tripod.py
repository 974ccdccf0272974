"""TRIPOD+AI: every item is there, what the workspace knows is said, and what it does not know is asked."""

import importlib.util
import re
import sys
import time
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from wsisurv.pages.cohort_page import write_report
from wsisurv.pages.tripod_items import tripod_items

_SPEC = importlib.util.spec_from_file_location("pages_cohort", Path(__file__).with_name("test_cohort_page.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
pages = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = pages
_SPEC.loader.exec_module(pages)
workspace, add_crossval = pages.workspace, pages.add_crossval
AUTHORS_OWN = (
    "2",
    "3a",
    "3b",
    "3c",
    "5b",
    "6c",
    "8b",
    "8c",
    "17",
    *(f"18{part}" for part in "abcde"),
    "19",
    "24",
    "27c",
)


class Cells(HTMLParser):
    """Cells of the first table of a page, a row each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(page.partition("</table>")[0])

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def read(folder: Path) -> dict[str, list[str]]:
    """Row of each item, by its number."""
    rows = Cells((folder / "tripod.html").read_text(encoding="utf-8")).rows[1:]
    return {row[0].split()[0]: [" ".join(cell.split()) for cell in row] for row in rows}


def test_the_items_are_those_of_the_statement() -> None:
    numbers = [item.number for item in tripod_items()]
    assert len(numbers) == len(set(numbers)) == 52
    assert {int(re.sub(r"\D", "", number)) for number in numbers} == set(range(1, 28))
    parts = {"3": 3, "5": 2, "6": 3, "8": 3, "9": 3, "12": 7, "18": 6, "20": 3, "23": 2, "27": 3}
    for item, count in parts.items():
        assert sum(re.fullmatch(rf"{item}[a-z]", number) is not None for number in numbers) == count
    assert all(item.asks and item.question.endswith("?") for item in tripod_items())


def test_a_bare_cohort_knows_its_participants_and_claims_no_model(workspace) -> None:
    result = write_report(workspace, pages.NAME, tripod=True)
    rows = read(result.page.parent)
    assert len(rows) == 52
    for number in (*AUTHORS_OWN, "1", "4", "15", "21", "22", "23a", "23b", "25"):
        assert rows[number][2] == "", number  # nothing was trained or tested
        assert rows[number][3].endswith("?"), number
    assert "70 rows of the clinical table" in rows["20a"][2]
    assert "Left out: 1: time is missing" in rows["20a"][2]
    assert "age: unknown in 7 of 60 cases" in rows["11"][2]
    assert "No value is missing of stage" in rows["11"][2]
    assert "stage: I 20, II 20, III 20." in rows["20b"][2]
    assert "Riley's criteria" in rows["10"][2]


def test_with_a_cross_validation_performance_is_told_with_its_intervals(add_crossval, workspace) -> None:
    add_crossval(workspace)
    result = write_report(workspace, pages.NAME, tripod=True)
    folder, rows = result.page.parent, read(result.page.parent)
    assert "selected student: concordance 0.600 (95 % interval 0.500 to 0.700)" in rows["23a"][2]
    assert "by Holm for" in rows["23b"][2]
    assert rows["23a"][3] == ""  # answered
    assert "Nothing is shown." in rows["25"][2]
    assert "Few events." in rows["26"][2]
    for number in AUTHORS_OWN:
        assert rows[number][2] == "", number
    assert {path.suffix for path in result.tripod} == {".html", ".md", ".docx"}
    # the same in Markdown, where what a user wrote stays words, and in Word
    text = (folder / "tripod.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 54
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in table)
    import docx

    word = docx.Document(str(folder / "tripod.docx"))
    told = {row.cells[0].text.split()[0]: row.cells[2].text for row in word.tables[0].rows[1:]}
    assert {number: " ".join(words.replace("`", "").split()) for number, words in told.items()} == {
        number: row[2] for number, row in rows.items()
    }
    assert len(word.inline_shapes) == 1  # the flow


def test_the_same_workspace_gives_the_same_bytes_at_another_time(workspace, monkeypatch) -> None:
    folder = write_report(workspace, pages.NAME, tripod=True).page.parent
    first = {path.name: path.read_bytes() for path in folder.glob("tripod.*")}
    assert len(first) == 3
    monkeypatch.setattr(zipfile.time, "localtime", lambda *_: time.struct_time((2031, 2, 3, 4, 5, 6, 0, 34, 0)))
    write_report(workspace, pages.NAME, tripod=True)
    assert {name: (folder / name).read_bytes() for name in first} == first


def test_without_python_docx_the_others_are_written(workspace, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "docx" else real(name, *rest))
    result = write_report(workspace, pages.NAME, tripod=True)
    assert {path.suffix for path in result.tripod} == {".html", ".md"}


def test_it_is_written_where_it_is_asked_for(workspace) -> None:
    assert write_report(workspace, pages.NAME).tripod == ()
    assert not list(workspace.root.rglob("tripod.*"))


@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_scrolls_it_down_only(workspace, tmp_path, width) -> None:
    import shutil
    import subprocess

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    write_report(workspace, pages.NAME, tripod=True)
    page = workspace.cohort(pages.NAME) / "evaluation" / "tripod.html"
    frame = page.with_name("frame.html")
    frame.write_text(
        f'<iframe id="f" src="tripod.html" style="width:{width}px;height:900px;border:0"></iframe>'
        '<pre id="seen"></pre><script>'
        'addEventListener("load", () => { const root = document.getElementById("f").contentDocument.documentElement;'
        'document.getElementById("seen").textContent = root.scrollWidth - root.clientWidth; });</script>'
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}"]
    options += ["--allow-file-access-from-files", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([chromium, *options, frame.as_uri()], capture_output=True, text=True, check=True)
    assert re.search(r'id="seen">0</pre>', done.stdout)
