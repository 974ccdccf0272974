"""Tiles of a slide as one row: FEATHER against a plain forward pass, and what takes the rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsisurv.bags.cases import made_with
from wsisurv.bags.checks import require_alike
from wsisurv.bags.feature_rows import describe_features
from wsisurv.embedding.pooling import pool
from wsisurv.embedding.slide_encoders import SLIDE_ENCODERS, require_slide_encoder
from wsisurv.errors import EncoderMismatchError, InputError, SettingsError, StaleError, WeightsError
from wsisurv.formats.features import FORMAT, Features, read_features, write_features
from wsisurv.formats.header import make_header
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

SIZES = {"A": 7, "B": 300}


def _put(
    workspace: Workspace,
    slide: str,
    values: Any,
    folder: str = "uni2-h",
    weights: str | None = None,
    **settings: object,
) -> None:
    coords = np.arange(2 * len(values), dtype=np.int64).reshape(-1, 2)
    sizes: dict[str, object] = {"tile_px": 224, "tile_mpp": 0.5, **settings}
    made = Features(SlideId(slide), values, coords, folder, (), sizes, 0.25)
    made_with = {"dtype": "float32", "encoder": folder, "weights": weights}
    header = make_header(FORMAT, made_with, {"tiles": str(values.sum())})
    write_features(workspace.features(folder, slide), made, header)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    found = Workspace(tmp_path / "w")
    rng = np.random.default_rng(0)
    for slide, n_tiles in SIZES.items():
        _put(found, slide, rng.normal(size=(n_tiles, 1536)).astype(np.float32))
    return found


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Tensors by the names of FEATHER's file, with the classifier that it was trained with."""
    random = torch.Generator().manual_seed(1)
    sizes = {
        "patch_embed.0": (512, 1536),
        "global_attn.attention_a.0": (384, 512),
        "global_attn.attention_b.0": (384, 512),
        "global_attn.attention_c": (1, 384),
        "classifier": (108, 512),
    }
    state = {}
    for name, size in sizes.items():
        state[f"model.{name}.weight"] = 0.1 * torch.randn(size, generator=random)
        state[f"model.{name}.bias"] = torch.randn(size[:1], generator=random)
    save_file(state, tmp_path / "feather.safetensors")
    return tmp_path / "feather.safetensors"


def test_feather_is_gated_attention_over_projected_tiles(workspace: Workspace, weights: Path) -> None:
    assert pool(workspace, "feather", "uni2-h", weights_file=weights).done == ["A", "B"]
    from safetensors.numpy import load_file

    state = {name.removeprefix("model."): value.astype(np.float64) for name, value in load_file(weights).items()}

    def linear(name: str, values: Any) -> Any:
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    for slide, n_tiles in SIZES.items():
        tiles = read_features(workspace.features("uni2-h", slide))[0].values.astype(np.float64)
        states = np.maximum(linear("patch_embed.0", tiles), 0)
        gate = np.tanh(linear("global_attn.attention_a.0", states))
        gate /= 1 + np.exp(-linear("global_attn.attention_b.0", states))
        scores = linear("global_attn.attention_c", gate)[:, 0]
        shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        found, _ = read_features(workspace.features("feather-uni2-h", slide))
        assert found.values.shape == (1, 512)
        assert len(tiles) == n_tiles
        np.testing.assert_allclose(found.values[0], shares @ states, rtol=1e-4, atol=1e-5)
        assert (found.encoder, found.tile_settings["row"]) == ("feather-uni2-h", "slide")
        assert found.tile_settings["tile_px"] == 224
        assert found.making.weights.startswith("sha256:")
        assert found.coords is None


def test_the_mean_is_the_mean_and_a_second_run_makes_nothing_anew(workspace: Workspace) -> None:
    pool(workspace, "mean", "uni2-h")
    again = pool(workspace, "mean", "uni2-h")
    assert (again.done, again.kept) == ([], ["A", "B"])
    tiles, found = (read_features(workspace.features(one, "B"))[0].values for one in ("uni2-h", "mean-uni2-h"))
    np.testing.assert_allclose(found[0], tiles.mean(axis=0), atol=1e-6)
    _put(workspace, "B", 1 + np.asarray(tiles))
    with pytest.raises(StaleError, match="features"):
        pool(workspace, "mean", "uni2-h")
    assert pool(workspace, "mean", "uni2-h", redo=True).done == ["B"]


def test_tiles_of_another_encoder_or_width_are_refused(workspace: Workspace, weights: Path) -> None:
    rng = np.random.default_rng(0)
    _put(workspace, "A", rng.normal(size=(5, 20)).astype(np.float32), folder="histomics")
    with pytest.raises(
        SettingsError, match=r"feather takes features of conch-v1\.5, uni2-h, uni.*20 columns of histomics"
    ):
        pool(workspace, "feather", "histomics", weights_file=weights)
    _put(workspace, "A", rng.normal(size=(5, 768)).astype(np.float32), folder="CONCH_v1_5")
    with pytest.raises(WeightsError, match=r"patch_embed\.0\.weight \(512, 1536\) instead of \(512, 768\)") as told:
        pool(workspace, "feather", "CONCH_v1_5", weights_file=weights)
    assert str(weights) in str(told.value)
    _put(workspace, "B", rng.normal(size=(5, 30)).astype(np.float32), folder="histomics")
    summary = pool(workspace, "mean", "histomics")
    assert [failure.error for failure in summary.failed] == [EncoderMismatchError.__name__]


def test_what_cannot_be_pooled_says_why(workspace: Workspace, weights: Path) -> None:
    with pytest.raises(WeightsError, match=r"huggingface\.co/MahmoodLab/abmil\.base\.uni_v2.*--weights FILE"):
        pool(workspace, "feather", "uni2-h")
    with pytest.raises(SettingsError, match="mean has no weights"):
        pool(workspace, "mean", "uni2-h", weights_file=weights)
    with pytest.raises(InputError, match=r"no features of virchow \(there are uni2-h\)"):
        pool(workspace, "mean", "virchow")
    pool(workspace, "mean", "uni2-h")
    summary = pool(workspace, "mean", "mean-uni2-h")
    assert "one row of the whole slide already" in summary.failed[0].message
    for name, row in SLIDE_ENCODERS.items():
        if row.elsewhere:
            with pytest.raises(
                SettingsError, match=rf"{name} is not computed here.*wsisurv import FOLDER --encoder {name}"
            ):
                require_slide_encoder(name, "uni2-h", 1536)
    with pytest.raises(SettingsError, match="feather"):
        require_slide_encoder("feathr", "uni2-h", 1536)


def test_a_row_says_of_which_features_it_was_made(workspace: Workspace) -> None:
    """Random weights of the tiles' encoder are told, other weights are told apart, and enlarged slides are known."""
    rows = {}
    for name, weights in (("A", "random"), ("B", "hub:MahmoodLab/UNI2-h")):
        values = read_features(workspace.features("uni2-h", name))[0].values
        _put(workspace, name, values, weights=weights, tile_mpp=0.125)
    pool(workspace, "mean", "uni2-h")
    for name in SIZES:
        file = describe_features(workspace.features("mean-uni2-h", name))
        rows[name] = made_with(file)
        assert read_features(file.path)[0].mpp == 0.25
    assert (rows["A"].random_weights, rows["B"].random_weights) == (True, False)
    with pytest.raises(SettingsError, match="random weights"):
        require_alike(rows, allow_random_weights=False)
    with pytest.raises(EncoderMismatchError, match="pooled tiles' weights: random and hub:MahmoodLab/UNI2-h"):
        require_alike(rows, allow_random_weights=True)


def test_a_slide_without_tiles_has_a_file_of_no_rows(workspace: Workspace, weights: Path) -> None:
    _put(workspace, "B", np.zeros((0, 1536), np.float32))
    pool(workspace, "feather", "uni2-h", weights_file=weights)
    assert read_features(workspace.features("feather-uni2-h", "B"))[0].values.shape == (0, 512)
