"""The options of `wsisurv tile` that decide which tiles there are."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from wsisurv.formats.tiles import read_tiles
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def slide(tmp_path, make_slide):
    return make_slide(tmp_path / "slides" / "A.tiff", np.full((1200, 1200, 3), (200, 120, 170), np.uint8))


def test_tiles_as_an_encoder_wants_them(run, place, slide):
    assert run("tile", slide, "--for", "uni2-h", "-w", place.root).code == 0
    tiles, _ = read_tiles(place.tiles("A"))
    assert (tiles.tile_px, tiles.tile_mpp) == (224, 0.5)
    for words, message in (
        (["--for", "uni2-h", "--tile-px", 256], "--tile-px"),
        (["--for", "no-such"], "no encoder 'no-such'"),
        (["--for", "histomics"], "--tile-px"),
    ):
        ended = run("tile", slide, *words, "-w", place.root)
        assert ended.code == 2
        assert message in ended.err


def test_overlap(run, place, slide):
    assert run("tile", slide, "--overlap", 112, "-w", place.root).code == 0
    assert len(read_tiles(place.tiles("A"))[0].coords) == 9 * 9
    ended = run("tile", slide, "--overlap", 224, "-w", place.root.parent / "other")
    assert ended.code == 2
    assert "no step" in ended.err


@pytest.mark.parametrize("method", ["otsu", "hsv"])
def test_tissue_by_name(run, place, slide, method):
    assert run("tile", slide, "--tissue", method, "-w", place.root).code == 0
    tiles, header = read_tiles(place.tiles("A"))
    assert header.settings["tissue"] == method
    assert len(tiles.coords) == 25


def test_a_method_that_is_not_there_is_named(run, place, slide):
    ended = run("tile", slide, "--tissue", "magic", "-w", place.root)
    assert ended.code == 2
    assert "magic" in ended.err
    assert "otsu" in ended.err


def test_resolution_by_table_or_objective(run, place, tmp_path, make_slide):
    slides = tmp_path / "in"
    for name in "AB":
        make_slide(slides / f"{name}.tiff", (1200, 1200), mpp=None)
    table = tmp_path / "mpp.csv"
    table.write_text("slide_id,mpp\nA,0.25\n")
    ended = run("tile", slides, "--mpp-table", table, "--mpp-from-objective", "-w", place.root)
    assert ended.code == 1
    assert "B" in ended.err
    assert place.tiled_slides() == ["A"]
    assert read_tiles(place.tiles("A"))[0].mpp_source == "the table given"


def test_shards_workers_and_no_preview(run, place, tmp_path, make_slide):
    slides = tmp_path / "in"
    for name in "ABCDE":
        make_slide(slides / f"{name}.tiff", (700, 700))
    assert run("tile", slides, "--shard", "2/2", "--no-preview", "-w", place.root).code == 0
    assert place.tiled_slides() == ["B", "D"]
    assert not place.preview("B").exists()
    assert not place.contact_sheet.exists()
    ended = run("tile", slides, "--workers", 3, "-w", place.root)
    assert ended.code == 0
    assert "5 done" in ended.out  # two of them got their preview alone
    assert place.contact_sheet.read_text().count("<figure") == 5
    shutil.rmtree(place.root)
    (slides / "broken.svs").write_bytes(b"no slide")
    assert run("tile", slides, "--shard", "1/3", "-w", place.root).code == 0
    assert run("tile", slides, "--shard", "3/3", "-w", place.root).code == 1
    assert not place.contact_sheet.exists()  # which the share that ends last writes
    assert run("tile", slides, "--shard", "2/3", "-w", place.root).code == 0
    assert place.contact_sheet.read_text().count("<figure") == 5
    for never in ("3/2", "0/2", "1/0", "2"):
        ended = run("tile", slides, "--shard", never, "-w", place.root)
        assert ended.code == 2
        assert f"'{never}'" in " ".join(ended.err.split())


@pytest.mark.parametrize("step", ["tile", "embed"])
def test_a_cluster_is_named_in_whole_and_is_there(run, place, tmp_path, make_slide, step):
    make_slide(tmp_path / "in" / "A.tiff", (700, 700))
    words = [step, *([tmp_path / "in"] if step == "tile" else []), "-w", place.root]
    for half in (["--engine", "dask"], ["--scheduler", "tcp://127.0.0.1:1"], ["--max-jobs", "2"]):
        assert run(*words, *half).code == 2
    pytest.importorskip("distributed")
    ended = run(*words, "--engine", "dask", "--scheduler", "tcp://10.0.0.1:8786")
    assert ended.code == 2
    assert "tls://" in ended.err
    assert place.tiled_slides() == []


def test_nothing_is_imported_that_tile_does_not_use(place, slide):
    program = (
        "import sys, wsisurv.cli.app as a\n"
        "try: a.main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
        "print(*sorted(name for name in sys.modules if name.count('.') == 1), file=sys.stderr)"
    )
    words = ["tile", str(slide), "-w", str(place.root), "--for", "uni2-h", "--measures"]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    *_, packages, parts = (set(line.split()) for line in done.stderr.splitlines())
    assert place.preview("A").exists()
    assert {"numpy", "scipy", "h5py", "openslide", "PIL"} <= packages
    unused = {"torch", "timm", "huggingface_hub", "safetensors", "skimage", "matplotlib"}
    assert not packages & (unused | {"pandas", "lifelines", "torchsurv", "ollama", "httpx"})
    rooms = {f"wsisurv.{name}" for name in ("reports", "survival", "models", "training", "prediction", "evaluation")}
    assert not parts & (rooms | {"wsisurv.demo", "scipy.stats", "scipy.optimize", "scipy.sparse", "scipy.spatial"})
