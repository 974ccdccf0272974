"""How long the texts of an HDF5 file claim to be and where they lie, from its bytes, before HDF5 reads one.

HDF5 takes a text's length from the place that names it, gives as much memory, fills it, and only then looks whether the
text is there: a spoilt length costs 4 GiB. And in a store of texts that does not end it goes round for ever. So what
names a text is read here, and what it names is looked at, before HDF5 is asked for it.

Source: HDF5 File Format Specification 3.0, III.E (global heap), IV.A (object headers), IV.A.2.m (attribute message).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import FormatError

_ATTRIBUTE, _CONTINUED, _ATTRIBUTE_INFO = 0x0C, 0x10, 0x15
_SHARED = 2
_NOWHERE = 0xFFFFFFFFFFFFFFFF
_NAMED = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])
"""How a text of any length is named where it is used."""


def require_usual_addresses(path: Path, file: h5py.File) -> None:
    """Refuse a file whose addresses are not plain places in it, eight bytes wide: what follows would look elsewhere.

    Raises:
        FormatError: it is such a file.
    """
    if file.userblock_size or file.id.get_create_plist().get_sizes() != (8, 8):
        raise FormatError(f"{path}: an HDF5 file with a block in front, or with addresses that are not 8 bytes wide")


def named_in_attributes(path: Path, item: h5py.HLObject) -> dict[str, NDArray[Any]]:
    """What each attribute would name if all of it were texts of any length: name → (n,) of length, store and number.

    An attribute that lies in the object's own header is in it; one that lies elsewhere is not.

    Raises:
        FormatError: an attribute is shared with another object, or the header goes on without end.
    """
    found: dict[str, NDArray[Any]] = {}
    with path.open("rb") as raw:
        for kind, flags, body in _messages(path, raw, int(h5py.h5o.get_info(item.id).addr)):
            if kind == _ATTRIBUTE_INFO and _number(body, 4 if body[1:2] and body[1] & 1 else 2, 8) != _NOWHERE:
                return {}
            if kind != _ATTRIBUTE:
                continue
            if flags & _SHARED:
                raise FormatError(f"{path}: an attribute that lies in another object")
            name, data = _attribute(body)
            # the same name twice: HDF5 takes one of them
            found[name] = np.concatenate([found.get(name, np.zeros(0, _NAMED)), _named(data)])
    return found


def named_in_dataset(path: Path, name: str, item: h5py.Dataset) -> NDArray[Any]:
    """What the texts of a dataset are named by: (n,) of length, store and number.

    Raises:
        FormatError: they are packed, or not written as a whole.
    """
    width = _NAMED.itemsize
    places: list[tuple[int | None, int]] = []
    if item.chunks is not None:
        chunks = [item.id.get_chunk_info(number) for number in range(item.id.get_num_chunks())]
        places = [(chunk.byte_offset, chunk.size) for chunk in chunks]
        wanted = -(-item.shape[0] // item.chunks[0]) * item.chunks[0] * width
    else:
        places = [(item.id.get_offset(), item.size * width)] if item.size else []
        wanted = item.size * width
    if item.id.get_create_plist().get_nfilters() or sum(size for _, size in places) != wanted:
        raise FormatError(f"{path}: {name} is text that is packed or not all there; `h5repack -f NONE` unpacks it")
    parts = [np.zeros(0, _NAMED)]
    with path.open("rb") as raw:
        for offset, size in places:
            if offset is None:
                raise FormatError(f"{path}: {name} is text that is not all there")
            raw.seek(offset)
            parts.append(_named(raw.read(size)))
    return np.concatenate(parts)


def require_sound_stores(path: Path, addresses: Iterable[int], most: int) -> int:
    """Refuse stores of text that HDF5 (2.0 too) would walk round in for ever.

    Args:
        path: the file.
        addresses: of the stores that something names.
        most: bytes that they may have together.

    Returns:
        The bytes that they have.

    Raises:
        FormatError: a text in a store has a length that can't be, or the stores are larger than that.
    """
    taken = 0
    with path.open("rb") as raw:
        for address in addresses:
            raw.seek(min(address, path.stat().st_size))
            head = raw.read(16)
            size = _number(head, 8, 8)
            taken += size
            # HDF5 looks at these five bytes, and not at the next three
            if head[:5] != b"GCOL\x01" or size < len(head) or taken > most or not _ends(raw.read(size - len(head))):
                raise FormatError(f"{path}: damaged: a store of text without an end at byte {address}")
    return taken


def _ends(content: bytes) -> bool:
    """Whether the texts of a store lead from its beginning to its end."""
    at = 0
    while at + 16 <= len(content):
        size = _number(content, at + 8, 8)
        if _number(content, at, 2) == 0:  # what is free, its own head included, up to the end
            return size == len(content) - at
        at += 16 + (size + 7) // 8 * 8
    return at <= len(content)


def _named(data: bytes) -> NDArray[Any]:
    return np.frombuffer(data[: len(data) // _NAMED.itemsize * _NAMED.itemsize], _NAMED)


def _number(data: bytes, start: int, width: int) -> int:
    return int.from_bytes(data[start : start + width], "little")


def _attribute(body: bytes) -> tuple[str, bytes]:
    """Name and value of an attribute."""
    sizes = [_number(body, start, 2) for start in (2, 4, 6)]  # of name, type and shape
    at = 9 if body[:1] == b"\x03" else 8
    name = body[at : at + sizes[0]].split(b"\0")[0].decode("utf-8", "surrogateescape")
    padded = [-(-size // 8) * 8 for size in sizes] if body[:1] == b"\x01" else sizes
    return name, body[at + sum(padded) :]


def _messages(path: Path, raw: BinaryIO, address: int) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and content of all messages in an object's header."""
    raw.seek(address)
    start = raw.read(32)
    new = start[:4] == b"OHDR"
    width = 4  # of what stands before a message: kind, size, flags
    if new:
        flags = start[5]
        width += 2 if flags & 4 else 0
        at = 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
        size = 1 << (flags & 3)
        blocks = [(address + at + size, _number(start, at, size))]
    else:
        width = 8
        blocks = [(address + 16, _number(start, 8, 4))]
    seen = set()
    while blocks:
        place, length = blocks.pop()
        if place in seen or length > path.stat().st_size:
            raise FormatError(f"{path}: damaged: a header that goes on without end")
        seen.add(place)
        raw.seek(place)
        block = raw.read(length)
        at = 0
        while at + width <= len(block):
            if new:
                kind, size, flags = block[at], _number(block, at + 1, 2), block[at + 3]
            else:
                kind, size, flags = _number(block, at, 2), _number(block, at + 2, 2), block[at + 4]
            body = block[at + width : at + width + size]
            at += width + size
            if kind == _CONTINUED:
                where, length = _number(body, 0, 8), _number(body, 8, 8)
                # newer ones stand between a name of four letters and a checksum
                blocks.append((where + 4, max(length - 8, 0)) if new else (where, length))
            else:
                yield kind, flags, body
