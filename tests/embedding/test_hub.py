"""The hub: what is here, what is missing and the ways out, and fetching; the hub itself is played."""

from pathlib import Path

import huggingface_hub.constants  # by itself: it is there only once somebody asked for it
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from wsisurv.embedding import hub
from wsisurv.embedding.hub import check_encoder, fetch_encoder, find_needs
from wsisurv.embedding.table import ENCODERS
from wsisurv.errors import SettingsError, WeightsError


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
    return asked


class Playing:
    """Plays ``hf_hub_download``: writes into the cache what the repository holds."""

    def __init__(self, cache: Path, *held: str) -> None:
        self.cache, self.held = cache, held
        self.fetched: list[str] = []

    def __call__(self, hub_id: str, name: str) -> str:
        if name not in self.held:
            raise hub.EntryNotFoundError(f"no {name}")
        folder = self.cache / f"models--{hub_id.replace('/', '--')}"
        path = folder / "snapshots" / ("0" * 40) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text("0" * 40)
        self.fetched.append(name)
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
    assert fetch_encoder("histomics", Playing(cache)) == "needs no weights"


@pytest.mark.parametrize(
    ("name", "held", "fetched"),
    [
        ("uni2-h", ["config.json", "model.safetensors", "pytorch_model.bin"], ["config.json", "model.safetensors"]),
        ("uni", ["config.json", "pytorch_model.bin"], ["config.json", "pytorch_model.bin"]),
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
    assert fetched[-1] in fetch_encoder(name, playing)
    assert playing.fetched == fetched
    n_asked = len(open_hub)
    ready = check_encoder(name)
    assert ready.ready
    assert "0" * 40 in ready.message or name == "gpfm"
    assert "already" in fetch_encoder(name, playing)
    assert playing.fetched == fetched
    assert len(open_hub) == n_asked


def test_weights_without_their_config_are_not_enough(cache: Path) -> None:
    Playing(cache, "model.safetensors")("MahmoodLab/UNI2-h", "model.safetensors")
    assert not check_encoder("uni2-h").ready


@pytest.mark.usefixtures("open_hub")
def test_a_repository_without_weights_and_a_network_that_breaks_are_explained(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"UNI2-h holds no model\.safetensors and no pytorch_model\.bin"):
        fetch_encoder("uni2-h", Playing(cache, "config.json"))

    def broken(*_: str) -> str:
        raise LocalEntryNotFoundError("connection lost")

    with pytest.raises(WeightsError, match=r"connection lost.*HF_TOKEN.*--weights FILE"):
        fetch_encoder("uni2-h", broken)


def test_fetching_offline_fails_at_once_and_says_why(cache: Path) -> None:
    with pytest.raises(WeightsError, match=r"HF_HUB_OFFLINE.*--weights FILE"):
        fetch_encoder("uni", Playing(cache, "config.json"))


def test_an_encoder_that_is_none() -> None:
    with pytest.raises(SettingsError, match="no encoder 'unni'"):
        find_needs("unni")
