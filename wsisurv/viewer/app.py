"""The viewer's web application: which address gives what."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from wsisurv.errors import InputError, WsisurvError
from wsisurv.viewer import panels, similar, tile_layers
from wsisurv.viewer.guard import Guard
from wsisurv.viewer.neighbours import Neighbours
from wsisurv.viewer.study import Study

_STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "/viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "/openseadragon.min.js": ("openseadragon/openseadragon.min.js", "text/javascript; charset=utf-8"),
}
_SQUARE_PX = 160
"""Side of a tile that is shown beside others."""
_KEPT = "private, max-age=3600, immutable"


def make_app(study: Study, token: str, port: int, start: str = "") -> Guard:
    """The application, guarded.

    Args:
        study: what is shown.
        token: that lets a browser in.
        port: that it is served on.
        start: case that is shown first.
    """
    neighbours = Neighbours(study)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        neighbours.stop()
        study.pool.close()

    def cohort(_: Request) -> Response:
        return _json({**panels.cohort_panel(study), "start": start})

    def case(request: Request) -> Response:
        return _json(panels.case_panel(study, _word(request, "case")))

    def findings(request: Request) -> Response:
        return _json(panels.findings_panel(study, _word(request, "case")))

    def layers(request: Request) -> Response:
        return _json(tile_layers.risk_layers(study, _word(request, "case")))

    def finding(request: Request) -> Response:
        return _json(tile_layers.finding_layer(study, _word(request, "case"), _word(request, "name")))

    def tile(request: Request) -> Response:
        return _json(tile_layers.tile_panel(study, _word(request, "case"), _whole(request, "tile")))

    def nearest(request: Request) -> Response:
        return _json(similar.nearest_tiles(study, neighbours, _word(request, "case"), _whole(request, "tile")))

    def alike(request: Request) -> Response:
        return _json(similar.similar_cases(study, neighbours, _word(request, "case")))

    def outlines(request: Request) -> Response:
        return Response(tile_layers.outlines(study, _word(request, "slide")), media_type="application/geo+json")

    def geojson(request: Request) -> Response:
        text = tile_layers.slide_geojson(study, _word(request, "case"), _word(request, "slide"))
        return Response(text, media_type="application/geo+json")

    def zoom(request: Request) -> Response:
        place = [_whole(request, name) for name in ("level", "x", "y")]
        return _jpeg(study.pool.tile(study.slide_file(_word(request, "slide")), *place))

    def square(request: Request) -> Response:
        place, side = (_whole(request, "x"), _whole(request, "y")), _whole(request, "side")
        if not 0 < side <= 1 << 16:
            raise InputError(f"side {side}")
        return _jpeg(study.pool.square(study.slide_file(_word(request, "slide")), *place, side, _SQUARE_PX))

    routes = [
        *(Route(path, partial(_static, *what)) for path, what in _STATIC.items()),
        *(
            Route(f"/{answer.__name__}", _in_thread(answer))
            for answer in (
                cohort,
                case,
                findings,
                layers,
                finding,
                tile,
                nearest,
                alike,
                outlines,
                geojson,
                zoom,
                square,
            )
        ),
    ]
    return Guard(Starlette(routes=routes, lifespan=lifespan), token, port)


def _in_thread(answer: Callable[[Request], Response]) -> Callable[[Request], Any]:
    """Answer in a thread of its own; what is not there is 404, what can't be given says why."""

    async def answered(request: Request) -> Response:
        try:
            return await run_in_threadpool(answer, request)
        except InputError as error:
            return PlainTextResponse(str(error), 404)
        except WsisurvError as error:
            return PlainTextResponse(str(error), 409)

    return answered


async def _static(name: str, kind: str, _: Request) -> Response:
    return Response(files("wsisurv.viewer").joinpath("static", *name.split("/")).read_bytes(), media_type=kind)


def _json(value: object) -> Response:
    return Response(json.dumps(value, allow_nan=False, separators=(",", ":")), media_type="application/json")


def _jpeg(picture: bytes) -> Response:
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": _KEPT})


def _word(request: Request, name: str) -> str:
    return request.query_params.get(name, "")


def _whole(request: Request, name: str) -> int:
    try:
        return int(_word(request, name))
    except ValueError as error:
        raise InputError(f"{name} {_word(request, name)!r} is no whole number.") from error
