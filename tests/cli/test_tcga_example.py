"""examples/tcga on real follow-up and features of regions, where they lie beside the repository."""

import csv
import os
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("WSISURV_REAL_DATA") or ROOT.parent / "shared" / "data") / "tcga-regions"
CASES = 40


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "luad" / "regions.h5").exists(), reason="the regions of TCGA are not at hand")
def test_the_script_goes_from_features_and_follow_up_to_a_page(
    run, typed, quick, tmp_path, monkeypatch, without_figures
):
    without_figures(monkeypatch)
    runpy.run_path(str(DATA / "unpack.py"))["main"]("luad", tmp_path / "all")
    rows = list(csv.reader((DATA / "luad" / "clinical.csv").read_text(encoding="utf-8").splitlines()))
    slides = {path.name[:12]: path for path in sorted((tmp_path / "all").iterdir()) if "-DX" in path.name}
    chosen = [row for row in rows[1:] if row[0] in slides][:CASES]
    (tmp_path / "features").mkdir()
    for row in chosen:
        os.link(slides[row[0]], tmp_path / "features" / slides[row[0]].name)
    with (tmp_path / "clinical.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *chosen])
    commands = typed(
        "tcga", FEATURES=tmp_path / "features", CLINICAL=tmp_path / "clinical.csv", NAME="luad", ENCODER="hipt",
        CASE="case_id", TIME="os_days", EVENT="os_event", EVENT_VALUES="", UNIT="days", SITE="site",
        COVARIATES="age,stage", OUT=tmp_path / "work", REPORTS=DATA / "luad" / "reports.jsonl", BACKEND="rules",
        IMPORT_OPTIONS="--tile-px 4096 --tile-mpp 0.5 --unknown-resolution", FOLDS=2, REPEATS=1,
    )  # fmt: skip
    assert [words[0] for words in commands] == [
        "import", "extract-report", "cohort", "train-teacher", "distill", "crossval", "predict", "report",
    ]  # fmt: skip
    said = {}
    for words in commands:
        if words[0] != "extract-report":  # 400 reports: minutes
            ended = run(*quick(words), *(["--epochs", "2"] if words[0] == "crossval" else []))
            assert ended.code == 0, ended.err
            said[words[0]] = ended.out + ended.err
    assert f"import: {CASES} done" in said["import"]
    assert f"Concordance within folds ({CASES} cases" in said["crossval"]
    assert (tmp_path / "work" / "cohorts" / "luad" / "evaluation" / "index.html").exists()
