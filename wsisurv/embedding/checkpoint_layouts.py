"""How files of weights name their tensors, as data, and how those names become timm's.

What is left after renaming is DINOv2's own naming or timm's, which timm itself reads: it folds the class token's
position into the token and takes ``w12``, ``w3`` for ``fc1``, ``fc2``.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from wsisurv.embedding.encoder_row import LayoutName


@dataclass(frozen=True)
class CheckpointLayout:
    """The names in one kind of file."""

    # pattern of a whole name → the new one; ``NAME#2`` is the third part of NAME
    renames: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()  # beginnings of names that the encoder has no use for
    anchor: str = ""  # end of a name that is in every such file: what stands before it stands before all names


_BLOCK = r"encoder\.layer\.(\d+)\."
_SCALES = r"visual\.(blocks\.\d+\.ls[12])\.weight"

LAYOUTS: Mapping[LayoutName, CheckpointLayout] = {
    "timm": CheckpointLayout(),
    # DINOv2's training code, which may keep its blocks in chunks
    "dinov2-in-chunks": CheckpointLayout(
        renames=(
            (r"blocks\.\d+\.(\d+\..*)\.w12\.(\w+)", r"blocks.\1.fc1.\2"),
            (r"blocks\.\d+\.(\d+\..*)\.w3\.(\w+)", r"blocks.\1.fc2.\2"),
            (r"blocks\.\d+\.(\d+\..*)", r"blocks.\1"),
        )
    ),
    # DINOv2 as the transformers package saves it, with registers and without
    "transformers-dinov2": CheckpointLayout(
        renames=(
            (r"embeddings\.(cls_token|mask_token|register_tokens)", r"\1"),
            (r"embeddings\.position_embeddings", "pos_embed"),
            (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
            (_BLOCK + r"attention\.attention\.query\.(\w+)", r"blocks.\1.attn.qkv.\2#0"),
            (_BLOCK + r"attention\.attention\.key\.(\w+)", r"blocks.\1.attn.qkv.\2#1"),
            (_BLOCK + r"attention\.attention\.value\.(\w+)", r"blocks.\1.attn.qkv.\2#2"),
            (_BLOCK + r"attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
            (_BLOCK + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
            (_BLOCK + r"mlp\.weights_in\.(\w+)", r"blocks.\1.mlp.w12.\2"),
            (_BLOCK + r"mlp\.weights_out\.(\w+)", r"blocks.\1.mlp.w3.\2"),
            (_BLOCK + r"((?:norm[12]|mlp)\..*)", r"blocks.\1.\2"),
            (r"layernorm\.(\w+)", r"norm.\1"),
        ),
        anchor="embeddings.cls_token",
    ),
    # The image side of a model of images and words
    "keep": CheckpointLayout(
        renames=((_SCALES, r"\1.gamma"), (r"visual\.(.*)", r"\1"), (r"visual_head\.(.*)", r"head.\1")),
        left_out=("text.", "logit_scale"),
    ),
    "mettle": CheckpointLayout(renames=((r"backbone\.(.*)", r"\1"),)),
    # CONCH v1's whole file: the image side, without its pooler of captions and its projection to the space of words
    "conch-v1": CheckpointLayout(
        renames=(
            (r"visual\.trunk\.(.*)", r"\1"),
            (r"visual\.attn_pool_contrast\.(.*)", r"head.\1"),
            (r"visual\.ln_contrast\.(.*)", r"head.ln_contrast.\1"),
        ),
        left_out=(
            *("text.", "text_decoder.", "logit_scale"),
            *("visual.proj_contrast", "visual.attn_pool_caption.", "visual.ln_caption."),
        ),
    ),
    # BEiT-3's names, which timm reads, but for the last norm: branch A, the image's
    "musk": CheckpointLayout(
        renames=((r"beit3\.encoder\.layer_norm\.A\.(\w+)", r"norm.\1"),),
        left_out=("vision_head.", "language_head.", "logit_scale"),
    ),
    # The image side of CONCH v1.5, in a file of its own (pytorch_model_vision.bin)
    "conch-v1.5": CheckpointLayout(
        renames=(
            (r"trunk\.(.*)", r"\1"),
            (r"attn_pool_contrast\.(.*)", r"head.\1"),
            (r"ln_contrast\.(.*)", r"head.ln_contrast.\1"),
        )
    ),
}


def rename_tensors(state: Mapping[str, torch.Tensor], name: LayoutName) -> dict[str, torch.Tensor]:
    """Give tensors the names that timm reads; what no rule knows keeps its name, and is refused when it is loaded.

    Args:
        state: tensors of a file, by its names.
        name: of the layout.
    """
    layout = LAYOUTS[name]
    before = next(
        (key.removesuffix(layout.anchor) for key in state if layout.anchor and key.endswith(layout.anchor)), ""
    )
    found: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[int, torch.Tensor]] = defaultdict(dict)
    for key, value in state.items():
        if key.startswith(layout.left_out or ("\0",)):
            continue
        renamed, _, part = _renamed(key.removeprefix(before), layout).partition("#")
        if part:
            parts[renamed][int(part)] = value
        else:
            found[renamed] = value
    return found | {key: torch.cat([value for _, value in sorted(those.items())]) for key, those in parts.items()}


def _renamed(key: str, layout: CheckpointLayout) -> str:
    for pattern, new in layout.renames:
        if matched := re.fullmatch(pattern, key):
            return matched.expand(new)
    return key


def fit_positions(positions: torch.Tensor, side: int, mode: str = "bicubic") -> torch.Tensor:
    """Positions of another grid of patches as the transformers package brings them to a square one.

    timm would smooth them as well, which gives slightly other features.

    Args:
        positions: (1, 1 + n², width), the class token's first.
        side: patches along a side of the grid that is wanted.
        mode: of the interpolation, as that package does it; ``bilinear`` as CONCH's own loader does.

    Returns:
        (1, 1 + side², width); ``positions`` themselves where they fit, or are not of a square.
    """
    grid = round((positions.shape[1] - 1) ** 0.5)
    if grid == side or grid**2 != positions.shape[1] - 1:
        return positions
    patches = positions[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2).float()
    patches = torch.nn.functional.interpolate(patches, size=(side, side), mode=mode, align_corners=False)
    return torch.cat([positions[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)], dim=1)
