"""The outputs of a log: equal ones once, answered where they have no response, and those that a matcher keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from whence.data import Example, Json, conversation_json
from whence.errors import InputError
from whence.trace import Query, Tracer, TraceSettings

ANSWERED_TOGETHER = 256
"""Prompts that the model answers before the matcher looks at them."""


@dataclass(frozen=True, slots=True)
class Output:
    """One different output, and how many of the log are equal to it. `generated`: the response is the model's own."""

    query: Query
    count: int
    generated: bool = False


def different_outputs(queries: Sequence[Query]) -> list[Output]:
    """Each different prompt with its response once, in the order of their first places."""
    counts: dict[str, list[int]] = {}
    for number, query in enumerate(queries):
        counts.setdefault(content_of(query), []).append(number)
    return [Output(queries[numbers[0]], len(numbers)) for numbers in counts.values()]


def matching_outputs(
    tracer: Tracer,
    outputs: Sequence[Output],
    match: str | None,
    settings: TraceSettings,
    progress: Callable[[str, int, int | None], None],
) -> list[Output]:
    """The outputs with their responses, those without one answered by the model now; with `match` those it is found in.

    Raises InputError: an expression that is none or is in no output, a prompt that the model answers with nothing.
    """
    pattern = compiled(match) if match is not None else None
    found: list[Output] = []
    for start in range(0, len(outputs), ANSWERED_TOGETHER):
        piece = list(outputs[start : start + ANSWERED_TOGETHER])
        silent = [place for place, output in enumerate(piece) if output.query.response is None]
        if silent:
            progress("answering", start, len(outputs))
            queries = tracer.as_rows([piece[place].query for place in silent])
            answers = tracer.answer(queries, settings, first=start)
            for place, turn, complete in zip(silent, answers.turns, answers.complete, strict=True):
                query = replace(piece[place].query, response=turn.response, complete=complete)
                piece[place] = Output(query, piece[place].count, generated=True)
        found += piece
    if pattern is None:
        return found
    shown = [output for output in found if pattern.search(output.query.response or "")]
    if not shown:
        raise InputError(
            f"--match {match!r} is in none of {len(found)} outputs.",
            "Expected outputs that show the behaviour.",
            "Change the expression, or leave --match out to audit all.",
        )
    return shown


def compiled(match: str) -> re.Pattern[str]:
    """The expression of `--match`. Raises InputError for one that cannot be read."""
    try:
        return re.compile(match, re.DOTALL)
    except re.error as error:
        raise InputError(
            f"{match!r} is no regular expression: {error}.", "--match is looked for in every answer.", "Correct it."
        ) from error


def content_of(query: Query) -> str:
    """The prompt's turns, what the template is given beside them, the response and whether it ended, as text."""
    turns = json.loads(conversation_json(Example(query.turns, template_inputs=query.template_inputs)))
    answer = query.answer and {"content": query.answer.content, **query.answer.extra}
    return json.dumps([turns, query.response, query.complete, answer], sort_keys=True, ensure_ascii=True)


def messages_of(query: Query) -> tuple[Mapping[str, Json], ...]:
    """The prompt as messages, where it is more than one text of the user's; else nothing."""
    if query.is_bare or (len(query.turns) == 1 and query.turns[0].role == "user" and not query.turns[0].extra):
        return ()
    return tuple(turn.message for turn in query.turns)


__all__ = ["Output", "compiled", "content_of", "different_outputs", "matching_outputs", "messages_of"]
