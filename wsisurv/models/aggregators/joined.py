"""Aggregators of several students side by side, each over its own units of the hidden layer."""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wsisurv.bags.packed import PackedBags
from wsisurv.models.aggregators.abmil import Abmil
from wsisurv.models.aggregators.mean import MeanPool
from wsisurv.models.aggregators.pooling import Aggregator, Parts

BLOCKS: dict[str, Callable[[int], Aggregator]] = {"abmil": Abmil, "mean": lambda _width: MeanPool()}
"""Aggregators that can stand side by side: what a tile does in one is its own."""
_NAME = re.compile(r"joined((?: (?:abmil|mean)-[1-9][0-9]{0,3})+)")


class Joined(Aggregator):
    """State of a case: those of the blocks, one behind the other.

    Args:
        name: as ``joined_name`` gives it.
        width: of the hidden layer.
    """

    exact = True

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        found = _NAME.fullmatch(name)
        parts = [part.split("-") for part in found[1].split()] if found else []
        kinds = [(kind, int(size)) for kind, size in parts]
        self.widths = [size for _, size in kinds]
        if sum(self.widths) != width:
            raise ValueError(f"aggregator {name!r} of a hidden layer of {width}")
        self.blocks = nn.ModuleList(BLOCKS[kind](size) for kind, size in kinds)

    def _split(self, state: Tensor) -> list[tuple[Aggregator, Tensor]]:
        """Each block and its units of the states."""
        blocks = [block for block in self.blocks if isinstance(block, Aggregator)]
        return list(zip(blocks, [one.contiguous() for one in torch.split(state, self.widths, 1)], strict=True))

    def pool(self, state: Tensor, bags: PackedBags) -> Tensor:
        """State of cases: (n_tiles, width) → (n_bags, width)."""
        return torch.cat([block.pool(one, bags) for block, one in self._split(state)], 1)

    def parts(self, state: Tensor, bags: PackedBags) -> Parts:
        """What each tile is of it; its share is the mean of those that the blocks give it."""
        parts = [block.parts(one, bags) for block, one in self._split(state)]
        share = torch.stack([one.share for one in parts]).mean(0)
        factors = [(one.share / share.clamp(min=1e-30)).unsqueeze(1) for one in parts]
        return Parts(share, torch.cat([one.value * f for one, f in zip(parts, factors, strict=True)], 1))


def joined_name(blocks: list[tuple[str, int]]) -> str:
    """Name in a model file: aggregator and width of each block."""
    return " ".join(["joined", *(f"{kind}-{width}" for kind, width in blocks)])
