"""The API gives what the library gives, keeps it, and shows no text where none is to be shown."""

from __future__ import annotations

import asyncio
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel

from served_world import EVIL, LARGE, N_CONVERSATIONS, ORIGIN, ServedWorld
from traced_world import N_CLEAN, N_FAULTY, PROMPT, RESPONSE
from whence.cleaning.undoing import undo_clean
from whence.data import Json
from whence.data.readers import read_examples
from whence.errors import IndexFolderError
from whence.index import Index
from whence.index.build import build_index
from whence.index.history import Change
from whence.model.generation import generate, stream_answer
from whence.serve import schemas, service
from whence.serve.app import create_app
from whence.serve.exports import Exports
from whence.serve.failures import RefusedError
from whence.serve.reading import Rows
from whence.serve.state import MOST_ROWS, State
from whence.serve.worker import Task, Worker
from whence.trace.query.queries import Query
from whence.trace.tracer import Tracer
from worlds import write_jsonl

Serve = Callable[..., TestClient]
EVENTS = {"accept": "text/event-stream"}


def events_of(text: str) -> list[tuple[str, object]]:
    parts = [part.split("\n") for part in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


def traced(client: TestClient, **options: object) -> dict[str, object]:
    answer = client.post("/v1/trace", json={"prompt": PROMPT, "response": RESPONSE, **options})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


def test_a_trace_is_the_librarys_own(client: TestClient, tracer: Tracer, served: ServedWorld) -> None:
    found = traced(client, k=8, where="label = 'planted'")
    expected = tracer.trace(PROMPT, RESPONSE, k=8, where="label = 'planted'").to_dict()["queries"]
    assert isinstance(expected, list)
    assert found["result"] == expected[0]
    assert client.get(f"/v1/queries/{found['id']}").json()["result"] == expected[0]
    whole = traced(client, k=N_FAULTY)["result"]
    assert isinstance(whole, dict)
    assert set(whole["verdict"]["flagged"]) <= served.traced.faulty
    assert whole["verdict"]["flagged"]


def test_marked_words_and_a_wanted_answer_are_asked_about(client: TestClient, tracer: Tracer) -> None:
    start = RESPONSE.index("wind")
    found = traced(client, span=[start, start + 4], verdict=False)
    expected = tracer.trace(PROMPT, RESPONSE, k=20, span="wind", verdict=False).to_dict()["queries"]
    assert isinstance(expected, list)
    assert found["result"] == expected[0]
    wanted = traced(client, wanted="apples", verdict=False)["result"]
    assert isinstance(wanted, dict)
    assert wanted["wanted"] == "apples"


def test_words_come_row_by_row_and_are_kept(client: TestClient, tracer: Tracer) -> None:
    found = traced(client, k=4)
    [expected] = tracer.trace(PROMPT, RESPONSE, k=4, words=2, verdict=False)
    own = client.post(f"/v1/queries/{found['id']}/words", json={"ranks": [2, 1]}).json()["result"]
    for given, hit in zip(own["hits"], expected.hits, strict=False):
        assert hit.words is not None
        assert given["words"]["response"]["scores"] == pytest.approx(hit.words.response.scores)
    kept = client.get(f"/v1/queries/{found['id']}").json()["result"]
    assert [hit["words"] is not None for hit in kept["hits"]] == [True, True, False, False]
    assert kept["verdict"] == found["result"]["verdict"]  # type: ignore[index]
    assert client.post(f"/v1/queries/{found['id']}/words", json={"ranks": [5]}).status_code == 400


def test_words_of_later_rows_leave_those_of_the_query(client: TestClient) -> None:
    id = traced(client, k=7, verdict=False)["id"]
    own = {name: traced_words(client, id, [1, 2, 3])[name] for name in ("prompt_words", "response_words", "phrases")}
    for ranks in ([4, 5], [6], [1, 2]):
        kept = traced_words(client, id, ranks)
        assert all(kept["hits"][rank - 1]["words"] for rank in ranks)
        assert {name: kept[name] for name in own} == own
    assert traced_words(client, id, [1, 2, 3, 4, 5, 6])["response_words"] != own["response_words"]


def traced_words(client: TestClient, id: object, ranks: list[int]) -> dict[str, Any]:
    """The kept query once the words of these rows have been asked for."""
    assert client.post(f"/v1/queries/{id}/words", json={"ranks": ranks}).status_code == 200
    found = client.get(f"/v1/queries/{id}").json()["result"]
    assert isinstance(found, dict)
    return found


def test_words_of_a_query_from_before_a_restart(serve: Serve) -> None:
    found = traced(serve(), k=3, verdict=False)
    own = serve().post(f"/v1/queries/{found['id']}/words", json={"ranks": [3]})
    assert own.json()["result"]["hits"][0]["words"] is not None


def test_events_bring_the_rows_before_the_verdict(client: TestClient) -> None:
    answer = client.post("/v1/trace", json={"prompt": PROMPT, "response": RESPONSE}, headers=EVENTS)
    names = [name for name, _ in events_of(answer.text)]
    assert names[-1] == "result"
    assert "ranked" in names
    failed = client.post("/v1/trace", json={"prompt": PROMPT, "response": RESPONSE, "span": "Peru"}, headers=EVENTS)
    name, data = events_of(failed.text)[-1]
    assert name == "error"
    assert set(data) == {"found", "expected", "fix"}  # type: ignore[call-overload]


def test_an_answer_that_nobody_begins_to_read_is_taken_back(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[Task] = []
    submit = Worker.submit

    def kept(self: Worker, work: Callable[[Task], Json]) -> Task:
        submitted.append(submit(self, work))
        return submitted[-1]

    monkeypatch.setattr(Worker, "submit", kept)
    body = json.dumps({"prompt": PROMPT, "response": RESPONSE}).encode()
    received = [{"type": "http.disconnect"}, {"type": "http.request", "body": body}]

    async def receive() -> dict[str, object]:
        return received.pop() if len(received) > 1 else received[0]

    async def send(message: object) -> None:
        await asyncio.sleep(0)

    headers = {"host": "127.0.0.1:8642", "content-type": "application/json", "accept": "text/event-stream"}
    scope = {
        **{"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http"},
        **{"method": "POST", "path": "/v1/trace", "raw_path": b"/v1/trace", "query_string": b"", "root_path": ""},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    assert [task.is_cancelled for task in submitted] == [True]


def test_a_streamed_answer_is_the_greedy_one(client: TestClient, tracer: Tracer) -> None:
    ids = Query.of(PROMPT).prompt_ids(tracer.encoder)
    [expected] = generate(tracer.loaded, [ids], max_new_tokens=12)
    pieces: list[str] = []
    assert stream_answer(tracer.loaded, ids, pieces.append, max_new_tokens=12) == expected
    assert "".join(pieces) == expected.text
    assert len(pieces) > 1
    asked = {"prompt": PROMPT, "max_new_tokens": 12}
    found = events_of(client.post("/v1/generate", json=asked, headers=EVENTS).text)
    assert "".join(data["text"] for name, data in found if name == "text") == expected.text  # type: ignore[index]
    assert client.post("/v1/generate", json=asked).json() == {"text": expected.text, "complete": expected.complete}


def test_an_answer_ends_when_what_hears_it_raises(tracer: Tracer) -> None:
    heard: list[str] = []

    def hear(piece: str) -> None:
        heard.append(piece)
        raise KeyError

    with pytest.raises(KeyError):
        stream_answer(tracer.loaded, Query.of(PROMPT).prompt_ids(tracer.encoder), hear, max_new_tokens=50)
    assert len(heard) == 1


def test_rows_are_paged_filtered_and_have_neighbours(client: TestClient, served: ServedWorld) -> None:
    first = client.get("/v1/rows", params={"limit": 3}).json()
    assert first["total"] == N_CLEAN + N_FAULTY
    assert [row["line"] for row in first["rows"]] == [1, 2, 3]
    next_ = client.get("/v1/rows", params={"limit": 2, "offset": 3, "where": "label = 'clean'"}).json()
    assert [row["line"] for row in next_["rows"]] == [4, 5]
    assert next_["total"] == N_CLEAN
    quoted = client.get("/v1/rows", params={"where": "`source` = 'vendor_a'"}).json()
    assert quoted["total"] == (N_CLEAN + N_FAULTY) // 2
    examples = list(read_examples(served.data))
    found = client.get(f"/v1/rows/{examples[5].id}").json()
    assert EVIL in found["row"]["prompt"]
    assert [row["line"] for row in found["before"]] == [3, 4, 5]
    assert [row["line"] for row in found["after"]] == [7, 8, 9]
    assert [turn["role"] for turn in found["turns"]] == ["user", "assistant"]
    facets = {facet["name"]: facet["values"] for facet in client.get("/v1/index").json()["facets"]}
    assert [(one["value"], one["text"], one["rows"]) for one in facets["label"]] == [
        ("clean", "clean", N_CLEAN),
        ("planted", "planted", N_FAULTY),
    ]
    for one in [*facets["label"], *facets["note"], *facets["file"]]:
        assert client.get("/v1/rows", params={"where": one["where"]}).json()["total"] == one["rows"]


def test_a_restart_loses_nothing(serve: Serve, served: ServedWorld) -> None:
    client = serve()
    id = traced(client, verdict=False)["id"]
    rows = [example.id for example in list(read_examples(served.data))[:2]]
    basket = client.post("/v1/baskets", json={"name": "mine", "rows": rows}).json()
    client = serve()
    assert [query["id"] for query in client.get("/v1/queries").json()["queries"]] == [id]
    assert client.get("/v1/baskets").json()["baskets"] == [basket]
    changed = client.put(f"/v1/baskets/{basket['id']}", json={"rows": rows[:1]}).json()
    assert changed["rows"] == rows[:1]
    assert client.put(f"/v1/baskets/{basket['id']}", json={"rows": ["0" * 16]}).status_code == 422
    assert client.delete(f"/v1/queries/{id}").status_code == 204
    assert client.delete(f"/v1/queries/{id}").status_code == 404
    assert client.delete(f"/v1/baskets/{basket['id']}").status_code == 204
    assert client.get(f"/v1/baskets/{basket['id']}").status_code == 404


def test_two_who_change_one_basket_lose_nothing(client: TestClient, served: ServedWorld) -> None:
    rows = [example.id for example in list(read_examples(served.data))[:3]]
    one, other = (client.post("/v1/baskets/latest").json() for _ in range(2))
    assert one == other
    assert client.get("/v1/baskets").json()["baskets"] == [one]
    address = f"/v1/baskets/{one['id']}"
    assert client.patch(address, json={"add": rows[:1]}).json()["rows"] == rows[:1]
    assert client.patch(address, json={"add": [rows[2], rows[1], rows[2]]}).json()["rows"] == [rows[0], *rows[:0:-1]]
    assert client.patch(address, json={"remove": rows[:1], "add": rows[1:2]}).json()["rows"] == rows[:0:-1]
    assert client.patch(address, json={"add": ["0" * 16]}).status_code == 422
    assert client.patch(address, json={"rows": rows}).status_code == 422
    assert client.get(address).json()["rows"] == rows[:0:-1]
    assert client.patch("/v1/baskets/0123456789abcdef", json={"add": rows}).status_code == 404
    assert 'method="PATCH"' in client.get("/metrics").text


def test_what_an_index_should_be_known_for_is_said(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> None:
    old = replace(tracer.index, manifest=tracer.index.manifest.model_copy(update={"reading": 1}))
    monkeypatch.setattr("whence.serve.current.require_manifest", lambda path: old.manifest)
    with TestClient(create_app(Tracer(old, model=tracer.loaded)), base_url=ORIGIN) as client:
        [note] = client.get("/v1/index").json()["notes"]
    assert note.startswith("The index was built by another version of whence")
    assert note.endswith(".")


def test_a_basket_has_an_end(tmp_path: Path) -> None:
    state = State(tmp_path, "index")
    id = state.latest_basket("Basket")
    rows = [f"{i:016x}" for i in range(MOST_ROWS + 1)]
    assert state.edit_basket(id, rows[1:], [])
    with pytest.raises(RefusedError, match="would hold 10,001 rows"):
        state.edit_basket(id, rows[:1], [])
    assert state.edit_basket(id, rows[:1], rows[1:2])
    assert state.basket(id)["rows"] == [*rows[2:], rows[0]]  # type: ignore[index]
    state.close()


def test_rows_of_several_turns_are_counted_once(conversations: Tracer) -> None:
    app = create_app(conversations)
    with TestClient(app, base_url=ORIGIN) as client:
        page = client.get("/v1/rows", params={"limit": 4}).json()
        assert (page["total"], page["n_rows"]) == (3 * N_CONVERSATIONS, N_CONVERSATIONS)
        assert [row["turn"] for row in page["rows"]] == [0, 1, 2, 0]
        assert client.get("/v1/rows", params={"where": "row < 2 AND turn > 0"}).json()["n_rows"] == 2
        found = client.get(f"/v1/rows/{page['rows'][0]['id']}").json()
        assert [turn["answer"] for turn in found["turns"]] == [None, 0, None, 1, None, 2]
        facets = {facet["name"]: facet["values"] for facet in client.get("/v1/index").json()["facets"]}
        assert [(one["text"], one["rows"]) for one in facets["number"]] == [(str(LARGE), 3), (str(LARGE + 1), 3)]
        for one in [*facets["number"], *facets["source"]]:
            assert client.get("/v1/rows", params={"where": one["where"]}).json()["n_rows"] == one["rows"]


def test_a_row_whose_first_answer_was_cut_away_is_counted(served: ServedWorld, tmp_path: Path) -> None:
    said = ["Name fruit 1", "apples " * 20, "Where is boat 2", "the sea"]
    messages = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(said)]
    data = write_jsonl(tmp_path / "rows.jsonl", [{"messages": messages, "source": "a"}])
    model, adapter = served.traced.model, str(served.traced.adapter)
    build_index(model, data, tmp_path / "index", adapter=adapter, max_length=16, truncation="keep_end")
    rows = Rows(Index.open(tmp_path / "index"), show_text=True)
    assert [row["turn"] for row in rows.page(None, 0, 9)["rows"]] == [1]  # type: ignore[index, union-attr]
    [source] = [facet for facet in rows.facets() if facet["name"] == "source"]  # type: ignore[index, call-overload]
    assert [one["rows"] for one in source["values"]] == [1]  # type: ignore[index, union-attr, call-overload]


def test_an_export_can_be_undone(client: TestClient, served: ServedWorld, tmp_path: Path) -> None:
    rows = sorted({example.id for example in list(read_examples(served.data))[N_CLEAN:]})
    made = client.post("/v1/export", json={"rows": rows}).json()
    assert client.post("/v1/export", json={"rows": rows[::-1]}).json()["id"] == made["id"]
    cleaned = client.get(f"/v1/exports/{made['id']}/cleaned")
    assert len(cleaned.text.splitlines()) == N_CLEAN
    assert "attachment" in cleaned.headers["content-disposition"]
    assert client.get(f"/v1/exports/{made['id']}/ids").text.split() == rows
    manifest = served.index.with_name("served.serve") / "exports" / made["id"] / "manifest.json"
    assert manifest.read_bytes() == client.get(f"/v1/exports/{made['id']}/manifest").content
    assert undo_clean(manifest, tmp_path / "again.jsonl").read_bytes() == served.data.read_bytes()


def test_without_texts_no_answer_has_one(serve: Serve) -> None:
    client = serve(show_text=False)
    found = traced(client, k=3)
    answers = [
        json.dumps(found["result"]["hits"]),  # type: ignore[index]
        client.get("/v1/rows").text,
        client.get("/v1/rows/" + found["result"]["hits"][0]["id"]).text,  # type: ignore[index]
        json.dumps(client.get(f"/v1/queries/{found['id']}").json()["result"]["hits"]),
    ]
    for answer in answers:
        assert "the sea" not in answer
        assert "fruit" not in answer
    assert "Where is boat 3" not in client.get(f"/v1/queries/{found['id']}/report").text


def test_the_report_is_a_download_that_runs_nothing_of_the_data(client: TestClient) -> None:
    id = traced(client, k=3)["id"]
    page = client.get(f"/v1/queries/{id}/report")
    assert page.headers["content-disposition"].startswith("attachment")
    assert EVIL not in page.text
    assert "Where is boat" in page.text
    assert "Where is boat 3" not in client.get(f"/v1/queries/{id}/report", params={"text": False}).text


def test_figures_for_prometheus(client: TestClient) -> None:
    client.get("/v1/rows/0123456789abcdef")
    figures = client.get("/metrics").text
    assert 'whence_requests_total{method="GET",route="/v1/rows/{id}",status="404"} 1.0' in figures
    assert "0123456789abcdef" not in figures
    assert "whence_waiting_requests 0.0" in figures


def test_examples_of_the_schema_are_valid(client: TestClient) -> None:
    schema = client.get("/v1/openapi.json").json()
    assert set(schema["paths"]) >= {"/v1/trace", "/v1/rows/{id}", "/v1/jobs/{id}/events"}
    n = 0
    for name, found in schema["components"]["schemas"].items():
        model = getattr(schemas, name, None)
        for example in found.get("examples", []):
            assert isinstance(model, type)
            assert issubclass(model, BaseModel)
            model.model_validate(example)
            n += 1
    assert n > 8


def test_an_index_whose_rows_changed_exports_nothing(served: ServedWorld, tmp_path: Path) -> None:
    """The file that it was built from has not the rows that were appended."""
    index = Index.open(served.index)
    part = Change(change="append", when="", model="", n_rows=1, data=index.manifest.data)
    built = part.model_copy(update={"change": "build"})
    changed = replace(index, manifest=index.manifest.model_copy(update={"history": (built, part)}))
    with pytest.raises(IndexFolderError, match="no longer those of"):
        Exports(tmp_path).make(changed, [next(index.texts()).id])


def test_data_of_several_files_are_exported_too(served: ServedWorld, tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        shutil.copy(served.data, tmp_path / name)
    index = Index.open(served.index)
    data = index.manifest.data.model_copy(update={"source": str(tmp_path / "*.jsonl")})
    changed = replace(index, manifest=index.manifest.model_copy(update={"data": data}))
    exports = Exports(tmp_path / "out")
    made = exports.make(changed, [next(index.texts()).id])
    assert zipfile.is_zipfile(exports.file(str(made["id"]), "cleaned"))


def test_an_answer_that_was_stopped_is_traced_as_it_is(client: TestClient, tracer: Tracer) -> None:
    [expected] = tracer.trace_many([replace(Query.of(PROMPT, RESPONSE), complete=False)], k=3, verdict=False)
    found = traced(client, k=3, verdict=False, complete=False)["result"]
    assert [hit["score"] for hit in found["hits"]] == [hit.score for hit in expected.hits]  # type: ignore[index]
    assert [hit["score"] for hit in found["hits"]] != [  # type: ignore[index]
        hit["score"]
        for hit in traced(client, k=3, verdict=False)["result"]["hits"]  # type: ignore[index]
    ]
    assert found["complete"] is False  # type: ignore[index]


def test_rows_are_looked_up_once(served: ServedWorld, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [example.id for example in list(read_examples(served.data))[N_CLEAN:]]
    asked: list[int] = []
    known = Rows.known

    def counted(self: Rows, ids: Iterable[str]) -> set[str]:
        asked.append(1)
        return known(self, ids)

    monkeypatch.setattr(Rows, "known", counted)
    assert client.post("/v1/baskets", json={"rows": rows}).status_code < 300
    assert asked == [1]


def test_a_retraining_for_too_few_queries_is_refused(
    serve: Serve, served: ServedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "can_train", lambda manifest: True)
    client = serve(base="base")
    rows = [row["id"] for row in client.get("/v1/rows").json()["rows"][:1]]
    said = client.post("/v1/jobs", json={"queries": ["0" * 16], "rows": rows, "match": "Peru"})
    assert said.status_code == 400
    assert "1 prompt is asked" in said.json()["error"]["found"]
