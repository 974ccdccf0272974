"""A file may be anybody's: opening it runs nothing, allocates nothing absurd, and ends in an error that says why."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.errors import FormatError, OlderFormatError, WsisurvError
from wsisurv.formats.features import Features, read_features, write_features
from wsisurv.formats.guidance import Guidance, read_guidance, write_guidance
from wsisurv.formats.hdf5 import put_text, put_texts, text, texts
from wsisurv.formats.header import create_bare, make_header, read_header
from wsisurv.formats.models import ModelFile, read_model, write_model
from wsisurv.formats.shown import describe
from wsisurv.formats.text_vectors import TextVectors, read_text_vectors, write_text_vectors
from wsisurv.formats.tiles import Tiles, read_tiles, write_tiles
from wsisurv.units import SlideId

FUZZER = Path(__file__).with_name("fuzzing.py")


def head(format, settings):
    """A header that is the same in every version: the fuzzer's seeds spoil the same bytes."""
    return replace(make_header(format, settings, {}), wsisurv_version="0")


@pytest.fixture(scope="module")
def originals(tmp_path_factory, student_card, teacher_card) -> dict[str, Path]:
    """One of each kind."""
    tmp_path = tmp_path_factory.mktemp("originals")
    rng = np.random.default_rng(0)
    paths = {
        kind: tmp_path / f"{kind}.h5" for kind in ("tiles", "features", "guidance", "vectors", "teacher", "student")
    }
    coords = np.arange(80, dtype=np.int64).reshape(-1, 2)
    tiles = Tiles(
        SlideId("tiles"), Path("S.svs"), coords, np.ones(40, np.float32), 0.25, 0.5, 224, 448.0, 0, 9000, 8000,
        piece=np.ones(40, np.int32), measures={"focus": np.ones(40, np.float32)}, flags=("pen",),
    )  # fmt: skip
    write_tiles(paths["tiles"], tiles, head("wsisurv/tiles", {"tile_px": 224}))
    values = rng.normal(size=(40, 3)).astype(np.float16)
    features = Features(SlideId("features"), values, coords, "histomics", ("a", "b", "c"), {"tile_px": 224}, 0.25)
    write_features(paths["features"], features, head("wsisurv/features", {"encoder": "histomics"}))
    numbers = rng.normal(size=4)
    guidance = Guidance(
        ("A", "B", "C", "D"), numbers, 0.5, 1.0, 0.1, {case: np.ones(3, np.float32) for case in "ABCD"},
        np.array([0, 0, 1, 1]), np.stack([numbers, numbers]), np.ones(2), numbers,
    )  # fmt: skip
    write_guidance(paths["guidance"], guidance, head("wsisurv/guidance", {}))
    vectors = TextVectors(rng.normal(size=(4, 3)).astype(np.float32), ("A", "A", "B", "C"), ("1", "2", "3", "4"), "t")
    write_text_vectors(paths["vectors"], vectors, head("wsisurv/text-vectors", {}))
    for kind, card in (("teacher", teacher_card), ("student", student_card())):
        model = ModelFile({"members/0/weight": rng.normal(size=(8, 3)), "centres": np.zeros(1)}, card)
        write_model(paths[kind], model, head(f"wsisurv/{kind}", {"seed": 0}))
    return paths


@pytest.fixture
def files(originals, tmp_path) -> dict[str, Path]:
    """One of each kind, to be spoilt."""
    return {kind: Path(shutil.copy(path, tmp_path)) for kind, path in originals.items()}


READERS = {
    "tiles": read_tiles,
    "features": read_features,
    "guidance": read_guidance,
    "vectors": read_text_vectors,
    "teacher": lambda path: read_model(path, "teacher"),
    "student": lambda path: read_model(path, "student"),
}
KINDS = sorted(READERS)


def refused(files, kind, match=None):
    for reader in (READERS[kind], describe):
        with pytest.raises(FormatError, match=match):
            reader(files[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_is_read_and_shown(files, kind):
    READERS[kind](files[kind])
    shown = describe(files[kind])
    assert shown.what == f"wsisurv/{'text-vectors' if kind == 'vectors' else kind}"
    assert shown.arrays
    json.dumps(shown.attributes, allow_nan=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_huge_array_that_is_not_there_is_never_allocated(files, kind):
    with h5py.File(files[kind], "a") as file:
        file.create_dataset("more", shape=(10**12,), dtype="f8", chunks=(10**4,))
    refused(files, kind, "larger than the file")


def test_a_known_array_that_became_huge(files):
    with h5py.File(files["features"], "a") as file:
        del file["features"]
        file.create_dataset("features", shape=(40, 10**10), dtype="f2", chunks=(40, 10))
    refused(files, "features", "larger than the file")


def test_what_unfolds_without_end(files):
    with h5py.File(files["tiles"], "a") as file:
        del file["tissue"]
        file.create_dataset("tissue", data=np.zeros(10**7, np.float32), compression="gzip")
    refused(files, "tiles", "larger than the file")


def test_a_packed_copy_is_still_read(files, tmp_path):
    (tmp_path / "packed").mkdir()
    with h5py.File(files["features"]) as source, h5py.File(tmp_path / "packed" / "features.h5", "w") as target:
        target.attrs.update(source.attrs)
        for name, item in source.items():
            packed = target.create_dataset(name, data=item[()], compression="gzip", chunks=item.shape)
            packed.attrs.update(item.attrs)
    np.testing.assert_array_equal(
        read_features(tmp_path / "packed" / "features.h5")[0].values, read_features(files["features"])[0].values
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["more", "coords"])
def test_no_link_is_followed(files, kind, name, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["coords"] = np.zeros((40, 2), np.int64)
    for link in (h5py.ExternalLink("secret.h5", "/coords"), h5py.SoftLink("/"), h5py.SoftLink(f"/{name}")):
        with h5py.File(files[kind], "a") as file:
            if name in file:
                del file[name]
            file[name] = link
        refused(files, kind, "is a link to another place")


def test_a_group_within_itself(files):
    with h5py.File(files["guidance"], "a") as file:
        file["relevance/round"] = file["relevance"]
    refused(files, "guidance", "the same object as another")


def test_no_other_file_is_read(files, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(range(80)))
    with h5py.File(files["student"], "a") as file:
        file.create_dataset("away", shape=(10,), dtype="f8", external=[(str(tmp_path / "secret"), 0, 80)])
    refused(files, "student", "lies in another file")


def test_no_array_is_put_together_from_other_files(files):
    layout = h5py.VirtualLayout((40, 2), "i8")
    layout[:] = h5py.VirtualSource("secret.h5", "coords", (40, 2))
    with h5py.File(files["tiles"], "a") as file:
        del file["tissue"]
        file.create_virtual_dataset("tissue", layout)
    refused(files, "tiles", "lies in another file")


@pytest.mark.parametrize(
    "dtype",
    [h5py.vlen_dtype(np.float64), h5py.ref_dtype, np.dtype([("a", "f8")]), np.dtype("c16"), np.dtype("V8")],
    ids=["ragged", "reference", "compound", "complex", "opaque"],
)
def test_other_types(files, dtype):
    with h5py.File(files["student"], "a") as file:
        file.create_dataset("odd", shape=(3,), dtype=dtype)
    refused(files, "student", "odd has type")


def test_other_types_of_attributes(files):
    with h5py.File(files["student"], "a") as file:
        file.attrs["odd"] = file.ref
    refused(files, "student", "attribute odd has type")


def test_a_named_type(files):
    with h5py.File(files["tiles"], "a") as file:
        file["kind"] = np.dtype("f8")
    refused(files, "tiles", "named type")


def with_free_text(path):
    """The file with texts of any length in it, as older ones had: an attribute, a list, and a known attribute."""
    with h5py.File(path, "a") as file:
        known = file.attrs["settings"].decode()
        del file.attrs["settings"]
        file.attrs["settings"] = known
        file.attrs["more"] = "words " * 20
        file.create_dataset("notes", data=["abc", "defg"], dtype=h5py.string_dtype())
    return path


def headers_too(files, kind, match):
    refused(files, kind, match)
    with pytest.raises(FormatError, match=match):
        read_header(files[kind], f"wsisurv/{kind}", "a step")


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_any_length_is_refused_before_it_is_read(files, kind):
    with_free_text(files[kind])
    headers_too(files, kind, "attribute (more|settings) is text of variable length")
    with h5py.File(files[kind], "a") as file:
        file.attrs.pop("more"), file.attrs.pop("settings")
        put_text(file, "settings", "{}")
    refused(files, kind, "notes is text of variable length.*--redo")


def named_texts(content: bytes) -> list[int]:
    """Where texts of any length are named: length, the place of their store, number in it."""
    places = []
    for store in re.finditer(rb"GCOL\x01\0\0\0", content):
        address = re.escape(store.start().to_bytes(8, "little"))
        for found in re.finditer(rb"(?=(....)%s(....))" % address, content, re.DOTALL):
            length, number = (int.from_bytes(found[part], "little") for part in (1, 2))
            if 0 < length < len(content) and 0 < number < 1000:
                places.append(found.start())
    return places


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_claims_gigabytes_is_refused_before_it_is_read(files, kind):
    """HDF5 would fill as much memory before it looks."""
    content = with_free_text(files[kind]).read_bytes()
    places = named_texts(content)
    assert len(places) >= 4
    for place in places:
        spoilt = bytearray(content)
        spoilt[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
        files[kind].write_bytes(spoilt)
        headers_too(files, kind, "variable length")


@pytest.mark.parametrize("unread", [b"\0\0\0", b"\x08\0\0"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_text_without_an_end_is_refused(files, kind, unread):
    """HDF5 would walk round in it for ever; it does not look at three bytes of the store's head."""
    content = bytearray(with_free_text(files[kind]).read_bytes())
    stores = [found.start() for found in re.finditer(rb"GCOL\x01", content)]
    assert stores
    for store in stores:
        content[store + 5 : store + 8] = unread
        content[store + 24 : store + 32] = (2**64 - 16).to_bytes(8, "little")
    files[kind].write_bytes(content)
    headers_too(files, kind, "variable length")


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_of_ours_has_text_of_any_length(originals, kind):
    assert b"GCOL" not in originals[kind].read_bytes()


def test_a_text_of_gigabytes_that_is_not_there_is_never_allocated(files):
    with h5py.File(files["vectors"], "a") as file:
        del file["statement_ids"]
        file.create_dataset("statement_ids", shape=(4,), dtype=h5py.string_dtype("utf-8", 2**31 - 1))
    refused(files, "vectors", "statement_ids .* larger than the file")


@pytest.mark.parametrize("value", ["", "a", "größer", "漢字", "{" + "ü" * 25_000 + "}", "\udcff"])
def test_texts_come_back_as_they_went_in(tmp_path, value):
    with create_bare(tmp_path / "a.h5") as file:
        put_text(file, "one", value)
        put_texts(file, "many", [value, "", value + "b"])
        put_texts(file, "none", [])
    with h5py.File(tmp_path / "a.h5") as file:
        assert text(file, "one") == value
        assert texts(file, "many") == (value, "", value + "b")
        assert texts(file, "none") == texts(file, "not there") == ()
        assert text(file, "not there", "x") == "x"
        with pytest.raises(KeyError):
            text(file, "not there")


def test_a_text_too_long_for_an_attribute_is_refused_by_name(tmp_path):
    with pytest.raises(FormatError, match="words is a text of 70000 bytes"), create_bare(tmp_path / "a.h5") as file:
        put_text(file, "words", "x" * 70_000)


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("tiles", "wsisurv tile"),
        ("features", "wsisurv embed"),
        ("guidance", "wsisurv train-teacher"),
        ("vectors", "wsisurv extract-report"),
        ("teacher", "wsisurv train-teacher"),
        ("student", "wsisurv distill"),
    ],
)
def test_a_file_of_an_older_or_newer_wsisurv_names_the_way_out(files, kind, command):
    with_free_text(files[kind])
    older, newer = (1, OlderFormatError, f"Run `{command} --redo`"), (99, FormatError, "Update wsisurv")
    for version, error, words in (older, newer):
        with h5py.File(files[kind], "a") as file:
            file.attrs["format_version"] = version
        with pytest.raises(error, match=words):
            READERS[kind](files[kind])
        with pytest.raises(error, match="older wsisurv .* --redo" if version == 1 else words):
            describe(files[kind])


def test_a_block_in_front_is_refused(tmp_path):
    path = tmp_path / "front.h5"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.attrs["format_version"] = 2
    for reader in (read_tiles, describe, lambda path: read_header(path, "wsisurv/tiles", "a step")):
        with pytest.raises(FormatError, match="a block in front"):
            reader(path)


def test_nesting_without_end(files):
    with h5py.File(files["guidance"], "a") as file:
        group = file
        for _ in range(2000):
            group = group.create_group("g")
    refused(files, "guidance", "nested deeper")


@pytest.mark.parametrize("value", [3, np.zeros(4), "[1]", "[" * 50_000, "{", h5py.Empty("f8"), b"\xff\xfe"])
@pytest.mark.parametrize("name", ["settings", "inputs", "format", "format_version", "wsisurv_version"])
def test_a_head_of_another_kind(files, name, value):
    for kind in ("student", "features"):
        with h5py.File(files[kind], "a") as file:
            del file.attrs[name]
            file.attrs[name] = value
        for reader in (READERS[kind], describe, lambda path: read_header(path, f"wsisurv/{path.stem}", "a step")):
            try:
                reader(files[kind])
            except WsisurvError:
                continue
            assert name in {"format_version", "wsisurv_version"}  # any number, any words


@pytest.mark.parametrize("value", [3, np.zeros((2, 2)), "words", "[" * 50_000, h5py.Empty("f8"), float("nan"), -1])
def test_attributes_of_another_kind(files, value):
    for kind, owner, name in [
        ("tiles", "coords", "mpp"),
        ("tiles", "coords", "tile_px"),
        ("tiles", "/", "flags"),
        ("features", "/", "tile_settings"),
        ("features", "/", "names"),
        ("features", "coords", "mpp"),
        ("guidance", "/", "gate"),
    ]:
        before = files[kind].read_bytes()
        with h5py.File(files[kind], "a") as file:
            file[owner].attrs[name] = value
        for reader in (READERS[kind], describe):
            with suppress(FormatError):  # nothing else may come; some of these will do
                reader(files[kind])
        files[kind].write_bytes(before)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("tiles", "coords", np.zeros((40, 3), np.int64)),
        ("tiles", "coords", np.zeros((40, 2))),
        ("tiles", "tissue", np.zeros(39, np.float32)),
        ("tiles", "piece", np.zeros(40)),
        ("tiles", "measures/focus", np.zeros((40, 1))),
        ("features", "features", np.zeros((40, 3), np.int64)),
        ("features", "features", np.float64(3)),
        ("features", "coords", np.zeros((39, 2), np.int64)),
        ("guidance", "fold", np.zeros(5, np.int64)),
        ("guidance", "risk", np.zeros((4, 1))),
        ("guidance", "risk_without", np.zeros((3, 4))),
        ("guidance", "case_ids", np.zeros(4)),
        ("vectors", "vectors", np.zeros((3, 3))),
        ("vectors", "vectors", np.zeros((4, 3), "S2")),
    ],
)
def test_arrays_that_do_not_belong_together(files, kind, name, value):
    with h5py.File(files[kind], "a") as file:
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = value
        file[name].attrs.update(attributes)
    with pytest.raises(FormatError, match=str(files[kind])):
        READERS[kind](files[kind])


def test_spoilt_at_random(files):
    """In a process of its own with little memory; HDF5 must not crash on these either."""
    folder = files["tiles"].parent
    command = [sys.executable, str(FUZZER), str(folder), "0", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"died at {(folder / 'at.txt').read_text()}: {done.stderr[-2000:]}"
    seen = json.loads(done.stdout)
    assert seen["leaked"] == []
    assert seen["read"] > 10
    assert seen["refused"] > 100
