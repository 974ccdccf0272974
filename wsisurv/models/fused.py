"""Tiles of a case to risks, for all members of an ensemble at once.

Nearly all the arithmetic of a prediction is in the first layer: features times weights. The members differ in how they
scale the features before it, so one after the other they would each convert, scale and clamp every tile. Here the
scaling is folded into the weights and the members' weights lie side by side: one pass over the tiles, one product.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsisurv.errors import EncoderMismatchError, FormatError
from wsisurv.models.student import LIMIT, Ensemble
from wsisurv.survival.bags import PackedBags

_BLOCK_TILES = 1024
"""Tiles at a time, of which all features are held as float32: a few MB, which stay in the cache of a core."""


@dataclass(frozen=True)
class CaseStates:
    """What the members make of one case.

    Attributes:
        log_hazard: float64 (n_members,).
        pooled: float32 (n_members, hidden), the state of the case that the log hazard is read from.
    """

    log_hazard: NDArray[np.float64]
    pooled: NDArray[np.float32]


class FusedEnsemble:
    """The members of an ensemble, made ready to predict; the same risks to within rounding.

    Args:
        ensemble: trained students of one width, on any device.

    Raises:
        FormatError: the members are of several widths, or of shapes that don't fit each other.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self._members, self._centres = ensemble.members, ensemble.centres
        self._filtered = any(member.filter is not None for member in self._members)  # each by its own: one by one
        n_features = ensemble.n_features
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
            self._weight = (torch.cat(weights) * reach).T.float().contiguous()
            self._bias = torch.cat(biases).float()

    @property
    def n_members(self) -> int:
        """Number of members."""
        return len(self._members)

    @property
    def n_features(self) -> int:
        """Columns that the features must have."""
        return len(self._centre)

    def __call__(self, features: NDArray[np.floating]) -> CaseStates:
        """Log hazard and state of one case.

        Args:
            features: (n_tiles, n_features), at least one tile.

        Raises:
            EncoderMismatchError: another number of columns than in training.
        """
        if features.ndim != 2 or features.shape[1] != self.n_features:
            raise EncoderMismatchError(
                f"features of shape {features.shape} meet a model trained on {self.n_features} columns. "
                "Embed the slides with the encoder that the model was trained on."
            )
        with torch.inference_mode():
            rows = torch.from_numpy(np.ascontiguousarray(features))  # pack would copy them
            bag = PackedBags(rows, torch.tensor([0, len(features)])).to(self._centre.device)
            state = None if self._filtered else self._tiles(bag.rows)
            risks, pooled = [], []
            for number, member in enumerate(self._members):
                if state is None:
                    case = member.pooled(member.kept(bag))
                else:
                    case = member.attention.pool(state[:, number].contiguous(), bag)
                risks.append(member.log_hazard(member.hazard(case)).double() - self._centres[number])
                pooled.append(case)
            return CaseStates(torch.cat(risks).cpu().numpy(), torch.cat(pooled).float().cpu().numpy())

    def _tiles(self, rows: Tensor) -> Tensor:
        """Hidden state of each tile by each member: (n_tiles, n_members, hidden)."""
        states = torch.empty(len(rows), len(self._bias), device=rows.device)
        for start in range(0, len(rows), _BLOCK_TILES):
            block = slice(start, min(start + _BLOCK_TILES, len(rows)))
            scaled = torch.sub(rows[block], self._centre).mul_(self._per_reach)
            torch.addmm(self._bias, scaled, self._weight, out=states[block])
            lowest, highest = scaled.aminmax()
            if max(-lowest, highest) > 1:  # rare: ink, folds
                far = (scaled.abs() > 1).any(1)
                states[block][far] = torch.cat([member.tiles(rows[block][far]) for member in self._members], 1)
        width = len(self._bias) // len(self._members)
        return states.relu_().view(len(rows), len(self._members), width)
