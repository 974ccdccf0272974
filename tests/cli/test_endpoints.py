"""One cohort with two endpoints, from its clinical table to pages and one table."""

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import simulation

from wsisurv.cli.app import main
from wsisurv.cohort import read_cohort
from wsisurv.formats.splits import read_splits
from wsisurv.workspace.paths import Workspace

ENDPOINTS = ["--endpoint", "os=os_days,os_event", "--endpoint", "pfi=pfi_days,pfi_event"]
SMALL = ["--epochs", "3", "--device", "cpu"]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["wsisurv", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features and statements of 40 cases; in clinical.csv their death and their relapse, two of which are unknown."""
    folder = tmp_path_factory.mktemp("endpoints")
    workspace = Workspace(folder / "workspace")
    cohort = simulation.save(
        workspace, simulation.simulate(simulation.make_world(0, 8, 12), 40, 0, tiles=(8, 16), effect=1.5)
    )
    with (folder / "clinical.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "os_days", "os_event", "pfi_days", "pfi_event", "no_event"])
        for number, case in enumerate(cohort.cases):
            relapse = ["", ""] if number < 2 else [case.time * 0.7, int(case.event or number % 3 == 0)]
            writer.writerow([case.case_id, case.time, int(case.event), *relapse, 0])
    return folder


@pytest.fixture
def place(drawn: Path, tmp_path: Path) -> Workspace:
    """A copy of it."""
    return Workspace(shutil.copytree(drawn, tmp_path / "drawn", copy_function=os.link) / "workspace")


def test_each_endpoint_has_its_own_models_and_pages_on_the_same_folds(
    place: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    without_figures: Callable[[pytest.MonkeyPatch], None],
) -> None:
    without_figures(monkeypatch)
    table, at = str(place.root.parent / "clinical.csv"), ["-w", str(place.root)]
    assert run(monkeypatch, "train-teacher", *at, "--cohort", "crc", "--clinical", table, *ENDPOINTS, *SMALL) == 1
    assert place.cohorts() == []  # two rows lack pfi: neither endpoint is written
    assert "endpoint pfi: " in capsys.readouterr().err
    made = ["train-teacher", *at, "--cohort", "crc", "--clinical", table, *ENDPOINTS, "--drop-incomplete"]
    quick = ["--folds", "2", "--repeats", "1", "--text-epochs", "5", "--text-folds", "2"]
    assert run(monkeypatch, *made, *SMALL, *quick) == 0
    assert place.cohorts() == ["crc/os", "crc/pfi"]
    assert [len(read_cohort(place.cohort(f"crc/{name}"))[0].cases) for name in ("os", "pfi")] == [40, 38]
    small = ["--pretrain-epochs", "1", "--members", "2"]
    assert run(monkeypatch, "distill", *at, "--cohort", "crc", *SMALL, *small) == 0
    folds = ["--folds", "2", "--repeats", "1", "--resamples", "100"]
    assert run(monkeypatch, "crossval", *at, *folds, "--device", "cpu", "--workers", "1") == 0
    said = capsys.readouterr().out
    assert "Endpoints of crc" in said
    for name in ("predict", "report"):
        assert run(monkeypatch, name, *at, "--cohort", "crc") == 0
    drawn = {name: read_splits(place.cohort(f"crc/{name}") / "splits.jsonl") for name in ("os", "pfi")}
    for one, other in zip(drawn["os"], drawn["pfi"], strict=True):
        both = {*other.train, *other.test}
        assert [case for case in one.test if case in both] == list(other.test)
    risks = {}
    for name in ("os", "pfi"):
        folder = place.cohort(f"crc/{name}")
        assert (folder / "evaluation" / "index.html").stat().st_size > 10_000
        assert json.loads((folder / "evaluation" / "metrics.json").read_text())["cohort"]["name"] == f"crc/{name}"
        assert "All endpoints of this cohort" in (folder / "evaluation" / "index.html").read_text()
        risks[name] = (folder / "risk.csv").read_text()
    assert risks["os"] != risks["pfi"]
    with (place.root / "cohorts" / "crc" / "evaluation" / "endpoints.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["endpoint"] for row in rows} == {"os", "pfi"}
    assert {(row["endpoint"], row["cases"]) for row in rows} == {("os", "40"), ("pfi", "38")}
    assert all(0 <= float(row["concordance"]) <= 1 for row in rows)
    # what is done for one student asks which; the plain form does not mix with endpoints
    assert run(monkeypatch, "ablate", *at, "--cohort", "crc", "--switch", "loss=ranking") in {1, 2}
    assert "several endpoints" in capsys.readouterr().err
    one = ["train-teacher", *at, "--cohort", "crc", "--clinical", table, "--time", "os_days", "--event", "os_event"]
    assert run(monkeypatch, *one) in {1, 2}
    assert "it has the endpoints os, pfi" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--endpoint", "os"], "NAME=TIME,EVENT is needed"),
        (["--endpoint", "os=os_days"], "NAME=TIME,EVENT is needed"),
        (["--endpoint", "../os=os_days,os_event"], "can't be its name"),
        ([*ENDPOINTS[:2], "--endpoint", "os=pfi_days,pfi_event"], "two endpoints 'os'"),
        ([*ENDPOINTS[:2], "--endpoint", "dss=pfi_days,os_event"], "'os_event' is the same column twice"),
        (["--endpoint", "os=os_days,os_days"], "the same column twice: 'os_days'"),
        ([*ENDPOINTS[:2], "--endpoint", "x=os_days,no_event"], "endpoint x: .*no event in 40 cases"),
        ([*ENDPOINTS[:2], "--time", "os_days"], "in place of --time and --event"),
        (["--endpoint", "os=os_days,gone"], "endpoint os: .*gone"),
    ],
)
def test_endpoints_that_can_not_be(
    place: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    table = str(place.root.parent / "clinical.csv")
    asked = ["train-teacher", "-w", str(place.root), "--cohort", "crc", "--clinical", table, *options]
    assert run(monkeypatch, *asked) in {1, 2}
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert place.cohorts() == []
