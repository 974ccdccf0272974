"""Cells of a clinical table: what is missing, what is a number or an event, and what can't be read."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from wsisurv.formats.tables import Row, listed
from wsisurv.settings.cohort import CohortSettings

MISSING = frozenset(
    (
        "|na|n/a|n.a.|nan|<na>|nat|none|null|nil|.|-|--|'--|—|–|?|#n/a|#na|unknown|not known|missing|not reported|"
        "not available|not applicable|not evaluated|not recorded|no data|not done|pending|unk|discrepancy|not stated|"
        "not given|not documented|not collected|not provided|not specified|not determined|not assessed|not tested|"
        "unspecified|undetermined|n.d.|nd|k.a.|k. a.|unbekannt|inconnu|desconocido|desconhecido|sconosciuto|onbekend|"
        "nieznany"
    ).split("|")
)
"""Words for nothing, in small letters; with brackets around them too, as in [Not Available]."""

T = TypeVar("T")
_FALSE, _TRUE = {"0", "0.0", "false"}, {"1", "1.0", "true"}
_HAPPENED = re.compile(
    r"\b(?:dead|death|deceased|died|event|yes|y|t|true|relapse\w*|recurr\w*|progress\w*|ja|tot|wahr|verstorben|oui"
    r"|d[eé]c[eé]d[eé]e?s?|s[ií]|muert[oa]|sim|overleden|zgon)\b",
    re.IGNORECASE,
)
_NOT_HAPPENED = re.compile(
    r"\b(?:0|alive|living|lives?|censor\w*|no|n|f|false|free|diseasefree|lost|not|never|without|nein|lebt|falsch|kein\w*"
    r"|ohne|non|vivante?|vivo|viva|no|nee|leeft|n[aã]o|nie|zyje|żyje)\b",
    re.IGNORECASE,
)
_CODES = frozenset({-99.0, -9.0, -1.0, 99.0, 999.0, 9999.0, 99999.0, 888.0, 8888.0, 777.0, 7777.0})
"""Numbers that registries write where they know none."""
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}(?:[T ].*)?")
_BROKEN = re.compile(r"#(?:ref|value|name|num|div/0|null|spill|calc)[!?]", re.IGNORECASE)
"""What a spreadsheet shows for a formula that it could not work out."""
_LIKE_NUMBER = re.compile(r"[+-]?[0-9][0-9.,'’\s]*")
_NUMBERS = {
    mark: re.compile(rf"[+-]?(?:[0-9]+(?:{re.escape(mark)}[0-9]*)?|{re.escape(mark)}[0-9]+)(?:e[+-]?[0-9]+)?|inf", re.I)
    for mark in ".,"
}


def is_missing(text: str) -> bool:
    """Whether a cell holds nothing, or a word for it."""
    word = text.strip().lower()
    return (word[1:-1] if word[:1] + word[-1:] in {"[]", "()"} else word).strip() in MISSING


def read_number(text: str, decimal: str) -> float | None:
    """The number in a cell with ``decimal`` before its fraction, nothing between thousands; None where it is none."""
    return float(text.replace(",", ".")) if _NUMBERS[decimal].fullmatch(text) else None


@dataclass(frozen=True)
class Column(Generic[T]):
    """What was read in a column."""

    values: dict[int, T]  # by row number; rows whose cell is missing or can't be read are not there
    missing: tuple[int, ...]  # rows without a value
    problem: str  # in words, which cells are filled and can't be read, all values seen, and the way out; else empty


def read_times(rows: Sequence[Row], settings: CohortSettings, column: str) -> Column[float]:
    """Times in a column, at least zero."""

    def read(text: str) -> float:
        time = read_number(text, settings.decimal)
        if time is None:
            raise ValueError("not a number")
        if not 0 <= time < math.inf:
            raise ValueError("not a positive number, nor 0")
        return time

    def way_out(odd: Sequence[str]) -> str:
        if any(_DATE.fullmatch(text) for text in odd):
            return "These are dates: a length of time is needed, such as days from diagnosis"
        if any(_LIKE_NUMBER.fullmatch(text) and read_number(text, settings.decimal) is None for text in odd):
            return _other_decimal(settings)
        return "Mend the cells; an empty one is left out with --drop-incomplete"

    return _read(rows, settings, column, read, way_out)


def read_events(rows: Sequence[Row], settings: CohortSettings, column: str) -> Column[int]:
    """What happened: 0 nothing, 1 the event of this column, 2 a competing one, which ``--event-values`` may name."""
    words = settings.event_values

    def read(text: str) -> int:
        if words and text in words:
            return words.index(text)
        if (not words or column == settings.competing) and text.lower() in _FALSE | _TRUE:
            return int(text.lower() in _TRUE)
        raise ValueError(f"not {' or '.join(map(repr, words))}" if words else "not 0/1/true/false")

    def way_out(odd: Sequence[str]) -> str:
        seen = sorted({row[column] for row in rows if not is_missing(row[column])} | set(odd))
        if seen == ["0", "1", "2"]:
            return "If 2 is a competing event, such as death of another cause: --event-values 0,1,2"
        if column == settings.competing:
            return "Code it as 1 where the competing event happened and 0 where not, or in the words of --event-values"
        if len(seen) != 2:
            return (
                "Name the two words for (did not happen, happened) with --event-values, and a third for a competing "
                "event, such as death of another cause, where there is one; mend the other cells"
            )
        told = [happened(word, seen) for word in seen]
        if sorted(map(str, told)) != ["False", "True"] or any("," in word for word in seen):
            return (
                "Say which word means that it did not happen, and which that it did: --event-values NO,YES, in this "
                "order" + (", without a comma in either" if any("," in word for word in seen) else "")
            )
        no, yes = sorted(seen, key=lambda word: bool(happened(word, seen)))
        words_in_turn = f"'{no},{yes}'" if " " in no + yes else f"{no},{yes}"
        return f"If {no!r} says that it did not happen and {yes!r} that it did: --event-values {words_in_turn}"

    return _read(rows, settings, column, read, way_out)


def happened(word: str, seen: Sequence[str]) -> bool | None:
    """Whether a word says that the event happened; None where it can't be told. Of 0, 1 and 2 the larger does."""
    if set(seen) <= {"0", "1", "2"}:
        return word == max(seen)
    if led := re.match(r"([01])\b[.:]?", word):
        return led[1] == "1"
    if _NOT_HAPPENED.search(word):
        return False
    return True if _HAPPENED.search(word) else None


def codes_for_nothing(numbers: Sequence[float]) -> list[float]:
    """Numbers such as 999 and -9 that lie far from all others, and may be a registry's word for nothing."""
    others = [number for number in numbers if number not in _CODES]
    if not others:
        return []
    low, high = min(others), max(others)
    return sorted({number for number in numbers if number in _CODES and (number > 2 * high > 0 or number < 0 <= low)})


def _read(
    rows: Sequence[Row],
    settings: CohortSettings,
    column: str,
    read: Callable[[str], T],
    way_out: Callable[[Sequence[str]], str],
) -> Column[T]:
    values: dict[int, T] = {}
    missing, wrong, odd = [], [], []
    for row in rows:
        text = row[column]
        try:
            values[row.number] = read(text)
        except ValueError as error:
            if is_missing(text):
                missing.append(row.number)
            else:
                wrong.append(f"{named(row, settings)}: {column} is {text!r}, {error}")
                odd.append(text)
    problem = f"{listed(wrong)}{_seen([row[column] for row in rows])}. {way_out(odd)}." if wrong else ""
    return Column(values, tuple(missing), problem)


def read_covariate(rows: Sequence[Row], settings: CohortSettings, column: str) -> Column[str]:
    """Cells of a covariate as text, a number always with a point; of those that look like a number all must be one."""
    values: dict[int, str] = {}
    missing, wrong = [], []
    for row in rows:
        text = row[column]
        if is_missing(text):
            missing.append(row.number)
        elif _LIKE_NUMBER.fullmatch(text) and read_number(text, settings.decimal) is None and not _DATE.fullmatch(text):
            wrong.append(f"{named(row, settings)}: {column} is {text!r}, not a number")
        else:
            number = settings.decimal != "." and read_number(text, settings.decimal) is not None
            values[row.number] = text.replace(settings.decimal, ".") if number else text
    seen = _seen([row[column] for row in rows])
    return Column(values, tuple(missing), f"{listed(wrong)}{seen}. {_other_decimal(settings)}." if wrong else "")


def broken_cells(rows: Sequence[Row], settings: CohortSettings, column: str) -> str:
    """Say which cells hold a spreadsheet's word for a formula that failed, as a site or a grade would; else empty."""
    broken = [f"{named(row, settings)}: {column} is {row[column]!r}" for row in rows if _BROKEN.fullmatch(row[column])]
    return f"{listed(broken)}: a formula that the spreadsheet could not work out. Mend the cells." if broken else ""


def thousands(rows: Sequence[Row], settings: CohortSettings, column: str) -> str:
    """Ask whether 1.234 is 1234 where other times of the column have no fraction; empty where none looks so."""
    cells = [row[column] for row in rows if row[column].isascii()]
    whole = [cell for cell in cells if cell.isdigit()]
    cut = [cell for cell in cells if settings.decimal in cell and read_number(cell, settings.decimal) is not None]
    if not cut or not whole or not all(re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", cell) for cell in cut):
        return ""
    return (
        f"{column}: {len(cut)} cells such as {cut[0]!r} have three digits behind the {settings.decimal!r}, "
        f"{len(whole)} have no fraction: if it stands between thousands, take it out"
    )


def named(row: Row, settings: CohortSettings) -> str:
    """A row for a message."""
    return f"row {row.number} ({row.get(settings.case, '')})"


def _other_decimal(settings: CohortSettings) -> str:
    if settings.decimal == ",":
        return "With --decimal , a number has no point: mend those cells, or leave the option out"
    return "Where the comma is a decimal one, --decimal , reads it; take out what stands between thousands"


def _seen(texts: Sequence[str]) -> str:
    """All values of a column, the most frequent first, where that tells something."""
    counts = Counter(text for text in texts if not is_missing(text))
    return f" (seen: {listed([f'{text!r} {count}×' for text, count in counts.most_common()])})" if counts else ""
