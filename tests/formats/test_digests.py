"""What a flipped bit, another's name, or a newer wsisurv comes to."""

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.errors import FormatError, NewerFormatError
from wsisurv.formats.digests import crc32
from wsisurv.formats.features import Features, read_features, write_features
from wsisurv.formats.header import FORMAT_VERSION, create, make_header, read_header
from wsisurv.formats.tiles import Tiles, read_tiles, write_tiles
from wsisurv.units import SlideId

COORDS = np.arange(200, dtype=np.int64).reshape(-1, 2)


@pytest.fixture
def features(tmp_path) -> Path:
    values = np.random.default_rng(0).normal(size=(100, 60)).astype(np.float16)
    path = tmp_path / "S.h5"
    write_features(
        path, Features(SlideId("S"), values, COORDS, "some", (), {}, 0.25), make_header("wsisurv/features", {}, {})
    )
    return path


@pytest.fixture
def tiles(tmp_path) -> Path:
    path = tmp_path / "tiles" / "S.h5"
    made = Tiles(SlideId("S"), Path("S.svs"), COORDS, np.ones(100, np.float32), 0.25, 0.5, 224, 448.0, 0, 9000, 8000)
    write_tiles(path, made, make_header("wsisurv/tiles", {"tile_px": 224}, {"slide": "f"}))
    return path


@pytest.mark.parametrize("size", [0, 3, 4095, 4097, 100_000])
def test_the_checksum_is_zlibs(size):
    values = np.random.default_rng(1).integers(0, 255, size, dtype=np.uint8)
    assert crc32(values) == crc32(values.tobytes()) == zlib.crc32(values)
    assert crc32(values, crc32(b"before")) == zlib.crc32(b"before" + values.tobytes())
    assert crc32(np.arange(12).reshape(3, 4).T) == zlib.crc32(np.arange(12).reshape(3, 4).T.tobytes())


def test_a_flipped_bit_of_an_array_is_damage(features):
    with h5py.File(features) as file:
        at = file["features"].id.get_chunk_info(0).byte_offset
    content = bytearray(features.read_bytes())
    content[at + 1001] ^= 4
    features.write_bytes(content)
    with pytest.raises(FormatError, match="S.h5: damaged .*features is not what was written.*wsisurv embed"):
        read_features(features)


def test_an_attribute_that_was_changed_is_damage(tiles):
    with h5py.File(tiles, "a") as file:
        file["coords"].attrs["mpp"] = 0.5
    with pytest.raises(FormatError, match="S.h5: damaged: it is not what was written"):
        read_tiles(tiles)


@pytest.mark.parametrize("lost", ["crc32", "attributes_crc32"])
def test_a_checksum_that_is_gone_is_damage(tiles, lost):
    with h5py.File(tiles, "a") as file:
        del (file["tissue"] if lost == "crc32" else file).attrs[lost]
    with pytest.raises(FormatError, match=r"S\.h5"):
        read_tiles(tiles)


def test_settings_that_are_not_those_of_the_fingerprint_are_damage(tiles):
    with h5py.File(tiles, "a") as file:
        kept = file.attrs["settings"].replace(b"224", b"225")
        file.attrs.create("settings", np.array(kept), dtype=file.attrs.get_id("settings").dtype)
    with pytest.raises(FormatError, match="fingerprint"):
        read_header(tiles, "wsisurv/tiles", "wsisurv tile")


@pytest.mark.parametrize(("kind", "read"), [("features", read_features), ("tiles", read_tiles)])
def test_a_file_under_the_name_of_another_slide_is_refused(request, kind, read):
    path = request.getfixturevalue(kind)
    other = path.rename(path.with_name("T.h5"))
    with pytest.raises(FormatError, match=r"T\.h5: is of slide 'S', not 'T'"):
        read(other)


def test_a_name_of_another_unicode_form_is_the_same(tmp_path):
    made = Tiles(SlideId("\u00e9"), Path("S"), COORDS, np.ones(100, np.float32), 0.25, 0.5, 224, 448.0, 0, 9000, 8000)
    path = tmp_path / "e\u0301.h5"
    write_tiles(path, made, make_header("wsisurv/tiles", {}, {}))
    assert read_tiles(path)[0].slide_id == "\u00e9"


def test_a_newer_file_is_named_by_its_maker_and_never_written_over(tiles):
    with h5py.File(tiles, "a") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
        del file.attrs["wsisurv_version"]
        file.attrs.create("wsisurv_version", np.array(b"9.1"), dtype="S3")
        del file["coords"]
    before = tiles.read_bytes()
    with pytest.raises(NewerFormatError, match=r"S\.h5: made by wsisurv 9\.1 .*left as it is"):
        read_tiles(tiles)
    with pytest.raises(NewerFormatError), create(tiles, make_header("wsisurv/tiles", {}, {})):
        pass
    assert tiles.read_bytes() == before
