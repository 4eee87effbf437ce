"""Whatever is sent, the answer is one of 2xx or 4xx, in three parts where it is an error."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malformed import MalformedRequest, Operation, malformed_requests, operations_of

Serve = Callable[..., TestClient]
JSON = {"content-type": "application/json"}
ID = "0123456789abcdef"
POSTS = [
    *("/v1/generate", "/v1/trace", "/v1/baskets", "/v1/export", "/v1/jobs"),
    *(f"/v1/queries/{ID}/words", f"/v1/jobs/{ID}/cancel", "/v1/audits"),
]

LARGE = pytest.mark.filterwarnings("ignore:Generating overly large repr")
"""A schema is long; hypothesis says so of every strategy that holds one."""
ANY = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("\ud800")
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
NAMES = ["prompt", "response", "system", "k", "span", "wanted", "where", "method", "fdr", "words", "rows", "ranks"]
NAMES += ["name", "basket", "queries", "match", "seeds", "max_new_tokens", "verdict"]
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=5) | values


def refused(client: TestClient, request: MalformedRequest) -> None:
    sent = {"content": request.body, "headers": JSON} if request.body is not None else {}
    answer = client.request(request.method, request.path, params=request.query or None, **sent)  # type: ignore[arg-type]
    check(answer)
    # A body that the schema does not allow is refused as such, before anything is done with it.
    assert answer.status_code in ((422,) if request.why == "body" else range(400, 500)), (request, answer.text[:500])


@LARGE
@settings(max_examples=100, **ANY)  # type: ignore[arg-type]
@given(data=st.data())
def test_what_the_schema_does_not_allow_is_refused(client: TestClient, data: st.DataObject) -> None:
    refused(client, data.draw(malformed_requests(operations(client))))


@LARGE
@pytest.mark.slow
@settings(max_examples=1000, **ANY)  # type: ignore[arg-type]
@given(data=st.data())
def test_a_thousand_requests_that_the_schema_does_not_allow_are_refused(
    client: TestClient, data: st.DataObject
) -> None:
    refused(client, data.draw(malformed_requests(operations(client))))


@cache
def operations(client: TestClient) -> list[Operation]:
    return operations_of(client.get("/v1/openapi.json").json())


def check(answer: object) -> None:
    status = answer.status_code  # type: ignore[attr-defined]
    text = answer.text  # type: ignore[attr-defined]
    assert 200 <= status < 300 or 400 <= status < 500, (status, text)
    if status >= 400:
        assert set(json.loads(text)["error"]) == {"found", "expected", "fix"}
        assert "Traceback" not in text


@settings(max_examples=60, **ANY)
@given(path=st.sampled_from(POSTS), body=bodies)
def test_any_json_is_answered(client: TestClient, path: str, body: object) -> None:
    check(client.post(path, content=json.dumps(body).encode(), headers=JSON))


@settings(max_examples=40, **ANY)
@given(path=st.sampled_from(POSTS), body=st.binary(max_size=60))
def test_any_bytes_are_answered(client: TestClient, path: str, body: bytes) -> None:
    check(client.post(path, content=body, headers=JSON))


@settings(max_examples=60, **ANY)
@given(where=st.text(max_size=40), offset=st.integers(), limit=st.text(max_size=5))
def test_any_filter_is_answered(client: TestClient, where: str, offset: int, limit: str) -> None:
    check(client.get("/v1/rows", params={"where": where.encode("utf-8", "replace"), "offset": offset, "limit": limit}))


@pytest.mark.parametrize(
    "where",
    [
        "(" * 1000,
        "NOT " * 400 + "true",
        "1=1; DROP TABLE rows",
        "id = (SELECT 1)",
        "regexp_match(prompt, '(')",
        "line / 0 > 1",
        "prompt LIKE '%\\",
        "cast(prompt AS int) > 1",
        "'",
        "turns",
        "dm_2 = 1",
        "row IN ()",
    ],
)
def test_odd_filters_are_answered(client: TestClient, where: str) -> None:
    check(client.get("/v1/rows", params={"where": where}))
    check(client.post("/v1/trace", json={"prompt": "a", "response": "b", "where": where, "verdict": False}))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"prompt": "' + b"\\ud800" + b'"}',
        b'{"prompt": "\\u0000"}',
        b'{"prompt": "   "}',
        b'{"prompt": []}',
        b'{"prompt": [{"role": "user"}]}',
        b'{"prompt": "a", "response": "b", "span": [5, 2]}',
        b'{"prompt": "a", "response": "b", "span": [0, 900]}',
        b'{"prompt": "a", "response": "b", "span": "b#0"}',
        b'{"prompt": "a", "response": "b", "method": "none-such"}',
        b'{"prompt": "a", "response": "b", "k": 1e400}',
        b'{"prompt": "a", "response": "b", "fdr": NaN}',
        b'{"prompt": "a", "promt": "b"}',
        b'{"prompt": "a", "response": "b", "span": "b", "wanted": "c"}',
        b"\xff\xfe",
        b"",
    ],
)
def test_odd_queries_are_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/trace", content=body, headers=JSON)
    check(answer)
    assert answer.status_code >= 400, answer.text


@pytest.mark.parametrize(
    "change",
    [{"match": "("}, {"match": ""}, {"queries": []}, {"rows": []}, {"rows": ["../../x"]}, {"seeds": 0}, {"basket": ID}],
)
def test_odd_retrainings_are_refused(client: TestClient, change: dict[str, object]) -> None:
    body = {"queries": [ID], "rows": [ID], "match": "a", **change}
    answer = client.post("/v1/jobs", json=body)
    check(answer)
    assert answer.status_code in (400, 404, 422)
