"""An index that another process changes while a server is open: it answers from what is there now, or says why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from fastapi.testclient import TestClient

from served_world import ORIGIN, ServedWorld
from traced_world import N_CLEAN, N_FAULTY, PROMPT, RESPONSE
from whence.errors import InputError
from whence.index.appending import append_rows
from whence.index.build import build_index
from whence.index.compacting import compact_index
from whence.index.deleting import delete_rows
from whence.index.manifest import MANIFEST
from whence.serve.app import create_app
from whence.serve.service import Service
from whence.serve.tracing import Tracing
from whence.serve.worker import Task
from whence.trace.tracer import Tracer
from worlds import write_jsonl

N_ROWS = N_CLEAN + N_FAULTY
Reply = dict[str, object]


@pytest.fixture
def index(tracer: Tracer, tmp_path: Path) -> Path:
    """A copy of the served index, to be changed."""
    return shutil.copytree(tracer.index.path, tmp_path / "index")


@pytest.fixture
def client(tracer: Tracer, index: Path) -> Iterator[TestClient]:
    app = create_app(Tracer(index, model=tracer.loaded))
    with TestClient(app, base_url=ORIGIN, raise_server_exceptions=False) as client:
        yield client


def service_of(client: TestClient) -> Service:
    return cast("Service", client.app.state.service)  # type: ignore[attr-defined]


def traced(client: TestClient, **options: object) -> tuple[str, list[str]]:
    """The id of a query and the ids of its hits."""
    asked = {"prompt": PROMPT, "response": RESPONSE, "k": 5, "verdict": False, **options}
    answer = client.post("/v1/trace", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"], [hit["id"] for hit in answer.json()["result"]["hits"]]


def is_outdated(client: TestClient, id: str) -> bool:
    listed = {one["id"]: one["outdated"] for one in client.get("/v1/queries").json()["queries"]}
    found = client.get(f"/v1/queries/{id}").json()["outdated"]
    assert listed[id] == found
    return bool(found)


def test_rows_that_are_deleted_rank_no_more(client: TestClient, index: Path, tracer: Tracer) -> None:
    before, ids = traced(client)
    assert client.get("/v1/rows").json()["total"] == N_ROWS
    assert not is_outdated(client, before)
    delete_rows(index, ids[:2])
    assert is_outdated(client, before)
    assert "(asked before rows came or went)" in client.get(f"/v1/queries/{before}/report").text
    after, left = traced(client)
    assert not set(left) & set(ids[:2])
    expected = Tracer(index, model=tracer.loaded).trace(PROMPT, RESPONSE, k=5, verdict=False)
    assert left == [hit.id for hit in expected.hits]
    assert not is_outdated(client, after)
    assert "(asked before" not in client.get(f"/v1/queries/{after}/report").text
    page = client.get("/v1/rows").json()
    info = client.get("/v1/index").json()
    [labels] = [facet["values"] for facet in info["facets"] if facet["name"] == "label"]
    assert [page["total"], info["rows"], sum(one["rows"] for one in labels)] == [N_ROWS - 2] * 3
    assert client.get(f"/v1/rows/{ids[0]}").status_code == 404
    assert client.post("/v1/baskets", json={"rows": ids[:1]}).status_code == 422
    said = client.post(f"/v1/queries/{before}/words", json={"ranks": [1]})
    assert "rows have changed since" in said.json()["error"]["found"]


def test_a_compacted_index_is_asked_on(client: TestClient, index: Path) -> None:
    _, ids = traced(client)
    delete_rows(index, ids[:2])
    id, left = traced(client, verdict=True)
    compact_index(index)
    assert traced(client, verdict=True)[1] == left
    assert not is_outdated(client, id), "its rows are those of before"
    assert client.post(f"/v1/queries/{id}/words", json={"ranks": [1]}).status_code == 200
    assert client.get(f"/v1/rows/{left[0]}").status_code == 200


def test_rows_that_are_appended_rank(client: TestClient, index: Path, tmp_path: Path) -> None:
    before, _ = traced(client)
    new = {"prompt": PROMPT, "response": RESPONSE, "label": "new", "source": "vendor_c", "note": "new"}
    [row] = append_rows(index, write_jsonl(tmp_path / "new.jsonl", [new])).texts("label = 'new'")
    _, ids = traced(client)
    assert row.id in ids
    assert is_outdated(client, before)
    assert traced(client, where="`source` = 'vendor_c'")[1] == [row.id]


def test_an_index_that_stays_is_not_opened_again(client: TestClient, index: Path) -> None:
    current = service_of(client).current
    opened = current.get()
    (index / MANIFEST).touch()
    assert current.get() is opened
    manifest = (index / MANIFEST).read_bytes()
    (index / MANIFEST).unlink()
    (index / MANIFEST).write_bytes(manifest)
    assert current.get() is opened


def refused(client: TestClient) -> set[str]:
    """What is said of every request that needs the index."""
    asked = {"prompt": PROMPT, "response": RESPONSE}
    answers = [
        client.post("/v1/trace", json=asked | {"verdict": False}),
        client.post("/v1/audits", json={"log": '{"prompt": "a", "response": "b"}'}),
        client.post("/v1/generate", json={"prompt": PROMPT}),
        *map(client.get, ("/v1/index", "/v1/rows", "/v1/rows/0123456789abcdef")),
    ]
    assert {answer.status_code for answer in answers} == {409}
    assert {answer.json()["error"]["fix"] for answer in answers} == {
        "Restart whence serve, once the index is complete."
    }
    return {answer.json()["error"]["found"] for answer in answers}


def test_another_index_in_its_place_is_not_asked(client: TestClient, index: Path, served: ServedWorld) -> None:
    before, _ = traced(client)
    kept = index.rename(index.with_name("kept"))
    [said] = refused(client)
    assert "There is no index at index." in said
    traced_world = served.traced
    data = write_jsonl(index.with_name("other.jsonl"), [{"prompt": f"Name {i}", "response": "a"} for i in range(9)])
    build_index(traced_world.model, data, index, adapter=str(traced_world.adapter), max_length=64)
    [said] = refused(client)
    assert "another one now" in said
    assert is_outdated(client, before), "past queries are shown, as what they are"
    assert client.get("/v1/health").status_code == 200
    shutil.rmtree(index)
    kept.rename(index)
    assert len(traced(client)[1]) == 5, "it is there again"


def test_what_fails_because_the_index_changes_says_so(
    client: TestClient, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ids = traced(client)
    whole: Callable[..., object] = Tracing.trace

    def cut(self: Tracing, task: Task, *asked: object) -> object:
        monkeypatch.setattr(Tracing, "trace", whole)
        delete_rows(index, ids[:1])
        raise OSError("no such file")

    monkeypatch.setattr(Tracing, "trace", cut)
    answer = client.post("/v1/trace", json={"prompt": PROMPT, "response": RESPONSE})
    assert (answer.status_code, answer.json()["error"]["found"]) == (409, "The index was changed while it was asked.")
    traced(client)

    def broken(self: Tracing, task: Task, *asked: object) -> object:
        raise InputError("something else")

    monkeypatch.setattr(Tracing, "trace", broken)
    assert client.post("/v1/trace", json={"prompt": PROMPT}).json()["error"]["found"] == "something else"
