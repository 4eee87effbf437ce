"""Integers that JSON.parse of a browser rounds, as texts beside or in place of them."""

from __future__ import annotations

from whence.data import Json

LARGEST = 2**53 - 1
"""The largest integer up to which a double has every one."""


def as_texts(value: Json) -> Json:
    """The value with each integer beyond +-LARGEST as its decimal text."""
    if isinstance(value, dict):
        return {name: as_texts(one) for name, one in value.items()}
    if isinstance(value, list):
        return [as_texts(one) for one in value]
    return str(value) if _is_large(value) else value


def large_integers(value: Json, place: str = "") -> dict[str, Json]:
    """The decimal text of each integer beyond +-LARGEST by its place, a JSON pointer (RFC 6901)."""
    if isinstance(value, dict):
        parts = ((name.replace("~", "~0").replace("/", "~1"), one) for name, one in value.items())
    elif isinstance(value, list):
        parts = ((str(number), one) for number, one in enumerate(value))
    else:
        return {place: str(value)} if _is_large(value) else {}
    found: dict[str, Json] = {}
    for name, one in parts:
        if isinstance(one, dict | list | int):
            found |= large_integers(one, f"{place}/{name}")
    return found


def _is_large(value: Json) -> bool:
    return isinstance(value, int) and abs(value) > LARGEST
