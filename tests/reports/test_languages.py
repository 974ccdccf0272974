# ruff: noqa: E501
"""Denials of each language that the proof knows, and refusal of all others."""

import json
from pathlib import Path

import pytest

from wsisurv.formats.statements import Category, Polarity
from wsisurv.reports.grounding import LANGUAGE_REFUSED, Claim, Proof, Refusal, prove
from wsisurv.reports.languages import LANGUAGES
from wsisurv.reports.step import extract
from wsisurv.reports.tokens import read
from wsisurv.settings.reports import ReportSettings
from wsisurv.workspace.paths import Workspace

L: Category = "lymphovascular_invasion"
N: Category = "perineural_invasion"
X: Category = "necrosis"
M: Category = "margin"
H: Category = "histological_type"
Findings = list[tuple[Category, str]]

REPORTS: list[tuple[str, str, Findings, Findings]] = [  # language, text, what it denies, what it affirms
    (
        "de",
        "Eine Perineuralscheideninvasion liegt nicht vor. Hinweise auf eine Gefäßinvasion ergaben sich nicht.",
        [
            (N, "Eine Perineuralscheideninvasion liegt nicht vor"),
            (L, "Hinweise auf eine Gefäßinvasion ergaben sich nicht"),
        ],
        [],
    ),
    (
        "nl",
        "Perineurale ingroei is niet aantoonbaar. Er werd geen angio-invasie gezien.",
        [(N, "Perineurale ingroei is niet aantoonbaar"), (L, "Er werd geen angio-invasie gezien")],
        [],
    ),
    (
        "pl",
        "Nie uwidoczniono inwazji naczyń chłonnych. Inwazja okołonerwowa: nieobecna.",
        [(L, "Nie uwidoczniono inwazji naczyń chłonnych"), (N, "Inwazja okołonerwowa: nieobecna")],
        [],
    ),
    (
        "de",
        "Adenokarzinom. Kein Nachweis einer Lymphgefäßinvasion. Perineuralscheideninvasion nicht nachweisbar.",
        [(L, "Kein Nachweis einer Lymphgefäßinvasion"), (N, "Perineuralscheideninvasion nicht nachweisbar")],
        [],
    ),
    (
        "de",
        "Mäßig differenziertes Adenokarzinom ohne Gefäßinvasion, jedoch mit Perineuralinvasion. Resektionsränder tumorfrei. Nekrosen fehlen.",
        [(L, "ohne Gefäßinvasion"), (M, "Resektionsränder tumorfrei"), (X, "Nekrosen fehlen")],
        [(N, "jedoch mit Perineuralinvasion"), (H, "Mäßig differenziertes Adenokarzinom")],
    ),
    (
        "de",
        "Lymphgefäßinvasion: nein. Perineuralinvasion: ja. Nekrose nicht vorhanden, Lymphgefäße infiltriert.",
        [(L, "Lymphgefäßinvasion: nein"), (X, "Nekrose nicht vorhanden")],
        [(N, "Perineuralinvasion: ja")],
    ),
    (
        "de",
        "Die Lymphgefäße sind nicht vom Tumor infiltriert. Der Tumor ist nicht nur in den Nerven nachweisbar.",
        [(L, "Die Lymphgefäße sind nicht vom Tumor infiltriert")],
        [],
    ),
    (
        "nl",
        "Adenocarcinoom. Geen lymfangio-invasie. Perineurale groei niet gezien.",
        [(L, "Geen lymfangio-invasie"), (N, "Perineurale groei niet gezien")],
        [(H, "Adenocarcinoom")],
    ),
    (
        "nl",
        "Matig gedifferentieerd adenocarcinoom zonder angio-invasie. Wel perineurale groei aanwezig. Snijvlakken zijn vrij van tumor.",
        [(L, "zonder angio-invasie"), (M, "Snijvlakken zijn vrij van tumor")],
        [(N, "perineurale groei aanwezig")],
    ),
    (
        "fr",
        "Adénocarcinome lieberkühnien. Pas d'invasion vasculaire. Absence d'engainement périnerveux. Nécrose non vue. Il n'existe pas d'embole vasculaire.",
        [
            (L, "Pas d'invasion vasculaire"),
            (N, "Absence d'engainement périnerveux"),
            (X, "Nécrose non vue"),
            (L, "Il n'existe pas d'embole vasculaire"),
        ],
        [(H, "Adénocarcinome lieberkühnien")],
    ),
    (
        "fr",
        "Emboles vasculaires : présents. Engainements périnerveux : absents. Limites de résection saines, sans nécrose mais avec embole vasculaire.",
        [(N, "Engainements périnerveux : absents"), (X, "sans nécrose")],
        [(L, "Emboles vasculaires : présents"), (L, "avec embole vasculaire")],
    ),
    (
        "es",
        "Adenocarcinoma moderadamente diferenciado. Sin evidencia de invasión linfovascular. No se observa invasión perineural. Necrosis ausente. Márgenes libres de tumor.",
        [
            (L, "Sin evidencia de invasión linfovascular"),
            (N, "No se observa invasión perineural"),
            (X, "Necrosis ausente"),
            (M, "Márgenes libres de tumor"),
        ],
        [(H, "Adenocarcinoma moderadamente diferenciado")],
    ),
    (
        "es",
        "Invasión perineural: no se identifica. Invasión linfovascular presente.",
        [(N, "Invasión perineural: no se identifica")],
        [(L, "Invasión linfovascular presente")],
    ),
    (
        "it",
        "Adenocarcinoma infiltrante. Non si osserva invasione perineurale. Senza invasione vascolare. Necrosi assente. Margini indenni.",
        [
            (N, "Non si osserva invasione perineurale"),
            (L, "Senza invasione vascolare"),
            (X, "Necrosi assente"),
            (M, "Margini indenni"),
        ],
        [(H, "Adenocarcinoma infiltrante")],
    ),
    (
        "it",
        "Invasione vascolare non identificata. Invasione perineurale presente.",
        [(L, "Invasione vascolare non identificata")],
        [(N, "Invasione perineurale presente")],
    ),
    (
        "pt",
        "Adenocarcinoma pouco diferenciado. Ausência de invasão vascular. Não se observa invasão perineural. Margens livres. Invasão vascular no tecido adiposo.",
        [(L, "Ausência de invasão vascular"), (N, "Não se observa invasão perineural"), (M, "Margens livres")],
        [(L, "Invasão vascular no tecido adiposo")],
    ),
    (
        "pl",
        "Gruczolakorak jelita grubego. Brak inwazji naczyń. Nie stwierdzono inwazji okołonerwowej. Martwicy nie stwierdzono.",
        [(L, "Brak inwazji naczyń"), (N, "Nie stwierdzono inwazji okołonerwowej"), (X, "Martwicy nie stwierdzono")],
        [(H, "Gruczolakorak jelita grubego")],
    ),
]


BEFORE = {
    "de": "Mäßig differenziertes Adenokarzinom des Kolons mit Infiltration der Muscularis propria.",
    "fr": "Adénocarcinome moyennement différencié du côlon infiltrant la musculeuse.",
    "es": "Adenocarcinoma moderadamente diferenciado de colon que infiltra la muscular propia.",
    "it": "Adenocarcinoma moderatamente differenziato del colon che infiltra la tonaca muscolare.",
    "nl": "Matig gedifferentieerd adenocarcinoom van het colon met ingroei in de spierlaag.",
    "pt": "Adenocarcinoma moderadamente diferenciado do cólon que invade a muscular própria.",
    "pl": "Gruczolakorak jelita grubego, średnio zróżnicowany, naciekający błonę mięśniową.",
    "en": "Moderately differentiated adenocarcinoma of the colon invading the muscularis propria.",
}
OTHER_DENIALS: dict[
    str, list[tuple[Category, str, str]]
] = {  # category, finding, and the rest of its sentence around it
    "de": [
        (N, "Perineuralscheideninvasion", "Eine … ist auszuschließen"),
        (X, "Nekrosen", "… waren an keiner Stelle erkennbar"),
        (N, "Perineuralscheideninvasion", "… o.B."),
        (X, "Nekrosen", "Kaum …"),
        (N, "Perineuralscheideninvasion", "Eine … konnte ausgeschlossen werden"),
    ],
    "fr": [
        (X, "nécrose", "On n'observe guère de …"),
        (X, "nécrose", "Il n'existe plus de …"),
        (X, "Nécrose", "… : néant"),
    ],
    "es": [(X, "necrosis", "Carece de …"), (X, "necrosis", "Exento de …"), (X, "Necrosis", "… inexistente")],
    "it": [
        (L, "invasione vascolare", "Né … né perineurale"),
        (N, "invasione perineurale", "Si esclude …"),
        (N, "invasione perineurale", "Non si esclude …"),
        (X, "necrosi", "Neppure si osserva …"),
    ],
    "nl": [
        (L, "angio-invasie", "Negatief voor …"),
        (X, "Necrose", "… afwezig"),
        (X, "Necrose", "… ontbreekt"),
        (X, "necrose", "Er zijn evenmin tekenen van …"),
        (X, "Necrose", "… is uitgesloten"),
    ],
    "pt": [(X, "necrose", f"{word} …") for word in ("Isento de", "Livre de", "Tampouco se observa", "Desprovido de")],
    "pl": [(X, "martwicy", "Pozbawiony …"), (L, "Inwazja naczyń chłonnych", "… (-)")],
    "en": [
        (N, "Perineural invasion", "…: N"),
        (N, "Perineural invasion", "… was ruled out"),
        (N, "Perineural invasion", "… is not ruled out"),
        (N, "Perineural invasion", "… isn't seen"),
        (X, "necrosis", "Fails to show …"),
        (X, "necrosis", "Hardly any …"),
    ],
    # without a table, and taken for a neighbour or for English
    "ca": [(X, "necrosi", "Sense …"), (X, "necrosi", "Cap …")],
    "gl": [(N, "invasión perineural", "Non se observa …"), (X, "necrose", "Sen …")],
    "ro": [(X, "Necroza", "… absentă")],
    "la": [(N, "Invasio perineuralis", "… deest")],
    "af": [(N, "Perineurale invasie", "… is afwesig")],
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("language", OTHER_DENIALS)
def test_a_denial_in_rarer_words_is_never_presence(language: str, alone: bool) -> None:
    for category, finding, around in OTHER_DENIALS[language]:
        sentence = around.replace("…", finding)
        report = sentence + "." if alone else f"{BEFORE.get(language, BEFORE['en'])} {sentence}."
        for evidence in finding, sentence:
            assert isinstance(verdict(category, "present", evidence, report), Refusal), evidence


def verdict(category: Category, polarity: Polarity, evidence: str, report: str) -> Proof | Refusal:
    return prove(Claim(category, polarity, evidence, evidence), report)


OPEN = {  # around a finding; it is proved neither present nor absent
    "en": [(L, "Lymphovascular invasion", words) for words in (
        "…?", "…: ?", "…: N/A", "… -", "If … is present, see below", "…, if any", "… (yes/no)", "… [x] present [ ] absent",
        "… ( ) present (X) absent", "… ☐ yes ☒ no", "… O yes X no", "… yes __ no _X_", "…:\n☐ present\n☒ absent", "… ☒ yes ☐ no", "… pending", "…: see comment", "Rule out …", "?…",
        "Query …", "It is unclear whether … is seen", "Nothing to suggest …", "… is not absent", "Not without …",
        "There is no doubt about …", "No lack of …", "… undetected", "… is doubtful", "could represent …", "Retraction artefact mimicking …",
    )],
    "de": [(L, "Gefäßinvasion", words) for words in (
        "… fraglich?", "…: ☒ ja ☐ nein", "Falls … vorliegt, Nachbericht", "Frage nach …", "V. a. …", "Nicht ohne …", "… fehlt nicht",
        "Kein Zweifel an einer …", "Nichts spricht für …", "… steht aus",
    )],
    "fr": [(L, "invasion vasculaire", words) for words in (
        "… ?", "… : ☒ oui ☐ non", "S’il existe une …, le préciser", "Sans aucun doute …", "… : à préciser", "Faute d'…", "… éliminée",
    )],
    "es": [(L, "invasión vascular", words) for words in ("¿…?", "A descartar …", "Si hubiera …, se informará", "Sin duda …")],
    "it": [(L, "invasione vascolare", words) for words in ("…?", "Se … presente, segnalare", "Senza dubbio …", "…: da valutare")],
    "nl": [(L, "angio-invasie", words) for words in ("…?", "Indien … aanwezig, graag melden", "Zonder twijfel …", "Niets wijst op …")],
    "pt": [(L, "invasão vascular", words) for words in ("…?", "Caso haja …, informar", "Sem dúvida …", "Nada sugere …")],
    "pl": [(L, "inwazja naczyń", words) for words in ("…?", "Jeśli … obecna", "Bez wątpienia …", "W kierunku …")],
}  # fmt: skip


@pytest.mark.parametrize("language", OPEN)
def test_a_question_a_condition_or_a_box_is_neither_presence_nor_absence(language: str) -> None:
    for category, finding, around in OPEN[language]:
        sentence = around.replace("…", finding)
        for report in (f"{sentence}.", f"{BEFORE[language]} {sentence}.", f"{BEFORE[language]}\n{sentence}\npT3 pN1."):
            for evidence in finding, sentence:
                for polarity in ("present", "absent"):
                    assert isinstance(verdict(category, polarity, evidence, report), Refusal), (evidence, polarity)


@pytest.mark.parametrize(
    "value", [": nee", ": false", " ✗", ": ø", "\nno", " | no", "\tno", " = no", " ..... no", " present? No"]
)
@pytest.mark.parametrize("below", [".", "\nNodes: 3/12.", "\nPerineural invasion: Present"])
def test_a_value_that_denies_is_the_labels_however_it_is_set(value: str, below: str) -> None:
    report = f"Adenocarcinoma, moderately differentiated.\nLymphovascular invasion{value}{below}"
    for evidence in "Lymphovascular invasion", f"Lymphovascular invasion{value}":
        assert isinstance(verdict(L, "present", evidence, report), Refusal)
    if "Peri" in below:
        assert isinstance(verdict(N, "present", "Perineural invasion: Present", report), Proof)


def test_one_label_denied_is_not_affirmed_by_the_next() -> None:
    report = "Lymphovascular invasion: Not identified\nPerineural invasion: Present\nGrade: G2 L1 V0 R0"
    both = "Lymphovascular invasion: Not identified\nPerineural invasion: Present"
    assert isinstance(verdict(L, "present", both, report), Refusal)
    assert isinstance(verdict(L, "present", "L1", report), Proof)


@pytest.mark.parametrize(("language", "report", "denied", "affirmed"), REPORTS, ids=[row[1][:40] for row in REPORTS])
def test_what_a_report_denies_is_absent_and_never_present(
    language: str, report: str, denied: Findings, affirmed: Findings
) -> None:
    assert {read(report).language(index) for index in range(len(read(report).words))} == {language}
    for category, evidence in denied:
        assert isinstance(verdict(category, "absent", evidence, report), Proof), evidence
        assert isinstance(verdict(category, "present", evidence, report), Refusal), evidence
    for category, evidence in affirmed:
        assert isinstance(verdict(category, "present", evidence, report), Proof), evidence
        assert isinstance(verdict(category, "absent", evidence, report), Refusal), evidence


def test_every_language_with_a_table_has_a_report_here() -> None:
    assert {row[0] for row in REPORTS} | {"en"} == LANGUAGES.keys()


UNKNOWN = [
    ("Adenocarcinom i colon. Ingen vaskulär invasion. Ingen perineural växt.", L, "Ingen vaskulär invasion"),
    ("Adenokarsinom. Perinöral invazyon izlenmedi. Lenfovasküler invazyon yok.", H, "Adenokarsinom"),
    (
        "Adenokarcinom kolonu bez známek invaze do cév. Perineurální invaze nezjištěna.",
        N,
        "Perineurální invaze nezjištěna",
    ),
    ("Аденокарцинома. Инвазии сосудов не обнаружено. pT3 N0.", "other_morphology", "Инвазии сосудов не обнаружено"),
    ("腺癌。脈管侵襲なし。", "other_morphology", "脈管侵襲なし"),
]


@pytest.mark.parametrize(("report", "category", "evidence"), UNKNOWN, ids=[row[0][:20] for row in UNKNOWN])
def test_a_language_without_a_table_is_refused_for_that_reason(report: str, category: Category, evidence: str) -> None:
    polarities: tuple[Polarity, ...] = ("present", "absent", "uncertain")
    for polarity in polarities:
        found = verdict(category, polarity, evidence, report)
        assert isinstance(found, Refusal)
        assert found.reason.startswith(LANGUAGE_REFUSED)


def test_a_mixed_report_is_read_sentence_by_sentence() -> None:
    report = (
        "Invasive ductal carcinoma, grade 2. Lymphovascular invasion is present. Keine Perineuralinvasion. "
        "Margins free. Ingen necrosis. Infiltratio carcinomatosa sine invasione vasorum."
    )
    assert isinstance(verdict(L, "present", "Lymphovascular invasion is present", report), Proof)
    assert isinstance(verdict(N, "absent", "Keine Perineuralinvasion", report), Proof)
    assert isinstance(verdict(N, "present", "Keine Perineuralinvasion", report), Refusal)
    assert isinstance(verdict(M, "absent", "Margins free", report), Proof)
    for polarity in ("present", "absent"):
        assert isinstance(verdict(X, polarity, "Ingen necrosis", report), Refusal)
    assert isinstance(verdict("invasion", "present", "sine invasione vasorum", report), Refusal)


@pytest.mark.parametrize(
    ("report", "category"),
    [
        ("Der Tumor zeigt eine fragliche Gefäßinvasion im Randbereich.", L),
        ("Verdacht auf Perineuralinvasion an einer Stelle des Präparates.", N),
        ("Si sospetta invasione vascolare in una sezione del tumore.", L),
        ("Podejrzenie inwazji naczyń w jednym z wycinków z guza.", L),
        ("Une invasion vasculaire est possible dans la paroi de la tumeur.", L),
    ],
)
def test_doubt_is_not_presence(report: str, category: Category) -> None:
    assert isinstance(verdict(category, "present", report, report), Refusal)
    assert isinstance(verdict(category, "uncertain", report, report), Proof)


def test_a_grade_of_another_language_is_not_changed_by_restating_it() -> None:
    report = "Mäßig differenziertes Adenokarzinom des Kolons mit Infiltration der Muskulatur."
    evidence = "Mäßig differenziertes Adenokarzinom"
    assert isinstance(prove(Claim("grade", "present", "Moderate differenzierte Form", evidence), report), Proof)
    assert isinstance(prove(Claim("grade", "present", "Schlecht differenziertes Karzinom", evidence), report), Refusal)


def test_not_only_denies_nothing() -> None:
    report = "Der Tumor ist nicht nur in den Nerven nachweisbar, auch die Gefäße sind befallen."
    assert isinstance(verdict(N, "absent", "nicht nur in den Nerven nachweisbar", report), Refusal)


def test_what_is_refused_for_its_language_is_counted(tmp_path: Path) -> None:
    source = tmp_path / "r.jsonl"
    text = "Adenocarcinoma. Lymfovaskulär invasion påvisas inte i de undersökta snitten från tumören."
    source.write_text(json.dumps({"case_id": "SE", "text": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    summary = extract(Workspace(tmp_path / "w"), source, ReportSettings(backend="rules"))
    assert any("language whose negations" in note and "SE" in note for note in summary.notes), summary.notes


@pytest.mark.parametrize(
    ("gross", "microscopic"),
    [
        ("GROSS DESCRIPTION: ", "MICROSCOPIC DESCRIPTION: "),
        ("Macroscopic examination: ", "Diagnosis: "),
        ("Makroskopie: ", "Mikroskopie: "),
        ("Esame macroscopico: ", "Esame microscopico: "),
        ("Macro: ", "Micro: "),
        ("Grossly: ", "Microscopic description: "),
        ("**Gross description**\n", "**Diagnosis**\n"),
        ("Badanie makroskopowe: ", "Rozpoznanie: "),
        ("Macroscopische beschrijving: ", "Microscopie: "),
    ],
)
def test_gross_description_that_reads_like_microscopy_stays_out(gross: str, microscopic: str) -> None:
    sentence = "The mass invades the pericolic fat and reaches the radial margin."
    other = "Moderately differentiated adenocarcinoma of the usual type."
    report = f"{gross}Received fresh. {sentence}\n{microscopic}{other}"
    for category in ("invasion", "margin"):
        found = verdict(category, "present", sentence, report)
        assert isinstance(found, Refusal)
        assert "gross description" in found.reason
        swapped = f"{gross}Received fresh, weighs 3 g.\n{microscopic}{other} {sentence}"
        assert isinstance(verdict(category, "present", sentence, swapped), Proof)
        both = f"{report} {sentence}"
        assert isinstance(verdict(category, "present", sentence, both), Proof)
    assert isinstance(verdict("grade", "present", other, report), Proof)
    kept = Claim("non_morphology", "present", sentence, sentence)
    assert isinstance(prove(kept, report), Proof)


@pytest.mark.parametrize(
    "said",
    ["Necrosis なし", "没有 necrosis", "Necrosis没有 necrosis", "Necrosis 없음", "Некроза нет (necrosis)", "Ingen necrosis",
     "Ei necrosis", "Necrosis yok", "Nem necrosis", "Ne necrosis, nincs", "Tidak necrosis"],
)  # fmt: skip
def test_a_restated_finding_that_may_deny_in_a_language_without_a_table_is_refused(said: str) -> None:
    """The quote is true and the polarity is its own; it is the model's words that turn it round."""
    refused = prove(Claim(X, "present", said, "Necrosis is present"), "Focally ulcerated. Necrosis is present.")
    assert isinstance(refused, Refusal)
    assert "in another language" in refused.reason


@pytest.mark.parametrize(
    "said", ["Necrosis is present", "Tumor necrosis", "Nécrose: necrosis", "Necrosis (β, µm, ﬁne)"]
)
def test_other_words_of_a_restated_finding_are_no_denial(said: str) -> None:
    assert isinstance(prove(Claim(X, "present", said, "Necrosis is present"), "Necrosis is present."), Proof)


GRADED = "Adenocarcinoma of the sigmoid colon, moderately differentiated. Three of twelve lymph nodes are positive."


@pytest.mark.parametrize(
    "said",
    ["Dårligt differentieret adenocarcinoma", "Huonosti erilaistunut adenocarcinoma", "Kötü diferansiye adenocarcinoma",
     "Adenocarcinoma höggradigt", "Rosszul differenciált adenocarcinoma", "Adenocarcinoma magas fokú",
     "Špatně diferencovaný adenocarcinoma", "Slabo diferencirani adenocarcinoma", "Badly made adenocarcinoma"],
)  # fmt: skip
def test_a_restated_grade_in_words_that_the_proof_does_not_know_is_refused(said: str) -> None:
    """The quote is true; the model's words put another grade in its place."""
    quote = "Adenocarcinoma of the sigmoid colon, moderately differentiated"
    refused = prove(Claim("histological_type", "present", said, quote), GRADED)
    assert isinstance(refused, Refusal)
    assert "grade or number" in refused.reason


@pytest.mark.parametrize("said", ["Dårligt differentieret", "Huonosti erilaistunut", "Kötü diferansiye", "Höggradigt"])
def test_a_restated_grade_that_the_evidence_does_not_speak_of_is_refused(said: str) -> None:
    claim = Claim("histological_type", "present", f"{said} adenocarcinoma", "Adenocarcinoma of the sigmoid colon")
    assert isinstance(prove(claim, GRADED), Refusal)


@pytest.mark.parametrize("said", ["Fem", "Cinci", "Fünf", "Cinq", "Viisi", "Dwa", "Vijf", "All"])
def test_a_restated_number_in_another_language_is_refused(said: str) -> None:
    for evidence in ("Three of twelve lymph nodes are positive", "lymph nodes are positive"):
        assert isinstance(
            prove(Claim("node", "present", f"{said} lymph nodes are positive", evidence), GRADED), Refusal
        )


@pytest.mark.parametrize(
    ("category", "said", "evidence"),
    [
        (
            "histological_type",
            "Sigmoid adenocarcinoma",
            "Adenocarcinoma of the sigmoid colon, moderately differentiated",
        ),
        ("grade", "Moderately differentiated", "Adenocarcinoma of the sigmoid colon, moderately differentiated"),
        ("node", "Metastatic carcinoma in lymph nodes", "Three of twelve lymph nodes are positive"),
    ],
)
def test_known_words_may_leave_out_a_grade_or_number(category: Category, said: str, evidence: str) -> None:
    assert isinstance(prove(Claim(category, "present", said, evidence), GRADED), Proof)
