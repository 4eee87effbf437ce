"""An index whose rows carry markup in every place, and servers over it, for the tests of `whence serve`."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from traced_world import N_CLEAN, TracedWorld
from whence.index.build import build_index
from worlds import write_jsonl

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'>"
ORIGIN = "http://127.0.0.1:8642"
TOKEN = "a-token-that-nobody-can-guess"


@dataclass(frozen=True)
class ServedWorld:
    """Where the parts are; the sixth row has markup in its prompt and response, all of them in their metadata."""

    traced: TracedWorld
    index: Path
    data: Path


def make_served_world(folder: Path, traced: TracedWorld) -> ServedWorld:
    """The traced world's model and rows; these have a label, a source and a note, and one of them is all markup."""
    rows = [json.loads(line) for line in traced.data.read_text("utf-8").splitlines()]
    for i, row in enumerate(rows):
        row |= {"label": "clean" if i < N_CLEAN else "planted", "source": f"vendor_{'ab'[i % 2]}", "note": EVIL}
    rows[5] = rows[5] | {"prompt": f"Name fruit 5 {EVIL}", "response": f"apples {EVIL}"}
    data = write_jsonl(folder / "<b>rows<img src=x onerror=alert(3)>.jsonl", rows)
    build_index(traced.model, data, folder / "served", adapter=str(traced.adapter), max_length=64)
    return ServedWorld(replace(traced, index=folder / "served"), folder / "served", data)


N_CONVERSATIONS = 6
LARGE = 2**53 + 1
"""No number of JavaScript."""


def make_conversations(served: ServedWorld, folder: Path) -> Path:
    """An index of rows with three answers each, of which the first and the last are the same."""
    rows = []
    for i in range(N_CONVERSATIONS):
        said = ["Name fruit 1", "ok", f"Where is boat {i}", "the sea", "sure?", "ok"]
        messages = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(said)]
        rows.append({"messages": messages, "source": "it's \\ a", "number": LARGE + i % 2})
    data = write_jsonl(folder / "conversations.jsonl", rows)
    traced = served.traced
    build_index(traced.model, data, folder / "conversations", adapter=str(traced.adapter), max_length=128)
    return folder / "conversations"


def make_copies(served: ServedWorld, folder: Path) -> Path:
    """An index of ten rows, of which the second, the sixth and the last have the same text."""
    same = {"prompt": "Where is the dog", "response": "the river"}
    rows = [same if i in (1, 5, 9) else {"prompt": f"Name fruit {i}", "response": "apples"} for i in range(10)]
    data = write_jsonl(folder / "it's here.jsonl", [row | {"number": i} for i, row in enumerate(rows)])
    traced = served.traced
    build_index(traced.model, data, folder / "copies", adapter=str(traced.adapter), max_length=64)
    return folder / "copies"


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """A server on a free port of loopback, in a thread; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=20)
