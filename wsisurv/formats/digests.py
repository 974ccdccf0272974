"""Checksum of what a file of ours holds, which tells damage: a flipped bit, a copy cut short, another's array.

CRC-32 and not a longer one, since it has to cost next to nothing beside reading: of 41 MB of features, which HDF5 reads
in 128 ms, libdeflate's takes 7 ms, zlib's 60 ms and BLAKE2 290 ms (docs/formats.md).
"""

import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

_fast: Callable[..., int] = zlib.crc32
with suppress(ImportError):  # an imagecodecs that was built without libdeflate
    from imagecodecs import deflate_crc32

    deflate_crc32(b"")  # where it is missing, only its use says so
    _fast = deflate_crc32  # the same number

ATTRIBUTE = "crc32"
"""Dataset → checksum of its array."""
_LARGE = 1 << 12


def crc32(values: bytes | NDArray[Any], before: int = 0) -> int:
    """CRC-32 of bytes, or of an array's numbers in C order, going on from ``before``."""
    raw: Any = values if isinstance(values, bytes) else np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return int(_fast(raw, before)) if len(raw) > _LARGE else zlib.crc32(raw, before)


def seal_array(item: h5py.Dataset) -> None:
    """Give an array its checksum."""
    item.attrs[ATTRIBUTE] = np.uint32(crc32(np.asarray(item[()])))


def read_array(item: h5py.Dataset) -> Any:
    """Read an array whole and hold it against its checksum; that it has one is for the seal of the file to say.

    Raises:
        ValueError: they don't agree; a reader's ``opened`` makes a FormatError of it, with the way out.
    """
    values, written = item[()], item.attrs.get(ATTRIBUTE)
    if written is not None and crc32(np.asarray(values)) != int(written):
        raise ValueError(f"{item.name[1:]} is not what was written: its checksum is another")
    return values
