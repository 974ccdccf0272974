"""The pyramid of a slide: every pixel of the slide is in it once, at the place and scale that a browser expects."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsisurv.errors import InputError
from wsisurv.slides.deep_zoom import DeepZoom, make_overview, overview_level, overview_tile, zoom_tile
from wsisurv.slides.facts import Bounds
from wsisurv.slides.reader import Slide

_SIDE = st.integers(1, 5000)


@given(_SIDE, _SIDE, st.integers(0, 100), st.sampled_from([64, 256, 512]), st.integers(0, 13))
def test_the_tiles_of_a_level_cover_the_picture_once(width, height, left, tile_px, up):
    zoom = DeepZoom(Bounds(left, 7, width, height), tile_px)
    level = max(0, zoom.last - up)
    scale = 2 ** (zoom.last - level)
    columns, rows = (math.ceil(math.ceil(side / scale) / tile_px) for side in (width, height))  # OpenSeadragon's
    across = [zoom.part(level, column, 0)[0] for column in range(columns)]
    assert [one.x for one in across] == [left + sum(b.width for b in across[:n]) for n in range(columns)]
    assert sum(one.width for one in across) == width
    assert sum(zoom.part(level, 0, row)[0].height for row in range(rows)) == height
    assert zoom.part(level, 0, 0)[1] == scale
    assert zoom.part(zoom.last, 0, 0)[1] == 1
    for column, row in ((columns, 0), (0, rows), (-1, 0), (0, -1)):
        with pytest.raises(InputError):
            zoom.part(level, column, row)
    for wrong in (-1, zoom.last + 1):
        with pytest.raises(InputError):
            zoom.part(wrong, 0, 0)


def test_tiles_put_together_are_the_slide_and_each_level_the_mean_of_what_it_covers(tmp_path, make_slide, draw_tissue):
    image = draw_tissue(333, 210)
    with Slide(make_slide(tmp_path / "a.tiff", image, levels=1, compression="deflate")) as slide:
        zoom = DeepZoom(slide.bounds, 64)
        for level, scale in ((zoom.last, 1), (zoom.last - 2, 4)):
            columns, rows = (math.ceil(math.ceil(side / scale) / 64) for side in (333, 210))
            found = np.concatenate(
                [
                    np.concatenate([zoom_tile(slide, zoom, level, x, y) for x in range(columns)], axis=1)
                    for y in range(rows)
                ]
            )
            assert found.shape == (math.ceil(210 / scale), math.ceil(333 / scale), 3)
            whole = image[: 210 // scale * scale, : 333 // scale * scale].astype(float)
            means = whole.reshape(210 // scale, scale, 333 // scale, scale, 3).mean(axis=(1, 3))
            assert np.abs(found[: 210 // scale, : 333 // scale] - means).max() <= (0 if scale == 1 else 1.01)
        top = zoom_tile(slide, zoom, 0, 0, 0)
        assert top.shape == (1, 1, 3)


def test_coarse_tiles_of_a_slide_without_a_pyramid_are_cut_from_one_overview(tmp_path, make_slide, draw_tissue):
    with Slide(make_slide(tmp_path / "a.tiff", draw_tissue(1001, 530), levels=1, compression="deflate")) as slide:
        zoom = DeepZoom(slide.bounds, 8)
        overview = make_overview(slide, zoom)
        assert overview.level == overview_level(slide, zoom) == zoom.last - 4  # of 16 by 16 pixels each
        for level in range(overview.level + 1):
            scale = 2 ** (zoom.last - level)
            columns, rows = (math.ceil(math.ceil(side / scale) / 8) for side in (1001, 530))
            for column in range(columns):
                for row in range(rows):
                    direct = zoom_tile(slide, zoom, level, column, row).astype(int)
                    cut = overview_tile(overview, zoom, level, column, row)
                    assert cut.shape == direct.shape
                    inside = np.abs(cut - direct)[:-1, :-1]  # a last pixel that the slide fills in part may differ
                    assert not inside.size or inside.max() <= 2
    with Slide(make_slide(tmp_path / "b.tiff", (1001, 530), levels=6)) as slide:
        assert overview_level(slide, DeepZoom(slide.bounds, 8)) == 1  # in which all of it is two pixels
