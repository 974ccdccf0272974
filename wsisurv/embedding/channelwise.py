"""GenBio-PathFM: a vision transformer that sees one colour at a time, and places its patches by rotation."""

import math

import torch
from torch import nn

_BASE = 100.0  # of the periods of rotation
_STORAGE = 4  # tokens beside the class token that are of no patch
_EPS = 1e-6
Rotation = tuple[torch.Tensor, torch.Tensor]


class _PatchAngles(nn.Module):
    """Angles of patches by their place, in bf16, as the weights were trained."""

    periods: torch.Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        share = 2 * torch.arange(head_width // 4) / (head_width // 2)
        self.register_buffer("periods", (_BASE**share).to(torch.bfloat16))

    def forward(self, side: int) -> Rotation:
        """Sine and cosine (side², head_width) for a square of patches."""
        middles = 2 * torch.arange(0.5, side, dtype=torch.bfloat16, device=self.periods.device) / side - 1
        places = torch.cartesian_prod(middles, middles)
        angles = (2 * math.pi * places[:, :, None] / self.periods).flatten(1).tile(2)
        return angles.sin(), angles.cos()


def _rotate(values: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Rotate queries or keys (n, heads, tokens, head_width) of the patches, which come last."""
    sin, cos = rotation
    rounded = values.to(sin.dtype)
    fixed, placed = rounded[..., : -len(sin), :], rounded[..., -len(sin) :, :]
    first, second = placed.chunk(2, dim=-1)
    rotated = placed * cos + torch.cat([-second, first], dim=-1) * sin
    return torch.cat([fixed, rotated], dim=-2).to(values.dtype)


class _RotaryAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        parts = (one.unflatten(-1, (self._heads, -1)).transpose(1, 2) for one in self.qkv(tokens).chunk(3, dim=-1))
        queries, keys, values = parts
        seen = nn.functional.scaled_dot_product_attention(_rotate(queries, rotation), _rotate(keys, rotation), values)
        mixed: torch.Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return mixed


class _GatedLayers(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-(8 * width // 3) // 64) * 64
        self.w1, self.w2 = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        gated: torch.Tensor = self.w3(nn.functional.silu(self.w1(tokens)) * self.w2(tokens))
        return gated


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens * self.gamma


class _RotaryBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=_EPS) for _ in range(2))
        self.ls1, self.ls2 = _Scale(width), _Scale(width)
        self.attn, self.mlp = _RotaryAttention(width, heads), _GatedLayers(width)

    def forward(self, tokens: torch.Tensor, rotation: Rotation) -> torch.Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens), rotation))
        changed: torch.Tensor = tokens + self.ls2(self.mlp(self.norm2(tokens)))
        return changed


class ChannelwiseTransformer(nn.Module):
    """A vision transformer of one colour, run on red, green and blue, with the names of tensors that its file has.

    Source: Kapse et al. 2026, GenBio-PathFM (the model's page, genbio-ai/genbio-pathfm); Siméoni et al. 2025, DINOv3
    (arXiv:2508.10104), for the rotation of queries and keys.

    Args:
        embed_dim: width of a token of one colour.
        depth: blocks.
        num_heads: of attention.
        patch_size: side of a patch, pixels.
    """

    num_prefix_tokens = 1 + _STORAGE

    def __init__(self, embed_dim: int, depth: int, num_heads: int, patch_size: int = 16) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, embed_dim, patch_size, patch_size)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.storage_tokens = nn.Parameter(torch.zeros(1, _STORAGE, embed_dim))
        self.rope_embed = _PatchAngles(embed_dim // num_heads)
        self.blocks = nn.ModuleList(_RotaryBlock(embed_dim, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=_EPS)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Tokens (n, 1 + 4 + patches, 3 · embed_dim) of squares (n, 3, side, side): red's beside green's and blue's."""
        n, colours = pixels.shape[:2]
        patches = self.patch_embed["proj"](pixels.flatten(0, 1)[:, None])
        rotation = self.rope_embed(patches.shape[-1])
        tokens = patches.flatten(2).transpose(1, 2)
        before = [one.expand(len(tokens), -1, -1) for one in (self.cls_token, self.storage_tokens)]
        tokens = torch.cat([*before, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens, rotation)
        normed: torch.Tensor = self.norm(tokens)
        return normed.reshape(n, colours, *normed.shape[1:]).transpose(1, 2).flatten(2)
