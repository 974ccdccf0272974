import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from wsisurv.bags.packed import PackedBags
from wsisurv.survival.losses import correlation_loss
from wsisurv.training.agreement import (
    attention_kl,
    calibrated_error,
    hazard_kl,
    listwise_kl,
    logistic_hazards,
    proportional_hazards,
)


def cohort(n=40, n_times=12, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "log_hazard": rng.normal(0, 1, n),
        "target": rng.normal(0, 1, n),
        "time": rng.integers(1, n_times + 1, n).astype(float),
        "event": rng.random(n) < 0.6,
    }


def tensors(data):
    return {name: torch.from_numpy(values) for name, values in data.items()}


def listwise_by_hand(*, log_hazard, target, time, event):
    each = []
    for i in np.flatnonzero(event):
        at_risk = time >= time[i]
        p, q = log_softmax(target[at_risk]), log_softmax(log_hazard[at_risk])
        each.append((np.exp(p) * (p - q)).sum())
    return np.mean(each)


def distribution(hazard):
    """Probability of the event in each bin, and of none."""
    survival = np.cumprod(1 - hazard, 1)
    before = np.c_[np.ones(len(hazard)), survival[:, :-1]]
    return np.c_[before * hazard, survival[:, -1]]


def test_squared_error_leaves_the_origin_out():
    data = cohort()
    by_hand = np.var(data["log_hazard"] - data["target"])
    moved = torch.from_numpy(data["log_hazard"] + 7)
    assert float(calibrated_error(moved, torch.from_numpy(data["target"]))) == pytest.approx(by_hand)


def test_listwise_divergence_is_its_definition_in_any_order():
    data = cohort()
    assert float(listwise_kl(**tensors(data))) == pytest.approx(listwise_by_hand(**data))
    order = np.random.default_rng(1).permutation(40)
    turned = {name: values[order] for name, values in data.items()}
    assert float(listwise_kl(**tensors(turned))) == pytest.approx(listwise_by_hand(**data))


def test_listwise_divergence_has_the_gradient_of_finite_differences():
    data = tensors(cohort(n=10, n_times=4))
    risk = data.pop("log_hazard").requires_grad_()
    assert torch.autograd.gradcheck(lambda r: listwise_kl(log_hazard=r, **data), (risk,))


def test_hazard_divergence_is_that_of_the_distributions_of_the_time():
    rng = np.random.default_rng(0)
    logits, risk, steps = rng.normal(0, 1, (9, 4)), rng.normal(0, 1, 9), np.log([0.1, 0.3, 0.2, 0.5])
    teacher = distribution(1 - np.exp(-np.exp(risk[:, None] + steps)))
    student = distribution(1 / (1 + np.exp(-logits)))
    by_hand = (teacher * np.log(teacher / student)).sum(1).mean()
    value = hazard_kl(
        teacher=proportional_hazards(torch.from_numpy(risk), torch.from_numpy(steps)),
        student=logistic_hazards(torch.from_numpy(logits)),
    )
    assert float(value) == pytest.approx(by_hand)


def test_attention_divergence_is_its_definition():
    rng = np.random.default_rng(0)
    teacher, student = rng.random(9), np.r_[rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5))]
    bags = PackedBags(torch.zeros(9, 1), torch.tensor([0, 4, 9]))
    by_hand = 0
    for rows in (slice(0, 4), slice(4, 9)):
        told = teacher[rows] / teacher[rows].sum()
        by_hand += (told * np.log(told / student[rows])).sum() / 2
    value = attention_kl(teacher=torch.from_numpy(teacher), student=torch.from_numpy(student), bags=bags)
    assert float(value) == pytest.approx(by_hand)


def objectives(data):
    """Every objective of a risk: name → (risk → loss)."""
    steps = torch.log(torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64))
    told = data["target"]
    return {
        "correlation": lambda risk: correlation_loss(risk, told),
        "mse": lambda risk: calibrated_error(risk, told),
        "listwise-kl": lambda risk: listwise_kl(log_hazard=risk, target=told, time=data["time"], event=data["event"]),
        "hazard-kl": lambda risk: hazard_kl(
            teacher=proportional_hazards(told, steps), student=proportional_hazards(risk, steps)
        ),
        "hazard-kl of bins": lambda risk: hazard_kl(
            teacher=proportional_hazards(told, steps), student=logistic_hazards(risk.unsqueeze(1) + steps)
        ),
    }


NAMES = list(objectives(tensors(cohort())))


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_student_who_says_what_the_teacher_says_has_nothing_to_learn(name):
    data = tensors(cohort())
    objective = objectives(data)[name]
    risk = data["target"].clone().requires_grad_()
    loss = objective(risk)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert float(risk.grad.abs().max()) < 1e-6
    assert float(objective(data["log_hazard"])) > 0.01


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_hazards_of_a_thousand_are_no_trouble(name, dtype):
    data = tensors(cohort())
    risk = (data["log_hazard"].sign() * 1000).to(dtype).requires_grad_()
    loss = objectives(data)[name](risk)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(risk.grad).all())
    far = tensors(cohort()) | {"target": data["target"] * 1000}
    risk = data["log_hazard"].to(dtype).requires_grad_()
    loss = objectives(far)[name](risk)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(risk.grad).all())


def test_no_event_is_a_loss_of_zero_with_a_gradient():
    data = tensors(cohort())
    data["event"] = torch.zeros(40, dtype=torch.bool)
    risk = data.pop("log_hazard").requires_grad_()
    loss = listwise_kl(log_hazard=risk, **data)
    loss.backward()
    assert loss.item() == 0
    assert bool((risk.grad == 0).all())
