"""`wsisurv embed` as a person meets it: several devices, what it refuses, what it says."""

import os
import re
import signal
import subprocess
import sys

import pytest

from wsisurv.formats.features import read_features
from wsisurv.workspace.paths import Workspace

SIGNALLED = """
from importlib import import_module
import os, signal, sys
from contextlib import contextmanager

@contextmanager
def progress_bar(title):
    def move(done, total, what):
        if what:
            {send}
    yield move

if __name__ == "__main__":
    from wsisurv.cli.app import main
    import_module("wsisurv.cli.embed").progress_bar = progress_bar
    sys.argv = ["wsisurv", *{words!r}]
    main()
"""
LIMITED = """
import resource, sys

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
    from wsisurv.cli.app import main
    sys.argv = ["wsisurv", *{words!r}]
    main()
"""


@pytest.fixture
def place(tmp_path, make_slide, run) -> Workspace:
    """Three tiled slides."""
    for name in "abc":
        make_slide(tmp_path / "slides" / f"{name}.tiff", (900, 700))
    assert run("tile", tmp_path / "slides", "-w", tmp_path / "ws").code == 0
    return Workspace(tmp_path / "ws")


def end(place: Workspace, send: str) -> tuple[int, str]:
    """Embed on two devices and send a signal after the first batch; gives the exit code and what was said."""
    words = ["embed", "-w", str(place.root), "--device", "cpu,cpu", "--batch-size", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", SIGNALLED.format(words=words, send=send)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        said = process.communicate()[1]  # ends when the last process that can write there has ended
        return process.returncode, said


def test_several_devices_and_a_slide_that_fails(run, place, tmp_path):
    torn = tmp_path / "slides" / "b.tiff"
    torn.write_bytes(torn.read_bytes()[:2000])
    ended = run("embed", "-w", place.root, "--device", "cpu,cpu", "--dtype", "float32", "--workers", "2")
    assert ended.code == 1
    assert "2 done, 1 failed" in ended.out
    assert "failed: b: " in ended.err
    features, _ = read_features(place.features("histomics", "a"))
    assert features.values.dtype == "float32"


def test_ctrl_c_on_a_terminal_which_is_sent_to_all_processes_ends_them(place):
    code, said = end(place, "os.killpg(0, signal.SIGINT)")
    assert code == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert list(place.root.rglob("*.partial")) == []


def test_processes_whose_parent_is_killed_end_and_the_same_command_goes_on(run, place):
    """One of them hangs in a slide that never opens, and ends all the same."""
    slide = place.root.parent / "slides" / "c.tiff"
    content = slide.read_bytes()
    slide.unlink()
    os.mkfifo(slide)
    code, said = end(place, "os.kill(os.getpid(), signal.SIGKILL)")
    assert code == -signal.SIGKILL, said
    slide.unlink()
    slide.write_bytes(content)
    ended = run("embed", "-w", place.root)
    assert ended.code == 0, ended.err
    assert {path.name for path in (place.root / "features").rglob("*") if path.is_file()} == {"a.h5", "b.h5", "c.h5"}


def test_what_stops_one_device_stops_the_run(run, place):
    """A full disk: the processes may write no file of more than a few kilobytes."""
    words = ["embed", "-w", str(place.root), "--device", "cpu,cpu"]
    program = LIMITED.format(words=words)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "no room to write" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(place.root.rglob("*.partial")) == []
    assert "3 done" in run(*words).out


def test_two_runs_share_the_slides_and_do_none_twice(place):
    words = [sys.executable, "-m", "wsisurv", "embed", "-w", str(place.root)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate() for process in both]
    codes = [3 if "being done by another process" in out else 0 for out, _ in said]
    assert [process.returncode for process in both] == codes, said
    assert 0 in codes  # whoever comes last leaves nothing to another
    assert sum(int(re.search(r"embed: (\d+) done", out)[1]) for out, _ in said) == 3


@pytest.mark.parametrize("words", ["many", "0", "-3"])
def test_a_batch_size_is_a_number_or_auto(run, place, words):
    ended = run("embed", "-w", place.root, "--batch-size", words)
    assert ended.code == 2
    assert "auto" in ended.err
    assert run("embed", "-w", place.root, "--batch-size", "auto").code == 0


def test_shards_share_the_slides(run, place, tmp_path):
    share = ("embed", "-w", place.root, "--shard")
    assert run(*share, "2/2", "--dry-run", "--plan", tmp_path / "plan.jsonl").code == 0
    assert '"slide_id": "b"' in (tmp_path / "plan.jsonl").read_text()
    assert len((tmp_path / "plan.jsonl").read_text().splitlines()) == 1
    for number, there in ((2, "b"), (4, "b"), (1, "abc")):
        assert run(*share, f"{number}/{4 if number == 4 else 2}").code == 0
        assert [path.stem for path in sorted((place.root / "features" / "histomics").glob("*.h5"))] == list(there)
    refused = run(*share, "3/2")
    assert refused.code == 2
    assert "3/2" in refused.err


def test_help_says_what_memory_it_takes(run):
    assert "Memory does not grow" in run("embed", "--help").out
