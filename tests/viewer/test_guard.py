"""Who may look: every combination of what a browser sends, by a little application behind the guard."""

import asyncio
import hashlib
from importlib.resources import files
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from wsisurv.viewer.guard import HEADERS, Guard

TOKEN, PORT = "s3cret", 8000
OURS = {"host": f"127.0.0.1:{PORT}", "cookie": f"wsisurv-{PORT}={TOKEN}"}
CALLED = {"host": f"127.0.0.1:{PORT}"}


def answer(
    path: str = "/cohort", query: str = "", method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body that a request gets."""
    sent: list[dict[str, Any]] = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {
        "type": "http", "method": method, "path": path, "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(Guard(PlainTextResponse("patients"), TOKEN, PORT)(scope, receive, send))
    given = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], given, b"".join(one.get("body", b"") for one in sent[1:]).decode()


def test_whoever_has_the_cookie_is_let_in_by_every_name_of_this_machine():
    for host in (f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}", "localhost:9999", "127.0.0.1"):
        assert answer(**{**OURS, "host": host})[0] == 200, host
    assert answer(**OURS, origin=f"http://127.0.0.1:{PORT}", sec_fetch_site="same-origin")[0] == 200


def test_the_token_is_taken_once_and_leaves_the_address():
    status, headers, _ = answer("/", f"token={TOKEN}", **CALLED)
    assert (status, headers["location"]) == (303, "/")
    assert headers["set-cookie"].startswith(f"wsisurv-{PORT}={TOKEN};")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(headers["set-cookie"].split("; "))
    assert answer("/cohort", f"token={TOKEN}", **CALLED)[0] == 403  # the first page alone takes it


STRANGERS = {
    "no token": CALLED,
    "another token": {**CALLED, "cookie": f"wsisurv-{PORT}=guess"},
    "a token that is no ASCII": {**CALLED, "cookie": f"wsisurv-{PORT}=é"},
    "the cookie of a viewer on another port": {**CALLED, "cookie": f"wsisurv-9999={TOKEN}"},
    "another machine's name": {**OURS, "host": "evil.example"},
    "a name that an attacker points here": {**OURS, "host": f"rebound.example:{PORT}"},
    "a name that begins like ours": {**OURS, "host": f"127.0.0.1.evil.example:{PORT}"},
    "no name": {"cookie": OURS["cookie"]},
    "a page on another port": {**OURS, "origin": "http://127.0.0.1:9999", "sec_fetch_site": "same-site"},
    "the same of an old browser": {**OURS, "origin": "http://127.0.0.1:9999"},
    "a page that is a file": {**OURS, "origin": "null"},
    "a picture on another port's page": {**OURS, "sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"},
    "a page elsewhere": {**OURS, "sec_fetch_site": "cross-site"},
    "a frame in a page elsewhere": {
        **OURS, "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe",
    },
}  # fmt: skip


@pytest.mark.parametrize("who", STRANGERS)
def test_a_stranger_gets_403_and_nothing_else(who):
    for path in ("/", "/cohort", "/nonsense"):
        status, headers, body = answer(path, **STRANGERS[who])
        assert status == 403
        assert "patients" not in body
        assert TOKEN not in body + str(headers)


def test_a_link_elsewhere_opens_the_first_page_and_no_other():
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert answer("/", f"token={TOKEN}", **CALLED, **link)[0] == 303
    assert answer("/cohort", **OURS, **link)[0] == 403


def test_nothing_can_be_changed():
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert answer(method=method, **OURS)[0] == 405


def test_every_answer_forbids_to_be_framed_embedded_or_kept():
    for headers in (OURS, CALLED):
        given = answer(**headers)[1]
        assert {name: given[name.lower()] for name in HEADERS} == HEADERS
        assert given["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in HEADERS["Content-Security-Policy"]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_the_library_of_the_page_is_the_file_that_its_note_names():
    folder = files("wsisurv.viewer").joinpath("static", "openseadragon")
    digest = hashlib.sha256(folder.joinpath("openseadragon.min.js").read_bytes()).hexdigest()
    assert f"sha256 of openseadragon.min.js: {digest}\n" in folder.joinpath("README.md").read_text()
    assert "Redistributions in binary form" in folder.joinpath("LICENSE.txt").read_text()
