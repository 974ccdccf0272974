"""Languages of reports: which one a sentence is in, and by which words it denies, affirms and doubts.

Only a language with a table here can be proved; a statement from any other is refused. English has its own, finer rules
in ``tokens``; they hold in all languages but for the words that a table takes back.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from wsisurv.formats.statements import Category

_CANDIDATES = (
    "en de fr es it nl pt pl la ca ro sv da no fi et lv lt cs sk sl hr hu tr el bg ru uk sr mk he ar fa hi bn ur th vi "
    "id ms ko ja zh eu is ga sq"
).split()
"""Languages told apart: small neighbours of those with a table (Galician, Luxembourgish …) are left out, since a short
sentence of the large one would pass for them."""
_SURE = 0.6
"""Share of the likelihood from which the language of a sentence is believed. Of 19,800 sentences of real English
reports, scan errors included, three are taken for another."""
_FEWEST_WORDS = 3


@lru_cache(maxsize=1 << 16)
def _fits(pattern: str, word: str) -> bool:
    return re.fullmatch(pattern, bare(word)) is not None


@dataclass(frozen=True)
class Language:
    """Words of a language, without accents; each a regular expression for a whole word."""

    before: str  # deny what follows
    nots: str  # deny what follows, and what precedes where one of ``seen`` comes after or the sentence ends
    both: str  # deny what follows and what precedes
    seen: str  # affirm, unless denied themselves: identified, present
    turns: str  # end the reach of a denial: but, however
    asides: str  # may end it: with, which
    ands: str  # join the parts of a list
    ors: str  # join what one denial reaches
    no_denials: str = ""  # words that deny in English, and not here
    names: str = ""  # denials by which alone a short sentence is known to be in this language
    hints: str = ""  # may deny all of their sentence: nothing in it is proved present, nor absent

    def has(self, kind: str, word: str) -> bool:
        """True when ``word`` is one of the words of a kind (an attribute's name)."""
        pattern: str = getattr(self, kind)
        return bool(pattern) and _fits(pattern, word)

    def denies(self, word: str) -> bool:
        """True for a word that may deny, wherever it stands."""
        return any(self.has(kind, word) for kind in ("before", "nots", "both"))


def _one_letter_off(*words: str) -> str:
    """Each word with one letter another, lost or doubled, as scanners spoil it: "negstive", "wichout"."""
    found = []
    for word in words:
        for at in range(len(word)):
            found += [f"{word[:at]}\\w?{word[at + 1 :]}", f"{word[:at]}\\w{word[at:]}"]
    return "|".join(found)


ENGLISH = Language(
    before="sine|absque|null(?:a|ae|um|us)",
    nots="",
    both="",
    seen="",
    turns="",
    asides="",
    ands="",
    ors="",
    hints="hardly|scarcely|barely|fail(?:s|ed|ing)?|n0t|n0ne|(?:negative|absent)[a-z]+|not(?:identif|seen|present|involv)[a-z]*|"
    + _one_letter_off("negative", "absent", "without", "uninvolved"),
)
"""Only the Latin that stands among English words; for the rest see ``tokens``."""

LANGUAGES: dict[str, Language] = {
    "en": ENGLISH,
    "de": Language(
        before=r"kein\w*|ohne|weder|noch|fehlen\w*|ausschlu(?:ss|ß)",
        nots="nicht|nie|niemals|nirgends|nirgendwo|keiner",
        both=r"fehlt|fehlend|nein|ausgeschlossen|negativ\w*|\w*frei(?:e[nrsm]?)?|unauffallig\w*|verneint|entfallt|abwesend\w*",
        seen=r"nachweis\w*|nachgewiesen\w*|erkenn\w*|erkannt|sicht\w*|gesehen|vorhanden\w*|vor|vorlieg\w*|gefunden\w*|"
        r"beobacht\w*|festgestellt\w*|darstell\w*|abgrenzbar|positiv\w*|ja|infiltriert|befallen|involviert|beteiligt",
        turns="aber|jedoch|allerdings|sondern|hingegen|dagegen",
        asides="mit|wobei|dafur|bei",
        ands="und|sowie|auch",
        ors="oder|noch|bzw|beziehungsweise",
        names=r"kein(?:e|en|er|es|em|erlei)?|nicht|ohne|fehl(?:t|en|end)|\w{5,}frei(?:e[nrsm]?)?",
        hints="kaum|auszuschlie(?:ss|ß)en",
    ),
    "fr": Language(
        before="sans|aucune?|ni|absence|defaut|exempte?s?|depourvue?s?|exclut",
        nots="pas|non|jamais",
        both=r"absente?s?|negati(?:f|ve|fs|ves)|indemnes?|saine?s?|libres?|nulle?s?|neant|exclue?s?",
        seen=r"vue?s?|visibles?|retrouvee?s?|identifiee?s?|observee?s?|presente?s?|decelee?s?|detectee?s?|notee?s?|"
        r"mise?s?|positi(?:f|ve|fs|ves)|oui|envahie?s?|evidente?s?",
        turns="mais|cependant|toutefois|pourtant",
        asides="avec",
        ands="et|ainsi",
        ors="ou|ni",
        names="sans|aucune?|absente?s|neant|depourvue?s?",
        hints="ne|n|guere|plus|peine",
    ),
    "es": Language(
        before="sin|ausencia|ningun[ao]?s?|tampoco|ni|carecen?|carentes?|niega|descarta|nulas?|inexistencia|excluye|"
        "exent[oa]s?|desprovist[oa]s?",
        nots="no|nunca|jamas",
        both=r"ausentes?|negativ[oa]s?|libres?|indemnes?|nul[oa]s?|descartad[oa]s?|inexistentes?|excluid[oa]s?",
        seen=r"identific\w*|observ\w*|evidenci\w*|present\w*|detect\w*|vist[oa]s?|encontr\w*|hall\w*|apreci\w*|"
        r"demuestr\w*|reconoc\w*|positiv[oa]s?|si|visibles?|comprometid[oa]s?|ven?|existen?|hay",
        turns="pero|sino|aunque|embargo",
        asides="con",
        ands="y|e|asi|como",
        ors="o|u|ni",
        names=r"ningun[ao]?|tampoco|carecen?|exent[oa]s?|inexistentes?|ausentes?|"
        "sin (?:evidencia|invasion|signos|necrosis)",
        hints="apenas|sen",
    ),
    "it": Language(
        before="senza|assenza|nessun[oa]?|priv[oaie]|mancanza|manca|mancano|nep+ure|neanche|nemmeno|esclud(?:e|ono)",
        nots="non|mai|no",
        both=r"assent[ei]|negativ[oaie]|indenn[ei]|liber[oaie]|esent[ei]|null[oaie]|esclus[oaie]",
        seen=r"osserv\w*|identific\w*|evidenzi\w*|eviden[zt]\w*|present[ei]|rilev\w*|riscontr\w*|vist[oaie]|"
        r"riconosc\w*|apprezz\w*|dimostr\w*|positiv[oaie]|si|visibil[ei]|documenta\w*|infiltrat[oaie]|trova\w*",
        turns="ma|pero|tuttavia|invece|bensi",
        asides="con",
        ands="e|ed|nonche",
        ors="o|od|oppure",
        names=r"senza|nessun[oa]?|assen(?:t[ei]|za)|priv[oi]|esent[ei]|nep+ure|si esclud\w+|non si \w+",
        hints="ne|appena",
    ),
    "nl": Language(
        before="geen|zonder|noch|afwezigheid|ontbreken|ontbreekt|ontbrekende|evenmin",
        nots="niet|nooit|nergens",
        both=r"nee|neen|afwe[sz]ige?|negatie(?:f|ve)|\w*vrije?|ontbreekt|ontbreken|onaangedaan|uitgesloten",
        seen=r"gezien|zien|herkennen|aangetoond\w*|aanwezige?|waargenomen|gevonden|aantoonba\w*|zichtba\w*|herkenba\w*|vastgesteld\w*|"
        r"geidentificeerd\w*|positieve?|ja|aangetroffen|aangedaan|evidente?",
        turns="maar|echter|wel|doch|hoewel",
        asides="met|bij",
        ands="en|alsmede|evenals|ook",
        ors="of|noch",
        names=r"geen|niet|zonder|evenmin|nergens|afwezig|ontbreekt|uitgesloten|\w{5,}vrij",
        hints="nauwelijks|amper",
    ),
    "pt": Language(
        before="sem|ausencia|nenhum[ao]?s?|nem|inexistencia|carecem?|carentes?|tampouco|isent[oa]s?|desprovid[oa]s?|"
        "destituid[oa]s?|exclui",
        nots="nao|nunca|jamais",
        both=r"ausentes?|negativ[oa]s?|livres?|indemnes?|nul[oa]s?|inexistentes?|descartad[oa]s?",
        seen=r"identific\w*|observ\w*|evidenci\w*|present\w*|detect\w*|detet\w*|vist[oa]s?|encontr\w*|"
        r"demonstr\w*|reconhec\w*|positiv[oa]s?|sim|visive\w*|comprometid[oa]s?|ha|existem?|verific\w*",
        turns="mas|porem|contudo|entretanto|todavia",
        asides="com",
        ands="e|assim|como",
        ors="ou|nem",
        no_denials="no",
        names="não|nenhum[ao]?|ausência|tampouco|isent[oa]s?|livres? de|desprovid[oa]s?|"
        "sem (?:evidencia|invasao|sinais|necrose)",
        hints="apenas|sen",
    ),
    "pl": Language(
        before=r"bez|brak|ani|zaden|zadn(?:a|e|ego|ej|ych)|nieobecnosc|wykluczono|pozbawion\w+",
        nots="nie|nigdy|nigdzie",
        both=r"nieobecn[aeyi]\w*|ujemn[aeyi]\w*|negatywn[aeyi]\w*|woln[aeyi]\w*|nieobecne|niewidoczn[aeyi]\w*",
        seen=r"stwierdz\w*|wykaz\w*|obecn\w*|widoczn\w*|widac|znalezion\w*|zaobserw\w*|obserw\w*|uwidocz\w*|ujawni\w*|"
        r"zidentyfik\w*|dodatni\w*|tak|zajet[aey]|nacieka\w*|wystep\w*",
        turns="ale|jednak|lecz|natomiast|zas",
        asides="z|ze",
        ands="i|oraz|a|takze",
        ors="lub|albo|ani|czy",
        no_denials="no",
        names=r"nie \w+|brak|zadn\w+|pozbawion\w+|nieobecn\w+|niewidoczn\w+|ujemn\w+|bez cech|bez \w+ji",
        hints="ledwo|ledwie",
    ),
}
"""Languages whose denials are known, by their ISO 639-1 code."""

_ELSEWHERE = re.compile(
    r"ingen|inget|inga|ikke|icke|inte|utan|uten|uden|nincs\w*|nelkul|yoktur|izlenme\w*|gorulme\w*|saptanma\w*|neni|"
    r"nejsou|zadn[eay]|tidak|fara|nema|nisu|khong|absenta|deest|desunt|afwesige?|non se \w+|"
    r"(?:sense|cap|sen) (?:necro|invasi|evid[eè]nci|signe|sinai)\w*"
)
"""Denials of languages without a table, so that a short sentence of one is not taken for the report's."""
_RESTATED_ELSEWHERE = re.compile(rf"\b(?:{_ELSEWHERE.pattern}|e[ij]|yok|nem|nije|nav|puudub|tanpa|bukan)\b")
_OTHER_SCRIPT = re.compile(r"[\u0400-\u1dff\u2e80-\ud7ff\U00020000-\U0003ffff]")
"""Letters neither Latin nor Greek, once ligatures and wide forms are taken apart."""
_NOT_ALONE = "only|nur|alleen|seulement|uniquement|solo|solamente|soltanto|apenas|somente|tylko|necessarily"
NOT_ALONE = frozenset(_NOT_ALONE.split("|")) | {"só", "sólo", "unicamente", "únicamente"}
"""After "not" they take nothing back: "not only"."""

UNCERTAIN = (
    r"verd[aä]cht\w*|fraglich\w*|m[oö]glich\w*|wahrscheinlich\w*|vermutlich\w*|suspect\w*|suspicion|douteu\w*|"
    r"vraisembl\w*|probabl\w*|sospett\w*|dubbi\w*|possibil\w*|probabil\w*|sospech\w*|dudos\w*|posible\w*|mogelijk\w*|"
    r"waarschijnlijk\w*|twijfel\w*|suspeit\w*|poss[ií]ve\w*|prov[aá]ve\w*|duvidos\w*|podejrz\w*|prawdopodob\w*|"
    r"mo[zż]liw\w*|w[aą]tpliw\w*|nicht (?:\w+ )?(?:beurteil|ausschlie|auszuschlie|bewert)\w*|"
    r"nicht (?:sicher|eindeutig)\b|o[. ]b\b|niet (?:te )?(?:\w+ )?(?:beoord|uit te sluiten|uitgesloten)\w*|"
    r"non (?:\w+ )?(?:valutabil|evaluabl|esclu|exclu)\w*|(?:no|n[aã]o) (?:\w+ )?(?:evaluabl|valorabl|avali[aá]ve|"
    r"exclu|descart)\w*|nie mo[zż]na\b|nie \w*wyklucz\w*"
)
"""Expressions of doubt, accents and case aside."""

VALUES = frozenset(
    "nein nicht keine kein negativ fehlend fehlt nee niet geen negatief afwezig non sans absent absente négatif "
    "négative negatif aucun aucune no assente assenti negativo negativa nessuna nessuno ausente ausentes não nao nie "
    "brak nieobecna nieobecny ujemny ujemna ja nachweisbar nachgewiesen vorhanden gezien aanwezig présent présente "
    "presente presenti presentes stwierdzono obecna obecny vista visto observada identificada identificado".split()
)
"""What may stand alone as the value of a label."""

FUNCTION_WORDS = frozenset(
    "der die das den dem des ein eine einer eines einem einen und oder von vom zur zum bei auf aus mit ist sind wird "
    "werden wurde nachweis evidence les des une est sont avec dans par pour del los las una con por para que como "
    "della dello delle degli dei gli alla alle nel nella sono con per che het een van voor naar zijn wordt werd "
    "dos das uma com nos nas pelo pela são przez dla jest oraz evidencia evidência signos sinais segni signes cech "
    "tekenen hinweis anhalt si osserva osservano observa observan observam se nicht keine kein".split()
)
"""Words that say nothing of what was found."""


GRADES = {
    word: value
    for value, words in {
        "well": "gut bien ben bene goed bem dobrze wysoko",
        "moderate": "mäßig mässig moyennement modérément moderadamente mediamente moderatamente matig średnio",
        "poor": "schlecht gering peu pobremente poco scarsamente slecht weinig pouco mal słabo nisko",
        "low": "niedrig niedriggradig niedriggradige bajo basso laag laaggradig baixo bas niski",
        "high": "hoch hochgradig hochgradige alto alta hoog hooggradig haut wysoki",
        "left": "linker linke linkes linken gauche izquierdo izquierda sinistro sinistra linkerzijde esquerdo esquerda",
        "right": "rechter rechte rechtes rechten droite derecho derecha destro destra direito direita",
    }.items()
    for word in words.split()
}
"""Grades and sides, by the English word for them."""

TOPICS: dict[Category, str] = {
    "histological_type": r".*(?:om[aeiy]?|ome[ns]?|oom|omow\w*)$|.*[ck]ar[ckz]|.*rak|guz|.*geschwulst|gruczol",
    "grade": r".*dif+er|zrozn|.*grad|stopien|stopn|grau|malign",
    "invasion": r".*in[vw]a|.*infiltr|naciek|.*groei|.*einwachs|.*penetr|e[xs]ten|estend|.*bruch|.*perfor|.*ausbreit",
    "lymphovascular_invasion": r".*l[iy][mn]f|.*vas[cko]|.*gefa(?:ß|ss)|vaisseau|vas[ie]|.*vaten|.*vaat|naczy|.*embol",
    "perineural_invasion": r".*ne[ru][vwr]|zenuw|.*nerf",
    "necrosis": r".*ne[ck]ro|martwi|[ck]omedo",
    "mucin": r".*mu[czk]|[ck]ol+oid|.*schleim|slijm|sluz|.*siegelring|.*anello|.*anillo",
    "mitoses": r".*mito|kernteil|.*kerndeling",
    "stroma": r".*[se]?strom|.*desmo|.*fi[bl]ro|.*s[ck]ler|podscielis|bindegew|bindweefsel|wlokn|estroma",
    "inflammation": r".*l[iy][mn](?:ph|f)|.*infl?[ai]m|.*entzund|ontstek|zapal|.*zyt|.*cit|.*granul",
    "margin": r"mar[gz]|.*rand|.*absetzung|bord|limit|tranche|.*vlak|brzeg|.*lini|schnitt|recoupe|.*snede",
    "node": r".*l[iy][mn](?:ph|f)|.*nod[eou]|gangl|.*klier|wez|.*knoten",
    "precursor": r".*aden|.*d[yi]spl|.*pol[iy]p|gruczol|.*situ|.*serrat|.*vorlaufer|.*lesion|.*lasion",
}
"""How a word begins, without accents, that speaks of a category in one of these languages."""


@lru_cache(maxsize=1 << 14)
def bare(word: str) -> str:
    """``word`` without accents."""
    if word.isascii():
        return word
    return "".join(letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_CANDIDATES)
    return identifier


def _recognised(text: str, share: float) -> str | None:
    """The language that ``text`` is most like; None where that is no more than likely, or Latin, as terms are."""
    language, likelihood = _identifier().classify(text.casefold())  # capitals say nothing, and confuse the model
    return str(language) if language != "la" and likelihood >= share else None


@cache
def _denials() -> dict[str, re.Pattern[str]]:
    """For each language by which of its words it is known; last for the languages that nobody here reads."""
    named = {code: bare(table.names) for code, table in LANGUAGES.items() if table.names}
    return {code: re.compile(rf"\b(?:{words})\b") for code, words in {**named, "unknown": _ELSEWHERE.pattern}.items()}


def may_deny_elsewhere(words: Iterable[str]) -> bool:
    """Whether words that no evidence has deny in a language without a table, or are of a script without one."""
    text = " ".join(bare(word) for word in words)
    return bool(_RESTATED_ELSEWHERE.search(text) or _OTHER_SCRIPT.search(text))


def report_language(text: str) -> str:
    """ISO 639-1 code of the language of a whole report; English where it can't be told (a few words, Latin terms)."""
    return _recognised(text, 0.4) or "en"


def sentence_language(words: list[str], sentence: str, report: str) -> str:
    """ISO 639-1 code of the language of a sentence.

    A sentence of few words, of terms, or spoilt by a scanner, is in the report's language, unless it denies in the
    words of another.

    Args:
        words: of the sentence.
        sentence: its text.
        report: language of the report.

    Returns:
        A key of ``LANGUAGES``, or another code, or ``unknown``.
    """
    language = _recognised(sentence, _SURE) if len(words) >= _FEWEST_WORDS else None
    if language is not None and language != "en":
        return language
    if (LANGUAGES.get(report) or ENGLISH) is not ENGLISH and language is None:
        return report
    plain = " ".join(bare(word) for word in words)
    for code, denial in _denials().items():
        if denial.search(plain):
            return code if language is None else "unknown"  # English words around another language's denial
    return language or report
