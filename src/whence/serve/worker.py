"""One thread that owns the model: requests wait in a bounded queue, are told their place, and can be taken back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from whence.data import Json
from whence.serve.failures import CancelledError, Redaction, RefusedError, of_machine

LAST = ("result", "error", "cancelled")
"""Names of the events that end a task."""


class Event(NamedTuple):
    """Something a task says while it waits and works."""

    name: str
    data: Json


class Task:
    """A piece of work for the model, and what it says to the one who asked.

    Made and listened to within one event loop; `say` and `check` are called by the worker's thread.
    """

    def __init__(self, work: Callable[[Task], Json]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._cancelled = threading.Event()
        self.error: BaseException | None = None

    async def next_event(self) -> Event:
        """The next event; the last has a name of `LAST`."""
        return await self._events.get()

    def cancel(self) -> None:
        """Has the task end at its next step, or not begin."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was taken back."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises CancelledError where the task was taken back."""
        if self._cancelled.is_set():
            raise CancelledError

    def say(self, name: str, data: Json) -> None:
        """Sends an event."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, Event(name, data))
        except RuntimeError:  # the loop has been closed: nobody listens
            self._cancelled.set()

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Sends how far the work is; raises CancelledError where it was taken back. A `Progress`."""
        self.check()
        self.say("progress", {"stage": stage, "done": done, "total": total})

    def run(self, redaction: Redaction) -> None:
        """Does the work in the calling thread; whatever happens becomes the last event."""
        try:
            self.check()
            self.say("result", self._work(self))
        except CancelledError:
            self.say("cancelled", None)
        except BaseException as error:  # a panic of a library must not end the thread either
            self.error = of_machine(error)
            self.say("error", dict(redaction.event(self.error)["error"]))


class Worker:
    """Runs tasks one at a time, in their order. most: how many may wait."""

    def __init__(self, redaction: Redaction, most: int) -> None:
        self._redaction, self._most = redaction, most
        self._waiting: deque[Task] = deque()
        self._changed = threading.Condition()
        self._running: Task | None = None
        self._closed = False
        self.busy_seconds = 0.0
        self._thread = threading.Thread(target=self._serve, name="whence-model", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Task], Json]) -> Task:
        """Puts work at the queue's end. Raises RefusedError (503) where the queue is full."""
        task = Task(work)
        with self._changed:
            self._drop_cancelled()
            if len(self._waiting) >= self._most or self._closed:
                raise RefusedError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{len(self._waiting)} requests wait for the model already.",
                    f"At most {self._most} may wait.",
                    "Try again in a moment.",
                )
            self._waiting.append(task)
            if self._running is not None or len(self._waiting) > 1:
                self._say_places()
            self._changed.notify()
        return task

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        with self._changed:
            self._drop_cancelled()
            return len(self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether the model works."""
        return self._running is not None

    def close(self) -> None:
        """Ends the thread after the task it works on, which is cancelled with the others."""
        with self._changed:
            self._closed = True
            for task in (*self._waiting, *([self._running] if self._running else [])):
                task.cancel()
            self._changed.notify()
        self._thread.join(timeout=10)

    def _drop_cancelled(self) -> None:
        for task in [task for task in self._waiting if task.is_cancelled]:
            self._waiting.remove(task)
            task.say("cancelled", None)

    def _say_places(self) -> None:
        for place, task in enumerate(self._waiting, 1):
            task.say("queued", {"place": place})

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._drop_cancelled()
                if self._closed and not self._waiting:
                    return
                if not self._waiting:
                    continue
                self._running = self._waiting.popleft()
                self._say_places()
            started = time.monotonic()
            self._running.run(self._redaction)
            self.busy_seconds += time.monotonic() - started
