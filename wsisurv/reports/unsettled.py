"""What leaves open whether a finding is there: questions, conditions, boxes to tick, values still to come.

A denial says that a finding is absent (``tokens``), a doubt that it is uncertain. Here is what says neither, in all
languages that the proof reads: "if present", "LVI?", "[ ] present [x] absent", "pending", "not without", "no doubt".
What stands beside one of them is proved neither present nor absent.
"""

import re

from wsisurv.formats.statements import Polarity
from wsisurv.reports.languages import bare
from wsisurv.reports.tokens import Reading

_NEAR = 12
"""Words of the same sentence, before and after a finding, in which its condition or question stands."""
_TWICE = r"without|absen(?:t|ce)|lack\w*|ohne|fehl\w*|zonder|afwezig\w*|sans|absente?s?|ausen\w*|assen\w*|senza|brak\w*"
_TWICE += r"|nieobecn\w*"
_ONCE = r"not?|n't|cannot|nicht|kein\w*|niet|geen|pas|non|sin|sem|senza|nao|nie|bez"

_PARTED = "|".join(
    f"{word[:at]} {word[at:]}"
    for word in ("not", "none", "absent", "negative", "without", "uninvolved")
    for at in range(1, len(word))
)
"""Denials in which a scanner saw a space: "abs ent"."""

_OPEN = re.compile(
    r"\b(?:"
    # conditions
    r"if|whether|unless|falls|sofern|ob|s'il|indien|jesli|jezeli|si (?:hay|hubiera|existe|presente|on|une?|l[ae'])"
    r"|se (?:presente|houver|existir|vi e|e|c'e|invasione|invasao)|caso (?:haja|exista|presente)"
    # asked, looked for, and not answered
    r"|rule out|r/o|query|worrisome|(?:concern|suspicio[nu]s?) for|unable|insufficient|unclear|unknown|pending"
    r"|awaited|outstanding|to follow|see (?:comment|note|below)|not (?:applicable|reported|stated|known|given)"
    r"|in question|could|might|would|history of|frage nach|[zv]\. ?a|steht aus|ausstehend|folgt|entfallt|k\. ?a"
    r"|unwahrscheinlich|unklar|a preciser|en attente|discuter|a descartar|pendiente|pendente|da (?:valutare|escludere)"
    r"|in attesa|a esclarecer|aguarda\w*|w kierunku|do ustalenia|de vraag|volgt|onbekend|uitsluiting"
    # nothing, never, taken back
    r"|nothing|nowhere|never|no longer|un(?:identified|detected|seen|proven|proved)|few would|so-called|mimic\w*"
    r"|simulat(?:es|ing)|(?:is|retraction|shrinkage|fixation) arte?fact|(?:rather|other) than|instead of|resolved"
    r"|nichts|nirgends|mangels|vermisst|widerlegt|statt|zu keine[mr]|au(?:ss|ß)er|bis auf|rien|nulle part|faute de"
    r"|faute d'|hormis|vaine?|fait defaut|ecartee?s?|eliminee?s?|nada|falta|niente|nulla|alcun[ao]?|mancat[ao]"
    r"|niets|nergens|geenszins|gemist|afastad[ao]|nic|nigdzie"
    # what takes a denial or a doubt back
    r"|(?:un)?doubt\w*|no question|no (?:fewer|less|change)|not limited|deny|against"
    r"|zweifel\w*|keine frage|doute\w*|duda|dubbio|twijfel\w*|duvida|wapt?pieni\w*|watpieni\w*"
    rf"|(?:{_ONCE}) (?:an? |the )?(?:{_TWICE})|(?:{_TWICE}) (?:{_ONCE})"
    r"|(?:absence|lack) of [^,;:]{1,60}\b(?:not|cannot)|not (?:all|every)"
    # other diagnoses, values of several, corrections, what is said of others or of another tumour
    r"|versus|vs|differential|not confirmed|(?:prior|previous) report"
    r"|(?:absent|present|negative|positive|free|involved) and \w+,? respectively"
    r"|(?:previously|originally|initially|formerly) (?:\w+ )?(?:reported|stated|classified|graded?)"
    r"|in error|erroneous(?:ly)?|should (?:read|have read)"
    r"|risk factors?|prognos(?:is|es|tic)|mother|father|sister|brother|family"
    r"|(?:previous|prior|known|past|status post|s/p) (?:\w+ ){0,3}\w*(?:carcinoma|melanoma|lymphoma|sarcoma|cancer)s?"
    # a denial that a scanner parted, a row of values below a row of labels
    rf"|{_PARTED}"
    r"|present,? absent|absent,? present|yes,? no|no,? yes|positive,? negative|negative,? positive"
    r"|(?:free|uninvolved),? (?:and )?(?:involved|positive)|(?:involved|positive),? (?:and )?(?:free|uninvolved)"
    r")\b"
)
_EXCEPT = re.compile(r"\b(?:except(?:ing|ions?)?|(?:apart|aside) from|save for)\b")
"""What takes back a part of a denial."""
_YES, _NO = r"(?:yes|present|ja|oui|s[iíì]|sim|tak)", r"(?:no|absent|n\w{2,3})"
_MARK = r"(?:\s*(?:[/_]+|(?<![^\W_])[xo](?![^\W_])))+\s*"
_BOX = re.compile(
    r"[☐☑☒□■◻◼▢✓✔✗✘✕⬜⬛❑❏]|[\[(]\s*[xX]?\s*[\])]"
    r"|_+[xX]_+|_{2,}[^\n_]{1,30}_{2,}\s*\w"
    rf"|\b{_YES}{_MARK}{_NO}(?![^\W_])|\b{_NO}{_MARK}{_YES}(?![^\W_])",
    re.IGNORECASE,
)
_VALUE = (
    r"(?:[-–—]+|[✗✘✕ø∅]|false|falsch|faux|n\.? ?[/.] ?a\.?|0|none|nil|k\. ?a\.?|[lvrn]0|pn0|nee|neen|nein"
    r"|non?|n[ãa]o|nie|brak|negati\w+|ujemn\w+|absen\w+|ausen\w+|assen\w+|fehl\w+|afwezig\w*)\s*(?:[.;]?\s*\n|[.;]\s|[.;]?\s*$)"
)
"""What denies behind a label, in any language: "LVI: N/A", "Angio-invasie: nee"."""
_VALUE_BEHIND = re.compile(rf"\s*\W?\s*{_VALUE}", re.IGNORECASE)
_YES_BEHIND = re.compile(r"\s*[:=]\s*(?:yes|present|positive|identified|seen|involved)\b", re.IGNORECASE)
_VALUE_WITHIN = re.compile(rf"[:?=]\s*{_VALUE}", re.IGNORECASE)
_ASKED_BEFORE = re.compile(r"(?:[?¿]|\b[zv]\. ?[an]\.)\s*$", re.IGNORECASE)
_ASKED_BEHIND = re.compile(r"\s*:?\s*\(?\?")


def left_open(polarity: Polarity, source: Reading, first: int, last: int) -> str | None:
    """Say what leaves open whether words ``first`` to ``last`` of a report are there; None where nothing does.

    Args:
        polarity: of the claim, present or absent.
        source: the report.
        first: the evidence's first word.
        last: one past its last word.

    Returns:
        The reason for a refusal.
    """
    text, words, number = source.text, source.words, source.sentence_of
    start, stop = first, last
    while start and first - start < _NEAR and number[start - 1] == number[first]:
        start -= 1
    while stop < len(words) and stop - last < _NEAR and number[stop] == number[last - 1]:
        stop += 1
    at, end = words[first].start, words[last - 1].end
    after = text[end : end + 40]
    ends = words[stop].start if stop < len(words) else len(text)
    line = words[start].gap.rpartition("\n")[2] + text[words[start].start : words[stop - 1].end]
    if _BOX.search(line + text[words[stop - 1].end : ends].rstrip().partition("\n")[0]):
        return "it is of boxes to tick, which the proof does not read"
    asked = stop in {last, len(words)} or number[stop] != number[last - 1]
    asked = asked and text[words[stop - 1].end : ends].lstrip(" )").startswith("?")
    if asked or _ASKED_BEHIND.match(after) or _ASKED_BEFORE.search(text[max(0, at - 8) : at]):
        return "the report asks for it"
    behind = words[last - 1].kind == "word" and _VALUE_BEHIND.match(after)  # "L1 V0" is two values
    if polarity == "present" and (behind or _VALUE_WITHIN.search(text[at : end + 1])):
        return "the value behind it denies it, or is none"
    if polarity == "absent" and _YES_BEHIND.match(after):
        return "the value behind it affirms it"
    clause = bare(re.sub(r"\s+", " ", text[words[start].start : words[stop - 1].end].lower()).replace("’", "'"))
    found = _OPEN.search(clause) or (_EXCEPT.search(clause) if polarity == "absent" else None)
    return f"the report leaves it open ({found.group()!r})" if found else None
