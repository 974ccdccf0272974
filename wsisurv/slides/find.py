"""Which files are slides, what each is called, and a cheap fingerprint of one."""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib import util
from pathlib import Path

from wsisurv.errors import DuplicateSlideError, NoSlidesError, SlideError
from wsisurv.formats.remote import RemotePath, slide_place
from wsisurv.slides.dicom import instances, series_in, series_of
from wsisurv.slides.readers.by_fastslide import FORMATS as FASTSLIDES
from wsisurv.slides.readers.registry import packaged_endings
from wsisurv.units import SlideId

ENDINGS = (".bif", ".czi", ".dcm", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".tif", ".tiff", ".vms", ".vmu")
"""Endings of the formats that OpenSlide documents: Ventana, Zeiss, DICOM, MIRAX, Hamamatsu (.ndpi, .vms, .vmu), Leica,
Aperio, Sakura; .tif is Aperio's, Huron's, Trestle's and Ventana's too, .tiff Philips', both generic tiled TIFF."""

_MIB = 1 << 20


def known_endings() -> tuple[str, ...]:
    """Endings of files that a folder is searched for: OpenSlide's, fastslide's if installed, and those of packages."""
    more = (*(FASTSLIDES if util.find_spec("fastslide") else ()), *packaged_endings())
    return (*ENDINGS, *(ending for ending in more if ending not in ENDINGS))


def find_slides(paths: Sequence[Path]) -> dict[SlideId, Path]:
    """Find slides in files and folders, sorted by slide_id.

    A slide_id is the file's name without its ending. DICOM instances of one series are one slide: named after their
    folder when that holds this one series in several files, else after the first file. A folder is searched at any
    depth for known endings, and for DICOM slides whatever their ending; hidden files and folders are left out. A file
    named explicitly is taken whatever its ending.

    Raises:
        NoSlidesError: a path is not there, or no slide is in any of them.
        SlideError: a folder can't be read.
        DuplicateSlideError: two different files have one slide_id.
    """
    found: dict[SlideId, Path] = {}
    for slide_id, path in list_slides(paths):
        if slide_id in found:
            raise DuplicateSlideError(
                f"two slides are called {slide_id!r}: {found[slide_id]} and {path}. Rename one, or name only the one "
                "that is wanted."
            )
        found[slide_id] = path
    return dict(sorted(found.items()))


def list_slides(paths: Sequence[Path]) -> Iterator[tuple[SlideId, Path]]:
    """Slides in files and folders as ``find_slides`` finds them, each file once; a slide_id may come twice.

    Raises:
        NoSlidesError: a path is not there, or no slide is in any of them.
        SlideError: a folder can't be read.
        DuplicateSlideError: files of one DICOM series lie in two folders.
    """
    seen: set[Path] = set()
    place_of: dict[str, Path] = {}
    for path in _merge_series(_candidates(paths)):
        real = path.resolve()
        if real in seen:
            continue
        seen.add(real)
        series = series_of(path)
        if series is not None and place_of.setdefault(series, path) is not path:
            raise DuplicateSlideError(
                f"one DICOM series in two folders: {place_of[series]} and {path}. Put its files into one folder, or "
                "name only the one that is wanted."
            )
        yield _name(path, series), path
    if not seen:
        raise NoSlidesError(
            f"no slide in {', '.join(map(str, paths)) or 'nothing'}: looked at any depth for files ending in "
            f"{' '.join(known_endings())} (hidden ones left out)."
        )


def _candidates(paths: Sequence[Path]) -> Iterator[Path]:
    for path in map(slide_place, paths):
        if path.is_dir():
            yield from _walk(path)
        elif path.exists():
            yield path
        else:
            raise NoSlidesError(f"{path}: no such file or folder.")


def _walk(top: Path) -> Iterator[Path]:
    """Files with a known ending, in order of name; links to folders are followed, each folder once."""
    visited, endings = set(), known_endings()
    if isinstance(top, RemotePath):
        yield from sorted(path for path in top.rglob("*") if path.suffix.lower() in endings and path.name[0] != ".")
        return
    for folder, folders, files in os.walk(top, followlinks=True, onerror=_refuse):
        visited.add(os.path.realpath(folder))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(folder, name)) not in visited
        )
        for name in sorted(files):
            if not name.startswith(".") and is_taken(Path(folder, name), endings):
                yield Path(folder, name)


def is_taken(path: Path, endings: Collection[str]) -> bool:
    """Whether a file of a folder is taken for a slide; ``passed_over`` tells the others."""
    return path.suffix.lower() in endings or series_of(path) is not None


def _refuse(error: OSError) -> None:
    """Slides in a folder that can't be read are not left out quietly."""
    raise SlideError(
        f"{error.filename}: the folder can't be read ({error.strerror}). Change its rights, or name the folders that "
        "are wanted."
    ) from error


def _merge_series(paths: Iterable[Path]) -> Iterator[Path]:
    """Pass everything on, but of each DICOM series only its first file."""
    given: set[Path] = set()
    for path in paths:
        if path in given:
            continue
        files = instances(path)
        if files[0] not in given:
            yield files[0]
        given.update(files)


def _name(path: Path, of: str | None) -> SlideId:
    series = series_in(path.parent) if of is not None else {}
    alone = [len(files) > 1 for files in series.values()] == [True]
    numbered = series and path.suffix[1:].isdecimal()  # a UID, or IM.0001: no ending
    return SlideId(path.resolve().parent.name if alone else path.name if numbered else path.stem)


def slide_fingerprint(path: Path) -> str:
    """Fingerprint of a slide's content, whatever its folder is: 64 hex digits.

    Taken from the size and the first and last MiB, so that a slide of gigabytes takes milliseconds; for MIRAX,
    VSI and DICOM, also from names and sizes of the files that belong to it.

    Raises:
        SlideError: the file can't be read.
    """
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        digest.update(f"{size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_MIB))
            if size > _MIB:
                file.seek(max(_MIB, size - _MIB))
                digest.update(file.read(_MIB))
        for companion in _companions(path):
            digest.update(f"{companion.name}\t{companion.stat().st_size}\n".encode())
    except OSError as error:
        raise SlideError(f"{path}: can't be read ({error.strerror or error}).") from error
    return digest.hexdigest()


def require_tiled(path: Path, slide_id: str, fingerprint: str | None) -> None:
    """Refuse a slide's file that is not the one that was tiled.

    Args:
        path: the file.
        slide_id: the slide.
        fingerprint: of the file that was tiled; None where that is not known, and nothing is refused.

    Raises:
        SlideError: it is another, or can't be read.
    """
    if fingerprint is not None and slide_fingerprint(path) != fingerprint:
        raise SlideError(
            f"{path}: another slide, not the file that {slide_id} was tiled from: replaced, or "
            "exchanged with another's? Put the right file there, or run `wsisurv tile --redo` and what follows."
        )


def slide_bytes(path: Path) -> int:
    """Size of all files that make up a slide."""
    return sum(file.stat().st_size for file in slide_files(path))


def slide_files(path: Path) -> list[Path]:
    """All files that make up a slide, which lie in its folder or below."""
    return sorted({path, *_companions(path), *_named_inside(path)})


def _named_inside(path: Path) -> Iterator[Path]:
    """Files beside a Hamamatsu VMS or VMU that it names: its own pixels are in them."""
    if path.suffix.lower() in (".vms", ".vmu"):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name = line.partition("=")[2].strip()
            if name and Path(name).name == name and (path.parent / name).is_file():
                yield path.parent / name


def _companions(path: Path) -> list[Path]:
    ending = path.suffix.lower()
    if ending == ".vsi":
        return sorted(file for file in path.with_name(f"_{path.stem}_").rglob("*") if file.is_file())
    if ending == ".mrxs":
        folder = path.with_suffix("")
        return sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    return instances(path) if ending == ".dcm" or series_of(path) is not None else []
