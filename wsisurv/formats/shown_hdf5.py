"""What an HDF5 file of ours says of itself: header, attributes, and its arrays by name, type and range."""

from pathlib import Path

import h5py
import numpy as np

from wsisurv.formats.hdf5 import texts
from wsisurv.formats.header import opened_any
from wsisurv.formats.shown import Array, Shown, plain_value

_SMALL = 1 << 20
"""Numbers of an array of which range and gaps are told; larger ones are not read."""
_OF_COLUMNS = ("names", "units", "definitions")
_HEAD = {"format", "format_version", "wsisurv_version", "settings", "inputs", "fingerprint"}


def describe_hdf5(path: Path) -> Shown:
    """As ``describe``."""
    with opened_any(path) as (file, header):
        arrays: list[Array] = []
        file.visititems(
            lambda name, item: arrays.append(_array(name, item)) if isinstance(item, h5py.Dataset) else None
        )
        said = {name: plain_value(value) for name, value in file.attrs.items() if name not in _HEAD}
        said |= {name: list(texts(file, name)) for name in _OF_COLUMNS if name in file}
    return Shown(path, header.format, path.stat().st_size, header, said, tuple(arrays))


def _array(name: str, item: h5py.Dataset) -> Array:
    attributes = {key: plain_value(value) for key, value in item.attrs.items()}
    shape = tuple(int(length) for length in item.shape)
    if item.dtype.kind not in "fiub":
        return Array(name, "text", shape, attributes=attributes)
    if not 0 < item.size <= _SMALL:
        return Array(name, str(item.dtype), shape, attributes=attributes)
    with np.errstate(all="ignore"):  # damaged floats may be of no kind that numpy knows
        values = np.asarray(item[()], dtype=np.float64)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (None, None)
    return Array(name, str(item.dtype), shape, low, high, int(values.size - known.size), attributes)
