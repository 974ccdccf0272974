"""The first layer by blocks is the layer that torch would compute at once."""

import pytest
import torch

from wsisurv.models.scaled_linear import scaled_linears, share_scaling

LIMIT = 2.0


def layers(n_rows, dtype):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n_rows, 6, generator=generator, dtype=torch.float64) * 3 + 1
    linear = torch.nn.Linear(6, 4).to(dtype)
    mean, sd = torch.linspace(-1, 1, 6, dtype=dtype), torch.linspace(0.5, 2, 6, dtype=dtype)
    return rows, linear, mean, sd


def textbook(rows, mean, sd, linear):
    return linear(((rows.to(mean.dtype) - mean) / sd).clamp(-LIMIT, LIMIT))


def scaled_linear(rows, mean, sd, linear):
    scaling = share_scaling(mean.unsqueeze(0), sd.unsqueeze(0), LIMIT)
    return scaled_linears(rows, scaling, [(0, linear.weight, linear.bias)])[0]


def gradients(output, linear, weights):
    linear.zero_grad()
    (output * weights).sum().backward()
    return linear.weight.grad.clone(), linear.bias.grad.clone()


@pytest.mark.parametrize("n_rows", [1, 511, 512, 1300])
@pytest.mark.parametrize(("stored", "dtype", "tolerance"), [
    (torch.float64, torch.float64, 1e-12), (torch.float16, torch.float32, 2e-5), (torch.float32, torch.float32, 2e-5),
])  # fmt: skip
def test_values_and_gradients_are_those_of_the_whole(n_rows, stored, dtype, tolerance):
    rows, linear, mean, sd = layers(n_rows, dtype)
    rows = rows.to(stored)
    before = rows.clone()
    weights = torch.linspace(-1, 1, n_rows * 4, dtype=dtype).reshape(n_rows, 4)
    expected = textbook(rows, mean, sd, linear)
    output = scaled_linear(rows, mean=mean, sd=sd, linear=linear)
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    wanted, found = gradients(expected, linear, weights), gradients(output, linear, weights)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * n_rows)
    assert torch.equal(rows, before)


def test_in_bf16_the_product_is_rounded_and_the_scaling_is_not():
    rows, linear, mean, sd = layers(700, torch.float32)
    rows = rows + 1000  # what rounding before the scaling would destroy
    with torch.autocast("cpu", torch.bfloat16):
        output = scaled_linear(rows, mean=mean + 1000, sd=sd, linear=linear)
    assert output.dtype == torch.bfloat16
    expected = textbook(rows, mean + 1000, sd, linear)
    assert float((output.float() - expected).detach().abs().max()) < 0.03 * float(expected.detach().std())
    weights = torch.ones(700, 4)
    for one, other in zip(gradients(output, linear, weights), gradients(expected, linear, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=2)


def test_rows_are_not_kept_in_single_precision():
    rows, linear, mean, sd = layers(2000, torch.float32)
    kept = []

    def note(tensor):
        kept.append(tensor.nbytes)
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        scaled_linear(rows.half(), mean=mean, sd=sd, linear=linear)
    assert sum(kept) <= 2000 * 6 * 2 + 1000
