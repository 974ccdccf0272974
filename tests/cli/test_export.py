import json
import sys

import h5py
import numpy as np
import pytest

from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import read_tiles
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def place(run, tmp_path, make_slide):
    for name in "AB":
        make_slide(tmp_path / "slides" / f"{name}.tiff", (900, 900))
    workspace = Workspace(tmp_path / "w")
    assert run("tile", tmp_path / "slides", "-w", workspace.root).code == 0
    assert run("embed", "-w", workspace.root).code == 0
    return workspace


@pytest.mark.parametrize("layout", ["stamp", "clam", "trident"])
def test_features_go_out_and_come_back(run, place, tmp_path, layout):
    out = tmp_path / "out"
    assert run("export", out, "--format", layout, "--encoder", "histomics", "-w", place.root).code == 0
    folder = {"stamp": out, "clam": out / "h5_files", "trident": out / "features_histomics"}[layout]
    again = run("export", out, "--format", layout, "--encoder", "histomics", "-w", place.root)
    assert again.code == 1
    assert "--redo" in again.err
    back = Workspace(tmp_path / "back")
    words = ["import", folder, "--encoder", "back", "--slides", tmp_path / "slides", "-w", back.root]
    words += {"stamp": [], "clam": ["--tile-px", 224, "--tile-mpp", 0.5], "trident": ["--tile-mpp", 0.5]}[layout]
    ended = run(*words)
    assert ended.code == 0, ended.err
    for name in "AB":
        ours, theirs = (
            read_features(path)[0] for path in (place.features("histomics", name), back.features("back", name))
        )
        np.testing.assert_array_equal(ours.values, theirs.values)
        np.testing.assert_array_equal(ours.coords, theirs.coords)
        assert ours.mpp == pytest.approx(theirs.mpp)


def test_an_export_that_was_stopped_goes_on(run, place, tmp_path, monkeypatch):
    words = ("export", tmp_path / "out", "--format", "stamp", "--encoder", "histomics", "-w", place.root)
    with monkeypatch.context() as patched:
        patched.setattr("wsisurv.embedding.export.read_features", stopped_at("B"))
        assert run(*words).code == 130
    assert [path.name for path in (tmp_path / "out").glob("*.h5")] == ["A.h5"]
    assert run(*words).code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A.h5", "B.h5"]


def test_an_export_that_lacks_a_slide_goes_on_once_that_is_whole(run, place, tmp_path):
    words = ("export", tmp_path / "out", "--format", "stamp", "--encoder", "histomics", "-w", place.root)
    whole = place.features("histomics", "A").read_bytes()
    place.features("histomics", "A").write_bytes(whole[:-100])
    assert run(*words).code == 1
    place.features("histomics", "A").write_bytes(whole)
    assert run(*words).code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A.h5", "B.h5"]


def stopped_at(slide_id):
    def read(path):
        if path.stem == slide_id:
            raise KeyboardInterrupt
        return read_features(path)

    return read


@pytest.mark.parametrize("layout", ["clam", "trident"])
def test_tiles_go_out_and_come_back(run, place, tmp_path, layout):
    assert run("export", tmp_path / "out", "--format", layout, "-w", place.root).code == 0
    words = ["import", tmp_path / "out" / "patches", "-w", tmp_path / "back"]
    assert "--tile-mpp" in run(*words).err
    assert "--slides" in run(*words, "--tile-mpp", 0.5).err
    words += ["--tile-mpp", 0.5, "--slides", tmp_path / "slides", "--overlap-px", 0]
    ended = run(*words)
    assert ended.code == 0, ended.err
    tiles, _ = read_tiles(Workspace(tmp_path / "back").tiles("A"))
    np.testing.assert_array_equal(tiles.coords, read_tiles(place.tiles("A"))[0].coords)
    assert run("embed", "-w", tmp_path / "back").code == 0


def test_atlaspatch_gives_tiles_and_features(run, place, tmp_path):
    """coords of five columns, geometry at the root, features/ENCODER."""
    ours, _ = read_tiles(place.tiles("A"))
    folder = tmp_path / "patches"
    folder.mkdir()
    with h5py.File(folder / "A.h5", "w") as file:
        read = np.tile([224, 224, 0], (len(ours.coords), 1))
        file["coords"] = np.hstack([ours.coords, read]).astype(np.int32)
        file["features/uni_v2"] = np.ones((len(ours.coords), 8), np.float32)
        file.attrs.update({"patch_size": 224, "patch_size_level0": 224, "level0_magnification": 20})
        file.attrs.update({"target_magnification": 20, "overlap": 0, "level0_width": 900, "level0_height": 900})
    words = ["import", folder, "--tile-mpp", 0.5, "--slides", tmp_path / "slides", "-w", tmp_path / "back"]
    assert "--encoder" in run(*words).err
    assert run(*words, "--encoder", "uni2-h").code == 0
    assert read_features(Workspace(tmp_path / "back").features("uni2-h", "A"))[0].values.shape == (len(ours.coords), 8)
    with h5py.File(folder / "A.h5", "a") as file:
        del file["features"]
    assert run(*words).code == 0
    np.testing.assert_array_equal(read_tiles(Workspace(tmp_path / "back").tiles("A"))[0].coords, ours.coords)


def test_nothing_to_export_and_stamp_without_features(run, place, tmp_path):
    for words, message in (
        (["--format", "stamp"], "--encoder"),
        (["--format", "clam", "--encoder", "uni"], "there are histomics"),
    ):
        ended = run("export", tmp_path / "out", *words, "-w", place.root)
        assert ended.code == 1
        assert message in ended.err
    assert run("export", tmp_path / "out", "--format", "clam", "-w", tmp_path / "none").code == 1
    assert not (tmp_path / "out").exists()


def test_qupath_gets_every_tile(run, place, tmp_path):
    assert run("export", tmp_path / "out", "--format", "qupath", "-w", place.root).code == 0
    tiles, _ = read_tiles(place.tiles("A"))
    features = json.loads((tmp_path / "out" / "A.geojson").read_text())["features"]
    corners = [feature["geometry"]["coordinates"][0][0] for feature in features]
    np.testing.assert_array_equal(corners, tiles.coords)
    assert [feature["properties"]["measurements"]["tissue"] for feature in features] == pytest.approx(
        tiles.tissue.tolist(), abs=1e-5
    )
    assert run("export", tmp_path / "x", "--format", "qupath", "--encoder", "histomics", "-w", place.root).code == 1


def test_imported_features_keep_their_numbers_unless_asked(run, place, tmp_path):
    """float32 as it is, beyond the range of float16, too; float16 where that is what the files have."""
    n_tiles, folder = len(read_tiles(place.tiles("A"))[0].coords), tmp_path / "big"
    folder.mkdir()
    words = ["import", folder, "--slides", tmp_path / "slides", "--tile-px", 224, "--tile-mpp", 0.5, "-w", place.root]

    def imported(values, encoder, *more):
        with h5py.File(folder / "A.h5", "w") as file:
            file["coords"], file["features"] = read_tiles(place.tiles("A"))[0].coords, values
        ended = run(*words, "--encoder", encoder, *more)
        return ended, read_features(place.features(encoder, "A"))[0] if ended.code == 0 else None

    values = np.full((n_tiles, 4), 7e4, np.float32) + np.float32(1 / 3)
    seen = imported(values, "whole")[1]
    assert seen.values.dtype == np.float32
    np.testing.assert_array_equal(seen.values, values)
    assert (seen.making.tool, seen.tile_settings) == ("CLAM", {"tool": "CLAM", "tile_px": 224, "tile_mpp": 0.5})
    refused, _ = imported(values, "half", "--dtype", "float16")
    assert refused.code == 1
    assert "not finite in float16" in " ".join(refused.err.split())
    assert imported((values / 1e4).astype(np.float16), "small")[1].values.dtype == np.float16
    assert imported((values / 1e4).astype(np.float16), "large", "--dtype", "float32")[1].values.dtype == np.float32
    for name in ("../up", "a/b", "..", "a\x1bb", " "):
        ended = run(*words, "--encoder", name)
        assert ended.code != 0
        assert "name of an encoder" in " ".join(ended.err.split())


def test_a_store_of_spatialdata_wants_its_package(run, place, tmp_path, monkeypatch):
    """With it the store is read back by spatialdata and LazySlide in `make interop`."""
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    monkeypatch.setitem(sys.modules, "anndata", None)
    words = ("export", tmp_path / "x", "--format", "spatialdata", "-w", place.root)
    assert "no files of tiles alone" in run(*words).err
    ended = run(*words, "--encoder", "histomics")
    assert ended.code == 1
    assert "pip install 'wsisurv[spatialdata]'" in " ".join(ended.err.split())
    assert not [*(tmp_path / "x").glob("*.zarr")]


def test_anndata_is_given_every_tile_of_a_slide(run, place, tmp_path):
    assert run("export", tmp_path / "x", "--format", "anndata", "-w", place.root).code == 1, "no tiles alone"
    assert run("export", tmp_path / "x", "--format", "anndata", "--encoder", "histomics", "-w", place.root).code == 0
    features, _ = read_features(place.features("histomics", "A"))
    with h5py.File(tmp_path / "x" / "A.h5ad") as file:
        assert np.array_equal(file["X"], features.values.astype(np.float32))
        assert np.array_equal(file["obs/x"], features.coords[:, 0])
        assert {"tissue", "slide_id"} <= set(file["obs"])
