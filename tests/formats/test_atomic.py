import errno
import os
import subprocess
import sys

import pytest

from wsisurv.errors import FormatError, StorageError
from wsisurv.formats.atomic import append_jsonl, leftovers, read_jsonl, replacing, write_jsonl, write_text


def test_a_file_appears_whole_and_nothing_else_stays(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_text(path, "one\n")
    assert path.read_text() == "one\n"
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_while_writing_leaves_the_old_file_and_no_partial_one(tmp_path, error):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write_half():
        with replacing(path) as partial:
            partial.write_text("ne")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_partial_file_of_a_killed_run_is_taken_away_and_one_of_a_living_run_is_not(tmp_path):
    program = f"""
import os
from pathlib import Path
from wsisurv.formats.atomic import replacing
with replacing(Path({str(tmp_path)!r}) / "file.txt") as partial:
    partial.write_text("half of something")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    [left] = leftovers(tmp_path)
    with replacing(tmp_path / "other.txt") as partial:
        partial.write_text("of a run that lives")
        assert not left.exists()
        write_text(tmp_path / "file.txt", "whole")
        assert partial.exists()
        assert leftovers(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == ["file.txt", "other.txt"]


def test_two_that_write_one_file_at_once_each_write_their_own(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_the_error_of_tidying_up_does_not_hide_what_went_wrong(tmp_path, monkeypatch):
    def refuse(*_args, **_more):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(ValueError, match="the real one"), replacing(tmp_path / "file"):
        raise ValueError("the real one")


def test_names_that_are_no_text_survive_json(tmp_path):
    append_jsonl(tmp_path / "a.jsonl", {"name": "x\udcff"})
    write_jsonl(tmp_path / "b.jsonl", [{"name": "x\udcff"}])
    for name in ("a.jsonl", "b.jsonl"):
        assert read_jsonl(tmp_path / name) == [{"name": "x\udcff"}]


def test_a_full_disk_is_a_storage_error_that_names_the_file(tmp_path):
    """A limit on the size of files stands in for a full disk: both fail in the middle of a write."""
    program = f"""
import resource, numpy as np
from pathlib import Path
from wsisurv.errors import StorageError
from wsisurv.formats.atomic import write_text
from wsisurv.formats.header import create, make_header
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
folder = Path({str(tmp_path)!r})
def text(): write_text(folder / "big.txt", "x" * 1_000_000)
def hdf5():
    with create(folder / "big.h5", make_header("wsisurv/test", {{}}, {{}})) as file:
        file["values"] = np.random.default_rng(0).random(100_000)
for write in text, hdf5:
    try: write()
    except StorageError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 2
    assert "big.txt: no room to write" in lines[0]
    assert "big.h5: no room to write" in lines[1]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOTDIR])
def test_a_place_that_may_not_be_written_is_a_storage_error(tmp_path, number):
    with pytest.raises(StorageError, match="can't be written"), replacing(tmp_path / "file"):
        raise OSError(number, os.strerror(number))


def test_an_unfinished_last_line_is_passed_over_and_then_written_over(tmp_path):
    path = tmp_path / "records.jsonl"
    append_jsonl(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "te')
    assert read_jsonl(path) == [{"n": 1}]
    append_jsonl(path, {"n": 3})
    assert read_jsonl(path) == [{"n": 1}, {"n": 3}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text('{"n": 1}\nnonsense\n{"n": 3}\n')
    with pytest.raises(FormatError, match="line 2"):
        read_jsonl(path)
