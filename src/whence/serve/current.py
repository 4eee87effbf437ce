"""The state of the index that a server answers from: the one on disk, opened anew when another process changed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Lock

from whence.data import Json
from whence.errors import WhenceError
from whence.index import MANIFEST, Index, require_manifest
from whence.serve.failures import CancelledError, RefusedError
from whence.serve.reading import Rows
from whence.serve.tracing import Tracing
from whence.serve.worker import Task
from whence.trace import Tracer


@dataclass(frozen=True, slots=True)
class Opened:
    """What answers from one state of the index."""

    tracer: Tracer
    rows: Rows
    tracing: Tracing

    @property
    def index(self) -> Index:
        """The index in this state."""
        return self.tracer.index


class Current:
    """Opens the index anew when its manifest on disk has changed. Its methods may be called from any thread.

    tracer: of the state that is there at first. answering: what is made of each state.
    """

    def __init__(self, tracer: Tracer, answering: Callable[[Tracer], Opened]) -> None:
        self._answering, self._opened = answering, answering(tracer)
        self._manifest = tracer.index.path / MANIFEST
        self._seen: tuple[int, ...] | None = None
        self._lock = Lock()

    def get(self) -> Opened:
        """The state on disk. Raises RefusedError (409) where it is another index, unfinished, damaged or gone."""
        with self._lock:
            now = _stamp(self._manifest)
            if now is None or now != self._seen:
                tracer = self._opened.tracer
                try:
                    if require_manifest(tracer.index.path) != tracer.index.manifest:
                        self._opened = self._answering(tracer.reopened())
                except WhenceError as error:
                    raise RefusedError(
                        HTTPStatus.CONFLICT,
                        f"The index was changed on disk, and cannot be asked any more: {error.found}",
                        "Rows may come and go while the server runs; the index and its model stay the same.",
                        "Restart whence serve, once the index is complete.",
                    ) from error
                self._seen = now
            return self._opened

    def work(self, do: Callable[[Tracing, Task], Json]) -> Callable[[Task], Json]:
        """Work for the model on the state that is on disk when it begins.

        It raises RefusedError (409) where it fails because the index is changed meanwhile.
        """

        def run(task: Task) -> Json:
            opened = self.get()
            try:
                return do(opened.tracing, task)
            except CancelledError:
                raise
            except BaseException as error:  # Lance panics where files are gone
                if self.get() is opened:
                    raise
                raise RefusedError(
                    HTTPStatus.CONFLICT,
                    "The index was changed while it was asked.",
                    "An answer is of one state of its rows.",
                    "Ask again.",
                ) from error

        return run


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes whenever a file is replaced; None where it cannot be told."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
