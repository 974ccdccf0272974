"""Which files of a folder, or of the root of another tool's job, are to be imported; the rest refused by name."""

from pathlib import Path

from wsisurv.errors import FormatError, InputError, NoSlidesError
from wsisurv.formats.foreign import holds_features

_OTHERS = (
    ("*.coordinates.meta.json", "tiles of hs2p or slide2vec (.npz with .meta.json)"),
    ("*.meta.json", "notes of slide2vec (.meta.json) without the .pt that they are of"),
    ("zarr.json", "a SpatialData store, as of LazySlide (.zarr)"),
    (".zattrs", "a SpatialData store, as of LazySlide (.zarr)"),
    ("*.geojson", "outlines (.geojson), not tiles"),
)
_NOT_READ = (
    "which wsisurv does not import. It reads HDF5 of STAMP, TRIDENT, CLAM, Mussel and AtlasPatch, and features in .pt."
)


def find_files(path: Path, *, features: bool) -> list[Path]:
    """The ``.h5`` files of a folder; of the one folder below it that holds features, or tiles; or the file itself.

    Features may be ``.pt`` where there is no ``.h5`` of them.

    Args:
        path: a file, a folder, or the root of a job of TRIDENT, CLAM, STAMP or AtlasPatch.
        features: look for features; else for tiles.

    Raises:
        NoSlidesError: there is none; what there is instead is named.
        InputError: several folders below hold such files.
    """
    if path.is_file():
        if path.suffix == ".pt" and not features:
            raise NoSlidesError(f"{path}: features, not tiles. Name the encoder that made them with --encoder.")
        if other := next((words for pattern, words in _OTHERS if path.match(pattern)), ""):
            raise NoSlidesError(f"{path}: {other}, {_NOT_READ}")
        return [path]
    if files := sorted(path.glob("*.h5")) or (sorted(path.glob("*.pt")) if features else []):
        return files
    kind = "features" if features else "tiles"
    folders = _by_folder(path, "*.h5")
    fitting = {folder: files for folder, files in folders.items() if _holds_features(files[0]) == features}
    if features and not fitting:
        fitting = _by_folder(path, "*.pt")
    if not features and not fitting:
        fitting = folders  # of AtlasPatch, which has both in one file
    if len(fitting) > 1:
        raise InputError(f"{path}: {kind} in {', '.join(map(str, sorted(fitting)))}. Name the folder that is meant.")
    if fitting:
        return next(iter(fitting.values()))
    if folders:
        raise NoSlidesError(f"{path}: no *.h5 file with {kind} there, nor in a folder below it")
    if next(path.rglob("*.pt"), None):
        raise NoSlidesError(f"{path}: its .pt are features, not tiles. Name the encoder that made them with --encoder.")
    others = [words for pattern, words in _OTHERS if next(path.rglob(pattern), None)]
    if others:
        raise NoSlidesError(f"{path}: no *.h5 file there, but {others[0]}, {_NOT_READ}")
    raise NoSlidesError(f"{path}: no *.h5 file there. Name the folder that holds them.")


def _by_folder(path: Path, pattern: str) -> dict[Path, list[Path]]:
    folders: dict[Path, list[Path]] = {}
    for file in sorted(path.rglob(pattern)):
        folders.setdefault(file.parent, []).append(file)
    return folders


def _holds_features(file: Path) -> bool:
    """Whether a file has features; one that can't be read is left to its reader to refuse."""
    try:
        return holds_features(file)
    except FormatError:
        return False
