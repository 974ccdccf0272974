"""Which reader opens a file.

A package's of the user, where it declares the ending and proves itself; else OpenSlide; else whichever reader of ours
takes what the file is.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsisurv.errors import SettingsError, SlideError
from wsisurv.extensions import READERS, added_names, load_added, release
from wsisurv.formats.remote import RemotePath
from wsisurv.slides import dicom
from wsisurv.slides.colours import odd_colours, stated_colours, too_dark
from wsisurv.slides.edges import edge_notes, unreadable_edges
from wsisurv.slides.levels import Level, find_levels
from wsisurv.slides.readers.by_openslide import OpenSlideHandle
from wsisurv.slides.readers.by_tifffile import TiffSlide
from wsisurv.slides.readers.fallbacks import find_fallback
from wsisurv.slides.readers.handle import Handle, PackagedReader, PackagedSlide
from wsisurv.slides.readers.tiff_images import look_into

OPENSLIDE = "openslide"
_BESIDE = ("tifffile", "Pillow", "fastslide", "wsidicom")  # names that are taken
_REGION_PX, _REGIONS = 256, 4
_ROUNDING = 3
"""Grey levels by which two decoders may differ, with what OpenSlide interpolates between two pixels."""
_CHECKS_CACHE_BYTES, _CACHE_BYTES = 4 << 20, 32 << 20
"""Decoded pixels kept while levels and colours are checked, which come back to none of them, and after that."""


@dataclass(frozen=True)
class Opened:
    """An open slide, the reader that opened it, its levels that are used, and what should be known of all that."""

    handle: Handle
    reader: str
    notes: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()
    problem: str = ""  # why it is no slide after all, in words; none of those that ``open_handle`` gives has one


def packaged_endings() -> tuple[str, ...]:
    """Endings of the files that readers of installed packages open.

    Raises:
        SettingsError: a package can't be imported, takes a name that there is already, or an ending of another's.
    """
    return tuple(_by_ending())


def open_handle(path: Path, *, whole_edges: bool = False) -> Opened:
    """Open a slide and find its levels.

    Where a package's reader declares the ending and OpenSlide opens the file too, regions of both are compared; the
    package's is used where they are equal, and OpenSlide where they aren't, with a note. What OpenSlide does not open
    is read by the package's reader with a note that nothing proves its pixels.

    Args:
        path: the file.
        whole_edges: of DICOM read the last row and column of each level, and not their ends alone.

    Raises:
        SlideError: no reader opens it, or it is at a URL.
        SettingsError: as ``packaged_endings``.
    """
    if isinstance(path, RemotePath):
        raise SlideError(
            f"{path}: slides at URLs are read by commands with --stage DIR alone: give it, or copy it for this."
        )
    try:
        opened = _open(path)
    except SlideError as error:
        if odd := "; ".join(stated_colours(path)):
            raise SlideError(f"{error} It is {odd}.") from error
        raise
    if opened.problem:
        opened.handle.close()
        raise SlideError(f"{path}: {opened.problem}.")
    opened.handle.keep_at_most(_CHECKS_CACHE_BYTES)
    cut: dict[int, str] = {}
    if opened.reader == OPENSLIDE and opened.handle.properties.get("openslide.vendor") == "dicom":
        handle, cut = unreadable_edges(opened.handle, lambda: OpenSlideHandle(path), whole=whole_edges)
        notes = (*opened.notes, *edge_notes(cut, handle.level_dimensions))
        opened = replace(opened, handle=handle, notes=notes)
    try:
        levels = find_levels(opened.handle, lambda: dicom.spacings(path), without=cut)
        odd_notes = odd_colours(path, opened.handle, levels.used[-1])
    except SlideError:  # damaged somewhere, which is for those to say who read there
        opened.handle.close()
        opened = replace(opened, handle=_open(path).handle)
        levels = find_levels(opened.handle, lambda: dicom.spacings(path), compare=False, without=cut)
        odd_notes = tuple(stated_colours(path))
    if dark := too_dark(path, opened.handle, levels.used[-1]):
        opened.handle.close()
        raise SlideError(f"{path}: {dark}.")
    opened.handle.keep_at_most(_CACHE_BYTES)
    return replace(opened, levels=levels.used, notes=(*opened.notes, *levels.notes, *odd_notes))


def _open(path: Path) -> Opened:
    found = _by_ending().get(path.suffix.lower())
    if found is None:
        return _open_ours(path)
    said, reader = found
    try:
        ours: OpenSlideHandle | None = OpenSlideHandle(path)
    except SlideError:
        ours = None
    try:
        theirs = _Packaged(path, reader.open(path), said)
    except Exception as error:  # noqa: BLE001  # a package of anybody's, which may fail in any way
        if ours is None:
            why = f"{type(error).__name__}: {error}"
            raise SlideError(f"{path}: can't be opened, by OpenSlide or by {said} ({why}). Is it whole?") from error
        return Opened(ours, OPENSLIDE, (f"{said} can't open it ({error}): read by OpenSlide",))
    if ours is None:
        return Opened(theirs, said, (f"read by {said}: OpenSlide doesn't open it, so nothing proves its pixels",))
    try:
        against = _difference(ours, theirs)
    except SlideError as error:
        against = str(error)
    if against:
        theirs.close()
        return Opened(ours, OPENSLIDE, (f"{said} is not OpenSlide's equal ({against}): read by OpenSlide",))
    ours.close()
    return Opened(theirs, said)


def _open_ours(path: Path) -> Opened:
    """By OpenSlide; by tifffile where that passes over the largest image or levels; by a fallback where it refuses."""
    try:
        ours = OpenSlideHandle(path)
    except SlideError as error:
        return _open_otherwise(path, error)
    images = look_into(path) if ours.properties.get("openslide.vendor") == "generic-tiff" else None
    if images is None:
        return Opened(ours, OPENSLIDE)
    (width, height), notes = ours.dimensions, images.notes
    larger = images.width * images.height > width * height
    if images.problem:
        return Opened(ours, OPENSLIDE, problem=images.problem)
    if larger:
        ours.close()
        note = f"of several images the largest is read by tifffile; OpenSlide reads another, {width} × {height} pixels"
        try:
            return Opened(_Packaged(path, TiffSlide(path), "tifffile"), "tifffile", (note, *notes))
        except Exception as error:  # noqa: BLE001  # a decoder of whatever file, in whatever state
            raise SlideError(f"{path}: {note}. The largest can't be opened: {error}.") from error
    if not images.hidden_levels:
        return Opened(ours, OPENSLIDE, notes)
    more = "the file has reductions of level 0, which OpenSlide passes over"
    try:
        theirs = _Packaged(path, TiffSlide(path), "tifffile")
    except Exception as error:  # noqa: BLE001  # of whatever file; OpenSlide has opened it
        return Opened(ours, OPENSLIDE, (f"{more}, and so do we: {error}", *notes))
    theirs.properties |= ours.properties
    try:
        against = _difference(ours, theirs, first_levels=True)
    except SlideError as error:
        against = str(error)
    if against:
        theirs.close()
        return Opened(ours, OPENSLIDE, (f"{more}, and so do we: {against}", *notes))
    ours.close()
    return Opened(theirs, "tifffile", (f"{more}: read by tifffile, level 0 proved equal", *notes))


def _open_otherwise(path: Path, refused: SlideError) -> Opened:
    """By the reader for what a file is.

    Raises:
        SlideError: none opens it; says what it is, what would read it and how to install that or to rewrite the file.
    """
    try:
        fallback = find_fallback(path, str(refused))
    except OSError:
        fallback = None
    if fallback is None:
        raise refused
    rewrite = f" Or rewrite it: {fallback.rewrite}." if fallback.rewrite else ""
    try:
        slide = fallback.open(path)
        handle = _Packaged(path, slide, fallback.name)
    except ModuleNotFoundError as error:
        raise SlideError(
            f"{path}: {fallback.kind}, which OpenSlide doesn't open. {fallback.name} does: {fallback.install}.{rewrite}"
        ) from error
    except Exception as error:  # noqa: BLE001  # a decoder of whatever file, in whatever state
        why = str(error) if isinstance(error, SlideError) else f"{type(error).__name__}: {error}"
        raise SlideError(
            f"{path}: {fallback.kind} that can't be opened as a slide ({fallback.name}: {why}). "
            f"{_openslides_words(refused)}{rewrite}"
        ) from error
    note = f"{fallback.kind}, read by {fallback.name}: OpenSlide doesn't open it, so nothing proves its pixels"
    rewrite = f"; {fallback.rewrite}" if fallback.rewrite else ""
    return Opened(handle, fallback.name, (f"{note}{rewrite}", *getattr(slide, "notes", ())))


def _openslides_words(refused: SlideError) -> str:
    return str(refused).partition(": ")[2].replace("can't be opened as a slide (OpenSlide: ", "OpenSlide says (", 1)


def _by_ending() -> dict[str, tuple[str, PackagedReader]]:
    """Ending → what the reader is called, with its package and version, and the reader."""
    readers: dict[str, PackagedReader] = {}
    for name in added_names(READERS, (OPENSLIDE, *_BESIDE)):
        readers[f"{name} of {release(READERS, name)}"] = load_added(READERS, name, PackagedReader)
    found: dict[str, tuple[str, PackagedReader]] = {}
    for said, reader in readers.items():
        for ending in reader.endings:
            if ending in found or not ending.startswith(".") or ending != ending.lower():
                why = f"has {found[ending][0]}" if ending in found else "is no ending in small letters"
                raise SettingsError(f"reader {said}: ending {ending!r} {why}. Mend the package, or uninstall it.")
            found[ending] = said, reader
    return found


class _Packaged:
    """A package's open slide as ``Handle``."""

    def __init__(self, path: Path, slide: PackagedSlide, said: str) -> None:
        self._path, self._slide, self._said = path, slide, said
        self.properties = {str(key): str(value) for key, value in slide.properties.items()}
        self.dimensions = slide.dimensions
        self.level_dimensions = tuple(slide.level_dimensions)
        self.level_downsamples = tuple(float(factor) for factor in slide.level_downsamples)
        if not len(self.level_dimensions) == len(self.level_downsamples) or self.level_dimensions[0] != self.dimensions:
            raise SlideError(f"its levels are {self.level_dimensions} by {self.level_downsamples}")

    def read_into(self, found: NDArray[np.uint32], level: int, x: int, y: int, width: int, height: int) -> None:
        """Fill ``found``, white beside the level."""
        colours = found.view(np.uint8).reshape(height, width, 4)
        colours[...] = 255
        level_width, level_height = self.level_dimensions[level]
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, level_width), min(y + height, level_height)
        if left >= right or top >= bottom:
            return
        try:
            seen = np.asarray(self._slide.pixels(level, left, top, right - left, bottom - top))
        except Exception as error:  # noqa: BLE001  # a package of anybody's, which may fail in any way
            raise SlideError(
                f"{self._path}: can't be read by {self._said} ({type(error).__name__}: {error})."
            ) from error
        if seen.shape != (bottom - top, right - left, 3) or seen.dtype != np.uint8:
            wanted = f"uint8 {(bottom - top, right - left, 3)}"
            raise SlideError(f"{self._path}: {self._said} gives {seen.dtype} {seen.shape}, and {wanted} is wanted.")
        colours[top - y : bottom - y, left - x : right - x, :3] = seen[..., ::-1]

    def keep_at_most(self, n_bytes: int) -> None:
        """Nothing is kept here."""

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def _difference(ours: Handle, theirs: Handle, *, first_levels: bool = False) -> str:
    """What differs from OpenSlide, in words; empty where nothing does: levels, resolution, regions of each level.

    Args:
        ours: by OpenSlide.
        theirs: by the other reader.
        first_levels: whether the other may have more levels.
    """
    n_levels = len(ours.level_dimensions) if first_levels else len(theirs.level_dimensions)
    if theirs.level_dimensions[:n_levels] != ours.level_dimensions:
        return f"levels {theirs.level_dimensions} instead of {ours.level_dimensions}"
    if not np.allclose(theirs.level_downsamples[:n_levels], ours.level_downsamples, rtol=1e-3):
        return f"downsamples {theirs.level_downsamples} instead of {ours.level_downsamples}"
    for name in ("openslide.mpp-x", "openslide.mpp-y"):
        if theirs.properties.get(name) != ours.properties.get(name):
            return f"{name} {theirs.properties.get(name)} instead of {ours.properties.get(name)}"
    rng = np.random.default_rng(0)
    for level, (width, height) in enumerate(ours.level_dimensions):
        across, down = min(_REGION_PX, width), min(_REGION_PX, height)
        for _ in range(_REGIONS):
            x, y = (_whole(ours.level_downsamples[level], most, rng) for most in (width - across, height - down))
            regions = np.empty((2, across * down), np.uint32)
            ours.read_into(regions[0], level, x, y, across, down)
            theirs.read_into(regions[1], level, x, y, across, down)
            seen = regions.view(np.uint8).reshape(2, -1, 4)[:, :, :3].astype(np.int16)
            opaque = regions[0].view(np.uint8).reshape(-1, 4)[:, 3] == 255  # elsewhere white, by Slide
            if (most_off := np.abs(seen[0] - seen[1])[opaque].max(initial=0)) > _ROUNDING:
                return f"its pixels differ by {most_off} at {x}, {y} of level {level}"
    return ""


def _whole(downsample: float, most: int, rng: np.random.Generator) -> int:
    """A random place, 0 to ``most``, on a whole pixel of level 0, or nearly: OpenSlide interpolates others."""
    places = rng.integers(0, most + 1, 64)
    return int(places[np.abs(places * downsample - np.rint(places * downsample)).argmin()])
