"""The root attributes of every HDF5 file: what it is, and what made it."""

import io
import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wsisurv.errors import FormatError, MissingArtifactError, NewerFormatError, OlderFormatError
from wsisurv.formats.atomic import replacing
from wsisurv.formats.digests import seal_array
from wsisurv.formats.hdf5 import SEAL, put_text, require_plain, require_plain_root, text
from wsisurv.settings.base import canonical_json, fingerprint
from wsisurv.settings.renamed import present_names
from wsisurv.version import __version__

FORMAT_VERSION = 2
"""2: text is of fixed length, a model's card a dataset, with checksums; 1 had none of these and is not read."""
_LONG_VERSION = 100
DAMAGE = (TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError, MemoryError, AssertionError)
"""What h5py, json and the readers of single formats say of a file whose parts are not what they should be."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    ``settings`` is all that made it; ``inputs`` maps the name of each input to its fingerprint.
    """

    format: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    format_version: int = FORMAT_VERSION
    wsisurv_version: str = __version__

    @property
    def fingerprint(self) -> str:
        """sha256 of settings and inputs: equal when the same work on the same things made the file."""
        return fingerprint({"format": [self.format, self.format_version], **self.settings}, self.inputs)


def make_header(format: str, settings: Any, inputs: Mapping[str, str]) -> Header:
    """Header of a file of ``format`` made now by ``settings`` (a settings model or a JSON object)."""
    return Header(format=format, settings=json.loads(canonical_json(settings)), inputs=dict(inputs))


@contextmanager
def create(path: Path, header: Header) -> Iterator[h5py.File]:
    """Open a new HDF5 file with its header; it appears at ``path`` only when the block ends without error.

    It is given its checksums then: of each array, and of all else.

    Raises:
        NewerFormatError: a file of a newer wsisurv is there, which is left as it is.
        StorageError: no room or no permission.
    """
    refuse_newer(path)
    with create_bare(path) as file:
        put_text(file, "format", header.format)
        file.attrs["format_version"] = header.format_version
        put_text(file, "wsisurv_version", header.wsisurv_version)
        put_text(file, "settings", canonical_json(header.settings))
        put_text(file, "inputs", canonical_json(header.inputs))
        put_text(file, "fingerprint", header.fingerprint)
        yield file
        seal(path, file)


def seal(path: Path, file: h5py.File) -> None:
    """Give a file that has all its parts its checksums; ``path`` is for messages."""
    file.visititems(lambda _, item: seal_array(item) if isinstance(item, h5py.Dataset) else None)
    file.attrs[SEAL] = np.uint32(require_plain(path, file, redo="", n_bytes=sys.maxsize))


def refuse_newer(path: Path) -> None:
    """Refuse to write where a file of a newer wsisurv lies.

    Raises:
        NewerFormatError: one does.
    """
    try:
        read_header(path, "", "")
    except NewerFormatError:
        raise
    except (FormatError, MissingArtifactError):
        return  # damaged or of another format: those may be written over


@contextmanager
def create_bare(path: Path) -> Iterator[h5py.File]:
    """Open a new HDF5 file without a header, for layouts that are not ours; whole or not at all, as ``create``.

    It is built in memory and written in one go: HDF5 that meets a full disk can't close its file any more, and takes
    the process down with it at exit.

    Raises:
        StorageError: no room or no permission.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        yield file
    with replacing(path) as partial:
        partial.write_bytes(content.getbuffer())


@contextmanager
def opened(path: Path, format: str, made_by: str) -> Iterator[tuple[h5py.File, Header]]:
    """Open an HDF5 file of ``format`` for reading.

    Args:
        path: the file.
        format: what it must be, e.g. ``wsisurv/tiles``.
        made_by: the command that makes such a file, for the message when it is missing.

    Raises:
        MissingArtifactError: there is no such file.
        OlderFormatError, NewerFormatError: an older, or a newer, wsisurv made it.
        FormatError: it is no HDF5, is damaged, is of another format, lacks a key, or holds what no file of ours does
            (``hdf5``); also for any error in the block that speaks of what is in the file. Last, when the block has
            ended: its checksum is another.
    """
    with _plain(path, made_by, require_plain) as file:
        yield file, _parse(file, path, format)


@contextmanager
def opened_any(path: Path) -> Iterator[tuple[h5py.File, Header]]:
    """Open an HDF5 file of ours, whichever it is, for reading.

    Raises:
        MissingArtifactError, FormatError: as ``opened``.
    """
    with _plain(path, "the step that makes it", require_plain) as file:
        yield file, _parse(file, path)


@contextmanager
def _plain(path: Path, made_by: str, require: Callable[..., int | None]) -> Iterator[h5py.File]:
    """Open a file that has passed ``require``; whatever Python says of damaged parts becomes a FormatError."""
    if not path.exists():
        raise MissingArtifactError(f"{path}: not there. Run `{made_by}` first.")
    again = f"Delete it and run `{made_by}` again."
    try:
        with h5py.File(path, "r") as file:
            redo = f"`{made_by} --redo`" if made_by.startswith("wsisurv") else f"{made_by}, with --redo"
            _require_version(path, file, redo)
            digest = require(path, file, redo=redo)
            yield file
            if digest is not None and digest != int(file.attrs[SEAL]):
                raise FormatError(f"{path}: damaged: it is not what was written (its checksum is another). {again}")
    except KeyError as error:
        raise FormatError(f"{path}: {error.args[0] if error.args else 'a part is missing'}. {again}") from error
    except OSError as error:
        raise FormatError(f"{path}: no readable HDF5 file, or damaged ({error}); a copy cut short? {again}") from error
    except DAMAGE as error:
        raise FormatError(f"{path}: damaged ({type(error).__name__}: {error}). {again}") from error


def _require_version(path: Path, file: h5py.File, redo: str) -> None:
    """Look at the version before anything else: another one may hold what this one neither knows nor reads."""
    if "format_version" not in file.attrs:
        raise FormatError(
            f"{path}: HDF5, but no file of wsisurv. `wsisurv import` takes in features that other tools made."
        )
    stored = file.attrs.get_id("format_version")
    if stored.dtype.kind not in "iu" or stored.shape != ():
        raise FormatError(f"{path}: format version is no whole number. Run {redo}.")
    version = int(file.attrs["format_version"])
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path}: made by wsisurv {_maker(file)} in format version {version}; this is wsisurv {__version__}, which "
            f"reads version {FORMAT_VERSION}. Update wsisurv; the file is left as it is."
        )
    if version < FORMAT_VERSION:
        raise OlderFormatError(
            f"{path}: made by an older wsisurv (format version {version}, now {FORMAT_VERSION}). Run {redo}."
        )


def _maker(file: h5py.File) -> str:
    """The version that made a file, as far as it can be told without knowing its format."""
    attribute = file.attrs.get_id("wsisurv_version") if "wsisurv_version" in file.attrs else None
    plain = attribute is not None and attribute.dtype.kind == "S" and attribute.dtype.itemsize < _LONG_VERSION
    return text(file, "wsisurv_version") if plain else "of a later day"


def _parse(file: h5py.File, path: Path, format: str | None = None) -> Header:
    seen = text(file, "format")
    if format is None and not seen.startswith("wsisurv/"):
        raise FormatError(f"{path}: HDF5, but no file of wsisurv: its format is {seen!r}.")
    if format not in {None, seen}:
        raise FormatError(f"{path}: format is {seen!r}, not {format!r}. Is this the right file?")
    try:
        # encoded, because bytes that are no UTF-8 come as lone surrogates, which nothing can write again
        settings, inputs = (json.loads(text(file, name).encode()) for name in ("settings", "inputs"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: settings are not JSON ({error}).") from error
    if not isinstance(settings, dict) or not isinstance(inputs, dict):
        raise FormatError(f"{path}: settings or inputs are not JSON objects.")
    version = int(file.attrs["format_version"])
    if Header(seen, settings, inputs, version).fingerprint != text(file, "fingerprint"):
        raise FormatError(f"{path}: settings and inputs are not those that its fingerprint is of: damaged.")
    weights = settings.get("weights")  # the hub's, whose commit stood beside the settings before it was one
    if isinstance(weights, str) and (with_commit := text(file, "weights", "")).startswith(f"{weights}@"):
        settings["weights"] = with_commit
    return Header(seen, present_names(settings), inputs, version, text(file, "wsisurv_version"))


def require_id(path: Path, slide_id: str) -> None:
    """Hold the slide that a file says it is of against its name.

    Raises:
        FormatError: they are two.
    """
    if unicodedata.normalize("NFC", slide_id) != unicodedata.normalize("NFC", path.stem):
        raise FormatError(
            f"{path}: is of slide {slide_id!r}, not {path.stem!r}: renamed, or exchanged with another's file? Delete "
            "it and run the step again."
        )


def read_header(path: Path, format: str, made_by: str) -> Header:
    """Read only the header.

    Raises:
        MissingArtifactError, FormatError: as ``opened``.
    """
    return read_root(path, format, made_by)[0]


def read_root(path: Path, format: str, made_by: str, names: Sequence[str] = ()) -> tuple[Header, tuple[str, ...]]:
    """Read only the header, and texts among the attributes beside it, empty where one is not there.

    Raises:
        MissingArtifactError, FormatError: as ``opened``.
    """
    with _plain(path, made_by, require_plain_root) as file:
        return _parse(file, path, format), tuple(text(file, name, "") for name in names)
