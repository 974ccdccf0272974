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

from wsisurv.cohort import read_clinical, read_cohort, read_table
from wsisurv.demo.cohort import DemoCohort, make_cohort
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import BackendError
from wsisurv.experiments.comparison import ComparedModel, compare
from wsisurv.experiments.risk_groups import risk_groups
from wsisurv.formats.atomic import write_text
from wsisurv.formats.risks import Risk, read_risks
from wsisurv.pages.survival_figure import kaplan_meier
from wsisurv.settings.cohort import CohortSettings
from wsisurv.survival.covariates import fit_covariates
from wsisurv.workspace.paths import Workspace

COHORT = "demo"
_SLIDE_MAP = Path("data/heldout/slide_map.csv")
_RISK, _RISK_PLAIN = "risk.csv", "risk_without_teacher.csv"
_COLUMNS = CohortSettings(time="days", event="event", site="hospital", covariates=("age", "stage"))


@dataclass(frozen=True)
class DemoResult:
    """What the demo ends with."""

    rows: tuple[ComparedModel, ...]  # held-out concordance of each model, with its interval
    cases: int  # held-out cases that were scored
    events: int  # events among them
    left_out: tuple[str, ...]  # held-out cases without a tile, so without a risk
    risk: Path  # the student's risk table
    survival: Path  # Kaplan–Meier picture by risk group
    preview: Path  # preview of a slide with its tiles


def _workspace(folder: Path) -> Workspace:
    return Workspace(folder / "workspace")


def draw(
    folder: Path,
    *,
    cases: int,
    seed: int = 0,
    small: bool = False,
    workers: int = 1,
    progress: Progress = no_progress,
) -> DemoCohort:
    """Make the synthetic cohort in ``folder``/data, with a table of whose each held-out slide is.

    Raises:
        WsisurvError: as ``make_cohort``.
    """
    cohort = make_cohort(folder / "data", cases=cases, seed=seed, small=small, workers=workers, progress=progress)
    _write_slide_map(folder / _SLIDE_MAP, cohort)
    return cohort


def run_demo(
    folder: Path,
    *,
    cases: int,
    seed: int,
    small: bool,
    workers: int,
    say: Callable[[str], None],
    progress: Progress,
) -> DemoResult:
    """Make the cohort, run the six steps on it as commands, and judge the risks of the held-out hospital.

    Args:
        folder: where everything goes.
        cases: how many patients, the held-out fifth included.
        seed: of the cohort and of the training.
        small: whether slides are small ones.
        workers: processes that draw slides.
        say: called with each command before it runs.
        progress: called while slides are drawn.

    Raises:
        BackendError: a command failed; it has said why.
        WsisurvError: as ``make_cohort``, ``compare``.
    """
    say(f"drawing a synthetic cohort of {cases} cases into {folder / 'data'}: no real patients")
    cohort = draw(folder, cases=cases, seed=seed, small=small, workers=workers, progress=progress)
    for command in _commands(folder, cohort, seed):
        say("$ " + shlex.join(command))
        _run(command)
    return _judge(folder, cohort, seed)


def _commands(folder: Path, cohort: DemoCohort, seed: int) -> list[list[str]]:
    """The six steps, as a person would type them; ``predict`` twice, to see what the teacher was worth."""
    workspace = ["--workspace", str(_workspace(folder).root)]
    name = ["--cohort", COHORT]
    follow_up = ["--time", _COLUMNS.time, "--event", _COLUMNS.event, "--time-unit", _COLUMNS.time_unit]
    follow_up += ["--site", str(_COLUMNS.site), "--covariates", ",".join(_COLUMNS.covariates)]
    held_out = [str(cohort.held_out_slides), "--slide-map", str(folder / _SLIDE_MAP)]
    plain = str(_workspace(folder).cohort(COHORT) / "student_plain.h5")
    seeded = ["--seed", str(seed)]
    return [
        ["wsisurv", "tile", str(cohort.slides), *workspace],
        ["wsisurv", "embed", *workspace],
        ["wsisurv", "extract-report", str(cohort.reports), "--backend", "rules", *workspace],
        ["wsisurv", "train-teacher", *name, "--clinical", str(cohort.clinical), *follow_up, *seeded, *workspace],
        ["wsisurv", "distill", *name, *seeded, *workspace],
        ["wsisurv", "predict", *held_out, *name, "-o", str(folder / _RISK), *workspace],
        ["wsisurv", "predict", *held_out, "--student", plain, "-o", str(folder / _RISK_PLAIN), *workspace],
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


def _judge(folder: Path, cohort: DemoCohort, seed: int) -> DemoResult:
    """Score the held-out cases by each model, over the same bootstrap resamples."""
    table = read_risks(folder / _RISK)
    risks, plain = _log_hazards(table), _log_hazards(read_risks(folder / _RISK_PLAIN))
    truth = {row["case_id"]: float(row["log_hazard"]) for row in read_table(cohort.truth)}
    held_out = read_clinical(cohort.held_out_clinical, _COLUMNS).cases
    scored = [case for case in held_out if case.case_id in risks and case.case_id in plain]
    training, _ = read_cohort(_workspace(folder).cohort(COHORT))
    models: dict[str, ArrayLike] = {
        "selected student": [risks[case.case_id] for case in scored],
        "baseline student": [plain[case.case_id] for case in scored],
        "age and stage": fit_covariates(training.cases).log_hazard(scored),
        "the simulated truth": [truth[case.case_id] for case in scored],
    }
    follow_up = {str(case.case_id): (case.time, case.event) for case in scored}
    rows = compare(models, time=[case.time for case in scored], event=[case.event for case in scored], seed=seed)
    picture, _ = kaplan_meier(
        folder / "survival.png",
        risk_groups(table, follow_up),
        time_unit=_COLUMNS.time_unit,
        title="Held-out cases of the synthetic cohort, by the student's risk group",
    )
    return DemoResult(
        rows=rows,
        cases=len(scored),
        events=sum(case.event for case in scored),
        left_out=tuple(str(case.case_id) for case in held_out if case not in scored),
        risk=folder / _RISK,
        survival=picture,
        preview=_workspace(folder).preview(cohort.training[0].slide_ids[0]),
    )


def _log_hazards(risks: Sequence[Risk]) -> dict[str, float]:
    return {risk.case_id: risk.log_hazard for risk in risks if risk.log_hazard is not None}
