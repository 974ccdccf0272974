"""Slides at URLs: found, fingerprinted, copied and read as those of this disk."""

import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from dicom_writer import write_level

import wsisurv
from wsisurv.errors import NoSlidesError, SettingsError, SlideError
from wsisurv.formats.remote import RemotePath, slide_place
from wsisurv.formats.tiles import read_tiles
from wsisurv.slides.find import find_slides, slide_bytes, slide_fingerprint
from wsisurv.slides.reader import Slide
from wsisurv.workspace.paths import Workspace


@pytest.fixture
def bucket(tmp_path):
    """``bucket(folder)`` puts its files into a store in memory and gives the URL as the command line does."""

    def put(folder: Path) -> Path:
        store = fsspec.filesystem("memory")
        for path in folder.rglob("*"):
            if path.is_file():
                store.pipe(f"/{tmp_path.name}/{path.relative_to(folder)}", path.read_bytes())
        return Path(f"memory://{tmp_path.name}")

    yield put
    fsspec.filesystem("memory").store.clear()


def test_a_url_is_a_path_that_keeps_its_two_slashes():
    for url in ("s3://bucket/a folder/A.svs", "https://host/a.svs", "memory://x", "file:///tmp/a.svs"):
        place = slide_place(url)
        assert str(place) == url
        assert str(slide_place(Path(url))) == url
        assert (pickle.loads(pickle.dumps(place)), place.absolute(), place.resolve()) == (place, place, place)
    place = slide_place("s3://bucket/in/A.svs")
    assert str(place.parent / "B.svs") == "s3://bucket/in/B.svs"
    assert (place.stem, place.suffix, str(place.with_suffix(""))) == ("A", ".svs", "s3://bucket/in/A")
    assert str(place.relative_to(place.parent)) == "A.svs"
    for usual in ("a/b.svs", "/a/b.svs", "a:b.svs", ""):
        assert not isinstance(slide_place(usual), RemotePath)


def test_slides_are_found_and_known_again_as_on_disk(tmp_path, bucket):
    for name in ("A.svs", ".B.svs", "deep/er/C.ndpi", "M.mrxs", "M/Data0000.dat", "M/Slidedat.ini", "notes.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 400_000)
    here, there = find_slides([tmp_path / "in"]), find_slides([bucket(tmp_path / "in")])
    assert list(there) == list(here) == ["A", "C", "M"]
    for slide_id, path in there.items():
        assert slide_fingerprint(path) == slide_fingerprint(here[slide_id])
        assert slide_bytes(path) == slide_bytes(here[slide_id])
    with pytest.raises(NoSlidesError, match="memory://.*no such file or folder"):
        find_slides([Path("memory://nowhere")])
    with pytest.raises(SlideError, match="nosuch://x.*can't be reached"):
        find_slides([Path("nosuch://x")])


def test_tiles_and_features_are_those_of_files_but_for_the_url(tmp_path, bucket, make_slide, draw_tissue):
    for name in "AB":
        make_slide(tmp_path / "in" / f"{name}.tiff", (700, 600), seed=ord(name))
    image = np.asarray(draw_tissue(700, 600, seed=5))
    for number, step in enumerate((1, 4)):
        (tmp_path / "in" / "D").mkdir(exist_ok=True)
        write_level(tmp_path / "in/D" / f"{number}.dcm", image[::step, ::step], "1.2.5", 0.5 * step, first=step == 1)
    place, scratch, made = Workspace(tmp_path / "w"), tmp_path / "scratch", []
    for source in (tmp_path / "in", bucket(tmp_path / "in")):
        assert sorted(wsisurv.tile(place, [source], stage=scratch).done) == ["A", "B", "D"]
        assert sorted(wsisurv.embed(place, stage=scratch).done) == ["A", "B", "D"]
        tiles = {slide_id: read_tiles(place.tiles(slide_id)) for slide_id in place.tiled_slides()}
        made.append(({path.name: path.read_bytes() for path in (place.root / "features").rglob("*.h5")}, tiles))
        shutil.rmtree(place.root)
    (features, tiles), (features_of_urls, tiles_of_urls) = made
    assert features == features_of_urls
    assert list(scratch.iterdir()) == []
    for slide_id, (cut, header) in tiles_of_urls.items():
        assert str(cut.slide_path).startswith(f"memory://{tmp_path.name}/{slide_id}")
        assert header.fingerprint == tiles[slide_id][1].fingerprint
        assert np.array_equal(cut.coords, tiles[slide_id][0].coords)


def test_without_a_folder_for_copies_it_is_said_before_any_work(tmp_path, bucket, make_slide):
    make_slide(tmp_path / "in" / "A.tiff", (700, 600))
    source, place = bucket(tmp_path / "in"), Workspace(tmp_path / "w")
    with pytest.raises(SettingsError, match=rf"memory://{tmp_path.name}/A.tiff: .*--stage DIR"):
        wsisurv.tile(place, [source])
    wsisurv.tile(place, [source], stage=tmp_path / "scratch")
    with pytest.raises(SettingsError, match="--stage DIR"):
        wsisurv.embed(place)
    with pytest.raises(SlideError, match="copy it for this"):
        Slide(read_tiles(place.tiles("A"))[0].slide_path)
    fsspec.filesystem("memory").store.clear()
    assert "no longer there" in wsisurv.embed(place, stage=tmp_path / "scratch").failed[0].message
