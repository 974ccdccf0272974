"""What some authors put behind the class token of a vision transformer."""

from contextlib import nullcontext

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from wsisurv.embedding.encoder_row import HeadName

_PROJECTED = 768
_HIDDEN, _ATOMS, _RANK = 256, 16, 8  # of the file config.json beside Mettle's weights


class WithHead(nn.Module):
    """A vision transformer whose class token goes through a head, in fp32; all other tokens stay as they are.

    Args:
        trunk: gives all tokens, (n, tokens, width).
        head: (n, width) → (n, n_features).
        patches: True to give the patch tokens as well, which then have the head's width.
    """

    def __init__(self, trunk: VisionTransformer, head: nn.Module, *, patches: bool) -> None:
        super().__init__()
        self.trunk, self.head, self._patches = trunk, head, patches
        self.num_prefix_tokens = int(trunk.num_prefix_tokens)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Tokens (n, tokens, width), or the class token alone, (n, 1, n_features)."""
        tokens = self.trunk(pixels)
        with nullcontext() if pixels.is_meta else torch.autocast(pixels.device.type, enabled=False):
            first = self.head(tokens[:, :1].float())
            return torch.cat([first, tokens[:, 1:].float()], dim=1) if self._patches else first


class Refinement(nn.Module):
    """Mettle's head: a shift, and a mixture of maps of low rank whose shares depend on the features themselves.

    e → e + Σₖ mixₖ(e) · Qₖ Pₖᵀ e + shift(e), with the names of tensors that its file has. Source: the model's page
    (slideflow-labs/Mettle).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.P, self.Q = (nn.Parameter(torch.zeros(_ATOMS, width, _RANK)) for _ in "PQ")
        self.mix, self.shift = (_two_layers(width, _HIDDEN, out) for out in (_ATOMS, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Refined features of the same shape, (…, width)."""
        low = torch.einsum("...d,kdr->...kr", features, self.P)
        mixed = torch.einsum("...k,...kr,kdr->...d", self.mix(features), low, self.Q)
        refined: torch.Tensor = features + mixed + self.shift(features)
        return refined


def _two_layers(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))


def add_head(trunk: VisionTransformer, head: HeadName, *, patches: bool) -> WithHead:
    """The transformer with a head of random weights behind it."""
    width = int(trunk.embed_dim)
    made = Refinement(width) if head == "refinement" else _two_layers(width, _PROJECTED, _PROJECTED)
    return WithHead(trunk, made, patches=patches)
