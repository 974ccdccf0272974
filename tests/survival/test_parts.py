"""A whole cohort part by part: values and gradients of one pass, whatever the memory."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from wsisurv.bags.packed import bags_of, in_parts, pack, row_moments
from wsisurv.models.student import Student
from wsisurv.survival.losses import cox_loss

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
LENGTHS = [3, 40, 1, 17, 90, 8, 8, 25, 60, 5, 33, 2]


@pytest.fixture
def bags():
    rng = np.random.default_rng(0)
    return bags_of(pack([rng.normal(0, 1, (n, 7)) for n in LENGTHS]))


@dataclass(frozen=True)
class OnDisk:
    """A table that gives copies."""

    rows: torch.Tensor

    @property
    def shape(self):
        return tuple(self.rows.shape)

    def take(self, rows):
        return self.rows[rows]


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr("wsisurv.bags.packed.PART_ROWS", 64)


def student(dtype, aggregator="abmil", dropout=0.5):
    torch.manual_seed(1)
    net = Student(7, 8, dropout, torch.zeros(7), torch.ones(7), aggregator).train()
    return net.to(dtype)


def whole_cohort_gradient(net, bags, run):
    """Cox's loss over all cases at once, with dropout, and its gradients."""
    rng = np.random.default_rng(1)
    time, event = torch.from_numpy(rng.integers(1, 9, bags.n_bags).astype(float)), torch.ones(bags.n_bags).bool()
    net.zero_grad()
    torch.manual_seed(2)
    loss = cox_loss(log_hazard=run(net, bags), time=time, event=event)
    state = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), state)
    return loss.detach(), [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


def at_once(net, bags):
    return net(bags.load())


def two_passes(net, bags):
    return in_parts(net, replace(bags, keep_bytes=0))


def kept(net, bags):
    return in_parts(net, replace(bags, keep_bytes=1 << 40))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("aggregator", ["mean", "abmil", "selfattention"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_two_passes_give_the_gradient_of_one(bags, aggregator, dtype, tolerance):
    """Dropout is on: both passes draw the same masks, and the second leaves the random numbers where they were."""
    net = student(dtype, aggregator)
    expected_loss, expected = whole_cohort_gradient(net, bags, at_once)
    loss, gradients = whole_cohort_gradient(net, bags, two_passes)
    torch.testing.assert_close(loss, expected_loss, rtol=tolerance, atol=tolerance)
    assert len(gradients) == len(expected) > 1
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert max(float(one.abs().max()) for one in expected) > 1e-3


@pytest.mark.usefixtures("small_parts")
def test_memory_changes_no_bit(bags):
    net = student(torch.float32)
    one, other = whole_cohort_gradient(net, bags, two_passes), whole_cohort_gradient(net, bags, kept)
    assert torch.equal(one[0], other[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_kept_are_states_and_rows_that_no_table_holds(bags, on_disk):
    """Parts are kept up to the bound and the rest is computed again; views of a table in memory are free."""
    computed = []

    def function(part):
        computed.append(len(part.rows))
        return (part.rows.requires_grad_() ** 2).sum(1)[: part.n_bags]  # keeps the rows alone

    source = OnDisk(bags.source.rows) if on_disk else bags.source
    bags = replace(bags, source=source, keep_bytes=100 * 7 * 8)
    in_parts(function, bags).sum().backward()
    first = [61, 90, 41, 60, 40]
    assert computed == ([*first, 40, 60, 41] if on_disk else first)


@pytest.mark.usefixtures("small_parts")
def test_parts_are_whole_bags_in_order(bags):
    parts = list(bags.parts())
    assert [part.lengths.tolist() for part in parts] == [
        [3, 40, 1, 17], [90], [8, 8, 25], [60], [5, 33, 2],
    ]  # fmt: skip
    assert torch.equal(torch.cat([part.load().rows for part in parts]), bags.load().rows)


@pytest.mark.usefixtures("small_parts")
def test_values_a_row_are_put_together_in_order(bags):
    torch.testing.assert_close(in_parts(lambda part: part.rows.sum(1), bags), bags.load().rows.sum(1))


def shifted_cohort():
    """Sixty bags that differ in their mean, so that there is a spread of scores."""
    rng = np.random.default_rng(0)
    shift = rng.normal(0, 0.5, (60, 1, 32))
    return bags_of(pack([rng.normal(0, 1, (rng.integers(50, 400), 32)) + shift[i] for i in range(60)]))


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("aggregator", ["mean", "abmil", "selfattention"])
def test_bf16_scores_are_those_of_fp32_within_a_hundredth_of_their_spread(aggregator, device):
    """The stated tolerance: 1 % of the standard deviation of scores, and a gradient that points the same way."""
    cohort = shifted_cohort().on(torch.device(device))
    torch.manual_seed(0)
    net = Student(32, 16, 0.0, torch.zeros(32), torch.ones(32), aggregator).to(device).train()
    follow_up = {"time": torch.arange(60.0, device=device) + 1, "event": torch.ones(60, device=device).bool()}

    def run(enabled):
        net.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            risk = in_parts(net, cohort)
        cox_loss(log_hazard=risk, **follow_up).backward()
        return risk.detach().double(), torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    (exact, exact_gradient), (rounded, gradient) = run(False), run(True)
    error = float((rounded - exact).square().mean().sqrt() / exact.std())
    assert 0 < error < 0.01
    assert float(torch.cosine_similarity(gradient, exact_gradient, dim=0)) > 0.999


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 0.01)])
@pytest.mark.parametrize("aggregator", ["mean", "abmil", "selfattention"])
def test_a_bag_scores_in_a_pack_as_alone_in_either_precision(aggregator, bf16, tolerance, device):
    """The stated tolerance: that share of the standard deviation of scores."""
    cohort = shifted_cohort().on(torch.device(device))
    torch.manual_seed(0)
    net = Student(32, 16, 0.0, torch.zeros(32), torch.ones(32), aggregator).to(device).eval()
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        together = in_parts(net, cohort)
        alone = torch.cat([net(cohort.select(torch.tensor([bag])).load()) for bag in range(cohort.n_bags)])
    assert float((together - alone).abs().max() / together.std()) < tolerance


def test_moments_are_those_of_numpy_and_count_weights(bags):
    rows = bags.load().rows.numpy()
    moments = row_moments(bags)
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.sd, rows.std(0), rtol=1e-5)
    weight = torch.from_numpy(np.random.default_rng(2).integers(1, 4, len(rows))).float()
    repeated = np.repeat(rows, weight.long().numpy(), axis=0)
    moments = row_moments(replace(bags, weight=weight))
    np.testing.assert_allclose(moments.mean, repeated.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.sd, repeated.std(0), rtol=1e-5)
    constant = bags_of(pack([np.full((5, 2), 3.0)]))
    assert row_moments(constant).sd.tolist() == [1, 1]
