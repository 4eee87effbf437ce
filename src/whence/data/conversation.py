"""Lists of messages as files hold them, and the turns they make. Pure: values in, turns out."""

from __future__ import annotations

import json
from collections.abc import Mapping

from whence.data.examples import ASSISTANT, MASK_KEYS, PART_MASK, Json, Turn, answer_places
from whence.data.json_text import json_reason
from whence.data.metadata import LeftOut, RowError, as_json, checked_text, kind

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": ASSISTANT,
    "gpt": ASSISTANT,
    "model": ASSISTANT,
    "bot": ASSISTANT,
    "chatgpt": ASSISTANT,
    "function_call": ASSISTANT,
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""Role names in the wild (OpenAI, ShareGPT, Gemini, LLaMA-Factory) -> ours."""
KEPT_ROLES = frozenset({"developer", "function", "observation", "ipython"})
"""Roles that some templates know by these names: a message with `role` keeps them, as its trainer handed them on."""


def messages(value: object, column: str) -> list[Turn]:
    """The turns of a list of {role, content} or ShareGPT's {from, value}; also of its JSON text, as CSV holds it.

    `content` is text, a list of {"type": "text", "text": ...} parts, or, for the assistant, null. All other keys of a
    message stay with its turn. Raises RowError with the message's number.
    """
    if isinstance(value, str):
        value = json_cell(value, column, "a list of messages (or its JSON)")
    if not isinstance(value, list | tuple):
        raise RowError(f"column {column!r} is {kind(value)}, expected a list of messages")
    return [_message(message, column, number) for number, message in enumerate(value, 1)]


def history(value: object, column: str) -> list[Turn]:
    """Earlier turns: LLaMA-Factory's [[user, assistant], ...], or a list of messages. Raises RowError."""
    if isinstance(value, str):
        value = json_cell(value, column, "a list of [user, assistant] pairs (or its JSON)") if value.strip() else None
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise RowError(f"column {column!r} is {kind(value)}, expected a list of [user, assistant] pairs")
    if value and isinstance(value[0], Mapping):
        return messages(value, column)
    turns = []
    for number, pair in enumerate(value, 1):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise RowError(f"column {column!r}, entry {number} is not a pair of texts [user, assistant]")
        turns += [Turn("user", checked_text(pair[0], column)), Turn(ASSISTANT, checked_text(pair[1], column))]
    return turns


def answered(turns: list[Turn], column: str) -> tuple[Turn, ...]:
    """The turns of a row that is trained on; those behind the last answer are part of it, for a template may read them.

    Raises RowError where no turn can give a signature, LeftOut where marks say that none was trained on.
    """
    places = [place for place, turn in enumerate(turns) if turn.role == ASSISTANT]
    if not places:
        raise RowError(f"no assistant turn (column {column!r})")
    if answer_places(turns):
        return tuple(turns)
    later = [place for place in places if place]
    if not later:
        raise RowError(f"the conversation begins with its only assistant turn: it has no prompt (column {column!r})")
    if any(turns[place].is_masked for place in later):
        raise LeftOut("no turn that was trained on: all are marked as not trained on; --columns marks= reads them")
    raise RowError(f"empty response: assistant turn {places.index(later[0]) + 1} of column {column!r} has no text")


def json_cell(text: str, column: str, expected: str) -> object:
    """The value of a cell that holds JSON. Raises RowError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise RowError(f"column {column!r} is text, expected {expected}") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"column {column!r}: {json_reason(error)}") from None


def without_nulls(value: object) -> object:
    """`value` without null entries of objects: a table fills them in where messages have different keys."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list | tuple) else value


def _message(message: object, column: str, number: int) -> Turn:
    where = f"column {column!r}, message {number}"
    if not isinstance(message, Mapping):
        raise RowError(f"{where} is {kind(message)}, expected an object with role and content")
    sharegpt = message.get("role") is None and "from" in message
    role_key = "from" if sharegpt else "role"
    content_key = "value" if sharegpt and ("value" in message or "content" not in message) else "content"
    if role_key not in message:
        raise RowError(f"{where} has no {role_key!r}")
    spelled = message[role_key]
    if not isinstance(spelled, str) or spelled.strip().lower() not in ROLES:
        raise RowError(f"{where} has the unknown role {spelled!r}")
    name = spelled.strip().lower()
    role = ROLES[name]
    extra: dict[str, Json] = {
        checked_text(str(key), column): as_json(value, column)
        for key, value in message.items()
        if key not in ("role", role_key, content_key) and value is not None
    }
    _check_marks(extra, where)
    if not sharegpt and name in KEPT_ROLES:
        extra["role"] = name
    if sharegpt and name == "function_call":
        return Turn(role, "", extra | {"tool_calls": _calls(message.get(content_key), where)})
    # The assistant's may lack it, as it may be null: OpenAI writes null, a table leaves nothing.
    if content_key not in message and role != ASSISTANT:
        raise RowError(f"{where} has no {content_key!r}")
    content = message.get(content_key)
    if content is None and role == ASSISTANT:
        return Turn(role, "", extra | {"content": None})
    if isinstance(content, list | tuple):
        text = "".join(_part(part, where) for part in content)
        return Turn(role, checked_text(text, column), extra | {"content": as_json(content, column)})
    if not isinstance(content, str):
        raise RowError(f"{where}: {content_key!r} is {kind(content)}, expected text")
    return Turn(role, checked_text(content, column), extra)


def _check_marks(extra: Mapping[str, Json], where: str) -> None:
    for key in MASK_KEYS:
        if key in extra and not isinstance(extra[key], bool):
            raise RowError(f"{where}: {key!r} is {kind(extra[key])}, expected true or false")
    if "weight" in extra and not isinstance(extra["weight"], int | float):
        raise RowError(f"{where}: 'weight' is {kind(extra['weight'])}, expected a number")
    if PART_MASK in extra and not isinstance(extra[PART_MASK], list):
        raise RowError(f"{where}: {PART_MASK!r} is {kind(extra[PART_MASK])}, expected a list")


def _calls(value: object, where: str) -> list[Json]:
    """Tool calls from the JSON of a ShareGPT function_call: {"name", "arguments"} or a list of these."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = None
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in calls):
        raise RowError(f"{where} is a function_call, expected the JSON of an object with name and arguments")
    return [{"type": "function", "function": as_json(call, where)} for call in calls]


def _part(part: object, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    found = f"of type {part.get('type')!r}" if isinstance(part, Mapping) else f"that is {kind(part)}"
    raise RowError(f"{where} has a part {found}, expected text parts only")
