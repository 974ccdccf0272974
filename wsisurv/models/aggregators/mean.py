"""Mean pooling: every tile counts alike."""

import torch
from torch import Tensor

from wsisurv.bags.packed import PackedBags
from wsisurv.bags.segments import segment_softmax, segment_sum
from wsisurv.models.aggregators.pooling import Aggregator, Parts


class MeanPool(Aggregator):
    """z = mean of H; a merged tile counts as often as the tiles that it stands for."""

    exact = True

    def pool(self, state: Tensor, bags: PackedBags) -> Tensor:
        """State of cases: (n_tiles, width) → (n_bags, width)."""
        weight = state.new_ones(len(state)) if bags.weight is None else bags.weight.to(state.dtype)
        return segment_sum(state * weight.unsqueeze(1), bags) / segment_sum(weight, bags).unsqueeze(1)

    def parts(self, state: Tensor, bags: PackedBags) -> Parts:
        """What each tile is of it."""
        return Parts(segment_softmax(torch.zeros_like(state[:, 0]), bags), state)
