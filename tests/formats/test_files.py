"""What is written is read back, and what is not ours or not whole is refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.errors import FormatError, MissingArtifactError
from wsisurv.formats.features import Features, read_features, write_features
from wsisurv.formats.guidance import Guidance, read_guidance, write_guidance
from wsisurv.formats.header import make_header
from wsisurv.formats.models import ModelFile, read_model, write_model
from wsisurv.formats.statements import ReportRecord, Statement, read_statements
from wsisurv.formats.text_vectors import TextVectors, read_text_vectors, write_text_vectors
from wsisurv.formats.tiles import Tiles, read_tiles, write_tiles
from wsisurv.units import SlideId


def make_tiles(n_tiles: int) -> Tiles:
    return Tiles(
        slide_id=SlideId("S1"),
        slide_path=Path("/slides/S1.svs"),
        coords=np.arange(2 * n_tiles, dtype=np.int64).reshape(-1, 2),
        tissue=np.linspace(0, 1, n_tiles, dtype=np.float32),
        mpp=0.2527,
        tile_mpp=0.5,
        tile_px=224,
        tile_level0_px=224 * 0.5 / 0.2527,
        overlap_px=0,
        level0_width=50_000,
        level0_height=40_000,
    )


def make_features(n_tiles: int, n_features: int = 3) -> Features:
    values = np.random.default_rng(0).normal(size=(n_tiles, n_features)).astype(np.float16)
    coords = np.zeros((n_tiles, 2), dtype=np.int64)
    return Features(SlideId("S1"), values, coords, "histomics", ("a", "b", "c"), {"tile_px": 224}, 0.5)


def same(one: object, other: object) -> None:
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(other, name))
            assert value.dtype == getattr(other, name).dtype
        else:
            assert value == getattr(other, name), name


@pytest.mark.parametrize("n_tiles", [0, 1, 500])
def test_tiles_round_trip(tmp_path, n_tiles):
    header = make_header("wsisurv/tiles", {"tile_px": 224}, {"slide": "f"})
    write_tiles(tmp_path / "S1.h5", make_tiles(n_tiles), header)
    tiles, read = read_tiles(tmp_path / "S1.h5")
    same(make_tiles(n_tiles), tiles)
    assert read == header


def test_tiles_carry_the_attributes_that_other_tools_read(tmp_path):
    write_tiles(tmp_path / "S1.h5", make_tiles(4), make_header("wsisurv/tiles", {}, {}))
    with h5py.File(tmp_path / "S1.h5") as file:
        attrs = dict(file["coords"].attrs)
        assert file["coords"].dtype == np.int64
    assert attrs["patch_size"] == 224
    assert attrs["patch_size_level0"] == 443
    assert attrs["level0_magnification"] == 40
    assert attrs["target_magnification"] == 20
    assert {"overlap", "name", "savetodir", "level0_width", "level0_height"} <= attrs.keys()


@pytest.mark.parametrize("n_tiles", [0, 7])
def test_features_round_trip(tmp_path, n_tiles):
    write_features(tmp_path / "S1.h5", make_features(n_tiles), make_header("wsisurv/features", {}, {"tiles": "x"}))
    features, _ = read_features(tmp_path / "S1.h5")
    same(make_features(n_tiles), features)


def test_features_that_overflow_float16_are_refused(tmp_path):
    features = make_features(3)
    big = Features(**{**vars(features), "values": np.full((3, 3), 1e6, dtype=np.float32)})
    with np.errstate(over="ignore"), pytest.raises(FormatError, match="feature 0 of tile 0"):
        write_features(tmp_path / "f.h5", big, make_header("wsisurv/features", {}, {}))
    assert not (tmp_path / "f.h5").exists()


def test_text_vectors_guidance_and_models_round_trip(tmp_path, student_card):
    header = make_header("wsisurv/text-vectors", {}, {})
    vectors = TextVectors(np.eye(3, dtype=np.float32), ("a", "a", "ü"), ("a/1", "a/2", "ü/1"), "hashing")
    write_text_vectors(tmp_path / "v.h5", vectors, header)
    read, _ = read_text_vectors(tmp_path / "v.h5")
    same(vectors, read)
    assert {case: len(rows) for case, rows in read.by_case().items()} == {"a": 2, "ü": 1}

    relevance = {"a": np.array([0.25, 0.75], dtype=np.float32)}
    guidance = Guidance(
        case_ids=("a", "b"),
        risk=np.array([0.5, np.nan]),
        gate=0.7,
        gate_slope=1.2,
        gate_se=0.4,
        relevance=relevance,
        fold=np.array([0, 1]),
        risk_without=np.full((2, 2), np.nan),
        gate_without=np.array([0.0, 1.0]),
        text_risk=np.array([0.25, np.nan]),
    )
    write_guidance(tmp_path / "g.h5", guidance, make_header("wsisurv/guidance", {}, {}))
    again, _ = read_guidance(tmp_path / "g.h5")
    np.testing.assert_array_equal(again.risk, guidance.risk)
    np.testing.assert_array_equal(again.text_risk, guidance.text_risk)
    np.testing.assert_array_equal(again.relevance["a"], relevance["a"])
    assert (again.gate, again.case_ids) == (0.7, ("a", "b"))

    model = ModelFile({"members/0/weight": np.ones((2, 3), np.float32)}, student_card())
    write_model(tmp_path / "s.h5", model, make_header("wsisurv/student", {}, {}))
    student, _ = read_model(tmp_path / "s.h5", "student")
    np.testing.assert_array_equal(student.arrays["members/0/weight"], model.arrays["members/0/weight"])
    assert student.card == model.card


def test_the_same_content_is_the_same_file_bit_by_bit(tmp_path):
    for name in "one", "two":
        write_features(tmp_path / name, make_features(9), make_header("wsisurv/features", {"a": 1}, {}))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_is_not_there_not_ours_or_cut_short_is_refused_by_name(tmp_path):
    path = tmp_path / "S1.h5"
    with pytest.raises(MissingArtifactError, match="wsisurv tile"):
        read_tiles(path)
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(FormatError, match="S1.h5"):
        read_tiles(path)
    write_features(path, make_features(2), make_header("wsisurv/features", {}, {}))
    with pytest.raises(FormatError, match="'wsisurv/features', not 'wsisurv/tiles'"):
        read_tiles(path)
    write_tiles(path, make_tiles(5000), make_header("wsisurv/tiles", {}, {}))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(FormatError, match="S1.h5"):
        read_tiles(path)


def test_a_missing_key_is_named(tmp_path):
    path = tmp_path / "S1.h5"
    write_tiles(path, make_tiles(2), make_header("wsisurv/tiles", {}, {}))
    with h5py.File(path, "a") as file:
        del file["tissue"]
    with pytest.raises(FormatError, match="tissue"):
        read_tiles(path)


def test_a_model_that_holds_something_other_than_numbers_is_refused(tmp_path, student_card):
    write_model(tmp_path / "s.h5", ModelFile({}, student_card()), make_header("wsisurv/student", {}, {}))
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file["members/0/weight"] = "text"
    with pytest.raises(FormatError, match="members/0/weight"):
        read_model(tmp_path / "s.h5", "student")


def test_statements_are_read_by_case_and_the_newest_line_counts(tmp_path):
    statement = Statement(
        statement_id="a/1", category="necrosis", polarity="absent", text="no necrosis", evidence="No necrosis",
        start=0, end=11, match="folded",
    )  # fmt: skip
    old = ReportRecord(case_id="a", fingerprint="1", report_sha256="x", statements=())
    new = old.model_copy(update={"fingerprint": "2", "statements": (statement,)})
    path = tmp_path / "statements.jsonl"
    path.write_text(old.model_dump_json() + "\n" + new.model_dump_json() + "\n")
    assert read_statements(path) == {"a": new}
    path.write_text('{"case_id": "a", "surprise": 1}\n')
    with pytest.raises(FormatError, match="line 1"):
        read_statements(path)
    with pytest.raises(MissingArtifactError, match="extract-report"):
        read_statements(tmp_path / "none.jsonl")
