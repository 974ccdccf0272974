"""Files built key by key as STAMP, TRIDENT, CLAM and AtlasPatch write them."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from wsisurv.errors import BackendError, FormatError, InputError, NoSlidesError
from wsisurv.formats import foreign_text
from wsisurv.formats.export import export_features, export_tiles
from wsisurv.formats.features import Features
from wsisurv.formats.foreign import holds_features, read_foreign_features, read_foreign_tiles
from wsisurv.formats.foreign_folders import find_files
from wsisurv.formats.header import make_header
from wsisurv.formats.tiles import Tiles, write_tiles
from wsisurv.units import SlideId

COORDS = np.array([[0, 0], [512, 0], [512, 1024]])
VALUES = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
GEOMETRY = {
    "patch_size": 256,
    "patch_size_level0": 512,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 16,
    "level0_width": 40_000,
    "level0_height": 30_000,
}


def trident_tiles(path: Path, coords=COORDS) -> Path:
    with h5py.File(path, "w") as file:
        made = file.create_dataset("coords", data=coords.astype(np.int64))
        made.attrs.update({**GEOMETRY, "name": "S-1", "savetodir": "/somewhere"})
    return path


def trident_features(path: Path, encoder: str | None = "uni_v2") -> Path:
    with h5py.File(trident_tiles(path), "a") as file:
        made = file.create_dataset("features", data=VALUES, maxshape=(None, 5), chunks=(1, 5))
        made.attrs.update({"name": "S-1", "savetodir": "/elsewhere", **({"encoder": encoder} if encoder else {})})
    return path


def clam_tiles(path: Path, level: int = 1, downsample=(4.0, 4.0)) -> Path:
    with h5py.File(path, "w") as file:
        made = file.create_dataset("coords", data=COORDS.astype(np.int32), maxshape=(None, 2), chunks=(1, 2))
        made.attrs["patch_size"] = 256
        made.attrs["patch_level"] = level
        made.attrs["downsample"] = downsample
        made.attrs["downsampled_level_dim"] = (10_000, 7_500)
        made.attrs["level_dim"] = (10_000, 7_500)
        made.attrs["name"] = "S-1"
        made.attrs["save_path"] = "/somewhere"
    return path


def mussel_tiles(path: Path, **changes: object) -> Path:
    """Attributes as version 1.5.0 of Mussel wrote them; those of the tissue's search left out."""
    with h5py.File(path, "w") as file:
        made = file.create_dataset("coords", data=COORDS)
        said = {"mpp": 0.5, "native_mpp": 0.25, "mpp_is_fallback": False, "overlap": 0, "patch_level": 0, "name": "S-1"}
        said |= {"patch_size": 512, "patch_size_to_resize_to_for_desired_mpp": 256, "step_size": 512}
        made.attrs.update({**said, "level_dim": (40_000, 30_000), **changes})
    return path


def clam_features(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=VALUES, maxshape=(None, 5), chunks=(1, 5))
        file.create_dataset("coords", data=COORDS.astype(np.int32), maxshape=(None, 2), chunks=(1, 2))
    return path


def atlaspatch(path: Path, *encoders: str) -> Path:
    with h5py.File(path, "w") as file:
        rest = np.tile([512, 512, 0], (3, 1))
        file.create_dataset("coords", data=np.hstack([COORDS, rest]).astype(np.int32), maxshape=(None, 5))
        file.create_dataset("passports", data=np.array([b"S-1__x0"] * 3, "S160"), maxshape=(None,))
        file.attrs.update({**GEOMETRY, "wsi_path": "/slides/S-1.svs", "num_patches": 3, "passport_version": 2})
        for number, encoder in enumerate(encoders):
            file.create_dataset(f"features/{encoder}", data=VALUES + number)
    return path


def stamp(path: Path, size: str = "tile_size_um") -> Path:
    with h5py.File(path, "w") as file:
        file["coords"] = (COORDS * 0.25).astype(np.float32)
        file["feats"] = VALUES.astype(np.float16)
        file.attrs.update({"stamp_version": "2.3.0", "extractor": "uni2", "unit": "um", size: 256.0})
        file.attrs.update({"tile_size_px": 224, "code_hash": "abc", "feat_type": "tile"})
    return path


@pytest.mark.parametrize("make", [trident_tiles, atlaspatch])
def test_tiles_told_by_level0_pixels(tmp_path, make):
    tiles = read_foreign_tiles(make(tmp_path / "S-1_patches.h5"))
    assert tiles.layout == ("TRIDENT" if make is trident_tiles else "AtlasPatch")
    assert tiles.slide_id == "S-1"
    np.testing.assert_array_equal(tiles.coords, COORDS)
    assert tiles.coords.dtype == np.int64
    assert (tiles.tile_px, tiles.tile_level0_px, tiles.overlap_px) == (256, 512, 16)
    assert (tiles.level0_width, tiles.level0_height) == (40_000, 30_000)


def test_clam_tiles_are_told_by_a_level_and_lack_what_they_lack(tmp_path):
    tiles = read_foreign_tiles(clam_tiles(tmp_path / "a.h5"))
    assert (tiles.layout, tiles.slide_id, tiles.tile_px, tiles.tile_level0_px) == ("CLAM", "S-1", 256, 1024)
    assert (tiles.overlap_px, tiles.level0_width, tiles.level0_height) == (None, None, None)
    assert read_foreign_tiles(clam_tiles(tmp_path / "b.h5", 0, (1.0, 1.0))).level0_width == 10_000
    with pytest.raises(FormatError, match="downsample"):
        read_foreign_tiles(clam_tiles(tmp_path / "c.h5", 1, (4.0, 2.0)))


def test_mussels_tiles_say_their_resolution(tmp_path):
    tiles = read_foreign_tiles(mussel_tiles(tmp_path / "a.h5"))
    assert (tiles.layout, tiles.slide_id, tiles.tile_px, tiles.tile_level0_px) == ("Mussel", "S-1", 256, 512)
    assert (tiles.tile_mpp, tiles.mpp, tiles.overlap_px, tiles.level0_width) == (0.5, 0.25, 0, 40_000)
    coarser = read_foreign_tiles(mussel_tiles(tmp_path / "b.h5", patch_level=1, patch_size=128, overlap=16))
    assert (coarser.tile_px, coarser.tile_level0_px, coarser.overlap_px) == (256, 512, 32)
    assert coarser.level0_width is None
    for changes in ({"mpp": 0.0}, {"native_mpp": float("nan")}, {"patch_level": "x"}):
        with pytest.raises(FormatError):
            read_foreign_tiles(mussel_tiles(tmp_path / "c.h5", **changes))


def test_versions_are_told_where_a_tool_says_them(tmp_path):
    assert read_foreign_features(stamp(tmp_path / "S-1.h5")).version == "2.3.0"
    folder = tmp_path / "job" / "20x_256px" / "patches"
    folder.mkdir(parents=True)
    path = trident_tiles(folder / "S-1_patches.h5")
    assert read_foreign_tiles(path).version == ""
    record = tmp_path / "job" / "wsi_states" / "S-1__0a1b.json"
    record.parent.mkdir()
    for text, version in (('{"trident_version": "0.3.0"}', "0.3.0"), ('{"trident_version": "\\u001b"}', ""), ("[", "")):
        record.write_text(text)
        assert read_foreign_tiles(path).version == version


def test_the_root_of_a_job_is_searched_for_the_one_folder_that_is_meant(tmp_path):
    job = tmp_path / "job"
    for name in ("patches", "features_a"):
        (job / "20x" / name).mkdir(parents=True)
    tiles = trident_tiles(job / "20x" / "patches" / "S-1_patches.h5")
    features = trident_features(job / "20x" / "features_a" / "S-1.h5")
    assert find_files(job, features=False) == [tiles]
    assert find_files(job, features=True) == [features]
    assert find_files(features, features=True) == [features]
    (job / "10x").mkdir()
    trident_tiles(job / "10x" / "S-1_patches.h5")
    with pytest.raises(InputError, match=r"tiles in .*10x, .*20x.patches\. Name the folder"):
        find_files(job, features=False)
    both = tmp_path / "atlas" / "patches"
    both.mkdir(parents=True)
    made = atlaspatch(both / "S-1.h5", "uni")
    assert find_files(tmp_path / "atlas", features=False) == find_files(tmp_path / "atlas", features=True) == [made]


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("tiles/a.coordinates.meta.json", "hs2p or slide2vec"),
        ("tile_embeddings/a.meta.json", "slide2vec"),
        ("a.geojson", "outlines"),
    ],
)
def test_what_other_tools_write_and_is_not_read_is_named(tmp_path, name, tool):
    file = tmp_path / "theirs" / name
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    with pytest.raises(NoSlidesError, match=f"{tool}.*What is read: HDF5 of TRIDENT"):
        find_files(tmp_path / "theirs", features=False)
    with pytest.raises((NoSlidesError, FormatError), match=tool):
        read_foreign_tiles(*find_files(file, features=False))


def test_tensors_are_features_and_no_tiles(tmp_path):
    file = tmp_path / "theirs" / "pt_files" / "a.pt"
    file.parent.mkdir(parents=True)
    file.touch()
    for place in (tmp_path / "theirs", file):
        assert find_files(place, features=True) == [file]
        with pytest.raises(NoSlidesError, match="features, not tiles.*--encoder"):
            find_files(place, features=False)
    (tmp_path / "theirs" / "h5_files").mkdir()
    h5 = clam_features(tmp_path / "theirs" / "h5_files" / "a.h5")
    assert find_files(tmp_path / "theirs", features=True) == [h5]


@pytest.mark.parametrize(
    ("make", "layout", "encoder", "tile_px", "level0"),
    [(trident_features, "TRIDENT", "uni_v2", 256, 512), (clam_features, "CLAM", None, None, None)],
)
def test_features_say_what_their_layout_says(tmp_path, make, layout, encoder, tile_px, level0):
    path = make(tmp_path / "S-1.h5")
    features = read_foreign_features(path)
    assert holds_features(path)
    assert (features.layout, features.encoder, features.tile_px) == (layout, encoder, tile_px)
    assert (features.tile_level0_px, features.tile_mpp) == (level0, None)
    np.testing.assert_array_equal(features.values, VALUES)
    np.testing.assert_array_equal(features.coords, COORDS)


@pytest.mark.parametrize("size", ["tile_size_um", "tile_size"])
def test_stamp_features_are_in_micrometres(tmp_path, size):
    features = read_foreign_features(stamp(tmp_path / "S-1.h5", size))
    assert (features.layout, features.encoder, features.tile_px) == ("STAMP", "uni2", 224)
    assert features.tile_mpp == pytest.approx(256 / 224)
    np.testing.assert_allclose(features.coords, COORDS * 0.25)


def test_atlaspatch_features_are_chosen_by_name_where_there_are_several(tmp_path):
    one, two = atlaspatch(tmp_path / "one.h5", "uni_v2"), atlaspatch(tmp_path / "two.h5", "conch", "uni_v2")
    assert read_foreign_features(one).encoder == "uni_v2"
    np.testing.assert_array_equal(read_foreign_features(two, "uni_v2").values, VALUES + 1)
    for dataset in (None, "virchow"):
        with pytest.raises(FormatError, match=r"conch, uni_v2.*--dataset"):
            read_foreign_features(two, dataset)
    assert read_foreign_features(one).coords.shape == (3, 2)
    assert not holds_features(atlaspatch(tmp_path / "none.h5"))


def test_what_is_none_of_these_is_refused_by_name(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = VALUES
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["coords"] = COORDS
    with h5py.File(trident_features(tmp_path / "short.h5"), "a") as file:
        del file["coords"]
        file["coords"] = COORDS[:2]
    for name in ("text", "other", "short"):
        with pytest.raises(FormatError, match=rf"{name}\.h5"):
            read_foreign_features(tmp_path / f"{name}.h5")
    for name in ("text", "other", "bare"):
        with pytest.raises(FormatError, match=rf"{name}\.h5"):
            read_foreign_tiles(tmp_path / f"{name}.h5")
    with pytest.raises(FormatError, match=r"empty\.h5.*shape"):
        read_foreign_tiles(trident_tiles(tmp_path / "empty.h5", np.zeros((3, 3))))


def our_tiles() -> Tiles:
    return Tiles(
        slide_id=SlideId("S-1"),
        slide_path=Path("/slides/S-1.svs"),
        coords=COORDS.astype(np.int64),
        tissue=np.ones(3, np.float32),
        mpp=0.2527,
        tile_mpp=0.5,
        tile_px=224,
        tile_level0_px=224 * 0.5 / 0.2527,
        overlap_px=8,
        level0_width=40_000,
        level0_height=30_000,
    )


def our_features() -> Features:
    settings: dict[str, object] = {"tile_px": 224, "tile_mpp": 0.5}
    return Features(SlideId("S-1"), VALUES.astype(np.float16), COORDS.astype(np.int64), "uni2-h", (), settings, 0.2527)


@pytest.mark.parametrize("layout", ["clam", "trident"])
def test_tiles_exported_come_back(tmp_path, layout):
    path = tmp_path / "out" / "S-1_patches.h5"
    export_tiles(path, our_tiles(), layout)
    back = read_foreign_tiles(path)
    assert back.layout.lower() == layout
    assert (back.slide_id, back.level0_width, back.level0_height) == ("S-1", 40_000, 30_000)
    np.testing.assert_array_equal(back.coords, COORDS)
    assert back.tile_level0_px == pytest.approx(our_tiles().tile_level0_px, abs=0.5)
    assert (back.tile_px, back.overlap_px) == ((443, None) if layout == "clam" else (224, 8))


@pytest.mark.parametrize("layout", ["stamp", "clam", "trident"])
@pytest.mark.parametrize("tiles", [our_tiles(), None])
def test_features_exported_come_back(tmp_path, layout, tiles):
    export_features(tmp_path / "S-1.h5", our_features(), tiles, layout)
    back = read_foreign_features(tmp_path / "S-1.h5")
    assert back.layout.lower() == layout
    np.testing.assert_array_equal(back.values.astype(np.float16), our_features().values)
    level0 = back.coords / 0.2527 if layout == "stamp" else back.coords
    np.testing.assert_array_equal(np.rint(level0), COORDS)
    assert back.encoder == (None if layout == "clam" else "uni2-h")
    assert back.tile_mpp == (pytest.approx(0.5) if layout == "stamp" else None)


def _tree(path: Path) -> dict[str, tuple[str, tuple[int, ...], frozenset[str]]]:
    with h5py.File(path) as file:
        sets = {name: (data.dtype.kind, data.shape[1:], frozenset(data.attrs)) for name, data in file.items()}
        return {**sets, "/": ("", (), frozenset(file.attrs))}


def test_our_own_tiles_file_is_one_of_tridents(tmp_path):
    write_tiles(tmp_path / "S-1.h5", our_tiles(), make_header("wsisurv/tiles", {}, {}))
    tiles = read_foreign_tiles(tmp_path / "S-1.h5")
    assert (tiles.layout, tiles.slide_id, tiles.tile_px, tiles.overlap_px) == ("TRIDENT", "S-1", 224, 8)
    np.testing.assert_array_equal(tiles.coords, COORDS)
    mine, theirs = _tree(tmp_path / "S-1.h5"), _tree(trident_tiles(tmp_path / "theirs.h5"))
    assert theirs["coords"][:2] == mine["coords"][:2]
    assert theirs["coords"][2] <= mine["coords"][2]


@pytest.mark.parametrize("layout", ["stamp", "clam", "trident"])
def test_an_exported_file_has_every_key_of_the_tools_own(tmp_path, layout):
    """All but stamp_version and code_hash, which would claim that STAMP made it."""
    theirs = {"stamp": stamp, "clam": clam_features, "trident": trident_features}[layout](tmp_path / "theirs.h5")
    export_features(tmp_path / "ours.h5", our_features(), our_tiles(), layout)
    mine = _tree(tmp_path / "ours.h5")
    for name, (kind, shape, attrs) in _tree(theirs).items():
        assert mine[name][:2] == (kind, shape)
        assert attrs - {"stamp_version", "code_hash"} <= mine[name][2]
    for make in (trident_tiles, clam_tiles) if layout != "stamp" else ():
        export_tiles(tmp_path / "tiles.h5", our_tiles(), make.__name__.split("_")[0])
        assert _tree(make(tmp_path / "t.h5"))["coords"][2] <= _tree(tmp_path / "tiles.h5")["coords"][2]


def test_what_comes_from_strangers_is_checked_before_it_is_read(tmp_path):
    """As our own files are (test_hostile): no link, no other file, nothing larger than the file."""
    (tmp_path / "secret").write_bytes(bytes(60))
    spoil = {
        "is a link to another place": lambda file: file.__setitem__("coords", h5py.ExternalLink("secret.h5", "/x")),
        "lies in another file": lambda file: file.create_dataset(
            "coords", shape=(3, 2), dtype="i8", external=[(str(tmp_path / "secret"), 0, 60)]
        ),
        "larger than the file": lambda file: file.create_dataset("coords", (3, 10**10), "i4", chunks=(3, 10)),
        "no finite numbers": lambda file: file.create_dataset("coords", data=np.full((3, 2), np.nan)),
    }
    for words, change in spoil.items():
        for make in (trident_features, stamp, trident_tiles, clam_tiles):
            path = make(tmp_path / "S-1.h5")
            with h5py.File(path, "a") as file:
                attributes = dict(file["coords"].attrs)
                del file["coords"]
                change(file)
                if words == "no finite numbers":
                    file["coords"].attrs.update(attributes)
            read = read_foreign_tiles if make in (trident_tiles, clam_tiles) else read_foreign_features
            with pytest.raises(FormatError, match=words):
                read(path)


@pytest.mark.parametrize("make", [trident_tiles, trident_features, stamp])
def test_a_text_that_claims_gigabytes_is_refused(tmp_path, make):
    path = make(tmp_path / "S-1.h5")
    read = read_foreign_tiles if make is trident_tiles else read_foreign_features
    read(path)
    content = path.read_bytes()
    stores = [found.start().to_bytes(8, "little") for found in re.finditer(rb"GCOL\x01", content)]
    places = [found.start() - 4 for store in stores for found in re.finditer(re.escape(store), content)]
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for place in places:
        spoilt = bytearray(content)
        spoilt[place : place + 4] = (0xFFFFFFF0).to_bytes(4, "little")
        path.write_bytes(spoilt)
        try:
            read(path)
        except FormatError as error:
            refused.append(str(error))
    assert refused  # others are never read
    assert all("is a damaged text" in words for words in refused)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_a_store_of_text_without_an_end_is_refused_and_the_next_file_is_read(tmp_path):
    """HDF5 walks round in it for ever: what reads it is ended."""
    path = trident_tiles(tmp_path / "S-1.h5")
    content = bytearray(path.read_bytes())
    store = content.index(b"GCOL\x01")
    content[store + 24 : store + 32] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(FormatError, match="attribute name is a damaged text"):
        read_foreign_tiles(path)
    assert read_foreign_tiles(trident_tiles(tmp_path / "S-2.h5")).slide_id == "S-1"


def test_where_no_process_can_be_started_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign_text, "_READER", foreign_text._Reader())
    monkeypatch.setattr(foreign_text, "_CHILD", "raise SystemExit(1)")
    with pytest.raises(BackendError, match="can't be started"):
        read_foreign_tiles(trident_tiles(tmp_path / "S-1.h5"))


def test_nothing_is_imported_from_the_folder_of_the_run(tmp_path, monkeypatch):
    (tmp_path / "h5py.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(foreign_text, "_READER", reader := foreign_text._Reader())
    assert read_foreign_tiles(trident_tiles(tmp_path / "S-1.h5")).slide_id == "S-1"
    reader.close()


@pytest.mark.parametrize("odd", ["256", np.bytes_(b"256"), np.zeros(3), h5py.Empty("f8")])
def test_sizes_that_are_no_number(tmp_path, odd):
    path = trident_tiles(tmp_path / "S-1.h5")
    with h5py.File(path, "a") as file:
        del file["coords"].attrs["patch_size"]
        file["coords"].attrs["patch_size"] = odd
    with pytest.raises(FormatError, match=r"S-1.h5: "):
        read_foreign_tiles(path)


def test_texts_of_fixed_length_and_of_any_are_the_same(tmp_path):
    path = trident_features(tmp_path / "S-1.h5")
    with h5py.File(path, "a") as file:
        del file["features"].attrs["encoder"]
        file["features"].attrs["encoder"] = np.bytes_(b"uni_v2")
    assert read_foreign_features(path).encoder == read_foreign_features(trident_features(path)).encoder == "uni_v2"


def test_arrays_of_text_are_never_read(tmp_path):
    path = clam_features(tmp_path / "S-1.h5")
    with h5py.File(path, "a") as file:
        del file["features"]
        file.create_dataset("features", data=["a", "b", "c"], dtype=h5py.string_dtype())
    with pytest.raises(FormatError, match="features has type"):
        read_foreign_features(path)


def test_spoilt_at_random(tmp_path):
    stamp(tmp_path / "stamp.h5")
    trident_features(tmp_path / "trident.h5")
    trident_tiles(tmp_path / "trident-tiles.h5")
    clam_tiles(tmp_path / "clam-tiles.h5")
    atlaspatch(tmp_path / "atlaspatch.h5", "uni_v2")
    command = [sys.executable, str(Path(__file__).with_name("fuzzing.py")), str(tmp_path), "0", "25"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"died at {(tmp_path / 'at.txt').read_text()}: {done.stderr[-2000:]}"
    seen = json.loads(done.stdout)
    assert seen["leaked"] == []
    assert seen["read"] > 10
    assert seen["refused"] > 100
