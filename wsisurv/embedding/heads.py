"""What some authors put behind a vision transformer."""

from contextlib import nullcontext

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from wsisurv.embedding.encoder_row import HeadName

_PROJECTED, _COCA = 768, 512
_HEADS = 8
_HIDDEN, _ATOMS, _RANK = 256, 16, 8  # of the file config.json beside Mettle's weights


class WithHead(nn.Module):
    """A vision transformer whose class token, or all tokens, go through a head, in fp32.

    Args:
        trunk: gives all tokens, (n, tokens, width).
        head: of the class token, (n, 1, width) → (n, 1, n_features), or of all tokens, (n, tokens, width) → the same.
        patches: True to give the patch tokens as well, as they are, which then have the head's width.
    """

    def __init__(self, trunk: VisionTransformer, head: nn.Module, *, patches: bool) -> None:
        super().__init__()
        self.trunk, self.head, self._patches = trunk, head, patches
        self._all = isinstance(head, AttentionalPooler | CocaPooler)
        self.num_prefix_tokens = int(trunk.num_prefix_tokens)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Tokens (n, tokens, width), or the class token alone, (n, 1, n_features)."""
        tokens = self.trunk(pixels)
        with nullcontext() if pixels.is_meta else torch.autocast(pixels.device.type, enabled=False):
            first = self.head((tokens if self._all else tokens[:, :1]).float())
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


class CocaPooler(nn.Module):
    """The head of CONCH v1: one learnt query looks at all tokens, by eight heads of attention.

    With the names of tensors that its file has. The features are those before the projection to the space of words.
    Source: Yu et al. 2022, CoCa (arXiv:2205.01917), for the pooler; Lu et al. 2024 (doi:10.1038/s41591-024-02856-4).
    """

    def __init__(self, width: int, n_features: int = _COCA) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, n_features))
        self.ln_k, self.ln_q, self.ln_contrast = (nn.LayerNorm(n) for n in (width, n_features, n_features))
        self.attn = nn.MultiheadAttention(n_features, _HEADS, kdim=width, vdim=width, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """One vector (n, 1, n_features) of all tokens (n, tokens, width)."""
        seen = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        pooled: torch.Tensor = self.ln_contrast(self.attn(query, seen, seen, need_weights=False)[0])
        return pooled


class AttentionalPooler(nn.Module):
    """The head of CONCH v1.5: one learnt query looks at all tokens, by eight heads of attention without biases.

    With the names of tensors that its file has. Source: Yu et al. 2022, CoCa (arXiv:2205.01917), for the pooler; Ding
    et al. 2024 (arXiv:2411.19666) for CONCH v1.5.
    """

    def __init__(self, width: int, n_features: int = _PROJECTED) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, n_features))
        self.ln_k, self.ln_q, self.ln_contrast = (nn.LayerNorm(n) for n in (width, n_features, n_features))
        self.to_q, self.to_out = (nn.Linear(n_features, n_features, bias=False) for _ in range(2))
        self.to_kv = nn.Linear(width, 2 * n_features, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """One vector (n, 1, n_features) of all tokens (n, tokens, width)."""
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), 1, -1)
        parts = (one.unflatten(-1, (_HEADS, -1)).transpose(1, 2) for one in (query, keys, values))
        seen = nn.functional.scaled_dot_product_attention(*parts)
        pooled: torch.Tensor = self.ln_contrast(self.to_out(seen.transpose(1, 2).flatten(2)))
        return pooled


def _two_layers(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))


def add_head(trunk: VisionTransformer, head: HeadName, *, patches: bool) -> WithHead:
    """The transformer with a head of random weights behind it."""
    width = int(trunk.embed_dim)
    if head == "projection":
        return WithHead(trunk, _two_layers(width, _PROJECTED, _PROJECTED), patches=patches)
    made = {"refinement": Refinement, "coca": CocaPooler, "attention": AttentionalPooler}[head]
    return WithHead(trunk, made(width), patches=patches)
