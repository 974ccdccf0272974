"""`wsisurv verify`, and inputs that are another's: a slide, a file, a setting, a process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.formats.atomic import process_name
from wsisurv.formats.commands import read_commands
from wsisurv.formats.header import make_header
from wsisurv.formats.text_vectors import FORMAT, TextVectors, write_text_vectors
from wsisurv.workspace.paths import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_slide, do) -> Path:
    """Two slides, tiled and embedded, in ``home``; and ``whole``, what was made there."""
    root = tmp_path_factory.mktemp("verify")
    for name, size in (("a", (900, 700)), ("b", (800, 700))):
        make_slide(root / "home" / "slides" / f"{name}.tiff", size)
    do("tile", root / "home" / "slides", "-w", root / "home" / "ws")
    do("embed", "-w", root / "home" / "ws")
    shutil.copytree(root / "home", root / "whole")
    return root


@pytest.fixture
def place(made) -> Workspace:
    """The workspace as it was made, and where it was made: its files name their slides."""
    shutil.rmtree(made / "home")
    shutil.copytree(made / "whole", made / "home")
    return Workspace(made / "home" / "ws")


def test_a_whole_workspace_is_right(run, place):
    ended = run("verify", place.root)
    assert ended.code == 0
    assert " 0 wrong" in ended.out


def flip(place):
    path = place.features("histomics", "a")
    with h5py.File(path) as file:
        at = file["features"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at + 10] ^= 1
    path.write_bytes(content)


def exchange(place):
    one, other = place.tiles("a"), place.tiles("b")
    aside = one.rename(place.root.parent / "aside")
    other.rename(one)
    aside.rename(other)


def replace_slide(place):
    slides = place.root.parent / "slides"
    shutil.copy(slides / "b.tiff", slides / "a.tiff")


def spoil_ledger(place):
    path = place.failures("tile")
    path.parent.mkdir()
    path.write_text("{}\nnonsense\n")


def double_history(place):
    path = place.cohort("crc") / "history.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(2 * (json.dumps({"step": "distill", "part": "x", "epoch": 1, "loss": 1.0}) + "\n"))


def tiles_for_features(place):
    shutil.copy(place.tiles("a"), place.features("histomics", "a"))


def other_encoder(place):
    path = place.features("uni2-h", "a")
    path.parent.mkdir()
    shutil.copy(place.features("histomics", "a"), path)


def cut(place, folder, ending):
    path = place.root / folder / f"a.{ending}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_preview(place):
    cut(place, "preview", "jpg")


def cut_outlines(place):
    cut(place, "geojson", "geojson")


def empty_page(place):
    (place.root / "preview" / "index.html").write_text("")


def cut_figure(place):
    (place.root / "figure.svg").write_text("<svg><path")


def lose_cohort(place):
    path = place.cohort("crc") / "audit.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")


def double_statement(place):
    path = place.root / "reports" / "statements.jsonl"
    path.parent.mkdir()
    lines = [
        json.dumps({"case_id": case, "fingerprint": "f", "report_sha256": "s", "statements": []}) + "\n"
        for case in "aba"
    ]
    path.write_text("".join(lines))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (tiles_for_features, "holds wsisurv/tiles, where wsisurv/features should be"),
        (other_encoder, "uni2-h/a.h5: features of 'histomics'"),
        (cut_preview, "a.jpg: no whole picture"),
        (cut_outlines, "a.geojson: can't be read"),
        (empty_page, "index.html: empty or cut"),
        (cut_figure, "figure.svg: empty or cut"),
        (lose_cohort, "audit.json: its cohort.csv is not there"),
        (double_statement, "statements.jsonl: 1 lines stand there twice"),
        (flip, "features is not what was written"),
        (exchange, "tiles/a.h5: is of slide 'b'"),
        (replace_slide, "a.tiff: another slide"),
        (spoil_ledger, "failures/tile.jsonl, line"),
        (double_history, "history.jsonl, line 2: the same"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_is_wrong_is_named_and_ends_with_1(run, place, harm, told):
    harm(place)
    ended = run("verify", place.root)
    assert ended.code == 1
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_a_line_that_was_cut_is_told(run, place):
    path = place.failures("tile")
    path.parent.mkdir()
    path.write_text('{"id": "a", "err')
    ended = run("verify", place.root)
    assert ended.code == 0
    assert "tile.jsonl: ends within a line" in ended.err


def test_leftovers_are_told_and_are_no_fault(run, place):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    dead = process_name().replace(str(os.getpid()), str(gone.pid))
    for name in (dead, "0badcafe-1"):
        (place.root / "tiles" / f".{name}-00000000.partial").write_bytes(b"half")
    ended = run("verify", place.root)
    assert ended.code == 0
    assert [line for line in ended.err.splitlines() if "left by a run that was killed" in line and dead in line]
    assert [line for line in ended.err.splitlines() if "of another machine" in line and "0badcafe" in line]


def test_vectors_without_statements_are_told(run, place):
    path = place.vectors("hashing")
    path.parent.mkdir(parents=True)
    vectors = TextVectors(np.zeros((1, 2), np.float32), ("a",), ("a/0",), "hashing")
    write_text_vectors(path, vectors, make_header(FORMAT, {}, {}))
    ended = run("verify", place.root)
    assert ended.code == 0
    assert "statements.jsonl, which it is of, is not there" in " ".join(ended.err.split())


def test_no_such_workspace(run, tmp_path):
    assert run("verify", tmp_path / "none").code == 1


def test_features_of_tiles_that_were_made_anew_are_wrong(run, place):
    assert run("tile", place.root.parent / "slides", "-w", place.root, "--tile-px", 256, "--redo").code == 0
    ended = run("verify", place.root)
    assert ended.code == 1
    assert "made of the tiles of" in ended.err


def test_a_slide_that_was_replaced_is_not_embedded(run, place):
    shutil.rmtree(place.root / "features")
    replace_slide(place)
    ended = run("embed", "-w", place.root)
    assert ended.code == 1
    assert "another slide, not the file that a was tiled from" in ended.err
    assert place.embedded_slides("histomics") == ["b"]


def test_a_newer_file_is_refused_and_stays(run, place):
    path = place.features("histomics", "a")
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = np.int64(99)
    before = path.read_bytes()
    for more in ((), ("--redo",)):
        ended = run("embed", "-w", place.root, *more)
        assert ended.code == 1
        assert "made by wsisurv" in ended.err
        assert "damaged" not in ended.err
        assert path.read_bytes() == before


def test_another_process_is_exit_code_3_and_a_sentence(run, place):
    place.tiles("a").unlink()
    with place.claim("tile", "a"):
        ended = run("tile", place.root.parent / "slides", "-w", place.root)
        assert ended.code == 3
        assert "another process is at 1 of them" in ended.err
    with place.claim_settings("tile", {"tile_px": 1}):
        ended = run("tile", place.root.parent / "slides", "-w", place.root)
        assert ended.code == 3
        assert "tile_px: 1 → 224" in ended.err


@pytest.mark.parametrize("name", ["x\ny", "x\udcff", "x" * 245])
def test_one_bad_name_fails_alone(run, tmp_path, make_slide, name):
    make_slide(tmp_path / "slides" / "good.tiff", (900, 700))
    shutil.copy(tmp_path / "slides" / "good.tiff", tmp_path / "slides" / f"{name}.tiff")
    ended = run("tile", tmp_path / "slides", "-w", tmp_path / "ws")
    assert ended.code == 1
    assert "its name" in ended.err
    assert Workspace(tmp_path / "ws").tiled_slides() == ["good"]


def test_one_damaged_mask_fails_alone(run, tmp_path, make_slide):
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("deep", "cut", "good"):
        make_slide(tmp_path / "slides" / f"{name}.tiff", (900, 700))
    (masks / "deep.geojson").write_text("[" * 100_000)
    (masks / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x08\0\0\0\0bad!\0\0")
    square = [[0, 0], [800, 0], [800, 600], [0, 600], [0, 0]]
    (masks / "good.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [square]}))
    ended = run("tile", tmp_path / "slides", "-w", tmp_path / "ws", "--tissue-masks", masks)
    assert ended.code == 1
    assert Workspace(tmp_path / "ws").tiled_slides() == ["good"]


def test_students_that_changed_places_are_wrong(run, trained, tmp_path):
    place = Workspace(tmp_path / "ws")
    shutil.copytree(trained / "workspace" / "cohorts", place.root / "cohorts")
    (folder,) = (place.root / "cohorts").iterdir()
    assert run("verify", place.root).code == 0
    for one, other in (("student", "student_plain"), ("student_distilled", "student_plain")):
        content = {name: (folder / f"{name}.h5").read_bytes() for name in (one, other)}
        (folder / f"{one}.h5").write_bytes(content[other])
        (folder / f"{other}.h5").write_bytes(content[one])
        ended = run("verify", place.root)
        assert (ended.code, ended.err.count("files changed places")) == (1, 2)
        for name, whole in content.items():
            (folder / f"{name}.h5").write_bytes(whole)


def test_a_command_whose_folder_is_deleted_meanwhile_ends_as_it_would(run, place, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ended = run("embed", "-w", place.root)
    assert ended.code == 0
    assert read_commands(place.root)[-1].folder == ""
    monkeypatch.chdir(tmp_path)
