"""What a workspace of many slides costs before any work: planning, ``status``, the ledger. Nothing is read but headers.

    python tests/bench/scale.py [--slides 1000 10000 100000] [--failures 1000]

Slides, tiles and features are hard links of a few real ones. Each figure is of a process of its own: processor seconds,
seconds, and the most memory; where twice as many slides take more than twice as long, the last column shows it.
"""

import argparse
import importlib.util
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

_LINKS = 20_000  # of one file; ext4 takes 65,000
_BESIDE = ("preview/{}.jpg", "preview/thumbnails/{}.jpg", "geojson/{}", ".claims/tile/{}.lock", ".claims/embed/{}.lock")
"""Files that ``status`` comes by where it looks for leftovers; empty here."""


def main() -> None:
    """Make each workspace and run each command on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--failures", type=int, default=1000)
    parser.add_argument("--do", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.do:
        measure(asked.do[0], Path(asked.do[1]))
        return
    print(f"{'what':<34}{'slides':>9}{'cpu s':>9}{'s':>9}{'MB':>8}{'µs cpu a slide':>16}")
    for n in asked.slides:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), n, asked.failures)
            for what in STEPS:
                line = subprocess.run(
                    [sys.executable, __file__, "--do", what, folder], capture_output=True, text=True, check=True
                )
                cpu, seconds, megabytes = map(float, line.stdout.split()[-3:])
                print(f"{what:<34}{n:>9}{cpu:>9.1f}{seconds:>9.1f}{megabytes:>8.0f}{1e6 * cpu / n:>16.0f}", flush=True)


def make(folder: Path, n: int, n_failures: int) -> None:
    """A folder of slides, and a workspace with their tiles, features and a ledger."""
    from wsisurv import Workspace, embed, tile
    from wsisurv.formats.atomic import write_jsonl
    from wsisurv.workspace.ledger import make_failure

    spec = importlib.util.spec_from_file_location("drawing", Path(__file__).parents[1] / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    firsts = [f"S{number:06}" for number in range(0, n, _LINKS)]
    for name in firsts:
        drawing.write_slide(folder / "slides" / f"{name}.tiff", (700, 700))
    place = Workspace(folder / "w")
    tile(place, [folder / "slides"], workers=1)
    embed(place, workers=1)
    files = [folder / "slides" / "{}.tiff", place.root / "tiles" / "{}.h5", place.root / "features/histomics/{}.h5"]
    for number in range(n):
        name, of = f"S{number:06}", firsts[number // _LINKS]
        for file in files:
            if name != of:
                os.link(str(file).format(of), str(file).format(name))
    for name in _BESIDE:
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
        for number in range(n):
            (place.root / name.format(f"S{number:06}")).touch()
    failures = [make_failure(f"T{k:06}", folder, OSError("no such slide"), "") for k in range(n_failures)]
    write_jsonl(place.failures("tile"), [vars(one) for one in failures])


def measure(what: str, folder: Path) -> None:
    """Print processor seconds, seconds and megabytes of a step."""
    step = STEPS[what]
    if step is _plan_embed:
        name_rows(folder / "w" / ".index.sqlite")
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.monotonic()
    step(folder)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(cpu, time.monotonic() - start, after.ru_maxrss / 1024)


def name_rows(path: Path) -> None:
    """Have the index say of tiles that they are of their own slides, which hard links of one file don't say."""
    from wsisurv.workspace.index import _crc32

    with closing(sqlite3.connect(path)) as index, index:
        rows = [list(row) for row in index.execute("SELECT * FROM files WHERE format = 'wsisurv/tiles'")]
        for row in rows:
            row[8] = Path(row[0]).stem
            row[-1] = _crc32(row[:-1])
        index.executemany(f"INSERT OR REPLACE INTO files VALUES ({', '.join('?' * len(rows[0]))})", rows)


def _status(folder: Path) -> None:
    from wsisurv import Workspace
    from wsisurv.pipeline.status import status

    status(Workspace(folder / "w"))


def _plan_tile(folder: Path) -> None:
    """All that ``tile`` does where all is done, but looking whether slides were moved."""
    from wsisurv import Workspace
    from wsisurv.engine.jobs import JobRun
    from wsisurv.settings.tiles import TileSettings
    from wsisurv.slides.find import find_slides
    from wsisurv.slides.resolution import GivenMpp
    from wsisurv.tiling.step import Options, plan_jobs

    place = Workspace(folder / "w")
    slides = find_slides([folder / "slides"])
    options = Options(TileSettings(), GivenMpp(), None, False, preview=False)
    jobs, _ = plan_jobs(place, slides, options, 1)
    with JobRun(place, "tile", jobs) as run:
        assert run.all_done
        for job in jobs:
            run.claim(job)


def _plan_embed(folder: Path) -> None:
    from wsisurv import Workspace
    from wsisurv.embedding.step import find_sources

    find_sources(Workspace(folder / "w"), None)


def _claims(folder: Path) -> None:
    """Each item claimed and let go, as by a run that does it."""
    from wsisurv import Workspace

    place = Workspace(folder / "w")
    for slide_id in place.tiled_slides():
        with place.claim("trial", slide_id):
            pass


STEPS: dict[str, Callable[[Path], None]] = {
    "status, first": _status,
    "status, again": _status,
    "tile, all done": _plan_tile,
    "embed, what is tiled": _plan_embed,
    "a claim taken and let go": _claims,
}

if __name__ == "__main__":
    main()
