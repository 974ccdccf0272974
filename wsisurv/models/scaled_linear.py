"""The first layer of students: nearly all of their arithmetic and, if its input were kept, nearly all of their memory.

Students side by side scale the features each in its own way. Rows are scaled once for all of them, and what is left of
each one's own scaling is folded into its weights, so that a further student costs no more than its product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCK_ROWS = 512
_GPU_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class SharedScaling:
    """One scaling of rows to −1 … 1, from which each of several students has its own: row · factor − shift."""

    centre: Tensor  # (d,)
    per_reach: Tensor  # (d,), 1 / how far from the centre a feature is clamped
    factor: Tensor  # (n_students, d)
    shift: Tensor  # (n_students, d)

    def into(self, buffer: Tensor, rows: Tensor) -> Tensor:
        """clamp((rows − centre) / reach, ±1), written over the first rows of ``buffer``, (n, d) of its precision."""
        # into a buffer: torch converts half precision ten times faster by copying than within a sum
        return buffer[: len(rows)].copy_(rows).sub_(self.centre).mul_(self.per_reach).clamp_(-1, 1)

    def fold(self, number: int, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (width, d) and bias (width,) on rows of this scaling that do what these do on a student's own."""
        return weight * self.factor[number], bias - weight @ self.shift[number]


def share_scaling(means: Tensor, sds: Tensor, limit: float) -> SharedScaling:
    """Put clamp((rows − mean) / sd, ±limit) of several students on one scaling.

    A feature is clamped for all where the first of them would clamp it.

    Args:
        means: (n_students, d), of the precision that rows are to be scaled in.
        sds: (n_students, d), positive.
        limit: above 0.
    """
    mean, sd = means.double(), sds.double()
    low, high = (mean - limit * sd).amax(0), (mean + limit * sd).amin(0)
    centre, reach = (low + high) / 2, torch.maximum((high - low) / 2, 1e-6 * sd.mean(0))
    values = (centre, 1 / reach, reach / sd, (mean - centre) / sd)
    return SharedScaling(*(value.to(means.dtype) for value in values))


def scaled_linears(
    rows: Tensor, scaling: SharedScaling, layers: Sequence[tuple[int, Tensor, Tensor]]
) -> tuple[Tensor, ...]:
    """Linear layers of several students on the rows as each of them scales them, with gradients of the layers alone.

    Rows are scaled block by block, which stays in the cache, and scaled once more for the gradient instead of being
    kept in single precision: that costs less than it would to fetch them back, and memory is that of the rows as they
    are. Under autocast the product is in its precision, the scaling never.

    Args:
        rows: (n_rows, d), any floating type.
        scaling: of these students and perhaps others.
        layers: number in the scaling, weight (width, d) and bias (width,) of each student.

    Returns:
        (n_rows, width) of each, in the precision of the product.
    """
    kind = rows.device.type
    with torch.autocast(kind, enabled=False):
        folded = [one for number, weight, bias in layers for one in scaling.fold(number, weight, bias)]
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else folded[0].dtype
    outputs: tuple[Tensor, ...] = _ScaledLinears.apply(rows, scaling, dtype, *folded)
    return outputs


def scaled(rows: Tensor, mean: Tensor, sd: Tensor, limit: float) -> Tensor:
    """clamp((rows − mean) / sd, ±limit), one new array in the precision of ``mean``."""
    return rows.to(mean.dtype, copy=True).sub_(mean).mul_(sd.reciprocal()).clamp_(-limit, limit)


class _ScaledLinears(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, scaling: SharedScaling, dtype: torch.dtype, *folded: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(rows)
        ctx.scaling, ctx.dtype, ctx.given = scaling, dtype, folded[0].dtype
        layers = [
            (weight.to(dtype).t(), bias.to(dtype)) for weight, bias in zip(folded[::2], folded[1::2], strict=True)
        ]
        outputs = [torch.empty(len(rows), len(bias), dtype=dtype, device=rows.device) for _, bias in layers]
        buffer = _buffer(rows, scaling)
        with torch.autocast(rows.device.type, enabled=False):
            for part, *into in zip(_blocks(rows), *map(_blocks, outputs), strict=True):
                values = scaling.into(buffer, part).to(dtype)
                for (weight, bias), out in zip(layers, into, strict=True):
                    torch.addmm(bias, values, weight, out=out)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        device = rows.device
        found = [torch.zeros(given.shape[1], rows.shape[1], dtype=ctx.given, device=device) for given in gradients]
        buffer = _buffer(rows, ctx.scaling)
        for part, *given in zip(_blocks(rows), *map(_blocks, gradients), strict=True):
            values = ctx.scaling.into(buffer, part).to(ctx.dtype)
            for weight, one in zip(found, given, strict=True):
                weight += one.t() @ values
        biases = [given.to(ctx.given).sum(0) for given in gradients]
        pairs = zip(found, biases, strict=True)
        return None, None, None, *(one for pair in pairs for one in pair)


def _buffer(rows: Tensor, scaling: SharedScaling) -> Tensor:
    return torch.empty(len(_blocks(rows)[0]), rows.shape[1], dtype=scaling.centre.dtype, device=rows.device)


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """Views of runs of rows; at least one, though it be empty."""
    size = _BLOCK_ROWS if rows.device.type == "cpu" else _GPU_BLOCK_ROWS
    return torch.split(rows, size)
