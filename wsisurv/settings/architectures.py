"""What a file of anybody may ask of timm: an architecture by its bare name, and arguments of a network's shape."""

import re

BARE_NAME = r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)?$"
"""timm's name of an architecture, perhaps with a tag; a prefix or a slash would be of a place to load from."""

_WORD = re.compile("[a-z0-9_]{0,32}")
_MOST = {
    4096: "img_size patch_size window_size input_size",
    256: "depth depths layers num_heads reg_tokens groups",
    16_384: "embed_dim embed_dims dims dim channels stem_width base_width head_dim",
    1024: "mlp_ratio mlp_ratios init_values ls_init_value layer_scale_init_value swiglu_align_to",
    1: "qkv_bias qk_norm proj_bias qkv_fused swiglu_mlp scale_mlp scale_attn_norm scale_mlp_norm class_token "
    "no_embed_class pre_norm final_norm fc_norm pool_include_prefix dynamic_img_size dynamic_img_pad use_abs_pos_emb "
    "use_rel_pos_bias use_rot_pos_emb conv_mlp drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate "
    "drop_path_rate",
}
_NUMBERS = {name: most for most, names in _MOST.items() for name in names.split()}
"""Largest value of each. All else that timm takes is left out: ``checkpoint_path``, ``pretrained``, ``pretrained_cfg``
and others would load what the file names."""
_WORDS = ("global_pool", "pos_embed", "act_layer", "norm_layer")


def require_argument(name: str, value: object) -> None:
    """Refuse an argument that is not of a network's shape, or a value that no network has.

    Raises:
        ValueError: names it, and what is allowed.
    """
    if name not in _NUMBERS and name not in _WORDS:
        allowed = ", ".join(sorted((*_NUMBERS, *_WORDS)))
        raise ValueError(f"{name}: timm is given arguments of a network's shape alone: {allowed}")
    if name in _WORDS:
        if not isinstance(value, str) or not _WORD.fullmatch(value):
            raise ValueError(f"{name}: {value!r} is no word")
        return
    for one in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(one, int | float) or not 0 <= one <= _NUMBERS[name]:
            raise ValueError(f"{name}: {one!r} is no number from 0 to {_NUMBERS[name]}")
