"""The stream: order, mixing, bounds, and everything that can go wrong in the middle of it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from wsisurv.embedding import one_device, read_ahead, stream
from wsisurv.embedding.read_ahead import PIECE_BYTES, ReadAhead, SlideInProgress
from wsisurv.embedding.step import embed
from wsisurv.engine.jobs import Job
from wsisurv.errors import DeviceError, SlideError, StorageError
from wsisurv.formats.features import read_features
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import Tiles
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.slides.tiles import TileReader
from wsisurv.units import SlideId
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

AddSlide = Callable[..., Tiles]
UseEncoder = Callable[..., Any]
HISTOMICS = EmbedSettings()
IDS = ("a", "b", "c")


def mean_and_first(tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
    """Two features that tell tiles apart."""
    del tile_mpp
    return np.stack([tiles.mean(axis=(1, 2, 3)), tiles[:, 0, 0, 0]], axis=1).astype(np.float32)


def expected(tiles: Tiles) -> NDArray[np.float16]:
    with TileReader(tiles.slide_path, tiles) as reader:
        return mean_and_first(reader.read(slice(0, len(tiles.coords))), 0.5).astype(np.float16)


def values(workspace: Workspace, slide_id: str) -> NDArray[np.floating[Any]]:
    return read_features(workspace.features("histomics", slide_id))[0].values


def test_a_batch_holds_tiles_of_several_slides_and_each_slide_gets_its_own(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder
) -> None:
    tiles = {slide_id: add_slide(slide_id, n_tiles) for slide_id, n_tiles in zip(IDS, (6, 1, 4), strict=True)}
    encoder = use_encoder(mean_and_first)
    assert embed(workspace, HISTOMICS, batch_size=4).done == ["a", "b", "c"]
    assert encoder.batches == [4, 4, 3]
    for slide_id in IDS:
        assert np.array_equal(values(workspace, slide_id), expected(tiles[slide_id]))


def test_tiles_of_another_size_or_resolution_are_in_batches_of_their_own(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder
) -> None:
    add_slide("a", 3)
    add_slide("b", 3, tile_px=48)
    add_slide("c", 3, tile_px=48, tile_mpp=1.0)
    seen: list[tuple[int, int, float]] = []

    def features(tiles: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
        seen.append((len(tiles), tiles.shape[1], tile_mpp))
        return mean_and_first(tiles, tile_mpp)

    use_encoder(features)
    assert embed(workspace, HISTOMICS, batch_size=100).done == ["a", "b", "c"]
    assert seen == [(3, 64, 0.5), (3, 48, 0.5), (3, 48, 1.0)]


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_threads_and_batches_in_flight_change_neither_batches_nor_features(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    monkeypatch.setattr(read_ahead, "PIECE_BYTES", 2 * 3 * 64**2)
    tiles = {slide_id: add_slide(slide_id, 6) for slide_id in IDS}
    for workers in (1, 16):
        encoder = use_encoder(mean_and_first, in_flight)
        embed(workspace, HISTOMICS, batch_size=5, workers=workers)
        assert encoder.batches == [5, 5, 5, 3]
        for slide_id in IDS:
            assert np.array_equal(values(workspace, slide_id), expected(tiles[slide_id]))
            workspace.features("histomics", slide_id).unlink()


def test_a_region_that_cannot_be_read_in_the_middle_fails_that_slide_only(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "PIECE_BYTES", 2 * 3 * 64**2)
    tiles = {slide_id: add_slide(slide_id, 6) for slide_id in IDS}
    read = TileReader.read

    def torn(self: TileReader, rows: slice) -> NDArray[np.uint8]:
        if self._tiles.slide_id == "b" and rows.stop > 3:
            raise SlideError("b: region can't be read")
        return read(self, rows)

    use_encoder(mean_and_first)
    with monkeypatch.context() as patch:
        patch.setattr(TileReader, "read", torn)
        summary = embed(workspace, HISTOMICS, batch_size=4)
    assert summary.done == ["a", "c"]
    assert [(failure.id, failure.message) for failure in summary.failed] == [("b", "b: region can't be read")]
    assert [failure.id for failure in read_failures(workspace, "embed")] == ["b"]
    assert not workspace.features("histomics", "b").exists()
    for slide_id in ("a", "c"):
        assert np.array_equal(values(workspace, slide_id), expected(tiles[slide_id]))
    assert embed(workspace, HISTOMICS).done == ["b"]
    assert read_failures(workspace, "embed") == []


def test_a_tile_of_the_file_that_is_damaged_fails_that_slide_only(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slide opens, and its first tiles can be read: OpenSlide's own word on the damage.

    A fingerprint sees it in so small a slide; of a large one it reads the beginning and the end alone.
    """
    monkeypatch.setattr(one_device, "require_tiled", lambda *_: None)
    paths = {slide_id: add_slide(slide_id, 6).slide_path for slide_id in IDS}
    with tifffile.TiffFile(paths["b"]) as file:
        page = file.pages[0]
        start, length = page.dataoffsets[1], page.databytecounts[1]
    content = bytearray(paths["b"].read_bytes())
    content[start : start + length] = bytes(length)
    paths["b"].write_bytes(content)
    use_encoder(mean_and_first)
    summary = embed(workspace, HISTOMICS)
    assert summary.done == ["a", "c"]
    assert [failure.id for failure in summary.failed] == ["b"]
    assert "can't be read" in summary.failed[0].message


def test_every_reader_is_closed_whatever_happens(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "PIECE_BYTES", 1)
    for slide_id in IDS:
        add_slide(slide_id, 6)
    opened: set[int] = set()
    begin, close = TileReader.__init__, TileReader.close

    def opening(self: TileReader, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        opened.add(id(self))

    def closing(self: TileReader) -> None:
        opened.remove(id(self))
        close(self)

    monkeypatch.setattr(TileReader, "__init__", opening)
    monkeypatch.setattr(TileReader, "close", closing)
    encoder = use_encoder(lambda tiles, _: 1 / 0 if len(encoder.batches) == 3 else np.zeros((len(tiles), 2)))
    with pytest.raises(ZeroDivisionError):
        embed(workspace, HISTOMICS, batch_size=1, workers=16)
    assert opened == set()
    use_encoder(mean_and_first)
    assert len(embed(workspace, HISTOMICS, workers=16).done) == 3
    assert opened == set()


def test_a_device_without_room_gets_smaller_batches_and_no_slide_is_lost(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder
) -> None:
    tiles = {slide_id: add_slide(slide_id, 6) for slide_id in IDS}

    def small_device(pixels: NDArray[np.uint8], tile_mpp: float) -> NDArray[np.float32]:
        if len(pixels) > 2:
            raise DeviceError("no room")
        return mean_and_first(pixels, tile_mpp)

    encoder = use_encoder(small_device)
    summary = embed(workspace, HISTOMICS, batch_size=9)
    assert summary.done == ["a", "b", "c"]
    assert summary.notes == ["the device has no room for 9 tiles at once: went on with 2"]
    assert encoder.batches[:3] == [9, 4, 2]
    assert max(encoder.batches[3:]) == 2
    for slide_id in IDS:
        assert np.array_equal(values(workspace, slide_id), expected(tiles[slide_id]))


def test_room_that_is_missed_only_when_the_result_is_asked_for(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder
) -> None:
    tiles = add_slide("a", 6)
    encoder = use_encoder(mean_and_first)
    submit = encoder.submit

    def late(pixels: NDArray[np.uint8], tile_mpp: float) -> Callable[[], NDArray[np.float32]]:
        wait = submit(pixels, tile_mpp)

        def result() -> NDArray[np.float32]:
            if len(pixels) > 1:
                raise DeviceError("no room")
            return wait()

        return result

    encoder.submit = late
    assert embed(workspace, HISTOMICS, batch_size=4).done == ["a"]
    assert np.array_equal(values(workspace, "a"), expected(tiles))


def test_a_device_without_room_for_one_tile_stops_the_run(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder
) -> None:
    add_slide("a")

    def full(*_: Any) -> None:
        raise DeviceError("no room at all")

    use_encoder(full)
    with pytest.raises(DeviceError, match="no room at all"):
        embed(workspace, HISTOMICS)
    use_encoder(mean_and_first)
    assert embed(workspace, HISTOMICS).done == ["a"]


def test_a_full_disk_stops_the_run_and_the_same_command_goes_on(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slide_id in IDS:
        add_slide(slide_id)
    use_encoder(mean_and_first)

    def full(*_: Any) -> None:
        raise StorageError("no room to write")

    with monkeypatch.context() as patch:
        patch.setattr("wsisurv.embedding.one_device.write_features", full)
        with pytest.raises(StorageError, match="no room to write"):
            embed(workspace, HISTOMICS)
    assert embed(workspace, HISTOMICS).done == ["a", "b", "c"]


def test_a_file_that_cannot_be_written_for_its_own_reasons_fails_its_slide(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder
) -> None:
    for slide_id in IDS:
        add_slide(slide_id)
    workspace.features("histomics", "b").mkdir(parents=True)
    use_encoder(mean_and_first)
    summary = embed(workspace, HISTOMICS)
    assert summary.done == ["a", "c"]
    assert [failure.id for failure in summary.failed] == ["b"]


def test_what_another_process_is_at_is_left_to_it(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder
) -> None:
    for slide_id in IDS:
        add_slide(slide_id)
    encoder = use_encoder(mean_and_first)
    with workspace.claim("embed", "b") as claimed:
        assert claimed
        summary = embed(workspace, HISTOMICS)
    assert (summary.done, summary.elsewhere) == (["a", "c"], ["b"])
    assert sum(encoder.batches) == 12
    assert embed(workspace, HISTOMICS).done == ["b"]


def test_what_another_process_has_done_by_the_end_is_left_to_none(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, tmp_path: Path
) -> None:
    for slide_id in IDS:
        add_slide(slide_id)
    use_encoder(mean_and_first)
    embed(workspace, HISTOMICS)
    theirs = workspace.features("histomics", "b")
    theirs.rename(tmp_path / "b.h5")
    workspace.features("histomics", "c").unlink()

    def done_meanwhile(_done: int, _total: int, _said: str) -> None:
        if (tmp_path / "b.h5").exists():
            (tmp_path / "b.h5").rename(theirs)

    with workspace.claim("embed", "b"):
        summary = embed(workspace, HISTOMICS, progress=done_meanwhile)
    assert (summary.kept, summary.done, summary.elsewhere) == (["a", "b"], ["c"], [])


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from wsisurv.embedding.encoder import HistomicsEncoder
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.workspace.paths import Workspace

workspace = Workspace(Path(sys.argv[1]))
submit = HistomicsEncoder.submit
def killed(self, tiles, tile_mpp):
    if workspace.features("histomics", "a").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return submit(self, tiles, tile_mpp)
HistomicsEncoder.submit = killed
for _ in range(2):  # at the latest when "b" is there as well
    embed(workspace, resolve_settings(), batch_size=1, workers=1)
"""


def test_killed_in_the_middle_the_same_command_does_the_rest(workspace: Workspace, add_slide: AddSlide) -> None:
    """It dies at the first batch after a slide was written."""
    add_slide("a", 2)
    for number in range(30):
        add_slide(f"b{number:02}", 3)
    died = subprocess.run([sys.executable, "-c", KILLED, str(workspace.root)], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    before = {path: path.stat().st_mtime_ns for path in (workspace.root / "features").rglob("*.h5")}
    assert workspace.features("histomics", "a") in before
    summary = embed(workspace, HISTOMICS)
    assert len(summary.done) + len(summary.kept) == 31
    assert len(summary.kept) == len([path for path in before if not path.name.startswith(".")])
    for path, written in before.items():
        assert path.stat().st_mtime_ns == written
    assert list((workspace.root / "features").rglob(".*")) == []


@dataclass
class FakeSlide:
    """Of so many tiles of 256 px, without any pixels."""

    n_tiles: int
    given_up: bool = False
    more: None = None
    read_rows: list[slice] = field(default_factory=list)

    @property
    def tiles(self) -> Tiles:
        coords, tissue = np.zeros((self.n_tiles, 2), np.int64), np.ones(self.n_tiles, np.float32)
        return Tiles(SlideId("x"), Path("x"), coords, tissue, 0.5, 0.5, 256, 256.0, 0, 9, 9)

    def use(self, rows: slice, _prepare: None) -> None:
        self.read_rows.append(rows)


@pytest.mark.parametrize("sizes", [[9000], [3] * 300, [700] * 9, [0, 5, 0]], ids=["large", "small", "many", "zero"])
def test_reading_ahead_is_bounded_and_reads_each_tile_once(sizes: list[int]) -> None:
    threads, batch, a_tile = 3, 50 * 3 * 256**2, 3 * 256**2
    slides = [FakeSlide(size) for size in sizes]
    ahead = ReadAhead(threads)
    started: list[int] = []
    submit = ahead._threads.submit

    def counted(use: Any, rows: slice, prepare: None) -> Future[Any]:
        started.append((rows.stop - rows.start) * a_tile)
        return submit(use, rows, prepare)

    ahead._threads.submit = counted  # type: ignore[method-assign,assignment]
    used: list[int] = []
    for piece in ahead.read(slides, lambda: batch):  # type: ignore[arg-type]
        assert sum(started) - sum(used) <= (threads + 1) * PIECE_BYTES + batch
        assert len(started) - len(used) <= 4 * threads + 1
        used.append(piece.n_bytes)
        piece.pixels.result()
        assert used[-1] <= PIECE_BYTES
    ahead.close()
    assert started == used
    for slide in slides:
        rows = sorted((rows.start, rows.stop) for rows in slide.read_rows)
        assert [start for start, _ in rows] == [0, *(stop for _, stop in rows)][: len(rows)]
        assert (rows[-1][1] if rows else 0) == slide.n_tiles


def test_a_slide_that_failed_is_read_no_further() -> None:
    slide = FakeSlide(100_000)
    ahead = ReadAhead(1)
    pieces = ahead.read([slide], lambda: 0)  # type: ignore[list-item]
    next(pieces)
    slide.given_up = True
    assert sum(1 for _ in pieces) <= 5
    ahead.close()


def test_pixels_can_be_prepared_before_the_encoder(add_slide: AddSlide) -> None:
    tiles = add_slide("a", 5)
    job = Job("a", tiles.slide_path, Path("out"), make_header("wsisurv/test", {}, {}))
    slide = SlideInProgress(job, tiles, np.zeros((5, 2)), "auto")
    ahead = ReadAhead(2, lambda pixels, its: 255 - pixels if its is tiles else pixels)
    [piece] = ahead.read([slide], lambda: 0)
    with TileReader(tiles.slide_path, tiles) as reader:
        assert np.array_equal(piece.pixels.result(), 255 - reader.read(slice(0, 5)))
    ahead.close()


def test_a_batch_of_huge_tiles_is_smaller(
    workspace: Workspace, add_slide: AddSlide, use_encoder: UseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_BATCH_BYTES", 2 * 3 * 64**2)
    add_slide("a", 5)
    encoder = use_encoder(mean_and_first)
    assert embed(workspace, HISTOMICS, batch_size=64).done == ["a"]
    assert encoder.batches == [2, 2, 1]
