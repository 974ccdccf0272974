"""Kaplan-Meier pictures: whole, the same bytes, without pyplot; and the table by group."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsisurv.errors import MetricError
from wsisurv.experiments.risk_groups import Group, risk_groups, risk_groups_table
from wsisurv.formats.risks import Risk
from wsisurv.pages import survival_figure as figures
from wsisurv.pages.survival_figure import kaplan_meier

EMPTY = Group(np.array([]), np.array([], bool))


def make_group(n: int, mean: float, seed: int) -> Group:
    rng = np.random.default_rng(seed)
    time, censored = rng.exponential(mean, n) + 1, rng.uniform(200, 2000, n)
    return Group(np.minimum(time, censored), time <= censored)


@pytest.fixture
def groups() -> dict[str, Group]:
    return {
        "low": make_group(40, 3000, 0),
        "intermediate": make_group(30, 1500, 1),
        "high": make_group(25, 400, 2),
    }


def texts(groups: dict[str, Group]) -> list[str]:
    """All that is written in a picture."""
    from matplotlib.text import Text

    figure = figures._draw(groups, "days", "A title")
    return [text.get_text() for text in figure.findobj(Text)]


def test_picture_and_vector_are_the_same_bytes_each_time(tmp_path: Path, groups: dict[str, Group]) -> None:
    first = kaplan_meier(tmp_path / "a" / "km.png", groups, time_unit="days", title="Survival")
    second = kaplan_meier(tmp_path / "b" / "km.png", groups, time_unit="days", title="Survival")
    assert [path.name for path in first] == ["km.png", "km.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    with Image.open(first[0]) as image:
        assert image.width > 600
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_the_legend_leaves_the_curves_their_width(groups: dict[str, Group]) -> None:
    """Of many cases it is wide: it pushed the curves together, and the last group off the picture."""
    many = {name: Group(np.tile(one.time, 99), np.tile(one.event, 99)) for name, one in groups.items()}
    for chosen in (groups, many, {name: replace(one, cause=2 - one.event) for name, one in many.items()}):
        figure = figures._draw(chosen, "days", "A title")
        figure.draw_without_rendering()
        curves = figure.axes[0]
        assert curves.get_position().width > 0.7
        assert curves.get_legend().get_window_extent().x1 <= figure.bbox.x1


def test_no_pyplot_and_no_date(tmp_path: Path) -> None:
    code = f"""
import sys, numpy as np
from pathlib import Path
from wsisurv.experiments.risk_groups import Group
from wsisurv.pages.survival_figure import kaplan_meier
kaplan_meier(Path({str(tmp_path / "km.png")!r}), {{"low": Group(np.array([1.0, 2.0]), np.array([True, False]))}},
             time_unit="days")
sys.exit("matplotlib.pyplot" in sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert "dc:date" not in (tmp_path / "km.svg").read_text(encoding="utf-8")


def test_numbers_at_risk_and_groups_are_written(groups: dict[str, Group]) -> None:
    written = texts(groups)
    assert {"A title", "Time (years)", "Number at risk", "log-rank p < 0.001"} <= set(written)
    for name, group in groups.items():
        assert f"{name}: {group.event.sum()} / {len(group.time)}" in written
        assert str(len(group.time)) in written  # all at risk at the start
        assert str((group.time >= 2 * 365.25).sum()) in written


@pytest.mark.parametrize(("unit", "shown"), [("days", 365.25), ("weeks", 365.25 / 7), ("months", 1), ("years", 1)])
def test_days_and_weeks_are_drawn_as_years(groups: dict[str, Group], unit: str, shown: float) -> None:
    figure = figures._draw(groups, unit, "")
    end = max(group.time.max() for group in groups.values())
    assert figure.axes[0].get_xlim() == pytest.approx((0, 1.02 * end / shown))
    assert figure.axes[1].get_xlabel() == f"Time ({'months' if unit == 'months' else 'years'})"


def test_a_group_of_under_five_is_a_thin_line_without_a_band(groups: dict[str, Group]) -> None:
    """The band of two cases fills the picture and hides the others."""
    for n, bands in ((4, 2), (5, 3)):
        few = Group(groups["high"].time[:n], groups["high"].event[:n])
        for chosen in ({**groups, "high": few}, {**groups, "high": replace(few, cause=1 * few.event)}):
            curves = figures._draw(chosen, "months", "").axes[0]
            assert len(curves.collections) == bands
            assert all(band.get_alpha() < 0.12 for band in curves.collections)
            (line,) = (one for one in curves.lines if one.get_label().startswith("high"))
            assert (line.get_linewidth() < 1) == (n < 5)


def test_an_empty_group_is_listed_with_nobody_at_risk(groups: dict[str, Group]) -> None:
    written = texts({**groups, "intermediate": EMPTY})
    assert "intermediate: 0 / 0" in written
    assert "log-rank p < 0.001" in written


@pytest.mark.parametrize(
    "only",
    [
        {"low": Group(np.array([3.0]), np.array([True])), "high": EMPTY},
        {
            "low": Group(np.array([3.0, 4.0]), np.array([False, False])),
            "high": Group(np.array([5.0]), np.array([False])),
        },
    ],
)
def test_without_a_test_the_picture_says_so(only: dict[str, Group]) -> None:
    assert "log-rank: needs two groups and an event" in texts(only)


def test_p_value_is_shown_when_it_is_not_tiny() -> None:
    written = texts({"low": make_group(30, 900, 0), "high": make_group(30, 900, 5)})
    assert any(re.fullmatch(r"log-rank p = 0\.\d{3}", text) for text in written)


def test_no_case_at_all_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match=r"no case in any group \(low, high\)"):
        kaplan_meier(tmp_path / "km.png", {"low": EMPTY, "high": EMPTY}, time_unit="days")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("time", "message"),
    [([1.0, np.nan], "time of case 1 is nan"), ([0.0, 1.0], "case 0 is 0"), ([1.0], "lengths differ")],
)
def test_follow_up_that_cannot_be(time: list[float], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        Group(np.array(time), np.array([True, False]))


def test_the_users_matplotlib_settings_are_left_alone(tmp_path: Path, groups: dict[str, Group]) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    kaplan_meier(tmp_path / "km.png", groups, time_unit="days")
    assert dict(mpl.rcParams) == before


def test_table_by_group() -> None:
    rows = risk_groups_table(
        {
            "low": Group(np.array([5.0, 6.0]), np.array([False, False])),
            "intermediate": EMPTY,
            "high": Group(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, True, False])),
        }
    )
    assert [(row.name, row.cases, row.events, row.median) for row in rows] == [
        ("low", 2, 0, None),
        ("intermediate", 0, 0, None),
        ("high", 4, 3, 2.0),
    ]


def test_groups_from_a_risk_table() -> None:
    risks = [
        Risk("a", ("a1",), 10, -0.5, 20.0, "low"),
        Risk("b", ("b1",), 10, 0.5, 90.0, "high"),
        Risk("c", ("c1",), 10, 0.7, 95.0, "high"),
        Risk("blank", ("d1",), 0, None, None, "unknown"),
        Risk("lost to follow-up", ("e1",), 9, 0.1, 50.0, "low"),
    ]
    groups = risk_groups(risks, {"a": (5.0, False), "b": (2.0, True), "c": (3.0, False), "blank": (4.0, True)})
    assert list(groups) == ["low", "intermediate", "high"]
    assert groups["high"].time.tolist() == [2.0, 3.0]
    assert groups["high"].event.tolist() == [True, False]
    assert [len(group.time) for group in groups.values()] == [1, 0, 2]
