"""Do features belong together, and to a model? A refusal where it can't be right, a warning where it may be wrong."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsisurv.errors import EncoderMismatchError, SettingsError
from wsisurv.formats.cards import StudentCard
from wsisurv.formats.features import FORMAT as FEATURES
from wsisurv.formats.features import MADE_BY as EMBEDDED_BY
from wsisurv.formats.finding_cards import FindingsCard
from wsisurv.formats.header import Header, read_header
from wsisurv.formats.tiles import FORMAT as TILES
from wsisurv.formats.tiles import MADE_BY as TILED_BY
from wsisurv.settings.base import parse_settings
from wsisurv.settings.embedding import EmbedSettings, is_untrained
from wsisurv.workspace.freshness import require_made_of

PER_SLIDE = frozenset({"slide_mpp", "measures"})
"""Tile settings that say how one slide was read or what is known of it besides, not what its tiles are."""
_POOLED = "pooled tiles' "
"""Before the settings of the tiles that a row of a whole slide was made of."""
_OTHER_ENCODER = tuple(f"{of}{name}" for of in ("", _POOLED) for name in ("encoder", "weights", "version"))
"""Embed settings that make other numbers of the same pixels."""
_ARITHMETIC = frozenset(f"{of}{name}" for of in ("", _POOLED) for name in ("precision", "dtype"))
"""Embed settings that change a feature by rounding only."""
_COARSER = 1.02
"""A slide scanned coarser than its tiles by more than this was enlarged."""


@dataclass(frozen=True)
class MadeWith:
    """How the features of a slide were made."""

    encoder: str  # its name
    n_tiles: int  # rows
    n_features: int  # columns
    settings: Mapping[str, Any]  # of ``embed`` (JSON object)
    tile_settings: Mapping[str, Any]  # of ``tile`` (JSON object)
    mpp: float | None = None  # µm per pixel of the slide at level 0; None where it is not asked

    @property
    def random_weights(self) -> bool:
        """Whether the encoder was never trained."""
        return is_untrained(self.settings)


@dataclass(frozen=True)
class Expected:
    """What features a student can read."""

    card: StudentCard | FindingsCard  # of the student, or of heads of findings
    student: Path  # its file, for messages


def require_alike(slides: Mapping[str, MadeWith], *, allow_random_weights: bool) -> None:
    """All slides with tiles must have been embedded and tiled in one way, by trained weights.

    Args:
        slides: slide_id → how its features were made.
        allow_random_weights: take features of an encoder that was never trained.

    Raises:
        SettingsError: features of random weights.
        EncoderMismatchError: two slides made in different ways; names them and what differs.
    """
    first_id = None
    for slide_id, slide in slides.items():
        if slide.random_weights and not allow_random_weights:
            raise SettingsError(
                f"slide {slide_id}: its features come from random weights and mean nothing. Embed with trained "
                "weights, or say --allow-random-weights to try the machinery out."
            )
        if not slide.n_tiles:
            continue
        if first_id is None:
            first_id = slide_id
        if changes := _differences(_described(slide), _described(slides[first_id])):
            listed = "; ".join(f"{name}: {wanted} and {seen}" for name, seen, wanted in changes)
            raise EncoderMismatchError(
                f"slides {first_id} and {slide_id} were made in different ways ({listed}). "
                "Tile and embed all slides of a cohort with the same settings."
            )


def require_own_tiles(path: Path, header: Header) -> None:
    """Refuse features of other tiles than those of the slide that are there now, and rows pooled of other features.

    Args:
        path: of the features, in a workspace.
        header: of the features; imported ones say of no tiles of ours that they were made of them.

    Raises:
        StaleError: the tiles are others, or the features of tiles.
        FormatError: what lies there is damaged.
    """
    if of_tiles := header.settings.get("of_tiles"):
        pooled = path.parents[1] / parse_settings(EmbedSettings, of_tiles).folder / path.name
        if pooled.exists():
            now = read_header(pooled, FEATURES, EMBEDDED_BY)
            of = header.inputs.get("features", "")
            require_made_of(path, of, now, f"the features of {pooled}", "Run `wsisurv pool --redo` first.")
            require_own_tiles(pooled, now)
    tiles = path.parents[2] / "tiles" / path.name
    made_of = header.inputs.get("tiles")
    if made_of is not None and tiles.exists():
        now = read_header(tiles, TILES, TILED_BY)
        require_made_of(path, made_of, now, f"the tiles of {tiles}", "Run `wsisurv embed --redo` first.")


def find_oddities(path: Path, slide: MadeWith, expected: Expected) -> tuple[str, ...]:
    """What is odd about features that a student is to read, one line each.

    Args:
        path: of the features, for messages.
        slide: how they were made.
        expected: what the student can read.

    Raises:
        EncoderMismatchError: made by another encoder, by other weights of it, or of another width than in training.
    """
    card, student = expected.card, expected.student
    encoder = card.embed_settings.get("encoder", card.encoder)
    if slide.encoder not in {card.encoder, encoder}:
        raise EncoderMismatchError(
            f"{path}: features of encoder {slide.encoder!r}, but {student} was trained on {encoder!r}. Embed the "
            f"slides with `wsisurv embed --encoder {encoder}`, or name a student that was trained on these features."
        )
    if slide.n_tiles and slide.n_features != card.n_features:
        raise EncoderMismatchError(
            f"{path}: {slide.n_features} features a tile, but {student} was trained on {card.n_features} of "
            f"{encoder!r}. Embed the slides with the version of the encoder that was used in training."
        )
    settings = slide.settings, card.embed_settings
    known = all("of_tiles" in one for one in settings)  # files of before 0.3 don't say what was pooled
    seen, wanted = (_flat(one, pooled=known) for one in settings)
    changes = _differences(seen, wanted, _ARITHMETIC)
    if other := [change for change in changes if change[0] in _OTHER_ENCODER]:
        listed = " and ".join(f"{name} {seen} instead of the {wanted} that" for name, seen, wanted in other)
        raise EncoderMismatchError(
            f"{path}: embedded with {listed} {student} was trained on. Embed the slides in the same way."
        )
    changes += _differences(slide.tile_settings, card.tile_settings, PER_SLIDE)
    odd = [f"made with {name} {seen} instead of {wanted}" for name, seen, wanted in changes]
    tile_mpp = slide.tile_settings.get("tile_mpp")
    if slide.mpp is not None and isinstance(tile_mpp, int | float) and slide.mpp > _COARSER * tile_mpp:
        odd.append(f"scanned at {slide.mpp:g} µm/px and enlarged to {tile_mpp:g}")
    return tuple(odd)


def _differences(
    seen: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Collection[str] = ()
) -> list[tuple[str, Any, Any]]:
    """Name, value seen and value wanted of each setting in which they differ."""
    names = sorted((seen.keys() | wanted.keys()) - set(ignored))
    return [(name, seen.get(name), wanted.get(name)) for name in names if seen.get(name) != wanted.get(name)]


def _flat(settings: Mapping[str, Any], *, pooled: bool = True) -> dict[str, Any]:
    """Embed settings, those of the tiles that were pooled each by its name."""
    of_tiles = settings.get("of_tiles") if pooled else None
    own = {name: value for name, value in settings.items() if name != "of_tiles"}
    return own | {f"{_POOLED}{name}": value for name, value in (of_tiles or {}).items()}


def _described(slide: MadeWith) -> dict[str, Any]:
    tiles = {f"tiles' {name}": value for name, value in slide.tile_settings.items() if name not in PER_SLIDE}
    return {**_flat(slide.settings), "encoder": slide.encoder, "features a tile": slide.n_features, **tiles}
