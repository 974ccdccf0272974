"""Late entry: published values of R, risk sets counted by hand, and truncated samples against the whole population."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lifelines import KaplanMeierFitter
from numpy.typing import NDArray
from torch import Tensor

from wsisurv.errors import MetricError
from wsisurv.survival import losses
from wsisurv.survival.baseline import baseline_hazard
from wsisurv.survival.calibration import brier, d_calibration
from wsisurv.survival.cox import cox_slope, cox_within, fit_cox
from wsisurv.survival.dynamic import dynamic_auc, followed_until
from wsisurv.survival.kaplan_meier import censoring_curve, followed_share, kaplan_meier, logrank
from wsisurv.survival.losses import cox_log_likelihood, discrete_loss, ranking_loss
from wsisurv.survival.metrics import bootstrap, concordance
from wsisurv.survival.net_benefit import net_benefit
from wsisurv.survival.prognosis import fit_prognosis
from wsisurv.survival.ridge import choose_ridge, ridge_path
from wsisurv.survival.stratified import FoldScores, uno_within
from wsisurv.training.agreement import listwise_kl

THERNEAU: dict[str, Any] = {
    "entry": np.array([1, 2, 5, 2, 1, 7, 3, 4, 8, 8], dtype=float),
    "time": np.array([2, 3, 6, 7, 8, 9, 9, 9, 14, 17], dtype=float),
    "event": np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0], dtype=bool),
}
"""test2 of R's package survival, in the example of its help page of coxph."""
EXPOSED = np.array([1, 0, 0, 1, 0, 1, 1, 1, 0, 0], dtype=float)


def test_the_coefficient_is_that_of_rs_help_page() -> None:
    fit = fit_cox(variables=EXPOSED[:, None], **THERNEAU)
    slope = cox_slope(log_hazard=EXPOSED, **THERNEAU)
    for value, se in ((fit.coefficients[0], fit.se[0]), (slope.value, slope.se)):
        assert (value, se) == pytest.approx((-0.0211, 0.79518), abs=1e-4)


@pytest.mark.parametrize("ratio", [0.4, 1.0, 3.0])
def test_likelihood_and_hazard_by_hand(ratio: float) -> None:
    """At 2, 3, 6, 7 and 8 one of the cases at risk dies, at 9 two of five; who enters at t is not at risk at t."""
    r, log_hazard = ratio, np.log(ratio) * EXPOSED
    steps = [
        1 / (r + 1),
        1 / (r + 2),
        1 / (3 * r + 2),
        1 / (3 * r + 1),
        1 / (3 * r + 1),
        1 / (3 * r + 2) + 1 / (2 * r + 2),
    ]
    baseline = baseline_hazard(log_hazard=log_hazard, **THERNEAU)
    assert np.exp(baseline.log_cumulative) == pytest.approx(np.cumsum(steps), rel=1e-12)
    fitted = cox_within(variables=EXPOSED[:, None], fold=np.zeros(10, np.int64), **THERNEAU)
    r = float(np.exp(fitted.coefficients[0]))
    sums = (r + 1) * (r + 2) * (3 * r + 2) * (3 * r + 1) ** 2 * (3 * r + 2) * (2 * r + 2)
    assert fitted.log_likelihood == pytest.approx(4 * np.log(r) - np.log(sums))


def cases(n: int, seed: int, *, distinct: float = 20.0) -> dict[str, NDArray[Any]]:
    """Cases with ties in times and entries, some entering at the very time of others' events; none enters at 0."""
    rng = np.random.default_rng(seed)
    risk = np.round(rng.normal(size=6 * n), 1)
    time, entry = np.ceil(rng.exponential(np.exp(-risk)) * distinct), np.floor(rng.exponential(0.4, 6 * n) * distinct)
    seen = np.flatnonzero(entry < time)[:n]
    data = {"log_hazard": risk[seen], "time": time[seen], "event": rng.random(n) < 0.6, "entry": entry[seen]}
    data["entry"][np.argsort(data["time"])[:5]] = 0  # some are at risk from the start
    return data


def at_risk(data: dict[str, NDArray[Any]], time: float) -> NDArray[np.bool_]:
    return (data["entry"] < time) & (data["time"] >= time)


@pytest.mark.parametrize("seed", range(3))
def test_curves_are_those_of_counted_risk_sets(seed: int) -> None:
    data = cases(150, seed)
    follow_up = {name: data[name] for name in ("time", "event", "entry")}
    left, censored = 1.0, 1.0
    curve, of_censoring, share = kaplan_meier(**follow_up), censoring_curve(**follow_up), followed_share(**follow_up)
    for time in np.unique(data["time"]):
        here, died = at_risk(data, time), int((data["event"] & (data["time"] == time)).sum())
        lost = int((~data["event"] & (data["time"] == time)).sum())
        assert share.before(time) == pytest.approx(here.sum() / (150 * left))
        left *= 1 - died / here.sum()
        censored *= 1 - lost / max(here.sum() - died, 1)
        assert (curve.at(time), of_censoring.at(time)) == pytest.approx((left, censored))
    fitted = KaplanMeierFitter().fit(data["time"], data["event"], entry=data["entry"])
    assert curve.at(curve.times) == pytest.approx(fitted.predict(curve.times).to_numpy(), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_hazard_is_efrons_of_counted_risk_sets(seed: int) -> None:
    data = cases(120, seed)
    baseline = baseline_hazard(**data)
    weight, total = np.exp(data["log_hazard"]), 0.0
    for time, found in zip(baseline.times, np.exp(baseline.log_cumulative), strict=True):
        tied = data["event"] & (data["time"] == time)
        gone = np.arange(tied.sum()) / tied.sum() * weight[tied].sum()
        total += (1 / (weight[at_risk(data, time)].sum() - gone)).sum()
        assert found == pytest.approx(total)


@pytest.mark.parametrize("seed", range(3))
def test_concordance_compares_those_at_risk_together(seed: int) -> None:
    data = cases(90, seed)
    follow_up = {name: data[name] for name in ("time", "event", "entry")}
    until, share = followed_until(**follow_up), followed_share(**follow_up)
    pairs = score = weighted_pairs = weighted_score = 0.0
    for one in np.flatnonzero(data["event"]):
        own, risk = data["time"][one], data["log_hazard"]
        other = at_risk(data, own) & ((data["time"] > own) | ~data["event"])
        right = (risk[one] > risk[other]).sum() + 0.5 * (risk[one] == risk[other]).sum()
        pairs, score = pairs + other.sum(), score + right
        if own < until:
            weight = float(share.before(own)) ** -2
            weighted_pairs, weighted_score = weighted_pairs + weight * other.sum(), weighted_score + weight * right
    assert concordance(**data) == pytest.approx(score / pairs)
    assert bootstrap(**data, resamples=20).value == pytest.approx(score / pairs)
    fold = FoldScores(0, np.arange(90), data["log_hazard"][None], 1)
    assert uno_within([fold], **follow_up, resamples=0).whole.value[0] == pytest.approx(weighted_score / weighted_pairs)


@pytest.mark.parametrize("seed", range(2))
def test_ridge_is_at_the_maximum_of_the_counted_likelihood(seed: int) -> None:
    """The gradient of the penalised Breslow likelihood is 0 there, in each of three variables."""
    data = cases(120, seed)
    rng = np.random.default_rng(seed)
    variables = np.stack([data["log_hazard"], rng.normal(size=120), rng.normal(size=120)], axis=1)
    follow_up = {name: data[name] for name in ("time", "event", "entry")}
    for ridge, beta in zip((1.0, 0.03), ridge_path(variables=variables, **follow_up, ridges=(1.0, 0.03)), strict=True):
        gradient = -ridge * 120 * beta
        for one in np.flatnonzero(data["event"]):
            here = at_risk(data, data["time"][one])
            weight = np.exp(variables[here] @ beta)
            gradient = gradient + variables[one] - weight @ variables[here] / weight.sum()
        assert gradient == pytest.approx(np.zeros(3), abs=1e-3)
    assert choose_ridge(variables=variables, **follow_up).coefficients[0] > 0.3


def test_logrank_is_the_score_test_of_counted_risk_sets() -> None:
    data = cases(140, 5)
    group = (data["log_hazard"] > 0).astype(int)
    excess = variance = 0.0
    for time in np.unique(data["time"][data["event"]]):
        here, died = at_risk(data, time), data["event"] & (data["time"] == time)
        n, n1, d = here.sum(), (here & (group == 1)).sum(), died.sum()
        excess += (died & (group == 1)).sum() - d * n1 / n
        variance += d * n1 / n * (1 - n1 / n) * (n - d) / max(n - 1, 1)
    found = logrank(group=group, time=data["time"], event=data["event"], entry=data["entry"])
    assert found.statistic == pytest.approx(excess**2 / variance)
    assert found.statistic != pytest.approx(
        logrank(group=group, time=data["time"], event=data["event"]).statistic, rel=0.01
    )


def population(n: int, seed: int) -> dict[str, NDArray[Any]]:
    """Cases who could be followed from 0: risk, times of the event and of leaving, and when they come to the clinic."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(0, 0.8, n)
    return {
        "risk": risk,
        "death": 3 * rng.exponential(np.exp(-risk)),
        "leaves": rng.uniform(1, 9, n),
        "comes": rng.uniform(-1, 3, n),
    }


def sample(seed: int = 0, n: int = 12000) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """The population followed from 0, and of another such one those who come before event and leaving, from then on."""
    whole, others = population(n, seed), population(n, seed + 1)
    all_of_them = {
        "log_hazard": whole["risk"],
        "time": np.minimum(whole["death"], whole["leaves"]),
        "event": whole["death"] <= whole["leaves"],
    }
    time, entry = np.minimum(others["death"], others["leaves"]), np.maximum(others["comes"], 0.0)
    came = entry < time
    return all_of_them, {
        "log_hazard": others["risk"][came],
        "time": time[came],
        "event": (others["death"] <= others["leaves"])[came],
        "entry": entry[came],
    }


def _uno(data: dict[str, NDArray[Any]]) -> float:
    rest = {name: data[name] for name in data if name != "log_hazard"}
    fold = FoldScores(0, np.arange(len(data["time"])), data["log_hazard"][None], 1)
    return float(uno_within([fold], **rest, resamples=0, until=5.0).whole.value[0])


def _auc(data: dict[str, NDArray[Any]]) -> float:
    return dynamic_auc(**data, horizons=[1.0, 2.0, 4.0]).mean


def _brier(data: dict[str, NDArray[Any]]) -> float:
    survival = np.exp(-np.array([1.0, 2.0, 4.0]) / 3 * np.exp(data["log_hazard"])[:, None])
    rest = {name: data[name] for name in data if name != "log_hazard"}
    return brier(survival=survival, horizons=[1.0, 2.0, 4.0], **rest).integrated


def _survival(data: dict[str, NDArray[Any]]) -> float:
    return float(kaplan_meier(**{name: data[name] for name in data if name != "log_hazard"}).at(2.0))


def _predicted(data: dict[str, NDArray[Any]]) -> float:
    return float(fit_prognosis(**data).survival(log_hazard=[0.0], horizons=[2.0])[0, 0])


def _benefit(data: dict[str, NDArray[Any]]) -> float:
    survival = np.exp(-2.0 / 3 * np.exp(data["log_hazard"]))
    rest = {name: data[name] for name in data if name != "log_hazard"}
    return float(net_benefit(survival=survival, horizon=2.0, thresholds=[0.01], **rest).treat_all[0])


@pytest.mark.parametrize(
    ("figure", "near", "far"),
    [
        (_survival, 0.02, 0.06),
        (_predicted, 0.02, 0.03),
        (_uno, 0.015, 0.0),
        (_auc, 0.02, 0.0),
        (_brier, 0.0045, 0.006),
        (_benefit, 0.02, 0.05),
    ],
)
def test_late_comers_tell_of_the_whole_population(figure: Callable[..., float], near: float, far: float) -> None:
    whole, late = sample()
    truth = figure(whole)
    assert figure(late) == pytest.approx(truth, abs=near)
    ignored = {name: late[name] for name in late if name != "entry"}
    assert abs(figure(ignored) - truth) >= far


def test_right_probabilities_are_calibrated_from_entry_on() -> None:
    """Survival counts from entry: one who comes after two years had outlived them for certain."""
    whole, late = sample(4, 3000)
    prognosis = fit_prognosis(**whole)
    own, before = prognosis.own_survival(log_hazard=late["log_hazard"], time=late["time"], entry=late["entry"])
    assert d_calibration(survival=own, before=before, event=late["event"]).p > 0.01
    blind, _ = prognosis.own_survival(log_hazard=late["log_hazard"], time=late["time"])
    assert d_calibration(survival=blind, event=late["event"]).p < 1e-6
    scaled = prognosis.slope * late["log_hazard"]
    expected = prognosis.baseline.expected_events(log_hazard=scaled, time=late["time"], entry=late["entry"]).sum()
    assert expected == pytest.approx(late["event"].sum(), rel=0.06)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "efron": cox_log_likelihood,
    "breslow": lambda **data: cox_log_likelihood(**data, ties="breslow"),
    "ranking": ranking_loss,
}


def by_definition(data: dict[str, NDArray[Any]], loss: str) -> float:
    """The sums as they stand in the papers, over risk sets that are counted."""
    risk, total, pairs = data["log_hazard"], 0.0, 0
    for time in np.unique(data["time"][data["event"]]):
        here, tied = at_risk(data, time), data["event"] & (data["time"] == time)
        longer = here & ~tied
        if loss == "ranking":
            gaps = risk[tied][:, None] - risk[longer]
            total, pairs = total + np.log1p(np.exp(-gaps)).sum(), pairs + gaps.size
            continue
        share = np.arange(tied.sum()) / tied.sum() * (loss == "efron")
        total += risk[tied].sum() - np.log(np.exp(risk[here]).sum() - share * np.exp(risk[tied]).sum()).sum()
    return total / pairs if loss == "ranking" else total


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("at_once", [1 << 22, 500])
def test_losses_are_the_papers_sums_over_counted_risk_sets(
    loss: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many pairs are held at once; two models side by side; and the gradient is right."""
    monkeypatch.setattr(losses, "_PAIRS_AT_ONCE", at_once)
    data = cases(60, 3)
    tensors = {name: torch.from_numpy(values) for name, values in data.items()}
    both = torch.stack([tensors["log_hazard"], -tensors["log_hazard"]], 1)
    value = LOSSES[loss](**{**tensors, "log_hazard": both})
    turned = {**data, "log_hazard": -data["log_hazard"]}
    assert value.tolist() == pytest.approx([by_definition(data, loss), by_definition(turned, loss)])
    few = {name: tensor[:14] for name, tensor in tensors.items()}
    risk = few.pop("log_hazard").requires_grad_()
    assert torch.autograd.gradcheck(lambda r: LOSSES[loss](log_hazard=r, **few), (risk,))


def test_a_discrete_hazard_counts_from_entry_on() -> None:
    """Bins 0-2, 2-4, 4-6: one case enters at 2.5 and dies at 5, one enters at 3.5 and is lost at 5.5."""
    logits = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], dtype=torch.float64)
    data = {"time": torch.tensor([5.0, 5.5]), "event": torch.tensor([True, False])}
    loss = discrete_loss(logits=logits, **data, edges=torch.tensor([0.0, 2, 4, 6]), entry=torch.tensor([2.5, 3.5]))
    one = -(torch.log(1 - torch.sigmoid(logits[0, 1])) + torch.log(torch.sigmoid(logits[0, 2])))
    other = -torch.log(1 - torch.sigmoid(logits[1, 2]))
    assert loss.item() == pytest.approx(float((one + other) / 2))


def test_agreement_with_the_teacher_is_over_those_at_risk() -> None:
    data = cases(50, 6)
    rng = np.random.default_rng(0)
    target = rng.normal(size=50)
    each = []
    for one in np.flatnonzero(data["event"]):
        here = at_risk(data, data["time"][one])
        p, q = (np.exp(values[here]) / np.exp(values[here]).sum() for values in (target, data["log_hazard"]))
        each.append((p * np.log(p / q)).sum())
    tensors = {name: torch.from_numpy(values) for name, values in data.items()}
    assert listwise_kl(**tensors, target=torch.from_numpy(target)).item() == pytest.approx(np.mean(each))


def test_entry_at_0_of_all_is_none_and_the_order_of_rows_tells_nothing() -> None:
    data = cases(100, 7)
    zero = data | {"entry": np.zeros(100)}
    none = {name: data[name] for name in data if name != "entry"}
    order = np.random.default_rng(0).permutation(100)
    mixed = {name: values[order] for name, values in data.items()}
    for figure in (concordance, lambda **d: baseline_hazard(**d).log_cumulative, lambda **d: cox_slope(**d).value):
        assert figure(**zero) == pytest.approx(figure(**none), rel=1e-12)
        assert figure(**mixed) == pytest.approx(figure(**data), rel=1e-12)
        assert figure(**data) != pytest.approx(figure(**none), rel=1e-3)
    follow_up = {name: none[name] for name in ("time", "event")}
    assert followed_until(**follow_up, entry=zero["entry"]) == followed_until(**follow_up)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([0, 3, 0], r"entry of case 1 is 3.0, not from 0 to before its time, 3.0"),
        ([0, 0, -1], "entry of case 2 is -1.0"),
        ([0, np.nan, 0], "entry of case 1 is nan"),
        ([0, 0], "lengths differ"),
    ],
)
def test_entries_that_can_not_be(entry: list[float], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        kaplan_meier(time=[2, 3, 4], event=[1, 1, 0], entry=entry)
    with pytest.raises(MetricError, match=message):
        concordance(log_hazard=[1, 2, 3], time=[2, 3, 4], event=[1, 1, 0], entry=entry)


def test_nobody_at_risk_together_is_no_pair_and_a_curve_that_ends_too_early_is_said() -> None:
    with pytest.raises(MetricError, match="no comparable pair"):
        concordance(log_hazard=[1, 2], time=[2, 5], event=[1, 1], entry=[0, 3])
    with pytest.raises(MetricError, match="all cases at risk at 2 have the event, and others enter later"):
        followed_share(time=[2, 5, 6], event=[1, 1, 0], entry=[0, 3, 3])
