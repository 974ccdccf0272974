"""Readers that a package of the user's own adds, held against OpenSlide."""

import numpy as np
import pytest

from wsisurv.errors import SettingsError, SlideError
from wsisurv.formats.tiles import read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.facts import read_facts
from wsisurv.slides.find import find_slides
from wsisurv.slides.reader import Slide
from wsisurv.slides.tiles import TileReader
from wsisurv.tiling.step import tile
from wsisurv.workspace.paths import Workspace

READER = '''
import numpy as np
import tifffile
from wsisurv.slides.readers.handle import PackagedReader


class Pages:
    """All levels of a picture in memory."""

    def __init__(self, levels, mpp):
        self.levels = levels
        self.properties = {"openslide.mpp-x": mpp, "openslide.mpp-y": mpp}
        self.level_dimensions = tuple((level.shape[1], level.shape[0]) for level in levels)
        self.dimensions = self.level_dimensions[0]
        self.level_downsamples = tuple(self.dimensions[0] / width for width, _ in self.level_dimensions)

    def pixels(self, level, x, y, width, height):
        return self.levels[level][y : y + height, x : x + width]

    def close(self):
        pass


def from_numpy(path):
    return Pages([np.load(path)], "0.5")


def from_tiff(path):
    with tifffile.TiffFile(path) as file:
        return Pages([page.asarray() for page in file.pages], "0.5")


def brighter(path):
    found = from_tiff(path)
    found.levels = [np.minimum(level, 250) + np.uint8(5) for level in found.levels]
    return found


def torn(path):
    found = from_numpy(path)
    found.pixels = lambda *_: np.zeros((3, 3, 3), np.uint8)
    return found


numpy_reader = PackagedReader((".npy",), from_numpy)
torn_reader = PackagedReader((".npy",), torn)
tiff_reader = PackagedReader((".tiff",), from_tiff)
brighter_reader = PackagedReader((".tiff",), brighter)
loud_reader = PackagedReader((".NPY",), from_numpy)
'''


SAID = "theirs of their_reader 1.2"


def readers(thing, name="theirs"):
    return {"wsisurv.readers": {name: f"their_reader:{thing}"}}


def test_a_format_that_openslide_does_not_open_is_tiled_with_a_note(install, tmp_path, draw_tissue):
    install("their_reader", READER, readers("numpy_reader"))
    image = draw_tissue(1400, 1200)
    (tmp_path / "slides").mkdir()
    path = tmp_path / "slides" / "S-1.npy"
    np.save(path, image)
    assert find_slides([tmp_path / "slides"]) == {"S-1": path}
    with Slide(path) as slide:
        assert (slide.reader, slide.mpp, slide.width, slide.height) == (SAID, 0.5, 1400, 1200)
        np.testing.assert_array_equal(slide.pixels(0, 300, 200, 64, 32), image[200:232, 300:364])
        beside = slide.pixels(0, 1390, 1190, 20, 20)
        np.testing.assert_array_equal(beside[:10, :10], image[1190:, 1390:])
        assert (beside[10:] == 255).all()
    assert read_facts(path).vendor == SAID
    workspace = Workspace(tmp_path / "w")
    summary = tile(workspace, [tmp_path / "slides"], TileSettings())
    assert summary.done == ["S-1"]
    assert "read by theirs of their_reader 1.2: OpenSlide doesn't open it" in " ".join(summary.notes)
    tiles, _ = read_tiles(workspace.tiles("S-1"))
    assert len(tiles.coords)
    with TileReader(path, tiles) as reader:
        assert reader.decoder == SAID
        x, y = tiles.coords[0]
        np.testing.assert_array_equal(reader.read(slice(0, 1))[0], image[y : y + 224, x : x + 224])


def test_a_reader_that_is_openslides_equal_is_used_without_a_note(install, tmp_path, make_slide, draw_tissue):
    install("their_reader", READER, readers("tiff_reader"))
    path = make_slide(tmp_path / "a.tiff", draw_tissue(900, 700), compression="deflate")
    with Slide(path) as slide:
        assert (slide.reader, slide.notes) == (SAID, ())


def test_a_reader_of_other_pixels_gives_way_to_openslide_with_a_note(install, tmp_path, make_slide, draw_tissue):
    image = draw_tissue(900, 700)
    path = make_slide(tmp_path / "a.tiff", image, compression="deflate")
    install("their_reader", READER, readers("brighter_reader"))
    with Slide(path) as slide:
        assert slide.reader == "openslide"
        assert "theirs of their_reader 1.2 is not OpenSlide's equal (its pixels differ by 5" in slide.notes[0]
        np.testing.assert_array_equal(slide.pixels(0, 100, 100, 9, 9), image[100:109, 100:109])


def test_what_no_reader_opens_is_said_of_both(install, tmp_path):
    install("their_reader", READER, readers("numpy_reader"))
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(SlideError, match=r"a\.npy: can't be opened, by OpenSlide or by theirs of their_reader 1\.2"):
        Slide(tmp_path / "a.npy")


def test_pixels_of_another_shape_than_asked_are_an_error_of_the_slide(install, tmp_path):
    install("their_reader", READER, readers("torn_reader"))
    np.save(tmp_path / "a.npy", np.zeros((50, 50, 3), np.uint8))
    with Slide(tmp_path / "a.npy") as slide, pytest.raises(SlideError, match="theirs of their_reader 1.2 gives uint8"):
        slide.pixels(0, 0, 0, 9, 9)


@pytest.mark.parametrize(
    ("thing", "name", "says"),
    [
        ("loud_reader", "theirs", "reader theirs of their_reader 1.2: ending '.NPY' is no ending in small letters"),
        (
            "numpy_reader",
            "openslide",
            "their_reader 1.2: its entry point 'openslide' of wsisurv.readers .* takes a name of wsisurv's own",
        ),
        (
            "from_numpy",
            "theirs",
            "their_reader 1.2: its entry point 'theirs' .* is a function, and a PackagedReader is wanted",
        ),
    ],
)
def test_a_reader_that_can_not_be_is_refused_by_package_and_entry_point(install, tmp_path, thing, name, says):
    install("their_reader", READER, readers(thing, name))
    with pytest.raises(SettingsError, match=says):
        find_slides([tmp_path])
