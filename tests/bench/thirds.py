"""Are thirds of new cases thirds? ``python tests/bench/thirds.py`` prints it for students on simulated cohorts.

A student is trained by the product's own functions on a cohort of tests/training/simulation.py, and predicts fresh
cases of the same world. A line a student: how many of them fall into each risk group by the cut-offs in its file
(reference: mean of members), and by tertiles of the single members' log hazards out of fold, as they were before. Last
the mean over students with its standard error; each student's own error is that of drawing its training cases, too.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FRESH = 1000


def shares(cut_offs: tuple[float, float], risks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share below, between and above."""
    return np.bincount(np.digitize(risks, cut_offs), minlength=3) / len(risks)


def simulation() -> Any:
    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    return importlib.import_module("simulation")


def run(n: int, seed: int, n_features: int, apart: float) -> dict[str, NDArray[np.float64]]:
    """Shares of fresh cases by both cut-offs, of a plain student with default settings."""
    import torch

    from wsisurv.bags.packed import bags_of, pack
    from wsisurv.formats.guidance import read_guidance
    from wsisurv.formats.models import read_model
    from wsisurv.models.ensemble import load_student
    from wsisurv.prediction.card import read_scale
    from wsisurv.settings.training import DistillSettings, TeacherSettings
    from wsisurv.training.distill import distill
    from wsisurv.training.teacher import train_teacher
    from wsisurv.workspace.paths import Workspace

    torch.set_num_threads(1)
    world_of = simulation()
    world = world_of.make_world(1000 + seed, n_features=n_features, n_words=24, apart=apart)
    data = world_of.simulate(world, n, 2 * seed, tiles=(20, 50), reported=0.0)
    fresh = world_of.simulate(world, FRESH, 2 * seed + 1, tiles=(20, 50))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        cohort = world_of.save(workspace, data)
        train_teacher(workspace, cohort, TeacherSettings(epochs=1, seed=seed), device="cpu")
        distill(workspace, cohort, DistillSettings(seed=seed), device="cpu")
        path = workspace.cohort("trial") / "student_plain.h5"
        scale, student = read_scale(path), load_student(read_model(path, "student")[0])
        fold = read_guidance(path.with_name("guidance.h5"))[0].fold

        def by_members(bags: Any) -> NDArray[np.float64]:
            return np.stack([one.log_hazard for one in student.states_of(bags_of(pack(bags)))], 1)

        by_member = by_members(data.bags)
        unseen = np.array(scale.card.member_folds)[:, None] == fold
        single = (by_member * unseen).sum(0) / unseen.sum(0)
        new = by_members(fresh.bags).mean(0)
        cut_offs = scale.card.cut_offs
        return {
            "before": shares(tuple(np.quantile(single, [1 / 3, 2 / 3])), new),
            "now": shares((cut_offs.low, cut_offs.high), new),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=7)
    parser.add_argument("--features", type=int, default=24)
    parser.add_argument("--apart", type=float, default=0.55, help="how far phenotypes lie apart, SD of a feature")
    arguments = parser.parse_args()
    found: dict[str, list[NDArray[np.float64]]] = {"before": [], "now": []}
    for seed in range(arguments.seeds):
        one = run(arguments.cases, seed, arguments.features, arguments.apart)
        for name, values in one.items():
            found[name].append(values)
        print(seed, *(f"{name} " + " ".join(f"{value:.2f}" for value in one[name]) for name in one), flush=True)
    for name, rows in found.items():
        mean, se = np.mean(rows, 0), np.std(rows, 0, ddof=1) / np.sqrt(len(rows))
        print(f"{name:6} low, intermediate, high", *(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, se, strict=True)))


if __name__ == "__main__":
    main()
