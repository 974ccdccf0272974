import csv
import hashlib
import os
import resource
import shutil
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wsisurv.cohort import match_case, read_clinical
from wsisurv.demo.cohort import DemoCohort, make_cohort
from wsisurv.demo.population import MORPHOLOGIES
from wsisurv.errors import BackendError, InputError, SettingsError, StaleError, StorageError
from wsisurv.settings.cohort import CohortSettings


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_what_its_readme_says(demo: DemoCohort) -> None:
    slides = {path.stem for path in demo.slides.glob("*.tiff")}
    held_out = {path.stem for path in demo.held_out_slides.glob("*.tiff")}
    assert slides == {slide_id for case in demo.training for slide_id in case.slide_ids}
    assert held_out == {slide_id for case in demo.held_out for slide_id in case.slide_ids}
    assert not {row["hospital"] for row in rows(demo.clinical)} & {
        row["hospital"] for row in rows(demo.held_out_clinical)
    }
    reports = {path.stem for path in demo.reports.glob("*.txt")}
    assert reports == {case.case_id for case in demo.training if case.has_report}
    readme = (demo.folder / "README.txt").read_text()
    assert "synthetic" in readme
    assert "no patients" in readme
    assert all(name.startswith("DEMO-") for name in slides | held_out | reports)


def test_the_clinical_table_is_one_that_the_cohort_reads(demo: DemoCohort) -> None:
    settings = CohortSettings(time="days", event="event", site="hospital", covariates=("age", "stage"))
    clinical = read_clinical(demo.clinical, settings)
    assert [(case.case_id, case.time, case.event) for case in clinical.cases] == sorted(
        (case.case_id, case.days, case.event) for case in demo.training
    )
    ids = {case.case_id for case in demo.training}
    for case in demo.training:
        assert {match_case(slide_id, ids) for slide_id in case.slide_ids} == {case.case_id}


def test_the_truth_is_told_for_every_case_and_only_there(demo: DemoCohort) -> None:
    truth = rows(demo.truth)
    assert [row["case_id"] for row in truth] == [case.case_id for case in demo.cases]
    assert all(
        float(row["log_hazard"]) == pytest.approx(case.log_hazard, abs=1e-5)
        for row, case in zip(truth, demo.cases, strict=True)
    )
    hidden = {"log_hazard", *(morphology.name for morphology in MORPHOLOGIES)}
    assert hidden <= truth[0].keys()
    assert not hidden & rows(demo.clinical)[0].keys()


def test_most_cases_have_a_report_and_some_two_slides(tmp_path: Path, without_slides: list[Path]) -> None:
    cohort = make_cohort(tmp_path, cases=300, seed=0)
    assert 0.84 < len(list(cohort.reports.iterdir())) / len(cohort.training) < 0.96
    assert 0.08 < sum(len(case.slide_ids) == 2 for case in cohort.cases) / 300 < 0.22
    assert len(without_slides) == sum(len(case.slide_ids) for case in cohort.cases)


def test_workers_do_not_change_a_byte(demo: DemoCohort, drawn_slides: list[Path], tmp_path: Path) -> None:
    shutil.copytree(demo.folder, tmp_path, dirs_exist_ok=True)
    for path in drawn_slides[:3]:
        (tmp_path / path.relative_to(demo.folder)).unlink()
    make_cohort(tmp_path, cases=len(demo.cases), seed=3, workers=2)
    assert digests(tmp_path) == digests(demo.folder)


def test_a_second_run_draws_only_what_is_missing(tmp_path: Path, without_slides: list[Path]) -> None:
    cohort = make_cohort(tmp_path, cases=25, seed=0)
    before = digests(tmp_path)
    gone = sorted(cohort.slides.iterdir())[2:4]
    for path in gone:
        path.unlink()
    (cohort.reports / f"{next(case for case in cohort.training if case.has_report).case_id}.txt").unlink()
    without_slides.clear()
    told: list[tuple[int, int]] = []
    make_cohort(tmp_path, cases=25, seed=0, progress=lambda done, total, _: told.append((done, total)))
    assert sorted(without_slides) == gone
    assert digests(tmp_path) == before
    total = sum(len(case.slide_ids) for case in cohort.cases)
    assert told == [(total - 2, total), (total - 1, total), (total, total)]


@pytest.mark.usefixtures("without_slides")
def test_a_folder_with_another_cohort_is_refused(tmp_path: Path) -> None:
    make_cohort(tmp_path, cases=25, seed=0)
    before = digests(tmp_path)
    for other in ({"seed": 1}, {"seed": 0, "small": True}):
        with pytest.raises(StaleError, match=r"demo\.json.*Choose another folder"):
            make_cohort(tmp_path, cases=25, **other)
    assert digests(tmp_path) == before


def test_no_worker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="0 workers"):
        make_cohort(tmp_path, cases=25, seed=0, workers=0)


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.write_text("mine")
    with pytest.raises(InputError, match="taken: a file is there"):
        make_cohort(path, cases=25, seed=0)
    assert path.read_text() == "mine"


def test_no_room_in_a_worker_stops_the_run_with_what_to_do(demo: DemoCohort, tmp_path: Path) -> None:
    shutil.copytree(demo.folder, tmp_path, dirs_exist_ok=True)
    missing = sorted((tmp_path / "slides").iterdir())[:2]
    for path in missing:
        path.unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # the workers inherit it
    try:
        with pytest.raises(StorageError, match="no room to write"):
            make_cohort(tmp_path, cases=len(demo.cases), seed=3, workers=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any(path.exists() for path in missing)
    assert not list(tmp_path.rglob("*.partial"))


def test_an_interrupt_leaves_whole_files_and_the_next_run_goes_on(demo: DemoCohort, tmp_path: Path) -> None:
    shutil.copytree(demo.folder, tmp_path, dirs_exist_ok=True)
    missing = sorted((tmp_path / "slides").iterdir())[:4]
    for path in missing:
        path.unlink()

    def interrupt(done: int, total: int, _what: str) -> None:
        if done == total - len(missing) + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_cohort(tmp_path, cases=len(demo.cases), seed=3, workers=2, progress=interrupt)
    assert any(path.exists() for path in missing)
    assert not list(tmp_path.rglob("*.partial"))
    make_cohort(tmp_path, cases=len(demo.cases), seed=3)
    assert all(path.stat().st_size > 100_000 for path in missing)


def test_a_killed_worker_is_explained(demo: DemoCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(ProcessPoolExecutor):
        def submit(self, *_: object, **__: object) -> "Future[Any]":
            return super().submit(os._exit, 9)

    monkeypatch.setattr("wsisurv.engine.workers.ProcessPoolExecutor", Dying)
    shutil.copytree(demo.folder, tmp_path, dirs_exist_ok=True)
    for path in sorted((tmp_path / "slides").iterdir())[:2]:
        path.unlink()
    with pytest.raises(BackendError, match="fewer workers"):
        make_cohort(tmp_path, cases=len(demo.cases), seed=3, workers=2)
