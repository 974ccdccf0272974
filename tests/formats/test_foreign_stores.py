"""Stores built key by key as LazySlide 0.13 writes them with SpatialData 0.7, in both versions of zarr."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsisurv.errors import FormatError, InputError
from wsisurv.formats.features import read_features
from wsisurv.formats.foreign import outline, read_foreign_features, read_foreign_tiles
from wsisurv.formats.foreign_folders import find_files
from wsisurv.formats.foreign_stores import slide_hash
from wsisurv.formats.tiles import read_tiles
from wsisurv.pipeline.import_folder import import_folder
from wsisurv.slides.facts import read_facts
from wsisurv.workspace.paths import Workspace

zarr = pytest.importorskip("zarr")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

CORNERS = np.array([[563, 2369], [563, 2625], [819, 100], [1075, 100]])
VALUES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
SPEC = {"height": 256, "width": 256, "stride_height": 240, "stride_width": 240, "mpp": 0.5, "base_downsample": 1.002}


def attributes(folder: Path, version: int, said: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if version == 3:
        (folder / "zarr.json").write_text(json.dumps({"attributes": said, "zarr_format": 3, "node_type": "group"}))
        return
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text(json.dumps(said))


def array(path: Path, values: np.ndarray, version: int) -> None:
    made = zarr.create_array(store=str(path), shape=values.shape, dtype=values.dtype, zarr_format=version)
    made[...] = values


def shapes(folder: Path, corners: np.ndarray, side: int = 256, ids: Any = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    square = np.array([[side, 0], [side, side], [0, side], [0, 0], [side, 0]])
    head = b"\x01" + np.array([3, 1, 5], "<u4").tobytes()
    geometry = [head + (corner + square).astype("<f8").tobytes() for corner in corners]
    ids = list(range(len(corners))) if ids is None else ids
    columns = {"tile_id": ids, "tissue_id": [0] * len(corners), "geometry": arrow.array(geometry, arrow.binary())}
    parquet.write_table(arrow.table(columns), folder / "shapes.parquet")


def store(path: Path, version: int = 3, order: tuple[int, ...] = (2, 0, 3, 1), tiles: str = "tiles") -> Path:
    raw = json.dumps({"openslide.quickhash-1": "6335", "openslide.vendor": "aperio"})
    slide = {"shape": [2967, 2220], "mpp": 0.499, "raw": raw}
    said = {"slide_properties": slide, "tile_spec": {tiles: SPEC}}
    attributes(path, version, {**said, "spatialdata_attrs": {"spatialdata_software_version": "0.7.3"}})
    shapes(path / "shapes" / tiles, CORNERS)
    shapes(path / "shapes" / "tissues", CORNERS[:1], 900)
    add_table(path, f"resnet18_{tiles}", tiles, version, order)
    return path


def add_table(path: Path, name: str, tiles: str, version: int = 3, order: tuple[int, ...] = (2, 0, 3, 1)) -> None:
    table = path / "tables" / name
    attributes(table, version, {"region": tiles, "region_key": "library_id", "instance_key": "tile_id"})
    array(table / "X", VALUES, version)
    array(table / "obs" / "tile_id", np.array(order), version)


@pytest.mark.parametrize("version", [2, 3])
def test_tiles_and_features_of_a_store(tmp_path: Path, version: int) -> None:
    path = store(tmp_path / "job" / "S-1.zarr", version)
    for place in (tmp_path, path, path / ("zarr.json" if version == 3 else ".zattrs")):
        assert find_files(place, features=False) == find_files(place, features=True) == [path]
    tiles = read_foreign_tiles(path)
    assert (tiles.layout, tiles.version, tiles.slide_id) == ("LazySlide", "(spatialdata 0.7.3)", "S-1")
    assert (tiles.tile_px, tiles.tile_level0_px, tiles.overlap_px) == (256, 256, 16)
    assert (tiles.tile_mpp, tiles.mpp, tiles.level0_width, tiles.level0_height) == (0.5, 0.499, 2220, 2967)
    np.testing.assert_array_equal(tiles.coords, CORNERS)
    features = read_foreign_features(path)
    assert (features.encoder, features.level, features.tile_px, features.mpp) == ("resnet18", "tile", 256, 0.499)
    np.testing.assert_array_equal(features.values, VALUES)
    np.testing.assert_array_equal(features.coords, CORNERS[[2, 0, 3, 1]])  # by tile_id, whatever the order
    assert outline(path) == features.outline
    assert slide_hash(path) == "6335"


def test_of_several_tables_and_tiles_one_is_named(tmp_path: Path) -> None:
    path = store(tmp_path / "S-1.zarr")
    add_table(path, "uni2_tiles", "tiles")
    for wanted in ("uni2", "uni2_tiles"):
        assert read_foreign_features(path, wanted).encoder == "uni2"
    assert read_foreign_features(path, preferred="resnet18").encoder == "resnet18"
    with pytest.raises(FormatError, match="features resnet18_tiles, uni2_tiles. Name one with --dataset"):
        read_foreign_features(path)
    other = store(tmp_path / "S-2.zarr")
    shapes(other / "shapes" / "coarse", CORNERS[:2], 512)
    said = json.loads((other / "zarr.json").read_text())
    said["attributes"]["tile_spec"]["coarse"] = {**SPEC, "mpp": 1.0}
    (other / "zarr.json").write_text(json.dumps(said))
    with pytest.raises(FormatError, match="tiles coarse, tiles. Name one with --dataset"):
        read_foreign_tiles(other)
    assert read_foreign_tiles(other, "coarse").tile_level0_px == 512
    with pytest.raises(FormatError, match="--dataset"):
        read_foreign_tiles(other, "../tiles")


def test_stores_of_two_jobs_below_one_root_are_refused_by_both(tmp_path: Path) -> None:
    for name in "ab":
        store(tmp_path / name / "S-1.zarr")
    with pytest.raises(InputError, match=r"features in .*a, .*b\. Name the folder"):
        find_files(tmp_path, features=True)


def spoil_codec(path: Path) -> None:
    file = path / "tables" / "resnet18_tiles" / "X" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "dtype": "|O", "filters": [{"id": "pickle"}]}))


def spoil_shape(path: Path) -> None:
    file = path / "tables" / "resnet18_tiles" / "X" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "shape": [4, 10**10]}))


def spoil_ids(path: Path) -> None:
    shapes(path / "shapes" / "tiles", CORNERS, ids=[0, 1, 2, 7])


def spoil_shapes(path: Path) -> None:
    (path / "shapes" / "tiles" / "shapes.parquet").write_bytes(b"PAR1 no more PAR1")


def spoil_square(path: Path) -> None:
    columns = {"tile_id": [0], "geometry": arrow.array([b"\x01" + bytes(92)], arrow.binary())}
    parquet.write_table(arrow.table(columns), path / "shapes" / "tiles" / "shapes.parquet")


def spoil_spec(path: Path) -> None:
    (path / ".zattrs").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_codec, "packed by a filter, which is not read"),
        (spoil_shape, "bytes in memory"),
        (spoil_ids, "its rows are not the tiles"),
        (spoil_shapes, "shapes.parquet: no tiles"),
        (spoil_square, "no squares of one size"),
        (spoil_spec, "without tile_spec"),
    ],
)
def test_what_can_be_no_store_of_tiles(tmp_path: Path, spoil: Any, words: str) -> None:
    path = store(tmp_path / "S-1.zarr", 2)
    spoil(path)
    with pytest.raises(FormatError, match=words):
        read_foreign_features(path)


def test_a_packed_array_of_version_three_by_an_unknown_codec(tmp_path: Path) -> None:
    path = store(tmp_path / "S-1.zarr")
    file = path / "tables" / "resnet18_tiles" / "X" / "zarr.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps({**said, "codecs": [{"name": "numcodecs.pickle"}]}))
    with pytest.raises(FormatError, match="packed by numcodecs.pickle"):
        read_foreign_features(path)


def test_a_store_is_of_the_slide_whose_hash_it_keeps(make_slide: Any, tmp_path: Path) -> None:
    """LazySlide names stores as it is told; tiles and features go to the slide that they are of."""
    slide = make_slide(tmp_path / "slides" / "A.tiff", (2220, 2967), mpp=0.499, levels=1)
    make_slide(tmp_path / "slides" / "B.tiff", (2220, 2967), mpp=0.499, levels=1, seed=1)
    path = store(tmp_path / "theirs" / "lazy.zarr")
    workspace, slides = Workspace(tmp_path / "w"), [tmp_path / "slides"]
    with pytest.raises(InputError, match="no slide is given for 'lazy'"):
        import_folder(workspace, path.parent, slides=slides)
    said = json.loads((path / "zarr.json").read_text())
    hashed = {"openslide.quickhash-1": read_facts(slide).properties["openslide.quickhash-1"]}
    said["attributes"]["slide_properties"]["raw"] = json.dumps(hashed)
    (path / "zarr.json").write_text(json.dumps(said))
    for encoder in (None, "resnet18"):
        assert import_folder(workspace, path.parent, encoder, slides=slides).done == ["A"]
    assert workspace.tiled_slides() == workspace.embedded_slides("resnet18") == ["A"]
    tiles, features = read_tiles(workspace.tiles("A"))[0], read_features(workspace.features("resnet18", "A"))[0]
    np.testing.assert_array_equal(tiles.coords, CORNERS)
    np.testing.assert_array_equal(features.values, VALUES)
    assert features.values.dtype == np.float32
    assert (features.mpp, features.tile_settings["tile_mpp"]) == (pytest.approx(0.499), 0.5)
    assert features.making.tool == tiles.tool == "LazySlide (spatialdata 0.7.3)"
    assert features.making.tool_settings["tile_spec"] == tiles.tool_settings["tile_spec"] == SPEC
