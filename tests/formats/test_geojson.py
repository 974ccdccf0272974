import json

import numpy as np
import pytest

from wsisurv.formats.geojson import collection, tiles


def test_tiles_are_tile_objects_with_their_figures() -> None:
    coords = np.array([[0, 0], [448, 0]])
    features = tiles(coords, 447.962, {"tissue": np.array([0.5, np.nan], np.float32)})
    found = json.loads(collection(features))
    assert found["type"] == "FeatureCollection"
    first, second = found["features"]
    assert first["properties"] == {"objectType": "tile", "measurements": {"tissue": 0.5}}
    assert second["properties"]["measurements"] == {}
    ring = second["geometry"]["coordinates"][0]
    assert ring[2] == pytest.approx([895.96, 447.96])
    assert ring[0] == ring[-1]
