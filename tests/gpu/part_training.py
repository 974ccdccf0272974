"""Part 3: train-teacher and distill on the card, the same twice, and an exact epoch beside the field's plain way."""

import cProfile
import csv
import importlib.util
import pstats
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from cohorts import NAME, distill_words, shared_cohort, summary_of, teacher_words, twin
from parts import ROOT, Figures, Sizes, begin, synchronise, wsisurv

TIMES_PLAIN = 10
DEFAULT = "128 random tiles a bag (the default)"


def train(sizes: Sizes, figures: Figures, scratch: Path) -> None:
    """The two steps, as a user runs them; distill a second time, which must give the same."""
    shared = shared_cohort(scratch, sizes)
    workspace = twin(shared, "card")
    alone = sizes.device != "cpu"
    with figures.timed("teacher"):
        wsisurv(*teacher_words(workspace, sizes, sizes.device, sizes.epochs), alone=alone)
    with figures.timed("distill"):
        wsisurv(*distill_words(workspace, sizes, sizes.device, sizes.epochs), alone=alone)
    found = summary_of(workspace)
    figures.add(**found)
    figures.check("the reports guide the student", passed=(found["gate"] or 0) > 0, seen=found["gate"])
    if alone:
        with figures.timed("start_of_the_command_line"):
            wsisurv("train-teacher", "-w", workspace, "--cohort", NAME, "--device", "cpu", alone=True)  # is kept
    risks = []
    for _ in range(2):
        words = distill_words(workspace, sizes, sizes.device, max(2, sizes.epochs // 10))
        with cProfile.Profile() as seen:  # of the second, which has imported everything
            wsisurv(*words, "--redo")
        wsisurv("predict", "-w", workspace, "--cohort", NAME, "--device", "cpu", "-o", scratch / "again.csv", "--redo")
        with (scratch / "again.csv").open(encoding="utf-8") as file:
            risks.append(np.array([float(row["log_hazard"]) for row in csv.DictReader(file)]))
    largest = float(np.abs(risks[0] - risks[1]).max() / risks[0].std())
    figures.add(two_trainings_differ_by_sd=largest, distill_spent_s=spent(seen))
    figures.check("the same training twice gives the same risks", passed=largest < 1e-6, seen=largest)
    shutil.rmtree(workspace)


def spent(seen: cProfile.Profile) -> dict[str, float]:
    """Seconds in the product's functions and what they call, the most first."""
    found = {
        f"{Path(file).stem}.{name}": cumulative
        for (file, _, name), (*_, cumulative, _) in pstats.Stats(seen).stats.items()
        if "wsisurv" in file and "cli" not in Path(file).parts
    }
    return dict(sorted(found.items(), key=lambda one: -one[1])[:30])


def look_inside(way: Callable[[], None], device: str) -> dict[str, object]:
    """What a card does in one epoch: kernels begun, times it was waited for, seconds it worked, and at what longest."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device != "cpu":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as seen:
        way()
        synchronise(device)
    events = seen.key_averages()
    by_name = {event.key: event for event in events}
    there = [event for event in events if event.device_type != torch.autograd.DeviceType.CPU]
    kernels = [event for event in there if not event.key.startswith("Optimizer.")]  # a span over kernels, no kernel
    longest = sorted(kernels, key=lambda event: -event.self_device_time_total)[:8]

    def count(*names: str) -> int:
        return sum(by_name[name].count for name in names if name in by_name)

    return {
        "kernels": count("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx"),
        "waits": count("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
        "device_s": sum(event.self_device_time_total for event in kernels) / 1e6,
        "longest_s": {event.key[:80]: event.self_device_time_total / 1e6 for event in longest},
    }


def load_bench() -> object:
    """tests/bench/training.py, which is no package."""
    spec = importlib.util.spec_from_file_location("bench_training", ROOT / "tests/bench/training.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def epochs(sizes: Sizes, figures: Figures, scratch: Path) -> None:
    """Seconds an epoch of each way, on the CPU and on the card."""
    bench = load_bench()
    if sizes.device == "cpu":
        bench.TILES, bench.FEATURES = (20, 81), 16
    folder = scratch / "pack"
    folder.mkdir()
    data = bench.write_cohort(folder, sizes.pack_cases)
    figures.add(exact_rows=len(data.bags.index), exact_features=data.bags.n_features)
    hidden, found = 32, {}
    for device in dict.fromkeys(("cpu", sizes.device)):
        there = replace(data, bags=replace(data.bags.on(torch.device(device)), keep_bytes=1 << 60))
        ways = bench.ways_on(there, hidden, device, there)
        if device == "cpu":  # the card is what is asked for
            ways = dict(list(ways.items())[:2])
        rounds = 1 if device == "cpu" else sizes.rounds
        spent = bench.time_ways(ways, rounds, lambda device=device: synchronise(device))
        found[device] = {name: statistics.median(one.clock) for name, one in spent.items()}
        figures.add(**{f"epoch_{device}_s": found[device]})
    plain, exact = list(found[sizes.device].values())[:2]
    figures.add(exact_times_plain=plain / exact, exact_times_cpu=list(found["cpu"].values())[1] / exact)
    if sizes.device != "cpu":
        figures.check("exact mode, times the plain way", passed=plain / exact >= TIMES_PLAIN, seen=plain / exact)
    for name in ("all tiles, exact", DEFAULT):
        if name in ways:
            figures.add(**{f"inside: {name}": look_inside(ways[name], sizes.device)})


sizes, figures, scratch = begin()
start = time.perf_counter()
failures = []
for work in (epochs, train):
    try:
        work(sizes, figures, scratch)
    except Exception as error:  # noqa: BLE001  # the other half is worth having
        failures.append(error)
        figures.add(**{f"{work.__name__}_failed": str(error)[-1500:]})
if failures:
    raise failures[0]
