"""Features as AnnData's file (.h5ad), written by HDF5 alone: a tile an observation, a feature a variable.

Source: AnnData's on-disk format, version 0.1.0 (https://anndata.readthedocs.io/en/stable/fileformat-prose.html).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.formats.features import Features
from wsisurv.formats.header import create_bare
from wsisurv.formats.tiles import Tiles

_TEXT = h5py.string_dtype("utf-8")  # of any length, as the format wants it


def write_anndata(path: Path, features: Features, tiles: Tiles | None) -> None:
    """Write features of a slide.

    ``obs`` has ``slide_id`` and, where they are known, each tile's ``x`` and ``y`` (top left, level-0 pixels) and
    ``tissue``; ``obsm["spatial"]`` its centre, level-0 pixels, where scanpy and squidpy look for it; ``var`` the unit
    and definition of each feature; ``uns["wsisurv"]`` encoder, weights, resolutions and tile settings.

    Args:
        path: the file.
        features: of one slide; those that lie nowhere have no ``x``, ``y`` and ``spatial``.
        tiles: its tiles, where they are there.

    Raises:
        StorageError: no room or no permission.
    """
    n_tiles, n_features = features.values.shape
    of_tiles: dict[str, Any] = {"slide_id": [str(features.slide_id)] * n_tiles}
    obsm: dict[str, NDArray[Any]] = {}
    side = _side(features)
    if features.coords is not None:
        of_tiles |= {"x": features.coords[:, 0], "y": features.coords[:, 1]}
        if side is not None:
            obsm["spatial"] = features.coords + side / 2
    if tiles is not None and features.coords is not None and np.array_equal(tiles.coords, features.coords):
        of_tiles["tissue"] = tiles.tissue
    of_columns = {
        name: list(words)
        for name in ("units", "definitions")
        if (words := getattr(features, name)) and len(words) == n_features
    }
    known = {
        "encoder": features.encoder,
        "weights": features.making.weights,
        "mpp": features.mpp,
        "tile_level0_px": side,
        "tile_settings": json.dumps(features.tile_settings, sort_keys=True),
    }
    with create_bare(path) as file:
        _kind(file, "anndata", "0.1.0")
        _array(file, "X", features.values.astype(np.float32))
        _frame(file, "obs", [f"{features.slide_id}-{row}" for row in range(n_tiles)], of_tiles)
        names = features.names if len(features.names) == n_features else [str(column) for column in range(n_features)]
        _frame(file, "var", names, of_columns)
        for name in ("layers", "obsp", "varm", "varp"):
            _kind(file.create_group(name), "dict", "0.1.0")
        places = _kind(file.create_group("obsm"), "dict", "0.1.0")
        for name, value in obsm.items():
            _array(places, name, value)
        told = _kind(_kind(file.create_group("uns"), "dict", "0.1.0").create_group("wsisurv"), "dict", "0.1.0")
        for name, said in known.items():
            if said is not None and said != "":
                told.create_dataset(name, data=said, dtype=_TEXT if isinstance(said, str) else np.float64)
                _kind(told[name], "string" if isinstance(said, str) else "numeric-scalar", "0.2.0")


def _side(features: Features) -> float | None:
    """Side of a tile, level-0 pixels; None where nobody knows it."""
    px, mpp = (features.tile_settings.get(name) for name in ("tile_px", "tile_mpp"))
    return None if px is None or mpp is None or not features.mpp else float(str(px)) * float(str(mpp)) / features.mpp


def _kind(item: Any, kind: str, version: str) -> Any:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version
    return item


def _array(group: h5py.Group, name: str, values: Sequence[str] | NDArray[Any]) -> None:
    if isinstance(values, np.ndarray):
        _kind(group.create_dataset(name, data=values), "array", "0.2.0")
    else:
        _kind(group.create_dataset(name, data=np.array(values, dtype=object), dtype=_TEXT), "string-array", "0.2.0")


def _frame(file: h5py.File, name: str, index: Sequence[str], columns: Mapping[str, Any]) -> None:
    group = _kind(file.create_group(name), "dataframe", "0.2.0")
    group.attrs["_index"] = "_index"
    group.attrs["column-order"] = np.array(list(columns), dtype=object if columns else "S1")
    _array(group, "_index", list(index))
    for column, values in columns.items():
        _array(group, column, values)
