"""Which files of a folder, or of the root of another tool's job, are to be imported; the rest refused by name."""

from collections.abc import Iterable
from pathlib import Path

from wsisurv.errors import FormatError, InputError, NoSlidesError
from wsisurv.formats.foreign import holds_features
from wsisurv.formats.foreign_places import COORDINATES, read_squares
from wsisurv.formats.foreign_stores import find_stores, is_store

_NOTES = ".meta.json"
_OTHERS = (
    (f"*{COORDINATES}{_NOTES}", "notes of hs2p or slide2vec (.meta.json) without the .npz that they are of"),
    (f"*{_NOTES}", "notes of slide2vec (.meta.json) without the .pt that they are of"),
    ("*.geojson", "outlines (.geojson), not tiles"),
)
_READ = {
    True: "HDF5 of STAMP, TRIDENT, CLAM and AtlasPatch, .pt, and SpatialData stores",
    False: "HDF5 of TRIDENT, CLAM, Mussel and AtlasPatch, .coordinates.npz of hs2p, SpatialData stores, and squares in "
    ".geojson",
}


def find_files(path: Path, *, features: bool) -> list[Path]:
    """Files of a folder that another tool made; of the one folder below it that holds such; or the file itself.

    Of each folder ``.h5`` are taken; where there is none of them with what is looked for, features are ``.pt``, then
    stores of zarr, and tiles ``.coordinates.npz``, then stores, then ``.geojson``.

    Args:
        path: a file, a store of zarr, a folder of them, or the root of a job of another tool.
        features: look for features; else for tiles.

    Raises:
        NoSlidesError: there is none; what there is instead is named.
        InputError: several folders below hold such files.
    """
    if path.is_file():
        return [_one_file(path, features)]
    if is_store(path):
        return [path]
    patterns = ("*.h5", "*.pt") if features else ("*.h5", f"*{COORDINATES}.npz")
    for pattern in patterns:
        if files := sorted(path.glob(pattern)):
            return files
    kind = "features" if features else "tiles"
    folders = _by_folder(path.rglob("*.h5"))
    fitting = {folder: files for folder, files in folders.items() if _holds_features(files[0]) == features}
    fitting = fitting or _by_folder(path.rglob(patterns[1]))
    if not features and not fitting:
        fitting = folders  # of AtlasPatch, which has both in one file
    fitting = fitting or _by_folder(find_stores(path))
    if not features and not fitting:
        squares = _by_folder(path.rglob("*.geojson"))
        fitting = {folder: files for folder, files in squares.items() if _holds_squares(files[0])}
    if len(fitting) > 1:
        raise InputError(f"{path}: {kind} in {', '.join(map(str, sorted(fitting)))}. Name the folder that is meant.")
    if fitting:
        return next(iter(fitting.values()))
    if folders:
        raise NoSlidesError(f"{path}: no *.h5 file with {kind} there, nor in a folder below it")
    if next(path.rglob("*.pt"), None):
        raise NoSlidesError(f"{path}: its .pt are features, not tiles. Name the encoder that made them with --encoder.")
    if others := [words for pattern, words in _OTHERS if next(path.rglob(pattern), None)]:
        raise NoSlidesError(f"{path}: no {kind} there, but {others[0]}. What is read: {_READ[features]}.")
    raise NoSlidesError(f"{path}: no *.h5 file there, nor other {kind}. Name the folder that holds them.")


def _one_file(path: Path, features: bool) -> Path:
    """The file that is named, or that which its notes are of."""
    if path.name in {"zarr.json", ".zattrs", ".zgroup"}:
        return path.parent
    if path.suffix == ".pt" and not features:
        raise NoSlidesError(f"{path}: features, not tiles. Name the encoder that made them with --encoder.")
    if path.name.endswith(_NOTES):
        of = path.with_name(path.name.removesuffix(_NOTES) + (".pt" if features else ".npz"))
        if of.is_file():
            return of
    if path.suffix in {".npz", ".geojson"} and features:
        raise NoSlidesError(f"{path}: tiles, not features. Leave out --encoder.")
    if path.name.endswith(_NOTES):
        other = next(words for pattern, words in _OTHERS if path.match(pattern))
        raise NoSlidesError(f"{path}: {other}. What is read: {_READ[features]}.")
    return path


def _by_folder(found: Iterable[Path]) -> dict[Path, list[Path]]:
    folders: dict[Path, list[Path]] = {}
    for file in sorted(found):
        folders.setdefault(file.parent, []).append(file)
    return folders


def _holds_features(file: Path) -> bool:
    """Whether a file has features; one that can't be read is left to its reader to refuse."""
    try:
        return holds_features(file)
    except FormatError:
        return False


def _holds_squares(file: Path) -> bool:
    try:
        return bool(len(read_squares(file).coords))
    except FormatError:
        return False
