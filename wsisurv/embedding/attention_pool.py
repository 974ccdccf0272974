"""FEATHER: an attention network of 0.9 million parameters that makes one vector of a slide's tiles."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wsisurv.formats.weights import load_strictly, read_weights

_WIDTH, _HIDDEN = 512, 384
_BEFORE = "model."
_LEFT_OUT = ("classifier.",)  # of the 108 diagnoses that it was trained on


class _Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(_WIDTH, _HIDDEN), nn.Tanh())
        self.attention_b = nn.Sequential(nn.Linear(_WIDTH, _HIDDEN), nn.Sigmoid())
        self.attention_c = nn.Linear(_HIDDEN, 1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.attention_c(self.attention_a(states) * self.attention_b(states))
        return scores


class AttentionPool(nn.Module):
    """Gated attention over projected tiles, with the names of tensors that FEATHER's file has.

    Source: Ilse et al. 2018, Attention-based deep multiple instance learning; Shao et al. 2025, Do multiple instance
    learning models transfer?

    Args:
        n_features: columns of a tile's features.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.patch_embed = nn.Sequential(nn.Linear(n_features, _WIDTH), nn.ReLU())
        self.global_attn = _Gate()

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """One vector (512,) of the tiles (n_tiles, n_features)."""
        states = self.patch_embed(tiles)
        pooled: torch.Tensor = self.global_attn(states).softmax(dim=0).T @ states
        return pooled[0]


def load_attention_pool(path: Path, n_features: int) -> AttentionPool:
    """Load FEATHER's file.

    Raises:
        WeightsError: another file, or one for tiles of another encoder.
    """
    state = {name.removeprefix(_BEFORE): value for name, value in read_weights(path).items()}
    state = {name: value for name, value in state.items() if not name.startswith(_LEFT_OUT)}
    model = AttentionPool(n_features)
    load_strictly(model, state, str(path))
    return model.eval()


def pool_tiles(model: AttentionPool, values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The vector float32 (512,) of tiles' features (n_tiles, n_features)."""
    with torch.inference_mode():
        found: NDArray[np.float32] = model(torch.from_numpy(values.astype(np.float32))).numpy()
    return found
