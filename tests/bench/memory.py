"""Peak memory of a training beside what its features would take: ``python tests/bench/memory.py [--memory-gib 1]``.

Trains teacher and students for an epoch each on cases whose features files are links to one file, so that a cohort of
10,000 cases of 10,000 tiles × 1,536 takes 30 MB of disk; what training reads and holds is that of the whole cohort.
``--columns 16`` shows what grows with the number of tiles alone, whatever the setting. Prints MiB beyond what a
training of twelve cases leaves in the process. Linux; never fails on a figure.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def simulation() -> Any:
    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    return importlib.import_module("simulation")


def write_linked(root: Path, cases: int, tiles: int, columns: int) -> None:
    """One features file, under the names of all cases' slides."""
    from wsisurv.settings.embedding import EmbedSettings
    from wsisurv.workspace.paths import Workspace

    noise = np.random.default_rng(0).standard_normal((tiles, columns), dtype=np.float32).astype(np.float16)
    first = simulation().write_slide_features(Workspace(root), "case00000-0", noise, EmbedSettings())
    for case in range(1, cases):
        os.link(first, first.with_name(first.name.replace("00000", f"{case:05d}")))


def status(name: str) -> float:
    """MiB of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def train(root: Path, cases: int, memory_gib: float) -> None:
    import torch

    from wsisurv.cohort import Case, Cohort
    from wsisurv.settings.cohort import CohortSettings
    from wsisurv.settings.training import DistillSettings, TeacherSettings
    from wsisurv.training.distill import distill
    from wsisurv.training.teacher import train_teacher
    from wsisurv.workspace.paths import Workspace

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    times = np.random.default_rng(0).exponential(900, cases) + 1
    drawn = [
        Case(f"case{i:05d}", float(times[i]), i % 3 == 0, slide_ids=(f"case{i:05d}-0",))  # type: ignore[arg-type]
        for i in range(cases)
    ]
    cohort, workspace = Cohort("trial", tuple(drawn), CohortSettings()), Workspace(root)
    start = time.perf_counter()
    train_teacher(workspace, cohort, TeacherSettings(epochs=1, folds=2), memory_gib=memory_gib)
    print(f"  teacher {time.perf_counter() - start:.0f} s, peak so far {status('VmHWM'):.0f} MiB", flush=True)
    distill(workspace, cohort, DistillSettings(epochs=1, members=2), memory_gib=memory_gib)
    print(f"  students {time.perf_counter() - start:.0f} s, peak so far {status('VmHWM'):.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--tiles", type=int, default=5000)
    parser.add_argument("--columns", type=int, default=1536)
    parser.add_argument("--memory-gib", type=float, default=1.0)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside is None:
        with tempfile.TemporaryDirectory() as folder:
            write_linked(Path(folder) / "small", 12, 50, chosen.columns)
            write_linked(Path(folder) / "large", chosen.cases, chosen.tiles, chosen.columns)
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--inside", folder], check=True)
        return
    train(chosen.inside / "small", 12, chosen.memory_gib)
    before = status("VmRSS")
    n_bytes = chosen.cases * chosen.tiles * chosen.columns * 2
    print(f"{chosen.cases} cases of {chosen.tiles} × {chosen.columns}: {n_bytes / 2**30:.1f} GiB of features")
    train(chosen.inside / "large", chosen.cases, chosen.memory_gib)
    print(f"peak beyond the start {status('VmHWM') - before:.0f} MiB, setting {chosen.memory_gib * 1024:.0f} MiB")


if __name__ == "__main__":
    main()
