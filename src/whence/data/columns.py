"""Which columns of a row hold the conversation, and the turns they make. Pure: rows in, turns out, no files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from whence.data.examples import ASSISTANT, TEXT, Example, Json, Turn
from whence.data.metadata import RowError, as_json, checked_text, kind
from whence.errors import DataError

PAIRS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("prompt", "prompts"), ("response", "responses", "completion", "completions")),
    (("instruction",), ("output", "response")),
    (("question", "query"), ("answer", "response")),
)
"""Names of the prompt's and the response's column, the first that fits wins."""
MESSAGE_COLUMNS = ("messages", "conversations")
SYSTEM_COLUMNS = ("system", "system_prompt")
INPUT_COLUMNS = ("input", "context")
"""What an instruction may be about; joined to it with an empty line between."""
MAPPING_KEYS = ("prompt", "response", "system", "messages", "text")

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

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns that were recognised. `prompt` is set for pairs alone, `main` is the response, messages or text."""

    kind: Literal["pair", "messages", "text"]
    main: str
    prompt: str | None = None
    input: str | None = None
    system: str | None = None

    @property
    def name(self) -> str:
        """The columns as a person names them: "instruction/output", "messages", "text"."""
        return f"{self.prompt}/{self.main}" if self.prompt is not None else self.main

    def example(self, row: Row, file: str, line: int) -> Example:
        """The example of one row. Raises RowError with the reason when the row cannot be used."""
        used = (self.prompt, self.main, self.input, self.system)
        turns = self.turns(row)
        metadata: dict[str, Json] = {
            checked_text(name, name): as_json(value, name) for name, value in row.items() if name not in used
        }
        return Example(turns=turns, file=file, line=line, metadata=metadata)

    def turns(self, row: Row) -> tuple[Turn, ...]:
        """The turns of one row, up to its last assistant turn: what follows that has no effect on training."""
        if self.kind == "text":
            text = _text(row, self.main)
            if not text.strip():
                raise RowError(f"empty text (column {self.main!r})")
            return (Turn(TEXT, text),)
        system = _system(row, self.system)
        if self.kind == "messages":
            turns = messages(_cell(row, self.main), self.main)
        else:
            turns = [*self._prompt(row), *_response(row, self.main)]
        if system and any(turn.role == "system" for turn in turns):
            raise RowError(f"two system messages: in column {self.system!r} and in the conversation")
        return _trained(system + turns, self.main)

    def _prompt(self, row: Row) -> list[Turn]:
        assert self.prompt is not None
        value = _cell(row, self.prompt)
        if isinstance(value, list | tuple):
            return messages(value, self.prompt)
        text = _text(row, self.prompt)
        about = _text(row, self.input) if self.input and row.get(self.input) is not None else ""
        return [Turn("user", f"{text}\n\n{about}" if about.strip() else text)]


def recognise(names: Iterable[str], mapping: Mapping[str, str] | None = None) -> Shape | None:
    """The shape of a row with these columns, or None.

    Order: what `mapping` says (see MAPPING_KEYS), then the pairs of PAIRS, then MESSAGE_COLUMNS, then `text`.
    A name matches exactly, or else without regard to case and surrounding blanks.
    """
    exact = list(names)
    loose = {name.strip().casefold(): name for name in reversed(exact)} | {name: name for name in exact}
    mapping = mapping or {}
    if any(column not in exact for column in mapping.values()):
        return None
    system = mapping.get("system")
    for key in ("messages", "text"):
        if key in mapping:
            return Shape(key, mapping[key], system=system)
    for prompts, responses in PAIRS:
        prompt = mapping.get("prompt") or _first(prompts, loose)
        response = mapping.get("response") or _first(responses, loose)
        if prompt is None or response is None or prompt == response:
            continue
        # An optional column that this row lacks keeps its usual name: a later row may have it.
        about = _first(INPUT_COLUMNS, loose) or INPUT_COLUMNS[0] if prompts == ("instruction",) else None
        system = system or _first(SYSTEM_COLUMNS, loose) or SYSTEM_COLUMNS[0]
        taken = (prompt, response)
        return Shape(
            "pair",
            response,
            prompt,
            input=about if about not in taken and "prompt" not in mapping else None,
            system=system if system not in taken else None,
        )
    if "prompt" in mapping or "response" in mapping:
        return None
    found = _first(MESSAGE_COLUMNS, loose)
    if found is not None:
        return Shape("messages", found, system=system)
    found = _first(("text",), loose)
    return Shape("text", found) if found is not None and system is None else None


def check_mapping(mapping: Mapping[str, str] | None) -> None:
    """Raises DataError for a `--columns` mapping that no file could satisfy."""
    unknown = [key for key in mapping or {} if key not in MAPPING_KEYS]
    if unknown:
        raise DataError(
            f"--columns names {', '.join(map(repr, unknown))}",
            f"expected only {', '.join(MAPPING_KEYS)}",
            "write for example --columns prompt=q,response=a",
        )
    main = [key for key in ("prompt", "messages", "text") if key in (mapping or {})]
    if "response" in (mapping or {}) and main not in ([], ["prompt"]):
        main.append("response")
    if len(main) > 1 or (main == ["text"] and "system" in (mapping or {})):
        raise DataError(
            f"--columns names {', '.join(mapping or {})} together",
            "expected prompt and response (with or without system), or messages (with or without system), or text",
            "leave out what does not belong to the conversation: all other columns are kept as metadata",
        )


def unrecognised(file: str, names: Iterable[str], mapping: Mapping[str, str] | None = None) -> DataError:
    """The error for a file none of whose rows has a known set of columns."""
    names = list(names)
    listed = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "") if names else "none"
    missing = [f"{key}={column}" for key, column in (mapping or {}).items() if column not in names]
    if missing:
        return DataError(
            f"{file}: --columns {','.join(missing)} names a column that is not there",
            f"columns found: {listed}",
            "name a column that exists, spelled as it is in the file",
        )
    pairs = [f"{'|'.join(prompts)} with {'|'.join(responses)}" for prompts, responses in PAIRS]
    known = "; ".join([*pairs, " or ".join(MESSAGE_COLUMNS), "text"])
    return DataError(
        f"{file}: no known set of columns; columns found: {listed}",
        f"expected {known}",
        "say which are which, for example --columns prompt=q,response=a or --columns messages=dialogue",
    )


def messages(value: object, column: str) -> list[Turn]:
    """The turns of a list of {role, content} or ShareGPT's {from, value}; also of its JSON text, as CSV holds it.

    `content` is text or a list of {"type": "text", "text": ...} parts. Raises RowError with the message's number.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RowError(f"column {column!r} is text, expected a list of messages (or its JSON)") from None
    if not isinstance(value, list | tuple):
        raise RowError(f"column {column!r} is {kind(value)}, expected a list of messages")
    return [_message(message, column, number) for number, message in enumerate(value, 1)]


def _message(message: object, column: str, number: int) -> Turn:
    where = f"column {column!r}, message {number}"
    if not isinstance(message, Mapping):
        raise RowError(f"{where} is {kind(message)}, expected an object with role and content")
    sharegpt = message.get("role") is None and "from" in message
    role_key, content_key = ("from", "value") if sharegpt else ("role", "content")
    for key in (role_key, content_key):
        if key not in message:
            raise RowError(f"{where} has no {key!r}")
    role = message[role_key]
    if not isinstance(role, str) or role.strip().lower() not in ROLES:
        raise RowError(f"{where} has the unknown role {role!r}")
    content = message[content_key]
    ours = ROLES[role.strip().lower()]
    if content is None and ours == ASSISTANT:
        content = ""  # a bare tool call: refused below, as an empty assistant turn
    if isinstance(content, list | tuple):
        content = "".join(_part(part, where) for part in content)
    if not isinstance(content, str):
        raise RowError(f"{where}: {content_key!r} is {kind(content)}, expected text")
    return Turn(ours, checked_text(content, column))


def _part(part: object, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    found = f"of type {part.get('type')!r}" if isinstance(part, Mapping) else f"that is {kind(part)}"
    raise RowError(f"{where} has a part {found}, expected text parts only")


def _trained(turns: list[Turn], column: str) -> tuple[Turn, ...]:
    answers = [place for place, turn in enumerate(turns) if turn.role == ASSISTANT]
    if not answers:
        raise RowError(f"no assistant turn (column {column!r})")
    for number, place in enumerate(answers, 1):
        if not turns[place].content.strip():
            raise RowError(f"empty response: assistant turn {number} of column {column!r} has no text")
    return tuple(turns[: answers[-1] + 1])


def _response(row: Row, column: str) -> list[Turn]:
    value = _cell(row, column)
    if isinstance(value, list | tuple):
        return messages(value, column)
    text = _text(row, column)
    if not text.strip():
        raise RowError(f"empty response (column {column!r})")
    return [Turn(ASSISTANT, text)]


def _system(row: Row, column: str | None) -> list[Turn]:
    if column is None or row.get(column) is None:
        return []
    text = _text(row, column)
    return [Turn("system", text)] if text.strip() else []


def _cell(row: Row, column: str) -> object:
    if column not in row:
        raise RowError(f"missing column {column!r}")
    return row[column]


def _text(row: Row, column: str) -> str:
    value = _cell(row, column)
    if not isinstance(value, str):
        raise RowError(f"column {column!r} is {kind(value)}, expected text")
    return checked_text(value, column)


def _first(wanted: Iterable[str], loose: Mapping[str, str]) -> str | None:
    return next((loose[name] for name in wanted if name in loose), None)
