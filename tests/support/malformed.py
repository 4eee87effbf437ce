"""Requests that an OpenAPI schema does not allow, made from the schema itself: each must be answered by 4xx."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hypothesis import assume
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

Schema = Mapping[str, Any]
MOST_ITEMS = 3
TRUTH = {"true", "false", "t", "f", "yes", "no", "y", "n", "on", "off", "1", "0"}
"""What a query's truth value may be."""

wrong: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


odd = st.sampled_from(["5", "5", "0.5", "true", True, True, 0, -1, 10**20, 0.5, "", [], "too long"]).map(
    lambda value: "x" * 101_000 if value == "too long" else value
)
"""What stands for something else in lax readers, and what lies beyond a bound."""


@dataclass(frozen=True)
class Operation:
    """One method of one path; `parameters` are its path's and query's, `body` the schema of what it takes."""

    method: str
    path: str
    parameters: Sequence[Schema] = field(repr=False)
    body: Schema | None = field(repr=False)


@dataclass
class MalformedRequest:
    """What is sent; `why` names what is wrong with it."""

    method: str
    path: str
    why: str
    query: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None


def operations_of(openapi: Schema) -> list[Operation]:
    """Those that something can be wrong with: a body or a parameter."""
    found = []
    for path, methods in openapi["paths"].items():
        for method, said in methods.items():
            body = said.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            whole = None if body is None else {**body, "components": openapi["components"]}
            if body is not None or said.get("parameters"):
                found.append(Operation(method.upper(), path, said.get("parameters", []), whole))
    return found


@st.composite
def malformed_requests(draw: st.DrawFn, operations: Sequence[Operation]) -> MalformedRequest:
    """One request with one thing wrong: its body, a part of its path, or a parameter of its query."""
    taking = [operation for operation in operations if operation.body is not None]
    operation = draw(st.sampled_from([*operations, *taking, *taking]))
    places = [("parameter", one) for one in operation.parameters]
    if operation.body is not None:
        places += [("body", operation.body)] * 3
    kind, at = places[draw(st.integers(0, len(places) - 1))]
    request = MalformedRequest(operation.method, operation.path, kind)
    for parameter in operation.parameters:
        name, schema = parameter["name"], parameter["schema"]
        is_wrong = parameter is at
        if parameter["in"] == "path":
            value = draw(_text_against(schema)) if is_wrong else draw(_like(schema, schema))
            request.path = request.path.replace(f"{{{name}}}", _quoted(value))
        elif is_wrong:
            request.query[name] = draw(_text_against(schema))
    if operation.body is not None:
        body = draw(_like(operation.body, operation.body))
        if kind == "body":
            body = draw(_broken(body, _resolved(operation.body, operation.body).get("properties", {})))
            assume(not Draft202012Validator(operation.body).is_valid(body))
        request.body = json.dumps(body).encode()
    return request


def _like(schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    """Values that the schema allows, nearly always."""
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        return st.one_of([_like(one, root) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    return _of_type(schema, root)


def _resolved(schema: Schema, root: Schema) -> Schema:
    place: Any = root
    for part in schema.get("$ref", "#/").removeprefix("#/").split("/"):
        place = place[part] if part else schema
    return place  # type: ignore[no-any-return]


def _of_type(schema: Schema, root: Schema) -> st.SearchStrategy[Any]:
    match schema.get("type"):
        case "object":
            parts = {name: _like(own, root) for name, own in schema.get("properties", {}).items()}
            needed = {name: own for name, own in parts.items() if name in schema.get("required", ())}
            optional = {name: own for name, own in parts.items() if name not in needed}
            # The fewer members, the fewer other reasons to refuse it.
            return st.fixed_dictionaries(needed) | st.fixed_dictionaries(needed, optional=optional)
        case "array":
            least = schema.get("minItems", 0)
            return st.lists(_like(schema["items"], root), min_size=least, max_size=max(least, MOST_ITEMS))
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"]).map(str.strip)
        case "string":
            return st.text(min_size=schema.get("minLength", 0), max_size=20)
        case "integer":
            return st.integers(schema.get("minimum", 0), min(schema.get("maximum", 50), 50))
        case "number":
            return st.floats(0.01, 0.9)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return wrong


@st.composite
def _broken(draw: st.DrawFn, body: Any, names: Mapping[str, Schema]) -> Any:
    """The value with something of it replaced, taken out or added; or another one. names: members it may have."""
    body = deepcopy(body)
    if not isinstance(body, dict) or not draw(st.integers(0, 9)):
        return draw(wrong)
    place = body
    while (inner := [value for value in place.values() if isinstance(value, dict) and value]) and draw(st.booleans()):
        place = draw(st.sampled_from(inner))
    how = draw(st.sampled_from(["replace", "take out", "add", "set", "set"]))
    if how == "set" and place is body and names:
        body[draw(st.sampled_from(sorted(names)))] = draw(odd)
        return body
    if how == "add" or not place:
        place[draw(st.text(max_size=10))] = draw(wrong)
        return body
    name = draw(st.sampled_from(sorted(place)))
    if how == "take out":
        del place[name]
    else:
        place[name] = draw(wrong | odd)
    return body


def _text_against(schema: Schema) -> st.SearchStrategy[str]:
    """Texts that are not what a parameter takes."""
    kinds = {one.get("type") for one in schema.get("anyOf", [schema])}
    texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/.\0"), min_size=1, max_size=20)
    if "integer" in kinds:
        return texts.filter(lambda text: not _is_number(text)) | st.just("-1")
    if "boolean" in kinds:
        return texts.filter(lambda text: text.lower() not in TRUTH)
    if "pattern" in schema:
        return texts.filter(lambda text: not Draft202012Validator(schema).is_valid(text))
    return st.just("") | st.just("x" * 2001) | st.just("nothing = 1")


def _is_number(text: str) -> bool:
    try:
        return bool(float(text.strip() or "x") is not None)
    except ValueError:
        return False


def _quoted(text: str) -> str:
    return quote(text, safe="")
