"""Does the report affirm, deny or doubt what a claim says of it?"""

import re
from itertools import takewhile

from wsisurv.formats.statements import Category, Polarity
from wsisurv.reports.languages import TOPICS, bare
from wsisurv.reports.tokens import Reading
from wsisurv.reports.unsettled import left_open
from wsisurv.reports.words import AFFIRMATIONS, Word, joined

TOPIC_WORDS: dict[Category, str] = {
    "histological_type": r".*(?:omas?$|carcin|tumou?r|neoplas|malign|cancer)|ductal|lobular|.*type|gist",
    "grade": r".*differ|.*grad|g ?[1-4]|low|high|anaplas|well|moderat|poor|nuclea|gleason|nottingham",
    "invasion": r".*inva|infiltr|penetr|exten|perfor|perme|spread|depth|involv|confin|limit|beyond|through|into|reach"
    r"|adher|y?p ?t",
    "lymphovascular_invasion": r"lymph|angio|.*vasc|intravas|ven[aou]|vein|vessel|embol|[lv] ?[0-2x]",
    "perineural_invasion": r".*neur|nerv|pni\d",
    "necrosis": r".*necro|comedo",
    "mucin": r".*muc|colloid|signet",
    "mitoses": r".*mito",
    "stroma": r".*strom|desmo|.*fibr|.*scler|myx|hyalin|collag|connect",
    "inflammation": r".*lymph|.*inflam|.*cyt|plasma|eosin|neutro|granul|host|tils?$|crohn|.*itis|infiltr",
    "margin": r".*margin|edge|lines?$|ends?$|r ?[0-2x]",
    "node": r"lymph|.*nod[ea]|number|y?p ?n(?!i)|extracapsul",
    "precursor": r".*aden|.*dyspl|.*polyp|situ|.*neopl|precurs|.*serrat|intraepi|[dl]cis|lesion",
}
"""How a word begins that speaks of a category, for those of which a report can't speak otherwise."""
_OF_A_VESSEL = re.compile(r".*(?:vasc|neur)|angio|lymphatics?$|ven(?:ous|ae?)|veins?$|vessel|nerve|space")
"""Words before or behind "invasion" with which it is of vessels or nerves, and says nothing of the depth."""
_DISTANCE = re.compile(r"\d\s*[cm]m\b", re.IGNORECASE)
_AT_THE_MARGIN = re.compile(
    r"\b(?:positiv|involve|reach|touch|transect|r ?[12]\b|befallen|infiltr|envahi|interess"
    r"|afe[ct]t|aangetast|comprome|zaj[eę]t|(?<![\d.,])0(?:[.,]0+)?\s*[cm]m\b|(?:at|to) (?:the )?(?:\w+ ){0,3}margin)",
    re.IGNORECASE,
)
_NOT_ASSESSED = re.compile(r"(?:y?p[tnm]|[lvrg])x")
_AFFIRMING_STEMS: dict[Category, str] = {"node": "metas", "invasion": "invas"}


def wrong_polarity(polarity: Polarity, text: Reading, source: Reading, first: int, last: int) -> str | None:
    """Hold a claim's polarity and its restated text against what the report says around the evidence.

    Args:
        polarity: of the claim.
        text: the claim, restated.
        source: the report.
        first: the evidence's first word in the report.
        last: one past its last word.

    Returns:
        Why they disagree, or None.
    """
    if source.uncertain(first, last) != (polarity == "uncertain"):
        return "the report is not sure of it" if polarity != "uncertain" else "the report is not in doubt of it"
    if polarity == "uncertain":
        return None
    if reason := left_open(polarity, source, first, last):
        return reason
    said, seen = (
        _flags(reading, start, stop, reading.denied if polarity == "present" else reading.surely_denied)
        for reading, start, stop in ((text, 0, len(text.words)), (source, first, last))
    )
    shared = said.keys() & seen.keys()
    if not shared:
        return "the restated text has no word in common with the evidence"
    text_denies = any(True in flags for flags in said.values())
    if polarity == "absent" and not text_denies:
        said = {stem: {True} for stem in said}  # the polarity is the text's only negation
    if polarity == "present" and not any(False in said[stem] for stem in shared):
        return "polarity is present, but the text denies the finding"
    if polarity == "absent" and not any(True in said[stem] and True in seen[stem] for stem in shared):
        return "polarity is absent, but the report does not deny the finding"
    if polarity == "absent" and _affirms(source, first, last):
        return "the evidence affirms what the report around it denies"
    if any(not said[stem] & seen[stem] for stem in shared):
        return "the report negates otherwise than the restated text"
    if polarity == "present" and not text_denies and any(True in flags for flags in seen.values()):
        if said.keys() - seen.keys():
            return "part of the evidence is negated, and the restated text has words of its own"
    return None


def _affirms(source: Reading, first: int, last: int) -> bool:
    """True for "invasion is identified" cut from "no invasion is identified"."""
    words = source.words[first:last]
    cue = any(source.is_cue(index) for index in range(first, last))
    return not cue and any(word.plain in AFFIRMATIONS for word in words)


def off_topic(
    category: Category, polarity: Polarity, text: Reading, source: Reading, first: int, last: int
) -> str | None:
    """Hold the words that a category is about against the claim's polarity; arguments as ``wrong_polarity``.

    Returns:
        Why the evidence is of something else, or denies in one place what it affirms in another; None if it fits.
    """
    if category not in TOPIC_WORDS:
        return None
    topic = [index for index in range(first, last) if speaks_of(category, source, index)]
    if not topic:
        return f"the evidence does not speak of {category.replace('_', ' ')}"
    evidence = source.text[source.words[first].start : source.words[last - 1].end]
    if category == "margin" and polarity == "present" and only_a_distance(evidence):
        return "the evidence says how far off the margin is, and not that tumour is there"
    if all(_NOT_ASSESSED.fullmatch(source.words[index].scan) for index in topic):
        return "the evidence says that it could not be assessed"
    if polarity == "present" and any(source.denied[index] for index in topic):
        some = not all(source.denied[index] for index in topic) and _affirms_some(category, source, first, last)
        if not (some and any(text.denied)):
            return "polarity is present, but the report denies the finding"
    if polarity == "absent" and not any(source.surely_denied[index] for index in topic):
        return "polarity is absent, but the report does not deny the finding"
    return None


def _affirms_some(category: Category, source: Reading, first: int, last: int) -> bool:
    """True for "three nodes positive, nine negative": one part is affirmed beside the one denied."""
    words = [source.words[index] for index in range(first, last) if not source.denied[index]]
    return any(word.plain in AFFIRMATIONS or _AFFIRMING_STEMS.get(category) in word.stems for word in words)


def speaks_of(category: Category, source: Reading, index: int) -> bool:
    """Whether a word is about a category."""
    words, word = source.words, source.words[index]
    if category == "invasion" and _of_a_vessel(words, index):
        return False
    forms = {word.plain, word.scan}
    if index and word.broken:
        forms.add(words[index - 1].plain + word.plain)
    if any(re.match(TOPIC_WORDS[category], form) for form in forms):
        return True
    return source.language(index) != "en" and any(re.match(TOPICS[category], bare(form)) for form in forms)


def only_a_distance(evidence: str) -> bool:
    """True where a margin's evidence says how far off the tumour is, and not that it is there."""
    return _DISTANCE.search(evidence) is not None and _AT_THE_MARGIN.search(evidence) is None


def _of_a_vessel(words: list[Word], index: int) -> bool:
    """True for "invasion" in "perineural invasion" and "invasion of small vessels"."""
    if not re.match(r"inva|infiltr|involv|perme|spread|exten|sion", words[index].plain):
        return False
    before = index - 1 - words[index].broken
    near = [words[before].plain] if before >= 0 else []
    behind = words[index + 1 : index + 5]
    if behind and behind[0].plain == "of":
        near += [word.plain for word in takewhile(lambda word: not re.search("[.;:,]", word.gap), behind)]
    return any(_OF_A_VESSEL.match(word) for word in near)


def _flags(reading: Reading, first: int, last: int, denied: list[bool]) -> dict[str, set[bool]]:
    """For each stem between two words: denied, not denied, or both in different places."""
    found: dict[str, set[bool]] = {}
    for index in range(first, last):
        word = reading.words[index]
        whole = joined(reading.words[index - 1], word).stems if index > first and word.broken else ()
        for stem in (*word.stems, *whole):
            found.setdefault(stem, set()).add(denied[index])
    return found
