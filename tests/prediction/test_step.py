"""Predict: the ensemble's own number for each case, and a refusal where it can't be right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsisurv.bags.cases import find_bags
from wsisurv.errors import EncoderMismatchError, FormatError, MissingArtifactError, SettingsError, StaleError
from wsisurv.formats import features as features_format
from wsisurv.formats.guidance import FORMAT as GUIDANCE
from wsisurv.formats.guidance import Guidance, write_guidance
from wsisurv.formats.header import make_header
from wsisurv.formats.models import CARD_VERSION, model_format, read_model, write_model
from wsisurv.formats.risks import read_risks, write_risks
from wsisurv.models.ensemble import Ensemble
from wsisurv.prediction.card import read_scale
from wsisurv.prediction.step import group_slides, predict_cases, student_device, training_folds
from wsisurv.workspace.paths import Workspace

Alone = Any
SaveStudent = Any
Slides = Any


def values(path: Path) -> Any:
    return features_format.read_features(path)[0].values


def test_a_case_scores_what_the_ensemble_says_of_all_its_tiles(
    save_student: SaveStudent, slides: Slides, ensemble: Ensemble, alone: Alone
) -> None:
    one, two, other = slides.make("a-1", 5), slides.make("a-2", 7), slides.make("b-1", 4)
    steps: list[tuple[int, int, str]] = []
    result = predict_cases(save_student(), {"b": [other], "a": [one, two]}, progress=lambda *step: steps.append(step))
    first, second = result.risks
    assert (first.case_id, first.slides, first.n_tiles) == ("a", ("a-1", "a-2"), 12)
    assert first.log_hazard == pytest.approx(
        alone(ensemble, np.concatenate([values(one), values(two)])).mean(), abs=1e-6
    )
    assert second.log_hazard == pytest.approx(alone(ensemble, values(other)).mean(), abs=1e-6)
    assert steps == [(0, 2, "a"), (1, 2, "b"), (2, 2, "")]
    assert not result.failed


def test_order_of_cases_and_slides_does_not_matter(save_student: SaveStudent, slides: Slides) -> None:
    one, two, other = slides.make("a-1", 5), slides.make("a-2", 7), slides.make("b-1", 4)
    student = save_student()
    forth = predict_cases(student, {"a": [one, two], "b": [other]}).risks
    back = predict_cases(student, {"b": [other], "a": [two, one]}).risks
    assert [risk.log_hazard for risk in back] == pytest.approx([risk.log_hazard for risk in forth], abs=1e-6)


def test_cases_read_ahead_keep_their_own_features(
    save_student: SaveStudent, slides: Slides, ensemble: Ensemble, alone: Alone
) -> None:
    bags = {f"case{number}": [slides.make(f"case{number}-1", 3 + number)] for number in range(7)}
    del bags["case4"]
    bags["case3"][0].unlink()
    steps: list[str] = []
    result = predict_cases(save_student(), bags, progress=lambda _done, _total, name: steps.append(name))
    assert [risk.case_id for risk in result.risks] == ["case0", "case1", "case2", "case5", "case6"]
    for risk in result.risks:
        assert risk.log_hazard == pytest.approx(alone(ensemble, values(bags[risk.case_id][0])).mean(), abs=1e-6)
    assert [failure.id for failure in result.failed] == ["case3"]
    assert steps == [*sorted(bags), ""]


def test_percentile_and_group_come_from_training(save_student: SaveStudent) -> None:
    scale = read_scale(save_student())
    assert [scale.percentile(risk) for risk in (-1, -0.3, -0.2, 0.05, 0.2, 9)] == [0, 0, 25, 50, 75, 100]
    assert [scale.group(risk) for risk in (-0.2, -0.1, 0, 0.1)] == ["low", "intermediate", "intermediate", "high"]


def test_blank_glass_has_no_risk(save_student: SaveStudent, slides: Slides, ensemble: Ensemble, alone: Alone) -> None:
    blank = slides.make("a-1", 0)
    also = slides.make("c-1", 0, values=np.zeros((0, 0), np.float16))
    good = slides.make("b-2", 3)
    result = predict_cases(save_student(), {"a": [blank], "b": [slides.make("b-1", 0), good], "c": [also], "d": []})
    by_case = {risk.case_id: risk for risk in result.risks}
    for case_id in "acd":
        risk = by_case[case_id]
        assert (risk.log_hazard, risk.risk_percentile, risk.risk_group, risk.n_tiles) == (None, None, "unknown", 0)
    assert by_case["b"].log_hazard == pytest.approx(alone(ensemble, values(good)).mean(), abs=1e-6)
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
        ({"embed": {"weights": "random"}}, "weights random instead of the None"),
        ({"embed": {"version": 7}}, "version 7 instead of the None"),
    ],
)
def test_features_that_the_student_cannot_read_are_refused_and_the_others_go_on(
    save_student: SaveStudent, slides: Slides, changes: dict[str, Any], message: str
) -> None:
    path, student = slides.make("b-1", 3, **changes), save_student()
    result = predict_cases(student, {"a": [slides.make("a-1", 3)], "b": [path]})
    assert [risk.case_id for risk in result.risks] == ["a"]
    [failure] = result.failed
    assert (failure.id, failure.path, failure.error) == ("b", str(path), "EncoderMismatchError")
    with pytest.raises(EncoderMismatchError, match=message) as caught:
        predict_cases(student, {"b": [path]})
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile_mpp": 0.25, "tile_px": 512}, "made with tile_mpp 0.25 instead of 0.5; made with tile_px 512"),
        ({"tile_mpp": 0.2}, "made with tile_mpp 0.2 instead of 0.5; scanned at 0.25 µm/px and enlarged to 0.2"),
        ({"overlap_px": 32}, "made with overlap_px 32 instead of 0"),
    ],
)
def test_tiles_of_another_kind_are_a_warning_in_the_row(
    save_student: SaveStudent, slides: Slides, tile_settings: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    other = slides.make("a-2", 3, tile_settings={**tile_settings, **changes})
    alone, beside = predict_cases(save_student(), {"a": [other], "b": [slides.make("b-1", 3), other]}).risks
    assert message in alone.warning
    assert "a-2" not in alone.warning
    assert f"a-2: {message.split(';')[0]}" in beside.warning


def test_pixels_halved_by_the_decoder_are_a_warning(save_student: SaveStudent, slides: Slides) -> None:
    [risk] = predict_cases(save_student(), {"a": [slides.make("a-1", 3, embed={"half_scale": True})]}).risks
    assert "made with half_scale True instead of None" in risk.warning


def test_a_given_resolution_or_precision_is_not_another_encoder(
    save_student: SaveStudent, slides: Slides, tile_settings: dict[str, Any]
) -> None:
    path = slides.make("a-1", 3, tile_settings={**tile_settings, "slide_mpp": 0.3}, embed={"precision": "bf16"})
    [risk] = predict_cases(save_student(), {"a": [path]}).risks
    assert risk.log_hazard is not None
    assert risk.warning == ""


def test_what_was_seen_of_a_slides_colours_is_in_its_row(save_student: SaveStudent, slides: Slides) -> None:
    bags = {"a": [slides.make("a-1", 3), slides.make("a-2", 3)], "b": [slides.make("b-1", 3)]}
    looks = {"a-1": ("brown",), "a-2": (), "b-1": ("brown",)}
    one, two = predict_cases(save_student(), bags, looks=looks).risks
    assert (one.warning, two.warning) == ("a-1: brown", "brown")


def test_a_horizon_that_is_no_time(save_student: SaveStudent) -> None:
    with pytest.raises(SettingsError, match="horizons 1, -1: .*above 0 are needed"):
        predict_cases(save_student(), {}, horizons=[1, -1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut_offs": None}, "cut_offs: Field required"),
        ({"tile_settings": 3}, "tile_settings: Input should be"),
        ({"cohort": {"time_unit": "days"}}, "cohort.name: Field required"),
        ({"familiarity": {"threshold": "far"}}, "familiarity.threshold: Input should be a valid number"),
        ({"member_folds": [0]}, "familiarity is damaged"),
        ({"member_folds": [0, 1, 2]}, "familiarity is damaged"),
        ({"n_features": "many"}, "n_features: Input should be a valid integer"),
        ({"n_features": "6"}, "n_features: Input should be a valid integer"),
        ({"cut_offs": {"low": 1, "high": -1}}, "cut_offs: .*low 1.0 is above high -1.0"),
        ({"risk_mean": float("nan")}, "risk_mean: "),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_card_that_lacks_something(
    save_student: SaveStudent, spoil_card: Callable[..., None], changes: dict[str, Any], message: str
) -> None:
    path = save_student()
    spoil_card(path, **changes)
    with pytest.raises(FormatError, match=message) as caught:
        read_scale(path)
    assert str(path) in str(caught.value)
    assert "distill --redo" in str(caught.value)


@pytest.mark.parametrize(("risks", "message"), [([], r"training risks \(0\)"), ([np.nan], "unusable")])
def test_training_risks_that_are_none(save_student: SaveStudent, risks: list[float], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_scale(save_student(risks))


def test_a_time_unit_of_no_cohort(save_student: SaveStudent, spoil_card: Callable[..., None]) -> None:
    path = save_student()
    cohort = read_scale(path).card.cohort.model_dump(mode="json")
    spoil_card(path, cohort={**cohort, "time_unit": "fortnights"})
    with pytest.raises(FormatError, match="cohort.time_unit: Input should be 'days', 'weeks', 'months' or 'years'"):
        read_scale(path)


def test_a_student_of_an_older_wsisurv_says_how_it_is_made_anew(save_student: SaveStudent) -> None:
    lacking = {"familiarity__mean": None}
    with pytest.raises(FormatError, match="no familiarity/mean. It was made by an older wsisurv: .*distill --redo"):
        read_scale(save_student(**lacking))
    path = save_student(**lacking)
    model, _ = read_model(path, "student")
    write_model(path, model, make_header(model_format("student"), {}, CARD_VERSION))
    with pytest.raises(FormatError, match="no familiarity/mean. Delete it and run `wsisurv distill` again"):
        read_scale(path)


def test_no_student_and_a_file_that_is_none(tmp_path: Path, slides: Slides) -> None:
    with pytest.raises(MissingArtifactError, match="Run `wsisurv distill`"):
        predict_cases(tmp_path / "student.h5", {})
    with pytest.raises(FormatError, match="format is 'wsisurv/features'"):
        predict_cases(slides.make("a", 2), {})


def test_a_student_of_broken_weights_says_so(save_student: SaveStudent, slides: Slides) -> None:
    student = save_student(centres=np.array([0.0, np.nan]))
    with pytest.raises(FormatError, match="case a: the student gives nan"):
        predict_cases(student, {"a": [slides.make("a-1", 2)]})


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("prognosis__times", None, "no prognosis/times"),
        ("prognosis__slope", np.array([np.nan]), "baseline hazard is damaged"),
        ("prognosis__slope", np.array([-1.0]), "slopes are -1.0"),
        ("prognosis__followed", np.zeros(3), "baseline hazard is damaged"),
        ("familiarity__mean", np.zeros((2, 3)), "familiarity is damaged"),
        ("familiarity__left_out", np.zeros(0), "familiarity is damaged"),
        ("members__0__mean", np.zeros(2), "members don't fit each other"),
        ("members__1__embed.weight", np.zeros((8, 5)), "don't make a student|don't fit"),
        ("members__0__embed.weight", np.zeros((10**6, 6), np.float32), "hidden layers of 1000000 and 8|is damaged"),
        ("members__1__embed.weight", np.zeros((10**5, 6), np.float32), "hidden layers of 100000 and 8"),
        ("members__0__hazard.weight", np.zeros(3), "don't make a student"),
        ("centres", np.array(0.0), "don't make a student"),
        ("centres", np.zeros(1), "weights of 1"),
    ],
)
def test_a_damaged_student_says_what_is_wrong(
    save_student: SaveStudent, slides: Slides, array: str, value: Any, message: str
) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        predict_cases(save_student(**{array: value}), {"a": [slides.make("a-1", 2)]})
    assert "student.h5" in str(caught.value)


def test_written_and_read_back(tmp_path: Path, save_student: SaveStudent, slides: Slides) -> None:
    result = predict_cases(save_student(), {"b": [slides.make("b-1", 3)], "a": [slides.make("a-1", 0)]})
    write_risks(tmp_path / "risk.csv", result.risks)
    rows = read_risks(tmp_path / "risk.csv")
    assert [row.case_id for row in rows] == ["a", "b"]
    assert rows[0].log_hazard is None
    assert rows[1].log_hazard == pytest.approx(result.risks[1].log_hazard, abs=1e-6)


def test_slides_straight_from_the_scanner_find_their_cases() -> None:
    slide_ids = ["c1_b", "c1_a", "c10-x", "scan 7", "c1_a"]
    assert group_slides(slide_ids) == {name: (name,) for name in ["c10-x", "c1_a", "c1_b", "scan 7"]}
    assert group_slides(slide_ids, {"scan 7": "c1", "c1_b": "c1", "c1_a": "other"}) == {
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
    save_student: SaveStudent, slides: Slides, ensemble: Ensemble, alone: Alone
) -> None:
    path = slides.make("a-1", 5)
    by_member = alone(ensemble, values(path))
    for fold in 0, 1:
        [risk] = predict_cases(save_student(), {"a": [path]}, fold_of={"a": fold}).risks
        assert risk.log_hazard == pytest.approx(by_member[fold], abs=1e-6)


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


def test_the_student_computes_on_cuda_alone_and_a_device_that_is_not_here_is_explained() -> None:
    assert [student_device(name) for name in ("cpu", "mps", "cpu,cpu")] == ["cpu"] * 3
    with pytest.raises(SettingsError, match="--device cuda:99"):
        student_device("cuda:99, cuda:98")
