import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.formats.statements import Category, Polarity
from wsisurv.reports.grounding import Proof, ground, prove
from wsisurv.reports.rules import extract_rules
from wsisurv.reports.sections import find_sections, find_sentences

SECTIONED = """CLINICAL HISTORY:
A 66-year-old patient with a lesion of the colon. Biopsy: adenocarcinoma.

GROSS DESCRIPTION:
Received fresh, labelled colon, is a segment 20 cm long. The tumour measures 3.1 x 2.2 cm and invades fat grossly.
A1 proximal margin; A2 distal margin; A3-A7 tumour with deepest invasion; B1-B4 lymph nodes.

MICROSCOPIC DESCRIPTION:
Sections show an invasive adenocarcinoma, moderately differentiated. Tumour necrosis is focal.
No lymphovascular invasion is identified. There are 12 mitoses per mm2. Gland formation is moderate.

IMMUNOHISTOCHEMISTRY: MLH1 and PMS2 show loss of nuclear expression in the carcinoma.

DIAGNOSIS:
Colon, resection: adenocarcinoma. 20 lymph nodes, all free of tumour (0/20). Margins clear.

Electronically signed: A. Figment MD, 12 Invented Street.
"""
# Made up in the manner of scanned reports: a period at the end of each line, "O" for "0", capitals.
SCANNED = (
    "SPECIMEN. Right colon. PRE-OP DIAGNOSIS: Carcinoma of the caecum. GROSS DESCRIPTION. Received fresh is a 12 cm. "
    "segment of colon with a rubbery tan mass extending. into the muscularis. RS4. BLOCK SUMMARY: 1 - margins; 2-4 - "
    "tumor. MICROSCOPIC DESCRIPTION. Histologic grade: Poorly differentiated. Primary tumor (pT) : Tumor invades "
    "through the muscularis. into the pericolonic fat (pT3). Vascular invasion: Not identified. Perineural invasion: "
    "Present. Regional lymph nodes (pN) : 16 lymph nodes are negative for. metastatic carcinoma (pNO). DIAGNOSIS. "
    "MODERATE DESMOPLASTIC STROMA. NO EVIDENCE OF. NECROSIS. MLH1: PRESENT. Electronic signature."
)


def found(text: str) -> set[tuple[Category, Polarity]]:
    extraction = extract_rules(text, keep="morphology")
    return {(s.category, s.polarity) for s in ground("c", extraction.claims, text).statements}


def test_a_sectioned_report_gives_its_microscopic_findings_only() -> None:
    extraction = extract_rules(SECTIONED, keep="morphology")
    assert found(SECTIONED) == {
        ("histological_type", "present"),
        ("grade", "present"),
        ("necrosis", "present"),
        ("lymphovascular_invasion", "absent"),
        ("mitoses", "present"),
        ("growth_pattern", "present"),
        ("node", "absent"),
        ("margin", "absent"),
    }
    quoted = " ".join(claim.evidence for claim in extraction.claims)
    assert not {"66-year-old", "3.1", "MLH1", "A1", "Figment"} & set(quoted.split())
    assert extraction.left_out.keys() >= {"gross", "immunohistochemistry", "history", "identifiers"}


def test_a_scanned_report_is_read_across_its_line_ends() -> None:
    assert found(SCANNED) == {
        ("grade", "present"),
        ("invasion", "present"),
        ("lymphovascular_invasion", "absent"),
        ("perineural_invasion", "present"),
        ("node", "absent"),
        ("stroma", "present"),
        ("necrosis", "absent"),
    }
    assert set(extract_rules(SCANNED, keep="morphology").left_out) == {
        "gross",
        "immunohistochemistry",
        "history",
        "handling",
        "identifiers",
    }


@pytest.mark.parametrize(
    ("sentence", "category", "polarity"),
    [
        ("Poorly differentiated, with frequent mitotic figures.", "mitoses", "present"),
        ("Tumour-infiltrating lymphocytes are numerous.", "inflammation", "present"),
        ("There is no significant host lymphoid response.", "inflammation", "absent"),
        ("The stroma is loose and oedematous.", "stroma", "present"),
        ("A marked desmoplastic reaction is present.", "stroma", "present"),
        ("No mucin pools are seen.", "mucin", "absent"),
        ("Invasive ductal carcinoma of the breast, grade 3.", "histological_type", "present"),
        ("Ductal carcinoma in situ is absent.", "precursor", "absent"),
        ("Perineural Invasion: Indeterminate.", "perineural_invasion", "uncertain"),
        ("Suspicious for angiolymphatic invasion.", "lymphovascular_invasion", "uncertain"),
        ("L0, V1, pN2, R0.", "lymphovascular_invasion", "present"),
        ("pN0 V1 Pn1 R0", "perineural_invasion", "present"),
        ("Lymphovascular. space invasion is not identified.", "lymphovascular_invasion", "absent"),
        ("Lymphovascular\ninvasion:\n\n  Not identified", "lymphovascular_invasion", "absent"),
        ("Arterial (large vessel) invasion: Absent.", "lymphovascular_invasion", "absent"),
        ("Perineurial invasion is present.", "perineural_invasion", "present"),
        ("The total number of involved lymph nodes is 0.", "node", "absent"),
        ("Metastatic carcinoma in 3 of 20 lymph nodes.", "node", "present"),
        ("Lymph node, biopsy: a lymph node negative for carcinoma.", "node", "absent"),
    ],
)
def test_prose_of_any_cancer_is_read(sentence: str, category: Category, polarity: Polarity) -> None:
    assert (category, polarity) in found(f"Microscopy. {sentence}")


def test_what_is_said_of_vessels_and_nerves_is_not_said_of_the_tumours_depth_or_of_nodes() -> None:
    assert found("Diagnosis. Lymphovascular. space invasion is not identified.") == {
        ("lymphovascular_invasion", "absent")
    }
    assert found("Diagnosis. V1 Pn0") == {("lymphovascular_invasion", "present"), ("perineural_invasion", "absent")}


def test_a_label_without_its_value_says_nothing() -> None:
    assert found("Invasion Vasc/Lymphatic: Invasion Perineural: Absent.") == {("perineural_invasion", "absent")}


def test_keep_all_adds_the_rest_but_never_a_name() -> None:
    everything = extract_rules(SECTIONED, keep="all")
    kept = [claim for claim in everything.claims if claim.category == "non_morphology"]
    quoted = " ".join(claim.evidence for claim in kept)
    assert "3.1 x 2.2 cm" in quoted
    assert "MLH1" in quoted
    assert "66-year-old" in quoted
    assert "Figment" not in quoted
    assert everything.left_out.keys() == {"identifiers"}
    morphology = extract_rules(SECTIONED, keep="morphology").claims
    assert set(morphology) == {claim for claim in everything.claims if claim.category != "non_morphology"}


@pytest.mark.parametrize("text", [SECTIONED, SCANNED])
def test_nearly_all_claims_are_proved_where_they_stand(text: str) -> None:
    claims = extract_rules(text, keep="all").claims
    refused = [claim for claim in claims if not isinstance(prove(claim, text), Proof)]
    assert len(refused) <= 0.1 * len(claims), refused


@pytest.mark.parametrize(
    "text",
    [
        "Lymph nodes, biopsy: Negative for malignancy.",
        "Distance of tumor from closest margin: 3 cm.",
        "Sections are from G1 H1.",
        "Blocks G1, G2.",
    ],
)
def test_labels_and_blocks_and_distances_are_no_findings(text: str) -> None:
    claims = extract_rules("MICROSCOPIC DESCRIPTION:\n" + text, keep="morphology").claims
    assert not [claim for claim in claims if claim.polarity == "present"]


@pytest.mark.parametrize("text", ["", " \n ", ".", "Page 1 of 3.", "12", "See comment."])
def test_a_report_that_says_nothing_gives_nothing(text: str) -> None:
    assert extract_rules(text, keep="morphology").claims == ()


@given(st.lists(st.sampled_from(SECTIONED.split("\n")), max_size=12).map("\n".join) | st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_sections_and_sentences_cover_any_text_in_order(text: str) -> None:
    sections = find_sections(text)
    assert "".join(text[s.start : s.end] for s in sections) == text
    sentences = list(find_sentences(text))
    assert all(left.end <= right.start for left, right in zip(sentences, sentences[1:], strict=False))
    extraction = extract_rules(text, keep="all")
    assert all(claim.evidence in text for claim in extraction.claims)


@pytest.mark.parametrize(
    ("item", "gross"),
    [
        ("Lymph nodes: 29 identified.", True),
        ("Margins: the closest is 5.2 cm away.", True),
        ("Surgical margins: 3 cm and 8 cm. Mucosa: pinpoint haemorrhage.", True),
        ("Regional lymph nodes: twelve, up to 1.2 cm.", True),
        ("Lymph nodes: 2/29 with metastasis.", False),
        ("Lymph nodes: no tumour in 29.", False),
        ("Margins: uninvolved by carcinoma.", False),
        ("Perineural invasion: present.", False),
    ],
)
def test_items_of_a_gross_description_are_no_findings_of_a_slide(item, gross):
    """Whoever claims them: the next heading inside a gross description does not end it."""
    text = f"GROSS: A mass of 6.7 cm narrows the lumen. {item} MICROSCOPIC DESCRIPTION: Adenocarcinoma."
    at = text.index(item)
    assert any(one.by_eye and one.start <= at < one.end for one in find_sections(text)) == gross
    kept = ground("c", extract_rules(text, keep="morphology").claims, text).statements
    inside = [one for one in kept if text.index(item) <= one.start < text.index("MICROSCOPIC")]
    assert not (gross and inside)
    assert [one.evidence for one in kept][-1] == "Adenocarcinoma"
    alone = find_sections(f"DIAGNOSIS: Adenocarcinoma. {item}")
    assert not any(section.by_eye for section in alone)  # the same words elsewhere are as they were
