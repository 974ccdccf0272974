"""What a restated finding says beyond its evidence: numbers, grades, amounts and denials, in any language.

The evidence is the report's; the restated text is a model's, and its words are what a teacher learns. So a word that
nothing here knows, where it may stand for a grade or a number, refuses the finding.
"""

import re
from collections import Counter
from itertools import pairwise

from wsisurv.formats.statements import Category
from wsisurv.reports.languages import LANGUAGES, bare, may_deny_elsewhere
from wsisurv.reports.lexicon import FINDINGS
from wsisurv.reports.polarity import TOPIC_WORDS, speaks_of
from wsisurv.reports.tokens import ANYWHERE, Reading
from wsisurv.reports.words import GUARDED, NEGATIONS, Word, joined, stated

GRADES = frozenset({"well", "moderate", "poor", "undifferentiated", "low", "high", "intermediate"})
_SHARES = frozenset({"all", "every", "half", "most"})
_PLACES = frozenset(
    "inner outer superficial deep radial circumferential mesenteric anterior posterior superior inferior medial "
    "lateral upper lower".split()
)
_SIDES = _PLACES | frozenset("proximal distal oral aboral left right".split())
_AMOUNTS = GRADES | {"mild", "marked", "focal", "diffuse", "many"}
_BELOW = frozenset("less fewer below under most up smaller".split())
_ABOVE = frozenset("more greater over above least exceeding exceeds larger".split())
_UNITS = {"mm": "mm", "cm": "cm", "um": "um", "µm": "um", "μm": "um", "percent": "%"}
_NAMING: frozenset[Category] = frozenset({"histological_type", "invasion", "margin", "node"})
"""Categories whose restated words name a type or a place, which must be the report's."""
_OF_A_GRADE = re.compile(r".*dif+er|.*grad|zrozn|stop(?:ien|n)|grau|.*erilais|.*foku|dereceli")
"""How a word begins, without accents, that speaks of a grade in some language."""
_COUNTING = frozenset(
    "zwei drei vier funf sechs sieben acht neun zehn elf zwolf deux trois quatre cinq sept huit neuf dix onze douze "
    "tres cuatro cinco seis siete ocho nueve diez doce tre quattro cinque sei sette otto nove dieci undici "
    "dodici twee drie vijf zes zeven negen tien twaalf dois duas quatro sete oito dez doze dwa dwie trzy cztery piec "
    "szesc siedem osiem dziewiec dziesiec dwanascie tva fyra fem sju atta nio tio tolv seks syv otte ti elleve "
    "kaksi kolme nelja viisi kuusi seitseman kahdeksan yhdeksan kymmenen ketto ket harom negy ot het nyolc kilenc tiz "
    "dve tri ctyri sest sedm osm devet deset cetiri sedam osam doi doua trei patru cinci sase sapte opt noua zece "
    "iki uc dort bes alti yedi sekiz dokuz".split()
)
"""Two to twelve, without accents, in languages with a table and without; not those that are English words as well."""


def unproved_values(text: Reading, source: Reading, first: int, last: int) -> str | None:
    """Numbers, grades and amounts of the restated text that the evidence lacks.

    Args:
        text: the claim, restated.
        source: the report.
        first: the evidence's first word in the report.
        last: one past its last word.

    Returns:
        The reason for a refusal, or None.
    """
    proved = source.words[first:last]
    unproved = sorted(set(stated(text.words)) - set(stated(proved)))
    unproved += sorted((_SHARES | _PLACES) & {word.plain for word in text.words} - {word.plain for word in proved})
    unproved += sorted(_labelled(text.words) - {word.plain for word in proved})
    unproved += sorted((_amounts(text.words) - _amounts(proved)).elements())  # "poor to poor" of "moderate to poor"
    if unproved:
        return f"the restated text says {unproved[0]!r}, the evidence does not"
    if pairs := _pairs(text.words) - _pairs(proved):
        return f"the restated text says {'/'.join(min(pairs))!r}, the evidence does not"
    for value, *meant in _measures(text.words):
        same = [other for number, *other in _measures(proved) if number == value]
        if same and not any(meant[0] == bound and meant[1] in {"", unit} for bound, unit in same):
            return f"the restated text gives {value!r} another unit or bound than the evidence"
    if half := _half_a_range(text.words, proved):
        return f"the restated text says {half!r} alone of a range or a count"
    return None


def denies_more(text: Reading, source: Reading, first: int, last: int) -> str | None:
    """Whether a restated denial leaves out what the report's is bound to: "no extensive necrosis", "distal margin".

    Args and returns as ``unproved_values``.
    """
    denied = {source.words[index] for index in range(first, last) if source.surely_denied[index]}
    said = {value for word in text.words for value in word.values}
    for word in denied:
        if any(value in _AMOUNTS - said for value in word.values):
            return f"the report denies it only as {word.plain!r}, the restated text altogether"
    sides = {word.plain for word in denied} & _SIDES
    if len(sides) == 1 and not _SIDES & {word.plain for word in text.words}:
        return f"the report denies it only as {min(sides)!r}, the restated text altogether"
    return None


def other_findings(category: Category, text: Reading, source: Reading, first: int, last: int) -> str | None:
    """Findings, types and places that the restated text brings in, and the evidence does not speak of.

    Args and returns as ``unproved_values``; ``category`` is the claim's.
    """
    proved = {word.scan for word in source.words[first:last]} | _plain(source.words[first:last])
    own = [word for word in text.words if word.kind == "word" and not {word.plain, word.scan} & proved]
    of_vessels = FINDINGS["lymphovascular_invasion"].search(text.text) or "neural" in text.text
    for other, pattern in FINDINGS.items():
        for found in pattern.finditer(text.text):
            brought = [one for one in own if found.start() <= one.start < found.end() and one.plain not in ANYWHERE]
            if other not in TOPIC_WORDS or not brought or (other == "invasion" and of_vessels):
                continue
            if not any(speaks_of(other, source, index) for index in range(first, last)):
                return f"the restated text says {brought[0].plain!r}, the evidence does not"
    if category not in _NAMING or source.language(first) != "en":
        return None
    sentences = {source.sentence_of[index] for index in range(first, last)}
    unknown = _unknown(own, [word for index, word in enumerate(source.words) if source.sentence_of[index] in sentences])
    if category == "histological_type" and not any(word.plain == "situ" for word in text.words):
        next_two = enumerate(source.words[last : last + 2], last)
        behind = [word.plain for index, word in next_two if source.sentence_of[index] in sentences]
        if behind == ["in", "situ"] or any(word.plain == "situ" for word in source.words[first:last]):
            return "the report says that it is in situ, the restated text does not"
    return f"the restated text says {unknown[0]!r}, the evidence does not" if unknown else None


def in_another_language(text: Reading, source: Reading, first: int, last: int) -> str | None:
    """A denial, grade or number of the restated text in a language in which it would be passed over.

    Args and returns as ``unproved_values``.
    """
    proved = _plain(source.words[first:last])
    own = [index for index, word in enumerate(text.words) if word.kind == "word" and word.plain not in proved]
    for index in own:
        word = text.words[index].plain
        known = word in NEGATIONS or text.is_cue(index)
        if not known and any(table.denies(word) for table in LANGUAGES.values()):
            return "the restated text denies in another language than the evidence's"
    if may_deny_elsewhere(text.words[index].plain for index in own):
        return "the restated text may deny in another language, which the proof does not know"
    if _may_state_a_value([text.words[index] for index in own], text, source, first, last):
        return "the restated text may state a grade or number in words that the proof does not know"
    return None


def _may_state_a_value(own: list[Word], text: Reading, source: Reading, first: int, last: int) -> bool:
    """Whether words that the evidence lacks count, speak of a grade, or stand in a value's place unknown."""
    evidence = source.words[first:last]
    plain = [bare(word.plain) for word in own]
    if any(word in _COUNTING for word in plain):
        return True
    if any(map(_OF_A_GRADE.match, plain)) and not any(_OF_A_GRADE.match(bare(word)) for word in _plain(evidence)):
        return True
    left_out = set(stated(evidence)) - set(stated(text.words))
    if not any(value in GRADES or any(letter.isdigit() for letter in value) for value in left_out):
        return False
    return bool(_unknown(own, source.words))


def _unknown(own: list[Word], among: list[Word]) -> list[str]:
    """Words that a report's words ``among`` lack, and that name no finding."""
    stems = {stem for word in among for stem in word.stems}
    said = _plain(among) | ANYWHERE | NEGATIONS | GUARDED.keys()
    unknown = [word.plain for word in own if word.plain not in said and not stems & {*word.stems}]
    return [word for word in unknown if not any(pattern.search(word) for pattern in FINDINGS.values())]


def _measures(words: list[Word]) -> list[tuple[str, str, str]]:
    """Numbers in order, each with its bound (``<``, ``>``, ``~`` or none) and its unit, if it has one."""
    found: list[tuple[str, str, str]] = []
    unit = ""
    for index in range(len(words) - 1, -1, -1):
        word = words[index]
        if word.kind != "number" and word.plain != "half":
            continue
        after = words[index + 1] if index + 1 < len(words) else None
        tied = after is not None and (after.plain in {"x", "to", "by"} or after.kind == "number")
        percent = after is not None and after.gap.lstrip().startswith("%")
        own = "%" if percent else _UNITS.get(after.plain, "") if after is not None else ""
        unit = own or (unit if tied else "")
        near = {one.plain for one in words[max(0, index - 3) : index] if one.kind == "word"}
        near |= {one.plain for one in words[index + 2 : index + 3] if after is not None and after.plain == "or"}
        signs = {"<": r"[<≤]\s*$", ">": r"[>≥]\s*$", "~": r"[~≈±]\s*$"}
        bound = next((sign for sign, pattern in signs.items() if re.search(pattern, word.gap)), "")
        near -= set() if "to" in near else {"up"}  # "up to", not "makes up"
        bound = bound or ("<" if near & _BELOW else ">" if near & _ABOVE else "")
        found.append((word.scan, bound, unit))
    return found[::-1]


def _half_a_range(text: list[Word], proved: list[Word]) -> str | None:
    """One end of "10-20" or "moderately to poorly", or the 17 of "3/17", that the text has without the other."""
    if stated(text) == stated(proved):
        return None
    said, ranges = {*map(_bare_grade, stated(text))}, _joined_values(proved, "to or through", "-–—")
    counts = _joined_values(proved, "of out", "/")
    paired = Counter(value for pair in ranges + counts for value in pair)
    alone = Counter(map(_bare_grade, stated(proved))) - paired
    for first, second in ranges:
        if len({first, second} & said) == 1 and not alone[min({first, second} & said)]:
            return min({first, second} & said)
    for first, second in counts:
        if second in said and first not in said and not alone[second]:
            return second
    return None


def _joined_values(words: list[Word], between: str, signs: str) -> list[tuple[str, str]]:
    """Neighbouring values of one sort that a word or a sign joins."""
    valued = [index for index, word in enumerate(words) if word.values]
    found = []
    for left, right in pairwise(valued):
        first, second = words[left].values[0], words[right].values[0]
        both = first.isdigit() and second.isdigit() or {first, second} <= _AMOUNTS
        sign = right == left + 1 and words[right].gap.strip() in set(signs)
        joining = {word.plain for word in words[left + 1 : right]} - _UNITS.keys()
        if both and (sign or (joining and joining <= {*between.split()})):
            found.append((first, second))
    return found


def _bare_grade(value: str) -> str:
    return value.removeprefix("g")


def _plain(words: list[Word]) -> set[str]:
    """The words, and those whole that a line's end parts."""
    halves = {joined(left, right).plain for left, right in pairwise(words) if right.broken}
    return {word.plain for word in words} | halves


def _labelled(words: list[Word]) -> set[str]:
    """The B of "specimen B"."""
    return {word.plain for before, word in pairwise(words) if before.plain in {"specimen", "part", "block", "slide"}}


def _amounts(words: list[Word]) -> Counter[str]:
    return Counter(value for value in stated(words) if not any(letter.isdigit() for letter in value))


def _pairs(words: list[Word]) -> set[tuple[str, str]]:
    """Numbers tied to one another: 3/16, 3 of 16, 2-3."""
    numbers = [(index, word) for index, word in enumerate(words) if word.kind == "number"]
    found = set()
    for (at, left), (next_at, right) in zip(numbers, numbers[1:], strict=False):
        tied = re.fullmatch(r"\s*[/:x×+–—-]\s*", right.gap) is not None if next_at == at + 1 else False
        between = {word.plain for word in words[at + 1 : next_at]}
        if tied or (between and between <= {"out", "of", "to", "x"}):
            found.add((left.scan, right.scan))
    return found
