"""Sums, softmax and attention over the rows of each bag of a pack, exactly as for each bag alone."""

import torch
from torch import Tensor

from wsisurv.bags.packed import PackedBags

_RUN_ROWS = 128
"""Rows that a thread of a GPU adds up: 512 runs a part, each as many threads as there are columns."""


def segment_sum(values: Tensor, bags: PackedBags) -> Tensor:
    """Sum rows over each bag: (n_rows_total, …) → (n_bags, …).

    Bit-identical from run to run: additions follow the row order on a CPU, and a GPU sums each bag by itself
    (its scatter would add in the order in which threads happen to finish). Half precision is added up in single.
    """
    values = _at_least_single(values)
    if values.is_cuda:
        return _sums_of_sums(values, bags.lengths)
    shape = (bags.n_bags, *values.shape[1:])
    return torch.zeros(shape, dtype=values.dtype).index_add(0, bags.bag_of_row, values)


def _sums_of_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Sum rows over each bag in two rounds: runs of rows first, then each bag's runs.

    A GPU gives each sum one thread a column, which adds row after row: with whole bags nearly all of it would idle.
    """
    n_runs = lengths.add(_RUN_ROWS - 1).div(_RUN_ROWS, rounding_mode="floor").clamp(min=1)
    runs = torch.full((int(n_runs.sum()),), _RUN_ROWS, device=lengths.device)
    runs[n_runs.cumsum(0) - 1] = lengths - (n_runs - 1) * _RUN_ROWS  # the last of each bag has the rest
    # "unsafe": without asking the GPU, and waiting for it, whether the lengths add up
    sums = torch.segment_reduce(values, "sum", lengths=runs, axis=0, unsafe=True)
    return torch.segment_reduce(sums, "sum", lengths=n_runs, axis=0, unsafe=True)


def _at_least_single(values: Tensor) -> Tensor:
    """Sums of thousands of rows are lost in half precision."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _exponentials(scores: Tensor, bags: PackedBags) -> Tensor:
    """exp(score − the bag's highest score), which can't overflow, times the rows' weights."""
    scores = _at_least_single(scores)
    index = bags.bag_of_row
    target = index.reshape(-1, *[1] * (scores.ndim - 1)).expand_as(scores)
    highest = torch.full((bags.n_bags, *scores.shape[1:]), -torch.inf, dtype=scores.dtype, device=scores.device)
    highest = highest.scatter_reduce(0, target, scores.detach(), "amax")
    weights = torch.exp(scores - highest[index])
    if bags.weight is None:
        return weights
    return weights * bags.weight.reshape(-1, *[1] * (scores.ndim - 1))


def segment_softmax(scores: Tensor, bags: PackedBags) -> Tensor:
    """Softmax within each bag: (n_rows_total, …) → the same shape, summing to 1 over each bag.

    A row of weight w counts like w equal rows, and is given what they would have together.
    """
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
    if values.is_cuda:  # one sum of both: a GPU takes longer to begin one than to do it
        sums = segment_sum(torch.cat([weights * values, weights], -1), bags)
        return sums[..., :-1] / sums[..., -1:]
    return segment_sum(weights * values, bags) / segment_sum(weights, bags)
