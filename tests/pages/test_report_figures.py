"""Figures of the report: whole, the same bytes each time, and what they show is right."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from PIL import Image

from wsisurv.errors import MetricError
from wsisurv.pages import report_figures
from wsisurv.pages.report_figures import (
    CovariateValues,
    FitLoss,
    ForestRow,
    agreement,
    calibration_plot,
    decision_plot,
    forest,
    risk_against,
    training_curves,
)
from wsisurv.survival.net_benefit import net_benefit

RNG = np.random.default_rng(0)
TIME = RNG.exponential(10, 90)
EVENT = RNG.random(90) < 0.7
SURVIVAL = RNG.random(90)
GROUP = ["low", "intermediate", "high"] * 30


def _forest(path):
    rows = [ForestRow("one", 0.6, 0.5, 0.7), ForestRow("two\n− one", -0.02, -0.3, 0.2)]
    return forest(path, rows, title="t", label="x", none_at=0.5)


def _calibration(path):
    curves = {"student": agreement(survival=SURVIVAL, horizon=8.0, time=TIME, event=EVENT)}
    return calibration_plot(path, curves, horizon="8 days", title="t")


def _decision(path):
    curve = net_benefit(survival=SURVIVAL, horizon=8, thresholds=np.linspace(0.01, 0.9, 20), time=TIME, event=EVENT)
    return decision_plot(path, {"student": curve}, horizon="8 days", title="t")


def _against(path):
    ages = np.where(np.arange(90) % 7 == 0, np.nan, 60 + RNG.normal(size=90))
    words = tuple("I II III".split()[number % 3] if number % 5 else "" for number in range(90))
    covariates = [
        CovariateValues("age", np.nan_to_num(ages, nan=61)),
        CovariateValues("stage", word=words),
        CovariateValues("x", ages * 0 + 1),
    ]
    return risk_against(path, 100 * SURVIVAL, GROUP, covariates, title="t")


def _training(path):
    fits = [FitLoss(f"f{number}", np.arange(1.0, 6.0), np.arange(1.0, 6.0) ** -0.1 * number) for number in range(1, 9)]
    return training_curves(path, {"text": fits, "image": fits[:1], "third": fits[:2]}, title="t")


@pytest.mark.parametrize("draw", [_forest, _calibration, _decision, _training])
def test_png_and_svg_are_written_and_the_same_each_time(tmp_path: Path, draw) -> None:
    first = draw(tmp_path / "a" / "x.png")
    second = draw(tmp_path / "b" / "x.png")
    assert [path.name for path in first] == ["x.png", "x.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with Image.open(first[0]) as picture:
        assert picture.width > 500
    assert b"<svg" in first[1].read_bytes()


@pytest.mark.parametrize("n", [2, 14])
def test_words_below_an_axis_do_not_run_into_each_other(n: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure((2.9, 3.0))
    axes = figure.subplots()
    stages = CovariateValues("stage", word=tuple(f"Stage {number % n}" for number in range(60)))
    report_figures._against(axes, stages, np.linspace(0, 100, 60), ["low"] * 60)
    figure.draw_without_rendering()
    words = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(words))


def test_risk_is_drawn_against_numbers_words_and_what_is_unknown(tmp_path: Path) -> None:
    png, _ = _against(tmp_path / "x.png")
    with Image.open(png) as picture:
        assert picture.width > 500


def test_agreement_is_kaplan_meier_in_groups_of_rising_prediction() -> None:
    rows = agreement(survival=SURVIVAL, horizon=8.0, time=TIME, event=EVENT)
    assert [row.cases for row in rows] == [18] * 5
    assert [row.predicted for row in rows] == sorted(row.predicted for row in rows)
    lowest = np.argsort(SURVIVAL)[:18]
    fit = KaplanMeierFitter().fit(TIME[lowest], EVENT[lowest])
    assert rows[0].observed == pytest.approx(float(fit.predict(8.0)))
    assert all(row.low <= row.observed <= row.high for row in rows)


def test_equal_predictions_are_one_group_and_few_cases_make_few_groups() -> None:
    (row,) = agreement(survival=np.full(90, 0.4), horizon=8.0, time=TIME, event=EVENT)
    assert (row.cases, row.predicted) == (90, pytest.approx(0.4))
    assert len(agreement(survival=SURVIVAL[:17], horizon=8.0, time=TIME[:17], event=EVENT[:17])) == 2


def test_a_group_without_an_event_has_no_interval_but_a_place() -> None:
    (row,) = agreement(survival=np.full(6, 0.5), horizon=8.0, time=np.arange(9.0, 15), event=np.zeros(6, bool))
    assert (row.observed, row.low, row.high) == (1, 1, 1)


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(MetricError):
        forest(path, [], title="", label="", none_at=0)
    with pytest.raises(MetricError):
        calibration_plot(path, {}, horizon="", title="")
    with pytest.raises(MetricError):
        decision_plot(path, {}, horizon="", title="")
    with pytest.raises(MetricError):
        risk_against(path, SURVIVAL, GROUP, [], title="")
    with pytest.raises(MetricError):
        training_curves(path, {}, title="")
    assert not path.exists()
