import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wsisurv.errors import CohortError, NoSlidesError, SettingsError
from wsisurv.formats.tiles import read_tiles
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.facts import Bounds, SlideFacts, read_facts
from wsisurv.slides.resolution import GivenMpp
from wsisurv.tiling.check import CheckReport, SlideCheck, check_cases, check_slides, resolve_mpps
from wsisurv.tiling.step import tile
from wsisurv.units import SlideId
from wsisurv.workspace.paths import Workspace

MakeSlide = Callable[..., Path]
SETTINGS = TileSettings()
NOTHING_GIVEN = GivenMpp()


@pytest.fixture
def folder(make_slide: MakeSlide, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    make_slide(folder / "good.tiff", (900, 700), mpp=0.25)
    make_slide(folder / "stretched.tiff", (900, 900), mpp=(0.5, 0.502))
    make_slide(folder / "no-mpp.tiff", (900, 900), mpp=None)
    make_slide(folder / "dpi.tiff", (900, 900), mpp=25400 / 72)
    make_slide(folder / "oblong.tiff", (900, 900), mpp=(0.5, 0.6))
    make_slide(folder / "coarse.tiff", (900, 900), mpp=2.0)
    make_slide(folder / "tiny.tiff", (200, 200), levels=1)
    (folder / "text.svs").write_text("not a slide")
    return folder


def by_id(report: CheckReport) -> dict[str, SlideCheck]:
    return {slide.slide_id: slide for slide in report.slides}


@pytest.mark.parametrize("given", [NOTHING_GIVEN, GivenMpp(every=0.3), GivenMpp(by_slide={"no-mpp": 0.25, "dpi": 0.5})])
def test_what_check_calls_failing_is_what_tile_fails_on(folder: Path, tmp_path: Path, given: GivenMpp) -> None:
    report = check_slides([folder], SETTINGS, given)
    expected = {slide.slide_id: slide.problems for slide in report.slides if slide.problems}
    failed: dict[str, str] = {}
    for slide in report.slides:  # one by one, so that each has its own resolution
        settings = TileSettings(
            slide_mpp=resolve_mpps({SlideId(slide.slide_id): Path(slide.path)}, given).get(slide.slide_id)
        )
        failures = tile(Workspace(tmp_path / slide.slide_id), [Path(slide.path)], settings).failed
        failed.update({failure.id: failure.message for failure in failures})
    assert {name: (message,) for name, message in failed.items()} == expected
    assert report.failing == len(failed) > 1


def test_a_slide_is_described_with_where_it_was_read(folder: Path) -> None:
    slides = by_id(check_slides([folder], SETTINGS, NOTHING_GIVEN, n_features=100))
    good = slides["good"]
    assert (good.opens, good.format, good.levels) == (True, "generic-tiff", 3)
    assert (good.width, good.height, good.file_bytes) == (900, 700, (folder / "good.tiff").stat().st_size)
    assert (good.mpp_x, good.mpp_y, good.mpp) == (pytest.approx(0.25), pytest.approx(0.25), pytest.approx(0.25))
    assert good.mpp_source == "TIFF resolution tags"
    assert good.tiles_at_most == 2
    assert good.features_bytes is not None
    assert good.features_bytes > 2 * 2 * 100
    assert not good.problems
    assert not good.notes
    assert slides["stretched"].notes == ("mpp_x 0.5 ≠ mpp_y 0.502",)
    assert (slides["text"].opens, slides["text"].width) == (False, None)
    assert "--mpp-from-objective" in slides["no-mpp"].problems[0]


def test_tiles_are_at_most_as_many_and_as_large_as_said(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide(tmp_path / "S.tiff", np.full((2100, 1900, 3), (200, 120, 170), np.uint8), mpp=0.31)
    for settings in SETTINGS, TileSettings(overlap_px=100), TileSettings(tile_px=32, tile_mpp=1):
        (said,) = check_slides([path], settings, NOTHING_GIVEN).slides
        place = Workspace(tmp_path / str(said.tiles_at_most))
        tile(place, [path], settings.model_copy(update={"min_tissue": 0.0}))
        assert said.tiles_bytes is not None
        assert said.tiles_bytes * 0.3 < place.tiles("S").stat().st_size <= said.tiles_bytes
        assert len(read_tiles(place.tiles("S"))[0].coords) == said.tiles_at_most


def test_the_same_slide_id_twice_is_said_of_both(make_slide: MakeSlide, tmp_path: Path) -> None:
    for name in ("x", "y"):
        make_slide(tmp_path / name / "S.tiff", (600, 600))
    make_slide(tmp_path / "x" / "T.tiff", (600, 600))
    report = check_slides([tmp_path, tmp_path / "x"], SETTINGS, NOTHING_GIVEN)
    assert [slide.slide_id for slide in report.slides] == ["S", "S", "T"]
    first, second, third = report.slides
    assert second.path in first.problems[0]
    assert first.path in second.problems[0]
    assert not third.problems


def test_mixed_scanners_and_unknown_rows_of_the_table_are_noted(make_slide: MakeSlide, tmp_path: Path) -> None:
    for name, mpp in (("a", 0.2527), ("b", 0.253), ("c", 0.499)):
        make_slide(tmp_path / f"{name}.tiff", (1200, 1200), mpp=mpp)
    report = check_slides([tmp_path], SETTINGS, GivenMpp(by_slide={"z": 0.5, "a.tiff": 0.2527}))
    assert report.notes == (
        "1 rows of the mpp table name no slide that is here: z",
        "scanned at 0.2527 µm/px (2), 0.499 µm/px (1)",
    )
    with pytest.raises(CohortError, match="none of its 1 rows names a slide that is here: it has z; slides here"):
        check_slides([tmp_path], SETTINGS, GivenMpp(by_slide={"z": 0.5}))
    assert len(check_slides([tmp_path / "a.tiff", tmp_path / "b.tiff"], SETTINGS, NOTHING_GIVEN).notes) == 0


def test_a_resolution_given_against_what_the_file_states_is_noted(make_slide: MakeSlide, tmp_path: Path) -> None:
    for name, mpp in (("same", 0.5), ("other", 0.25), ("none", None)):
        make_slide(tmp_path / f"{name}.tiff", (1200, 1200), mpp=mpp)
    said = by_id(check_slides([tmp_path], SETTINGS, GivenMpp(every=0.499)))
    assert (said["same"].notes, said["none"].notes) == ((), ())
    assert "states 0.25 µm/px (TIFF resolution tags); 0.499 is used" in said["other"].notes[0]
    place = Workspace(tmp_path / "w")
    summary = tile(place, [tmp_path / "other.tiff"], SETTINGS.model_copy(update={"slide_mpp": 0.499}))
    assert summary.failed == []
    assert "0.499 is used" in read_tiles(place.tiles("other"))[0].flags[0]


def test_objective_power_serves_only_when_asked_for_and_only_where_nothing_better_is() -> None:
    objective = {"openslide.objective-power": "40"}
    stated = {**objective, "openslide.mpp-x": "0.5", "openslide.mpp-y": "0.5"}
    absurd = {**objective, "openslide.mpp-x": "353", "openslide.mpp-y": "353"}
    asked = GivenMpp(from_objective=True)
    assert NOTHING_GIVEN.of("S", objective) is None
    assert asked.of("S", stated) is None
    for properties in objective, absurd:
        chosen = asked.of("S", properties)
        assert chosen is not None
        assert (chosen.mpp, chosen.source) == (0.25, "10 / objective power of 40")
    given = GivenMpp(every=0.3, by_slide={"S": 0.2}, from_objective=True)
    assert [given.of(slide_id, objective).mpp for slide_id in "ST"] == [0.2, 0.3]  # type: ignore[union-attr]


def test_cases_are_matched_both_ways(folder: Path) -> None:
    report = check_slides([folder / "good.tiff", folder / "tiny.tiff"], SETTINGS, NOTHING_GIVEN)
    matched = check_cases(report, {"good": "A"}, ["B", "C"])
    assert [slide.case_id for slide in matched.slides] == ["A", None]
    assert matched.notes[1:] == ("1 slides without a case: tiny", "2 cases without a slide: B, C")


def test_figures_are_json(folder: Path) -> None:
    for slide in check_slides([folder], SETTINGS, NOTHING_GIVEN).slides:
        assert json.loads(json.dumps(slide.as_json(), allow_nan=False))["slide_id"] == slide.slide_id


def test_wrong_usage_is_said_before_any_header(tmp_path: Path) -> None:
    with pytest.raises(NoSlidesError):
        check_slides([tmp_path], SETTINGS, NOTHING_GIVEN)
    with pytest.raises(SettingsError):
        check_slides([tmp_path], TileSettings(overlap_px=224), NOTHING_GIVEN)


def test_only_what_was_scanned_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def facts(path: Path) -> SlideFacts:
        return replace(read_facts(path), bounds=Bounds(100, 100, 450, 450))

    monkeypatch.setattr("wsisurv.tiling.check.read_facts", facts)
    (slide,) = check_slides([folder / "good.tiff"], SETTINGS, NOTHING_GIVEN).slides
    assert slide.tiles_at_most == 1


def test_enlarging_must_be_allowed(folder: Path) -> None:
    (slide,) = check_slides([folder / "coarse.tiff"], SETTINGS, NOTHING_GIVEN, allow_upsampling=True).slides
    assert not slide.problems
