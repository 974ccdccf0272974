"""A teacher that sees tiles and statements together, for comparison with late fusion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsisurv.bags.packed import PackedBags, pack
from wsisurv.bags.segments import attention_pool, segment_softmax
from wsisurv.models.aggregators.attention import drop_units
from wsisurv.models.aggregators.registry import make_aggregator
from wsisurv.models.scaled_linear import scaled_linears, share_scaling
from wsisurv.models.student import LIMIT
from wsisurv.models.text_branch import TEXT_DROPOUT, TextScaling

KINDS = ("concat", "cross-attention")


@dataclass(frozen=True)
class JointSight:
    """What a joint teacher makes of some cases."""

    log_hazard: Tensor  # (n_cases,)
    relevance: Tensor  # (n_tiles,), share of each tile in the case's attention; sums to 1 over a case


class JointTeacher(nn.Module):
    """Log hazard of a case from its tiles and its statements.

    With H = dropout(relu(X W)) of tiles and T = dropout(relu(S W')) of statements:

    - ``concat``: z = aggregator of H, t = attention pool of T, log hazard = [z, t] · w;
    - ``cross-attention``: each statement attends to the tiles, u_s = Σ_t softmax_t(T_s Q · H_t K / √h) H_t, and the
      case is the attention pool of [u_s, T_s] over statements.

    Args:
        kind: one of ``KINDS``.
        n_dimensions: columns of the (scaled) statements' vectors.
        hidden: width of H and T.
        dropout: share of H dropped in training, drawn once a case.
        mean: (n_features,), the training tiles' mean.
        sd: (n_features,), their standard deviation, positive.
        aggregator: of ``concat``.

    Source: docs/method.md; cross-attention of report or gene tokens to tiles as in Jaume et al. 2024 (SurvPath).
    """

    mean: Tensor
    sd: Tensor

    def __init__(
        self, kind: str, n_dimensions: int, hidden: int, dropout: float, mean: Tensor, sd: Tensor, aggregator: str
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("sd", sd.float())
        self.kind, self.dropout, self.aggregator = kind, dropout, aggregator
        self.tiles = nn.Linear(len(mean), hidden)
        self.statements = nn.Linear(n_dimensions, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.hazard = nn.Linear(2 * hidden, 1, bias=False)
        if kind == "concat":
            self.pool = make_aggregator(aggregator, hidden)
        else:
            self.query = nn.Linear(hidden, hidden, bias=False)
            self.key = nn.Linear(hidden, hidden, bias=False)

    def forward(self, tiles: PackedBags, statements: PackedBags) -> Tensor:
        """Log hazard of cases: (n_tiles, n_features) and (n_statements, n_dimensions) → (n_cases,)."""
        return self.look(tiles, statements, with_relevance=False).log_hazard

    def look(self, tiles: PackedBags, statements: PackedBags, *, with_relevance: bool = True) -> JointSight:
        """Log hazard and, where asked, the relevance of each tile (else all 0)."""
        scaling = share_scaling(self.mean.unsqueeze(0), self.sd.unsqueeze(0), LIMIT)
        seen = torch.relu(scaled_linears(tiles.rows, scaling, [(0, self.tiles.weight, self.tiles.bias)])[0])
        said = torch.relu(self.statements(statements.rows))
        if self.training:
            seen, said = drop_units(seen, tiles, self.dropout), drop_units(said, statements, TEXT_DROPOUT)
        if self.kind == "concat":
            case = self.pool.pool(seen, tiles)
            report = attention_pool(said, self.score(said).squeeze(1), statements)
            relevance = self.pool.parts(seen, tiles).share if with_relevance else seen[:, 0] * 0
            return JointSight(self.hazard(torch.cat([case, report], 1)).squeeze(1), relevance)
        looks = self._looks(seen, said, tiles, statements)
        with torch.autocast(seen.device.type, enabled=False):  # sums over tiles are never in half precision
            of_case = torch.split(seen.float(), tiles.lengths.tolist())
            looked = torch.cat([look @ rows for look, rows in zip(looks, of_case, strict=True)])
        importance = self.score(torch.tanh(looked + said)).squeeze(1)
        case = attention_pool(torch.cat([looked, said], 1), importance, statements)
        relevance = seen[:, 0] * 0
        if with_relevance:
            shares = torch.split(segment_softmax(importance, statements), statements.lengths.tolist())
            relevance = torch.cat([share @ look for share, look in zip(shares, looks, strict=True)])
        return JointSight(self.hazard(case).squeeze(1), relevance)

    def _looks(self, seen: Tensor, said: Tensor, tiles: PackedBags, statements: PackedBags) -> list[Tensor]:
        """How much each statement of a case attends to each of its tiles: float32 (n_statements, n_tiles) a case.

        A matrix a case: all pairs of a statement and a tile hold one number each, not a hidden state.
        """
        queries = torch.split(self.query(said), statements.lengths.tolist())
        keys = torch.split(self.key(seen), tiles.lengths.tolist())
        scores = [query @ key.T / seen.shape[1] ** 0.5 for query, key in zip(queries, keys, strict=True)]
        if tiles.weight is not None:
            weights = torch.split(tiles.weight.log(), tiles.lengths.tolist())
            scores = [score + weight for score, weight in zip(scores, weights, strict=True)]
        return [torch.softmax(score.float(), 1) for score in scores]


@dataclass(frozen=True)
class JointMember:
    """A trained joint teacher."""

    model: JointTeacher  # in evaluation mode, on the CPU
    scaling: TextScaling  # applied to statements first
    centre: float  # its mean log hazard over its training cases

    def look(self, features: NDArray[np.floating], statements: NDArray[np.float32]) -> JointSight:
        """One case, of a tile and a statement at least; the log hazard is relative to the training cases' mean."""
        with torch.inference_mode():
            sight = self.model.look(pack([features]), pack([self.scaling(statements)]))
        return JointSight(sight.log_hazard.double() - self.centre, sight.relevance)


@dataclass(frozen=True)
class JointEnsemble:
    """Joint teachers, each trained without one fold, whose mean is the risk."""

    members: tuple[JointMember, ...]

    def log_hazard(self, features: NDArray[np.floating], statements: NDArray[np.float32]) -> float:
        """Log hazard of one case relative to the training cases' mean; a tile and a statement at least."""
        return float(np.mean([float(member.look(features, statements).log_hazard) for member in self.members]))

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Named arrays of a model file."""
        first = self.members[0].model
        named: dict[str, NDArray[Any]] = {
            f"{prefix}centres": np.array([member.centre for member in self.members]),
            f"{prefix}kind": np.frombuffer(first.kind.encode(), np.uint8),
            f"{prefix}aggregator": np.frombuffer(first.aggregator.encode(), np.uint8),
        }
        for number, member in enumerate(self.members):
            start = f"{prefix}members/{number}/"
            named |= {start + name: value.numpy() for name, value in member.model.state_dict().items()}
            named |= {f"{start}text/mean": member.scaling.mean, f"{start}text/components": member.scaling.components}
        return named


def load_joint(arrays: Mapping[str, NDArray[Any]], prefix: str) -> JointEnsemble:
    """Rebuild joint teachers from the arrays that ``JointEnsemble.arrays`` gave.

    Raises:
        KeyError, ValueError, RuntimeError: an array is missing or of another shape than its neighbours ask for.
        FormatError: no such aggregator.
    """
    kind, aggregator = (arrays[f"{prefix}{name}"].tobytes().decode() for name in ("kind", "aggregator"))
    members = []
    for number, centre in enumerate(arrays[f"{prefix}centres"].tolist()):
        start = f"{prefix}members/{number}/"
        own = {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}
        scaling = TextScaling(own.pop("text/mean"), own.pop("text/components"))
        state = {name: torch.tensor(array) for name, array in own.items()}
        hidden, n_dimensions = state["statements.weight"].shape
        model = JointTeacher(kind, n_dimensions, hidden, 0.0, state["mean"], state["sd"], aggregator)
        model.load_state_dict(state)
        members.append(JointMember(model.eval(), scaling, centre))
    return JointEnsemble(tuple(members))
