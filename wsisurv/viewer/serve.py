"""The viewer's server: a port of this machine alone, until Ctrl-C."""

import errno
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from wsisurv.errors import InputError, WsisurvError
from wsisurv.slides.find import find_slides
from wsisurv.viewer.app import make_app
from wsisurv.viewer.panels import cohort_panel
from wsisurv.viewer.study import Study
from wsisurv.workspace.paths import Workspace

HOST = "127.0.0.1"


def view(
    workspace: Workspace,
    case_id: str | None = None,
    *,
    cohort: str | None = None,
    student: Path | None = None,
    slides: Sequence[Path] = (),
    port: int = 0,
    ready: Callable[[str], None] = print,
) -> None:
    """Serve a page that shows a cohort's cases on this machine, until Ctrl-C.

    Args:
        workspace: holds the cohort.
        case_id: shown first; None for the first of the list.
        cohort: name of the cohort; None for the only one there is.
        student: its file; None for ``cohorts/NAME/student.h5``.
        slides: where the slides are now, if not where they were when they were tiled.
        port: to listen on; 0 for any that is free.
        ready: called with the address once it can be opened.

    Raises:
        InputError: there is no such cohort or case, or the port is in use.
        MissingArtifactError, FormatError: the cohort is missing or damaged.
        NoSlidesError, DuplicateSlideError: as ``find_slides``.
    """
    name = workspace.the_cohort(cohort)
    found = {str(slide_id): path for slide_id, path in find_slides(slides).items()} if slides else {}
    study = Study(workspace, name, student=student, slides=found)
    if case_id is not None:
        study.case(case_id)
    server, listening, address = make_server(study, port, case_id or "")
    with listening, suppress(KeyboardInterrupt):  # how it is meant to end
        threading.Thread(target=_warm, args=(study, case_id), daemon=True).start()
        ready(address)
        server.run(sockets=[listening])


def make_server(study: Study, port: int = 0, start: str = "") -> tuple[uvicorn.Server, socket.socket, str]:
    """A server that is to be run, its socket, and the address that lets a browser in.

    Args:
        study: what is shown.
        port: to listen on; 0 for any that is free.
        start: case that is shown first.

    Raises:
        InputError: as ``listen``.
    """
    token, listening = secrets.token_urlsafe(24), listen(port)
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        make_app(study, token, port, start),
        log_level="warning",
        access_log=False,  # it would print the token
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config), listening, f"http://{HOST}:{port}/?token={token}"


def listen(port: int) -> socket.socket:
    """A socket on a port of this machine that no other machine reaches.

    Raises:
        InputError: the port is in use, or not for this user.
    """
    # the protocol by its number: asyncio sends small answers at once only on sockets that name it, else 40 ms late
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen(128)
    except OSError as error:
        made.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else f"can't be had ({error.strerror or error})"
        raise InputError(f"port {port} {why}: name another with --port, or leave it out to get a free one.") from error
    return made


def _warm(study: Study, case_id: str | None) -> None:
    """Load what the first view needs while the browser opens; what can't be had, the page says."""
    with suppress(WsisurvError):
        for slide_id in study.case(case_id).slide_ids[:1] if case_id is not None else ():
            study.bounds(str(slide_id))
        cohort_panel(study)
