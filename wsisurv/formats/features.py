"""``features/<encoder>/<slide_id>.h5``: one row of numbers a tile."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.digests import read_array
from wsisurv.formats.hdf5 import put_text, put_texts, require_array, text, texts
from wsisurv.formats.header import Header, create, opened, require_id
from wsisurv.units import SlideId

FORMAT = "wsisurv/features"
MADE_BY = "wsisurv embed"
_CHUNK_BYTES = 1 << 20
_OF_COLUMNS = ("names", "units", "definitions")
_SPREADS = ("stain_spread", "tile_spread")


@dataclass(frozen=True)
class Making:
    """How features were made, as far as it is no setting. All is empty where a file doesn't say: it was imported."""

    weights: str = ""  # ``hub:ID@COMMIT``, ``sha256:…`` of a file, ``random``, or empty where none are needed
    # from the pixels of a tile to what the encoder sees (JSON object)
    transform: Mapping[str, Any] = field(default_factory=dict)
    precision: str = ""  # the arithmetic used: ``fp32``, ``fp16``, ``bf16``; with `` compiled`` behind it where it was
    device: str = ""  # that computed, in words
    decoder: str = ""  # that read the pixels: ``openslide``, ``jpeg`` or ``jpeg-half``
    tiles_fingerprint: str = ""  # of the file of tiles
    mismatch: str = ""  # how the tiles differ from those that the encoder was trained on, where that was allowed
    versions: Mapping[str, str] = field(default_factory=dict)  # of the libraries that took part, by name
    # what ``--stain`` estimated in the slide (JSON object), or why it was left as it is
    stain: Mapping[str, Any] = field(default_factory=dict)
    tool: str = ""  # that made imported features, with its version where that is known; empty where it is wsisurv
    # what that tool's file says of its settings (JSON object)
    tool_settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Features:
    """Features of one slide.

    Attributes:
        slide_id: the slide.
        values: float16 or float32 (n_tiles, n_features).
        coords: int64 (n_tiles, 2), the tiles' top left in level-0 pixels; None where nobody knows them, and of an
            embedding of a whole slide or patient.
        encoder: name of the encoder.
        names: a name for each column, empty where the encoder has none.
        tile_settings: the tile settings that made the tiles (JSON object), so that a model knows what it saw.
        mpp: µm per pixel of the slide at level 0; None where nobody knows it.
        making: what else there is to know of how they were made.
        units: a unit for each column, empty where the encoder has none.
        definitions: what each column measures, empty where the encoder doesn't say.
        stain_spread: float32 (n_features,), standard deviation of each feature under stain shifts of the same tiles;
            None where they were not asked for.
        tile_spread: float32 (n_features,), standard deviation between those tiles, to hold it against.
    """

    slide_id: SlideId
    values: NDArray[np.floating[Any]]
    coords: NDArray[np.int64] | None
    encoder: str
    names: tuple[str, ...]
    tile_settings: dict[str, object]
    mpp: float | None
    making: Making = Making()
    units: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()
    stain_spread: NDArray[np.float32] | None = None
    tile_spread: NDArray[np.float32] | None = None

    @property
    def place(self) -> "Place":
        """Where the tiles lie.

        Raises:
            FormatError: nobody knows; names the slide and what it lacks.
        """
        if self.coords is None or self.mpp is None:
            row = self.tile_settings.get("row")
            lacking = "coordinates" if self.coords is None else "resolution"
            why = f"is one row of the whole {row}" if row else f"came without {lacking}"
            raise FormatError(
                f"slide {self.slide_id}: what there is of {self.encoder} {why}, so where its tiles lie is not known. "
                + ("Name features of its tiles." if row else "Import files that say it, or say it, with --redo.")
            )
        return Place(self.coords, self.mpp)


@dataclass(frozen=True)
class Place:
    """Where the tiles of a slide lie."""

    coords: NDArray[np.int64]  # int64 (n_tiles, 2), top left in level-0 pixels
    mpp: float  # µm per pixel at level 0


def write_features(path: Path, features: Features, header: Header) -> None:
    """Write ``features`` whole or not at all, in the ``dtype`` of the header's settings, float16 where they name none.

    Raises:
        FormatError: a value is not finite in that.
        StorageError: no room or no permission.
    """
    dtype = np.dtype(header.settings.get("dtype", "float16"))
    with np.errstate(over="ignore"):
        values = features.values.astype(dtype)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise FormatError(f"{path}: feature {column} of tile {row} is not finite in {dtype}")
    n_tiles, n_features = values.shape
    with create(path, header) as file:
        put_text(file, "slide_id", features.slide_id)
        put_text(file, "encoder", features.encoder)
        for name in _OF_COLUMNS:
            if words := getattr(features, name):
                put_texts(file, name, words)
        rows = max(1, min(n_tiles, _CHUNK_BYTES // max(1, dtype.itemsize * n_features)))
        dataset = file.create_dataset("features", data=values, chunks=(rows, n_features) if n_tiles else None)
        put_text(dataset, "encoder", features.encoder)
        if features.coords is not None:
            coords = file.create_dataset("coords", data=features.coords.astype(np.int64).reshape(-1, 2))
            if features.mpp is not None:
                coords.attrs["mpp"] = features.mpp
        elif features.mpp is not None:
            dataset.attrs["mpp"] = features.mpp
        put_text(file, "tile_settings", json.dumps(features.tile_settings, sort_keys=True))
        for name in _SPREADS:
            if (spread := getattr(features, name)) is not None:
                file.create_dataset(name, data=spread.astype(np.float32))
        for name, value in vars(features.making).items():
            if name in ("tool", "tool_settings") and not value:
                continue  # ours
            put_text(file, name, value if isinstance(value, str) else json.dumps(dict(value), sort_keys=True))


def read_features(path: Path) -> tuple[Features, Header]:
    """Read the features of a slide and what made them.

    Raises:
        MissingArtifactError, FormatError: as ``header.opened``; also when features and coords differ in length, and
            for a name of another slide.
    """
    with opened(path, FORMAT, MADE_BY) as (file, header):
        slide_id = SlideId(text(file, "slide_id"))
        require_id(path, slide_id)
        values = read_array(file["features"])
        require_array(path, "features", values, kinds="f", shape=(None, None))
        coords = None
        if "coords" in file:
            coords = read_array(file["coords"])
            if len(values) != len(coords):
                raise FormatError(f"{path}: features {values.shape} and coords {coords.shape} don't match")
            require_array(path, "coords", coords, kinds="iu", shape=(len(values), 2))
        placed = file["coords" if coords is not None else "features"].attrs
        mpp = float(placed["mpp"]) if "mpp" in placed else None
        features = Features(
            slide_id=slide_id,
            values=values,
            coords=coords,
            encoder=text(file, "encoder"),
            names=texts(file, "names"),
            tile_settings=json.loads(text(file, "tile_settings")),
            mpp=mpp,
            making=_making(file),
            units=texts(file, "units"),
            definitions=texts(file, "definitions"),
            stain_spread=read_array(file["stain_spread"]) if "stain_spread" in file else None,
            tile_spread=read_array(file["tile_spread"]) if "tile_spread" in file else None,
        )
        if not isinstance(features.tile_settings, dict) or not (mpp is None or 0 < mpp < float("inf")):
            raise FormatError(f"{path}: tile settings are no JSON object, or mpp {mpp} is no positive number")
        return features, header


def _making(file: h5py.File) -> Making:
    seen: dict[str, Any] = {
        name: text(file, name) if isinstance(empty, str) else json.loads(text(file, name))
        for name, empty in vars(Making()).items()
        if name in file.attrs
    }
    return Making(**seen)
