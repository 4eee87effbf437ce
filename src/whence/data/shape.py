"""The columns of a file that hold its conversations, and the example that one row of them makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from whence.data.conversation import answered, history, json_cell, messages, without_nulls
from whence.data.examples import ASSISTANT, TEXT, Example, Json, Turn
from whence.data.metadata import LeftOut, RowError, as_json, checked_text, kind
from whence.errors import DataError

Cells = Mapping[str, object]

TAKEN_INPUTS = frozenset({"conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt"})
"""What `chat_template_kwargs` may not hold: the trainer sets it itself."""

FALSE_LABELS: tuple[object, ...] = (0, "0", "0.0")
TRUE_LABELS: tuple[object, ...] = (1, "1", "1.0")
"""What false and true are written as where they are numbers."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns that were recognised. `prompt` is set for pairs alone, `main` is the response, messages or text.

    `input` stands behind the prompt after an empty line, `query` on the next line (LLaMA-Factory). `rejected` is set
    for preferences without a prompt alone: what both sides begin with is the prompt.

    `names_label`: the user named the label, so that 0 is false and 1 true; else a number may name a class.

    `marks` False reads answers that are marked as not trained on (weight 0, train false) as any other.

    The other columns are optional: a row may lack them. `answered` False reads queries, whose response is optional
    too (`main` may then be "": no column has it).
    """

    kind: Literal["pair", "messages", "text"]
    main: str
    prompt: str | None = None
    input: str | None = None
    query: str | None = None
    system: str | None = None
    history: str | None = None
    tools: str | None = None
    documents: str | None = None
    template_kwargs: str | None = None
    label: str | None = None
    names_label: bool = False
    rejected: str | None = None
    marks: bool = True
    answered: bool = True

    @property
    def name(self) -> str:
        """The columns as a person names them: "instruction/output", "messages", "text"."""
        return f"{self.prompt}/{self.main}" if self.prompt is not None else self.main

    def example(self, row: Cells, file: str, line: int, *, table: bool = False) -> Example:
        """The example of one row; `table`: of Arrow, which fills in nulls for keys that other rows have.

        Raises:
            RowError: the row cannot be used, with the reason.
            LeftOut: it was not trained on.
            DataError: a column that the user named as the label holds other values than true and false.
        """
        conversation = (self.prompt, self.main, self.history, self.tools, self.documents, self.template_kwargs)
        if table:
            row = {name: without_nulls(value) if name in conversation else value for name, value in row.items()}
        optional = {self.input, self.query, self.system, *conversation} - {self.prompt, self.main}
        row = {name: None if name in optional and _is_nan(value) else value for name, value in row.items()}
        if self.label is not None:
            self._check_label(row.get(self.label), f"{file}:{line}")
        turns = self.turns(row)
        inputs = self._template_inputs(row)
        used = {self.prompt, self.main, self.input, self.query}
        used |= {self.system, self.history, self.tools, self.template_kwargs}
        if "documents" in inputs:
            used.add(self.documents)
        metadata: dict[str, Json] = {
            checked_text(name, name): as_json(value, name) for name, value in row.items() if name not in used
        }
        return Example(turns=turns, file=file, line=line, metadata=metadata, template_inputs=inputs)

    def turns(self, row: Cells) -> tuple[Turn, ...]:
        """The turns of one row."""
        if self.kind == "text":
            text = _text(row, self.main)
            if not text.strip():
                raise RowError(f"empty text (column {self.main!r})")
            return (Turn(TEXT, text),)
        turns = self._system(row, self._messages(row) if self.kind == "messages" else self._pair(row))
        return answered(turns, self.main) if self.answered else tuple(turns)

    def _check_label(self, value: object, where: str) -> None:
        """Raises LeftOut where a label of unpaired preferences is false, as a CSV file spells it too."""
        label = value.strip().casefold() if isinstance(value, str) else value
        if label is False or label == "false" or (self.names_label and label in FALSE_LABELS):
            raise LeftOut(f"column {self.label!r} is false: an answer that training led away from")
        if self.names_label and label not in (None, "", "true", *TRUE_LABELS) and not _is_nan(label):
            raise DataError(
                f"{where}: column {self.label!r}, named as the label, holds {value!r}",
                "expected true and false, or 1 and 0: rows with false are left out",
                "leave label out of --columns where the column names classes: all rows are then read",
            )

    def _messages(self, row: Cells) -> list[Turn]:
        turns = self._read(_cell(row, self.main), self.main)
        other = self._rejected(row)
        if not other:
            return turns
        chosen = self._read(without_nulls(row[self.main]), self.main)
        same = [one == two for one, two in zip(chosen, other, strict=False)]
        # Of two equal sides the last message is the response, as TRL divides them.
        n = max(0, min([*same, False].index(False), len(same) - 1))
        return [*map(_of_prompt, turns[:n]), *turns[n:]]

    def _rejected(self, row: Cells) -> list[Turn]:
        """The rejected side, which says no more than what the prompt is; no turns for a query, and of what is no list
        of messages (one message has no prompt)."""
        value = row.get(self.rejected) if self.rejected is not None and self.answered else None
        if self.rejected is None or value is None:
            return []
        try:
            return self._read(without_nulls(value), self.rejected)
        except RowError:
            return []

    def _pair(self, row: Cells) -> list[Turn]:
        assert self.prompt is not None
        value = _cell(row, self.prompt)
        if isinstance(value, list | tuple):
            prompt = [_untrained(turn) for turn in self._read(value, self.prompt)]
        else:
            text = _text(row, self.prompt)
            about = _text(row, self.input) if self.input and row.get(self.input) is not None else ""
            text = f"{text}\n\n{about}" if about.strip() else text
            query = _text(row, self.query) if self.query and row.get(self.query) is not None else ""
            prompt = [Turn("user", "\n".join(part for part in (text, query) if part))]
        prompt = self._history(row) + prompt
        if not self.answered and (row.get(self.main) is None or row[self.main] == ""):
            return prompt
        return _joined(prompt, self._response(row), self.prompt, self.main)

    def _history(self, row: Cells) -> list[Turn]:
        return self._seen(history(row.get(self.history), self.history)) if self.history is not None else []

    def _response(self, row: Cells) -> list[Turn]:
        value = _cell(row, self.main)
        if isinstance(value, Mapping):
            value = [value]
        if isinstance(value, list | tuple):
            return self._read(value, self.main)
        text = _text(row, self.main)
        if not text.strip():
            raise RowError(f"empty response (column {self.main!r})")
        return [Turn(ASSISTANT, text)]

    def _read(self, value: object, column: str) -> list[Turn]:
        return self._seen(messages(value, column))

    def _seen(self, turns: list[Turn]) -> list[Turn]:
        """The turns, without marks that are not obeyed."""
        return turns if self.marks else [turn.unmasked for turn in turns]

    def _system(self, row: Cells, turns: list[Turn]) -> list[Turn]:
        """The turns, led by the text of the system column where there is one."""
        if self.system is None or row.get(self.system) is None:
            return turns
        text = _text(row, self.system)
        own = [turn.content for turn in turns if turn.role == "system"]
        if not text.strip() or own == [text]:
            return turns
        if own:
            raise RowError(f"two system messages: in column {self.system!r} and in the conversation")
        return [Turn("system", text), *turns]

    def _template_inputs(self, row: Cells) -> dict[str, Json]:
        if self.kind == "text":
            return {}
        inputs: dict[str, Json] = {}
        tools = _listed(row, self.tools)
        if tools:
            inputs["tools"] = tools
        documents = row.get(self.documents) if self.documents is not None else None
        if (
            self.documents
            and isinstance(documents, list)
            and documents
            and all(isinstance(d, Mapping) for d in documents)
        ):
            inputs["documents"] = as_json(documents, self.documents)
        return _kwargs(row, self.template_kwargs) | inputs


def _is_nan(value: object) -> bool:
    """Whether a cell is the number that tables write where a text is missing."""
    return isinstance(value, float) and value != value


def _untrained(turn: Turn) -> Turn:
    """A turn of a prompt's column: trainers of prompt and completion learn from the completion alone.

    The key is part of the row's id.
    """
    return replace(turn, extra={**turn.extra, "train": False}) if turn.role == ASSISTANT else turn


def _of_prompt(turn: Turn) -> Turn:
    """A turn of the response's column that is part of the prompt."""
    return replace(turn, untrained=True) if turn.role == ASSISTANT else turn


def _joined(prompt: list[Turn], response: list[Turn], prompt_column: str, column: str) -> list[Turn]:
    """Prompt and response as one conversation; a response that repeats its prompt is the whole conversation."""
    if response and response[0].role == ASSISTANT:
        return prompt + response
    answer = next((place for place, turn in enumerate(response) if turn.role == ASSISTANT), len(response))
    asked = [turn.content for turn in prompt if turn.role != "system"]
    repeated = [turn.content for turn in response[:answer] if turn.role != "system"]
    # A prompt of several turns stands at the beginning of the conversation, answers included.
    whole = [turn.content for turn in response if turn.role != "system"][: len(asked)]
    if asked not in (repeated, whole):
        raise RowError(f"column {column!r} is a conversation that does not begin with column {prompt_column!r}")
    asked_turns = iter([turn for turn in prompt if turn.role != "system"])
    response = [
        _of_prompt(turn) if turn.role != "system" and (one := next(asked_turns, None)) and one.is_masked else turn
        for turn in response
    ]
    systems = [turn for turn in prompt if turn.role == "system"]
    if systems and not any(turn.role == "system" for turn in response):
        return [*systems, *response]
    return response


def _listed(row: Cells, column: str | None) -> list[Json]:
    """The objects of a column that holds a list of them, or its JSON; none where it is empty."""
    value = row.get(column) if column is not None else None
    if column is None or value is None or value == "":
        return []
    if isinstance(value, str):
        value = json_cell(value, column, "a list of objects (or its JSON)") if value.strip() else []
    if not isinstance(value, list | tuple):
        raise RowError(f"column {column!r} is {kind(value)}, expected a list of objects")
    for number, item in enumerate(value, 1):
        if not isinstance(item, Mapping):
            raise RowError(f"column {column!r}, entry {number} is {kind(item)}, expected an object")
    return [as_json(item, column) for item in value]


def _kwargs(row: Cells, column: str | None) -> dict[str, Json]:
    value = row.get(column) if column is not None else None
    if column is None or value is None or value == "":
        return {}
    if isinstance(value, str):
        value = json_cell(value, column, "an object (or its JSON)")
    if not isinstance(value, Mapping):
        raise RowError(f"column {column!r} is {kind(value)}, expected an object")
    taken = sorted(TAKEN_INPUTS.intersection(value))
    if taken:
        raise RowError(f"column {column!r} sets {taken[0]!r}, which is not a variable of the template")
    return {checked_text(str(key), column): as_json(item, column) for key, item in value.items()}


def _cell(row: Cells, column: str) -> object:
    if column not in row:
        raise RowError(f"missing column {column!r}")
    return row[column]


def _text(row: Cells, column: str) -> str:
    value = _cell(row, column)
    if not isinstance(value, str):
        raise RowError(f"column {column!r} is {kind(value)}, expected text")
    return checked_text(value, column)
