"""The student: log hazard from tiles alone, over packed bags; and the ensemble that is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsisurv.bags.packed import Bags, PackedBags, bags_of, in_parts, offsets_of, pack, segment_sum
from wsisurv.errors import EncoderMismatchError, FormatError
from wsisurv.formats.models import ModelFile
from wsisurv.models.aggregators.attention import drop_units
from wsisurv.models.aggregators.registry import make_aggregator
from wsisurv.models.filter import TileFilter, n_kept, top_share
from wsisurv.models.scaled_linear import scaled, scaled_linear
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
        return torch.relu(scaled_linear(rows, mean=self.mean, sd=self.sd, limit=LIMIT, linear=self.embed))

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
        state = self.tiles(bags.rows)
        return state if self.filter is None else state * self.filter.gain(self.scaled(bags.rows)).detach()

    def pooled(self, bags: PackedBags) -> Tensor:
        """State of cases of whose tiles those to be kept are given: (n_bags, hidden)."""
        state = self.states(bags)
        if self.training and self.dropout:
            state = drop_units(state, bags, self.dropout)
        return self.attention.pool(state, bags)

    def output(self, bags: PackedBags) -> Tensor:
        """Outputs of cases of whose tiles those to be kept are given: (n_bags, n_bins)."""
        pooled = self.pooled(bags)
        with torch.autocast(pooled.device.type, enabled=False):  # one row a case: nothing to gain from rounding
            output: Tensor = self.hazard(pooled)
        return output

    def log_hazard(self, output: Tensor) -> Tensor:
        """Log hazard of cases (n_bags,) from the outputs (n_bags, n_bins)."""
        return output.squeeze(1) if output.shape[1] == 1 else discrete_log_hazard(output)

    def forward(self, bags: PackedBags) -> Tensor:
        """Log hazard of cases of whose tiles all are given: (n_bags,)."""
        return self.log_hazard(self.output(self.kept(bags)))

    def parts(self, bags: PackedBags) -> "TileParts":
        """What each tile is of its case, of whose tiles those to be kept are given.

        Σ share · log hazard over a bag is the case's log hazard.
        """
        pooled = self.attention.parts(self.states(bags), bags)
        share, output = pooled.share.double(), self.hazard(pooled.value).double()
        if output.shape[1] == 1:
            return TileParts(share, output.squeeze(1))
        # discrete hazards: the log hazard's tangent at the case's own logits, which is exact in sum
        case = segment_sum(share.unsqueeze(1) * output, bags)
        slope = discrete_log_hazard_slope(case)
        inside = ((output - case[bags.bag_of_row]) * slope[bags.bag_of_row]).sum(1)
        return TileParts(share, discrete_log_hazard(case)[bags.bag_of_row] + inside)


@dataclass(frozen=True)
class TileParts:
    """Tiles' shares in one student.

    Attributes:
        share: float64 (n_tiles,), share of the attention; sums to 1 over a bag.
        log_hazard: float64 (n_tiles,), of a case that were this tile throughout; exact where ``Student.exact``.
    """

    share: Tensor
    log_hazard: Tensor


@dataclass(frozen=True)
class TileScores:
    """What each tile did, from one pass over the bags.

    Attributes:
        attention: float64 (n_tiles,), share of the attention; sums to 1 over a bag.
        contribution: float64 (n_tiles,), share of the log hazard; sums to the bag's log hazard.
        kept: float64 (n_tiles,), 0 to 1, what the students' filters kept of each tile: left out or not, or how far
            turned down, mean over members; None for students without a filter.
        exact: whether a contribution is the tile's own. With ``selfattention`` or discrete hazards it is a stand-in:
            what the model's last layers took from the tile, which depends on the tiles beside it.
    """

    attention: NDArray[np.float64]
    contribution: NDArray[np.float64]
    kept: NDArray[np.float64] | None = None
    exact: bool = True


@dataclass(frozen=True)
class Ensemble:
    """Students whose mean is the risk.

    Attributes:
        members: trained students, in evaluation mode.
        centres: each member's mean log hazard over its own training cases, taken off before members are compared.
    """

    members: tuple[Student, ...]
    centres: tuple[float, ...]

    @property
    def n_features(self) -> int:
        """Columns that the features must have."""
        return self.members[0].embed.in_features

    def log_hazard(self, features: NDArray[np.floating]) -> float:
        """Log hazard of one case relative to the training cases' mean.

        Args:
            features: (n_tiles, n_features), at least one tile.

        Raises:
            EncoderMismatchError: another number of columns than in training.
        """
        return float(self.members_log_hazard(features).mean())

    def members_log_hazard(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log hazard of one case by each member, float64 (n_members,); as ``log_hazard``."""
        return self.predict(bags_of(self._packed(features)))[:, 0]

    def predict(self, bags: Bags) -> NDArray[np.float64]:
        """Log hazard of many cases by each member, float64 (n_members, n_bags)."""
        with torch.inference_mode():
            risks = [
                in_parts(member, bags).double() - centre
                for member, centre in zip(self.members, self.centres, strict=True)
            ]
            return torch.stack(risks).cpu().numpy()

    def attention(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share of attention of each tile of one case, mean over members: float64 (n_tiles,), sums to 1."""
        return self.tile_scores(features).attention

    def tile_scores(self, features: NDArray[np.floating]) -> TileScores:
        """Attention and contribution of each tile of one case, mean over members.

        With attention z = Σ a_t h_t and log hazard z · w − centre, a tile contributes a_t (h_t · w − centre).
        """
        bags = self._packed(features)
        attention, contribution, kept = np.zeros(len(features)), np.zeros(len(features)), np.zeros(len(features))
        with torch.inference_mode():
            for member, centre in zip(self.members, self.centres, strict=True):
                left = member.kept(bags)
                found = member.kept_rows(bags)
                rows = slice(None) if found is None else found.cpu().numpy()
                parts = member.parts(left)
                attention[rows] += parts.share.cpu().numpy() / len(self.members)
                contribution[rows] += (parts.share * (parts.log_hazard - centre)).cpu().numpy() / len(self.members)
                if member.filter is None:  # a member that was not guided keeps all
                    kept += 1 / len(self.members)
                else:
                    gain = member.filter.gain(member.scaled(left.rows)).squeeze(1)
                    kept[rows] += gain.double().cpu().numpy() / len(self.members)
        filtered = any(member.filter is not None for member in self.members)
        return TileScores(
            attention, contribution, kept if filtered else None, all(member.exact for member in self.members)
        )

    def _packed(self, features: NDArray[np.floating]) -> PackedBags:
        if features.ndim != 2 or features.shape[1] != self.n_features:
            raise EncoderMismatchError(
                f"features of shape {features.shape} meet a model trained on {self.n_features} columns. "
                "Embed the slides with the encoder that the model was trained on."
            )
        return pack([features]).to(self.members[0].mean.device)

    def arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """Named arrays of a model file: ``members/<number>/<parameter>``, ``centres`` and ``aggregator`` (ASCII)."""
        named = {
            f"{prefix}members/{number}/{name}": value.detach().cpu().numpy()
            for number, member in enumerate(self.members)
            for name, value in member.state_dict().items()
        }
        aggregator = np.frombuffer(self.members[0].aggregator.encode(), np.uint8)
        return named | {f"{prefix}centres": np.array(self.centres), f"{prefix}aggregator": aggregator}


def ensemble_of(members: Sequence[tuple[Student, float]]) -> Ensemble:
    """Ensemble of (trained student, its centre) pairs."""
    return Ensemble(tuple(student.eval() for student, _ in members), tuple(centre for _, centre in members))


def load_student(model: ModelFile[Any], *, device: str = "cpu") -> Ensemble:
    """Rebuild the ensemble from a model file.

    Raises:
        FormatError: an array is missing, too many, or of another shape than its neighbours ask for.
    """
    return load_ensemble(model.arrays, device=device)


def load_ensemble(arrays: Mapping[str, NDArray[Any]], prefix: str = "", *, device: str = "cpu") -> Ensemble:
    """Rebuild an ensemble from the arrays that ``Ensemble.arrays`` gave; raises as ``load_student``."""
    try:
        centres = arrays[f"{prefix}centres"].tolist()
        aggregator = arrays[f"{prefix}aggregator"].tobytes().decode() if f"{prefix}aggregator" in arrays else "abmil"
        members = []
        for number in range(len(centres)):
            start = f"{prefix}members/{number}/"
            state = {name[len(start) :]: torch.tensor(a) for name, a in arrays.items() if name.startswith(start)}
            hidden, n_features = state["embed.weight"].shape
            n_bins, width = state["hazard.weight"].shape
            if hidden > WIDEST or width != hidden:  # before anything is allocated: the file may be anybody's
                raise ValueError(f"hidden layers of {hidden} and {width}")
            student = Student(n_features, hidden, 0.0, state["mean"], state["sd"], aggregator, n_bins)
            if "filter.hard" in state:
                hard, share = bool(state["filter.hard"]), float(state["filter.keep_share"])
                student.filter = TileFilter(n_features, hard=hard, keep_share=share)
            student.load_state_dict(state)
            members.append((student.to(device), float(centres[number])))
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise FormatError(f"the model's arrays don't make a student ({error}). Train it again.") from error
    if not members:
        raise FormatError("the model has no members. Train it again.")
    return ensemble_of(members)
