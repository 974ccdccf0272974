"""TRIPOD+AI filled in from what a workspace knows: never more; the rest is a question for the author."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsisurv.experiments.model_names import SELECTED
from wsisurv.pages.cohort_figures import labels
from wsisurv.pages.gathering import ExternalValidation, Gathered
from wsisurv.pages.numbers import interval, minus, number, p_equals
from wsisurv.pages.predicted import CasePredictions
from wsisurv.pages.tripod_facts import SHOWN, TripodFacts, covariate_columns, of_study, sentence
from wsisurv.pages.tripod_items import TripodItem, tripod_items
from wsisurv.survival.splits import kept_whole

_KINDS = {
    "number": "as a number",
    "scale": "as a number, its step on the scale",
    "words": "as an indicator of each value",
}


@dataclass(frozen=True)
class TripodRow:
    """An item with what is known of it."""

    item: TripodItem
    known: tuple[str, ...]  # from the workspace
    question: str  # for the author; empty where what is known answers the item

    @property
    def status(self) -> str:
        """Who has to write."""
        return "for the author" if not self.known else "known in part" if self.question else "known"


def tripod_rows(facts: TripodFacts) -> tuple[TripodRow, ...]:
    """All items, each with what the workspace knows of it."""
    known = {**of_study(facts), **_of_methods(facts), **_of_results(facts)}
    rows = []
    for item in tripod_items():
        lines = tuple(line for line in known.get(item.number, ()) if line)
        rows.append(TripodRow(item, lines, "" if item.whole and lines else item.question))
    return tuple(rows)


def _of_methods(facts: TripodFacts) -> dict[str, Sequence[str]]:
    """Data preparation, predictors, analysis, output."""
    seen, made = facts.seen, facts.seen.settings
    covariates, card = seen.cohort.settings.covariates, seen.card
    given = {
        step: _listed_settings(made[step])
        for step in ("tile", "embed", "extract-report", "train-teacher", "distill")
        if step in made
    }
    reports = (
        f"Reports were read by the settings: {given['extract-report']}; a finding counts with its quote."
        if "extract-report" in given
        else ""
    )
    columns = covariate_columns(seen)
    figures, predicted = facts.figures, seen.predicted
    folds = figures.settings.get("crossval") if figures is not None else None
    divided = ""
    if figures is not None and isinstance(folds, Mapping):
        divided = (
            f"Cross-validation: {len(figures.folds)} folds ({folds.get('folds')} a repeat, "
            f"{folds.get('repeats')} repeat{'' if folds.get('repeats') == 1 else 's'}); each case "
            "is tested by models that were trained without it, all steps anew in each fold. "
            + _whole_hospitals(predicted)
        )
    parts = sorted({row.by for row in facts.subgroups} - {"all"})
    return {
        "7": [
            f"Tiles: {given['tile']}." if "tile" in given else "",
            f"Features: {given['embed']}." if "embed" in given else "",
            reports,
            *(f"Of the tables: {line}." for line in seen.audit.warnings[:SHOWN]),
        ],
        "9a": [
            f"Candidates of the student: all {card.n_features} features of each tile, by the encoder {card.encoder}."
            if card
            else "",
            f"Covariates of the clinical model, no part of the student: {', '.join(covariates)}." if covariates else "",
        ],
        "9b": [
            f"Tiles: {given['tile']}." if "tile" in given else "",
            f"Features: {given['embed']}." if "embed" in given else "",
        ],
        "9c": [reports],
        "12a": [divided],
        "12b": [
            f"Features of tiles as {card.encoder} gives them, read by attention over all tiles of a case."
            if card and _aggregator(made) == "abmil"
            else "",
            *(
                f"{one.name}: {_KINDS[one.kind]}{', unknown as an indicator' if one.unknown else ''}."
                for one in columns
            ),
        ],
        "12c": [
            f"Teacher: {given['train-teacher']}." if "train-teacher" in given else "",
            f"Student: {given['distill']}." if "distill" in given else "",
            divided,
            *facts.proportional,
        ],
        "12d": [
            f"Intervals: {figures.interval}." if figures is not None else "",
            _whole_hospitals(predicted) if figures is not None else "",
            "Performance was compared between sites, see 23b."
            if any(one.by == "site" for one in facts.contrasts)
            else "",
        ],
        "12e": _measures(facts),
        "12g": [f"Predictions: {predicted.source}; {predicted.calibrated}." if predicted is not None else ""],
        "13": [f"{seen.audit.events} of {seen.audit.cases} cases have the event."],
        "14": [
            f"Performance by {', '.join(parts)}, with {len(facts.contrasts)} contrasts between parts, p "
            f"values corrected by Holm: see 23a."
            if parts
            else ""
        ],
        "15": _output(seen),
        "16": [_beside_training(one) for one in seen.external],
        "18f": [f"Software: {_listed_settings(seen.versions)}."],
        "27a": [
            f"{len(seen.unfamiliar)} of {len(seen.cohort.cases)} cases were unlike the training cases; they "
            f"get no survival."
            if seen.unfamiliar
            else "",
            f"A distance from the training cases above {number(card.familiarity.threshold, '.3g')} marks a "
            f"case as unfamiliar."
            if card
            else "",
        ],
    }


def _of_results(facts: TripodFacts) -> dict[str, Sequence[str]]:
    """Development, specification, performance, discussion."""
    seen, card, figures = facts.seen, facts.seen.card, facts.figures
    names = labels(seen)
    rows = [] if figures is None else sorted(figures.models, key=lambda row: row.model != SELECTED)
    models = [
        f"{names.get(row.model, row.model)}: concordance {number(row.concordance)} (95 % interval "
        f"{interval(row.low, row.high)}), "
        f"Uno's {number(row.uno)}, calibration slope {_with_interval(row.calibration_slope, *row.slope_interval)}, "
        f"Brier {number(row.brier)} "
        f"(reference {number(row.brier_reference)})."
        for row in rows
    ]
    folds = [
        f"Fold {one['name']}: trained on {one['train']} cases, "
        f"{one.get('train_events', 'an unknown number of')} with the event; tested on {one['test']}."
        for one in (figures.folds if figures is not None else ())
        if {"name", "train", "test"} <= one.keys()
    ]
    parts = [
        f"{row.by} {row.name}: {row.cases} cases, {row.events} with the event, concordance "
        f"{number(row.concordance)} ({interval(row.low, row.high)})"
        + (
            f", observed / expected events {number(row.ratio[0], '.2f')} "
            f"({interval(row.ratio[1], row.ratio[2], '.2f')})."
            if row.ratio
            else "."
        )
        for row in facts.subgroups
        if row.by != "all"
    ]
    whole = [
        f"All cases: observed / expected events {_with_interval(*row.ratio)}."
        for row in facts.subgroups
        if row.by == "all" and row.ratio
    ]
    compared = {True: list[str](), False: list[str]()}
    for one in facts.contrasts:
        form = "+.3f" if one.figure == "concordance" else ".2f"
        compared[one.by == "site"].append(
            f"{one.by} {one.part} against {one.reference}, {one.figure}: {number(one.value, form)} "
            f"({interval(one.low, one.high, form)}), "
            f"{p_equals(one.p_holm)} by Holm for {len(facts.contrasts)} contrasts."
        )
    limits = [*(figures.warnings if figures is not None else ()), *seen.warnings, *seen.differs]
    return {
        "20c": [_beside_training(one) for one in seen.external],
        "21": [
            f"Training of the student: {seen.result['n_cases']} cases, {seen.result['n_events']} with the event."
            if seen.result
            else "",
            *folds,
        ],
        "22": [
            f"student.h5: {len(card.member_folds)} networks on {card.n_features} features of {card.encoder}"
            f"{f' ({card.encoder_weights})' if card.encoder_weights else ''}, with cut-offs, calibration slope "
            f"({number(card.calibration.slope, '.2f')}) and baseline hazard; `wsisurv predict` uses it, "
            f"`wsisurv show` describes it."
            if card
            else ""
        ],
        "23a": [*models, *whole, *(_external_line(one) for one in seen.external), *parts, *compared[False]],
        "23b": compared[True],
        "25": [minus(line) for line in (figures.verdict if figures is not None else ())],
        "26": [
            *(sentence(minus(line)) for line in limits),
            "The cohort is smaller than Riley's criteria ask for, see 10."
            if facts.plan is not None and facts.plan.too_small
            else "",
        ],
    }


def _whole_hospitals(predicted: CasePredictions | None) -> str:
    """Whether cases of a hospital were on both sides of a fold; empty where that is not known."""
    if predicted is None or len(np.unique(predicted.fold)) < 2:
        return ""
    sites = [case.site or "" for case in predicted.cases]
    known = np.array([bool(site) for site in sites])
    if not known.any():
        return "No hospitals are known, so cases of one may be on both sides of a fold."
    if kept_whole([site for site in sites if site], predicted.fold[known]):
        return "Hospitals are whole in the folds: all cases of one are tested by models that saw none of them."
    return "Hospitals are divided between folds: cases of one are on both sides."


def _measures(facts: TripodFacts) -> list[str]:
    seen, found = facts.seen, list[str]()
    if facts.figures is not None:
        found.append(
            "Discrimination: Harrell's and Uno's concordance within folds, cumulative/dynamic AUC. Calibration: slope, "
            "D-calibration, observed over expected events. Both: Brier score. Models were compared by paired "
            "differences"
            + (
                "; what the slides add to the covariates also by a likelihood-ratio test of Cox models within folds, "
                "with and without the risk of a student that had not seen the case."
                if facts.figures.added is not None
                else "."
            )
        )
    if seen.predicted is not None:
        found.append(
            "Kaplan–Meier curves and log-rank test by risk group"
            + (
                "; predicted against observed survival; decision curves (net benefit)."
                if seen.predicted.survival
                else "."
            )
        )
    return found


def _output(seen: Gathered) -> list[str]:
    if (card := seen.card) is None:
        return []
    return [
        "A log hazard, its percentile among the training cases, a risk group, and survival at horizons.",
        f"Risk groups: low below a log hazard of {number(card.cut_offs.low)}, high from "
        f"{number(card.cut_offs.high)}, the tertiles of the "
        "training cases out of fold. In cross-validation each fold has limits of its own, of its training cases: "
        "groups and percentiles of two folds can be compared, log hazards can't.",
        f"Survival: log hazards times the slope {number(card.calibration.slope, '.2f')}, on the baseline "
        f"hazard, both fitted out of fold in training.",
    ]


def _beside_training(one: ExternalValidation) -> str:
    found = one.record.external
    return (
        f"{one.cohort}: {found.cases} cases, {found.events} with the event; {one.trained_on}, on which the "
        f"model was trained "
        f"(cases, events): {one.trained_counts}."
    )


def _external_line(one: ExternalValidation) -> str:
    found = one.record.external
    order, slope, ratio = found.concordance, found.calibrated_slope, found.observed_expected
    return (
        f"On {one.cohort}, by the model trained on {one.trained_on}: concordance {number(order.value)} "
        f"(95 % interval {interval(order.low, order.high)}), calibration slope "
        f"{_with_interval(slope.value, *slope.interval) if slope else number(None)}, observed / expected events "
        f"{_with_interval(ratio.ratio, ratio.low, ratio.high) if ratio else number(None)}."
    )


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    return number(value, ".2f") + (f" ({interval(low, high, '.2f')})" if low is not None else "")


def _aggregator(made: Mapping[str, Mapping[str, Any]]) -> str:
    return str(made.get("distill", {}).get("aggregator", ""))


def _listed_settings(settings: Mapping[str, Any]) -> str:
    told = {name: value for name, value in settings.items() if value not in (None, "", {}, [], ())}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
