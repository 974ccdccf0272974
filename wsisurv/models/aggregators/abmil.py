"""Gated attention pooling: tiles count by what they show."""

from torch import Tensor

from wsisurv.bags.packed import PackedBags
from wsisurv.bags.segments import attention_pool, segment_softmax
from wsisurv.models.aggregators.attention import GatedAttention
from wsisurv.models.aggregators.pooling import Aggregator, Parts


class Abmil(GatedAttention, Aggregator):
    """z = Σ softmax(a) H, with a = w'(tanh(H V) ⊙ sigmoid(H U)).

    Source: Ilse, Tomczak and Welling 2018, equations 7 and 9.
    """

    exact = True

    def __init__(self, width: int) -> None:
        super().__init__(width, width // 2)

    def pool(self, state: Tensor, bags: PackedBags) -> Tensor:
        """State of cases: (n_tiles, width) → (n_bags, width)."""
        return attention_pool(state, self(state), bags)

    def parts(self, state: Tensor, bags: PackedBags) -> Parts:
        """What each tile is of it."""
        return Parts(segment_softmax(self(state), bags), state)
