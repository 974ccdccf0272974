import json
import math
from decimal import Decimal
from pathlib import Path

import pytest
import torch

from wsisurv.survival import losses
from wsisurv.survival.losses import correlation_loss, cox_log_likelihood, cox_loss, ranking_loss
from wsisurv.survival.metrics import concordance

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "cox_lifelines.json").read_text())


def cohort(n=30, n_times=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        "log_hazard": torch.randn(n, generator=g, dtype=torch.float64),
        "time": torch.randint(1, n_times + 1, (n,), generator=g).double(),
        "event": torch.rand(n, generator=g) < 0.6,
        "weight": torch.rand(n, generator=g, dtype=torch.float64) + 0.2,
    }


def by_definition(*, log_hazard, time, event, weight, ties, number=float):
    """The sums as they stand in the papers, one event time after the other; in Decimal nothing overflows."""
    exp, log = (math.exp, math.log) if number is float else (Decimal.exp, Decimal.ln)
    rows = [
        (number(r), float(t), bool(e), number(w)) for r, t, e, w in zip(log_hazard, time, event, weight, strict=True)
    ]
    total = number(0)
    for t in sorted({u for _, u, e, _ in rows if e}):
        risk = sum(w * exp(r) for r, u, _, w in rows if u >= t)
        tied = [(r, w) for r, u, e, w in rows if e and u == t and w > 0]
        hazard = sum(w * exp(r) for r, w in tied)
        mean = sum(w for _, w in tied) / max(len(tied), 1)
        total += sum(w * r for r, w in tied)
        for before in range(len(tied)):
            share = number(before) / len(tied) if ties == "efron" else 0
            total -= mean * log(risk - share * hazard)
    return total


@pytest.mark.parametrize("reference", REFERENCE)
def test_efron_agrees_with_lifelines(reference):
    value = cox_log_likelihood(
        log_hazard=torch.tensor(reference["risk"], dtype=torch.float64),
        time=torch.tensor(reference["time"]),
        event=torch.tensor(reference["event"]),
        weight=torch.tensor(reference["weight"], dtype=torch.float64),
    )
    assert float(value) == pytest.approx(reference["efron"], rel=1e-7)


# The two small data sets of the validation of R's survival package (Therneau and Grambsch 2000, appendix E), of one
# covariate x, in closed form with r = exp(β): the second has weights, and deaths and censorings that share a time.
PLAIN = {"time": [9, 1, 1, 6, 6, 8], "event": [1, 1, 0, 1, 1, 0]}
WEIGHTED = {"time": [1, 1, 2, 2, 2, 2, 3, 4, 5], "event": [1, 0, 1, 1, 1, 0, 0, 1, 0]}
CLOSED = {
    ("plain", "breslow"): lambda b, r: 2 * b - (3 * r + 3).log() - 2 * (r + 3).log(),
    ("plain", "efron"): lambda b, r: 2 * b - (3 * r + 3).log() - ((r + 5) / 2).log() - (r + 3).log(),
    ("weighted", "breslow"): lambda b, r: (
        11 * b - (r**2 + 11 * r + 7).log() - 10 * (11 * r + 5).log() - 2 * (2 * r + 1).log()
    ),
    ("weighted", "efron"): lambda b, r: (
        11 * b
        - (r**2 + 11 * r + 7).log()
        - 10 / 3 * ((11 * r + 5).log() + (2 * (7 * r + 3) / 3 + 4 * r + 2).log() + ((7 * r + 3) / 3 + 4 * r + 2).log())
        - 2 * (2 * r + 1).log()
    ),
}


@pytest.mark.parametrize(("data", "ties"), CLOSED)
def test_values_and_gradients_are_those_that_r_is_validated_by(data, ties):
    cases = {name: torch.tensor(values) for name, values in (PLAIN if data == "plain" else WEIGHTED).items()}
    x = torch.tensor([0.0, 1, 1, 1, 0, 0] if data == "plain" else [2.0, 0, 1, 1, 0, 1, 0, 1, 0], dtype=torch.float64)
    if data == "weighted":
        cases["weight"] = torch.tensor([1.0, 2, 3, 4, 3, 2, 1, 2, 1], dtype=torch.float64)
    for slope in (-1.0, 0.0, 0.7, 3.0):
        own, closed = (torch.tensor(slope, dtype=torch.float64, requires_grad=True) for _ in range(2))
        value = cox_log_likelihood(log_hazard=own * x, **cases, ties=ties)
        expected = CLOSED[data, ties](closed, closed.exp())
        (value + expected).backward()
        assert value.item() == pytest.approx(expected.item(), rel=1e-12)
        assert own.grad.item() == pytest.approx(closed.grad.item(), abs=1e-12)
    if data == "plain":  # R's own estimates
        best = math.log((3 + math.sqrt(33)) / 2) if ties == "breslow" else 1.676857
        own = torch.tensor(best, dtype=torch.float64, requires_grad=True)
        cox_log_likelihood(log_hazard=own * x, **cases, ties=ties).backward()
        assert own.grad.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_values_and_gradients_are_torchsurvs_where_it_does_not_overflow(torchsurv_says, ties):
    cases = {name: torch.tensor(values) for name, values in torchsurv_says["cases"].items()}
    risk = cases.pop("log_hazard").requires_grad_()
    value = cox_log_likelihood(log_hazard=risk, **cases, ties=ties)
    value.backward()
    assert value.item() == pytest.approx(torchsurv_says[ties]["log_likelihood"], rel=1e-6)
    assert risk.grad.tolist() == pytest.approx(torchsurv_says[ties]["gradient"], abs=1e-5)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_likelihood_is_the_papers_sum(ties):
    data = cohort()
    assert float(cox_log_likelihood(**data, ties=ties)) == pytest.approx(by_definition(**data, ties=ties))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_gradients_are_those_of_finite_differences(ties):
    data = cohort(n=12, n_times=4)
    risk = data.pop("log_hazard").requires_grad_()
    assert torch.autograd.gradcheck(lambda r: cox_loss(log_hazard=r, **data, ties=ties), (risk,))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_a_row_of_weight_zero_is_as_if_it_were_not_there(ties):
    data = cohort()
    data["weight"][::3] = 0
    kept = data["weight"] > 0
    fewer = {name: value[kept] for name, value in data.items()}
    data["log_hazard"].requires_grad_()
    value = cox_log_likelihood(**data, ties=ties)
    assert value.item() == pytest.approx(float(cox_log_likelihood(**fewer, ties=ties)))
    value.backward()
    assert bool((data["log_hazard"].grad[::3] == 0).all())
    assert bool(torch.isfinite(data["log_hazard"].grad).all())


def test_columns_are_models_of_their_own():
    data, other = cohort(seed=1), cohort(seed=2)
    other["weight"][::4] = 0
    follow_up = {"time": data["time"], "event": data["event"]}
    both = cox_loss(
        log_hazard=torch.stack([data["log_hazard"], other["log_hazard"]], 1),
        weight=torch.stack([data["weight"], other["weight"]], 1),
        **follow_up,
    )
    alone = [cox_loss(log_hazard=d["log_hazard"], weight=d["weight"], **follow_up) for d in (data, other)]
    torch.testing.assert_close(both, torch.stack(alone))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_hazards_of_a_thousand_are_no_trouble(ties, dtype):
    data = cohort(n=40, n_times=5)
    risk = (data.pop("log_hazard").sign() * 1000).to(dtype).requires_grad_()
    loss = cox_loss(log_hazard=risk, **data, ties=ties)
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool(torch.isfinite(risk.grad).all())
    equal = torch.full((40,), 1000.0, dtype=dtype)
    assert float(cox_loss(log_hazard=equal, **data, ties=ties)) == pytest.approx(
        float(cox_loss(log_hazard=equal * 0, **data, ties=ties)), rel=1e-4
    )


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_log_hazards_of_a_thousand_give_the_value_of_exact_arithmetic(ties):
    data = cohort(n=40, n_times=8)
    data["log_hazard"] = data["log_hazard"] * 500
    assert float(data["log_hazard"].abs().max()) > 1000
    exact = {name: [Decimal(float(x)) for x in data[name]] for name in ("log_hazard", "weight")}
    expected = by_definition(**data | exact, ties=ties, number=Decimal)
    assert float(cox_log_likelihood(**data, ties=ties)) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("weight", [None, torch.ones(5)])
def test_no_event_is_a_loss_of_zero_with_a_gradient(weight):
    risk = torch.randn(5, requires_grad=True)
    loss = cox_loss(log_hazard=risk, time=torch.arange(1.0, 6.0), event=torch.zeros(5, dtype=torch.bool), weight=weight)
    loss.backward()
    assert loss.item() == 0
    assert risk.grad.tolist() == [0] * 5


def test_order_of_the_cases_and_unit_of_time_do_not_matter():
    data = cohort()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    moved = {name: value[order] for name, value in data.items()} | {"time": data["time"][order] / 365.25}
    torch.testing.assert_close(cox_loss(**moved), cox_loss(**data))


def test_lengths_that_differ_and_times_that_are_none_are_refused():
    data = cohort()
    with pytest.raises(ValueError, match="one a case each"):
        cox_loss(**{**data, "time": data["time"][1:]})
    with pytest.raises(ValueError, match="not finite"):
        cox_loss(**{**data, "time": data["time"] * torch.nan})
    with pytest.raises(ValueError, match="efron or breslow"):
        cox_loss(**data, ties="exact")


def test_correlation_loss():
    x = torch.randn(20, generator=torch.Generator().manual_seed(0))
    assert float(correlation_loss(x, 3 * x + 2)) == pytest.approx(0, abs=1e-6)
    assert float(correlation_loss(x, -x)) == pytest.approx(2, abs=1e-6)
    constant = torch.zeros(20, requires_grad=True)
    loss = correlation_loss(constant, x)
    loss.backward()
    assert loss.item() == 1
    assert bool(torch.isfinite(constant.grad).all())


def ranked_by_hand(*, log_hazard, time, event, weight):
    pairs = total = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if event[i] and (time[j] > time[i] or (time[j] == time[i] and not event[j])):
                pairs += float(weight[i] * weight[j])
                total += float(weight[i] * weight[j]) * math.log1p(math.exp(float(log_hazard[j] - log_hazard[i])))
    return total / pairs


def test_ranking_is_its_definition_and_does_not_depend_on_how_the_work_is_split(monkeypatch):
    data = cohort()
    expected = ranked_by_hand(**data)
    risk = data.pop("log_hazard").requires_grad_()
    whole = ranking_loss(log_hazard=risk, **data)
    assert whole.item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(whole, risk)
    monkeypatch.setattr(losses, "_PAIRS_AT_ONCE", 30 * 4)
    split = ranking_loss(log_hazard=risk, **data)
    assert split.item() == pytest.approx(expected)
    torch.testing.assert_close(torch.autograd.grad(split, risk)[0], gradient)


def test_ranking_has_the_gradient_of_finite_differences():
    data = cohort(n=12, n_times=4)
    risk = data.pop("log_hazard").requires_grad_()
    assert torch.autograd.gradcheck(lambda r: ranking_loss(log_hazard=r, **data), (risk,))


def test_ranking_bounds_the_pairs_out_of_order():
    data = cohort(n=60, n_times=20)
    weight = torch.ones(60, dtype=torch.float64)
    value = concordance(**{name: data[name].numpy() for name in ("log_hazard", "time", "event")})
    assert float(ranking_loss(**data | {"weight": weight})) >= math.log(2) * (1 - value)
    sharp = ranking_loss(**data | {"weight": weight, "log_hazard": data["log_hazard"].argsort().argsort() * 1e4})
    assert float(sharp) > 100
    perfect = -data["time"] * 100 + data["event"]
    assert float(ranking_loss(**data | {"log_hazard": perfect})) < 0.05
    equal = ranking_loss(**data | {"log_hazard": torch.zeros(60)})
    assert float(equal) == pytest.approx(math.log(2))


def test_ranking_columns_are_models_and_rows_of_weight_zero_are_not_there():
    data, other = cohort(seed=1), cohort(seed=2)
    other["weight"][::4] = 0
    follow_up = {"time": data["time"], "event": data["event"]}
    both = ranking_loss(
        log_hazard=torch.stack([data["log_hazard"], other["log_hazard"]], 1),
        weight=torch.stack([data["weight"], other["weight"]], 1),
        **follow_up,
    )
    kept = other["weight"] > 0
    fewer = {name: value[kept] for name, value in (other | follow_up).items()}
    torch.testing.assert_close(both, torch.stack([ranking_loss(**data), ranking_loss(**fewer)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranking_of_log_hazards_of_a_thousand_is_finite_with_its_gradient(dtype):
    data = cohort(n=40, n_times=5)
    risk = (data.pop("log_hazard").sign() * 1000).to(dtype).requires_grad_()
    loss = ranking_loss(log_hazard=risk, **data)
    loss.backward()
    assert math.isfinite(loss.item())
    assert bool(torch.isfinite(risk.grad).all())
    assert bool((risk.grad != 0).any())


@pytest.mark.parametrize("event", [[0, 0, 0], [0, 0, 1]])
def test_ranking_without_a_pair_is_zero_with_a_gradient(event):
    risk = torch.randn(3, requires_grad=True)
    loss = ranking_loss(log_hazard=risk, time=torch.tensor([1.0, 2, 3]), event=torch.tensor(event).bool())
    loss.backward()
    assert loss.item() == 0
    assert risk.grad.tolist() == [0] * 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("most", [1, losses._FEW])
def test_a_gpu_gives_the_cox_loss_of_the_cpu(monkeypatch, most):
    """By itself, and where it leaves the loss to the processor, which gives the same bits."""
    monkeypatch.setattr(losses, "_FEW", most)
    found = []
    for device in ("cpu", "cuda"):
        there = {name: value.to(device) for name, value in cohort(n=300, n_times=40).items()}
        there["log_hazard"] = there["log_hazard"].float().requires_grad_()
        loss = cox_loss(**there)
        assert loss.device.type == device
        loss.backward()
        found.append([loss.detach().cpu(), there["log_hazard"].grad.cpu()])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-6 if most == 1 else 0)
