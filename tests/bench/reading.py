"""Coordinates to normalised float batches, side by side on two cores: the plain way, and ``TileReader``'s ways.

Run: ``python tests/bench/reading.py [--side 30000] [--tiles 1024] [--runs 5] [--texture SLIDE]``. Makes two large JPEG
slides in a temporary folder, one with a level at 0.5 µm/px, one with only 0.25 and 1.0. The plain way is one OpenSlide
read a tile, PIL and torchvision in a DataLoader of two workers that are started beforehand; the others have two threads
with a reader each, and normalise in them. Prints tiles a second, medians of runs taken in turns, and how many times the
plain way that is, by wall time and by processor time of all processes (where other work is done, only the second says
something); how far the pixels are from ``Slide.region``'s; and the memory that reading adds. Never fails on a time.

``call alone`` is OpenSlide's own C function on the same tiles, in two threads, into a buffer that is used again, and
nothing else: no colour is converted, nothing resampled or normalised. Nothing that reads by OpenSlide can be faster.
"""

import argparse
import ctypes
import multiprocessing
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import torch
from large_slide import MPP, make_slide
from numpy.typing import NDArray
from openslide import lowlevel
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from wsisurv.formats.tiles import Tiles
from wsisurv.slides.reader import Slide, read_tiles
from wsisurv.slides.tiles import TileReader
from wsisurv.units import SlideId

TILE_PX, TILE_MPP = 224, 0.5
BATCH = 64
RUN = 4 * BATCH  # tiles that a reader takes at a time
WORKERS = 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DECODERS = ("openslide", "auto", "jpeg-half")
SLIDES = {"a level at 0.5 µm/px": (1, 2, 4, 16), "only 0.25 and 1.0 µm/px": (1, 4, 16, 64)}


def tissue_tiles(path: Path, side: int, count: int) -> Tiles:
    """The middle ``count`` tiles of the oval of tissue, row by row."""
    step = TILE_PX * TILE_MPP / MPP
    starts = (np.arange(int(side / step)) * step).astype(np.int64)
    coords = np.stack(np.meshgrid(starts, starts), axis=-1).reshape(-1, 2)
    x, y = ((coords + step / 2) / side - 0.5).T
    coords = coords[(x / 0.42) ** 2 + (y / 0.38) ** 2 < 0.95]
    first = max(0, (len(coords) - count) // 2)
    coords = coords[first : first + count]
    return Tiles(
        SlideId("large"), path, coords, np.ones(len(coords), np.float32), MPP, TILE_MPP, TILE_PX, step, 0, side, side
    )  # fmt: skip


class PlainTiles(Dataset[torch.Tensor]):
    """One read a tile."""

    def __init__(self, tiles: Tiles) -> None:
        self.tiles = tiles
        self.slide: openslide.OpenSlide | None = None
        self.transform = transforms.Compose(
            [transforms.Resize(TILE_PX), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        )

    def __len__(self) -> int:
        return len(self.tiles.coords)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.slide is None:
            self.slide = openslide.OpenSlide(self.tiles.slide_path)
        level = self.slide.get_best_level_for_downsample(self.tiles.tile_level0_px / TILE_PX)
        side = round(self.tiles.tile_level0_px / self.slide.level_downsamples[level])
        x, y = self.tiles.coords[index]
        image: Image.Image = self.slide.read_region((int(x), int(y)), level, (side, side)).convert("RGB")
        return self.transform(image)


def plain(tiles: Tiles) -> Callable[[], int]:
    loader = DataLoader(PlainTiles(tiles), batch_size=BATCH, num_workers=WORKERS, persistent_workers=True)
    return lambda: sum(len(batch) for batch in loader)


class OurTiles:
    """A reader for one thread, with a buffer for pixels and one for what comes of them."""

    def __init__(self, reader: TileReader, tiles: Tiles) -> None:
        self.reader, self.tiles = reader, tiles
        self.pixels = np.zeros((RUN, TILE_PX, TILE_PX, 3), np.uint8)
        self.ready = torch.zeros((RUN, TILE_PX, TILE_PX * 3), dtype=torch.float32)
        self.offset = (-torch.tensor(MEAN) / torch.tensor(STD)).repeat(TILE_PX)
        self.scale = (1 / (255 * torch.tensor(STD))).repeat(TILE_PX)

    def batches(self, rows: slice) -> Iterator[torch.Tensor]:
        """Normalised batches, as views of the buffer."""
        count = rows.stop - rows.start
        self.reader.read(rows, out=self.pixels[:count])
        for at in range(0, count, BATCH):
            part = slice(at, min(at + BATCH, count))
            bytes_of = torch.from_numpy(self.pixels[part]).flatten(2)
            batch = self.ready[part].copy_(bytes_of).mul_(self.scale).add_(self.offset)
            yield batch.view(-1, TILE_PX, TILE_PX, 3).permute(0, 3, 1, 2)


class CallAlone:
    """OpenSlide's own call on each tile, at the level that the others read, and nothing of its pixels."""

    def __init__(self, tiles: Tiles) -> None:
        self.tiles, self.slide = tiles, openslide.OpenSlide(tiles.slide_path)
        self.level = self.slide.get_best_level_for_downsample(tiles.tile_level0_px / TILE_PX)
        self.side = round(tiles.tile_level0_px / self.slide.level_downsamples[self.level])
        self.buffer = (ctypes.c_uint32 * self.side**2)()

    def batches(self, rows: slice) -> Iterator[range]:
        """How many were read."""
        for x, y in self.tiles.coords[rows].tolist():
            lowlevel._read_region(self.slide._osr, self.buffer, x, y, self.level, self.side, self.side)
        yield range(rows.start, rows.stop)


def ours(tiles: Tiles, decoder: Any) -> Callable[[], int]:
    first = TileReader(tiles.slide_path, tiles, decoder=decoder)
    return in_threads(
        tiles, [OurTiles(reader, tiles) for reader in (first, *(first.twin() for _ in range(WORKERS - 1)))]
    )


def call_alone(tiles: Tiles) -> Callable[[], int]:
    return in_threads(tiles, [CallAlone(tiles) for _ in range(WORKERS)])


def in_threads(tiles: Tiles, readers: Sequence[OurTiles | CallAlone]) -> Callable[[], int]:
    """One thread a reader; each takes runs of tiles as it is ready for them."""

    def run() -> int:
        runs: queue.SimpleQueue[int] = queue.SimpleQueue()
        for start in range(0, len(tiles.coords), RUN):
            runs.put(start)
        batches: queue.Queue[Sized | None] = queue.Queue(2 * WORKERS)
        threads = [threading.Thread(target=read, args=(reader, tiles, runs, batches)) for reader in readers]
        for thread in threads:
            thread.start()
        seen, running = 0, len(threads)
        while running:
            batch = batches.get()
            running -= batch is None
            seen += 0 if batch is None else len(batch)
        return seen

    return run


def read(
    reader: OurTiles | CallAlone,
    tiles: Tiles,
    runs: "queue.SimpleQueue[int]",
    batches: "queue.Queue[Sized | None]",
) -> None:
    """One thread: runs of tiles become batches."""
    try:
        for start in taken(runs):
            for batch in reader.batches(slice(start, min(start + RUN, len(tiles.coords)))):
                batches.put(batch)
    finally:
        batches.put(None)


def taken(runs: "queue.SimpleQueue[int]") -> Iterator[int]:
    while True:
        try:
            yield runs.get_nowait()
        except queue.Empty:
            return


def differences(tiles: Tiles) -> None:
    """How far the pixels of each way are from the authority's, on some tiles."""
    rows = slice(0, min(64, len(tiles.coords)))
    with Slide(tiles.slide_path) as slide:
        expected = read_tiles(slide, tiles, rows).astype(np.int16)
    for decoder in DECODERS:
        with TileReader(tiles.slide_path, tiles, decoder=decoder) as reader:
            apart: NDArray[np.int16] = np.abs(reader.read(rows) - expected)
        how = f"{apart.mean():.3f} grey levels apart, at most {apart.max()}; {(apart > 2).mean():.1%} more than 2"
        print(f"  {decoder:10} is read by {reader.decoder:10} {how}")


def processor_seconds() -> float:
    """Of this process and of the workers that it has now."""
    seconds = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


MEMORY = """
import sys, numpy as np, torch
from pathlib import Path
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from reading import RUN, TILE_PX, tissue_tiles
from wsisurv.slides.tiles import TileReader
def mib(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024
tiles = tissue_tiles(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
pixels = np.ones((RUN, TILE_PX, TILE_PX, 3), np.uint8)
before = mib("VmRSS")
with TileReader(tiles.slide_path, tiles, decoder=sys.argv[5]) as reader:
    for start in range(0, len(tiles.coords), RUN):
        count = min(RUN, len(tiles.coords) - start)
        reader.read(slice(start, start + count), out=pixels[:count])
print(f"{mib('VmHWM') - before:.0f}")
"""


def memory(tiles: Tiles, decoder: str, side: int) -> int:
    """What one reader adds to a process, MiB."""
    words = [str(Path(__file__).parent), str(tiles.slide_path), str(side), str(len(tiles.coords)), decoder]
    done = subprocess.run([sys.executable, "-c", MEMORY, *words], capture_output=True, text=True, check=True)
    return int(done.stdout)


@dataclass(frozen=True)
class Cost:
    """Of a run, seconds."""

    wall: float
    processor: float


def measure(run: Callable[[], int], count: int) -> Cost:
    wall, processor = time.perf_counter(), processor_seconds()
    if (seen := run()) != count:
        raise SystemExit(f"{seen} of {count} tiles")
    return Cost(time.perf_counter() - wall, processor_seconds() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=30_000, help="of the slides, level-0 pixels")
    parser.add_argument("--tiles", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--texture", type=Path, help="a slide whose middle is repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:WORKERS])
    with tempfile.TemporaryDirectory() as folder:
        for name, factors in SLIDES.items():
            path = Path(folder, "large.tiff")
            make_slide(path, options.side, options.texture, factors)
            tiles = tissue_tiles(path, options.side, options.tiles)
            print(f"{options.side} × {options.side} px JPEG with {name}, {len(tiles.coords)} tiles:")
            ways = {"plain": plain(tiles), **{decoder: ours(tiles, decoder) for decoder in DECODERS}}
            ways["call alone"] = call_alone(tiles)
            costs: dict[str, list[Cost]] = {way: [] for way in ways}
            for number in range(options.runs + 1):
                for way, run in ways.items():
                    cost = measure(run, len(tiles.coords))
                    if number:  # the first is a warm-up
                        costs[way].append(cost)
            middle = {
                way: Cost(*(statistics.median(getattr(cost, what) for cost in found) for what in ("wall", "processor")))
                for way, found in costs.items()
            }
            plainly = middle["plain"]
            for way, cost in middle.items():
                print(
                    f"  {way:10} {len(tiles.coords) / cost.wall:6.0f} tiles/s  {plainly.wall / cost.wall:5.2f} × plain"
                    f"   processor {1000 * cost.processor / len(tiles.coords):5.2f} ms a tile"
                    f"  {plainly.processor / cost.processor:5.2f} × plain"
                )
            alone = middle["call alone"].processor / plainly.processor
            print(
                f"  OpenSlide's own call alone takes {alone:.2f} of the plain way's processor time: by OpenSlide,"
                f" nothing can be more than {1 / alone:.2f} × as fast"
            )
            differences(tiles)
            if Path("/proc/self/status").exists():
                added = ", ".join(f"{decoder} {memory(tiles, decoder, options.side)}" for decoder in DECODERS)
                print(f"  memory that one reader adds beside what it returns, MiB: {added}")


if __name__ == "__main__":
    main()
