"""Results as JSON and back: the one place that knows how plain data is written. `decode(type(x), encode(x)) == x`.

A dataclass is an object with a member for each field, a tuple an array, a mapping an object; the rest is as in JSON.
Fields, and the types that a file is held to, are read from the dataclasses: a new field is written and read at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TypeVar, cast, get_args, get_origin, get_type_hints

from whence.data import INT64, Json, json_reason
from whence.files import write_result

T = TypeVar("T")

NUMBERS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


DEEPEST = 200
"""Levels of lists and objects in what a row carries; rows of data have 100 at most."""


class SchemaError(ValueError):
    """JSON that is not what the type says; the message names the place, such as `queries[0].hits[2].score`."""


def encode(value: object) -> Json:
    """The JSON value of a dataclass, and of all in it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        # A map has a number for every pair of words: rows of numbers are taken whole.
        return list(value) if _only_floats(value) else [encode(one) for one in value]
    # What a mapping holds is JSON already: the columns of a row, and confounds.
    return dict(value) if isinstance(value, Mapping) else cast("Json", value)


def json_text(schema: str, content: Json, path: str | Path | None = None) -> str:
    """The text of a result's file, its schema first; also written to `path` when one is given.

    Raises ValueError for a number that is not finite.
    """
    assert isinstance(content, dict)
    text = json.dumps({"schema": schema, **content}, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    # A lone surrogate has no UTF-8 form; this is how JSON spells it.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if path is not None:
        write_result(path, text)
    return text


def json_object(text: str) -> dict[str, Json]:
    """The JSON object that `json_text` wrote. Raises SchemaError for any other text, and for one with NaN."""

    def refuse(name: str) -> None:
        raise SchemaError(f"it holds {name}, which is no JSON")

    try:
        content = json.loads(text, parse_constant=refuse)
    except SchemaError:
        raise
    except (ValueError, RecursionError) as error:
        raise SchemaError(json_reason(error)) from error
    if not isinstance(content, dict):
        raise SchemaError("it holds no JSON object")
    return content


def decode(wanted: type[T], found: Json, place: str = "") -> T:
    """The dataclass that `encode` wrote. A member that is missing takes the field's default.

    Raises SchemaError: a member that is unknown or missing without a default, or a value of another type.
    """
    return cast("T", _decoded(wanted, found, place))


def _decoded(wanted: object, found: object, place: str) -> object:
    """`found` as the type `wanted`: a dataclass, a tuple, a mapping, a choice of these, or a JSON value."""
    origin = get_origin(wanted)
    if is_dataclass(wanted) and isinstance(wanted, type):
        return _object(wanted, found, place)
    if origin is UnionType:
        return _one_of(get_args(wanted), found, place)
    if origin is tuple:
        return tuple(_items(get_args(wanted), found, place))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(found, dict):
            raise _mismatch(place, "an object", found)
        if _deeper(found, DEEPEST):
            raise SchemaError(f"{place}: nested deeper than {DEEPEST} levels")
        return found
    if isinstance(wanted, type):
        return _value(wanted, found, place)
    if found not in get_args(wanted):
        raise _mismatch(place, " or ".join(map(repr, get_args(wanted))), found)
    return found


def _object(wanted: type, found: object, place: str) -> object:
    if not isinstance(found, dict):
        raise _mismatch(place, "an object", found)
    known = _members(wanted)
    unknown = sorted(found.keys() - known.keys())
    missing = [name for name, (field, _) in known.items() if name not in found and not _has_default(field)]
    if unknown or missing:
        what = f"no member {missing[0]!r}" if missing else f"an unknown member {unknown[0]!r}"
        raise SchemaError(f"{place or 'the result'} has {what}")
    prefix = f"{place}." if place else ""
    return wanted(**{name: _decoded(known[name][1], value, f"{prefix}{name}") for name, value in found.items()})


def _one_of(kinds: tuple[object, ...], found: object, place: str) -> object:
    """Of `X | None`, which is the only choice that results have."""
    (kind,) = (kind for kind in kinds if kind is not NoneType)
    return None if found is None else _decoded(kind, found, place)


def _items(kinds: tuple[object, ...], found: object, place: str) -> Iterator[object]:
    """Of `tuple[X, ...]`, or of a tuple of fixed length."""
    if not isinstance(found, list | tuple):
        raise _mismatch(place, "an array", found)
    if kinds == (float, Ellipsis) and _only_floats(found):
        yield from found
        return
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(found)
    if len(kinds) != len(found):
        raise _mismatch(place, f"{len(kinds)} items", found)
    for i, (kind, one) in enumerate(zip(kinds, found, strict=True)):
        yield _decoded(kind, one, f"{place}[{i}]")


def _only_floats(values: Sequence[object]) -> bool:
    return set(map(type, values)) == {float} and all(map(math.isfinite, cast("Sequence[float]", values)))


def _value(wanted: type, found: object, place: str) -> object:
    """A number, a truth value or text. JSON has one kind of number: 1 where a float is wanted is 1.0."""
    if isinstance(found, int) and not isinstance(found, bool) and found in INT64:
        found = float(found) if wanted is float else found
    elif type(found) is int or (isinstance(found, float) and not math.isfinite(found)):
        raise _mismatch(place, f"{NUMBERS[wanted]} of 64 bits", found)
    if not isinstance(found, wanted) or (isinstance(found, bool) and wanted is not bool):
        raise _mismatch(place, NUMBERS[wanted], found)
    return found


def _deeper(value: object, levels: int) -> bool:
    """Whether a value has more than so many levels of lists and objects."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


@cache
def _members(wanted: type) -> dict[str, tuple[Field[object], object]]:
    """name -> field and type, of a dataclass."""
    types = get_type_hints(wanted)
    return {field.name: (field, types[field.name]) for field in fields(wanted)}


def _has_default(field: Field[object]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _mismatch(place: str, expected: str, found: object) -> SchemaError:
    return SchemaError(f"{place or 'the result'}: expected {expected}, found {str(found)[:40]!r}")
