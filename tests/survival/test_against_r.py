"""Figures on tied times against R's survival and cmprsk (GPL, here only to check); skipped where R is missing."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsisurv.survival.baseline import baseline_hazard
from wsisurv.survival.competing import (
    absolute_risk,
    competing_brier,
    cumulative_incidence,
    followed_on,
    gray_test,
)
from wsisurv.survival.cox import cox_slope
from wsisurv.survival.dynamic import dynamic_auc
from wsisurv.survival.metrics import concordance
from wsisurv.survival.proportional_hazards import proportional_hazards
from wsisurv.survival.restricted_mean import restricted_mean
from wsisurv.survival.stratified import FoldScores, uno_within

SCRIPT = Path(__file__).parents[1] / "reference" / "competing_r.R"
AT = [4.0, 8.0, 16.0]
Figures = dict[str, NDArray[np.float64]]


@cache
def has_r() -> bool:
    """Whether R is here with both packages."""
    if shutil.which("Rscript") is None:
        return False
    asked = ["Rscript", "--vanilla", "-e", "library(survival); library(cmprsk)"]
    return subprocess.run(asked, capture_output=True).returncode == 0


pytestmark = pytest.mark.r


@pytest.fixture(scope="module")
def data() -> dict[str, NDArray[Any]]:
    """300 cases in quarters of a year, so that most times are shared; some enter late."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 300)
    x = np.round(rng.normal(size=300) + group, 1)
    event, other = rng.exponential(5 * np.exp(-0.5 * x)), rng.exponential(7 * np.exp(0.2 * x))
    end = rng.uniform(0.5, 6, 300)
    time = np.minimum(np.minimum(event, other), end)
    cause = np.where(time == end, 0, np.where(time == event, 1, 2))
    time = np.ceil(time * 4)
    entry = np.floor(time * rng.uniform(0, 0.6, 300) * (rng.random(300) < 0.4))
    return {"time": time, "cause": cause, "group": group, "x": x, "entry": entry}


@pytest.fixture(scope="module", params=["as they are", "shuffled"])
def r(
    request: pytest.FixtureRequest, data: dict[str, NDArray[Any]], tmp_path_factory: pytest.TempPathFactory
) -> Figures:
    """What R prints of the rows, as they are and in another order."""
    if not has_r():
        pytest.skip("R with survival and cmprsk is not here")
    rows = np.column_stack(list(data.values()))
    if request.param == "shuffled":
        rows = np.random.default_rng(1).permutation(rows)
    table = tmp_path_factory.mktemp("r") / "cases.csv"
    np.savetxt(table, rows, delimiter=",", header=",".join(data), comments="", fmt="%g")
    return run_r(table)


def run_r(table: Path) -> Figures:
    """All figures that R gives of a table."""
    asked = ["Rscript", "--vanilla", str(SCRIPT), str(table), ",".join(map(str, AT))]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in said.splitlines()]
    return {name: np.array(values, dtype=np.float64) for name, *values in lines}


def test_incidence_its_error_and_late_entry(r: Figures, data: dict[str, NDArray[Any]]) -> None:
    time, cause, entry = data["time"], data["cause"], data["entry"]
    curve = cumulative_incidence(time=time, cause=cause)
    assert curve.at(AT) == pytest.approx(r["incidence"], abs=1e-10)
    assert curve.at(AT) == pytest.approx(r["cmprsk"], abs=1e-10)
    assert curve.se_at(AT) == pytest.approx(r["incidence_se"], rel=0.02)  # R's is the infinitesimal jackknife
    assert cumulative_incidence(time=time, cause=cause, entry=entry).at(AT) == pytest.approx(r["late"], abs=1e-10)


def test_grays_test(r: Figures, data: dict[str, NDArray[Any]]) -> None:
    found = gray_test(group=data["group"], time=data["time"], cause=data["cause"])
    assert found.statistic == pytest.approx(r["gray"][0], rel=1e-6)
    assert found.p == pytest.approx(r["gray"][1], rel=1e-6)


def test_cox_and_its_baseline_by_efron(r: Figures, data: dict[str, NDArray[Any]]) -> None:
    time, event = data["time"], data["cause"] == 1
    fit = cox_slope(log_hazard=data["x"], time=time, event=event)
    assert [fit.value, fit.se] == pytest.approx(r["coefficient"], rel=1e-6)
    baseline = baseline_hazard(log_hazard=fit.value * data["x"], time=time, event=event)
    survival = baseline.survival_at(log_hazard=[0.0], horizons=AT)[0]
    assert -np.log(survival) == pytest.approx(r["hazard"], rel=1e-6)


def test_concordances(r: Figures, data: dict[str, NDArray[Any]]) -> None:
    x, time, cause, entry = data["x"], data["time"], data["cause"], data["entry"]
    event = cause == 1
    assert concordance(log_hazard=x, time=time, event=event) == pytest.approx(r["concordance"][0])
    late = concordance(log_hazard=x, time=time, event=event, entry=entry)
    assert late == pytest.approx(r["late_concordance"][0])
    wolbers = concordance(log_hazard=x, time=followed_on(time, cause), event=event)
    assert wolbers == pytest.approx(r["wolbers"][0])


@pytest.fixture(scope="module")
def apart(data: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same cases, no two of one time."""
    return {**data, "time": data["time"] - np.random.default_rng(2).permutation(300) / 400, "entry": np.zeros(300)}


@pytest.fixture(scope="module")
def r_apart(apart: dict[str, NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """What R prints of those."""
    if not has_r():
        pytest.skip("R with survival and cmprsk is not here")
    table = tmp_path_factory.mktemp("r") / "apart.csv"
    np.savetxt(table, np.column_stack(list(apart.values())), delimiter=",", header=",".join(apart), comments="")
    return run_r(table)


def test_weights_for_censoring_with_competing_events(apart: dict[str, NDArray[Any]], r_apart: Figures) -> None:
    """AUC and Brier score of riskRegression, Wolbers's weighted concordance of pec."""
    if "auc" not in r_apart:
        pytest.skip("R with riskRegression and pec is not here")
    x, time, cause = apart["x"], apart["time"], apart["cause"]
    auc = dynamic_auc(log_hazard=x, time=time, event=cause == 1, cause=cause, horizons=AT)
    assert auc.auc == pytest.approx(r_apart["auc"], rel=1e-6)
    risk = np.repeat(1 / (1 + np.exp(-x))[:, None], len(AT), axis=1)
    assert competing_brier(risk=risk, horizons=AT, time=time, cause=cause).score == pytest.approx(
        r_apart["brier"], rel=1e-6
    )
    whole = [FoldScores(0, np.arange(300), x[None], 1)]
    found = uno_within(whole, time=time, event=cause == 1, cause=cause, resamples=1, until=AT[1])
    assert found.whole.value == pytest.approx(r_apart["weighted_wolbers"], rel=1e-6)


def test_absolute_risk_from_both_hazards(
    r: Figures, data: dict[str, NDArray[Any]], apart: dict[str, NDArray[Any]], r_apart: Figures
) -> None:
    """Equal where no time is shared; where times are, R's multi-state survival falls below that of the same cases."""
    untied = np.stack([r_apart[f"risk{number}"] for number in (1, 2, 3)])
    assert risks(apart) == pytest.approx(untied, abs=1e-6)
    tied = np.stack([r[f"risk{number}"] for number in (1, 2, 3)])
    assert np.abs(risks(data) - untied).max() < 0.01 < np.abs(tied - untied).max()


def risks(data: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Absolute risk of three cases at three times, from two Cox models."""
    who, slopes, baselines = np.array([-1.0, 0.0, 1.0]), [], []
    for cause in (1, 2):
        fit = cox_slope(log_hazard=data["x"], time=data["time"], event=data["cause"] == cause)
        slopes.append(fit.value)
        eta = fit.value * data["x"]
        baselines.append(baseline_hazard(log_hazard=eta, time=data["time"], event=data["cause"] == cause))
    return absolute_risk(
        event=baselines[0],
        competing=baselines[1],
        log_hazard=slopes[0] * who,
        competing_log_hazard=slopes[1] * who,
        horizons=AT,
    )


def test_restricted_mean_and_proportional_hazards(r: Figures, data: dict[str, NDArray[Any]]) -> None:
    event = data["cause"] == 1
    mean = restricted_mean(time=data["time"], event=event, until=max(AT))
    assert [mean.value, mean.se] == pytest.approx(r["restricted_mean"], rel=1e-6)
    found = proportional_hazards(variables=data["x"][:, None], time=data["time"], event=event)
    assert found.p[0] == pytest.approx(r["schoenfeld"][1], abs=0.05)
