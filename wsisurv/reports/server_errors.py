"""What an Ollama server's refusals mean: wait, shorten the prompt, get the model, or stop the run."""

import re

from wsisurv.errors import BackendError, ModelNotPulledError, OllamaUnavailableError

_TOO_LONG = re.compile(r"exceed\w* (the |\w+ )*context|context (length|size|window)|(input|prompt)\b.* too long", re.I)
_PERMANENT = re.compile(
    r"out of memory|(more|insufficient|not enough|available) (\w+ )*memory|memory (\w+ )*(exhausted|insufficient)"
    r"|(unable|failed|cannot|can't|could ?n.t|error)\b.{0,40}\b(load|alloc|open|read)\w*\b.{0,20}\b(model|buff)"
    r"|fail\w* to load|error loading|unable to alloc|(cuda|hip|metal|vulkan|rocm|ggml)\w*[ :_].{0,30}(error|fail)"
    r"|process (has terminated|no longer)|(unknown|unsupported|invalid) (\w+ )*(architecture|model|gguf|file)"
    r"|no space left|no such file|not (a )?supported|does not support|permission denied|corrupt|digest mismatch",
    re.I,
)
"""Words of errors that asking again, or about another report, would only repeat."""
SHOWN = 300
"""Characters of a server's words that a message repeats."""


class ServerBusyError(OllamaUnavailableError):
    """The server is busy, restarting, or dropped the connection: waiting may help."""


class ServerBrokenError(OllamaUnavailableError):
    """Nothing that is asked of the server or its model will be answered: the run has to stop."""


class ServerSlowError(OllamaUnavailableError):
    """No piece of an answer came in time: asking again would take as long."""


class PromptTooLongError(BackendError):
    """The prompt has more tokens than the context: a shorter one may fit."""


class UnfinishedError(BackendError):
    """The stream ended properly but without its last piece: the server broke off, as it does on endless repetition."""


def refusal(url: str, status: int, words: str) -> BackendError:
    """The error that a status and the server's words stand for."""
    words = words.strip()[:SHOWN] or "no words"
    if _TOO_LONG.search(words):
        return PromptTooLongError(f"{url}: {words}")
    if status == 404:
        return ModelNotPulledError(f"{url}: {words}")
    if status in {401, 403} or (status not in {408, 429, 503} and _PERMANENT.search(words)):
        return ServerBrokenError(f"{url}: {words} (status {status})")
    if status in {408, 429} or status >= 500:
        return ServerBusyError(f"{url}: {words} (status {status})")
    return OllamaUnavailableError(f"{url}: {words} (status {status})")
