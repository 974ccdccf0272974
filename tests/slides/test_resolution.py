from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsisurv.errors import MissingMppError, SlideError
from wsisurv.slides.facts import read_facts
from wsisurv.slides.reader import Slide
from wsisurv.slides.resolution import find_mpp, find_objective, find_resolution

PATH = Path("a.tif")
TAGS = {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "50800", "tiff.YResolution": "50800"}
DPI_72 = {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "72", "tiff.YResolution": "72"}
APERIO = {"tiff.ImageDescription": "Aperio Image Library v12.0.15\n4000x3000 |AppMag = 40|MPP = 0.2527|Left = 1"}
OME = {
    "tiff.ImageDescription": '<OME><Pixels PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.251" /></OME>'
}


LABEL = '<OME><Image ID="Image:0"><Pixels SizeX="512"{}/></Image><Image ID="Image:1"><Pixels {}/></Image></OME>'
SIZE = 'PhysicalSizeX="{0}" PhysicalSizeY="{0}"'


def test_the_size_of_another_image_of_the_file_says_nothing() -> None:
    of_slide = {"tiff.ImageDescription": LABEL.format("", SIZE.format(0.5))}
    assert find_resolution(of_slide) is None
    of_both = {"tiff.ImageDescription": LABEL.format(" " + SIZE.format(2), SIZE.format(0.5))}
    assert find_resolution(of_both).mpp == 2


@pytest.mark.parametrize(
    ("properties", "mpp", "source"),
    [
        ({"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.25", "openslide.vendor": "mirax"}, 0.25, "mirax header"),
        ({"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5", **TAGS}, 0.5, "TIFF resolution tags"),
        (
            {"openslide.mpp-x": "0.3", "openslide.mpp-y": "0.3", "aperio.MPP": "0.3"},
            0.3,
            "MPP of an Aperio description",
        ),
        (
            {"openslide.mpp-x": "0.3", "openslide.mpp-y": "0.3", "openslide.vendor": "dicom"},
            0.3,
            "DICOM pixel spacing",
        ),
        (TAGS, 0.5, "TIFF resolution tags"),
        (APERIO, 0.2527, "MPP of an Aperio description"),
        ({**DPI_72, **APERIO}, 0.2527, "MPP of an Aperio description"),
        (OME, 0.2505, "PhysicalSize of an OME description"),
        ({**TAGS, **APERIO}, 0.5, "TIFF resolution tags"),
    ],
)
def test_resolution_comes_from_a_stated_place_and_says_which(
    properties: dict[str, str], mpp: float, source: str
) -> None:
    found = find_resolution(properties)
    assert found is not None
    assert (found.mpp, found.source) == (pytest.approx(mpp), source)
    assert find_mpp(PATH, properties) == pytest.approx(mpp)


def test_objective_power_is_no_resolution() -> None:
    properties = {"openslide.objective-power": "20", "openslide.vendor": "hamamatsu"}
    with pytest.raises(MissingMppError, match=r"power of 20.*--slide-mpp.*--mpp-from-objective"):
        find_mpp(PATH, properties)
    objective = find_objective(properties)
    assert objective is not None
    assert (objective.power, objective.mpp, objective.source) == (20, 0.5, "hamamatsu header")
    described = find_objective(APERIO)
    assert described is not None
    assert described.power == 40
    assert find_objective(TAGS) is None


@pytest.mark.parametrize(
    ("properties", "error", "message"),
    [
        ({}, MissingMppError, "does not say"),
        ({**TAGS, "tiff.ResolutionUnit": "none"}, MissingMppError, "does not say"),
        ({"openslide.mpp-x": "nan", "openslide.mpp-y": "0.5"}, MissingMppError, "does not say"),
        (DPI_72, MissingMppError, r"352\.778.*TIFF resolution tags.*can't be"),
        ({"openslide.mpp-x": "0.5", "openslide.mpp-y": "0.6"}, SlideError, r"not square: 0\.5 × 0\.6"),
    ],
)
def test_what_is_lacking_or_wrong_is_said(properties: dict[str, str], error: type[SlideError], message: str) -> None:
    with pytest.raises(error, match=message):
        find_mpp(PATH, properties)


def test_the_tags_of_level_0_count_where_another_page_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "S.tif"
    with tifffile.TiffWriter(path) as file:
        for reduced, side in enumerate((256, 1024)):
            told = {"resolution": (side * 20, side * 20), "resolutionunit": "CENTIMETER", "subfiletype": reduced}
            file.write(np.full((side, side, 3), 200, np.uint8), tile=(256, 256), metadata=None, **told)
    with Slide(path) as slide:
        assert (slide.width, slide.mpp) == (1024, pytest.approx(1e4 / 20480))


def test_facts_of_a_slide_and_of_none(make_slide: Callable[..., Path], tmp_path: Path) -> None:
    path = make_slide(tmp_path / "S.tiff", (900, 700), mpp=0.31)
    facts = read_facts(path)
    assert (facts.vendor, facts.width, facts.height) == ("generic-tiff", 900, 700)
    assert facts.level_downsamples == pytest.approx((1, 2, 4))
    assert facts.file_bytes == path.stat().st_size
    assert facts.resolution is not None
    assert facts.resolution.mpp == pytest.approx(0.31)
    assert facts.objective is None
    (tmp_path / "text.svs").write_text("no slide")
    with pytest.raises(SlideError, match=r"text\.svs"):
        read_facts(tmp_path / "text.svs")
