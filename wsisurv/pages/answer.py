"""What the cohort page says first: one sentence, and four cards with the figures behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsisurv.cohort import entry_of
from wsisurv.experiments.likelihood_ratio import Added
from wsisurv.experiments.model_names import COMBINED, COVARIATES, SELECTED, TEXT, TEXT_COMBINED, WORDS, WORDS_COMBINED
from wsisurv.experiments.side_by_side import Difference, ModelFigures
from wsisurv.experiments.verdict import FEW_EVENTS, SIGNIFICANT, Judgement, judge, p_equals
from wsisurv.pages.crossval_figures import CrossvalFigures
from wsisurv.pages.gathering import ExternalValidation, Gathered
from wsisurv.pages.numbers import interval, joined, number
from wsisurv.pages.subgroups import Subgroup
from wsisurv.survival.kaplan_meier import censoring_curve
from wsisurv.survival.planning import StudyPlan

_CHANCE = 0.5
_UNKNOWN = ("not known yet: `wsisurv crossval`",)


@dataclass(frozen=True)
class AnswerCard:
    """A figure that is looked for first."""

    title: str  # what it is
    value: str  # in large letters
    lines: tuple[str, ...]  # below it
    section: str  # of the page, where there is more


@dataclass(frozen=True)
class CohortAnswer:
    """The top of the page."""

    sentence: str
    cards: tuple[AnswerCard, ...]


@dataclass(frozen=True)
class _Best:
    """The best there is to judge a cohort by: a cross-validation, else a validation, else its predictions alone."""

    section: str  # of the page, where it is
    who: str = "slides"  # or ``reports``
    alone: ModelFigures | None = None
    gain: Difference | None = None  # beside the covariates
    added: Added | None = None  # to them
    metrics: CrossvalFigures | None = None
    here: ExternalValidation | None = None
    whole: Subgroup | None = None

    @property
    def order(self) -> tuple[float, float, float] | None:
        """Concordance and both ends of its interval."""
        if self.here is not None:
            found = self.here.record.external.concordance
            return found.value, found.low, found.high
        row = self.alone or self.whole
        if row is None or row.concordance is None or row.low is None or row.high is None:
            return None
        return row.concordance, row.low, row.high


def make_answer(
    seen: Gathered, plan: StudyPlan | None, subgroups: Sequence[Subgroup], d_calibration: float | None
) -> CohortAnswer:
    """Say what a cohort shows, and what it does not.

    Args:
        seen: all that is known of it.
        plan: what so many events can tell.
        subgroups: figures by part; those of the whole cohort stand in where nothing was cross-validated.
        d_calibration: p of the predictions on the page; None where not known.
    """
    whole = subgroups[0] if subgroups else None  # the first is of all cases
    best = _best(seen, whole)
    covariates = seen.cohort.settings.covariates if best.metrics is None else best.metrics.covariates
    if best.here is not None and best.here.record.clinic is not None:
        covariates = best.here.record.clinic.covariates
    clinic = joined(covariates)
    cards = (
        _cases(seen, plan),
        _concordance(best),
        _beside(best, clinic),
        _calibration(best, whole, d_calibration),
    )
    return CohortAnswer(_sentence(best, clinic), cards)


def _best(seen: Gathered, whole: Subgroup | None) -> _Best:
    for metrics, section, who, pairs in (
        (seen.metrics, "concordance", "slides", ((SELECTED, COMBINED),)),
        (seen.reports, "reports", "reports", ((WORDS, WORDS_COMBINED), (TEXT, TEXT_COMBINED))),
    ):
        for model, combined in pairs:
            alone = metrics.row(model) if metrics else None
            if metrics is not None and alone is not None:
                gain = next(
                    (one for one in metrics.differences if (one.model, one.minus) == (combined, COVARIATES)), None
                )
                added = metrics.added if who == "slides" else metrics.added_by_report
                return _Best(section, who, alone, gain, added, metrics)
    here = next((one for one in seen.external if one.cohort == seen.cohort.name), None)
    return _Best("external", here=here) if here is not None else _Best("subgroups", whole=whole)


def _cases(seen: Gathered, plan: StudyPlan | None) -> AnswerCard:
    audit, unit = seen.audit, seen.cohort.settings.time_unit
    lines = [f"median follow-up {median} {unit} (reverse Kaplan–Meier)"] if (median := _median_follow_up(seen)) else []
    if audit.competing is not None:
        lines.append(f"{audit.competing} competing events")
    if plan is not None and plan.too_small:
        lines.append(f"too few: Riley's criteria ask for {plan.required.cases} cases")
    return AnswerCard("Cases and events", f"{audit.cases} cases, {audit.events} events", tuple(lines), "audit")


def _median_follow_up(seen: Gathered) -> str:
    """By the reverse Kaplan-Meier estimate; empty where half of the cases had the event before they were lost."""
    cases = seen.cohort.cases
    if not cases:
        return ""
    time, event = np.array([case.time for case in cases]), np.array([case.event for case in cases], dtype=bool)
    median = censoring_curve(time=time, event=event, entry=entry_of(cases)).median
    return "" if median is None else number(median, ".4g")


def _concordance(best: _Best) -> AnswerCard:
    title = "Concordance of the selected student" if best.who == "slides" else "Concordance of the reports"
    if best.here is not None:
        title = f"Concordance of the student of {best.here.trained_on}"
    if best.order is None:
        return AnswerCard(title, "–", ("not judged yet: `wsisurv crossval`",), best.section)
    value, low, high = best.order
    line = "not shown to be better than chance, 0.5" if low <= _CHANCE else "0.5 is chance"
    how: tuple[str, ...] = ("on cases it was not trained on",)
    if best.metrics is not None:
        n_folds, n_repeats = len(best.metrics.folds), best.metrics.repeats
        how = (f"cross-validated, {n_folds} folds" + (f" in {n_repeats} repeats" if n_repeats > 1 else ""),)
        clinic = best.metrics.row(COVARIATES)
        if clinic is not None and clinic.concordance is not None and best.metrics.covariates:
            how = (f"{joined(best.metrics.covariates)} alone {number(clinic.concordance)}", *how)
    if best.whole is not None:
        how = ("not cross-validated; a little too high where the student was selected by it",)
    return AnswerCard(title, number(value), (f"95 % interval {interval(low, high)}", line, *how), best.section)


def _beside(best: _Best, clinic: str) -> AnswerCard:
    title = f"What {'they add' if best.who == 'reports' else 'it adds'} to {clinic or 'the clinic'}"
    if best.here is not None:
        found = best.here.record.clinic
        if found is None or found.difference is None:
            return AnswerCard(title, "–", ("not compared with clinical covariates here",), best.section)
        less = found.difference
        lines = [f"in concordance, alone against them; 95 % interval {interval(less.low, less.high, '+.3f')}"]
        lines += [f"beside them: likelihood-ratio test, {p_equals(found.added.p)}"] if found.added else []
        return AnswerCard(title, number(less.value, "+.3f"), tuple(lines), best.section)
    if best.gain is None:
        why = "not cross-validated: `wsisurv crossval`" if best.metrics is None else "no covariates were named"
        return AnswerCard(title, "–", (why,), best.section)
    lines = [f"in concordance; 95 % interval {interval(best.gain.low, best.gain.high, '+.3f')}"]
    lines += [f"likelihood-ratio test, {p_equals(best.added.p)}"] if best.added is not None else []
    return AnswerCard(title, number(best.gain.value, "+.3f"), tuple(lines), best.section)


def _calibration(best: _Best, whole: Subgroup | None, d_calibration: float | None) -> AnswerCard:
    ratio = whole.ratio if whole is not None else None
    slope = brier = reference = None
    ends: tuple[float | None, float | None] = (None, None)
    if best.here is not None:
        found = best.here.record.external
        slope = found.calibrated_slope.value if found.calibrated_slope is not None else None
        if found.calibrated_slope is not None:
            ends = found.calibrated_slope.interval
        brier, reference, d_calibration = found.brier, found.brier_reference, found.d_calibration_p
        total = found.observed_expected
        ratio = (total.ratio, total.low, total.high) if total is not None else None
    elif best.alone is not None:
        slope, brier, reference = best.alone.calibration_slope, best.alone.brier, best.alone.brier_reference
        d_calibration, ends = best.alone.d_calibration_p, best.alone.slope_interval
    lines = [f"95 % interval {interval(*ends, '.2f')}"] if ends[0] is not None else []
    if slope is not None:
        lines.append("of the log hazard: 1 is right, below 1 too extreme, above 1 too timid")
    if brier is not None and reference is not None and brier > reference:
        lines.append("predicted probabilities are worse than those of no model")
    again = "after recalibration on the other folds, " if best.alone is not None else ""
    if ratio is not None:
        lines.append(
            f"{again}observed / expected events {number(ratio[0], '.2f')} ({interval(ratio[1], ratio[2], '.2f')})"
        )
    if brier is not None and reference is not None:
        lines.append(f"Brier score over time {number(brier)}, without a model {number(reference)}")
    if d_calibration is not None:
        lines.append(f"D-calibration, {p_equals(d_calibration)}")
    section = "external" if best.here is not None else "calibration"
    return AnswerCard(
        "Calibration", f"slope {number(slope, '.2f')}" if slope is not None else "–", tuple(lines) or _UNKNOWN, section
    )


def _sentence(best: _Best, clinic: str) -> str:
    """The verdict in one sentence, which says so where nothing is shown."""
    if best.here is not None:
        return best.here.record.verdict[0] if best.here.record.verdict else ""
    if best.order is None:
        return "Nothing is shown yet: no model was judged on cases that it had not seen."
    value, low, high = best.order
    figures = f"concordance {number(value)}, 95 % interval {interval(low, high)}"
    if best.whole is not None:
        return (
            f"Not cross-validated yet: on cases that its members had not seen the student has a {figures}, a little "
            "too high where it was selected by that; nothing is said of what it adds to the clinic."
        )
    good = low > _CHANCE
    first = f"{best.who} predict the outcome better than chance ({figures})"
    if not good:
        first = f"it is not shown that {best.who} predict the outcome better than chance ({figures})"
    events = best.metrics.cohort.get("tested_events") if best.metrics is not None else None
    if isinstance(events, int) and events < FEW_EVENTS:
        first = f"a first impression from {events} events: {first}"
    return f"{first[0].upper()}{first[1:]}{_and_the_clinic(best, clinic, good)}."


def _and_the_clinic(best: _Best, clinic: str, good: bool) -> str:
    if best.gain is None:
        return ""
    significant = best.added is not None and best.added.p < SIGNIFICANT
    found, adds = judge(best.gain), True
    if found is Judgement.BETTER and (significant or best.added is None):
        words = f"they add to {clinic}"
    elif found is Judgement.WORSE:
        words, adds = f"they make {clinic} worse", False
    elif significant:
        words = (
            f"they carry information beyond {clinic} by the likelihood-ratio test, while a gain in concordance is not "
            "shown"
        )
    elif found is Judgement.BETTER:
        words = f"they may add to {clinic}, by concordance though not by the likelihood-ratio test"
    elif found is Judgement.NOTHING:
        words, adds = f"they add nothing to {clinic}", False
    else:
        words, adds = f"it is not shown that they add to {clinic}", False
    test = f"; likelihood-ratio test, {p_equals(best.added.p)}" if best.added is not None else ""
    figures = f"{number(best.gain.value, '+.3f')}, 95 % interval {interval(best.gain.low, best.gain.high, '+.3f')}"
    return f", {'and' if adds == good else 'but'} {words} ({figures}{test})"
