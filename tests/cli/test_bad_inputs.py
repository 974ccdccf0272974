"""What can't be right is named, and nothing of it is written."""

import re

import h5py
import numpy as np
import pytest
import timm
import torch

from wsisurv.workspace.paths import Workspace


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
def test_half_a_pyramid(run, make_slide, tmp_path, share):
    """A copy that was cut short: whole levels, or tiles of them, are not there."""
    path = make_slide(tmp_path / "slides" / "A.tiff", (1200, 1000))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    workspace = Workspace(tmp_path / "w")
    ended = run("tile", path, "-w", workspace.root)
    assert ended.code == 1
    assert "A.tiff" in ended.err
    assert workspace.tiled_slides() == []


def test_a_checkpoint_of_another_model(run, make_slide, tmp_path):
    workspace, weights = Workspace(tmp_path / "w"), tmp_path / "other.pth"
    make_slide(tmp_path / "slides" / "A.tiff", (900, 900))
    assert run("tile", tmp_path / "slides", "-w", workspace.root).code == 0
    torch.save(timm.create_model("test_vit", num_classes=0).state_dict(), weights)
    for encoder in ("lunit-s8", "timm:resnet18"):
        ended = run("embed", "--encoder", encoder, "--weights", weights, "--device", "cpu", "-w", workspace.root)
        assert ended.code == 1
        said = " ".join(ended.err.split())
        assert "other.pth: not the weights of this encoder" in said
        assert "missing" in said
    assert workspace.encoders() == []


def test_two_encoders_in_one_folder(run, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, width in (("A", 4), ("B", 6)):
        torch.save(torch.from_numpy(np.ones((3, width), np.float32)), folder / f"{name}.pt")
    ended = run("import", folder, "--encoder", "any", "--unknown-resolution", "-w", tmp_path / "w")
    assert ended.code == 1
    assert "A.pt and " in (said := " ".join(ended.err.split()))
    assert "B.pt differ in columns: 4 and 6" in said
    assert Workspace(tmp_path / "w").encoders() == []


def _trident(path, encoder):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        features = file.create_dataset("features", data=np.ones((3, 8), np.float32))
        features.attrs["encoder"] = encoder
        coords = file.create_dataset("coords", data=np.arange(6).reshape(3, 2))
        coords.attrs.update(patch_size=256, patch_size_level0=256, level0_magnification=20, target_magnification=20)


@pytest.mark.parametrize(
    ("files", "encoder", "words"),
    [
        ({"A": "uni_v1", "B": "conch_v15"}, "uni", "A.h5 and .*B.h5 differ in encoder: uni_v1 and conch_v15"),
        ({"A": "uni_v1"}, "virchow2", "A.h5: features of uni_v1, but --encoder says virchow2"),
        ({"A": "kaiko-vitb16"}, "kaiko-b8", "features of kaiko-vitb16, but --encoder says kaiko-b8"),
    ],
)
def test_features_of_another_encoder_than_is_said(run, tmp_path, files, encoder, words):
    for name, made_by in files.items():
        _trident(tmp_path / "theirs" / f"{name}.h5", made_by)
    asked = ["import", tmp_path / "theirs", "--tile-mpp", 0.5, "--unknown-resolution", "-w", tmp_path / "w"]
    ended = run(*asked, "--encoder", encoder)
    assert ended.code == 1
    assert re.search(words, " ".join(ended.err.split())), ended.err
    assert not list((tmp_path / "w").rglob("*.h5"))
    if encoder == "virchow2":
        assert run(*asked, "--encoder", "uni").code == 0
        assert run(*asked, "--encoder", "ours").code == 0


def test_a_job_root_with_two_settings(run, tmp_path):
    for settings in ("20x_256px_0px_overlap", "10x_256px_0px_overlap"):
        _trident(tmp_path / "job" / settings / "features_uni_v1" / "A.h5", "uni_v1")
    asked = ["--encoder", "uni", "--tile-mpp", 0.5, "--unknown-resolution", "-w", tmp_path / "w"]
    ended = run("import", tmp_path / "job", *asked)
    assert ended.code == 1
    said = " ".join(ended.err.split())
    assert "10x_256px_0px_overlap" in said
    assert "20x_256px_0px_overlap" in said
    assert "Name the folder" in said
    assert not (tmp_path / "w" / "features").exists()
