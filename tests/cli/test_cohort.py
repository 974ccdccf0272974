"""`wsisurv cohort`: a cohort and its audit, and nothing trained."""

import json
import re

import pytest

from wsisurv.cohort import make_cohort, read_cohort
from wsisurv.formats.commands import read_commands
from wsisurv.formats.statements import ReportRecord, Statement
from wsisurv.pages.gathering import gather
from wsisurv.settings.cohort import CohortSettings

FOLDS = ["--folds", 2, "--repeats", 1, "--resamples", 100, "--epochs", 2, "--device", "cpu", "--workers", 1]


@pytest.fixture
def place(simulated):
    """Features and statements of 40 cases, whose follow-up is in clinical.csv; no cohort."""
    columns = ["days", "died", "relapse_days", "relapse"]
    return simulated(40, columns, lambda _, one: [one.time, int(one.event), one.time * 0.7, int(one.event)])


@pytest.fixture
def made(place):
    """Words that make the cohort ``crc``."""
    table = place.root.parent / "clinical.csv"
    return ["cohort", "crc", "--clinical", table, "--time", "days", "--event", "died", "-w", place.root]


def test_it_is_the_cohort_that_train_teacher_and_the_python_door_make(run, place, made):
    ended = run(*made)
    assert ended.code == 0, ended.err
    folder = place.cohort("crc")
    assert {path.name for path in folder.iterdir()} == {"cohort.csv", "audit.json"}
    files = {name: (folder / name).read_bytes() for name in ("cohort.csv", "audit.json")}
    assert "Cohort crc" in ended.out
    assert f"cohort: 40 cases, done · {folder}" in ended.out

    quick = ["--folds", 2, "--text-folds", 2, "--repeats", 1, "--epochs", 2, "--device", "cpu"]
    words = ["train-teacher", "--cohort", "crc", *made[2:], *quick]
    assert run(*words).code == 0  # the same cohort: not stale
    assert {name: (folder / name).read_bytes() for name in files} == files
    table = place.root.parent / "clinical.csv"
    make_cohort(place, "door", table, CohortSettings(time="days", event="died"))
    assert (place.cohort("door") / "cohort.csv").read_bytes() == files["cohort.csv"]


def test_crossval_of_it_needs_no_teacher(run, place, made):
    assert run(*made).code == 0
    ended = run("crossval", "--cohort", "crc", "-w", place.root, *FOLDS)
    assert ended.code == 0, ended.err
    folder = place.cohort("crc")
    assert (folder / "evaluation" / "metrics.json").exists()
    assert not (folder / "guidance.h5").exists()
    assert not (folder / "student.h5").exists()


def test_train_teacher_without_a_table_trains_on_the_cohort_that_is_there(run, place, made):
    assert run(*made).code == 0
    before = (place.cohort("crc") / "cohort.csv").stat().st_mtime_ns
    assert "next: wsisurv train-teacher --cohort crc\n" in run("status", place.root).out
    quick = ["--folds", 2, "--text-folds", 2, "--repeats", 1, "--epochs", 2, "--device", "cpu"]
    ended = run("train-teacher", "--cohort", "crc", "-w", place.root, *quick)
    assert ended.code == 0, ended.err
    assert (place.cohort("crc") / "guidance.h5").exists()
    assert (place.cohort("crc") / "cohort.csv").stat().st_mtime_ns == before


def test_train_teacher_takes_the_encoder_that_the_cohort_was_made_with(run, place, made, monkeypatch):
    asked = []

    class Asked(Exception):
        pass

    def train(_place, _cohort, settings, **_):
        asked.append(settings.encoder)
        raise Asked

    (place.root / "features" / "histomics").rename(place.root / "features" / "uni2-h")
    assert run(*made, "--encoder", "uni2-h").code == 0
    assert read_cohort(place.cohort("crc"))[1].encoder == "uni2-h"
    monkeypatch.setattr("wsisurv.training.teacher.train_teacher", train)
    for words in ((), ("--encoder", "histomics")):
        with pytest.raises(Asked):
            run("train-teacher", "--cohort", "crc", "-w", place.root, *words)
    assert asked == ["uni2-h", "histomics"]


def test_endpoints_audit_and_redo_are_as_in_train_teacher(run, place, made):
    ends = ["--endpoint", "os=days,died", "--endpoint", "pfi=relapse_days,relapse"]
    several = ["cohort", "two", *made[2:4], *ends, "-w", place.root]
    assert run(*several, "--audit-only").code == 0
    assert place.cohorts() == []
    assert read_commands(place.root) == []
    assert run(*several).code == 0
    assert place.cohorts() == ["two/os", "two/pfi"]
    assert [one.words[1] for one in read_commands(place.root)] == ["cohort"]
    assert run(*made).code == 0
    stale = run(*made, "--time-unit", "weeks")
    assert stale.code == 1
    assert "time_unit: days → weeks" in " ".join(stale.err.split())
    assert run(*made, "--time-unit", "weeks", "--redo").code == 0
    assert read_cohort(place.cohort("crc"))[0].settings.time_unit == "weeks"
    refused = run("cohort", "crc/os", *made[2:])
    assert refused.code == 2
    assert "name the cohort alone" in refused.err


def test_it_needs_a_name_and_a_table(run, place):
    for words in ([], ["crc"], ["--clinical", place.root.parent / "clinical.csv"]):
        assert run("cohort", *words, "-w", place.root).code == 2


def test_another_run_waits_until_table_and_audit_are_whole(place, monkeypatch):
    def wait(_: float) -> None:
        raise TimeoutError

    monkeypatch.setattr("wsisurv.workspace.claims.time.sleep", wait)
    table = place.root.parent / "clinical.csv"
    with place.claim("cohort", "crc"), pytest.raises(TimeoutError):
        make_cohort(place, "crc", table, CohortSettings(time="days", event="died"))
    assert place.cohorts() == []


def test_reports_that_are_read_after_the_cohort_was_made_are_counted(run, place, made):
    assert run(*made).code == 0
    cohort, audit = read_cohort(place.cohort("crc"))
    assert (audit.cases_with_report, audit.clinical_cases_with_report) == (0, 0)
    place.statements.parent.mkdir(exist_ok=True)
    with place.statements.open("w", encoding="utf-8") as file:
        for case_id in [*(case.case_id for case in cohort.cases[1:]), "stranger"]:
            one = Statement(
                statement_id=f"{case_id}/1",
                category="grade",
                polarity="present",
                text="Grade 2",
                evidence="Grade 2",
                start=0,
                end=7,
                match="exact",
            )
            record = ReportRecord(case_id=case_id, fingerprint="0" * 64, report_sha256="0" * 64, statements=(one,))
            file.write(json.dumps(record.as_line()) + "\n")

    assert gather(place, "crc").audit.cases_with_report == 39
    ended = run("train-teacher", "--cohort", "crc", "-w", place.root)  # which ends at the vectors, made of others
    assert re.search(r"cases with statements +│ 39 ", ended.out)
    again, audit = read_cohort(place.cohort("crc"))
    assert again == cohort
    assert (audit.cases_with_report, audit.clinical_cases_with_report) == (39, 39)
    assert audit.reports_without_case == ("stranger",)
