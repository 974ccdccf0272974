"""Features that other tools made, told apart by what is in the file.

Layouts (HDF5, one file a slide):

- STAMP: ``feats`` (n, d); ``coords`` (n, 2) in **µm**; root attributes ``unit`` = "um", ``tile_size_um``,
  ``tile_size_px``, ``extractor``.
- TRIDENT: ``features`` (n, d); ``coords`` (n, 2) in level-0 pixels with attributes ``patch_size``,
  ``patch_size_level0``, ``level0_magnification``; ``features`` may carry the attribute ``encoder``.
- CLAM: ``features`` (n, d); ``coords`` (n, 2) in level-0 pixels, without attributes.

What a layout does not say is None: it has to be asked for, never invented.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError

Layout = Literal["STAMP", "TRIDENT", "CLAM"]


@dataclass(frozen=True)
class ForeignFeatures:
    """Features of one slide as another tool left them.

    Attributes:
        layout: whose file it is.
        values: (n_tiles, n_features), the file's own float type.
        coords: (n_tiles, 2), the tiles' top left; in µm for STAMP, else in level-0 pixels.
        encoder: what the file calls its encoder, or None.
        tile_px: side of a tile in pixels, or None.
        tile_mpp: µm per pixel of a tile, or None.
        tile_level0_px: side of a tile in level-0 pixels, or None.
    """

    layout: Layout
    values: NDArray[np.floating]
    coords: NDArray[Any]
    encoder: str | None
    tile_px: int | None
    tile_mpp: float | None
    tile_level0_px: float | None


def read_foreign_features(path: Path) -> ForeignFeatures:
    """Read features that another tool made.

    Raises:
        FormatError: no HDF5, none of the layouts, or features and coords that don't belong together.
    """
    try:
        with h5py.File(path, "r") as file:
            features = _read(path, file)
    except OSError as error:
        raise FormatError(f"{path}: no readable HDF5 file ({error}); a copy cut short?") from error
    if features.values.ndim != 2 or features.coords.shape != (len(features.values), 2):
        raise FormatError(
            f"{path}: features of shape {features.values.shape} and coords of shape {features.coords.shape} don't "
            "belong together; one row a tile is needed"
        )
    return features


def _read(path: Path, file: h5py.File) -> ForeignFeatures:
    keys = set(file.keys())
    if {"feats", "coords"} <= keys:
        if file.attrs.get("unit") != "um":
            raise FormatError(f"{path}: feats and coords without unit 'um'. Only STAMP 2's layout says its unit.")
        tile_px, tile_um = _number(file.attrs, "tile_size_px"), _number(file.attrs, "tile_size_um")
        return ForeignFeatures(
            layout="STAMP",
            values=file["feats"][()],
            coords=file["coords"][()],
            encoder=str(file.attrs["extractor"]) if "extractor" in file.attrs else None,
            tile_px=None if tile_px is None else round(tile_px),
            tile_mpp=tile_um / tile_px if tile_um and tile_px else None,
            tile_level0_px=None,
        )
    if not {"features", "coords"} <= keys:
        raise FormatError(
            f"{path}: holds {', '.join(sorted(keys)) or 'nothing'}; known are feats + coords (STAMP) and "
            "features + coords (TRIDENT, CLAM)"
        )
    attrs = file["coords"].attrs
    trident = "level0_magnification" in attrs
    tile_px = _number(attrs, "patch_size") if trident else None
    values = file["features"][()]
    return ForeignFeatures(
        layout="TRIDENT" if trident else "CLAM",
        values=values[0] if values.ndim == 3 and len(values) == 1 else values,
        coords=file["coords"][()],
        encoder=str(file["features"].attrs["encoder"]) if "encoder" in file["features"].attrs else None,
        tile_px=None if tile_px is None else round(tile_px),
        tile_mpp=None,
        tile_level0_px=_number(attrs, "patch_size_level0") if trident else None,
    )


def _number(attrs: h5py.AttributeManager, name: str) -> float | None:
    return float(attrs[name]) if name in attrs else None
