"""``tiles/<slide_id>.h5``: where the tiles of a slide are.

The layout is the one that TRIDENT writes and Patho-Bench and CLAM's HDF5 branch read (attributes on the
``coords`` dataset), with the exact resolution beside the magnifications rounded for those readers. CLAM's own data set
reads ``patch_size`` pixels of ``patch_level``, which stands there where the slide has a level of the tiles' resolution:
without it that class stops, where it would see another piece of tissue.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.digests import read_array
from wsisurv.formats.hdf5 import put_text, require_array, text
from wsisurv.formats.header import Header, create, opened, require_id
from wsisurv.formats.remote import slide_place
from wsisurv.units import SlideId

FORMAT = "wsisurv/tiles"
MADE_BY = "wsisurv tile"
TISSUE_MODEL_INPUTS = ("tissue model", "tissue model's spec")
"""Inputs of tiles whose tissue a network found: fingerprints of its two files."""
_SIZES = ("mpp", "tile_mpp", "tile_px", "tile_level0_px", "level0_width", "level0_height")


@dataclass(frozen=True)
class Tiles:
    """Tiles of one slide.

    Attributes:
        slide_id: the slide.
        slide_path: where its file was when it was tiled.
        coords: int64 (n_tiles, 2), x and y of each tile's top left in level-0 pixels.
        tissue: float32 (n_tiles,), share of each tile that is tissue, 0 to 1.
        mpp: µm per pixel at level 0.
        tile_mpp: µm per pixel of a tile.
        tile_px: side of a tile, pixels at ``tile_mpp``.
        tile_level0_px: side of a tile in level-0 pixels, not rounded (``tile_px · tile_mpp / mpp``).
        overlap_px: pixels at ``tile_mpp`` shared by neighbours.
        level0_width: width of the slide, level-0 pixels.
        level0_height: height of the slide, level-0 pixels.
        piece: int32 (n_tiles,), the piece of tissue that each is of, numbered from 1 (0: of none); None where the
            file does not say.
        measures: float32 (n_tiles,) each: ``focus``, the variance of the Laplacian, and ``haematoxylin`` and ``eosin``,
            mean optical densities; empty where they were not asked for.
        flags: what a person should know of this slide, in words.
        mpp_source: where ``mpp`` comes from, in words.
        bounds_x: left of what was scanned, level-0 pixels.
        bounds_y: top of what was scanned, level-0 pixels.
        tool: that cut them, with its version where that is known; empty where it is wsisurv.
        tool_settings: what that tool's file says of its settings (JSON object).
        patch_level: the slide's level that has the tiles' resolution, within a percent; None where none has.
    """

    slide_id: SlideId
    slide_path: Path
    coords: NDArray[np.int64]
    tissue: NDArray[np.float32]
    mpp: float
    tile_mpp: float
    tile_px: int
    tile_level0_px: float
    overlap_px: int
    level0_width: int
    level0_height: int
    piece: NDArray[np.int32] | None = None
    measures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    mpp_source: str = ""
    bounds_x: int = 0
    bounds_y: int = 0
    tool: str = ""
    tool_settings: Mapping[str, object] = field(default_factory=dict)
    patch_level: int | None = None


def write_trident_attributes(coords: h5py.Dataset, tiles: Tiles) -> None:
    """Write the numbers that TRIDENT's readers look for on ``coords``, and the exact resolution beside the rounded."""
    coords.attrs["patch_size"] = tiles.tile_px
    coords.attrs["patch_size_level0"] = round(tiles.tile_level0_px)
    coords.attrs["level0_magnification"] = round(10 / tiles.mpp)
    coords.attrs["target_magnification"] = round(10 / tiles.tile_mpp)
    coords.attrs["overlap"] = tiles.overlap_px
    coords.attrs["level0_width"] = tiles.level0_width
    coords.attrs["level0_height"] = tiles.level0_height
    coords.attrs["mpp"] = tiles.mpp
    coords.attrs["tile_mpp"] = tiles.tile_mpp


def write_tiles(path: Path, tiles: Tiles, header: Header) -> None:
    """Write ``tiles`` whole or not at all.

    Raises:
        StorageError: no room or no permission.
    """
    with create(path, header) as file:
        put_text(file, "slide_id", tiles.slide_id)
        put_text(file, "slide_path", str(tiles.slide_path))
        if tiles.tool:
            put_text(file, "tool", tiles.tool)
        if tiles.tool_settings:
            put_text(file, "tool_settings", json.dumps(tiles.tool_settings, sort_keys=True))
        put_text(file, "flags", json.dumps(tiles.flags, ensure_ascii=False))
        coords = file.create_dataset("coords", data=tiles.coords.astype(np.int64).reshape(-1, 2))
        write_trident_attributes(coords, tiles)
        if tiles.patch_level is not None:
            coords.attrs["patch_level"] = tiles.patch_level
        put_text(coords, "name", tiles.slide_id)
        put_text(coords, "savetodir", str(path.parent))
        coords.attrs["tile_px"] = float(tiles.tile_px)
        coords.attrs["tile_level0_px"] = tiles.tile_level0_px
        put_text(coords, "mpp_source", tiles.mpp_source)
        coords.attrs["bounds_x"] = tiles.bounds_x
        coords.attrs["bounds_y"] = tiles.bounds_y
        file.create_dataset("tissue", data=tiles.tissue.astype(np.float32))
        if tiles.piece is not None:
            file.create_dataset("piece", data=tiles.piece.astype(np.int32))
        for name, values in tiles.measures.items():
            file.create_dataset(f"measures/{name}", data=values.astype(np.float32))


def read_tiles(path: Path) -> tuple[Tiles, Header]:
    """Read the tiles of a slide and what made them.

    Raises:
        MissingArtifactError, FormatError: as ``header.opened``; also for arrays and sizes that can't be, and for a
            name of another slide.
    """
    with opened(path, FORMAT, MADE_BY) as (file, header):
        tiles = _tiles(file, file["coords"])
        _require_sound(path, tiles)
        require_id(path, tiles.slide_id)
        return tiles, header


def _require_sound(path: Path, tiles: Tiles) -> None:
    """Refuse tiles that can't be: arrays that don't belong together, sizes that are no positive numbers."""
    require_array(path, "coords", tiles.coords, kinds="iu", shape=(None, 2))
    n_tiles = len(tiles.coords)
    for name, values in {"tissue": tiles.tissue, **tiles.measures}.items():
        require_array(path, name, values, kinds="f", shape=(n_tiles,))
    if tiles.piece is not None:
        require_array(path, "piece", tiles.piece, kinds="iu", shape=(n_tiles,))
    sizes = {name: getattr(tiles, name) for name in _SIZES}
    if wrong := [name for name, value in sizes.items() if not 0 < value < float("inf")]:
        raise FormatError(f"{path}: {wrong[0]} is {sizes[wrong[0]]}, not a positive number")
    if not all(isinstance(flag, str) for flag in tiles.flags):
        raise FormatError(f"{path}: flags are not words")


def _tiles(file: h5py.File, coords: h5py.Dataset) -> Tiles:
    return Tiles(
        slide_id=SlideId(text(file, "slide_id")),
        slide_path=slide_place(text(file, "slide_path")),
        coords=read_array(coords),
        tissue=read_array(file["tissue"]),
        mpp=float(coords.attrs["mpp"]),
        tile_mpp=float(coords.attrs["tile_mpp"]),
        tile_px=int(coords.attrs["tile_px"]),
        tile_level0_px=float(coords.attrs["tile_level0_px"]),
        overlap_px=int(coords.attrs["overlap"]),
        level0_width=int(coords.attrs["level0_width"]),
        level0_height=int(coords.attrs["level0_height"]),
        piece=read_array(file["piece"]) if "piece" in file else None,
        measures={name: read_array(values) for name, values in file.get("measures", {}).items()},
        flags=tuple(json.loads(text(file, "flags", "[]"))),
        mpp_source=text(coords, "mpp_source", ""),
        bounds_x=int(coords.attrs.get("bounds_x", 0)),
        bounds_y=int(coords.attrs.get("bounds_y", 0)),
        tool=text(file, "tool", ""),
        tool_settings=json.loads(text(file, "tool_settings", "{}")),
        patch_level=int(coords.attrs["patch_level"]) if "patch_level" in coords.attrs else None,
    )
