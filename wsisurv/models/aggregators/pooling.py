"""What every aggregator gives: the state of a case, and the share that each tile has in it."""

from dataclasses import dataclass

from torch import Tensor, nn

from wsisurv.bags.packed import PackedBags


@dataclass(frozen=True)
class Parts:
    """A case's state as a weighted mean of its tiles' values: pooled = Σ share · value."""

    share: Tensor  # (n_tiles,), at least 0, sums to 1 over each bag
    value: Tensor  # (n_tiles, width)


class Aggregator(nn.Module):
    """Pools the tiles of each bag: each bag as it would alone, in any order of its tiles.

    Attributes:
        exact: whether ``parts`` says what each tile does by itself; otherwise it is a stand-in.
    """

    exact: bool

    def pool(self, state: Tensor, bags: PackedBags) -> Tensor:
        """State of cases: (n_tiles, width) → (n_bags, width)."""
        raise NotImplementedError

    def parts(self, state: Tensor, bags: PackedBags) -> Parts:
        """What each tile is of it: Σ share · value over a bag is its pooled state."""
        raise NotImplementedError
