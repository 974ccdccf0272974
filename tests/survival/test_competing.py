"""Cumulative incidence, Gray's test, absolute risk and Brier score by hand and simulation, on ties, rows shuffled."""

from typing import Any

import numpy as np
import pytest
from lifelines import AalenJohansenFitter
from numpy.typing import NDArray

from wsisurv.errors import FormatError, MetricError
from wsisurv.survival.baseline import baseline_hazard
from wsisurv.survival.calibration import brier
from wsisurv.survival.competing import (
    absolute_risk,
    competing_brier,
    cumulative_incidence,
    followed_on,
    gray_test,
    incidence_interval,
)
from wsisurv.survival.dynamic import dynamic_auc
from wsisurv.survival.kaplan_meier import followed_share, kaplan_meier, logrank
from wsisurv.survival.metrics import concordance
from wsisurv.survival.net_benefit import net_benefit
from wsisurv.survival.prognosis import fit_prognosis, load_prognosis
from wsisurv.survival.stratified import FoldScores, uno_within

Data = dict[str, NDArray[Any]]


def drawn(n: int, seed: int, *, unit: float = 0.0, effect: float = 0.0, leaving: float = 6.0) -> Data:
    """Cases of two groups; hazards 0.2 exp(effect · group) of the event, 0.15 of a competing one; times rounded up."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 2, n)
    event, other = rng.exponential(5 * np.exp(-effect * group)), rng.exponential(1 / 0.15, n)
    end = rng.uniform(0.5, leaving, n)
    time = np.minimum(np.minimum(event, other), end)
    cause = np.where(time == end, 0, np.where(time == event, 1, 2))
    return {"group": group, "time": np.ceil(time / unit) if unit else time, "cause": cause}


def follow_up(data: Data) -> Data:
    return {name: values for name, values in data.items() if name != "group"}


def test_incidence_by_hand() -> None:
    """Six cases; at 2 an event, a competing one and a censoring share the risk set of five."""
    curve = cumulative_incidence(time=[1, 2, 2, 2, 3, 4], cause=[2, 1, 2, 0, 1, 0])
    first = 5 / 6 * 1 / 5
    assert curve.at([0.5, 1, 2, 3, 9]).tolist() == pytest.approx([0, 0, first, first + 0.5 * 1 / 2, first + 0.25])
    other = cumulative_incidence(time=[1, 2, 2, 2, 3, 4], cause=[2, 1, 2, 0, 1, 0], of=2)
    assert other.at([1, 2, 9]).tolist() == pytest.approx([1 / 6, 1 / 6 + 5 / 6 * 1 / 5, 1 / 3])


@pytest.mark.parametrize("unit", [0.0, 0.25, 1.0])
def test_causes_and_survival_add_up_to_one(unit: float) -> None:
    data = follow_up(drawn(200, 1, unit=unit))
    alive = kaplan_meier(time=data["time"], event=data["cause"] > 0)
    both = [cumulative_incidence(**data, of=cause).at(alive.times) for cause in (1, 2)]
    assert alive.at(alive.times) + both[0] + both[1] == pytest.approx(np.ones(len(alive.times)))
    naive = 1 - kaplan_meier(time=data["time"], event=data["cause"] == 1).at(alive.times)
    assert (naive >= both[0] - 1e-12).all()
    assert naive[-2] > both[0][-2] + 0.05  # 1 − Kaplan-Meier overstates it


def test_incidence_and_its_error_are_lifelines_where_no_time_is_shared() -> None:
    """Under ties lifelines moves times at random; see findings/."""
    data = follow_up(drawn(150, 2))
    fitted = AalenJohansenFitter(calculate_variance=True).fit(data["time"], data["cause"], event_of_interest=1)
    curve = cumulative_incidence(**data)
    theirs = fitted.cumulative_density_.iloc[1:, 0].to_numpy()
    assert curve.incidence == pytest.approx(theirs, abs=1e-10)


def test_without_a_competing_event_it_is_kaplan_meier_with_greenwoods_error() -> None:
    data = drawn(120, 3, unit=0.25)
    cause = (data["cause"] == 1).astype(int)
    curve, alive = (
        cumulative_incidence(time=data["time"], cause=cause),
        kaplan_meier(time=data["time"], event=cause),
    )
    assert curve.incidence == pytest.approx(1 - alive.survival)
    inner = alive.survival > 0
    n, d = alive.at_risk[inner].astype(float), alive.fell[inner]
    greenwood = alive.survival[inner] * np.sqrt(np.cumsum(d / (n * (n - d))))
    assert curve.se[inner] == pytest.approx(greenwood)


def test_the_error_is_that_of_repeated_cohorts() -> None:
    curves = [cumulative_incidence(**follow_up(drawn(200, seed, unit=0.5))) for seed in range(300)]
    for at in (2, 6):
        values = np.array([float(curve.at(at)) for curve in curves])
        assert np.mean([float(curve.se_at(at)) for curve in curves]) == pytest.approx(values.std(), rel=0.12)


def test_late_comers_tell_of_the_whole_population() -> None:
    whole = follow_up(drawn(8000, 5))
    late = follow_up(drawn(16000, 6))
    late["entry"] = np.random.default_rng(7).uniform(-1, 3, 16000).clip(0)
    came = late["entry"] < late["time"]
    late = {name: values[came] for name, values in late.items()}
    truth = float(cumulative_incidence(**whole).at(4.0))
    assert float(cumulative_incidence(**late).at(4.0)) == pytest.approx(truth, abs=0.02)


def test_grays_score_is_grays() -> None:
    """With the risk set n_k (1 − F_k) / S_k of each group, counted group by group."""
    data = drawn(160, 8, unit=0.5, effect=0.5)
    score, parts = np.zeros(2), []
    for number in (0, 1):
        rows = data["group"] == number
        parts.append(
            (
                data["time"][rows],
                data["cause"][rows],
                cumulative_incidence(time=data["time"][rows], cause=data["cause"][rows]),
                kaplan_meier(time=data["time"][rows], event=data["cause"][rows] > 0),
            )
        )
    for at in np.unique(data["time"][data["cause"] == 1]):
        died = np.array([((time == at) & (cause == 1)).sum() for time, cause, _, _ in parts])
        there = [(t >= at).sum() * (1 - float(f.at(at - 0.5))) / float(s.before(at)) for t, _, f, s in parts]
        score += died - died.sum() * np.array(there) / np.sum(there)
    assert gray_test(**data).score == pytest.approx(score)


@pytest.mark.parametrize("unit", [0.0, 0.5])
def test_gray_calls_equal_groups_different_as_often_as_it_may(unit: float) -> None:
    calls = sum(gray_test(**drawn(150, seed, unit=unit)).p < 0.05 for seed in range(300))
    assert 5 <= calls <= 27  # binomial(300, .05) leaves 5 to 27 twice in a thousand


def test_gray_finds_a_difference_and_is_the_logrank_test_without_competing_events() -> None:
    assert gray_test(**drawn(300, 9, effect=1.0)).p < 1e-4
    data = drawn(300, 10, effect=0.3)
    cause = (data["cause"] == 1).astype(int)
    gray = gray_test(group=data["group"], time=data["time"], cause=cause)
    plain = logrank(group=data["group"], time=data["time"], event=cause)
    assert gray.statistic == pytest.approx(plain.statistic, rel=0.15)
    assert gray.degrees_of_freedom == 1


def test_the_order_of_tied_rows_tells_nothing() -> None:
    data = drawn(200, 11, unit=1.0, effect=0.4)
    order = np.random.default_rng(0).permutation(200)
    mixed = {name: values[order] for name, values in data.items()}
    assert gray_test(**mixed).statistic == pytest.approx(gray_test(**data).statistic, rel=1e-9)
    one, other = cumulative_incidence(**follow_up(data)), cumulative_incidence(**follow_up(mixed))
    assert one.incidence.tolist() == other.incidence.tolist()


def risks(
    data: Data, log_hazard: NDArray[np.float64], horizons: list[float], asked: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Absolute risk to some times of the cases, or at the log hazards asked."""
    asked = log_hazard if asked is None else asked
    baselines = [
        baseline_hazard(log_hazard=eta, time=data["time"], event=data["cause"] == cause)
        for cause, eta in ((1, log_hazard), (2, np.zeros(len(log_hazard))))
    ]
    return absolute_risk(
        event=baselines[0],
        competing=baselines[1],
        log_hazard=asked,
        competing_log_hazard=np.zeros(len(asked)),
        horizons=horizons,
    )


@pytest.mark.parametrize("unit", [0.0, 0.25, 1.0])
def test_absolute_risk_without_differences_is_aalen_and_johansens(unit: float) -> None:
    data = follow_up(drawn(800, 12, unit=unit))
    horizons = [2 / (unit or 1), 4 / (unit or 1)]
    found = risks(data, np.zeros(800), horizons)
    assert found[0] == pytest.approx(cumulative_incidence(**data).at(horizons), abs=0.005)
    assert np.ptp(found, axis=0).max() == 0


def test_absolute_risk_of_each_group_is_what_happens_to_it() -> None:
    data = drawn(6000, 13, effect=0.9)
    found = risks(data, 0.9 * data["group"], [3.0], np.array([0.0, 0.9]))[:, 0]
    for number in (0, 1):
        rate = 0.2 * np.exp(0.9 * number)
        truth = rate / (rate + 0.15) * (1 - np.exp(-3 * (rate + 0.15)))
        assert found[number] == pytest.approx(truth, abs=0.02)


def test_brier_score_counts_competing_events_as_no_event() -> None:
    """All followed to the end: the plain mean of squares."""
    time, cause = np.array([1.0, 2, 3, 4, 9, 9]), np.array([1, 2, 1, 2, 0, 0])
    risk = np.array([0.9, 0.2, 0.6, 0.1, 0.3, 0.4])
    found = competing_brier(risk=risk[:, None], horizons=[3.5], time=time, cause=cause)
    truth = np.array([1, 0, 1, 0, 0, 0])
    assert found.score[0] == pytest.approx(((risk - truth) ** 2).mean())
    assert found.reference[0] == pytest.approx(((2 / 6 - truth) ** 2).mean())


def test_brier_score_is_the_usual_one_without_competing_events_and_that_of_full_follow_up() -> None:
    data = drawn(400, 14, unit=0.25)
    cause = (data["cause"] == 1).astype(int)
    risk = np.random.default_rng(1).random((400, 2))
    mine = competing_brier(risk=risk, horizons=[4, 10], time=data["time"], cause=cause)
    usual = brier(survival=1 - risk, horizons=[4, 10], time=data["time"], event=cause)
    assert mine.score == pytest.approx(usual.score)
    full, cut = (drawn(6000, 15, leaving=leaving) for leaving in (500.0, 6.0))
    values = [
        competing_brier(risk=np.full((6000, 1), 0.4), horizons=[4.0], **follow_up(data)).score[0]
        for data in (full, cut)
    ]
    assert values[0] == pytest.approx(values[1], abs=0.012)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cumulative_incidence(time=[1, 2], cause=[0, 3]), "cause of case 1 is .*3.*: 0 .censored., 1"),
        (lambda: cumulative_incidence(time=[1, -2], cause=[0, 1]), "time of case 1"),
        (lambda: gray_test(group=[0, 0], time=[1, 2], cause=[1, 0]), "two groups"),
        (lambda: gray_test(group=[0, 1], time=[1, 2], cause=[2, 0]), "an event of cause 1: seen 2 and 0"),
        (lambda: competing_brier(risk=[[0.5], [1.5]], horizons=[1], time=[1, 2], cause=[1, 0]), "case 1 is 1.5"),
    ],
)
def test_what_can_not_be_given(call: Any, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        call()


@pytest.mark.parametrize("unit", [0.0, 1.0])
def test_wolbers_concordance_places_competing_events_below_all_events(unit: float) -> None:
    """Pair by pair: of a case with the event and one that is followed longer, or had a competing event at any time."""
    data = drawn(120, 16, unit=unit, effect=0.7)
    risk = np.random.default_rng(2).normal(size=120) + data["group"]
    right = pairs = 0.0
    for one in np.flatnonzero(data["cause"] == 1):
        for other in range(120):
            later = data["time"][other] > data["time"][one]
            tied = data["time"][other] == data["time"][one] and data["cause"][other] == 0
            if data["cause"][other] == 2 or later or tied:
                pairs += 1
                right += 1.0 if risk[one] > risk[other] else 0.5 if risk[one] == risk[other] else 0.0
    cause = data["cause"]
    times = followed_on(data["time"], cause)
    assert concordance(log_hazard=risk, time=times, event=cause == 1) == pytest.approx(right / pairs)
    assert followed_on(data["time"], None).tolist() == data["time"].tolist()


def uno(data: Data, risk: NDArray[np.float64], until: float | None = None) -> tuple[float, float]:
    """Uno's concordance of all cases as one fold, and where it is truncated."""
    found = uno_within(
        [FoldScores(0, np.arange(len(risk)), risk[None], 1)],
        time=data["time"],
        event=data["cause"] == 1,
        cause=data["cause"],
        entry=data.get("entry"),
        resamples=1,
        until=until,
    )
    return float(found.whole.value[0]), found.until


@pytest.mark.parametrize("unit", [0.0, 0.5, 1.0])
def test_unos_concordance_and_auc_are_weighted_pair_by_pair(unit: float) -> None:
    """More cases than are compared all with all; the order of rows tells nothing."""
    data = drawn(400, 22, unit=unit, effect=0.8)
    risk = np.round(np.random.default_rng(3).normal(size=400) + data["group"], 1)
    time, cause = data["time"], data["cause"]
    censoring = followed_share(time=time, event=cause > 0)
    followed = censoring.before(time)
    value, until = uno(data, risk)
    sums = np.zeros(2)
    for one in np.flatnonzero((cause == 1) & (time < until)):
        weight = np.where((time > time[one]) | ((time == time[one]) & (cause != 1)), followed[one] ** -2.0, 0.0)
        earlier = (cause == 2) & (time < time[one])
        weight[earlier] = 1 / (followed[one] * followed[earlier])
        sums += [weight @ np.where(risk[one] > risk, 1.0, 0.5 * (risk[one] == risk)), weight.sum()]
    assert value == pytest.approx(sums[0] / sums[1], rel=1e-12)
    at = 2 / (unit or 1)
    own = np.where((cause > 0) & (time <= at), 1 / np.maximum(followed, 1e-9), 0.0)
    case = np.where(cause == 1, own, 0.0)
    control = np.where(time > at, 1 / censoring.at(at), own - case)
    right = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    known = {"time": time, "event": cause == 1, "cause": cause, "horizons": [at]}
    auc = dynamic_auc(log_hazard=risk, **known)
    assert auc.auc[0] == pytest.approx(case @ right @ control / (case.sum() * control.sum()), rel=1e-12)
    order = np.random.default_rng(4).permutation(400)
    mixed = {name: values[order] for name, values in data.items()}
    assert uno(mixed, risk[order])[0] == pytest.approx(value, rel=1e-12)


def test_censoring_and_late_entry_leave_unos_concordance_where_it_is() -> None:
    """Harrell's would follow how follow-up was cut; the same cases, followed to the end, from 3 years on, and late."""
    full, cut = (drawn(6000, 23, effect=1.5, leaving=leaving) for leaving in (500.0, 6.0))
    late = {**cut, "entry": np.random.default_rng(5).uniform(-1, 1.5, 6000).clip(0)}
    late = {name: values[late["entry"] < cut["time"]] for name, values in late.items()}
    noise = np.random.default_rng(6).normal(size=6000)
    risk = {"whole": full["group"] + noise, "late": late["group"] + noise[: len(late["time"])]}
    truth, until = uno(full, risk["whole"], until=4.0)
    assert uno(cut, risk["whole"], until=until)[0] == pytest.approx(truth, abs=0.012)
    assert uno(late, risk["late"], until=until)[0] == pytest.approx(truth, abs=0.012)


@pytest.mark.parametrize("unit", [0.0, 0.5])
def test_gray_with_late_entry_calls_equal_groups_different_as_often_as_it_may(unit: float) -> None:
    """Group 1 comes later than group 0; entries of nought are none."""

    def late(seed: int) -> Data:
        data = drawn(220, seed, unit=unit)
        entry = np.random.default_rng(seed + 5000).uniform(-1, 0.8, 220) + 0.5 * data["group"]
        data["entry"] = (np.floor(entry / unit) if unit else entry).clip(0)
        came = data["entry"] < data["time"]
        return {name: values[came] for name, values in data.items()}

    tests = [gray_test(**late(seed)) for seed in range(300)]
    assert 5 <= sum(test.p < 0.05 for test in tests) <= 27
    assert np.mean([test.statistic for test in tests]) == pytest.approx(1, abs=0.25)
    data = drawn(60, 17)
    assert gray_test(**data, entry=np.zeros(60)).p == gray_test(**data).p
    with pytest.raises(MetricError, match="others of it enter later"):
        gray_test(group=[0, 0, 1, 1], time=[1, 4, 2, 3], cause=[1, 2, 1, 1], entry=[0, 3, 0, 0])


def test_intervals_of_incidence_stay_within_nought_and_one() -> None:
    assert incidence_interval(0.0, 0.0) == (0.0, 0.0)
    low, high = incidence_interval(0.02, 0.02)
    assert 0 < low < 0.02 < high < 1
    curves = [cumulative_incidence(**follow_up(drawn(150, seed))) for seed in range(200)]
    truth = 0.2 / 0.35 * (1 - np.exp(-0.35 * 2))
    held = [
        low <= truth <= high
        for low, high in (incidence_interval(float(one.at(2.0)), float(one.se_at(2.0))) for one in curves)
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.05)


def test_net_benefit_counts_who_has_the_event_and_no_competing_one() -> None:
    """All followed to the end: plain shares."""
    time, cause = np.array([1.0, 2, 3, 4, 9, 9]), np.array([1, 2, 1, 2, 0, 0])
    survival = 1 - np.array([0.9, 0.9, 0.6, 0.1, 0.1, 0.1])
    found = net_benefit(survival=survival, horizon=3.5, thresholds=[0.5], time=time, event=cause == 1, cause=cause)
    assert found.model[0] == pytest.approx(2 / 6 - 1 / 6)
    assert found.treat_all[0] == pytest.approx(2 / 6 - 4 / 6)
    plain = net_benefit(survival=survival, horizon=3.5, thresholds=[0.5], time=time, event=cause == 1)
    assert plain.model[0] > found.model[0]


def test_brier_over_time_is_the_mean_by_the_trapezoidal_rule() -> None:
    data = follow_up(drawn(200, 18))
    found = competing_brier(risk=np.full((200, 3), 0.3), horizons=[1.0, 2.0, 4.0], **data)
    first, second, third = found.score
    assert found.integrated == pytest.approx(((first + second) / 2 + (second + third) / 2 * 2) / 3)


@pytest.mark.parametrize("unit", [0.0, 0.25, 1.0])
def test_a_students_risk_without_differences_is_aalen_and_johansens(unit: float) -> None:
    data = follow_up(drawn(800, 19, unit=unit))
    found = fit_prognosis(log_hazard=np.zeros(800), time=data["time"], event=data["cause"] == 1, cause=data["cause"])
    at = [2 / (unit or 1), 4 / (unit or 1)]
    free = found.event_free(log_hazard=np.zeros(1), horizons=at)[0]
    assert 1 - free == pytest.approx(cumulative_incidence(**data).at(at), abs=0.005)
    naive = 1 - found.survival(log_hazard=np.zeros(1), horizons=at)[0]
    assert (naive > 1 - free + 0.02).all()
    assert np.isnan(found.event_free(log_hazard=np.zeros(1), horizons=[1e6])).all()


@pytest.mark.parametrize("of_other", [-0.8, 0.8, 0.0])
def test_the_competing_hazard_has_a_slope_of_its_own(of_other: float) -> None:
    rng = np.random.default_rng(20)
    risk = rng.normal(size=3000)
    event, other = rng.exponential(5 * np.exp(-0.6 * risk)), rng.exponential(7 * np.exp(-of_other * risk))
    end = rng.uniform(1, 8, 3000)
    time = np.minimum(np.minimum(event, other), end)
    cause = np.where(time == end, 0, np.where(time == event, 1, 2))
    found = fit_prognosis(log_hazard=risk, time=time, event=cause == 1, cause=cause)
    assert found.competing is not None
    assert found.competing.slope == pytest.approx(of_other, abs=0.1)
    free = 1 - found.event_free(log_hazard=risk, horizons=[3.0])[:, 0]
    for part in np.array_split(np.argsort(risk), 3):
        happened = float(cumulative_incidence(time=time[part], cause=cause[part]).at(3.0))
        assert free[part].mean() == pytest.approx(happened, abs=0.03)


def test_a_prognosis_keeps_its_competing_hazard_and_refuses_a_damaged_one() -> None:
    data = follow_up(drawn(200, 21))
    known = fit_prognosis(log_hazard=np.zeros(200), time=data["time"], event=data["cause"] == 1, cause=data["cause"])
    arrays = known.arrays()
    again = load_prognosis(arrays)
    at = {"log_hazard": [0.3, -1.0], "horizons": [1.0, 3.0]}
    assert again.event_free(**at).tolist() == known.event_free(**at).tolist()
    plain = fit_prognosis(log_hazard=np.zeros(200), time=data["time"], event=data["cause"] == 1)
    assert not any("competing" in name for name in plain.arrays())
    assert plain.event_free(**at).tolist() == plain.survival(**at).tolist()
    times = "prognosis/competing/times"
    for spoilt in (arrays[times][::-1], arrays[times][1:], arrays[times] * np.nan, arrays[times] * 1e6):
        with pytest.raises(FormatError, match="competing"):
            load_prognosis({**arrays, times: spoilt})
    with pytest.raises(FormatError, match="competing"):
        load_prognosis({name: values for name, values in arrays.items() if name != times})
    with pytest.raises(MetricError, match="disagree"):
        fit_prognosis(log_hazard=np.zeros(200), time=data["time"], event=data["cause"] == 2, cause=data["cause"])
