"""An epoch of training beside the field's plain way: one bag a step, read from HDF5, gradients added up over 32 bags.

Run: ``python tests/bench/training.py [--cases 100] [--hidden 32] [--rounds 5] [--threads 2] [--concordance SEEDS]``.
Prints seconds an epoch and ratios from rounds in which all ways take turns, so that what else the machine does meets
all alike. ``--concordance 10`` also trains small simulated cohorts, equally long each way, and compares what is
learned. With a GPU, the ways on it come after. Never fails on a time.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from wsisurv.formats.feature_rows import describe_features
from wsisurv.formats.features import FORMAT, Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.models.student import Student
from wsisurv.survival.bags import Bags, bags_of, in_parts, offsets_of, pack, row_moments, sample_rows
from wsisurv.survival.losses import cox_loss
from wsisurv.survival.metrics import concordance
from wsisurv.training.memory import Memory, rows_of
from wsisurv.units import SlideId

FEATURES, TILES = 512, (2000, 8001)
ADDED_UP = 32  # bags whose gradients the plain way adds up
LEARNING_RATE = 2e-2


@dataclass(frozen=True)
class Data:
    """Features on disk and in memory, and follow-up."""

    paths: tuple[Path, ...]
    bags: Bags
    time: Tensor
    event: Tensor


def write_cohort(folder: Path, cases: int) -> Data:
    """Features files as `wsisurv embed` writes them."""
    rng = np.random.default_rng(0)
    paths = []
    for case in range(cases):
        n_tiles = int(rng.integers(*TILES))
        values = rng.standard_normal((n_tiles, FEATURES), dtype=np.float32).astype(np.float16)
        coords = np.zeros((n_tiles, 2), np.int64)
        paths.append(folder / f"case{case:04d}.h5")
        features = Features(SlideId(paths[-1].stem), values, coords, "bench", (), {}, 0.5)
        write_features(paths[-1], features, make_header(FORMAT, {}, {}))
    files = [describe_features(path) for path in paths]
    source = rows_of(files, Memory(features_bytes=1 << 60, keep_bytes=0))
    lengths = torch.tensor([file.n_tiles for file in files])
    bags = Bags(source, torch.arange(source.shape[0]), offsets_of(lengths))
    return Data(
        tuple(paths), bags, torch.from_numpy(rng.exponential(900, cases)), torch.from_numpy(rng.random(cases) < 0.4)
    )


def make_student(hidden: int, device: str = "cpu") -> Student:
    torch.manual_seed(0)
    return Student(FEATURES, hidden, 0.25, torch.zeros(FEATURES), torch.ones(FEATURES)).to(device).train()


class PlainAbmil(torch.nn.Module):
    """Gated ABMIL as it is usually written, for one bag; of the student's widths, and without its scaling."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        linear = torch.nn.Linear
        self.embed = torch.nn.Sequential(linear(FEATURES, hidden), torch.nn.ReLU(), torch.nn.Dropout(0.25))
        self.tanh = torch.nn.Sequential(linear(hidden, hidden // 2), torch.nn.Tanh())
        self.gate = torch.nn.Sequential(linear(hidden, hidden // 2), torch.nn.Sigmoid())
        self.score, self.hazard = linear(hidden // 2, 1), linear(hidden, 1)

    def forward(self, bag: Tensor) -> Tensor:
        """Log hazard (1,) of (n_tiles, n_features)."""
        state = self.embed(bag)
        attention = torch.softmax(self.score(self.tanh(state) * self.gate(state)), dim=0)
        hazard: Tensor = self.hazard(attention.T @ state)
        return hazard.flatten()


def optimiser_of(student: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)


def plain_epoch(student: torch.nn.Module, optimiser: torch.optim.Optimizer, data: Data, device: str = "cpu") -> None:
    """One bag a step, read from its file; Cox within the 32 bags since the last update.

    A Cox loss has no value on one bag, so the forward graphs of 32 bags are kept until the update.
    """
    order = torch.randperm(len(data.paths))
    for start in range(0, len(order), ADDED_UP):
        chosen = order[start : start + ADDED_UP]
        risks = []
        for case in chosen.tolist():
            with h5py.File(data.paths[case]) as file:
                bag = file["features"][()]
            risks.append(student(torch.from_numpy(bag).to(device).float()))
        optimiser.zero_grad()
        follow_up = {"time": data.time[chosen].to(device), "event": data.event[chosen].to(device)}
        cox_loss(log_hazard=torch.cat(risks), **follow_up).backward()
        optimiser.step()


def whole_epoch(
    student: Student, optimiser: torch.optim.Optimizer, data: Data, *, tiles: int = 0, bf16: bool = False
) -> None:
    """The whole cohort in one step, in two passes where all tiles count."""
    generator = torch.Generator().manual_seed(0)
    optimiser.zero_grad()
    device = data.bags.device
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        risk = in_parts(student, sample_rows(data.bags, tiles, generator))
    cox_loss(log_hazard=risk, time=data.time.to(device), event=data.event.to(device)).backward()
    optimiser.step()


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock and seconds of the processor, one entry a round."""

    clock: list[float]
    processor: list[float]


def time_ways(ways: dict[str, Callable[[], None]], rounds: int, wait: Callable[[], None]) -> dict[str, Spent]:
    """Time of each way in each round, the ways taking turns."""
    for way in ways.values():
        way()  # the first time of anything is its own
    spent = {name: Spent([], []) for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            wait()
            clock, processor = time.perf_counter(), time.process_time()
            way()
            wait()
            spent[name].clock.append(time.perf_counter() - clock)
            spent[name].processor.append(time.process_time() - processor)
    return spent


def print_ratios(title: str, spent: dict[str, Spent]) -> None:
    """Medians over rounds; a ratio is the median of the ratios of single rounds."""
    plain = next(iter(spent.values()))
    print(f"\n{title:44s} {'s an epoch':>10s} {'× plain':>8s} {'CPU s':>8s} {'× plain':>8s}")
    for name, one in spent.items():
        ratios = [
            statistics.median(a / b for a, b in zip(first, own, strict=True))
            for first, own in ((plain.clock, one.clock), (plain.processor, one.processor))
        ]
        medians = [statistics.median(values) for values in (one.clock, one.processor)]
        print(f"{name:44s} {medians[0]:10.2f} {ratios[0]:8.1f} {medians[1]:8.2f} {ratios[1]:8.1f}")


def ways_on(data: Data, hidden: int, device: str, keep: Data) -> dict[str, Callable[[], None]]:
    """Each way with a student and an optimiser of its own."""
    plain = PlainAbmil(hidden).to(device)

    def whole(on: Data, **options: Any) -> Callable[[], None]:
        student = make_student(hidden, device)
        optimiser = optimiser_of(student)
        return lambda: whole_epoch(student, optimiser, on, **options)

    return {
        "plain: a bag a step from HDF5, 32 added up": partial(plain_epoch, plain, optimiser_of(plain), data, device),
        "all tiles, exact": whole(keep),
        "all tiles, exact, bf16": whole(keep, bf16=True),
        "all tiles, exact, memory of one part": whole(data),
        "all tiles, exact, memory of one part, bf16": whole(data, bf16=True),
        "64 random tiles a bag (the default)": whole(data, tiles=64),
        "512 random tiles a bag": whole(data, tiles=512),
    }


def equal_scores(data: Data, hidden: int) -> float:
    """Largest difference of a bag's score in the pack and alone."""
    student = make_student(hidden).eval()
    with torch.inference_mode():
        packed = in_parts(student, data.bags)
        alone = torch.cat([student(data.bags.select(torch.tensor([case])).load()) for case in range(data.bags.n_bags)])
    return float((packed - alone).abs().max())


def learned(seed: int, epochs: int) -> dict[str, float]:
    """Concordance on 400 fresh cases of a student trained on 200, each way equally long."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    import simulation

    world = simulation.make_world(seed)
    train = simulation.simulate(world, 200, 2 * seed, tiles=(200, 600))
    test = simulation.simulate(world, 400, 2 * seed + 1, tiles=(200, 600))
    time_, event = torch.from_numpy(train.time), torch.from_numpy(train.event)
    bags = bags_of(pack(train.bags))
    moments = row_moments(bags)

    def trained(step: Callable[[Student, torch.optim.Optimizer, torch.Generator], None], epochs: int = epochs) -> float:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        student = Student(bags.n_features, 32, 0.5, moments.mean, moments.sd).train()
        optimiser = optimiser_of(student)
        for epoch in range(epochs):
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
            step(student, optimiser, generator)
        with torch.inference_mode():
            risk = in_parts(student.eval(), bags_of(pack(test.bags))).double().numpy()
        return concordance(log_hazard=risk, time=test.time, event=test.event)

    def whole(tiles: int, bf16: bool = False) -> Callable[[Student, torch.optim.Optimizer, torch.Generator], None]:
        def step(student: Student, optimiser: torch.optim.Optimizer, generator: torch.Generator) -> None:
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                risk = in_parts(student, sample_rows(bags, tiles, generator))
            cox_loss(log_hazard=risk, time=time_, event=event).backward()
            optimiser.step()

        return step

    def plain(student: Student, optimiser: torch.optim.Optimizer, generator: torch.Generator) -> None:
        order = torch.randperm(200, generator=generator)
        for start in range(0, 200, ADDED_UP):
            chosen = order[start : start + ADDED_UP]
            optimiser.zero_grad()
            risk = in_parts(student, bags.select(chosen))
            cox_loss(log_hazard=risk, time=time_[chosen], event=event[chosen]).backward()
            optimiser.step()

    return {
        "plain (7 updates an epoch)": trained(plain),
        "all tiles, exact": trained(whole(0)),
        "all tiles, exact, bf16": trained(whole(0, bf16=True)),
        "64 random tiles a bag": trained(whole(64)),
        "64 random tiles a bag, four times as long": trained(whole(64), 4 * epochs),
    }


def print_learned(seeds: int, epochs: int) -> None:
    rows = [learned(seed, epochs) for seed in range(seeds)]
    print(f"\nconcordance on 400 fresh cases, 200 trained on, {epochs} epochs, {seeds} seeds")
    names = list(rows[0])
    for name in names:
        values = np.array([row[name] for row in rows])
        behind = values - np.array([row[names[0]] for row in rows])
        error = behind.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else float("nan")
        print(f"{name:44s} {values.mean():.3f}   minus plain {behind.mean():+.3f} ± {error:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concordance", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--epochs", type=int, default=60)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.cases:
        with tempfile.TemporaryDirectory() as folder:
            data = write_cohort(Path(folder), chosen.cases)
            tiles = f"{TILES[0]} to {TILES[1] - 1} tiles × {FEATURES}, {len(data.bags.index)} in all"
            print(f"{chosen.cases} bags of {tiles};")
            load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
            print(f"hidden {chosen.hidden}, {chosen.threads} threads, {load}")
            kept = replace(data, bags=replace(data.bags, keep_bytes=1 << 60))
            data = replace(data, bags=replace(data.bags, keep_bytes=0))
            ways = ways_on(data, chosen.hidden, "cpu", kept)
            print_ratios("CPU", time_ways(ways, chosen.rounds, lambda: None))
            print(f"\na bag's score in the pack and alone differ by {equal_scores(data, chosen.hidden):.1e} at most")
            if torch.cuda.is_available():
                device = torch.device("cuda")

                def there(data: Data) -> Data:
                    return replace(data, bags=data.bags.on(device))

                ways = ways_on(there(data), chosen.hidden, "cuda", there(kept))
                spent = time_ways(ways, chosen.rounds, torch.cuda.synchronize)
                print_ratios(torch.cuda.get_device_name(), spent)
    if chosen.concordance:
        print_learned(chosen.concordance, chosen.epochs)


if __name__ == "__main__":
    main()
