"""Integers beyond 2^53 - 1 reach a browser whole."""

from __future__ import annotations

import json

from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from served_world import LARGE, ORIGIN
from whence.data import Json
from whence.serve.app import create_app
from whence.serve.large import as_texts, large_integers
from whence.trace.tracer import Tracer


def events_of(text: str) -> dict[str, dict[str, object]]:
    parts = [part.split("\n") for part in text.strip().split("\n\n")]
    return {name.removeprefix("event: "): json.loads(data.removeprefix("data: ")) for name, data in parts}


def test_integers_that_a_browser_rounds_are_texts_too(conversations: Tracer) -> None:
    with TestClient(create_app(conversations), base_url=ORIGIN) as client:
        page = client.get("/v1/rows", params={"limit": 1}).json()
        assert page["rows"][0]["metadata"]["number"] == str(LARGE)
        found = client.get(f"/v1/rows/{page['rows'][0]['id']}").json()
        assert [row["metadata"]["number"] for row in (found["row"], *found["after"][:1])] == [
            str(LARGE),
            str(LARGE + 1),
        ]
        asked = {"prompt": "Where is boat 0", "response": "the sea", "k": 2, "where": f"number = {LARGE}"}
        events = events_of(client.post("/v1/trace", json=asked, headers={"accept": "text/event-stream"}).text)
        id = events["result"]["id"]
        answers = [*(events[name] for name in ("ranked", "result")), client.get(f"/v1/queries/{id}").json()]
        for answer in answers:
            assert [hit["metadata"]["number"] for hit in answer["result"]["hits"]] == [LARGE] * 2
            places = {f"/hits/{i}/metadata/number": str(LARGE) for i in range(2)}
            assert answer["large_integers"] == places


def nested(values: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3)


@given(values=st.recursive(st.integers() | st.text() | st.booleans() | st.none() | st.floats(), nested, max_leaves=20))
def test_large_integers_are_found_where_they_are(values: Json) -> None:
    places = large_integers(values)
    for place, digits in places.items():
        found = values
        for part in place.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found[name] if isinstance(found, dict) else found[int(name)]  # type: ignore[index, assignment]
        assert str(found) == digits
        assert float(int(digits)) != int(digits) or abs(int(digits)) >= 2**53
    assert large_integers(as_texts(values)) == {}
    assert (as_texts(values) == values) == (not places) or values != values
