"""One index and one model for all tests of the server, and a browser for those of its page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from served_world import ORIGIN, ServedWorld, make_conversations, make_served_world, serving
from traced_world import TracedWorlds
from whence.serve.app import create_app
from whence.serve.service import state_folder
from whence.serve.settings import ServerSettings
from whence.trace.tracer import Tracer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Serve = Callable[..., TestClient]
Open = Callable[..., "Page"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def served(traced_worlds: TracedWorlds, tmp_path_factory: pytest.TempPathFactory) -> ServedWorld:
    """Model, data and index."""
    return make_served_world(tmp_path_factory.mktemp("served"), traced_worlds.own("traced", lora=True))


@pytest.fixture(scope="session")
def tracer(served: ServedWorld) -> Tracer:
    """The open index; its model is one server's at a time."""
    return Tracer(served.index)


@pytest.fixture(scope="session")
def conversations(served: ServedWorld, tracer: Tracer, tmp_path_factory: pytest.TempPathFactory) -> Tracer:
    """An open index of the same model whose rows have several turns."""
    return Tracer(make_conversations(served, tmp_path_factory.mktemp("conversations")), model=tracer.loaded)


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, started once a file: its event loop is in the way of tests that run their own.

    Where there is none its tests are left out; see tests/conftest.py.
    """
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def url(tracer: Tracer, served: ServedWorld) -> Iterator[str]:
    """The address of a server whose state is empty at first."""
    _forget(served.index)
    with serving(create_app(tracer, ServerSettings())) as address:
        yield address


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens an address; afterwards nothing may have run, complained or asked another site."""
    context = browser.new_context(accept_downloads=True)
    complaints: list[str] = []

    def open_(url: str, size: tuple[int, int] = (1280, 900), scheme: str = "light", allowed: str = "^$") -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.on("console", lambda said: re.search(allowed, said.text) or complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda sent: sent.url.startswith((url, "blob:", "data:")) or complaints.append(sent.url))
        page.goto(url)
        return page

    yield open_
    context.close()
    assert complaints == []
