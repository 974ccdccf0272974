import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv import embed, tile
from wsisurv.engine.jobs import Job, JobRun, run_jobs
from wsisurv.errors import BusyError, InputError, SlideError, StaleError, StorageError
from wsisurv.formats.header import create, make_header, read_header
from wsisurv.formats.tiles import read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.workspace import claims
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace


def make_jobs(workspace: Workspace, names: str, **settings: int) -> list[Job]:
    header = make_header("wsisurv/test", settings, {"slide": "x"})
    return [Job(name, Path(f"/in/{name}"), workspace.root / "out" / f"{name}.h5", header) for name in names]


def write(job: Job) -> None:
    with create(job.output, job.header) as file:
        file["values"] = np.arange(3)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def test_what_is_done_is_kept_and_what_is_missing_is_done(workspace):
    assert run_jobs(workspace, "test", make_jobs(workspace, "ab"), write).done == ["a", "b"]
    before = (workspace.root / "out" / "a.h5").stat().st_mtime_ns
    summary = run_jobs(workspace, "test", make_jobs(workspace, "abc"), write)
    assert (summary.kept, summary.done) == (["a", "b"], ["c"])
    assert (workspace.root / "out" / "a.h5").stat().st_mtime_ns == before


def test_one_failure_does_not_stop_the_others_and_is_in_the_ledger_until_mended(workspace):
    def write_all_but_b(job: Job) -> None:
        if job.id == "b":
            raise SlideError("b is broken")
        write(job)

    summary = run_jobs(workspace, "test", make_jobs(workspace, "abc"), write_all_but_b)
    assert summary.done == ["a", "c"]
    [failure] = read_failures(workspace, "test")
    assert (failure.id, failure.error, failure.message, failure.path) == ("b", "SlideError", "b is broken", "/in/b")
    run_jobs(workspace, "test", make_jobs(workspace, "abc"), write_all_but_b)
    assert len(read_failures(workspace, "test")) == 1
    assert run_jobs(workspace, "test", make_jobs(workspace, "abc"), write).done == ["b"]
    assert read_failures(workspace, "test") == []


def test_changed_settings_stop_before_any_work_and_are_named(workspace):
    run_jobs(workspace, "test", make_jobs(workspace, "b", size=224), write)
    with pytest.raises(StaleError, match="size: 224 → 256"):
        run_jobs(workspace, "test", make_jobs(workspace, "ab", size=256), write)
    assert not (workspace.root / "out" / "a.h5").exists()
    assert run_jobs(workspace, "test", make_jobs(workspace, "ab", size=256), write, redo=True).done == ["a", "b"]
    assert run_jobs(workspace, "test", make_jobs(workspace, "ab", size=256), write, redo=True).kept == ["a", "b"]


def test_files_of_an_older_wsisurv_are_stale_and_made_anew_on_redo(workspace):
    jobs = make_jobs(workspace, "a")
    run_jobs(workspace, "step", jobs, write)
    with h5py.File(jobs[0].output, "a") as file:
        file.attrs["format_version"] = 1
        file.attrs["settings"] = "{}"  # of variable length, as they were
    before = jobs[0].output.read_bytes()
    with pytest.raises(StaleError, match="made by an older wsisurv.*--redo"):
        run_jobs(workspace, "step", jobs, write)
    assert jobs[0].output.read_bytes() == before
    run_jobs(workspace, "step", jobs, write, redo=True)
    assert read_header(jobs[0].output, jobs[0].header.format, "step") == jobs[0].header


def test_a_changed_input_is_named(workspace):
    [job] = make_jobs(workspace, "a")
    run_jobs(workspace, "test", [job], write)
    other = Job(job.id, job.source, job.output, make_header("wsisurv/test", {}, {"slide": "y"}))
    with pytest.raises(StaleError, match="slide is not the one"):
        run_jobs(workspace, "test", [other], write)


def test_a_damaged_output_is_made_anew_and_said(workspace):
    [job] = make_jobs(workspace, "a")
    run_jobs(workspace, "test", [job], write)
    job.output.write_bytes(job.output.read_bytes()[:500])
    summary = run_jobs(workspace, "test", [job], write)
    assert summary.done == ["a"]
    assert "damaged" in summary.notes[0]
    assert read_header(job.output, "wsisurv/test", "test") == job.header


def test_no_room_stops_the_run(workspace):
    def no_room(_job: Job) -> None:
        raise StorageError("full")

    with pytest.raises(StorageError):
        run_jobs(workspace, "test", make_jobs(workspace, "ab"), no_room)


def test_a_bug_keeps_its_traceback(workspace):
    def bug(_job: Job) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_jobs(workspace, "test", make_jobs(workspace, "a"), bug)


HOLD = """
import sys
from pathlib import Path
from wsisurv.workspace.paths import Workspace
with Workspace(Path(sys.argv[1])).claim("test", "a") as claimed:
    print(claimed, flush=True)
    sys.stdin.read()
"""


def test_a_claim_of_a_living_process_holds_and_of_a_killed_one_does_not(workspace):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        summary = run_jobs(workspace, "test", make_jobs(workspace, "ab"), write)
        assert (summary.elsewhere, summary.done) == (["a"], ["b"])
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert run_jobs(workspace, "test", make_jobs(workspace, "ab"), write).done == ["a"]


SHARE = """
import sys, time
from pathlib import Path
from wsisurv.formats.header import create, make_header
from wsisurv.engine.jobs import Job, run_jobs
from wsisurv.workspace.paths import Workspace
workspace = Workspace(Path(sys.argv[1]))
header = make_header("wsisurv/test", {}, {})
def do(job):
    time.sleep(0.02)
    with open(workspace.root / "log", "a") as log:
        log.write(job.id + "\\n")
    with create(job.output, job.header) as file:
        file["values"] = [1]
jobs = [Job(str(n), Path("in"), workspace.root / "out" / f"{n}.h5", header) for n in range(30)]
run_jobs(workspace, "test", jobs, do)
"""


def test_two_processes_share_the_work_and_do_nothing_twice(workspace):
    workspace.root.mkdir()
    both = [subprocess.Popen([sys.executable, "-c", SHARE, str(workspace.root)]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    done = (workspace.root / "log").read_text().split()
    assert sorted(done, key=int) == [str(n) for n in range(30)]


def test_killed_at_any_moment_then_rerun_is_as_if_undisturbed(workspace, tmp_path):
    workspace.root.mkdir()
    for wait in (0.35, 0.45, 0.6):
        process = subprocess.Popen([sys.executable, "-c", SHARE, str(workspace.root)])
        time.sleep(wait)
        process.kill()
        process.wait()
    subprocess.run([sys.executable, "-c", SHARE, str(workspace.root)], check=True)
    other = tmp_path / "undisturbed"
    other.mkdir()
    subprocess.run([sys.executable, "-c", SHARE, str(other)], check=True)
    for n in range(30):
        assert (workspace.root / "out" / f"{n}.h5").read_bytes() == (other / "out" / f"{n}.h5").read_bytes()


def test_the_only_cohort_is_the_default(workspace):
    with pytest.raises(InputError, match="no such workspace"):
        workspace.the_cohort(None)
    workspace.root.mkdir()
    with pytest.raises(InputError, match="no cohort here yet"):
        workspace.the_cohort(None)
    for name in "crc", "brca":
        workspace.cohort(name).mkdir(parents=True)
    (workspace.cohort("crc") / "cohort.csv").touch()
    assert workspace.the_cohort(None) == "crc"
    (workspace.cohort("brca") / "cohort.csv").touch()
    with pytest.raises(InputError, match="brca, crc"):
        workspace.the_cohort(None)
    with pytest.raises(InputError, match="no cohort 'luad'"):
        workspace.the_cohort("luad")


def test_a_cohort_on_which_a_student_was_judged_is_not_meant_where_none_is_named(workspace):
    for name in "crc", "other":
        workspace.cohort(name).mkdir(parents=True)
        (workspace.cohort(name) / "cohort.csv").touch()
    for file in "guidance.h5", "student.h5":
        (workspace.cohort("crc") / file).touch()
    assert workspace.the_cohort(None, having="student.h5") == "crc"  # evaluate was broken off before its record
    (workspace.cohort("other") / "evaluation").mkdir()
    (workspace.cohort("other") / "evaluation" / "external.json").touch()
    assert workspace.the_cohort(None) == workspace.the_cohort(None, having="student.h5") == "crc"
    assert workspace.the_cohort("other") == "other"
    for file in "guidance.h5", "student.h5":
        (workspace.cohort("other") / file).touch()
    with pytest.raises(InputError, match="crc, other"):
        workspace.the_cohort(None, having="student.h5")


def test_several_jobs_in_hand_at_once_are_claimed_here_and_ended_in_another_thread(workspace):
    jobs = make_jobs(workspace, "abc")
    with JobRun(workspace, "test", jobs) as run, ThreadPoolExecutor(1) as thread:
        assert [run.claim(job) for job in jobs[:2]] == [True, True]
        assert run_jobs(workspace, "test", jobs, write).elsewhere == ["a", "b"]
        thread.submit(write, jobs[1]).result()
        thread.submit(run.finish, jobs[1], "b: a note").result()
        thread.submit(run.fail, jobs[0], SlideError("a is broken")).result()
        assert not run.claim(jobs[2])
    summary = run.summary()
    assert (summary.done, summary.kept, summary.notes) == (["b"], ["c"], ["b: a note"])
    assert [failure.id for failure in summary.failed] == ["a"]
    assert run_jobs(workspace, "test", jobs, write).done == ["a"]


def test_a_run_that_is_broken_off_lets_go_of_what_it_claimed(workspace):
    jobs = make_jobs(workspace, "a")

    def break_off() -> None:
        with JobRun(workspace, "test", jobs) as run:
            assert run.claim(jobs[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert run_jobs(workspace, "test", jobs, write).done == ["a"]


def test_a_newer_file_is_a_failure_of_its_item_and_stays_also_with_redo(workspace):
    jobs = make_jobs(workspace, "ab")
    write(jobs[0])
    with h5py.File(jobs[0].output, "a") as file:
        file.attrs["format_version"] = 99
    before = jobs[0].output.read_bytes()
    for redo in (False, True):
        summary = run_jobs(workspace, "test", jobs, write, redo=redo)
        assert [failure.error for failure in summary.failed] == ["NewerFormatError"]
        assert "made by wsisurv" in summary.failed[0].message
        assert summary.done or summary.kept == ["b"]
    assert jobs[0].output.read_bytes() == before


RUN = """
import sys, time
from pathlib import Path
from wsisurv.workspace.paths import Workspace
with Workspace(Path(sys.argv[1])).claim_settings("tile", {"tile_px": 224}):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("locks", [True, False])
def test_a_second_run_with_other_settings_is_told_which_at_once(workspace, locks, monkeypatch):
    program = RUN if locks else f"import errno, fcntl\n{NO_FLOCK}{RUN}"
    if not locks:
        monkeypatch.setattr("fcntl.flock", no_flock)
    holder = subprocess.Popen([sys.executable, "-c", program, str(workspace.root)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with workspace.claim_settings("tile", {"tile_px": 224}), workspace.claim_settings("embed/x", {"tile_px": 512}):
            pass
        with pytest.raises(BusyError, match="tile_px: 224 → 512"), workspace.claim_settings("tile", {"tile_px": 512}):
            pass
        holder.kill()
        holder.wait()
    with workspace.claim_settings("tile", {"tile_px": 512}):
        pass
    left = [path.name for path in (workspace.root / ".claims" / "tile.settings").iterdir()]
    assert set(left) <= {"door.lock"}


def test_work_that_can_not_be_shared_says_who_is_at_it_and_with_what(workspace):
    with workspace.claim_alone("distill", "crc", "distilling cohort crc", {"epochs": 5}):
        with (
            pytest.raises(
                BusyError, match=rf"distilling cohort crc \(.*process {os.getpid()}\) .*epochs: 5 → 6"
            ) as caught,
            workspace.claim_alone("distill", "crc", "distilling cohort crc", {"epochs": 6}),
        ):
            pass
        assert caught.value.exit_code == 3


def no_flock(*_args):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


NO_FLOCK = """
def refuse(*_args):
    raise OSError(errno.EOPNOTSUPP, "not supported")
fcntl.flock = refuse
"""


@pytest.mark.parametrize(
    ("kind", "options", "local"),
    [
        ("nfs", "rw,relatime,vers=3,local_lock=none", False),
        ("nfs", "rw,vers=3,nolock,local_lock=all", True),
        ("lustre", "rw,localflock", True),
        ("lustre", "rw,flock", False),
        ("ext4", "rw,nolock", False),
    ],
)
def test_locks_of_one_machine_alone_are_told_by_the_mount_and_not_relied_on(
    tmp_path, monkeypatch, kind, options, local
):
    place = tmp_path / "a b"
    place.mkdir()
    where = str(place.resolve()).replace(" ", r"\040")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"x / ext4 rw 0 0\nserver:/x {where} {kind} {options} 0 0\ny {where}er nfs nolock 0 0\n")
    monkeypatch.setattr(claims, "_MOUNTS", mounts)
    monkeypatch.setattr(claims, "_without_locks", set())
    workspace = Workspace(place / "w")
    with workspace.claim("test", "a") as mine, workspace.claim("test", "a") as again:
        assert (mine, again) == (True, False)
        assert bool(list(workspace.root.rglob("*.held"))) == local
    assert claims.has_locks(workspace.root / ".claims") != local


def test_without_locks_claims_hold_end_with_their_process_and_are_told_once(workspace, monkeypatch):
    monkeypatch.setattr(claims, "_without_locks", set())
    monkeypatch.setattr(claims, "_told", False)
    monkeypatch.setattr("fcntl.flock", no_flock)
    with (
        workspace.claim("test", "a") as mine,
        workspace.claim("test", "a") as again,
        workspace.claim("test", "b") as other,
    ):
        assert (mine, again, other) == (True, False, True)
    with workspace.claim("test", "a") as free:
        assert free
    note = claims.note_of_no_locks()
    assert note is not None
    assert "has no locks" in note
    assert claims.note_of_no_locks() is None

    program = f"import errno, fcntl\n{NO_FLOCK}{HOLD}"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(workspace.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with workspace.claim("test", "a") as held:
            assert not held
        holder.kill()
        holder.wait()
    with workspace.claim("test", "a") as free:
        assert free


def test_without_locks_a_process_of_another_machine_is_known_by_its_silence(workspace, monkeypatch):
    monkeypatch.setattr("fcntl.flock", no_flock)
    held = workspace.root / ".claims" / "test" / "a.held"
    held.parent.mkdir(parents=True)
    held.write_text("00000000-1")
    with workspace.claim("test", "a") as claimed:
        assert not claimed
    os.utime(held, (time.time() - 1000, time.time() - 1000))
    with workspace.claim("test", "a") as claimed:
        assert claimed


def test_a_name_longer_than_a_file_can_have_is_claimed(workspace):
    with workspace.claim("test", "x" * 300) as one, workspace.claim("test", "x" * 301) as two:
        assert one
        assert two


NAMES = [
    "..",
    "../up",
    "a/b",
    "/etc",
    "a\\b",
    ".hidden",
    "",
    "  ",
    "a\nb",
    "a\x1b[31mb",
    "a\u202eb",
    "a\udcffb",
    "x" * 241,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_leads_elsewhere_or_cannot_be_shown_names_no_folder(workspace, name):
    """Of the command line, or from within a file: a card's encoder, an audit's cohort."""
    of_cohort = [workspace.cohort] if name != "a/b" else []  # an endpoint of a cohort
    for ask in (*of_cohort, workspace.embedded_slides, lambda one: workspace.features(one, "a")):
        with pytest.raises(InputError, match="Choose another") as caught:
            ask(name)
        assert str(caught.value).isprintable()
    for ask in (workspace.tiles, workspace.preview, workspace.outlines, lambda one: workspace.features("a", one)):
        if "/" in name or name.startswith("."):
            with pytest.raises(InputError):
                ask(name)


@pytest.mark.parametrize("name", ["a/..", "a/../b", "a//b", "a/.b", "a/b/../..", "a/b\nc", "a/"])
def test_no_part_of_the_name_of_an_endpoint_leads_elsewhere(workspace, name):
    with pytest.raises(InputError, match="Choose another"):
        workspace.cohort(name)


def test_folders_of_endpoints_and_folds_are_in_that_of_the_cohort(workspace):
    assert workspace.cohort("a/b") == workspace.cohort("a") / "b"
    assert workspace.cohort("a/crossval/1-2") == workspace.cohort("a") / "crossval" / "1-2"


@pytest.mark.parametrize("name", ["crc", "TCGA COAD 2", "a..b", "Köln", "a[bold]b", "=1+1"])
def test_a_name_that_is_only_odd_is_one(workspace, name):
    assert workspace.cohort(name).parent == workspace.root / "cohorts"
    assert workspace.features(name, name).parent.parent == workspace.root / "features"


def test_the_index_opens_no_file_twice_and_never_hides_a_change(tmp_path, make_slide, monkeypatch):
    place = Workspace(tmp_path / "w")
    for name in "AB":
        make_slide(tmp_path / "in" / f"{name}.tiff", (700, 700))
    tile(place, [tmp_path / "in"])
    embed(place)
    opened = []
    real = h5py.File
    monkeypatch.setattr(h5py, "File", lambda path, *given, **named: opened.append(path) or real(path, *given, **named))
    assert tile(place, [tmp_path / "in"]).kept == ["A", "B"]
    assert embed(place).kept == ["A", "B"]
    opened.clear()
    assert tile(place, [tmp_path / "in"]).kept == ["A", "B"]
    assert embed(place).kept == ["A", "B"]
    assert opened == []
    with pytest.raises(StaleError, match="tile_px"):
        tile(place, [tmp_path / "in"], TileSettings(tile_px=128))
    place.features("histomics", "B").write_bytes(b"no HDF5")
    assert embed(place).done == ["B"]
    (tmp_path / "in" / "A.tiff").rename(tmp_path / "A.tiff")
    tile(place, [tmp_path / "A.tiff"])
    assert read_tiles(place.tiles("A"))[0].slide_path == tmp_path / "A.tiff"
    assert embed(place).kept == ["A", "B"]
    index = place.root / ".index.sqlite"
    whole = index.read_bytes()
    where = whole.rindex(str(tmp_path / "A.tiff").encode())
    index.write_bytes(whole[:where] + b"?" + whole[where + 1 :])  # a place of a slide that never was
    assert embed(place).kept == ["A", "B"]
    index.write_bytes(b"no database")
    assert tile(place, [tmp_path / "A.tiff"]).kept == ["A"]
