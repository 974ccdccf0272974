"""Where the Ollama server is, and whether that is this machine."""

import ipaddress
import os
from urllib.parse import urlsplit

from wsisurv.errors import SettingsError

DEFAULT_HOST = "127.0.0.1:11434"
_PORT = 11434


def server_url(host: str | None = None) -> str:
    """URL of the server: ``host``, else WSISURV_OLLAMA_HOST, else OLLAMA_HOST, else this machine's port 11434.

    ``0.0.0.0`` and ``[::]``, which tell a server to listen everywhere, are this machine to a client.

    Raises:
        SettingsError: that is no address.
    """
    given = host or os.environ.get("WSISURV_OLLAMA_HOST") or os.environ.get("OLLAMA_HOST") or DEFAULT_HOST
    scheme, separator, rest = given.strip().rpartition("://")
    try:
        parts = urlsplit(f"{scheme or 'http'}://{rest}")
        name, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError as error:
        raise SettingsError(f"Ollama host {given!r}: {error}. Write HOST:PORT or http://HOST:PORT.") from error
    if scheme not in {"", "http", "https"}:
        raise SettingsError(f"Ollama host {given!r}: {scheme!r} is not http or https.")
    if port is None:
        port = {"http": 80, "https": 443}[scheme] if separator else _PORT
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    return f"{scheme or 'http'}://{f'[{name}]' if ':' in name else name}:{port}{parts.path.rstrip('/')}"


def is_this_machine(url: str) -> bool:
    """True when ``url`` names this machine by a loopback address or as ``localhost``; no name is looked up."""
    name = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
