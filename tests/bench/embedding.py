"""The whole of `embed` beside its parts: a bare forward loop, bare histomics, reading alone; and its memory.

Run: ``python tests/bench/embedding.py [--parts network,histomics,memory,gpu] [--slides 4] [--runs 5]``.
Makes a JPEG slide in a temporary folder and a cohort of so many copies of it. Every figure is the median of runs taken
in turns; ratios are of those medians, of wall time and of processor time (on a machine that does other work only the
second says something). The part ``gpu`` runs only where torch has CUDA. Never fails on a time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from large_slide import MPP, make_slide
from numpy.typing import NDArray

from wsisurv.embedding.encoder import HistomicsEncoder
from wsisurv.embedding.histomics import histomics
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import FORMAT, Tiles, write_tiles
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.tiles import TileReader
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

TILE_PX, TILE_MPP = 224, 0.5
SIDE = 8192  # of a slide, level-0 pixels
SMALL_SIDE = 2048
MANY = 200
MEMORY = """
import json, os, sys
from pathlib import Path
from wsisurv.embedding.step import embed, resolve_settings
from wsisurv.workspace.paths import Workspace
words = json.loads(sys.argv[1])
seen = {}
def told(done, total, what):
    with open("/proc/self/statm") as statm:
        seen[done] = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
settings = resolve_settings(words["encoder"], random_weights=words["encoder"] != "histomics")
embed(Workspace(Path(words["root"])), settings, device="cpu", progress=told)
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"seen": seen, "peak": peak}))
"""


def tissue_tiles(path: Path, side: int) -> Tiles:
    """All tiles of the oval of tissue, row by row."""
    step = TILE_PX * TILE_MPP / MPP
    starts = (np.arange(int(side / step)) * step).astype(np.int64)
    coords = np.stack(np.meshgrid(starts, starts), axis=-1).reshape(-1, 2)
    x, y = ((coords + step / 2) / side - 0.5).T
    coords = coords[(x / 0.42) ** 2 + (y / 0.38) ** 2 < 0.95]
    tissue = np.ones(len(coords), np.float32)
    return Tiles(SlideId("x"), path, coords, tissue, MPP, TILE_MPP, TILE_PX, step, 0, side, side)


def make_cohort(root: Path, slide: Path, side: int, n_slides: int) -> Workspace:
    """A workspace in which one slide is tiled under so many names."""
    workspace = Workspace(root)
    tiles = tissue_tiles(slide, side)
    for number in range(n_slides):
        name = f"slide{number:03}"
        header = make_header(FORMAT, TileSettings(), {"slide": name})
        write_tiles(workspace.tiles(name), replace(tiles, slide_id=SlideId(name)), header)
    return workspace


def read_all(tiles: Tiles) -> NDArray[np.uint8]:
    with TileReader(tiles.slide_path, tiles) as reader:
        return reader.read(slice(0, len(tiles.coords)))


@dataclass(frozen=True)
class Cost:
    """Of one run, seconds."""

    wall: float
    processor: float


def in_turns(runs: int, works: dict[str, Callable[[], object]]) -> dict[str, Cost]:
    """Median cost of each work, done in turns after one run of each that is not counted."""
    costs: dict[str, list[Cost]] = {name: [] for name in works}
    for number in range(runs + 1):
        for name, work in works.items():
            wall, processor = time.perf_counter(), time.process_time()
            work()
            if number:
                costs[name].append(Cost(time.perf_counter() - wall, time.process_time() - processor))
    return {
        name: Cost(*(statistics.median(getattr(cost, what) for cost in several) for what in ("wall", "processor")))
        for name, several in costs.items()
    }


def show(title: str, costs: dict[str, Cost], n_tiles: int, bare: str) -> None:
    print(f"\n{title}, {n_tiles} tiles")
    for name, cost in costs.items():
        wall, processor = cost.wall / costs[bare].wall, cost.processor / costs[bare].processor
        print(
            f"  {name:<34} {n_tiles / cost.wall:8.1f} tiles/s   {n_tiles / cost.processor:8.1f} tiles/s of processor"
            f"   × {wall:.3f} of the {bare}'s wall time, × {processor:.3f} of its processor time"
        )


def step_of(workspace: Workspace, settings: EmbedSettings, encoder: Any, **options: Any) -> Callable[[], None]:
    """The whole step, files written, with an encoder that is built already."""
    encoder.close = lambda: None

    def run() -> None:
        with patch("wsisurv.embedding.one_device.build", lambda *_: encoder):
            assert not embed(workspace, settings, **options).failed
        for path in (workspace.root / "features").rglob("*.h5"):
            path.unlink()

    return run


def bench_network(root: Path, slide: Path, options: argparse.Namespace) -> None:
    import torch

    from wsisurv.embedding.encoders import build_encoder

    settings = resolve_settings("timm:vit_small_patch16_224", random_weights=True)
    encoder: Any = build_encoder(settings, device="cpu")
    workspace = make_cohort(root, slide, SIDE, options.slides)
    pixels = read_all(tissue_tiles(slide, SIDE))
    batches = list(encoder._normalise(torch.from_numpy(pixels)).split(encoder.find_batch_size(TILE_PX)))

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(options.slides):
                for batch in batches:
                    encoder._model(batch)

    costs = in_turns(
        options.runs,
        {
            "bare loop": bare,
            "whole step": step_of(workspace, settings, encoder, device="cpu"),
            "whole step, OpenSlide alone": step_of(workspace, settings, encoder, device="cpu", decoder="openslide"),
        },
    )
    title = f"vit_small, random weights, CPU of {os.cpu_count()} processors, torch on {torch.get_num_threads()} threads"
    show(title, costs, options.slides * len(pixels), "bare loop")


def bench_histomics(root: Path, slide: Path, options: argparse.Namespace) -> None:
    settings = resolve_settings()
    workspace = make_cohort(root, slide, SIDE, options.slides)
    tiles = tissue_tiles(slide, SIDE)
    pixels = read_all(tiles)
    one, many = HistomicsEncoder(1), HistomicsEncoder(os.cpu_count() or 1)

    def bare() -> None:
        for _ in range(options.slides):
            histomics(pixels, TILE_MPP)

    def reading() -> None:
        for _ in range(options.slides):
            read_all(tiles)

    costs = in_turns(
        options.runs,
        {
            "bare histomics": bare,
            "reading alone": reading,
            "whole step, 1 worker": step_of(workspace, settings, one, workers=1),
            f"whole step, {os.cpu_count()} workers": step_of(workspace, settings, many),
        },
    )
    show("histomics", costs, options.slides * len(pixels), "bare histomics")


def bench_memory(root: Path, slide: Path, _: argparse.Namespace) -> None:
    workspace = make_cohort(root, slide, SMALL_SIDE, MANY)
    n_tiles = len(tissue_tiles(slide, SMALL_SIDE).coords)
    print(f"\nmemory over {MANY} slides of {n_tiles} tiles, MiB resident after so many slides")
    for encoder in ("histomics", "timm:test_vit"):
        words = json.dumps({"encoder": encoder, "root": str(workspace.root)})
        done = subprocess.run([sys.executable, "-c", MEMORY, words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        told = json.loads(done.stdout)
        seen = {int(count): mib for count, mib in told["seen"].items()}
        marks = [max(count for count in seen if count <= mark) for mark in (5, 10, 20, 50, 100, MANY)]
        figures = ", ".join(f"{count}: {seen[count]:.0f}" for count in marks)
        print(f"  {encoder:<14} {figures}; peak {told['peak']:.0f}")


def bench_gpu(root: Path, slide: Path, options: argparse.Namespace) -> None:
    import torch

    from wsisurv.embedding.encoders import build_encoder

    if not torch.cuda.is_available():
        print("\ngpu: torch has no CUDA here, left out")
        return
    settings = resolve_settings(options.encoder, random_weights=True).model_copy(update={"precision": "bf16"})
    encoder: Any = build_encoder(settings, device="cuda")
    workspace = make_cohort(root, slide, SIDE, 20)
    spans: list[tuple[Any, Any]] = []
    forward = encoder._forward

    def timed(tiles: torch.Tensor) -> torch.Tensor:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        features: torch.Tensor = forward(tiles)
        end.record()
        spans.append((start, end))
        return features

    size = encoder.find_batch_size(TILE_PX)
    ready = torch.zeros((size, TILE_PX, TILE_PX, 3), dtype=torch.uint8, device="cuda")
    batches = -(-20 * len(tissue_tiles(slide, SIDE).coords) // size)

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(batches):
                forward(ready)
        torch.cuda.synchronize()

    step = step_of(workspace, settings, encoder, device="cuda", batch_size=size)
    encoder._forward = timed
    shares = []

    def whole() -> None:
        spans.clear()
        step()
        torch.cuda.synchronize()
        busy = sum(start.elapsed_time(end) for start, end in spans)
        shares.append(busy / spans[0][0].elapsed_time(spans[-1][1]))

    costs = in_turns(options.runs, {"bare loop": bare, "whole step": whole})
    show(
        f"{options.encoder}, bf16, batches of {size}, {torch.cuda.get_device_name()}",
        costs,
        batches * size,
        "bare loop",
    )
    print(f"  busy between the first and last batch of 20 slides: {statistics.median(shares[1:]):.1%}")


PARTS = {"network": bench_network, "histomics": bench_histomics, "memory": bench_memory, "gpu": bench_gpu}


def chosen(words: str) -> Iterator[str]:
    for word in words.split(","):
        if word not in PARTS:
            raise SystemExit(f"no part {word!r}; there are {', '.join(PARTS)}")
        yield word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--slides", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--encoder", default="h-optimus-0", help="of the part gpu, with random weights")
    parser.add_argument("--texture", type=Path, help="a slide whose middle is repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for part in chosen(options.parts):
            side = SMALL_SIDE if part == "memory" else SIDE
            slide = Path(folder, f"{side}.tiff")
            if not slide.exists():
                make_slide(slide, side, options.texture, (1, 2, 4, 16))
            PARTS[part](Path(folder, part), slide, options)


if __name__ == "__main__":
    main()
