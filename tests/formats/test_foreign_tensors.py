"""Files of torch.save as CLAM and slide2vec write them, and such as nobody should."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from wsisurv.errors import FormatError
from wsisurv.formats.foreign import holds_features, outline, read_foreign_features

VALUES = torch.arange(15, dtype=torch.float32).reshape(5, 3)


def saved(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)
    return path


def slide2vec(root: Path, name: str = "S-1", n_places: int = 5) -> Path:
    """Names, keys and types as version 7.1.4 wrote them for a real slide; other keys left out."""
    (root / "tiles").mkdir(parents=True, exist_ok=True)
    path = saved(root / "tile_embeddings" / f"{name}.pt", VALUES)
    notes = {"artifact_type": "tile_embeddings", "encoder_name": "uni", "feature_dim": 3, "num_tiles": 5}
    notes |= {"requested_spacing_um": 0.5, "requested_tile_size_px": 224, "tile_size_lv0": 224}
    path.with_suffix(".meta.json").write_text(json.dumps(notes))
    x = np.arange(n_places) * 224
    np.savez(root / "tiles" / f"{name}.coordinates.npz", tile_index=x.astype(np.int32), x=x, y=x + 7)
    slide = {"slide": {"base_spacing_um": 0.499, "dimensions": [2220, 2967]}}
    (root / "tiles" / f"{name}.coordinates.meta.json").write_text(json.dumps(slide))
    return path


def test_a_tensor_is_rows_without_a_place(tmp_path):
    path = saved(tmp_path / "pt_files" / "S-1.pt", VALUES)
    read = read_foreign_features(path)
    assert holds_features(path)
    assert (read.layout, read.level, read.coords, read.encoder, read.tile_px) == ("torch", "tile", None, None, None)
    np.testing.assert_array_equal(read.values, VALUES)
    assert (outline(path).n_features, outline(path).dtype) == (3, "float32")
    batched = saved(tmp_path / "b.pt", VALUES.half()[None])
    assert read_foreign_features(batched).values.shape == (5, 3)
    assert outline(batched).dtype == "float16"


def test_tensors_by_name_may_have_coordinates(tmp_path):
    read = read_foreign_features(saved(tmp_path / "a.pt", {"features": VALUES, "coords": torch.ones(5, 2).long()}))
    np.testing.assert_array_equal(read.coords, np.ones((5, 2)))
    with pytest.raises(FormatError, match=r"a\.pt.*coords of shape"):
        read_foreign_features(saved(tmp_path / "a.pt", {"feats": VALUES, "coords": torch.ones(4, 2).long()}))
    with pytest.raises(FormatError, match=r"a\.pt: holds other, weights"):
        read_foreign_features(saved(tmp_path / "a.pt", {"weights": VALUES, "other": VALUES}))


def test_older_files_and_coarser_numbers_are_read(tmp_path):
    torch.save(VALUES, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(read_foreign_features(tmp_path / "old.pt").values, VALUES)
    assert read_foreign_features(saved(tmp_path / "bf16.pt", VALUES.bfloat16())).values.dtype == np.float32


def test_slide2vecs_notes_say_where_its_tiles_lie(tmp_path):
    read = read_foreign_features(slide2vec(tmp_path))
    assert (read.layout, read.encoder, read.tile_px, read.tile_mpp) == ("slide2vec", "uni", 224, 0.5)
    assert (read.mpp, read.tile_level0_px) == (0.499, 224)
    np.testing.assert_array_equal(read.coords, np.stack([np.arange(5) * 224, np.arange(5) * 224 + 7], 1))
    with pytest.raises(FormatError, match=r"coordinates\.npz.*5 tiles"):
        read_foreign_features(slide2vec(tmp_path / "b", n_places=4))


@pytest.mark.parametrize(("folder", "level"), [("slide_embeddings", "slide"), ("patient_embeddings", "patient")])
def test_slide2vecs_embeddings_are_one_row(tmp_path, folder, level):
    path = saved(tmp_path / folder / "S-1.pt", VALUES[0])
    path.with_suffix(".meta.json").write_text(json.dumps({"artifact_type": folder, "encoder_name": "prism"}))
    read = read_foreign_features(path)
    assert (read.level, read.encoder, read.values.shape, read.coords) == (level, "prism", (1, 3), None)
    path.with_suffix(".meta.json").write_text(json.dumps({"artifact_type": "hierarchical_embeddings"}))
    with pytest.raises(FormatError, match=r"S-1\.pt: 'hierarchical_embeddings'"):
        read_foreign_features(path)


class _Runs:
    """What a pickle would do on being opened: here, make a file."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return Path.touch, (self.made,)


@pytest.mark.parametrize("old", [False, True])
def test_nothing_in_a_file_is_run(tmp_path, old):
    path, made = tmp_path / "S-1.pt", tmp_path / "made"
    torch.save({"features": VALUES, "more": _Runs(made)}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(FormatError, match=r"S-1\.pt: torch can't read it as tensors alone.*never done"):
        read_foreign_features(path)
    assert not made.exists()
    torch.load(path, weights_only=False)  # the test would notice
    assert made.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (VALUES.long(), "type int64"),
        (VALUES > 3, "no real numbers"),
        (VALUES.to_sparse(), "no plain tensor"),
        (VALUES[0, 0], "of shape"),
        (VALUES[None].repeat(2, 1, 1), r"shape \(2, 5, 3\)"),
        (torch.ones(1).expand(100_000, 512), "larger than the file"),
        ([VALUES], "no plain tensor but list"),
        (VALUES.numpy(), "tensors alone"),
    ],
)
def test_what_can_be_no_features(tmp_path, value, words):
    with pytest.raises(FormatError, match=rf"S-1\.pt.*{words}"):
        read_foreign_features(saved(tmp_path / "S-1.pt", value))


def test_files_that_are_none_or_cut_short(tmp_path):
    path = saved(tmp_path / "S-1.pt", VALUES)
    content = path.read_bytes()
    for spoilt in (b"", b"text", content[:-200], content[:100]):
        path.write_bytes(spoilt)
        with pytest.raises(FormatError, match=r"S-1\.pt"):
            read_foreign_features(path)
    path.write_bytes(content)
    with zipfile.ZipFile(path) as parts, zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in parts.namelist():
            packed.writestr(name, parts.read(name))
    with pytest.raises(FormatError, match=r"packed\.pt: packed"):
        read_foreign_features(tmp_path / "packed.pt")
