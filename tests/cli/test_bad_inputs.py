"""What can't be right is named, and nothing of it is written."""

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
