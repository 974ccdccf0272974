"""What holds on every command line: how much is told, colours, wrong usage, and a workspace that is not there."""

import os
import subprocess
import sys

import pytest

from wsisurv.cli.app import PANELS
from wsisurv.formats.commands import read_commands

COMMANDS = [name for names in PANELS.values() for name in names]
ON_A_WORKSPACE = {
    "embed": [],
    "train-teacher": [],
    "distill": [],
    "crossval": [],
    "ablate": ["--switch", "mixup=none"],
    "predict": [],
    "findings": [],
    "heatmap": ["X"],
    "report": [],
    "export": ["out", "--format", "clam"],
    "evaluate-reports": ["reports"],
}
"""Words of each command that needs a workspace which is there."""


@pytest.fixture
def place(tmp_path, make_slide, monkeypatch):
    """A folder with two slides."""
    for number in range(2):
        make_slide(tmp_path / "slides" / f"s{number}.tiff", (320, 256), levels=1, tile=64)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WSISURV_WORKSPACE", raising=False)
    return tmp_path


def test_quiet_and_verbose_stand_anywhere_and_are_no_part_of_what_was_done(run, place):
    words = ["tile", "slides", "--tile-px", 64, "-w", "work", "--redo"]
    usual, quiet = run(*words), run("--quiet", *words)
    verbose = run(*words, "--verbose")
    assert "tile: 1/2" in usual.err
    assert quiet.err == ""
    assert quiet.out == verbose.out
    assert "tile: 2/2" in verbose.err
    assert {" ".join(one.words) for one in read_commands(place / "work")} == {
        "wsisurv tile slides --tile-px 64 -w work --redo"
    }
    assert "tile: " in run(*words).err  # the next command is told as usual


def test_verbose_says_where_an_error_came_from_and_quiet_still_says_the_error(run, place):
    for words in (["embed"], ["embed", "--quiet"]):
        ended = run(*words, "-w", place / "work")
        assert ended.code == 1
        assert f"error: {place / 'work'}: no such workspace" in ended.err
        assert "Traceback" not in ended.err
    assert "Traceback" in run("embed", "--verbose", "-w", place / "work").err


@pytest.mark.parametrize("command", ON_A_WORKSPACE)
def test_a_workspace_that_is_not_there_is_named_as_such_and_not_made(run, place, command):
    (place / "workspaces").mkdir()
    (place / "reports").mkdir()
    (place / "reports" / "a.txt").write_text("Adenocarcinoma.")
    ended = run(command, *ON_A_WORKSPACE[command], "-w", "workspace")
    assert ended.code == 1
    err = " ".join(ended.err.split())
    assert "workspace: no such workspace; did you mean workspaces?" in err
    assert "WSISURV_WORKSPACE" in err
    assert not (place / "workspace").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_there_is_not_is_wrong_usage_on_every_command(run, command):
    ended = run(command, "--no-such-option")
    assert ended.code == 2
    assert "Usage" in ended.err


def test_no_color_takes_out_the_colours():
    program = "from wsisurv.cli.console import Terminal; Terminal(stderr=True).print('x', style='red')"
    seen = {}
    for name, more in {"plain": {"NO_COLOR": "1"}, "coloured": {}}.items():
        env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        words = [sys.executable, "-c", program]
        done = subprocess.run(words, env={**env, "FORCE_COLOR": "1", **more}, capture_output=True, check=True)
        seen[name] = done.stderr
    assert b"\x1b[31m" in seen["coloured"]
    assert b"\x1b[31m" not in seen["plain"]
