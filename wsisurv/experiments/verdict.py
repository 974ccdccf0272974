"""The verdict in plain words, written from the figures by fixed rules."""

from collections.abc import Sequence
from enum import Enum

from wsisurv.experiments.model_names import (
    COMBINED,
    COVARIATES,
    DISTILLED,
    FULL_TEXT,
    MEAN_POOL,
    PLAIN,
    TEACHER,
    TEXT,
    TEXT_COMBINED,
)
from wsisurv.experiments.results import Account, Added, Difference

FEW_EVENTS = 50
"""Below this an interval of concordance is some ±.08 wide, whatever the models are."""
NEGLIGIBLE = 0.02
"""Gains of concordance below this are of no use to anyone."""
SIGNIFICANT = 0.05
_CHANCE = 0.5


class Finding(Enum):
    """What a paired difference shows."""

    BETTER = "better"
    """value − 2 se > 0."""
    WORSE = "worse"
    """value + 2 se < 0."""
    NOTHING = "nothing"
    """Neither, and a gain of ``NEGLIGIBLE`` or more can be ruled out: value + 2 se < NEGLIGIBLE."""
    UNDECIDED = "undecided"
    """Neither, and a useful gain can't be ruled out."""


def finding(difference: Difference) -> Finding:
    """Judge a difference by two standard errors."""
    if difference.value - 2 * difference.se > 0:
        return Finding.BETTER
    if difference.value + 2 * difference.se < 0:
        return Finding.WORSE
    return Finding.NOTHING if difference.value + 2 * difference.se < NEGLIGIBLE else Finding.UNDECIDED


def verdict(account: Account, covariates: Sequence[str]) -> tuple[str, ...]:
    """Say what the figures show, a line a question, the most important first.

    Args:
        account: the figures.
        covariates: names of the clinical columns.
    """
    clinic = " and ".join(covariates) if len(covariates) < 3 else ", ".join(covariates)
    judged = {row.model for row in account.models} | {row.model for row in account.differences}
    if TEXT in judged and not judged & {PLAIN, DISTILLED, TEACHER, COMBINED, MEAN_POOL}:
        lines = [
            _reports_and_clinic(account, clinic),
            _reports_alone(account, clinic, beside=False),
            _full_text(account),
            "No slide was read: these figures are of reports and clinical variables.",
        ]
    else:
        lines = [
            _slides_and_clinic(account, clinic),
            _slides_alone(account),
            _reports_in_training(account),
            _reports_alone(account, clinic),
            _attention(account),
        ]
    if account.events < FEW_EVENTS:
        lines.append(f"Only {account.events} events were tested: treat every line here as a first impression.")
    return tuple(line for line in lines if line)


def _slides_and_clinic(account: Account, clinic: str) -> str:
    gain = account.difference(COMBINED, COVARIATES)
    if gain is None:
        return "No covariates were named, so nothing is said of what slides add to age and stage: name --covariates."
    return _beside("Slides", account, gain, account.added, clinic)


def _reports_and_clinic(account: Account, clinic: str) -> str:
    gain = account.difference(TEXT_COMBINED, COVARIATES)
    if gain is None:
        return "No covariates were named, so nothing is said of what reports add to age and stage: name --covariates."
    return _beside("Reports", account, gain, account.added_by_report, clinic)


def _beside(who: str, account: Account, gain: Difference, test: Added | None, clinic: str) -> str:
    """What ``who`` add to the covariates, by the order of the cases and by the likelihood."""
    p = f", likelihood-ratio p {_p(test.p)}" if test else ""
    figures = f"{_figure(gain)}{p}"
    significant = test is not None and test.p < SIGNIFICANT
    found = finding(gain)
    if found is Finding.BETTER and (significant or test is None):
        return f"{who} add to {clinic} here ({figures})."
    if found is Finding.WORSE:
        return f"{who} make {clinic} worse here ({figures})."
    if significant:
        return (
            f"{who} tell something beyond {clinic} here, but that the order of the cases gains by it is not shown "
            f"({figures})."
        )
    if found is Finding.BETTER:
        return f"{who} may add to {clinic} here: the order of the cases gains, the likelihood does not ({figures})."
    if found is Finding.NOTHING:
        return f"{who} add nothing to {clinic} here ({figures})."
    return f"{who} add nothing to {clinic} here that {account.events} events could show ({figures}); {_room(gain)}."


def _full_text(account: Account) -> str:
    gain = account.difference(FULL_TEXT, TEXT)
    if gain is None:
        return ""
    said = {
        Finding.BETTER: "The whole text of the reports tells more than their statements",
        Finding.WORSE: "The statements tell more than the whole text of the reports",
        Finding.NOTHING: "The whole text of the reports tells no more than their statements",
        Finding.UNDECIDED: "Whether the whole text of the reports tells more than their statements is not shown",
    }
    return f"{said[finding(gain)]} ({_figure(gain)})."


def _slides_alone(account: Account) -> str:
    name = DISTILLED if account.model(DISTILLED) else PLAIN
    student = account.model(name)
    if student is None:
        return ""
    figures = f"concordance {student.concordance:.3f}, 95 % interval {student.low:.3f} to {student.high:.3f}"
    if student.low <= _CHANCE:
        return f"Slides alone do not tell who does worse better than chance would ({figures})."
    told = f"Slides alone tell who does worse ({figures})"
    against = account.difference(name, COVARIATES)
    if against is None:
        return told + "."
    words = {
        Finding.BETTER: "better than the covariates do",
        Finding.WORSE: "less well than the covariates do",
        Finding.NOTHING: "no better than the covariates do",
        Finding.UNDECIDED: "neither clearly better nor clearly worse than the covariates do",
    }
    return f"{told}, {words[finding(against)]} ({_figure(against)})."


def _reports_in_training(account: Account) -> str:
    gain = account.difference(DISTILLED, PLAIN)
    if gain is None:
        return "No case has statements of a report, so nothing is said of what reports add."
    if gain.value == 0 and gain.se == 0:
        return "Reports were not listened to in any fold (gate 0), so the student is the plain one."
    said = {
        Finding.BETTER: "Reports in training make a better student here",
        Finding.WORSE: "Reports in training make a worse student here; use the plain one",
        Finding.NOTHING: "Reports in training add nothing to the student here",
    }
    found = finding(gain)
    if found in said:
        return f"{said[found]} ({_figure(gain)})."
    return (
        f"Reports in training add nothing to the student that {account.events} events could show ({_figure(gain)}); "
        f"{_room(gain)}."
    )


def _reports_alone(account: Account, clinic: str, *, beside: bool = True) -> str:
    text = account.model(TEXT)
    if text is None:
        return ""
    figures = f"concordance {text.concordance:.3f}, 95 % interval {text.low:.3f} to {text.high:.3f}"
    if text.low <= _CHANCE:
        return f"The reports by themselves do not tell who does worse better than chance would ({figures})."
    line = f"The reports by themselves tell who does worse ({figures})"
    against = account.difference(TEXT, COVARIATES)
    if against is not None and finding(against) is Finding.BETTER:
        line += f", better than {clinic} ({_figure(against)})"
    gain = account.difference(TEXT_COMBINED, COVARIATES)
    if beside and gain is not None:
        says = "they add something" if finding(gain) is Finding.BETTER else "they are not shown to add anything"
        line += f"; beside {clinic} {says} ({_figure(gain)})"
    teacher = account.difference(TEACHER, DISTILLED)
    if teacher is not None and finding(teacher) is Finding.BETTER:
        line += f"; where the report is at hand, read it: the teacher is ahead of the student ({_figure(teacher)})"
    return line + "."


def _attention(account: Account) -> str:
    gain = account.difference(DISTILLED, MEAN_POOL)
    if gain is None or finding(gain) is Finding.BETTER:
        return ""
    if finding(gain) is Finding.WORSE:
        return f"A Cox model on the mean tile does better than the student ({_figure(gain)}): use that."
    return f"The student is not shown to do better than a Cox model on the mean tile ({_figure(gain)})."


def _figure(difference: Difference) -> str:
    return f"{difference.value:+.3f} ± {difference.se:.3f} in concordance"


def _room(difference: Difference) -> str:
    return f"a gain up to {difference.value + 2 * difference.se:+.3f} can't be ruled out"


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"{p:.3f}"
