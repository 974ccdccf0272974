"""Slides on a Dask cluster of processes on this machine: the same files, and workers that die."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace

import pytest

from wsisurv.engine.dask import DaskPool, Witness, dask_pool, standing_witness, stop_if_unwanted
from wsisurv.engine.workers import Attempt, finished
from wsisurv.errors import BackendError, SettingsError, StorageError
from wsisurv.pipeline.status import status
from wsisurv.version import __version__
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # what distributed warns of is its own
_DEADLY = """
import os
import time
from pathlib import Path

def work(item):
    name, deaths = item
    with open(name, "a") as file:
        file.write("x")
    if Path(name).stat().st_size <= deaths:
        os.kill(os.getpid(), 9)
    return deaths

def full(place):
    from wsisurv.errors import StorageError
    raise StorageError(f"{place}: no room")

def never_ends(name):
    from wsisurv.engine.dask import stop_if_unwanted
    if name == "ends":
        raise ZeroDivisionError
    while True:
        time.sleep(0.1)
        stop_if_unwanted()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two workers, a process each, of one thread; ``deadly.work`` can be sent to them."""
    folder = tmp_path_factory.mktemp("deadly")
    (folder / "deadly.py").write_text(_DEADLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.syspath_prepend(folder)
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
        ) as cluster:
            yield cluster
    sys.modules.pop("deadly", None)


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(tmp_path / "w")


def test_tiles_and_features_are_those_of_this_machine(cluster, place, make_slide, tmp_path, monkeypatch):
    from wsisurv import embed, tile

    for name in "ABCDE":
        make_slide(tmp_path / "in" / f"{name}.tiff", (700, 700), seed=ord(name))
    (tmp_path / "in" / "broken.svs").write_bytes(b"II*\0 no slide")

    def made():
        return {path: path.read_bytes() for name in ("tiles", "features") for path in (place.root / name).rglob("*.h5")}

    tile(place, [tmp_path / "in"])
    embed(place)
    alone = made()
    assert len(alone) == 10
    shutil.rmtree(place.root)
    monkeypatch.chdir(tmp_path)  # workers have another working folder
    with dask_pool(cluster.scheduler_address, place) as pool:
        scratch = Path("scratch")
        tiled = tile(Workspace(Path("w")), [Path("in")], pool=pool, stage=scratch)
        assert (len(tiled.done), [failure.id for failure in tiled.failed]) == (5, ["broken"])
        assert sorted(embed(Workspace(Path("w")), pool=pool, stage=scratch).done) == list("ABCDE")
        assert list(scratch.iterdir()) == []
    assert made() == alone
    assert [failure.id for failure in read_failures(place, "tile")] == ["broken"]
    assert not list(place.root.rglob("*.partial"))


def test_a_slide_whose_worker_dies_is_done_elsewhere_and_at_the_fourth_death_is_a_failure(cluster, place, tmp_path):
    import deadly

    # three deaths in all: Dask also blames a call that waits on a worker which another call kills
    items = [(str(tmp_path / f"{number}"), deaths) for number, deaths in enumerate([0, 1, 2, 99, 0])]
    others = [item for item in items if item[1] != 99]
    with dask_pool(cluster.scheduler_address, place) as pool:
        came = dict(finished(Attempt(deadly.work), others, 1, pool=pool))
        came |= dict(finished(Attempt(deadly.work), [items[3]], 1, pool=pool))
    error = came.pop(items[3])
    assert came == {item: item[1] for item in items if item != items[3]}
    assert isinstance(error, BackendError)
    assert "3 others after it" in str(error)
    assert (tmp_path / "3").stat().st_size == 4


def test_what_stops_the_run_is_raised_and_those_under_way_are_waited_for(cluster, place):
    import deadly

    with dask_pool(cluster.scheduler_address, place) as pool, pytest.raises(ZeroDivisionError):
        list(finished((1).__truediv__, [1, 0, *range(1, 100)], 1, pool=pool))
    assert pool._pending == {}
    with dask_pool(cluster.scheduler_address, place) as pool:
        with pytest.raises(StorageError, match=rf"worker on {re.escape(socket.gethostname())}: /scratch: no room"):
            list(finished(Attempt(deadly.full), ["/scratch"], 1, pool=pool))


def test_what_takes_long_ends_when_nobody_waits_for_it_any_more(cluster, place):
    import deadly

    began = time.monotonic()
    with dask_pool(cluster.scheduler_address, place) as pool, pytest.raises(ZeroDivisionError):
        list(finished(deadly.never_ends, ["never", "ends"], 1, pool=pool))
    assert pool._pending == {}
    assert time.monotonic() - began < 10
    stop_if_unwanted()  # elsewhere it does nothing


def test_workers_that_cannot_do_it_are_named_before_any_work(cluster, place, monkeypatch):
    for address, error, said in (
        ("tcp://10.1.2.3:8786", SettingsError, "tls://"),
        ("tcp://[::1]:1", BackendError, "no Dask scheduler"),
        ("tcp://127.0.0.1:1", BackendError, "no Dask scheduler"),
        (str(place.root), BackendError, "neither an address"),
    ):
        monkeypatch.setattr("wsisurv.engine.dask._WAIT_S", 1)
        with pytest.raises(error, match=said), dask_pool(address, place):
            pass
    monkeypatch.setattr("wsisurv.engine.dask._WAIT_S", 20)
    monkeypatch.setattr("wsisurv.engine.dask.__version__", "0.0.1")
    with pytest.raises(BackendError, match=rf"tcp://.*has wsisurv {__version__}.*here is 0\.0\.1"):
        with dask_pool(cluster.scheduler_address, place):
            pass
    with pytest.raises(BackendError, match="does not see"):
        Witness("0.0.1", place.root / ".claims" / "x", "words")()


def test_a_slide_that_is_seen_here_and_not_by_a_worker_stops_the_run(cluster, place, tmp_path, monkeypatch):
    (tmp_path / "here.tiff").write_bytes(b"slide")
    monkeypatch.chdir(tmp_path)  # workers have another working folder
    here, gone = (SimpleNamespace(source=Path(name)) for name in ("here.tiff", "gone.tiff"))
    with dask_pool(cluster.scheduler_address, place) as pool:
        ((_, said),) = finished(Attempt(repr), [gone], 1, pool=pool)  # is for the step to tell
        assert "gone.tiff" in said
        with pytest.raises(BackendError, match=r"worker on .* can't read here\.tiff"):
            list(finished(Attempt(repr), [here], 1, pool=pool))


@pytest.mark.parametrize("of_a_step", [False, True])
def test_what_a_killed_client_left_is_told_and_goes_with_the_next_run(place, of_a_step):
    killed = f"""
import os
from pathlib import Path
from wsisurv.engine.dask import standing_witness
from wsisurv.workspace.paths import Workspace
with standing_witness(Workspace(Path({str(place.root)!r})), "words"):
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    (left,) = (place.root / ".claims").iterdir()
    assert status(place).leftovers == (str(left),)
    if of_a_step:
        with place.claim_settings("tile", {}):
            assert not left.exists()
    with standing_witness(place, "words") as witness:
        witness()
        assert [path for path in (place.root / ".claims").iterdir() if path.is_file()] == [witness.file]
        assert not status(place).leftovers


def test_a_worker_that_joins_later_is_asked_too(cluster, place):
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        pool = DaskPool(client, Witness(__version__, place.root / "none", "words"))
        with pytest.raises(BackendError, match="does not see"):
            list(finished(abs, [1], 1, pool=pool))


def test_workers_that_are_all_gone_for_long_end_the_run_and_nothing_is_waited_for(place, monkeypatch):
    class Empty:
        """A client whose scheduler has no worker, and never answers."""

        def nthreads(self):
            return {}

        def submit(self, *_given, **_named):
            return self

        def add_done_callback(self, _then):
            pass

    pool = DaskPool(Empty(), Witness(__version__, place.root / "none", "words"))
    assert pool.n_threads() == 0
    monkeypatch.setattr("wsisurv.engine.dask._GONE_S", 0.01)
    with pytest.raises(BackendError, match="no worker for 0.01 s"):
        list(finished(abs, range(3), 1, pool=pool))


@pytest.mark.parametrize("broken", [False, True])
def test_a_call_whose_result_died_with_its_worker_is_waited_for_again(place, broken):
    class Lost:
        """A client, and what it sent: done, and by the time that is told its worker has died with the result."""

        status = "lost"

        def submit(self, *_given, **_named):
            return self

        def add_done_callback(self, then):
            then(self)

        def result(self):
            if broken:
                raise CancelledError
            return 7

    ours = DaskPool(Lost(), Witness(__version__, place.root / "none", "words")).submit(abs, -7)
    if broken:
        with pytest.raises(BackendError, match="scheduler is gone"):
            ours.result()
    else:
        assert ours.result() == 7


def test_a_pool_is_free_for_the_next_step_as_soon_as_the_last_result_is_told(place):
    class Told:
        """A client, and a call that ends when ``then`` is called."""

        def submit(self, *_given, **_named):
            return self

        def add_done_callback(self, then):
            self.then = then

        def result(self):
            return 7

    client, seen = Told(), []
    pool = DaskPool(client, Witness(__version__, place.root / "none", "words"))
    ours = pool.submit(abs, -7)
    ours.add_done_callback(lambda _: seen.append(len(pool._pending)))
    client.then(client)
    assert (ours.result(), seen) == (7, [0])  # of one that is pending the witness would be taken away


def test_a_scheduler_that_is_killed_is_told_by_the_run_alone(tmp_path):
    client = f"""
import time
from distributed import Client
from wsisurv.engine.dask import be_quiet
be_quiet()
with Client(scheduler_file={str(tmp_path / "s.json")!r}, set_as_default=False) as client:
    print("there", flush=True)
    input()
    time.sleep(0.5)
"""
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*scheduler, "--no-dashboard", "--scheduler-file", tmp_path / "s.json"]) as killed:
        while not (tmp_path / "s.json").exists():
            time.sleep(0.1)
        with subprocess.Popen([sys.executable, "-c", client], text=True, **pipes) as running:
            assert running.stdout.readline() == "there\n"
            killed.kill()
            killed.wait()
            assert "Error" not in running.communicate("\n")[1]


def test_a_scheduler_without_workers(place, monkeypatch):
    monkeypatch.setattr("wsisurv.engine.dask._WAIT_S", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as empty:
        with pytest.raises(BackendError, match="has no worker"), dask_pool(empty.scheduler_address, place):
            pass
