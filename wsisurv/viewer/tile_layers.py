"""What each tile of a case did or says, as JSON: layers for the map, one tile in words, GeoJSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import InputError
from wsisurv.formats import geojson
from wsisurv.prediction.contributions import CaseTiles, tile_shifts
from wsisurv.prediction.extremes import choose_ends
from wsisurv.prediction.heatmap_picture import Layer
from wsisurv.prediction.slide_views import LocatedSlide
from wsisurv.viewer.study import Study

Record = dict[str, Any]
_SHOWN = 24
_UNUSUAL, _DRIVERS = 12, 5
"""Features in which a tile is most unlike the case's others, and those of them that did most to the log hazard."""


def risk_layers(study: Study, case_id: str) -> Record:
    """All tiles of a case with what each did to its risk; raises as ``Study.explained``."""
    seen = study.explained(case_id)
    return {
        "log_hazard": seen.tiles.log_hazard,
        "members": seen.members,
        "exact": seen.tiles.exact,
        "unfamiliar": study.unfamiliar(case_id),
        "slides": [
            _slide(seen.places, seen.tiles, number, seen.layers(seen.rows(number))) for number in _all(seen.places)
        ],
    }


def finding_layer(study: Study, case_id: str, name: str) -> Record:
    """All tiles of a case with what each says of a finding, and which say most; raises as ``Study.finding``."""
    seen, places = study.finding(case_id, name), study.explained(case_id).places
    rows = [np.flatnonzero(seen.tiles.slide == number) for number in _all(places)]
    ends = choose_ends(seen.tiles, places, _SHOWN)
    return {
        "name": name,
        "probability": seen.probability,
        "prevalence": seen.prevalence,
        "warning": seen.warning,
        "slides": [_slide(places, seen.tiles, number, [seen.layer(rows[number])]) for number in _all(places)],
        "speak_for": [tile for tile in ends.highest if seen.tiles.contribution[tile] > 0],
        "speak_against": [tile for tile in ends.lowest if seen.tiles.contribution[tile] < 0],
    }


def _all(places: Sequence[LocatedSlide]) -> range:
    return range(len(places))


def _slide(places: Sequence[LocatedSlide], tiles: CaseTiles, number: int, layers: Sequence[Layer]) -> Record:
    """Tiles of one slide: numbers among the case's, corners in level-0 pixels of the slide, and layers."""
    rows = np.flatnonzero(tiles.slide == number)
    return {
        "id": places[number].features.slide_id,
        "first": int(rows[0]) if len(rows) else 0,
        "side": places[number].side,
        "x": tiles.coords[rows, 0].tolist(),
        "y": tiles.coords[rows, 1].tolist(),
        "layers": [
            {
                "title": layer.title,
                "values": _numbers(layer.values),
                "low": layer.low,
                "high": layer.high,
                "colours": layer.colours,
                "ends": layer.ends,
            }
            for layer in layers
        ],
    }


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Figures of tiles to six digits, as the GeoJSON has them; what is no number is None."""
    return [float(f"{value:.6g}") if value == value else None for value in values.tolist()]


def tile_panel(study: Study, case_id: str, number: int) -> Record:
    """What drove one tile, by named features, most effect first; raises as ``Study.tile_number``."""
    number, seen, explainer = study.tile_number(case_id, number), study.explained(case_id), study.explainer
    with study.running:
        shifts = tile_shifts(
            seen.ensemble, seen.tiles.values, number, explainer.feature_names, study.meanings, count=_UNUSUAL
        )
    return {
        "contribution": float(seen.tiles.contribution[number]),
        "attention": float(seen.tiles.attention[number]) * len(seen.tiles.values),
        "named": bool(explainer.feature_names),
        "encoder": explainer.scale.card.encoder,
        "unusual": len(shifts),
        "features": [vars(one) for one in sorted(shifts, key=lambda one: -abs(one.adds))[:_DRIVERS]],
    }


def outlines(study: Study, slide_id: str) -> str:
    """GeoJSON of a slide's tissue and of what was left out of it; an empty collection where it was not tiled here.

    Raises:
        InputError: the cohort has no such slide.
    """
    study.slide_file(slide_id)
    path = study.workspace.outlines(slide_id)
    return path.read_text(encoding="utf-8") if path.exists() else geojson.collection([])


def slide_geojson(study: Study, case_id: str, slide_id: str) -> str:
    """GeoJSON of a slide's tiles, as ``heatmap`` writes it; raises as ``Study.explained``."""
    seen = study.explained(case_id)
    for number, place in enumerate(seen.places):
        if place.features.slide_id == slide_id:
            bounds, _ = study.bounds(slide_id)
            return geojson.collection(seen.squares(number, bounds.x, bounds.y))
    raise InputError(f"{case_id}: no slide {slide_id!r}.")
