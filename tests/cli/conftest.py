"""The command line as a person meets it, and one small synthetic cohort for all tests that need slides."""

import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import simulation
from filelock import FileLock

from wsisurv.cli.app import main
from wsisurv.cohort import Case
from wsisurv.demo.run import draw
from wsisurv.workspace.paths import Workspace

CASES = 30
QUICK = {
    "train-teacher": {"epochs": 10, "folds": 3, "text_folds": 3, "repeats": 1},
    "distill": {"epochs": 10, "pretrain_epochs": 5, "members": 3},
}
"""Settings by which a step trains in a moment; the demo of ``trained`` has them."""
EXAMPLES = Path(__file__).parents[2] / "examples"
_TYPED = """#!/usr/bin/env bash
printf '%s\\0' "$#" "$@" "${WSISURV_WORKSPACE-}" >>"$TYPED"
exit "${ENDS_WITH:-0}"
"""
"""A ``wsisurv`` that notes what it was asked."""


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
def simulations() -> dict[int, tuple[Path, tuple[Case, ...]]]:
    """Workspaces of features and statements by their number of cases, made where first asked for, and the cases."""
    return {}


@pytest.fixture
def simulated(tmp_path, tmp_path_factory, simulations) -> Callable[..., Workspace]:
    """``simulated(40, ["days"], lambda number, case: [case.time])``: so many cases with features and statements.

    Their table, clinical.csv beside the workspace, has the case ids and these columns; there is no cohort.
    """

    def save(n: int, columns: list[str], row: Callable[[int, Case], list[object]]) -> Workspace:
        if n not in simulations:
            folder = tmp_path_factory.mktemp("simulated") / "workspace"
            world = simulation.simulate(simulation.make_world(0, 8, 12), n, 0, tiles=(8, 16), effect=1.5)
            simulations[n] = (folder, simulation.save(Workspace(folder), world).cases)
        folder, cases = simulations[n]
        workspace = Workspace(shutil.copytree(folder, tmp_path / "workspace", copy_function=os.link))
        with (tmp_path / "clinical.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["case_id", *columns])
            writer.writerows([case.case_id, *row(number, case)] for number, case in enumerate(cases))
        return workspace

    return save


@pytest.fixture
def typed(tmp_path) -> Callable[..., list[list[str]]]:
    """``typed("crc", SLIDES=folder, ...)``: the commands that an example's script runs, each with its workspace.

    The script itself runs, with another ``wsisurv`` on its path: what it asks is then run in this process, since a
    process of its own takes three seconds to load what one command needs. ``ends_with``: how its commands end.
    """

    def commands(example: str, *, ends_with: int = 0, **variables: object) -> list[list[str]]:
        path, note = tmp_path / "typed" / "wsisurv", tmp_path / "typed" / "words"
        path.parent.mkdir(exist_ok=True)
        path.write_text(_TYPED)
        path.chmod(0o755)
        note.unlink(missing_ok=True)
        given = {name: str(value) for name, value in variables.items()}
        here = {
            "PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}",
            "TYPED": str(note),
            "ENDS_WITH": str(ends_with),
        }
        done = subprocess.run(["bash", EXAMPLES / example / "run.sh"], env={**os.environ, **given, **here}, check=False)
        assert done.returncode == ends_with
        words = note.read_text().split("\0")[:-1]
        found = []
        while words:
            end = 1 + int(words[0])
            *command, workspace = words[1 : end + 1]
            found.append([*command, *(["-w", workspace] if workspace else [])])
            words = words[end + 1 :]
        return found

    return commands


@pytest.fixture(scope="session")
def quick_settings() -> dict[str, dict[str, int]]:
    """Settings of ``trained``, by step."""
    return QUICK


@pytest.fixture(scope="session")
def quick() -> Callable[..., list[str]]:
    """``quick(words)``: a command with the options of ``trained`` where it is one that trains."""

    def words_of(words) -> list[str]:
        asked = next((QUICK[word] for word in words[:2] if word in QUICK), {})
        options = (word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", str(value)))
        return [*map(str, words), *options]

    return words_of


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all workers of a parallel test run share."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture(scope="session")
def drawn(shared) -> Path:
    """The drawn synthetic cohort, its slides of half the usual sides, made once in a test run: FOLDER/data."""
    folder = shared / "drawn"
    with FileLock(str(folder) + ".lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsisurv.demo.slides._SIDE", (36, 40))
        draw(folder, cases=CASES, seed=0, progress=lambda *_: None)
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
def trained(shared, drawn, quick) -> Path:
    """The drawn cohort through all six steps, quickly trained, made once in a test run; not to be changed."""
    place = shared / "trained"
    with FileLock(str(place) + ".lock"):
        if not (place / "done").exists():
            shutil.copytree(drawn, place, copy_function=os.link)
            out, err = io.StringIO(), io.StringIO()
            with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
                patch.setenv("COLUMNS", "110")
                patch.setattr("wsisurv.demo.run._run", lambda command: _must(patch, quick(command)))
                _must(patch, ["wsisurv", "demo", str(place), "--cases", str(CASES)])
            (place / "out.txt").write_text(out.getvalue())
            (place / "err.txt").write_text(err.getvalue())
            (place / "done").touch()
    return place


@pytest.fixture(scope="session")
def do() -> Callable[..., None]:
    """``do("tile", folder)`` runs a command that must succeed, for what several tests share."""

    def done(*words: object) -> None:
        quiet = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(quiet), redirect_stderr(quiet):
            _must(patch, ["wsisurv", *map(str, words)])

    return done


def _must(patch, command) -> None:
    """Run a command in this process; a failure says what it said."""
    patch.setattr(sys, "argv", list(command))
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, sys.stderr.getvalue()
