"""The first layer of a student: nearly all of its arithmetic and, if its input were kept, nearly all of its memory."""

from typing import Any

import torch
from torch import Tensor, nn

_BLOCK_ROWS = 1024
_GPU_BLOCK_ROWS = 1 << 16


def scaled_linear(rows: Tensor, *, mean: Tensor, sd: Tensor, limit: float, linear: nn.Linear) -> Tensor:
    """``linear`` of clamp((rows − mean) / sd, ±limit), with gradients of the layer's weights alone.

    Rows are scaled block by block, which stays in the cache, and scaled once more for the gradient instead of being
    kept in single precision: that costs less than it would to fetch them back, and memory is that of the rows as they
    are. Under autocast the product is in its precision, the scaling never.

    Args:
        rows: (n_rows, d), any floating type.
        mean: (d,).
        sd: (d,), positive.
        limit: above 0.
        linear: with a bias.

    Returns:
        (n_rows, width) in the precision of the product.
    """
    kind = rows.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else linear.weight.dtype
    output: Tensor = _ScaledLinear.apply(rows, mean, sd, limit, linear.weight, linear.bias, dtype)
    return output


def scaled(rows: Tensor, mean: Tensor, sd: Tensor, limit: float) -> Tensor:
    """clamp((rows − mean) / sd, ±limit), one new array in the precision of ``mean``."""
    return rows.to(mean.dtype, copy=True).sub_(mean).mul_(sd.reciprocal()).clamp_(-limit, limit)


class _ScaledLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, mean: Tensor, sd: Tensor, limit: float, weight: Tensor, bias: Tensor, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(rows, mean, sd)
        ctx.limit, ctx.dtype, ctx.weight_dtype = limit, dtype, weight.dtype
        factors, summand = weight.to(dtype).t(), bias.to(dtype)
        output = torch.empty(len(rows), len(weight), dtype=dtype, device=rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            for part, into in zip(_blocks(rows), _blocks(output), strict=True):
                torch.addmm(summand, scaled(part, mean, sd, limit).to(dtype), factors, out=into)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rows, mean, sd = ctx.saved_tensors
        of_weight = torch.zeros(gradient.shape[1], rows.shape[1], dtype=ctx.weight_dtype, device=rows.device)
        for part, given in zip(_blocks(rows), _blocks(gradient), strict=True):
            of_weight += given.t() @ scaled(part, mean, sd, ctx.limit).to(ctx.dtype)
        return None, None, None, None, of_weight, gradient.to(ctx.weight_dtype).sum(0), None


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """Views of runs of rows; at least one, though it be empty."""
    size = _BLOCK_ROWS if rows.device.type == "cpu" else _GPU_BLOCK_ROWS
    return torch.split(rows, size)
