"""Slides in progress, and their pixels read ahead of use by a few threads."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.colours import Pixels
from wsisurv.embedding.stain_shifts import ShiftedTiles
from wsisurv.engine.jobs import Job
from wsisurv.errors import SlideError
from wsisurv.formats.tiles import Tiles
from wsisurv.slides.stage import of_original, staged
from wsisurv.slides.tiles import TileReader

PIECE_BYTES = 32 << 20
"""Bound of what a thread reads at once, unless a single tile is larger."""
_FIRST_PIECE = 16
"""Tiles; the pieces then double up to their bound, so that the encoder need not wait for a whole one."""
_PIECES_A_THREAD = 4
"""Pieces ahead, where slides are smaller than a piece."""

Decoder = Literal["auto", "openslide", "jpeg-half"]
Prepare = Callable[[Pixels, Tiles], Pixels]
"""Done to pixels of tiles before the encoder, uint8 (n, side, side, 3) to the same; runs in a reading thread."""


def tile_bytes(tiles: Tiles) -> int:
    """Bytes of one tile's pixels."""
    return 3 * tiles.tile_px**2


class SlideInProgress:
    """A slide whose turn has come: open readers, as many as threads want at once, and features as they come in.

    Attributes:
        job: where it is and where its features go.
        tiles: where its tiles are.
        values: (n_tiles, n_features), filled as batches come back.
        more: tiles under stain shifts, encoded behind its own, or None.
        more_values: float32 (more.n_tiles, n_features), likewise; None where there are no more.
        n_tiles: tiles in all, those behind its own too.
        n_left: tiles without features yet.
        given_up: True where it failed: nothing more is read or kept of it.
        decoder: what reads its pixels; empty before the first was read.
    """

    def __init__(
        self,
        job: Job,
        tiles: Tiles,
        values: NDArray[np.floating[Any]],
        decoder: Decoder,
        more: ShiftedTiles | None = None,
        verify: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self.job, self.tiles, self.values, self.more = job, tiles, values, more
        self.more_values = None if more is None else np.empty((more.n_tiles, values.shape[1]), np.float32)
        self.n_left = self.n_tiles = len(tiles.coords) + (0 if more is None else more.n_tiles)
        self.given_up = False
        self.decoder = ""
        self._asked, self._verify, self._unread = decoder, verify, len(tiles.coords)
        self._in_use, self._place = self.n_tiles, job.source
        self._copy = ExitStack()
        self._copied: Future[None] | None = None
        self._lock = threading.Lock()
        self._first: TileReader | None = None
        self._idle: dict[TileReader, int] = {}

    def fetch(self, copying: Executor, stage: Path) -> None:
        """Begin to copy it, to be read there."""
        self._copied = copying.submit(self._fetch, stage)

    def _fetch(self, stage: Path) -> None:
        self._verify(self.job)
        copy = staged(self.job.source, stage, unwanted=lambda: self.given_up)
        self._place = self._copy.enter_context(copy)
        self.tiles = replace(self.tiles, slide_path=self._place)

    def use(self, rows: slice, prepare: Prepare | None) -> Pixels | None:
        """Read tiles and prepare its own, for the last time: a copy goes with the last of them.

        Returns:
            As ``read``.

        Raises:
            SlideError: the file is damaged.
        """
        try:
            pixels = self.read(rows)
            if pixels is not None and prepare is not None and rows.start < len(self.tiles.coords):
                pixels = prepare(pixels, self.tiles)
        except SlideError as error:
            raise of_original(error, self.job.source, self._place.parent) from error
        with self._lock:
            self._in_use -= rows.stop - rows.start
        if not self._in_use:
            self._copy.close()
        return pixels

    def read(self, rows: slice) -> Pixels | None:
        """Read tiles, those behind its own too; None where the slide was given up."""
        if self.given_up:
            return None
        if self.more is not None and rows.start >= (n_own := len(self.tiles.coords)):
            return self.more.read(slice(rows.start - n_own, rows.stop - n_own), self.tiles)
        reader = self._take(rows.start)
        try:
            return reader.read(rows)
        finally:
            self._give_back(reader, rows)

    def _take(self, start: int) -> TileReader:
        """The reader that goes on where it stopped, or any other, or one more."""
        with self._lock:
            at = {stopped: reader for reader, stopped in self._idle.items()}
            if at:
                reader = at.get(start) or next(iter(self._idle))
                del self._idle[reader]
                return reader
            if self._first is None:
                if self._copied is None:
                    self._verify(self.job)
                else:
                    self._copied.result()
                self._first = TileReader(self._place, self.tiles, decoder=self._asked)
                return self._first
            return self._first.twin()

    def _give_back(self, reader: TileReader, rows: slice) -> None:
        with self._lock:
            self.decoder = reader.decoder
            self._idle[reader] = rows.stop
            self._unread -= rows.stop - rows.start
            finished = self.given_up or not self._unread
        if finished:
            self.close()

    def give_up(self) -> None:
        """Read no more of it; a reader at work is closed by its thread."""
        self.given_up = True
        self.close()
        if self._copied is not None and not self._copied.cancel():
            self._copied.exception()  # being copied still, which ends soon
        self._copy.close()

    def close(self) -> None:
        """Close the readers that are not at work."""
        with self._lock:
            idle, self._idle = list(self._idle), {}
        for reader in idle:
            reader.close()


@dataclass(frozen=True)
class Piece:
    """Tiles of one slide that are read at once: now, or soon, or just now."""

    slide: SlideInProgress
    rows: slice
    pixels: Future[Pixels | None]
    """None where the slide was given up before."""

    @property
    def n_bytes(self) -> int:
        """Size of its pixels."""
        n_tiles: int = self.rows.stop - self.rows.start
        return n_tiles * tile_bytes(self.slide.tiles)


class ReadAhead:
    """Threads that read slides in pieces, a bounded number of bytes ahead of use.

    Args:
        threads: how many.
        prepare: done to the pixels of slides' own tiles, or None.
    """

    def __init__(self, threads: int, prepare: Prepare | None = None) -> None:
        self._n_threads, self._prepare = threads, prepare
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    def read(self, slides: Iterable[SlideInProgress], batch_bytes: Callable[[], int]) -> Iterator[Piece]:
        """Pieces of slides in their order, being read when they are given or before.

        Args:
            slides: taken as their turn comes.
            batch_bytes: of the pixels that the encoder takes at once, as far as that is known: read beforehand too.
        """
        ahead: deque[Piece] = deque()
        rows = _rows(slides)
        while True:
            while self._has_room(ahead, batch_bytes()) and (next_one := next(rows, None)):
                ahead.append(Piece(*next_one, self._threads.submit(next_one[0].use, next_one[1], self._prepare)))
            if not ahead:
                return
            yield ahead.popleft()

    def _has_room(self, ahead: Iterable[Piece], batch_bytes: int) -> bool:
        sizes = [piece.n_bytes for piece in ahead]
        enough = sum(sizes) >= self._n_threads * PIECE_BYTES + batch_bytes
        return len(sizes) <= self._n_threads * _PIECES_A_THREAD and not enough

    def close(self) -> None:
        """End the threads once what they are reading is read; what waits is not read."""
        self._threads.shutdown(cancel_futures=True)


def _rows(slides: Iterable[SlideInProgress]) -> Iterator[tuple[SlideInProgress, slice]]:
    n_tiles = _FIRST_PIECE
    for slide in slides:
        start, end = 0, len(slide.tiles.coords)
        most = max(1, PIECE_BYTES // tile_bytes(slide.tiles))
        while start < end and not slide.given_up:
            stop = min(end, start + min(n_tiles, most))
            n_tiles = min(2 * n_tiles, most)
            yield slide, slice(start, stop)
            start = stop
        if slide.more is None or slide.given_up:
            continue
        for start in range(end, end + slide.more.n_tiles, slide.more.piece):
            yield slide, slice(start, start + slide.more.piece)
