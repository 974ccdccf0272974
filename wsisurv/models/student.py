"""The student: log hazard from tiles alone, over packed bags."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsisurv.bags.packed import PackedBags, offsets_of
from wsisurv.bags.segments import segment_sum
from wsisurv.models.aggregators.attention import drop_units
from wsisurv.models.aggregators.registry import make_aggregator
from wsisurv.models.filter import TileFilter, n_kept, top_share
from wsisurv.models.scaled_linear import SharedScaling, scaled, scaled_linears, share_scaling
from wsisurv.survival.losses import discrete_log_hazard, discrete_log_hazard_slope

LIMIT = 8.0
"""Standard deviations at which a scaled feature is clamped: a smear of ink or a fold must not outweigh a slide."""
WIDEST = 2048
"""Hidden layer that the settings allow at most."""


class Student(nn.Module):
    """Multiple-instance survival model on packed bags.

    H = dropout(relu(X W)), z = aggregator of H, output = z W_o. For Cox and ranking losses there is one output, the log
    hazard; for the discrete loss there is one a time bin, the logit of its hazard.

    Args:
        n_features: columns of the features.
        hidden: width of H.
        dropout: share of H dropped in training, drawn once a bag.
        mean: (n_features,), the training tiles' mean.
        sd: (n_features,), their standard deviation, positive.
        aggregator: a name of ``models.aggregators.registry``.
        n_bins: time bins of the discrete loss; 1 for the others.
    """

    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        n_features: int,
        hidden: int,
        dropout: float,
        mean: Tensor,
        sd: Tensor,
        aggregator: str = "abmil",
        n_bins: int = 1,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("sd", sd.float())
        self.embed = nn.Linear(n_features, hidden)
        self.dropout = dropout
        self.aggregator = aggregator
        self.attention = make_aggregator(aggregator, hidden)
        self.hazard = nn.Linear(hidden, n_bins, bias=n_bins > 1)  # a Cox risk has no origin, so it needs no intercept
        self.filter: TileFilter | None = None

    @property
    def exact(self) -> bool:
        """Whether a tile's part in the log hazard is its own; otherwise ``parts`` gives a stand-in."""
        return self.attention.exact and self.hazard.out_features == 1

    def scaled(self, rows: Tensor) -> Tensor:
        """Features in standard deviations of the training tiles: (n_tiles, n_features) of any floating type."""
        return scaled(rows, self.mean, self.sd, LIMIT)

    def tiles(self, rows: Tensor) -> Tensor:
        """Hidden state of tiles, before a soft filter: (n_tiles, n_features) → (n_tiles, hidden)."""
        return tiles_of([(0, self)], rows, share_scaling_of([self]))[0]

    def kept_rows(self, bags: PackedBags) -> Tensor | None:
        """Numbers of the rows that a hard filter leaves, int64, ascending; None without one: all."""
        if self.filter is None or not bool(self.filter.hard):
            return None
        return top_share(self.filter(self.scaled(bags.rows)), bags.offsets, float(self.filter.keep_share))

    def kept(self, bags: PackedBags) -> PackedBags:
        """What a hard filter leaves of the bags; all of them without one."""
        rows = self.kept_rows(bags)
        if self.filter is None or rows is None:
            return bags
        weight = None if bags.weight is None else bags.weight[rows]
        offsets = offsets_of(n_kept(bags.lengths, float(self.filter.keep_share)))
        return PackedBags(bags.rows[rows], offsets, weight)

    def states(self, bags: PackedBags) -> Tensor:
        """Hidden state of tiles as the aggregator sees them, (n_tiles, hidden)."""
        return self.filtered(self.tiles(bags.rows), bags)

    def filtered(self, state: Tensor, bags: PackedBags) -> Tensor:
        """The same from ``tiles``, where those are known."""
        return state if self.filter is None else state * self.filter.gain(self.scaled(bags.rows)).detach()

    def pooled(self, bags: PackedBags) -> Tensor:
        """State of cases of whose tiles those to be kept are given: (n_bags, hidden)."""
        return self.pooled_of(self.states(bags), bags)

    def pooled_of(self, state: Tensor, bags: PackedBags) -> Tensor:
        """The same from ``states``, where those are known."""
        if self.training and self.dropout:
            state = drop_units(state, bags, self.dropout)
        return self.attention.pool(state, bags)

    def output_of(self, state: Tensor, bags: PackedBags) -> Tensor:
        """Outputs of cases (n_bags, n_bins) from ``states`` of the tiles that are kept."""
        pooled = self.pooled_of(state, bags)
        with torch.autocast(pooled.device.type, enabled=False):  # one row a case: nothing to gain from rounding
            output: Tensor = self.hazard(pooled)
        return output

    def log_hazard(self, output: Tensor) -> Tensor:
        """Log hazard of cases (n_bags,) from the outputs (n_bags, n_bins)."""
        return output.squeeze(1) if output.shape[1] == 1 else discrete_log_hazard(output)

    def forward(self, bags: PackedBags) -> Tensor:
        """Log hazard of cases of whose tiles all are given: (n_bags,)."""
        kept = self.kept(bags)
        return self.log_hazard(self.output_of(self.states(kept), kept))

    def parts(self, bags: PackedBags) -> "TileParts":
        """What each tile is of its case, of whose tiles those to be kept are given.

        Σ share · log hazard over a bag is the case's log hazard.
        """
        return self.parts_of(self.states(bags), bags)

    def parts_of(self, states: Tensor, bags: PackedBags) -> "TileParts":
        """The same from ``states``, where those are known."""
        pooled = self.attention.parts(states, bags)
        share, output = pooled.share.double(), self.hazard(pooled.value).double()
        if output.shape[1] == 1:
            return TileParts(share, output.squeeze(1))
        # discrete hazards: the log hazard's tangent at the case's own logits, which is exact in sum
        case = segment_sum(share.unsqueeze(1) * output, bags)
        slope = discrete_log_hazard_slope(case)
        inside = ((output - case[bags.bag_of_row]) * slope[bags.bag_of_row]).sum(1)
        return TileParts(share, discrete_log_hazard(case)[bags.bag_of_row] + inside)


def share_scaling_of(students: Sequence[Student]) -> SharedScaling:
    """One scaling of the features for several students of one width of features."""
    means, sds = torch.stack([one.mean for one in students]), torch.stack([one.sd for one in students])
    return share_scaling(means, sds, LIMIT)


def tiles_of(students: Sequence[tuple[int, Student]], rows: Tensor, scaling: SharedScaling) -> list[Tensor]:
    """``Student.tiles`` of several students, each with its number in the scaling, for little more than one's cost."""
    layers = [(number, student.embed.weight, student.embed.bias) for number, student in students]
    return [torch.relu_(state) for state in scaled_linears(rows, scaling, layers)]


@dataclass(frozen=True)
class TileParts:
    """Tiles' shares in one student."""

    share: Tensor  # float64 (n_tiles,), share of the attention; sums to 1 over a bag
    log_hazard: Tensor  # float64 (n_tiles,), of a case that were this tile throughout; exact where ``Student.exact``
