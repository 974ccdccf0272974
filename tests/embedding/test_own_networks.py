"""MUSK and GenBio-PathFM: small files with their names of tensors, against plain forward passes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as fn

from wsisurv.embedding import encoders
from wsisurv.embedding.encoders import build_encoder
from wsisurv.embedding.network import ModelEncoder, Transform
from wsisurv.embedding.step import resolve_settings
from wsisurv.embedding.table import ENCODERS, NOT_COMPUTED
from wsisurv.errors import SettingsError, WeightsError
from wsisurv.settings.base import file_sha256
from wsisurv.settings.embedding import EmbedSettings

State = dict[str, torch.Tensor]
Build = Callable[[str, State], ModelEncoder]
WIDTH, DEPTH, HEADS = 24, 2, 3


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """``build("musk", state)``: a small network of a row, with the tensors of a file."""

    def make(name: str, state: State) -> ModelEncoder:
        small = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
        spec = replace(ENCODERS[name], kwargs={**ENCODERS[name].kwargs, **small})
        monkeypatch.setattr(encoders, "find_spec", lambda _: spec)
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
        built = build_encoder(EmbedSettings(encoder=name, weights=f"sha256:{file_sha256(path)}"), path, "cpu")
        assert isinstance(built, ModelEncoder)
        return built

    return make


def _drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    random = torch.Generator().manual_seed(3)
    return {name: 0.2 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


def _musk() -> State:
    """BEiT-3 as it is saved: branch A sees images, branch B words; positions begin at the third."""
    shapes: dict[str, tuple[int, ...]] = {
        "beit3.text_embed.weight": (7, WIDTH),
        "beit3.vision_embed.mask_token": (1, 1, WIDTH),
        "beit3.vision_embed.cls_token": (1, 1, WIDTH),
        "beit3.vision_embed.proj.weight": (WIDTH, 3, 16, 16),
        "beit3.vision_embed.proj.bias": (WIDTH,),
        "beit3.encoder.embed_positions.A.weight": (2 + 1 + 24**2, WIDTH),
        "beit3.encoder.embed_positions.B.weight": (9, WIDTH),
        "vision_head.weight": (WIDTH, WIDTH),
        "language_head.weight": (WIDTH, WIDTH),
        "logit_scale": (),
    }
    for branch in "AB":
        norms = {"beit3.encoder.layer_norm": WIDTH}
        for layer in (f"beit3.encoder.layers.{number}" for number in range(DEPTH)):
            for linear in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes[f"{layer}.self_attn.{linear}.{branch}.weight"] = (WIDTH, WIDTH)
                shapes[f"{layer}.self_attn.{linear}.{branch}.bias"] = (WIDTH,)
            shapes[f"{layer}.ffn.{branch}.fc1.weight"] = (4 * WIDTH, WIDTH)
            shapes[f"{layer}.ffn.{branch}.fc1.bias"] = (4 * WIDTH,)
            shapes[f"{layer}.ffn.{branch}.fc2.weight"] = (WIDTH, 4 * WIDTH)
            shapes[f"{layer}.ffn.{branch}.fc2.bias"] = (WIDTH,)
            for kind in ("weight", "bias"):
                shapes[f"{layer}.ffn.{branch}.ffn_layernorm.{kind}"] = (4 * WIDTH,)
            for norm in ("self_attn.inner_attn_ln", "self_attn_layer_norm", "final_layer_norm"):
                norms[f"{layer}.{norm}"] = WIDTH
        for norm, n in norms.items():
            shapes |= dict.fromkeys((f"{norm}.{branch}.weight", f"{norm}.{branch}.bias"), (n,))
    return _drawn(shapes)


def _musk_plainly(state: State, pixels: torch.Tensor) -> torch.Tensor:
    """Magneto's blocks: a norm before each product, and one more before the last of each half."""

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(name: str, values: torch.Tensor) -> torch.Tensor:
        return fn.layer_norm(values, values.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    patches = fn.conv2d(
        pixels, state["beit3.vision_embed.proj.weight"], state["beit3.vision_embed.proj.bias"], stride=16
    )
    first = state["beit3.vision_embed.cls_token"].expand(len(pixels), -1, -1)
    tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1)
    tokens = tokens + state["beit3.encoder.embed_positions.A.weight"][2:]
    for layer in (f"beit3.encoder.layers.{number}" for number in range(DEPTH)):
        seen = norm(f"{layer}.self_attn_layer_norm.A", tokens)
        q, k, v = (
            linear(f"{layer}.self_attn.{one}_proj.A", seen).unflatten(-1, (HEADS, -1)).transpose(1, 2) for one in "qkv"
        )
        mixed = (q @ k.transpose(-1, -2) / (WIDTH / HEADS) ** 0.5).softmax(-1) @ v
        mixed = norm(f"{layer}.self_attn.inner_attn_ln.A", mixed.transpose(1, 2).flatten(2))
        tokens = tokens + linear(f"{layer}.self_attn.out_proj.A", mixed)
        inner = fn.gelu(linear(f"{layer}.ffn.A.fc1", norm(f"{layer}.final_layer_norm.A", tokens)))
        tokens = tokens + linear(f"{layer}.ffn.A.fc2", norm(f"{layer}.ffn.A.ffn_layernorm", inner))
    return norm("beit3.encoder.layer_norm.A", tokens)[:, 0]


def _pathfm() -> State:
    hidden = 64
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "storage_tokens": (1, 4, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 1, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for block in (f"blocks.{number}" for number in range(DEPTH)):
        shapes |= {f"{block}.attn.qkv.weight": (3 * WIDTH, WIDTH), f"{block}.attn.proj.weight": (WIDTH, WIDTH)}
        shapes |= {f"{block}.mlp.w1.weight": (hidden, WIDTH), f"{block}.mlp.w1.bias": (hidden,)}
        shapes |= {f"{block}.mlp.w2.weight": (hidden, WIDTH), f"{block}.mlp.w2.bias": (hidden,)}
        shapes |= {f"{block}.mlp.w3.weight": (WIDTH, hidden), f"{block}.mlp.w3.bias": (WIDTH,)}
        for vector in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "attn.proj.bias"):
            shapes[f"{block}.{vector}"] = (WIDTH,)
        shapes[f"{block}.ls1.gamma"] = shapes[f"{block}.ls2.gamma"] = (WIDTH,)
    head = WIDTH // HEADS
    periods = torch.tensor([100 ** (2 * one / (head // 2)) for one in range(head // 4)]).to(torch.bfloat16)
    return _drawn(shapes) | {"rope_embed.periods": periods}


def _pathfm_plainly(state: State, pixels: torch.Tensor) -> torch.Tensor:
    """DINOv3 of one colour, each patch rotated by itself, in double precision: red's class token, green's, blue's."""
    head, side = WIDTH // HEADS, pixels.shape[-1] // 16
    state = {name: value.double() for name, value in state.items()}
    periods = state["rope_embed.periods"]

    def turned(values: torch.Tensor) -> torch.Tensor:
        found = values.clone()
        for row in range(side):
            for column in range(side):
                places = torch.tensor([2 * (row + 0.5) / side - 1, 2 * (column + 0.5) / side - 1], dtype=torch.float64)
                angles = (2 * torch.pi * places[:, None] / periods).flatten()  # by row, then by column
                of_patch = values[..., 5 + row * side + column, :]
                a, b = of_patch[..., : head // 2], of_patch[..., head // 2 :]
                both = (a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin())
                found[..., 5 + row * side + column, :] = torch.cat(both, -1)
        return found

    def norm(name: str, values: torch.Tensor) -> torch.Tensor:
        return fn.layer_norm(values, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return values @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)

    found = []
    for colour in range(3):
        one = pixels[:, colour : colour + 1].double()
        patches = fn.conv2d(one, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
        before = [state[name].expand(len(one), -1, -1) for name in ("cls_token", "storage_tokens")]
        tokens = torch.cat([*before, patches.flatten(2).transpose(1, 2)], 1)
        for block in (f"blocks.{number}" for number in range(DEPTH)):
            q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", tokens)).chunk(3, -1)
            q, k, v = (part.unflatten(-1, (HEADS, head)).transpose(1, 2) for part in (q, k, v))
            shares = (turned(q) @ turned(k).transpose(-1, -2) / head**0.5).softmax(-1)
            mixed = linear(f"{block}.attn.proj", (shares @ v).transpose(1, 2).flatten(2))
            tokens = tokens + state[f"{block}.ls1.gamma"] * mixed
            seen = norm(f"{block}.norm2", tokens)
            gated = fn.silu(linear(f"{block}.mlp.w1", seen)) * linear(f"{block}.mlp.w2", seen)
            tokens = tokens + state[f"{block}.ls2.gamma"] * linear(f"{block}.mlp.w3", gated)
        found.append(norm("norm", tokens)[:, 0])
    return torch.cat(found, -1).float()


FILES: dict[str, tuple[Callable[[], State], Callable[[State, torch.Tensor], torch.Tensor], float]] = {
    "musk": (_musk, _musk_plainly, 5e-5),
    "genbio-pathfm": (_pathfm, _pathfm_plainly, 3e-4),  # which rounds queries, keys and angles to bf16, as published
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_computes_what_a_plain_forward_pass_does(name: str, build: Build) -> None:
    drawn, plainly, near = FILES[name]
    state, spec = drawn(), ENCODERS[name]
    side = spec.input_px
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side))[..., None] * [1, 2, 3]
    tiles: Any = np.stack([ramp % 256, 255 - ramp % 128, (ramp * 7) % 200]).astype(np.uint8)
    pixels = Transform(side, side, spec.mean, spec.std)(torch.from_numpy(tiles))
    seen, expected = build(name, state).encode(tiles, 0.5), plainly(state, pixels).numpy()
    most = float(np.abs(expected).max())
    assert expected.std(axis=0).max() > 5 * near * most, "tiles are told apart"
    np.testing.assert_allclose(seen, expected, atol=near * most)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_model_is_refused_by_name(name: str, build: Build) -> None:
    other = next(one for one in FILES if one != name)
    with pytest.raises(WeightsError, match=r"not the weights of this encoder.*missing \("):
        build(name, FILES[other][0]())
    state = FILES[name][0]()
    lost = next(key for key in state if key.endswith((".fc1.weight", "w1.weight")))
    with pytest.raises(WeightsError, match=r"1 missing"):
        build(name, {key: value for key, value in state.items() if key != lost})


@pytest.mark.parametrize("name", ["rudolfv2", "RudolfV-2-B", "ctranspath", "virchow2g"])
def test_what_is_not_computed_here_says_why_and_the_way(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} is not computed here: .*wsisurv import FOLDER --encoder {name}"):
        resolve_settings(name)
    assert not NOT_COMPUTED.keys() & ENCODERS.keys()
