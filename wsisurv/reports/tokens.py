"""The sentences of a report: where they end, what a negation in them reaches, and where they are in doubt."""

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import pairwise

from wsisurv.reports.languages import (
    ENGLISH,
    LANGUAGES,
    NOT_ALONE,
    UNCERTAIN,
    Language,
    report_language,
    sentence_language,
)
from wsisurv.reports.lexicon import FINDINGS
from wsisurv.reports.words import (
    AFFIRMATIONS,
    DENY_BOTH_WAYS,
    DENY_WHAT_FOLLOWS,
    FUNCTION_WORDS,
    GUARDED,
    PARTICIPLES,
    ROMAN,
    TURNS,
    VALUE_WORDS,
    split_words,
)

_OPEN_ENDED = frozenset(
    "a an the of in on at to for from by with without within into onto through and or nor as is are was were be no not "
    "has have approximately invading involving measuring".split()
)
"""A sentence doesn't end on one of these: a period after it is the end of a line."""
_CONTINUES = frozenset("of for to by with and or into from in the is are".split())
_AFFIRMED = AFFIRMATIONS | {"invades", "extends", "infiltrates", "reaches"}
_BE = frozenset("is are was were be been being".split())
_CONTRACTED = frozenset("isn aren wasn weren don doesn didn hasn haven hadn couldn".split())
"""First halves of words such as "isn't", which the apostrophe parts."""
_UNITS = frozenset("mm cm um x to".split())
_AFTER_A_PREDICATE = FUNCTION_WORDS | {"without", "but", "throughout", "where", "while"}
_LIST_WORDS = frozenset(
    "proximal distal radial oral aboral deep lateral circumferential mesenteric medial anterior posterior superior "
    "inferior lymphatic vascular venous perineural angiolymphatic lymphovascular neural".split()
)
_BACK_STOPS = TURNS | frozenset("with without which showing shows displays demonstrates while".split())
_UNCERTAIN = re.compile(
    r"\b(?:suspicious|suspected|possibl[ey]|probabl[ey]|questionable|equivocal|indeterminate|borderline"
    r"|may (?:be|represent)|can ?not (?:be )?(?:\w+ )?(?:assess|evaluat|determin|exclud|rul|identif)\w*"
    r"|not (?:be )?(?:assess|evaluat|determin)\w*|favou?r(?:s|ed)?|suggest(?:s|ive)|presumed|presumably|(?:un)?likely"
    rf"|not (?:entirely )?(?:excluded|ruled out|certain)|{UNCERTAIN})\b",
    re.IGNORECASE,
)
_DENY = DENY_WHAT_FOLLOWS | DENY_BOTH_WAYS | _CONTRACTED | {"no", "not", "cannot", "excluded", "free", "clear"}
_DASH = re.compile(r"\s+[-–]\s+")
_DASHED = re.compile(r"\n\s*\n|(?:[.)\n]\s*|\s)[-*–]\s+$|\n\s*[-*–]\s*$")
_STOPPED = re.compile(r"[.?!]\W*\s|[.?!]\W*$|\n")
_PARTED = re.compile(r"[,;()]")
_LABELS = frozenset("invasion node nodes margin margins".split())
"""How a label ends that says nothing without its value."""
_LONGEST_LABEL = 6
_LONGEST_DENIAL = 3
"""Words of such a label, and of a denial that may be of any words: "Kein Tumor"."""
ANYWHERE = (
    VALUE_WORDS
    | FUNCTION_WORDS
    | PARTICIPLES
    | frozenset(
        "tumor tumour malignancy malignant carcinoma adenocarcinoma cancer neoplasm neoplasia "
        "metastasis metastases metastatic disease cells sections section examined submitted slides".split()
    )
)
"""What a denial says of whatever stands above it."""
_OF_A_LIST = DENY_WHAT_FOLLOWS | frozenset("following features findings parameters items".split())
"""What the heading of a list may say besides: "The following features are not seen:"."""
_NEAR = 5
"""Words within which "possibly" is about a finding."""


class Reading:
    """A text read once: its words, its sentences, and which words are denied.

    Args:
        text: any text; nothing in it is changed, and all offsets are its own.
        language: of all of it; None has it recognised, sentence by sentence.
    """

    def __init__(self, text: str, language: str | None = None) -> None:
        self.text = text
        self._language = language
        self.words = split_words(text)
        self._reached: dict[tuple[int, bool], tuple[bool, bool]] = {}

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
        if not gap.strip() and "\n" not in gap:
            return False
        if ";" in gap or "•" in gap or _DASHED.search(gap):
            dashed = re.fullmatch(r"\s+[-–]\s+", gap) is not None and word.plain in VALUE_WORDS  # "MARGINS - FREE"
            return not dashed and not self._only_a_value(index)
        if not _STOPPED.search(gap):
            return False
        if self._only_a_value(index):
            return False
        first = self.text[word.start]
        if self.text[before.start : before.end] == "No" and gap.startswith(". ") and first.isupper():
            return True  # "including test No. Adenocarcinoma …"
        value = before.plain in {"no", "not"} and re.search(r"[:?=|.\t\n–-]", before.gap)
        if before.plain in _OPEN_ENDED and not value:
            return False
        capitals = self.text[word.start : word.end].isupper() and self.text[before.start : before.end].isupper()
        if capitals and word.plain in _CONTINUES:
            return False
        if before.plain in {"no", "nos", "dr", "fig", "approx"} and word.kind == "number":
            return False
        if re.search(r"[.?!]\W*\s", gap):
            return not first.islower() or word.kind == "code"
        if "\n" in gap:  # a line that has no period: it ends where a new item begins
            label = re.match(r"[A-Z][\w /()&-]{1,60}:", self.text[word.start :])
            return label is not None or (first.isupper() and not capitals)
        return False

    def _only_a_value(self, index: int) -> bool:
        """True when what follows is only "Not identified." or the like: the value of the label before it."""
        if self.words[index - 1].plain in VALUE_WORDS or self.words[index].plain not in VALUE_WORDS:
            return False
        for word in self.words[index : index + 4]:
            if word is not self.words[index] and re.search(r"[.;\n]", word.gap):
                return ":" not in word.gap  # "Present:" opens a list
            if word.plain not in VALUE_WORDS:
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
    def _languages(self) -> list[str]:
        """Language of each sentence."""
        if self._language is not None:
            return [self._language] * len(self.sentences)
        report = report_language(self.text)
        found = []
        for sentence in self.sentences:
            words = [self.words[index].plain for index in sentence if self.words[index].kind == "word"]
            text = self.text[self.words[sentence.start].start : self.words[sentence.stop - 1].end]
            found.append(sentence_language(words, text, report))
        return found

    def language(self, index: int) -> str:
        """Code of the language of the sentence that a word belongs to; one without a table can't be read."""
        return self._languages[self.sentence_of[index]]

    @cached_property
    def _tables(self) -> list[Language]:
        """Words of the language of each sentence."""
        return [LANGUAGES.get(language, ENGLISH) for language in self._languages]

    def _table(self, index: int) -> Language:
        return self._tables[self.sentence_of[index]]

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Where each word stands, by its kind and scan; halves that a hyphen parts also as the whole word."""
        found: dict[str, list[int]] = {}
        for index, (word, after) in enumerate(zip(self.words, [*self.words[1:], None], strict=False)):
            found.setdefault(f"{word.kind} {word.scan}", []).append(index)
            if after is not None and after.broken and word.kind == after.kind == "word":
                found.setdefault(f"word {word.scan}{after.scan}", []).append(index)
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
        clause = self.text[self.words[first].start : self.words[last - 1].end]
        whole = re.sub(r"[-‐‑\u00ad]\.?\s+", "", clause)  # as if no line broke a word
        return any(_UNCERTAIN.search(re.sub(r"\.?\s+", " ", text)) is not None for text in {clause, whole})

    def _goes_on(self, index: int) -> bool:
        """True when the same clause goes on from the word before ``index``."""
        return self.sentence_of[index - 1] == self.sentence_of[index] and "," not in self.words[index].gap

    def _denied(self, *, wide: bool) -> list[bool]:
        flags = [False] * len(self.words)
        for sentence in self.sentences:
            for index in sentence:
                forward, backward = self._reach(sentence, index, wide=wide)
                if not wide and index + 1 < sentence.stop and self.words[index + 1].plain in NOT_ALONE:
                    continue
                if forward:
                    for reached in self._forward(sentence, index, wide=wide):
                        flags[reached] = True
                if backward:
                    for reached in self._backward(sentence, index, wide=wide):
                        flags[reached] = True
            for index in sentence:
                if self.is_cue(index):
                    flags[index] = True
                elif self.words[index].kind == "code" and not wide:
                    flags[index] = False  # "pN1" is its own value, whatever stands around it
        if wide:
            for label, sentence in pairwise(self.sentences):
                if self._answers(label, sentence):
                    flags[label.start : label.stop] = [True] * len(label)
            for item in self._listed_as_absent():
                flags[item.start : item.stop] = [True] * len(item)
        return flags

    def _listed_as_absent(self) -> Iterator[range]:
        """Items of a list that its heading denies: "The following are not seen:", "ABSENT FEATURES: …; …"."""
        listing = False
        for place, sentence in enumerate(self.sentences):
            following = self.sentences[place + 1].start if place + 1 < len(self.sentences) else None
            ends = [*range(sentence.start + 1, sentence.stop), *([] if following is None else [following])]
            colons = [sentence.start, *(index for index in ends if ":" in self.words[index].gap)]
            if len(colons) > 1:
                head = range(*colons[-2:])
                listing = self._says_only(ANYWHERE | _OF_A_LIST, head.start, head.stop)
                listing = listing and any(any(self._reach(sentence, index)) for index in head)
                continue
            gap, words = self.words[sentence.start].gap, {self.words[index].plain for index in sentence}
            own = words & _AFFIRMED or any(any(self._reach(sentence, index)) for index in sentence)
            listing = listing and not own and re.search(r"[.?!]|\n\s*\n", gap) is None
            if listing:
                yield sentence

    def _says_only(self, known: frozenset[str] | set[str], start: int, stop: int) -> bool:
        return all(self.words[index].plain in known for index in range(start, stop))

    def _answers(self, label: range, sentence: range) -> bool:
        """True where a sentence denies the label before it, which a colon, a scanner or a list mark cut off."""
        first, own = self.words[sentence.start], [self.words[index] for index in sentence]
        if len(own) > _LONGEST_DENIAL and not all(word.plain in ANYWHERE or word.kind == "number" for word in own):
            return False  # it denies something of its own
        if ":" in first.gap:  # "LYMPH NODES, LEFT, EXCISION:\n- NEGATIVE FOR MALIGNANCY"
            return self.is_cue(sentence.start)
        words = [self.words[index].plain for index in label]  # "Lymph nodes.\nNegative for tumor"
        bare = len(words) <= _LONGEST_LABEL and words[-1] in _LABELS and not _AFFIRMED & set(words)
        return bare and self._reach(sentence, sentence.start)[1]

    def is_cue(self, index: int) -> bool:
        """True when the word denies something."""
        return any(self._reach(self.sentences[self.sentence_of[index]], index)) or (
            self.words[index].kind == "code"
            and re.fullmatch(r"(?:[lvr]|y?p[nt]|pni|n|p?m)0", self.words[index].scan) is not None
        )

    def _reach(self, sentence: range, index: int, *, wide: bool = True) -> tuple[bool, bool]:
        """Whether the word denies what follows it, and what precedes it."""
        if (index, wide) not in self._reached:
            self._reached[index, wide] = self._find_reach(sentence, index, wide=wide)
        return self._reached[index, wide]

    def _find_reach(self, sentence: range, index: int, *, wide: bool) -> tuple[bool, bool]:
        word, table = self.words[index], self._table(index)
        after = self.words[index + 1] if index + 1 < sentence.stop else None
        if table is ENGLISH and word.plain not in _DENY and word.scan != "0" and not table.has("before", word.plain):
            if (word.plain == "n" and ":" in word.gap and after is None) or self._ruled_out(sentence, index):
                return False, True
            return (wide, wide) if table.has("hints", word.plain) else (False, False)  # nearly every word
        if table.has("no_denials", word.plain):
            return False, False
        if table.has("both", word.plain):
            return True, True
        nots, before_it = table.has("nots", word.plain), table.has("before", word.plain)
        if nots or before_it:
            ends = ":" in word.gap or after is None or _PARTED.search(after.gap) is not None
            next_words = [self.words[i].plain for i in range(index + 1, min(index + 4, sentence.stop))]
            if nots:
                return True, wide or ends or any(table.has("seen", word) for word in next_words)
            return True, ends and table is not ENGLISH
        if word.plain == "no" and word.kind == "word":
            if after is not None and (after.plain in ROMAN or (after.kind == "number" and "." in after.gap)):
                return False, False  # "No XIV", "No. 3"
            if after is not None and after.plain == "of":
                return False, False  # "No. of mitoses"
            if after is None and ":" not in word.gap and self.text[word.start] == "N" and index > sentence.start:
                led = re.search(r"\.{2}|[|\t\n]", word.gap) is not None  # "Necrosis ..... NO"
                return False, led or (wide and "(" not in word.gap)  # "test No."
            value = ":" in word.gap or after is None
            return not value or after is not None, value
        if word.plain in {"not", "cannot"} | _CONTRACTED:
            before = self.words[index - 1].plain if index > sentence.start else ""
            next_words = [self.words[i].plain for i in range(index + 1, min(index + 4, sentence.stop))]
            predicate = any(word in PARTICIPLES or word.endswith("ed") for word in next_words)
            return True, after is None or predicate or ":" in word.gap or before in _BE or word.plain in _CONTRACTED
        if word.plain in DENY_WHAT_FOLLOWS:
            return True, False
        if word.plain in DENY_BOTH_WAYS:
            return True, True
        if word.plain == "excluded":
            return False, True
        if word.plain in {"free", "clear"}:
            if after is not None and after.plain in {"of", "from"}:
                return True, True
            if after is None or after.plain in _AFTER_A_PREDICATE or re.search(r"[^\s.-]", after.gap):
                return False, True  # "lymph nodes are tumor-free"
            return word.plain == "free", False  # "tumor-free margins"
        if word.scan == "0" and word.kind == "number":
            if after is None:
                before = self.words[index - 1].plain if index > sentence.start else ""
                return False, wide or ":" in word.gap or before in _BE | AFFIRMATIONS  # "Number involved: 0"
            if "%" in after.gap or after.plain == "percent":
                return True, True  # "Mucinous part: 0 %"
            if after.plain in AFFIRMATIONS:
                return True, True  # "12 examined, 0 positive"
            counted = re.search(r"/|:", after.gap) is not None or after.plain in {"of", "out"}
            total = self.words[index + 2] if index + 2 < sentence.stop else None
            if counted and (total is None or re.search(r"[^\s\w-]", total.gap)):
                return False, True  # "lymph nodes (0/16), and …"
            return counted or after.plain not in _UNITS, counted  # "0 mitoses", but "0 mm from the margin"
        foreign = table is not ENGLISH and any(other.denies(word.plain) for other in LANGUAGES.values())
        hint = foreign or table.has("hints", word.plain)  # a short sentence may pass for a neighbour's language
        return wide and hint, wide and hint

    def _ruled_out(self, sentence: range, index: int) -> bool:
        return index + 1 in sentence and [word.plain for word in self.words[index : index + 2]] == ["ruled", "out"]

    def _forward(self, sentence: range, cue: int, *, wide: bool) -> range:
        table = self._table(cue)
        if self.words[cue].plain == "non" and table is ENGLISH:
            return range(cue, min(cue + 2, sentence.stop))
        alternatives = any(
            self.words[i].plain in {"or", "nor"} or table.has("ors", self.words[i].plain)
            for i in range(cue + 1, sentence.stop)
        )
        for index in range(cue + 1, sentence.stop):
            word = self.words[index]
            if word.plain in TURNS or table.has("turns", word.plain):
                return range(cue, index)
            if "," in word.gap and index > cue + 1:
                chunk = self._chunk(sentence, index)
                if word.plain in {"with", "which", "showing"} or (word.plain == "and" and "with" in chunk[:2]):
                    return range(cue, index)
                if word.plain not in {"or", "nor", "and"} and AFFIRMATIONS & set(chunk) and not alternatives:
                    return range(cue, index)
                if not wide and not alternatives:
                    return range(cue, index)
            aside = word.plain in {"with", "which", "showing", "while"} or table.has("asides", word.plain)
            if not wide and (aside or table.has("ands", word.plain)):
                return range(cue, index)
            if not wide and word.plain == "and":
                rest = self._chunk(sentence, index)[1:]
                if len(rest) > 4 or (rest and rest[0] in GUARDED and rest[0] not in _LIST_WORDS):
                    return range(cue, index)
        return range(cue, sentence.stop)

    def _backward(self, sentence: range, cue: int, *, wide: bool) -> range:
        in_list = labels = False
        table = self._table(cue)
        for index in range(cue - 1, sentence.start - 1, -1):
            word, later = self.words[index], self.words[index + 1]
            bare = labels and index + 1 < cue and not self._names_finding(index + 1, cue)  # "left" of "nodes, left: no"
            bare = bare and (wide or self._says_only(ANYWHERE, cue + 1, sentence.stop))
            if ":" in later.gap and index + 1 < cue and labels and not bare:
                return range(index + 1, cue + 1)  # "Vascular: Perineural: absent" says nothing of the first
            labels = labels or ":" in later.gap or (wide and _DASH.fullmatch(later.gap) is not None)
            affirmed = word.plain in _AFFIRMED or table.has("seen", word.plain)
            before = self.words[index - 1].plain
            affirmed = affirmed and index + 1 < cue and before != "not" and not table.has("nots", before)
            if wide and word.plain in TURNS and self._says_only(VALUE_WORDS | FUNCTION_WORDS, index + 1, sentence.stop):
                continue  # "sought but not found"
            if word.plain in _BACK_STOPS or table.has("turns", word.plain) or affirmed or word.kind == "code":
                return range(index + 1, cue + 1)
            goes_on = wide and labels and (bare or self._one_label(sentence, index))
            goes_on = goes_on or (bare and self._is_no_value(sentence, index))
            if "," in later.gap and index + 1 < cue and not goes_on:
                in_list = in_list or later.plain in {"and", "or", "all", "both", "each"}
                in_list = in_list or table.has("ands", later.plain) or table.has("ors", later.plain)
                alone = index == sentence.start or "," in word.gap
                in_list = in_list or (wide and alone and table is not ENGLISH)  # "Venen, Nerven nicht infiltriert"
                if not in_list and word.plain not in _LIST_WORDS:
                    return range(index + 1, cue + 1)
        return range(sentence.start, cue + 1)

    def _one_label(self, sentence: range, index: int) -> bool:
        """True where no other label ends up to a word: the commas of "Lymph nodes, biopsy: negative" part no fields."""
        gaps = (self.words[i].gap for i in range(sentence.start + 1, index + 1))
        return not any(":" in gap or _DASH.fullmatch(gap) for gap in gaps)

    def _names_finding(self, start: int, stop: int) -> bool:
        """Whether words ``start`` to ``stop`` (exclusive) name a finding, and not only its place: "left", "biopsy"."""
        said = self.text[self.words[start].start : self.words[stop - 1].end]
        return any(pattern.search(said) for pattern in FINDINGS.values())

    def _is_no_value(self, sentence: range, index: int) -> bool:
        """Whether the item that ends with a word is no finding that a label has, as in "Type: carcinoma, left: no"."""
        start = index
        while start > sentence.start and not re.search("[,:]", self.words[start].gap):
            start -= 1
        of_a_label = start > sentence.start and "," not in self.words[start].gap
        return not of_a_label or not self._names_finding(start, index + 1)

    def _chunk(self, sentence: range, start: int) -> list[str]:
        """Words from ``start`` up to the next comma."""
        found = [self.words[start].plain]
        for index in range(start + 1, sentence.stop):
            if "," in self.words[index].gap:
                break
            found.append(self.words[index].plain)
        return found


@lru_cache(maxsize=64)
def read(text: str, language: str | None = None) -> Reading:
    """Read ``text``; the last few readings are kept, for one report is asked about many times."""
    return Reading(text, language)
