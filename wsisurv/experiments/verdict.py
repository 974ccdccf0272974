"""The verdict in plain words, written from the figures by fixed rules."""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from wsisurv.experiments.model_names import (
    COMBINED,
    COVARIATES,
    DISTILLED,
    FULL_TEXT,
    MEAN_POOL,
    PLAIN,
    SELECTED,
    TEACHER,
    TEXT,
    TEXT_COMBINED,
    WORDS,
    WORDS_COMBINED,
)

if TYPE_CHECKING:  # pages and commands that only write a p take nothing of survival along
    from wsisurv.experiments.likelihood_ratio import Added
    from wsisurv.experiments.results import ResultsTable
    from wsisurv.experiments.side_by_side import Difference

FEW_EVENTS = 50
"""Below this an interval of concordance is some ±.08 wide, whatever the models are."""
NEGLIGIBLE = 0.02
"""Gains of concordance below this are of no use to anyone."""
SIGNIFICANT = 0.05
_CHANCE = 0.5


class Judgement(Enum):
    """What a paired difference shows."""

    BETTER = "better"
    """value − 2 se > 0."""
    WORSE = "worse"
    """value + 2 se < 0."""
    NOTHING = "nothing"
    """Neither, and a gain of ``NEGLIGIBLE`` or more can be ruled out: value + 2 se < NEGLIGIBLE."""
    UNDECIDED = "undecided"
    """Neither, and a useful gain can't be ruled out."""


def judge(difference: "Difference") -> Judgement:
    """Judge a difference by two standard errors."""
    if difference.value - 2 * difference.se > 0:
        return Judgement.BETTER
    if difference.value + 2 * difference.se < 0:
        return Judgement.WORSE
    return Judgement.NOTHING if difference.value + 2 * difference.se < NEGLIGIBLE else Judgement.UNDECIDED


def verdict(table: "ResultsTable", covariates: Sequence[str]) -> tuple[str, ...]:
    """Say what the figures show, a line a question, the most important first.

    Args:
        table: the figures.
        covariates: names of the clinical columns.
    """
    clinic = " and ".join(covariates) if len(covariates) < 3 else ", ".join(covariates)
    judged = {row.model for row in table.models} | {row.model for row in table.differences}
    if judged & {TEXT, WORDS} and not judged & {PLAIN, DISTILLED, SELECTED, TEACHER, COMBINED, MEAN_POOL}:
        lines = [
            _beside("Reports", table, (WORDS_COMBINED, TEXT_COMBINED), table.added_by_report, clinic),
            _reports_alone(table, clinic, beside=False),
            _full_text(table),
            "No slide was read: these figures are of reports and clinical variables.",
        ]
    else:
        lines = [
            _beside("Slides", table, (COMBINED,), table.added, clinic),
            _slides_alone(table),
            _reports_in_training(table),
            _selection(table),
            _reports_alone(table, clinic),
            _attention(table),
        ]
    if table.events < FEW_EVENTS:
        lines.append(f"Only {table.events} events were tested: treat every line here as a first impression.")
    return tuple(line for line in lines if line)


def _beside(who: str, table: "ResultsTable", models: Sequence[str], test: "Added | None", clinic: str) -> str:
    """What ``who`` add to the covariates, by concordance and by the likelihood, by the first model that is there."""
    gain = next((one for name in models if (one := table.difference(name, COVARIATES)) is not None), None)
    if gain is None:
        return (
            f"No covariates were named, so nothing is said of what {who.lower()} add to age and stage: name "
            "--covariates."
        )
    figures = f"{_figure(gain)}{f'; likelihood-ratio test, {p_equals(test.p)}' if test else ''}"
    significant = test is not None and test.p < SIGNIFICANT
    found = judge(gain)
    if found is Judgement.BETTER and (significant or test is None):
        return f"{who} add to {clinic} here ({figures})."
    if found is Judgement.WORSE:
        return f"{who} make {clinic} worse here ({figures})."
    if significant:
        return (
            f"{who} carry prognostic information beyond {clinic} here by the likelihood-ratio test, but no gain in "
            f"concordance is shown ({figures})."
        )
    if found is Judgement.BETTER:
        return (
            f"{who} may add to {clinic} here: concordance gains, the likelihood-ratio test shows nothing ({figures})."
        )
    if found is Judgement.NOTHING:
        return f"{who} add nothing to {clinic} here ({figures})."
    return (
        f"It is not shown that {who.lower()} add to {clinic} here: {table.events} events leave it open ({figures}); "
        f"{_room(gain)}."
    )


def _full_text(table: "ResultsTable") -> str:
    gain = table.difference(FULL_TEXT, WORDS) or table.difference(FULL_TEXT, TEXT)
    if gain is None:
        return ""
    said = {
        Judgement.BETTER: "The whole text of the reports predicts better than their statements",
        Judgement.WORSE: "The statements predict better than the whole text of the reports",
        Judgement.NOTHING: "The whole text of the reports predicts no better than their statements",
        Judgement.UNDECIDED: "That the whole text of the reports predicts better than their statements is not shown",
    }
    return f"{said[judge(gain)]} ({_figure(gain)})."


def _slides_alone(table: "ResultsTable") -> str:
    student = table.model(SELECTED)
    if student is None:
        return ""
    figures = f"concordance {student.concordance:.3f}, 95 % interval {student.low:.3f} to {student.high:.3f}"
    if student.low <= _CHANCE:
        return f"Slides alone are not shown to predict the outcome better than chance ({figures})."
    line = f"Slides alone predict the outcome better than chance ({figures})"
    against = table.difference(SELECTED, COVARIATES)
    if against is None:
        return line + "."
    words = {
        Judgement.BETTER: "better than the covariates do",
        Judgement.WORSE: "less well than the covariates do",
        Judgement.NOTHING: "no better than the covariates do",
        Judgement.UNDECIDED: "neither clearly better nor clearly worse than the covariates do",
    }
    return f"{line}, {words[judge(against)]} ({_figure(against)})."


def _reports_in_training(table: "ResultsTable") -> str:
    gain = table.difference(DISTILLED, PLAIN)
    if gain is None:
        return "No case has statements of a report, so nothing is said of what reports add."
    if gain.value == 0 and gain.se == 0:
        return "Reports guided no student in any fold (gate 0): the distilled student is the baseline student."
    said = {
        Judgement.BETTER: "Reports in training make a better student here",
        Judgement.WORSE: "Reports in training make a worse student here; use the baseline student (student_plain.h5)",
        Judgement.NOTHING: "Reports in training add nothing to the student here",
    }
    found = judge(gain)
    if found in said:
        return f"{said[found]} ({_figure(gain)})."
    return (
        f"It is not shown that reports in training add to the student: {table.events} events leave it open "
        f"({_figure(gain)}); {_room(gain)}."
    )


def _selection(table: "ResultsTable") -> str:
    """Which student was selected, where there was a choice."""
    if table.difference(DISTILLED, PLAIN) is None or not table.selected:
        return ""
    chosen = sum(one == DISTILLED for one in table.selected)
    gain = table.difference(SELECTED, PLAIN)
    beside = "" if gain is None else f" (against the baseline student: {_figure(gain)})"
    return (
        f"The selected student, which distill writes as student.h5, is the distilled one in {chosen} of "
        f"{len(table.selected)} folds{beside}."
    )


def _reports_alone(table: "ResultsTable", clinic: str, *, beside: bool = True) -> str:
    name, combined = (WORDS, WORDS_COMBINED) if table.model(WORDS) else (TEXT, TEXT_COMBINED)
    text = table.model(name)
    if text is None:
        return ""
    figures = f"concordance {text.concordance:.3f}, 95 % interval {text.low:.3f} to {text.high:.3f}"
    if text.low <= _CHANCE:
        return f"The reports by themselves are not shown to predict the outcome better than chance ({figures})."
    line = f"The reports by themselves predict the outcome better than chance ({figures})"
    against = table.difference(name, COVARIATES)
    if against is not None and judge(against) is Judgement.BETTER:
        line += f", better than {clinic} ({_figure(against)})"
    gain = table.difference(combined, COVARIATES)
    if beside and gain is not None:
        says = "they add something" if judge(gain) is Judgement.BETTER else "they are not shown to add anything"
        line += f"; beside {clinic} {says} ({_figure(gain)})"
    teacher = table.difference(TEACHER, SELECTED)
    if teacher is not None and judge(teacher) is Judgement.BETTER:
        line += (
            f"; where there is a report, use it: slides and report together do better than the selected student "
            f"({_figure(teacher)})"
        )
    return line + "."


def _attention(table: "ResultsTable") -> str:
    gain = table.difference(SELECTED, MEAN_POOL)
    if gain is None or judge(gain) is Judgement.BETTER:
        return ""
    if judge(gain) is Judgement.WORSE:
        return f"A Cox model on the mean tile does better than the selected student ({_figure(gain)}): use that."
    return f"The selected student is not shown to do better than a Cox model on the mean tile ({_figure(gain)})."


def _figure(difference: "Difference") -> str:
    return f"difference in concordance {difference.value:+.3f}, standard error {difference.se:.3f}"


def _room(difference: "Difference") -> str:
    return f"a gain up to {difference.value + 2 * difference.se:+.3f} can't be ruled out"


def p_equals(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``: the one way in which a p-value is written in words."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
