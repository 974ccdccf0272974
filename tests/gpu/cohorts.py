"""Simulated cohorts at the level of features, written as the earlier steps of the product would."""

import csv
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import simulation
from parts import Sizes

from wsisurv.workspace.paths import Workspace

NAME = "trial"
_POOL_TILES = 4096


def make_cohort(folder: Path, n_cases: int, n_tiles: int, n_features: int) -> None:
    """A workspace with features, statements' vectors and ``clinical.csv``."""
    world = simulation.make_world(0, n_features=n_features)
    few = simulation.simulate(world, n_cases, 0, tiles=(8, 9), effect=2, named=1, error=0.1)
    noise = np.random.default_rng(1).standard_normal((_POOL_TILES, n_features), dtype=np.float32)

    def bag(case: int) -> np.ndarray:
        """Many tiles like the few that were drawn: their phenotypes, and noise from a common pool, which is quick."""
        own = np.random.default_rng(100 + case)
        kinds = own.integers(0, len(few.bags[case]), n_tiles)
        rows = own.integers(0, _POOL_TILES, n_tiles)
        return (few.bags[case].astype(np.float32)[kinds] + noise[rows]).astype(np.float16)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        bags = list(pool.map(bag, range(n_cases)))
    simulation.save(Workspace(folder), replace(few, bags=bags), NAME)
    with (folder / "clinical.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case_id", "time", "event", "site"])
        for case in range(n_cases):
            rows.writerow([f"case{case:04d}", few.time[case], int(few.event[case]), few.site[case]])


def shared_cohort(scratch: Path, sizes: Sizes) -> Path:
    """The large cohort, made once for all parts; whoever comes second waits for it."""
    folder, ready, making = scratch / "cohort", scratch / "cohort-ready", scratch / "cohort-making"
    try:
        making.touch(exist_ok=False)
    except FileExistsError:
        for _ in range(1200):
            if ready.exists():
                return folder
            time.sleep(0.1)
        raise TimeoutError("the cohort was not made in two minutes") from None
    make_cohort(folder, sizes.cases, sizes.tiles, sizes.features)
    ready.touch()
    return folder


def twin(folder: Path, name: str) -> Path:
    """The same workspace under another name, its files shared."""
    copy = folder.with_name(f"{folder.name}-{name}")
    shutil.copytree(folder, copy, copy_function=os.link)
    return copy


def summary_of(workspace: Path) -> dict[str, float | None]:
    """Gate and concordance, as the trainings noted them."""
    lines = [json.loads(line) for line in (workspace / "cohorts" / NAME / "history.jsonl").read_text().splitlines()]
    last = next(line for line in reversed(lines) if "distilled_concordance" in line)
    return {name: last[name] for name in ("gate", "plain_concordance", "distilled_concordance")}


def teacher_words(workspace: Path, sizes: Sizes, device: str, epochs: int) -> list[object]:
    """``wsisurv train-teacher`` on a simulated cohort."""
    table = ["--clinical", workspace / "clinical.csv", "--cohort", NAME, "--site", "site", *sizes.teacher]
    return ["train-teacher", "-w", workspace, *table, "--device", device, "--epochs", epochs]


def distill_words(workspace: Path, sizes: Sizes, device: str, epochs: int) -> list[object]:
    """``wsisurv distill`` on it."""
    return ["distill", "-w", workspace, "--cohort", NAME, "--device", device, "--epochs", epochs, *sizes.student]
