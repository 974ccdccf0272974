"""``predict`` on slides straight from the scanner: one command, and rows that say what is wrong with them."""

import hashlib
import json
import os
import pickle
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from wsisurv.cohort import read_cohort
from wsisurv.errors import EncoderMismatchError, SettingsError, WeightsError
from wsisurv.formats.features import read_features, write_features
from wsisurv.formats.risks import read_risks
from wsisurv.formats.tiles import read_tiles
from wsisurv.pipeline.from_slides import prepare_slides
from wsisurv.pipeline.status import status
from wsisurv.prediction.card import read_scale
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def scanned(tmp_path, make_slide, draw_tissue) -> Path:
    """A folder with pink tissue, the same in brown, and a file that is no slide."""
    folder = tmp_path / "scanned"
    pink = draw_tissue(1400, 1200)
    is_pink = (pink[..., 1].astype(int) - pink[..., 2]) < -10
    make_slide(folder / "pink.tiff", pink)
    make_slide(folder / "brown.tiff", np.where(is_pink[..., None], np.array([176, 130, 90], np.uint8), pink))
    (folder / "broken.svs").write_bytes(b"II*\0 no slide")
    return folder


@pytest.fixture
def student(trained) -> Path:
    return trained / "workspace" / "cohorts" / "demo" / "student.h5"


def test_one_command_from_the_scanner_to_rows_with_their_warnings(run, student, scanned, tmp_path):
    where = ["--student", student, "-w", tmp_path / "w", "-o", tmp_path / "risk.csv"]
    ended = run("predict", scanned, *where, "--horizons", "1,2.5,50", "--jsonl")
    assert ended.code == 1  # one slide of three failed, and the others went on
    assert "broken" in ended.err
    rows = {risk.case_id: risk for risk in read_risks(tmp_path / "risk.csv")}
    assert set(rows) == {"pink", "brown"}
    assert "immunohistochemistry" in rows["brown"].warning
    assert "immunohistochemistry" in " ".join(ended.err.split())
    assert "brown" not in rows["pink"].warning
    assert "unlike the training cases" in rows["pink"].warning  # drawn in another way than the demo's tissue
    for risk in rows.values():
        assert risk.risk_group == "unfamiliar"
        assert set(risk.survival.values()) == {None}
    assert "2 of 2 cases are unfamiliar" in " ".join(ended.err.split())
    notes = json.loads((tmp_path / "risk.json").read_text())
    assert notes["command"].startswith("wsisurv predict ")
    assert notes["horizons"][2]["given"] is False
    assert [failure["case_id"] for failure in notes["cases"]["failed"]] == ["broken"]
    assert len((tmp_path / "risk.jsonl").read_text().splitlines()) == 2

    (scanned / "broken.svs").unlink()
    again = run("predict", scanned, *where)
    assert again.code == 0
    assert "embed: 0 done, 2 kept" in again.out
    assert run("predict", scanned, *where, "--force-unfamiliar", "--horizons", "1,50").code == 0
    for risk in read_risks(tmp_path / "risk.csv"):
        assert risk.risk_group in {"low", "intermediate", "high"}
        assert 0 < risk.survival[1.0] < 1
        assert risk.survival[50.0] is None
    beside = [json.loads(line)["risk_group"] for line in (tmp_path / "risk.jsonl").read_text().splitlines()]
    assert beside == [
        risk.risk_group for risk in read_risks(tmp_path / "risk.csv")
    ]  # written anew, though not asked for


def table_of(path):
    """Bytes of a risk table and of what lies beside it, without the command."""
    notes = json.loads(path.with_suffix(".json").read_text().replace(f"{path.parent}/many/", f"{path.parent}/one/"))
    del notes["command"], notes["crc32"]
    beside = [one for one in (path.with_suffix(".jsonl"), path.with_name("findings.csv")) if one.exists()]
    return [one.read_bytes() for one in (path, *beside)], notes


def test_shares_of_new_slides_give_the_same_table(run, student, scanned, tmp_path):
    (tmp_path / "map.csv").write_text("slide_id,case_id\npink,P\nbroken,P\nbrown,B\nalso,A\n")
    shutil.copy(scanned / "pink.tiff", scanned / "also.tiff")
    where = ["predict", scanned, "--student", student, "--slide-map", tmp_path / "map.csv", "--jsonl"]
    assert run(*where, "-w", tmp_path / "one", "-o", tmp_path / "one.csv").code == 1
    words = [*where, "-w", tmp_path / "many", "-o", tmp_path / "many.csv", "--shard"]
    assert run(*words, "1/4").code == 0
    many = Workspace(next((tmp_path / "many" / "predict").glob("*/tiles")).parent)
    assert many.tiled_slides() == ["also"]
    assert run(*words, "3/4").code == 1  # the case of the broken slide
    assert "2 shares have not ended" in " ".join(run(*words, "1/4").out.split())
    assert not (tmp_path / "many.csv").exists()
    assert run(*words, "4/4").code == 0
    assert run(*words, "2/4").code == 1  # the table has a case that failed
    assert table_of(tmp_path / "many.csv") == table_of(tmp_path / "one.csv")
    assert not (tmp_path / "many.shares").exists()


def test_shares_of_a_cohort_give_the_same_table_of_the_features_that_are_there(run, trained, tmp_path):
    place = Workspace(shutil.copytree(trained / "workspace", tmp_path / "workspace"))
    table = place.cohort("demo") / "risk.csv"
    words = ["predict", "-w", place.root]

    def told() -> str:
        return status(place).cohorts[0].parts["predict"]

    assert run(*words, "--jsonl").code == 0
    alone = table_of(table)
    table.unlink()
    table.with_suffix(".jsonl").unlink()
    assert 'TASK_ID + 1))/3"' in run("submit", "--dry-run", "--each", 10, *words).out
    assert run(*words, "--shard", "2/4").code == 0  # of another array
    assert told() == "1 of 4 shares"
    assert run(*words, "--shard", "2/3", "--jsonl").code == 0  # one wants JSONL: it is not dropped by who ends last
    assert run(*words, "--shard", "1/3", "--horizons", "1,2").code == 0  # of another table
    assert run(*words, "--shard", "3/3").code == 0
    unfit = "of another array, of other features or damaged"
    assert told() == f"2 of 3 shares, and 2 {unfit}"
    slide = place.features("histomics", read_cohort(place.cohort("demo"))[0].cases[1].slide_ids[0])
    features, header = read_features(slide)
    write_features(slide, features, replace(header, inputs={"tiles": "others"}))
    assert told() == f"1 of 3 shares, and 3 {unfit}"
    assert "shares have not ended" in " ".join(run(*words, "--shard", "1/3").out.split())
    write_features(slide, features, header)
    assert run(*words, "--shard", "1/3").code == 0
    assert table_of(table) == alone
    (table.with_suffix(".shares")).mkdir()
    (table.with_suffix(".shares") / "1-of-9.json").write_text("{}")
    assert told() == "0 shares, and 1 that can't be used"
    assert run(*words, "--jsonl").code == 0  # all at once needs no share, and leaves none
    assert table_of(table) == alone
    assert not table.with_suffix(".shares").exists()


def test_resolutions_from_a_table(run, student, tmp_path, make_slide):
    make_slide(tmp_path / "s" / "a.tiff", (1400, 1200), mpp=None)
    where = ["--student", student, "-w", tmp_path / "w", "-o", tmp_path / "risk.csv"]
    without = run("predict", tmp_path / "s", *where)
    assert without.code == 1
    assert "--slide-mpp" in without.err or "mpp" in without.err
    (tmp_path / "mpp.csv").write_text("slide_id,mpp\na,0.5\n")
    assert run("predict", tmp_path / "s", *where, "--mpp-table", tmp_path / "mpp.csv").code == 0
    assert [risk.case_id for risk in read_risks(tmp_path / "risk.csv")] == ["a"]


def test_a_slide_of_coarser_resolution_is_refused_or_enlarged_and_said(run, student, tmp_path, make_slide):
    make_slide(tmp_path / "s" / "a.tiff", (900, 700), mpp=1.0)
    where = ["--student", student, "-w", tmp_path / "w", "-o", tmp_path / "risk.csv"]
    refused = run("predict", tmp_path / "s", *where)
    assert refused.code == 1
    assert "--allow-upsampling" in " ".join(refused.err.split())
    assert run("predict", tmp_path / "s", *where, "--allow-upsampling").code == 0
    [risk] = read_risks(tmp_path / "risk.csv")
    assert "scanned at 1 µm/px and enlarged to 0.5" in risk.warning


def test_held_out_cases_of_the_demo_are_mostly_familiar(trained):
    """Of a hospital that training never saw; 200 cases give the figure in docs, these few only the direction."""
    risks = read_risks(trained / "risk.csv")
    assert sum("unlike" in risk.warning for risk in risks) <= len(risks) / 2
    assert all(risk.risk_low <= risk.log_hazard <= risk.risk_high for risk in risks)
    assert all(risk.survival[1.0] >= risk.survival[3.0] for risk in risks if risk.survival[3.0] is not None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--horizons", "1,zwei"], "--horizons 1,zwei"),
        (["--horizons", "0"], "above 0"),
        (["--horizons", "1,1"], "different numbers"),
        (["-o", "risk.json"], "the table is CSV"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(run, student, tmp_path, words, said):
    ended = run("predict", tmp_path, "--student", student, "-w", tmp_path / "w", *words)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())


@pytest.mark.skipif("WSISURV_REAL_SLIDE" not in os.environ, reason="WSISURV_REAL_SLIDE names no slide")
def test_a_real_slide_is_not_what_a_student_of_the_demo_knows(run, student, tmp_path):
    slide = os.environ["WSISURV_REAL_SLIDE"]
    assert run("predict", slide, "--student", student, "-w", tmp_path / "w", "-o", tmp_path / "risk.csv").code == 0
    [risk] = read_risks(tmp_path / "risk.csv")
    assert "unlike the training cases" in risk.warning
    assert "immunohistochemistry" not in risk.warning


_OWN = {"name": "mine", "architecture": "vit_tiny_patch16_224", "pooling": "class", "mean": [0.5] * 3, "std": [0.5] * 3}
_OWN |= {"tile_px": 224, "tile_mpp": 0.5, "input_px": 224}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, ""),
        ({"encoder": "uni2-h", "weights": "hub:MahmoodLab/UNI2-h"}, "--fetch uni2-h"),
        ({"encoder": "uni2-h", "weights": f"hub:MahmoodLab/UNI2-h@{'0' * 40}"}, "--revision 0000"),
        ({"encoder": "uni2-h", "weights": f"hub:somebody/else@{'0' * 40}"}, "not its own"),
        ({"encoder": "kaiko-s16", "weights": "imported\n"}, "weights: String should match"),
        ({"encoder": "timm:resnet18", "weights": "hub:timm/resnet18.a1_in1k"}, "--fetch timm:resnet18"),
        ({"encoder": "timm:hf-hub:somebody/else", "weights": "random"}, "name of an encoder"),
        ({"encoder": "timm:local-dir:x", "weights": "random"}, "no model 'local-dir:x'"),
        ({"encoder": "../../elsewhere", "weights": "random"}, "name of an encoder"),
        ({"encoder": "mine", "weights": "random", "own": _OWN | {"architecture": "hf-hub:x/y"}}, "architecture"),
        (
            {"encoder": "mine", "weights": "random", "own": _OWN | {"arguments": {"checkpoint_path": "x.pth"}}},
            "checkpoint_path: timm is given",
        ),
        ({"encoder": "mine", "weights": f"hub:x/y@{'0' * 40}", "own": _OWN}, "no encoder 'mine'"),
    ],
    ids=str,
)
def test_a_student_of_anybody_opens_no_socket_and_unpickles_nothing(
    student, tmp_path, make_slide, spoil_card, monkeypatch, settings, message
):
    """Whatever its card names: what is not here is not fetched, and timm is asked for nothing that it would load."""
    given = shutil.copy(student, tmp_path / "student.h5")
    own = read_card(given)
    spoil_card(given, embed_settings={**own.embed_settings, **settings}, encoder_weights="")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def forbidden(*_, **__):
        pytest.fail("a socket, or a pickle")

    for module, name in ((socket, "socket"), (socket, "create_connection"), (socket, "getaddrinfo"), (pickle, "load")):
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    slide = make_slide(tmp_path / "s" / "a.tiff", (1400, 1200))
    if not message:
        assert not predict_slides(tmp_path / "w", slide, given).summaries[-1].failed
        return
    with pytest.raises((SettingsError, WeightsError), match=message):
        predict_slides(tmp_path / "w", slide, given)


def test_a_student_of_tiles_that_another_tool_cut_takes_no_slides(student, tmp_path, spoil_card):
    given = shutil.copy(student, tmp_path / "student.h5")
    spoil_card(given, tile_settings={"tool": "TRIDENT", "tile_px": 224, "tile_mpp": 0.5, "overlap_px": 0})
    with pytest.raises(EncoderMismatchError, match=r"tiles that TRIDENT cut.*wsisurv import"):
        predict_slides(tmp_path / "w", tmp_path, given)


def test_the_network_that_found_the_tissue_finds_that_of_new_slides(run, student, scanned, tmp_path, spoil_card):
    """Known by its two files, which are asked for; its tissue is what new tiles are cut of."""
    model, given = tmp_path / "dark.safetensors", shutil.copy(student, tmp_path / "student.h5")
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1)
    state = network.state_dict()
    for name in ("low", "high"):  # all is tissue
        state[f"classifier.{name}_classifier.weight"] = torch.zeros_like(state[f"classifier.{name}_classifier.weight"])
        state[f"classifier.{name}_classifier.bias"] = torch.ones_like(state[f"classifier.{name}_classifier.bias"])
    save_file(state, model)
    spec = "mpp = 8.0\nside_px = 64\nmean = [0, 0, 0]\nstd = [1, 1, 1]\nchannels = 1\n"
    model.with_suffix(".toml").write_text(f'{spec}architecture = "lraspp_mobilenet_v3_large"\n')
    files = (model, model.with_suffix(".toml"))
    said = " ".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    settings = read_card(given).tile_settings
    where = ["-w", tmp_path / "w", "-o", tmp_path / "risk.csv"]
    asked = ["predict", scanned / "pink.tiff", "--student", given, *where]
    assert "student's training slides were tiled without" in run(*asked, "--tissue-model", model).err
    assert run(*asked).code == 0
    usual = max(len(read_tiles(path)[0].coords) for path in (tmp_path / "w").rglob("tiles/pink.h5"))
    spoil_card(given, tile_settings={**settings, "tissue_model": said})
    assert "Give it with --tissue-model FILE" in " ".join(run(*asked).err.split())
    ended = run(*asked, "--tissue-model", model)
    assert ended.code == 0, ended.err
    assert max(len(read_tiles(path)[0].coords) for path in (tmp_path / "w").rglob("tiles/pink.h5")) > usual
    assert "tissue_model" not in read_risks(tmp_path / "risk.csv")[0].warning, "made as in training"
    model.with_suffix(".toml").write_text(f"{model.with_suffix('.toml').read_text()}threshold = 0.9\n")
    assert "Give the files of the training" in " ".join(run(*asked, "--tissue-model", model).err.split())


def predict_slides(root, slide, given):
    return prepare_slides(Workspace(root), [slide], given, device="cpu")


def read_card(path):
    return read_scale(path).card
