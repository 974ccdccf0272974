"""Clinical table → cases: everything that stands in the way in one list, and warnings of what can hardly be meant."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from wsisurv.cohort.cases import Case, Clinical, Dropped
from wsisurv.cohort.values import (
    Column,
    broken_cells,
    codes_for_nothing,
    is_missing,
    named,
    read_covariate,
    read_events,
    read_number,
    read_times,
    thousands,
)
from wsisurv.formats.id_cells import formula_note
from wsisurv.formats.slide_names import composed, looks
from wsisurv.formats.tables import Row, listed, refuse, scan_table
from wsisurv.settings.cohort import CohortSettings
from wsisurv.units import CaseId

_PER_YEAR = {"days": 365.25, "weeks": 52.18, "months": 12.0, "years": 1.0}
_SHORT_YEARS, _SHORT_MEDIAN_YEARS = 1.0, 0.6  # longest and median follow-up below which months may be read as weeks
_LONG_YEARS, _LONG_MEDIAN_YEARS = 40.0, 15.0
_FIRST_YEAR, _LAST_YEAR = 1950, 2100
_FEW_AT_RISK = 10
_MADE_BY_SPREADSHEET = re.compile(r"\d(?:[.,]\d+)?E\+\d{2,}|\d{15}0{3,}|\d{4}-\d\d-\d\dT00:00:00")
_NEARLY_NUMBER = re.compile(
    r"[<>≤≥~\u2212]?\s*\d+(?:[.,]\d+)?\s*(?:%|y|yrs?|years?|mm|cm|ng/ml|mo)?|\d{1,4}([-./])\d{1,2}\1\d{1,4}(?:T.*)?",
    re.IGNORECASE,
)
"""Covariates that are most likely numbers, or dates, of which each value would be a group of its own."""
_THE_RIGHT_ONES = "Name the right ones with --case, --time, --event, --competing, --entry, --site, --covariates."
_MOSTLY = 0.8  # of the known cells, as ``survival.covariates`` decides what is a number


def read_clinical(path: Path, settings: CohortSettings, *, drop_incomplete: bool = False) -> Clinical:
    """Read the clinical table.

    Args:
        path: a table with a header, as ``formats.tables`` reads it.
        settings: which columns mean what.
        drop_incomplete: leave out (and list) rows whose time, event or case is missing, instead of stopping. A cell
            that is filled and can't be read is an error in any case. A follow-up of 0 is neither: see ``_above_zero``.

    Raises:
        CohortError: a missing column; a case twice; a time or event that is missing, or is filled and can't be read; no
            case, no event or no follow-up above 0 at all. All of them are in one message, rows and values are named.
    """
    table = scan_table(path)
    outcome = list(filter(None, [settings.time, settings.event, settings.competing, settings.entry]))
    wanted = [settings.case, *outcome, *settings.covariates, *filter(None, [settings.site])]
    problems = [
        *table.problems,
        *table.lacking(wanted, _THE_RIGHT_ONES),
        *_named_twice([settings.case, *outcome, *settings.covariates]),
        *_site_of_outcome(settings.site, outcome),
        *_competing_twice(settings),
    ]
    rows = table.rows
    if settings.case in table.columns:
        problems += _id_problems(rows, settings)
    words = [column for column in (settings.site, *settings.covariates) if column in table.columns]
    problems += filter(None, (broken_cells(rows, settings, str(column)) for column in words))
    reasons: dict[int, list[str]] = {}
    if settings.case in table.columns:
        reasons = {
            row.number: [f"{settings.case} is " + (f"{row[settings.case]!r}" if row[settings.case] else "empty")]
            for row in rows
            if is_missing(row[settings.case])
        }
    times = read_times(rows, settings, settings.time) if settings.time in table.columns else None
    entries = read_times(rows, settings, settings.entry) if settings.entry in table.columns else None
    events = read_events(rows, settings, settings.event) if settings.event in table.columns else None
    others = read_events(rows, settings, settings.competing) if settings.competing in table.columns else None
    covariates = {name: read_covariate(rows, settings, name) for name in settings.covariates if name in table.columns}
    unsure = [number for number in others.missing if not events or events.values.get(number) != 1] if others else ()
    for column, missing in (
        (settings.time, times.missing if times else ()),
        (settings.event, events.missing if events else ()),
        (settings.entry, entries.missing if entries else ()),
        (settings.competing, unsure),
    ):
        for number in missing:
            reasons.setdefault(number, []).append(f"{column} is missing")
    if reasons and not drop_incomplete:
        told = [f"{named(row, settings)}: {' and '.join(reasons[row.number])}" for row in rows if row.number in reasons]
        problems.append(f"{listed(told)}. Mend the rows, or leave them out with --drop-incomplete.")
    columns = (times, events, others, entries, *covariates.values())
    problems += [read.problem for read in columns if read and read.problem]
    if not problems and times and events:
        left = [row.number for row in rows if row.number not in reasons]
        if not left:
            problems.append("no case left")
        elif not any(events.values[number] == 1 for number in left):
            problems.append(f"no event in {len(left)} cases: survival can't be learned from follow-up alone")
        elif not any(times.values[number] for number in left):
            problems.append(f"{settings.time} is 0 in all {len(left)} cases: is it the follow-up time?")
        elif entries:
            problems += _entry_problems([row for row in rows if row.number not in reasons], times, entries, settings)
    refuse(path, problems)
    assert times is not None and events is not None  # noqa: PT018 - else a column is missing, which is a problem
    used = [row.number for row in rows if row.number not in reasons]
    cause, of_causes = _causes(used, events, others, settings)
    follow_up, of_zero = _above_zero({number: times.values[number] for number in used}, cause, settings)
    cases = [
        Case(
            case_id=CaseId(_case_id(row, settings)),
            time=follow_up[row.number],
            event=cause[row.number] == 1,
            competing=cause[row.number] == 2,
            site=_site(row, settings.site),
            covariates={name: read.values.get(row.number, "") for name, read in covariates.items()},
            entry=entries.values[row.number] if entries else 0.0,
        )
        for row in rows
        if row.number not in reasons
    ]
    dropped = [
        Dropped(row.number, _case_id(row, settings), " and ".join(reasons[row.number]))
        for row in rows
        if row.number in reasons
    ]
    cut = filter(None, [thousands(rows, settings, settings.time)])
    warnings = (*of_causes, *of_zero, *cut, *_warnings(cases, settings))
    return Clinical(tuple(sorted(cases, key=lambda case: case.case_id)), tuple(dropped), warnings)


def _causes(
    used: Sequence[int], events: Column[int], others: Column[int] | None, settings: CohortSettings
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Cause of each row, 0, 1 or 2, and what should be known of the competing events."""
    cause = {number: events.values[number] for number in used}
    if not settings.knows_competing:
        return cause, ()
    told = []
    if others is not None:
        both = sum(cause[number] == 1 and others.values.get(number, 0) == 1 for number in used)
        cause = {number: one or 2 * others.values[number] for number, one in cause.items()}
        if both:
            told.append(f"{both} cases have {settings.event!r} and {settings.competing!r}: {settings.event!r} counts")
    if 2 not in cause.values():
        told.append(f"no competing event in {len(used)} cases: all is as without --competing")
    return cause, tuple(told)


def _named_twice(columns: Sequence[str]) -> list[str]:
    """A column that is named for two things: an outcome among the covariates would predict itself."""
    twice = [column for column, count in Counter(columns).items() if count > 1]
    if not twice:
        return []
    return [
        f"the same column twice: {listed(list(map(repr, twice)))}. --case, --time, --event, --competing, --entry and "
        "each of --covariates need a column of their own."
    ]


def _site_of_outcome(site: str | None, outcome: Sequence[str]) -> list[str]:
    """A hospital may be a covariate, and no outcome: folds would go by it."""
    return [f"the same column twice: {site!r}. --site is the hospital, and no outcome."] if site in outcome else []


def _competing_twice(settings: CohortSettings) -> list[str]:
    if settings.competing is None or len(settings.event_values or ()) < 3:
        return []
    return [
        f"the competing event is named twice: the column {settings.competing!r} and the third word of --event-values, "
        f"{(settings.event_values or ())[2]!r}. Leave one out."
    ]


def _entry_problems(
    rows: Sequence[Row], times: Column[float], entries: Column[float], settings: CohortSettings
) -> list[str]:
    """Rows that enter when their follow-up has ended."""
    wrong = [
        f"{named(row, settings)}: {settings.entry} is {entries.values[row.number]:g}, {settings.time} "
        f"{times.values[row.number]:g}"
        for row in rows
        if 0 < entries.values[row.number] >= times.values[row.number]
    ]
    if not wrong:
        return []
    return [
        f"{settings.entry} is not before {settings.time}: {listed(wrong)}. Both count from one origin, such as "
        f"diagnosis, and {settings.time} is when follow-up ended, not how long it was; a case that left "
        "before it entered was not followed: take the row out."
    ]


def _above_zero(
    times: Mapping[int, float], events: Mapping[int, int], settings: CohortSettings
) -> tuple[dict[int, float], tuple[str, ...]]:
    """Give a follow-up of 0 a time that survival models can take, and say so.

    An event at 0 (at the operation, or in an unlucky rounding) counts at the smallest positive time of the table. A
    case without one was lost at once: half of that time puts it in no risk set, and keeps its slides and report.
    """
    at_zero = [number for number, time in times.items() if not time]
    if not at_zero:
        return dict(times), ()
    first = min(time for time in times.values() if time)
    moved = {number: first if events[number] else first / 2 for number in at_zero}
    n_events = sum(events[number] > 0 for number in at_zero)
    unit = settings.time_unit
    told = (
        f"{len(at_zero)} cases have a follow-up of 0 and are kept: {n_events} with an event count at {first:g} {unit}, "
        f"the smallest time above 0; {len(at_zero) - n_events} without one count at {first / 2:g}, before any event"
    )
    return {**times, **moved}, (told,)


def read_case_ids(path: Path, column: str) -> set[str]:
    """All case ids of a clinical table, whatever else its rows hold.

    Raises:
        CohortError: as ``read_clinical``, of the column of the case alone.
    """
    table, settings = scan_table(path), CohortSettings(case=column)
    problems = [*table.problems, *table.lacking([column], "Name the right one with --case.")]
    if column in table.columns:
        problems += _id_problems(table.rows, settings)
    refuse(path, problems)
    return {_case_id(row, settings) for row in table.rows} - {""}


def unusable_id(case_id: str) -> str:
    """Why a text can't be the id of a case, in words; empty where it can."""
    if "/" in case_id or "\\" in case_id or case_id.startswith("."):
        return "can't be a file name"
    if any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for letter in case_id):
        return "holds a control character"
    return ""


def _case_id(row: Row, settings: CohortSettings) -> str:
    return composed(row[settings.case])


def _id_problems(rows: Sequence[Row], settings: CohortSettings) -> list[str]:
    first: dict[str, int] = {}
    odd, twice = [], []
    for row in rows:
        case_id = _case_id(row, settings)
        reason = unusable_id(case_id)
        if _MADE_BY_SPREADSHEET.fullmatch(case_id):
            reason = "is what a spreadsheet made of an id (a date, or a number cut short): store ids there as text"
        if reason:
            odd.append(f"row {row.number}: {settings.case} {case_id!r} {reason}")
        elif not is_missing(case_id) and first.setdefault(case_id, row.number) != row.number:
            twice.append(f"{case_id!r} in rows {first[case_id]} and {row.number}")
    problems = [f"{listed(odd)}."] if odd else []
    return [*problems, f"a case twice: {listed(twice)}. Keep one row a case."] if twice else problems


def _site(row: Row, column: str | None) -> str | None:
    if column is None:
        return None
    return "" if is_missing(row[column]) else row[column]


def _warnings(cases: Sequence[Case], settings: CohortSettings) -> Iterable[str]:
    """What can be read and can hardly be meant."""
    if all(case.event for case in cases):
        yield (
            f"all {len(cases)} cases have an event, none is censored: is {settings.event!r} the right column, and does "
            "it say whether the event happened?"
        )
    yield from _unit_warnings([case.time for case in cases], settings)
    yield from _code_warnings(settings.time, [case.time for case in cases])
    yield from _spelling_warnings(settings.case, [case.case_id for case in cases])
    if settings.entry is not None:
        yield _late_entry(cases, settings)
    if settings.site is not None:
        if unknown := sum(not case.site for case in cases):
            yield f"{unknown} cases of unknown hospital: folds may part them from others of theirs"
        yield from _spelling_warnings(settings.site, [case.site or "" for case in cases])
    for name in settings.covariates:
        values = [case.covariates[name] for case in cases if case.covariates[name]]
        words = [value for value in values if read_number(value, ".") is None]
        numbers = [number for number in (read_number(value, ".") for value in values) if number is not None]
        if words and len(words) <= (1 - _MOSTLY) * len(values):
            yield f"{name}: {len(words)} cells are filled and no number, and count as unknown: {listed(sorted(words))}"
        elif words and (numbers or sum(bool(_NEARLY_NUMBER.fullmatch(word)) for word in words) == len(words)):
            yield (
                f"{name}: {len(words)} of {len(values)} cells are no number ({listed(sorted(set(words)))}), so each "
                "value counts as a group of its own; if it is a number, write digits alone"
            )
        yield from _code_warnings(name, numbers)
        yield from _spelling_warnings(name, values)
    written = {word for case in cases for word in (case.case_id, case.site or "", *case.covariates.values())}
    yield from formula_note(written, "cohort.csv and risk.csv")


def _code_warnings(column: str, numbers: Sequence[float]) -> Iterable[str]:
    if codes := codes_for_nothing(numbers):
        yield (
            f"{column}: {' and '.join(f'{code:g}' for code in codes)} lies far from all other values and counts as a "
            "number: if it says that nothing is known, leave the cell empty"
        )


def plausible_units(times: Sequence[float]) -> list[str]:
    """Units in which follow-up is neither too short nor too long to be meant; none where there is no time.

    Args:
        times: as the table has them.
    """
    if not times:
        return []
    middle, longest = sorted(times)[len(times) // 2], max(times)
    return [
        unit
        for unit, years in _PER_YEAR.items()
        if _SHORT_YEARS <= longest / years <= _LONG_YEARS
        and _SHORT_MEDIAN_YEARS <= middle / years <= _LONG_MEDIAN_YEARS
    ]


def _unit_warnings(times: Sequence[float], settings: CohortSettings) -> Iterable[str]:
    middle, longest = sorted(times)[len(times) // 2], max(times)
    likely = plausible_units(times)
    unit, years = settings.time_unit, _PER_YEAR[settings.time_unit]
    if len(set(times)) == 1 and len(times) > 1:
        yield f"{settings.time!r} is {times[0]:g} in all {len(times)} cases: is it the follow-up time?"
    elif len(times) > 1 and all(time.is_integer() and _FIRST_YEAR <= time <= _LAST_YEAR for time in times):
        yield f"{settings.time!r} is from {min(times):g} to {longest:g} in all cases: are these calendar years?"
    elif unit not in likely:
        hint = f" If it is in {' or '.join(likely)}, say --time-unit {'|'.join(likely)}." if likely else ""
        yield (
            f"follow-up in {unit} has a median of {middle:g} ({middle / years:.1f} years) and ends at {longest:g} "
            f"({longest / years:.1f} years): is {unit} the unit of {settings.time!r}?{hint}"
        )


def _late_entry(cases: Sequence[Case], settings: CohortSettings) -> str:
    """How late cases enter, and how few are at risk early on, where curves rest on them alone."""
    late = sorted(case.entry for case in cases if case.entry)
    if not late:
        return f"{settings.entry!r} is 0 in all {len(cases)} cases: none enters late"
    first = min((case.time for case in cases if case.event), default=max(case.time for case in cases))
    at_risk = sum(case.entry < first <= case.time for case in cases)
    told = (
        f"{len(late)} of {len(cases)} cases enter late, at {late[len(late) // 2]:g} {settings.time_unit} (median) "
        f"after the origin; {at_risk} are at risk at the first event"
    )
    if at_risk < _FEW_AT_RISK:
        return told + ": survival from the origin rests on these few, and may be far off"
    return told


def _spelling_warnings(column: str, values: Sequence[str]) -> Iterable[str]:
    spelt: dict[str, Counter[str]] = {}
    for value in filter(None, values):
        spelt.setdefault(looks(value), Counter())[value] += 1
    for words in spelt.values():
        if len(words) > 1:
            yield f"{column}: {' and '.join(map(repr, sorted(words)))} count as different; are they the same?"
