"""Discrete-time likelihood: against a Bernoulli trial a case and bin, against Kaplan-Meier, at the edges of bins."""

import math

import pytest
import torch
from lifelines import KaplanMeierFitter
from torch.nn.functional import binary_cross_entropy_with_logits

from wsisurv.survival.losses import discrete_log_hazard, discrete_loss, time_bins

EDGES = torch.tensor([0.0, 2, 4, 8])


def cohort(n=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        "logits": torch.randn(n, 3, generator=g, dtype=torch.float64),
        "time": torch.rand(n, generator=g) * 8,
        "event": torch.rand(n, generator=g) < 0.6,
        "weight": torch.rand(n, generator=g, dtype=torch.float64) + 0.2,
    }


def person_periods(time, event):
    """Trials that a case took part in, 0 or 1 each: bins outlived, then the one of the event."""
    bounds = [(0, 2), (2, 4), (4, 8)]
    if event:
        own = next((k for k, (low, high) in enumerate(bounds) if low <= time < high), 2)
        return [0] * own + [1]
    return [0] * sum(time >= (low + high) / 2 for low, high in bounds)


def test_it_is_a_bernoulli_trial_for_each_case_and_bin():
    data = cohort()
    logits, outcomes, weights = [], [], []
    for eta, time, event, weight in zip(*(data[name] for name in ("logits", "time", "event", "weight")), strict=True):
        outcome = person_periods(float(time), bool(event))
        logits += eta[: len(outcome)].tolist()
        outcomes += outcome
        weights += [float(weight)] * len(outcome)
    summed = binary_cross_entropy_with_logits(
        torch.tensor(logits, dtype=torch.float64),
        torch.tensor(outcomes, dtype=torch.float64),
        weight=torch.tensor(weights, dtype=torch.float64),
        reduction="sum",
    )
    torch.testing.assert_close(discrete_loss(**data, edges=EDGES), summed / data["weight"].sum())


@pytest.mark.parametrize(
    ("time", "event", "expected"),
    [
        (0.5, True, [1]),
        (2.0, True, [0, 1]),
        (7.9, True, [0, 0, 1]),
        (8.0, True, [0, 0, 1]),
        (30.0, True, [0, 0, 1]),
        (0.9, False, []),
        (1.0, False, [0]),
        (2.9, False, [0]),
        (3.0, False, [0, 0]),
        (5.9, False, [0, 0]),
        (6.0, False, [0, 0, 0]),
        (30.0, False, [0, 0, 0]),
    ],
)
def test_which_trials_a_case_takes_part_in(time, event, expected):
    logits = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64)
    value = discrete_loss(logits=logits, time=torch.tensor([time]), event=torch.tensor([event]), edges=EDGES)
    hazard = torch.sigmoid(logits[0])
    likelihood = math.prod(float(h) if died else 1 - float(h) for h, died in zip(hazard, expected, strict=False))
    assert float(value) == pytest.approx(-math.log(likelihood))
    assert person_periods(time, event) == expected


def test_gradient_is_that_of_finite_differences():
    data = cohort(n=10)
    logits = data.pop("logits").requires_grad_()
    assert torch.autograd.gradcheck(lambda eta: discrete_loss(logits=eta, **data, edges=EDGES), (logits,))


def test_best_common_hazards_are_kaplan_and_meiers():
    g = torch.Generator().manual_seed(3)
    time = torch.rand(200, generator=g).double() * 8
    event = torch.ones(200, dtype=torch.bool)
    event[time > 5] = False  # all of them end with the study
    time[time > 5] = 8.0
    edges = torch.cat([time_bins(time=time, event=event, n_bins=4)[:-1], torch.tensor([5.0, 8.0])])
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, tolerance_grad=1e-10)

    def loss():
        optimizer.zero_grad()
        value = discrete_loss(logits=logits.expand(200, 5), time=time, event=event, edges=edges)
        value.backward()
        return value

    optimizer.step(loss)
    fitted = KaplanMeierFitter().fit(time.numpy(), event.numpy())
    expected = fitted.predict(edges[1:-1].numpy() - 1e-9).to_numpy()
    outlived = (1 - torch.sigmoid(logits.detach())).cumprod(0)[:4]
    assert outlived.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_columns_are_models_of_their_own_and_rows_of_weight_zero_are_not_there():
    data, other = cohort(seed=1), cohort(seed=2)
    other["weight"][::3] = 0
    follow_up = {"time": data["time"], "event": data["event"]}
    both = discrete_loss(
        logits=torch.stack([data["logits"], other["logits"]], 1),
        weight=torch.stack([data["weight"], other["weight"]], 1),
        edges=EDGES,
        **follow_up,
    )
    kept = other["weight"] > 0
    fewer = {name: value[kept] for name, value in (other | follow_up).items()}
    alone = [discrete_loss(**data, edges=EDGES), discrete_loss(**fewer, edges=EDGES)]
    torch.testing.assert_close(both, torch.stack(alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1000.0, -1000.0])
def test_logits_of_a_thousand_are_no_trouble(dtype, size):
    data = cohort()
    logits = torch.full((40, 3), size, dtype=dtype, requires_grad=True)
    loss = discrete_loss(**data | {"logits": logits}, edges=EDGES)
    risk = discrete_log_hazard(logits)
    (loss + risk.sum()).backward()
    assert math.isfinite(loss.item())
    assert bool(torch.isfinite(risk).all())
    assert bool(torch.isfinite(logits.grad).all())


def test_no_event_is_no_trouble_and_no_weight_is_a_loss_of_zero():
    data = cohort()
    logits = data["logits"].requires_grad_()
    never = discrete_loss(**data | {"event": torch.zeros(40, dtype=torch.bool)}, edges=EDGES)
    never.backward()
    assert bool((logits.grad >= 0).all())  # all hazards are pulled down
    assert discrete_loss(**data | {"weight": torch.zeros(40)}, edges=EDGES).item() == 0


def test_log_hazard_is_the_cumulative_hazards_and_orders_cases():
    logits = cohort()["logits"]
    risk = discrete_log_hazard(logits)
    cumulative = -(1 - torch.sigmoid(logits.double())).log().cumsum(1)
    torch.testing.assert_close(risk, cumulative[:, -1].log())
    assert bool((discrete_log_hazard(logits + 0.1) > risk).all())
    # hazards doubled in every bin: log 2 more, as with Cox
    hazards = 1 - (-2 * torch.diff(cumulative, prepend=torch.zeros(40, 1, dtype=torch.float64))).exp()
    torch.testing.assert_close(discrete_log_hazard(torch.logit(hazards)), risk + math.log(2))


def test_bins_hold_as_many_events_each():
    g = torch.Generator().manual_seed(0)
    time, event = torch.rand(400, generator=g) * 9 + 0.1, torch.rand(400, generator=g) < 0.5
    edges = time_bins(time=time, event=event, n_bins=4)
    assert edges[0] == 0
    assert edges[-1] == time.max().double()
    counts = torch.histogram(time[event].double(), edges).hist
    assert float(counts.max() - counts.min()) <= 3


@pytest.mark.parametrize("times", [[5.0] * 6, [1.0, 1, 1, 1, 9, 9]])
def test_tied_times_leave_fewer_bins_and_none_of_them_empty(times):
    time, event = torch.tensor(times), torch.ones(6, dtype=torch.bool)
    edges = time_bins(time=time, event=event, n_bins=4)
    assert bool((edges.diff() > 0).all())
    own = torch.searchsorted(edges[1:-1].contiguous(), time.double(), right=True)
    assert set(own.tolist()) == set(range(len(edges) - 1))


def test_what_can_not_be_is_refused():
    data = cohort()
    with pytest.raises(ValueError, match="for 2 bins"):
        discrete_loss(**data, edges=EDGES[1:])
    with pytest.raises(ValueError, match="one a case each"):
        discrete_loss(**data | {"time": data["time"][1:]}, edges=EDGES)
    with pytest.raises(ValueError, match="of 0 event times"):
        time_bins(time=torch.ones(3), event=torch.zeros(3))
    with pytest.raises(ValueError, match="0 bins"):
        time_bins(time=torch.ones(3), event=torch.ones(3), n_bins=0)
