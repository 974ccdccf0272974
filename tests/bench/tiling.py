"""`tile` beside the floor that nothing can beat: reading the view at 8 µm/px alone, both as whole processes.

Run: ``python tests/bench/tiling.py [--side 30000] [--texture SLIDE]``. Makes a large slide in a temporary folder (JPEG
tiles, a pyramid, texture repeated from SLIDE or drawn). Prints wall time and peak memory, their ratios from this one
run, the time of each part inside a running process, and what threads and processes make of several slides. Never fails
on a time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from large_slide import make_slide

PEAK = """
import atexit, sys
def peak():
    with open("/proc/self/status") as status:
        print(next(line for line in status if line.startswith("VmHWM")).split()[1], file=sys.stderr)
atexit.register(peak)
"""  # not ru_maxrss: that counts what the process was before its exec
TILE_COMMAND = """
from wsisurv.cli.app import main
main()
"""
FLOOR = """
from pathlib import Path
from wsisurv.slides.reader import Slide
with Slide(Path(sys.argv[1])) as slide:
    slide.view(8.0)
"""
PARTS = """
import sys, time
from pathlib import Path
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.reader import Slide
from wsisurv.tiling.step import tile
from wsisurv.workspace.paths import Workspace
path, root = Path(sys.argv[1]), Path(sys.argv[2])
def seconds(what):
    start = time.perf_counter()
    what()
    return time.perf_counter() - start
def view():
    with Slide(path) as slide:
        slide.view(8.0)
runs = iter(range(100))
def run(**options):
    tile(Workspace(root / f"in-process-{next(runs)}"), [path], TileSettings(), **options)
rounds = [(seconds(view), seconds(lambda: run(preview=False)), seconds(run)) for _ in range(7)]
print(*(f"{min(column):.4f}" for column in zip(*rounds)))
"""
COPIES = 16
WAYS = {
    "one worker": [[]],
    "two threads": [["--workers", "2"]],
    "two processes": [["--shard", "1/2"], ["--shard", "2/2"]],
}


@dataclass(frozen=True)
class Cost:
    """Of a whole process, or of several at once."""

    seconds: float
    mib: float


def measure(program: str, *words: str) -> Cost:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PEAK + program, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    return Cost(seconds, int(done.stderr.split()[-1]) / 1024)


def middle(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.seconds for cost in costs), max(cost.mib for cost in costs))


def share(slide: Path, root: Path, runs: int) -> dict[str, Cost]:
    """Tile copies of a slide in one worker, in threads, and in processes of their own, in turns."""
    slides = root / "copies"
    slides.mkdir()
    for number in range(COPIES):
        os.link(slide, slides / f"{number}{slide.suffix}")
    costs: dict[str, list[Cost]] = {name: [] for name in WAYS}
    for number in range(runs):
        for name, parts in WAYS.items():
            words = ["tile", str(slides), "-w", str(root / f"{name} {number}")]
            with ThreadPoolExecutor(len(parts)) as together:
                done = [together.submit(measure, TILE_COMMAND, *words, *part) for part in parts]
            each = [part.result() for part in done]
            costs[name].append(Cost(max(cost.seconds for cost in each), sum(cost.mib for cost in each)))
    return {name: middle(seen) for name, seen in costs.items()}


def show(rows: dict[str, Cost]) -> None:
    """Print each with its ratio to the first."""
    unit = next(iter(rows.values())).seconds
    for name, cost in rows.items():
        print(f"  {name:28} {cost.seconds:6.2f} s {cost.mib:6.0f} MiB  {cost.seconds / unit:5.2f} ×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=30_000, help="of the slide, level-0 pixels")
    parser.add_argument("--texture", type=Path, help="a slide whose middle is repeated")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, root = Path(folder, "large.tiff"), Path(folder)
        make_slide(path, options.side, options.texture)
        print(f"{options.side} × {options.side} px at 0.25 µm/px, {path.stat().st_size / 1e6:.0f} MB")
        floors, bare, whole = [], [], []
        for number in range(options.runs):  # in turns, so that a slow moment of the machine meets all
            words = ["tile", str(path), "-w"]
            floors.append(measure(FLOOR, str(path)))
            bare.append(measure(TILE_COMMAND, *words, str(root / f"bare-{number}"), "--no-preview"))
            whole.append(measure(TILE_COMMAND, *words, str(root / f"whole-{number}")))
        print("whole processes, imports included:")
        show({"the view at 8 µm/px alone": middle(floors), "tile --no-preview": middle(bare), "tile": middle(whole)})
        done = subprocess.run(
            [sys.executable, "-c", PARTS, str(path), str(root)], capture_output=True, text=True, check=True
        )
        view, tiles, pictures = map(float, done.stdout.split())
        print("inside a running process:")
        for name, seconds in (("the view alone", view), ("tissue and grid", tiles), ("with the preview", pictures)):
            print(f"  {name:28} {seconds:6.3f} s              {seconds / view:5.2f} ×")
        print(f"{COPIES} such slides, whole processes:")
        show(share(path, root, options.runs))


if __name__ == "__main__":
    main()
