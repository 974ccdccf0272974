"""A case drawn from real slides: maps, GeoJSON, sheet and record say the same; what is missing is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsisurv.errors import EncoderMismatchError, FormatError, MissingArtifactError
from wsisurv.formats import features as features_format
from wsisurv.formats import tiles as tiles_format
from wsisurv.formats.features import Features, write_features
from wsisurv.formats.header import make_header
from wsisurv.formats.heatmaps import FILE, read_case_map
from wsisurv.formats.tiles import Tiles, write_tiles
from wsisurv.models.ensemble import ensemble_of
from wsisurv.models.familiarity import Familiarity
from wsisurv.models.student import Student
from wsisurv.prediction.card import RiskScale
from wsisurv.prediction.explained import CaseFiles
from wsisurv.prediction.explainer import Explainer
from wsisurv.prediction.heatmap import heatmaps
from wsisurv.prediction.heatmap_picture import BANNER
from wsisurv.prediction.step import look_at_slides
from wsisurv.settings.embedding import EmbedSettings
from wsisurv.settings.tiles import TileSettings
from wsisurv.slides.find import slide_fingerprint
from wsisurv.survival.reference import OutOfFoldScale
from wsisurv.units import SlideId
from wsisurv.workspace.ledger import read_failures
from wsisurv.workspace.paths import Workspace

NAMES = ("redness", "blueness", "spread")
TILES = TileSettings(tile_px=100, tile_mpp=0.5, overlap_px=50).model_dump(mode="json")
EMBED = EmbedSettings().model_dump(mode="json")


@pytest.fixture
def explainer(student_card) -> Explainer:
    card = student_card(n_features=len(NAMES), tile_settings=TILES, embed_settings=EMBED, member_folds=[0, 1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        members = [Student(len(NAMES), 6, 0.0, torch.zeros(3), torch.ones(3)) for _ in range(2)]
    familiarity = Familiarity(np.zeros((2, 6)), np.stack([np.eye(6)] * 2), np.array([1e9]))
    out_of_fold = OutOfFoldScale(0.0, np.zeros(2), np.ones(2), 1.0)
    scale = RiskScale(card, "student", np.array([0.0]), None, familiarity, out_of_fold)  # type: ignore[arg-type]
    return Explainer(Path("student.h5"), scale, ensemble_of([(members[0], 0.1), (members[1], -0.2)]), NAMES)


class Place:
    """A workspace of slides of 0.25 µm/px, 600 px wide, with overlapping tiles in a row."""

    def __init__(self, root: Path, make_slide) -> None:
        self.workspace, self._make_slide, self.slides = Workspace(root / "workspace"), make_slide, root / "slides"

    def add(self, slide_id: str, n_tiles: int, *, with_tiles: bool = True, with_slide: bool = True) -> np.ndarray:
        path = self.slides / f"{slide_id}.tiff"
        if with_slide:
            self._make_slide(path, (1200, 400), mpp=0.25)
        rng = np.random.default_rng(sum(map(ord, slide_id)))
        coords = np.stack([100 * np.arange(n_tiles), np.full(n_tiles, 60)], axis=1)
        values = rng.normal(size=(n_tiles, len(NAMES))).astype(np.float16)
        name = SlideId(slide_id)
        features = Features(name, values, coords, "histomics", NAMES, TILES, 0.25)
        write_features(
            self.workspace.features("histomics", slide_id), features, make_header(features_format.FORMAT, EMBED, {})
        )
        if with_tiles:
            tiles = Tiles(name, path, coords, np.ones(n_tiles, np.float32), 0.25, 0.5, 100, 200.0, 50, 1200, 400)
            inputs = {"slide": slide_fingerprint(path)} if with_slide else {}
            write_tiles(self.workspace.tiles(slide_id), tiles, make_header(tiles_format.FORMAT, TILES, inputs))
        return values

    def case(self, case_id: str, *slides: str) -> CaseFiles:
        return CaseFiles(case_id, slides, self.workspace)

    def draw(self, explainer: Explainer, *cases: CaseFiles, **options):
        return heatmaps(explainer, cases, self.folder, ledger=self.workspace, **options)

    @property
    def folder(self) -> Path:
        return self.workspace.root / "heatmaps"


@pytest.fixture
def place(tmp_path, make_slide) -> Place:
    return Place(tmp_path, make_slide)


def test_what_is_written_adds_up_to_the_log_hazard_of_both_slides(place, explainer, alone):
    values = np.concatenate([place.add("A", 9), place.add("B", 6)])
    relevance = np.full(15, 1 / 15, np.float32)
    explainer = replace(explainer, relevance={"case": relevance}, fold_of={"case": 1})
    summary = place.draw(explainer, place.case("case", "A", "B"), meanings={"spread": ("µm", "wide")}, n_shown=3)
    assert summary.done == ["case"]
    folder = place.folder / "case"
    record = read_case_map(folder)
    wanted = alone(explainer.ensemble, values)[1]  # the member that did not see fold 1
    assert record.log_hazard == pytest.approx(wanted, abs=1e-6)
    assert (record.members, record.out_of_fold, record.n_tiles) == (1, True, 15)
    assert sum(slide.contribution for slide in record.slides) == pytest.approx(wanted, abs=1e-6)
    total = 0.0
    for slide in record.slides:
        squares = json.loads((folder / slide.geojson).read_text())["features"]
        assert len(squares) == slide.n_tiles
        figures = [square["properties"]["measurements"] for square in squares]
        assert {"contribution", "attention", "teacher_relevance"} == set(figures[0])
        for square, figure in zip(squares, figures, strict=True):
            red, _, blue = square["properties"]["color"]
            raises = figure["contribution"] > 0
            assert (red >= blue) == raises, "as the picture has it: red raises, blue lowers"
            assert square["properties"]["classification"]["name"] == ("raises risk" if raises else "lowers risk")
        total += sum(figure["contribution"] for figure in figures)
        with Image.open(folder / slide.picture) as picture:
            assert picture.width > 500
    assert total == pytest.approx(wanted, abs=1e-4)
    assert squares[1]["geometry"]["coordinates"][0][2] == [300, 260]
    assert record.top is not None
    assert record.bottom is not None
    assert record.top.shown[0].contribution == max(tile.contribution for tile in record.top.shown)
    with Image.open(folder / record.contact_sheet) as sheet:
        assert sheet.format == "JPEG"


def test_a_case_that_the_student_does_not_know_has_a_banner_on_every_picture(place, explainer):
    place.add("A", 9)
    place.add("B", 9)
    near = Familiarity(np.zeros((2, 6)), np.stack([np.eye(6)] * 2), np.array([1e-3]))
    unknown = replace(explainer, scale=replace(explainer.scale, familiarity=near, fingerprint="another"))
    place.draw(explainer, place.case("known", "A"))
    place.draw(unknown, place.case("case", "A", "B"))
    known, case = read_case_map(place.folder / "known"), read_case_map(place.folder / "case")
    assert (known.unfamiliar, known.student) == ("", "student")
    assert case.unfamiliar.startswith("unlike the training cases (distance ")
    assert case.student == "another"
    for record in known, case:
        for name in (record.contact_sheet, *(slide.picture for slide in record.slides)):
            with Image.open(place.folder / record.case_id / name) as picture:
                corner = np.array(picture.convert("RGB"))[2, 2].astype(int)
            assert (np.abs(corner - BANNER).max() < 12) == bool(record.unfamiliar)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is written on the pictures."""
    said: dict[str, Any] = {}

    def draw_maps(_, title, lines, layers, marks=()):
        said.update(title=title, lines=lines, layers=layers, marks=marks)
        return Image.new("RGB", (9, 9))

    def draw_sheet(title, lines, groups, _):
        said.update(sheet=[title, *lines], groups=groups)
        return Image.new("RGB", (9, 9))

    monkeypatch.setattr("wsisurv.prediction.heatmap.draw_maps", draw_maps)
    monkeypatch.setattr("wsisurv.prediction.extremes.draw_sheet", draw_sheet)
    return said


def test_pictures_say_where_the_case_stands_and_number_the_extreme_tiles(place, explainer, words):
    values = place.add("case-A", 12)
    explainer = replace(explainer, scale=replace(explainer.scale, training_risks=np.array([-9.0, -8.0, 9.0])))
    place.draw(explainer, place.case("case", "case-A"), n_shown=2)
    record = read_case_map(place.folder / "case")
    assert words["title"] == "case-A"  # the case's id is in it already
    of_case = f"log hazard {record.log_hazard:+.3f}, percentile 67 of the training cases".replace("-", "−")
    for line in (words["lines"][0], words["sheet"][1]):
        assert line.startswith(of_case)
        assert f"{record.group} risk; familiar" in line
    assert record.percentile == pytest.approx(200 / 3)
    assert all("99th percentile" in layer.note for layer in words["layers"])
    shown = [*record.top.shown, *record.bottom.shown]
    assert [tile.number for tile in shown] == [1, 2, 3, 4]
    assert {(number, 100 * row) for number, row in words["marks"]} == {(tile.number, tile.x) for tile in shown}
    written = [cut.lines for _, cuts in words["groups"] for cut in cuts]
    for tile, lines in zip(shown, written, strict=True):
        row = tile.x // 100
        assert lines[0].startswith(f"{tile.number}:  {tile.contribution:+.4f}".replace("-", "−"))
        assert tile.alone == pytest.approx(explainer.ensemble.log_hazard(values[[row]].astype(np.float32)))
        for driver in tile.drivers:
            other = values[row].astype(np.float64)
            column = NAMES.index(driver.name)
            assert other[column] == driver.value
            other[column] = driver.mean
            assert driver.mean == pytest.approx(values[:, column].astype(float).mean())
            assert driver.adds == pytest.approx(tile.alone - explainer.ensemble.log_hazard(other[None]), abs=1e-6)
            assert (driver.adds > 0) == (tile.contribution > 0)
        assert [line.split()[0] for line in lines[2:]] == [driver.name for driver in tile.drivers]
    assert any(tile.drivers for tile in shown)


def test_lowest_that_raised_the_risk_are_called_so(place, explainer, words):
    place.add("A", 12)
    centred = replace(explainer, ensemble=ensemble_of([(one, -50.0) for one in explainer.ensemble.members]))
    place.draw(centred, place.case("case", "A"), n_shown=3)
    highest, lowest = (name for name, _ in words["groups"])
    assert highest == "Highest contributions to the log hazard"
    assert lowest == "Lowest contributions to the log hazard, none below 0: they raised it least"


def test_a_slide_of_another_stain_is_told_as_predict_tells_it(place, explainer, draw_tissue, make_slide):
    place.add("A", 9)
    pink = draw_tissue(1200, 400)
    is_pink = (pink[..., 1].astype(int) - pink[..., 2]) < -10
    brown = np.where(is_pink[..., None], np.array([176, 130, 90], np.uint8), pink)
    place.add("B", 9, with_slide=False)
    make_slide(place.slides / "B.tiff", brown, mpp=0.25)
    place.draw(explainer, place.case("case", "A", "B"))
    told = look_at_slides(place.workspace, ["A", "B"])
    assert told["A"] == ()
    assert read_case_map(place.folder / "case").unfamiliar == "; ".join(f"B: {text}" for text in told["B"])
    assert "immunohistochemistry" in told["B"][0]


def test_the_same_is_kept_and_anything_else_is_drawn_anew(place, explainer):
    place.add("A", 5)
    case = place.case("case", "A")
    assert place.draw(explainer, case).done == ["case"]
    assert place.draw(explainer, case).kept == ["case"]
    assert place.draw(explainer, case, redo=True).done == ["case"]
    assert place.draw(explainer, case, n_shown=2).done == ["case"]
    other = replace(explainer, scale=replace(explainer.scale, fingerprint="another student"))
    assert place.draw(other, case, n_shown=2).done == ["case"]
    (place.folder / "case" / FILE).write_text("{")
    assert place.draw(other, case, n_shown=2).done == ["case"]


def test_a_slide_that_was_moved_is_drawn_on_white_told_and_found_where_it_is_now(place, explainer):
    place.add("A", 5)
    case = place.case("case", "A")
    elsewhere = place.slides.parent / "elsewhere.tiff"
    (place.slides / "A.tiff").rename(elsewhere)
    summary = place.draw(explainer, case)
    assert [failure.id for failure in summary.failed] == ["case"]
    assert "--slides" in summary.failed[0].message
    record = read_case_map(place.folder / "case")
    assert record.contact_sheet == ""
    assert record.problems
    assert (place.folder / "case" / "A.png").exists()
    assert len(json.loads((place.folder / "case" / "A.geojson").read_text())["features"]) == 5
    assert place.draw(explainer, case, slides={"A": elsewhere}).done == ["case"]
    assert read_case_map(place.folder / "case").contact_sheet
    assert read_failures(place.workspace, "heatmap") == []


def test_features_of_another_tool_without_a_tiles_file_are_drawn(place, explainer):
    place.add("A", 5, with_tiles=False)
    case = place.case("case", "A")
    assert place.draw(explainer, case).failed
    assert place.draw(explainer, case, slides={"A": place.slides / "A.tiff"}).done == ["case"]


def test_slides_and_cases_without_a_tile(place, explainer):
    place.add("A", 4)
    place.add("B", 0)
    summary = place.draw(explainer, place.case("one", "A", "B"), place.case("two", "B"))
    assert summary.done == ["one", "two"]
    assert ["two" in note for note in summary.notes] == [True]
    record = read_case_map(place.folder / "two")
    assert (record.log_hazard, record.top, record.bottom) == (None, None, None)
    assert (place.folder / "two" / "B.png").exists()


def test_one_damaged_case_does_not_stop_the_others(place, explainer):
    place.add("A", 4)
    place.add("B", 4)
    place.workspace.features("histomics", "B").write_bytes(b"cut")
    summary = place.draw(explainer, place.case("bad", "B"), place.case("gone", "C"), place.case("good", "A"))
    assert summary.done == ["good"]
    assert [failure.id for failure in summary.failed] == ["bad", "gone"]
    assert {failure.id for failure in read_failures(place.workspace, "heatmap")} == {"bad", "gone"}


def test_a_broken_slide_file_is_told_and_does_not_hide_the_map(place, explainer):
    place.add("A", 4)
    (place.slides / "A.tiff").write_bytes(b"no slide")
    summary = place.draw(explainer, place.case("case", "A"))
    assert "A.tiff" in summary.failed[0].message
    assert (place.folder / "case" / "A.png").exists()


def test_another_slide_of_the_same_name_is_not_painted_on(place, explainer, make_slide):
    place.add("A", 4)
    other = make_slide(place.slides.parent / "other.tiff", (600, 400), mpp=0.25)
    summary = place.draw(explainer, place.case("case", "A"), slides={"A": other})
    assert "another slide" in summary.failed[0].message


def test_features_of_another_encoder_are_refused(place, explainer):
    place.add("A", 4)
    card = explainer.scale.card.model_copy(update={"embed_settings": {**EMBED, "version": 99}})
    other = replace(explainer, scale=replace(explainer.scale, card=card))
    with pytest.raises(EncoderMismatchError, match="version"):
        place.draw(other, place.case("case", "A"))


def test_a_damaged_record_names_its_file(tmp_path):
    with pytest.raises(MissingArtifactError, match="wsisurv heatmap"):
        read_case_map(tmp_path)
    for content in ("{", "[]", '{"format": "wsisurv/heatmap"}', '{"format": "other"}'):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(FormatError, match=FILE):
            read_case_map(tmp_path)
