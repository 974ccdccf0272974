"""Near-duplicate tiles of a case as one tile of their weight."""

import torch
from torch import Tensor

from wsisurv.bags.packed import Bags, offsets_of

_BLOCK = 256
"""Candidates at a time: one product of matrices finds which tiles are near any of them."""


def merge_duplicates(bags: Bags, similarity: float) -> Bags:
    """Let one tile stand for all that are like it, weighing as much as they do together.

    Tiles are compared by the cosine of their features, each column less the case's mean and in the case's own standard
    deviations: an encoder's features all point in much the same direction before. Beginning with the tile that is
    nearest the case's mean, a tile that no earlier one stands for stands for itself and all the others of at least that
    similarity. Nothing is fitted on other cases, proportions are kept, and the order of the tiles has no influence.
    Time grows with tiles × tiles kept.

    Args:
        bags: whole bags.
        similarity: from −1 to 1; exact duplicates have 1, up to rounding.

    Returns:
        Bags of the tiles that stand for others, with ``weight``, in their former order.
    """
    rows, weights, lengths = [], [], []
    for number, start in enumerate(bags.offsets[:-1].tolist()):
        bag = bags.select(torch.tensor([number])).load()
        stands_for = representatives(bag.rows.float(), similarity).cpu()
        each = torch.ones(len(stands_for)) if bag.weight is None else bag.weight.cpu()
        weight = torch.zeros(len(stands_for)).index_add(0, stands_for, each)
        kept = torch.unique(stands_for)
        rows.append(start + kept)
        weights.append(weight[kept])
        lengths.append(len(kept))
    merged = bags.take(torch.cat(rows), offsets_of(torch.tensor(lengths)))
    return Bags(merged.source, merged.index, merged.offsets, torch.cat(weights), merged.device, merged.keep_bytes)


def representatives(tiles: Tensor, similarity: float) -> Tensor:
    """Number of the tile that stands for each tile of one case: (n, d) → int64 (n,); a tile may stand for itself."""
    sd = tiles.std(0, correction=0)
    scaled = (tiles - tiles.mean(0)) / torch.where(sd > 1e-6, sd, 1.0)
    length = scaled.norm(dim=1)
    unit = scaled / length.clamp(min=1e-6).unsqueeze(1)
    waiting = torch.argsort(length, stable=True)
    stands_for = torch.arange(len(tiles), device=tiles.device)
    while len(waiting):
        candidates = waiting[:_BLOCK]
        near = unit[waiting] @ unit[candidates].T >= similarity
        near |= (length[waiting] < 1e-6).unsqueeze(1) & (length[candidates] < 1e-6)  # no direction, but all alike
        # one after the other: a candidate that an earlier one stands for stands for nobody
        among = near[: len(candidates)].cpu()
        leads = torch.ones(len(candidates), dtype=torch.bool)
        for place in range(1, len(candidates)):
            leads[place] = not bool((among[place, :place] & leads[:place]).any())
        near &= leads.to(near.device)
        near[torch.arange(len(candidates)), torch.arange(len(candidates))] |= leads.to(near.device)
        taken, first = near.any(1), near.int().argmax(1)
        stands_for[waiting[taken]] = candidates[first[taken]]
        waiting = waiting[~taken]
    return stands_for
