"""Features as AnnData and as a table, for notebooks and scanpy."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import wsisurv
from wsisurv.errors import InputError, MissingArtifactError
from wsisurv.formats.anndata import write_anndata
from wsisurv.formats.features import FORMAT, Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.units import SlideId

COORDS = np.array([[0, 0], [448, 0], [0, 896]], np.int64)
VALUES = np.arange(6, dtype=np.float32).reshape(3, 2) / 8


def _features(slide: str = "A", **other: Any) -> Features:
    given: dict[str, Any] = {
        "slide_id": SlideId(slide),
        "values": VALUES,
        "coords": COORDS,
        "encoder": "e",
        "names": ("häm", "eosin"),
        "tile_settings": {"tile_px": 224, "tile_mpp": 0.5},
        "mpp": 0.25,
        "units": ("OD", "OD"),
    }
    return Features(**{**given, **other})


def _put(folder: Path, features: Features) -> Path:
    path = folder / f"{features.slide_id}.h5"
    write_features(path, features, make_header(FORMAT, {"dtype": "float32"}, {}))
    return path


def test_an_h5ad_has_the_parts_that_the_format_asks_for(tmp_path: Path) -> None:
    write_anndata(tmp_path / "A.h5ad", _features(), None)
    with h5py.File(tmp_path / "A.h5ad") as file:
        assert dict(file.attrs) == {"encoding-type": "anndata", "encoding-version": "0.1.0"}
        assert set(file) == {"X", "obs", "var", "obsm", "varm", "obsp", "varp", "layers", "uns"}
        kinds: dict[str, Any] = {}
        file.visititems(lambda name, item: kinds.__setitem__(name, item.attrs.get("encoding-type")))
        assert None not in kinds.values(), "each part says what it is"
        assert (kinds["obs"], kinds["obs/slide_id"], kinds["var/units"]) == (
            "dataframe",
            "string-array",
            "string-array",
        )
        for frame in ("obs", "var"):
            assert file[frame].attrs["_index"] in file[frame]
            assert set(file[frame].attrs["column-order"]) == set(file[frame]) - {"_index"}
        assert np.array_equal(file["X"], VALUES)


def test_anndata_reads_it(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    write_anndata(tmp_path / "A.h5ad", _features(), None)
    found = anndata.read_h5ad(tmp_path / "A.h5ad")
    assert np.array_equal(found.X, VALUES)
    assert list(found.var_names) == ["häm", "eosin"]
    assert list(found.var["units"]) == ["OD", "OD"]
    assert found.obs[["x", "y"]].to_numpy().tolist() == COORDS.tolist()
    assert np.array_equal(found.obsm["spatial"], COORDS + 224), "centres: 448 level-0 pixels a side"
    assert found.uns["wsisurv"]["mpp"] == 0.25
    assert json.loads(found.uns["wsisurv"]["tile_settings"])["tile_px"] == 224
    _put(tmp_path, _features("A"))
    _put(tmp_path, _features("B", values=VALUES + 1))
    both = wsisurv.read_features(tmp_path, as_="anndata")
    assert list(both.obs["slide_id"]) == ["A"] * 3 + ["B"] * 3
    assert np.array_equal(both.X[3:], VALUES + 1)
    assert both.obs_names.is_unique


def test_what_lies_nowhere_has_no_places(tmp_path: Path) -> None:
    one = _features(values=VALUES[:1], coords=None, names=(), units=(), mpp=None, tile_settings={"row": "slide"})
    write_anndata(tmp_path / "A.h5ad", one, None)
    with h5py.File(tmp_path / "A.h5ad") as file:
        assert set(file["obs"]) == {"_index", "slide_id"}
        assert not len(file["obsm"])
        assert [name.decode() for name in file["var/_index"]] == ["0", "1"]
    assert np.isnan(wsisurv.read_features(_put(tmp_path, one)).reset_index()["x"]).all()


def test_a_table_has_a_row_a_tile_and_a_column_a_feature(tmp_path: Path) -> None:
    _put(tmp_path, _features("B", values=VALUES + 1))
    _put(tmp_path, _features("A"))
    table = wsisurv.read_features(str(tmp_path))
    assert list(table.columns) == ["häm", "eosin"]
    assert np.array_equal(table.loc["A"].to_numpy(), VALUES)
    assert table.loc[("B", 448, 0, 1), "eosin"] == VALUES[1, 1] + 1
    assert table.attrs["mpp"] == {"A": 0.25, "B": 0.25}


def test_slides_of_two_encoders_and_folders_of_none_are_refused(tmp_path: Path) -> None:
    _put(tmp_path, _features("A"))
    _put(tmp_path, _features("B", encoder="other"))
    with pytest.raises(InputError, match=r"B\.h5: 2 columns of other, where .*A\.h5 has 2 of e"):
        wsisurv.read_features(tmp_path)
    with pytest.raises(MissingArtifactError, match="no features in it"):
        wsisurv.read_features(tmp_path / "nowhere")
