"""What a server keeps over changes of its index and over versions, and what it says of it."""

from __future__ import annotations

import errno
import json
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from traced_world import PROMPT, RESPONSE
from whence.files import hash_of
from whence.index.appending import append_rows
from whence.index.compacting import compact_index
from whence.index.deleting import delete_rows
from whence.serve import service
from whence.serve.settings import ServerSettings
from whence.serve.state import MIGRATIONS, State
from whence.trace.tracer import Tracer
from worlds import write_jsonl


def test_what_was_kept_stays_when_rows_go(tracer: Tracer, tmp_path: Path) -> None:
    index = shutil.copytree(tracer.index.path, tmp_path / "index")
    own = Tracer(index)
    before = hash_of(own.index.manifest.identity())
    whole = own.trace(PROMPT, RESPONSE, k=3, verdict=False).to_dict()
    earlier = State(service.state_folder(index), before)
    old = earlier.add_query({}, whole)
    earlier.close()
    served = service.Service(own, ServerSettings())
    new, basket = served.state.add_query({}, whole), served.state.latest_basket("Basket")
    served.close()
    delete_rows(index, [next(iter(own.index.texts())).id])
    served = service.Service(Tracer(index), ServerSettings())
    kept, n = served.state.queries(0, 9)
    assert n == 2, "that of an earlier version too"
    assert [one["n_flagged"] for one in kept] == [None, None], "nothing was tested"
    assert all(served.state.query(id) is not None for id in (old, new))
    assert served.state.latest_basket("Basket") == basket
    served.close()


@pytest.mark.parametrize("change", ["append", "compact"])
def test_what_was_kept_stays_when_rows_come_or_files_are_joined(tracer: Tracer, tmp_path: Path, change: str) -> None:
    index = shutil.copytree(tracer.index.path, tmp_path / "index")
    own = Tracer(index, model=tracer.loaded)
    whole = own.trace(PROMPT, RESPONSE, k=3, verdict=False).to_dict()
    rows = [example.id for example in own.index.examples([0, 1])]
    if change == "compact":
        delete_rows(index, rows[:1])
    served = service.Service(own, ServerSettings())
    job = "0123456789abcdef"
    query, basket = served.state.add_query({"prompt": PROMPT}, whole, 0), served.state.add_basket("mine")
    served.state.set_basket(basket, rows[1:])
    served.state.add_job(job, "audit", {"name": "May"})
    served.state.set_job(job, state="done")
    before = [served.state.query(query), served.state.basket(basket), served.state.job(job)]
    served.close()
    if change == "append":
        append_rows(index, write_jsonl(tmp_path / "new.jsonl", [{"prompt": "Name one", "response": "plums"}]))
    else:
        compact_index(index)
    served = service.Service(Tracer(index, model=tracer.loaded), ServerSettings())
    assert [served.state.query(query), served.state.basket(basket), served.state.job(job)] == before
    assert None not in before
    assert served.query(query)["outdated"], "one was asked before rows came or went"
    served.close()


def test_a_query_of_an_earlier_version_is_outdated_by_what_came_after_it(tracer: Tracer, tmp_path: Path) -> None:
    index = shutil.copytree(tracer.index.path, tmp_path / "index")
    served = service.Service(Tracer(index, model=tracer.loaded), ServerSettings())
    is_outdated = served._outdated()
    assert not is_outdated(0.0, None)
    before = time.time()
    delete_rows(index, [next(iter(tracer.index.texts())).id])
    is_outdated = served._outdated()
    assert is_outdated(before - 1, None)
    assert not is_outdated(before + 60, None)
    served.close()


def test_past_queries_without_a_verdict_say_so(tmp_path: Path) -> None:
    """Earlier versions counted no flagged rows where nothing was tested."""
    tested = {"flagged": [], "null_model": "a null model"}
    verdicts: dict[str, object] = {"a": None, "b": {"flagged": [], "null_model": ""}, "c": tested}
    with sqlite3.connect(tmp_path / "state.sqlite") as db:
        for script in MIGRATIONS[:2]:
            db.executescript(script)
        for id, verdict in verdicts.items():
            result = json.dumps({"queries": [{"prompt": "p", "response": "r", "verdict": verdict}]})
            db.execute("INSERT INTO queries VALUES (?, 'index', 1.0, 'p', 'r', 0, '{}', ?)", (id, result))
        db.execute("PRAGMA user_version = 2")
    db.close()
    for _ in range(2):
        state = State(tmp_path, "index")
        assert {one["id"]: one["n_flagged"] for one in state.queries(0, 9)[0]} == {"a": None, "b": None, "c": 0}
        state.close()


def test_a_past_query_that_cannot_be_read_is_no_defect(client: TestClient) -> None:
    state = client.app.state.service.state  # type: ignore[attr-defined]
    result = {"schema": "whence.trace/1", "queries": [{"prompt": "p", "response": "r"}]}
    for id in (state.add_query({"prompt": "p"}, result), state.add_query({"question": "p"}, result)):
        for answer in (
            client.get(f"/v1/queries/{id}"),
            client.get(f"/v1/queries/{id}/report"),
            client.post(f"/v1/queries/{id}/words", json={"ranks": [1]}),
            client.post("/v1/audits", json={"queries": [id]}),
        ):
            assert answer.status_code == 409, answer.text
            assert "another version of whence" in answer.json()["error"]["found"]
    assert client.get("/v1/queries").json()["total"] == 2


def test_a_disk_that_is_full_is_no_defect(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for place in ("whence.serve.state.State.add_query", "whence.serve.state.State.latest_basket"):
        monkeypatch.setattr(place, full)
    asked = {"prompt": PROMPT, "response": RESPONSE, "verdict": False}
    for answer in (client.post("/v1/trace", json=asked), client.post("/v1/baskets/latest")):
        assert answer.status_code == 507
        assert "No space left on device" in answer.json()["error"]["found"]
    streamed = client.post("/v1/trace", json=asked, headers={"accept": "text/event-stream"})
    assert "No space left on device" in streamed.text


def test_a_past_query_has_all_that_was_asked(client: TestClient) -> None:
    method = client.get("/v1/index").json()["methods"][-1]
    asked = {"k": 3, "method": method, "fdr": 0.2, "where": "label = 'clean'", "verdict": False, "complete": False}
    asked |= {"prompt": PROMPT, "response": RESPONSE, "system": "Be brief.", "span": [0, 7], "wanted": None}
    id = client.post("/v1/trace", json=asked).json()["id"]
    found = client.get(f"/v1/queries/{id}").json()
    assert found["request"] == asked | {"words": 0}
    assert client.post("/v1/trace", json=found["request"]).json()["result"] == found["result"]
