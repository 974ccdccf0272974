import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.errors import ReportError
from wsisurv.formats.statements import RejectedRecord, ReportRecord, Statement
from wsisurv.pages.statements_page import render_statements, write_statements_page
from wsisurv.reports.evaluation import evaluate_reports
from wsisurv.reports.grounding import Claim, ground
from wsisurv.reports.rules import extract_rules

REPORTS = {
    "case-2": "GROSS DESCRIPTION: A tan mass of 3 cm. MICROSCOPIC DESCRIPTION: Moderately differentiated "
    "adenocarcinoma. No necrosis is seen.",
    "case-10": "Microscopy. <script>document.title='stolen'</script> Perineural invasion is present & \"wide\".",
}
REJECTED = [
    RejectedRecord(case_id="case-2", category="mucin", text="<b>mucin</b>", evidence="mucin", reason="not there")
]


def records() -> dict[str, ReportRecord]:
    made = {}
    for case_id, text in REPORTS.items():
        extraction = extract_rules(text, keep="morphology")
        statements = ground(case_id, extraction.claims, text).statements
        made[case_id] = ReportRecord(
            case_id=case_id, fingerprint="", report_sha256="", statements=statements, left_out=extraction.left_out
        )
    return made


class Reader(HTMLParser):
    """Texts of each report, what is marked in them, and every tag and attribute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.marked: list[str] = []
        self._depth = 0
        self._mark = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if dict(attrs).get("class") == "text":
            self.texts.append("")
            self._depth = 1
        if self._depth and tag == "mark":
            self._mark = True
            self.marked.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self._depth = 0
        if tag == "mark":
            self._mark = False

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.texts[-1] += data
            if self._mark:
                self.marked[-1] += data


def test_every_report_is_whole_with_its_statements_marked() -> None:
    made = records()
    page = Reader(render_statements(made, REPORTS, REJECTED, evaluate_reports(made, REPORTS)))
    assert page.texts == [REPORTS[case] for case in sorted(REPORTS)]
    assert "No necrosis is seen" in page.marked
    assert "Moderately differentiated adenocarcinoma" in page.marked
    assert not any("tan mass" in mark for mark in page.marked)
    assert any(attrs.get("class") == "out gross" for _, attrs in page.tags)
    assert any(attrs.get("class") == "absent" for tag, attrs in page.tags if tag == "mark")


def test_specimen_and_blocks_stand_beside_the_evidence() -> None:
    text = "A. Colon, resection: Necrosis is present (A2). B. Node, biopsy: No mucin."
    kept = ground("c", extract_rules(text, keep="morphology").claims, text).statements
    record = ReportRecord(case_id="c", fingerprint="", report_sha256="", statements=kept)
    page = render_statements({"c": record}, {"c": text})
    assert re.search(r"Necrosis is present[^<]*</td>\s*<td>A \(A2\)</td>", page)
    assert re.search(r"No mucin</td>\s*<td>B</td>", page)


def test_six_hues_stand_for_all_categories() -> None:
    from typing import get_args

    from wsisurv.formats.statements import Category
    from wsisurv.pages.statements_page import _HUES

    assert set(_HUES) == set(get_args(Category))
    hues = sorted(set(_HUES.values()))
    assert len(hues) == 6
    assert min(b - a for a, b in zip(hues, [*hues[1:], hues[0] + 360], strict=True)) >= 30


def test_the_first_report_is_open_and_a_paragraph_begins_at_each_heading() -> None:
    page = render_statements(records(), REPORTS)
    opened = [attrs for tag, attrs in Reader(page).tags if tag == "details"]
    assert ["open" in attrs for attrs in opened] == [True, False]
    assert opened[0]["data-case"] == "case-10"
    paragraphs = [re.sub(r"<[^>]*>", "", one) for one in re.findall(r"<p>(.*?)</p>", page, re.DOTALL)]
    assert [one.split(":")[0] for one in paragraphs if "DESCRIPTION" in one] == [
        "GROSS DESCRIPTION", "MICROSCOPIC DESCRIPTION",
    ]  # fmt: skip


def test_nothing_of_a_gross_description_is_marked_as_kept() -> None:
    """Not even where a language model claims it."""
    text = "GROSS DESCRIPTION: A tumour with necrosis, 3 cm. MICROSCOPIC DESCRIPTION: Necrosis is present."
    claims = [Claim("necrosis", "present", "necrosis", quote) for quote in ("with necrosis", "Necrosis is present")]
    kept = ground("c", claims, text).statements
    record = ReportRecord(case_id="c", fingerprint="", report_sha256="", statements=kept)
    assert Reader(render_statements({"c": record}, {"c": text})).marked == ["Necrosis is present"]


def test_rejected_findings_are_listed_with_the_reason() -> None:
    page = render_statements(records(), REPORTS, REJECTED)
    assert "not there" in page
    assert "&lt;b&gt;mucin&lt;/b&gt;" in page


def test_nothing_comes_from_elsewhere_and_one_script_may_run() -> None:
    page = render_statements(records(), REPORTS, REJECTED)
    reader = Reader(page)
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert not [attrs for _, attrs in reader.tags if {"src", "href", "onclick", "onload"} & attrs.keys()]
    assert not re.search(r"https?://|@import|url\(", page)
    assert "default-src 'none'" in page


@given(st.text(max_size=80), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_text_and_any_places_come_back_as_they_were(text: str, places: list[tuple[int, int]]) -> None:
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "", text)  # what HTML can't hold
    statements = tuple(
        Statement(
            statement_id=f"c/{number}",
            category="necrosis",
            polarity="present",
            text=text,
            evidence=text,
            start=min(place),
            end=max(place),
            match="exact",
        )
        for number, place in enumerate(places, start=1)
    )
    record = ReportRecord(case_id="c", fingerprint="", report_sha256="", statements=statements)
    page = Reader(render_statements({"c": record}, {"c": text}))
    assert page.texts == [text]
    assert {tag for tag, _ in page.tags} >= {"details", "main"}


def test_a_record_without_its_report_is_named() -> None:
    with pytest.raises(ReportError, match="case-10"):
        render_statements(records(), {"case-2": REPORTS["case-2"]})


def test_a_browser_opens_it_from_a_folder_and_its_script_runs(tmp_path: Path, browse: Callable[[str], str]) -> None:
    made = records()
    write_statements_page(tmp_path / "index.html", made, REPORTS, REJECTED, evaluate_reports(made, REPORTS))
    shown = browse((tmp_path / "index.html").as_uri())
    assert "2 of 2 reports" in shown  # written by the page's own script
    assert "<title>Statements in 2 reports</title>" in shown  # and not by the report's
