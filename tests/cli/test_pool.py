"""``wsisurv pool`` as a person runs it, and a cohort learned from its rows."""

import json

from wsisurv.formats.features import read_features

FOLDS = ["--folds", 2, "--repeats", 1, "--device", "cpu", "--workers", 1, "--resamples", 100]


def test_rows_of_whole_slides_are_learned_from_like_any_features(run, simulated, tmp_path):
    workspace = simulated(40, ["days", "dead", "hospital"], lambda number, case: [case.time, case.event, number % 4])
    tiles = workspace.encoders()[0]
    place = ["-w", workspace.root]
    ended = run("pool", "--encoder", "mean", "--tiles", tiles, *place)
    assert ended.code == 0, ended.err
    assert f"mean-{tiles}" in ended.out + ended.err
    slide = workspace.embedded_slides(f"mean-{tiles}")[0]
    assert len(read_features(workspace.features(f"mean-{tiles}", slide))[0].values) == 1
    table = ["--clinical", tmp_path / "clinical.csv", "--time", "days", "--event", "dead", "--site", "hospital"]
    assert run("cohort", "c", *table, *place).code == 0
    ended = run("crossval", "--cohort", "c", "--encoder", f"mean-{tiles}", "--epochs", 2, *FOLDS, *place)
    assert ended.code == 0, ended.err
    figures = json.loads((workspace.cohort("c") / "evaluation" / "metrics.json").read_text())
    assert {row["model"] for row in figures["models"]} >= {"mean_pool", "plain"}
    checked = run("verify", workspace.root)
    assert f"mean-{tiles}" not in checked.out + checked.err, "nothing wrong with them"
    again = run("pool", "--encoder", "mean", "--tiles", tiles, *place)
    assert again.code == 0
    assert "0 done" in again.out
    quick = ["--epochs", 2, "--device", "cpu", "--cohort", "c", *place]
    folds = ["--folds", 2, "--text-folds", 2, "--repeats", 1]
    assert run("train-teacher", "--encoder", f"mean-{tiles}", *folds, *quick).code == 0
    assert run("distill", "--members", 2, *quick).code == 0
    assert run("predict", "--cohort", "c", *place).code == 0
    (tmp_path / "new.tiff").write_bytes(b"II*")
    ended = run("predict", tmp_path / "new.tiff", "--cohort", "c", "-o", tmp_path / "risk.csv", *place)
    assert ended.code == 1
    assert "trained on one row a slide" in ended.err
    assert "`wsisurv tile`, `embed` and `pool`" in ended.err


def test_titan_is_told_to_be_imported(run, simulated):
    workspace = simulated(40, ["days"], lambda _, case: [case.time])
    ended = run("pool", "--encoder", "titan", "--tiles", workspace.encoders()[0], "-w", workspace.root)
    assert ended.code == 2
    assert "wsisurv import FOLDER --encoder titan" in ended.err


def test_robustness_of_every_encoder_of_a_cohort(run, simulated, tmp_path):
    workspace = simulated(40, ["days", "dead", "hospital"], lambda number, case: [case.time, case.event, number % 2])
    tiles, place = workspace.encoders()[0], ["-w", workspace.root]
    assert run("pool", "--encoder", "mean", "--tiles", tiles, *place).code == 0
    table = ["--clinical", tmp_path / "clinical.csv", "--time", "days", "--event", "dead"]
    assert run("cohort", "c", *table, "--site", "hospital", *place).code == 0
    found = json.loads(run("encoders", "--robustness", "--json", *place).out)
    assert {row["encoder"] for row in found} == {tiles, f"mean-{tiles}"}
    assert all(row["cases"] == 40 and row["hospitals"] == 2 for row in found)
    assert "hospital: " in run("encoders", tiles, "--robustness", *place).out
    assert run("cohort", "d", *table, *place).code == 0
    ended = run("encoders", tiles, "--robustness", "--cohort", "d", *place)
    assert ended.code == 1
    assert "no hospital is known" in ended.err
