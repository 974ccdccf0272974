"""Tiles and features that other tools made, told apart by what is in the file.

Layouts (HDF5, one file a slide; coordinates are of the tiles' top left):

- STAMP 2, features: ``feats`` (n, d); ``coords`` (n, 2) in **µm**; root attributes ``unit`` = "um", ``tile_size_um``
  (``tile_size`` in 2.0), ``tile_size_px``, ``extractor``.
- TRIDENT, tiles (``SLIDE_patches.h5``): ``coords`` (n, 2) in level-0 pixels with attributes ``patch_size``,
  ``patch_size_level0``, ``level0_magnification``, ``target_magnification``, ``overlap``, ``name``, ``level0_width``,
  ``level0_height``; features: the same and ``features`` (n, d), which may carry the attribute ``encoder``.
- CLAM, tiles: ``coords`` (n, 2) in level-0 pixels with attributes ``patch_size`` (pixels of level ``patch_level``),
  ``patch_level``, ``downsample`` (x, y), ``level_dim``, ``name``; features: ``features`` (n, d) and ``coords``, without
  attributes.
- Mussel 1.5, tiles: as CLAM's without ``downsample``; ``patch_size`` as read, and of the tile
  ``patch_size_to_resize_to_for_desired_mpp`` and ``mpp``; ``native_mpp`` of the slide as Mussel took it.
- AtlasPatch, both in one file: ``coords`` (n, 5), which are x and y in level-0 pixels, width and height as read, and
  level; TRIDENT's attributes at the root, with ``wsi_path``; ``features/ENCODER`` (n, d), any number of them.
- Embeddings of a whole slide or patient, one row: TRIDENT ``features`` (d,) beside the ``coords`` of all its tiles;
  STAMP ``feats`` (1, d) or (d,) with root attributes ``encoder`` and ``feat_type`` (``slide``, ``patient``);
  AtlasPatch ``slide_features/ENCODER`` (d,) in the file of the tiles, and of a patient ``features`` (d,) alone with
  root attributes ``encoder_name`` and ``num_slides``; MOOZY ``features`` (d,) with ``coords`` that are none.
- ``features`` (n, d) alone, without ``coords``: rows whose place nobody knows.
- ``.pt``: ``foreign_tensors``; ``.npz`` and ``.geojson``: ``foreign_places``; folders: ``foreign_stores``.

What a layout does not say is None: it has to be asked for, never invented.
"""

import glob
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError, MissingArtifactError, WsisurvError
from wsisurv.formats.atomic import read_json
from wsisurv.formats.foreign_kinds import FeaturesOutline, ForeignFeatures, ForeignTiles, Layout, Level
from wsisurv.formats.foreign_places import read_hs2p_tiles, read_squares
from wsisurv.formats.foreign_stores import outline_store, read_store_features, read_store_tiles
from wsisurv.formats.foreign_tensors import read_tensors
from wsisurv.formats.foreign_text import read_text
from wsisurv.formats.hdf5 import require_array, require_plain
from wsisurv.formats.header import DAMAGE

_SUFFIX = "_patches"  # of TRIDENT's tile files
_VERSION = re.compile(r"[\w.+-]{1,40}")


def holds_features(path: Path) -> bool:
    """Whether a file that another tool made holds features, and not tiles alone.

    Raises:
        FormatError: no HDF5, or one that holds more than numbers and text of its own (``hdf5``); also below.
    """
    if path.suffix == ".pt":
        return True
    with _opened(path) as file:
        return bool({"feats", "features", "slide_features"} & file.keys())


def outline(path: Path, dataset: str | None = None, preferred: str | None = None) -> FeaturesOutline:
    """What a file of features holds, without reading them.

    Args:
        path: the file.
        dataset: as ``read_foreign_features``.
        preferred: as ``read_foreign_features``.

    Raises:
        FormatError: as ``read_foreign_features``.
    """
    if path.is_dir():
        return outline_store(path, dataset, preferred)
    if path.suffix == ".pt":
        return read_tensors(path).outline
    with _opened(path) as file:
        found = _find(path, file, dataset, preferred)
        data = found.group[found.name]
        return FeaturesOutline(data.shape[-1] if data.ndim else 0, str(data.dtype), found.level, found.encoder)


def read_foreign_features(path: Path, dataset: str | None = None, preferred: str | None = None) -> ForeignFeatures:
    """Read features that another tool made.

    Args:
        path: the file, or a store's folder.
        dataset: which of AtlasPatch's ``features/…`` and ``slide_features/…``, or of a store's tables; may be left out
            where there is one.
        preferred: that which is taken of several, where no ``dataset`` is named and there is one of this name.

    Raises:
        FormatError: no HDF5, none of the layouts, or features and coords that don't belong together.
    """
    if path.is_dir():
        features = read_store_features(path, dataset, preferred)
    elif path.suffix == ".pt":
        features = read_tensors(path)
    else:
        with _opened(path) as file:
            features = _features(path, file, _find(path, file, dataset, preferred))
    values, coords = features.values, features.coords
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if features.level != "tile":
        values, coords = values.reshape(1, -1) if values.ndim == 1 else values, None
    if values.ndim != 2 or (features.level != "tile" and len(values) != 1):
        raise FormatError(
            f"{path}: features of shape {features.values.shape}; needed is one row a tile, or one row of a whole slide "
            "or patient"
        )
    if coords is not None and coords.shape != (len(values), 2):
        raise FormatError(
            f"{path}: features of shape {values.shape} and coords of shape {coords.shape} don't "
            "belong together; one row a tile is needed"
        )
    require_array(path, "features", values, kinds="f", shape=(None, None))
    if coords is not None:
        _require_places(path, coords)
    return replace(features, values=values, coords=coords)


def read_foreign_tiles(path: Path, dataset: str | None = None) -> ForeignTiles:
    """Read tiles that another tool cut.

    Args:
        path: the file, or a store's folder.
        dataset: which tiles of a store that has several.

    Raises:
        FormatError: no file that is known, none of the layouts, or attributes that can't be.
    """
    if path.is_dir():
        tiles = read_store_tiles(path, dataset)
    elif path.suffix == ".npz":
        tiles = read_hs2p_tiles(path)
    elif path.suffix == ".geojson":
        tiles = read_squares(path)
    else:
        with _opened(path) as file:
            tiles = _tiles(path, file)
    if tiles.coords.ndim != 2 or tiles.coords.shape[1] != 2:
        raise FormatError(f"{path}: coords of shape {tiles.coords.shape}; x and y a tile are needed")
    if (tiles.tile_px is not None and tiles.tile_px <= 0) or not 0 < tiles.tile_level0_px < np.inf:
        raise FormatError(f"{path}: tiles of {tiles.tile_px} px, {tiles.tile_level0_px:g} level-0 px, can't be")
    return tiles


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file that holds nothing but numbers and text of its own, as our own files do."""
    if not path.is_file():
        raise MissingArtifactError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            require_plain(path, file, redo=None)
            yield file
    except OSError as error:
        raise FormatError(f"{path}: no readable HDF5 file ({error}); a copy cut short?") from error
    except KeyError as error:
        raise FormatError(f"{path}: {error.args[0] if error.args else 'a part'}; not as the tool writes it") from error
    except DAMAGE as error:
        raise FormatError(f"{path}: not as the tool writes it ({type(error).__name__}: {error})") from error


class _Found(NamedTuple):
    """Where the features of a file are, and what they are of."""

    group: h5py.Group
    name: str
    level: Level
    encoder: str | None


def _find(path: Path, file: h5py.File, dataset: str | None, preferred: str | None) -> _Found:
    if "feats" in file:
        of = _text(path, file, "feat_type")
        level: Level = "slide" if of == "slide" else "patient" if of == "patient" else "tile"
        return _Found(file, "feats", level, _text(path, file, "extractor" if level == "tile" else "encoder"))
    groups = {key: file[key] for key in ("features", "slide_features") if isinstance(file.get(key), h5py.Group)}
    if groups:
        known = {name: (key, name) for key in ("slide_features", "features") for name in groups.get(key, ())}
        known |= {f"{key}/{name}": (key, name) for key, group in groups.items() for name in group}
        names = sorted({name for group in groups.values() for name in group})
        wanted = preferred if dataset is None and preferred in known else dataset
        key, name = known[_one_of(path, names, wanted, known)]
        return _Found(groups[key], name, "slide" if key == "slide_features" else "tile", name)
    if "features" not in file:
        raise FormatError(
            f"{path}: holds {', '.join(sorted(file.keys())) or 'nothing'}; known are feats (STAMP) and features "
            "(TRIDENT, CLAM, AtlasPatch), with coords or without"
        )
    encoder = _text(path, file["features"], "encoder") or _text(path, file, "encoder_name")
    if file["features"].ndim != 1:
        return _Found(file, "features", "tile", encoder)
    patient = "num_slides" in file.attrs or ("coords" in file and "num_slides" in file["coords"].attrs)
    return _Found(file, "features", "patient" if patient else "slide", encoder)


def _features(path: Path, file: h5py.File, found: _Found) -> ForeignFeatures:
    if found.name == "feats":
        return _stamp(path, file, found)
    values = _numbers(path, found.group, found.name)
    if found.level != "tile" or "coords" not in file:
        tool: Layout = "AtlasPatch" if "encoder_name" in file.attrs or found.group is not file else "TRIDENT"
        return ForeignFeatures(
            tool if found.level != "tile" else "CLAM", values, None, found.encoder, level=found.level
        )
    layout, said = _layout(file)
    tile_px = None if layout == "CLAM" else _number(path, said, "patch_size")
    return ForeignFeatures(
        layout=layout,
        values=values,
        coords=_xy(path, file),
        encoder=found.encoder,
        tile_px=None if tile_px is None else round(tile_px),
        tile_level0_px=None if layout == "CLAM" else _number(path, said, "patch_size_level0"),
        version=_trident_version(path) if layout == "TRIDENT" else "",
        settings=_said_numbers(said),
    )


def _stamp(path: Path, file: h5py.File, found: _Found) -> ForeignFeatures:
    version = _text(path, file, "stamp_version") or ""
    if found.level != "tile" or "coords" not in file:
        values = _numbers(path, file, "feats")
        return ForeignFeatures("STAMP", values, None, found.encoder, level=found.level, version=version)
    if _text(path, file, "unit") != "um":
        raise FormatError(f"{path}: feats and coords without unit 'um'. Only STAMP 2's layout says its unit.")
    tile_px = _number(path, file, "tile_size_px")
    tile_um = _number(path, file, "tile_size_um") or _number(path, file, "tile_size")
    return ForeignFeatures(
        layout="STAMP",
        values=_numbers(path, file, "feats"),
        coords=_numbers(path, file, "coords"),
        encoder=found.encoder,
        tile_px=None if tile_px is None else round(tile_px),
        tile_mpp=tile_um / tile_px if tile_um and tile_px else None,
        version=version,
        settings=_said_numbers(file),
    )


def _one_of(path: Path, names: list[str], wanted: str | None, known: Collection[str]) -> str:
    if wanted is not None and wanted in known:
        return wanted
    if wanted is None and len(names) == 1:
        return names[0]
    raise FormatError(f"{path}: holds features of {', '.join(names) or 'no encoder'}. Name one with --dataset.")


def _tiles(path: Path, file: h5py.File) -> ForeignTiles:
    if "coords" not in file or "feats" in file:
        raise FormatError(
            f"{path}: holds {', '.join(sorted(file.keys())) or 'nothing'}; tiles are told by coords (TRIDENT, CLAM, "
            "AtlasPatch)"
        )
    layout, said = _layout(file)
    side_px = _needed(path, said, "patch_size")
    if layout == "Mussel":
        return _mussel(path, file, said, side_px)
    if layout == "CLAM":
        level = int(_needed(path, said, "patch_level"))
        across, down = np.broadcast_to(_figures(path, said, "downsample"), 2)
        if abs(across - down) > 0.01 * across or _number(path, said, "custom_downsample") not in (None, 1.0):
            raise FormatError(f"{path}: a downsample that differs in x and y, or a custom one, is not understood")
        side_level0 = side_px * float(across + down) / 2
        width, height = _figures(path, said, "level_dim") if level == 0 else (None, None)
    else:
        side_level0 = _needed(path, said, "patch_size_level0")
        width, height = _number(path, said, "level0_width"), _number(path, said, "level0_height")
    overlap = _number(path, said, "overlap")
    return ForeignTiles(
        layout=layout,
        slide_id=_text(path, said, "name") or path.stem.removesuffix(_SUFFIX),
        coords=_require_places(path, _xy(path, file)).astype(np.int64),
        tile_px=round(side_px),
        tile_level0_px=side_level0,
        overlap_px=None if overlap is None else round(overlap),
        level0_width=None if width is None else int(width),
        level0_height=None if height is None else int(height),
        version=_trident_version(path) if layout == "TRIDENT" else "",
        settings=_said_numbers(said),
    )


def _mussel(path: Path, file: h5py.File, said: h5py.HLObject, read_px: float) -> ForeignTiles:
    """Mussel's tiles are read from a level, whose reduction it doesn't say, and resampled to a resolution."""
    tile_px, tile_mpp, mpp = (
        _needed(path, said, name) for name in ("patch_size_to_resize_to_for_desired_mpp", "mpp", "native_mpp")
    )
    at_level0 = int(_needed(path, said, "patch_level")) == 0
    if not all(0 < value < np.inf for value in (tile_px, tile_mpp, mpp, read_px)):
        raise FormatError(f"{path}: a side or resolution that is no positive number")
    width, height = _figures(path, said, "level_dim") if at_level0 else (None, None)
    return ForeignTiles(
        layout="Mussel",
        slide_id=_text(path, said, "name") or path.stem,
        coords=_require_places(path, _xy(path, file)).astype(np.int64),
        tile_px=round(tile_px),
        tile_level0_px=read_px if at_level0 else tile_px * tile_mpp / mpp,
        overlap_px=round(_needed(path, said, "overlap") * tile_px / read_px),
        level0_width=None if width is None else int(width),
        level0_height=None if height is None else int(height),
        tile_mpp=tile_mpp,
        mpp=mpp,
        settings=_said_numbers(said),
    )


def _said_numbers(item: h5py.HLObject) -> dict[str, object]:
    """Attributes that are one number: what a tool says of its settings, short of its texts."""
    plain = (name for name in item.attrs if (kind := item.attrs.get_id(name)).dtype.kind in "fiub" and not kind.shape)
    said = {name: item.attrs[name].item() for name in plain}
    return {name: value for name, value in said.items() if np.isfinite(value)}


def _trident_version(path: Path) -> str:
    """The version in TRIDENT's record of a slide, which lies in the root of its job; empty where it is not there."""
    name = path.stem.removesuffix(_SUFFIX)
    for folder in path.parents[1:4]:
        for record in sorted((folder / "wsi_states").glob(f"{glob.escape(name)}__*.json")):
            try:
                version = read_json(record).get("trident_version")
            except (WsisurvError, OSError, ValueError, RecursionError, AttributeError):
                continue
            if isinstance(version, str) and _VERSION.fullmatch(version):
                return version
    return ""


def _layout(file: h5py.File) -> tuple[Layout, h5py.HLObject]:
    """Whose file it is, and the object whose attributes say how its tiles lie."""
    coords = file["coords"]
    if coords.ndim == 2 and coords.shape[1] == 5:
        return "AtlasPatch", file
    if "native_mpp" in coords.attrs:
        return "Mussel", coords
    return ("TRIDENT" if "level0_magnification" in coords.attrs else "CLAM"), coords


def _numbers(path: Path, group: h5py.Group, name: str) -> NDArray[Any]:
    """A dataset of numbers; text of any length would not be safe to read here."""
    if group[name].dtype.kind not in "fiub":
        raise FormatError(f"{path}: {name} has type {group[name].dtype}, no finite numbers")
    return np.asarray(group[name][()])


def _xy(path: Path, file: h5py.File) -> NDArray[Any]:
    coords = _numbers(path, file, "coords")
    return coords[:, :2] if coords.ndim == 2 and coords.shape[1] == 5 else coords


def _require_places(path: Path, coords: NDArray[Any]) -> NDArray[Any]:
    if coords.dtype.kind not in "iuf" or not np.isfinite(coords).all():
        raise FormatError(f"{path}: coords are no finite numbers")
    return coords


def _figures(path: Path, item: h5py.HLObject, name: str) -> NDArray[np.float64]:
    """An attribute of numbers, KeyError where it is not there."""
    if item.attrs.get_id(name).dtype.kind not in "fiub":
        raise FormatError(f"{path}: attribute {name} is no number")
    return np.asarray(item.attrs[name], dtype=np.float64)


def _needed(path: Path, item: h5py.HLObject, name: str) -> float:
    return float(_figures(path, item, name).item())


def _number(path: Path, item: h5py.HLObject, name: str) -> float | None:
    return _needed(path, item, name) if name in item.attrs else None


def _text(path: Path, item: h5py.HLObject, name: str) -> str | None:
    """An attribute of text, None where it is not there."""
    if name not in item.attrs:
        return None
    string = h5py.check_string_dtype(item.attrs.get_id(name).dtype)
    if string is None:
        raise FormatError(f"{path}: attribute {name} is no text")
    return read_text(path, item.name, name) if string.length is None else item.attrs[name].decode()
