"""`predict` from features to risk, beside the floor that nothing can beat: a plain read of the same features.

Run: ``python tests/bench/predict.py [--cases 40] [--tiles 5000] [--features 1024] [--device cpu] [--threads N]``.
A stand-in for 1,000 cases: time is proportional to cases. Features of random numbers are written to a temporary folder
(``--folder`` names another disk) and predicted by five students of random weights. Runs of reading and of predicting
take turns. With ``--cold`` the files are dropped from the system's cache before each run, as they are where a cohort is
larger than the memory. Prints seconds and ratios, and never fails on a time.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from wsisurv.formats.features import FORMAT, Features, read_features, write_features
from wsisurv.formats.header import make_header
from wsisurv.formats.models import ModelFile, model_format, write_model
from wsisurv.models.familiarity import Familiarity
from wsisurv.models.student import Ensemble, Student, ensemble_of
from wsisurv.prediction.step import predict_cases
from wsisurv.settings import EmbedSettings, TileSettings
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


def write_student(path: Path, ensemble: Ensemble) -> None:
    """A student's file with a card."""
    rng = np.random.default_rng(0)
    risk = rng.normal(size=200)
    prognosis = fit_prognosis(log_hazard=risk, time=rng.exponential(np.exp(-risk)) + 0.01, event=np.ones(200, bool))
    familiarity = Familiarity(
        np.zeros((MEMBERS, HIDDEN)), np.stack([np.eye(HIDDEN)] * MEMBERS), np.linspace(0.1, 9, 200)
    )
    card = {
        "encoder": "bench",
        "n_features": ensemble.n_features,
        "tile_settings": TileSettings().model_dump(mode="json"),
        "embed_settings": EmbedSettings(encoder="bench").model_dump(mode="json"),
        "cut_offs": {"low": -0.1, "high": 0.1},
        "member_folds": list(range(MEMBERS)),
        "cohort": {"time_unit": "years", "tiles_a_case": {"few": 3}},
    }
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
    os.sync()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


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
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves them as they are")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        student, ensemble = Path(folder) / "student.h5", make_ensemble(options.features)
        write_student(student, ensemble)
        paths = [Path(folder) / f"case{number:04d}.h5" for number in range(options.cases)]
        for number, path in enumerate(paths):
            write_case(path, options.tiles, options.features, number)
        bags = {path.stem: [path] for path in paths}
        values = read_features(paths[0])[0].values
        alone = ensemble.log_hazard(values)
        [risk] = predict_cases(student, {"a": paths[:1]}, device=options.device).risks
        print(f"log hazard of a case by members one by one {alone:.7f}, fused {risk.log_hazard:.7f}")

        def members_one_by_one() -> None:
            for path in paths:
                ensemble.members_log_hazard(read_features(path)[0].values)

        ways: dict[str, Callable[[], object]] = {
            "plain read": lambda: plain_read(paths),
            "predict": lambda: predict_cases(student, bags, device=options.device),
            "members one by one (the way before)": members_one_by_one,
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for run in range(options.runs):
            for name, way in ways.items():
                if name.startswith("members") and run >= 2:
                    continue
                if options.cold:
                    forget(paths)
                started = time.perf_counter()
                way()
                spent[name].append(time.perf_counter() - started)
    where = (
        f"{options.device}, {torch.get_num_threads()} threads of torch, {'cold' if options.cold else 'cached'} files"
    )
    print(f"{options.cases} cases of {options.tiles} tiles x {options.features}; {where}")
    floor = statistics.median(spent["plain read"])
    for name, seconds in spent.items():
        typical = statistics.median(seconds)
        print(f"{name:36s} {typical:7.2f} s  {typical / floor:5.2f} x  ({min(seconds):.2f} to {max(seconds):.2f})")


if __name__ == "__main__":
    main()
