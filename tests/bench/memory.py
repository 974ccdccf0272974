"""Peak memory of a training beside what its features would take: ``python tests/bench/memory.py [--memory-gib 1]``.

Trains teacher and students, five members each and guided by reports, for two epochs on cases of random features, which
take their room on the disk. ``--columns 16`` shows what grows with the number of tiles alone, whatever the setting.
Prints MiB beyond what a training of twelve cases leaves in the process. Linux; never fails on a figure.
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


def write_features(root: Path, cases: int, tiles: int, columns: int) -> None:
    """The same features for each case."""
    from wsisurv.settings.embedding import EmbedSettings
    from wsisurv.workspace.paths import Workspace

    noise = np.random.default_rng(0).standard_normal((tiles, columns), dtype=np.float32).astype(np.float16)
    for case in range(cases):
        simulation().write_slide_features(Workspace(root), f"case{case:05d}-0", noise, EmbedSettings())


def write_reports(root: Path, times: Any) -> None:
    """Statements whose vectors tell of the outcome, so that students are guided."""
    from wsisurv.formats.header import make_header
    from wsisurv.formats.text_vectors import FORMAT, TextVectors, write_text_vectors
    from wsisurv.workspace.paths import Workspace

    ids = [f"case{case:05d}" for case in range(len(times)) for _ in range(10)]
    values = np.random.default_rng(1).standard_normal((len(ids), 48), dtype=np.float32)
    values[:, 0] -= 2 * np.repeat(np.log(times), 10)
    names = tuple(f"{case_id}/{number}" for number, case_id in enumerate(ids))
    vectors = TextVectors(values=values, case_ids=tuple(ids), statement_ids=names, encoder="hashing")
    write_text_vectors(Workspace(root).vectors("hashing"), vectors, make_header(FORMAT, {}, {}))


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
    write_reports(root, times)
    start = time.process_time()
    gate = train_teacher(workspace, cohort, TeacherSettings(epochs=2), memory_gib=memory_gib).gate
    spent, peak = time.process_time() - start, status("VmHWM")
    print(f"  teacher {spent:.0f} s of processor, gate {gate:.2f}, peak so far {peak:.0f} MiB", flush=True)
    distill(workspace, cohort, DistillSettings(epochs=2), memory_gib=memory_gib)
    spent, peak = time.process_time() - start, status("VmHWM")
    print(f"  and students {spent:.0f} s of processor, peak so far {peak:.0f} MiB", flush=True)


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
            write_features(Path(folder) / "small", 12, 50, chosen.columns)
            write_features(Path(folder) / "large", chosen.cases, chosen.tiles, chosen.columns)
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
