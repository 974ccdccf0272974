"""`wsisurv run`: one file says all of it, all that would stop it is said at once, and it goes on where it stopped."""

import csv
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from wsisurv.cli.run_file import ELSEWHERE, STEPS, parse_run
from wsisurv.cli.run_text import run_text
from wsisurv.cli.step_options import look, options_of
from wsisurv.demo.population import simulate_population
from wsisurv.demo.reports import write_report
from wsisurv.formats.commands import read_commands
from wsisurv.formats.risks import read_risks
from wsisurv.settings.base import Settings

CASES = [case for case in simulate_population(25, 5) if not case.held_out]
QUICK = """
[tile]
tile_px = 64
[extract-report]
backend = "rules"
[train-teacher]
hidden = 8
epochs = 2
folds = 2
text_folds = 2
repeats = 1
device = "cpu"
[distill]
hidden = 8
epochs = 2
pretrain-epochs = 1
members = 2
[crossval]
folds = 2
repeats = 1
resamples = 100
epochs = 2
workers = 1
[report]
pictures = 0
"""
TOP = 'slides = "data/slides"\nclinical = "data/clinical.csv"\nworkspace = "work"\n'
COHORT = '[cohort]\nname = "crc"\ntime = "days"\n'
TOLD = 'reports = "data/reports"\n'


@pytest.fixture(scope="session")
def study(tmp_path_factory, make_slide) -> Path:
    """FOLDER/data with small slides, reports and follow-up of a few cases; not to be changed."""
    data = tmp_path_factory.mktemp("study") / "data"
    (data / "reports").mkdir(parents=True)
    rows = [["case_id", "days", "event", "age", "hospital"]]
    for number, case in enumerate(CASES):
        make_slide(data / "slides" / f"{case.case_id}-A.tiff", (320, 256), levels=2, tile=64, seed=number)
        (data / "reports" / f"{case.case_id}.txt").write_text(write_report(case, 5))
        rows.append([case.case_id, int(case.days), int(case.event), case.age, case.hospital.name])
    with (data / "clinical.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return data.parent


@pytest.fixture
def place(study, tmp_path, monkeypatch) -> Path:
    """A copy of the study to work in, which is the current folder."""
    shutil.copytree(study, tmp_path / "study", copy_function=os.link)
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.delenv("WSISURV_WORKSPACE", raising=False)
    return tmp_path / "study"


def logged(place: Path) -> list[list[str]]:
    """Lines of run.log: time, step, outcome, seconds, command."""
    return [line.split("\t") for line in (place / "work" / "run.log").read_text().splitlines()]


def said(text: str) -> str:
    """What was printed, without the frames and line breaks of a terminal."""
    return " ".join(text.replace("│", " ").split())


def test_from_slides_and_reports_to_a_page_and_again_nothing(run, place):
    (place / "run.toml").write_text(TOP + TOLD + COHORT + QUICK)
    ended = run("run", "run.toml")
    assert ended.code == 0, ended.err
    folder = place / "work" / "cohorts" / "crc"
    assert len(read_risks(folder / "risk.csv")) == len(CASES)
    page = folder / "evaluation" / "index.html"
    assert page.exists()
    assert f"run: 10 steps done · {page.relative_to(place)}" in ended.out
    ran = [line for line in logged(place) if line[2] != "begun"]
    assert list(dict.fromkeys(line[1] for line in ran)) == list(STEPS)
    assert {line[2] for line in ran} == {"done"}
    recorded = [" ".join(one.words) for one in read_commands(place / "work")]
    assert recorded == [line[4] for line in ran if line[1] != "check" and "--audit-only" not in line[4]]

    files = {path: path.read_bytes() for path in (place / "work").rglob("*.h5") if ".claims" not in path.parts}
    again = run("run", "run.toml")
    assert again.code == 0, again.err
    assert {path: path.read_bytes() for path in files} == files
    assert "Student of crc" in ended.out
    assert "Student of crc" not in again.out
    for step in ("tile: 0 done", "embed: 0 done", "extract-report: 0 done", "train-teacher: kept", "distill: kept"):
        assert again.out.count(step) == 1

    assert "blockers 0;" in run("run", "run.toml", "--dry-run").out
    other = QUICK.replace("hidden = 8", "hidden = 4").replace("resamples = 100", "resamples = 100\nseed = 7")
    (place / "run.toml").write_text(TOP + TOLD + COHORT.replace("days", "age") + other)
    stale = run("run", "run.toml", "--dry-run")
    assert stale.code == 1
    for words in (
        "would stop: train-teacher: work/cohorts/crc",
        "time: days → age",
        "would stop: train-teacher: work/cohorts/crc/guidance.h5: made from other settings than now (hidden: 8 → 4)",
        "would stop: distill: work/cohorts/crc/student.h5: made from other settings than now (hidden: 8 → 4)",
        "metrics.json: made from other settings than now (seed: 0 → 7)",
    ):
        assert words in said(stale.err), words
    assert "blockers 0;" in run("run", "run.toml", "--dry-run", "--redo").out


def test_slides_alone_by_one_command_which_writes_the_file_that_says_the_same(run, place):
    words = ["run", "data/slides", "--clinical", "data/clinical.csv", "--time", "days", "-w", "work"]
    words += ["--cohort", "crc", "--set", "tile.tile_px=64", "--set", "embed.device=cpu"]
    words += ["--set", "cohort.slide_map=map.csv"]
    slides = [f"{case.case_id}-A,{case.case_id}" for case in CASES]
    (place / "map.csv").write_text("\n".join(["slide_id,case_id", *slides]))
    ended = run(*words, "--until", "embed")
    assert ended.code == 0, ended.err
    written = tomllib.loads((place / "work" / "run.toml").read_text())
    assert written["cohort"] == {"name": "crc", "time": "days", "slide_map": str(place / "map.csv")}
    assert written["tile"] == {"tile_px": 64}
    assert written["embed"] == {"device": "cpu"}
    assert [line[1] for line in logged(place) if line[2] == "done"] == ["check", "cohort", "tile", "embed"]
    again = run("run", "work/run.toml", "--until", "embed")
    assert again.code == 0, again.err
    assert f"embed: 0 done, {len(CASES)} kept" in again.out
    assert [line[4] for line in logged(place)[:8]] == [line[4] for line in logged(place)[8:]]
    other = run(*words, "--event", "dead", "--until", "embed")
    assert other.code == 2
    assert "it says otherwise" in said(other.err)
    assert tomllib.loads((place / "work" / "run.toml").read_text()) == written
    shown = run("run", "work/run.toml", "--dry-run")
    assert shown.code == 0, shown.err
    assert "extract-report" not in shown.out
    assert "$ wsisurv distill --cohort crc" in shown.out


def test_a_slide_that_fails_stops_nothing_and_is_in_the_exit_code(run, place):
    slide = place / "data" / "slides" / "bad.tiff"
    slide.write_bytes(b"no slide")
    (place / "run.toml").write_text(TOP + COHORT + QUICK)
    ended = run("run", "run.toml", "--until", "embed")
    assert ended.code == 1
    assert "something failed in check, tile" in ended.out
    assert f"embed: {len(CASES)} done" in ended.out
    slide.unlink()
    assert run("run", "run.toml", "--until", "embed").code == 0


def test_all_that_would_stop_any_step_is_said_at_once_and_nothing_is_written(run, place, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    (place / "run.toml").write_text(
        'slides = "gone"\nclinical = "data/clinical.csv"\nreports = "none"\nworkspace = "work"\n'
        '[cohort]\nevent = "dead"\nsite = "hospitl"\n[embed]\nencoder = "uni3-h"\n[extract-report]\nmodel = "m"\n'
        '[crossval]\ncovariates = ["age"]\n'
    )
    before = sorted(place.rglob("*"))
    ended = run("run", "run.toml", "--dry-run")
    assert ended.code == 1
    err = said(ended.err)
    for words in (
        "would stop: tile: gone: no such file or folder",
        "would stop: embed: no encoder 'uni3-h'",
        "would stop: extract-report: none",
        "Start the server with `ollama serve`",
        "would stop: cohort: data/clinical.csv: no column 'time', 'dead', 'hospitl'",
    ):
        assert words in err, words
    assert "blockers 5; nothing was run" in ended.out
    assert sorted(place.rglob("*")) == before
    assert run("run", "run.toml").code == 1  # the run itself stops before it begins
    assert sorted(place.rglob("*")) == before
    assert run("run", "run.toml", "--until", "check").code == 2  # there are no slides


def test_a_step_that_is_stale_is_said_before_any_work_and_made_anew_with_redo(run, place):
    toml = place / "run.toml"
    toml.write_text(TOP + COHORT + QUICK)
    assert run("run", "run.toml", "--until", "embed").code == 0
    toml.write_text(TOP + COHORT + QUICK.replace("tile_px = 64", "tile_px = 32"))
    shown = run("run", "run.toml", "--dry-run", "--until", "embed")
    assert shown.code == 1
    assert "would stop: tile: " in said(shown.err)
    assert "tile_px: 64 → 32" in said(shown.err)
    stopped = run("run", "run.toml", "--until", "embed")
    assert stopped.code == 1
    assert "run: stopped at tile" in stopped.out
    assert logged(place)[-1][1:3][0] == "tile"
    assert logged(place)[-1][2].startswith("failed: ")
    redone = run("run", "run.toml", "--until", "embed", "--redo")
    assert redone.code == 0, redone.err
    assert f"tile: {len(CASES)} done" in redone.out
    assert f"embed: {len(CASES)} done" in redone.out


_KILLED = """
import os, signal, sys
from wsisurv.cli.app import main
import wsisurv.embedding.step
def die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)
wsisurv.embedding.step.embed = die
sys.argv = ["wsisurv", "run", "run.toml", "--until", "embed"]
main()
"""


def test_a_run_that_was_killed_goes_on_where_it_was(run, place):
    (place / "run.toml").write_text(TOP + COHORT + QUICK)
    done = subprocess.run([sys.executable, "-c", _KILLED], check=False, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert logged(place)[-1][1:3] == ["embed", "begun"]
    ended = run("run", "run.toml", "--until", "embed")
    assert ended.code == 0, ended.err
    assert f"tile: 0 done, {len(CASES)} kept" in ended.out
    assert f"embed: {len(CASES)} done" in ended.out


def test_ctrl_c_stops_the_run_with_its_own_exit_code(run, place, monkeypatch):
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsisurv.pipeline.tile.tile", press)
    (place / "run.toml").write_text(TOP + COHORT + QUICK)
    ended = run("run", "run.toml")
    assert ended.code == 130
    assert logged(place)[-1][1:3] == ["tile", "interrupted"]
    assert "run: stopped at tile" in ended.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TOP + "[tlie]\ntile_px = 64", "no table [tlie]; did you mean tile"),
        (TOP + "[tile]\ntilepx = 64", "[tile] tilepx: no such setting; did you mean tile_px"),
        (TOP + 'report = "r"', "[report] is no table"),
        (TOP + 'workspaces = "r"', "no key workspaces; did you mean workspace"),
        (TOP + '[tile]\ntile_px = "64"', "[tile] tile_px: it is '64', where a whole number is needed"),
        (TOP + "[tile]\ntile_px = 3", "[tile]: Invalid value for --tile-px"),
        (TOP + "[tile]\nredo = 1", "[tile] redo: it is 1, where true or false is needed"),
        (TOP + "[tile]\ntile-px = 64\ntile_px = 64", "[tile] tile_px: said twice, as tile-px too"),
        (TOP + '[distill]\naggregator = "avg"', "[distill]: Invalid value for --aggregator"),
        (TOP + "[train-teacher]\nepochs = true", "[train-teacher] epochs: it is true"),
        (TOP + '[train-teacher]\ntime = "days"', "[train-teacher] time: stands in [cohort]"),
        (TOP + '[distill]\ncohort = "b"', "[distill] cohort: is `name` in [cohort]: a run is of one cohort"),
        (TOP + '[cohort]\ncovariates = ["a,b"]', "'a,b' has a comma"),
        (TOP + '[cohort]\nname = ["a", "b"]', "two cohorts, and a run is of one"),
        (TOP + '[[cohort]]\nname = "a"\n[[cohort]]\nname = "b"', "two cohorts, and a run is of one"),
        (TOP + '[cohort.a]\ntime = "t"\n[cohort.b]\ntime = "t"', "two cohorts, and a run is of one"),
        (TOP + '[cohort]\nname = "a/b"', "the name of a folder is needed"),
        (TOP + "version = 2", "of a newer wsisurv (version 2; this one reads 1)"),
        (TOP + 'version = "x"', "version: 'x' is none"),
        ('slides = "s"', "clinical is missing"),
        ('slides = []\nclinical = "c"', "slides: it is [], where a path is needed"),
        ("slides = ", "no TOML: "),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "no text in UTF-8, but a file of another kind"),
    ],
)
def test_a_file_that_can_not_be_is_refused_by_its_name_and_key(run, place, text, message):
    (place / "run.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = run("run", "run.toml")
    assert ended.code == 2
    assert "run.toml: " in said(ended.err)
    assert message in said(ended.err)
    assert not (place / "work").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.toml"], "gone.toml: can't be read"),
        (["data"], "with slides, --clinical FILE is needed"),
        (["run.toml", "other.toml"], "two cohorts need two runs"),
        (["run.toml", "--time", "days"], "leave out --time"),
        (["run.toml", "--until", "tle"], "no step 'tle'; did you mean tile?"),
        (["data", "--clinical", "data/clinical.csv", "--cohort", "a", "--cohort", "b"], "two cohorts"),
        (["data", "--clinical", "data/clinical.csv", "--set", "tile"], "STEP.NAME=VALUE is needed"),
        (["data", "--clinical", "data/clinical.csv", "--set", "tile.px=3"], "[tile] px: no such setting"),
    ],
)
def test_words_that_can_not_be_are_wrong_usage(run, place, words, message):
    (place / "run.toml").write_text(TOP)
    ended = run("run", *words)
    assert ended.code == 2
    assert message in said(ended.err)
    assert not (place / "work").exists()


VALUES: dict[str, Any] = {
    "encoder": "uni2-h",
    "aggregator": "mean",
    "event_values": ["Alive", "Dead"],
    "covariates": ["age", "stage"],
    "adjust_for": ["age"],
    "batch_size": 32,
    "device": "cpu",
}
"""Where another value than the default can't be made up."""
SETTABLE = [
    (step, key)
    for step in STEPS
    for key, option in options_of(step).items()
    if option.name not in ELSEWHERE[step] and not option.hidden and not (step == "cohort" and key == "name")
]


def candidates(option: Any, file: str) -> list[Any]:
    """Values to try, of which one at least is another than the default and within the range."""
    if option.name in VALUES:
        return [VALUES[option.name]]
    if get_origin(option.kind) is Literal:
        return list(get_args(option.kind))
    return {
        bool: [True, False],
        int: [3, 7, 50, 300],
        float: [0.6, 1.5, 0.3, 0.03],
        Path: [file, "."],
        str: ["other"],
    }[option.kind]


def flat(call: dict[str, Any]) -> dict[str, Any]:
    """What a command is called with, settings and groups of options by their fields."""
    found = {}
    for name, value in call.items():
        if isinstance(value, Settings):
            found |= {f"{name}.{key}": one for key, one in value}
        elif is_dataclass(value):
            found |= {f"{name}.{key}": one for key, one in vars(value).items()}
        else:
            found[name] = value
    return found


@pytest.mark.parametrize(("step", "key"), SETTABLE, ids=lambda one: one)
def test_each_option_of_each_step_can_stand_in_the_file_and_changes_the_call_and_nothing_else(tmp_path, step, key):
    (tmp_path / "there").touch()
    option = options_of(step)[key]
    stand_ins = {"check": ["s"], "tile": ["s"], "cohort": ["n", "--clinical", "c"], "extract-report": ["r"]}
    before = flat(look([step, *stand_ins.get(step, [])]))
    for value in candidates(option, "there"):
        text = run_text({"slides": "s", "clinical": "c", step: {key.replace("_", "-"): value}})
        try:
            words = parse_run(tmp_path / "run.toml", tomllib.loads(text), "w").words[step]
        except Exception as error:  # noqa: BLE001  # out of this setting's range: the next one may be within
            last: Any = error
            continue
        after = flat(look([step, *stand_ins.get(step, []), *words]))
        if changed := {name for name in before if before[name] != after[name]}:
            assert {name.rpartition(".")[2] for name in changed} == {option.name}
            return
    pytest.fail(f"no value changes it: {locals().get('last')}")


def test_what_is_written_is_read_back_the_same():
    told = {"a": 'q"\\ \n\t\x7f é', "b": [1, 2.5, True, "x"], "t": {"c": False, "d": [], "e": "#"}}
    assert tomllib.loads(run_text(told, {"a": "above a\nin two lines", "t": "a table", "t.c": "a key"})) == told


def test_relative_paths_are_relative_to_the_file(tmp_path):
    text = 'slides = ["s", "/abs"]\nclinical = "c.csv"\n[cohort]\nslide_map = "m.csv"\n'
    file = parse_run(tmp_path / "run.toml", tomllib.loads(text), "w")
    assert file.slides == (str(tmp_path / "s"), "/abs")
    assert file.clinical == str(tmp_path / "c.csv")
    assert file.words["cohort"] == ("--slide-map", str(tmp_path / "m.csv"))
