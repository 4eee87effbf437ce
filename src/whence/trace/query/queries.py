"""What is asked about: a prompt, and the response the model gave (or none, and the model is asked now).

A query is read by the same rules as a row (`whence.data.columns`); what it may lack is the response.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from whence.data import (
    ASSISTANT,
    TEXT,
    TRAINER_COLUMNS,
    Json,
    Rejected,
    Row,
    RowError,
    Shape,
    Turn,
    as_json,
    check_mapping,
    kind,
    read_rows,
    recognise,
    suffix_of,
    unrecognised,
)
from whence.errors import DataError, InputError
from whence.trace.query.filters import failed_only, where_holds
from whence.trace.query.logs.recognise import LOOKED_FOR, read_log
from whence.trace.query.plain_queries import split_text, text_message, text_turns

if TYPE_CHECKING:
    from whence.data import EncodedTurn, Encoder
    from whence.trace.query.logs.entry import EvaluationLog, LogEntry

RESPONSE_COLUMNS = ("response", "responses", "answer", "output", "completion", "completions")
"""Beside a prompt of any name."""
CELLS_ARE_TEXT = (".csv", ".tsv")

Columns = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt's turns and the response to trace; `response` None asks the model for it."""

    turns: tuple[Turn, ...]
    response: str | None = None
    metadata: Mapping[str, Json] = field(default_factory=dict)
    template_inputs: Mapping[str, Json] = field(default_factory=dict)
    """What the chat template is given beside the messages: tools and others, as of an Example."""
    answer: Turn | None = None
    """The response as the assistant's whole turn, where it is more than text (a tool call, a thought)."""
    complete: bool = True
    """False for an answer that was stopped at a limit of new tokens: it has no end of turn."""
    is_bare: bool = field(default=False, compare=False)
    """Whether the prompt was given as one text, and nothing beside it."""

    @property
    def prompt(self) -> str:
        """The prompt as a person reads it: the last user message, or the text to go on from."""
        spoken = [turn.content for turn in self.turns if turn.role in ("user", TEXT)]
        return spoken[-1] if spoken else ""

    @property
    def is_silent(self) -> bool:
        """Whether there is a response that says nothing."""
        return self.response is not None and not self.response.strip()

    @classmethod
    def of(
        cls,
        prompt: str | Sequence[Mapping[str, object]],
        response: str | Mapping[str, object] | None = None,
        *,
        system: str | None = None,
        tools: Sequence[Mapping[str, object]] | None = None,
    ) -> Query:
        """A query from a prompt (text, or messages) and a response (text, or the assistant's whole message).

        Raises:
            InputError: an empty response, an empty prompt without a response, or messages that cannot be read.
        """
        given: Columns = {"prompt": prompt, "response": response, "system": system, "tools": tools}
        try:
            query = _from_columns({name: value for name, value in given.items() if value is not None})
        except RowError as error:
            raise InputError(f"{error.found}.", error.expected or "Expected messages with role and content.") from error
        if query.is_silent:
            raise _no_response()
        return query

    def prompt_ids(self, encoder: Encoder) -> list[int]:
        """Token ids to generate from. Raises EncodingError."""
        return encoder.render_prompt(self.turns, self.template_inputs)

    def encode(self, encoder: Encoder, response: str | None = None, *, complete: bool | None = None) -> EncodedTurn:
        """The prompt with a response: the one given here, else the query's own. Raises EncodingError.

        complete: whether the response ends with its turn; None: as the query has it.
        """
        said = response if response is not None else self.answer or self.response
        assert said is not None, "a query without a response is given one"
        ended = self.complete if complete is None else complete
        return encoder.encode_query(self.turns, said, complete=ended, template_inputs=self.template_inputs)

    def as_document(self) -> Query:
        """The query to a model that was trained on plain text: a bare prompt is continued as it is."""
        return replace(self, turns=(replace(self.turns[0], role=TEXT),)) if self.is_bare else self


def read_queries(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    notify: Callable[[str], None] | None = None,
    failed: bool = False,
    where: str | None = None,
    prompts: str | Path | None = None,
    model: str = "",
    keep_silent: bool = False,
) -> list[Query]:
    """The queries of a file in any format that rows may have; one a row.

    A row holds the columns that a training row may have, with or without a response: prompt and response, instruction
    and input, messages that end with the bad answer, system, tools and so on; or `text` with where its response begins
    (`response_start` in characters, or `prompt` or `response`, a part of it). Other columns are kept as metadata.
    Or the file is an evaluation log (docs/evaluation-logs.md), whose scores are metadata.

    columns: as in `read_examples`; an index's own may be given: they are used where the file has the prompt's column.
    notify: told once about each column that a trainer would have used and that is not part of the query.
    failed: of an evaluation log, the answers that the tool counted as failed alone.
    where: an SQL condition on prompt, response and metadata, for the queries to keep.
    prompts: the input file of a batch whose output is read.
    model: the model that is asked about; a log that names another is told to `notify`.
    keep_silent: give queries whose response is empty too, for an audit to count; else such a one is an error where
        the condition holds for it.

    Raises:
        InputError: --failed of a file without passes and fails, or a condition that cannot be read.
        DataError: a file or a row that cannot be used, named with its place. Queries are few and each one matters, so
            none is set aside.
    """
    source = Path(path)
    if not source.is_file():
        raise DataError(
            f"There is no query file at {source}.",
            'Expected JSONL with one {"prompt": ..., "response": ...} a line.',
            "Check the path.",
        )
    check_mapping(columns)
    tell = notify or (lambda sentence: None)
    log = read_log(source, Path(prompts) if prompts is not None else None)
    if log is not None:
        entries = _of_log(log, source, tell, failed=failed, model=model)
        return _spoken(_matching(entries, where, source, tell), keep_silent=keep_silent)
    if failed or prompts is not None:
        raise InputError(
            f"{source} is no evaluation log, so {'--failed' if failed else '--query-prompts'} means nothing.",
            f"Looked for: {'; '.join(LOOKED_FOR)}.",
            "Leave it out; a condition on the file's own columns is given with --query-where.",
        )
    found = [(f"{source}:{row.line}", _query(row, source, columns or {})) for row in read_rows(source)]
    if not found:
        raise DataError(f"{source} holds no query.", "Expected at least one line.", "Check the file.")
    _tell_unused([query for _, query in found], tell)
    return _spoken(_matching(found, where, source, tell), keep_silent=keep_silent)


def _of_log(
    log: EvaluationLog, source: Path, tell: Callable[[str], None], *, failed: bool, model: str
) -> list[tuple[str, Query]]:
    entries = failed_only(log) if failed else log.entries
    of = f", {len(log.entries) - len(entries)} others left out" if failed else ""
    judged = f" (failed by {log.judged_by!r})" if failed and log.judged_by else ""
    tell(f"{source} is a log of another tool ({log.tool}): {len(entries)} answers{judged}{of}")
    for note in log.notes:
        tell(note[:1].upper() + note[1:])
    if log.model and model and Path(log.model).name.casefold() != Path(model).name.casefold():
        tell(f"The log is of the model {log.model!r}, the index of {model!r}: are its answers the index's model's?")
    if not entries:
        raise DataError(f"No answer in {source} failed.", "A trace needs one.", "Leave --failed out to ask about all.")
    return [(f"{source}, entry {entry.number}", _of_entry(entry, source)) for entry in entries]


def _of_entry(entry: LogEntry, source: Path) -> Query:
    try:
        query = _from_columns({"prompt": entry.prompt, "response": entry.response, **entry.request})
    except InputError as error:
        fix = error.fix or "Leave the entry out."
        raise DataError(f"{source}, entry {entry.number}: {error.found}", error.expected, fix) from error
    return replace(query, metadata=dict(entry.values), complete=entry.complete)


def _matching(
    found: list[tuple[str, Query]], where: str | None, source: Path, tell: Callable[[str], None]
) -> list[tuple[str, Query]]:
    """The queries, with their places, for which the condition holds. Raises DataError where there are none."""
    if where is None:
        return found
    rows = [{**query.metadata, "prompt": query.prompt, "response": query.response} for _, query in found]
    kept = [found[number] for number in where_holds(rows, where, tell)]
    if not kept:
        raise DataError(
            f"--query-where {where!r} holds for none of the {len(found)} queries of {source}.",
            "A trace needs one.",
            "Change the condition.",
        )
    return kept


def _spoken(found: list[tuple[str, Query]], *, keep_silent: bool) -> list[Query]:
    """The queries. Raises DataError for the first with an empty response, unless these are kept."""
    for place, query in found:
        if query.is_silent and not keep_silent:
            error = _no_response()
            raise DataError(f"{place}: {error.found}", error.expected, error.fix)
    return [query for _, query in found]


def _query(row: Row | Rejected, source: Path, mapping: Mapping[str, str]) -> Query:
    place = f"{source}:{row.line}"
    if isinstance(row, Rejected):
        raise DataError(f"{place}: {row.reason}.", "Each row is one query.", "Correct or remove it.")
    columns = row.columns
    cells = suffix_of(source) in CELLS_ARE_TEXT
    if cells:
        columns = {name: value for name, value in columns.items() if value != ""}
    try:
        return _from_columns(columns, mapping, table=row.raw is None, cells=cells)
    except InputError as error:
        expected, fix = error.expected or "Each row is one query.", error.fix or "Correct or remove it."
        raise DataError(f"{place}: {error.found}" + "." * (not error.found.endswith(".")), expected, fix) from error


def _from_columns(
    columns: Columns, mapping: Mapping[str, str] | None = None, *, table: bool = False, cells: bool = False
) -> Query:
    """The query of one row. cells: its values are texts, which stand for what they hold as JSON. Raises InputError
    without the place."""
    shape = _shape(columns, mapping or {})
    if shape.kind == "text":
        plain = split_text(columns, shape.main)
        return _plain(plain.prompt, plain.response, columns, plain.used)
    spoken = shape.prompt or shape.main
    if (text := text_message(columns[spoken], spoken, is_json=cells or shape.prompt is None)) is not None:
        return _plain(text[0], text[1] or columns.get(_response_column(shape, columns)), columns, {spoken, shape.main})
    said = columns.get(shape.main) if shape.prompt is not None and shape.main else None
    silent = isinstance(said, str) and not said.strip()
    if silent:
        columns = {**columns, shape.main: None}
    example = shape.example(columns, "", 0, table=table)
    query = _answered(Query(example.turns, None, example.metadata, example.template_inputs))
    if silent:
        query = replace(query, response="")
    if shape.prompt is None and query.response is None:
        query = _beside(query)
    bare = shape.prompt is not None and query.turns == (Turn("user", str(columns[shape.prompt])),)
    return _with_prompt(replace(query, is_bare=bare and not query.template_inputs and query.answer is None))


def _answered(query: Query) -> Query:
    """The query with an assistant's last turn as its response."""
    if not query.turns or query.turns[-1].role != ASSISTANT:
        return query
    *before, last = query.turns
    if not last.has_answer:
        return replace(query, turns=tuple(before), response="")
    return replace(query, turns=tuple(before), response=_words_of(last), answer=last if last.extra else None)


def _beside(query: Query) -> Query:
    """The query of messages that end before the answer, with a `response` column beside them as the answer."""
    said = query.metadata.get("response")
    if said is None:
        return query
    if not isinstance(said, str):
        raise RowError(f"column 'response' is {kind(said)}, expected text: it stands beside messages")
    rest = {name: value for name, value in query.metadata.items() if name != "response"}
    return replace(query, response=said, metadata=rest)


def _shape(columns: Columns, mapping: Mapping[str, str]) -> Shape:
    """Which columns are the query's: those that a row would have, else a prompt of any known name with any response."""
    names = [name for name, value in columns.items() if value is not None]
    mains = {mapping[key] for key in ("prompt", "messages", "text") if key in mapping}
    usable = {key: name for key, name in mapping.items() if name in names or not name} if mains <= set(names) else {}
    loose = {name.strip().casefold(): name for name in reversed(names)}
    row = recognise(names, usable)
    if (row is None or row.kind == "text") and "text" in loose and not usable:
        return Shape("text", loose["text"], answered=False)
    shape = row or recognise(names, usable, answered=False)
    if shape is None:
        known = unrecognised("", columns).expected
        raise RowError(
            f"no prompt among the columns {', '.join(columns)}",
            f"E{known[1:]}; the response may be left out. Or an evaluation log: {'; '.join(LOOKED_FOR)}.",
            "Rename the columns, or give messages.",
        )
    if shape.prompt is not None and not shape.main:
        shape = replace(shape, main=_response_column(shape, columns))
    # A label that is false marks an answer that training led away from; a query may well ask about it.
    return replace(shape, answered=False, label=None)


def _response_column(shape: Shape, columns: Columns) -> str:
    """The response's column beside a prompt, of any name that responses have; "" where there is none."""
    if shape.prompt is not None and shape.main:
        return shape.main
    loose = {name.strip().casefold(): name for name, value in columns.items() if value is not None}
    return next((loose[name] for name in RESPONSE_COLUMNS if name in loose and loose[name] != shape.prompt), "")


def _plain(prompt: str, response: object, columns: Columns, used: Iterable[str | None]) -> Query:
    """A query in plain text. Columns that are not used are metadata."""
    if response is not None and not isinstance(response, str):
        raise RowError(f"the response is {kind(response)}, expected text: the prompt is a plain text")
    names = set(used)
    metadata = {name: as_json(value, name) for name, value in columns.items() if name not in names}
    return _with_prompt(Query(text_turns(prompt), response, metadata))


def _with_prompt(query: Query) -> Query:
    """The query, if there is something to answer; a given response may follow an empty prompt, as it may in a row."""
    if not query.turns or (query.response is None and not any(turn.has_answer for turn in query.turns)):
        raise InputError("The prompt is empty.", "A query needs a prompt.", "Give one with --prompt.")
    return query


def _no_response() -> InputError:
    return InputError(
        "The response is empty.",
        "The response that went wrong, as the model gave it.",
        "Leave it out altogether to have the model answer now.",
    )


def _words_of(turn: Turn) -> str:
    """A turn as one text: its content, or the JSON of what it carries instead."""
    if turn.content.strip() or not turn.extra:
        return turn.content
    return json.dumps({key: value for key, value in turn.extra.items() if key != "content"}, ensure_ascii=False)


def _tell_unused(queries: Sequence[Query], notify: Callable[[str], None]) -> None:
    carried = {name: None for query in queries for name, value in query.metadata.items() if value not in (None, "", [])}
    unused = [name for name in carried if name.strip().casefold() in TRAINER_COLUMNS]
    if unused:
        listed = ", ".join(map(repr, unused))
        notify(f"Not used in the queries, kept as metadata: column{'s' * (len(unused) > 1)} {listed}")


__all__ = ["RESPONSE_COLUMNS", "Query", "read_queries"]
