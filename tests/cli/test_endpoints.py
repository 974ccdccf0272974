"""One cohort with two endpoints, from its clinical table to pages and one table."""

import csv
import json
import re

import pytest

from wsisurv.cohort import read_cohort
from wsisurv.formats.splits import read_splits

ENDPOINTS = ["--endpoint", "os=os_days,os_event", "--endpoint", "pfi=pfi_days,pfi_event"]
SMALL = ["--epochs", "3", "--device", "cpu"]


@pytest.fixture
def place(simulated):
    """Features and statements of 40 cases; in clinical.csv their death and their relapse, two of which are unknown."""

    def row(number, case):
        relapse = ["", ""] if number < 2 else [case.time * 0.7, int(case.event or number % 3 == 0)]
        return [case.time, int(case.event), *relapse, 0]

    return simulated(40, ["os_days", "os_event", "pfi_days", "pfi_event", "no_event"], row)


def test_each_endpoint_has_its_own_models_and_pages_on_the_same_folds(run, place, monkeypatch, without_figures):
    without_figures(monkeypatch)
    table, at = str(place.root.parent / "clinical.csv"), ["-w", str(place.root)]
    ended = run("train-teacher", *at, "--cohort", "crc", "--clinical", table, *ENDPOINTS, *SMALL)
    assert ended.code == 1
    assert place.cohorts() == []  # two rows lack pfi: neither endpoint is written
    assert "endpoint pfi: " in ended.err
    made = ["train-teacher", *at, "--cohort", "crc", "--clinical", table, *ENDPOINTS, "--drop-incomplete"]
    quick = ["--folds", "2", "--repeats", "1", "--text-epochs", "5", "--text-folds", "2"]
    assert run(*made, *SMALL, *quick).code == 0
    assert place.cohorts() == ["crc/os", "crc/pfi"]
    assert [len(read_cohort(place.cohort(f"crc/{name}"))[0].cases) for name in ("os", "pfi")] == [40, 38]
    small = ["--pretrain-epochs", "1", "--members", "2"]
    assert run("distill", *at, "--cohort", "crc", *SMALL, *small).code == 0
    folds = ["--folds", "2", "--repeats", "1", "--resamples", "100"]
    ended = run("crossval", *at, *folds, "--device", "cpu", "--workers", "1")
    assert ended.code == 0, ended.err
    assert "Endpoints of crc" in ended.out
    for name in ("predict", "report"):
        assert run(name, *at, "--cohort", "crc").code == 0
    drawn = {name: read_splits(place.cohort(f"crc/{name}") / "splits.jsonl") for name in ("os", "pfi")}
    for one, other in zip(drawn["os"], drawn["pfi"], strict=True):
        both = {*other.train, *other.test}
        assert [case for case in one.test if case in both] == list(other.test)
    risks = {}
    for name in ("os", "pfi"):
        folder = place.cohort(f"crc/{name}")
        assert (folder / "evaluation" / "index.html").stat().st_size > 10_000
        assert json.loads((folder / "evaluation" / "metrics.json").read_text())["cohort"]["name"] == f"crc/{name}"
        page = (folder / "evaluation" / "index.html").read_text()
        assert "All endpoints of this cohort" in page
        # deaths are no relapses, and no column says that they compete: page and card say what they are
        for said in (page, run("show", folder / "student.h5").out):
            assert ("count as censored" in " ".join(said.split())) == (name == "pfi")
        risks[name] = (folder / "risk.csv").read_text()
    assert risks["os"] != risks["pfi"]
    with (place.root / "cohorts" / "crc" / "evaluation" / "endpoints.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["endpoint"] for row in rows} == {"os", "pfi"}
    assert {(row["endpoint"], row["cases"]) for row in rows} == {("os", "40"), ("pfi", "38")}
    assert all(0 <= float(row["concordance"]) <= 1 for row in rows)
    # what is done for one student asks which; the plain form does not mix with endpoints
    assert "several endpoints" in run("ablate", *at, "--cohort", "crc", "--switch", "loss=ranking").err
    one = ["train-teacher", *at, "--cohort", "crc", "--clinical", table, "--time", "os_days", "--event", "os_event"]
    assert "it has the endpoints os, pfi" in run(*one).err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--endpoint", "os"], "NAME=TIME,EVENT is needed"),
        (["--endpoint", "os=os_days"], "NAME=TIME,EVENT is needed"),
        (["--endpoint", "../os=os_days,os_event"], "can't be its name"),
        ([*ENDPOINTS[:2], "--endpoint", "os=pfi_days,pfi_event"], "two endpoints 'os'"),
        ([*ENDPOINTS[:2], "--endpoint", "OS=pfi_days,pfi_event"], "two endpoints 'OS'"),
        (["--endpoint", "Evaluation=os_days,os_event"], "can't be its name"),
        (["--endpoint", "a/b=os_days,os_event"], "can't be its name"),
        ([*ENDPOINTS[:2], "--endpoint", "dss=pfi_days,os_event"], "'os_event' is the same column twice"),
        ([*ENDPOINTS[:2], "--endpoint", "dss=os_event,pfi_event"], "'os_event' is the same column twice, the event"),
        ([*ENDPOINTS[:2], "--endpoint", "dss=pfi_days,os_days"], "'os_days' is the same column twice, the time of"),
        ([*ENDPOINTS[:2], "--covariates", "os_event"], "the same column twice: 'os_event'"),
        ([*ENDPOINTS[:2], "--site", "os_event"], "the same column twice: 'os_event'. --site is the hospital"),
        (["--endpoint", "os=os_days,os_days"], "the same column twice: 'os_days'"),
        ([*ENDPOINTS[:2], "--endpoint", "x=os_days,no_event"], "endpoint x: .*no event in 40 cases"),
        ([*ENDPOINTS[:2], "--time", "os_days"], "in place of --time and --event"),
        (["--endpoint", "os=os_days,gone"], "endpoint os: .*gone"),
    ],
)
def test_endpoints_that_can_not_be(run, place, options, message):
    table = str(place.root.parent / "clinical.csv")
    asked = ["train-teacher", "-w", str(place.root), "--cohort", "crc", "--clinical", table, *options]
    ended = run(*asked)
    assert ended.code in {1, 2}
    assert re.search(message, " ".join(ended.err.split()))
    assert place.cohorts() == []
