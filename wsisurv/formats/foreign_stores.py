"""Tiles and features in SpatialData's stores of zarr, as LazySlide writes them: read by zarr and pyarrow.

- Root attributes: ``tile_spec``, by name of the tiles their ``width``, ``height`` and ``stride_width`` in pixels, and
  ``mpp``; ``slide_properties`` with ``mpp`` and ``shape`` (height, width) of level 0.
- ``shapes/TILES/shapes.parquet``: ``tile_id`` and ``geometry``, a square in level-0 pixels as well-known binary.
- ``tables/ENCODER_TILES``: an AnnData table whose attribute ``region`` names the tiles: ``X`` (n, d), and in ``obs``
  the column that ``instance_key`` names, the ``tile_id`` of each row.

A store is a folder; zarr of version 2 or 3. Only plain arrays of numbers are read, whose codecs are known: one of
zarr's unpickles.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import BackendError, FormatError
from wsisurv.formats.atomic import read_json
from wsisurv.formats.foreign_kinds import FeaturesOutline, ForeignFeatures, ForeignTiles
from wsisurv.formats.foreign_places import positive

_CODECS = {"bytes", "transpose", "sharding_indexed", "crc32c", "blosc", "gzip", "zlib", "zstd", "lz4"}
_UNFOLDS = 64
"""Times its own size that a packed part may unfold to, beside ``_SMALL`` bytes."""
_SMALL = 1 << 20
_INSTALL = "pip install 'wsisurv[lazyslide]'"
_SQUARE = np.dtype([("order", "u1"), ("type", "<u4"), ("rings", "<u4"), ("corners", "<u4"), ("xy", "<f8", (5, 2))])
"""A polygon of one ring of five corners, the last the first, as well-known binary."""


def is_store(path: Path) -> bool:
    """Whether a folder is a store of zarr."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))


def find_stores(path: Path) -> list[Path]:
    """The outermost stores in a folder, at any depth."""
    found = []
    for folder, below, _ in os.walk(path):
        if is_store(Path(folder)):
            found.append(Path(folder))
            below.clear()
    return sorted(found)


def slide_hash(path: Path) -> str:
    """OpenSlide's own hash of the slide that a store was made of; empty where it doesn't say."""
    raw = _properties(_attributes(path)).get("raw")
    try:
        said = json.loads(raw) if isinstance(raw, str) else {}
    except (ValueError, RecursionError):
        said = {}
    value = said.get("openslide.quickhash-1") if isinstance(said, dict) else None
    return value if isinstance(value, str) else ""


def read_store_tiles(path: Path, dataset: str | None = None) -> ForeignTiles:
    """Read tiles of a store.

    Args:
        path: its folder, named by the slide.
        dataset: which tiles, where it has several.

    Raises:
        BackendError: pyarrow isn't installed.
        FormatError: no store, none with tiles, or tiles that aren't as LazySlide writes them.
    """
    said = _attributes(path)
    specs = _specs(path, said)
    name = _one_of(path, "tiles", specs, dataset)
    spec, slide = specs[name], _properties(said)
    _, corners, side = _read_shapes(path, name)
    width, height = (positive(spec, side) for side in ("width", "height"))
    stride = positive(spec, "stride_width")
    if width is None or width != height or stride is None or stride != positive(spec, "stride_height"):
        raise FormatError(f"{path}: tiles {name} are no squares on a square grid, by its tile_spec")
    shape = slide.get("shape")
    high, wide = shape if isinstance(shape, list) and [*map(type, shape)] == [int, int] else (None, None)
    return ForeignTiles(
        layout=_layout(said),
        slide_id=path.stem,
        coords=corners,
        tile_px=round(width),
        tile_level0_px=side if len(corners) else width * (positive(spec, "base_downsample") or 1),
        overlap_px=round(width - stride),
        level0_width=wide,
        level0_height=high,
        tile_mpp=positive(spec, "mpp"),
        mpp=positive(slide, "mpp"),
        version=_version(said),
        settings={"tile_spec": spec},
    )


def read_store_features(path: Path, dataset: str | None = None, preferred: str | None = None) -> ForeignFeatures:
    """Read features of a store, with the place of each row.

    Args:
        path: its folder, named by the slide.
        dataset: which table, where it has several: its name, or its encoder's.
        preferred: as ``dataset``, where there is one of this name.

    Raises:
        BackendError: zarr or pyarrow isn't installed.
        FormatError: no store, none with features of tiles, or features and tiles that don't belong together.
    """
    said = _attributes(path)
    table = _find_table(path, said, dataset, preferred)
    values, ids = _read_numbers(table.path / "X"), _read_numbers(table.path / "obs" / table.key)
    if ids.shape != values.shape[:1] or ids.dtype.kind not in "iu":
        raise FormatError(f"{table.path}: X of shape {values.shape} and {table.key} of shape {ids.shape}, {ids.dtype}")
    known, corners, side = _read_shapes(path, table.tiles)
    order = np.argsort(known)
    places = np.searchsorted(known, ids, sorter=order)
    if len(known) != len(ids) or not np.array_equal(known[order[places % max(1, len(order))]], ids):
        raise FormatError(
            f"{table.path}: its rows are not the tiles of {table.tiles}: {len(ids)} rows, {len(known)} tiles"
        )
    spec = _specs(path, said)[table.tiles]
    tile_px = positive(spec, "width")
    return ForeignFeatures(
        layout=_layout(said),
        values=values,
        coords=corners[order[places]] if len(order) else corners,
        encoder=table.encoder,
        tile_px=None if tile_px is None else round(tile_px),
        tile_mpp=positive(spec, "mpp"),
        tile_level0_px=side if len(ids) else None,
        mpp=positive(_properties(said), "mpp"),
        version=_version(said),
        settings={"table": table.path.name, "tile_spec": spec},
    )


def outline_store(path: Path, dataset: str | None, preferred: str | None) -> FeaturesOutline:
    """What a store's features are, without reading them.

    Raises:
        FormatError: as ``read_store_features``.
    """
    table = _find_table(path, _attributes(path), dataset, preferred)
    shape, dtype = _array_notes(table.path / "X")
    return FeaturesOutline(shape[-1] if shape else 0, dtype, "tile", table.encoder)


class _Table(NamedTuple):
    path: Path
    tiles: str  # which tiles its rows are of
    key: str  # column of obs that says the tile of a row
    encoder: str


def _find_table(path: Path, said: Mapping[str, Any], dataset: str | None, preferred: str | None) -> _Table:
    specs, found = _specs(path, said), {}
    for folder in sorted((path / "tables").iterdir()) if (path / "tables").is_dir() else ():
        if folder.is_dir() and is_store(folder):
            of = _attributes(folder)
            tiles, key = of.get("region"), of.get("instance_key")
            if isinstance(tiles, str) and tiles in specs and isinstance(key, str) and _plain(key):
                encoder = folder.name.removesuffix(f"_{tiles}")
                found[folder.name] = _Table(folder, tiles, key, encoder)
    by_encoder = {table.encoder: name for name, table in found.items()}
    wanted = preferred if dataset is None and preferred in by_encoder else dataset
    return found[_one_of(path, "features", found, by_encoder.get(wanted or "", wanted))]


def _one_of(path: Path, what: str, known: Mapping[str, Any], wanted: str | None) -> str:
    if wanted in known:
        return str(wanted)
    if wanted is None and len(known) == 1:
        return next(iter(known))
    raise FormatError(f"{path}: holds {what} {', '.join(known) or 'of no kind'}. Name one with --dataset.")


def _plain(name: str) -> bool:
    """Whether a name out of a file is that of a folder below."""
    return name == Path(name).name and not name.startswith(".")


def _attributes(path: Path) -> dict[str, Any]:
    """Attributes of a group, of either version of zarr."""
    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        if (path / name).is_file():
            said = _notes(path / name)
            found = said if key is None else said.get(key, {})
            return found if isinstance(found, dict) else {}
    raise FormatError(f"{path}: no store of zarr (no zarr.json, no .zattrs)")


def _notes(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (ValueError, OSError, RecursionError) as error:
        raise FormatError(f"{path}: not as zarr writes it ({error})") from error


def _specs(path: Path, said: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is said of each kind of tiles that the store has."""
    specs = said.get("tile_spec")
    if not isinstance(specs, dict):
        raise FormatError(f"{path}: a SpatialData store without tile_spec, by which LazySlide says what its tiles are")
    return {
        str(name): spec
        for name, spec in sorted(specs.items())
        if isinstance(spec, dict) and _plain(str(name)) and (path / "shapes" / str(name)).is_dir()
    }


def _properties(said: Mapping[str, Any]) -> dict[str, Any]:
    found = said.get("slide_properties")
    return found if isinstance(found, dict) else {}


def _layout(said: Mapping[str, Any]) -> Any:
    return "LazySlide" if _properties(said) else "SpatialData"


def _version(said: Mapping[str, Any]) -> str:
    attrs = said.get("spatialdata_attrs")
    version = attrs.get("spatialdata_software_version") if isinstance(attrs, dict) else None
    return f"(spatialdata {version[:20]})" if isinstance(version, str) and version.isprintable() else ""


def _read_shapes(path: Path, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Ids of tiles, their top left (n, 2) in level-0 pixels, and their side."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise BackendError(f"{path}: a SpatialData store needs zarr and pyarrow: {_INSTALL}.") from error
    file = path / "shapes" / name / "shapes.parquet"
    try:
        with parquet.ParquetFile(file) as opened:
            n_tiles = opened.metadata.num_rows
            _require_size(file, n_tiles * _SQUARE.itemsize, file.stat().st_size)
            table = opened.read(columns=["tile_id", "geometry"])
        ids, shapes = table["tile_id"].to_numpy(), table["geometry"].to_pylist()
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise FormatError(f"{file}: no tiles as LazySlide writes them ({type(error).__name__}: {error})") from error
    if any(not isinstance(shape, bytes) or len(shape) != _SQUARE.itemsize for shape in shapes):
        raise FormatError(f"{file}: shapes that are no squares")
    squares = np.frombuffer(b"".join(shapes), _SQUARE)
    kinds = [squares[part] == wanted for part, wanted in (("order", 1), ("type", 3), ("rings", 1), ("corners", 5))]
    low, high = squares["xy"].min(axis=1), squares["xy"].max(axis=1)
    sides = high - low
    side = float(sides[0, 0]) if len(sides) else 0.0
    whole = (abs(squares["xy"]) < 2**40).all() and len(np.unique(ids)) == len(ids) and ids.dtype.kind in "iu"
    if not whole or not np.all(kinds) or not (abs(sides - side) <= 1).all() or (len(sides) and side <= 0):
        raise FormatError(f"{file}: shapes that are no squares of one size, or ids that are no numbers or stand twice")
    return ids.astype(np.int64), np.rint(low).astype(np.int64), side


def _array_notes(path: Path) -> tuple[tuple[int, ...], str]:
    """Shape and type of a plain array of numbers.

    Raises:
        FormatError: it is none, or packed by what is not known.
    """
    if (path / "zarr.json").is_file():
        said = _notes(path / "zarr.json")
        dtype, packed = said.get("data_type"), list(_codecs(said.get("codecs")))
    elif (path / ".zarray").is_file():
        said = _notes(path / ".zarray")
        dtype = said.get("dtype")
        packer = said.get("compressor")
        packed = [packer.get("id") if isinstance(packer, dict) else "bytes"]
        packed += ["a filter"] if said.get("filters") else []
    else:
        raise FormatError(f"{path}: no plain array of zarr")
    if odd := [str(name)[:40] for name in packed if name not in _CODECS]:
        raise FormatError(f"{path}: packed by {odd[0]}, which is not read; known are {', '.join(sorted(_CODECS))}")
    shape = said.get("shape")
    try:
        known = np.dtype(dtype if isinstance(dtype, str) else "O")
    except TypeError:
        known = np.dtype("O")
    sound = isinstance(shape, list) and all(type(length) is int and length >= 0 for length in shape)
    if known.kind not in "fiu" or not sound:
        raise FormatError(f"{path}: {dtype!r} of shape {shape}, no plain array of numbers")
    return tuple(shape or ()), known.name


def _codecs(said: Any) -> Iterator[Any]:
    """Names of codecs, those within a shard too."""
    for one in said if isinstance(said, list) else [{"name": "none named"}]:
        yield one.get("name") if isinstance(one, dict) else one
        inner = one.get("configuration") if isinstance(one, dict) else None
        for name in ("codecs", "index_codecs"):
            if isinstance(inner, dict) and name in inner:
                yield from _codecs(inner[name])


def _read_numbers(path: Path) -> NDArray[Any]:
    shape, dtype = _array_notes(path)
    on_disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    _require_size(path, math.prod(shape) * np.dtype(dtype).itemsize, on_disk)
    try:
        import zarr
    except ImportError as error:
        raise BackendError(f"{path}: a SpatialData store needs zarr and pyarrow: {_INSTALL}.") from error
    try:
        values = np.asarray(zarr.open_array(store=str(path), mode="r")[...])
    except Exception as error:  # whatever a strange store makes of zarr and its codecs
        raise FormatError(f"{path}: zarr can't read it ({type(error).__name__}: {error})") from error
    if values.dtype.kind not in "fiu":
        raise FormatError(f"{path}: {values.dtype}, no numbers")
    return values


def _require_size(path: Path, n_bytes: int, on_disk: int) -> None:
    if n_bytes > _UNFOLDS * on_disk + _SMALL:
        raise FormatError(
            f"{path}: would be {n_bytes} bytes in memory, of {on_disk} on disk; no array of features is so"
        )
