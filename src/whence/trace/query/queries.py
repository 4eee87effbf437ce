"""What is asked about: a prompt, and the response the model gave (or none, and the model is asked now)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from whence.data import ASSISTANT, TEXT, Json, Rejected, Row, RowError, Turn, as_json, messages, read_rows
from whence.errors import DataError, InputError

PROMPT_COLUMNS = ("prompt", "question", "instruction", "query")
RESPONSE_COLUMNS = ("response", "answer", "output", "completion")


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt's turns and the response to trace; `response` None asks the model for it."""

    turns: tuple[Turn, ...]
    response: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The prompt as a person reads it: the last user message, or the text to go on from."""
        spoken = [turn.content for turn in self.turns if turn.role in ("user", TEXT)]
        return spoken[-1] if spoken else ""

    @classmethod
    def of(cls, prompt: str | Sequence[Mapping[str, str]], response: str | None = None) -> Query:
        """A query from a prompt (text, or messages with role and content) and a response.

        Raises:
            InputError: an empty prompt or response, or messages that cannot be read.
        """
        if isinstance(prompt, str):
            turns: Sequence[Turn] = (Turn("user", prompt),)
        else:
            try:
                turns = messages(list(prompt), "prompt")
            except RowError as error:
                raise InputError(str(error), "Expected messages with role and content.", "") from error
        return _checked(turns, response, {}, "")


def read_queries(path: str | Path) -> list[Query]:
    """The queries of a JSONL file (or any table whence reads): `prompt` and, where it is known, `response`.

    `messages` serve too: a last assistant message is the response. Other columns are kept as metadata.

    Raises:
        DataError: a file or a line that cannot be used, named with its place. Queries are few and each one matters, so
            none is set aside.
    """
    source = Path(path)
    if not source.is_file():
        raise DataError(
            f"There is no query file at {source}.",
            'Expected JSONL with one {"prompt": ..., "response": ...} a line.',
            "Check the path.",
        )
    found = [_query(row, source) for row in read_rows(source)]
    if not found:
        raise DataError(f"{source} holds no query.", "Expected at least one line.", "Check the file.")
    return found


def _query(row: Row | Rejected, source: Path) -> Query:
    place = f"{source}:{row.line}"
    if isinstance(row, Rejected):
        raise DataError(f"{place}: {row.reason}", "Each line is one query.", "Mend or remove the line.")
    try:
        return _from_columns(row.columns, place)
    except RowError as error:
        raise DataError(f"{place}: {error}", "Each line is one query.", "Mend or remove the line.") from error


def _from_columns(columns: Mapping[str, object], place: str) -> Query:
    prompt_column = next((name for name in PROMPT_COLUMNS if name in columns), None)
    response_column = next((name for name in RESPONSE_COLUMNS if columns.get(name) is not None), None)
    used = {prompt_column, response_column, "messages"}
    metadata = {name: as_json(value, name) for name, value in columns.items() if name not in used}
    if columns.get("messages") is not None:
        turns = messages(columns["messages"], "messages")
        if turns and turns[-1].role == ASSISTANT:
            return _checked(turns[:-1], turns[-1].content, metadata, place)
        return _checked(turns, None, metadata, place)
    if prompt_column is None:
        raise DataError(
            f"{place}: no prompt among the columns {', '.join(columns)}.",
            f"Expected one of {', '.join(PROMPT_COLUMNS)}, or messages.",
            "Rename the column.",
        )
    prompt, response = columns[prompt_column], columns.get(response_column or "")
    turns = [Turn("user", prompt)] if isinstance(prompt, str) else messages(prompt, prompt_column)
    if response is not None and not isinstance(response, str):
        raise DataError(f"{place}: the response is not text.", "Expected text.", "Mend the line.")
    return _checked(turns, response, metadata, place)


def _checked(turns: Sequence[Turn], response: str | None, metadata: Mapping[str, Json], place: str) -> Query:
    where = f"{place}: " if place else ""
    if not any(turn.content.strip() for turn in turns):
        raise InputError(f"{where}The prompt is empty.", "A query needs a prompt.", "Give one with --prompt.")
    if response is not None and not response.strip():
        raise InputError(
            f"{where}The response is empty.",
            "The response that went wrong, as the model gave it.",
            "Leave it out altogether to have the model answer now.",
        )
    return Query(tuple(turns), response, metadata)
