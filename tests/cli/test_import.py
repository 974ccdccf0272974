"""``wsisurv import`` of bags as others have them: without places, and of one row."""

import json
import re
import shutil

import h5py
import numpy as np
import pytest
import simulation
import torch

from wsisurv.formats.features import read_features
from wsisurv.formats.risks import read_risks
from wsisurv.workspace.paths import Workspace

ROW = np.arange(6, dtype=np.float32) / 7


def trident(path, row, _):
    """A slide's embedding, and the coords of all tiles that it is of."""
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=row).attrs.update({"name": path.stem, "savetodir": "/x"})
        file.create_dataset("coords", data=np.zeros((40, 2), int)).attrs.update({"patch_size": 512, "overlap": 0})


def stamp(level):
    def make(path, row, encoder):
        with h5py.File(path, "w") as file:
            file["feats"] = row if level == "patient" else row[None]
            file.attrs.update({"version": "2.5.0", "encoder": encoder, "precision": "torch.float16"})
            file.attrs.update({"stamp_version": "2.5.0", "code_hash": "ab", "feat_type": level})

    return make


def atlaspatch_slide(path, row, encoder):
    """Beside the tiles and their features, in one file."""
    with h5py.File(path, "w") as file:
        file["coords"] = np.zeros((40, 5), np.int32)
        file["features/conch_v15"] = np.zeros((40, 9), np.float32)
        made = file.create_dataset(f"slide_features/{encoder}", data=row)
        made.attrs.update({"encoder_name": encoder, "source_patch_encoder": "conch_v15", "num_patches": 40})
        file.attrs.update({"patch_size": 512, "patch_size_level0": 512, "target_magnification": 20})


def atlaspatch_patient(path, row, encoder):
    with h5py.File(path, "w") as file:
        file["features"] = row
        file.attrs.update({"encoder_name": encoder, "num_slides": 2, "source_patch_encoder": "lunit"})


def moozy(path, row, _):
    with h5py.File(path, "w") as file:
        file["features"] = row
        file.create_dataset("coords", data=np.zeros(2, int)).attrs.update({"num_slides": 2, "patch_size": 224})


def tensor(path, row, _):
    torch.save(torch.from_numpy(row), path.with_suffix(".pt"))


MAKERS = [
    (trident, "slide"),
    (stamp("slide"), "slide"),
    (stamp("patient"), "patient"),
    (atlaspatch_slide, "slide"),
    (atlaspatch_patient, "patient"),
    (moozy, "patient"),
    (tensor, "slide"),
]


@pytest.fixture
def theirs(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("make", "row"), MAKERS)
def test_embeddings_are_bags_of_one_row(run, tmp_path, theirs, make, row):
    make(theirs / "S-1.h5", ROW, "titan")
    ended = run("import", theirs, "--encoder", "titan", "-w", tmp_path / "w")
    assert ended.code == 0, ended.err
    made, _ = read_features(Workspace(tmp_path / "w").features("titan", "S-1"))
    np.testing.assert_array_equal(made.values, ROW[None])
    assert (made.coords, made.mpp, made.tile_settings["row"]) == (None, None, row)
    out = tmp_path / "out"
    refused = run("export", out, "--format", "trident", "--encoder", "titan", "-w", tmp_path / "w")
    assert refused.code == 1
    assert f"slide S-1: what there is of titan is one row of the whole {row}" in " ".join(refused.err.split())


def named(encoder):
    return lambda folder, make: (make(folder / "S-1.h5", ROW, "titan"), make(folder / "S-2.h5", ROW, encoder))


@pytest.mark.parametrize(
    ("make", "spoil", "encoder", "words"),
    [
        (stamp("slide"), named("prism"), "titan", "S-1.h5 and .*S-2.h5 differ in encoder: titan and prism"),
        (stamp("slide"), named("titan"), "prism", "an embedding by titan, but --encoder says prism"),
        (atlaspatch_slide, named("titan"), "prism", "holds features of conch_v15, titan. Name one with --dataset"),
        (
            trident,
            lambda folder, make: (make(folder / "S-1.h5", ROW, ""), make(folder / "S-2.h5", ROW[:5], "")),
            "titan",
            "S-1.h5 and .*S-2.h5 differ in columns: 6 and 5",
        ),
        (
            tensor,
            lambda folder, _: (tensor(folder / "S-1", ROW, ""), tensor(folder / "S-2", np.stack([ROW, ROW]), "")),
            "any",
            "differ in a row of each: slide and tile",
        ),
        (tensor, lambda folder, _: tensor(folder / "S-1", np.stack([ROW, ROW]), ""), "titan", "encodes whole slides"),
        (
            tensor,
            lambda folder, _: tensor(folder / "S-1", ROW[None, None, None], ""),
            "any",
            r"of shape \(1, 1, 1, 6\)",
        ),
        (tensor, lambda folder, _: tensor(folder / "S-1", ROW * np.nan, ""), "any", "not finite; .*number 0 of row 0"),
    ],
)
def test_what_does_not_belong_together_is_named_and_nothing_is_written(
    run, tmp_path, theirs, make, spoil, encoder, words
):
    spoil(theirs, make)
    ended = run("import", theirs, "--encoder", encoder, "-w", tmp_path / "w")
    assert ended.code == 1
    assert [*(tmp_path / "w").rglob("features/**/*.h5")] == []
    said = " ".join((ended.err + ended.out).split())
    assert re.search(words, said), said


def test_rows_of_unknown_resolution_are_stored_on_request(run, tmp_path, theirs):
    with h5py.File(theirs / "S-1.h5", "w") as file:
        file["features"], file["coords"] = np.ones((3, 4), np.float32), np.arange(6).reshape(3, 2)
    words = ["import", theirs, "--encoder", "any", "-w", tmp_path / "w"]
    refused = run(*words)
    assert refused.code == 1
    assert "--unknown-resolution" in refused.err
    ended = run(*words, "--unknown-resolution")
    assert ended.code == 0, ended.err
    assert "S-1" in ended.out + ended.err
    assert "need a place" in " ".join((ended.out + ended.err).split())
    made, _ = read_features(Workspace(tmp_path / "w").features("any", "S-1"))
    np.testing.assert_array_equal(made.coords, np.arange(6).reshape(3, 2))
    assert (made.mpp, made.tile_settings) == (None, {"tool": "CLAM"})
    exported = run("export", tmp_path / "out", "--format", "clam", "--encoder", "any", "-w", tmp_path / "w")
    assert exported.code == 1
    assert "slide S-1: what there is of any came without resolution" in " ".join(exported.err.split())


@pytest.mark.parametrize("one_row", [False, True])
def test_all_that_needs_no_place_works_on_tensors_alone(run, tmp_path, theirs, one_row):
    """train-teacher, distill, crossval and predict; heatmap refuses by the slide's name."""
    ours = Workspace(tmp_path / "ours")
    data = simulation.simulate(simulation.make_world(0, 8, 12), 40, 0, tiles=(4, 8), effect=1.5)
    cohort = simulation.save(ours, data)
    slide_ids = ours.embedded_slides(ours.encoders()[0])
    for slide_id in slide_ids:
        values = torch.from_numpy(read_features(ours.features(ours.encoders()[0], slide_id))[0].values).float()
        torch.save(values.mean(0) if one_row else values, theirs / f"{slide_id}.pt")
    place = Workspace(tmp_path / "w")
    assert run("import", theirs, "--encoder", "any", "-w", place.root).code == 0
    shutil.copytree(ours.root / "reports", place.root / "reports")
    table = tmp_path / "clinical.csv"
    lines = [f"{one.case_id},{one.time},{int(one.event)},{one.site or ''}" for one in cohort.cases]
    table.write_text("\n".join(["case_id,time,event,site", *lines]) + "\n")
    options = ["-w", place.root, "--device", "cpu"]
    for words in (
        ["train-teacher", "--clinical", table, "--encoder", "any", "--hidden", 8, "--epochs", 2, "--repeats", 1]
        + ["--folds", 2, "--text-folds", 2, "--time", "time", "--event", "event", "--cohort", "trial"],
        ["distill", "--hidden", 8, "--epochs", 2, "--members", 2],
        ["crossval", "--folds", 2, "--repeats", 1, "--workers", 1, "--resamples", 100],
        ["predict", "--output", tmp_path / "risk.csv"],
    ):
        ended = run(*words, *options)
        assert ended.code == 0, ended.err
    assert len(read_risks(tmp_path / "risk.csv")) == 40
    metrics = json.loads((place.cohort("trial") / "evaluation" / "metrics.json").read_text())
    assert {"mean_pool", "plain", "distilled"} <= {row["model"] for row in metrics["models"]}
    drawn = run("heatmap", str(cohort.cases[0].case_id), "-w", place.root)
    assert drawn.code == 1
    said = "is one row of the whole slide" if one_row else "came without coordinates"
    assert said in " ".join((drawn.err + drawn.out).split())
    assert str(cohort.cases[0].slide_ids[0]) in drawn.err + drawn.out
