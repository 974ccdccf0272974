"""Rows read straight from the disk are those that HDF5 gives."""

import h5py
import numpy as np
import pytest

from wsisurv.bags.feature_rows import describe_features, read_rows
from wsisurv.errors import ArtifactError, FormatError
from wsisurv.formats.features import FORMAT, Features, write_features
from wsisurv.formats.header import create_bare, make_header, seal
from wsisurv.units import SlideId


def written(path, n_tiles=700, n_features=1536, seed=0, dtype=np.float16):
    values = np.random.default_rng(seed).normal(0, 1, (n_tiles, n_features)).astype(dtype)
    coords = np.zeros((n_tiles, 2), np.int64)
    features = Features(SlideId("s"), values, coords, "some", (), {"tile_px": 224}, 0.5)
    write_features(path, features, make_header(FORMAT, {"dtype": np.dtype(dtype).name}, {}))
    return values


def rewritten(path, **how):
    """The same file with its features stored another way."""
    with h5py.File(path) as old, create_bare(path.parent / "new" / path.name) as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        old.copy("coords", new)
        new.create_dataset("features", data=old["features"][()], **how)
        seal(path, new)
    return path.parent / "new" / path.name


ROWS = {
    "all": np.arange(700),
    "some": np.array([0, 5, 6, 7, 340, 341, 342, 699]),
    "any order, twice": np.array([699, 3, 3, 2, 690, 0]),
    "none": np.array([], dtype=np.int64),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize(
    "how", [None, {}, {"chunks": (64, 1536)}, {"chunks": (64, 100)}, {"chunks": (50, 1536), "compression": "gzip"}],
    ids=["ours", "contiguous", "blocks", "columns cut", "compressed"],
)  # fmt: skip
def test_rows_are_those_of_hdf5(tmp_path, rows, how):
    path = tmp_path / "s.h5"
    values = written(path)
    file = describe_features(path if how is None else rewritten(path, **how))
    assert (file.n_tiles, file.n_features, file.encoder) == (700, 1536, "some")
    assert (file.block_starts is None) == (how is not None and ("compression" in how or how.get("chunks") == (64, 100)))
    out = np.empty((len(rows), 1536), np.float16)
    read_rows(file, rows, out)
    np.testing.assert_array_equal(out, values[rows])


def test_features_of_single_precision(tmp_path):
    values = written(tmp_path / "s.h5", dtype=np.float32)
    file = describe_features(tmp_path / "s.h5")
    assert file.dtype == np.float32
    assert file.block_starts is not None
    out = np.empty((3, 1536), np.float32)
    read_rows(file, np.array([2, 3, 600]), out)
    np.testing.assert_array_equal(out, values[[2, 3, 600]])


@pytest.mark.parametrize("how", [None, {"compression": "gzip"}])
def test_a_file_that_was_replaced_is_not_read_by_the_old_description(tmp_path, how):
    path = tmp_path / "s.h5"
    written(path)
    path = path if how is None else rewritten(path, **how)
    file = describe_features(path)
    other = tmp_path / "other.h5"
    written(other, n_tiles=900, seed=1)
    other.replace(path)
    with pytest.raises(ArtifactError, match="was replaced"):
        read_rows(file, np.array([3]), np.empty((1, 1536), np.float16))


def test_features_and_coords_must_match(tmp_path):
    path = tmp_path / "s.h5"
    written(path, n_tiles=9)
    with h5py.File(path, "r+") as file:
        del file["coords"]
        file["coords"] = np.zeros((8, 2), np.int64)
    with pytest.raises(FormatError, match="don't match"):
        describe_features(path)


def test_a_slide_without_tiles_is_described(tmp_path):
    written(tmp_path / "s.h5", n_tiles=0)
    assert describe_features(tmp_path / "s.h5").n_tiles == 0
