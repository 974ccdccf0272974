"""A server that follows Ollama's wire format, faults included.

It proves that the protocol is kept; it is no model and says nothing about the quality of one.
"""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

DIGEST = "a" * 64
Script = Callable[["Wire"], None]


def answer(*statements: tuple[str, str, str, str]) -> str:
    """JSON of statements given as (evidence, category, polarity, text)."""
    keys = ("evidence", "category", "polarity", "text")
    return json.dumps({"statements": [dict(zip(keys, statement, strict=True)) for statement in statements]})


def first_sentence(passage: str) -> str:
    """What the default model says: the passage's first sentence, as one finding."""
    words = passage.strip().split(".")[0].strip()
    return answer((words[:300], "other_morphology", "present", words[:150]))


@dataclass
class FakeOllama:
    """What the server has and does; ``script`` holds what it does to the next calls of /api/chat, in order."""

    url: str = ""
    version: str = "0.12.6"
    models: dict[str, dict[str, Any]] = field(default_factory=lambda: {"tiny:latest": {"digest": DIGEST}})
    shown: dict[str, Any] = field(
        default_factory=lambda: {"capabilities": ["completion"], "model_info": {"llama.context_length": 32768}}
    )
    model: Callable[[str], str] = first_sentence
    script: deque[Script] = field(default_factory=deque)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    loaded_context: int | None = None
    vectors_lost: int = 0
    pullable: tuple[str, ...] = ()
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    under_way: int = 0
    most_under_way: int = 0

    answer = staticmethod(answer)

    def bodies(self, path: str = "/api/chat") -> list[dict[str, Any]]:
        """Bodies of the requests to one path, in order."""
        return [body for seen, body in self.requests if seen == path]

    def passages(self) -> list[str]:
        """The texts that were asked about."""
        return [body["messages"][-1]["content"] for body in self.bodies()]


def tokens(body: dict[str, Any]) -> int:
    """Tokens as this server counts them: three for two words."""
    return 3 * sum(len(message["content"].split()) for message in body["messages"]) // 2


class Wire(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 600
    server: Any

    @property
    def fake(self) -> FakeOllama:
        return self.server.fake

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on stderr."""

    def do_GET(self) -> None:
        if self.path == "/api/version":
            self.json(200, {"version": self.fake.version})
        elif self.path == "/api/tags":
            models = [{"name": name, "model": name, "size": 1, **entry} for name, entry in self.fake.models.items()]
            self.json(200, {"models": models})
        elif self.path == "/api/ps":
            context = self.fake.loaded_context
            models = [{"name": name, "model": name, "context_length": context} for name in self.fake.models]
            self.json(200, {"models": models if context else []})
        else:
            self.json(404, {"error": "no such path"})

    def do_POST(self) -> None:
        self.body = body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.fake.lock:
            self.fake.requests.append((self.path, body))
            self.fake.under_way += 1
            self.fake.most_under_way = max(self.fake.most_under_way, self.fake.under_way)
        try:
            {
                "/api/show": self.show,
                "/api/chat": self.chat,
                "/api/embed": self.embed,
                "/api/pull": self.pull,
            }[self.path](body)
        finally:
            with self.fake.lock:
                self.fake.under_way -= 1

    def show(self, body: dict[str, Any]) -> None:
        if body["model"] in self.fake.models:
            self.json(200, {"modified_at": "2026-01-01T00:00:00Z", "details": {}, **self.fake.shown})
        else:
            self.json(404, {"error": f"model '{body['model']}' not found"})

    def chat(self, body: dict[str, Any]) -> None:
        with self.fake.lock:
            scripted = self.fake.script.popleft() if self.fake.script else None
        if scripted:
            scripted(self)
            return
        window = body["options"].get("num_ctx", 4096)
        count = tokens(body)
        if count > window:
            if body.get("truncate") is False:
                self.json(400, {"error": "the input length exceeds the context length"})
                return
            count = window // 2  # as the real one: the middle is dropped and the answer is 200
        self.say(self.fake.model(body["messages"][-1]["content"]), prompt_eval_count=count)

    def embed(self, body: dict[str, Any]) -> None:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if any("too long" in text for text in texts) and body.get("truncate") is False:
            self.json(400, {"error": "the input length exceeds the context length"})
            return
        vectors = [[len(text), 1.0, 0.5] for text in texts]
        self.json(200, {"model": body["model"], "embeddings": vectors[: len(texts) - self.fake.vectors_lost]})

    def pull(self, body: dict[str, Any]) -> None:
        if body["model"] not in self.fake.pullable:
            self.stream([{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}])
            return
        self.fake.models[body["model"]] = {"digest": DIGEST}
        steps = [{"status": "pulling", "digest": "d", "total": 100, "completed": done} for done in (0, 50, 100)]
        self.stream([{"status": "pulling manifest"}, *steps, {"status": "success"}])

    def say(self, content: str, *, thinking: str = "", **last: Any) -> None:
        """Answer ``content``, streamed in pieces unless asked otherwise; ``last`` goes into the final piece."""
        body = self.body
        final = {
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": tokens(body),
            "eval_count": max(1, len(content) // 4),
            **last,
        }
        head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
        if body.get("stream") is False:
            self.json(200, {**head, "message": {"role": "assistant", "content": content}, **final})
            return
        pieces = [{"role": "assistant", "content": "", "thinking": thinking}] if thinking else []
        pieces += [{"role": "assistant", "content": content[at : at + 50]} for at in range(0, len(content), 50)]
        lines = [{**head, "message": piece, "done": False} for piece in pieces]
        self.stream([*lines, {**head, "message": {"role": "assistant", "content": ""}, **final}])

    def json(self, status: int, value: Any, **headers: str) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(content)

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def piece(self, line: bytes) -> None:
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def stream(self, values: list[Any]) -> None:
        self.start_stream()
        for value in values:
            self.piece(json.dumps(value).encode() + b"\n")
        self.wfile.write(b"0\r\n\r\n")


class QuietServer(ThreadingHTTPServer):
    """A server whose clients may hang up."""

    fake: FakeOllama

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is part of the tests."""


@pytest.fixture(autouse=True)
def _no_server_of_this_machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Tests speak only to the server that they name, but for the live one."""
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    if "live" not in request.node.name:
        monkeypatch.delenv("WSISURV_OLLAMA_HOST", raising=False)


@pytest.fixture
def ollama_server() -> Iterator[FakeOllama]:
    server = QuietServer(("127.0.0.1", 0), Wire)
    server.daemon_threads = False
    server.fake = FakeOllama(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.fake
    finally:
        server.fake.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
