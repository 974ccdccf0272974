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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ollama

from wsisurv.engine.progress import Progress, no_progress
from wsisurv.errors import ModelNotPulledError, OllamaUnavailableError, SettingsError, did_you_mean
from wsisurv.reports.connection import Connection
from wsisurv.reports.server_errors import (
    SHOWN,
    PromptTooLongError,
    ServerBrokenError,
    ServerBusyError,
    ServerSlowError,
    UnfinishedError,
    refusal,
)
from wsisurv.reports.server_models import Model, check_version, context_length, runs_at, text_leaves, with_tag


@dataclass(frozen=True)
class Reply:
    """A finished answer."""

    content: str  # what the model said, thinking text not included
    done_reason: str  # why it ended: ``stop``, ``length``, or another word of the server
    prompt_tokens: int | None  # tokens of the prompt that the server says it read; None where it says nothing
    answer_tokens: int | None  # tokens of the answer; None where it says nothing


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts."""

    vectors: tuple[tuple[float, ...] | None, ...]  # one a text, in order; None for a text that the server refuses
    refused: Mapping[int, str]  # the server's words for each text that it refuses, by its place


class Server(Connection):
    """A connection to one Ollama server, and what is asked of it; close it, or use it in a ``with`` block."""

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
        full = with_tag(name)
        if not self._allow_remote and full.endswith(("-cloud", ":cloud")):
            raise text_leaves(full, "ollama.com")
        if full not in models and pull:
            self._pull(full, progress)
            models = self._tags()
        if full not in models:
            raise ModelNotPulledError(
                f"{self.url} has no model {full!r}; it has {_listed(models)}{did_you_mean(full, models) or '.'} Run "
                f"`ollama pull {name}`, or give --pull."
            )
        shown = self._json("POST", "/api/show", {"model": full})
        machine = runs_at(models[full], shown)
        if not self._allow_remote and machine:
            raise text_leaves(full, machine)
        capabilities = shown.get("capabilities") or []
        if capabilities and able not in capabilities:
            raise ModelNotPulledError(f"{full} is for {', '.join(capabilities)}, not for {able}. Choose another model.")
        return Model(
            name=full,
            digest=str(models[full].get("digest") or ""),
            context_length=context_length(shown),
            thinks="thinking" in capabilities,
            server_version=version,
            license=str(shown.get("license") or ""),
            runs_at=machine,
        )

    def inventory(self) -> tuple[str, list[str]]:
        """Version of the server, and names of its models.

        Raises:
            OllamaUnavailableError: as ``find_model``.
        """
        return self._version(), sorted(self._tags())

    def require_same(self, model: Model) -> None:
        """Look whether the server still has the model that was found, at the place where it was.

        Raises:
            ServerBrokenError: it is gone, another under the same name, or runs elsewhere now.
        """
        entry = self._tags().get(model.name)
        digest = str(entry.get("digest") or "") if entry is not None else "none"
        machine = runs_at(entry or {}, self._json("POST", "/api/show", {"model": model.name}) if entry else {})
        if (digest, machine) != (model.digest, model.runs_at):
            there = f"digest {digest[:12]}" + (f", running at {machine}" if machine else "")
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
                    raise refusal(self.url, int(piece.get("status") or 500), str(piece["error"]))
                if (elsewhere := runs_at(piece)) and not self._allow_remote:
                    raise ServerBrokenError(str(text_leaves(model, elsewhere)))
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
            if with_tag(str(entry.get("model") or entry.get("name") or "")) == model and entry.get("context_length"):
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
            failure = refusal(self.url, error.status_code, str(error.error))
            if error.status_code not in {400, 413} and not isinstance(failure, PromptTooLongError):
                raise failure from error
            if len(texts) == 1:
                return Embedded((None,), {0: str(error.error)[:SHOWN]})
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
        check_version(self.url, version)
        return version

    def _tags(self) -> dict[str, dict[str, Any]]:
        entries = self._json("GET", "/api/tags").get("models") or []
        return {with_tag(str(entry.get("model") or entry.get("name"))): entry for entry in entries}

    def _pull(self, name: str, progress: Progress) -> None:
        try:
            with self._explained():
                for step in self._client.pull(name, stream=True):
                    progress(step.completed or 0, step.total or 0, f"pulling {name}: {step.status or ''}")
        except ollama.ResponseError as error:
            raise ModelNotPulledError(f"{self.url} can't pull {name!r}: {str(error.error)[:SHOWN]}") from error


def _parse_piece(line: str) -> dict[str, Any]:
    try:
        piece = json.loads(line)
    except ValueError as error:
        raise ServerBusyError("a piece of the answer is no JSON: it was cut on its way") from error
    return piece if isinstance(piece, dict) else {}


def _count(piece: Mapping[str, Any], key: str) -> int | None:
    value = piece.get(key)
    return value if isinstance(value, int) else None


def _listed(models: Mapping[str, Any]) -> str:
    return ", ".join(sorted(models)) or "none"
