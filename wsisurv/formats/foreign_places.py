"""Tiles in files that are no HDF5: coordinates of hs2p, and squares in GeoJSON as QuPath writes them.

- hs2p 6, and slide2vec 7, which cuts by it: ``SLIDE.coordinates.npz`` (``x``, ``y``, level-0 pixels, and
  ``tissue_fractions``) with ``SLIDE.coordinates.meta.json``, which says sizes, resolutions and settings.
- QuPath ``SLIDE.geojson``: objects of type ``tile``, or else objects that are all squares of one size; level-0 pixels
  from the corner of what was scanned. How many pixels a tile has, and what neighbours share, nothing says.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.formats.atomic import read_json
from wsisurv.formats.foreign_kinds import ForeignTiles

COORDINATES = ".coordinates"
"""What hs2p writes behind the name of the slide."""
_LARGEST = 1e12
_UNEVEN_PX = 1
"""Pixels by which squares of QuPath's may differ, since it rounds their corners."""


def read_hs2p_tiles(path: Path) -> ForeignTiles:
    """Read tiles of hs2p.

    Args:
        path: ``SLIDE.coordinates.npz``, with its notes beside it.

    Raises:
        MissingArtifactError: no such file, or no notes.
        FormatError: files that aren't as hs2p writes them.
    """
    notes = path.with_suffix(".meta.json")
    if not path.is_file() or not notes.is_file():
        raise MissingArtifactError(f"{path}: hs2p's {notes.name if path.is_file() else path.name} is not there")
    said = read_notes(notes)
    tiling, slide = (part if isinstance(part := said.get(name), dict) else {} for name in ("tiling", "slide"))
    n_tiles, overlap = tiling.get("n_tiles"), tiling.get("overlap")
    figures = {name: positive(tiling, f"requested_{name}") for name in ("tile_size_px", "spacing_um")}
    tile_px, level0_px = figures["tile_size_px"], positive(tiling, "tile_size_lv0")
    shared = overlap if isinstance(overlap, int | float) else -1.0
    if tile_px is None or level0_px is None or not isinstance(n_tiles, int) or not 0 <= shared < 1:
        raise FormatError(f"{notes}: says no size, number or overlap (0 to 1) of tiles as hs2p 6 does")
    size = slide.get("dimensions")
    width, height = size if isinstance(size, list) and [*map(type, size)] == [int, int] else (None, None)
    tissue = read_array(path, "tissue_fractions", n_tiles, "f")
    return ForeignTiles(
        layout="hs2p",
        slide_id=path.stem.removesuffix(COORDINATES),
        coords=read_places(path, n_tiles),
        tile_px=round(tile_px),
        tile_level0_px=level0_px,
        overlap_px=round(shared * tile_px),
        level0_width=width,
        level0_height=height,
        tile_mpp=figures["spacing_um"],
        mpp=positive(slide, "base_spacing_um"),
        tissue=None if tissue is None else tissue.astype(np.float32),
        settings={name: said[name] for name in ("tiling", "filtering", "segmentation") if name in said},
    )


def read_places(path: Path, n_tiles: int) -> NDArray[np.int64]:
    """Top left of each tile, int64 (n_tiles, 2), from hs2p's ``.npz``.

    Raises:
        FormatError: no such file of so many tiles.
    """
    x, y = (read_array(path, name, n_tiles, "iu") for name in "xy")
    if x is None or y is None:
        raise FormatError(f"{path}: no places as hs2p writes them (x and y)")
    return np.stack([x, y], axis=1).astype(np.int64)


def read_array(path: Path, name: str, n_tiles: int, kinds: str) -> NDArray[Any] | None:
    """A number a tile from an ``.npz``; None where the file has none of this name.

    Raises:
        FormatError: no such file, or another number or type of numbers.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            if any(part.file_size > 64 * n_tiles + 4096 for part in parts.infolist()):
                raise FormatError(f"{path}: places of more than the {n_tiles} tiles that there are")
        with np.load(path, allow_pickle=False) as arrays:
            if name not in arrays:
                return None
            values = arrays[name]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FormatError(f"{path}: no places as hs2p writes them ({type(error).__name__}: {error})") from error
    if values.shape != (n_tiles,) or values.dtype.kind not in kinds:
        raise FormatError(
            f"{path}: {name} of shape {values.shape} and type {values.dtype}, but there are {n_tiles} tiles"
        )
    return np.asarray(values)


def read_notes(path: Path) -> dict[str, Any]:
    """Notes of hs2p or slide2vec.

    Raises:
        FormatError: they can't be read.
    """
    try:
        return read_json(path)
    except (ValueError, OSError, RecursionError) as error:
        raise FormatError(f"{path}: no notes as hs2p and slide2vec write them ({error})") from error


def positive(said: dict[str, Any], name: str) -> float | None:
    """A positive finite number of notes, or None."""
    value = said.get(name)
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LARGEST
    return float(value) if known else None  # type: ignore[arg-type]


def read_squares(path: Path) -> ForeignTiles:
    """Read tiles of QuPath's GeoJSON.

    Raises:
        MissingArtifactError: no such file.
        FormatError: no GeoJSON, or what it holds are no squares of one size.
    """
    objects = _objects(path)
    tiles = [one for one in objects if _properties(one).get("objectType") == "tile"] or objects
    corners = np.array([_extent(path, one) for one in tiles], np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    if not len(sides):
        raise FormatError(f"{path}: holds no object")
    side = float(np.median(sides))
    odd = np.flatnonzero((abs(sides - side) > _UNEVEN_PX).any(axis=1))
    if side <= 0 or len(odd):
        raise FormatError(
            f"{path}: outlines, not tiles: {len(odd) or len(tiles)} of {len(tiles)} objects are no squares of one "
            "size. Tiles that QuPath trims to an annotation aren't whole: make them without trimming."
        )
    return ForeignTiles(
        layout="QuPath",
        slide_id=path.stem,
        coords=np.rint(corners[:, :2]).astype(np.int64),
        tile_px=None,
        tile_level0_px=side,
        overlap_px=None,
        level0_width=None,
        level0_height=None,
    )


def _objects(path: Path) -> list[dict[str, Any]]:
    """Objects of a FeatureCollection, of a bare list of them, or one alone: QuPath writes all three."""
    if not path.is_file():
        raise MissingArtifactError(f"{path}: no such file")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: no readable GeoJSON ({error}); a copy cut short?") from error
    if isinstance(found, dict):
        found = found.get("features", [found])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise FormatError(f"{path}: no GeoJSON of objects")
    return found


def _properties(one: dict[str, Any]) -> dict[str, Any]:
    said = one.get("properties")
    return said if isinstance(said, dict) else {}


def _extent(path: Path, one: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a rectangle; one that is none has no extent, which no square has."""
    geometry = one.get("geometry")
    try:
        (ring,) = geometry["coordinates"]  # type: ignore[index]
        points = np.array(ring, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, KeyError, OverflowError):
        return (0, 0, 0, 0)
    if len(points) < 4 or not (abs(points) < _LARGEST).all():
        raise FormatError(f"{path}: a corner that is no place on a slide, or fewer than three corners")
    low, high = points.min(axis=0), points.max(axis=0)
    if not ((points == low) | (points == high)).all():
        return (0, 0, 0, 0)
    return (*low.tolist(), *high.tolist())
