"""Figures for Prometheus: requests by route and status, how long they took, and the model's queue."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from whence.serve.worker import Worker

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Counters:
    """The figures of one app; its registry is its own."""

    def __init__(self, worker: Worker) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("whence_requests", "Requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            *("whence_request_seconds", "Seconds of a request", ("route",)),
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
            registry=self._registry,
        )
        waiting = Gauge("whence_waiting_requests", "Requests that wait for the model", registry=self._registry)
        waiting.set_function(lambda: worker.waiting)
        busy = Gauge("whence_model_busy_seconds", "Seconds the model has worked", registry=self._registry)
        busy.set_function(lambda: worker.busy_seconds)

    def text(self) -> bytes:
        """The figures as Prometheus reads them."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def counted(self, app: ASGIApp) -> ASGIApp:
        """The app, its requests counted."""

        async def count(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            started, status = time.monotonic(), 0

            async def noted(message: Message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                # The route's pattern, never the path: anyone may ask for any path.
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._requests.labels(method, route, str(status)).inc()
                self._seconds.labels(route).observe(time.monotonic() - started)

        return count
