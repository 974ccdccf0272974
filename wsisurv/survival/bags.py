"""Bags of any length packed in one flat tensor: no padding, and each bag counts as if it were alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class PackedBags:
    """Rows of all bags, one bag after the other.

    Attributes:
        rows: (n_rows_total, d), any floating type.
        offsets: int64 (n_bags + 1,); bag ``i`` is ``rows[offsets[i]:offsets[i + 1]]`` and holds one row at least.
        weight: float32 (n_rows_total,), how many rows each stands for, where rows were merged; None for one each.
    """

    rows: Tensor
    offsets: Tensor
    weight: Tensor | None = None

    @property
    def n_bags(self) -> int:
        """Number of bags."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Rows in each bag, int64 (n_bags,)."""
        return self.offsets.diff()

    @property
    def bag_of_row(self) -> Tensor:
        """Which bag each row is of, int64 (n_rows_total,)."""
        return torch.repeat_interleave(self.lengths, output_size=len(self.rows))

    def to(self, device: torch.device) -> "PackedBags":
        """Copy on ``device``."""
        weight = None if self.weight is None else self.weight.to(device)
        return PackedBags(self.rows.to(device), self.offsets.to(device), weight)

    def take(self, rows: Tensor, offsets: Tensor) -> "PackedBags":
        """Bags of these rows, int64 (n_taken,), with their weights; ``offsets`` (n_bags + 1,) says whose each is."""
        return PackedBags(self.rows[rows], offsets, None if self.weight is None else self.weight[rows])

    def select(self, bags: Tensor) -> "PackedBags":
        """Bags of these numbers, int64 (n_selected,), in this order; a bag may be taken more than once."""
        lengths = self.lengths[bags]
        return self.take(ranges(self.offsets[:-1][bags], lengths), offsets_of(lengths))


def pack(bags: Sequence[NDArray[np.floating]]) -> PackedBags:
    """Pack arrays (n_rows, d), each of one row at least.

    Raises:
        ValueError: no bag, or an empty one.
    """
    if not bags or any(len(bag) == 0 for bag in bags):
        raise ValueError("pack: bags without rows can't be packed; leave them out")
    lengths = torch.tensor([len(bag) for bag in bags])
    return PackedBags(torch.from_numpy(np.concatenate(bags)), offsets_of(lengths))


def segment_sum(values: Tensor, bags: PackedBags) -> Tensor:
    """Sum rows over each bag: (n_rows_total, …) → (n_bags, …).

    Bit-identical from run to run: additions follow the row order on a CPU, and a GPU sums each bag by itself
    (its scatter would add in the order in which threads happen to finish).
    """
    if values.is_cuda:
        return torch.segment_reduce(values, "sum", lengths=bags.lengths, axis=0)
    shape = (bags.n_bags, *values.shape[1:])
    return torch.zeros(shape, dtype=values.dtype).index_add(0, bags.bag_of_row, values)


def _exponentials(scores: Tensor, bags: PackedBags) -> Tensor:
    """exp(score − the bag's highest score), which can't overflow."""
    index = bags.bag_of_row
    target = index.reshape(-1, *[1] * (scores.ndim - 1)).expand_as(scores)
    highest = torch.full((bags.n_bags, *scores.shape[1:]), -torch.inf, dtype=scores.dtype, device=scores.device)
    highest = highest.scatter_reduce(0, target, scores.detach(), "amax")
    return torch.exp(scores - highest[index])


def segment_softmax(scores: Tensor, bags: PackedBags) -> Tensor:
    """Softmax within each bag: (n_rows_total, …) → the same shape, summing to 1 over each bag."""
    weights = _exponentials(scores, bags)
    return weights / segment_sum(weights, bags)[bags.bag_of_row]


def attention_pool(values: Tensor, scores: Tensor, bags: PackedBags) -> Tensor:
    """Mean of each bag's rows weighted by the softmax of their scores, exactly as for each bag alone.

    Args:
        values: (n_rows_total, …, h).
        scores: (n_rows_total, …), one fewer dimension.
        bags: which rows belong together.

    Returns:
        (n_bags, …, h).

    Source: Ilse, Tomczak and Welling 2018, equation 7, in segments.
    """
    weights = _exponentials(scores, bags).unsqueeze(-1)
    return segment_sum(weights * values, bags) / segment_sum(weights, bags)


def sample_rows(bags: PackedBags, n: int, generator: torch.Generator) -> PackedBags:
    """Draw ``n`` random rows of each bag that has more; a shorter bag stays whole. ``n = 0`` takes all.

    A bag is cut into ``n`` equal runs and one row is drawn from each: every row is as likely as any other, and since
    neighbours in a bag are neighbours on the slide, the sample keeps the slide's proportions better than free draws.
    At the seam of two runs a row may be drawn twice.

    Args:
        bags: the whole bags.
        n: rows wanted of each bag.
        generator: source of the random numbers, on the CPU so that a seed means the same on every device.
    """
    if n == 0 or int(bags.lengths.max()) <= n:
        return bags
    lengths = bags.lengths.cpu()
    taken = lengths.clamp(max=n)
    number = ranges(torch.zeros_like(taken), taken)
    length = torch.repeat_interleave(lengths, taken)
    jitter = torch.rand(len(number), generator=generator, dtype=torch.float64)
    within = torch.where(length > n, ((number + jitter) * (length / n).double()).long(), number)
    rows = torch.repeat_interleave(bags.offsets[:-1].cpu(), taken) + within.clamp(max=length - 1)
    device = bags.rows.device
    return bags.take(rows.to(device), offsets_of(taken).to(device))


def offsets_of(lengths: Tensor) -> Tensor:
    """Offsets of bags of these lengths: int64 (n_bags,) → (n_bags + 1,)."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Give ``start, start + 1, …`` of each length, one after the other, int64 (sum of lengths,)."""
    before = lengths.cumsum(0) - lengths
    steps = torch.arange(int(lengths.sum()), device=lengths.device)
    return steps + torch.repeat_interleave(starts - before, lengths)
