"""The Ollama client against a server that follows the wire format. This proves protocol, not a model's quality."""

import json
import socket
import threading
from typing import Any

import ollama
import pytest

from wsisurv.errors import (
    BackendError,
    ModelNotPulledError,
    OllamaUnavailableError,
    SettingsError,
)
from wsisurv.reports.host import is_this_machine, server_url
from wsisurv.reports.ollama import Reply, Server
from wsisurv.reports.server_errors import (
    PromptTooLongError,
    ServerBrokenError,
    ServerBusyError,
    ServerSlowError,
    UnfinishedError,
)

MESSAGES = [{"role": "user", "content": "Adenocarcinoma of the colon."}]


def ask(fake: Any, timeout_s: float = 600, **changes: Any) -> Reply:
    with Server(fake.url, timeout_s=timeout_s) as server:
        wanted: dict[str, Any] = {"schema": {"type": "object"}, "options": {"num_ctx": 4096}, "think": None}
        return server.chat("tiny:latest", MESSAGES, **{**wanted, **changes})


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class TestHost:
    @pytest.mark.parametrize(
        ("given", "url"),
        [
            ("127.0.0.1", "http://127.0.0.1:11434"),
            ("localhost:8080", "http://localhost:8080"),
            ("http://gpu.example.org", "http://gpu.example.org:80"),
            ("https://gpu.example.org/ollama/", "https://gpu.example.org:443/ollama"),
            ("0.0.0.0:11434", "http://127.0.0.1:11434"),
            ("[::]:11434", "http://[::1]:11434"),
            ("[::1]", "http://[::1]:11434"),
            (":5000", "http://127.0.0.1:5000"),
        ],
    )
    def test_is_read_as_ollama_reads_it(self, given: str, url: str) -> None:
        assert server_url(given) == url

    def test_comes_from_the_environment_when_none_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert server_url() == "http://127.0.0.1:11434"
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.2:1")
        assert server_url() == "http://127.0.0.2:1"
        monkeypatch.setenv("WSISURV_OLLAMA_HOST", "127.0.0.3:2")
        assert server_url() == "http://127.0.0.3:2"
        assert server_url("127.0.0.4:3") == "http://127.0.0.4:3"

    @pytest.mark.parametrize("given", ["ftp://here", "here:port", "here:99999"])
    def test_that_is_none_is_refused(self, given: str) -> None:
        with pytest.raises(SettingsError, match="HOST:PORT|not http"):
            server_url(given)

    @pytest.mark.parametrize(
        ("url", "here"),
        [
            ("http://127.0.0.1:1", True),
            ("http://127.9.9.9:1", True),
            ("http://[::1]:1", True),
            ("http://localhost:1", True),
            ("http://10.0.0.1:1", False),
            ("http://127.0.0.1.example.org:1", False),
            ("http://localhost.example.org:1", False),
        ],
    )
    def test_is_this_machine_only_by_loopback(self, url: str, here: bool) -> None:
        assert is_this_machine(url) is here

    def test_elsewhere_is_refused_unless_allowed(self) -> None:
        with pytest.raises(OllamaUnavailableError, match="patient text would leave it.*--allow-remote"):
            Server("gpu.example.org")
        Server("gpu.example.org", allow_remote=True).close()

    def test_proxy_of_the_environment_is_not_used(self, ollama_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
        assert ask(ollama_server).done_reason == "stop"


class TestFirstLook:
    def test_tells_the_model(self, ollama_server: Any) -> None:
        ollama_server.shown["capabilities"] = ["completion", "thinking"]
        with Server(ollama_server.url) as server:
            model = server.find_model("tiny")
        assert (model.name, model.digest, model.context_length) == ("tiny:latest", "a" * 64, 32768)
        assert model.thinks
        assert model.server_version == "0.12.6"

    def test_no_server_says_how_to_start_one(self) -> None:
        with Server(f"127.0.0.1:{free_port()}") as server, pytest.raises(OllamaUnavailableError, match="ollama serve"):
            server.find_model("tiny")

    def test_another_program_is_told_apart(self, ollama_server: Any) -> None:
        ollama_server.version = "nginx"
        with Server(ollama_server.url) as server, pytest.raises(OllamaUnavailableError, match="another program"):
            server.find_model("tiny")

    @pytest.mark.parametrize("version", ["0.12.5", "0.9.0", "0.3.14-rc1"])
    def test_server_that_would_cut_in_silence_is_refused(self, ollama_server: Any, version: str) -> None:
        ollama_server.version = version
        with Server(ollama_server.url) as server, pytest.raises(OllamaUnavailableError, match="0.12.6 or newer"):
            server.find_model("tiny")

    @pytest.mark.parametrize("version", ["0.12.6", "0.13.0-rc0", "0.30.2", "1.0.0", "0.0.0"])
    def test_newer_server_is_taken(self, ollama_server: Any, version: str) -> None:
        ollama_server.version = version
        with Server(ollama_server.url) as server:
            assert server.find_model("tiny").server_version == version

    def test_missing_model_says_what_to_run(self, ollama_server: Any) -> None:
        with Server(ollama_server.url) as server, pytest.raises(ModelNotPulledError) as caught:
            server.find_model("qwen3:8b")
        assert "ollama pull qwen3:8b" in str(caught.value)
        assert "--pull" in str(caught.value)
        assert "tiny:latest" in str(caught.value)

    def test_no_model_names_those_there_are(self, ollama_server: Any) -> None:
        with Server(ollama_server.url) as server, pytest.raises(SettingsError, match="--model.*tiny:latest"):
            server.find_model(None)

    def test_pull_fetches_it_with_progress(self, ollama_server: Any) -> None:
        ollama_server.pullable = ("qwen3:8b",)
        seen: list[tuple[int, int, str]] = []
        with Server(ollama_server.url) as server:
            model = server.find_model("qwen3:8b", pull=True, progress=lambda *step: seen.append(step))
        assert model.name == "qwen3:8b"
        assert (50, 100) in [step[:2] for step in seen]
        assert all("qwen3:8b" in step[2] for step in seen)

    def test_pull_is_not_asked_for_a_model_that_is_there(self, ollama_server: Any) -> None:
        with Server(ollama_server.url) as server:
            server.find_model("tiny", pull=True)
        assert not ollama_server.bodies("/api/pull")

    def test_pull_that_fails_tells_the_servers_words(self, ollama_server: Any) -> None:
        with Server(ollama_server.url) as server, pytest.raises(ModelNotPulledError, match="file does not exist"):
            server.find_model("qwen3:8b", pull=True)

    @pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "kimi:cloud"])
    def test_cloud_model_is_refused_before_it_is_looked_for(self, ollama_server: Any, name: str) -> None:
        with Server(ollama_server.url) as server, pytest.raises(OllamaUnavailableError, match="leave this machine"):
            server.find_model(name, pull=True)
        assert not ollama_server.requests

    @pytest.mark.parametrize("place", ["tags", "show"])
    def test_remote_model_of_a_local_server_is_refused(self, ollama_server: Any, place: str) -> None:
        told = {"remote_host": "https://far.example.org:443", "remote_model": "big"}
        (ollama_server.models["tiny:latest"] if place == "tags" else ollama_server.shown).update(told)
        with Server(ollama_server.url) as server, pytest.raises(OllamaUnavailableError, match="far.example.org"):
            server.find_model("tiny")
        with Server(ollama_server.url, allow_remote=True) as server:
            assert server.find_model("tiny").name == "tiny:latest"

    def test_model_that_only_embeds_is_refused(self, ollama_server: Any) -> None:
        ollama_server.shown["capabilities"] = ["embedding"]
        with Server(ollama_server.url) as server:
            with pytest.raises(ModelNotPulledError, match="for embedding"):
                server.find_model("tiny")
            assert server.find_model("tiny", able="embedding").digest

    def test_redirect_is_not_followed(self, ollama_server: Any) -> None:
        ollama_server.script.append(lambda wire: wire.json(307, {}, Location="http://far.example.org/api/chat"))
        with pytest.raises(OllamaUnavailableError, match="far.example.org.*not followed"):
            ask(ollama_server)


class TestChat:
    def test_asks_for_nothing_to_be_cut(self, ollama_server: Any) -> None:
        ask(ollama_server, think=False, options={"num_ctx": 4096, "temperature": 0, "seed": 0})
        (body,) = ollama_server.bodies()
        assert body["truncate"] is False
        assert body["shift"] is False
        assert body["think"] is False
        assert body["format"] == {"type": "object"}
        assert body["options"] == {"num_ctx": 4096, "temperature": 0, "seed": 0}

    def test_think_is_not_sent_where_it_is_left_open(self, ollama_server: Any) -> None:
        ask(ollama_server)
        assert "think" not in ollama_server.bodies()[0]

    def test_streamed_answer_is_put_together(self, ollama_server: Any) -> None:
        long = json.dumps({"text": "glänzend " * 200}, ensure_ascii=False)
        ollama_server.script.append(lambda wire: wire.say(long, eval_count=7, prompt_eval_count=11))
        assert ask(ollama_server) == Reply(long, "stop", 11, 7)

    def test_thinking_text_is_no_part_of_it(self, ollama_server: Any) -> None:
        ollama_server.script.append(lambda wire: wire.say("{}", thinking="is it a cancer?"))
        assert ask(ollama_server).content == "{}"

    def test_prompt_that_is_too_long(self, ollama_server: Any) -> None:
        with pytest.raises(PromptTooLongError, match="exceeds the context length"):
            ask(ollama_server, options={"num_ctx": 4})

    @pytest.mark.parametrize(
        "words",
        [
            "the input length exceeds the context length",
            "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
            "input is too long",
        ],
    )
    def test_prompt_that_is_too_long_in_other_words(self, ollama_server: Any, words: str) -> None:
        ollama_server.script.append(lambda wire: wire.json(400, {"error": words}))
        with pytest.raises(PromptTooLongError):
            ask(ollama_server)

    def test_stream_without_its_last_piece(self, ollama_server: Any) -> None:
        ollama_server.script.append(lambda wire: wire.stream([{"message": {"content": "{"}, "done": False}] * 3))
        with pytest.raises(UnfinishedError):
            ask(ollama_server)

    def test_error_in_mid_stream(self, ollama_server: Any) -> None:
        ollama_server.script.append(
            lambda wire: wire.stream([{"message": {"content": "{"}}, {"error": "runner has terminated"}])
        )
        with pytest.raises(ServerBusyError, match="runner has terminated"):
            ask(ollama_server)

    def test_piece_that_is_no_json(self, ollama_server: Any) -> None:
        def script(wire: Any) -> None:
            wire.start_stream()
            wire.piece(b'{"message": {"con\n')
            wire.wfile.write(b"0\r\n\r\n")

        ollama_server.script.append(script)
        with pytest.raises(ServerBusyError, match="no JSON"):
            ask(ollama_server)

    def test_connection_that_is_dropped(self, ollama_server: Any) -> None:
        def script(wire: Any) -> None:
            wire.start_stream()
            wire.piece(b'{"message": {"content": "{"}, "done": false}\n')
            wire.connection.shutdown(socket.SHUT_RDWR)
            wire.close_connection = True

        ollama_server.script.append(script)
        with pytest.raises(ServerBusyError, match="dropped"):
            ask(ollama_server)

    def test_server_that_stalls(self, ollama_server: Any) -> None:
        def script(wire: Any) -> None:
            wire.start_stream()
            wire.piece(b'{"message": {"content": "{"}, "done": false}\n')
            wire.fake.released.wait()
            wire.close_connection = True

        ollama_server.script.append(script)
        with pytest.raises(ServerSlowError, match="0.2 seconds"):
            ask(ollama_server, timeout_s=0.2)

    def test_slow_but_steady_answer_is_waited_for(self, ollama_server: Any) -> None:
        def script(wire: Any) -> None:
            wire.start_stream()
            for _ in range(4):
                wire.piece(b'{"message": {"content": "."}, "done": false}\n')
                wire.fake.released.wait(0.8)
            wire.piece(b'{"message": {"content": ""}, "done": true, "done_reason": "stop"}\n')
            wire.wfile.write(b"0\r\n\r\n")

        ollama_server.script.append(script)
        assert ask(ollama_server, timeout_s=3).content == "...."

    def test_answer_is_given_up_when_asked_to_stop(self, ollama_server: Any) -> None:
        with pytest.raises(UnfinishedError, match="stopped"):
            ask(ollama_server, stopped=lambda: True)

    def test_answer_is_dropped_from_another_thread(self, ollama_server: Any) -> None:
        asked = threading.Event()

        def script(wire: Any) -> None:
            asked.set()
            wire.fake.released.wait()

        ollama_server.script.append(script)
        with Server(ollama_server.url, timeout_s=600) as server:
            other = threading.Thread(target=lambda: asked.wait() and server.hang_up())
            other.start()
            with pytest.raises(ServerBusyError):
                server.chat("tiny:latest", MESSAGES, schema={}, options={"num_ctx": 4096}, think=None)
            other.join()

    def test_question_that_connects_after_hanging_up_is_dropped(self, ollama_server: Any) -> None:
        ollama_server.script.append(lambda wire: wire.fake.released.wait())
        with Server(ollama_server.url, timeout_s=5) as server:
            server.hang_up()
            with pytest.raises(ServerBusyError):  # and not slow
                server.chat("tiny:latest", MESSAGES, schema={}, options={"num_ctx": 4096}, think=None)

    def test_questions_that_connect_at_once_are_all_dropped(self, ollama_server: Any) -> None:
        """One thread remembers its socket while another does: both must be shut."""
        ends = [socket.socketpair() for _ in range(3)]

        class Opened:
            def __init__(self, number: int) -> None:
                self.number = number

            def get_extra_info(self, _: str) -> Any:
                return ends[self.number][0] if self.number else first

        with Server(ollama_server.url) as server:

            def remember(number: int) -> None:
                server._remember_socket("connection.connect_tcp.complete", {"return_value": Opened(number)})

            class First:
                """A socket that is looked at while another thread connects."""

                def fileno(self) -> int:
                    others.start()
                    others.join(0.3)
                    self.fileno = lambda: 1  # type: ignore[method-assign]
                    return 1

                def shutdown(self, _: int) -> None:
                    ends[0][0].shutdown(socket.SHUT_RDWR)

            first, others = First(), threading.Thread(target=remember, args=(2,))
            remember(0)
            remember(1)
            others.join()
            server.hang_up()
        for _, far in ends:
            far.settimeout(5)
            assert far.recv(1) == b""  # shut
            far.close()
        for near, _ in ends:
            near.close()

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (503, ServerBusyError),
            (500, ServerBusyError),
            (429, ServerBusyError),
            (404, ModelNotPulledError),
            (400, OllamaUnavailableError),
            (401, ServerBrokenError),
        ],
    )
    def test_status_is_told_with_the_servers_words(
        self, ollama_server: Any, status: int, error: type[BackendError]
    ) -> None:
        ollama_server.script.append(lambda wire: wire.json(status, {"error": "these words"}))
        with pytest.raises(error, match="these words") as caught:
            ask(ollama_server)
        assert type(caught.value) is error

    def test_window_that_the_server_loaded(self, ollama_server: Any) -> None:
        with Server(ollama_server.url) as server:
            assert server.loaded_context("tiny:latest") is None
            ollama_server.loaded_context = 2048
            assert server.loaded_context("tiny:latest") == 2048


class TestEmbed:
    def test_one_vector_a_text(self, ollama_server: Any) -> None:
        with Server(ollama_server.url) as server:
            embedded = server.embed("tiny:latest", ["a", "bb", "ccc"])
        assert [vector[0] for vector in embedded.vectors if vector] == [1, 2, 3]
        assert ollama_server.bodies("/api/embed")[0]["truncate"] is False

    def test_one_bad_text_does_not_lose_the_others(self, ollama_server: Any) -> None:
        texts = ["a", "bb", "too long", "ccc", "dddd"]
        with Server(ollama_server.url) as server:
            embedded = server.embed("tiny:latest", texts)
        assert [vector and vector[0] for vector in embedded.vectors] == [1, 2, None, 3, 4]
        assert list(embedded.refused) == [2]
        assert "context length" in embedded.refused[2]

    def test_no_server(self) -> None:
        with Server(f"127.0.0.1:{free_port()}") as server, pytest.raises(ServerBusyError):
            server.embed("tiny:latest", ["a"])

    def test_another_number_of_vectors_is_refused(self, ollama_server: Any) -> None:
        ollama_server.vectors_lost = 1
        with Server(ollama_server.url) as server, pytest.raises(OllamaUnavailableError, match="1 vectors for 2 texts"):
            server.embed("tiny:latest", ["a", "bb"])


def test_the_test_server_is_one_to_ollamas_own_client(ollama_server: Any) -> None:
    """The server of these tests speaks the wire format as Ollama's own client reads it, streamed or not."""
    client = ollama.Client(ollama_server.url, trust_env=False)
    try:
        assert client.list().models[0].model == "tiny:latest"
        assert client.show("tiny:latest").capabilities == ["completion"]
        assert client.ps().models == []
        whole = client.chat("tiny:latest", MESSAGES, options={"num_ctx": 99})
        pieces = list(client.chat("tiny:latest", MESSAGES, options={"num_ctx": 99}, stream=True))
        assert whole.message.content == "".join(piece.message.content or "" for piece in pieces)
        assert whole.done
        assert pieces[-1].done_reason == "stop"
        assert whole.prompt_eval_count == pieces[-1].prompt_eval_count
        # what the client can't prevent: a long prompt is cut and answered as if nothing had happened
        cut = client.chat("tiny:latest", MESSAGES, options={"num_ctx": 4})
        assert cut.done
        assert cut.prompt_eval_count == 2
        with pytest.raises(ollama.ResponseError, match="not found"):
            client.show("none")
    finally:
        client.close()
