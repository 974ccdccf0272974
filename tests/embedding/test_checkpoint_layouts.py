"""Files whose tensors are named otherwise than timm's: small ones of each layout, against plain forward passes."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as fn

from wsisurv.embedding import encoders
from wsisurv.embedding.encoder_row import EncoderSpec
from wsisurv.embedding.encoders import build_encoder
from wsisurv.embedding.network import ModelEncoder, Transform
from wsisurv.embedding.table import ENCODERS
from wsisurv.errors import WeightsError
from wsisurv.settings.base import file_sha256
from wsisurv.settings.embedding import EmbedSettings

State = dict[str, torch.Tensor]
WIDTH, DEPTH, HEADS = 24, 3, 3
REGISTERS = ("openmidnight", "hibou-b", "hibou-l", "mettle", "mettle-mean")
NAMES = [*(name for name, spec in ENCODERS.items() if spec.layout not in ("timm", "musk")), "openmidnight"]


@dataclass(frozen=True)
class Small:
    """A small network of a row, its tensors by what they are for, and how they are named in its file."""

    spec: EncoderSpec
    parts: State
    file: State


def _parts(spec: EncoderSpec, grid: int) -> State:
    random = torch.Generator().manual_seed(3)
    patch = int(spec.architecture.partition("patch")[2][:2])
    gated = spec.swiglu or "giant" in spec.architecture
    hidden = int(WIDTH * float(str(spec.kwargs.get("mlp_ratio", 2.66667 * 2 if gated else 4))))
    shapes: dict[str, tuple[int, ...]] = {
        "cls": (1, 1, WIDTH),
        "mask": (1, WIDTH),
        "pos": (1, 1 + grid**2, WIDTH),
        "patch.weight": (WIDTH, 3, patch, patch),
        "patch.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    if spec.name in REGISTERS:
        shapes["registers"] = (1, 4, WIDTH)
    for block in range(DEPTH):
        for linear, size in {
            **dict.fromkeys("qkvo", (WIDTH, WIDTH)),
            "in": (hidden, WIDTH),
            "out": (WIDTH, hidden // 2 if gated else hidden),
        }.items():
            shapes[f"{block}.{linear}.weight"], shapes[f"{block}.{linear}.bias"] = size, size[:1]
        for norm in ("norm1", "norm2"):
            shapes[f"{block}.{norm}.weight"] = shapes[f"{block}.{norm}.bias"] = (WIDTH,)
        if "init_values" in spec.kwargs:
            shapes[f"{block}.scale1"] = shapes[f"{block}.scale2"] = (WIDTH,)
    if spec.head == "projection":
        shapes |= {"head.0.weight": (768, WIDTH), "head.0.bias": (768,), "head.2.weight": (768, 768)}
        shapes["head.2.bias"] = (768,)
    if spec.head == "attention":
        shapes |= {"head.query": (1, 768), "head.to_kv.weight": (2 * 768, WIDTH)}
        shapes |= dict.fromkeys(("head.to_q.weight", "head.to_out.weight"), (768, 768))
        for norm, n in (("ln_k", WIDTH), ("ln_q", 768), ("ln_contrast", 768)):
            shapes |= dict.fromkeys((f"head.{norm}.weight", f"head.{norm}.bias"), (n,))
    if spec.head == "coca":
        shapes |= {"head.query": (1, 512), "head.attn.q_proj_weight": (512, 512), "head.attn.in_proj_bias": (3 * 512,)}
        shapes |= dict.fromkeys(("head.attn.k_proj_weight", "head.attn.v_proj_weight"), (512, WIDTH))
        shapes |= {"head.attn.out_proj.weight": (512, 512), "head.attn.out_proj.bias": (512,)}
        for norm, n in (("ln_k", WIDTH), ("ln_q", 512), ("ln_contrast", 512)):
            shapes |= dict.fromkeys((f"head.{norm}.weight", f"head.{norm}.bias"), (n,))
    if spec.head == "refinement":
        shapes |= {"head.P": (16, WIDTH, 8), "head.Q": (16, WIDTH, 8)}
        for name, out in (("mix", 16), ("shift", WIDTH)):
            shapes |= {f"head.{name}.0.weight": (256, WIDTH), f"head.{name}.0.bias": (256,)}
            shapes |= {f"head.{name}.2.weight": (out, 256), f"head.{name}.2.bias": (out,)}
    return {name: 0.2 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


def _as_transformers(parts: State) -> State:
    """Names that the package transformers gives DINOv2, with registers and without."""
    fixed = {
        "cls": "embeddings.cls_token",
        "mask": "embeddings.mask_token",
        "pos": "embeddings.position_embeddings",
        "registers": "embeddings.register_tokens",
        "patch": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
    }
    gated = parts["0.in.bias"].shape[0] != parts["0.out.weight"].shape[1]
    of_block = {
        "q": "attention.attention.query",
        "k": "attention.attention.key",
        "v": "attention.attention.value",
        "o": "attention.output.dense",
        "scale1": "layer_scale1.lambda1",
        "scale2": "layer_scale2.lambda1",
        "in": "mlp.weights_in" if gated else "mlp.fc1",
        "out": "mlp.weights_out" if gated else "mlp.fc2",
    }
    found: State = {}
    for name, value in parts.items():
        first, _, rest = name.partition(".")
        if first.isdecimal():
            what, _, kind = rest.partition(".")
            named = f"encoder.layer.{first}.{of_block.get(what, what)}"
            found[f"{named}.{kind}" if kind else named] = value
        else:
            found[f"{fixed[first]}.{rest}" if rest else fixed[first]] = value
    return found


def _as_dinov2(parts: State, *, chunk: int | None = None) -> State:
    """Names of DINOv2's training code; ``chunk`` blocks in each of its chunks."""
    fixed = {"cls": "cls_token", "mask": "mask_token", "pos": "pos_embed", "registers": "register_tokens"}
    gated = parts["0.in.bias"].shape[0] != parts["0.out.weight"].shape[1]
    of_block = {"o": "attn.proj", "scale1": "ls1.gamma", "scale2": "ls2.gamma"}
    of_block |= {"in": "mlp.w12", "out": "mlp.w3"} if gated else {"in": "mlp.fc1", "out": "mlp.fc2"}
    found: State = {}
    for name, value in parts.items():
        first, _, rest = name.partition(".")
        if not first.isdecimal():
            named = fixed.get(first, name)
            found[named.replace("patch.", "patch_embed.proj.") if named.startswith("patch.") else named] = value
            continue
        what, _, kind = rest.partition(".")
        before = f"blocks.{first}" if chunk is None else f"blocks.{int(first) // chunk}.{first}"
        if what in ("k", "v"):
            continue
        if what == "q":
            found[f"{before}.attn.qkv.{kind}"] = torch.cat([parts[f"{first}.{one}.{kind}"] for one in "qkv"])
        else:
            found[f"{before}.{of_block.get(what, what)}" + (f".{kind}" if kind else "")] = value
    return found


def _as_timm(parts: State) -> State:
    """Names of timm with the class token's position in the token where there are registers, as timm saves it."""
    found = {
        name.replace(".w12.", ".fc1.").replace(".w3.", ".fc2."): value for name, value in _as_dinov2(parts).items()
    }
    del found["mask_token"]
    if "register_tokens" in found:
        found["reg_token"] = found.pop("register_tokens")
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    return found


def _named(spec: EncoderSpec, parts: State) -> State:
    trunk = {name: value for name, value in parts.items() if not name.startswith("head.")}
    head = {name: value for name, value in parts.items() if name.startswith("head.")}
    if spec.layout == "transformers-dinov2":
        before = "model.encoder_inside." if spec.name in ("phaet", "mascaret") else ""
        return {before + name: value for name, value in _as_transformers(trunk).items()}
    if spec.layout == "dinov2-in-chunks":
        return _as_dinov2(trunk, chunk=2)
    if spec.layout == "mettle":
        return {f"backbone.{name}": value for name, value in _as_timm(trunk).items()} | head
    if spec.layout in ("conch-v1", "conch-v1.5"):
        pooler = {name.replace("head.", "attn_pool_contrast."): value for name, value in head.items()}
        pooler = {
            name.replace("attn_pool_contrast.ln_contrast", "ln_contrast"): value for name, value in pooler.items()
        }
        found = {f"trunk.{name}": value for name, value in _as_timm(trunk).items()} | pooler
        if spec.layout == "conch-v1.5":
            return found
        words = {"text.cls_emb": torch.zeros(3), "text_decoder.text_projection": torch.zeros(3, 3)}
        words |= {"visual.proj_contrast": torch.zeros(512, 512), "visual.ln_caption.bias": torch.zeros(3)}
        words |= {"visual.attn_pool_caption.query": torch.zeros(4, 3), "logit_scale": torch.zeros(())}
        return {f"visual.{name}": value for name, value in found.items()} | words
    if spec.layout == "keep":
        visual = {
            f"visual.{name}".replace("ls1.gamma", "ls1.weight").replace("ls2.gamma", "ls2.weight"): value
            for name, value in _as_timm(trunk).items()
        }
        words = {"text.embeddings.word_embeddings.weight": torch.zeros(5, 2), "logit_scale": torch.zeros(())}
        return visual | {f"visual_{name}": value for name, value in head.items()} | words
    return _as_dinov2(trunk)


def _small(name: str, grid: int | None = None) -> Small:
    spec = ENCODERS[name]
    of_patch = spec.input_px // int(spec.architecture.partition("patch")[2][:2])
    parts = _parts(spec, grid or of_patch)
    kwargs = {**spec.kwargs, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return Small(replace(spec, kwargs=kwargs), parts, _named(spec, parts))


def _linear(parts: State, name: str, values: torch.Tensor) -> torch.Tensor:
    return values @ parts[f"{name}.weight"].T + parts[f"{name}.bias"]


def _norm(parts: State, name: str, values: torch.Tensor) -> torch.Tensor:
    spread = (values.var(-1, unbiased=False, keepdim=True) + (1e-5 if name.startswith("head.") else 1e-6)).sqrt()
    return (values - values.mean(-1, keepdim=True)) / spread * parts[f"{name}.weight"] + parts[f"{name}.bias"]


def _tokens(parts: State, pixels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """DINOv2 as its paper and the vision transformer's say."""
    patch = parts["patch.weight"].shape[-1]
    squares = pixels.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    patches = squares @ parts["patch.weight"].flatten(1).T + parts["patch.bias"]
    n = len(pixels)
    tokens = torch.cat([parts["cls"].expand(n, -1, -1), patches], 1) + positions
    if "registers" in parts:
        tokens = torch.cat([tokens[:, :1], parts["registers"].expand(n, -1, -1), tokens[:, 1:]], 1)
    for block in range(DEPTH):
        seen = _norm(parts, f"{block}.norm1", tokens)
        q, k, v = (_linear(parts, f"{block}.{one}", seen).unflatten(-1, (HEADS, -1)).transpose(1, 2) for one in "qkv")
        weights = (q @ k.transpose(-1, -2) / (WIDTH / HEADS) ** 0.5).softmax(-1)
        mixed = _linear(parts, f"{block}.o", (weights @ v).transpose(1, 2).flatten(2))
        tokens = tokens + parts.get(f"{block}.scale1", 1) * mixed
        inner = _linear(parts, f"{block}.in", _norm(parts, f"{block}.norm2", tokens))
        if inner.shape[-1] != parts[f"{block}.out.weight"].shape[1]:
            first, second = inner.chunk(2, -1)
            inner = first * first.sigmoid() * second
        else:
            inner = 0.5 * inner * (1 + torch.erf(inner / 2**0.5))
        tokens = tokens + parts.get(f"{block}.scale2", 1) * _linear(parts, f"{block}.out", inner)
    return _norm(parts, "norm", tokens)


def _expected(small: Small, pixels: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
    spec, parts = small.spec, small.parts
    tokens = _tokens(parts, pixels, parts["pos"] if positions is None else positions)
    first = tokens[:, 0]
    if spec.head == "projection":
        first = _linear(parts, "head.2", fn.gelu(_linear(parts, "head.0", first)))
    if spec.head == "attention":
        seen = _norm(parts, "head.ln_k", tokens) @ parts["head.to_kv.weight"].T
        query = _norm(parts, "head.ln_q", parts["head.query"]) @ parts["head.to_q.weight"].T
        pooled = []
        for at in range(0, 768, 96):  # eight heads
            keys, values = seen[..., at : at + 96], seen[..., 768 + at : 768 + at + 96]
            pooled.append(((keys @ query[0, at : at + 96] / 96**0.5).softmax(-1)[..., None] * values).sum(1))
        first = _norm(parts, "head.ln_contrast", torch.cat(pooled, -1) @ parts["head.to_out.weight"].T)
    if spec.head == "coca":
        seen, query = _norm(parts, "head.ln_k", tokens), _norm(parts, "head.ln_q", parts["head.query"])[0]
        of_q, of_k, of_v = parts["head.attn.in_proj_bias"].chunk(3)
        query = parts["head.attn.q_proj_weight"] @ query + of_q
        keys, values = (
            seen @ parts["head.attn.k_proj_weight"].T + of_k,
            seen @ parts["head.attn.v_proj_weight"].T + of_v,
        )
        pooled = []
        for at in range(0, 512, 64):  # eight heads
            part = slice(at, at + 64)
            shares = (keys[..., part] @ query[part] / 8).softmax(-1)
            pooled.append((shares[..., None] * values[..., part]).sum(1))
        first = _norm(parts, "head.ln_contrast", _linear(parts, "head.attn.out_proj", torch.cat(pooled, -1)))
    if spec.head == "refinement":
        shares, shift = (
            _linear(parts, f"head.{one}.2", fn.gelu(_linear(parts, f"head.{one}.0", first))) for one in ("mix", "shift")
        )
        refined = first + shift
        for atom in range(16):
            refined = refined + shares[:, atom : atom + 1] * (first @ parts["head.P"][atom] @ parts["head.Q"][atom].T)
        first = refined
    if spec.pooling == "class+mean":
        first = torch.cat([first, tokens[:, 5 if "registers" in parts else 1 :].mean(1)], -1)
    return first / first.norm(dim=-1, keepdim=True) if spec.unit_length else first


def _loaded(small: Small, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModelEncoder:
    path = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in small.file.items()}, path)
    monkeypatch.setattr(encoders, "find_spec", lambda _: small.spec)
    settings = EmbedSettings(encoder=small.spec.name, weights=f"sha256:{file_sha256(path)}")
    built = build_encoder(settings, path, "cpu")
    assert isinstance(built, ModelEncoder)
    return built


def _pixels(small: Small) -> tuple[Any, torch.Tensor]:
    side = small.spec.input_px
    tiles = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    return tiles, Transform(side, side, small.spec.mean, small.spec.std)(torch.from_numpy(tiles))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_each_layout_computes_what_a_plain_forward_pass_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    small = _small(name)
    tiles, pixels = _pixels(small)
    seen = _loaded(small, tmp_path, monkeypatch).encode(tiles, 0.5)
    expected = _expected(small, pixels).numpy()
    most = float(np.abs(expected).max())
    assert expected.std(axis=0).max() > 3e-3 * most, "tiles are told apart"
    np.testing.assert_allclose(seen, expected, atol=5e-5 * most)


def test_positions_of_another_grid_are_brought_to_ours_as_transformers_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = _small("phikon-v2", grid=37)
    tiles, pixels = _pixels(small)
    positions = small.parts["pos"]
    patches = positions[:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    patches = fn.interpolate(patches, (14, 14), mode="bicubic", align_corners=False)
    positions = torch.cat([positions[:, :1], patches.flatten(2).transpose(1, 2)], 1)
    seen = _loaded(small, tmp_path, monkeypatch).encode(tiles, 0.5)
    np.testing.assert_allclose(seen, _expected(small, pixels, positions).numpy(), atol=5e-5)


@pytest.mark.parametrize("name", ["conch-v1", "conch-v1.5"])
def test_conchs_positions_of_another_grid_are_brought_to_ours_as_its_loader_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Bilinear, without smoothing."""
    small = _small(name, grid=14)
    tiles, pixels = _pixels(small)
    positions = small.parts["pos"]
    patches = fn.interpolate(positions[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2), (28, 28), mode="bilinear")
    positions = torch.cat([positions[:, :1], patches.flatten(2).transpose(1, 2)], 1)
    seen = _loaded(small, tmp_path, monkeypatch).encode(tiles, 0.5)
    np.testing.assert_allclose(seen, _expected(small, pixels, positions).numpy(), atol=5e-5)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("crown", "phikon-v2"),
        ("conch-v1.5", "keep"),
        ("conch-v1", "conch-v1.5"),
        ("conch-v1.5", "conch-v1"),
        ("phikon-v2", "crown"),
        ("keep", "phaet"),
        ("mettle", "openmidnight"),
    ],
)
def test_a_file_of_another_layout_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, other: str
) -> None:
    small = replace(_small(name), file=_small(other).file)
    with pytest.raises(WeightsError, match=r"not the weights of this encoder.*missing \("):
        _loaded(small, tmp_path, monkeypatch)


def test_what_no_rule_knows_is_refused_and_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = _small("mascaret")
    small.file["projector.weight"] = torch.zeros(2, 2)
    with pytest.raises(WeightsError, match=r"1 unexpected \(projector\.weight\)"):
        _loaded(small, tmp_path, monkeypatch)
    del small.file["projector.weight"]
    del small.file["model.encoder_inside.encoder.layer.2.attention.attention.value.bias"]
    with pytest.raises(WeightsError, match=r"blocks\.2\.attn\.qkv\.bias"):
        _loaded(small, tmp_path, monkeypatch)


def test_conchs_tiles_of_512_pixels_become_448(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = _loaded(_small("conch-v1.5"), tmp_path, monkeypatch)
    said = built.making.transform
    assert (said["resize_px"], said["input_px"], said["interpolation"]) == (448, 448, "bilinear")
    assert built.encode(np.zeros((2, 512, 512, 3), np.uint8), 0.5).shape == (2, 768)


def test_crown_is_resampled_as_its_authors_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = _loaded(_small("crown"), tmp_path, monkeypatch)
    assert built.making.transform["interpolation"] == "bilinear"
