"""Rows of a features file without the rest of it: what the file holds, and where on the disk each row lies."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import ArtifactError, FormatError
from wsisurv.formats.features import FORMAT, MADE_BY
from wsisurv.formats.hdf5 import text, texts
from wsisurv.formats.header import Header, opened, require_id


@dataclass(frozen=True)
class FeatureFile:
    """A features file, described but not read."""

    path: Path  # the file
    header: Header  # what made it
    encoder: str  # name of the encoder
    names: tuple[str, ...]  # a name for each column, empty where the encoder has none
    tile_settings: dict[str, object]  # the tile settings that made the tiles (JSON object)
    weights: str  # where the encoder's weights came from, with the revision; empty where the file doesn't say
    n_tiles: int  # rows
    n_features: int  # columns
    dtype: np.dtype[np.floating[Any]]  # of a value, float16 or float32
    block_rows: int  # rows of a block that lies on the disk in one piece
    # int64 (n_blocks,), byte at which each block begins; None where blocks are compressed
    block_starts: NDArray[np.int64] | None
    stamp: tuple[int, int, int]  # inode, time and size of the file when it was described


def describe_features(path: Path) -> FeatureFile:
    """Describe the features of a slide.

    Raises:
        MissingArtifactError, FormatError: as ``read_features``.
    """
    with opened(path, FORMAT, MADE_BY) as (file, header):
        values = file["features"]
        n_places = len(file["coords"]) if "coords" in file else None  # None: nobody knows where the tiles lie
        if values.ndim != 2 or n_places not in (None, len(values)):
            raise FormatError(f"{path}: features {values.shape} and coords of {n_places} tiles don't match")
        require_id(path, text(file, "slide_id"))
        return FeatureFile(
            path=path,
            header=header,
            encoder=text(file, "encoder"),
            names=texts(file, "names"),
            tile_settings=json.loads(text(file, "tile_settings")),
            weights=text(file, "weights", ""),
            n_tiles=values.shape[0],
            n_features=values.shape[1],
            dtype=values.dtype,
            block_rows=values.chunks[0] if values.chunks else max(1, len(values)),
            block_starts=_block_starts(values),
            stamp=_stamp(os.stat(path)),
        )


def read_rows(file: FeatureFile, rows: NDArray[np.int64], out: NDArray[np.floating[Any]]) -> None:
    """Read some rows of a file, and no more than these where it is not compressed.

    Args:
        file: as described.
        rows: int64 (n,), numbers of the rows, in any order.
        out: (n, n_features) of the file's dtype, contiguous, to be filled.

    Raises:
        ArtifactError: the file was replaced since it was described.
        FormatError: it ends too early.
    """
    if not len(rows):
        return
    if file.block_starts is None:
        with opened(file.path, FORMAT, MADE_BY) as (hdf5, _):
            _require_same(file, os.stat(file.path))
            first = int(rows.min())
            out[:] = hdf5["features"][first : int(rows.max()) + 1][rows - first]
        return
    width = file.dtype.itemsize * file.n_features
    at = file.block_starts[rows // file.block_rows] + rows % file.block_rows * width
    runs = [0, *(np.flatnonzero(np.diff(at) != width) + 1).tolist(), len(rows)]
    target = out.data.cast("B")
    with open(file.path, "rb", buffering=0) as raw:
        _require_same(file, os.fstat(raw.fileno()))
        for start, end in zip(runs[:-1], runs[1:], strict=True):
            raw.seek(at[start])
            part = target[start * width : end * width]
            while part:
                if not (read := raw.readinto(part)):
                    raise FormatError(f"{file.path}: ends before row {rows[end - 1]}. Run `{MADE_BY}` again.")
                part = part[read:]


def _block_starts(values: h5py.Dataset) -> NDArray[np.int64] | None:
    """Where each block begins; None where its bytes are not plain rows of this machine's numbers."""
    if values.dtype not in (np.float16, np.float32) or values.id.get_create_plist().get_nfilters():
        return None
    if values.chunks is None:
        offset = values.id.get_offset()
        return None if offset is None else np.array([offset], dtype=np.int64)
    if values.chunks[1] != values.shape[1]:
        return None
    starts = np.full(-(-len(values) // values.chunks[0]), -1, dtype=np.int64)

    def note(block: h5py.h5d.StoreInfo) -> None:
        starts[block.chunk_offset[0] // values.chunks[0]] = block.byte_offset

    values.id.chunk_iter(note)
    return None if (starts < 0).any() else starts


def _stamp(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def _require_same(file: FeatureFile, seen: os.stat_result) -> None:
    if _stamp(seen) != file.stamp:
        raise ArtifactError(
            f"{file.path}: was replaced while it was being read. Let `{MADE_BY}` end, then run this again."
        )
