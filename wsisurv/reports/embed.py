"""Text encoders that are models of language: MiniLM, one of an Ollama server, or a folder of sentence-transformers.

What is too long for a model is told: MiniLM reads its first 256 word pieces, the others give it no vector.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import BackendError, OllamaUnavailableError, SettingsError, WeightsError
from wsisurv.reports.blotting import blotted
from wsisurv.reports.ollama import Server
from wsisurv.reports.vectors import KNOWN
from wsisurv.settings.base import file_sha256

EMBEDDED = ("hashing", "tfidf")
"""Text encoders that need nothing but this package."""
_BATCH = 64
_NON_COMMERCIAL = re.compile(r"non-?commercial|\bcc[- ]by[- ]nc\b", re.IGNORECASE)


@dataclass
class TextEncoder:
    """An encoder that is ready to work."""

    name: str  # as it was asked for, e.g. ``ollama:nomic-embed-text``.
    digest: str  # sha256 of its weights
    license: str  # the text or name of its licence; empty where it tells none
    # gives a vector for each of some texts, or the reason why there is none
    vectors: Callable[[Sequence[str]], Sequence[Sequence[float] | str]]
    refused: list[str] = field(default_factory=list)  # reasons of all texts that got no vector, filled by ``encode``
    # number of texts so far of which only the beginning was read
    cut: Callable[[], int] = lambda: 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of ``texts``, float32 (n_texts, n_dimensions); a row of NaN for a text that is refused.

        Raises:
            OllamaUnavailableError: the server fails, or gives vectors of different lengths, or none at all.
        """
        rows: list[Sequence[float] | None] = []
        for start in range(0, len(texts), _BATCH):
            for given in self.vectors(texts[start : start + _BATCH]):
                if isinstance(given, str):
                    self.refused.append(given)
                rows.append(None if isinstance(given, str) else given)
        lengths = {len(row) for row in rows if row is not None}
        if len(lengths) != 1 and texts:
            what = f"vectors of {sorted(lengths)} numbers" if lengths else f"no vector at all: {self.refused[0]}"
            raise OllamaUnavailableError(f"{self.name} gives {what}.")
        blank = [np.nan] * max(lengths, default=0)
        return np.array([blank if row is None else row for row in rows], np.float32).reshape(len(rows), len(blank))

    @property
    def license_note(self) -> str | None:
        """A line for a person where the licence forbids commercial use."""
        found = _NON_COMMERCIAL.search(self.license)
        return (
            f"text encoder {self.name}: its licence is {found.group()!r}; mind what you use it for" if found else None
        )

    @property
    def cut_note(self) -> str | None:
        """A line for a person where texts were cut."""
        told = f"text encoder {self.name}: of {self.cut()} statements only the beginning was read, as far as it can"
        return told if self.cut() else None


@contextmanager
def open_text_encoder(
    name: str,
    *,
    host: str | None = None,
    allow_remote: bool = False,
    pull: bool = False,
    timeout_s: float = 600,
    progress: Progress = no_progress,
) -> Iterator[TextEncoder | None]:
    """Make an encoder ready before any work, so that a name that can't be doesn't cost a night.

    Args:
        name: ``hashing`` or ``tfidf`` (None is given: they need nothing), ``minilm`` (the installed wheel),
            ``minilm:PATH``, ``ollama:MODEL``, or ``st:PATH``.
        host: the Ollama server, as ``server_url`` takes it.
        allow_remote: accept a host or a model that is not on this machine.
        pull: fetch the model where the server does not have it.
        timeout_s: seconds to wait for a batch.
        progress: told while a model is fetched.

    Raises:
        SettingsError: no such encoder.
        BackendError: as ``Server`` and ``Server.find_model``.
        WeightsError: tokenizers or sentence-transformers is not installed, or ``PATH`` holds no such model.
    """
    kind, _, where = name.partition(":")
    if name in EMBEDDED:
        yield None
    elif kind == "ollama" and where:
        with Server(host, allow_remote=allow_remote, timeout_s=timeout_s) as server:
            model = server.find_model(where, able="embedding", pull=pull, progress=progress)

            def vectors(texts: Sequence[str]) -> Sequence[Sequence[float] | str]:
                try:
                    embedded = server.embed(model.name, texts)
                    server.require_same(model)
                except BackendError as error:
                    raise type(error)(blotted(str(error), " ".join(texts))) from None
                return [
                    blotted(embedded.refused[at], texts[at]) if row is None else row
                    for at, row in enumerate(embedded.vectors)
                ]

            yield TextEncoder(name, model.digest, model.license, vectors)
    elif kind == "minilm" and (where or name == kind):
        from wsisurv.reports.minilm import MiniLM  # torch takes seconds to load

        model_here = MiniLM(Path(where) if where else None)
        yield TextEncoder(name, model_here.digest, "apache-2.0", model_here.vectors, cut=lambda: model_here.cut)
    elif kind == "st" and where:
        yield _sentence_transformer(name, Path(where))
    else:
        raise SettingsError(f"text encoder {name!r} is unknown. Known: {KNOWN}.")


def _sentence_transformer(name: str, folder: Path) -> TextEncoder:
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such folder. Save a sentence-transformers model there and name it st:PATH.")
    try:
        sentence_transformers = import_module("sentence_transformers")
    except ImportError as error:
        raise WeightsError(
            f"{name} needs sentence-transformers: `pip install sentence-transformers`, or take --text-encoder hashing."
        ) from error
    try:
        model: Any = sentence_transformers.SentenceTransformer(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}: no sentence-transformers model ({error}).") from error

    def vectors(texts: Sequence[str]) -> Sequence[Sequence[float] | str]:
        window = model.max_seq_length
        lengths = [len(tokens) for tokens in model.tokenizer(list(texts), truncation=False)["input_ids"]]
        rows = model.encode(list(texts), batch_size=_BATCH, show_progress_bar=False, convert_to_numpy=True)
        return [
            f"{length} tokens are more than the model's window of {window}" if window and length > window else row
            for row, length in zip(rows, lengths, strict=True)
        ]

    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace")[:4000] if card.exists() else ""
    found = re.search(r"^license:\s*(\S+)", text, re.MULTILINE)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    digest = sha256("".join(f"{file.relative_to(folder)} {file_sha256(file)}\n" for file in files).encode())
    return TextEncoder(name, digest.hexdigest(), found.group(1) if found else "", vectors)
