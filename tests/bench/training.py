"""An epoch of training beside the field's plain way: one bag a step, read from HDF5, gradients added up over 32 bags.

Run: ``python tests/bench/training.py [--cases 100] [--hidden 32] [--rounds 5] [--threads 2] [--concordance SEEDS]``.
Prints seconds an epoch and ratios from rounds in which all ways take turns, so that what else the machine does meets
all alike. With a GPU, the ways on it come after. Then it trains teacher and students of 200 simulated cases × 2,000
tiles × 1,024 features on one thread, and prints what they take (``--whole 200 2000 1024``, 0 to leave it out);
``--folds 5 3`` cross-validates them too, five folds three times, on all cores.
``--concordance 10`` also trains small simulated cohorts, equally long each way, and compares what is learned. Never
fails on a time.
"""

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is there, as the command line does

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsisurv.bags.feature_rows import describe_features
from wsisurv.bags.memory import Memory, rows_of
from wsisurv.bags.packed import Bags, bags_of, in_parts, offsets_of, pack, row_moments, sample_rows
from wsisurv.formats.features import FORMAT, Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.models.student import Student
from wsisurv.settings.training import DistillSettings
from wsisurv.survival.losses import cox_loss
from wsisurv.survival.metrics import concordance
from wsisurv.units import SlideId

FloatArray = NDArray[np.float64]
FEATURES, TILES = 512, (2000, 8001)
ADDED_UP = 32  # bags whose gradients the plain way adds up
LEARNING_RATE = 2e-2
RATES, EPOCHS = (1e-3, 3e-3, 1e-2), (40, 80, 150, 300, 600)
PLAIN_EPOCHS = (10, 20, 40, 80, 150)  # of seven updates each


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
        f"{DistillSettings().tiles_per_bag} random tiles a bag (the default)": whole(
            data, tiles=DistillSettings().tiles_per_bag
        ),
        "64 random tiles a bag": whole(data, tiles=64),
        "512 random tiles a bag": whole(data, tiles=512),
    }


def equal_scores(data: Data, hidden: int) -> float:
    """Largest difference of a bag's score in the pack and alone."""
    student = make_student(hidden).eval()
    with torch.inference_mode():
        packed = in_parts(student, data.bags)
        alone = torch.cat([student(data.bags.select(torch.tensor([case])).load()) for case in range(data.bags.n_bags)])
    return float((packed - alone).abs().max())


@dataclass(frozen=True)
class Course:
    """One way to train on the simulated cohorts.

    Attributes:
        tiles: random tiles a bag a step; 0 for all.
        plain: 32 bags an update, a risk set of these alone, instead of the whole cohort at once.
        bf16: matrix products in half precision.
        epochs: passes over the cohort.
        rate: learning rate at the start.
    """

    tiles: int
    plain: bool
    bf16: bool
    epochs: int
    rate: float

    @property
    def name(self) -> str:
        tiles = f"{self.tiles} tiles a bag" if self.tiles else "all tiles"
        return f"{tiles}, {'32 bags an update' if self.plain else 'whole cohort'}{', bf16' if self.bf16 else ''}"


def learned(seed: int, course: Course) -> float:
    """Concordance on 400 fresh cases of a student trained on 200, in the world of tests/bench/method.py."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    import simulation

    torch.set_num_threads(1)
    settings = DistillSettings()
    world = simulation.make_world(1000 + seed, apart=0.25)
    train = simulation.simulate(world, 200, 2 * seed, tiles=(200, 1500))
    test = simulation.simulate(world, 400, 2 * seed + 1, tiles=(200, 1500))
    time_, event = torch.from_numpy(train.time), torch.from_numpy(train.event)
    bags = bags_of(pack(train.bags))
    moments = row_moments(bags)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    student = Student(bags.n_features, settings.hidden, settings.dropout, moments.mean, moments.sd).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=course.rate, weight_decay=settings.weight_decay)

    def step(chosen: Tensor) -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=course.bf16):
            risk = in_parts(student, sample_rows(bags.select(chosen), course.tiles, generator))
        cox_loss(log_hazard=risk, time=time_[chosen], event=event[chosen]).backward()
        optimiser.step()

    for epoch in range(course.epochs):
        for group in optimiser.param_groups:
            group["lr"] = course.rate * 0.5 * (1 + np.cos(np.pi * epoch / course.epochs))
        if course.plain:
            for chosen in torch.split(torch.randperm(200, generator=generator), ADDED_UP):
                step(chosen)
        else:
            step(torch.arange(200))
    with torch.inference_mode():
        risk = in_parts(student.eval(), bags_of(pack(test.bags))).double().numpy()
    return concordance(log_hazard=risk, time=test.time, event=test.event)


def kinds_of(tiles: list[int]) -> list[dict[str, Any]]:
    """The plain way first, then the whole cohort at once: all tiles, the same in bf16, and so many random tiles."""
    whole = [{"tiles": n, "plain": False, "bf16": bf16} for n, bf16 in ((0, False), (0, True))]
    return [{"tiles": 0, "plain": True, "bf16": False}, *whole, *({**whole[0], "tiles": n} for n in tiles)]


def learned_all(seeds: range, courses: list[Course], jobs: int) -> dict[Course, FloatArray]:
    """Concordance of each course on each cohort, (n_seeds,)."""
    work = [(seed, course) for course in courses for seed in seeds]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        values = list(pool.map(learned, *zip(*work, strict=True)))
    return dict(zip(courses, np.reshape(values, (len(courses), len(seeds))), strict=True))


def best_of_each(found: dict[Course, FloatArray]) -> list[Course]:
    """For each way its length and rate of highest mean concordance."""
    best: dict[str, Course] = {}
    for course, values in found.items():
        if course.name not in best or values.mean() > found[best[course.name]].mean():
            best[course.name] = course
    return list(best.values())


def print_learned(found: dict[Course, FloatArray], beside: Course) -> None:
    print(f"{'':36s} {'epochs':>6} {'rate':>6}  concordance, minus plain")
    for course, values in found.items():
        behind = values - found[beside]
        error = behind.std(ddof=1) / len(behind) ** 0.5 if len(behind) > 1 else float("nan")
        how = f"{course.name:36s} {course.epochs:6} {course.rate:6g}"
        print(f"{how}  {values.mean():.3f} {behind.mean():+.3f} ± {error:.3f}")


def compare_learned(seeds: int, tuned: int, tiles: list[int], jobs: int) -> None:
    """All ways at the product's length and rate, then each at what suits it best on cohorts drawn for that alone."""
    settings = DistillSettings()
    kinds, own = kinds_of(tiles), {"epochs": settings.epochs, "rate": settings.learning_rate}
    courses = [Course(**kind, **own) for kind in kinds]
    print(f"\nconcordance on 400 fresh cases, 200 trained on, {seeds} seeds, mean ± SE of paired differences")
    print_learned(learned_all(range(seeds), courses, jobs), courses[0])
    if tuned:
        courses = [
            Course(**kind, epochs=epochs, rate=rate)
            for kind in kinds
            if kind["plain"] or kind["tiles"]
            for epochs, rate in product(PLAIN_EPOCHS if kind["plain"] else EPOCHS, RATES)
        ]
        tried = learned_all(range(100, 100 + tuned), courses, jobs)
        best = best_of_each(tried)
        print(f"\nlengths and rates, on {tuned} other cohorts")
        print_learned(tried, best[0])
        print("\neach way at what was best there, on the first cohorts")
        print_learned(learned_all(range(seeds), best, jobs), best[0])


def whole_training(cases: int, tiles: int, features: int, epochs: int, folds: tuple[int, ...]) -> list[str]:
    """Teacher, students, and folds of a simulated cohort on disk: processor seconds and the peak so far of each."""
    import resource

    from wsisurv.experiments.crossval import crossval
    from wsisurv.settings.crossval import CrossvalSettings
    from wsisurv.settings.training import TeacherSettings
    from wsisurv.training.distill import distill
    from wsisurv.training.teacher import train_teacher
    from wsisurv.workspace.paths import Workspace

    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    import simulation

    torch.set_num_threads(1)
    world, found = simulation.make_world(0, n_features=features, apart=0.3), []

    def note(name: str, before: float) -> float:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found.append(f"{name:24s} {time.process_time() - before:7.1f} s of processor, peak so far {peak:6.0f} MiB")
        return time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        place, start = Workspace(Path(folder)), time.process_time()
        cohort = simulation.save(
            place, simulation.simulate(world, cases, 0, tiles=(tiles, tiles + 1), effect=0.9, named=0.95, error=0.2)
        )
        start = note("(making the cohort)", start)
        train_teacher(place, cohort, TeacherSettings(epochs=epochs), device="cpu")
        start = note("train-teacher", start)
        result = distill(place, cohort, DistillSettings(epochs=epochs), device="cpu")
        start = note(f"distill (gate {result.gate:.2f}, subspaces {len(result.directions)})", start)
        if folds:
            began, times = time.monotonic(), CrossvalSettings(folds=folds[0], repeats=folds[1])
            crossval(place, cohort, times, student=DistillSettings(epochs=epochs), device="cpu")
            start = note("crossval, in this process", start)
            theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
            found.append(
                f"{'… in those of its folds':24s} {theirs.ru_utime + theirs.ru_stime:7.1f} s of processor, peak of one "
                f"{theirs.ru_maxrss / 1024:6.0f} MiB; {time.monotonic() - began:.0f} s by the clock"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concordance", type=int, default=0, metavar="SEEDS")
    parser.add_argument("--tiles-per-bag", type=int, nargs="+", default=[DistillSettings().tiles_per_bag])
    parser.add_argument("--tuned", type=int, default=0, metavar="SEEDS", help="choose length and rate on so many more")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--whole", type=int, nargs="+", default=[200, 2000, 1024], metavar="CASES TILES FEATURES")
    parser.add_argument("--whole-epochs", type=int, default=DistillSettings().epochs)
    parser.add_argument("--folds", type=int, nargs=2, default=(), metavar=("FOLDS", "REPEATS"))
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
    if chosen.whole[0]:
        print(
            f"\nteacher and students, {chosen.whole} cases, tiles, features; {chosen.whole_epochs} epochs, one thread"
        )
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # for a peak of its own
            print(
                "\n".join(pool.submit(whole_training, *chosen.whole, chosen.whole_epochs, tuple(chosen.folds)).result())
            )
    if chosen.concordance:
        compare_learned(chosen.concordance, chosen.tuned, chosen.tiles_per_bag, chosen.jobs)


if __name__ == "__main__":
    main()
