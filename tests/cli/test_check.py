import json

import pytest


@pytest.fixture
def slides(tmp_path, make_slide):
    for name in "A-1", "A-2", "Z-1":
        make_slide(tmp_path / "slides" / f"{name}.tiff", (700, 700))
    return tmp_path / "slides"


def test_a_sound_folder_is_shown_and_nothing_is_written(run, slides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    ended = run("check", slides)
    assert ended.code == 0, ended.err
    assert sorted(tmp_path.rglob("*")) == before
    assert ended.out.count("TIFF resolution tags") == 3
    assert "3 slides, 0 would fail · at most 27 tiles" in ended.out
    assert f"storage: {tmp_path}: locks work (flock) and are used" in " ".join(ended.err.split())


def test_what_would_fail_sets_the_exit_code_and_is_in_the_jsonl(run, slides, tmp_path, make_slide):
    make_slide(slides / "B-1.tiff", (700, 700), mpp=None)
    (slides / "bad.svs").write_text("no slide")
    ended = run("check", slides, "-o", tmp_path / "check.jsonl", "--encoder", "uni2-h")
    assert ended.code == 1
    assert "would fail: B-1" in ended.err
    lines = [json.loads(line) for line in (tmp_path / "check.jsonl").read_text().splitlines()]
    assert {line["slide_id"] for line in lines if line["problems"]} == {"B-1", "bad"}
    assert lines[0]["features_bytes"] > 9 * 2 * 1536
    table = tmp_path / "mpp.csv"
    table.write_text("slide_id,mpp\nB-1,0.5\n")
    (slides / "bad.svs").unlink()
    assert run("check", slides, "--mpp-table", table).code == 0


def test_slides_and_cases_are_held_against_each_other(run, slides, tmp_path):
    clinical = tmp_path / "clinical.csv"
    clinical.write_text("patient,days\nA,1\nB,2\n")
    wrong = run("check", slides, "--clinical", clinical)
    assert wrong.code == 1
    assert "--case" in wrong.err
    ended = run("check", slides, "--clinical", clinical, "--case", "patient")
    assert ended.code == 0
    assert "1 slides without a case: Z-1" in ended.err
    assert "1 cases without a slide: B" in ended.err
    whose = tmp_path / "whose.csv"
    whose.write_text("slide_id,case_id\nA-1,A\nA-2,B\nZ-1,B\n")
    mapped = run("check", slides, "--clinical", clinical, "--case", "patient", "--slide-map", whose)
    assert "without a" not in mapped.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,mpp\nA-1,0.5\n", "slide_id and mpp are needed"),
        ("slide_id,mpp\nA-1,half\n", "row 2: mpp is 'half'"),
        ("slide_id,mpp\nA-1,250\n", "row 2: mpp 250 can't be; µm per pixel"),
        ("slide_id,mpp\nA-1,0.0005\n", "row 2: mpp 0.0005 can't be"),
        ("slide_id,mpp\nA-1,-1\n", "row 2: mpp -1 is not a positive number"),
        ("slide_id,mpp\nA-1,nan\n", "row 2: mpp nan is not a positive number"),
        ("slide_id,mpp\nA-1,1\nA-1,1\n", "row 3: slide 'A-1' comes twice"),
    ],
)
def test_a_wrong_mpp_table_names_the_row(run, slides, tmp_path, text, message):
    table = tmp_path / "mpp.csv"
    table.write_text(text)
    ended = run("check", slides, "--mpp-table", table)
    assert ended.code == 1
    assert message in ended.err
