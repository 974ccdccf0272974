"""`predict` from features to risk, beside the floor that nothing can beat: a plain read of the same features.

Run: ``python tests/bench/predict.py [--cases 40] [--tiles 5000] [--features 1024] [--device cpu] [--threads 1 2]``.
A stand-in for 1,000 cases: time is proportional to cases. Features of random numbers are written to a temporary folder
(``--folder`` names another disk) and predicted by five students of random weights. Runs of reading and of predicting
take turns, once with the files in the system's cache and once dropped from it, as where a cohort is larger than
the memory. Prints seconds and the median of the ratios of neighbouring runs, on the clock and of the processor, and
the peak of memory; never fails on a time.
"""

import argparse
import itertools
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is there, as the command line does

import h5py
import numpy as np
import torch

from wsisurv.bags.packed import pack
from wsisurv.formats.cards import (
    CalibrationSlopes,
    CutOffs,
    DistillResult,
    FamiliarityLimit,
    StudentCard,
    TilesACase,
    TrainingCohort,
)
from wsisurv.formats.features import FORMAT, Features, read_features, write_features
from wsisurv.formats.header import make_header
from wsisurv.formats.models import ModelFile, model_format, write_model
from wsisurv.models.ensemble import Ensemble, ensemble_of
from wsisurv.models.familiarity import Familiarity
from wsisurv.models.student import Student
from wsisurv.prediction.step import predict_cases
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.survival.prognosis import fit_prognosis
from wsisurv.units import SlideId

MEMBERS, HIDDEN = 5, 32


def make_ensemble(n_features: int) -> Ensemble:
    """Students of random weights that scale the features a little differently, as members do."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    members = []
    for _ in range(MEMBERS):
        mean, sd = rng.normal(0, 0.02, n_features), rng.uniform(0.95, 1.05, n_features)
        members.append((Student(n_features, HIDDEN, 0.0, torch.from_numpy(mean), torch.from_numpy(sd)), 0.0))
    return ensemble_of(members)


def one_by_one(ensemble: Ensemble, features: np.ndarray) -> float:
    """Log hazard of a case by the members' own networks, one after the other."""
    with torch.inference_mode():
        return float(np.mean([float(member(pack([features]))) for member in ensemble.members]))


def write_student(path: Path, ensemble: Ensemble) -> None:
    """A student's file with a card."""
    rng = np.random.default_rng(0)
    risk = rng.normal(size=200)
    prognosis = fit_prognosis(log_hazard=risk, time=rng.exponential(np.exp(-risk)) + 0.01, event=np.ones(200, bool))
    familiarity = Familiarity(
        np.zeros((MEMBERS, HIDDEN)), np.stack([np.eye(HIDDEN)] * MEMBERS), np.linspace(0.1, 9, 200)
    )
    card = StudentCard(
        encoder="bench",
        n_features=ensemble.n_features,
        feature_names=(),
        embed_settings=EmbedSettings(encoder="bench").model_dump(mode="json"),
        encoder_weights="",
        tile_settings=TileSettings().model_dump(mode="json"),
        cut_offs=CutOffs(low=-0.1, high=0.1),
        risk_mean=0.0,
        guided=False,
        member_folds=tuple(range(MEMBERS)),
        calibration=CalibrationSlopes(slope=prognosis.slope, slope_of_one=prognosis.slope_of_one),
        familiarity=FamiliarityLimit(threshold=familiarity.threshold),
        cohort=TrainingCohort(
            name="bench",
            cases=200,
            events=200,
            slides=200,
            sites=0,
            time_unit="years",
            median_time=1.0,
            median_follow_up=None,
            longest_follow_up=9.0,
            tiles_a_case=TilesACase(least=1, few=3, median=1000, most=9000),
        ),
        result=DistillResult.model_validate(
            {
                **dict.fromkeys(DistillResult.model_fields, 0),
                **{"kept": False, "directions": (), "winner": "plain", "nested": None, "warnings": ()},
            }
        ),
    )
    arrays = ensemble.arrays() | prognosis.arrays() | familiarity.arrays() | {"training_risks": np.sort(risk)}
    write_model(path, ModelFile(arrays, card), make_header(model_format("student"), {}, {}))


def write_case(path: Path, n_tiles: int, n_features: int, seed: int) -> None:
    """Features of one slide."""
    values = np.random.default_rng(seed).standard_normal((n_tiles, n_features), dtype=np.float32)
    features = Features(
        slide_id=SlideId(path.stem),
        values=values.astype(np.float16),
        coords=np.zeros((n_tiles, 2), np.int64),
        encoder="bench",
        names=(),
        tile_settings=TileSettings().model_dump(mode="json"),
        mpp=0.5,
    )
    write_features(path, features, make_header(FORMAT, EmbedSettings(encoder="bench"), {}))


def forget(paths: list[Path]) -> None:
    """Drop files from the system's cache."""
    if paths:
        os.sync()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def timed(cold: list[Path], way: Callable[[], object]) -> tuple[float, float]:
    """Seconds that ``way`` takes, on the clock and of the processor, these files being dropped from the cache first."""
    forget(cold)
    clock, processor = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - clock, time.process_time() - processor


def plain_read(paths: list[Path]) -> None:
    """Read the array of each file and nothing else."""
    for path in paths:
        with h5py.File(path, "r") as file:
            file["features"][()]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--tiles", type=int, default=5000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch, one number after the other")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        student, ensemble = Path(folder) / "student.h5", make_ensemble(options.features)
        write_student(student, ensemble)
        paths = [Path(folder) / f"case{number:04d}.h5" for number in range(options.cases)]
        for number, path in enumerate(paths):
            write_case(path, options.tiles, options.features, number)
        bags = {path.stem: [path] for path in paths}
        risks = predict_cases(student, bags, device=options.device).risks
        alone = [one_by_one(ensemble, read_features(path)[0].values) for path in paths]
        apart = max(abs((risk.log_hazard or 0.0) - one) for risk, one in zip(risks, alone, strict=True))
        print(f"log hazards by members side by side and one by one: {apart:.1e} apart at most, in {len(paths)} cases")
        print(f"{options.cases} cases of {options.tiles} tiles x {options.features}, {options.device}")
        seconds: dict[tuple[str, int], list[tuple[tuple[float, float], tuple[float, float]]]] = {}
        for _ in range(options.runs):
            for files, threads in itertools.product(["cached", "cold"], options.threads):
                torch.set_num_threads(threads)
                cold = paths if files == "cold" else []
                read = timed(cold, lambda: plain_read(paths))
                predict = timed(cold, lambda: predict_cases(student, bags, device=options.device))
                seconds.setdefault((files, threads), []).append((read, predict))
    for (files, threads), pairs in seconds.items():
        for number, what in enumerate(("on the clock", "of the processor")):
            reads, predictions = zip(*((read[number], predict[number]) for read, predict in pairs), strict=True)
            ratios = sorted(predict / read for read, predict in zip(reads, predictions, strict=True))
            print(
                f"{files} files, {threads} threads, {what}: plain read {statistics.median(reads):.2f} s, predict "
                f"{statistics.median(predictions):.2f} s: {statistics.median(ratios):.2f} x a plain read "
                f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
