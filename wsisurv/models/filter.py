"""A student's own filter: which tiles the teacher would find relevant, judged from each tile alone."""

import math

import torch
from torch import Tensor, nn

_WIDTH = 16


class TileFilter(nn.Module):
    """Scores of tiles, and what is made of them.

    A hard filter leaves out all but the ``keep_share`` best tiles of each bag. A soft one multiplies the state of a
    tile by sigmoid(score − threshold) and leaves the tile in the bag: what is irrelevant falls silent but still counts
    in the mean, so that the share of the relevant stays known.

    Args:
        n_features: columns of the (scaled) features.
        hard: which of the two.
        keep_share: share of the tiles that are kept: of each bag, or, when soft, of all training tiles together.
    """

    hard: Tensor
    keep_share: Tensor
    threshold: Tensor

    def __init__(self, n_features: int, *, hard: bool, keep_share: float) -> None:
        super().__init__()
        self.register_buffer("hard", torch.tensor(hard))
        self.register_buffer("keep_share", torch.tensor(keep_share, dtype=torch.float64))
        self.register_buffer("threshold", torch.tensor(0.0))
        self.embed = nn.Linear(n_features, _WIDTH)
        self.score = nn.Linear(_WIDTH, 1)

    def forward(self, scaled: Tensor) -> Tensor:
        """Score of tiles, higher is more relevant: (n_tiles, n_features) → (n_tiles,)."""
        score: Tensor = self.score(torch.relu(self.embed(scaled)))
        return score.squeeze(1)

    def set_threshold(self, scores: Tensor) -> None:
        """Let the soft filter turn down all but ``keep_share`` of the training tiles, of these scores (n_tiles,)."""
        ordered = scores.sort().values
        first = min(round((1 - float(self.keep_share)) * len(ordered)), len(ordered) - 1)
        self.threshold.copy_(ordered[first])

    def gain(self, scaled: Tensor) -> Tensor:
        """What tiles' states are multiplied by, 0 to 1: (n_tiles, 1); all 1 for a hard filter."""
        if bool(self.hard):
            return scaled.new_ones(len(scaled), 1)
        return torch.sigmoid(self(scaled) - self.threshold).unsqueeze(1)


def top_share(scores: Tensor, offsets: Tensor, share: float) -> Tensor:
    """The best rows of each bag, one of each at least, in the order of the bags.

    Args:
        scores: (n_rows,).
        offsets: int64 (n_bags + 1,), on the same device.
        share: of each bag's rows, rounded up.

    Returns:
        int64 (n_kept,), ascending.
    """
    lengths = offsets.diff()
    bag = torch.repeat_interleave(lengths)
    best_first = torch.argsort(scores, descending=True, stable=True)
    by_bag = best_first[torch.argsort(bag[best_first], stable=True)]
    rank = torch.arange(len(scores), device=scores.device) - offsets[:-1][bag]
    return by_bag[rank < n_kept(lengths, share)[bag]].sort().values


def n_kept(lengths: Tensor, share: float) -> Tensor:
    """How many rows of bags of these lengths are kept: int64, the share rounded up."""
    return torch.tensor([math.ceil(share * n - 1e-9) for n in lengths.tolist()], device=lengths.device)
