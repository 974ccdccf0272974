"""The campaign of faults: a few trials, in which the harness itself is tested; all of it by ``make faults``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("campaign.py")
NAIVE = """
import runpy, sys
from pathlib import Path
from wsisurv.cli import app

theirs = app.main

def main():
    if sys.argv[1] != "naive":
        theirs()
    elif not Path("done").exists():
        for path in sorted(Path("workspace/tiles").iterdir()):
            with open("sums.jsonl", "a") as file:
                file.write(f'{{"name": "{path.name}", "sum": {sum(path.read_bytes())}}}' + chr(10))
        Path("done").touch()

app.main = main
sys.argv = sys.argv[1:]
sys.path.insert(0, str(Path(sys.argv[0]).parent))
from world import COMMANDS, Command
tile = COMMANDS["tile"]
COMMANDS.clear()
COMMANDS.update(tile=tile, naive=Command(("naive",)))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A command that begins anew where it was killed, and believes every file."""


def campaign(*words: str, program: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, str(CAMPAIGN), "--jobs", "1", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_few_trials_find_nothing():
    done = campaign("--trials", "12", "--commands", "tile,embed,extract-report")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = done.stdout[done.stdout.index("\nall ") :].split()
    assert counts[6:] == ["12", "0", "0", "0", "0", "0", "0"]


def test_what_is_wrong_is_found():
    done = campaign("--trials", "24", "--commands", "naive", program=("-c", NAIVE))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "again: python tests/faults/campaign.py" in done.stdout
    total = done.stdout[done.stdout.index("\nall ") :].split()
    doubled, quiet = map(int, total[8:10])
    assert doubled > 0
    assert quiet > 0


@pytest.mark.campaign
def test_all_of_it():
    words = ("--trials", os.environ.get("N", "1000"), "--seed", os.environ.get("SEED", "0"))
    assert subprocess.run([sys.executable, str(CAMPAIGN), *words], check=False).returncode == 0
