"""One case, explained: its slides, what each of its tiles did, and the layers that show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.bags.checks import Expected
from wsisurv.formats import geojson
from wsisurv.models.ensemble import Ensemble
from wsisurv.prediction.contributions import CaseTiles, score_tiles
from wsisurv.prediction.explainer import Explainer
from wsisurv.prediction.heatmap_picture import DIVERGING, SEQUENTIAL, Layer, colours_of
from wsisurv.prediction.slide_views import LocatedSlide, locate_slide
from wsisurv.workspace.paths import Workspace

_ENDS = 0.99
"""The darkest colour stands for this share of the tiles' absolute values, so that one tile does not bleach the rest."""
RAISES, LOWERS = "raises risk", "lowers risk"
"""Classes of tiles in QuPath."""
DARKEST = "darkest: 99th percentile of the case's tiles"
"""What a legend says of it."""


@dataclass(frozen=True)
class CaseFiles:
    """Where a case's slides are known."""

    case_id: str  # the case
    slide_ids: tuple[str, ...]  # its slides
    workspace: Workspace  # holds their features and tiles


@dataclass(frozen=True)
class ExplainedCase:
    """What each tile of a case did to its risk."""

    case_id: str  # the case
    places: tuple[LocatedSlide, ...]  # its slides, in their order
    ensemble: Ensemble  # the members that explain it: those that did not see it in training
    out_of_fold: bool  # whether it was in the training
    tiles: CaseTiles  # all its tiles, slide after slide

    @cached_property
    def limit(self) -> float:
        """Contribution of the darkest colour, one for all slides of the case, so that they can be compared."""
        return strongest(self.tiles.contribution)

    @property
    def members(self) -> str:
        """Who explains the case, in words."""
        count = len(self.ensemble.members)
        return f"{count} member{'' if count == 1 else 's'}" + (
            " that did not see it in training" if self.out_of_fold else ""
        )

    def rows(self, slide: int) -> NDArray[np.int64]:
        """Numbers of the tiles of one slide, int64."""
        return np.flatnonzero(self.tiles.slide == slide)

    def layers(self, rows: NDArray[np.int64]) -> list[Layer]:
        """The maps of some tiles; colours are those of the whole case."""
        return case_layers(self.tiles, rows, self.limit)

    def squares(self, slide: int, left: int, top: int) -> list[geojson.Feature]:
        """The tiles of one slide as QuPath reads them, with all that is known of each.

        Args:
            slide: its number.
            left: of what was scanned, level-0 pixels: where QuPath's picture begins.
            top: the same.
        """
        tiles, rows = self.tiles, self.rows(slide)
        figures = {"contribution": tiles.contribution[rows], "attention": tiles.attention[rows]}
        figures |= {"teacher_relevance": tiles.relevance[rows]} if tiles.relevance is not None else {}
        figures |= {"kept": tiles.kept[rows]} if tiles.kept is not None else {}
        shown = qupath_colours(tiles.contribution[rows], self.limit, (LOWERS, RAISES))
        return geojson.tiles(tiles.coords[rows] - (left, top), self.places[slide].side, figures, shown)


def qupath_colours(values: NDArray[np.float64], limit: float, called: tuple[str, str]) -> geojson.TileColours:
    """How QuPath shows tiles: in the picture's colours, classed by their sign.

    Args:
        values: of the tiles, float64 (n_tiles,).
        limit: value of the darkest colour.
        called: classes of tiles below 0, and of those above.
    """
    below, above = called
    colours = colours_of(values, -limit, limit, DIVERGING)
    classes = [above if value > 0 else below for value in values.tolist()]
    return geojson.TileColours(colours, classes, {below: DIVERGING[1], above: DIVERGING[3]})


def explain_case(explainer: Explainer, case: CaseFiles, slides: Mapping[str, Path]) -> ExplainedCase:
    """Score every tile of a case.

    Args:
        explainer: the student.
        case: what to explain.
        slides: slide_id → file, before where it was when it was tiled.

    Raises:
        MissingArtifactError, FormatError, StaleError: features are missing, damaged or of other tiles.
        EncoderMismatchError: features of another encoder, tiles or width than the student's.
    """
    expected = Expected(explainer.scale.card, explainer.path)
    places = tuple(locate_slide(case.workspace, name, expected, slides.get(name)) for name in case.slide_ids)
    ensemble = explainer.members_for(case.case_id)
    tiles = score_tiles(ensemble, [place.features for place in places], explainer.relevance.get(case.case_id))
    return ExplainedCase(case.case_id, places, ensemble, case.case_id in explainer.fold_of, tiles)


def strongest(values: NDArray[np.float64]) -> float:
    """The absolute value of the darkest colour; above 0."""
    return (float(np.quantile(np.abs(values), _ENDS)) if len(values) else 0.0) or 1e-9


def case_layers(tiles: CaseTiles, rows: NDArray[np.int64], limit: float) -> list[Layer]:
    """The maps of some tiles of a case, by all that is known of them; as ``ExplainedCase.layers``."""
    n_tiles = len(tiles.values)
    ends = (f"−{limit:.2g} lowered", f"raised +{limit:.2g}")
    title = "contribution to the log hazard" if tiles.exact else "stand-in for the contribution to the log hazard"
    layers = [Layer(title, tiles.contribution[rows], -limit, limit, DIVERGING, ends, DARKEST)]
    shares = [("attention of the student", tiles.attention)]
    if tiles.relevance is not None:
        shares.append(("relevance to the teacher, who did not see it", tiles.relevance))
    for title, share in shares:
        times = share * n_tiles
        high = float(np.quantile(times, _ENDS)) if n_tiles else 0.0
        note, high = (DARKEST, high) if high > 1 else ("", 1.0)
        layers.append(Layer(title, times[rows], 0.0, high, SEQUENTIAL, ("0", f"{high:.2g} × an equal share"), note))
    if tiles.kept is not None:
        kept = ("left out", "kept")
        layers.append(Layer("kept by the student's filter", tiles.kept[rows], 0.0, 1.0, SEQUENTIAL, kept))
    return layers
