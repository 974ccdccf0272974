"""``wsisurv pool`` as a person runs it, and a cohort learned from its rows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsisurv.embedding import slide_encoders
from wsisurv.embedding.attention_pool import AttentionPool
from wsisurv.embedding.columns import COLUMNS
from wsisurv.embedding.slide_encoders import SlideEncoderRow
from wsisurv.formats.features import read_features, write_features
from wsisurv.formats.risks import read_risks
from wsisurv.prediction.card import read_scale
from wsisurv.workspace.paths import Workspace

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


@pytest.fixture
def pooled(run, trained, tmp_path):
    """``pooled("mean", …)``: a workspace whose student takes rows that ``pool`` made of the drawn cohort's tiles."""

    def train(encoder, *options):
        place = Workspace(shutil.copytree(trained / "workspace", tmp_path / "workspace"))
        where = ["-w", place.root]
        assert run("pool", "--encoder", encoder, "--tiles", "histomics", *options, *where).code == 0
        shutil.rmtree(place.cohort("demo"))
        table = ["--clinical", trained / "data" / "clinical.csv", "--time", "days", "--event", "event"]
        quick = ["--epochs", 2, "--device", "cpu", "--cohort", "demo", *where]
        asked = ["--encoder", f"{encoder}-histomics", *table, "--folds", 2, "--text-folds", 2, "--repeats", 1]
        assert run("train-teacher", *asked, *quick).code == 0
        assert run("distill", "--members", 2, *quick).code == 0
        return place.cohort("demo") / "student.h5"

    return train


@pytest.fixture
def fresh(trained, tmp_path, make_slide):
    """A folder of two slides that were held out, and one of glass."""
    folder = tmp_path / "fresh"
    make_slide(folder / "glass.tiff", np.full((900, 900, 3), 240, np.uint8))
    for path in sorted((trained / "data" / "heldout" / "slides").glob("*.tif*"))[:2]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def attention(tmp_path, monkeypatch):
    """FEATHER for tiles of histomics: a row of the table, and its weights."""
    n = len(COLUMNS)
    row = SlideEncoderRow(512, {"histomics": n}, {"histomics": "hub/feather"})
    monkeypatch.setattr(slide_encoders, "SLIDE_ENCODERS", {**slide_encoders.SLIDE_ENCODERS, "feather": row})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = AttentionPool(n).state_dict()
    save_file({f"model.{name}": value for name, value in state.items()}, tmp_path / "feather.safetensors")
    return tmp_path / "feather.safetensors"


def test_new_slides_are_tiled_embedded_and_pooled_as_in_training(run, pooled, fresh, attention, tmp_path):
    student = pooled("feather", "--weights", attention)
    where = ["--student", student, "-o", tmp_path / "risk.csv", "-w", tmp_path / "w"]
    refused = run("predict", fresh, *where)
    assert refused.code == 1
    assert "Give it with --pool-weights FILE" in refused.err
    (tmp_path / "other.safetensors").write_bytes(b"other")
    refused = run("predict", fresh, *where, "--pool-weights", tmp_path / "other.safetensors")
    assert "Give the same file as in training" in refused.err
    assert not (tmp_path / "w" / "predict").exists(), "nothing is done before it is known that it can be ended"
    ended = run("predict", fresh, *where, "--pool-weights", attention)
    assert ended.code == 0, ended.err
    assert "pool: 3 done" in ended.out
    rows = {risk.case_id: risk for risk in read_risks(tmp_path / "risk.csv")}
    assert rows["glass"].risk_group == "unknown"
    assert "pool: 0 done, 3 kept" in run("predict", fresh, *where, "--pool-weights", attention).out

    by_hand = Workspace(tmp_path / "by-hand")
    for step in (["tile", fresh], ["embed"], ["pool", "--encoder", "feather", "--tiles", "histomics"]):
        options = ["--weights", attention] if step[0] == "pool" else []
        assert run(*step, *options, "-w", by_hand.root).code == 0
    assert run("predict", "--student", student, "-o", tmp_path / "same.csv", "-w", by_hand.root).code == 0
    same = {risk.case_id: risk for risk in read_risks(tmp_path / "same.csv")}
    assert {name: risk.log_hazard for name, risk in rows.items()} == {
        name: risk.log_hazard for name, risk in same.items()
    }
    assert len({risk.log_hazard for risk in rows.values()}) == 3, "slides are told apart"


def test_a_student_of_means_validates_on_new_slides_and_draws_no_tiles(run, pooled, trained, tmp_path):
    student = pooled("mean")
    workspace = student.parents[2]
    table = ["--clinical", trained / "data" / "heldout" / "clinical.csv", "--time", "days", "--event", "event"]
    slides = trained / "data" / "heldout" / "slides"
    asked = ["--student", student, "--cohort", "other", *table, "-w", tmp_path / "w", "--resamples", 100]
    assert "--pool-weights: this student needs none" in " ".join(
        run("evaluate", slides, *asked, "--pool-weights", tmp_path).err.split()
    )
    ended = run("evaluate", slides, *asked)
    assert ended.code == 0, ended.err
    assert (tmp_path / "w" / "cohorts" / "other" / "evaluation" / "external.json").exists()
    case = read_risks_of(workspace, run)
    drawn = run("heatmap", case, "--cohort", "demo", "-w", workspace)
    assert drawn.code == 1
    assert "one row of the whole slide" in " ".join(drawn.err.split())
    assert "Name features of its tiles" in " ".join(drawn.err.split())


def read_risks_of(workspace, run):
    assert run("predict", "--cohort", "demo", "-w", workspace).code == 0
    return read_risks(workspace / "cohorts" / "demo" / "risk.csv")[0].case_id


def test_rows_of_before_and_of_other_tools_are_refused_with_the_way_out(run, pooled, fresh, spoil_card, tmp_path):
    student = pooled("mean")
    settings = read_scale(student).card.embed_settings
    asked = ["predict", fresh, "--student", student, "-o", tmp_path / "risk.csv", "-w", tmp_path / "w"]
    spoil_card(student, embed_settings={**settings, "of_tiles": {**settings["of_tiles"], "weights": "imported"}})
    assert "features that another tool made" in run(*asked).err
    spoil_card(student, embed_settings={name: value for name, value in settings.items() if name != "of_tiles"})
    told = " ".join(run(*asked).err.split())
    assert "one row a slide, and its file doesn't say of which tiles' features" in told
    assert "Run `wsisurv pool --redo`" in told
    spoil_card(student, embed_settings={**settings, "of_tiles": {**settings["of_tiles"], "version": 9}})
    workspace = student.parents[2]
    told = " ".join(run("predict", "--cohort", "demo", "-w", workspace).err.split())
    assert "pooled tiles' version 1 instead of the 9 that" in told
    assert not list((tmp_path).glob("risk.*"))


def test_rows_of_features_that_were_made_anew_since_are_not_used(run, simulated, tmp_path):
    workspace = simulated(40, ["days", "dead"], lambda _, case: [case.time, case.event])
    tiles, where = workspace.encoders()[0], ["-w", workspace.root]
    assert run("pool", "--encoder", "mean", "--tiles", tiles, *where).code == 0
    slide = workspace.embedded_slides(tiles)[3]
    path = workspace.features(tiles, slide)
    features, header = read_features(path)
    path.unlink()  # a link to what others use
    write_features(path, features, replace(header, inputs={"tiles": "others"}))
    table = ["--clinical", tmp_path / "clinical.csv", "--time", "days", "--event", "dead"]
    quick = ["--epochs", 1, "--folds", 2, "--text-folds", 2, "--repeats", 1, "--device", "cpu"]
    asked = ["train-teacher", "--cohort", "c", "--encoder", f"mean-{tiles}", *table, *quick, *where]
    told = json.loads(run("status", "--json", workspace.root).out)
    pooling = next(one for one in told["steps"] if one["step"] == f"pool mean of {tiles}")
    assert pooling["stale"] == {"features made anew since": 1}
    ended = run(*asked)
    assert ended.code == 1
    said = " ".join(ended.err.split())
    assert f"made of the features of {path}, which is another now" in said
    assert "Run `wsisurv pool --redo` first" in said
    workspace.features(f"mean-{tiles}", workspace.embedded_slides(tiles)[5]).unlink()
    told = json.loads(run("status", "--json", workspace.root).out)
    assert told["next_command"] == f"wsisurv pool --encoder mean --tiles {tiles} --redo"
    assert run("pool", "--encoder", "mean", "--tiles", tiles, "--redo", *where).code == 0
    assert "pool --encoder" not in json.loads(run("status", "--json", workspace.root).out)["next_command"]
    assert run(*asked).code == 0


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
