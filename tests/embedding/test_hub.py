"""The hub: what is here, what is missing and the ways out, and fetching; the hub itself is played."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants  # by itself: it is there only once somebody asked for it
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from wsisurv.embedding import hub
from wsisurv.embedding.hub import check_encoder, fetch_encoder, find_needs, find_weights, pin_weights
from wsisurv.embedding.plan import plan_embed
from wsisurv.embedding.step import resolve_settings
from wsisurv.embedding.table import ENCODERS
from wsisurv.errors import SettingsError, WeightsError
from wsisurv.formats.features import FORMAT as FEATURES
from wsisurv.formats.features import Features, Making, write_features
from wsisurv.formats.header import make_header, read_header
from wsisurv.formats.tiles import FORMAT as TILES
from wsisurv.settings.base import fingerprint
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

COMMIT = "0" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture
def open_hub(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A hub that gives everything to everybody; lists what it was asked."""
    asked: list[str] = []
    monkeypatch.setattr(hub.HfApi, "auth_check", lambda _, hub_id: asked.append(hub_id))
    newest = lambda _, hub_id, revision: SimpleNamespace(sha=revision or COMMIT)  # noqa: ARG005, E731
    monkeypatch.setattr(hub.HfApi, "model_info", newest)
    return asked


class Playing:
    """Plays ``hf_hub_download``: writes into the cache what the repository holds."""

    def __init__(self, cache: Path, *held: str) -> None:
        self.cache, self.held = cache, held
        self.fetched: list[str] = []

    def __call__(self, repo_id: str, filename: str, *, revision: str = COMMIT) -> str:
        if filename not in self.held:
            raise hub.EntryNotFoundError(f"no {filename}")
        path = self.cache / f"models--{repo_id.replace('/', '--')}" / "snapshots" / revision / filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
        self.fetched.append(filename)
        return str(path)


@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_missing_is_said_with_both_ways_out(cache: Path, name: str) -> None:
    """With HF_HUB_OFFLINE, through the hub's real client."""
    check = check_encoder(name)
    spec = ENCODERS[name]
    assert not check.ready
    assert "HF_HUB_OFFLINE" in check.message
    assert f"https://huggingface.co/{spec.hub_id}" in check.message
    assert f"fetch {spec.weights_file} from" in check.message
    assert "--weights FILE" in check.message
    assert ("set HF_TOKEN" in check.message) == (spec.access == "gated")
    assert list(cache.iterdir()) == []


def test_histomics_needs_nothing(cache: Path) -> None:
    assert check_encoder("histomics").ready
    assert fetch_encoder("histomics", fetch=Playing(cache)) == "needs no weights"


@pytest.mark.parametrize(
    ("name", "held", "fetched"),
    [
        ("uni2-h", ["config.json", "model.safetensors", "pytorch_model.bin"], ["model.safetensors"]),
        ("uni", ["config.json", "pytorch_model.bin"], ["pytorch_model.bin"]),
        ("kaiko-s16", ["config.json", "model.safetensors"], ["config.json", "model.safetensors"]),
        ("gpfm", ["GPFM.pth"], ["GPFM.pth"]),
        ("timm:resnet18", ["model.safetensors"], ["model.safetensors"]),
    ],
)
def test_what_is_fetched_is_ready_without_a_network(
    cache: Path, open_hub: list[str], name: str, held: list[str], fetched: list[str]
) -> None:
    check = check_encoder(name)
    assert not check.ready
    assert f"wsisurv encoders --fetch {name}" in check.message
    playing = Playing(cache, *held)
    assert fetched[-1] in fetch_encoder(name, fetch=playing)
    assert playing.fetched == fetched
    n_asked = len(open_hub)
    ready = check_encoder(name)
    assert ready.ready
    assert COMMIT in ready.message
    assert "already" in fetch_encoder(name, fetch=playing)
    assert playing.fetched == fetched
    assert len(open_hub) == n_asked


def test_weights_without_their_config_are_not_enough(cache: Path) -> None:
    Playing(cache, "model.safetensors")(ENCODERS["kaiko-s16"].hub_id, "model.safetensors")
    assert not check_encoder("kaiko-s16").ready


@pytest.mark.usefixtures("open_hub")
def test_a_repository_without_weights_and_a_network_that_breaks_are_explained(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"UNI2-h holds no model\.safetensors and no pytorch_model\.bin"):
        fetch_encoder("uni2-h", fetch=Playing(cache, "config.json"))

    def broken(*_: str, **__: str) -> str:
        raise LocalEntryNotFoundError("connection lost")

    with pytest.raises(WeightsError, match=r"connection lost.*HF_TOKEN.*--weights FILE"):
        fetch_encoder("uni2-h", fetch=broken)


def test_fetching_offline_fails_at_once_and_says_why(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"HF_HUB_OFFLINE.*--weights FILE"):
        fetch_encoder("uni", fetch=Playing(cache, "config.json"))


def test_an_encoder_that_is_none() -> None:
    with pytest.raises(SettingsError, match="no encoder 'unni'"):
        find_needs("unni")


def test_settings_are_pinned_by_the_commit_of_the_cache_or_else_of_the_hub(cache: Path, open_hub: list[str]) -> None:
    """And two commits in the cache are told apart: only the one that settings name will do."""
    settings = resolve_settings("uni2-h")
    assert (settings.weights, settings.hub_commit) == ("hub:MahmoodLab/UNI2-h", None)
    assert pin_weights(settings).hub_commit == COMMIT
    assert open_hub == ["MahmoodLab/UNI2-h"]
    Playing(cache, "model.safetensors")("MahmoodLab/UNI2-h", "model.safetensors", revision="1" * 40)
    pinned = pin_weights(settings)
    assert pinned.weights == f"hub:MahmoodLab/UNI2-h@{'1' * 40}"
    assert find_weights(pinned).weights.parent.name == "1" * 40
    assert len(open_hub) == 1
    other = resolve_settings("uni2-h", revision="2" * 40)
    assert pin_weights(other) == other
    with pytest.raises(WeightsError, match=rf"at commit {'2' * 40} are not here.*--fetch uni2-h --revision {'2' * 40}"):
        find_weights(other)
    assert pinned.folder == other.folder == "uni2-h"
    assert fingerprint(pinned, {}) != fingerprint(other, {})


@pytest.mark.usefixtures("cache")
def test_offline_nothing_is_pinned_by_guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.HfApi, "auth_check", lambda *_: pytest.fail("asked"))
    with pytest.raises(WeightsError, match="--fetch uni2-h"):
        pin_weights(resolve_settings("uni2-h"), offline=True)


@pytest.mark.parametrize(
    "weights", [f"hub:somebody/else@{COMMIT}", "hub:somebody/else", "imported", "package:x 1"], ids=str
)
@pytest.mark.usefixtures("cache", "open_hub")
def test_weights_that_are_not_the_encoders_own_are_refused(weights: str) -> None:
    settings = EmbedSettings(encoder="uni2-h", weights=weights)
    with pytest.raises(SettingsError, match="not its own|no weights of the hub"):
        find_weights(settings)


@pytest.mark.parametrize("arguments", [("uni2-h", "main"), ("histomics", COMMIT)])
def test_a_revision_is_a_commit_of_the_hubs(arguments: tuple[str, str]) -> None:
    with pytest.raises(SettingsError, match="--revision"):
        resolve_settings(arguments[0], revision=arguments[1])


@pytest.mark.usefixtures("open_hub")
def test_a_dry_run_plans_with_the_commit_of_the_cache(
    cache: Path, workspace: Workspace, add_slide: Callable[..., object]
) -> None:
    """And what was embedded with it is done; with another it is stale."""
    add_slide("a", tile_px=224)
    settings = resolve_settings("uni2-h")
    assert [one.condition.value for one in plan_embed(workspace, settings)] == ["missing"]
    Playing(cache, "model.safetensors")("MahmoodLab/UNI2-h", "model.safetensors")
    tiles = read_header(workspace.tiles("a"), TILES, "").fingerprint
    features = Features(SlideId("a"), np.zeros((1, 1536)), np.zeros((1, 2), np.int64), "uni2-h", (), {}, 0.5)
    header = make_header(FEATURES, pin_weights(settings), {"tiles": tiles})
    write_features(workspace.features("uni2-h", "a"), features, header)
    assert [one.condition.value for one in plan_embed(workspace, settings)] == ["done"]
    other = resolve_settings("uni2-h", revision="1" * 40)
    assert [one.condition.value for one in plan_embed(workspace, other)] == ["stale"]
    before = resolve_settings("uni2-h")  # features of before named the commit beside their settings alone
    made = replace(features, making=Making(weights=f"hub:MahmoodLab/UNI2-h@{COMMIT}"))
    write_features(workspace.features("uni2-h", "a"), made, make_header(FEATURES, before, {"tiles": tiles}))
    assert [one.condition.value for one in plan_embed(workspace, settings)] == ["done"]
