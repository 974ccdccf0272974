"""The command line as a person meets it, and one small synthetic cohort for all tests that need slides."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from wsisurv.cli.app import main
from wsisurv.demo.run import draw

CASES = 30


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    """``run("tile", folder)`` runs the command line in this process."""

    def run_here(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["wsisurv", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        seen = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else int(bool(code)), seen.out, seen.err)

    return run_here


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all workers of a parallel test run share."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def drawn(shared) -> Path:
    """The drawn synthetic cohort, made once in a test run: FOLDER/data."""
    folder = shared / "drawn"
    with FileLock(str(folder) + ".lock"):
        draw(folder, cases=CASES, seed=0, workers=2, progress=lambda *_: None)
    return folder


@pytest.fixture
def folder(drawn, tmp_path) -> Path:
    """A copy of the drawn cohort to work in (linked, not copied byte by byte)."""
    place = tmp_path / "demo"
    shutil.copytree(drawn, place, copy_function=os.link)
    return place


@pytest.fixture(scope="session")
def lend_slides() -> Callable[..., None]:
    """``lend_slides(trained, workspace)`` links the tiles and features of training slides that the workspace lacks.

    With ``"predict"`` those of held-out slides too.
    """

    def lend(place: Path, workspace: Path, *more: str) -> None:
        made = place / "workspace"
        for path in (path for name in ("tiles", "preview", "features", *more) for path in (made / name).rglob("*.*")):
            there = workspace / path.relative_to(made)
            if path.is_file() and ".claims" not in path.parts and not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                os.link(path, there)

    return lend


@pytest.fixture(scope="session")
def trained(shared, drawn) -> Path:
    """The drawn cohort through all six steps, made once in a test run; not to be changed."""
    place = shared / "trained"
    with FileLock(str(place) + ".lock"):
        if not (place / "done").exists():
            shutil.copytree(drawn, place, copy_function=os.link)
            command = [sys.executable, "-m", "wsisurv", "demo", str(place), "--cases", str(CASES)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            (place / "out.txt").write_text(done.stdout)
            (place / "err.txt").write_text(done.stderr)
            assert done.returncode == 0, done.stderr
            (place / "done").touch()
    return place
