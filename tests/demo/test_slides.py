from pathlib import Path

import numpy as np
import openslide
import pytest

from wsisurv.demo.cohort import DemoCohort
from wsisurv.demo.population import simulate_population
from wsisurv.demo.slides import make_slide, write_pyramid


def test_openslide_opens_every_slide_with_its_mpp_and_levels(demo: DemoCohort, drawn_slides: list[Path]) -> None:
    mpp_of = {slide_id: case.hospital.mpp for case in demo.cases for slide_id in case.slide_ids}
    for path in drawn_slides:
        with openslide.OpenSlide(path) as slide:
            mpp = float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
            assert mpp == pytest.approx(mpp_of[path.stem], rel=1e-6)
            assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == mpp
            assert min(slide.dimensions) * mpp / 0.5 >= 2000
            assert slide.level_count >= 3
            assert slide.level_downsamples == pytest.approx((1, 2, 4), rel=0.01)
            assert "Synthetic" in slide.properties["openslide.comment"]
    assert len({mpp_of[path.stem] for path in drawn_slides}) >= 2


def test_slides_are_of_glass_and_tissue(drawn_slides: list[Path]) -> None:
    for path in drawn_slides:
        with openslide.OpenSlide(path) as slide:
            view = np.asarray(slide.get_thumbnail((256, 256)).convert("HSV"))
        saturated = (view[..., 1] > 25).mean()
        assert 0.25 < saturated < 0.95


def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    case = simulate_population(25, seed=0)[-1]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_slide(tmp_path / name, case, letter=0, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_the_second_slide_of_a_case_is_another_picture(tmp_path: Path) -> None:
    case = simulate_population(25, seed=0)[0]
    for letter in (0, 1):
        make_slide(tmp_path / str(letter), case, letter=letter, seed=0)
    assert (tmp_path / "0").read_bytes() != (tmp_path / "1").read_bytes()


def test_small_slides_have_a_third_of_the_area(tmp_path: Path) -> None:
    case, areas = simulate_population(25, seed=0)[0], []
    for small in (True, False):
        make_slide(tmp_path / str(small), case, letter=0, seed=0, small=small)
        with openslide.OpenSlide(tmp_path / str(small)) as slide:
            areas.append(slide.dimensions[0] * slide.dimensions[1])
    assert 0.25 < areas[0] / areas[1] < 0.4


def test_colours_survive_the_pyramid(tmp_path: Path) -> None:
    pixels = np.empty((600, 701, 3), np.uint8)  # not a multiple of a tile
    pixels[:, :350], pixels[:, 350:] = (200, 120, 170), (90, 60, 140)
    path = tmp_path / "two.tiff"
    write_pyramid(path, pixels, mpp=0.46)
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (701, 600)
        for level in range(slide.level_count):
            width, height = slide.level_dimensions[level]
            picture = np.asarray(slide.read_region((0, 0), level, (width, height)).convert("RGB"), int)
            assert np.abs(picture[20:-20, 20 : width // 2 - 20] - (200, 120, 170)).max() <= 4
            assert np.abs(picture[20:-20, width // 2 + 20 : -20] - (90, 60, 140)).max() <= 4


def test_an_interrupted_slide_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tifffile.TiffWriter.write", stop)
    with pytest.raises(KeyboardInterrupt):
        write_pyramid(tmp_path / "slide.tiff", np.zeros((300, 300, 3), np.uint8), mpp=0.5)
    assert list(tmp_path.iterdir()) == []
