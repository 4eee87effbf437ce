"""What a row carries beside its text: columns as JSON values, and one type a column."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

from whence.data.examples import Json
from whence.errors import DataError

ColumnType = Literal["int", "float", "bool", "str"]

INT64 = range(-(2**63), 2**63)
EXACT = range(-(2**53), 2**53 + 1)
"""Up to here a float has every whole number."""
MAX_DEPTH = 100
"""Levels of lists and objects in a column; far below where Python's own recursion ends, in any version."""


class RowError(DataError):
    """One row cannot be used; the message is the reason, without the place."""


class LeftOut(RowError):  # noqa: N818 - nothing is wrong with the row
    """A row that is sound but was not trained on; it is counted by its reason, not set aside."""


def kind(value: object) -> str:
    """What a value is, in the words of JSON, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return f"a {type(value).__name__}"


def checked_text(text: str, column: str) -> str:
    """`text` itself. Raises RowError where it holds a lone surrogate, which no UTF-8 file can store."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise RowError(
            f"column {column!r} holds a lone surrogate (U+{code:04X}) at character {error.start + 1}"
        ) from None
    return str(text)


def as_json(value: object, column: str, depth: int = 0) -> Json:
    """The JSON value of a metadata cell.

    Dates and times become ISO 8601 text, durations seconds, decimals floats (text where a float would round them),
    numpy scalars and arrays Python values; NaN and infinite numbers, which JSON cannot hold, become null. Raises
    RowError for bytes, for text that is not Unicode, for more than MAX_DEPTH levels and for anything else without a
    JSON form.
    """
    if depth > MAX_DEPTH:
        raise RowError(f"column {column!r} is nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return checked_text(value, column)
    if isinstance(value, bytes | bytearray | memoryview):
        raise RowError(f"column {column!r} holds bytes, which metadata cannot carry")
    if isinstance(value, Mapping):
        return {checked_text(str(key), column): as_json(item, column, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item, column, depth + 1) for item in value]
    return _scalar(value, column)


def _scalar(value: object, column: str) -> Json:
    if isinstance(value, datetime | date | time):
        # pandas' NaT is a datetime that differs from itself.
        return value.isoformat() if value == value else None
    if isinstance(value, timedelta):
        return as_json(value.total_seconds(), column)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, UUID):
        return str(value)
    # numpy scalars and arrays, told by their method so that numpy need not be imported.
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return as_json(to_list(), column)
    raise RowError(f"column {column!r} holds a {type(value).__name__}, which has no JSON form")


def _decimal(value: Decimal) -> Json:
    if not value.is_finite():
        return None
    near = float(value)
    return near if Decimal(repr(near)) == value else str(value)


def is_wide(value: Json) -> bool:
    """Whether it is a whole number that has no float of its own."""
    return isinstance(value, int) and value not in EXACT


def type_of(value: Json) -> ColumnType | None:
    """The column type of one value; None for null, which fits every type.

    Lists, objects and integers beyond 64 bits are "str": an index stores them as text.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in INT64 else "str"
    return "float" if isinstance(value, float) else "str"


def unify_types(first: Mapping[str, ColumnType], second: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """The columns of both, each in the type that holds the values of both, as `unify` widens."""
    joined = dict(first)
    for name, new in second.items():
        old = joined.get(name, new)
        joined[name] = new if old == new else "float" if {old, new} == {"int", "float"} else "str"
    return joined


def unify(types: dict[str, ColumnType | None], metadata: Mapping[str, Json]) -> None:
    """Widen `types` in place so that every value of `metadata` fits: int + float is float, any other mix is str."""
    for name, value in metadata.items():
        old, new = types.get(name), type_of(value)
        if old is None or new is None or old == new:
            types[name] = new or old
        else:
            types[name] = "float" if {old, new} == {"int", "float"} else "str"


def without_rounding(types: Mapping[str, ColumnType], wide: Container[str]) -> dict[str, ColumnType]:
    """The types, with "str" in place of "float" for the columns that hold a whole number which a float would round."""
    return {name: "str" if type == "float" and name in wide else type for name, type in types.items()}
