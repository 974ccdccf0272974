"""An Ollama server, spoken to properly: what is there, one question, one answer, and every way that can fail.

Two clients speak. The ``ollama`` client does what it can do: pulling a model and embedding texts. httpx does the rest,
because the client (0.6) leaves out what matters here: ``chat()`` has no ``truncate`` and no ``shift``, without which
the server drops the middle of a prompt that is too long and answers 200 as if nothing had happened; ``list()`` and
``show()`` drop ``remote_host`` and ``remote_model``, which tell a cloud model from a local one; and there is no call
for the server's version. Neither client follows a redirect or takes a proxy from the environment: both would carry
patient text to a machine that nobody named.

Answers are streamed, so a server that stalls is noticed by the time between two pieces, however long the whole takes.
"""

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import httpx
import ollama

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import BackendError, ModelNotPulledError, OllamaUnavailableError, SettingsError
from wsisurv.reports.host import is_this_machine, server_url

_OLDEST = (0, 12, 6)
"""The first release whose /api/chat knows ``truncate`` and ``shift``; an older one passes over them in silence."""
_UNKNOWN_CONTEXT = 4096
"""Tokens taken as a model's context where the server tells none."""
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
_SHOWN = 300


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


@dataclass(frozen=True)
class Model:
    """A model as the server tells it.

    Attributes:
        name: full name, with its tag.
        digest: sha256 of the model.
        context_length: tokens that it was made for.
        thinks: True when it can write thinking text before its answer.
        server_version: the server's, e.g. ``0.12.6``.
        license: the text of its licence; empty where the server tells none.
        runs_at: the machine that the server would send the text to; empty for this server itself.
    """

    name: str
    digest: str
    context_length: int
    thinks: bool
    server_version: str
    license: str = ""
    runs_at: str = ""


@dataclass(frozen=True)
class Reply:
    """A finished answer.

    Attributes:
        content: what the model said, thinking text not included.
        done_reason: why it ended: ``stop``, ``length``, or another word of the server.
        prompt_tokens: tokens of the prompt that the server says it read; None where it says nothing.
        answer_tokens: tokens of the answer; None where it says nothing.
    """

    content: str
    done_reason: str
    prompt_tokens: int | None
    answer_tokens: int | None


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts.

    Attributes:
        vectors: one a text, in order; None for a text that the server refuses.
        refused: the server's words for each text that it refuses, by its place.
    """

    vectors: tuple[tuple[float, ...] | None, ...]
    refused: Mapping[int, str]


class Server(AbstractContextManager["Server"]):
    """A connection to one Ollama server; close it, or use it in a ``with`` block.

    Args:
        host: address, as ``server_url`` takes it.
        allow_remote: accept a host or a model that is not on this machine.
        timeout_s: seconds to wait for the next piece of an answer. The first one comes after the model is loaded and
            the prompt is read, which takes minutes without a graphics card.
        connections: questions under way at once.

    Raises:
        SettingsError: the host is no address.
        OllamaUnavailableError: the host is another machine and ``allow_remote`` is False.
    """

    def __init__(
        self, host: str | None = None, *, allow_remote: bool = False, timeout_s: float = 600, connections: int = 1
    ) -> None:
        self.url = server_url(host)
        self._allow_remote = allow_remote
        self._timeout_s = timeout_s
        self._sockets: list[socket.socket] = []
        self._traced = {"trace": self._remember_socket}
        if not allow_remote and not is_this_machine(self.url):
            raise OllamaUnavailableError(
                f"{self.url} is not this machine: patient text would leave it. Give --allow-remote if it may, "
                "or run Ollama here."
            )
        timeout = httpx.Timeout(timeout_s, connect=min(10.0, timeout_s), pool=None)
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )
        self._client = ollama.Client(self.url, timeout=timeout, trust_env=False, follow_redirects=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        del kind, error, trace
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._sockets.clear()
        self._http.close()
        self._client.close()  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """Drop every question under way, from any thread: who waits for an answer gets a ServerBusyError at once."""
        for connection in self._sockets:
            with suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)

    def _remember_socket(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            still_open = [connection for connection in self._sockets if connection.fileno() >= 0]
            self._sockets = [*still_open, info["return_value"].get_extra_info("socket")]

    def find_model(
        self,
        name: str | None,
        *,
        able: Literal["completion", "embedding"] = "completion",
        pull: bool = False,
        progress: Progress = no_progress,
    ) -> Model:
        """Look at the server and its model before anything is asked.

        Args:
            name: the model; without a tag, ``latest`` is meant, as for Ollama itself.
            able: what the model must be able to do.
            pull: fetch the model where the server does not have it.
            progress: told bytes done and in all while it is fetched.

        Raises:
            SettingsError: no name.
            OllamaUnavailableError: no server answers, or one that is too old, or none of Ollama's; the model would
                send the text to another machine.
            ModelNotPulledError: the server does not have the model, or it is for something else.
        """
        version = self._version()
        models = self._tags()
        if not name:
            raise SettingsError(f"--model NAME is needed; {self.url} has {_listed(models)}.")
        full = _with_tag(name)
        if not self._allow_remote and full.endswith(("-cloud", ":cloud")):
            raise _leaves(full, "ollama.com")
        if full not in models and pull:
            self._pull(full, progress)
            models = self._tags()
        if full not in models:
            raise ModelNotPulledError(
                f"{self.url} has no model {full!r}; it has {_listed(models)}. Run `ollama pull {name}`, or give --pull."
            )
        shown = self._json("POST", "/api/show", {"model": full})
        runs_at = _runs_at(models[full], shown)
        if not self._allow_remote and runs_at:
            raise _leaves(full, runs_at)
        capabilities = shown.get("capabilities") or []
        if capabilities and able not in capabilities:
            raise ModelNotPulledError(f"{full} is for {', '.join(capabilities)}, not for {able}. Choose another model.")
        return Model(
            name=full,
            digest=str(models[full].get("digest") or ""),
            context_length=_context(shown),
            thinks="thinking" in capabilities,
            server_version=version,
            license=str(shown.get("license") or ""),
            runs_at=runs_at,
        )

    def require_same(self, model: Model) -> None:
        """Look whether the server still has the model that was found, at the place where it was.

        Raises:
            ServerBrokenError: it is gone, another under the same name, or runs elsewhere now.
        """
        entry = self._tags().get(model.name)
        digest = str(entry.get("digest") or "") if entry is not None else "none"
        runs_at = _runs_at(entry or {}, self._json("POST", "/api/show", {"model": model.name}) if entry else {})
        if (digest, runs_at) != (model.digest, model.runs_at):
            there = f"digest {digest[:12]}" + (f", running at {runs_at}" if runs_at else "")
            raise ServerBrokenError(
                f"{self.url}: {model.name} was changed while the run went on (digest {model.digest[:12]} before, now "
                f"{there}). Run the same command again: what is done is kept, or named where it is of another model."
            )

    def chat(
        self,
        model: str,
        messages: Sequence[Mapping[str, str]],
        *,
        schema: Mapping[str, Any],
        options: Mapping[str, float],
        think: bool | None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """Ask once.

        Args:
            model: full name.
            messages: the conversation.
            schema: JSON schema that the answer is held to.
            options: the model's options.
            think: whether to think; None leaves it to the server, and is the only value that a model without thinking
                takes.
            stopped: asked between two pieces; when True the answer is given up.

        Raises:
            ServerBusyError, ServerSlowError, PromptTooLongError, UnfinishedError: as they say.
            ModelNotPulledError: the model is gone.
            OllamaUnavailableError: any other refusal, in the server's words.
        """
        body: dict[str, Any] = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "format": schema,
            "options": dict(options),
            "truncate": False,
            "shift": False,
        }
        if think is not None:
            body["think"] = think
        content: list[str] = []
        with self._explained(), self._http.stream("POST", "/api/chat", json=body, extensions=self._traced) as response:
            self._refuse_status(response)
            for line in response.iter_lines():
                if stopped():
                    raise UnfinishedError("stopped")
                if not line.strip():
                    continue
                piece = _parse_piece(line)
                if "error" in piece:
                    raise self._failure(int(piece.get("status") or 500), str(piece["error"]))
                if (elsewhere := _runs_at(piece)) and not self._allow_remote:
                    raise ServerBrokenError(str(_leaves(model, elsewhere)))
                content.append(str((piece.get("message") or {}).get("content") or ""))
                if piece.get("done") is True:
                    return Reply(
                        content="".join(content),
                        done_reason=str(piece.get("done_reason") or ""),
                        prompt_tokens=_count(piece, "prompt_eval_count"),
                        answer_tokens=_count(piece, "eval_count"),
                    )
        raise UnfinishedError("the server broke off before the last piece of its answer")

    def loaded_context(self, model: str) -> int | None:
        """Context in tokens with which the server has loaded ``model``; None where it does not say.

        Raises:
            OllamaUnavailableError: the server does not answer.
        """
        for entry in self._json("GET", "/api/ps").get("models") or []:
            if _with_tag(str(entry.get("model") or entry.get("name") or "")) == model and entry.get("context_length"):
                return int(entry["context_length"])
        return None

    def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Vectors of ``texts``, none of them cut; a text that the server refuses does not lose the others.

        Raises:
            ServerBusyError, ServerSlowError: as they say.
            ModelNotPulledError: the server does not have the model.
            OllamaUnavailableError: it answers with something else than one vector a text.
        """
        try:
            with self._explained():
                vectors = self._client.embed(model, list(texts), truncate=False).embeddings
        except ollama.ResponseError as error:
            failure = self._failure(error.status_code, str(error.error))
            if error.status_code not in {400, 413} and not isinstance(failure, PromptTooLongError):
                raise failure from error
            if len(texts) == 1:
                return Embedded((None,), {0: str(error.error)[:_SHOWN]})
            middle = len(texts) // 2
            first, second = self.embed(model, texts[:middle]), self.embed(model, texts[middle:])
            refused = {**first.refused, **{middle + place: words for place, words in second.refused.items()}}
            return Embedded(first.vectors + second.vectors, refused)
        if len(vectors) != len(texts):
            raise OllamaUnavailableError(f"{self.url}: {len(vectors)} vectors for {len(texts)} texts")
        return Embedded(tuple(tuple(vector) for vector in vectors), {})

    def _version(self) -> str:
        try:
            version = str(self._json("GET", "/api/version").get("version") or "")
        except (ServerBusyError, ServerSlowError) as error:
            raise OllamaUnavailableError(
                f"{error} Start the server with `ollama serve`, name another with --host or OLLAMA_HOST, or use "
                "--backend rules, which needs none."
            ) from error
        numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
        if not numbers:
            raise OllamaUnavailableError(f"{self.url} answers, but tells no Ollama version. Is it another program?")
        release = tuple(int(number) for number in numbers.groups())
        if release != (0, 0, 0) and release < _OLDEST:  # 0.0.0 is a build of one's own
            wanted = ".".join(map(str, _OLDEST))
            raise OllamaUnavailableError(
                f"{self.url} is Ollama {version}, which cuts long prompts in silence. Update it to {wanted} or newer."
            )
        return version

    def _tags(self) -> dict[str, dict[str, Any]]:
        entries = self._json("GET", "/api/tags").get("models") or []
        return {_with_tag(str(entry.get("model") or entry.get("name"))): entry for entry in entries}

    def _pull(self, name: str, progress: Progress) -> None:
        try:
            with self._explained():
                for step in self._client.pull(name, stream=True):
                    progress(step.completed or 0, step.total or 0, f"pulling {name}: {step.status or ''}")
        except ollama.ResponseError as error:
            raise ModelNotPulledError(f"{self.url} can't pull {name!r}: {str(error.error)[:_SHOWN]}") from error

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        with self._explained():
            response = self._http.request(method, path, json=body, extensions=self._traced)
            self._refuse_status(response)
            try:
                value = response.json()
            except ValueError:
                value = None
        if not isinstance(value, dict):
            raise OllamaUnavailableError(f"{self.url}{path} answers, but not in JSON. Is it another program?")
        return value

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what httpx raises into an error of wsisurv."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise ServerSlowError(f"{self.url}: nothing came for {self._timeout_s:g} seconds.") from error
        except (httpx.ConnectError, ConnectionError) as error:
            raise ServerBusyError(f"No Ollama server answers at {self.url} ({error or 'refused'}).") from error
        except httpx.TransportError as error:
            raise ServerBusyError(f"{self.url}: the connection was dropped ({error}).") from error
        except ValueError as error:  # what the ollama client raises on an answer of another form
            raise OllamaUnavailableError(f"{self.url} answers, but not in Ollama's form.") from error

    def _refuse_status(self, response: httpx.Response) -> None:
        if response.status_code == 200:
            return
        if response.is_redirect:
            target = response.headers.get("location", "elsewhere")
            raise OllamaUnavailableError(f"{self.url} sends on to {target}, which is not followed. Name that host.")
        words = response.read().decode("utf-8", errors="replace")
        try:
            words = str(json.loads(words)["error"])
        except (ValueError, KeyError, TypeError):
            pass  # not Ollama's form of an error: its words as they are
        raise self._failure(response.status_code, words)

    def _failure(self, status: int, words: str) -> BackendError:
        words = words.strip()[:_SHOWN] or "no words"
        if _TOO_LONG.search(words):
            return PromptTooLongError(f"{self.url}: {words}")
        if status == 404:
            return ModelNotPulledError(f"{self.url}: {words}")
        if status in {401, 403} or (status not in {408, 429, 503} and _PERMANENT.search(words)):
            return ServerBrokenError(f"{self.url}: {words} (status {status})")
        if status in {408, 429} or status >= 500:
            return ServerBusyError(f"{self.url}: {words} (status {status})")
        return OllamaUnavailableError(f"{self.url}: {words} (status {status})")


def _parse_piece(line: str) -> dict[str, Any]:
    try:
        piece = json.loads(line)
    except ValueError as error:
        raise ServerBusyError("a piece of the answer is no JSON: it was cut on its way") from error
    return piece if isinstance(piece, dict) else {}


def _count(piece: Mapping[str, Any], key: str) -> int | None:
    value = piece.get(key)
    return value if isinstance(value, int) else None


def _context(shown: Mapping[str, Any]) -> int:
    info = shown.get("model_info") or {}
    lengths = [value for key, value in info.items() if key.endswith(".context_length") and isinstance(value, int)]
    return lengths[0] if lengths else _UNKNOWN_CONTEXT


def _runs_at(*told: Mapping[str, Any]) -> str:
    """Machine to which the server sends what a model is asked; empty for itself."""
    told_of = {key: value for entry in told for key, value in entry.items() if value}
    return str(told_of.get("remote_host") or ("another machine" if told_of.get("remote_model") else ""))


def _with_tag(name: str) -> str:
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def _leaves(model: str, host: str) -> OllamaUnavailableError:
    return OllamaUnavailableError(
        f"{model} runs at {host}: patient text would leave this machine. Choose a local model, or give --allow-remote "
        "if it may."
    )


def _listed(models: Mapping[str, Any]) -> str:
    return ", ".join(sorted(models)) or "none"
