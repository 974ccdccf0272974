"""Immunohistochemistry and slides without eosin are told from H&E by their colours."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsisurv.formats.tiles import Tiles, read_tiles, write_tiles
from wsisurv.prediction.stain import colours_of, look_at, measured_warnings
from wsisurv.prediction.step import look_at_slides
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.reader import Slide
from wsisurv.tiling.step import tile
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

# optical densities of red, green and blue of haematoxylin, eosin and diaminobenzidine (Ruifrok and Johnston 2001)
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def stained(haematoxylin, eosin, brown, n=5000):
    """Pixels with random amounts of each stain."""
    rng = np.random.default_rng(0)
    amounts = rng.gamma(4, np.array([haematoxylin, eosin, brown]) / 4 + 1e-9, (n, 3))
    density = amounts @ (STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True))
    return (255 * 10**-density).astype(np.uint8)


@pytest.mark.parametrize(
    ("amounts", "said"),
    [
        ((0.3, 0.4, 0.0), ""),
        ((0.6, 0.2, 0.0), ""),
        ((0.1, 0.5, 0.0), ""),
        ((0.3, 0.0, 0.6), "brown"),
        ((0.2, 0.0, 0.2), "brown"),
        ((0.3, 0.0, 0.0), "only 0% .* pink"),
    ],
)
def test_stains_are_told_apart(amounts, said):
    warnings = " ".join(colours_of(stained(*amounts)).warnings)
    assert re.fullmatch(said and f".*{said}.*", warnings)


def test_a_few_positive_cells_are_enough():
    pixels = np.concatenate([stained(0.3, 0, 0, 9000), stained(0.1, 0, 0.8, 1000)])
    assert any("brown" in warning for warning in colours_of(pixels).warnings)


def test_real_immunohistochemistry_is_brown():
    from skimage.data import immunohistochemistry  # a photograph that comes with scikit-image: colonic glands, DAB

    assert colours_of(immunohistochemistry()).brown > 0.3


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (190, 60, 40), (60, 70, 200)])
def test_glass_black_blood_and_ink_are_not_brown(colour):
    assert colours_of(np.full((100, 3), colour, np.uint8)).brown == 0


@pytest.fixture(scope="module")
def tiled(tmp_path_factory, make_slide, draw_tissue) -> Workspace:
    """The same drawn tissue, pink and brown."""
    folder = tmp_path_factory.mktemp("stain")
    pink = draw_tissue(1200, 900)
    is_pink = (pink[..., 1].astype(int) - pink[..., 2]) < -10
    brown = np.where(is_pink[..., None], np.array([176, 130, 90], np.uint8), pink)
    make_slide(folder / "pink.tiff", pink)
    make_slide(folder / "brown.tiff", brown)
    tile(Workspace(folder / "w"), [folder], TileSettings(), preview=False)
    return Workspace(folder / "w")


def test_slides_are_looked_at(tiled):
    seen = look_at_slides(tiled, ["brown", "gone", "pink"])
    assert set(seen) == {"brown", "pink"}
    assert seen["pink"] == ()
    assert "immunohistochemistry" in seen["brown"][0]


def test_a_slide_that_is_gone_or_has_no_tile(tiled, tmp_path):
    tiles, header = read_tiles(tiled.tiles("pink"))
    with Slide(tiles.slide_path, tiles.mpp) as slide:
        assert look_at(slide, tiles.coords[:0], level0_px=tiles.tile_level0_px, tile_px=224).warnings == ()
    other = Workspace(tmp_path)
    write_tiles(other.tiles("pink"), replace(tiles, slide_path=Path("/nowhere.svs")), header)
    assert look_at_slides(other, ["pink"]) == {}


def test_stored_densities_are_asked_where_pixels_are_not():
    tiles = Tiles(
        SlideId("a"), Path("a"), np.zeros((3, 2), np.int64), np.ones(3, np.float32), 0.5, 0.5, 224, 224.0, 0, 9, 9
    )
    assert measured_warnings(tiles) == ()
    blue = {"haematoxylin": np.full(3, 0.3, np.float32), "eosin": np.full(3, 0.001, np.float32)}
    assert "hardly any eosin" in measured_warnings(replace(tiles, measures=blue))[0]
    both = {**blue, "eosin": np.full(3, 0.2, np.float32)}
    assert measured_warnings(replace(tiles, measures=both)) == ()
