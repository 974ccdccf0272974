"""What running a thousand slides costs beside tiling them, here and on a Dask worker; and what a second worker gives.

    python tests/bench/engines.py SLIDE [--slides 1000] [--scaling 24] [--runs 3]

The slides are hard links of one. Costs are processor seconds, which other work on the machine hardly changes; beside
seconds by the clock stands how busy the machine was.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_spent = [0.0]


def main() -> None:
    """Print a row for each engine, then the second worker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--slides", type=int, default=1000)
    parser.add_argument("--scaling", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--do", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.do:
        {"local": run_local, "dask": run_dask}[asked.do[0]](Path(asked.do[1]), asked.slides)
        return
    with tempfile.TemporaryDirectory() as folder:
        link(asked.slide, Path(folder) / "slides", asked.slides)
        for engine in ("local", "dask") if asked.slides else ():
            subprocess.run(
                [sys.executable, __file__, asked.slide, "--slides", str(asked.slides), "--do", engine, folder],
                check=True,
            )
    if asked.scaling:
        scale(asked.slide, asked.scaling, asked.runs)


def link(slide: Path, folder: Path, n: int) -> None:
    """Hard links of one slide."""
    folder.mkdir(parents=True)
    first = folder / f"S000000{slide.suffix}"
    first.write_bytes(slide.read_bytes())
    for number in range(1, n):
        os.link(first, folder / f"S{number:06}{slide.suffix}")


def timed(do: Callable[..., Any], *given: Any) -> Any:
    """Do it, and add up the processor seconds of this thread."""
    began = time.thread_time()
    try:
        return do(*given)
    finally:
        _spent[0] += time.thread_time() - began


def tiled(folder: Path, name: str, n: int, **how: Any) -> float:
    """Tile all, timed; gives the processor seconds of this process."""
    import engines  # this file, by a name that a worker knows too

    import wsisurv
    from wsisurv.tiling import step

    step._tile_slide = partial(engines.timed, step._tile_slide)
    began = time.process_time()
    done = wsisurv.tile(wsisurv.Workspace(folder / name), [folder / "slides"], preview=False, **how)
    assert len(done.done) == n
    return time.process_time() - began


def show(engine: str, n: int, total: float, work: float) -> None:
    """A row."""
    over = total - work
    print(
        f"{engine:<6} {n} slides: {1e3 * work / n:.1f} ms a slide for tiling, {1e3 * over / n:.2f} ms beside it: "
        f"{over / work:.1%}; 5 % of a slide's time from {20 * 1e3 * over / n:.0f} ms a slide on",
        flush=True,
    )


def run_local(folder: Path, n: int) -> None:
    """One worker, which is this thread."""
    total = tiled(folder, "local", n, workers=1)
    show("local", n, total, spent())


def run_dask(folder: Path, n: int) -> None:
    """One worker, a process; scheduler and client are in this one."""
    from distributed import Client, LocalCluster

    import wsisurv
    from wsisurv.engine.dask import dask_pool

    os.environ["PYTHONPATH"] = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    began = time.monotonic()
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        with dask_pool(cluster.scheduler_address, wsisurv.Workspace(folder / "dask")) as pool:
            with Client(cluster.scheduler_address, set_as_default=False) as client:
                (before,) = client.run(time.process_time).values()
                ours = tiled(folder, "dask", n, pool=pool)
                (after,) = client.run(time.process_time).values()
                (work,) = client.run(spent).values()
    show("dask", n, ours + after - before, work)
    print(f"{ours:.1f} s of these for client and scheduler, in {time.monotonic() - began:.0f} s by the clock")


def spent() -> float:
    """Processor seconds of tiling, here or on a worker."""
    import engines

    return engines._spent[0]


def scale(slide: Path, n: int, runs: int) -> None:
    """Seconds of one worker and of two, best of so many runs."""
    with tempfile.TemporaryDirectory() as folder:
        link(slide, Path(folder) / "slides", n)
        best = {}
        for _ in range(runs):
            for workers in (1, 2):
                began, used, busy = time.monotonic(), _children(), os.getloadavg()[0]
                words = ["tile", f"{folder}/slides", "-w", f"{folder}/w", "--workers", str(workers)]
                subprocess.run([sys.executable, "-m", "wsisurv", *words], check=True, capture_output=True)
                seconds, used = time.monotonic() - began, _children() - used
                print(f"{workers} workers: {seconds:.1f} s, {used:.1f} s of processors, load {busy:.1f} before")
                best[workers] = min(seconds, best.get(workers, seconds))
                subprocess.run(["rm", "-r", f"{folder}/w"], check=True)
        print(f"two workers: {best[1] / best[2]:.2f} times one")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
