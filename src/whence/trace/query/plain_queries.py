"""Queries to a model that was trained on plain text: a text, and where in it the response begins. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from whence.data import ASSISTANT, TEXT, RowError, Turn, checked_text, json_cell, kind

RESPONSE_START = "response_start"
"""Column that says at which character of the text the response begins, counted from 0."""
ALONE = f'Give {{"prompt": [{{"role": "{TEXT}", "content": ...}}], "response": ...}}.'

Columns = Mapping[str, object]


class PlainQuery(NamedTuple):
    """A text to go on from, and what the model wrote. `used` are the columns that hold them."""

    prompt: str
    response: str | None
    used: frozenset[str]


def split_text(columns: Columns, column: str) -> PlainQuery:
    """Prompt and response of a text column, parted by `response_start`, or by the column `prompt` or `response`.

    Raises RowError where none of them is there, one does not fit the text, or they disagree.
    """
    text = columns[column]
    if not isinstance(text, str):
        raise RowError(f"column {column!r} is {kind(text)}, expected text")
    checked_text(text, column)
    loose = {name.strip().casefold(): name for name, value in columns.items() if value is not None}
    marks = {key: loose[key] for key in (RESPONSE_START, "prompt", "response") if key in loose}
    starts = {name: _start(key, name, columns[name], text, column) for key, name in marks.items()}
    if not starts:
        raise RowError(
            f"nothing says where in column {column!r} the response begins",
            f"Expected {RESPONSE_START!r} (a number of characters), or 'prompt' or 'response' (a part of the text).",
            f"Add one of them; to have the model go on from the text, {ALONE[:1].lower()}{ALONE[1:]}",
        )
    if len(set(starts.values())) > 1:
        places = ", ".join(f"{name!r} ({start})" for name, start in starts.items())
        raise RowError(
            f"the response begins at different characters by {places}",
            "Expected one place.",
            "Leave all of these columns out but one.",
        )
    start = next(iter(starts.values()))
    return PlainQuery(text[:start], text[start:], frozenset({column, *marks.values()}))


def text_message(value: object, column: str, *, is_json: bool) -> tuple[str, str | None] | None:
    """Prompt and response of [{"role": "text", "content": ...}], which an assistant's message may follow.

    is_json: a text may hold them as JSON.

    None where the value is anything else. Raises RowError for a plain text among other messages.
    """
    if is_json and isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json_cell(value, column, "")
        except RowError:
            return None
    if not isinstance(value, list | tuple):
        return None
    roles = [one.get("role") if isinstance(one, Mapping) else None for one in value]
    if TEXT not in roles:
        return None
    if roles not in ([TEXT], [TEXT, ASSISTANT]):
        raise RowError(
            f"column {column!r} has a message of role {TEXT!r} among others", "A plain text stands alone.", ALONE
        )
    texts = [one.get("content") for one in value]
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise RowError(f"column {column!r}, message {number}: 'content' is {kind(text)}, expected text")
        checked_text(text, column)
    return texts[0], texts[1] if len(texts) > 1 else None


def text_turns(prompt: str) -> tuple[Turn, ...]:
    """The prompt as the one turn of a plain document."""
    return (Turn(TEXT, prompt),)


def _start(key: str, name: str, value: object, text: str, column: str) -> int:
    """The response's first character by one of the columns."""
    if key == RESPONSE_START:
        number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < len(text):
            raise RowError(
                f"column {name!r} is {value!r}",
                f"Expected a number of characters between 0 and {len(text)}, the length of column {column!r}.",
                "Count from 0, in characters: the response is text[response_start:].",
            )
        return number
    edge, fits = ("beginning", text.startswith) if key == "prompt" else ("end", text.endswith)
    if not isinstance(value, str) or not fits(value):
        raise RowError(
            f"column {name!r} is not the {edge} of column {column!r}",
            "A plain text holds its prompt and its response, letter by letter.",
            f"Give the {edge} of the text, or the place of the response's first character as {RESPONSE_START!r}.",
        )
    return len(value) if key == "prompt" else len(text) - len(value)


__all__ = ["RESPONSE_START", "PlainQuery", "split_text", "text_message", "text_turns"]
