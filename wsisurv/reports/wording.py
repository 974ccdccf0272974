"""The words of a report: where they stand, how they fold, where a sentence ends, what a negation reaches.

Reports come from scanners as often as from databases: the real ones that this was written against have a period at
the end of every line, "O" for "0" and "Gl" for "G1". Folding may therefore join what differs only by the scanner, and
must never join two numbers, two grades, or a finding and its denial.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

_TOKEN = re.compile(
    r"""(?P<stage>(?:(?:y?p\ ?[TNM])|(?:\b[GLVR]))\ ?[0-4X][a-d]?(?![\w.]*\d)(?!\w))   # pT3, p T 3, G 2, L1
      | (?P<code>[^\W\d_]{1,6}\d+[a-z]?(?!\w))                                          # MLH1, A12, Grade2
      | (?P<scan>[^\W\d_]{2,}(?:[01][^\W\d_]{2,})+ | [01|][^\W\d_]{3,})                 # c0lon, 1ymph
      | (?P<number>\d+(?:[.,]\d+)*)
      | (?P<word>[^\W\d_]+)""",
    re.VERBOSE,
)
_STAGE_O = re.compile(r"(?:y?p[tnm]|[lvr])o")
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "x": 10}
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_ONES += " seventeen eighteen nineteen"
_NUMBER_WORDS = {word: value for value, word in enumerate(_ONES.split())} | {
    word: 10 * value for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}

FUNCTION_WORDS = frozenset(
    "a an the of in on at to for from by with within into onto through and or nor as is are was were be been being has "
    "have had it its this that these those there which who both all any each up out than then but also per via "
    "show shows showing see seen identified present noted found evidence evident involved involvement finding".split()
)
"""Words that say nothing of what was found."""
_OPEN_ENDED = frozenset(
    "a an the of in on at to for from by with without within into onto through and or nor as is are was were be no not "
    "has have approximately invading involving measuring".split()
)
"""A sentence doesn't end on one of these: a period after it is the end of a line."""
_CONTINUES = frozenset("of for to by with and or into from in the is are".split())

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
}
"""Grades and amounts, by the value that they stand for: a restatement may not bring one of its own."""

_POSITIVE = frozenset("present identified seen positive involved noted found evident invades extends yes".split())
_PARTICIPLES = _POSITIVE | frozenset("detected demonstrated observed appreciated involving apparent shown".split())
_VALUES = _PARTICIPLES | frozenset("not no none absent negative nil uninvolved free indeterminate unknown".split())
_AFTER_A_PREDICATE = FUNCTION_WORDS | {"without", "but", "throughout", "where", "while"}
_LIST_WORDS = frozenset(
    "proximal distal radial oral aboral deep lateral circumferential mesenteric medial anterior posterior superior "
    "inferior lymphatic vascular venous perineural angiolymphatic lymphovascular neural".split()
)
_FORWARD = frozenset("no without lack lacks lacking absence never neither nor non devoid nonexistent".split())
_BOTH_WAYS = frozenset("negative uninvolved absent none nil zero nowhere unaffected".split())
_TURNS = frozenset("but however although though except yet whereas besides".split())
_BACK_STOPS = _TURNS | frozenset("with without which showing shows displays demonstrates while".split())
_UNCERTAIN = re.compile(
    r"\b(?:suspicious|suspected|possibl[ey]|probabl[ey]|questionable|equivocal|indeterminate|borderline"
    r"|may (?:be|represent)|can ?not (?:be )?(?:\w+ )?(?:assess|evaluat|determin|exclud|rul|identif)\w*"
    r"|not (?:be )?(?:assess|evaluat|determin)\w*|favou?r(?:s|ed)?|suggest(?:s|ive)|presumed|presumably|likely|not (?:entirely )?(?:excluded|certain))\b",
    re.IGNORECASE,
)
_STEMS = {
    "invad": "invas", "infil": "invas", "penet": "invas", "exten": "invas", "spread": "invas", "perme": "invas",
    "nodal": "node", "nodes": "node", "metas": "metas", "margi": "margi", "lymph": "lymph",
    "mitot": "mitos", "mitos": "mitos", "desmo": "desmo", "necro": "necro", "mucin": "mucin",
}  # fmt: skip
_CODE_STEMS = {"l": ("lymph", "invas"), "v": ("vascu", "invas", "venou"), "pn": ("node",), "r": ("margi",)}

_NEAR = 5
"""Words within which "possibly" is about a finding."""

Kind = Literal["word", "number", "code"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word, number or code of a text.

    Attributes:
        start: first character in the text.
        end: one past the last character.
        kind: letters, digits, or a code of both (``pT3``, ``MLH1``).
        plain: folded case and compatibility characters.
        scan: ``plain`` with what scanners confuse made one; for a number the same as ``plain``.
        gap: what stands between the word before and this one.
    """

    start: int
    end: int
    kind: Kind
    plain: str
    scan: str
    gap: str

    @property
    def hyphened(self) -> bool:
        """True when a hyphen without space ties this word to the one before."""
        return self.gap in {"-", "‐", "‑", "\u00ad"}

    @property
    def broken(self) -> bool:
        """True when the word before may be this one's first half, cut by a hyphen (at a line's end)."""
        return re.fullmatch(r"[-‐‑\u00ad]\.?\s*", self.gap) is not None

    @property
    def stems(self) -> tuple[str, ...]:
        """What the word is about, inflection aside; empty for words that say nothing of a finding."""
        if self.kind == "code" and (found := re.fullmatch(r"(l|v|y?pn|r)(\d)[a-d]?", self.scan)):
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
        if self.plain in _NUMBER_WORDS:
            return (str(_NUMBER_WORDS[self.plain]),)
        if len(self.plain) > 1 and self.plain in _ROMAN:
            return (str(_ROMAN[self.plain]),)
        return (GUARDED[self.plain],) if self.plain in GUARDED else ()


_SILENT = FUNCTION_WORDS | _FORWARD | _BOTH_WAYS | _TURNS | _VALUES | frozenset(GUARDED) | frozenset(_NUMBER_WORDS)


def _scan_fold(word: str) -> str:
    word = re.sub("[l1|!]", "i", word.replace("0", "o").replace("rn", "m").replace("vv", "w"))
    return word.replace("tumour", "tumor")


_FOLDED_STEMS = {_scan_fold(old): _scan_fold(new) for old, new in _STEMS.items()} | {_scan_fold("sprea"): "invas"}


def _words(text: str) -> list[Word]:
    found: list[Word] = []
    end = 0
    for token in _TOKEN.finditer(text):
        plain = unicodedata.normalize("NFKC", token.group()).casefold()
        kind: Kind = "word"
        scan = plain
        if token.lastgroup == "number":
            kind = "number"
        elif token.lastgroup in {"stage", "code"} or any(letter.isdigit() for letter in plain if letter not in "01"):
            kind, scan = "code", plain.replace(" ", "")
        elif _STAGE_O.fullmatch(plain):
            kind, scan = "code", plain[:-1] + "0"
        else:
            scan = _scan_fold(plain)
        found.append(Word(token.start(), token.end(), kind, plain, scan, text[end : token.start()]))
        end = token.end()
    return [_in_context(text, found, index) for index in range(len(found))]


def _in_context(text: str, words: list[Word], index: int) -> Word:
    word = words[index]
    if word.plain == "o" and re.match(r"\s?/\s?\d", text[word.end :]):
        return replace(word, kind="number", scan="0")
    if text[word.start : word.end] == "NO":
        before = words[index - 1].scan if index else ""
        after = words[index + 1].plain if index + 1 < len(words) else ""
        if re.fullmatch(r"y?p?t[0-4][a-d]?", before) or re.fullmatch(r"p?m[x01]", after):
            return replace(word, kind="code", scan="n0")  # "pT2 NO MX"
    if word.plain in _ROMAN and index and words[index - 1].plain in {"grade", "stage", "type"}:
        return replace(word, kind="number", scan=str(_ROMAN[word.plain]))
    return word


class Reading:
    """A text read once: its words, its sentences, and which words are denied.

    Args:
        text: any text; nothing in it is changed, and all offsets are its own.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = _words(text)

    @cached_property
    def sentence_of(self) -> list[int]:
        """Number of the sentence that each word belongs to."""
        numbers: list[int] = []
        number = 0
        for index in range(len(self.words)):
            number += self.ends_before(index)
            numbers.append(number)
        return numbers

    def ends_before(self, index: int) -> bool:
        """True when a sentence ends between word ``index - 1`` and word ``index``."""
        if index == 0:
            return False
        word, before = self.words[index], self.words[index - 1]
        gap = word.gap
        if ";" in gap or "•" in gap or re.search(r"\n\s*\n|(?:[.)\n]\s*|\s)[-*–]\s+$|\n\s*[-*–]\s*$", gap):
            return not self._only_a_value(index)
        if not re.search(r"[.?!]\W*\s|[.?!]\W*$|\n", gap):
            return False
        if self._only_a_value(index):
            return False
        if before.plain in _OPEN_ENDED and not (before.plain in {"no", "not"} and re.search(r"[:?–-]", before.gap)):
            return False
        first = self.text[word.start]
        capitals = self.text[word.start : word.end].isupper() and self.text[before.start : before.end].isupper()
        if capitals and word.plain in _CONTINUES:
            return False
        if before.plain in {"no", "nos", "dr", "fig", "approx"} and word.kind == "number":
            return False
        if re.search(r"[.?!]\W*\s", gap):
            return not first.islower()
        if "\n" in gap:  # a line that has no period: it ends where a new item begins
            label = re.match(r"[A-Z][\w /()&-]{1,60}:", self.text[word.start :])
            return label is not None or (first.isupper() and not capitals)
        return False

    def _only_a_value(self, index: int) -> bool:
        """True when what follows is only "Not identified." or the like: the value of the label before it."""
        if self.words[index - 1].plain in _VALUES or self.words[index].plain not in _VALUES:
            return False
        for word in self.words[index : index + 4]:
            if word is not self.words[index] and re.search(r"[.;\n]", word.gap):
                return True
            if word.plain not in _VALUES:
                return False
        return True

    @cached_property
    def sentences(self) -> list[range]:
        """The words of each sentence."""
        found: list[range] = []
        start = 0
        for index in range(1, len(self.words) + 1):
            if index == len(self.words) or self.sentence_of[index] != self.sentence_of[start]:
                found.append(range(start, index))
                start = index
        return found

    @cached_property
    def denied(self) -> list[bool]:
        """True for each word that a negation may reach; errs on the side of reaching further."""
        return self._denied(wide=True)

    @cached_property
    def surely_denied(self) -> list[bool]:
        """True for each word that a negation reaches beyond doubt."""
        return self._denied(wide=False)

    def uncertain(self, start: int, end: int) -> bool:
        """True when words ``start`` to ``end`` (exclusive), or those next to them in the sentence, say "possibly"."""
        first, last = start, end
        while first > 0 and start - first < _NEAR and self._goes_on(first):
            first -= 1
        while last < len(self.words) and last - end < _NEAR and self._goes_on(last):
            last += 1
        return _UNCERTAIN.search(self.text, self.words[first].start, self.words[last - 1].end) is not None

    def _goes_on(self, index: int) -> bool:
        """True when the same clause goes on from the word before ``index``."""
        return self.sentence_of[index - 1] == self.sentence_of[index] and "," not in self.words[index].gap

    def _denied(self, *, wide: bool) -> list[bool]:
        flags = [False] * len(self.words)
        for sentence in self.sentences:
            for index in sentence:
                forward, backward = self._reach(sentence, index)
                if forward:
                    for reached in self._forward(sentence, index, wide=wide):
                        flags[reached] = True
                if backward:
                    for reached in self._backward(sentence, index):
                        flags[reached] = True
                if self.is_cue(index):
                    flags[index] = True
        return flags

    def is_cue(self, index: int) -> bool:
        """True when the word denies something."""
        return any(self._reach(self.sentences[self.sentence_of[index]], index)) or (
            self.words[index].kind == "code"
            and re.fullmatch(r"(?:[lvr]|y?pn|n|p?m)0", self.words[index].scan) is not None
        )

    def _reach(self, sentence: range, index: int) -> tuple[bool, bool]:
        """Whether the word denies what follows it, and what precedes it."""
        word = self.words[index]
        after = self.words[index + 1] if index + 1 < sentence.stop else None
        if word.plain == "no" and word.kind == "word":
            if after is not None and (after.kind == "number" or after.plain in _ROMAN or len(after.plain) == 1):
                return False, False  # "No XIV", "No. 3"
            value = ":" in word.gap or after is None
            return not value or after is not None, value
        if word.plain in {"not", "cannot"}:
            return True, after is None or after.plain in _PARTICIPLES or ":" in word.gap
        if word.plain in _FORWARD:
            return True, False
        if word.plain in _BOTH_WAYS:
            return True, True
        if word.plain in {"free", "clear"}:
            if after is not None and after.plain in {"of", "from"}:
                return True, True
            if after is None or after.plain in _AFTER_A_PREDICATE or re.search(r"[^\s.-]", after.gap):
                return False, True  # "lymph nodes are tumor-free"
            return word.plain == "free", False  # "tumor-free margins"
        if word.scan == "0" and word.kind == "number":
            if after is None:
                return False, ":" in word.gap  # "Number involved: 0"
            counted = re.search(r"/|:", after.gap) is not None or after.plain in {"of", "out"}
            total = self.words[index + 2] if index + 2 < sentence.stop else None
            if counted and (total is None or re.search(r"[^\s\w-]", total.gap)):
                return False, True  # "lymph nodes (0/16), and …"
            return counted, counted
        return False, False

    def _forward(self, sentence: range, cue: int, *, wide: bool) -> range:
        if self.words[cue].plain == "non":
            return range(cue, min(cue + 2, sentence.stop))
        alternatives = any(self.words[i].plain in {"or", "nor"} for i in range(cue + 1, sentence.stop))
        for index in range(cue + 1, sentence.stop):
            word = self.words[index]
            if word.plain in _TURNS:
                return range(cue, index)
            if "," in word.gap and index > cue + 1:
                chunk = self._chunk(sentence, index)
                if word.plain in {"with", "which", "showing"} or (word.plain == "and" and "with" in chunk[:2]):
                    return range(cue, index)
                if word.plain not in {"or", "nor", "and"} and _POSITIVE & set(chunk) and not alternatives:
                    return range(cue, index)
                if not wide and not alternatives:
                    return range(cue, index)
            if not wide and word.plain in {"with", "which", "showing", "while"}:
                return range(cue, index)
            if not wide and word.plain == "and":
                rest = self._chunk(sentence, index)[1:]
                if len(rest) > 4 or (rest and rest[0] in GUARDED and rest[0] not in _LIST_WORDS):
                    return range(cue, index)
        return range(cue, sentence.stop)

    def _backward(self, sentence: range, cue: int) -> range:
        in_list = labels = False
        for index in range(cue - 1, sentence.start - 1, -1):
            word, later = self.words[index], self.words[index + 1]
            if ":" in later.gap and index + 1 < cue and labels:
                return range(index + 1, cue + 1)  # "Vascular: Perineural: absent" says nothing of the first
            labels = labels or ":" in later.gap
            affirmed = word.plain in _POSITIVE and index + 1 < cue and self.words[index - 1].plain != "not"
            if word.plain in _BACK_STOPS or affirmed or word.kind == "code":
                return range(index + 1, cue + 1)
            if "," in later.gap and index + 1 < cue:
                in_list = in_list or later.plain in {"and", "or"}
                if not in_list and word.plain not in _LIST_WORDS:
                    return range(index + 1, cue + 1)
        return range(sentence.start, cue + 1)

    def _chunk(self, sentence: range, start: int) -> list[str]:
        """Words from ``start`` up to the next comma."""
        found = [self.words[start].plain]
        for index in range(start + 1, sentence.stop):
            if "," in self.words[index].gap:
                break
            found.append(self.words[index].plain)
        return found


@lru_cache(maxsize=64)
def read(text: str) -> Reading:
    """Read ``text``; the last few readings are kept, for one report is asked about many times."""
    return Reading(text)
