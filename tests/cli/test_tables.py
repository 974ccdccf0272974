"""Tables and folders as people have them, at the command line: read, refused in one sentence, or counted and named."""

import csv
import json

import h5py
import numpy as np
import openpyxl
import pytest

from wsisurv.formats.features import read_features
from wsisurv.formats.tiles import read_tiles
from wsisurv.workspace.paths import Workspace

HEADER = "case_id,time,event"


@pytest.fixture
def place(run, tmp_path):
    """``place(names)``: a workspace with features of these slides, by encoder ``e``, as CLAM writes them."""

    def imported(names):
        (tmp_path / "f").mkdir(exist_ok=True)
        for seed, name in enumerate(names):
            coords = np.stack([np.arange(6), np.zeros(6, int)], axis=1) * 224
            with h5py.File(tmp_path / "f" / f"{name}.h5", "w") as file:
                stored = file.create_dataset("coords", data=coords)
                stored.attrs.update(patch_size=224, patch_size_level0=224, level0_magnification=20, overlap=0)
                stored.attrs.update(target_magnification=20, name=name, level0_width=9000, level0_height=9000)
                features = np.random.default_rng(seed).normal(size=(6, 8))
                file.create_dataset("features", data=features.astype(np.float32))
        ended = run("import", tmp_path / "f", "--encoder", "e", "--tile-mpp", 0.5, "--slide-mpp", 0.5, "-w", root)
        assert ended.code == 0, ended.err
        return Workspace(root)

    root = tmp_path / "workspace"
    return imported


def audit(run, place, table, *words):
    return run(
        *("train-teacher", "-w", place.root, "--cohort", "c", "--encoder", "e", "--audit-only"),
        *("--clinical", table, *words),
    )


def test_r_coding_is_refused_or_read_and_never_dropped(run, place, tmp_path):
    home = place([f"P{i:02d}" for i in range(40)])
    table = tmp_path / "t.csv"
    rows = [f"P{i:02d},{'NA' if i == 5 else 100 + 13 * i},{1 + i % 2}" for i in range(40)]
    table.write_text("\n".join(["case_id,time,status", *rows]) + "\n")
    ended = audit(run, home, table, "--event", "status", "--drop-incomplete")
    assert ended.code == 1
    assert "--event-values 1,2" in ended.err
    ended = audit(run, home, table, "--event", "status", "--drop-incomplete", "--event-values", "1,2")
    assert ended.code == 0
    assert "of them usable 39 (19 events" in ended.out


def test_blank_rows_of_a_spreadsheet_are_no_rows(run, place, tmp_path):
    home = place([f"P{i}" for i in range(6)])
    rows = [f"P{i},{900 + i},{i % 2}" for i in range(6)]
    csv_file, book = tmp_path / "t.csv", openpyxl.Workbook()
    csv_file.write_text("\n".join([HEADER, *rows, ",,", ",,"]) + "\n\n")
    for row in [HEADER, *rows, ",,"]:
        book.active.append([int(cell) if cell.isdecimal() else cell or None for cell in row.split(",")])
    book.save(tmp_path / "t.xlsx")
    for table in (csv_file, tmp_path / "t.xlsx"):
        ended = audit(run, home, table)
        assert ended.code == 0, ended.err
        assert "6, of them usable 6 (3 events" in ended.out


def test_words_for_nothing_are_no_hospitals(run, place, tmp_path):
    home = place([f"P{i}" for i in range(10)])
    table = tmp_path / "t.csv"
    words = ["North", "South", "", "NA", "[Not Available]"]
    rows = [f"P{i},{900 + i},{i % 2},{words[i % 5]}" for i in range(10)]
    table.write_text("\n".join([HEADER + ",hospital", *rows]) + "\n")
    ended = audit(run, home, table, "--site", "hospital")
    assert "2, and 6 cases of unknown hospital" in " ".join(ended.out.split())
    assert "6 cases of unknown hospital" in ended.err


def test_the_table_is_audited_without_slides_too(run, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(f"{HEADER},town\nA,900,1,X\nB,700,0,\nC,,0,X\n")
    words = ["--audit-only", "--clinical", table, "--cohort", "c", "-w", tmp_path / "none"]
    ended = run("train-teacher", *words)
    assert ended.code == 1
    assert "row 4 (C): time is missing" in ended.err
    ended = run("train-teacher", *words, "--drop-incomplete", "--site", "town")
    assert ended.code == 0, ended.err
    said = " ".join(ended.out.split())
    assert "3, of them usable 2 (1 events" in said
    assert "median time of the rows │ 900 days" in said
    assert "no slide has features yet" in said
    assert "cases with follow-up and slide" not in said
    assert "1, and 1 cases of unknown hospital" in said
    assert "sample size: the cohort is too small for what is asked, 2 cases: 1 events" in said
    assert not (tmp_path / "none").exists()


def test_a_unit_that_can_hardly_be_is_asked_for(run, place, tmp_path):
    home = place(["A", "B"])
    table = tmp_path / "t.csv"
    table.write_text(f"{HEADER}\nA,900,1\nB,1800,0\n")
    assert "is months the unit of 'time'?" in audit(run, home, table, "--time-unit", "months").err
    assert audit(run, home, table).err == ""


def test_ids_with_semicolons_and_signs_go_through_to_the_risks(run, place, tmp_path):
    names = ["K;9", "=K8", *(f"K{i}" for i in range(10, 24))]
    home = place([f"{name}_HE" for name in names])
    table = tmp_path / "t.csv"
    table.write_text("\n".join([HEADER, *(f"{name},{900 + i},{i % 2}" for i, name in enumerate(names))]) + "\n")
    quick = ["--epochs", 1, "--folds", 2, "--repeats", 1, "--text-folds", 2]
    words = ["-w", home.root, "--cohort", "c"]
    ended = run("train-teacher", *words, "--encoder", "e", "--clinical", table, *quick)
    assert ended.code == 0, ended.err
    assert "1 ids look like formulas (=K8" in ended.err
    assert run("distill", *words, "--epochs", 1).code == 0
    ended = run("predict", *words)
    assert ended.code == 0, ended.err
    assert "1 ids look like formulas" in ended.err
    with (home.cohort("c") / "risk.csv").open(newline="") as file:
        rows = {row["case_id"]: row["slides"] for row in csv.DictReader(file)}
    assert rows["K;9"] == '["K;9_HE"]'
    assert rows["'=K8"] == "'=K8_HE"
    assert rows["K10"] == "K10_HE"
    ended = run("predict", *words, "--slide-map", table)
    assert ended.code == 2
    assert "of no use for the cohort's own cases" in ended.err


def test_an_mpp_table_may_name_files_and_leftovers_are_told(run, tmp_path, make_slide):
    make_slide(tmp_path / "A1.tif", (700, 700), mpp=1.0)
    table = tmp_path / "mpp.csv"
    words = ["tile", tmp_path / "A1.tif", "--mpp-table", table, "--tile-mpp", 0.5, "-w", tmp_path / "w"]
    table.write_text("slide_id;mpp\nA2.tif;0,25\n")
    for command in (words, [*words, "--dry-run"], ["check", *words[1:-2]]):
        ended = run(*command)
        assert ended.code == 1
        assert "the mpp table: none of its 1 rows names a slide that is here: it has A2.tif" in ended.err
    table.write_text("slide_id;mpp\nA1.tif;0,25\nA2.tif;0.5\n")
    ended = run(*words)
    assert ended.code == 0, ended.err
    assert "note: 1 rows of the mpp table name no slide that is here: A2.tif" in ended.err
    tiles = read_tiles(tmp_path / "w" / "tiles" / "A1.h5")[0]
    assert (tiles.mpp, tiles.mpp_source) == (0.25, "the table given")
    assert run(*words, "--dry-run", "--shard", "2/2").code == 0


def test_an_mpp_table_of_imported_features_may_name_files(run, place, tmp_path):
    home = place(["A", "B"])
    table = tmp_path / "mpp.csv"
    table.write_text("slide_id,mpp\nA.svs,0.25\nB.svs,0.25\nC.svs,0.5\n")
    words = ["--encoder", "e", "--tile-mpp", 0.25, "--mpp-table", table, "--redo", "-w", home.root]
    ended = run("import", tmp_path / "f", *words)
    assert ended.code == 0, ended.err
    assert "1 rows of the mpp table name no slide that is here: C.svs" in ended.err
    assert read_features(home.features("e", "A"))[0].mpp == 0.25


def test_files_passed_over_are_counted_and_named(run, tmp_path, make_slide):
    slides, reports = tmp_path / "s", tmp_path / "r"
    (reports / "sub").mkdir(parents=True)
    slides.mkdir()
    make_slide(slides / "A.tif", (700, 700))
    for name in ("B.btf", "C.qptiff", "E.svs.tmp", "F", "G.vsi", ".hidden"):
        (slides / name).write_text("x")
    (slides / "deep").mkdir()
    (slides / "deep" / "D.ptif").write_text("x")
    (slides / "M").mkdir()  # of a MIRAX slide
    (slides / "M" / "Data0000.dat").write_text("x")
    (slides / "M.mrxs").write_text("x")
    for name in ("P1.txt", "P2.text", "P4.md", "P3.pdf", "sub/P5.txt"):
        (reports / name).write_text("Adenocarcinoma.")
    place = ["-w", tmp_path / "w"]
    for ended in (run("check", slides), run("tile", slides, *place)):
        assert f"note: 6 files of {slides} were passed over" in ended.err
        assert "B.btf, C.qptiff, E.svs.tmp, F, G.vsi and 1 more" in ended.err
    ended = run("extract-report", reports, "--backend", "rules", *place)
    assert ended.code == 0
    assert f"3 files and 1 folders of {reports} were passed over" in ended.err
    assert "P2.text, P3.pdf, P4.md, sub/" in ended.err
    (reports / "P1.txt").unlink()
    ended = run("extract-report", reports, "--backend", "rules", *place)
    assert ended.code == 1
    assert "no report in it: 3 files and 1 folders" in ended.err


def test_gold_may_name_files_and_leftovers_are_told(run, tmp_path):
    reports, gold = tmp_path / "reports.jsonl", tmp_path / "gold.jsonl"
    text = "MICROSCOPIC DESCRIPTION: Adenocarcinoma with extensive necrosis."
    reports.write_text(json.dumps({"case_id": "A", "text": text}) + "\n")
    place = ["-w", tmp_path / "w"]
    assert run("extract-report", reports, "--backend", "rules", *place).code == 0
    line = {"category": "necrosis", "text": "extensive necrosis", "evidence": "extensive necrosis"}
    records = [json.dumps({"case_id": case, "statements": [line]}) + "\n" for case in ("A.txt", "Z")]
    gold.write_text("".join(records))
    ended = run("evaluate-reports", reports, "--gold", gold, *place)
    assert ended.code == 0, ended.err
    assert "1 cases of" in ended.err
    assert "have no report here and count as not found: Z" in ended.err
    metrics = json.loads((tmp_path / "w" / "reports" / "evaluation" / "metrics.json").read_text())
    assert (metrics["against_gold"]["gold"], metrics["against_gold"]["found"]) == (2, 1)
    gold.write_text(records[0] * 2)
    ended = run("evaluate-reports", reports, "--gold", gold, *place)
    assert ended.code == 1
    assert "case 'A' is there twice" in ended.err


def test_a_slide_map_needs_a_table(run, place, tmp_path):
    home = place(["A"])
    ended = run("train-teacher", "-w", home.root, "--slide-map", tmp_path / "map.csv")
    assert ended.code == 2
    assert "--slide-map goes with --clinical" in ended.err
