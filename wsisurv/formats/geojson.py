"""GeoJSON as QuPath reads and writes it: a FeatureCollection of annotations and tiles.

Coordinates are pixels of level 0, counted from the corner of the scanned part (``openslide.bounds-x``, ``-y``) where a
scanner states one, since that is the image that QuPath shows.

Source: RFC 7946 for the geometry; properties as QuPath writes them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feature = dict[str, Any]


def annotation(name: str, number: int, colour: tuple[int, int, int], rings: Sequence[NDArray[np.int64]]) -> Feature:
    """An area of a class.

    Args:
        name: of the class.
        number: of the area among those of its class.
        colour: red, green, blue, 0 to 255.
        rings: (n, 2) each, x and y of the corners, the first not repeated: the outer ring, then holes.
    """
    closed = [np.concatenate([ring, ring[:1]]).tolist() for ring in rings]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": closed},
        "properties": {
            "objectType": "annotation",
            "name": f"{name} {number}",
            "classification": {"name": name, "color": colour},
        },
    }


@dataclass(frozen=True)
class TileColours:
    """How QuPath shows tiles as they are loaded."""

    colours: NDArray[np.floating[Any]]  # (n_tiles, 3), red, green, blue, 0 to 255, of each tile
    classes: Sequence[str]  # name of each tile's class
    of_class: Mapping[str, tuple[int, int, int]]  # and the colour of each class


def tiles(
    coords: NDArray[np.int64],
    side: float,
    measurements: Mapping[str, NDArray[np.floating[Any]]],
    shown: TileColours | None = None,
) -> list[Feature]:
    """Tile objects.

    Args:
        coords: (n_tiles, 2), top left.
        side: of a tile.
        measurements: a figure a tile by name, written to six digits; NaN is left out.
        shown: colours and classes of the tiles; None for QuPath's own.
    """
    columns = {name: values.astype(np.float64).tolist() for name, values in measurements.items()}
    features = []
    for row, (x, y) in enumerate(coords.tolist()):
        right, bottom = round(x + side, 2), round(y + side, 2)
        square = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
        figures = {name: float(f"{values[row]:.6g}") for name, values in columns.items() if values[row] == values[row]}
        properties: Feature = {"objectType": "tile", "measurements": figures}
        if shown is not None:
            name = shown.classes[row]
            properties["classification"] = {"name": name, "color": shown.of_class[name]}
            properties["color"] = np.rint(shown.colours[row]).astype(int).tolist()
        geometry = {"type": "Polygon", "coordinates": [square]}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return features


def collection(features: Sequence[Feature]) -> str:
    """The text of a file."""
    return json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":"), allow_nan=False)
