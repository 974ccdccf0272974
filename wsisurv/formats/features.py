"""``features/<encoder>/<slide_id>.h5``: one row of numbers a tile."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.header import Header, create, opened
from wsisurv.units import SlideId

FORMAT = "wsisurv/features"
MADE_BY = "wsisurv embed"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Features:
    """Features of one slide.

    Attributes:
        slide_id: the slide.
        values: float16 (n_tiles, n_features).
        coords: int64 (n_tiles, 2), the tiles' top left in level-0 pixels.
        encoder: name of the encoder.
        names: a name for each column, empty where the encoder has none.
        tile_settings: the tile settings that made the tiles (JSON object), so that a model knows what it saw.
        mpp: µm per pixel of the slide at level 0.
    """

    slide_id: SlideId
    values: NDArray[np.float16]
    coords: NDArray[np.int64]
    encoder: str
    names: tuple[str, ...]
    tile_settings: dict[str, object]
    mpp: float


def write_features(path: Path, features: Features, header: Header) -> None:
    """Write ``features`` whole or not at all.

    Raises:
        FormatError: a value is not finite in float16.
        StorageError: no room or no permission.
    """
    values = features.values.astype(np.float16)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise FormatError(f"{path}: feature {column} of tile {row} is not finite in float16")
    n_tiles, n_features = values.shape
    with create(path, header) as file:
        file.attrs["slide_id"] = features.slide_id
        file.attrs["encoder"] = features.encoder
        file.attrs["names"] = list(features.names)
        rows = max(1, min(n_tiles, _CHUNK_BYTES // max(1, 2 * n_features)))
        dataset = file.create_dataset("features", data=values, chunks=(rows, n_features) if n_tiles else None)
        dataset.attrs["encoder"] = features.encoder
        coords = file.create_dataset("coords", data=features.coords.astype(np.int64).reshape(-1, 2))
        coords.attrs["mpp"] = features.mpp
        file.attrs["tile_settings"] = json.dumps(features.tile_settings, sort_keys=True)


def read_features(path: Path) -> tuple[Features, Header]:
    """Read the features of a slide and what made them.

    Raises:
        MissingArtifactError, FormatError: as ``header.opened``; also when features and coords differ in length.
    """
    with opened(path, FORMAT, MADE_BY) as (file, header):
        values, coords = file["features"][()], file["coords"][()]
        if values.ndim != 2 or len(values) != len(coords):
            raise FormatError(f"{path}: features {values.shape} and coords {coords.shape} don't match")
        features = Features(
            slide_id=SlideId(str(file.attrs["slide_id"])),
            values=values,
            coords=coords,
            encoder=str(file.attrs["encoder"]),
            names=tuple(str(name) for name in file.attrs["names"]),
            tile_settings=json.loads(file.attrs["tile_settings"]),
            mpp=float(file["coords"].attrs["mpp"]),
        )
        return features, header
