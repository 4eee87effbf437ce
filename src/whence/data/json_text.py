"""JSON as text: values with their keys checked, the array that holds the rows, and one line for an error."""

from __future__ import annotations

import json
import re

WRAPPERS = ("data", "examples", "train", "rows", "instances")
"""Keys of an object that holds the rows of a file in one list."""
ROW_KEYS = frozenset({"prompt", "instruction", "question", "query", "messages", "conversations", "text", "chosen"})
"""Keys that make an object a row itself."""

_SPACE = re.compile(r"[ \t\r\n]*")
_TRAILING_COMMA = re.compile(r"[ \t\r\n]*(,)[ \t\r\n]*([}\]])")
_TOO_LONG = re.compile(r"Exceeds the limit \((\d+) digits\).*value has (\d+) digits")
"""Python's words for a whole number that it does not convert."""


class JsonReader:
    """Reads values, and says of each which key stands twice in one of its objects (json keeps the last in silence)."""

    def __init__(self) -> None:
        self._double: str | None = None
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def whole(self, text: str) -> tuple[object, str | None]:
        """The one value of the text. Raises ValueError or RecursionError."""
        self._double = None
        return self._decoder.decode(text), self._double

    def value(self, text: str, at: int) -> tuple[object, int, str | None]:
        """The value that begins at a place, and the place behind it. Raises ValueError or RecursionError."""
        self._double = None
        value, end = self._decoder.raw_decode(text, at)
        return value, end, self._double

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            self._double = next(name for name in names if names.count(name) > 1)
        return found


def array_start(text: str) -> int | None:
    """Place of the "[" of the array that holds the rows: the text's own, or that of an object's key of WRAPPERS.

    None for any other text, and for an object that is a row itself. Of several keys the first that has a row.
    """
    found = row_arrays(text)
    return found[0][1] if found else None


def row_arrays(text: str) -> list[tuple[str, int]]:
    """The arrays that may hold the rows, see `array_start`: each one's key and place; without those that are empty,
    where another is not."""
    decode = json.JSONDecoder().raw_decode
    at = skip(text, 0)
    if text[at : at + 1] == "[":
        return [("", at)]
    if text[at : at + 1] != "{":
        return []
    found: dict[str, int] = {}
    empty: dict[str, int] = {}
    at = skip(text, at + 1)
    try:
        while text[at : at + 1] == '"':
            key, at = decode(text, at)
            at = skip(text, at)
            if key in ROW_KEYS or text[at : at + 1] != ":":
                return []
            at = skip(text, at + 1)
            if key in WRAPPERS and text[at : at + 1] == "[":
                known = empty if text[(inside := skip(text, at + 1)) : inside + 1] == "]" else found
                known[key] = at
            _, at = decode(text, at)
            at = skip(text, at)
            at = skip(text, at + 1) if text[at : at + 1] == "," else at
    except (ValueError, RecursionError):
        pass  # a syntax error inside the rows is told by the reader, with its row
    return list((found or empty).items())


def skip(text: str, at: int) -> int:
    """The next place that is not white space."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def json_reason(error: Exception, line: int | None = None) -> str:
    """One line for a JSON error: what, line and column. `line` is the line in the file, when `error` knows one only."""
    if isinstance(error, RecursionError):
        return "invalid JSON: nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        digits = _TOO_LONG.search(str(error))
        return (
            f"a number of {int(digits[2]):,} digits: at most {int(digits[1]):,} can be read"
            if digits
            else f"invalid JSON: {error}"
        )
    # Python before 3.13 points behind a trailing comma and has no name for it; since then it points at the comma.
    comma = _TRAILING_COMMA.match(error.doc, len(error.doc[: error.pos].rstrip(" \t\r\n,")))
    if comma is not None:
        error = json.JSONDecodeError(f"trailing comma before {comma[2]!r}", error.doc, comma.start(1))
    return f"invalid JSON at line {line or error.lineno} column {error.colno}: {error.msg}"
