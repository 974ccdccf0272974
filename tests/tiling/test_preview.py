from pathlib import Path

import numpy as np
from PIL import Image

from wsisurv.formats.pictures import write_picture
from wsisurv.formats.tiles import Tiles
from wsisurv.tiling.preview import MAX_PX, draw_preview, preview_mpp
from wsisurv.tiling.tissue import Tissue
from wsisurv.units import SlideId


def tiles(coords: list[list[int]], width: int = 2000, height: int = 1000) -> Tiles:
    return Tiles(
        slide_id=SlideId("S-1"),
        slide_path=Path("S-1.svs"),
        coords=np.array(coords, np.int64).reshape(-1, 2),
        tissue=np.ones(len(coords), np.float32),
        mpp=0.5,
        tile_mpp=0.5,
        tile_px=200,
        tile_level0_px=200.0,
        overlap_px=0,
        level0_width=width,
        level0_height=height,
    )


def pink(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), (220, 120, 180), np.uint8)


def nothing(height: int = 63, width: int = 125) -> Tissue:
    return Tissue(np.zeros((height, width), bool), np.zeros((height, width), bool))


def test_a_kept_tile_keeps_its_colour_and_the_rest_fades() -> None:
    picture = draw_preview(pink(500, 1000), 1.0, nothing(), 8.0, tiles([[400, 200]]))
    assert picture.getpixel((250, 150)) == (220, 120, 180)
    red, green, blue = picture.getpixel((350, 150))
    assert red == green == blue


def test_the_outline_lies_where_the_tissue_ends() -> None:
    mask = np.zeros((63, 125), bool)
    mask[10:40, 20:70] = True
    picture = np.asarray(draw_preview(pink(500, 1000), 1.0, Tissue(mask, np.zeros_like(mask)), 8.0, tiles([])))
    black = np.argwhere((picture[:500] == 0).all(axis=-1))
    assert black.min(axis=0).tolist() == [80, 160]
    assert black.max(axis=0).tolist() == [319, 559]


def test_a_picture_stays_within_its_size_whatever_the_view() -> None:
    for width in (30, 1600, 1601, 4000):
        height = width // 2
        picture = draw_preview(pink(height, width), 1.0, nothing(), 8.0, tiles([], width * 2, height * 2))
        assert picture.width <= MAX_PX
    assert preview_mpp(100_000, 50_000, 0.25) == 0.25 * 100_000 / MAX_PX
    assert preview_mpp(100, 50, 0.25) == 0.25


def test_a_preview_is_a_jpeg_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "preview" / "S-1.jpg"
    write_picture(path, draw_preview(pink(500, 1000), 1.0, nothing(), 8.0, tiles([[0, 0]])), "JPEG")
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
        picture.load()


def test_what_was_left_out_is_shown_with_its_reason() -> None:
    mask = np.zeros((63, 125), bool)
    folds = mask.copy()
    folds[20:30, 100:110] = True
    tissue = Tissue(mask, mask, artefacts={"folds": folds, "bubbles": mask})
    places = np.array([[400, 200]])
    with_reason = np.asarray(draw_preview(pink(500, 1000), 1.0, tissue, 8.0, tiles([]), places))
    without = np.asarray(draw_preview(pink(500, 1000), 1.0, nothing(), 8.0, tiles([])))
    assert with_reason[100, 250].tolist() == [213, 94, 0]
    assert with_reason[165, 800].tolist() == [204, 121, 167]
    assert (with_reason[500 + 60 :] != without[500 + 60 :]).any()  # the caption's last line
    assert (with_reason[500 : 500 + 60] == without[500 : 500 + 60]).all()
