"""A transformer over the tiles of a case: what a tile means may depend on the others."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from wsisurv.bags.packed import PackedBags, ranges
from wsisurv.models.aggregators.pooling import Aggregator, Parts


class _SelfAttentionLayer(nn.Module):
    """x + attention(layer norm x) among the rows of each bag, in several heads."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def heads(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (n_bags, n_heads, n, width / n_heads), of rows (n_bags, n, width)."""
        split = self.query_key_value(self.norm(rows)).unflatten(2, (3, self.n_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        return query, key, value

    def forward(self, rows: Tensor, log_weight: Tensor | None) -> Tensor:
        """(n_bags, n, width) → the same; ``log_weight`` (n_bags, n) is added to the scores of each row as a key."""
        query, key, value = self.heads(rows)
        mask = None if log_weight is None else log_weight[:, None, None, :].expand(-1, -1, rows.shape[1], -1)
        with _kernels(rows):
            mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        added: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return rows + added


def _kernels(rows: Tensor) -> AbstractContextManager[None]:
    """The plain kernel in training on a GPU: the gradients of the others differ in their last bits from run to run."""
    if rows.is_cuda and torch.is_grad_enabled():
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


@dataclass(frozen=True)
class _Group:
    """Bags of one length: their numbers (n_bags,), their rows' numbers (n_bags, n), log weights likewise or None."""

    bags: Tensor
    rows: Tensor
    log_weight: Tensor | None


class SelfAttention(Aggregator):
    """A class token and two layers of self-attention; the case's state is the token's, after a layer norm.

    TransMIL approximates attention by landmarks (Nyström) and lays the tiles, in the order of the file, in a square
    that is filled up with the first of them, for a convolution that stands for position. Neither is here: attention is
    exact, in time that grows with the square of the tiles (memory with the tiles, but in training on a GPU with their
    square), and nothing depends on the order of the tiles or on the other bags of a pack.

    Source: Shao et al. 2021 (TransMIL), without the Nyström approximation and the position encoding (PPEG).
    """

    exact = False

    def __init__(self, width: int) -> None:
        super().__init__()
        n_heads = next(n for n in (4, 2, 1) if width % n == 0)
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.first = _SelfAttentionLayer(width, n_heads)
        self.last = _SelfAttentionLayer(width, n_heads)
        self.norm = nn.LayerNorm(width)

    def pool(self, state: Tensor, bags: PackedBags) -> Tensor:
        """State of cases: (n_tiles, width) → (n_bags, width)."""
        groups = _groups(bags)
        tokens = []
        for group in groups:
            rows, log_weight = self._with_token(state, group)
            tokens.append(self.last(self.first(rows, log_weight), log_weight)[:, 0])
        pooled: Tensor = self.norm(torch.cat(tokens))
        return pooled[torch.argsort(torch.cat([group.bags for group in groups]))]

    def parts(self, state: Tensor, bags: PackedBags) -> Parts:
        """A stand-in for what each tile is of it.

        The share is the class token's attention on the tile in the last layer, mean over heads. The value is what the
        last layer takes from the tile, with the layer norm's spread held fixed; what comes from the token itself is
        given to all tiles alike. The sum is exact, but a tile's part holds what the first layer
        took from its neighbours: without the tile, theirs would be others.
        """
        share, value = state.new_zeros(len(state)), torch.zeros_like(state)
        for group in _groups(bags):
            rows, log_weight = self._with_token(state, group)
            rows = self.first(rows, log_weight)
            last = self.last
            query, key, values = last.heads(rows)
            scores = (query[:, :, :1] @ key.transpose(2, 3)).squeeze(2) / query.shape[3] ** 0.5
            if log_weight is not None:
                scores = scores + log_weight[:, None]
            attention = scores.softmax(2)  # (n_bags, n_heads, 1 + n)
            taken = (attention.unsqueeze(3) * values).permute(0, 2, 1, 3).flatten(2) @ last.out.weight.T
            token = rows[:, 0] + taken.sum(1) + last.out.bias
            spread = (token.var(1, correction=0, keepdim=True) + self.norm.eps).sqrt()
            own = attention.mean(1)[:, 1:]
            shares = own / own.sum(1, keepdim=True)
            rest = token - taken[:, 1:].sum(1)
            sums = taken[:, 1:] / shares.clamp(min=1e-30).unsqueeze(2) + rest.unsqueeze(1)
            scaled = (sums - sums.mean(2, keepdim=True)) / spread.unsqueeze(1)
            index = group.rows.flatten()
            share = share.index_copy(0, index, shares.flatten())
            value = value.index_copy(0, index, (scaled * self.norm.weight + self.norm.bias).flatten(0, 1))
        return Parts(share, value)

    def _with_token(self, state: Tensor, group: _Group) -> tuple[Tensor, Tensor | None]:
        """Rows of the group's bags behind the class token, (n_bags, 1 + n, width), and their log weights."""
        tiles = state[group.rows]
        rows = torch.cat([self.token.expand(len(tiles), 1, -1), tiles], 1)
        if group.log_weight is None:
            return rows, None
        return rows, torch.cat([rows.new_zeros(len(rows), 1), group.log_weight], 1)


def _groups(bags: PackedBags) -> list[_Group]:
    """Bags of equal length together: as few calls as there are lengths, and no padding."""
    lengths, groups = bags.lengths, []
    for length in torch.unique(lengths).tolist():
        chosen = (lengths == length).nonzero().squeeze(1)
        rows = ranges(bags.offsets[:-1][chosen], lengths[chosen]).reshape(-1, length)
        groups.append(_Group(chosen, rows, None if bags.weight is None else bags.weight[rows].log()))
    return groups
