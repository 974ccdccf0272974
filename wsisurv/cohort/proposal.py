"""Which columns of a clinical table may be meant, told from their names and cells; what is open is left open."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from wsisurv.cohort.clinical import plausible_units, unusable_id
from wsisurv.cohort.matching import match_case
from wsisurv.cohort.values import happened, is_missing, read_number
from wsisurv.formats.tables import Table

_NAMES = {
    "case": re.compile(r"case|patient|subject|barcode|submitter|(^|_)id$|pseudonym", re.I),
    "time": re.compile(r"time|days|weeks|months|years|follow|survival|(^|_)(os|pfs|pfi|dfs|dss|dfi|rfs)(_|$)", re.I),
    "event": re.compile(r"event|status|death|dead|died|deceased|vital|censor|relapse|recur|progress", re.I),
    "site": re.compile(r"hospital|(^|_)site$|cent(er|re)|institution|clinic$|(^|_)tss$", re.I),
    "covariates": re.compile(r"^(age|sex|gender|stage|grade|ajcc|t|n|m|pt|pn|pm)($|_)|(^|_)(stage|grade|age)$", re.I),
}
_UNITS = {"days": "day", "weeks": "week", "months": "month", "years": "year"}
_MOSTLY, _FEW_WORDS = 0.8, 3


@dataclass(frozen=True)
class Open:
    """What the table does not say, and somebody must."""

    setting: str  # by its name in ``CohortSettings``
    question: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Proposal:
    """What the columns of a table may mean.

    Attributes:
        settings: value by setting, where one alone is likely.
        why: why, in words, by setting.
        open: what is not clear, to be asked.
    """

    settings: dict[str, str | list[str]]
    why: dict[str, str]
    open: tuple[Open, ...]


def propose(table: Table, slide_ids: Collection[str] = (), given: dict[str, str | list[str]] | None = None) -> Proposal:
    """Say which columns are likely to be meant.

    Args:
        table: the clinical table.
        slide_ids: slides that are there; the column of the case is the one whose ids begin their names.
        given: settings that were said, which are not asked again.
    """
    known: dict[str, str | list[str]] = dict(given or {})
    why = dict.fromkeys(known, "as was said")
    questions: list[Open] = []

    def settle(setting: str, found: Sequence[str | list[str]], reason: str, question: str = "") -> None:
        """Take the only candidate; ask where there are several, or none of what is needed."""
        if setting not in known and len(found) == 1:
            known[setting], why[setting] = found[0], reason
        elif setting not in known and question:
            questions.append(Open(setting, question, tuple(one for one in found if isinstance(one, str))))

    cells = {name: [row[name] for row in table.rows if not is_missing(row[name])] for name in table.columns}
    ids, reason = _case_columns(cells, len(table.rows), slide_ids)
    settle("case", ids, reason, "Which column is the case's id?")
    times = [name for name, texts in cells.items() if _NAMES["time"].search(name) and _is_length(texts)]
    settle("time", times, "the only column of lengths of time", "Which column is the follow-up time?")
    events = [
        name
        for name, texts in cells.items()
        if _NAMES["event"].search(name) and 2 <= len(set(texts)) <= _FEW_WORDS and name not in times
    ]
    settle("event", events, "the only column that says what happened", "Which column says whether the event happened?")
    if isinstance(event := known.get("event"), str) and event in cells:
        _coding(event, sorted(set(cells[event])), settle)
    if isinstance(time := known.get("time"), str) and time in cells:
        named = [unit for unit, word in _UNITS.items() if word in time.lower()]
        numbers = [number for text in cells[time] if (number := _number(text)) is not None]
        likely = named or plausible_units(numbers)
        reason = "in the column's name" if named else "the only unit in which such follow-up is likely"
        settle("time_unit", likely, reason, f"In which unit is {time!r}?")
    if isinstance(time, str) and _has_comma(cells.get(time, [])):
        settle("decimal", [","], "numbers have a decimal comma")
    sites = [name for name in cells if _NAMES["site"].search(name)]
    settle("site", sites, "named like a hospital", "Which column is the hospital?" if sites else "")
    taken = {value for value in known.values() if isinstance(value, str)}
    if "covariates" not in known and (
        covariates := [
            name for name in cells if _NAMES["covariates"].search(name) and name not in taken and cells[name]
        ]
    ):
        known["covariates"], why["covariates"] = covariates, "named like clinical covariates"
    return Proposal(known, why, tuple(questions))


def _case_columns(cells: dict[str, list[str]], n_rows: int, slide_ids: Collection[str]) -> tuple[list[str], str]:
    """Columns that can be ids: by the slides whose names they begin, else by their own name."""
    able = [
        name
        for name, texts in cells.items()
        if len(texts) == n_rows == len(set(texts)) and not any(unusable_id(text) for text in texts)
    ]
    matched = {name: sum(match_case(one, set(cells[name])) is not None for one in slide_ids) for name in able}
    best = max(matched.values(), default=0)
    if best:
        return [name for name in able if matched[name] == best], f"its ids begin the names of {best} slides"
    return [name for name in able if _NAMES["case"].search(name)], "the only column of ids, each once"


def _number(text: str) -> float | None:
    return read_number(text, ",") if "," in text else read_number(text, ".")


def _has_comma(texts: Sequence[str]) -> bool:
    return any("," in text for text in texts) and all(read_number(text, ",") is not None for text in texts)


def _is_length(texts: Sequence[str]) -> bool:
    numbers = [number for text in texts if (number := _number(text)) is not None and number >= 0]
    return len(numbers) >= max(1.0, _MOSTLY * len(texts)) and len(set(numbers)) > _FEW_WORDS


def _coding(event: str, words: list[str], settle: Callable[..., None]) -> None:
    """How an event is coded, where it is not 0 and 1; one word alone must say that it happened."""
    if "censor" in event.lower():
        settle("event_values", [], "", f"Which of {', '.join(words)} in {event!r} says that the event happened?")
    elif not {word.lower() for word in words} <= {"0", "1", "0.0", "1.0", "true", "false"}:
        told = {word: happened(word, words) for word in words}
        clear = sorted(map(str, told.values())) == ["False", "True"] and not any(word.isdigit() for word in words)
        order = sorted(words, key=lambda word: bool(told[word]))
        question = f"{event!r} holds {', '.join(words)}: which says that it did not happen, and which that it did?"
        settle("event_values", [order] if clear else [], "by what the words say", question)
