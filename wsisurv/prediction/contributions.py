"""What each tile did to a case's risk, exactly, and which features made the extreme tiles so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.features import Features
from wsisurv.formats.heatmaps import FeatureShift
from wsisurv.models.ensemble import Ensemble
from wsisurv.models.fast_ensemble import TileScores

TENTH = 0.1
"""Share of a case's tiles that count as its highest, and as its lowest."""


@dataclass(frozen=True)
class CaseTiles:
    """All tiles of a case, its slides one after the other."""

    slide: NDArray[np.int64]  # int64 (n_tiles,), number of each tile's slide
    coords: NDArray[np.int64]  # int64 (n_tiles, 2), top left in level-0 pixels of its slide
    values: NDArray[np.float16]  # float16 (n_tiles, n_features)
    attention: NDArray[np.float64]  # float64 (n_tiles,), share of the attention; sums to 1
    contribution: NDArray[np.float64]  # float64 (n_tiles,), exact share of the log hazard; sums to the case's
    # float64 (n_tiles,), the teacher's share of attention, out of fold; None where there is none
    relevance: NDArray[np.float64] | None = None
    # float64 (n_tiles,), 0 to 1, what the student's filter kept of each tile; None where it has none
    kept: NDArray[np.float64] | None = None
    # whether a contribution is the tile's own; otherwise the model sees tiles together, and it is what its last layers
    # took from the tile
    exact: bool = True

    @property
    def log_hazard(self) -> float | None:
        """Log hazard of the case; None without a tile."""
        return float(self.contribution.sum()) if len(self.contribution) else None


def score_tiles(
    ensemble: Ensemble, slides: Sequence[Features], relevance: NDArray[np.floating] | None = None
) -> CaseTiles:
    """Attention and contribution of every tile of a case.

    Args:
        ensemble: the members that did not see the case.
        slides: features of the case's slides; some may have no tile.
        relevance: the teacher's, over all tiles; left out where it is of another number of tiles.

    Raises:
        EncoderMismatchError: features of another width than the ensemble was trained on.
        FormatError: nobody knows where the tiles of a slide lie.
    """
    filled = [slide.values for slide in slides if len(slide.values)]
    values = np.concatenate(filled) if filled else np.zeros((0, ensemble.n_features), np.float16)
    number = np.repeat(np.arange(len(slides)), [len(slide.values) for slide in slides])
    coords = np.concatenate([np.zeros((0, 2), np.int64), *(slide.place.coords for slide in slides)])
    scores = ensemble.tile_scores(values) if len(values) else TileScores(np.zeros(0), np.zeros(0))
    fits = None if relevance is None or len(relevance) != len(values) else relevance.astype(np.float64)
    return CaseTiles(number, coords, values, scores.attention, scores.contribution, fits, scores.kept, scores.exact)


def extreme_tiles(contribution: NDArray[np.float64], *, highest: bool, share: float = TENTH) -> NDArray[np.int64]:
    """Numbers of this share of the tiles (at least one), of highest or lowest contribution, most extreme first."""
    order = np.argsort(-contribution if highest else contribution, kind="stable")
    return order[: max(1, round(share * len(contribution)))] if len(contribution) else order


def spread_out(
    order: NDArray[np.int64], slide: NDArray[np.int64], coords: NDArray[np.int64], side: NDArray[np.float64], count: int
) -> list[int]:
    """The first tiles of ``order`` of which none lies over another, ``count`` at most.

    Args:
        order: numbers of tiles.
        slide: (n_tiles,), number of each tile's slide.
        coords: (n_tiles, 2), level-0 pixels.
        side: (n_tiles,), side of each tile, level-0 pixels.
        count: how many.
    """
    chosen: list[int] = []
    for tile in order.tolist():
        apart = np.abs(coords[chosen] - coords[tile]).max(axis=1) if chosen else np.zeros(0)
        if not ((slide[chosen] == slide[tile]) & (apart < side[tile] - 1)).any():
            chosen.append(tile)
        if len(chosen) == count:
            break
    return chosen


def feature_shifts(
    ensemble: Ensemble,
    values: NDArray[np.floating],
    rows: NDArray[np.int64],
    names: Sequence[str],
    meanings: Mapping[str, tuple[str, str]],
    count: int = 8,
) -> tuple[FeatureShift, ...]:
    """Features in which some tiles of a case differ most from its other tiles, and what that does to the risk.

    The difference is in standard deviations, the root of the mean of both groups' variances. What it does is
    found by giving these tiles the others' mean in that one feature and scoring the case again, attention and all.

    Args:
        ensemble: the members that did not see the case.
        values: (n_tiles, n_features), of the case.
        rows: numbers of the tiles asked about.
        names: of the features; none gives no answer.
        meanings: unit and definition of features, by name.
        count: how many features.

    Source: Austin PC. Statistics in Medicine 2009;28:3083-3107, equation 1 (standardised difference).
    """
    others = np.ones(len(values), dtype=bool)
    others[rows] = False
    if not names or others.sum() < 2 or len(rows) < 2:
        return ()
    numbers = values.astype(np.float64)
    variance = (numbers[rows].var(axis=0, ddof=1) + numbers[others].var(axis=0, ddof=1)) / 2
    return _shifts(ensemble, numbers, rows, others, np.sqrt(variance), names, meanings, count)


def tile_shifts(
    ensemble: Ensemble,
    values: NDArray[np.floating],
    tile: int,
    names: Sequence[str],
    meanings: Mapping[str, tuple[str, str]],
    count: int = 5,
) -> tuple[FeatureShift, ...]:
    """The same of one tile: how it differs from the case's others, in standard deviations of these."""
    others = np.arange(len(values)) != tile
    if not names or others.sum() < 2:
        return ()
    numbers = values.astype(np.float64)
    return _shifts(
        ensemble, numbers, np.array([tile]), others, numbers[others].std(axis=0, ddof=1), names, meanings, count
    )


def _shifts(
    ensemble: Ensemble,
    numbers: NDArray[np.float64],
    rows: NDArray[np.int64],
    others: NDArray[np.bool_],
    sd: NDArray[np.float64],
    names: Sequence[str],
    meanings: Mapping[str, tuple[str, str]],
    count: int,
) -> tuple[FeatureShift, ...]:
    mean, rest = numbers[rows].mean(axis=0), numbers[others].mean(axis=0)
    difference = np.divide(mean - rest, sd, out=np.zeros_like(sd), where=sd > 1e-9)
    asked = [column for column in np.argsort(-np.abs(difference), kind="stable")[:count] if difference[column] != 0]
    case = numbers.astype(np.float32)
    before, after = ensemble.log_hazard(case), []
    for column in asked:
        own = case[rows, column]
        case[rows, column] = rest[column]
        after.append(ensemble.log_hazard(case))
        case[rows, column] = own
    return tuple(
        FeatureShift(
            name=names[column],
            unit=meanings.get(names[column], ("", ""))[0],
            definition=meanings.get(names[column], ("", ""))[1],
            mean=float(mean[column]),
            others=float(rest[column]),
            difference=float(difference[column]),
            adds=before - log_hazard,
        )
        for column, log_hazard in zip(asked, after, strict=True)
    )
