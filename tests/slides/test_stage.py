"""Slides that are copied to a disk of the machine before they are read."""

import errno
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_writer import write_level

import wsisurv
from wsisurv.errors import SlideError, StorageError
from wsisurv.slides import stage
from wsisurv.slides.find import slide_fingerprint
from wsisurv.slides.stage import Turns, UnwantedError, staged
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def scratch(tmp_path) -> Path:
    return tmp_path / "scratch" / "here"


def put(folder: Path, **files: bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", ".").replace("_in_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("slide", "others", "strangers"),
    [
        ("a.svs", [], ["b.svs"]),
        ("a.mrxs", ["a/Data0000.dat", "a/Slidedat.ini"], ["b.mrxs", "b/Data0000.dat"]),
        ("a.vsi", ["_a_/stack1/frame_t.ets"], ["_b_/stack1/frame_t.ets"]),
        ("a.vms", ["x.jpg", "x(1,0).jpg", "x.opt"], ["y.jpg"]),
    ],
)
def test_a_slide_is_copied_whole_and_goes_with_the_block(tmp_path, scratch, slide, others, strangers):
    for name in (slide, *others, *strangers):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 1000)
    if slide == "a.vms":
        (tmp_path / "in" / slide).write_text(
            "[Virtual Microscope Specimen]\nImageFile=x.jpg\nImageFile(1,0)=x(1,0).jpg\nOptimisationFile=x.opt\n"
            "MapFile=not-there.jpg\nMacroImage=../secret.jpg\n"
        )
        (tmp_path / "secret.jpg").write_bytes(b"")
    with staged(tmp_path / "in" / slide, scratch) as copy:
        assert copy.is_relative_to(scratch)
        seen = {str(path.relative_to(copy.parent)) for path in copy.parent.rglob("*") if path.is_file()}
        assert seen == {slide, *others}
        for name in seen:
            assert (copy.parent / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
        assert slide_fingerprint(copy) == slide_fingerprint(tmp_path / "in" / slide)
        assert copy.parent.stat().st_mode & 0o077 == 0
    assert list(scratch.iterdir()) == []


def test_errors_name_the_slide_and_not_its_copy(tmp_path, scratch):
    put(tmp_path, a__svs=b"a")
    with pytest.raises(SlideError, match=rf"^{tmp_path}/a.svs: no"), staged(tmp_path / "a.svs", scratch) as copy:
        raise SlideError(f"{copy}: no")
    with pytest.raises(SlideError, match=r"gone.svs: can't be read"), staged(tmp_path / "gone.svs", scratch):
        pass
    put(tmp_path, b__svs=b"a")
    with pytest.raises(StorageError, match=r"b\.svs/x.*another --stage"):
        with staged(tmp_path / "a.svs", tmp_path / "b.svs" / "x"):
            pass
    with pytest.raises(StorageError, match=r"/proc/x: can't be made here .*another --stage"):
        with staged(tmp_path / "a.svs", Path("/proc/x")):
            pass


def test_no_room_is_told_where_no_copy_may_go_and_else_waited_for(tmp_path, scratch, monkeypatch):
    put(tmp_path, a__svs=bytes(2000), b__svs=bytes(2000))
    free = 3000 + stage._SPARE

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=free - sum(file.stat().st_size for file in folder.rglob("*.svs")))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(stage, "_LOOK_S", 0.01)
    came = []

    def second() -> None:
        with staged(tmp_path / "b.svs", scratch):
            came.append("b")

    waits = threading.Thread(target=second)
    with staged(tmp_path / "a.svs", scratch):
        waits.start()
        time.sleep(0.2)
        with pytest.raises(UnwantedError), staged(tmp_path / "b.svs", scratch, unwanted=lambda: True):
            pass
        came.append("a")
    waits.join()
    assert came == ["a", "b"]
    free = 1000
    with pytest.raises(StorageError, match=r"no room for .*a\.svs.*another --stage, or leave it out: what is done"):
        with staged(tmp_path / "a.svs", scratch):
            pass
    assert list(scratch.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_looked_at_anew(tmp_path, scratch, monkeypatch):
    put(tmp_path, a__svs=b"a" * 100)
    full = iter([OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken")])
    opened = Path.open

    def refuses(path: Path, mode: str = "r", **how: object) -> object:
        if mode == "wb" and (error := next(full, None)):
            raise error
        return opened(path, mode, **how)  # type: ignore[call-overload]

    monkeypatch.setattr(stage, "_LOOK_S", 0.01)
    monkeypatch.setattr(Path, "open", refuses)
    with pytest.raises(StorageError, match=r"a\.svs can't be copied there \(broken\)"):
        with staged(tmp_path / "a.svs", scratch):
            pass
    with staged(tmp_path / "a.svs", scratch) as copy:
        assert copy.read_bytes() == b"a" * 100


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(tmp_path, scratch):
    put(tmp_path, a__svs=b"a")
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom wsisurv.slides.stage import staged\n"
        "with staged(Path(sys.argv[1]), Path(sys.argv[2])) as copy:\n    print(copy, flush=True)\n    time.sleep(60)\n"
    )
    words = [sys.executable, "-c", program, tmp_path / "a.svs", scratch]
    killed, living = (subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2))
    left, kept = (Path(process.stdout.readline().strip()) for process in (killed, living))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert left.exists()
    with staged(tmp_path / "a.svs", scratch):
        assert not left.parent.exists()
        assert kept.exists()
    living.terminate()
    living.wait()
    killed.stdout.close()
    living.stdout.close()


def test_so_many_are_read_at_a_time_and_others_copied_meanwhile(tmp_path, scratch):
    turns, reading, copied = Turns(1), [], []
    put(tmp_path, **{f"{n}__svs": b"a" for n in range(4)})

    def read(number: int) -> None:
        with staged(tmp_path / f"{number}.svs", scratch, turns=turns):
            reading.append(number)
            copied.append(len(list(scratch.iterdir())))
            time.sleep(0.1)
            assert reading == [number]
            reading.clear()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copied) == 4
    assert max(copied) > 1
    turns.ended.set()
    with pytest.raises(UnwantedError), staged(tmp_path / "0.svs", scratch, turns=turns):
        pass


@pytest.fixture
def made(tmp_path, make_slide, draw_tissue) -> Iterator[Path]:
    """Slides of one file and of several, one that is damaged and one without tissue."""
    folder = tmp_path / "in"
    for name in "AB":
        make_slide(folder / f"{name}.tiff", (700, 600), seed=ord(name))
    make_slide(folder / "empty.tiff", np.full((600, 700, 3), 243, np.uint8))
    image = np.asarray(draw_tissue(700, 600, seed=5))
    for number, step in enumerate((1, 4)):
        write_level(folder / "D" / f"{number}.dcm", image[::step, ::step], "1.2.5", 0.5 * step, first=step == 1)
    cut = (folder / "A.tiff").read_bytes()
    (folder / "cut.tiff").write_bytes(cut[: len(cut) // 2])
    return folder


def outcome(place: Workspace) -> dict[str, object]:
    files = {
        str(path.relative_to(place.root)): path.read_bytes()
        for name in ("tiles", "features", "preview", "geojson")
        for path in (place.root / name).rglob("*")
        if path.is_file()
    }
    told = {step: [(one.id, one.message) for one in read_failures(place, step)] for step in ("tile", "embed")}
    return {**files, **told}


@pytest.mark.parametrize("workers", [1, 3])
def test_tiles_and_features_are_those_of_slides_read_where_they_lie(made, scratch, tmp_path, workers):
    place, seen = Workspace(tmp_path / "w"), []
    for folder in (None, scratch):
        wsisurv.tile(place, [made], stage=folder, workers=workers)
        assert wsisurv.embed(place, stage=folder, workers=workers).done
        seen.append(outcome(place))
        shutil.rmtree(place.root)
    assert seen[0] == seen[1]
    assert seen[1]["tile"]
    assert len([name for name in seen[1] if name.startswith("features")]) == 4
    assert list(scratch.iterdir()) == []


def test_every_slide_is_read_from_its_copy(made, scratch, tmp_path, monkeypatch):
    from wsisurv.embedding.colours import find_stain_settings
    from wsisurv.slides import reader

    opened, open_handle = [], reader.open_handle
    monkeypatch.setattr(reader, "open_handle", lambda path: opened.append(path) or open_handle(path))
    place = Workspace(tmp_path / "w")
    wsisurv.tile(place, [made], stage=scratch)
    stain = find_stain_settings("macenko", None)
    done = wsisurv.embed(place, wsisurv.resolve_settings(stain=stain, augment_stain=True), stage=scratch)
    assert len(done.done) == 4
    assert len(opened) > 10
    assert [path for path in opened if not path.is_relative_to(scratch)] == []


def test_a_full_disk_stops_the_run_at_once_and_the_next_goes_on(made, scratch, tmp_path, monkeypatch):
    (made / "cut.tiff").unlink()
    place = Workspace(tmp_path / "w")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        for workers in (1, 3):
            with pytest.raises(StorageError, match="no room for"):
                wsisurv.tile(place, [made], stage=scratch, workers=workers)
        assert read_failures(place, "tile") == []
        wsisurv.tile(place, [made])
        with pytest.raises(StorageError, match="no room for"):
            wsisurv.embed(place, stage=scratch)
    assert read_failures(place, "embed") == []
    assert sorted(wsisurv.embed(place, stage=scratch).done) == ["A", "B", "D"]


def test_another_slide_in_place_of_the_one_that_was_tiled_is_refused(made, scratch, tmp_path):
    place = Workspace(tmp_path / "w")
    wsisurv.tile(place, [made / "A.tiff", made / "B.tiff"])
    shutil.copy(made / "empty.tiff", made / "A.tiff")
    failed = wsisurv.embed(place, stage=scratch).failed
    assert [one.id for one in failed] == ["A"]
    assert f"{made / 'A.tiff'}: another slide" in failed[0].message
    assert list(scratch.iterdir()) == []
