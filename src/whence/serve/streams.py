"""A task's events as an answer: one JSON object at the end, or server-sent events as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from whence.data import Json
from whence.errors import WhenceError
from whence.serve.failures import broken, status_of
from whence.serve.state import ACTIVE, Object
from whence.serve.worker import LAST, Event, Task

EVENTS = "text/event-stream"
UNBUFFERED = {"x-accel-buffering": "no"}
LISTEN_SECONDS = 0.5
"""How often it is looked whether the one who asked is still there, and whether a job has gone on."""


async def answer(request: Request, task: Task) -> Response:
    """What the task gives: as events for a client that accepts them, else as JSON once it is done."""
    if EVENTS in request.headers.get("accept", ""):
        return _Heard(task)
    return await _whole(request, task)


def event_stream(events: AsyncIterator[str]) -> Response:
    """An answer of server-sent events."""
    return StreamingResponse(events, media_type=EVENTS, headers=UNBUFFERED)


class _Heard(StreamingResponse):
    """The events of a task, which is taken back when the answer ends, also where it never began."""

    def __init__(self, task: Task) -> None:
        super().__init__(_events(task), media_type=EVENTS, headers=UNBUFFERED)
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._task.cancel()


async def _events(task: Task) -> AsyncIterator[str]:
    while True:
        event = await task.next_event()
        yield written(event)
        if event.name in LAST:
            return


async def _whole(request: Request, task: Task) -> Response:
    try:
        while True:
            try:
                event = await asyncio.wait_for(task.next_event(), LISTEN_SECONDS)
            except TimeoutError:
                if await request.is_disconnected():
                    return JSONResponse(None, HTTPStatus.SERVICE_UNAVAILABLE)
                continue
            if event.name == "result":
                return JSONResponse(event.data)
            if event.name in LAST:
                known = isinstance(task.error, WhenceError)
                status = status_of(task.error) if isinstance(task.error, WhenceError) else 500
                return JSONResponse({"error": event.data} if known else broken(), status)
    finally:
        task.cancel()


async def follow(job_of: Callable[[], Object | None]) -> AsyncIterator[str]:
    """A job whenever it has changed, until it has ended."""
    last: Json = None
    while (job := await asyncio.to_thread(job_of)) is not None:
        if job != last:
            yield written(Event("job", job))
            last = job
        if job["state"] not in ACTIVE:
            return
        await asyncio.sleep(LISTEN_SECONDS)


def written(event: Event) -> str:
    """One server-sent event."""
    return f"event: {event.name}\ndata: {json.dumps(event.data, ensure_ascii=False)}\n\n"
