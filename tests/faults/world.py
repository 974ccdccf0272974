"""What the campaign works on: a tiny cohort with reports and follow-up, and every command as a person would type it."""

import csv
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from wsisurv.demo import cohort as demo_cohort
from wsisurv.demo.cohort import DemoCohort
from wsisurv.demo.population import DemoCase, simulate_population
from wsisurv.demo.reports import write_report

CASES, SEED = 30, 5
WIDTH, HEIGHT = 320, 256


def _conftest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults_conftest", Path(__file__).parents[1] / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_write_slide: Callable[..., Path] = _conftest().write_slide


def _draw(path: Path, number: int) -> None:
    _write_slide(path, (WIDTH, HEIGHT), levels=2, tile=64, seed=number)


def _draw_small(path: Path, case: DemoCase, *, letter: int, seed: int, small: bool = False) -> None:
    """A slide of the demo in a hundredth of its time; written whole, as its own."""
    from wsisurv.formats.atomic import replacing

    del small  # smaller than that already
    with replacing(path) as partial:
        _draw(partial, 2 * case.number + letter + seed)


def prepare() -> None:
    """Import what commands import at work, and let the demo draw small slides: children are forked from here."""
    import h5py  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import torch

    import wsisurv.cli.app  # noqa: F401
    import wsisurv.embedding.step
    import wsisurv.experiments.crossval
    import wsisurv.experiments.external
    import wsisurv.pages.cohort_page
    import wsisurv.pages.statements_page
    import wsisurv.pipeline.heatmap
    import wsisurv.pipeline.predict
    import wsisurv.reports.step
    import wsisurv.tiling.step
    import wsisurv.training.distill  # noqa: F401

    torch.set_num_threads(1)
    demo_cohort.make_slide = _draw_small  # type: ignore[attr-defined]


def draw_inputs(folder: Path) -> None:
    """Slides, reports and follow-up of a training and of another hospital."""
    cohort = DemoCohort(folder, simulate_population(CASES, SEED))
    for case in cohort.cases:
        place = cohort.held_out_slides if case.held_out else cohort.slides
        for letter, slide_id in enumerate(case.slide_ids):
            _draw(place / f"{slide_id}.tiff", 2 * case.number + letter)
    cohort.reports.mkdir()
    for case in cohort.training:
        if case.has_report:
            (cohort.reports / f"{case.case_id}.txt").write_text(write_report(case, SEED))
    for path, cases in ((cohort.clinical, cohort.training), (cohort.held_out_clinical, cohort.held_out)):
        rows: list[Sequence[Any]] = [["case_id", "days", "event", "age", "hospital"]]
        rows += [[one.case_id, int(one.days), int(one.event), one.age, one.hospital.name] for one in cases]
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


@dataclass(frozen=True)
class Command:
    """A command of the campaign.

    Attributes:
        words: of the command line.
        unlike: words more, of another setting, for pairs of unlike runs.
        share: trials of it, held against those of the others: fewer where it takes seconds, yet 34 of a thousand.
    """

    words: tuple[str, ...]
    unlike: tuple[str, ...] = ()
    share: int = 3


def _of(words: str, unlike: str = "", share: int = 3) -> Command:
    return Command(tuple(words.split()), tuple(unlike.split()), share)


_COLUMNS = "--time days --site hospital --covariates age"
_FOLDS = "--folds 2 --repeats 1 --epochs 1 --resamples 100 --workers 1"
CASE = simulate_population(CASES, SEED)[0].case_id
COMMANDS = {
    "demo": _of(f"demo drawn --draw-only --cases {CASES} --workers 1", "--seed 1"),
    "check": _of("check data/slides --clinical data/clinical.csv -o check.jsonl", "--tile-px 100"),
    "tile": _of("tile data/slides --tile-px 64", "--min-tissue 0.4"),
    "embed": _of("embed --device cpu", "--dtype float32"),
    "extract-report": _of("extract-report data/reports --backend rules", "--keep all"),
    "train-teacher": _of(
        f"train-teacher --cohort demo --clinical data/clinical.csv {_COLUMNS} --hidden 8 --epochs 2 --text-epochs 4 "
        "--folds 2 --text-folds 2 --repeats 1",
        "--seed 1",
    ),
    "cohort": _of(f"cohort again --clinical data/clinical.csv {_COLUMNS}", "--time-unit weeks"),
    "distill": _of("distill --hidden 8 --epochs 2 --pretrain-epochs 1 --members 2", "--seed 1"),
    "align": _of("align workspace --output workspace/alignment.h5"),
    "predict": _of("predict data/heldout/slides -o risk.csv", "--horizons 2,4"),
    "predict cohort": _of("predict --cohort demo"),
    "findings": _of("findings --cohort demo --fewest 5 --resamples 100 --pooling mean", "--seed 1"),
    "heatmap": _of(f"heatmap {CASE} --cohort demo", "--tiles 3"),
    "crossval": _of(f"crossval --cohort demo {_FOLDS}", "--seed 1", share=2),
    "ablate": _of(f"ablate --cohort demo {_FOLDS} --switch mixup=random", share=2),
    "evaluate": _of(
        "evaluate data/heldout/slides --student workspace/cohorts/demo/student.h5 --cohort other --clinical "
        f"data/heldout/clinical.csv {_COLUMNS} --resamples 100",
        "--horizons 2",
        share=2,
    ),
    "evaluate-reports": _of("evaluate-reports data/reports"),
    "report": _of("report --cohort demo", "--pictures 1", share=2),
    "export": _of("export clam --format clam"),
    "export features": _of("export stamp --format stamp --encoder histomics"),
    "import": _of("import stamp --encoder theirs --tile-px 64 --tile-mpp 0.5 --slides data/slides -w imported"),
    "pool": _of("pool --encoder mean --tiles histomics"),
    "show": _of("show workspace/cohorts/demo/student.h5 --html card.html"),
    "verify": _of("verify", share=2),
    "encoders": _of("encoders"),
}
"""In an order in which each finds what it reads; run in a folder that holds ``data``."""
