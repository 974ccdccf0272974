"""Statements and their specimens, in the forms in which real reports number them."""

from typing import Any

import pytest

from wsisurv.formats.slide_names import slides_of_block
from wsisurv.formats.statements import ReportRecord
from wsisurv.reports.grounding import Claim, ground
from wsisurv.reports.specimens import find_origin


def specimen(text: str, words: str) -> str | None:
    """Of the last place where the words stand."""
    start = text.rindex(words)
    return find_origin(text, start, start + len(words))[0]


@pytest.mark.parametrize(
    ("text", "of"),
    [
        (
            "DIAGNOSIS: A. Colon, right, resection: Adenocarcinoma, grade 2. B. Apical lymph node, biopsy: No tumor.",
            {"Adenocarcinoma": "A", "No tumor": "B"},
        ),
        (
            "FINAL DIAGNOSIS: PART 1: RIGHT OVARY -. A. MATURE TERATOMA. B. NO ADENOCARCINOMA. PART 2: UTERUS -. "
            "A. ENDOMETRIOID CARCINOMA. B. ADENOMYOSIS.",
            {"NO ADENOCARCINOMA": "1", "ENDOMETRIOID CARCINOMA": "2", "ADENOMYOSIS": "2"},
        ),
        (
            "SPECIMEN SUBMITTED: Part A: RIGHT UPPER LOBE. Part B: LEVEL 10 R. Final Diagnosis. 1. Right lung, wedge "
            "excision (A) Solid adenocarcinoma. 2. Lymph node, excision (B) Negative for neoplasm.",
            {"Solid adenocarcinoma": "A", "Negative for neoplasm": "B"},
        ),
        (
            "Specimen(s): A. Right parametrium. B. Uterus and tubes. MICROSCOPIC DIAGNOSIS. A. RIGHT PARAMETRIUM: NO "
            "MALIGNANCY. B. UTERUS. TUBES: ADENOCARCINOMA. COMMENT(S). PROTOCOL OF THE ENDOMETRIUM. GRADE 2.",
            {"NO MALIGNANCY": "A", "ADENOCARCINOMA": "B", "GRADE 2": None},
        ),
        (
            "A - Bladder, anterior wall, transurethral excision.\n- Papillary carcinoma.\nB - Left renal pelvis, "
            "biopsy.\n- Invasion cannot be assessed.",
            {"Papillary carcinoma": "A", "Invasion cannot": "B"},
        ),
        (
            "DIAGNOSIS: 1) Sigmoid, resection: Tumor Type: Adenocarcinoma. Nodes examined: 1. Stage: pT2. "
            "2) Gallbladder; cholecystectomy: Cholelithiasis. I ATTEST THAT THIS IS MINE. Necrosis was seen.",
            {"Adenocarcinoma": "1", "Nodes examined": "1", "pT2": None, "Cholelithiasis": "2", "Necrosis": None},
        ),
    ],
    ids=["letters", "parts with findings in letters", "numbers for parts", "as submitted", "dashes", "numbers"],
)
def test_a_place_is_of_the_specimen_that_it_is_listed_under(text: str, of: dict[str, str | None]) -> None:
    assert {words: specimen(text, words) for words in of} == of


@pytest.mark.parametrize(
    "text",
    [
        "DIAGNOSIS: 1. Adenocarcinoma, moderately differentiated. 2. Metastasis in one node. 3. Margins free.",
        "Colon, resection. Tumor characteristics: 1. Histologic type: Carcinoma. 2. Grade: 2. 3. Size: 4 cm.",
        "DIAGNOSIS: A. Colon, resection: Adenocarcinoma.",
        "Adenocarcinoma of the colon, resected. No metastasis in vitamin B. The margin is free.",
    ],
    ids=["findings", "a checklist", "one alone", "no list"],
)
def test_what_else_is_numbered_has_no_specimen(text: str) -> None:
    assert {find_origin(text, at, at + 1) for at in range(len(text))} == {(None, ())}


def test_words_between_labels_of_which_one_was_not_read_have_no_specimen() -> None:
    """B was scanned as 8: whether its words are A's is not known."""
    text = "A. Colon, resection: Carcinoma. 8. Node, biopsy: Metastasis. C. Gallbladder, excision: Stones."
    assert (specimen(text, "Metastasis"), specimen(text, "Carcinoma"), specimen(text, "Stones")) == (None, None, "C")


def test_the_last_of_a_list_is_not_taken_for_those_that_were_not_read() -> None:
    text = (
        "Specimens submitted: A. Colon. B. Node. C. Gallbladder. DIAGNOSIS: A. Colon: Carcinoma. B. Node: Reactive. "
        "c. Gallbladder: Stones."
    )
    assert (specimen(text, "Carcinoma"), specimen(text, "Stones")) == ("A", None)


def test_blocks_of_the_specimen_are_those_that_the_sentence_names() -> None:
    text = (
        "A. Colon, resection: Carcinoma (A3 and A-12), grade G1. Necrosis in slide A4. No mucin (B1). "
        "B. Node, biopsy: pN1 (B2)."
    )

    def blocks(words: str) -> tuple[str, ...]:
        return find_origin(text, text.index(words), text.index(words) + len(words))[1]

    assert [blocks(one) for one in ("Carcinoma", "Necrosis", "No mucin", "pN1")] == [
        ("A3", "A12"),
        ("A4",),
        (),
        ("B2",),
    ]


def test_statements_have_it_whoever_claims_them_and_files_without_it_are_read() -> None:
    text = "A. Colon, resection: Necrosis is present (A2). B. Colon, biopsy: No mucin. Comment: Tumor budding is seen."
    claims = [
        Claim("necrosis", "present", "Necrosis", "Necrosis is present"),
        Claim("mucin", "absent", "No mucin", "No mucin"),
        Claim("growth_pattern", "present", "Budding", "Tumor budding is seen"),
    ]
    found = ground("c", claims, text).statements
    assert [(one.specimen, one.blocks) for one in found] == [("A", ("A2",)), ("B", ()), (None, ())]
    record = ReportRecord(case_id="c", fingerprint="", report_sha256="", statements=found)
    line: dict[str, Any] = record.as_line()
    assert [one.keys() & {"specimen", "blocks"} for one in line["statements"]] == [
        {"specimen", "blocks"},
        {"specimen"},
        set(),
    ]
    assert ReportRecord.model_validate(line) == record


@pytest.mark.parametrize(
    ("block", "case_id", "slides", "of"),
    [
        ("A3", "TCGA-A3-01", ["TCGA-A3-01-A3.svs", "TCGA-A3-01_A13", "TCGA-A3-01 a3 HE", "TCGA-A3-01-DX1"], [0, 2]),
        (
            "A3",
            "S12-3456",
            ["S12-3456 A3.svs", "S12-3456 A13.svs", "S12-3456 A3 L2 x20.svs", "S12-3456 B3.svs"],
            [0, 2],
        ),
        ("A3", "p1", ["S12-3456_A3_p53.ndpi", "S12-3456-A3-1.mrxs", "S12-3456 3A.svs"], [0, 1]),
        ("2B", "H2019.1234", ["H2019.1234 2B.svs", "H2019.1234-2b-1.svs", "H2019.1234 12B.svs"], [0, 1]),
        ("C1", "p1", ["2012-B-3456_C1.tif", "2012-B-3456_C11.tif"], [0]),
    ],
)
def test_a_slide_is_of_a_block_by_a_part_of_its_name_behind_the_cases(
    block: str, case_id: str, slides: list[str], of: list[int]
) -> None:
    assert slides_of_block(block, case_id, slides) == [slides[at] for at in of]


@pytest.mark.parametrize(
    ("block", "case_id", "slide"),
    [
        ("11A", "TCGA-A6-2671", "TCGA-A6-2671-11A-01-TS1.0d6b7d8c-a3e1-4c3b-b123-aa11bb22cc33.svs"),  # a kind of sample
        ("1A", "TCGA-A6-2671", "TCGA-A6-2671-01A-01-BS1.svs"),
        ("A6", "p1", "TCGA-A6-2671-01Z-00-DX1.svs"),  # a hospital
        ("H22", "p1", "H22-1234_B10_HE.ndpi"),  # a laboratory's year
        ("B12", "p1", "B12-3456.svs"),
        ("P53", "S12-3456", "S12-3456 p53.svs"),
        ("20X", "S12-3456", "S12-3456 20x.svs"),
        ("L2", "S12-3456", "S12-3456 L2.svs"),
        ("A1", "S12-3456", "S12-3456 A1 B2.svs"),
        ("C3", "C3L-00001", "C3L-00001-21.svs"),
    ],
)
def test_what_looks_like_a_block_in_a_slides_name_is_none(block: str, case_id: str, slide: str) -> None:
    assert slides_of_block(block, case_id, [slide]) == []


def test_no_slide_is_of_a_block_where_a_case_has_two_numbers_of_a_laboratory() -> None:
    """A biopsy and a resection both have a block A1; which of them the report is of isn't known."""
    slides = ["S11-0815 A1.svs", "S12-3456 A1.svs", "S12-3456 A2.svs"]
    assert slides_of_block("A1", "p1", slides) == []
    assert slides_of_block("A1", "p1", slides[1:]) == slides[1:2]
