"""A connection to an Ollama server: to this machine alone unless another is allowed, and every way it can fail."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

import httpx
import ollama

from wsisurv.errors import OllamaUnavailableError
from wsisurv.reports.host import is_this_machine, server_url
from wsisurv.reports.server_errors import ServerBusyError, ServerSlowError, refusal


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # closed already
        connection.shutdown(socket.SHUT_RDWR)


class Connection:
    """HTTP to one server, by two clients; neither follows a redirect or takes a proxy from the environment.

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
        self._changing = threading.Lock()
        self._hung_up = False
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._sockets.clear()
        self._http.close()
        self._client.close()  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """Drop every question under way, from any thread: who waits for an answer gets a ServerBusyError at once."""
        with self._changing:
            self._hung_up = True  # a question that is only connecting is dropped as soon as it has a socket
            for connection in self._sockets:
                _shut(connection)

    def _remember_socket(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            opened = info["return_value"].get_extra_info("socket")
            with self._changing:  # several threads connect at once
                self._sockets = [*(one for one in self._sockets if one.fileno() >= 0), opened]
                if self._hung_up:
                    _shut(opened)

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
        raise refusal(self.url, response.status_code, words)
