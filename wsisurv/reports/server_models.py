"""What an Ollama server tells of itself and of its models: version, tag, context, and where a model runs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsisurv.errors import OllamaUnavailableError

_OLDEST = (0, 12, 6)
"""The first release whose /api/chat knows ``truncate`` and ``shift``; an older one passes over them in silence."""
_UNKNOWN_CONTEXT = 4096
"""Tokens taken as a model's context where the server tells none."""


@dataclass(frozen=True)
class Model:
    """A model as the server tells it."""

    name: str  # full name, with its tag
    digest: str  # sha256 of the model
    context_length: int  # tokens that it was made for
    thinks: bool  # True when it can write thinking text before its answer
    server_version: str  # the server's, e.g. ``0.12.6``.
    license: str = ""  # the text of its licence; empty where the server tells none
    runs_at: str = ""  # the machine that the server would send the text to; empty for this server itself


def check_version(url: str, version: str) -> None:
    """Refuse a server that is too old, or none of Ollama's.

    Raises:
        OllamaUnavailableError: it is.
    """
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if not numbers:
        raise OllamaUnavailableError(f"{url} answers, but tells no Ollama version. Is it another program?")
    release = tuple(int(number) for number in numbers.groups())
    if release != (0, 0, 0) and release < _OLDEST:  # 0.0.0 is a build of one's own
        wanted = ".".join(map(str, _OLDEST))
        raise OllamaUnavailableError(
            f"{url} is Ollama {version}, which cuts long prompts in silence. Update it to {wanted} or newer."
        )


def context_length(shown: Mapping[str, Any]) -> int:
    """Tokens that a model was made for, of the answer of /api/show."""
    info = shown.get("model_info") or {}
    lengths = [value for key, value in info.items() if key.endswith(".context_length") and isinstance(value, int)]
    return lengths[0] if lengths else _UNKNOWN_CONTEXT


def runs_at(*told: Mapping[str, Any]) -> str:
    """Machine to which the server sends what a model is asked; empty for itself."""
    told_of = {key: value for entry in told for key, value in entry.items() if value}
    return str(told_of.get("remote_host") or ("another machine" if told_of.get("remote_model") else ""))


def with_tag(name: str) -> str:
    """A model's full name: without a tag, ``latest`` is meant."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def text_leaves(model: str, host: str) -> OllamaUnavailableError:
    """The error for a model that runs elsewhere."""
    return OllamaUnavailableError(
        f"{model} runs at {host}: patient text would leave this machine. Choose a local model, or give --allow-remote "
        "if it may."
    )
