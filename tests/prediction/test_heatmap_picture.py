"""Maps are in the right colours at the right places, whatever the slide's shape."""

import numpy as np
import pytest
from PIL import Image

from wsisurv.prediction import heatmap_picture
from wsisurv.prediction.heatmap_picture import (
    DIVERGING,
    SEQUENTIAL,
    Ground,
    Layer,
    colours_of,
    draw_maps,
    paint,
    write_numbers,
)
from wsisurv.prediction.tile_sheet import Cut, draw_sheet, heading


def layer(values, low=-1.0, high=1.0):
    return Layer("what", np.array(values, dtype=float), low, high, DIVERGING, ("low", "high"))


def ground(height, width, boxes, grey=255):
    return Ground(np.full((height, width, 3), grey, np.uint8), 4.0, np.array(boxes, dtype=float).reshape(-1, 4))


def test_colours_are_blue_white_red_and_end_where_the_scale_ends():
    found = colours_of(np.array([-9.0, -1.0, 0.0, 1.0, 9.0]), -1, 1, DIVERGING)
    assert found[0].tolist() == found[1].tolist() == list(DIVERGING[0])
    assert found[2].tolist() == list(DIVERGING[2])
    assert found[3].tolist() == found[4].tolist() == list(DIVERGING[-1])
    assert found[1][2] > found[1][0]  # blue lowers
    assert found[3][0] > found[3][2]  # red raises


def test_the_colours_differ_in_lightness_from_white_on_both_sides():
    """Who can't tell red from blue still sees how far from none a tile is."""
    for colours, middle in ((DIVERGING, 2), (SEQUENTIAL, 0)):
        lightness = np.array(colours) @ (0.2126, 0.7152, 0.0722)
        assert (np.diff(lightness[middle:]) < 0).all()
        assert (np.diff(lightness[: middle + 1]) > 0).all()


def test_each_tile_is_painted_at_its_place_and_nothing_else_is():
    picture = np.asarray(paint(ground(40, 60, [[0, 0, 10, 10], [20, 10, 40, 30]]), layer([-1, 1])))
    assert picture[5, 5].tolist() == list(DIVERGING[0])
    assert picture[20, 30].tolist() == list(DIVERGING[-1])
    assert picture[35, 50].tolist() == [255, 255, 255]
    assert picture[9, 20].tolist() == [255, 255, 255]
    assert picture[10, 20].tolist() == list(DIVERGING[-1])


def test_where_tiles_overlap_their_mean_is_shown():
    picture = np.asarray(paint(ground(10, 30, [[0, 0, 20, 10], [10, 0, 30, 10]]), layer([-1, 1])))
    assert picture[5, 15].tolist() == list(DIVERGING[2])
    assert picture[5, 5].tolist() == list(DIVERGING[0])


def test_every_pixel_is_what_its_own_tiles_and_grey_make_of_it():
    """Against pixel by pixel: tiles apart, side by side, over each other, and beyond the edge."""
    random = np.random.default_rng(3)
    corner = random.uniform(-5, 45, (30, 2))
    where = Ground(random.integers(0, 256, (40, 50, 3), dtype=np.uint8), 4.0, np.hstack([corner, corner + 7.4]))
    shown = layer(random.normal(size=30))
    grey = np.asarray(Image.fromarray(where.pixels).convert("L")).astype(float)
    picture = np.asarray(paint(where, shown))
    for y, x in np.ndindex(grey.shape):
        own = [
            value
            for (left, top, right, bottom), value in zip(np.rint(where.boxes).astype(int), shown.values, strict=True)
            if max(left, 0) <= x < max(right, left + 1) and max(top, 0) <= y < max(bottom, top + 1)
        ]
        wanted = np.repeat(255 - (255 - grey[y, x]) * 0.4, 3)
        if own:
            tint = colours_of(np.array([sum(own) / len(own)]), shown.low, shown.high, shown.colours)[0]
            wanted = tint * (0.3 + 0.7 * grey[y, x] / 255)
        assert np.abs(picture[y, x] - wanted).max() <= 0.5001, (y, x)


def test_tissue_shows_through_the_colour():
    dark = np.asarray(paint(ground(10, 10, [[0, 0, 10, 10]], grey=40), layer([1])))
    assert dark[5, 5].sum() < sum(DIVERGING[-1])


@pytest.mark.parametrize(
    ("height", "width", "boxes"),
    [
        (300, 200, [[0, 0, 50, 50]]),
        (1, 1, [[0, 0, 0.3, 0.3]]),
        (20, 900, [[-3, -3, 30, 30], [880, 10, 930, 40]]),
        (60, 60, []),
    ],
)
def test_a_sheet_of_any_shape_holds_all_maps(height, width, boxes):
    values = np.linspace(-1, 1, len(boxes))
    layers = [layer(values), layer(values), layer(values)]
    sheet = draw_maps(ground(height, width, boxes), "title", ["a line"], layers)
    assert sheet.width >= width
    assert sheet.height > height
    pixels = np.asarray(sheet)
    assert (pixels.reshape(-1, 3) == 0).all(axis=1).any()  # words and a scale bar


def test_the_contact_sheet_frames_each_tile_in_its_colour():
    cuts = [Cut(np.full((64, 64, 3), 90 + number, np.uint8), 0.5, 0.1, (f"{number}",)) for number in range(8)]
    sheet = np.asarray(draw_sheet("title", ["line"], [("high", cuts[:7]), ("low", cuts[7:])], 0.1))
    for number in range(8):
        assert (sheet.reshape(-1, 3) == 90 + number).all(axis=1).sum() >= 64 * 64
    frame = np.array(DIVERGING[-1])
    assert (sheet.reshape(-1, 3) == frame).all(axis=1).sum() > 8 * 4 * 64
    assert draw_sheet("title", [], [("high", []), ("low", [])], 0.1).width > 0


def test_words_can_be_read_where_a_page_shows_the_picture(monkeypatch):
    sizes, real = [], heatmap_picture.lettering
    monkeypatch.setattr(heatmap_picture, "lettering", lambda size: sizes.append(size) or real(size))
    sheet = draw_maps(ground(700, 900, [[0, 0, 50, 50]]), "title", ["a line " * 60], [layer([1.0])] * 2)
    assert min(size for size in sizes if size != min(sizes)) * 1100 / sheet.width >= 13  # at the width of the page
    assert min(sizes) * 1100 / sheet.width >= 11  # the numbers of tiles
    assert draw_maps(ground(700, 900, []), "t", ["a line"], [layer([])] * 2).height < sheet.height  # lines are wrapped


def test_numbers_are_on_their_tiles_or_beside_small_ones_and_never_over_each_other():
    large = np.array([[x, y, x + 60, y + 60] for x in (0, 60, 120) for y in (0, 60)], dtype=float)
    picture = Image.new("RGB", (300, 200), "red")
    areas = write_numbers(picture, large, [(row + 1, row) for row in range(6)], 15)
    for (left, top, right, bottom), box in zip(areas, large, strict=True):
        assert box[0] <= left < right <= box[2]
        assert box[1] <= top < bottom <= box[3]
    assert (np.asarray(picture) == 255).all(axis=2).any()
    small = np.array([[20 + 4 * n, 50, 24 + 4 * n, 54] for n in range(8)], dtype=float)
    areas = write_numbers(Image.new("RGB", (300, 200)), small, [(row + 1, row) for row in range(8)], 15)
    for number, one in enumerate(areas):
        assert min(one) >= 0
        for other in areas[:number]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize(
    ("values", "highest", "said"),
    [
        ([0.3, 0.1], True, "usual"),
        ([-0.3, -0.1], False, "usual"),
        ([0.3, 0.0, -0.1], True, "usual (2 of 3 not above 0)"),
        ([-0.3, 0.1], False, "usual (1 of 2 not below 0)"),
        ([0.1, 0.2], False, "none"),
        ([-0.2, 0.0], True, "none"),
    ],
)
def test_an_end_is_called_what_its_tiles_are(values, highest, said):
    assert heading(values, highest=highest, usual="usual", none="none") == said
