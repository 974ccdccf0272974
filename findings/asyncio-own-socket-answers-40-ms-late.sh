#!/usr/bin/env bash
# Expected: a server of slide tiles that is given a socket of one's own (uvicorn's Server.run(sockets=…), the usual way to learn a free port before
# the server runs) answers as quickly as one that binds its port itself.
# Seen: each small answer on a kept-alive connection comes about 40 ms late. asyncio switches Nagle's algorithm off only where socket.proto is
# IPPROTO_TCP (asyncio/base_events.py, _set_nodelay), and socket.socket(AF_INET, SOCK_STREAM) says 0 there; so header and body, which uvicorn
# writes one after the other, wait for the browser's delayed acknowledgement. socket.socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) cures it.
# Versions: Python 3.11.7, uvicorn 0.54.0, Linux 6.
# Why it matters: a view of a slide is tens of tiles, each cut in 2 to 8 ms; a viewer is five times slower than its tiles are.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q uvicorn==0.54.0
cd "$folder"
venv/bin/python - <<'P'
import asyncio
import http.client
import socket
import statistics
import sys
import threading
import time

import uvicorn


async def tile(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5000")]})
    await send({"type": "http.response.body", "body": bytes(5000)})


def delays(proto):
    """Whether Nagle's algorithm is off on a connection, and milliseconds an answer."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, proto)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    port, off = listening.getsockname()[1], []

    server = uvicorn.Server(uvicorn.Config(tile, log_level="error", lifespan="off"))
    kept = asyncio.base_events._set_nodelay
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})

    def watched(sock):
        kept(sock)
        off.append(bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))

    asyncio.selector_events.base_events._set_nodelay = watched
    thread.start()
    while not server.started:
        time.sleep(0.01)
    connection, times = http.client.HTTPConnection("127.0.0.1", port), []
    for _ in range(20):
        start = time.perf_counter()
        connection.request("GET", "/")
        connection.getresponse().read()
        times.append(1000 * (time.perf_counter() - start))
    connection.close()
    server.should_exit = True
    thread.join()
    asyncio.selector_events.base_events._set_nodelay = kept
    return all(off), statistics.median(times)


plain, named = delays(0), delays(socket.IPPROTO_TCP)
print(f"socket without a protocol: no delay {plain[0]}, {plain[1]:.0f} ms an answer; with IPPROTO_TCP: no delay {named[0]}, {named[1]:.0f} ms")
if plain[0] or not named[0]:
    sys.exit("changed: asyncio switches the delay off on both, or on neither")
P
