"""What reports give the student, on simulated cohorts: ``python tests/bench/method.py`` (also ``make bench-method``).

The world of tests/training/simulation.py: 64 features, twelve tissue phenotypes, of which three (2.5 to 5 % of the
tiles) decide over survival, hospitals with a stain of their own, 200 to 1,500 tiles a case, 70 % censored. A new
world, cohort and test set of 400 for every seed. Four things are free in such a world: how far phenotypes lie apart,
the effect, and how much a report leaves out and gets wrong. They are set by two columns in which nothing is distilled:
the student without reports and the teacher stand where the method's prototypes had them (.616 and .716 at 200 cases,
.677 and .745 at 400). They were set, and the recipe chosen, on seeds from 100 on, which are not measured here.

``--world rare`` has no short cut (tests/training/simulation.py, ``simulate_rare``): the tiles that decide are rare and
show in no mean tile, and reports say of them only that they are there. There the selected student must not fall below
the plain one by more than .005.

Everything is trained by the product's own two functions on a workspace on disk, and scored on the test set. For each
arm one line: the plain student, what reports add to it (mean ± SE over seeds, and wins), what the selected student
adds, and what the teacher adds, who reads the test case's own report. Nothing fails on a figure.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

TESTED = 400
TILES = (200, 1500)
ARMS = ("reports", "shuffled", "missing")


def simulation() -> Any:
    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    return importlib.import_module("simulation")


def run(
    arm: str, kind: str, n: int, seed: int, apart: float, world: dict[str, float], changes: dict[str, dict[str, Any]]
) -> dict[str, float]:
    """Concordances on the test set of one simulated cohort, and the gate."""
    import torch

    from wsisurv.formats.models import read_model
    from wsisurv.models.ensemble import load_student
    from wsisurv.models.teacher import load_teacher
    from wsisurv.settings.training import DistillSettings, TeacherSettings
    from wsisurv.survival.metrics import concordance
    from wsisurv.training.distill import distill
    from wsisurv.training.teacher import train_teacher
    from wsisurv.workspace.paths import Workspace

    torch.set_num_threads(1)
    world_of = simulation()
    drawn = world_of.make_world(1000 + seed, apart=apart)
    simulate = world_of.simulate_rare if kind == "rare" else world_of.simulate
    data = simulate(drawn, n, 2 * seed, tiles=TILES, reported=0.4 if arm == "missing" else 1.0, **world)
    if arm == "shuffled":
        order = np.random.default_rng(seed).permutation(n)
        data = replace(data, reports=[data.reports[i] for i in order])
    test = simulate(drawn, TESTED, 2 * seed + 1, tiles=TILES, **world)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        cohort = world_of.save(workspace, data)
        taught = train_teacher(workspace, cohort, TeacherSettings(seed=seed, **changes["teacher"]), device="cpu")
        distilled = distill(workspace, cohort, DistillSettings(seed=seed, **changes["student"]), device="cpu")

        def risk(name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
            student = load_student(read_model(workspace.cohort("trial") / name, "student")[0])
            return np.array([student.log_hazard(bag) for bag in test.bags])

        teacher = load_teacher(read_model(workspace.cohort("trial") / "teacher.h5", "teacher")[0])
        scores = {
            "plain": risk("student_plain.h5"),
            "distilled": risk("student_distilled.h5"),
            "selected": risk("student.h5"),
            "teacher": np.array(
                [teacher.log_hazard(bag, report) for bag, report in zip(test.bags, test.reports, strict=True)]
            ),
            "truth": test.truth,
        }
    figures = {
        name: concordance(log_hazard=values, time=test.time, event=test.event) for name, values in scores.items()
    }
    return {**figures, "gate": taught.gate, "won": float(distilled.winner == "distilled")}


def job(arguments: tuple[str, str, int, int, float, dict[str, float], dict[str, dict[str, Any]]]) -> dict[str, Any]:
    arm, kind, n, seed, *others = arguments
    return {"arm": arm, "cases": n, "seed": seed, **run(arm, kind, n, seed, *others)}


def added(rows: list[dict[str, Any]], name: str) -> str:
    values = np.array([row[name] - row["plain"] for row in rows])
    se = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{values.mean():+.3f} ± {se:.3f} ({(values > 0).sum()}/{len(values)})"


def table(rows: list[dict[str, Any]]) -> None:
    print(
        f"\n{'cases':>5} {'arm':9} {'seeds':>5} {'plain':>6} {'distilled − plain':>24} {'selected − plain':>24} "
        f"{'teacher − plain':>24} {'share':>6} {'gate':>5} {'truth':>6}"
    )
    for n, arm in sorted({(row["cases"], row["arm"]) for row in rows}):
        here = [row for row in rows if (row["cases"], row["arm"]) == (n, arm)]
        mean = {name: float(np.mean([row[name] for row in here])) for name in ("plain", "distilled", "teacher", "gate")}
        gap = mean["teacher"] - mean["plain"]
        share = f"{(mean['distilled'] - mean['plain']) / gap:.0%}" if gap > 0 else "–"
        print(
            f"{n:5} {arm:9} {len(here):5} {mean['plain']:6.3f} {added(here, 'distilled'):>24} "
            f"{added(here, 'selected'):>24} {added(here, 'teacher'):>24} {share:>6} {mean['gate']:5.2f} "
            f"{np.mean([row['truth'] for row in here]):6.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=("common", "rare"), default="common", help="which tiles decide")
    parser.add_argument("--cases", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--apart", type=float, default=0.3, help="how far phenotypes lie apart, SD of a feature")
    parser.add_argument("--effect", type=float, default=0.9, help="of the prognostic phenotypes")
    parser.add_argument("--named", type=float, default=0.95, help="share of the phenotypes that a report names")
    parser.add_argument("--error", type=float, default=0.2, help="SD of the error of what it says of their degree")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument(
        "--teacher", type=json.loads, default={}, help='settings as JSON, e.g. {"text_branch": "ridge"}'
    )
    parser.add_argument("--student", type=json.loads, default={}, help='settings as JSON, e.g. {"mixup": "none"}')
    parser.add_argument("--output", type=Path, help="write a JSON line a run")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes: they fill the cores already
    changes = {"teacher": chosen.teacher, "student": chosen.student}
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    world = {"effect": chosen.effect, "named": chosen.named, "error": chosen.error}
    runs = [
        (arm, chosen.world, n, seed, chosen.apart, world, changes)
        for seed, n, arm in product(seeds, chosen.cases, chosen.arms)
    ]
    rows: list[dict[str, Any]] = []
    start = time.monotonic()
    with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("spawn")) as pool:
        for row in pool.map(job, runs):
            rows.append(row)
            print(f"{len(rows)}/{len(runs)} · {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
            if chosen.output:
                with chosen.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
