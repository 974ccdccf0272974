"""What a restated finding says beyond its evidence: numbers, grades, amounts and denials, in any language.

The evidence is the report's; the restated text is a model's, and its words are what a teacher learns. So a word that
nothing here knows, where it may stand for a grade or a number, refuses the finding.
"""

import re
from collections import Counter
from itertools import pairwise

from wsisurv.reports.languages import LANGUAGES, bare, may_deny_elsewhere
from wsisurv.reports.lexicon import FINDINGS
from wsisurv.reports.tokens import ANYWHERE, Reading
from wsisurv.reports.words import GUARDED, NEGATIONS, Word, joined, stated

_GRADES = frozenset({"well", "moderate", "poor", "undifferentiated", "low", "high", "intermediate"})
_SHARES = frozenset({"all", "every", "half", "most"})
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
    unproved += sorted(_SHARES & {word.plain for word in text.words} - {word.plain for word in proved})
    unproved += sorted((_amounts(text.words) - _amounts(proved)).elements())  # "poor to poor" of "moderate to poor"
    if unproved:
        return f"the restated text says {unproved[0]!r}, the evidence does not"
    if pairs := _pairs(text.words) - _pairs(proved):
        return f"the restated text says {'/'.join(min(pairs))!r}, the evidence does not"
    return None


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
    if not any(value in _GRADES or any(letter.isdigit() for letter in value) for value in left_out):
        return False
    stems = {stem for word in source.words for stem in word.stems}
    said = _plain(source.words) | ANYWHERE | NEGATIONS | GUARDED.keys()
    unknown = [word.plain for word in own if word.plain not in said and not stems & {*word.stems}]
    return any(not any(pattern.search(word) for pattern in FINDINGS.values()) for word in unknown)


def _plain(words: list[Word]) -> set[str]:
    """The words, and those whole that a line's end parts."""
    halves = {joined(left, right).plain for left, right in pairwise(words) if right.broken}
    return {word.plain for word in words} | halves


def _amounts(words: list[Word]) -> Counter[str]:
    return Counter(value for value in stated(words) if not any(letter.isdigit() for letter in value))


def _pairs(words: list[Word]) -> set[tuple[str, str]]:
    """Numbers tied to one another: 3/16, 3 of 16, 2-3."""
    numbers = [(index, word) for index, word in enumerate(words) if word.kind == "number"]
    found = set()
    for (at, left), (next_at, right) in zip(numbers, numbers[1:], strict=False):
        tied = re.fullmatch(r"\s*[/:x×–—-]\s*", right.gap) is not None if next_at == at + 1 else False
        between = {word.plain for word in words[at + 1 : next_at]}
        if tied or (between and between <= {"out", "of", "to", "x"}):
            found.add((left.scan, right.scan))
    return found
