import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsisurv.errors import InputError, SlideError
from wsisurv.tiling.masks import find_mask, read_mask

SHAPE, SCALE = (100, 150), 16.0


def square(left: float, top: float, side: float) -> list[list[float]]:
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side], [left, top]]


def feature(kind: str, coordinates: object, name: str | None = None) -> dict[str, object]:
    properties: dict[str, object] = {"objectType": "annotation"}
    if name:
        properties["classification"] = {"name": name, "color": [255, 0, 0]}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("wrap", ["collection", "list", "feature"])
def test_polygons_lie_where_they_were_drawn_in_level_0_pixels(tmp_path: Path, wrap: str) -> None:
    one = feature("Polygon", [square(320, 160, 640)])
    value = {"collection": {"type": "FeatureCollection", "features": [one]}, "list": [one], "feature": one}[wrap]
    mask = read_mask(write(tmp_path / "S.geojson", value), SHAPE, SCALE)
    expected = np.zeros(SHAPE, bool)
    expected[10:50, 20:60] = True
    assert np.array_equal(mask, expected)


def test_holes_islands_and_ignored_areas(tmp_path: Path) -> None:
    value = {
        "type": "FeatureCollection",
        "features": [
            feature("MultiPolygon", [[square(160, 160, 640), square(320, 320, 160)], [square(1600, 160, 320)]]),
            feature("Polygon", [square(1600, 160, 160)], "Ignore*"),
            feature("LineString", [[0, 0], [9, 9]]),
        ],
    }
    mask = read_mask(write(tmp_path / "S.geojson", value), SHAPE, SCALE)
    assert mask[12, 12]
    assert not mask[22:28, 22:28].any()
    assert not mask[11:19, 101:109].any()
    assert mask[22:28, 112:118].all()
    assert mask.sum() == 40 * 40 - 10 * 10 + 20 * 20 - 10 * 10


def test_a_picture_of_any_size_is_a_mask(tmp_path: Path) -> None:
    drawn = np.zeros((50, 75), np.uint8)
    drawn[10:20, 30:40] = 1  # labels are small numbers
    Image.fromarray(drawn).save(tmp_path / "S.png")
    mask = read_mask(tmp_path / "S.png", SHAPE, SCALE)
    expected = np.zeros(SHAPE, bool)
    expected[20:40, 60:80] = True
    assert np.array_equal(mask, expected)
    Image.fromarray(drawn[:, :50]).save(tmp_path / "other.png")
    with pytest.raises(InputError, match="another slide"):
        read_mask(tmp_path / "other.png", SHAPE, SCALE)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "7", '{"type": "FeatureCollection"}', '[{"geometry": {"type": "Polygon"}}]']
)
def test_what_is_no_geojson_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "S.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=r"S\.geojson"):
        read_mask(path, SHAPE, SCALE)


def test_a_slide_without_a_mask_is_told_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"S-1\.geojson.*--tissue-masks"):
        find_mask(tmp_path, "S-1")
    (tmp_path / "S-1.geojson").touch()
    assert find_mask(tmp_path, "S-1").name == "S-1.geojson"
