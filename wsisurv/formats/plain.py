"""What an HDF5 file may be made of, checked before anything in it is read: it may be anybody's, and hostile.

HDF5 lets a file name other files to be read, declare arrays far larger than itself, and nest without end. None of our
files does, so none of it is followed or allocated.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError
from wsisurv.formats.named_texts import (
    named_in_attributes,
    named_in_dataset,
    require_sound_stores,
    require_usual_addresses,
)

_DEPTH = 6
_UNFOLDS = 16
"""Times its own size that a file may unfold to where it is compressed; ours never are, repacked ones may be."""
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


class Budget:
    """How many bytes a file may still give.

    Args:
        path: the file, for messages.
        n_bytes: its size.
    """

    def __init__(self, path: Path, n_bytes: int) -> None:
        self._path, self._n_bytes = path, n_bytes
        self._left, self._left_folded = n_bytes, _UNFOLDS * n_bytes
        self._left_stores, self._sound = n_bytes, set[int]()

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

    def take_texts(self, what: str, named: NDArray[Any], shape: tuple[int, ...] | None) -> None:
        """Count the lengths of texts, which many may name at once, and look at the stores that they lie in.

        Args:
            what: for the message.
            named: of them (``named_texts``).
            shape: for the message.

        Raises:
            FormatError: as ``take``, or a store without an end.
        """
        self.take(what, int(named["length"].sum(dtype=np.uint64)), shape)
        stores = set(named["heap"][named["length"] > 0].tolist()) - self._sound
        self._left_stores -= require_sound_stores(self._path, sorted(stores), self._left_stores)
        self._sound |= stores

    def fits(self, what: str, n_bytes: int, shape: tuple[int, ...], *, folded: bool) -> None:
        """Refuse what would be larger than all of the file, without counting it.

        Raises:
            FormatError: as ``take``.
        """
        if n_bytes > self._n_bytes * (_UNFOLDS if folded else 1):
            raise self._too_large(what, shape)

    def _too_large(self, what: str, shape: tuple[int, ...] | None) -> FormatError:
        return FormatError(f"{self._path}: {what} of shape {shape} is larger than the file that it is in")


def require_plain(path: Path, file: h5py.File) -> None:
    """Refuse a file that holds anything but numbers and text of its own, no larger than itself.

    Raises:
        FormatError: a link, an array in another file, another type, a filter, a size that can't be, or endless nesting.
    """
    require_usual_addresses(path, file)
    budget = Budget(path, path.stat().st_size)
    require_plain_attributes(path, file, budget)
    seen = {_address(file)}
    for name, item in _walk(path, file, seen):
        require_plain_attributes(path, item, budget)
        if isinstance(item, h5py.Dataset):
            _require_plain_dataset(path, name, item, budget)
        elif not isinstance(item, h5py.Group):
            raise FormatError(f"{path}: {name} is a named type, not an array")


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


def _require_plain_dataset(path: Path, name: str, item: h5py.Dataset, budget: Budget) -> None:
    if item.is_virtual or item.external:
        raise FormatError(f"{path}: {name} lies in another file, which is not opened")
    is_text = _require_plain_type(path, name, item.dtype)
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
    if is_text:  # each text lies in the file once, but many cells may name the same
        if item.ndim != 1:
            raise FormatError(f"{path}: {name} is text of shape {item.shape}, more than a list")
        budget.take_texts(f"the text of {name}", named_in_dataset(path, name, item), item.shape)


def require_plain_attributes(path: Path, item: h5py.HLObject, budget: Budget) -> None:
    """Refuse attributes that are not numbers or text, or larger than their file.

    Raises:
        FormatError: as ``require_plain``.
    """
    attributes, named = item.attrs, None
    for name in attributes:
        attribute = attributes.get_id(name)
        dtype, shape = attribute.dtype, attribute.shape  # each is asked of HDF5 anew: once is enough
        is_text = _require_plain_type(path, f"attribute {name}", dtype)
        size = math.prod(shape) * dtype.itemsize if shape is not None else 0
        if is_text:
            named = named_in_attributes(path, item) if named is None else named
            if name not in named:
                raise FormatError(
                    f"{path}: attribute {name} is text that does not lie with its object; a copy by h5py with "
                    "libver='earliest' has it there"
                )
            budget.take_texts(f"attribute {name}", named[name], shape)
        budget.take(f"attribute {name}", size, shape)


def _require_plain_type(path: Path, name: str, dtype: np.dtype[np.generic]) -> bool:
    """Whether it is text of any length; refused where it is neither text nor numbers."""
    if h5py.check_string_dtype(dtype) is not None:
        return dtype.kind == "O"
    if dtype.kind not in "fiub":
        raise FormatError(f"{path}: {name} has type {dtype}, not numbers or text")
    return False


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
