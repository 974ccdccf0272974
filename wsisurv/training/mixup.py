"""Risk-aware mix-up: two cases of similar risk lend their tiles to a third that nobody has seen."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wsisurv.bags.packed import Bags, offsets_of, ranges


@dataclass(frozen=True)
class Mixed:
    """Mixed bags."""

    bags: Bags  # mixed bag ``i`` holds rows of ``first[i]`` and of ``second[i]``
    first: Tensor  # int64 (n_mixed,), numbers of bags
    second: Tensor  # int64 (n_mixed,), their partners
    share: Tensor  # float64 (n_mixed,), λ: the share of rows that is of ``first``


def similar_partners(risk: Tensor, within: int, generator: torch.Generator) -> Tensor:
    """Draw for each case another whose risk is at most ``within`` ranks away.

    Args:
        risk: (n,), n at least 2.
        within: ranks, at least 1.
        generator: on the CPU.

    Returns:
        int64 (n,), never a case itself.
    """
    n = len(risk)
    order = torch.argsort(risk, stable=True)
    rank = torch.arange(n)
    low, high = (rank - within).clamp(min=0), (rank + within).clamp(max=n - 1)
    drawn = low + (torch.rand(n, generator=generator, dtype=torch.float64) * (high - low)).long()
    partner = drawn + (drawn >= rank).long()  # step over oneself
    partners = torch.empty_like(order)
    partners[order] = order[partner]
    return partners


def mix(bags: Bags, first: Tensor, second: Tensor, generator: torch.Generator) -> Mixed:
    """Mix bags ``first[i]`` and ``second[i]``: with λ ~ U(0, 1), a share λ of the rows of one, 1 − λ of the other.

    Rows are the leading part of a random rotation of each bag, one of each bag at least. Where bags differ in length,
    or their rows have weights, rows are weighted so that the two shares are λ and 1 − λ all the same.

    Args:
        bags: all bags.
        first: int64 (n_mixed,), on the CPU.
        second: int64 (n_mixed,), on the CPU.
        generator: on the CPU.

    Source: Zhang et al. 2018 (mixup), for bags as in Rasa (arXiv 2509.15608).
    """
    share = torch.rand(len(first), generator=generator, dtype=torch.float64)
    lengths, starts = bags.lengths, bags.offsets[:-1]
    parts = torch.stack([first, second], 1).flatten()
    shares = torch.stack([share, 1 - share], 1).flatten()
    taken = (shares * lengths[parts]).round().long().clamp(min=1)
    rotation = (torch.rand(len(parts), generator=generator, dtype=torch.float64) * lengths[parts]).long()
    number = ranges(rotation, taken) % torch.repeat_interleave(lengths[parts], taken)
    rows = torch.repeat_interleave(starts[parts], taken) + number
    mixed = bags.take(rows, offsets_of(taken.reshape(-1, 2).sum(1)))
    if bags.weight is not None or bool((lengths != lengths[0]).any()):
        weight = torch.ones(len(rows)) if mixed.weight is None else mixed.weight
        part = torch.repeat_interleave(torch.arange(len(parts)), taken)
        total = torch.zeros(len(parts), dtype=weight.dtype).index_add(0, part, weight)
        mixed = replace(mixed, weight=weight * (shares.to(weight.dtype) / total)[part])
    return Mixed(mixed, first, second, share)
