"""One index and one model for all tests of the server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from served_world import ORIGIN, ServedWorld, make_served_world
from whence.serve.app import create_app
from whence.serve.service import state_folder
from whence.serve.settings import ServerSettings
from whence.trace.tracer import Tracer

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedWorld:
    """Model, data and index."""
    return make_served_world(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def tracer(served: ServedWorld) -> Tracer:
    """The open index; its model is one server's at a time."""
    return Tracer(served.index)


@pytest.fixture
def serve(served: ServedWorld, tracer: Tracer) -> Iterator[Serve]:
    """Starts servers whose state is empty at first, and kept from one to the next within a test."""
    _forget(served.index)
    running: list[TestClient] = []

    def start(**settings: object) -> TestClient:
        while running:
            running.pop().__exit__(None, None, None)
        app = create_app(tracer, ServerSettings(**settings))  # type: ignore[arg-type]
        client = TestClient(app, base_url=ORIGIN, raise_server_exceptions=False)
        client.__enter__()
        running.append(client)
        return client

    yield start
    while running:
        running.pop().__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> TestClient:
    """A server with the default settings."""
    return serve(rate=10_000.0, burst=10_000)


def _forget(index: Path) -> None:
    shutil.rmtree(state_folder(index), ignore_errors=True)
