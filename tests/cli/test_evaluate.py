"""``wsisurv evaluate``: the held-out hospital of the demo as another cohort."""

import json
import os
import shutil

import pytest

from wsisurv.cohort import read_table
from wsisurv.formats.header import read_header
from wsisurv.formats.risks import read_risks


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A copy of the demo through all steps."""
    folder = tmp_path_factory.mktemp("evaluate") / "demo"
    shutil.copytree(trained, folder, copy_function=os.link)
    return folder


@pytest.fixture
def quickly(monkeypatch, without_figures):
    """Without pictures, which are looked at once."""
    without_figures(monkeypatch)


def words(place, *more, cohort="other", clinical="heldout/clinical.csv"):
    held_out = place / "data" / "heldout"
    workspace = place / "workspace"
    return [
        "evaluate", held_out / "slides", "--student", workspace / "cohorts" / "demo" / "student.h5",
        "--cohort", cohort, "--clinical", place / "data" / clinical, "--time", "days", "--site", "hospital",
        "--slide-map", held_out / "slide_map.csv", "--resamples", "100", "-w", workspace, *more,
    ]  # fmt: skip


def test_the_held_out_hospital(run, place):
    ended = run(*words(place))
    assert ended.code == 0, ended.err
    assert "calibration-in-the-large" in ended.out
    assert "Only " in ended.out
    folder = place / "workspace" / "cohorts" / "other" / "evaluation"
    record = json.loads((folder / "external.json").read_text())
    assert record["format"] == "wsisurv/external"
    held_out = {row["case_id"] for row in read_table(place / "data" / "heldout" / "clinical.csv")}
    assert {risk.case_id for risk in read_risks(folder / "external_risk.csv")} == held_out
    predicted = {risk.case_id: risk.log_hazard for risk in read_risks(place / "risk.csv")}
    for risk in read_risks(folder / "external_risk.csv"):
        assert risk.log_hazard == pytest.approx(predicted[risk.case_id], abs=1e-5)
    assert sum(group["cases"] for group in record["external"]["groups"]) == record["external"]["cases"]
    for name in ("external_groups", "external_calibration"):
        assert (folder / f"{name}.png").stat().st_size > 1000
        assert (folder / f"{name}.svg").exists()
    assert "wsisurv/external" in run("show", folder / "external.json").out
    bare = run("predict", "-w", place / "workspace")  # there are two cohorts now, and one student
    assert bare.code == 0, bare.err
    assert "cohorts/demo/risk.csv" in "".join(bare.out.split())


@pytest.mark.usefixtures("quickly")
def test_time_in_another_unit_gives_the_same(run, place, tmp_path):
    rows = read_table(place / "data" / "heldout" / "clinical.csv")
    lines = ["case_id,months,event"] + [
        f"{row['case_id']},{float(row['days']) / 30.4375},{row['event']}" for row in rows
    ]
    (tmp_path / "clinical.csv").write_text("\n".join(lines) + "\n")
    command = words(place, "--time", "months", "--time-unit", "months", cohort="months")
    command = [
        tmp_path / "clinical.csv" if word == place / "data" / "heldout/clinical.csv" else word for word in command
    ]
    command = [word for word in command if word not in {"--site", "hospital"}]
    cohorts = place / "workspace" / "cohorts"
    if not (cohorts / "other" / "evaluation" / "external.json").exists():
        assert run(*words(place)).code == 0
    ended = run(*command)
    assert ended.code == 0, ended.err
    one, other = (
        json.loads((cohorts / name / "evaluation" / "external.json").read_text())["external"]
        for name in ("other", "months")
    )
    assert other["observed_expected"]["expected"] == pytest.approx(one["observed_expected"]["expected"], rel=0.02)
    assert other["concordance"]["value"] == pytest.approx(one["concordance"]["value"])


def test_cases_of_the_training_are_refused(run, place):
    workspace = place / "workspace"
    student = workspace / "cohorts" / "demo" / "student.h5"
    ended = run("evaluate", "--student", student, "--cohort", "demo", "-w", workspace)
    assert ended.code == 1
    assert "were in the student's training" in ended.err
    ended = run("evaluate", "--student", student, "--cohort", "demo", "--drop-known", "-w", workspace)
    assert ended.code == 1
    assert "wsisurv crossval" in ended.err


def test_the_training_cohort_is_not_written_over(run, place):
    before = (place / "workspace" / "cohorts" / "demo" / "cohort.csv").read_bytes()
    ended = run(*words(place, cohort="demo"))
    assert ended.code == 2
    assert "trained on" in ended.err
    assert (place / "workspace" / "cohorts" / "demo" / "cohort.csv").read_bytes() == before


@pytest.mark.usefixtures("quickly")
def test_its_own_cross_validation_stands_beside(run, place):
    home = place / "workspace" / "cohorts" / "demo"
    header = read_header(home / "student.h5", "wsisurv/student", "wsisurv distill")
    record = {
        "cohort": {"fingerprint": header.inputs["cohort"]},
        "settings": {"student": header.settings},
        "models": [{"model": "selected", "concordance": 0.6543, "low": 0.5, "high": 0.8}],
    }
    (home / "evaluation").mkdir(exist_ok=True)
    (home / "evaluation" / "metrics.json").write_text(json.dumps(record))
    ended = run(*words(place))
    assert ended.code == 0, ended.err
    assert "0.654 in its own cross-validation" in ended.out
    external = json.loads((home.parent / "other" / "evaluation" / "external.json").read_text())
    assert external["own"]["concordance"] == 0.6543


@pytest.mark.usefixtures("quickly")
def test_what_the_student_adds_to_the_clinic_is_told_and_on_the_page(run, place):
    ended = run(*words(place, "--covariates", "age,stage", cohort="clinic"))
    assert ended.code == 0, ended.err
    assert "age and stage as fitted in training" in " ".join(ended.out.split())
    record = json.loads((place / "workspace" / "cohorts" / "clinic" / "evaluation" / "external.json").read_text())
    assert record["clinic"]["covariates"] == ["age", "stage"]
    assert record["clinic"]["difference"]["value"] == pytest.approx(
        record["external"]["concordance"]["value"] - record["clinic"]["concordance"]["value"]
    )
    for cohort in ("clinic", "demo"):
        assert run("report", "--cohort", cohort, "-w", place / "workspace").code == 0
        page = (place / "workspace" / "cohorts" / cohort / "evaluation" / "index.html").read_text()
        assert "clinic, by the student of demo" in page


@pytest.mark.usefixtures("quickly")
def test_a_student_alone_can_not_tell_whom_it_knows(run, place, tmp_path):
    alone = shutil.copy(place / "workspace" / "cohorts" / "demo" / "student.h5", tmp_path)
    command = words(place)
    command[command.index("--student") + 1] = alone
    ended = run(*command)
    assert ended.code == 0, ended.err
    assert "can't be known" in ended.err


def test_a_name_is_needed(run, place):
    command = words(place)
    at = command.index("--cohort")
    ended = run(*command[:at], *command[at + 2 :])
    assert ended.code == 2
    assert "--cohort NAME" in ended.err
