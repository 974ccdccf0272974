"""Coordinates to normalised float batches, side by side on two cores: the plain way, and ``TileReader``'s ways.

Run: ``python tests/bench/reading.py [--side 30000] [--tiles 1024] [--runs 5] [--texture SLIDE]``. Makes two large JPEG
slides in a temporary folder, one with a level at 0.5 µm/px, one with only 0.25 and 1.0. The plain way is one OpenSlide
read a tile, PIL and torchvision in a DataLoader of two workers that are started beforehand; the others have two threads
with a reader each, and normalise in them. Prints tiles a second, medians of runs taken in turns, how many times the
plain way that is, and how far the pixels are from ``Slide.region``'s. Never fails on a time.
"""

import argparse
import os
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import torch
from large_slide import MPP, make_slide
from numpy.typing import NDArray
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


def ours(tiles: Tiles, decoder: Any) -> Callable[[], int]:
    first = TileReader(tiles.slide_path, tiles, decoder=decoder)
    readers = [first, *(first.twin() for _ in range(WORKERS - 1))]

    def run() -> int:
        runs: queue.SimpleQueue[int] = queue.SimpleQueue()
        for start in range(0, len(tiles.coords), RUN):
            runs.put(start)
        batches: queue.Queue[torch.Tensor | None] = queue.Queue(2 * WORKERS)
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
    reader: TileReader,
    tiles: Tiles,
    runs: "queue.SimpleQueue[int]",
    batches: "queue.Queue[torch.Tensor | None]",
) -> None:
    """One thread: runs of tiles become normalised batches, as views of a buffer that is used again."""
    pixels = np.empty((RUN, TILE_PX, TILE_PX, 3), np.uint8)
    ready = torch.empty((RUN, TILE_PX, TILE_PX * 3), dtype=torch.float32)
    scale = 1 / (255 * torch.tensor(STD))
    offset = (-torch.tensor(MEAN) / torch.tensor(STD)).repeat(TILE_PX)
    scale = scale.repeat(TILE_PX)
    try:
        for start in taken(runs):
            count = min(RUN, len(tiles.coords) - start)
            reader.read(slice(start, start + count), out=pixels[:count])
            for at in range(0, count, BATCH):
                part = slice(at, min(at + BATCH, count))
                batch = ready[part].copy_(torch.from_numpy(pixels[part]).flatten(2)).mul_(scale).add_(offset)
                batches.put(batch.view(-1, TILE_PX, TILE_PX, 3).permute(0, 3, 1, 2))
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
        print(
            f"  {decoder:10} is read by {reader.decoder:10} {apart.mean():.3f} grey levels apart, at most {apart.max()}"
        )


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
            speeds: dict[str, list[float]] = {way: [] for way in ways}
            for number in range(options.runs + 1):
                for way, run in ways.items():
                    start = time.perf_counter()
                    seen = run()
                    if seen != len(tiles.coords):
                        raise SystemExit(f"{way} gave {seen} of {len(tiles.coords)} tiles")
                    if number:  # the first is a warm-up
                        speeds[way].append(seen / (time.perf_counter() - start))
            floor = statistics.median(speeds["plain"])
            for way, found in speeds.items():
                speed, spread = statistics.median(found), f"({min(found):.0f} to {max(found):.0f})"
                print(f"  {way:10} {speed:7.0f} tiles/s  {speed / floor:5.2f} × plain  {spread}")
            differences(tiles)


if __name__ == "__main__":
    main()
