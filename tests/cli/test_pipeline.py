"""The six steps together, on a small synthetic cohort."""

import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.cli.app import main
from wsisurv.formats.features import read_features
from wsisurv.formats.risks import read_risks
from wsisurv.formats.statements import read_statements
from wsisurv.workspace.paths import Workspace

CASES = 30  # as conftest.py draws them


def test_the_demo_ends_with_a_table_and_pictures(trained):
    text, said = (trained / "out.txt").read_text(), (trained / "err.txt").read_text()
    for step in "tile", "embed", "extract-report", "train-teacher", "distill", "predict":
        assert f"$ wsisurv {step} " in said
    rows = re.findall(r"│ (.+?) +│ (\d\.\d+) \((\d\.\d+) to (\d\.\d+)\)", text)
    assert [name for name, *_ in rows] == [
        "selected student",
        "baseline student",
        "age and stage",
        "the simulated truth",
    ]
    assert all(float(low) <= float(value) <= float(high) for _, value, low, high in rows)
    for name in re.findall(r": (\S+\.(?:csv|png|jpg))$", text, re.M):
        assert Path(name).stat().st_size > 0
    assert (trained / "survival.png").exists()


def test_held_out_cases_are_in_the_risk_table_and_in_no_training(trained):
    held_out = {path.name[: len("DEMO-H1-0000")] for path in (trained / "data" / "heldout" / "slides").iterdir()}
    risks = read_risks(trained / "risk.csv")
    assert {risk.case_id for risk in risks} == held_out
    place = Workspace(trained / "workspace")
    assert not held_out & {slide_id[: len("DEMO-H1-0000")] for slide_id in place.tiled_slides()}
    assert not held_out & set(read_statements(place.statements))
    assert any(len(risk.slides) == 2 for risk in risks) or len(held_out) < 10


def test_a_second_run_does_nothing_again_and_ends_alike(trained, quick, monkeypatch, capsys):
    def command(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["wsisurv", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr().err

    before = {path: path.stat().st_mtime_ns for path in (trained / "workspace").rglob("*.h5")}
    risk = (trained / "risk.csv").read_bytes()
    monkeypatch.setattr("wsisurv.demo.run._run", lambda typed: command(*quick(typed)[1:]))
    command("demo", str(trained), "--cases", str(CASES))
    ends = [
        text[text.index("Concordance on") :] for text in (capsys.readouterr().out, (trained / "out.txt").read_text())
    ]
    assert ends[0] == ends[1]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (trained / "risk.csv").read_bytes() == risk


@pytest.mark.parametrize("example", ["crc", "quickstart", "features-from-elsewhere", "tcga"])
def test_an_example_stops_at_the_first_command_that_fails(typed, example):
    asked = dict.fromkeys(("SLIDES", "REPORTS", "CLINICAL", "FEATURES", "ENCODER", "OUT"), "here")
    assert len(typed(example, **asked, SLIDE_MPP=0.5, ends_with=1)) == 1


def test_example_crc(run, typed, quick, folder, trained, lend_slides):
    data = folder / "data"
    lend_slides(trained, folder / "crc")
    commands = typed(
        "crc", SLIDES=data / "slides", REPORTS=data / "reports", CLINICAL=data / "clinical.csv", BACKEND="rules",
        TIME="days", EVENT="event", SITE="hospital", OUT=folder / "crc",
    )  # fmt: skip
    assert len(commands) == 7
    for words in commands:
        done = run(*quick(words))
        assert done.code == 0, done.err
    risks = read_risks(folder / "crc" / "cohorts" / "crc" / "risk.csv")
    assert len(risks) == 24
    assert {risk.risk_group for risk in risks} == {"low", "intermediate", "high"}


def test_example_features_from_elsewhere(run, typed, quick, trained, tmp_path):
    """STAMP's layout: feats, coords in µm, tile size in the root attributes."""
    stamp = tmp_path / "stamp"
    stamp.mkdir()
    for path in sorted((trained / "workspace" / "features" / "histomics").glob("*.h5")):
        features, _ = read_features(path)
        with h5py.File(stamp / path.name, "w") as file:
            file["feats"] = features.values
            file["coords"] = (features.coords * features.mpp).astype(np.float32)
            file.attrs.update({"unit": "um", "tile_size_um": 112.0, "tile_size_px": 224, "extractor": "histomics"})
    data = trained / "data"
    commands = typed(
        "features-from-elsewhere", FEATURES=stamp, ENCODER="stamp-histomics", SLIDE_MPP=0.5, REPORTS=data / "reports",
        CLINICAL=data / "clinical.csv", BACKEND="rules", TIME="days", EVENT="event", OUT=tmp_path / "w",
    )  # fmt: skip
    assert len(commands) == 5
    for words in commands:
        done = run(*quick(words))
        assert done.code == 0, done.err
    assert len(read_risks(tmp_path / "w" / "cohorts" / "crc" / "risk.csv")) == 24


def test_a_student_of_imported_features_predicts_from_imported_features_only(run, quick, trained, tmp_path):
    """In: the demo's features without names. Out: a refusal for slides, risks for features."""
    workspace = Workspace(tmp_path / "w")
    foreign = tmp_path / "clam"
    foreign.mkdir()
    for path in sorted((trained / "workspace" / "features" / "histomics").glob("*.h5")):
        features, _ = read_features(path)
        with h5py.File(foreign / path.name, "w") as file:
            file["features"], file["coords"] = features.values, features.coords
    where = ["--workspace", workspace.root]
    missing = run("import", foreign, "--encoder", "mine", *where)
    assert missing.code == 1
    assert "--slide-mpp" in missing.err
    scale = ["--slide-mpp", 0.5, "--tile-px", 224, "--tile-mpp", 0.5]
    assert run("import", foreign, "--encoder", "mine", *scale, *where).code == 0
    follow_up = ["--clinical", trained / "data" / "clinical.csv", "--time", "days"]
    taught = run(*quick(["train-teacher", "--cohort", "c", *follow_up, "--encoder", "mine", *where]))
    assert taught.code == 0, taught.err
    assert "no case of this cohort has statements" in " ".join(taught.err.split())
    assert run(*quick(["distill", *where])).code == 0
    student = workspace.cohort("c") / "student.h5"
    slides = trained / "data" / "heldout" / "slides"
    refused = run("predict", slides, "--student", student, *where, "-o", tmp_path / "r.csv")
    assert refused.code == 1
    assert "another tool made" in refused.err
    assert run("predict", "--student", student, *where, "-o", tmp_path / "r.csv").code == 0
    assert len(read_risks(tmp_path / "r.csv")) == len(workspace.embedded_slides("mine"))


def test_random_weights_are_never_trained_on_unnoticed(run, quick, folder):
    place = folder / "workspace"
    slides = sorted((folder / "data" / "slides").iterdir())[:12]
    assert run("tile", *slides, "--tile-mpp", 2, "-w", place).code == 0
    assert run("embed", "--encoder", "timm:resnet10t", "--random-weights", "-w", place).code == 0
    train = ["train-teacher", "--cohort", "c", "--clinical", folder / "data" / "clinical.csv", "--time", "days"]
    train += ["--encoder", "timm-resnet10t-random", "-w", place]
    refused = run(*quick(train))
    assert refused.code == 2
    assert "--allow-random-weights" in refused.err
    assert run(*quick([*train, "--allow-random-weights"])).code == 0
    assert "random weights" in run(*quick(["distill", "-w", place])).err
