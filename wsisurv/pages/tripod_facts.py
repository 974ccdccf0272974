"""What TRIPOD+AI asks of the study itself, as far as the cohort tells: participants, outcome, size, missing data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wsisurv.errors import MetricError
from wsisurv.pages.crossval_figures import CrossvalFigures
from wsisurv.pages.fairness import Contrast
from wsisurv.pages.flow_figure import FlowStep
from wsisurv.pages.gathering import Gathered
from wsisurv.pages.numbers import joined
from wsisurv.pages.predicted import horizon_name
from wsisurv.pages.subgroups import Subgroup
from wsisurv.survival.covariates import CovariateColumn, make_columns
from wsisurv.survival.planning import StudyPlan

SHOWN = 12
"""Values of a covariate, or lines of one kind, that are listed."""
_LEVELS = 5
"""Different numbers up to which a covariate is one of levels, such as stages."""


@dataclass(frozen=True)
class TripodFacts:
    """What the page of the cohort has already computed."""

    seen: Gathered
    flow: Sequence[FlowStep]
    plan: StudyPlan | None
    subgroups: Sequence[Subgroup]
    contrasts: Sequence[Contrast]
    proportional: Sequence[str]  # sentences

    @property
    def figures(self) -> CrossvalFigures | None:
        """Figures of crossval; where slides had none, of reports and covariates alone."""
        return self.seen.metrics or self.seen.reports


def of_study(facts: TripodFacts) -> dict[str, Sequence[str]]:
    """Title, objectives, data, participants, outcome, sample size, missing data."""
    seen, audit = facts.seen, facts.seen.audit
    settings, cases = seen.cohort.settings, seen.cohort.cases
    purpose = [
        "Development of a prediction model, from slides." if seen.card is not None else "",
        "Internal validation by cross-validation." if facts.figures is not None else "",
        *(
            f"Evaluation on the cohort {one.cohort} of a model that was trained on {one.trained_on}."
            for one in seen.external
        ),
    ]
    sites = [f"{len(audit.sites)} sites by the column {settings.site!r}: {_some(audit.sites)}."] if audit.sites else []
    dropped = Counter(drop.reason for drop in audit.dropped)
    left_out = [f"Left out: {count} rows, {reason}." for reason, count in dropped.most_common(SHOWN)]
    without = len(audit.cases_without_slide if audit.slides else audit.cases_without_report)
    needed = "slide with features" if audit.slides else "report"
    unknown = {name: sum(not case.covariates.get(name) for case in cases) for name in settings.covariates}
    no_site = sum(not case.site for case in cases) if settings.site else 0
    event_words = f", {settings.event_values[1]!r} counted as the event" if settings.event_values else ""
    return {
        "1": purpose,
        "4": purpose,
        "5a": [f"A clinical table of {audit.clinical_rows} rows.", *sites],
        "6a": sites,
        "6b": [
            f"Of {audit.clinical_rows} rows {audit.clinical_cases} have a usable time and event.",
            f"A {needed} was needed: "
            + (f"{without} cases without one are not in the cohort of {audit.cases}." if without else "all have one."),
        ],
        "8a": [
            f"Time from the column {settings.time!r}, in {settings.time_unit}; event from "
            f"{settings.event!r}{event_words}."
            + (f" Followed from {settings.entry!r} on (late entry)." if settings.entry else ""),
            f"Horizons: {', '.join(_horizons(seen))}." if _horizons(seen) else "",
        ],
        "10": [f"{sentence(facts.plan.words)}"] if facts.plan is not None else [],
        "11": [
            *left_out,
            *(
                f"{name}: unknown in {count} of {len(cases)} cases; the clinical model takes the mean of the training "
                "cases, or an indicator of its own where five or more of those are unknown."
                for name, count in unknown.items()
                if count
            ),
            f"No value is missing of {joined([name for name, count in unknown.items() if not count])}."
            if not all(unknown.values())
            else "",
            f"{no_site} cases of unknown site." if no_site else "",
            f"{audit.cases - audit.cases_with_report} of {audit.cases} cases have no report; slides alone "
            f"train the student there."
            if audit.slides
            else "",
        ],
        "20a": [
            *(line for step in facts.flow for line in (*step.there, *(f"Left out: {one}" for one in step.left_out))),
            f"{audit.events} with the event, {audit.cases - audit.events} without.",
            f"Median observed time {audit.median_time:g} {audit.time_unit}, of events and censored cases alike."
            if audit.median_time is not None
            else "",
        ],
        "20b": [*_characteristics(seen), *sites],
    }


def _characteristics(seen: Gathered) -> list[str]:
    """A line a covariate: median and quartiles of numbers, counts of words, and how many are unknown."""
    cases = seen.cohort.cases
    lines = [f"{len(cases)} cases, {sum(case.event for case in cases)} with the event."]
    for one in covariate_columns(seen):
        words = [case.covariates.get(one.name, "") for case in cases]
        unknown = sum(not word for word in words)
        values = one.encode(cases)[:, 0] if one.kind == "number" else np.empty(0)
        known = values[np.isfinite(values)]
        if len(np.unique(known)) > _LEVELS:
            low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
            told, unknown = f"median {middle:g} (quartiles {low:g} and {high:g})", len(values) - len(known)
        else:
            told = _some(dict(sorted(Counter(word for word in words if word).items())))
        lines.append(f"{one.name}: {told}{f', unknown {unknown}' if unknown else ''}.")
    return lines


def covariate_columns(seen: Gathered) -> tuple[CovariateColumn, ...]:
    """How each covariate becomes numbers; none where there is no covariate."""
    try:
        return make_columns(seen.cohort.cases, seen.cohort.settings.covariates)
    except MetricError:
        return ()


def _horizons(seen: Gathered) -> list[str]:
    if seen.predicted is None:
        return []
    return [horizon_name(one, seen.cohort.settings.time_unit) for one in seen.predicted.horizons.tolist()]


def _some(counts: Mapping[str, int]) -> str:
    listed = [f"{name} {count}" for name, count in list(counts.items())[:SHOWN]]
    return ", ".join(listed) + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")


def sentence(words: str) -> str:
    """Words of ours as a sentence."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."
