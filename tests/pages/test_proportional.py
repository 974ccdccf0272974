"""The page's check of proportional hazards, and the mean of each risk group with its error."""

from dataclasses import replace

import numpy as np
import pytest

from wsisurv.cohort import Case
from wsisurv.errors import MetricError
from wsisurv.experiments.risk_groups import RISK_GROUPS, follow_up_by_group, risk_groups_table
from wsisurv.pages.predicted import OUT_OF_FOLD, CasePredictions
from wsisurv.pages.proportional import proportional_figure, proportional_lines, proportional_words
from wsisurv.survival.proportional_hazards import effect_over_time, proportional_hazards
from wsisurv.survival.restricted_mean import restricted_mean
from wsisurv.survival.stratified import FoldScores
from wsisurv.units import CaseId


def drawn(n: int, *, change: float = 0.0, unit: float = 0.1, seed: int = 0) -> CasePredictions:
    """Two folds whose risks have origins of their own; the effect of the risk is 1, and 1 + ``change`` after time 1."""
    rng = np.random.default_rng(seed)
    risk, fold = rng.normal(size=n), np.arange(n) % 2
    hazard = rng.exponential(size=n)
    early, late = np.exp(risk), np.exp((1 + change) * risk)
    death = np.where(hazard < early, hazard / early, 1 + (hazard - early) / late)
    end = rng.uniform(0.5, 4, n)
    time, event = np.ceil(np.minimum(death, end) / unit), death <= end
    stages = [["I", "II", "III"][one] for one in rng.integers(0, 3, n)]
    covariates = [{"age": f"{rng.normal(60, 9):.0f}", "stage": stage} for stage in stages]
    cases = tuple(Case(CaseId(f"c{k}"), float(time[k]), bool(event[k]), None, covariates[k]) for k in range(n))
    return CasePredictions(
        source=OUT_OF_FOLD,
        cases=cases,
        log_hazard=risk + 5 * fold,
        percentile=np.zeros(n),
        group=tuple(RISK_GROUPS[one] for one in np.digitize(risk, [-0.4, 0.4])),
        fold=fold,
        folds=(FoldScores(0, np.arange(n), risk[None], n),),
        horizons=np.array([10.0]),
    )


def test_a_steady_effect_is_not_called_changing_and_a_fading_one_is() -> None:
    steady, fading = proportional_lines(drawn(400)), proportional_lines(drawn(800, change=-1.5))
    assert [line.name for line in steady] == ["risk", "age", "stage"]
    assert steady[0].p > 0.05
    assert "is not shown to change with time" in proportional_words(steady)[0]
    assert fading[0].p < 0.001
    assert "The effect of the risk fades with time" in proportional_words(fading)[0]
    assert "grows" in proportional_words(proportional_lines(drawn(800, change=1.5)))[0]


def test_of_the_covariates_those_that_change_after_correction_are_named_and_the_picture_shows_all(tmp_path) -> None:
    steady = proportional_lines(drawn(400))
    assert [line.p_holm for line in steady[1:]] == pytest.approx(
        [min(1, 2 * min(p := [line.p for line in steady[1:]])), max(2 * min(p), max(p))][:: 1 if p[0] < p[1] else -1]
    )
    assert "none of the covariates is shown to change (least p by Holm for 2 tests" in proportional_words(steady)[1]
    predicted = drawn(800, change=-1.5)
    risk = [f"{one}" for one in predicted.folds[0].log_hazard[0]]
    cases = (replace(case, covariates={"x": risk[k], **case.covariates}) for k, case in enumerate(predicted.cases))
    fading = proportional_lines(replace(predicted, cases=tuple(cases)))
    assert "Of the covariates, that of x fades" in proportional_words(fading)[1]
    assert "that of age" not in proportional_words(fading)[1]
    _, svg = proportional_figure(tmp_path / "ph.png", fading, time_unit="months")
    assert b"<svg" in svg.read_bytes()
    # events at few times: the spline has fewer degrees of freedom, no error
    coarse = proportional_lines(drawn(100, unit=2.0))
    course = effect_over_time(coarse[0].test, 0)
    assert np.isfinite([course.value, course.low, course.high]).all()


def test_the_smoothed_course_is_the_natural_spline_of_least_squares() -> None:
    """Held against scipy's natural splines, one through 1 at each knot."""
    from scipy.interpolate import CubicSpline

    line = proportional_lines(drawn(300, change=-1.0))[0]
    x, y = line.test.gone, line.test.residuals[:, 0]
    knots = np.quantile(x, [0, 1 / 3, 2 / 3, 1])
    cardinal = CubicSpline(knots, np.eye(4), bc_type="natural")
    course = effect_over_time(line.test, 0, points=9)
    found, *_ = np.linalg.lstsq(cardinal(x), y, rcond=None)
    assert course.value == pytest.approx(cardinal(course.at) @ found, abs=1e-8)
    spread = np.diag(cardinal(course.at) @ np.linalg.inv(cardinal(x).T @ cardinal(x)) @ cardinal(course.at).T)
    assert (course.high - course.value) == pytest.approx(1.96 * np.sqrt(line.test.variance[0] * spread), rel=1e-6)


def test_it_is_the_test_of_risks_centred_within_folds_whatever_the_order_of_rows() -> None:
    predicted = drawn(200)
    risk = predicted.log_hazard.copy()
    for fold in (0, 1):
        risk[predicted.fold == fold] -= risk[predicted.fold == fold].mean()
    found = proportional_hazards(variables=risk[:, None], time=predicted.time, event=predicted.event)
    lines = proportional_lines(predicted)
    assert lines[0].p == pytest.approx(float(found.p[0]))
    order = np.random.default_rng(1).permutation(200)
    mixed = replace(
        predicted,
        cases=tuple(predicted.cases[row] for row in order),
        log_hazard=predicted.log_hazard[order],
        group=tuple(predicted.group[row] for row in order),
        fold=predicted.fold[order],
    )
    assert [line.p for line in proportional_lines(mixed)] == pytest.approx([line.p for line in lines], rel=1e-5)


def test_words_have_a_level_to_compare_with_and_a_constant_risk_has_no_test() -> None:
    predicted = drawn(200)
    worded = replace(
        predicted,
        cases=tuple(
            replace(case, covariates={"sex": "FM"[k % 2], "who": "" if k % 3 else "x"})
            for k, case in enumerate(predicted.cases)
        ),
    )
    assert [line.name for line in proportional_lines(worded)] == ["risk", "sex: M", "who: unknown"]
    with pytest.raises(MetricError, match="constant"):
        proportional_lines(replace(predicted, log_hazard=5.0 * predicted.fold))


def test_each_group_has_its_restricted_mean_up_to_the_time_all_were_followed() -> None:
    predicted = drawn(150)
    groups = follow_up_by_group(predicted.group, time=predicted.time, event=predicted.event)
    until = min(group.time.max() for group in groups.values())
    for row in risk_groups_table(groups):
        group = groups[row.name]
        mean = restricted_mean(time=group.time, event=group.event, until=until)
        assert (row.until, row.mean, row.mean_se) == (until, mean.value, mean.se)
    low, _, high = risk_groups_table(groups)
    assert low.mean > high.mean
    # one unfamiliar case, lost early, shortens no group's mean and has none
    odd = (*predicted.group[:-1], "unfamiliar")
    early = np.append(predicted.time[:-1], 1.0)
    rows = risk_groups_table(follow_up_by_group(odd, time=early, event=np.append(predicted.event[:-1], False)))
    assert rows[-1].name == "unfamiliar"
    assert rows[-1].mean is None
    assert rows[0].until > 5
    empty = risk_groups_table(follow_up_by_group(["low"] * 150, time=predicted.time, event=predicted.event))[2]
    assert (empty.cases, empty.mean, empty.until) == (0, None, None)
