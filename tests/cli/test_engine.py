"""Commands on a Dask cluster of processes on this machine, and on copies of slides: the same files as without."""

import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from wsisurv.formats.risks import read_risks
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # what distributed warns of is its own


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> list[str]:
    """Options for two workers, a process each, of one thread."""
    folder = tmp_path_factory.mktemp("workers")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
    ) as cluster:
        yield ["--engine", "dask", "--scheduler", cluster.scheduler_address]


@pytest.fixture
def scanned(tmp_path, make_slide) -> Path:
    """Three slides, and a file that is none."""
    for name in "ABC":
        make_slide(tmp_path / "in" / f"{name}.tiff", (1000, 900), seed=ord(name))
    (tmp_path / "in" / "broken.svs").write_bytes(b"II*\0 no slide")
    return tmp_path / "in"


@pytest.fixture
def student(trained) -> Path:
    return trained / "workspace" / "cohorts" / "demo" / "student.h5"


def files(folder: Path, *endings: str) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not endings or path.suffix in endings}


def test_predict_and_heatmap_of_new_slides(run, cluster, student, scanned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # workers have another working folder
    table, made = tmp_path / "risk.csv", []
    for more in ([], [*cluster, "--stage", "scratch"]):
        predicted = run("predict", scanned.name, "--student", student, "-w", tmp_path / "w", "-o", table, *more)
        assert predicted.code == 1, predicted.err  # one of four is no slide
        assert "tile: 3 done" in predicted.out
        assert "embed: 3 done" in predicted.out
        (home,) = map(Workspace, (tmp_path / "w" / "predict").glob("*"))
        assert [failure.id for failure in read_failures(home, "tile")] == ["broken"]
        drawn = run("heatmap", "A", "C", "--student", student, "-w", "w", *more)
        assert drawn.code == 0, drawn.err
        assert "heatmap: 2 done" in drawn.out
        assert "heatmap: 0 done, 2 kept" in run("heatmap", "A", "C", "--student", student, "-w", "w", *more).out
        made.append((table.read_bytes(), files(tmp_path / "w" / "predict", ".h5", ".jpg", ".png", ".geojson", ".json")))
        shutil.rmtree(tmp_path / "w")
    assert made[0][0] == made[1][0]
    assert [name for name in made[0][1] | made[1][1] if made[0][1].get(name) != made[1][1].get(name)] == []
    assert {"heatmaps/C/heatmap.json", "heatmaps/A/tiles.jpg"} <= made[0][1].keys()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_second_run_of_predict_does_nothing_again(run, cluster, student, scanned, tmp_path):
    (scanned / "broken.svs").unlink()
    words = ["predict", scanned, "--student", student, "-w", tmp_path / "w", "-o", tmp_path / "risk.csv"]
    assert run(*words, *cluster).code == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*.h5")}
    again = run(*words, *cluster)
    assert (again.code, "tile: 0 done, 3 kept" in again.out, "embed: 0 done, 3 kept" in again.out) == (0, True, True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("*.h5")} == written


def test_evaluate_with_slides(run, cluster, trained, tmp_path):
    held_out, table = trained / "data" / "heldout", tmp_path / "w/cohorts/other/evaluation/external_risk.csv"
    words = ["evaluate", held_out / "slides", "--student", trained / "workspace/cohorts/demo/student.h5"]
    words += ["--cohort", "other", "--clinical", held_out / "clinical.csv", "--time", "days", "--resamples", "100"]
    words += ["--slide-map", held_out / "slide_map.csv", "-w", tmp_path / "w"]
    made = []
    for more in ([], [*cluster, "--stage", tmp_path / "scratch"]):
        ended = run(*words, *more)
        assert ended.code == 0, ended.err
        made.append((table.read_bytes(), files(tmp_path / "w" / "predict", ".h5")))
        shutil.rmtree(tmp_path / "w")
    assert made[0] == made[1]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_slides_at_a_url(run, student, scanned, tmp_path, make_slide, draw_tissue):
    (scanned / "broken.svs").unlink()
    pink = draw_tissue(1000, 900)
    brown = (pink[..., 1].astype(int) - pink[..., 2] < -10)[..., None]
    make_slide(scanned / "B.tiff", np.where(brown, np.array([176, 130, 90], np.uint8), pink))
    store = fsspec.filesystem("memory")
    for path in scanned.iterdir():
        store.pipe(f"/{tmp_path.name}/{path.name}", path.read_bytes())
    scratch, made = tmp_path / "scratch", []
    for source in (scanned, f"memory://{tmp_path.name}"):
        where = ["--student", student, "-w", tmp_path / "w"]
        predicted = run("predict", source, *where, "-o", tmp_path / "risk.csv", "--stage", scratch)
        assert predicted.code == 0, predicted.err
        drawn = run("heatmap", "A", *where, "--stage", scratch)
        assert drawn.code == 0, drawn.err
        pictures = files(tmp_path / "w/predict/heatmaps/A", ".png", ".jpg")
        made.append((read_risks(tmp_path / "risk.csv"), pictures))
        if source == scanned:
            shutil.rmtree(tmp_path / "w")
    assert ["immunohistochemistry" in risk.warning for risk in made[0][0]] == [False, True, False]  # of its pixels
    assert made[0] == made[1]
    assert list(scratch.iterdir()) == []
    bare = run("predict", f"memory://{tmp_path.name}", *where, "-o", tmp_path / "risk.csv")
    assert (bare.code, "--stage DIR" in bare.err) == (2, True)
    bare = run("heatmap", "B", *where)
    assert (bare.code, "--stage DIR" in " ".join(bare.err.split())) == (1, True)
    store.store.clear()


def test_what_cannot_be_is_named_before_any_work(run, student, scanned, tmp_path, monkeypatch):
    monkeypatch.setattr("wsisurv.engine.dask._WAIT_S", 1)
    where = ["-w", tmp_path / "w", "--student", student]
    gone = ["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"]
    here = ["-o", tmp_path / "risk.csv"]
    for words, code, said in (
        (["predict", scanned, *here, *gone], 1, "tcp://127.0.0.1:1: no Dask scheduler answers there"),
        (["evaluate", scanned, "--cohort", "x", *gone], 1, "no Dask scheduler answers there"),
        (["heatmap", "A", *gone], 1, "no Dask scheduler answers there"),
        (["predict", *here, *gone], 2, "--engine is for slides that are named"),
        (["predict", *here, "--stage", tmp_path / "scratch"], 2, "--stage is for slides that are named"),
        (["evaluate", "--stage", tmp_path / "scratch"], 2, "--stage is for slides that are named"),
        (["predict", scanned, "--engine", "dask"], 2, "--engine dask and --scheduler go together"),
        (["predict", scanned, "--min-jobs", "1"], 2, "--min-jobs and --max-jobs go with"),
    ):
        ended = run(*words, *where)
        assert (ended.code, said in " ".join(ended.err.split())) == (code, True), ended.err
    assert not (tmp_path / "w" / "predict").exists()
    assert not (tmp_path / "scratch").exists()
