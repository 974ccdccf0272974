"""`wsisurv encoders` and the options of `embed` that choose one."""

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants  # by itself: it is there only once somebody asked for it
import pytest

from wsisurv.embedding.table import ENCODERS
from wsisurv.formats.features import read_features

EXAMPLE = Path(__file__).parents[2] / "docs" / "encoder-spec.toml"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_the_list_has_a_line_each(run):
    ended = run("encoders")
    assert ended.code == 0
    lines = {line.split()[0]: line for line in ended.out.splitlines()}
    assert set(lines) >= {"histomics", *ENCODERS}
    assert "not here" in lines["uni2-h"]
    assert "a token" in lines["uni2-h"]
    assert "CC BY-NC-ND" in lines["uni2-h"]
    assert "256 px 0.5" in lines["prov-gigapath"]
    assert "not here" not in lines["histomics"]


def test_the_list_for_programs_and_weights_that_are_here(run, cache):
    snapshot = cache / "models--majiabo--GPFM" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "GPFM.pth").write_bytes(b"weights")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    rows = {row["name"]: row for row in json.loads(run("encoders", "--json").out)}
    assert list(rows) == ["histomics", *ENCODERS]
    assert {name for name, row in rows.items() if row["weights_here"]} == {"histomics", "gpfm"}
    assert rows["virchow2"]["features"] == 2560
    assert rows["virchow2"]["paper"].startswith("arXiv:")
    assert run("encoders", "--check", "gpfm", "histomics").code == 0


def test_whether_a_company_may_use_it_is_said(run):
    """Facts as known in November 2026; whoever adds a row has to say."""
    rows = {row["name"]: row["commercial"] for row in json.loads(run("encoders", "--json").out)}
    assert [name for name, commercial in rows.items() if commercial == "yes"] == [
        *("histomics", "virchow", "h-optimus-0", "prost40m", "openmidnight", "midnight", "hibou-b", "hibou-l", "keep"),
        "crown",
    ]
    assert {name for name, commercial in rows.items() if commercial == "ask"} == {
        "gpfm",
        "genbio-pathfm",
        *(name for name in ENCODERS if name.startswith("kaiko")),
    }
    assert "conditions" in ENCODERS["prov-gigapath"].licence
    listed = [line.split()[0] for line in run("encoders", "--commercial").out.splitlines()[1:4]]
    assert listed == ["histomics", "virchow", "h-optimus-0"]
    assert list(rows) == ["histomics", *ENCODERS]


def test_virchow2_serves_a_range_of_resolutions():
    assert ENCODERS["virchow2"].mpp_range == (0.25, 2.0)
    assert ENCODERS["virchow"].mpp_range == (0.5, 0.5)


def test_check_ends_with_1_where_anything_is_missing(run):
    ended = run("encoders", "--check", "histomics", "uni", "gpfm")
    assert ended.code == 1
    ready, uni, gpfm = ended.out.splitlines()
    assert ready == "histomics: ready: it needs no weights"
    assert "HF_TOKEN" in uni
    assert "fetch pytorch_model.bin" in uni
    assert "fetch GPFM.pth" in gpfm
    seen = json.loads(run("encoders", "--check", "uni", "--json").out)
    assert (seen[0]["encoder"], seen[0]["ready"]) == ("uni", False)


def test_fetch_without_a_network_fails_with_the_ways_out(run):
    ended = run("encoders", "--fetch", "uni")
    assert ended.code == 1
    assert "HF_HUB_OFFLINE" in ended.out
    assert "--weights FILE" in ended.out


@pytest.mark.parametrize(
    ("words", "code"), [(["--check"], 2), (["--check", "--fetch", "uni"], 2), (["--check", "x"], 2), (["timm:x"], 2)]
)
def test_wrong_use_is_told(run, words, code):
    assert run("encoders", *words).code == code


def test_the_list_takes_no_torch():
    code = "import sys; from wsisurv.cli.encoders import _rows; _rows(None); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def place(tmp_path, make_slide, run) -> Path:
    make_slide(tmp_path / "slides" / "a.tiff", (900, 700))
    assert run("tile", tmp_path / "slides", "-w", tmp_path / "ws").code == 0
    return tmp_path / "ws"


def test_embed_with_the_example_of_an_own_model(run, place):
    ended = run("embed", "-w", place, "--encoder-spec", EXAMPLE, "--random-weights", "--device", "cpu")
    assert ended.code == 0, ended.err
    features, header = read_features(place / "features" / "my-vit-random" / "a.h5")
    assert features.values.shape[1] == 192
    assert header.settings["own"]["licence"]
    assert run("embed", "-w", place, "--encoder-spec", EXAMPLE, "--encoder", "uni").code == 2
    refused = run("embed", "-w", place, "--encoder-spec", EXAMPLE)
    assert refused.code == 2
    assert "needs --weights FILE" in refused.err


def test_embed_with_stains(run, place):
    ended = run("embed", "-w", place, "--stain", "macenko", "--augment-stain")
    assert ended.code == 0, ended.err
    assert "15 % weaker or stronger" in ended.out + ended.err
    features, header = read_features(place / "features" / "histomics-macenko" / "a.h5")
    assert header.settings["stain"]["method"] == "macenko"
    assert features.stain_spread is not None
    assert run("embed", "-w", place, "--stain-reference", place / "no.png").code == 2
