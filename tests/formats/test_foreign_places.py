"""Tiles of hs2p, and squares in GeoJSON as QuPath writes them."""

import json
from pathlib import Path

import numpy as np
import pytest

from wsisurv.errors import FormatError, InputError, MissingArtifactError, NoSlidesError
from wsisurv.formats import geojson
from wsisurv.formats.foreign import read_foreign_tiles
from wsisurv.formats.foreign_folders import find_files

COORDS = np.array([[0, 64], [73, 846], [73, 1102]])


def hs2p(folder: Path, name: str = "S-1", **changes: object) -> Path:
    """Keys and types as version 6.1.0 wrote them; others left out."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.coordinates.npz"
    shares = np.array([0.25, 0.5, 1], np.float32)
    np.savez(path, tile_index=np.arange(3, dtype=np.int32), x=COORDS[:, 0], y=COORDS[:, 1], tissue_fractions=shares)
    tiling = {"n_tiles": 3, "overlap": 0.25, "requested_spacing_um": 0.5, "requested_tile_size_px": 224}
    tiling |= {"tile_size_lv0": 448, "step_px_lv0": 336, **changes}
    said = {"tiling": tiling, "slide": {"base_spacing_um": 0.25, "dimensions": [2220, 2967]}}
    said |= {"segmentation": {"sthresh": 8}, "provenance": {"image_path": "/somewhere/S-1.svs"}}
    path.with_suffix(".meta.json").write_text(json.dumps(said))
    return path


def test_hs2ps_tiles_say_all_that_is_asked_for(tmp_path: Path) -> None:
    tiles = read_foreign_tiles(hs2p(tmp_path))
    assert (tiles.layout, tiles.slide_id, tiles.tile_px, tiles.tile_level0_px) == ("hs2p", "S-1", 224, 448)
    assert (tiles.overlap_px, tiles.tile_mpp, tiles.mpp) == (56, 0.5, 0.25)
    assert (tiles.level0_width, tiles.level0_height) == (2220, 2967)
    np.testing.assert_array_equal(tiles.coords, COORDS)
    assert tiles.tissue is not None
    assert tiles.tissue.tolist() == [0.25, 0.5, 1]
    assert set(tiles.settings) == {"tiling", "segmentation"}, "what decided the tiles, and no path of a machine"


@pytest.mark.parametrize("changes", [{"n_tiles": 4}, {"overlap": 1.5}, {"tile_size_lv0": -1}, {"n_tiles": "3"}])
def test_notes_of_hs2p_that_are_not_of_its_tiles(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(FormatError, match=r"S-1\.coordinates\."):
        read_foreign_tiles(hs2p(tmp_path, **changes))


def test_places_without_their_notes_and_notes_without_their_places(tmp_path: Path) -> None:
    path = hs2p(tmp_path / "job" / "tiles")
    notes = path.with_suffix(".meta.json")
    for place in (tmp_path / "job", path.parent, path, notes):
        assert find_files(place, features=False) == [path]
    with pytest.raises(NoSlidesError, match="tiles, not features"):
        find_files(path, features=True)
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(NoSlidesError, match=r"hs2p.*without the \.npz"):
        find_files(notes, features=False)
    path.write_bytes(content[:-40])
    with pytest.raises(FormatError, match=r"S-1\.coordinates\.npz"):
        read_foreign_tiles(path)
    path.write_bytes(content)
    notes.unlink()
    with pytest.raises(MissingArtifactError, match=r"S-1\.coordinates\.meta\.json"):
        read_foreign_tiles(path)


def test_a_root_with_two_settings_is_refused_by_both(tmp_path: Path) -> None:
    hs2p(tmp_path / "a" / "tiles")
    hs2p(tmp_path / "b" / "tiles")
    with pytest.raises(InputError, match=r"tiles in .*a.tiles, .*b.tiles\. Name the folder"):
        find_files(tmp_path, features=False)


def squares(path: Path, objects: list[dict[str, object]], bare: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(objects) if bare else geojson.collection(objects)
    path.write_text(text)
    return path


@pytest.mark.parametrize("bare", [False, True])
def test_squares_are_tiles(tmp_path: Path, bare: bool) -> None:
    made = geojson.tiles(COORDS, 443.28, {})
    made.append(geojson.annotation("tissue", 1, (0, 0, 0), [np.array([[0, 0], [900, 0], [40, 700]])]))
    path = squares(tmp_path / "theirs" / "S-1.geojson", made, bare)
    assert find_files(tmp_path, features=False) == [path]
    tiles = read_foreign_tiles(path)
    assert (tiles.layout, tiles.slide_id, tiles.tile_px, tiles.tile_mpp) == ("QuPath", "S-1", None, None)
    assert tiles.tile_level0_px == pytest.approx(443.28)
    np.testing.assert_array_equal(tiles.coords, COORDS)


def test_annotations_that_are_squares_of_one_size_are_tiles_too(tmp_path: Path) -> None:
    made = [
        {"type": "Feature", "geometry": one["geometry"], "properties": {"objectType": "annotation"}}
        for one in geojson.tiles(COORDS, 512, {})
    ]
    assert read_foreign_tiles(squares(tmp_path / "S-1.geojson", made)).tile_level0_px == 512


def polygon(*points: tuple[float, float]) -> dict[str, object]:
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*points, points[0]]]}, "properties": {}}


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (polygon((0, 0), (500, 0), (500, 512), (0, 512)), "1 of 4 objects are no squares"),
        (polygon((0, 0), (512, 0), (512, 512), (256, 256), (0, 512)), "1 of 4 objects are no squares"),
        (polygon((0, 0), (float("nan"), 0), (512, 512), (0, 512)), "a corner"),
        (polygon((0, 0), (10**400, 0), (512, 512), (0, 512)), "no squares"),
        ({"type": "Feature", "geometry": None}, "1 of 4 objects are no squares"),
    ],
)
def test_what_is_no_square_is_counted_and_refused(tmp_path: Path, odd: dict[str, object], words: str) -> None:
    made = [{**one, "properties": {}} for one in geojson.tiles(COORDS, 512, {})]
    path = squares(tmp_path / "S-1.geojson", [*made, odd], bare=True)
    with pytest.raises(FormatError, match=rf"S-1\.geojson: .*{words}"):
        read_foreign_tiles(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"features": 3}', '{"features": []}', "[" * 100_000])
def test_what_is_no_geojson(tmp_path: Path, text: str) -> None:
    (tmp_path / "S-1.geojson").write_text(text)
    with pytest.raises(FormatError, match=r"S-1\.geojson"):
        read_foreign_tiles(tmp_path / "S-1.geojson")
