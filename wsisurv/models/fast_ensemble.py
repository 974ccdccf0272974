"""Tiles of a case to risks, for all members of an ensemble at once.

Nearly all the arithmetic of a prediction is in the first layer: features times weights. The members differ in how they
scale the features before it, so one after the other they would each convert, scale and clamp every tile. Here the
scaling is folded into the weights and the members' weights lie side by side: one pass over the tiles, one product.

Members that use few directions of the features have a first layer of low rank. Then the tiles are multiplied by the
directions of all members, which are fewer columns than hidden units, and these by the members' weights of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from wsisurv.bags.packed import PackedBags
from wsisurv.errors import EncoderMismatchError, FormatError
from wsisurv.models.aggregators.abmil import Abmil
from wsisurv.models.principal import principal_directions
from wsisurv.models.student import LIMIT, Student, TileParts

_BLOCK_TILES = 1024
"""Tiles at a time, of which all features are held as float32: a few MB, which stay in the cache of a core."""
_WIDEST = 512
"""First layer whose rank is looked for: 0.1 s a member; at 2,048 units it would be 3 s."""
_COLUMNS = 16
"""A product of a multiple of these columns makes full use of a BLAS; 64 take three quarters of the time of 55."""


@dataclass(frozen=True)
class CaseStates:
    """What the members make of one case."""

    log_hazard: NDArray[np.float64]  # float64 (n_members,)
    pooled: NDArray[np.float32]  # float32 (n_members, hidden), the state of the case that the log hazard is read from


@dataclass(frozen=True)
class TileScores:
    """What each tile of a case did."""

    attention: NDArray[np.float64]  # float64 (n_tiles,), share of the attention; sums to 1
    contribution: NDArray[np.float64]  # float64 (n_tiles,), share of the log hazard; sums to the case's
    # float64 (n_tiles,), 0 to 1, what the students' filters kept of each tile: left out or not, or how far turned down,
    # mean over members; None for students without a filter
    kept: NDArray[np.float64] | None = None
    # whether a contribution is the tile's own. With ``selfattention`` or discrete hazards it is a stand-in: what the
    # model's last layers took from the tile, which depends on the tiles beside it.
    exact: bool = True


class FastMembers:
    """The members of an ensemble, made ready to be asked; what each would say by itself, to within rounding.

    Args:
        members: trained students of one width, on any device.
        centres: what is taken off each member's log hazard.

    Raises:
        FormatError: the members are of several widths, or of shapes that don't fit each other.
    """

    def __init__(self, members: Sequence[Student], centres: Sequence[float]) -> None:
        self._members, self._centres = members, centres
        self._filtered = any(member.filter is not None for member in self._members)  # each by its own: one by one
        n_features = members[0].embed.in_features
        shapes = {(member.embed.weight.shape, member.mean.shape, member.sd.shape) for member in self._members}
        if shapes != {(self._members[0].embed.weight.shape, (n_features,), (n_features,))}:
            raise FormatError(
                f"the model's members don't fit each other (shapes {shapes}). Delete it and run `wsisurv distill`."
            )
        with torch.inference_mode():
            means = torch.stack([member.mean for member in self._members]).double()
            sds = torch.stack([member.sd for member in self._members]).double()
            # between these, no member clamps a feature
            low, high = (means - LIMIT * sds).amax(0), (means + LIMIT * sds).amin(0)
            sd = sds.mean(0)
            centre, reach = (low + high) / 2, torch.maximum((high - low) / 2, 1e-6 * sd)
            weights = [member.embed.weight / sd for member, sd in zip(self._members, sds, strict=True)]
            biases = [
                member.embed.bias - weight @ (mean - centre)
                for member, weight, mean in zip(self._members, weights, means, strict=True)
            ]
            self._centre, self._per_reach = centre.float(), (1 / reach).float()
            folded = torch.stack(weights) * reach
            low_rank = _low_rank(folded)
            first = folded.flatten(0, 1) if low_rank is None else low_rank[0]
            self._weight = first.T.float().contiguous()
            self._spread = None if low_rank is None else low_rank[1]
            self._bias = torch.cat(biases).float()
            self._scaled = torch.empty(_BLOCK_TILES, n_features, device=self._centre.device)
            attentions = [member.attention for member in self._members]
            pools = [one for one in attentions if type(one) is Abmil]  # and no class derived from it
            self._attention = _GatedAttention(pools) if len(pools) == len(self._members) else None

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(self._members)

    @property
    def n_features(self) -> int:
        """Columns that the features must have."""
        return len(self._centre)

    def states(self, features: NDArray[np.floating]) -> CaseStates:
        """Log hazard and state of one case.

        Args:
            features: (n_tiles, n_features), at least one tile.

        Raises:
            EncoderMismatchError: another number of columns than in training.
        """
        return self.states_of(self._bag(features))

    def states_of(self, bag: PackedBags) -> CaseStates:
        """The same of a pack of one case, on the members' device."""
        with torch.inference_mode():
            if self._filtered:
                pooled = torch.cat([member.pooled(member.kept(bag)) for member in self._members])
            else:
                pooled = self._pooled(self._tiles(bag.rows), bag)
            risks = [
                member.log_hazard(member.hazard(case)).double() - centre
                for member, case, centre in zip(self._members, torch.split(pooled, 1), self._centres, strict=True)
            ]
            return CaseStates(torch.cat(risks).cpu().numpy(), pooled.float().cpu().numpy())

    def tile_scores(self, features: NDArray[np.floating]) -> TileScores:
        """Attention and contribution of each tile of one case, mean over members; as ``states``.

        With attention z = Σ a_t h_t and log hazard z · w − centre, a tile contributes a_t (h_t · w − centre).
        """
        n_members = len(self._members)
        attention, contribution, kept = np.zeros((3, len(features)))
        with torch.inference_mode():
            bag = self._bag(features)
            states = None if self._filtered else self._tiles(bag.rows)
            for number, (member, centre) in enumerate(zip(self._members, self._centres, strict=True)):
                rows: slice | NDArray[np.int64] = slice(None)
                if states is not None:
                    parts = member.parts_of(states[:, number].contiguous(), bag)
                    kept += 1 / n_members
                else:
                    parts, rows, gain = _filtered_parts(member, bag)
                    kept[rows] += gain / n_members
                attention[rows] += parts.share.cpu().numpy() / n_members
                contribution[rows] += (parts.share * (parts.log_hazard - centre)).cpu().numpy() / n_members
        exact = all(member.exact for member in self._members)
        return TileScores(attention, contribution, kept if self._filtered else None, exact)

    def _bag(self, features: NDArray[np.floating]) -> PackedBags:
        if features.ndim != 2 or features.shape[1] != self.n_features:
            raise EncoderMismatchError(
                f"features of shape {features.shape} meet a model trained on {self.n_features} columns. "
                "Embed the slides with the encoder that the model was trained on."
            )
        values = np.ascontiguousarray(features)  # pack would copy them
        if min(values.strides) < 0:  # one row, turned round
            values = values.copy()
        return PackedBags(torch.from_numpy(values), torch.tensor([0, len(features)])).to(self._centre.device)

    def _tiles(self, rows: Tensor) -> Tensor:
        """Hidden state of each tile by each member: (n_tiles, n_members, hidden)."""
        states = torch.empty(len(rows), len(self._bias), device=rows.device)
        for start in range(0, len(rows), _BLOCK_TILES):
            block = slice(start, min(start + _BLOCK_TILES, len(rows)))
            # into one buffer: torch converts half precision ten times faster by copying than within a sum
            scaled = self._scaled[: block.stop - start].copy_(rows[block]).sub_(self._centre).mul_(self._per_reach)
            if self._spread is None:
                torch.addmm(self._bias, scaled, self._weight, out=states[block])
            else:
                torch.addmm(self._bias, scaled @ self._weight, self._spread, out=states[block])
            lowest, highest = scaled.aminmax()
            if max(-lowest, highest) > 1:  # rare: ink, folds
                far = (scaled.abs() > 1).any(1)
                states[block][far] = torch.cat([member.tiles(rows[block][far]) for member in self._members], 1)
        width = len(self._bias) // len(self._members)
        return states.relu_().view(len(rows), len(self._members), width)

    def _pooled(self, state: Tensor, bag: PackedBags) -> Tensor:
        """State of the case by each member: tiles (n_tiles, n_members, hidden) → (n_members, hidden)."""
        if self._attention is None:
            pools = [member.attention.pool for member in self._members]
            return torch.cat([pool(state[:, number].contiguous(), bag) for number, pool in enumerate(pools)])
        state = state.transpose(0, 1)
        shares = torch.softmax(self._attention.scores(state), 1)
        return torch.bmm(shares.transpose(1, 2), state).squeeze(1)


def _filtered_parts(
    member: Student, bag: PackedBags
) -> tuple[TileParts, slice | NDArray[np.int64], NDArray[np.float64] | float]:
    """Parts of the tiles that a member's filter leaves, which they are, and how far each is kept."""
    left, found = member.kept(bag), member.kept_rows(bag)
    rows = slice(None) if found is None else found.cpu().numpy()
    if member.filter is None:  # a member that was not guided keeps all
        return member.parts(left), rows, 1.0
    return member.parts(left), rows, member.filter.gain(member.scaled(left.rows)).squeeze(1).double().cpu().numpy()


def _low_rank(weights: Tensor) -> tuple[Tensor, Tensor] | None:
    """The members' weights (n_members, hidden, n_features) by the directions they span, where that saves a third.

    Returns:
        The directions (n_columns, n_features), one member's after the other's and then zeros; and, float32 (n_columns,
        n_members * hidden), each member's weights of its own directions and zeros of the others'. None where the
        products with both would take more than two thirds of the multiplications with the weights.
    """
    n_members, hidden, n_features = weights.shape
    if min(hidden, n_features) > _WIDEST or not bool(weights.isfinite().all()):
        return None
    found = [principal_directions(member.cpu().numpy(), hidden).rows for member in weights]
    directions = [torch.from_numpy(rows).to(weights.device) for rows in found]
    rank = sum(len(rows) for rows in directions)
    if 3 * rank * (n_features + n_members * hidden) > 2 * weights.numel():
        return None
    blocks = [rows @ member.T for rows, member in zip(directions, weights, strict=True)]
    spread: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    padding = (0, 0, 0, -rank % _COLUMNS)
    return pad(torch.cat(directions), padding), pad(spread, padding).float()


class _GatedAttention:
    """The members' gated attention side by side; scores as ``Abmil``, to within rounding."""

    def __init__(self, members: Sequence[Abmil]) -> None:
        # tanh x = 2 sigmoid 2x - 1, and torch's sigmoid takes a fifth of its tanh's time
        layers = [(2 * member.tanh.weight, 2 * member.tanh.bias, member.gate, member.score) for member in members]
        self._weight = torch.stack([torch.cat([tanh, gate.weight]).T for tanh, _, gate, _ in layers])
        self._bias = torch.stack([torch.cat([tanh, gate.bias]) for _, tanh, gate, _ in layers]).unsqueeze(1)
        self._score = torch.stack([score.weight.T for *_, score in layers])

    def scores(self, state: Tensor) -> Tensor:
        """Scores of tiles: (n_members, n_tiles, hidden) → (n_members, n_tiles, 1)."""
        tanh, gate = torch.baddbmm(self._bias, state, self._weight).sigmoid_().chunk(2, 2)
        return torch.bmm((2 * tanh - 1) * gate, self._score)
