"""The app: the API under /v1, the page at /, figures at /metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files

from fastapi import FastAPI
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from whence.serve.counters import Counters
from whence.serve.failures import install
from whence.serve.gate import Gate
from whence.serve.routes_kept import add_kept_routes
from whence.serve.routes_model import add_model_routes
from whence.serve.schemas import ErrorAnswer
from whence.serve.service import Service
from whence.serve.settings import ServerSettings
from whence.trace import Tracer

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
"""Path -> file of the page and its type."""


def create_app(tracer: Tracer, settings: ServerSettings | None = None) -> FastAPI:
    """The ASGI app of one index; the model works in one thread of it.

    tracer: an open one, which the app has for itself from now on.

    Raises InputError where what the server remembers cannot be kept beside the index.
    """
    settings = settings or ServerSettings()
    service = Service(tracer, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="whence",
        version=version("whence"),
        summary="Traces a language model's output back to the training rows behind it.",
        description=DESCRIPTION,
        openapi_url="/v1/openapi.json",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses={
            400: {"model": ErrorAnswer, "description": "What was asked cannot be used"},
            422: {"model": ErrorAnswer, "description": "A request that does not follow this schema"},
        },
    )
    app.state.service = service
    install(app, service.redaction)
    counters = Counters(service.worker)
    add_model_routes(app, service)
    add_kept_routes(app, service)
    _add_page(app, counters)
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(_Counted, counters=counters)
    return app


DESCRIPTION = """\
Requests that need the model wait in a queue. With `Accept: text/event-stream` they answer with server-sent events:
`queued` (the place in the queue), `progress`, `text` or `ranked` (what is there so far), and at the end `result`,
`error` or `cancelled`. Without it they answer once, with JSON. Closing the connection takes the request back.
"""


class _Counted:
    """`Counters.counted` as a middleware class."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app = counters.counted(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _add_page(app: FastAPI, counters: Counters) -> None:
    folder = files("whence.serve") / "static"

    def serve_file(name: str, kind: str) -> None:
        content = (folder / name).read_bytes()

        def page() -> Response:
            return Response(content, media_type=f"{kind}; charset=utf-8")

        path = next(path for path, (own, _) in PAGE.items() if own == name)
        app.add_api_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)

    for name, kind in PAGE.values():
        serve_file(name, kind)

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(counters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
