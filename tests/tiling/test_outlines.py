import json
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from wsisurv.tiling.outlines import Ring, render_outlines, trace, write_outlines
from wsisurv.tiling.tissue import Tissue


def filled(rings: list[Ring], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels within an odd number of rings, by the upright edges to their left."""
    edges = np.zeros((shape[0], shape[1] + 1), np.int64)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            assert (x0 == x1) != (y0 == y1)
            if x0 == x1:
                edges[min(y0, y1) : max(y0, y1), x0] += 1
    return np.cumsum(edges, axis=1)[:, :-1] % 2 == 1


def area(ring: Ring) -> float:
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
@settings(max_examples=300, deadline=None)
def test_each_piece_is_one_ring_with_its_holes_and_fills_to_itself(mask: NDArray[np.bool_]) -> None:
    labels, count = ndimage.label(mask)
    pieces = trace(mask)
    assert len(pieces) == count
    for number, rings in enumerate(pieces, start=1):
        np.testing.assert_array_equal(filled(rings, mask.shape), labels == number)
        assert area(rings[0]) > 0
        assert all(area(hole) < 0 for hole in rings[1:])


def test_a_ring_has_no_corner_too_many() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:5, 2:7] = True
    mask[2, 3] = False
    ((outer, hole),) = trace(mask)
    assert sorted(map(tuple, outer.tolist())) == [(2, 1), (2, 5), (7, 1), (7, 5)]
    assert len(hole) == 4


def test_outlines_are_annotations_in_level0_pixels(tmp_path: Path) -> None:
    mask = np.zeros((10, 10), bool)
    mask[1:3, 1:4] = mask[6:9, 6:9] = True
    ink = np.zeros_like(mask)
    ink[5, 0] = True
    write_outlines(tmp_path / "S.geojson", Tissue(mask, ink, artefacts={"folds": np.zeros_like(mask)}), 31.66)
    found = json.loads((tmp_path / "S.geojson").read_text())
    assert found["type"] == "FeatureCollection"
    names = [feature["properties"]["classification"]["name"] for feature in found["features"]]
    assert names == ["Tissue", "Tissue", "pen marks"]
    for feature in found["features"]:
        assert (feature["type"], feature["properties"]["objectType"]) == ("Feature", "annotation")
        assert feature["geometry"]["type"] == "Polygon"
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert len(ring) >= 5
    corners = found["features"][0]["geometry"]["coordinates"][0]
    assert {tuple(corner) for corner in corners} == {(32, 32), (127, 32), (127, 95), (32, 95)}


def test_blank_glass_is_an_empty_collection() -> None:
    assert json.loads(render_outlines({"Tissue": np.zeros((3, 4), bool)}, 8))["features"] == []


def test_a_large_mask_is_outlined_coarser_in_the_same_place(tmp_path: Path) -> None:
    mask = np.zeros((3000, 20), bool)
    mask[900:1800, 3:9] = True
    write_outlines(tmp_path / "S.geojson", Tissue(mask, np.zeros_like(mask)), 32.0)
    (feature,) = json.loads((tmp_path / "S.geojson").read_text())["features"]
    corners = {tuple(corner) for corner in feature["geometry"]["coordinates"][0]}
    assert corners == {(96, 28800), (288, 28800), (288, 57600), (96, 57600)}
