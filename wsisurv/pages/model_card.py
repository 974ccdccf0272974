"""A student's file as a model card: what it is, what it learned from, how good it is, and what it is not for.

What is printed comes from a file that may be anybody's, so each value is looked up with care and printed as plain text.
"""

from pathlib import Path
from typing import Any

import numpy as np

from wsisurv.errors import FormatError
from wsisurv.experiments.model_names import model_names
from wsisurv.formats.atomic import read_json
from wsisurv.formats.cards import Evaluation, StudentCard, TrainingCohort
from wsisurv.formats.header import Header
from wsisurv.formats.models import ModelFile, figures_of, read_model
from wsisurv.formats.shown import plain_value
from wsisurv.pages.card_parts import CardPart, FileCard, said
from wsisurv.pages.numbers import interval, minus, number, p_value, share
from wsisurv.settings.base import file_sha256
from wsisurv.settings.embedding import is_untrained
from wsisurv.survival.cox import LOW_SLOPE, low_slope
from wsisurv.survival.prognosis import FEW_FOLLOWED, PER_YEAR, Prognosis, load_prognosis

_YEARS = (1.0, 3.0, 5.0)
_FEW_EVENTS = 50
_MANY_FOLLOWED = 30
"""Training cases that must be followed to a horizon for its column not to be greyed."""
_OTHER_SLOPE = 0.2
"""Difference between the slope that survival goes by and that of cross-validation that is worth a word."""
_FIGURES = {
    "concordance": "concordance",
    "uno": "Uno's",
    "auc": "AUC",
    "calibration_slope": "calibration slope",
    "brier": "Brier",
    "d_calibration_p": "D-calibration p",
}
_USE = (
    "For research: to study how slides predict the outcome, in cohorts like the one it was trained on.",
    "A log hazard is relative to the training cohort: it orders cases; only the calibrated survival says how likely.",
    "The cut-offs of the risk groups were fixed on the training cases out of fold; don't fit them anew on new cases.",
    "Before it is used elsewhere: validate it with `wsisurv evaluate` on cases with follow-up from there.",
    "Not a medical device, not for the treatment of anyone. It says nothing of causes, nor of what a therapy does.",
    "It was trained on certain tissue, stains and scanners. `predict` warns of slides unlike them, but can miss some.",
)


def model_card(path: Path) -> FileCard:
    """Describe a student.

    Figures of `wsisurv crossval` are those in its file, or in evaluation/metrics.json beside it.

    Raises:
        MissingArtifactError, FormatError: there is no such file, it is no student, or it is damaged.
    """
    model, header = read_model(path, "student")
    card = model.card
    prognosis, damage = _prognosis(model)
    evaluation, source = own_figures(path, card, header)
    warnings = [*damage, *_warnings(card, evaluation)]
    parts = (
        _what(path, card, header, model),
        _input(card),
        _cohort(card.cohort),
        _quality(card, evaluation, source),
        _meaning(card, prognosis, evaluation),
        CardPart("Use and limits", words=_USE),
        CardPart("Settings of the training", facts={name: said(value) for name, value in header.settings.items()}),
    )
    record = {
        "format": header.format,
        "file": str(path),
        "format_version": header.format_version,
        "wsisurv_version": header.wsisurv_version,
        "fingerprint": header.fingerprint,
        "sha256": file_sha256(path),
        "settings": plain_value(header.settings),
        "inputs": plain_value(header.inputs),
        "card": plain_value(card.model_dump()),
        "evaluation": plain_value(evaluation.model_dump()) if evaluation else None,
        "survival": _survival(card, prognosis),
        "arrays": {
            name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in model.arrays.items()
        },
        "use": list(_USE),
        "warnings": warnings,
    }
    return FileCard(f"Student {header.fingerprint[:12]}", parts, tuple(warnings), record)


def _prognosis(model: ModelFile[StudentCard]) -> tuple[Prognosis | None, list[str]]:
    try:
        return load_prognosis(model.arrays), []
    except (FormatError, ValueError, TypeError) as error:
        return None, [f"survival can't be predicted: {said(str(error))}"]


def own_figures(path: Path, card: StudentCard, header: Header) -> tuple[Evaluation | None, str]:
    """Figures that crossval gave of a student, and where they are from; None, and why there are none.

    Args:
        path: the student's file; figures in ``evaluation/metrics.json`` beside it count where they are of this student.
        card: its card; figures that are in it come first.
        header: its header.
    """
    if card.evaluation is not None and card.evaluation.own is not None:
        return card.evaluation, "in its file"
    beside = path.parent / "evaluation" / "metrics.json"
    if not beside.is_file() or beside.stat().st_size > 1 << 26:
        return None, "not cross-validated: run `wsisurv crossval`"
    try:
        evaluation, reason = figures_of(header, card, read_json(beside))
        return evaluation, f"{beside} is {reason}" if evaluation is None else f"in {beside}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, f"{beside} is damaged: run `wsisurv crossval`"


def _what(path: Path, card: StudentCard, header: Header, model: ModelFile[StudentCard]) -> CardPart:
    weights = sum(array.size for name, array in model.arrays.items() if name.startswith("members/"))
    words = [
        "Reads the tiles of a case's H&E slides, all of them at once, and gives one log hazard: higher is worse.",
        "Its training was guided by a teacher trained on the pathology reports; it needs no report itself."
        if card.guided
        else "It was trained on slides and follow-up alone, without guidance by reports.",
    ]
    if card.guided and card.result.directions:
        words.append(
            f"It sees the feature subspace in which tiles explain the report (out-of-fold R² "
            f"{said(card.result.reports_told)}): {', '.join(map(str, card.result.directions))} dimensions, member by "
            "member."
        )
    if bytes(model.arrays.get("aggregator", ())).startswith(b"joined"):
        experts = [f"{said(one.name)} ({one.weight:.2f})" for one in card.result.experts if one.weight]
        words.append(
            "Students of other cohorts are part of it, unchanged, each with the weight of its log hazard in standard "
            f"deviations: {', '.join(experts)}."
        )
    if header.settings.get("guided") is not False and card.result.warm_start:
        words.append(f"Training of the distilled student began with the student of {said(card.result.warm_start)}.")
    facts = {
        "file": said(str(path)),
        "id": header.fingerprint[:12],
        "made by": f"wsisurv {said(header.wsisurv_version)} (format {header.format_version})",
        "members of the ensemble": said(len(card.member_folds)),
        "aggregator": said(header.settings.get("aggregator")),
        "numbers in its weights": f"{weights:,}",
    }
    return CardPart("What it is", tuple(words), facts)


def _input(card: StudentCard) -> CardPart:
    embed, tiles = card.embed_settings, card.tile_settings
    facts = {
        "encoder": said(embed.get("encoder") or card.encoder),
        "weights and revision": said(card.encoder_weights or embed.get("weights") or "none are needed"),
        "folder of the features": said(card.encoder),
        "features a tile": said(card.n_features),
        "tile": f"{said(tiles.get('tile_px'))} px at {said(tiles.get('tile_mpp'))} µm/px, "
        f"overlap {said(tiles.get('overlap_px'))} px",
        "tissue": f"{said(tiles.get('tissue'))}, at least {said(tiles.get('min_tissue'))} of a tile",
    }
    others = {name: value for name, value in embed.items() if name not in {"encoder", "weights", "of_tiles"}}
    others |= {f"tiles' {name}": value for name, value in (embed.get("of_tiles") or {}).items()}
    return CardPart("Input", facts=facts | {f"encoder: {said(name)}": said(others[name]) for name in others})


def _cohort(cohort: TrainingCohort) -> CardPart:
    unit, follow_up, tiles = cohort.time_unit, cohort.median_follow_up, cohort.tiles_a_case
    facts = {
        "cohort": said(cohort.name),
        "cases, events": f"{cohort.cases}, {cohort.events}",
        **({} if cohort.competing is None else {"competing events": f"{cohort.competing}"}),
        "slides": said(cohort.slides),
        "hospitals": said(cohort.sites or "not known"),
        "median time": f"{said(cohort.median_time)} {unit}",
        "median follow-up": "not reached" if follow_up is None else f"{said(follow_up)} {unit}",
        "longest follow-up": f"{said(cohort.longest_follow_up)} {unit}",
        "tiles a case": f"{tiles.least} to {tiles.most}, median {said(tiles.median)}",
    }
    words = ["A summary; no row of any patient is in the file."]
    if cohort.outcome_note:
        words.append(f"Other deaths: {said(cohort.outcome_note)}.")
    return CardPart("What it was trained on", tuple(words), facts)


def _quality(card: StudentCard, evaluation: Evaluation | None, source: str) -> CardPart:
    if evaluation is None:
        within = ", pairs of one hospital" if card.result.within == "hospital" else ""
        facts = {
            f"out-of-fold concordance in training{within}": said(card.result.concordance),
            "of the baseline student (no teacher)": said(card.result.plain_concordance),
        }
        return CardPart("How good it is", (f"No results table: {source}.",), facts)
    rows, labels = [], model_names(())
    for row in evaluation.models:
        figures = {name: number(getattr(row, name), ".4f") for name in _FIGURES}
        figures["d_calibration_p"] = p_value(row.d_calibration_p)
        concordance, *others = figures.values()
        rows.append((said(labels.get(row.model, row.model)), concordance, interval(row.low, row.high, ".4f"), *others))
    words = [
        f"Cross-validation ({source}): {said(evaluation.cohort.tested)} cases, {said(evaluation.cohort.tested_events)} "
        "events, each tested by models that were trained without it. What follows is of those trainings, fold by fold, "
        "not of this very file.",
        *(minus(said(line)) for line in evaluation.verdict),
    ]
    return CardPart(
        "How good it is",
        tuple(words),
        head=("model", "concordance", "95 % interval", *list(_FIGURES.values())[1:]),
        rows=tuple(rows),
    )


def _survival(card: StudentCard, prognosis: Prognosis | None) -> list[dict[str, Any]]:
    """Calibrated survival of a case at each cut-off and at the mean, a row each."""
    if prognosis is None:
        return []
    cases = {
        "at the lower cut-off": card.cut_offs.low,
        "at the mean of the training cases": card.risk_mean,
        "at the upper cut-off": card.cut_offs.high,
    }
    horizons = [years * PER_YEAR[card.cohort.time_unit] for years in _YEARS]
    rows = []
    for name, log_hazard in cases.items():
        with np.errstate(over="ignore"):
            known = prognosis.survival(log_hazard=[log_hazard], horizons=horizons)[0]
        survival = {
            f"{years:g}y": float(value) if prognosis.supports(at) else None
            for years, at, value in zip(_YEARS, horizons, known.tolist(), strict=True)
        }
        rows.append({"case": name, "log_hazard": log_hazard, "survival": survival})
    return rows


def _meaning(card: StudentCard, prognosis: Prognosis | None, evaluation: Evaluation | None) -> CardPart:
    facts = {
        "low risk below": said(card.cut_offs.low),
        "high risk from": said(card.cut_offs.high),
        "percentiles, cut-offs and survival go by": f"training cases out of fold, as {said(card.reference)} "
        + ("would score them if new" if card.reference == "mean of members" else "scored them"),
        "calibration slope in training, out of fold": said(card.calibration.slope),
        "familiar (like the training cases) within a distance of": said(card.familiarity.threshold),
        "few tiles below": said(card.cohort.tiles_a_case.few),
    }
    followed = []
    if prognosis is not None:
        followed = [prognosis.followed_to(years * PER_YEAR[card.cohort.time_unit]) for years in _YEARS]
        facts |= {f"training cases followed to {y:g} y": str(n) for y, n in zip(_YEARS, followed, strict=True)}
    rows = tuple(
        (row["case"], said(row["log_hazard"]), *(share(value) for value in row["survival"].values()))
        for row in _survival(card, prognosis)
    )
    words = ["Log hazards order the cases as they are.", _slope_words(card.calibration.slope, evaluation)]
    if min(followed, default=_MANY_FOLLOWED) < FEW_FOLLOWED:
        words.append(f"A dash: fewer than {FEW_FOLLOWED} training cases were followed so long.")
    if any(FEW_FOLLOWED <= n < _MANY_FOLLOWED for n in followed):
        words.append(f"Grey: fewer than {_MANY_FOLLOWED} were, so it rests on few cases.")
    head = ("survival of a case", "log hazard", *(f"to {years:g} y" for years in _YEARS)) if rows else ()
    faded = tuple(number for number, n in enumerate(followed, start=2) if n < _MANY_FOLLOWED)
    return CardPart("What its risk means", tuple(words), facts, head, rows, faded)


def _slope_words(slope: float, evaluation: Evaluation | None) -> str:
    """By what survival is corrected, and whether cross-validation says the same."""
    found = evaluation.own.calibration_slope if evaluation is not None and evaluation.own is not None else None
    if slope == 0:
        words = "Survival does not go by them: the calibration slope out of fold in training is 0"
    elif round(slope, 2) == 1:
        words = "For survival they are taken as they are too: the calibration slope out of fold in training is 1"
    else:
        words = (
            f"For survival they are taken times {slope:.2g}, the calibration slope out of fold in training: "
            f"{'below' if slope < 1 else 'above'} 1 they are too {'extreme' if slope < 1 else 'alike'} by themselves"
        )
    if found is None or abs(found - slope) < _OTHER_SLOPE:
        return f"{words}."
    odd = "too extreme" if found < slope else "not extreme enough"
    return f"{words}. Cross-validation found {number(found, '.2f')}, so predicted survival may be {odd}."


def _warnings(card: StudentCard, evaluation: Evaluation | None) -> list[str]:
    found = []
    if "random" in card.encoder_weights or is_untrained(card.embed_settings):
        found.append("the encoder's weights are random: this student is for trying things out only")
    if card.cohort.events < _FEW_EVENTS:
        found.append(f"trained on {card.cohort.events} events: take every figure as a first impression")
    if card.cohort.sites <= 1:
        found.append("trained on one hospital, or hospitals are not known: whether it holds elsewhere was not examined")
    if card.calibration.slope == 0:
        found.append(
            "out of fold it ordered the training cases no better than chance: every case gets the same survival"
        )
    elif card.calibration.slope < LOW_SLOPE:
        found.append(low_slope(card.calibration.slope))
    if card.reference == "single members":
        found.append(
            "made by an older wsisurv: cut-offs and percentiles are of single members, so that fewer than a third of "
            "new cases are of low and of high risk. Run `wsisurv distill --redo`"
        )
    if card.baseline == "breslow":
        found.append(
            "made by an older wsisurv, with Breslow's baseline hazard: where several events share a time, as in months "
            "or years, predicted survival is too long. Run `wsisurv distill --redo`"
        )
    if evaluation is None:
        found.append(
            "never cross-validated: the concordance out of fold in training is too high where it was selected by it"
        )
    return [*found, *(said(line) for line in (evaluation.warnings if evaluation else ()))]
