"""Predict: the ensemble's own number for each case, and a refusal where it can't be right."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsisurv.errors import EncoderMismatchError, FormatError, MissingArtifactError, StaleError
from wsisurv.formats import features as features_format
from wsisurv.formats.features import Features, write_features
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.guidance import Guidance, write_guidance
from wsisurv.formats.header import make_header
from wsisurv.formats.models import ModelFile, model_format, read_model, write_model
from wsisurv.formats.risks import read_risks, write_risks
from wsisurv.models.student import Ensemble, Student, ensemble_of, load_student
from wsisurv.prediction.step import find_bags, group_slides, predict_cases, read_card, training_folds
from wsisurv.settings import EmbedSettings, TileSettings
from wsisurv.units import SlideId
from wsisurv.workspace import Workspace

N_FEATURES = 6
TILES = TileSettings().model_dump(mode="json")
EMBED = EmbedSettings().model_dump(mode="json")
CARD: dict[str, Any] = {
    "encoder": "histomics",
    "n_features": N_FEATURES,
    "feature_names": [],
    "tile_settings": TILES,
    "embed_settings": EMBED,
    "cut_offs": {"low": -0.1, "high": 0.1},
    "member_folds": [0, 1],
}


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    """Two members of random weights, centred on different means."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        members = [Student(N_FEATURES, 8, 0.25, torch.zeros(N_FEATURES), torch.ones(N_FEATURES)) for _ in range(2)]
    return ensemble_of([(members[0], 0.2), (members[1], -0.1)])


SaveStudent = Callable[..., Path]


@pytest.fixture
def save_student(tmp_path: Path, ensemble: Ensemble) -> SaveStudent:
    """``save_student(card_changes, training_risks)`` → its file."""

    def save(changes: dict[str, Any] | None = None, training_risks: Any = (0.3, -0.3, 0.0, 0.1)) -> Path:
        arrays = {**ensemble.arrays(), "training_risks": np.array(training_risks, dtype=np.float64)}
        card = {name: value for name, value in {**CARD, **(changes or {})}.items() if value is not None}
        path = tmp_path / "student.h5"
        write_model(path, ModelFile(arrays, card), make_header(model_format("student"), {}, {}))
        return path

    return save


@dataclass(frozen=True)
class Slides:
    """Writes features files and remembers what is in them."""

    root: Path

    def make(self, slide_id: str, n_tiles: int, *, embed: dict[str, Any] | None = None, **changes: Any) -> Path:
        rng = np.random.default_rng(sum(map(ord, slide_id)))
        features = Features(
            slide_id=SlideId(slide_id),
            values=rng.normal(size=(n_tiles, N_FEATURES)).astype(np.float16),
            coords=np.zeros((n_tiles, 2), np.int64),
            encoder="histomics",
            names=(),
            tile_settings=TILES,
            mpp=0.25,
        )
        features = replace(features, **changes)
        path = Workspace(self.root).features("histomics", slide_id)
        header = make_header(features_format.FORMAT, {**EMBED, **(embed or {})}, {})
        write_features(path, features, header)
        return path


@pytest.fixture
def slides(tmp_path: Path) -> Slides:
    return Slides(tmp_path / "workspace")


def values(path: Path) -> Any:
    return features_format.read_features(path)[0].values


def test_a_case_scores_what_the_ensemble_says_of_all_its_tiles(
    save_student: SaveStudent, slides: Slides, ensemble: Ensemble
) -> None:
    one, two, other = slides.make("a-1", 5), slides.make("a-2", 7), slides.make("b-1", 4)
    steps: list[tuple[int, int, str]] = []
    result = predict_cases(save_student(), {"b": [other], "a": [one, two]}, progress=lambda *step: steps.append(step))
    first, second = result.risks
    assert (first.case_id, first.slides, first.n_tiles) == ("a", ("a-1", "a-2"), 12)
    assert first.risk == pytest.approx(ensemble.log_hazard(np.concatenate([values(one), values(two)])), abs=1e-6)
    assert second.risk == pytest.approx(ensemble.log_hazard(values(other)), abs=1e-6)
    assert steps == [(0, 2, "a"), (1, 2, "b"), (2, 2, "")]
    assert not result.failed


def test_order_of_cases_and_slides_does_not_matter(save_student: SaveStudent, slides: Slides) -> None:
    one, two, other = slides.make("a-1", 5), slides.make("a-2", 7), slides.make("b-1", 4)
    student = save_student()
    forth = predict_cases(student, {"a": [one, two], "b": [other]}).risks
    back = predict_cases(student, {"b": [other], "a": [two, one]}).risks
    assert [risk.risk for risk in back] == pytest.approx([risk.risk for risk in forth], abs=1e-6)


def test_percentile_and_group_come_from_training(save_student: SaveStudent) -> None:
    card = read_card(save_student())
    assert [card.percentile(risk) for risk in (-1, -0.3, -0.2, 0.05, 0.2, 9)] == [0, 0, 25, 50, 75, 100]
    assert [card.group(risk) for risk in (-0.2, -0.1, 0, 0.1)] == ["low", "intermediate", "intermediate", "high"]


def test_blank_glass_has_no_risk(save_student: SaveStudent, slides: Slides, ensemble: Ensemble) -> None:
    blank = slides.make("a-1", 0)
    also = slides.make("c-1", 0, values=np.zeros((0, 0), np.float16))
    good = slides.make("b-2", 3)
    result = predict_cases(save_student(), {"a": [blank], "b": [slides.make("b-1", 0), good], "c": [also], "d": []})
    by_case = {risk.case_id: risk for risk in result.risks}
    for case_id in "acd":
        risk = by_case[case_id]
        assert (risk.risk, risk.risk_percentile, risk.risk_group, risk.n_tiles) == (None, None, "unknown", 0)
    assert by_case["b"].risk == pytest.approx(ensemble.log_hazard(values(good)), abs=1e-6)
    assert by_case["b"].slides == ("b-1", "b-2")


def test_one_bad_file_does_not_stop_the_others_and_half_a_case_is_not_scored(
    save_student: SaveStudent, slides: Slides
) -> None:
    good, bad, gone = slides.make("a-1", 3), slides.make("b-1", 3), slides.root / "gone.h5"
    bad.write_bytes(bad.read_bytes()[:200])
    result = predict_cases(save_student(), {"a": [good], "b": [slides.make("b-2", 3), bad], "c": [gone]})
    assert [risk.case_id for risk in result.risks] == ["a"]
    assert [(failure.id, failure.path, failure.error) for failure in result.failed] == [
        ("b", str(bad), "FormatError"),
        ("c", str(gone), "MissingArtifactError"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "uni"}, "encoder 'uni', but .*student.h5 was trained on 'histomics'.*embed --encoder histomics"),
        ({"values": np.zeros((3, 9), np.float16)}, "9 features a tile, but .* was trained on 6 of 'histomics'"),
        (
            {"tile_settings": {**TILES, "tile_mpp": 0.25, "tile_px": 512}},
            "tile_mpp 0.25 instead of the 0.5 .*tile_px 512 instead of the 224 .*tile --tile-mpp 0.5 --tile-px 224`",
        ),
        ({"tile_settings": {}}, "tile_mpp None instead of the 0.5"),
        ({"embed": {"weights": "random"}}, "weights random instead of the None"),
    ],
)
def test_features_that_the_student_does_not_know_stop_the_run(
    save_student: SaveStudent, slides: Slides, changes: dict[str, Any], message: str
) -> None:
    path = slides.make("b-1", 3, **changes)
    with pytest.raises(EncoderMismatchError, match=message) as caught:
        predict_cases(save_student(), {"a": [slides.make("a-1", 3)], "b": [path]})
    assert str(path) in str(caught.value)


def test_a_given_resolution_or_precision_is_not_another_encoder(save_student: SaveStudent, slides: Slides) -> None:
    path = slides.make("a-1", 3, tile_settings={**TILES, "slide_mpp": 0.3}, embed={"precision": "bf16"})
    assert predict_cases(save_student(), {"a": [path]}).risks[0].risk is not None


@pytest.mark.parametrize(
    ("changes", "training_risks", "message"),
    [
        ({"cut_offs": None}, [0.0], "no usable 'cut_offs'"),
        ({"tile_settings": 3}, [0.0], "card has no usable"),
        ({"n_features": "many"}, [0.0], "card has no usable"),
        ({}, [], r"training risks \(0\)"),
        ({}, [np.nan], "unusable"),
        ({"cut_offs": {"low": 1, "high": -1}}, [0.0], r"cut-offs \(1.0, -1.0\)"),
    ],
)
def test_a_card_that_lacks_something(
    save_student: SaveStudent, changes: dict[str, Any], training_risks: list[float], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        read_card(save_student(changes, training_risks))


def test_no_student_and_a_file_that_is_none(tmp_path: Path, slides: Slides) -> None:
    with pytest.raises(MissingArtifactError, match="Run `wsisurv distill`"):
        predict_cases(tmp_path / "student.h5", {})
    with pytest.raises(FormatError, match="format is 'wsisurv/features'"):
        predict_cases(slides.make("a", 2), {})


def test_a_student_of_broken_weights_says_so(tmp_path: Path, slides: Slides, ensemble: Ensemble) -> None:
    arrays = {**ensemble.arrays(), "training_risks": np.zeros(3)}
    arrays["centres"] = np.array([0.0, np.nan])
    path = tmp_path / "broken.h5"
    write_model(path, ModelFile(arrays, CARD), make_header(model_format("student"), {}, {}))
    assert load_student(ModelFile(arrays, CARD)).members
    with pytest.raises(FormatError, match="case a: the student gives nan"):
        predict_cases(path, {"a": [slides.make("a-1", 2)]})


def test_written_and_read_back(tmp_path: Path, save_student: SaveStudent, slides: Slides) -> None:
    result = predict_cases(save_student(), {"b": [slides.make("b-1", 3)], "a": [slides.make("a-1", 0)]})
    write_risks(tmp_path / "risk.csv", result.risks)
    rows = read_risks(tmp_path / "risk.csv")
    assert [row.case_id for row in rows] == ["a", "b"]
    assert rows[0].risk is None
    assert rows[1].risk == pytest.approx(result.risks[1].risk, abs=1e-6)


def test_slides_straight_from_the_scanner_find_their_cases() -> None:
    slide_ids = ["c1_b", "c1_a", "c10-x", "scan 7", "c1_a"]
    assert group_slides(slide_ids) == {name: (name,) for name in ["c10-x", "c1_a", "c1_b", "scan 7"]}
    assert group_slides(slide_ids, case_ids={"c1"}) == {
        "c1": ("c1_a", "c1_b"),
        "c10-x": ("c10-x",),
        "scan 7": ("scan 7",),
    }
    assert group_slides(slide_ids, case_ids={"c1"}, slide_map={"scan 7": "c1", "c1_a": "other"}) == {
        "c1": ("c1_b", "scan 7"),
        "c10-x": ("c10-x",),
        "other": ("c1_a",),
    }


def test_files_of_a_case(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert find_bags(workspace, "uni", {"a": ("a-1", "a-2")}) == {
        "a": (workspace.features("uni", "a-1"), workspace.features("uni", "a-2"))
    }


def test_a_training_case_is_predicted_by_members_that_did_not_see_it(
    save_student: SaveStudent, slides: Slides, ensemble: Ensemble
) -> None:
    path = slides.make("a-1", 5)
    by_member = ensemble.members_log_hazard(values(path))
    for fold in 0, 1:
        [risk] = predict_cases(save_student(), {"a": [path]}, fold_of={"a": fold}).risks
        assert risk.risk == pytest.approx(by_member[fold], abs=1e-6)


def test_folds_are_those_of_the_training_that_made_the_student(save_student: SaveStudent, tmp_path: Path) -> None:
    student = save_student()
    guidance = Guidance(
        case_ids=("a", "b"),
        risk=np.zeros(2),
        gate=1.0,
        gate_slope=1.0,
        gate_se=0.1,
        relevance={},
        fold=np.array([1, 0]),
        risk_without=np.zeros((2, 2)),
        gate_without=np.ones(2),
        text_risk=np.zeros(2),
    )
    header = make_header(GUIDANCE, {}, {})
    elsewhere, beside = tmp_path / "other" / "guidance.h5", tmp_path / "guidance.h5"
    for path in elsewhere, beside:
        write_guidance(path, guidance, header)
    assert training_folds(student, elsewhere) == {}
    with pytest.raises(StaleError, match="distill --redo"):
        training_folds(student, beside)
    model, _ = read_model(student, "student")
    write_model(student, model, make_header(model_format("student"), {}, {"guidance": header.fingerprint}))
    assert training_folds(student, beside) == {"a": 1, "b": 0}
