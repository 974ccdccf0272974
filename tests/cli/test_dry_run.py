"""--dry-run says what the command then does, and writes nothing."""

import json
import re

import h5py
import pytest

from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import read_tiles
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "w")


@pytest.fixture
def slides(tmp_path, make_slide):
    for name in "AB":
        make_slide(tmp_path / "slides" / f"{name}.tiff", (700, 700))
    return tmp_path / "slides"


def figures(text):
    return tuple(map(int, re.search(r"(\d+) to do, (\d+) done, (\d+) would fail", text).groups()))


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_tile(run, place, slides, tmp_path, make_slide):
    words = ["tile", slides, "-w", place.root]
    before = files(tmp_path)
    planned = run(*words, "--dry-run")
    assert planned.code == 0, planned.err
    assert figures(planned.out) == (2, 0, 0)
    assert "at most 18 tiles" in planned.out
    assert files(tmp_path) == before
    assert run(*words).code == 0
    assert figures(run(*words, "--dry-run").out) == (0, 2, 0)
    stale = run(*words, "--tile-px", 128, "--dry-run")
    assert stale.code == 1
    assert "tile_px: 224 → 128" in stale.err
    assert run(*words, "--tile-px", 128, "--redo", "--dry-run").code == 0
    make_slide(slides / "C.tiff", (700, 700), mpp=None)
    failing = run(*words, "--dry-run")
    assert failing.code == 1
    assert figures(failing.out) == (0, 2, 1)
    assert "would fail: C" in failing.err
    assert figures(run(*words, "--slide-mpp", 0.5, "--redo", "--dry-run").out) == (3, 0, 0)
    assert figures(run(*words, "--shard", "3/3", "--dry-run").out) == (0, 0, 1)
    assert place.tiled_slides() == ["A", "B"]


def test_a_file_of_a_newer_wsisurv_would_fail(run, place, slides):
    assert run("tile", slides, "-w", place.root).code == 0
    assert run("embed", "-w", place.root).code == 0
    both = ((["tile", slides], place.tiles("A")), (["embed"], place.features("histomics", "B")))
    for failing, (words, path) in enumerate(both, start=1):
        with h5py.File(path, "r+") as file:
            file.attrs["format_version"] = 99
        for more in ([], ["--redo"]):
            planned = run(*words, "-w", place.root, "--dry-run", *more)
            assert planned.code == 1
            assert "in format version 99" in planned.err
            assert figures(planned.out)[2] == failing  # A can't be embedded either


def test_embed(run, place, slides):
    assert "wsisurv tile" in run("embed", "-w", place.root, "--dry-run").err
    assert run("tile", slides, "-w", place.root).code == 0
    tiles = sum(len(read_tiles(place.tiles(name))[0].coords) for name in "AB")
    before = files(place.root)
    planned = run("embed", "-w", place.root, "--dry-run")
    assert planned.code == 0, planned.err
    assert figures(planned.out) == (2, 0, 0)
    assert f"{tiles} tiles" in planned.out
    assert files(place.root) == before
    assert run("embed", "-w", place.root).code == 0
    assert figures(run("embed", "-w", place.root, "--dry-run").out) == (0, 2, 0)
    (slides / "B.tiff").unlink()
    place.features("histomics", "B").unlink()
    failing = run("embed", "-w", place.root, "--dry-run")
    assert failing.code == 1
    assert figures(failing.out) == (0, 1, 1)
    assert "B.tiff" in failing.err
    mismatch = run("embed", "--encoder", "prov-gigapath", "-w", place.root, "--dry-run")
    assert mismatch.code == 2
    assert "tile SLIDES… --for prov-gigapath`" in mismatch.err


def test_space_is_about_right(run, place, slides):
    assert run("tile", slides, "-w", place.root).code == 0
    said = run("embed", "-w", place.root, "--dry-run").out
    assert run("embed", "-w", place.root).code == 0
    features, _ = read_features(place.features("histomics", "A"))
    (kilobytes,) = re.findall(r"^A .* ([\d.]+) kB", said, re.M)
    n_bytes = place.features("histomics", "A").stat().st_size
    assert len(features.values)
    assert 0.5 < 1000 * float(kilobytes) / n_bytes < 2


def test_a_plan_is_machine_readable(run, place, slides, tmp_path, make_slide):
    make_slide(slides / "C.tiff", (700, 700), mpp=None)
    path = tmp_path / "plan.jsonl"
    assert run("tile", slides, "-w", place.root, "--plan", path).code == 1
    assert not place.root.exists()
    a, b, c = map(json.loads, path.read_text().splitlines())
    assert a == {
        "slide_id": "A", "path": str(slides / "A.tiff"), "state": "missing", "changes": [], "tiles": 9,
        "bytes": a["bytes"], "problem": "",
    }  # fmt: skip
    assert 0 < a["bytes"] == b["bytes"]
    assert (c["slide_id"], c["tiles"]) == ("C", None)
    assert "--slide-mpp" in c["problem"]
    assert run("tile", slides / "A.tiff", "-w", place.root).code == 0
    n_tiles = len(read_tiles(place.tiles("A"))[0].coords)
    assert run("embed", "-w", place.root, "--dry-run", "--plan", path).code == 0
    (line,) = map(json.loads, path.read_text().splitlines())
    assert (line["slide_id"], line["state"], line["tiles"], line["problem"]) == ("A", "missing", n_tiles, "")
