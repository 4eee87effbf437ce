"""Routes about the index and its model: rows, traces, words, answers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from whence.serve import schemas
from whence.serve.fields import ID, Where
from whence.serve.service import Service
from whence.serve.streams import EVENTS, answer

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {EVENTS: {"schema": {"type": "string"}}}}}


def add_model_routes(app: FastAPI, service: Service) -> None:
    """Adds them to the app."""

    @app.get("/v1/health", response_model=schemas.Health, tags=["server"])
    def health() -> object:
        """Whether the server answers, and how many requests wait."""
        return service.health()

    @app.get("/v1/index", response_model=schemas.IndexInfo, tags=["index"])
    def index() -> object:
        """The index, its model, and the columns that a filter can name."""
        return service.info()

    @app.get("/v1/rows", response_model=schemas.RowPage, tags=["index"])
    def rows(
        where: Annotated[Where | None, Query(examples=["label = 'clean'"])] = None,
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> object:
        """Rows in the order of the data. where: an SQL condition, as for `whence trace --where`."""
        return service.current.get().rows.page(where, offset, limit)

    @app.get("/v1/rows/{id}", response_model=schemas.RowDetail, tags=["index"])
    def row(id: Annotated[str, Path(pattern=ID, examples=["ec6468bd4f883898"])]) -> object:
        """A row with its whole conversation and its neighbours in the file."""
        return service.current.get().rows.row(id)

    @app.post("/v1/generate", response_model=schemas.Answer, responses=STREAMED, tags=["model"])
    async def generate(body: schemas.GenerateRequest, request: Request) -> Response:
        """The model's greedy answer, streamed where events are accepted."""
        asked = service.asked(body)
        work = service.current.work(lambda tracing, task: tracing.generate(task, asked, body.max_new_tokens))
        return await answer(request, service.worker.submit(work))

    @app.post("/v1/trace", response_model=schemas.Traced, responses=STREAMED, tags=["model"])
    async def trace(body: schemas.TraceRequest, request: Request) -> Response:
        """The ranked rows of one query, with verdict and confounds. The query is kept under its `id`."""
        asked = await asyncio.to_thread(service.asked, body)
        kept = body.model_dump(mode="json")
        work = service.current.work(lambda tracing, task: tracing.trace(task, asked, kept))
        return await answer(request, service.worker.submit(work))

    @app.post("/v1/queries/{id}/words", response_model=schemas.WordsOf, responses=STREAMED, tags=["model"])
    async def words(id: Annotated[str, Path(pattern=ID)], body: schemas.WordsRequest, request: Request) -> Response:
        """The words of rows of a kept query: which of them, and of the query, the match is about."""
        asked_before, found = await asyncio.to_thread(service.kept, id)
        asked = await asyncio.to_thread(service.asked, asked_before)
        work = service.current.work(lambda tracing, task: tracing.words(task, id, asked, found, body.ranks))
        return await answer(request, service.worker.submit(work))
