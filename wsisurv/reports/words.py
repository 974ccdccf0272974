"""The words of a report: where they stand, how they fold, what they are about, and what they state.

Reports come from scanners as often as from databases: the real ones that this was written against have a period at
the end of every line, "O" for "0" and "Gl" for "G1". Folding may therefore join what differs only by the scanner, and
must never join two numbers, two grades, or a finding and its denial.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

from wsisurv.reports import languages

_TOKEN = re.compile(
    r"""(?P<stage>(?:(?:y?p\ ?[TNM])|(?:\b[GLVR]))\ ?[0-4X][a-d]?(?![\w.]*\d)(?!\w))   # pT3, p T 3, G 2, L1
      | (?P<code>[^\W\d_]{1,6}\d+[a-z]?(?!\w|\.\d))                                   # MLH1, A12, Grade2
      | (?P<scan>[^\W\d_]{2,}(?:[01][^\W\d_]{2,})+ | [^\W\d_][01][^\W\d_]{4,} | [01|][^\W\d_]{3,})  # c0lon, 1ymph
      | (?P<minus>\(\s*[-–]\s*\))                                                      # "Invasion: (-)"
      | (?P<number>\d+(?:[.,]\d+)*)
      | (?P<word>[^\W\d_]+)""",
    re.VERBOSE,
)
_STAGE_O = re.compile(r"(?:y?p[tnm]|[lvr])o")
ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "x": 10}
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_ONES += " seventeen eighteen nineteen"
NUMBER_WORDS = {word: value for value, word in enumerate(_ONES.split())} | {
    word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}

FUNCTION_WORDS = frozenset(
    "a an the of in on at to for from by with within into onto through and or nor as is are was were be been being has "
    "have had it its this that these those there which who both all any each up out than then but also per via "
    "show shows showing see seen identified present noted found evidence evident involved involvement finding".split()
)
"""Words that say nothing of what was found."""

GUARDED: dict[str, str] = {
    word: name
    for name, words in {
        "well": "well",
        "moderate": "moderate moderately",
        "poor": "poor poorly",
        "undifferentiated": "undifferentiated dedifferentiated anaplastic",
        "low": "low",
        "high": "high",
        "intermediate": "intermediate",
        "mild": "mild mildly slight slightly minimal minimally",
        "marked": "marked markedly severe severely prominent brisk abundant extensive extensively massive widespread",
        "focal": "focal focally scattered rare sparse few scant occasional single",
        "diffuse": "diffuse diffusely",
        "proximal": "proximal oral",
        "distal": "distal aboral",
        "left": "left",
        "right": "right",
        "many": "many numerous multiple several",
        "intact": "intact",
        "negative": "negative",
        "positive": "positive",
    }.items()
    for word in words.split()
} | languages.GRADES
"""Grades and amounts, by the value that they stand for: a restatement may not bring one of its own."""

AFFIRMATIONS = frozenset("present identified seen positive involved noted found evident yes".split())
PARTICIPLES = AFFIRMATIONS | frozenset("detected demonstrated observed appreciated involving apparent shown".split())
VALUE_WORDS = PARTICIPLES | frozenset("not no none absent negative nil uninvolved free indeterminate unknown".split())
VALUE_WORDS |= languages.VALUES
DENY_WHAT_FOLLOWS = frozenset("no without lack lacks lacking absence never neither nor non devoid nonexistent".split())
DENY_BOTH_WAYS = frozenset("negative uninvolved absent none nil zero nowhere unaffected".split())
NEGATIONS = DENY_WHAT_FOLLOWS | DENY_BOTH_WAYS | {"not", "cannot", "free", "clear"}
"""Words that can deny; whether one does in its place is for ``Reading`` to say."""
TURNS = frozenset("but however although though except yet whereas besides".split())
_STEMS = {
    "invad": "invas", "infil": "invas", "penet": "invas", "exten": "invas", "sprea": "invas", "perme": "invas",
    "nodal": "node", "nodes": "node", "metas": "metas", "margi": "margi", "lymph": "lymph",
    "mitot": "mitos", "mitos": "mitos", "desmo": "desmo", "necro": "necro", "mucin": "mucin",
}  # fmt: skip
_CODE_STEMS = {"l": ("lymph", "invas"), "v": ("vascu", "invas", "venou"), "pn": ("node",), "r": ("margi",)}
_CODE_STEMS["pni"] = ("perin", "invas")

_WEIGHTY = DENY_WHAT_FOLLOWS | DENY_BOTH_WAYS | {"cannot"} | frozenset(GUARDED) | frozenset(NUMBER_WORDS)
_WELL_KNOWN = _WEIGHTY | PARTICIPLES
"""Words that are made whole where a line break parts them: nothing that weighs may hide in two halves."""

_HYPHENS = frozenset("-‐‑\u00ad")

Kind = Literal["word", "number", "code"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word, number or code of a text."""

    start: int  # first character in the text
    end: int  # one past the last character
    kind: Kind  # letters, digits, or a code of both (``pT3``, ``MLH1``)
    plain: str  # folded case and compatibility characters
    scan: str  # ``plain`` with what scanners confuse made one; for a number the same as ``plain``
    gap: str  # what stands between the word before and this one

    @property
    def hyphened(self) -> bool:
        """True when a hyphen without space ties this word to the one before."""
        return self.gap in _HYPHENS

    @property
    def broken(self) -> bool:
        """True when the word before may be this one's first half, cut by a hyphen (at a line's end)."""
        return self.gap[:1] in _HYPHENS and re.fullmatch(r"[-‐‑\u00ad]\.?\s*", self.gap) is not None

    @property
    def stems(self) -> tuple[str, ...]:
        """What the word is about, inflection aside; empty for words that say nothing of a finding."""
        if self.kind == "code" and (found := re.fullmatch(r"(l|v|y?pn|pni|r)(\d)[a-d]?", self.scan)):
            return (self.scan, *_CODE_STEMS[found.group(1).lstrip("y")])
        if self.kind == "number" or len(self.plain) < 3 or self.plain in _SILENT:
            return () if self.kind != "code" else (self.scan,)
        stem = self.scan[:5]
        return (_FOLDED_STEMS.get(stem, stem),)

    @property
    def values(self) -> tuple[str, ...]:
        """Numbers, grades and amounts that the word states."""
        if self.kind == "number":
            return (self.plain if self.plain == self.scan else self.scan,)
        if self.kind == "code":
            return (self.scan,)
        if self.plain in NUMBER_WORDS:
            return (str(NUMBER_WORDS[self.plain]),)
        if len(self.plain) > 1 and self.plain in ROMAN:
            return (str(ROMAN[self.plain]),)
        return (GUARDED[self.plain],) if self.plain in GUARDED else ()


_SILENT = FUNCTION_WORDS | languages.FUNCTION_WORDS | TURNS | VALUE_WORDS | _WEIGHTY


_LIKE_I = str.maketrans("l1|!", "iiii")


def _scan_fold(word: str) -> str:
    word = word.replace("0", "o").replace("rn", "m").replace("vv", "w").translate(_LIKE_I)
    return word.replace("tumour", "tumor")


_FOLDED_STEMS = {_scan_fold(old): _scan_fold(new) for old, new in _STEMS.items()}


def split_words(text: str) -> list[Word]:
    """Words, numbers and codes of ``text`` in order; their offsets are the text's own."""
    found: list[Word] = []
    end = 0
    for token in _TOKEN.finditer(text):
        plain = token.group()
        plain = (plain if plain.isascii() else unicodedata.normalize("NFKC", plain)).casefold()
        kind: Kind = "word"
        scan = plain
        if token.lastgroup == "number":
            kind = "number"
        elif token.lastgroup in {"stage", "code"} or _has_digit(plain):
            kind, scan = "code", plain.replace(" ", "")
            if re.match(r"Pn\d", token.group()):
                plain = scan = f"pni{scan[2:]}"  # of nerves; "pN1" and "PN1" are of nodes
        elif _STAGE_O.fullmatch(plain):
            kind, scan = "code", plain[:-1] + "0"
        else:
            scan = _scan_fold(plain)
        if token.lastgroup == "minus":
            plain = scan = "negative"
        word = Word(token.start(), token.end(), kind, plain, scan, text[end : token.start()])
        end = token.end()
        if found and word.broken and not word.hyphened and found[-1].plain + plain in _WELL_KNOWN:
            whole = found[-1].plain + plain  # "with-" at the end of a line, "out" on the next
            word = replace(found.pop(), end=end, plain=whole, scan=_scan_fold(whole))
        found.append(word)
    return [_in_context(text, found, index) for index in range(len(found))]


def _has_digit(word: str) -> bool:
    """True for a word with a digit that a scanner does not put in the place of a letter."""
    return not word.isalpha() and any(letter.isdigit() for letter in word if letter not in "01")


def _in_context(text: str, words: list[Word], index: int) -> Word:
    word = words[index]
    if word.plain == "o" and re.match(r"\s?/\s?\d", text[word.end :]):
        return replace(word, kind="number", scan="0")
    if text[word.start : word.end] == "NO":
        before = words[index - 1].scan if index else ""
        after = words[index + 1].plain if index + 1 < len(words) else ""
        if re.fullmatch(r"y?p?t[0-4][a-d]?", before) or re.fullmatch(r"p?m[x01]", after):
            return replace(word, kind="code", scan="n0")  # "pT2 NO MX"
    if word.plain in ROMAN and index and words[index - 1].plain in {"grade", "stage", "type"}:
        return replace(word, kind="number", scan=str(ROMAN[word.plain]))
    return word


def joined(first: Word, second: Word) -> Word:
    """Two halves of a word that a hyphen at a line's end parts, as one."""
    return Word(first.start, second.end, "word", first.plain + second.plain, first.scan + second.scan, first.gap)


def stated(words: list[Word]) -> list[str]:
    """Numbers, grades and amounts; ``G2`` and ``grade II`` are one, and so are ``24`` and ``twenty four``."""
    found: list[str] = []
    tens = 0
    for before, word in zip([None, *words], [*words, None], strict=True):
        values = word.values if word is not None else ()
        if before is not None and word is not None and word.broken:
            values += joined(before, word).values
        ones = int(values[0]) if word is not None and word.kind == "word" and values and values[0].isdigit() else 0
        if tens and 0 < ones < 10:
            found.append(str(tens + ones))
            tens = 0
            continue
        found += [str(tens)] if tens else []
        tens = ones if ones >= 20 and ones % 10 == 0 else 0
        if before is not None and before.plain == "grade":
            values = tuple(f"g{value}" if value in {"1", "2", "3", "4"} else value for value in values)
        found += values if not tens else ()
    return found
