"""``--backend rules``: statements without a language model. A baseline, and no more than that.

A report is split into sections and sentences by the headings and habits of real reports; a sentence is cut into
chunks, and each chunk in which a word of the lexicon stands is a claim in the report's own words. It restates nothing,
resolves no "as above", knows only the words below, and calls a finding present unless the sentence denies or doubts
it. What it can't place it leaves out. Its claims go through the same proof as a model's.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from wsisurv.formats.statements import Category, Polarity
from wsisurv.reports.grounding import Claim, Extraction
from wsisurv.reports.lexicon import FINDINGS, alternatives
from wsisurv.reports.polarity import only_a_distance
from wsisurv.reports.sections import LEFT_OUT_KINDS, Sentence, find_sentences
from wsisurv.reports.tokens import Reading, read
from wsisurv.reports.words import AFFIRMATIONS

RULES_VERSION = 5
"""Part of the fingerprint of what the rules made: raise it when they give other claims."""

_LONGEST = 300
"""Characters of evidence; a longer chunk is cut at its commas, and left out if that is not enough."""

_NOT_A_GRADE = re.compile(r"dysplasia|intra-?epithelial|\bPIN\b|adenoma\b", re.IGNORECASE)
_NOT_INVASION = frozenset({"lymphovascular_invasion", "perineural_invasion"})
_ELSEWHERE = frozenset({"node", "margin", "lymphovascular_invasion", "perineural_invasion", "precursor"})
_LABEL_ONLY = re.compile(
    r"(?:see |refer to )|number (?:of (?:lymph )?nodes )?examined|template|not applicable|\bn/?a\b|pending|synoptic"
    r"|cannot be (?:assess|determ|eval)|^\W*specimens?\b|not (?:known|given|provided|specified)|\bicd-?o|none given"
    r"|\bAJCC\b|\bdukes\b(?!.*[Gg]\d)",
    re.IGNORECASE,
)
_TITLES = (
    r"(?i:(?:final |pathologic(?:al)? |histopatholog(?:y|ic|ical) |microscopic )*(?:diagnos[ie]s|description)"
    r"(?: ?/ ?diagnoses)?|comments?|notes?|microscopy|conclusion|addendum|follow-up report|histopathology|summary"
    r"|synoptic report)"
)
"""Headings that are no part of the finding."""
_STATUS = r"(?:no|any|evidence|metasta\w*|tumou?r|carcinoma|malignan\w+)\b"
_SEAM = re.compile(
    alternatives(
        rf"""
        ;\s*|\s+-\s+|,\s+(?=(?:and|also|no|free|tumou?r-free)\b)
        ,?\s+(?=(?:with|without)\b(?! {_STATUS}))|,?\s+(?=(?:as well as|showing|arising|measuring|locali[sz]ed)\b)
        ,\s+(?=(?:extending|invading|infiltrating|penetrating|located)\b)
        [,.]?\s+(?=(?-i:[GLVR]|Pn) ?[\dO](?!\w)|(?-i:y?p ?[TN]) ?[\dOX])
        \s*\((?=(?-i:[GLVR] ?\d|y?p ?[TN] ?\d))|\s*\((?=see\b)|(?<=[\dOX])\)|(?<=:)\s+(?=[A-Z][\w/() -]{{3,50}}:)
        """
    ),
    re.IGNORECASE,
)
"""Where a sentence is cut into chunks."""
_HAS_STATUS: dict[Category, re.Pattern[str]] = {
    "node": re.compile(
        r"metasta|positive|negative|free|tumou?r|carcinoma|malignan|involve|disease|\d ?/ ?\d|\bp ?N|reacti|lymphaden"
        r"|lymphonodulit|extra|examined|: *(?:one|\d|no|yes|present|absent)",
        re.IGNORECASE,
    ),
    "margin": re.compile(
        r"free|clear|positive|negative|involve|tumou?r|carcinoma|neoplas|adenoma|[cm]m\b|\bR ?[\dO]"
        r"|intact|without|\bno\b",
        re.IGNORECASE,
    ),
}
"""Without one of these, a chunk only mentions nodes or margins."""


def extract_rules(text: str, *, keep: Literal["morphology", "all"]) -> Extraction:
    """Read a report by rules.

    580 scanned colorectal reports of about 300 words take some 12 s of a core, proof included.

    Args:
        text: the report.
        keep: ``morphology`` keeps what an H&E slide can show; ``all`` keeps sentences of the gross description,
            stains, history and handling too, as ``non_morphology``. Names, dates and the like are never kept.

    Returns:
        The claims, and how many sentences of each other kind there were (counted with ``all`` as well, where only
        ``identifiers`` are truly left out).
    """
    reading = read(text)
    claims: list[Claim] = []
    left_out: Counter[str] = Counter()
    for sentence in find_sentences(text):
        if sentence.kind == "microscopic":
            claims += _claims(reading, sentence)
        elif sentence.last - sentence.first > 1:
            if keep == "all" and sentence.kind != "identifiers":
                claims += _other(reading, sentence)
            else:
                left_out[sentence.kind] += 1
    ordered: dict[str, int] = {kind: left_out[kind] for kind in LEFT_OUT_KINDS if left_out[kind]}
    return Extraction(tuple(dict.fromkeys(claims)), ordered)


def cut_pieces(text: str) -> list[str]:
    """Pieces of a report that could be quoted, each once, whatever they are of; names, dates and the like left out."""
    parts = [one for one in find_sentences(text) if one.kind != "identifiers"]
    found = (text[one.start : one.stop] for part in parts for one in _chunks(text, part.start, part.end))
    return [*dict.fromkeys(one for one in found if len(one) <= _LONGEST and re.search(r"[^\W\d]{3}", one))]


def _claims(reading: Reading, sentence: Sentence) -> Iterator[Claim]:
    for chunk in _chunks(reading.text, sentence.start, sentence.end):
        evidence = reading.text[chunk.start : chunk.stop]
        one_line = re.sub(r"\s|\.(?=\s)", " ", evidence)  # scanners end each line with a period
        a_label = re.match(r"\s*:", reading.text[chunk.stop :])  # its value is lost or elsewhere
        if a_label or _LABEL_ONLY.search(evidence) or len(evidence) > _LONGEST:
            continue
        words = [i for i in range(sentence.first, sentence.last) if chunk.start <= reading.words[i].start < chunk.stop]
        found = {category: match for category, pattern in FINDINGS.items() if (match := pattern.search(one_line))}
        for category in found:
            if _belongs(category, evidence, found):
                named = [
                    index
                    for match in FINDINGS[category].finditer(one_line)
                    for index in words
                    if match.start() <= reading.words[index].start - chunk.start < match.end()
                ]
                polarity = _polarity(reading, words, named)
                if polarity == "present" and category == "margin" and only_a_distance(evidence):
                    continue
                if polarity is not None:
                    yield Claim(category, polarity, _tidy(evidence), evidence)


def _chunks(text: str, start: int, end: int) -> Iterator[range]:
    """Cut a sentence at its seams; too long a piece again at its commas."""
    at = start
    for seam in [*_SEAM.finditer(text, start, end), None]:
        stop = seam.start() if seam else end
        pieces = [range(at, stop)] if stop - at <= _LONGEST else list(_at_commas(text, at, stop))
        yield from (trimmed for piece in pieces if (trimmed := _trim(text, piece)))
        at = seam.end() if seam else end


def _at_commas(text: str, start: int, end: int) -> Iterator[range]:
    at = start
    for comma in re.finditer(r",\s", text[start:end]):
        yield range(at, start + comma.start())
        at = start + comma.end()
    yield range(at, end)


def _trim(text: str, piece: range) -> range | None:
    """Leave out punctuation and list marks at both ends."""
    body = text[piece.start : piece.stop]
    head = re.match(rf"(?:[^\w<>≤≥~]+|(?:[A-Z]|\d{{1,2}})[.)]\s+|{_TITLES}\s*[:.])*", body)
    start = piece.start + (head.end() if head else 0)
    body = re.sub(r"[^\w%)\]]+$", "", body)
    stop = piece.start + len(body) - (body.endswith(")") and "(" not in body)
    if body.count("(") > body.count(")") and text[stop : stop + 1] == ")":
        stop += 1
    return range(start, stop) if stop - start >= 2 else None


def _belongs(category: Category, evidence: str, found: dict[Category, re.Match[str]]) -> bool:
    """False where a stronger word of the chunk says that the finding is another one."""
    if category == "grade" and evidence.isalpha():
        return False  # "DIFFERENTIATED", cut off from how well
    if category == "grade" and _NOT_A_GRADE.search(evidence) and "histological_type" not in found:
        return False
    if category in _HAS_STATUS and not _HAS_STATUS[category].search(evidence):
        return False
    if category == "invasion" and re.search(r"extra-?(?:nodal|capsular)", evidence, re.IGNORECASE):
        return False
    if category == "invasion":
        return not (_NOT_INVASION | {"inflammation", "margin"}) & found.keys()
    if category == "histological_type":
        return not _ELSEWHERE & found.keys()
    if category == "other_morphology":
        return len(found) == 1
    if category == "growth_pattern":
        return "precursor" not in found
    if category == "stroma":
        return "inflammation" not in found or "stroma" in evidence.lower()
    return True


def _polarity(reading: Reading, inside: list[int], named: list[int]) -> Polarity | None:
    """What the sentence says of the words ``named`` of the chunk ``inside``; None if it says both or is not clear."""
    named = [index for index in named if reading.words[index].stems]
    if not named:
        return None
    if reading.uncertain(inside[0], inside[-1] + 1):
        return "uncertain"
    if not any(reading.denied[index] for index in named):
        return "present"
    if any(reading.words[index].kind == "code" and reading.words[index].scan[-1:] != "0" for index in named):
        return None  # a negation strayed to "pN1", which none belongs to
    if all(reading.surely_denied[index] for index in named):
        return "absent"
    affirmed = any(reading.words[index].plain in AFFIRMATIONS and not reading.denied[index] for index in inside)
    if not affirmed and any(reading.surely_denied[index] for index in named):
        return "absent"  # "Lymph node, biopsy: a lymph node negative for carcinoma"
    return None


def _other(reading: Reading, sentence: Sentence) -> Iterator[Claim]:
    """Sentences that a slide can't show, whole; cut at commas when they are very long."""
    whole = range(sentence.start, sentence.end)
    pieces = [whole] if len(whole) <= _LONGEST else list(_at_commas(reading.text, sentence.start, sentence.end))
    for piece in pieces:
        trimmed = _trim(reading.text, piece)
        if trimmed is None or len(trimmed) > _LONGEST:
            continue
        evidence = reading.text[trimmed.start : trimmed.stop]
        words = [
            i for i in range(sentence.first, sentence.last) if trimmed.start <= reading.words[i].start < trimmed.stop
        ]
        stems = [index for index in words if reading.words[index].stems]
        if stems:
            polarity = _polarity(reading, words, stems)
            if polarity is None:
                polarity = "present" if any(not reading.denied[index] for index in stems) else "absent"
            yield Claim("non_morphology", polarity, _tidy(evidence), evidence)


def _tidy(evidence: str) -> str:
    """The evidence on one line, without the periods that a scanner put at the ends of lines."""
    return re.sub(r"\s+", " ", re.sub(r"\.\s+(?=[a-z])", " ", evidence)).strip()
