"""A student's file as a model card: what it is, what it learned from, how good it is, and what it is not for.

What is printed comes from a file that may be anybody's, so each value is looked up with care and printed as plain text.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wsisurv.errors import FormatError
from wsisurv.formats.header import Header
from wsisurv.formats.models import ModelFile, read_model
from wsisurv.formats.shown import plain_value
from wsisurv.settings.base import file_sha256
from wsisurv.survival.prognosis import PER_YEAR, Prognosis, load_prognosis

_YEARS = (1.0, 3.0, 5.0)
_FEW_EVENTS = 50
_LENGTH = 300
_FIGURES = {
    "concordance": "concordance",
    "uno": "Uno's",
    "auc": "AUC",
    "calibration_slope": "calibration slope",
    "brier": "Brier",
    "d_calibration_p": "D-calibration p",
}
_USE = (
    "For research: to ask what slides tell of the outcome, in cohorts like the one it was trained on.",
    "A log hazard is relative to the training cohort: it orders cases; only the calibrated survival says how likely.",
    "The cut-offs of the risk groups were fixed on the training cases out of fold; don't fit them anew on new cases.",
    "Before it is used elsewhere: `wsisurv evaluate` on cases with follow-up from there, calibration included.",
    "Not a medical device, not for the treatment of anyone. It says nothing of causes, nor of what a therapy does.",
    "It knows the tissue, stain and scanners of its training. `predict` warns of slides unlike them, not of all.",
)


@dataclass(frozen=True)
class Part:
    """A part of the card.

    Attributes:
        title: of it.
        words: lines.
        facts: name → value.
        head: of a table.
        rows: of the table.
    """

    title: str
    words: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class FileCard:
    """A file, described for a person.

    Attributes:
        title: one line.
        parts: in the order in which they are read.
        warnings: what should be known before it is used.
        record: all of it as a JSON object.
    """

    title: str
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    record: Mapping[str, Any]


def said(value: object) -> str:
    """Any value as one line of plain text that can't steer a terminal; a dash where there is none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    words = value if isinstance(value, str) else json.dumps(plain_value(value), ensure_ascii=False)
    words = "".join(letter if letter.isprintable() else "\ufffd" for letter in words)
    return words if len(words) <= _LENGTH else words[:_LENGTH] + " …"


def model_card(path: Path) -> FileCard:
    """Describe a student.

    Figures of `wsisurv crossval` are those in its file, or in evaluation/metrics.json beside it.

    Raises:
        MissingArtifactError, FormatError: there is no such file, it is no student, or it is damaged.
    """
    model, header = read_model(path, "student")
    card: Mapping[str, Any] = plain_value(dict(model.card))
    prognosis, damage = _prognosis(model)
    evaluation, source = own_figures(path, card, header)
    warnings = [*damage, *_warnings(card, evaluation)]
    parts = (
        _what(path, card, header, model),
        _input(card),
        _cohort(card),
        _quality(card, evaluation, source),
        _meaning(card, prognosis),
        Part("Use and limits", words=_USE),
        Part("Settings of the training", facts={name: said(value) for name, value in header.settings.items()}),
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
        "card": card,
        "evaluation": plain_value(evaluation),
        "survival": _survival(card, prognosis),
        "arrays": {
            name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in model.arrays.items()
        },
        "use": list(_USE),
        "warnings": warnings,
    }
    return FileCard(f"Student {header.fingerprint[:12]}", parts, tuple(warnings), record)


def _get(card: Any, *names: str) -> Any:
    """The value at the end of a path of names, None where it is not there."""
    for name in names:
        card = card.get(name) if isinstance(card, Mapping) else None
    return card


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and abs(value) < 1e300 else None


def _prognosis(model: ModelFile) -> tuple[Prognosis | None, list[str]]:
    try:
        return load_prognosis(model.arrays), []
    except (FormatError, ValueError, TypeError) as error:
        return None, [f"survival can't be told: {said(str(error))}"]


def own_figures(path: Path, card: Mapping[str, Any], header: Header) -> tuple[Any, str]:
    """Figures that crossval gave of a student, and where they are from; None, and why there are none.

    Args:
        path: the student's file; figures in ``evaluation/metrics.json`` beside it count where they are of this student.
        card: its card; figures that are in it come first.
        header: its header.
    """
    if isinstance(found := card.get("evaluation"), Mapping):
        return found, "in its file"
    beside = path.parent / "evaluation" / "metrics.json"
    if not beside.is_file() or beside.stat().st_size > 1 << 26:
        return None, "not cross-validated: run `wsisurv crossval`"
    try:
        record = json.loads(beside.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None, f"{beside} is damaged: run `wsisurv crossval`"
    if _get(record, "cohort", "fingerprint") != header.inputs.get("cohort"):
        return None, f"{beside} is of another cohort than the student"
    if _get(record, "settings", "student") != header.settings:
        return None, f"{beside} is of a student with other settings"
    return record, f"in {beside}"


def _what(path: Path, card: Mapping[str, Any], header: Header, model: ModelFile) -> Part:
    guided = card.get("guided")
    members = card.get("member_folds")
    n_members = len(members) if isinstance(members, Sequence) else None
    weights = sum(array.size for name, array in model.arrays.items() if name.startswith("members/"))
    words = [
        "Reads the tiles of a case's H&E slides, all of them at once, and gives one log hazard: higher is worse.",
        "In training it listened to a teacher that had read the pathology reports; it needs no report itself."
        if guided
        else "It was trained on slides and follow-up alone; no report was listened to.",
    ]
    directions, told = _get(card, "result", "directions"), _number(_get(card, "result", "reports_told"))
    if guided and isinstance(directions, list) and directions:
        words.append(
            f"It sees of the features what tells the reports ({said(told)} of their variance, out of fold): "
            f"{said(', '.join(str(count) for count in directions))} directions, member by member."
        )
    facts = {
        "file": said(str(path)),
        "id": header.fingerprint[:12],
        "made by": f"wsisurv {said(header.wsisurv_version)} (format {header.format_version})",
        "members of the ensemble": said(n_members),
        "aggregator": said(header.settings.get("aggregator")),
        "numbers in its weights": f"{weights:,}",
    }
    return Part("What it is", tuple(words), facts)


def _input(card: Mapping[str, Any]) -> Part:
    embed, tiles = card.get("embed_settings"), card.get("tile_settings")
    facts = {
        "encoder": said(_get(embed, "encoder") or card.get("encoder")),
        "weights and revision": said(card.get("encoder_weights") or _get(embed, "weights") or "none are needed"),
        "folder of the features": said(card.get("encoder")),
        "features a tile": said(card.get("n_features")),
        "tile": f"{said(_get(tiles, 'tile_px'))} px at {said(_get(tiles, 'tile_mpp'))} µm/px, "
        f"overlap {said(_get(tiles, 'overlap_px'))} px",
        "tissue": f"{said(_get(tiles, 'tissue'))}, at least {said(_get(tiles, 'min_tissue'))} of a tile",
    }
    for name, value in (embed if isinstance(embed, Mapping) else {}).items():
        if name not in {"encoder", "weights"}:
            facts[f"encoder: {said(name)}"] = said(value)
    return Part("What it takes in", facts=facts)


def _cohort(card: Mapping[str, Any]) -> Part:
    unit = said(_get(card, "cohort", "time_unit"))

    def time(name: str) -> str:
        value = _get(card, "cohort", name)
        return "not reached" if value is None else f"{said(value)} {unit}"

    tiles = _get(card, "cohort", "tiles_a_case")
    facts = {
        "cohort": said(_get(card, "cohort", "name")),
        "cases, events": f"{said(_get(card, 'cohort', 'cases'))}, {said(_get(card, 'cohort', 'events'))}",
        "slides": said(_get(card, "cohort", "slides")),
        "hospitals": said(_get(card, "cohort", "sites") or "not told"),
        "median time": time("median_time"),
        "median follow-up": time("median_follow_up"),
        "longest follow-up": time("longest_follow_up"),
        "tiles a case": f"{said(_get(tiles, 'least'))} to {said(_get(tiles, 'most'))}, "
        f"median {said(_get(tiles, 'median'))}",
    }
    return Part("What it was trained on", ("A summary; no row of any patient is in the file.",), facts)


def _quality(card: Mapping[str, Any], evaluation: Any, source: str) -> Part:
    if evaluation is None:
        facts = {
            "out-of-fold concordance in training": said(_get(card, "result", "concordance")),
            "of a student without reports": said(_get(card, "result", "plain_concordance")),
        }
        return Part("How good it is", (f"No honest account: {source}.",), facts)
    cohort = _get(evaluation, "cohort")
    rows = []
    models = evaluation.get("models")
    for row in models if isinstance(models, list) else []:
        figures = [said(_number(_get(row, name))) for name in _FIGURES]
        interval = f"{said(_number(_get(row, 'low')))} to {said(_number(_get(row, 'high')))}"
        rows.append((said(_get(row, "model")), figures[0], interval, *figures[1:]))
    verdict = evaluation.get("verdict")
    words = [
        f"Cross-validation ({source}): {said(_get(cohort, 'tested'))} cases, {said(_get(cohort, 'tested_events'))} "
        "events, each tested by models that were trained without it.",
        *(said(line) for line in (verdict if isinstance(verdict, list) else [])),
    ]
    return Part(
        "How good it is",
        tuple(words),
        head=("model", "concordance", "95 % interval", *list(_FIGURES.values())[1:]),
        rows=tuple(rows),
    )


def _survival(card: Mapping[str, Any], prognosis: Prognosis | None) -> list[dict[str, Any]]:
    """Calibrated survival of a case at each cut-off and at the mean, a row each."""
    unit = _get(card, "cohort", "time_unit")
    if prognosis is None or unit not in PER_YEAR:
        return []
    at = {
        "at the lower cut-off": _number(_get(card, "cut_offs", "low")),
        "at the mean of the training cases": _number(card.get("risk_mean")),
        "at the upper cut-off": _number(_get(card, "cut_offs", "high")),
    }
    rows = []
    for name, log_hazard in at.items():
        if log_hazard is None:
            continue
        with np.errstate(over="ignore"):
            known = prognosis.survival(log_hazard=[log_hazard], horizons=[years * PER_YEAR[unit] for years in _YEARS])[
                0
            ]
        survival = {
            f"{years:g}y": None if np.isnan(value) else float(value) for years, value in zip(_YEARS, known, strict=True)
        }
        rows.append({"case": name, "log_hazard": log_hazard, "survival": survival})
    return rows


def _meaning(card: Mapping[str, Any], prognosis: Prognosis | None) -> Part:
    facts = {
        "low risk below": said(_get(card, "cut_offs", "low")),
        "high risk from": said(_get(card, "cut_offs", "high")),
        "calibration slope, out of fold": said(_get(card, "calibration", "slope")),
        "familiar within a distance of": said(_get(card, "familiarity", "threshold")),
        "few tiles below": said(_get(card, "cohort", "tiles_a_case", "few")),
    }
    unit = _get(card, "cohort", "time_unit")
    if prognosis is not None and unit in PER_YEAR:
        for years in _YEARS:
            facts[f"training cases followed to {years:g} y"] = str(prognosis.followed_to(years * PER_YEAR[unit]))
    rows = tuple(
        (
            row["case"],
            said(row["log_hazard"]),
            *("–" if value is None else f"{100 * value:.0f} %" for value in row["survival"].values()),
        )
        for row in _survival(card, prognosis)
    )
    head = ("survival of a case", "log hazard", *(f"to {years:g} y" for years in _YEARS)) if rows else ()
    words = ("A dash: nobody in the training cohort was followed so long.",) if rows else ()
    slope = _number(_get(card, "calibration", "slope"))
    if slope is not None:
        words = (
            f"Log hazards order the cases as they are. For survival they are taken times {slope:.2g}, the calibration "
            "slope found out of fold: below 1 they are too extreme by themselves.",
            *words,
        )
    return Part("What its number means", words, facts, head, rows)


def _warnings(card: Mapping[str, Any], evaluation: Any) -> list[str]:
    found = []
    if "random" in str(card.get("encoder_weights")) or _get(card, "embed_settings", "weights") == "random":
        found.append("the encoder's weights are random: this student is for trying things out only")
    events, sites = _number(_get(card, "cohort", "events")), _number(_get(card, "cohort", "sites"))
    if events is not None and events < _FEW_EVENTS:
        found.append(f"trained on {events:g} events: take every figure as a first impression")
    if sites is not None and sites <= 1:
        found.append("hospitals are one or not told: whether it holds elsewhere was not asked")
    if _number(_get(card, "calibration", "slope")) == 0:
        found.append(
            "out of fold it ordered the training cases no better than chance: every case gets the same survival"
        )
    if evaluation is None:
        found.append("never cross-validated: how good it is, is not known")
    told = _get(evaluation, "warnings")
    return [*found, *(said(line) for line in (told if isinstance(told, list) else []))]
