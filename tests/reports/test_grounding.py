import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsisurv.formats.statements import Category, Polarity
from wsisurv.reports.grounding import Claim, Proof, Refusal, _beginnings, _match_at, ground, prove
from wsisurv.reports.tokens import Reading

BEFORE = "Sections of the colon show an ulcerated lesion. "
AFTER = " The surrounding mucosa is unremarkable. See the drawing on the request form."


def case(category: Category, polarity: Polarity, sentence: str, text: str | None = None) -> Claim:
    return Claim(category, polarity, text or sentence.rstrip("."), sentence)


CLAIMS = [
    case("histological_type", "present", "Invasive adenocarcinoma of the usual type."),
    case("grade", "present", "Moderately differentiated adenocarcinoma (G2)."),
    case("grade", "present", "HISTOLOGIC GRADE: POORLY DIFFERENTIATED.", "poorly differentiated histologic grade"),
    case(
        "grade",
        "present",
        "The tumour is of grade II with well formed glands.",
        "tumour of grade II, well formed glands",
    ),
    case("grade", "present", "Histologic grade: High-grade.", "high grade, histologic"),
    case("mitoses", "present", "There are 12 mitoses per 10 high power fields.", "12 mitoses per 10 high power fields"),
    case("mitoses", "present", "Mitotic figures are frequent (up to 21 per mm2).", "mitotic figures, up to 21 per mm2"),
    case(
        "invasion", "present", "The tumor invades 4.5 mm into the pericolic fat (pT3).", "invades 4.5 mm into fat, pT3"
    ),
    case("invasion", "absent", "Invasion of the serosa is not identified.", "no invasion of the serosa"),
    case("invasion", "absent", "The tumour does not invade the serosal surface.", "serosal surface not invaded"),
    case("lymphovascular_invasion", "present", "Lymphovascular invasion is present.", "lymphovascular invasion"),
    case("lymphovascular_invasion", "absent", "No lymphovascular invasion is identified.", "lymphovascular invasion"),
    case("lymphovascular_invasion", "absent", "Vascular invasion: Not identified.", "no vascular invasion"),
    case("perineural_invasion", "present", "Perineural invasion: Present.", "perineural invasion"),
    case("perineural_invasion", "absent", "PERINEURAL INVASION: ABSENT.", "perineural invasion"),
    case("necrosis", "present", "Necrosis makes up about 30% of the tumour.", "necrosis of about 30%"),
    case("necrosis", "absent", "Adenocarcinoma without necrosis.", "adenocarcinoma without necrosis"),
    case("node", "present", "Metastatic carcinoma in 3 of 17 lymph nodes (3/17).", "metastases in 3/17 lymph nodes"),
    case("node", "absent", "Sixteen lymph nodes are negative for carcinoma (0/16).", "16 lymph nodes negative (0/16)"),
    case("margin", "absent", "The proximal and distal margins are free of tumor.", "proximal and distal margins free"),
    case("margin", "present", "The radial margin is positive for carcinoma.", "radial margin positive for carcinoma"),
    case("inflammation", "present", "A marked lymphocytic infiltrate is seen.", "marked lymphocytic infiltrate"),
    case("mucin", "uncertain", "Findings are suspicious for a mucinous component.", "mucinous component suspected"),
]
IDS = [claim.evidence for claim in CLAIMS]
claims = st.sampled_from(CLAIMS)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
GRADES = ["well", "moderately", "poorly", "high", "low"]
ROMANS = ["I", "II", "III", "IV"]
NEGATIONS = ["not", "no", "without", "negative", "absent", "free"]
AFFIRMED = {"absent": "present", "negative": "positive", "free": "involved", "without": "with", "no": "", "not": ""}


def reported(sentence: str) -> str:
    return BEFORE + sentence + AFTER


def swap(text: str, found: re.Match[str], new: str) -> str:
    return text[: found.start()] + new + text[found.end() :]


@pytest.mark.parametrize("claim", CLAIMS, ids=IDS)
def test_a_verbatim_sentence_proves_its_claim(claim: Claim) -> None:
    report = reported(claim.evidence)
    proof = prove(claim, report)
    assert isinstance(proof, Proof), proof
    assert proof.match == "exact"
    assert report[proof.start : proof.end] == claim.evidence


@given(claims, st.data())
@settings(max_examples=400, deadline=None)
def test_no_altered_number_is_accepted(claim: Claim, data: st.DataObject) -> None:
    where = data.draw(st.sampled_from(["evidence", "text", "report"]))
    source = {"evidence": claim.evidence, "text": claim.text, "report": claim.evidence}[where]
    numbers = list(NUMBER.finditer(source))
    if not numbers:
        return
    found = data.draw(st.sampled_from(numbers))
    others = st.integers(0, 400).map(str) | st.decimals(0, 99, places=1).map(str) | st.just(found.group()[::-1])
    new = data.draw(others.filter(lambda number: float(number) not in {float(n.group()) for n in numbers}))
    altered = swap(source, found, new)
    assert_refused(claim, where, altered)


@given(claims, st.data())
@settings(max_examples=400, deadline=None)
def test_no_altered_grade_is_accepted(claim: Claim, data: st.DataObject) -> None:
    where = data.draw(st.sampled_from(["evidence", "text", "report"]))
    source = claim.text if where == "text" else claim.evidence
    words = [
        (found, options)
        for pattern, options in ((r"\b(?:well|moderately|poorly|high|low)\b", GRADES), (r"\bI{1,3}V?\b", ROMANS))
        for found in re.finditer(pattern, source, re.IGNORECASE)
        if found.group() != "I"
    ] + [(found, ["G1", "G2", "G3", "G4"]) for found in re.finditer(r"\bG[1-4]\b", source)]
    if not words or "high power" in source:
        return
    found, options = data.draw(st.sampled_from(words))
    new = data.draw(st.sampled_from(options).filter(lambda option: option.lower() != found.group().lower()))
    assert_refused(claim, where, swap(source, found, new))


@given(claims, st.data())
@settings(max_examples=400, deadline=None)
def test_no_negation_taken_away_is_accepted(claim: Claim, data: st.DataObject) -> None:
    where = data.draw(st.sampled_from(["evidence", "report"]))
    negations = list(re.finditer(r"\b(?:not|no|without|negative|absent|free)\b", claim.evidence, re.IGNORECASE))
    if not negations or "(0/" in claim.evidence:
        return
    found = data.draw(st.sampled_from(negations))
    assert_refused(claim, where, swap(claim.evidence, found, AFFIRMED[found.group().lower()]))


@given(claims, st.data())
@settings(max_examples=400, deadline=None)
def test_no_negation_put_in_is_accepted(claim: Claim, data: st.DataObject) -> None:
    """The report denies (somewhere) what the evidence affirms, or the evidence denies what the report affirms."""
    where = data.draw(st.sampled_from(["evidence", "report"]))
    gaps = [found.start() for found in re.finditer(" ", claim.evidence)]
    at = data.draw(st.sampled_from([0, *gaps[:-1]]))
    new = data.draw(st.sampled_from(["not", "no", "without", "absent", "never"]))
    altered = f"{claim.evidence[:at]} {new} {claim.evidence[at:]}".strip()
    if where == "report" and claim.polarity != "present":
        return  # a double negation is no sentence that anybody writes
    assert_refused(claim, where, altered)


@given(claims)
def test_the_other_polarity_is_refused(claim: Claim) -> None:
    for polarity in ("present", "absent", "uncertain"):
        if polarity != claim.polarity:
            turned = Claim(claim.category, polarity, claim.text, claim.evidence)
            assert isinstance(prove(turned, reported(claim.evidence)), Refusal), polarity


@given(claims, st.data())
@settings(max_examples=300, deadline=None)
def test_a_piece_cut_from_a_sentence_never_turns_its_meaning(claim: Claim, data: st.DataObject) -> None:
    """Whatever part of a denied sentence is quoted, it proves nothing as present; nor an affirmed one as absent."""
    words = claim.evidence.split()
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first + 1, len(words)))
    quote = " ".join(words[first:last])
    denied = {"present": "absent", "absent": "present", "uncertain": "present"}[claim.polarity]
    plain = re.sub(r"\b(?:not|no|without|negative|absent|free)\b", "", claim.text, flags=re.IGNORECASE)
    if "adenocarcinoma" in quote and claim.category == "necrosis":
        return  # the tumour itself is there
    for text in (plain, quote):
        verdict = prove(Claim(claim.category, denied, text, quote), reported(claim.evidence))
        assert isinstance(verdict, Refusal), (quote, text, verdict)


def assert_refused(claim: Claim, where: str, altered: str) -> None:
    evidence = altered if where == "evidence" else claim.evidence
    text = altered if where == "text" else claim.text
    report = reported(altered if where == "report" else claim.evidence)
    verdict = prove(Claim(claim.category, claim.polarity, text, evidence), report)
    assert isinstance(verdict, Refusal), (where, altered, verdict)


def fold(data: st.DataObject, sentence: str) -> str:
    """The sentence as another printer or scanner would have it; nothing that it says is changed."""
    kind = data.draw(st.sampled_from(["case", "space", "break", "period", "hyphen"]))
    words = sentence.split(" ")
    at = data.draw(st.integers(1, len(words) - 1))
    if kind == "case":
        return sentence.upper() if data.draw(st.booleans()) else sentence.lower()
    if kind == "space":
        return " ".join(words[:at]) + data.draw(st.sampled_from(["  ", "\t", "\u00a0"])) + " ".join(words[at:])
    if kind == "break":
        return " ".join(words[:at]) + "\n" + " ".join(words[at:]).lower()
    if kind == "period" and words[at].isalpha() and words[at].islower():
        return " ".join(words[:at]) + ". " + " ".join(words[at:])
    if kind == "hyphen" and words[at].isalpha() and len(words[at]) > 6:
        return " ".join([*words[:at], words[at][:4] + "-\n" + words[at][4:].lower(), *words[at + 1 :]])
    return sentence


@given(claims, st.data())
@settings(max_examples=300, deadline=None)
def test_printing_and_scanning_do_not_hide_a_finding(claim: Claim, data: st.DataObject) -> None:
    printed = fold(data, claim.evidence)
    report = reported(printed)
    proof = prove(claim, report)
    assert isinstance(proof, Proof), (printed, proof)
    squeezed = re.sub(r"[\s.-]", "", report[proof.start : proof.end]).casefold()
    assert squeezed in re.sub(r"[\s.-]", "", claim.evidence).casefold()
    assert proof.match == "exact" or printed != claim.evidence


@pytest.mark.parametrize(
    ("report", "evidence", "match"),
    [
        ("The tumor invades the rnuscularis.", "The tumor invades the muscularis", "inexact"),
        ("1ymphatic invasion is seen.", "lymphatic invasion is seen", "inexact"),
        ("The c0lonic tumour invades fat.", "colonic tumor invades fat", "inexact"),
        ("TNM: pT3 pNO.", "pT3 pN0", "inexact"),
        ("The tumor invades into the thick fat.", "tumor invades the fat", "inexact"),
        ("The tumor invades the fat.", "TUMOR INVADES THE FAT", "folded"),
    ],
)
def test_scan_errors_and_small_gaps_are_said_to_be_inexact(report: str, evidence: str, match: str) -> None:
    proof = prove(Claim("invasion", "present", evidence, evidence), report)
    assert isinstance(proof, Proof), proof
    assert proof.match == match


@pytest.mark.parametrize(
    ("report", "polarity", "evidence", "text"),
    [
        ("Invasion is not identified.", "present", "invasion is identified", "invasion"),
        ("No lymphovascular invasion.", "present", "lymphovascular invasion", "lymphovascular invasion"),
        ("Lymphovascular invasion present.", "absent", "lymphovascular invasion", "lymphovascular invasion"),
        ("Perineural invasion: no. Vascular invasion: yes.", "absent", "no. Vascular invasion", "no vascular invasion"),
        ("Perineural invasion: no. Vascular invasion: yes.", "absent", "no vascular invasion", "no vascular invasion"),
        ("Vascular invasion: Perineural invasion: absent.", "absent", "Vascular invasion", "vascular invasion"),
        ("There are 12 mitoses.", "present", "2 mitoses", "2 mitoses"),
        ("It invades 0.6 cm of fat.", "present", "6 cm of fat", "6 cm of fat"),
        ("It invades 12. 6 cm of fat.", "present", "6 cm of fat", "6 cm of fat"),
        ("Metastases in 0/12 lymph nodes.", "present", "lymph nodes", "lymph nodes with metastases"),
        ("Metastases in 3 of 12 lymph nodes.", "present", "12 lymph nodes", "12 lymph nodes"),
        ("Metastases in 3/12 lymph nodes.", "present", "Metastases in 3/12 lymph nodes", "12/3 lymph nodes"),
        (
            "Moderately to poorly differentiated tumor.",
            "present",
            "poorly differentiated tumor",
            "poorly differentiated",
        ),
        ("Moderately to poorly differentiated tumor.", "present", "moderately differentiated tumor", "tumor"),
        ("An undifferentiated carcinoma.", "present", "differentiated carcinoma", "differentiated carcinoma"),
        ("A non-mucinous carcinoma.", "present", "mucinous carcinoma", "mucinous carcinoma"),
        ("Necrosis of < 10 percent.", "present", "10 percent", "necrosis of 10 percent"),
        ("Adenocarcinoma, grade 2-3.", "present", "Adenocarcinoma, grade 2", "adenocarcinoma of grade 2"),
        ("Adenocarcinoma, grade II.", "present", "Adenocarcinoma, grade III", "adenocarcinoma"),
        ("Extension into, but not through, the wall.", "present", "extension through the wall", "extension"),
        ("Focal necrosis is seen.", "present", "Focal necrosis is seen", "extensive necrosis"),
        ("Vascular invasion is not iden-\ntified.", "present", "Vascular invasion", "vascular invasion"),
        ("Vascular invasion was not clearly seen.", "present", "Vascular invasion", "vascular invasion"),
        ("Vascular invasion: (-)", "present", "Vascular invasion", "vascular invasion"),
        ("Vascular invasion\nNot identified", "present", "Vascular invasion", "vascular invasion"),
        ("There are 0 mitoses per field.", "present", "mitoses per field", "mitoses"),
        ("Vascular invasion is sus-\npected.", "present", "Vascular invasion", "vascular invasion"),
        ("Twelve lymph nodes with metastases.", "present", "Twelve lymph nodes", "13 lymph nodes"),
        ("Twenty four nodes with metastases.", "present", "Twenty four nodes", "20 nodes"),
        ("Twenty four nodes with metastases.", "present", "four nodes with metastases", "four nodes"),
        ("Vascular invasion cannot be excluded.", "present", "Vascular invasion", "vascular invasion"),
        ("Carcinoma with necrosis.", "present", "Carcinoma with", "mucin pools"),
        ("Carcinoma with necrosis.", "present", "with", "with"),
        ("Carcinoma with necrosis.", "present", "", "carcinoma"),
    ],
)
def test_what_the_report_does_not_say_is_refused(report: str, polarity: Polarity, evidence: str, text: str) -> None:
    verdict = prove(Claim("other_morphology", polarity, text, evidence), report)
    assert isinstance(verdict, Refusal), verdict
    assert verdict.reason


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("two lymph nodes positive, nine lymph nodes negative", True),
        ("two lymph nodes positive, nine lymph nodes", False),
        ("nine lymph nodes positive", False),
    ],
)
def test_what_is_affirmed_beside_what_is_denied(text: str, accepted: bool) -> None:
    report = "Two lymph nodes are positive for carcinoma, nine lymph nodes are negative for carcinoma."
    verdict = prove(Claim("node", "present", text, report), report)
    assert isinstance(verdict, Proof) == accepted, verdict


def test_a_word_said_twice_and_denied_once_is_denied() -> None:
    report = "Lymph node, left pelvic: single lymph node negative for carcinoma."
    claim = Claim("node", "present", "Lymph node, left pelvic: single lymph node for carcinoma", report)
    assert isinstance(prove(claim, report), Refusal)


def test_a_later_place_can_prove_what_the_first_does_not() -> None:
    report = "Clinical question: no necrosis? Sections show tumour. Necrosis is extensive."
    proof = prove(Claim("necrosis", "present", "necrosis", "necrosis"), report)
    assert isinstance(proof, Proof)
    assert report[: proof.start].endswith("tumour. ")


def test_statements_come_in_order_of_place_without_doubles() -> None:
    report = "Adenocarcinoma. No necrosis is seen. Perineural invasion is present. NO NECROSIS IS SEEN."
    claims = [
        Claim("perineural_invasion", "present", "perineural invasion", "Perineural invasion is present"),
        Claim("necrosis", "absent", "no necrosis", "No necrosis is seen"),
        Claim("necrosis", "absent", "necrosis not seen", "NO NECROSIS IS SEEN"),
        Claim("histological_type", "present", "adenocarcinoma", "Adenocarcinoma"),
        Claim("mucin", "present", "mucin", "mucin pools"),
    ]
    grounded = ground("case-7", claims, report)
    assert [statement.statement_id for statement in grounded.statements] == ["case-7/1", "case-7/2", "case-7/3"]
    assert [s.category for s in grounded.statements] == ["histological_type", "necrosis", "perineural_invasion"]
    assert all(report[s.start : s.end].casefold() == s.evidence.casefold() for s in grounded.statements)
    assert [(r.case_id, r.category, r.reason) for r in grounded.rejected] == [
        ("case-7", "mucin", "the evidence is not in the report")
    ]


@given(st.text(max_size=200), st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_gets_a_verdict(report: str, evidence: str, text: str) -> None:
    verdict = prove(Claim("grade", "present", text, evidence), report)
    if isinstance(verdict, Proof):
        assert 0 <= verdict.start < verdict.end <= len(report)


def test_a_quote_is_looked_for_wherever_its_first_word_may_stand():
    """With halves that a line break parts, in the report or in the quote, and scan errors."""
    report = "Adeno-\ncarcinoma, no lymph node. Adenocarcinoma of the colon. Lyrnph node 0/12. lymph-\n node free, no"
    source = Reading(report)
    for quote in ("adenocarcinoma", "adeno-\ncarcinoma of", "lymph node", "no", "0/12", "node free", "lymphnode free"):
        words = Reading(quote)
        matching = [at for at in range(len(source.words)) if _match_at(words, source, at) is not None]
        assert set(matching) <= set(_beginnings(words.words, source)), quote
        assert matching, quote


@pytest.mark.parametrize(
    ("report", "category", "evidence"),
    [
        ("Lymph nodes, biopsy: Negative for malignancy.", "node", "Lymph nodes, biopsy"),
        (
            "Other margins (bladder neck, ureters): NEGATIVE",
            "margin",
            "Other margins (bladder neck, ureters): NEGATIVE",
        ),
        ("Lymph node, level 4 (biopsy) : No tumor seen", "node", "Lymph node, level 4"),
        ("Margins, proximal and distal - negative", "margin", "Margins, proximal and distal - negative"),
        ("Lymph nodes.\nNegative for tumor (0/12).", "node", "Lymph nodes"),
        ("Perineural invasion.\nNot seen in the sections examined.", "perineural_invasion", "Perineural invasion"),
        ("LYMPH NODES, LEFT, EXCISION:\n- NEGATIVE FOR MALIGNANCY", "node", "LYMPH NODES, LEFT, EXCISION"),
    ],
)
def test_a_label_is_not_affirmed_by_the_denial_that_is_its_value(
    report: str, category: Category, evidence: str
) -> None:
    assert isinstance(prove(case(category, "present", evidence), report), Refusal)


@pytest.mark.parametrize(
    ("report", "category", "evidence"),
    [
        ("Type: adenocarcinoma, lymph nodes, left: negative", "node", "lymph nodes, left: negative"),
        ("Tumor: adenocarcinoma, lymph nodes, left, right: negative. Grade 2.", "node", "lymph nodes, left"),
        ("Histologic type: adenocarcinoma, margins, distal: free", "margin", "margins, distal"),
        ("Diagnosis: FSA, lymph node, 4R, biopsy: Negative for carcinoma.", "node", "lymph node, 4R, biopsy"),
        ("Grade: 2, lymph node, left, biopsy: no tumor seen", "node", "lymph node"),
        ("Margins: proximal: negative. Grade 2.", "margin", "Margins"),
        ("Surgical margins: Ureter, left: free of tumor.", "margin", "Surgical margins: Ureter, left: free of tumor"),
    ],
)
def test_the_last_value_of_a_chain_of_labels_denies_what_its_sides_and_procedures_are_of(
    report: str, category: Category, evidence: str
) -> None:
    assert isinstance(prove(case(category, "present", evidence), report), Refusal)
    assert isinstance(prove(case(category, "absent", evidence), report), Proof)
    if "denocarcinoma" in report:
        assert isinstance(prove(case("histological_type", "present", "adenocarcinoma"), report), Proof)


@pytest.mark.parametrize(
    ("report", "category", "evidence"),
    [
        ("Type: adenocarcinoma, left: negative", "histological_type", "adenocarcinoma"),
        ("Lymph nodes: left: negative, right: positive", "node", "Lymph nodes"),
        ("Grade: 2, lymph nodes, left: negative, right: positive", "node", "lymph nodes"),
        ("Type: G2, adenocarcinoma, right colon: no lymph node involvement.", "histological_type", "adenocarcinoma"),
    ],
)
def test_a_value_that_may_be_of_something_else_proves_neither(report: str, category: Category, evidence: str) -> None:
    for polarity in ("present", "absent"):
        assert isinstance(prove(case(category, polarity, evidence), report), Refusal)


@pytest.mark.parametrize(
    ("report", "category", "evidence"),
    [
        (
            "INVASIVE DUCTAL CARCINOMA:\n- NEGATIVE FOR LYMPHOVASCULAR INVASION",
            "histological_type",
            "INVASIVE DUCTAL CARCINOMA",
        ),
        ("Invasive adenocarcinoma.\nNegative for perineural invasion.", "histological_type", "Invasive adenocarcinoma"),
        (
            "Lymphovascular invasion: present, perineural invasion: absent",
            "lymphovascular_invasion",
            "Lymphovascular invasion: present",
        ),
        ("Type: adenocarcinoma, margins: negative", "histological_type", "adenocarcinoma"),
        ("Tumor involves the radial margin, 0 mm.", "margin", "Tumor involves the radial margin, 0 mm"),
    ],
)
def test_a_denial_of_something_else_leaves_the_label_alone(report: str, category: Category, evidence: str) -> None:
    assert isinstance(prove(case(category, "present", evidence), report), Proof)


@pytest.mark.parametrize(
    ("report", "category", "polarity", "evidence", "text"),
    [
        # an evidence that says less, or of something else
        ("No lymphovascular invasion.", "invasion", "absent", "No lymphovascular invasion", "no invasion"),
        ("Perineural inva-\nsion is present.", "invasion", "present", "Perineural invasion is present", "invasion"),
        ("No invasion of large vessels.", "invasion", "absent", "No invasion of large vessels", "no invasion"),
        ("No high-grade dysplasia.", "precursor", "absent", "No high-grade dysplasia", "no dysplasia"),
        ("Necrosis is not extensive.", "necrosis", "absent", "Necrosis is not extensive", "no necrosis"),
        ("No tumor at the distal margin.", "margin", "absent", "No tumor at the distal margin", "margins free"),
        ("Squamous carcinoma in situ.", "histological_type", "present", "Squamous carcinoma", "squamous carcinoma"),
        ("Margin 0.2 cm from tumor.", "margin", "present", "Margin 0.2 cm from tumor", "margin involved, 0.2 cm"),
        # codes
        ("pT3 pN1 Pn0", "node", "absent", "Pn0", "Pn0"),
        ("pT3 pN0 Pn1", "node", "present", "Pn1", "Pn1"),
        ("pT3 pN1 Pn0", "perineural_invasion", "present", "pN1", "pN1"),
        ("ypT0 ypN0", "invasion", "present", "ypT0", "ypT0"),
        ("pTX pN0", "invasion", "present", "pTX", "pTX"),
        # counts of none
        ("Lymph nodes: 12 examined, 0 positive.", "node", "present", "Lymph nodes: 12 examined, 0 positive", "nodes"),
        ("Positive nodes 0.", "node", "present", "Positive nodes 0", "positive nodes"),
        ("Mucinous part: 0 percent.", "mucin", "present", "Mucinous part: 0 percent", "mucinous part"),
        # what the restated text brings in, turns or halves
        ("Carcinoma with necrosis.", "necrosis", "present", "Carcinoma with necrosis", "necrosis, perineural invasion"),
        ("Adenocarcinoma.", "histological_type", "present", "Adenocarcinoma", "squamous adenocarcinoma"),
        ("It invades fat. Serosa free.", "invasion", "present", "It invades fat", "invades the serosa"),
        ("Necrosis in <5% of it.", "necrosis", "present", "Necrosis in <5% of it", "necrosis in 5%"),
        ("Necrosis >50%.", "necrosis", "present", "Necrosis >50%", "necrosis <50%"),
        ("Invasion of at least 5 mm.", "invasion", "present", "Invasion of at least 5 mm", "invasion of up to 5 mm"),
        ("It invades 4 mm of fat.", "invasion", "present", "It invades 4 mm of fat", "invades 4 cm of fat"),
        ("Necrosis in 10-20% of it.", "necrosis", "present", "Necrosis in 10-20% of it", "necrosis in 20%"),
        ("Invasion of 4 mm of 12 mm.", "invasion", "present", "Invasion of 4 mm of 12 mm", "invasion of 12 mm"),
        ("Carcinoma in 3 of 17 nodes.", "node", "present", "Carcinoma in 3 of 17 nodes", "carcinoma in 17 nodes"),
        ("Gleason 3+4=7.", "grade", "present", "Gleason 3+4=7", "Gleason 4+3=7"),
        ("Moderate / poor differentiation.", "grade", "present", "poor differentiation", "poor differentiation"),
        ("Invasion in specimen A.", "invasion", "present", "Invasion in specimen A", "invasion in specimen B"),
        # lists and rows below a heading
        ("Not seen:\n- mucin\n- necrosis", "necrosis", "present", "necrosis", "necrosis"),
        ("ABSENT FEATURES: Mucin; necrosis.", "necrosis", "present", "necrosis", "necrosis"),
        ("Mucin\tNecrosis\nAbsent\tPresent", "necrosis", "absent", "Necrosis", "necrosis"),
        ("Necrosis: ___ Not identified _x_ Present", "necrosis", "absent", "Necrosis: ___ Not identified", "necrosis"),
        ("Margins: oral - free; distal - involved.", "margin", "absent", "Margins: oral - free; distal", "oral margin"),
        ("Perineural invasion: NO MUCIN: YES", "mucin", "absent", "NO MUCIN", "no mucin"),
        ("Necrosis ........... NO", "necrosis", "present", "Necrosis", "necrosis"),
        # taken back, asked of others, corrected
        ("Necrosis was sought but not found.", "necrosis", "present", "Necrosis was sought", "necrosis"),
        ("All nodes are negative except one.", "node", "absent", "All nodes are negative", "all nodes negative"),
        ("The absence of necrosis is not confirmed.", "necrosis", "absent", "absence of necrosis", "no necrosis"),
        ("The diagnosis of necrosis was in error.", "necrosis", "present", "necrosis", "necrosis"),
        ("Necrosis is a risk factor.", "necrosis", "present", "Necrosis", "necrosis"),
        ("Previous melanoma in 1999.", "histological_type", "present", "melanoma", "melanoma"),
        ("Adenocarcinoma versus carcinoid.", "histological_type", "present", "carcinoid", "carcinoid"),
        # denials that a scanner spoilt
        ("Necrosis: Abs ent.", "necrosis", "present", "Necrosis", "necrosis"),
        ("Necrosis: N0t identified.", "necrosis", "present", "Necrosis", "necrosis"),
        (
            "Nodes are negalive for carcinoma.",
            "node",
            "present",
            "Nodes are negalive for carcinoma",
            "nodes, carcinoma",
        ),
        ("Nodes: Negativefor tumor.", "node", "present", "Nodes: Negativefor tumor", "nodes, tumor"),
    ],
)
def test_what_a_true_quote_does_not_say_is_refused(
    report: str, category: Category, polarity: Polarity, evidence: str, text: str
) -> None:
    """Each stood as proved once: the quote is the report's, what is made of it is not."""
    verdict = prove(Claim(category, polarity, text, evidence), f"Diagnosis: {report}")
    assert isinstance(verdict, Refusal), verdict


@pytest.mark.parametrize(
    ("report", "category", "polarity", "evidence", "text"),
    [
        ("Tumor invades fat; no vascular invasion.", "invasion", "present", "Tumor invades fat", "tumor invades fat"),
        ("pT3 pN1 Pn1", "perineural_invasion", "present", "Pn1", "Pn1"),
        ("Nodes: 12 examined, 0 positive.", "node", "absent", "Nodes: 12 examined, 0 positive", "nodes, 0 positive"),
        ("Necrosis in <5% of it.", "necrosis", "present", "Necrosis in <5% of it", "necrosis in less than 5%"),
        (
            "A 3 x 2 cm tumor invades fat.",
            "invasion",
            "present",
            "3 x 2 cm tumor invades fat",
            "3 cm tumor invades fat",
        ),
        ("Carcinoma in 3 of 17 nodes.", "node", "present", "Carcinoma in 3 of 17 nodes", "3 nodes with carcinoma"),
        (
            "Sixteen nodes negative (0/16).",
            "node",
            "absent",
            "Sixteen nodes negative (0/16)",
            "16 nodes negative (0/16)",
        ),
        ("Not seen: mucin.\nNecrosis is extensive.", "necrosis", "present", "Necrosis", "necrosis"),
        ("Absent:\nMucin\n\nPresent:\nNecrosis", "necrosis", "present", "Necrosis", "necrosis"),
        ("Bladder only (no prostate): - Carcinoma.", "histological_type", "present", "Carcinoma", "carcinoma"),
        ("Necrosis: 0%.", "necrosis", "absent", "Necrosis", "necrosis"),
    ],
)
def test_what_a_true_quote_does_say_is_proved(
    report: str, category: Category, polarity: Polarity, evidence: str, text: str
) -> None:
    verdict = prove(Claim(category, polarity, text, evidence), f"Diagnosis: {report}")
    assert isinstance(verdict, Proof), verdict
