"""Everything a person can get wrong ends in a message that names it, and an exit code."""

import json
import os
import shutil

import numpy as np
import pytest

from wsisurv.formats.tiles import read_tiles
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

CLINICAL = "case_id,time,event\nA,10,1\nB,20,0\nC,30,1\nD,40,0\n"


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def slides(tmp_path, make_slide):
    folder = tmp_path / "slides"
    folder.mkdir()
    for name in "AB":
        make_slide(folder / f"{name}.tiff", (700, 700))
    return folder


def test_no_slide_found(run, place, tmp_path):
    (tmp_path / "empty").mkdir()
    for where in tmp_path / "empty", tmp_path / "nowhere":
        ended = run("tile", where, "-w", place.root)
        assert ended.code == 1
        assert str(where) in ended.err
        assert "Traceback" not in ended.err


def test_one_bad_slide_among_good_ones_is_named_and_the_others_are_done(run, place, slides, make_slide):
    (slides / "nonsense.svs").write_text("not a slide")
    whole = make_slide(slides / "cut.tiff", (2000, 2000))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    ended = run("tile", slides, "-w", place.root)
    assert ended.code == 1
    assert "nonsense.svs" in ended.err
    assert "cut.tiff" in ended.err
    assert place.tiled_slides() == ["A", "B"]
    assert {failure.id for failure in read_failures(place, "tile")} == {"nonsense", "cut"}
    assert run("embed", "-w", place.root).code == 0
    assert place.embedded_slides("histomics") == ["A", "B"]


def test_no_mpp_and_the_way_out(run, place, tmp_path, make_slide):
    slide = make_slide(tmp_path / "S.tiff", (700, 700), mpp=None)
    ended = run("tile", slide, "-w", place.root)
    assert ended.code == 1
    assert "--slide-mpp" in ended.err
    assert run("tile", slide, "--slide-mpp", 0.25, "-w", place.root).code == 0
    assert read_tiles(place.tiles("S"))[0].mpp == 0.25


def test_blank_glass_is_a_result_through_to_the_risk_table(run, place, tmp_path, make_slide, trained):
    glass = make_slide(tmp_path / "glass.tiff", np.full((900, 900, 3), 243, np.uint8))
    ended = run("tile", glass, "-w", place.root)
    assert ended.code == 0
    assert "glass" in ended.err
    assert run("embed", "-w", place.root).code == 0
    student = trained / "workspace" / "cohorts" / "demo" / "student.h5"
    assert run("predict", glass, "--student", student, "-w", place.root, "-o", tmp_path / "risk.csv").code == 0
    assert (tmp_path / "risk.csv").read_text().splitlines()[1] == (
        "glass,glass,0,,,unknown,,,,,,,,no tile: nothing was seen"
    )


def test_two_slides_of_one_name(run, place, slides, make_slide):
    (slides / "deeper").mkdir()
    make_slide(slides / "deeper" / "A.tif", (700, 700))
    ended = run("tile", slides, "-w", place.root)
    assert ended.code == 1
    assert "A.tiff" in ended.err
    assert "A.tif" in ended.err


def test_a_workspace_made_with_other_settings(run, place, slides):
    assert run("tile", slides, "-w", place.root).code == 0
    ended = run("tile", slides, "--tile-px", 128, "-w", place.root)
    assert ended.code == 1
    assert "tile_px: 224 → 128" in ended.err
    assert "--redo" in ended.err
    assert run("tile", slides, "--tile-px", 128, "--redo", "-w", place.root).code == 0
    assert read_tiles(place.tiles("A"))[0].tile_px == 128


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (("time", "weeks"), [], "no column 'time'"),
        (("B,20", "B,"), [], "row 3 (B): time is missing"),
        (("B,20", "B,later"), [], "row 3 (B): time is 'later', not a number"),
        (("20,0", "20,9"), [], "row 3 (B): event is '9'"),
        (("B,20", "A,20"), [], "a case twice: 'A' in rows 2 and 3"),
        ((",1\n", ",0\n"), [], "no event in 4 cases"),
        (("", ""), ["--event-values", "Alive"], "two different words are needed"),
        (("", ""), ["--event-values", "Alive,Dead"], "event is '1', not 'Alive' or 'Dead'"),
        (("", ""), ["--covariates", "age"], "no column 'age'"),
        (("", ""), ["--site", "town"], "no column 'town'"),
    ],
)
def test_clinical_tables(run, place, tmp_path, change, options, message):
    table = tmp_path / "clinical.csv"
    table.write_text(CLINICAL.replace(*change) if change[0] else CLINICAL)
    ended = run("train-teacher", "--cohort", "c", "--clinical", table, *options, "-w", place.root)
    assert ended.code == (2 if message == "two different words are needed" else 1)
    assert message in ended.err
    assert not place.cohort("c").exists()


def test_cases_without_slides_and_slides_without_cases_are_listed(run, place, slides, tmp_path):
    table = tmp_path / "clinical.csv"
    table.write_text(CLINICAL.replace("B,", "Z,"))
    assert run("tile", slides, "-w", place.root).code == 0
    assert run("embed", "-w", place.root).code == 0
    ended = run("train-teacher", "--cohort", "c", "--clinical", table, "--audit-only", "-w", place.root)
    assert ended.code == 0
    assert "3 cases without a slide (not in the cohort): C; D; Z" in ended.out
    assert "1 slides without a case (not used): B" in ended.out
    assert not place.cohort("c").exists()


def test_no_case_has_a_slide(run, place, tmp_path):
    table = tmp_path / "clinical.csv"
    table.write_text(CLINICAL)
    ended = run("train-teacher", "--cohort", "c", "--clinical", table, "-w", place.root)
    assert ended.code == 1
    assert "wsisurv embed" in ended.err
    assert not place.cohort("c").exists()


def test_steps_before_their_turn_say_what_to_run_first(run, place, tmp_path):
    for words, message in (
        (["embed"], "wsisurv tile"),
        (["train-teacher"], "--clinical"),
        (["distill"], "train-teacher"),
        (["predict"], "train-teacher"),
        (["train-teacher", "--cohort", "c"], "--clinical"),
        (["predict", "--student", tmp_path / "none.h5"], "distill"),
    ):
        ended = run(*words, "-w", place.root)
        assert ended.code == 1, words
        assert message in ended.err, words


def test_reports_in_the_wrong_encoding_twice_or_missing(run, place, tmp_path):
    table = tmp_path / "reports.jsonl"
    table.write_bytes(json.dumps({"case_id": "A", "text": "Tumor"}).encode() + b"\n\xff\xfe{}\n")
    ended = run("extract-report", table, "--backend", "rules", "-w", place.root)
    assert ended.code == 1
    assert "reports.jsonl" in ended.err
    assert "UTF-8" in ended.err
    table.write_text('{"case_id": "A", "text": "x"}\n{"case_id": "A", "text": "y"}\n')
    assert "A" in run("extract-report", table, "--backend", "rules", "-w", place.root).err
    assert run("extract-report", tmp_path / "none", "--backend", "rules", "-w", place.root).code == 1


def test_ollama_not_running(run, place, tmp_path, monkeypatch):
    monkeypatch.delenv("WSISURV_OLLAMA_HOST", raising=False)
    (tmp_path / "A.txt").write_text("Adenocarcinoma.")
    ended = run("extract-report", tmp_path, "--model", "qwen3:8b", "--host", "127.0.0.1:9", "-w", place.root)
    assert ended.code == 1
    assert "127.0.0.1:9" in ended.err
    assert "rules" not in ended.out


def test_a_truncated_student_and_a_truncated_features_file(run, trained, tmp_path):
    place = tmp_path / "workspace"
    shutil.copytree(trained / "workspace", place, copy_function=os.link)
    features = sorted((place / "features" / "histomics").iterdir())[0]
    half = features.read_bytes()[: features.stat().st_size // 2]
    features.unlink()
    features.write_bytes(half)
    ended = run("predict", "-w", place, "-o", tmp_path / "risk.csv")
    assert ended.code == 1
    assert features.name in ended.err
    assert (tmp_path / "risk.csv").exists()
    again = run("embed", "-w", place)
    assert again.code == 0
    assert "damaged" in again.err
    student = place / "cohorts" / "demo" / "student.h5"
    half = student.read_bytes()[:3000]
    student.unlink()
    student.write_bytes(half)
    ended = run("predict", "-w", place)
    assert ended.code == 1
    assert "student.h5" in ended.err
