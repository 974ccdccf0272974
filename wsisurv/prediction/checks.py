"""Are these features what the student knows? A refusal where it can't be right, a warning where it may be wrong."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsisurv.errors import EncoderMismatchError
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.features import Features, read_features

_PER_SLIDE = {"slide_mpp", "measures"}
"""Tile settings that tell how one slide was read or what is known of it besides, not what its tiles are."""
_OTHER_ENCODER = ("encoder", "weights", "version")
"""Embed settings that make other numbers of the same pixels."""
_ARITHMETIC = {"precision", "dtype"}
"""Embed settings that change a feature by rounding only."""
_COARSER = 1.02
"""A slide scanned coarser than its tiles by more than this was enlarged."""


@dataclass(frozen=True)
class SlideRead:
    """Features of a slide, and what is odd about how they were made."""

    features: Features
    warnings: tuple[str, ...]


def read_slide(path: Path, card: StudentCard, student: Path) -> SlideRead:
    """Read the features of one slide.

    Args:
        path: the features file.
        card: of the student.
        student: the student's file, for the message.

    Raises:
        MissingArtifactError, FormatError: the file is missing or damaged.
        EncoderMismatchError: made by another encoder, by other weights of it, or of another width than in training.
    """
    features, header = read_features(path)
    encoder = card.embed_settings.get("encoder", card.encoder)
    if features.encoder not in {card.encoder, encoder}:
        raise EncoderMismatchError(
            f"{path}: features of encoder {features.encoder!r}, but {student} was trained on {encoder!r}. Embed the "
            f"slides with `wsisurv embed --encoder {encoder}`, or name a student that was trained on these features."
        )
    n_features = features.values.shape[1]
    if len(features.values) and n_features != card.n_features:
        raise EncoderMismatchError(
            f"{path}: {n_features} features a tile, but {student} was trained on {card.n_features} of {encoder!r}. "
            "Embed the slides with the version of the encoder that was used in training."
        )
    changes = _differences(header.settings, card.embed_settings, _ARITHMETIC)
    if other := [change for change in changes if change.name in _OTHER_ENCODER]:
        raise EncoderMismatchError(
            f"{path}: embedded with {_listed(other)} {student} was trained on. Embed the slides in the same way."
        )
    changes += _differences(features.tile_settings, card.tile_settings, _PER_SLIDE)
    warnings = [f"made with {change.name} {change.seen} instead of {change.wanted}" for change in changes]
    tile_mpp = features.tile_settings.get("tile_mpp")
    if isinstance(tile_mpp, int | float) and features.mpp > _COARSER * tile_mpp:
        warnings.append(f"scanned at {features.mpp:g} µm/px and enlarged to {tile_mpp:g}")
    return SlideRead(features, tuple(warnings))


def read_features_for(path: Path, card: StudentCard, student: Path) -> Features:
    """Features of one slide; as ``read_slide``."""
    return read_slide(path, card, student).features


@dataclass(frozen=True)
class _Difference:
    name: str
    seen: Any
    wanted: Any


def _differences(seen: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Collection[str]) -> list[_Difference]:
    names = sorted((seen.keys() | wanted.keys()) - set(ignored))
    pairs = [_Difference(name, seen.get(name), wanted.get(name)) for name in names]
    return [pair for pair in pairs if pair.seen != pair.wanted]


def _listed(changes: Sequence[_Difference]) -> str:
    return " and ".join(f"{change.name} {change.seen} instead of the {change.wanted} that" for change in changes)


def join_warnings(by_slide: Sequence[tuple[str, Sequence[str]]], of_case: Sequence[str]) -> str:
    """One text of all that is odd: what holds of every slide is said once, other things with the slide's name."""
    said = list(of_case)
    common = [text for text in (by_slide[0][1] if by_slide else ()) if all(text in texts for _, texts in by_slide)]
    said += common
    said += [f"{slide_id}: {text}" for slide_id, texts in by_slide for text in texts if text not in common]
    return "; ".join(said)
