"""Gated attention: how much each row of a bag counts."""

import torch
from torch import Tensor, nn


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
