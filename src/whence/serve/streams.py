"""A task's events as an answer: one JSON object at the end, or server-sent events as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from whence.data import Json
from whence.errors import WhenceError
from whence.serve.failures import broken, status_of
from whence.serve.state import ACTIVE, Object
from whence.serve.worker import LAST, Event, Task

EVENTS = "text/event-stream"
LISTEN_SECONDS = 0.5
"""How often it is looked whether the one who asked is still there, and whether a job has gone on."""


async def answer(request: Request, task: Task) -> Response:
    """What the task gives: as events for a client that accepts them, else as JSON once it is done."""
    if EVENTS in request.headers.get("accept", ""):
        return event_stream(_events(task))
    return await _whole(request, task)


def event_stream(events: AsyncIterator[str]) -> Response:
    """An answer of server-sent events."""
    return StreamingResponse(events, media_type=EVENTS, headers={"x-accel-buffering": "no"})


async def _events(task: Task) -> AsyncIterator[str]:
    try:
        while True:
            event = await task.next_event()
            yield written(event)
            if event.name in LAST:
                return
    finally:
        task.cancel()  # the one who asked has gone, or the task is done


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
