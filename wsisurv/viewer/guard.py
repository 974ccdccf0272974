"""Who may look: a browser on this machine that was given the token, from the viewer's own page alone.

Every other page that a person has open can send requests to a port of this machine. Hence four checks beside the token:
the address must be a loopback one (no name that an attacker points here), the method must read, the request must not
come from another page, and the answer forbids to be framed, embedded or guessed at.
"""

import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost", "[::1]")
_OWN_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
"""The one rule that OpenSeadragon adds to the page; no other style that isn't a file is taken."""
POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {_OWN_STYLE}; img-src 'self' data: blob:; "
    "connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """Lets through whoever may look; everybody else gets 403 and nothing of what is shown.

    Args:
        app: what is guarded.
        token: whoever opens ``/?token=…`` gets a cookie that holds it, and the address without it.
        port: part of the cookie's name, since cookies are shared by all ports of a machine.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token, self._cookie = app, token, f"wsisurv-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        answer = self._refusal(scope) or self._entry(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Why a request is not answered; None where only its token is still to be looked at."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in HOSTS and host not in HOSTS:
            return PlainTextResponse("This page is for the machine that it runs on.", 403)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Nothing can be changed here.", 405)
        # another page, on another port too, may at most bring a person to the first page, as a link does
        came = headers.get("sec-fetch-site", "none")
        followed = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if came not in ("same-origin", "none") and not (followed and scope["path"] == "/"):
            return PlainTextResponse("Another page may not ask here.", 403)
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return PlainTextResponse("Another page may not ask here.", 403)
        return None

    def _entry(self, scope: Scope) -> Response | None:
        """What whoever has no cookie gets, and whoever brings the token; None where the cookie is right."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and self._is_token(given):
            response = RedirectResponse("/", 303)
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return response
        try:
            kept = SimpleCookie(Headers(scope=scope).get("cookie", "")).get(self._cookie)
        except CookieError:
            kept = None
        if kept is not None and self._is_token(kept.value):
            return None
        return PlainTextResponse("Open the address that `wsisurv view` printed, with its token.", 403)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())
