"""GeoJSON as QuPath reads and writes it: a FeatureCollection of annotations and tiles.

Coordinates are pixels of level 0, counted from the corner of the scanned part (``openslide.bounds-x``, ``-y``) where a
scanner states one, since that is the image that QuPath shows.

Source: RFC 7946 for the geometry; properties as QuPath writes them.
"""

import json
from collections.abc import Mapping, Sequence
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


def tiles(
    coords: NDArray[np.int64], side: float, measurements: Mapping[str, NDArray[np.floating[Any]]]
) -> list[Feature]:
    """Tile objects.

    Args:
        coords: (n_tiles, 2), top left.
        side: of a tile.
        measurements: a figure a tile by name, written to six digits; NaN is left out.
    """
    columns = {name: values.astype(np.float64).tolist() for name, values in measurements.items()}
    features = []
    for row, (x, y) in enumerate(coords.tolist()):
        right, bottom = round(x + side, 2), round(y + side, 2)
        square = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
        figures = {name: float(f"{values[row]:.6g}") for name, values in columns.items() if values[row] == values[row]}
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [square]},
                "properties": {"objectType": "tile", "measurements": figures},
            }
        )
    return features


def collection(features: Sequence[Feature]) -> str:
    """The text of a file."""
    return json.dumps({"type": "FeatureCollection", "features": features}, separators=(",", ":"), allow_nan=False)
