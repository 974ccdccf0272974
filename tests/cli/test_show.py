"""``wsisurv show``: a student as a model card, other files by what they say, and nothing that they want to do."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.formats.header import make_header, seal
from wsisurv.formats.models import ModelFile, write_model
from wsisurv.formats.tiles import Tiles, write_tiles
from wsisurv.pages.file_card import file_card, write_card
from wsisurv.settings.tiles import TileSettings
from wsisurv.settings.training import DistillSettings
from wsisurv.survival.prognosis import Prognosis, fit_prognosis

ENCODER = {"encoder_weights": "hub:some/encoder@0123abc"}
SETTINGS = DistillSettings()


@pytest.fixture
def student(tmp_path, student_card):
    """``student(**changes)`` → the file of a student with this card."""
    rng = np.random.default_rng(0)
    time, event = rng.exponential(20, 80).clip(0.5, 48), rng.random(80) < 0.5
    time[0] = 48.0
    arrays = fit_prognosis(log_hazard=rng.normal(size=80), time=time, event=event).arrays()

    def save(**changes):
        path = tmp_path / "cohorts" / "trial" / "student.h5"
        header = make_header("wsisurv/student", SETTINGS, {"cohort": "c" * 64})
        write_model(
            path, ModelFile({**arrays, "members/0/w": np.ones(5)}, student_card(**{**ENCODER, **changes})), header
        )
        return path

    return save


def metrics_beside(path, **changes):
    record = {
        "cohort": {"fingerprint": "c" * 64, "tested": 80, "tested_events": 40},
        "settings": {"student": SETTINGS.model_dump(mode="json")},
        "models": [{"model": "selected", "concordance": 0.7123, "low": 0.6, "high": 0.8, "uno": 0.69}],
        "verdict": ["Slides alone tell who does worse."],
        **changes,
    }
    (path.parent / "evaluation").mkdir()
    (path.parent / "evaluation" / "metrics.json").write_text(json.dumps(record))


def test_a_student_is_told_as_a_model_card(run, student):
    ended = run("show", student())
    assert ended.code == 0
    for words in ("some/encoder@0123abc", "224 px at 0.5", "80, 40", "low risk below", "Not a medical device"):
        assert words in ended.out
    assert "never cross-validated" in ended.err
    assert "40 events" in ended.err


@pytest.mark.parametrize(("at_horizons", "faded", "dash", "grey"), [
    ((60, 40, 30), (), False, False),
    ((60, 29, 10), (3, 4), False, True),
    ((60, 30, 9), (4,), True, False),
    ((60, 12, 0), (3, 4), True, True),
])  # fmt: skip
def test_horizons_on_few_cases_are_greyed_and_said(student, monkeypatch, at_horizons, faded, dash, grey):
    by_years = dict(zip((12.0, 36.0, 60.0), at_horizons, strict=True))
    monkeypatch.setattr(Prognosis, "followed_to", lambda _, time: by_years[time])
    card = file_card(student())
    (part,) = (part for part in card.parts if part.title == "What its risk means")
    assert part.faded == faded
    assert any("A dash" in line for line in part.words) == dash == any("–" in row for row in part.rows)
    assert any("Grey" in line for line in part.words) == grey
    write_card(path := student().with_name("card.html"), card)
    assert path.read_text().count('class="faded"') == 3 * len(faded)


@pytest.mark.parametrize(("slope", "found", "said", "unsaid"), [
    (1.0, None, "taken as they are", "extreme"),
    (0.6, None, "times 0.6, the calibration slope out of fold in training: below 1", "Cross-validation"),
    (0.6, 0.65, "below 1 they are too extreme by themselves.", "Cross-validation"),
    (1.0, -0.01, "Cross-validation found −0.01, so predicted survival may be too extreme.", "by themselves"),
    (0.5, 1.2, "Cross-validation found 1.20, so predicted survival may be not extreme enough.", "as they are too"),
    (0.0, None, "Survival does not go by them", "times 0"),
])  # fmt: skip
def test_slopes_do_not_contradict_each_other(student, slope, found, said, unsaid):
    path = student(calibration={"slope": slope, "slope_of_one": slope})
    if found is not None:
        row = {"model": "selected", "concordance": 0.7, "low": 0.6, "high": 0.8, "calibration_slope": found}
        metrics_beside(path, models=[row])
    card = file_card(path)
    (part,) = (part for part in card.parts if part.title == "What its risk means")
    words = " ".join(part.words)
    assert said in words
    assert unsaid not in words
    write_card(path.with_name("card.html"), replace(card, warnings=("slope -0.21 of `x -1`",)))
    assert "slope −0.21 of <code>x -1</code>" in path.with_name("card.html").read_text()


def test_figures_of_crossval_beside_it_are_part_of_the_card(run, student):
    path = student()
    metrics_beside(path)
    ended = run("show", path)
    assert "0.7123" in ended.out
    assert "Slides alone tell who does worse." in ended.out
    assert "never cross-validated" not in ended.err


@pytest.mark.parametrize(
    "changes", [{"cohort": {"fingerprint": "d" * 64}}, {"settings": {}}, {"settings": {"student": {"epochs": 1}}}]
)
def test_figures_of_something_else_are_not(run, student, changes):
    path = student()
    metrics_beside(path, **changes)
    ended = run("show", path)
    assert "0.7123" not in ended.out
    assert "never cross-validated" in ended.err


def test_json_and_page(run, student, tmp_path):
    path = student()
    record = json.loads(run("show", path, "--json").out)
    assert record["card"]["cut_offs"] == {"low": -0.2, "high": 0.3}
    assert [row["survival"]["5y"] for row in record["survival"]] == [None] * 3
    assert 0 < record["survival"][0]["survival"]["1y"] < 1
    assert run("show", path, "--html", tmp_path / "card.html").code == 0
    page = (tmp_path / "card.html").read_text()
    assert "What it was trained on" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("odd", [3, "words", [1, None], {"low": "x"}, {"a": {"b": [None]}}, 10**400])
def test_a_card_of_any_other_shape_is_refused_by_file_and_field(run, student, spoil_card, student_card, odd):
    path = student()
    spoil_card(path, **dict.fromkeys(student_card().model_dump(), odd))
    for words in ([], ["--json"]):
        ended = run("show", path, *words)
        assert ended.code == 1
        assert "Traceback" not in ended.err
        assert re.search(
            r"student.h5: the student's card is not usable: (it|\w+): .*distill", ended.err.replace("\n", " ")
        )


def test_what_a_file_says_neither_steers_the_terminal_nor_the_page(run, student, tmp_path):
    evil = "\x1b[31m\x07[red]<script>alert(1)</script>"
    path = student(cohort={"name": evil}, evaluation={"model": evil, "verdict": [evil], "models": [{"model": evil}]})
    ended = run("show", path, "--html", tmp_path / "card.html")
    assert ended.code == 0
    assert "\x1b[31m" not in ended.out
    assert "\x07" not in ended.out
    assert "<script>alert" not in (tmp_path / "card.html").read_text()


@pytest.mark.parametrize("tool", ["TRIDENT", ""])
def test_tissue_that_another_tool_does_not_tell_is_no_fault(run, tmp_path, tool):
    size = {"mpp": 0.5, "tile_mpp": 0.5, "tile_px": 256, "tile_level0_px": 256.0, "overlap_px": 0}
    tissue = np.full(1, np.nan, np.float32)
    tiles = Tiles(
        "S", Path("S.svs"), np.zeros((1, 2), np.int64), tissue, **size, level0_width=900, level0_height=900, tool=tool
    )
    write_tiles(tmp_path / "S.h5", tiles, make_header("wsisurv/tiles", TileSettings(), {"slide": "s"}))
    ended = run("show", tmp_path / "S.h5")
    assert ended.code == 0
    assert ("not all numbers are finite" in ended.err) == (not tool)


def test_damaged_survival_is_told(run, student):
    path = student()
    with h5py.File(path, "a") as file:
        file["prognosis/slope"][0] = np.nan
        seal(path, file)
    ended = run("show", path)
    assert ended.code == 0
    assert "survival can't be predicted" in ended.err


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"case_id": "A", "statements": [], "report_sha256": ""}\n', "statements of reports"),
        ("a.jsonl", '{"x": 1}\n', "a table that wsisurv did not make"),
        ("risk.csv", "case_id,log_hazard,risk_group\nA,1,low\n", "risk table"),
        ("audit.json", '{"settings": {}, "audit": {}}', "audit of a cohort"),
        ("metrics.json", '{"format": "wsisurv/metrics"}', "wsisurv/metrics"),
    ],
)
def test_text_files(run, tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    ended = run("show", tmp_path / name)
    assert ended.code == 0, ended.err
    assert words in ended.out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"{"),
        ("a.jsonl", b"[" * 100_000),
        ("a.jsonl", b"\xff\xfe\n"),
        ("a.json", b"[" * 100_000),
        ("a.json", b"1" * 10_000),
        ("a.csv", b"a,b\n1\n"),
        ("a.csv", b'"' + b"x" * 200_000),
        ("a.h5", b"words"),
        ("a.h5", b""),
        ("a.pkl", b"cos\nsystem\n(S'true'\ntR."),
    ],
)
def test_what_is_not_what_its_name_says(run, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    ended = run("show", tmp_path / name)
    assert ended.code == 1
    assert name in ended.err
    assert "Traceback" not in ended.err


def test_missing_and_folder(run, tmp_path):
    assert "not there" in run("show", tmp_path / "none.h5").err
    assert "a folder" in run("show", tmp_path).err


def test_it_starts_without_torch(student):
    code = (
        "import sys; from wsisurv.cli.app import main; sys.argv = sys.argv[1:]\ntry: main()\nexcept SystemExit: pass\n"
    )
    code += "print([name for name in ('torch', 'matplotlib', 'lifelines', 'pandas') if name in sys.modules])"
    command = [sys.executable, "-c", code, "wsisurv", "show", str(student())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
