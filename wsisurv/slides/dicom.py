"""DICOM: which files of a folder are one slide, by what each file's own dataset says."""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_PREAMBLE, _MAGIC = 128, b"DICM"  # PS3.10, 7.1
_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
_SOP_CLASS, _SERIES = 0x00080016, 0x0020000E
_SAMPLES, _PHOTOMETRIC, _BITS_STORED = 0x00280002, 0x00280004, 0x00280101
_SHARED_GROUPS = 0x52009229
_NEEDED = [_SOP_CLASS, _SERIES, _SAMPLES, _PHOTOMETRIC, _BITS_STORED, _SHARED_GROUPS]
_NEWER = {
    f"1.2.840.10008.1.2.4.{number}": name
    for number, name in ((110, "JPEG XL Lossless"), (111, "JPEG XL JPEG Recompression"), (112, "JPEG XL"))
}
"""Transfer syntaxes that pydicom has no name for."""
_SCANNING = threading.Lock()


def series_of(path: Path) -> str | None:
    """The SeriesInstanceUID of a whole-slide image; None for any other file, and for one that can't be read."""
    found = _read(path, _SERIES, lambda dataset: (dataset.get(_SOP_CLASS), dataset.get(_SERIES)))
    if found is None or None in found:
        return None
    kind, series = (str(element.value) for element in found)
    return series if kind == _WHOLE_SLIDE else None


def instances(path: Path) -> list[Path]:
    """Files of the same series in the same folder, sorted by name; for any other format ``[path]``."""
    series = series_of(path)
    if series is None:
        return [path]
    files = series_in(path.parent).get(series, ())
    if path not in files:  # written since, or hidden
        with _SCANNING:
            _scan.cache_clear()
        files = series_in(path.parent).get(series, ())
    return list(files) or [path]


def series_in(folder: Path) -> Mapping[str, Sequence[Path]]:
    """Series → its files in a folder, sorted by name; each is looked into once, as long as the folder is as it is."""
    with _SCANNING:
        return _scan(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _scan(folder: Path, changed: int) -> Mapping[str, Sequence[Path]]:  # noqa: ARG001  # what the cache goes by
    found: dict[str, list[Path]] = defaultdict(list)
    for name in sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")):
        if (series := series_of(folder / name)) is not None:
            found[series].append(folder / name)
    return dict(found)


def put_apart(path: Path) -> tuple[Path, Callable[[], None]]:
    """Make a folder of links to a slide's files where its own has others: OpenSlide looks into every file of a folder.

    Returns:
        The path to open, and what removes the folder once the slide is closed: OpenSlide opens files again and again.
    """
    files = instances(path)
    if series_of(path) is None or len(series_in(path.parent)) == 1:
        return path, lambda: None
    folder = TemporaryDirectory(prefix="wsisurv-dicom-")
    try:
        for file in files:
            Path(folder.name, file.name).symlink_to(file.absolute())
    except OSError:  # no links here: slower, but the same
        folder.cleanup()
        return path, lambda: None
    return Path(folder.name, path.name), folder.cleanup


def spacings(path: Path) -> list[float]:
    """By how much each instance's pixels are wider apart than those of the finest, as the files state it."""
    stated = [_read(file, _SHARED_GROUPS, _spacing) for file in instances(path)]
    known = [spacing for spacing in stated if spacing]
    return sorted({spacing / min(known) for spacing in known} - {1.0})


def pixel_format(path: Path) -> tuple[str, int, bool] | None:
    """Photometric interpretation, bits a channel, and whether there is an alpha; None of what is no DICOM."""

    def stated(dataset: Any) -> tuple[str, int, bool]:
        return str(dataset.PhotometricInterpretation), int(dataset.BitsStored), dataset.SamplesPerPixel > 3

    found: tuple[str, int, bool] | None = _read(path, _BITS_STORED, stated)
    return found


def transfer_syntax(path: Path) -> str:
    """Name of a whole-slide image's transfer syntax, with its UID; empty for any other file."""
    if series_of(path) is None:
        return ""
    from pydicom.filereader import read_file_meta_info

    try:
        uid = read_file_meta_info(path).TransferSyntaxUID
    except Exception:  # noqa: BLE001  # whatever is damaged, OpenSlide says what
        return ""
    name = _NEWER.get(uid, uid.name)
    return f"{name} ({uid})" if name != uid else str(uid)


def _spacing(dataset: Any) -> float:
    return float(dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[0])


def _read(path: Path, last: int, get: Callable[[Any], Any]) -> Any:
    """What ``get`` finds in a dataset read up to a tag, which is long before pixels; None where it isn't there."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] != _MAGIC:
            return None
        from pydicom import config  # which takes a while, and few slides are DICOM
        from pydicom.filereader import read_partial

        config.settings.reading_validation_mode = config.IGNORE  # odd values of other elements are none of ours
        file.seek(0)
        with suppress(Exception):  # whatever is damaged, OpenSlide says what
            return get(read_partial(file, lambda tag, *_: tag > last, specific_tags=_NEEDED))
    return None
