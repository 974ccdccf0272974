"""Gated attention: how much each row of a bag counts."""

import torch
from torch import Tensor, nn

from wsisurv.bags.packed import PackedBags


class GatedAttention(nn.Module):
    """Scores rows: w'(tanh(H V) ⊙ sigmoid(H U)).

    Source: Ilse, Tomczak and Welling 2018, equation 9.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.tanh = nn.Linear(width, inner)
        self.gate = nn.Linear(width, inner)
        self.score = nn.Linear(inner, 1, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Score rows: (n_rows, width) → (n_rows,), any real number; to be put through a softmax over each bag."""
        score: Tensor = self.score(torch.tanh(self.tanh(rows)) * torch.sigmoid(self.gate(rows)))
        return score.squeeze(-1)


def drop_units(state: Tensor, bags: PackedBags, share: float) -> Tensor:
    """Dropout of whole hidden units, drawn once a bag instead of once a row; call it in training only.

    Independent draws for every row cancel out when a bag is pooled, and cost more than the rest of the step.

    Args:
        state: (n_rows, …, hidden).
        bags: which rows belong together.
        share: of the units of each bag set to 0; the others grow by 1 / (1 − share).
    """
    kept = torch.rand(bags.n_bags, *state.shape[1:], device=state.device) >= share
    return state * (kept / (1 - share))[bags.bag_of_row]
