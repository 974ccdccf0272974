"""Kill workers of a Dask cluster at random moments while slides are tiled, and count what is lost and what is doubled.

    python tests/bench/dask_kills.py [--kills 100] [--slides 600] [--workers 3] [--seed 0]

All on loopback. Prints the kills, the slides that were given up (four deaths), and, after the same command was run
once more, slides that are missing, done twice, or other than one process makes them.
"""

import argparse
import importlib.util
import os
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import dask
from distributed import LocalCluster, Status

from wsisurv import Workspace, tile
from wsisurv.engine.dask import dask_pool
from wsisurv.workspace.ledger import Summary, read_failures


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("kills", 100), ("slides", 600), ("workers", 3), ("seed", 0), ("side", 3000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slides = draw(Path(folder) / "slides", asked.slides, asked.side)
        place = Workspace(Path(folder) / "w")
        first, second, n_kills = tile_under_fire(place, slides, asked)
        left = [path.name for path in place.root.rglob("*.partial")]
        made = {path.stem: path.read_bytes() for path in (place.root / "tiles").glob("*.h5")}
        done = Counter([*first.done, *second.done])
        alone = {path.stem: path for path in slides.iterdir()}
        (place.root / "tiles").rename(place.root / "by dask")
        for path in (place.root / "preview").glob("*.jpg"):
            path.unlink()
        tile(place, [slides])
        other = [name for name in alone if made.get(name) != place.tiles(name).read_bytes()]
        print(f"slides: {asked.slides}; workers: {asked.workers}; kills: {n_kills}")
        print(f"first run: {len(first.done)} done, {len(first.failed)} given up after four deaths")
        print(f"second run: {len(second.done)} done, {len(second.kept)} kept, {len(second.failed)} failed")
        lost, doubled = alone.keys() - made.keys(), sum(n > 1 for n in done.values())
        print(f"lost: {len(lost)}; doubled: {doubled}; other bytes: {len(other)}")
        print(f"left in the ledger: {len(read_failures(place, 'tile'))}; partial files left: {len(left)}")
        sys.exit(bool(lost or other or doubled))


def draw(folder: Path, n: int, side: int) -> Path:
    """So many slides without a smaller level, which take a moment each; one file under many names."""
    spec = importlib.util.spec_from_file_location("drawing", Path(__file__).parents[1] / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    first = drawing.write_slide(folder / "S0000.tiff", (side, side), levels=1)
    for number in range(1, n):
        os.link(first, folder / f"S{number:04}.tiff")
    return folder


def tile_under_fire(place: Workspace, slides: Path, asked: argparse.Namespace) -> tuple[Summary, Summary, int]:
    """Tile, with workers killed at random, and then once more in peace; both summaries, and the number of kills."""
    # A LocalCluster gives up a worker that is not there 15 s after a death, be it one that came back and died again
    # (distributed 2026.8.0, findings/).
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"})
    cluster = LocalCluster(n_workers=asked.workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50)
    killer = Killer(cluster, place.root / "tiles", asked)
    with cluster, dask_pool(cluster.scheduler_address, place) as pool:
        killer.start()
        first = tile(place, [slides], pool=pool)
        killer.over.set()
        killer.join()
        return first, tile(place, [slides], pool=pool), killer.n_kills


class Killer(threading.Thread):
    """Kills a worker every few slides, so that workers that take long to begin are not killed before they did any."""

    def __init__(self, cluster: LocalCluster, tiles: Path, asked: argparse.Namespace) -> None:
        super().__init__(daemon=True)  # a run that fails ends
        self._cluster, self._tiles, self._kills = cluster, tiles, asked.kills
        self._most = max(1, 2 * asked.slides // asked.kills - 2)
        self._random = random.Random(asked.seed)
        self.over, self.n_kills = threading.Event(), 0

    def run(self) -> None:
        """Kill until there were enough."""
        due, killed = 0, set[int]()
        while self.n_kills < self._kills and not self.over.wait(0.05):
            n_tiled = len(list(self._tiles.glob("*.h5")))
            # Dask gives up a worker that is killed while it begins: one must be known to the scheduler, by its new
            # address, and not be one that is dead already and not yet buried.
            begun, workers = self._cluster.scheduler.workers, [one.process for one in self._cluster.workers.values()]
            pids = [one.pid for one in workers if one and one.status is Status.running and one.worker_address in begun]
            pids = [pid for pid in pids if pid and pid not in killed]
            if n_tiled < due or not pids:
                continue
            with suppress(ProcessLookupError):
                os.kill(chosen := self._random.choice(pids), signal.SIGKILL)
                killed.add(chosen)
                self.n_kills += 1
                due = n_tiled + self._random.randint(1, self._most)


if __name__ == "__main__":
    main()
