"""Competing events from the clinical table to the risk table, the figures and the page."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import simulation

from wsisurv.cli.app import main
from wsisurv.cohort import read_cohort
from wsisurv.formats.models import read_model
from wsisurv.survival.prognosis import load_prognosis
from wsisurv.workspace.paths import Workspace

SMALL = ["--epochs", "3", "--device", "cpu"]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["wsisurv", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """60 cases, of whom every third of those who die dies of something else."""
    workspace = Workspace(tmp_path / "workspace")
    drawn = simulation.save(
        workspace, simulation.simulate(simulation.make_world(0, 8, 12), 60, 0, tiles=(8, 16), effect=1.5)
    )
    with (tmp_path / "clinical.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "days", "died", "of_it"])
        for number, case in enumerate(drawn.cases):
            writer.writerow([case.case_id, case.time, int(case.event), int(case.event and number % 3 > 0)])
    return workspace


def test_risk_beside_competing_deaths_from_table_to_page(
    place: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    without_figures: Callable[[pytest.MonkeyPatch], None],
) -> None:
    table, at = str(place.root.parent / "clinical.csv"), ["-w", str(place.root)]
    ends = ["--endpoint", "dss=days,of_it,died"]
    made = ["train-teacher", *at, "--cohort", "crc", "--clinical", table]
    assert run(monkeypatch, *made, *ends, "--competing", "died") in {1, 2}
    assert "--endpoint dss=dss_days,dss_event,died" in capsys.readouterr().err
    quick = ["--folds", "2", "--repeats", "1", "--text-epochs", "5", "--text-folds", "2"]
    assert run(monkeypatch, *made, *ends, *SMALL, *quick) == 0
    said = capsys.readouterr().out
    cohort, audit = read_cohort(place.cohort("crc/dss"))
    n = sum(case.competing for case in cohort.cases)
    assert n > 5
    assert audit.competing == n
    assert "competing ones" in said
    one = [*at, "--cohort", "crc/dss"]
    assert run(monkeypatch, "distill", *one, *SMALL, "--pretrain-epochs", "1", "--members", "2") == 0
    model, _ = read_model(place.cohort("crc/dss") / "student.h5", "student")
    assert model.card.cohort.competing == n
    assert load_prognosis(model.arrays).competing is not None
    assert run(monkeypatch, "predict", *one, "--horizons", "0.5,1", "--force-unfamiliar") == 0
    with (place.cohort("crc/dss") / "risk.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["survival_0.5y"]]
    assert len(rows) > 30
    assert all(0 <= float(row["risk_0.5y"]) <= 1 - float(row["survival_0.5y"]) + 1e-6 for row in rows)
    assert sum(1 - float(row["survival_0.5y"]) - float(row["risk_0.5y"]) for row in rows) > 0
    assert "Aalen and Johansen" in json.loads((place.cohort("crc/dss") / "risk.json").read_text())["columns"]["risk_…y"]
    capsys.readouterr()
    cross = [
        "crossval",
        *one,
        "--folds",
        "2",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--resamples",
        "100",
        "--workers",
        "1",
    ]
    assert run(monkeypatch, *cross, "--landmark", "x") in {1, 2}
    assert "years are needed" in " ".join(capsys.readouterr().err.split())
    assert run(monkeypatch, *cross, "--landmark", "0.2y") == 0
    assert "cases alive at 0.2 years" in " ".join(capsys.readouterr().out.split())
    record = json.loads((place.cohort("crc/dss") / "evaluation" / "metrics.json").read_text())
    assert record["competing"] == n
    assert 0 <= record["groups"]["gray_p"] <= 1
    assert sum(row["competing"] or 0 for row in record["groups"]["rows"]) == n
    assert record["landmarks"][0]["models"][0]["concordance"] > 0
    without_figures(monkeypatch)
    assert run(monkeypatch, "report", *one) == 0
    page = (place.cohort("crc/dss") / "evaluation" / "index.html").read_text()
    for words in ("Cumulative incidence", "Gray's test of cumulative incidence", "Among those alive at 0.2 years"):
        assert words in page, words
    assert "count as censored" not in page


def test_without_it_a_disease_specific_endpoint_says_what_other_deaths_are(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(place.root.parent / "clinical.csv")
    made = ["train-teacher", "-w", str(place.root), "--cohort", "crc", "--clinical", table]
    assert run(monkeypatch, *made, "--endpoint", "dss=days,of_it", "--audit-only") == 0
    assert "count as censored" in " ".join(capsys.readouterr().err.split())
    assert run(monkeypatch, *made, "--endpoint", "os=days,died", "--audit-only") == 0
    assert "count as censored" not in " ".join(capsys.readouterr().err.split())
