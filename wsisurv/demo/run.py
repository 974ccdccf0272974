"""The demo: the synthetic cohort through the six commands, each run as a person would run it, then judged."""

import csv
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike

from wsisurv.cohort import Case, read_clinical, read_cohort, read_table
from wsisurv.demo.cohort import DemoCohort, make_cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import BackendError
from wsisurv.experiments.comparison import Row, compare
from wsisurv.experiments.risk_groups import risk_groups
from wsisurv.formats.atomic import write_text
from wsisurv.formats.risks import Risk, read_risks
from wsisurv.pages.survival_figure import kaplan_meier
from wsisurv.settings.cohort import CohortSettings
from wsisurv.survival.covariates import fit_covariates
from wsisurv.workspace.paths import Workspace

COHORT = "demo"
_COLUMNS = CohortSettings(time="days", event="event", site="hospital", covariates=("age", "stage"))


@dataclass(frozen=True)
class DemoResult:
    """What the demo ends with.

    Attributes:
        rows: held-out concordance of each model, with its interval.
        cases: held-out cases that were scored.
        events: events among them.
        left_out: held-out cases without a tile, so without a risk.
        risk: the student's risk table.
        survival: Kaplan–Meier picture by risk group.
        preview: preview of a slide with its tiles.
    """

    rows: tuple[Row, ...]
    cases: int
    events: int
    left_out: tuple[str, ...]
    risk: Path
    survival: Path
    preview: Path


@dataclass(frozen=True)
class _Places:
    """Where the demo keeps its things."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "workspace")

    @property
    def slide_map(self) -> Path:
        return self.data / "heldout" / "slide_map.csv"

    @property
    def risk(self) -> Path:
        return self.folder / "risk.csv"

    @property
    def risk_plain(self) -> Path:
        return self.folder / "risk_without_teacher.csv"

    @property
    def survival(self) -> Path:
        return self.folder / "survival.png"


def draw(folder: Path, *, cases: int, seed: int = 0, workers: int = 1, progress: Progress = no_progress) -> DemoCohort:
    """Make the synthetic cohort in ``folder``/data, with a table of whose each held-out slide is.

    Raises:
        WsisurvError: as ``make_cohort``.
    """
    places = _Places(folder)
    cohort = make_cohort(places.data, cases=cases, seed=seed, workers=workers, progress=progress)
    _write_slide_map(places.slide_map, cohort)
    return cohort


def run_demo(
    folder: Path, *, cases: int, seed: int, workers: int, say: Callable[[str], None], progress: Progress
) -> DemoResult:
    """Make the cohort, run the six steps on it as commands, and judge the risks of the held-out hospital.

    Args:
        folder: where everything goes.
        cases: how many patients, the held-out fifth included.
        seed: of the cohort and of the training.
        workers: processes that draw slides.
        say: told each command before it runs.
        progress: told while slides are drawn.

    Raises:
        BackendError: a command failed; it has said why.
        WsisurvError: as ``make_cohort``, ``compare``.
    """
    places = _Places(folder)
    say(f"drawing a synthetic cohort of {cases} cases into {places.data}: no real patients")
    cohort = draw(folder, cases=cases, seed=seed, workers=workers, progress=progress)
    for command in _commands(places, cohort, seed):
        say("$ " + shlex.join(command))
        _run(command)
    return _judge(places, cohort, seed)


def _commands(places: _Places, cohort: DemoCohort, seed: int) -> list[list[str]]:
    """The six steps, as a person would type them; ``predict`` twice, to see what the teacher was worth."""
    workspace = ["--workspace", str(places.workspace.root)]
    name = ["--cohort", COHORT]
    follow_up = ["--time", _COLUMNS.time, "--event", _COLUMNS.event, "--time-unit", _COLUMNS.time_unit]
    follow_up += ["--site", str(_COLUMNS.site), "--covariates", ",".join(_COLUMNS.covariates)]
    held_out = [str(cohort.held_out_slides), "--slide-map", str(places.slide_map)]
    plain = str(places.workspace.cohort(COHORT) / "student_plain.h5")
    seeded = ["--seed", str(seed)]
    return [
        ["wsisurv", "tile", str(cohort.slides), *workspace],
        ["wsisurv", "embed", *workspace],
        ["wsisurv", "extract-report", str(cohort.reports), "--backend", "rules", *workspace],
        ["wsisurv", "train-teacher", *name, "--clinical", str(cohort.clinical), *follow_up, *seeded, *workspace],
        ["wsisurv", "distill", *name, *seeded, *workspace],
        ["wsisurv", "predict", *held_out, *name, "-o", str(places.risk), *workspace],
        ["wsisurv", "predict", *held_out, "--student", plain, "-o", str(places.risk_plain), *workspace],
    ]


def _run(command: Sequence[str]) -> None:
    """Run one of our own commands in a process of its own, with this Python."""
    done = subprocess.run([sys.executable, "-m", *command], check=False, env={**os.environ, "COLUMNS": "110"})
    if done.returncode:
        raise BackendError(
            f"`{shlex.join(command)}` ended with exit code {done.returncode}; its message is above. "
            "Once that is mended, the same demo command goes on from here."
        )


def _write_slide_map(path: Path, cohort: DemoCohort) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["slide_id", "case_id"])
    writer.writerows([slide_id, case.case_id] for case in cohort.held_out for slide_id in case.slide_ids)
    write_text(path, text.getvalue())


def _judge(places: _Places, cohort: DemoCohort, seed: int) -> DemoResult:
    """Score the held-out cases by each model, over the same bootstrap resamples."""
    risks = {risk.case_id: risk for risk in read_risks(places.risk)}
    plain = {risk.case_id: risk for risk in read_risks(places.risk_plain)}
    truth = {row["case_id"]: float(row["log_hazard"]) for row in read_table(cohort.truth)}
    held_out = read_clinical(cohort.held_out_clinical, _COLUMNS).cases
    scored = [case for case in held_out if _has_risk(case, risks) and _has_risk(case, plain)]
    training, _ = read_cohort(places.workspace.cohort(COHORT))
    models: dict[str, ArrayLike] = {
        "student": [_risk(risks[case.case_id]) for case in scored],
        "student without teacher": [_risk(plain[case.case_id]) for case in scored],
        "age and stage": fit_covariates(training.cases).log_hazard(scored),
        "the simulated truth": [truth[case.case_id] for case in scored],
    }
    follow_up = {str(case.case_id): (case.time, case.event) for case in scored}
    rows = compare(models, time=[case.time for case in scored], event=[case.event for case in scored], seed=seed)
    picture, _ = kaplan_meier(
        places.survival,
        risk_groups(list(risks.values()), follow_up),
        time_unit=_COLUMNS.time_unit,
        title="Held-out cases of the synthetic cohort, by the student's risk group",
    )
    return DemoResult(
        rows=rows,
        cases=len(scored),
        events=sum(case.event for case in scored),
        left_out=tuple(str(case.case_id) for case in held_out if case not in scored),
        risk=places.risk,
        survival=picture,
        preview=places.workspace.preview(cohort.training[0].slide_ids[0]),
    )


def _has_risk(case: Case, risks: dict[str, Risk]) -> bool:
    return case.case_id in risks and risks[case.case_id].log_hazard is not None


def _risk(risk: Risk) -> float:
    return float("nan") if risk.log_hazard is None else risk.log_hazard
