"""One stream over a whole cohort: readers ahead of the encoder across slide borders, a writer behind it.

Pieces of slides are read by a few threads, a bounded number of pieces ahead, and used in their order, so that the same
cohort makes the same batches whatever the number of threads. A batch may hold tiles of several slides.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wsisurv.embedding.colours import Pixels
from wsisurv.embedding.encoder import Encoder, Pending
from wsisurv.embedding.read_ahead import Decoder, Piece, Prepare, ReadAhead, SlideInProgress, tile_bytes
from wsisurv.embedding.stain_shifts import ShiftedTiles
from wsisurv.engine.jobs import Job
from wsisurv.errors import DeviceError, SlideError, StorageError, WsisurvError
from wsisurv.formats.tiles import Tiles

MAX_BATCH_BYTES = 256 << 20
"""Bound of a batch's pixels, whatever the size of a tile."""
_WRITES_WAITING = 4


class Work(Protocol):
    """What a stream takes slides from and hands their features to."""

    def begin(self, job: Job) -> Tiles | None:
        """Claim a slide whose turn has come; None where there is nothing to do, or it can't be done."""

    def more(self, tiles: Tiles) -> ShiftedTiles | None:
        """What is encoded behind a slide's own tiles; not asked for a slide without any."""

    def verify(self, job: Job) -> None:
        """Refuse a slide that is not the one that was tiled; called in a reader's thread, before it is opened."""

    def save(self, slide: SlideInProgress) -> None:
        """Write the features of a slide; called in the writer's thread."""

    def fail(self, job: Job, error: Exception) -> None:
        """Note that a slide can't be embedded; called in either thread."""


@dataclass(frozen=True)
class _BatchPart:
    """Tiles of one slide in a batch."""

    slide: SlideInProgress
    start: int
    n_tiles: int


@dataclass
class _Batch:
    """Tiles of one size and resolution, of one slide or several."""

    pixels: Pixels
    tile_mpp: float
    size: int
    parts: list[_BatchPart] = field(default_factory=list)
    n_tiles: int = 0
    pending: Pending | None = None

    def fits(self, tiles: Tiles) -> bool:
        return (self.pixels.shape[1], self.tile_mpp) == (tiles.tile_px, tiles.tile_mpp)

    def add(self, slide: SlideInProgress, start: int, pixels: Pixels) -> int:
        """Take as many as there is room for; returns how many."""
        taken = min(len(pixels), self.size - self.n_tiles)
        self.pixels[self.n_tiles : self.n_tiles + taken] = pixels[:taken]
        self.parts.append(_BatchPart(slide, start, taken))
        self.n_tiles += taken
        return taken


class Stream:
    """Reads, encodes and writes slides, each stage beside the others.

    Args:
        encoder: what makes features.
        work: where slides come from and features go to.
        readers: threads that read.
        batch_size: tiles at once; None for what the encoder finds good. Halved where the device has no room.
        dtype: in which features are kept.
        decoder: what reads the pixels.
        prepare: done to the pixels before the encoder, or None.
        stage: folder to which slides are copied before they are read, one ahead; None for no copies.
        report: called after each batch with the slide and its tiles so far; may raise to stop the run.

    Attributes:
        notes: what a person should know of the run.
    """

    def __init__(
        self,
        encoder: Encoder,
        work: Work,
        *,
        readers: int,
        batch_size: int | None = None,
        dtype: str = "float16",
        decoder: Decoder = "auto",
        prepare: Prepare | None = None,
        stage: Path | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._encoder, self._work, self._report = encoder, work, report
        self._batch_size, self._dtype, self._decoder = batch_size, np.dtype(dtype), decoder
        self._sizes: dict[int, int] = {}
        self._filling: _Batch | None = None
        self._flying: deque[_Batch] = deque()
        self._spare: list[Pixels] = []
        self._writes: deque[Future[None]] = deque()
        self._open: dict[str, SlideInProgress] = {}
        self._ahead, self._stage = ReadAhead(readers, prepare), stage
        self._copying = ThreadPoolExecutor(1, thread_name_prefix="copier")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self.notes: list[str] = []

    def run(self, jobs: Iterable[Job]) -> None:
        """Embed slides, taken from ``jobs`` as their turn comes.

        Raises:
            StorageError: no room to write.
            DeviceError: the device has no room for a single tile.
        """
        try:
            for piece in self._ahead.read(self._slides(jobs), self._batch_bytes):
                self._add(piece)
            self._submit()
            self._settle(0)
            self._collect(0)
        finally:
            for slide in self._open.values():
                slide.given_up = True
            self._copying.shutdown(cancel_futures=True)
            self._ahead.close()
            self._writing.shutdown(cancel_futures=True)
            for slide in self._open.values():
                slide.give_up()

    def _batch_bytes(self) -> int:
        return max((size * 3 * side**2 for side, size in self._sizes.items()), default=0)

    def _slides(self, jobs: Iterable[Job]) -> Iterator[SlideInProgress]:
        """Slides as their turn comes; where they are copied, each once the copy of the next is asked for."""
        if self._stage is None:
            yield from self._begun(jobs)
            return
        before: SlideInProgress | None = None
        for slide in self._begun(jobs):
            if slide.n_left:
                slide.fetch(self._copying, self._stage)
            if before is not None:
                yield before
            before = slide
        if before is not None:
            yield before

    def _begun(self, jobs: Iterable[Job]) -> Iterator[SlideInProgress]:
        for job in jobs:
            tiles = self._work.begin(job)
            if tiles is None:
                continue
            values = np.empty((len(tiles.coords), self._encoder.n_features), self._dtype)
            more = self._work.more(tiles) if len(tiles.coords) else None
            slide = self._open[job.id] = SlideInProgress(job, tiles, values, self._decoder, more, self._work.verify)
            if not slide.n_left:
                self._write(slide)
            yield slide

    def _add(self, piece: Piece) -> None:
        """Put tiles into batches; those that are full go to the encoder."""
        slide, start = piece.slide, piece.rows.start
        try:
            pixels = piece.pixels.result()
        except StorageError:  # of the copy
            raise
        except (WsisurvError, OSError) as error:
            self._give_up(slide, error)
            return
        if pixels is None or slide.given_up:
            return
        if self._filling is not None and not self._filling.fits(slide.tiles):
            self._submit()
        while len(pixels):
            if self._filling is None:
                self._filling = self._new_batch(slide.tiles)
            taken = self._filling.add(slide, start, pixels)
            start, pixels = start + taken, pixels[taken:]
            if self._filling.n_tiles == self._filling.size:
                self._submit()

    def _new_batch(self, tiles: Tiles) -> _Batch:
        side = tiles.tile_px
        if side not in self._sizes:
            size = self._batch_size or self._encoder.find_batch_size(side)
            self._sizes[side] = max(1, min(size, MAX_BATCH_BYTES // tile_bytes(tiles)))
        size = self._sizes[side]
        self._spare = [pixels for pixels in self._spare if pixels.shape[1] == side and len(pixels) >= size]
        pixels = self._spare.pop() if self._spare else self._encoder.buffer(size, side)
        return _Batch(pixels, tiles.tile_mpp, size)

    def _submit(self) -> None:
        """Begin the batch in progress, and take in those before it that need not wait any more."""
        batch, self._filling = self._filling, None
        if batch is None:
            return
        try:
            batch.pending = self._encoder.submit(batch.pixels[: batch.n_tiles], batch.tile_mpp)
        except DeviceError:
            if batch.n_tiles == 1 and not self._flying:
                raise
        self._flying.append(batch)
        self._settle(self._encoder.in_flight - 1 if batch.pending else 0)

    def _settle(self, n_flying: int) -> None:
        """Take in the features of the oldest batches, until ``n_flying`` are left."""
        while len(self._flying) > n_flying:
            batch = self._flying.popleft()
            values = self._result(batch)
            for part in batch.parts:
                self._take_in(part, values[: part.n_tiles])
                values = values[part.n_tiles :]
            self._spare.append(batch.pixels)
            self._collect(_WRITES_WAITING)
            slide = batch.parts[-1].slide
            self._report(f"{slide.job.id} ({slide.n_tiles - slide.n_left}/{slide.n_tiles} tiles)")

    def _result(self, batch: _Batch) -> NDArray[np.float32]:
        if batch.pending is not None:
            try:
                return batch.pending()
            except DeviceError:
                if batch.n_tiles == 1:
                    raise
        return self._in_smaller_batches(batch)

    def _in_smaller_batches(self, batch: _Batch) -> NDArray[np.float32]:
        """The features of a batch for which the device had no room, in halves, or halves of them."""
        side = batch.pixels.shape[1]
        size = max(1, min(self._sizes[side], batch.n_tiles) // 2)
        features: list[NDArray[np.float32]] = []
        start = 0
        while start < batch.n_tiles:
            part = batch.pixels[start : min(start + size, batch.n_tiles)]
            try:
                features.append(self._encoder.submit(part, batch.tile_mpp)())
            except DeviceError:
                if len(part) == 1:
                    raise
                size = len(part) // 2
            else:
                start += len(part)
        self.notes.append(f"the device has no room for {self._sizes[side]} tiles at once: went on with {size}")
        self._sizes[side] = size
        return np.concatenate(features)

    def _take_in(self, part: _BatchPart, values: NDArray[np.float32]) -> None:
        """Keep features of a slide, and have it written when they are all there."""
        slide = part.slide
        if slide.given_up:
            return
        start = part.start - len(slide.values)
        try:
            if start < 0:
                slide.values[part.start : part.start + part.n_tiles] = _narrowed(values, slide.values.dtype, part)
            elif slide.more_values is not None:
                slide.more_values[start : start + part.n_tiles] = _narrowed(values, np.dtype(np.float32), part)
        except SlideError as error:
            self._give_up(slide, error)
            return
        slide.n_left -= part.n_tiles
        if not slide.n_left:
            self._write(slide)

    def _give_up(self, slide: SlideInProgress, error: Exception) -> None:
        if not slide.given_up:
            slide.give_up()
            self._open.pop(slide.job.id, None)
            self._work.fail(slide.job, error)

    def _write(self, slide: SlideInProgress) -> None:
        self._open.pop(slide.job.id, None)
        self._writes.append(self._writing.submit(self._save, slide))

    def _save(self, slide: SlideInProgress) -> None:
        try:
            self._work.save(slide)
        except StorageError:
            raise
        except (WsisurvError, OSError) as error:
            self._work.fail(slide.job, error)

    def _collect(self, n_waiting: int) -> None:
        """Learn how writes ended, and wait until at most ``n_waiting`` are left."""
        while self._writes and (self._writes[0].done() or len(self._writes) > n_waiting):
            self._writes.popleft().result()


def _narrowed(values: NDArray[np.float32], dtype: np.dtype[Any], part: _BatchPart) -> NDArray[np.floating[Any]]:
    """In the type of the file; SlideError where that can't hold them."""
    with np.errstate(over="ignore"):
        narrow: NDArray[np.floating[Any]] = values.astype(dtype)
    if not np.isfinite(narrow).all():
        row, column = np.argwhere(~np.isfinite(narrow))[0]
        value = values[row, column]
        seen = f"{part.slide.job.source}: feature {column} of tile {part.start + row} is {value:g}"
        if np.isfinite(value):
            raise SlideError(f"{seen}, which a {dtype} can't hold. Use --dtype float32.")
        raise SlideError(f"{seen}, no finite number. Are these weights right for the encoder?")
    return narrow
