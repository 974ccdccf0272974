"""Slides that are open, each read by one thread at a time; those not looked at for longest are closed."""

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import simplejpeg

from wsisurv.errors import SlideError
from wsisurv.slides.deep_zoom import DeepZoom, Overview, make_overview, overview_level, overview_tile, zoom_tile
from wsisurv.slides.facts import Bounds
from wsisurv.slides.find import require_tiled
from wsisurv.slides.reader import Slide

_QUALITY = 85
_DECODED_BYTES = 8 << 20
_OVERVIEWS = 2
_LANES = min(4, os.cpu_count() or 1)
"""How often one slide is open at most: a read takes one processor."""


@dataclass(frozen=True)
class SlideFile:
    """Where the pixels of a slide are."""

    slide_id: str  # the slide
    path: Path | None  # its file; None where it is not known
    fingerprint: str | None = None  # of the file that was tiled; None where that is not known
    mpp: float | None = None  # µm per pixel of level 0, as it was tiled; None for what the file says
    bounds: Bounds | None = None  # what was scanned, as it was tiled; None where that is not known


class _Opened:
    """A slide that is opened by whoever uses it first."""

    def __init__(self, file: SlideFile) -> None:
        self.file, self.using, self.closed = file, threading.Lock(), False
        self.slide: Slide | None = None

    def open(self) -> Slide:
        """The slide; whoever calls it holds ``using``."""
        if self.slide is None:
            path = self.file.path
            if path is None or not path.exists():
                raise SlideError(
                    f"{self.file.slide_id}: its file is not where it was when it was tiled; say where with "
                    "--slides FOLDER"
                )
            require_tiled(path, self.file.slide_id, self.file.fingerprint)
            self.slide = Slide(path, self.file.mpp)
            self.slide.keep_at_most(_DECODED_BYTES)
        return self.slide

    def close(self) -> None:
        """Close it once nobody reads from it."""
        with self.using:
            self.closed = True
            if self.slide is not None:
                self.slide.close()


class SlidePool:
    """Open slides and the pictures that were cut from them last.

    Args:
        n_open: files that are open at a time; one slide may be open several times.
        n_bytes: of pictures that are kept.
    """

    def __init__(self, n_open: int = 16, n_bytes: int = 64 << 20) -> None:
        self._n_open, self._n_bytes = n_open, n_bytes
        self._opened: OrderedDict[tuple[str, int], _Opened] = OrderedDict()
        self._pictures: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._size, self._turn = 0, itertools.count()
        self._overviews: OrderedDict[str, Overview] = OrderedDict()
        self._looking, self._making = threading.Lock(), threading.Lock()

    def zoom(self, file: SlideFile) -> DeepZoom:
        """The pyramid of a slide.

        Raises:
            SlideError: its file is gone, another one, or damaged.
        """
        with self._use(file) as slide:
            return DeepZoom(slide.bounds)

    def tile(self, file: SlideFile, level: int, column: int, row: int) -> bytes:
        """A tile of the pyramid, as JPEG.

        Raises:
            SlideError: as ``zoom``.
            InputError: there is no such tile.
        """
        key = (file.slide_id, level, column, row)
        if (kept := self._kept(key)) is not None:
            return kept
        with self._use(file) as slide:
            zoom = DeepZoom(slide.bounds)
            if level > overview_level(slide, zoom):
                pixels = zoom_tile(slide, zoom, level, column, row)
            else:
                pixels = overview_tile(self._overview(file, slide, zoom), zoom, level, column, row)
        return self._keep(key, simplejpeg.encode_jpeg(pixels, _QUALITY))

    def square(self, file: SlideFile, x: int, y: int, side: float, out_px: int) -> bytes:
        """A square whose top left is at level-0 (x, y), as JPEG; raises as ``zoom``."""
        key = (file.slide_id, x, y, side, out_px)
        if (kept := self._kept(key)) is not None:
            return kept
        with self._use(file) as slide:
            pixels = slide.region(x, y, side, out_px)
        return self._keep(key, simplejpeg.encode_jpeg(pixels, _QUALITY))

    def close(self) -> None:
        """Close every slide."""
        with self._looking:
            left = list(self._opened.values())
            self._opened.clear()
        for one in left:
            one.close()

    @contextmanager
    def _use(self, file: SlideFile) -> Iterator[Slide]:
        """The open slide, for this thread alone."""
        while True:
            key, opened = self._find(file)
            with opened.using:
                if opened.closed:  # for another's sake, between the two lines before
                    continue
                try:
                    yield opened.open()
                except SlideError:  # nothing can be read from it any more: whoever comes next opens it anew
                    with self._looking:
                        if self._opened.get(key) is opened:
                            del self._opened[key]
                    opened.closed = True
                    if opened.slide is not None:
                        opened.slide.close()
                    raise
                return

    def _find(self, file: SlideFile) -> tuple[tuple[str, int], _Opened]:
        """The slide where nobody reads it now, opened once more if need be; else where others read it in turn."""
        with self._looking:
            keys = [(file.slide_id, lane) for lane in range(_LANES)]
            free = (key for key in keys if key not in self._opened or not self._opened[key].using.locked())
            key = next(free, keys[next(self._turn) % _LANES])
            found = self._opened.setdefault(key, _Opened(file))
            self._opened.move_to_end(key)
            surplus = [self._opened.popitem(last=False)[1] for _ in range(len(self._opened) - self._n_open)]
        for one in surplus:
            one.close()
        return key, found

    def _overview(self, file: SlideFile, slide: Slide, zoom: DeepZoom) -> Overview:
        """What coarse tiles of a slide without coarse levels are cut from; made once, which takes long."""
        with self._making:
            if file.slide_id not in self._overviews:
                self._overviews[file.slide_id] = make_overview(slide, zoom)
            self._overviews.move_to_end(file.slide_id)
            while len(self._overviews) > _OVERVIEWS:
                self._overviews.popitem(last=False)
            return self._overviews[file.slide_id]

    def _kept(self, key: tuple[object, ...]) -> bytes | None:
        with self._looking:
            if key in self._pictures:
                self._pictures.move_to_end(key)
            return self._pictures.get(key)

    def _keep(self, key: tuple[object, ...], picture: bytes) -> bytes:
        with self._looking:
            if key not in self._pictures:
                self._pictures[key] = picture
                self._size += len(picture)
            while self._size > self._n_bytes and len(self._pictures) > 1:
                self._size -= len(self._pictures.popitem(last=False)[1])
        return picture
