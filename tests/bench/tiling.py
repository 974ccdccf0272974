"""`tile` beside the floor that nothing can beat: reading the view at 8 µm/px alone, both as whole processes.

Run: ``python tests/bench/tiling.py [--side 30000] [--texture SLIDE]``. Makes a large slide in a temporary folder (JPEG
tiles, a pyramid, texture repeated from SLIDE or drawn). Prints wall time and peak memory, their ratios from this one
run, and the time of each part inside a running process. Never fails on a time.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

TILE = 256
PATTERN = 8  # tiles a side of the texture that is repeated
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
from wsisurv.settings import TileSettings
from wsisurv.slides.reader import Slide
from wsisurv.tiling.step import tile
from wsisurv.workspace import Workspace
path, root = Path(sys.argv[1]), Path(sys.argv[2])
def best(what):
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
def view():
    with Slide(path) as slide:
        slide.view(8.0)
runs = iter(range(100))
def run(**options):
    tile(Workspace(root / f"in-process-{next(runs)}"), [path], TileSettings(), **options)
floor, bare, whole = best(view), best(lambda: run(preview=False)), best(run)
print(f"{floor:.4f} {bare:.4f} {whole:.4f}")
"""


def texture(side: int) -> NDArray[np.uint8]:
    """Pink stroma with purple nuclei, and noise as a sensor's."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    weave = 12 * np.sin(x / 9 + 3 * np.sin(y / 41)) + 8 * np.sin(y / 7)
    image = np.array([222, 160, 195], np.float32) + weave[..., None] * np.array([0.5, 1.0, 0.6], np.float32)
    for cx, cy in rng.integers(0, side, (side * side // 900, 2)):
        nucleus = (slice(max(0, cy - 6), cy + 6), slice(max(0, cx - 5), cx + 5))
        image[nucleus] = 0.3 * image[nucleus] + 0.7 * np.array([105, 65, 140], np.float32)
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def real_texture(path: Path, side: int) -> NDArray[np.uint8]:
    """The middle of a slide, mirrored so that it can be repeated."""
    import openslide

    with openslide.OpenSlide(path) as slide:
        width, height = slide.dimensions
        corner = ((width - side // 2) // 2, (height - side // 2) // 2)
        image = np.asarray(slide.read_region(corner, 0, (side // 2, side // 2)).convert("RGB"))
    image = np.concatenate([image, image[:, ::-1]], axis=1)
    return np.concatenate([image, image[::-1]])


def encode(image: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg_encode(image, level=80, colorspace="rgb", outcolorspace="ycbcr", subsampling="420"))


def make_slide(path: Path, side: int, pattern: NDArray[np.uint8]) -> None:
    """Write a pyramid of factor 4 whose oval of tissue fills about half of the slide, at 0.25 µm/px."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(4):
            factor = 4**level
            length = -(-side // factor)
            tiles = -(-length // TILE)
            small = pattern.reshape(len(pattern) // factor, factor, -1, factor, 3).mean(axis=(1, 3)).astype(np.uint8)
            small = np.tile(small, (factor, factor, 1))  # at each level the same number of different tiles
            coded = {
                (row, column): encode(np.ascontiguousarray(small[row * TILE :, column * TILE :][:TILE, :TILE]))
                for row in range(PATTERN)
                for column in range(PATTERN)
            }
            glass = encode(np.full((TILE, TILE, 3), (243, 242, 244), np.uint8))

            def content(
                tiles: int = tiles, coded: dict[tuple[int, int], bytes] = coded, glass: bytes = glass
            ) -> Iterator[bytes]:
                for row in range(tiles):
                    for column in range(tiles):
                        x, y = ((value + 0.5) / tiles - 0.5 for value in (column, row))
                        tissue = (x / 0.42) ** 2 + (y / 0.38) ** 2 < 1
                        yield coded[row % PATTERN, column % PATTERN] if tissue else glass

            file.write(
                content(),
                shape=(length, length, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=1 if level else 0,
                resolution=(1e4 / (0.25 * factor), 1e4 / (0.25 * factor)),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


@dataclass(frozen=True)
class Cost:
    """Of a whole process."""

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=30_000, help="of the slide, level-0 pixels")
    parser.add_argument("--texture", type=Path, help="a slide whose middle is repeated")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, root = Path(folder, "large.tiff"), Path(folder)
        side = TILE * PATTERN
        make_slide(path, options.side, real_texture(options.texture, side) if options.texture else texture(side))
        print(f"{options.side} × {options.side} px at 0.25 µm/px, {path.stat().st_size / 1e6:.0f} MB")
        floors, bare, whole = [], [], []
        for number in range(options.runs):  # in turns, so that a slow moment of the machine meets all
            words = ["tile", str(path), "-w"]
            floors.append(measure(FLOOR, str(path)))
            bare.append(measure(TILE_COMMAND, *words, str(root / f"bare-{number}"), "--no-preview"))
            whole.append(measure(TILE_COMMAND, *words, str(root / f"whole-{number}")))
        floor = middle(floors)
        print("whole processes, imports included:")
        for name, cost in (
            ("the view at 8 µm/px alone", floor),
            ("tile --no-preview", middle(bare)),
            ("tile", middle(whole)),
        ):
            print(f"  {name:28} {cost.seconds:6.2f} s {cost.mib:6.0f} MiB  {cost.seconds / floor.seconds:5.2f} ×")
        done = subprocess.run(
            [sys.executable, "-c", PARTS, str(path), str(root)], capture_output=True, text=True, check=True
        )
        view, tiles, pictures = map(float, done.stdout.split())
        print("inside a running process:")
        for name, seconds in (("the view alone", view), ("tissue and grid", tiles), ("with the preview", pictures)):
            print(f"  {name:28} {seconds:6.3f} s              {seconds / view:5.2f} ×")


if __name__ == "__main__":
    main()
