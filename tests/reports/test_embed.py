"""Text encoders that are models of language, without any model: what is asked of them, and what of their faults."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from wsisurv.errors import ModelNotPulledError, OllamaUnavailableError, WeightsError
from wsisurv.reports.embed import open_text_encoder


class FakeTransformer:
    """What is used of sentence_transformers.SentenceTransformer: a window of four words, one number a text."""

    max_seq_length = 4

    def __init__(self, folder: str, *, local_files_only: bool) -> None:
        assert local_files_only
        if not (Path(folder) / "config.json").exists():
            raise OSError("no config.json")

    def tokenizer(self, texts: list[str], *, truncation: bool) -> dict[str, list[list[str]]]:
        assert not truncation
        return {"input_ids": [text.split() for text in texts]}

    def encode(self, texts: list[str], **options: Any) -> Any:
        assert options["show_progress_bar"] is False
        return np.array([[len(text), 1.0] for text in texts], np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = FakeTransformer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return tmp_path


class TestSentenceTransformers:
    def test_gives_a_vector_a_text_in_batches(self, folder: Path) -> None:
        texts = ["x" * (1 + number % 7) for number in range(150)]
        with open_text_encoder(f"st:{folder}") as encoder:
            assert encoder is not None
            values = encoder.encode(texts)
            assert encoder.encode([]).shape[0] == 0
        assert values.shape == (150, 2)
        assert values.dtype == np.float32
        assert values[:, 0].tolist() == [len(text) for text in texts]

    def test_text_that_would_be_cut_gets_no_vector(self, folder: Path) -> None:
        with open_text_encoder(f"st:{folder}") as encoder:
            assert encoder is not None
            values = encoder.encode(["one", "one two three four five"])
        assert np.isnan(values).tolist() == [[False, False], [True, True]]
        assert encoder.refused == ["5 tokens are more than the model's window of 4"]

    def test_digest_follows_the_files(self, folder: Path) -> None:
        digests = []
        for weights in (b"a", b"b", b"a"):
            (folder / "model.safetensors").write_bytes(weights)
            with open_text_encoder(f"st:{folder}") as encoder:
                assert encoder is not None
                digests.append(encoder.digest)
        assert digests[0] == digests[2] != digests[1]

    def test_licence_against_commercial_use_is_told(self, folder: Path) -> None:
        with open_text_encoder(f"st:{folder}") as encoder:
            assert encoder is not None
            assert "cc-by-nc" in str(encoder.license_note)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
        with open_text_encoder(f"st:{folder}") as encoder:
            assert encoder is not None
            assert encoder.license_note is None

    def test_folder_without_a_model_is_told(self, folder: Path) -> None:
        (folder / "config.json").unlink()
        with pytest.raises(WeightsError, match="no config.json"), open_text_encoder(f"st:{folder}"):
            pass

    def test_missing_package_says_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sentence_transformers", None)
        with (
            pytest.raises(WeightsError, match="pip install sentence-transformers"),
            open_text_encoder(f"st:{tmp_path}"),
        ):
            pass


class TestOllama:
    def test_model_that_does_not_embed_is_refused(self, ollama_server: Any) -> None:
        with (
            pytest.raises(ModelNotPulledError, match="not for embedding"),
            open_text_encoder("ollama:tiny", host=ollama_server.url),
        ):
            pass

    def test_no_vector_at_all_is_an_error(self, ollama_server: Any) -> None:
        ollama_server.shown["capabilities"] = ["embedding"]
        with open_text_encoder("ollama:tiny", host=ollama_server.url) as encoder:
            assert encoder is not None
            with pytest.raises(OllamaUnavailableError, match="no vector at all.*context length"):
                encoder.encode(["too long", "also too long"])

    def test_elsewhere_is_refused(self) -> None:
        with (
            pytest.raises(OllamaUnavailableError, match="patient text"),
            open_text_encoder("ollama:tiny", host="gpu.example.org"),
        ):
            pass


def test_what_needs_nothing_opens_nothing() -> None:
    for name in ("hashing", "tfidf"):
        with open_text_encoder(name) as encoder:
            assert encoder is None
