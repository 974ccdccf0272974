"""What an HDF5 file may be made of, checked before anything in it is read: it may be anybody's, and hostile.

HDF5 lets a file name other files to be read, declare arrays far larger than itself, and nest without end. None of our
files does, so none of it is followed or allocated. Text is of fixed length: of a text of any length HDF5 takes as much
memory as the file says, fills it, and only then looks whether the text is there; in a damaged store of such texts it
goes round for ever.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.digests import crc32, read_array

_DEPTH = 6
_UNFOLDS = 16
"""Times its own size that a file may unfold to where it is compressed; ours never are, repacked ones may be."""
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
SEAL = "attributes_crc32"
"""Checksum, in a file of ours, of everything but its arrays, which have their own."""
_ATTRIBUTE_BYTES = 60_000
"""HDF5 holds 64 KiB in an attribute, name and type included."""


def put_text(item: h5py.HLObject, name: str, value: str) -> None:
    """Write an attribute of text, UTF-8 of fixed length.

    Raises:
        FormatError: it is longer than an attribute can be.
    """
    array = _fixed(value)
    if array.nbytes > _ATTRIBUTE_BYTES:
        raise FormatError(f"{name} is a text of {array.nbytes} bytes; an attribute holds {_ATTRIBUTE_BYTES}")
    item.attrs.create(name, array, dtype=array.dtype)


def put_texts(group: h5py.Group, name: str, value: str | Sequence[str]) -> None:
    """Write a dataset of text: one of any length, or a list of them, each UTF-8 of fixed length."""
    array = _fixed(value)
    group.create_dataset(name, data=array, dtype=array.dtype)


def _fixed(value: str | Sequence[str]) -> NDArray[np.bytes_]:
    encoded = np.array(np.char.encode(np.array(value, dtype=np.str_), "utf-8", "surrogateescape"))
    return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.itemsize)))


def text(item: h5py.HLObject, name: str, default: str | None = None) -> str:
    """An attribute of text.

    Raises:
        KeyError: it is not there, and there is no default.
        TypeError: it is no text.
    """
    if default is not None and name not in item.attrs:
        return default
    return _decoded(item.attrs[name], name)


def texts(group: h5py.Group, name: str) -> tuple[str, ...]:
    """A list of texts; none where the dataset is not there."""
    return tuple(_decoded(value, name) for value in read_array(group[name])) if name in group else ()


def long_text(group: h5py.Group, name: str) -> str:
    """A dataset of one text.

    Raises:
        KeyError: it is not there.
        TypeError: it is no text, or a list.
    """
    return _decoded(read_array(group[name]), name)


def _decoded(value: Any, name: str) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"{name} is not a text")
    return value.decode("utf-8", "surrogateescape")


class Budget:
    """How many bytes a file may still give.

    Args:
        path: the file, for messages.
        n_bytes: its size.
    """

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._path, self._n_bytes = path, n_bytes
        self._left, self._left_folded = n_bytes, _UNFOLDS * n_bytes

    def take(self, what: str, n_bytes: int, shape: tuple[int, ...] | None, *, folded: bool = False) -> None:
        """Count bytes that ``what`` would take in memory.

        Raises:
            FormatError: no file of this size holds as much.
        """
        self._left_folded -= n_bytes
        if not folded:
            self._left -= n_bytes
        if self._left < 0 or self._left_folded < 0:
            raise self._too_large(what, shape)

    def fits(self, what: str, n_bytes: int, shape: tuple[int, ...], *, folded: bool) -> None:
        """Refuse what would be larger than all of the file, without counting it.

        Raises:
            FormatError: as ``take``.
        """
        if n_bytes > self._n_bytes * (_UNFOLDS if folded else 1):
            raise self._too_large(what, shape)

    def _too_large(self, what: str, shape: tuple[int, ...] | None) -> FormatError:
        return FormatError(f"{self._path}: {what} of shape {shape} is larger than the file that it is in")


def require_plain(path: Path, file: h5py.File, *, redo: str | None, n_bytes: int | None = None) -> int:
    """Refuse a file that holds anything but numbers and text of its own, no larger than itself.

    Args:
        path: the file.
        file: opened.
        n_bytes: its size; None to ask the system.
        redo: the command that makes a file of ours anew; None for a file of another tool, which may hold text of any
            length: that must not be read here.

    Returns:
        Checksum of all names, types, shapes and attributes, ``SEAL`` left out; 0 for a file of another tool.

    Raises:
        FormatError: a link, an array in another file, another type, a filter, a size that can't be, or endless nesting.
    """
    size = path.stat().st_size if n_bytes is None else n_bytes
    digest = _require_plain_root(path, file, size, redo)
    budget = Budget(path, size)
    seen = {_address(file)}
    for name, item in _walk(path, file, seen):
        digest = _require_plain_attributes(path, item, budget, redo, crc32(_encoded(name), digest))
        if isinstance(item, h5py.Dataset):
            digest = crc32(f"{item.dtype.str}{item.shape}".encode(), digest)
            _require_plain_dataset(path, name, item, budget, redo)
        elif not isinstance(item, h5py.Group):
            raise FormatError(f"{path}: {name} is a named type, not an array")
    return digest


def require_plain_root(path: Path, file: h5py.File, *, redo: str | None) -> None:
    """Refuse a file by its root attributes alone: all that is read of it where only its header is wanted.

    Raises:
        FormatError: as ``require_plain``; or its addresses are not plain places in the file, eight bytes wide.
    """
    _require_plain_root(path, file, path.stat().st_size, redo)


def _require_plain_root(path: Path, file: h5py.File, n_bytes: int, redo: str | None) -> int:
    if file.userblock_size or file.id.get_create_plist().get_sizes() != (8, 8):
        raise FormatError(f"{path}: an HDF5 file with a block in front, or with addresses that are not 8 bytes wide")
    return _require_plain_attributes(path, file, Budget(path, n_bytes), redo, 0)


def _walk(path: Path, file: h5py.File, seen: set[int]) -> Iterator[tuple[str, h5py.HLObject]]:
    """Everything below the root, without recursion; each object once."""
    groups = [("", file, 0)]
    while groups:
        prefix, group, depth = groups.pop()
        if depth > _DEPTH:
            raise FormatError(f"{path}: groups nested deeper than {_DEPTH}")
        for key in group:
            name = f"{prefix}{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise FormatError(f"{path}: {name} is a link to another place, which is not followed")
            item = group[key]
            if _address(item) in seen:
                raise FormatError(f"{path}: {name} is the same object as another")
            seen.add(_address(item))
            yield name, item
            if isinstance(item, h5py.Group):
                groups.append((f"{name}/", item, depth + 1))


def _address(item: h5py.HLObject) -> int:
    return int(h5py.h5o.get_info(item.id).addr)


def _require_plain_dataset(path: Path, name: str, item: h5py.Dataset, budget: Budget, redo: str | None) -> None:
    if item.is_virtual or item.external:
        raise FormatError(f"{path}: {name} lies in another file, which is not opened")
    _require_plain_type(path, name, item.dtype, redo)
    made = item.id.get_create_plist()
    filters = {made.get_filter(number)[0] for number in range(made.get_nfilters())}
    if filters - _FILTERS:
        raise FormatError(f"{path}: {name} is packed with a filter that wsisurv does not use")
    folded = h5py.h5z.FILTER_DEFLATE in filters
    if item.shape is None:
        raise FormatError(f"{path}: {name} is empty of any shape")
    budget.take(name, item.nbytes, item.shape, folded=folded)
    if item.chunks is not None:
        size = math.prod(item.chunks) * item.dtype.itemsize
        budget.fits(f"a block of {name}", size, item.chunks, folded=folded)


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _require_plain_attributes(path: Path, item: h5py.HLObject, budget: Budget, redo: str | None, digest: int) -> int:
    """Look through attributes; gives ``digest`` with theirs taken in, where they are of a file of ours."""
    attributes = item.attrs
    for name in attributes:
        attribute = attributes.get_id(name)
        dtype, shape = attribute.dtype, attribute.shape  # each is asked of HDF5 anew: once is enough
        _require_plain_type(path, f"attribute {name}", dtype, redo)
        size = math.prod(shape) * dtype.itemsize if shape is not None else 0
        budget.take(f"attribute {name}", size, shape)
        if redo is not None and name != SEAL and shape is not None:
            values = np.empty(shape, dtype)
            attribute.read(values)
            digest = crc32(values.tobytes(), crc32(_encoded(name), digest))
    return digest


def _require_plain_type(path: Path, name: str, dtype: np.dtype[np.generic], redo: str | None) -> None:
    """Refuse what is neither numbers nor text, and text of any length in a file of ours."""
    string = h5py.check_string_dtype(dtype)
    if string is None and dtype.kind not in "fiub":
        raise FormatError(f"{path}: {name} has type {dtype}, not numbers or text")
    if redo is not None and string is not None and string.length is None:
        raise FormatError(
            f"{path}: {name} is text of variable length, which this wsisurv neither writes nor reads. Run {redo}."
        )


def require_array(path: Path, name: str, values: NDArray[Any], *, kinds: str, shape: Sequence[int | None]) -> None:
    """Refuse an array of another type or shape than its reader understands.

    Args:
        path: the file.
        name: of the array.
        values: what was read.
        kinds: of dtype that will do, such as ``f`` or ``iu``.
        shape: wanted; None where any length will do.

    Raises:
        FormatError: it is another.
    """
    fits = values.ndim == len(shape) and all(
        wanted in {None, length} for wanted, length in zip(shape, values.shape, strict=True)
    )
    if not fits or values.dtype.kind not in kinds:
        wanted_shape = ", ".join("any" if length is None else str(length) for length in shape)
        raise FormatError(
            f"{path}: {name} is {values.dtype} of shape {values.shape}, not the numbers of shape ({wanted_shape}) that "
            "belong there"
        )
