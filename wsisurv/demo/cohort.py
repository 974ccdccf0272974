"""The synthetic cohort as a folder: slides, reports and follow-up, with a held-out hospital beside it."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from wsisurv.demo.population import MORPHOLOGIES, DemoCase, simulate_population
from wsisurv.demo.reports import write_report
from wsisurv.demo.slides import make_slide
from wsisurv.engine.progress import Progress, no_progress
from wsisurv.engine.workers import finished
from wsisurv.errors import InputError, SettingsError
from wsisurv.formats.atomic import write_text
from wsisurv.workspace.freshness import Origin, compare, require_fresh

DEMO_VERSION = 2
"""Raised when the same seed gives another cohort."""

_README = """\
This cohort is synthetic. A program drew every slide, wrote every report and invented
every follow-up time. There are no patients behind it, and nothing learned from it says
anything about any patient, any hospital or any treatment.

It exists to show wsisurv at work from end to end, on a machine without data.

  slides/            {training_slides} slides of {training} cases to train on (hospitals {hospitals})
  reports/           {reports} raw pathology reports of these cases
  clinical.csv       their follow-up: days, event (1: it happened), age, stage (1 to 4), hospital
  heldout/           {held_out_slides} slides and the follow-up of {held_out} cases of hospital {held_out_hospital};
                     no model is trained on them, and they have no reports: risk is predicted
                     from slides alone
  truth.csv          the log hazard that the follow-up was drawn from, and what it was made of;
                     for judging the models at the end, never shown to them
  demo.json          how the cohort was made

What drives the hazard on the slides, as log hazard per standard deviation of the share:
{weights}
Age and stage have weights of their own. Stain, scanner, hospital and pen marks have none.
"""


@dataclass(frozen=True)
class DemoCohort:
    """A synthetic cohort on disk."""

    folder: Path
    cases: tuple[DemoCase, ...]
    """Training and held-out cases."""

    @property
    def training(self) -> tuple[DemoCase, ...]:
        """Cases that may be learned from."""
        return tuple(case for case in self.cases if not case.held_out)

    @property
    def held_out(self) -> tuple[DemoCase, ...]:
        """Cases of the held-out hospital."""
        return tuple(case for case in self.cases if case.held_out)

    @property
    def slides(self) -> Path:
        """Folder of the training cases' slides."""
        return self.folder / "slides"

    @property
    def reports(self) -> Path:
        """Folder of the training cases' reports, ``<case_id>.txt``."""
        return self.folder / "reports"

    @property
    def clinical(self) -> Path:
        """Follow-up of the training cases."""
        return self.folder / "clinical.csv"

    @property
    def held_out_slides(self) -> Path:
        """Folder of the held-out cases' slides."""
        return self.folder / "heldout" / "slides"

    @property
    def held_out_clinical(self) -> Path:
        """Follow-up of the held-out cases."""
        return self.folder / "heldout" / "clinical.csv"

    @property
    def truth(self) -> Path:
        """What the follow-up of all cases was drawn from."""
        return self.folder / "truth.csv"


def make_cohort(
    folder: Path,
    *,
    cases: int = 100,
    seed: int = 0,
    small: bool = False,
    workers: int = 1,
    progress: Progress = no_progress,
) -> DemoCohort:
    """Make the synthetic cohort; what an interrupted run left whole is kept.

    The same ``cases``, ``seed`` and ``small`` give the same bytes, whatever the number of workers.

    Args:
        folder: where to; made when missing.
        cases: how many, the held-out fifth included.
        seed: 0 or more.
        small: slides of a third of the area: quicker, and less to learn from.
        workers: processes that draw slides.
        progress: called after each slide.

    Raises:
        SettingsError: too few cases, a negative seed, or no worker.
        InputError: ``folder`` is a file.
        StaleError: the folder holds a cohort made with other cases, seed, size of slides or version.
        StorageError: no room or no permission.
        BackendError: a worker was killed.
    """
    if workers < 1:
        raise SettingsError(f"{workers} workers asked: at least 1 is needed")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file is there, not a folder. Name another folder for the demo.")
    cohort = DemoCohort(folder, simulate_population(cases, seed))
    made: dict[str, object] = {"synthetic": True, "version": DEMO_VERSION, "cases": cases, "seed": seed}
    _claim_folder(folder, {**made, "small": True} if small else made)
    _write_if_missing(folder / "README.txt", _readme(cohort))
    _write_if_missing(cohort.clinical, _clinical_table(cohort.training))
    _write_if_missing(cohort.held_out_clinical, _clinical_table(cohort.held_out))
    _write_if_missing(cohort.truth, _truth_table(cohort.cases))
    for case in cohort.training:
        if case.has_report:
            _write_if_missing(cohort.reports / f"{case.case_id}.txt", write_report(case, seed))
    _make_slides(cohort, seed, small, workers, progress)
    return cohort


def _claim_folder(folder: Path, made: dict[str, object]) -> None:
    """Refuse a folder with another cohort: its files would be mixed with this one's."""
    record = folder / "demo.json"
    text = json.dumps(made, indent=1) + "\n"
    if not record.exists():
        write_text(record, text)
        return
    found, wanted = (" ".join(words.split()) for words in (record.read_text(encoding="utf-8", errors="replace"), text))
    seen = compare(Origin(found), Origin(wanted), also=[f"the cohort there is {found}, not {wanted}"])
    require_fresh({record: seen}, remedy="Choose another folder, or delete this one.")


def _write_if_missing(path: Path, text: str) -> None:
    if not path.exists():
        write_text(path, text)


@dataclass(frozen=True)
class _SlideJob:
    path: Path
    case: DemoCase
    letter: int
    seed: int
    small: bool


def _draw(job: _SlideJob) -> str:
    make_slide(job.path, job.case, letter=job.letter, seed=job.seed, small=job.small)
    return job.path.stem


def _make_slides(cohort: DemoCohort, seed: int, small: bool, workers: int, progress: Progress) -> None:
    home = {True: cohort.held_out_slides, False: cohort.slides}
    jobs = [
        _SlideJob(home[case.held_out] / f"{slide_id}.tiff", case, letter, seed, small)
        for case in cohort.cases
        for letter, slide_id in enumerate(case.slide_ids)
    ]
    missing = [job for job in jobs if not job.path.exists()]
    kept = len(jobs) - len(missing)
    progress(kept, len(jobs), "")
    workers = min(workers, len(missing))
    with closing(finished(_draw, missing, workers, processes=workers > 1)) as drawn:
        for done, (_, slide_id) in enumerate(drawn, start=kept + 1):
            progress(done, len(jobs), slide_id)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _clinical_table(cases: Sequence[DemoCase]) -> str:
    rows = [
        [case.case_id, f"{case.days:.0f}", int(case.event), case.age, case.stage, case.hospital.name] for case in cases
    ]
    return _table(["case_id", "days", "event", "age", "stage", "hospital"], rows)


def _truth_table(cases: Sequence[DemoCase]) -> str:
    names = [morphology.name for morphology in MORPHOLOGIES]
    rows = [
        [case.case_id, int(case.held_out), f"{case.log_hazard:.6f}", *(f"{case.shares[name]:.4f}" for name in names)]
        for case in cases
    ]
    return _table(["case_id", "held_out", "log_hazard", *names], rows)


def _readme(cohort: DemoCohort) -> str:
    return _README.format(
        training=len(cohort.training),
        training_slides=sum(len(case.slide_ids) for case in cohort.training),
        hospitals=", ".join(sorted({case.hospital.name for case in cohort.training})),
        reports=sum(case.has_report for case in cohort.training),
        held_out=len(cohort.held_out),
        held_out_slides=sum(len(case.slide_ids) for case in cohort.held_out),
        held_out_hospital=", ".join(sorted({case.hospital.name for case in cohort.held_out})),
        weights="".join(f"  {morphology.weight:+.2f}  {morphology.name}\n" for morphology in MORPHOLOGIES),
    )
