"""The outputs of a log: equal ones once, answered where they have no response, and those that a matcher keeps."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whence.data import Example, Json, conversation_json
from whence.errors import InputError
from whence.files import hash_of, write_atomically
from whence.trace import Query, Tracer, TraceSettings

ANSWERED_TOGETHER = 256
"""Prompts that the model answers before the matcher looks at them."""


@dataclass(frozen=True, slots=True)
class Output:
    """One different output, and how many of the log are equal to it.

    generated: the response is the model's own. repeats: metadata of the equal outputs behind the first, where any has.
    """

    query: Query
    count: int
    generated: bool = False
    repeats: tuple[Mapping[str, Json], ...] = ()


def different_outputs(queries: Sequence[Query]) -> list[Output]:
    """Each different prompt with its response once, in the order of their first places."""
    return _joined([Output(query, 1) for query in queries])


def _joined(outputs: Sequence[Output]) -> list[Output]:
    """Equal outputs as one. It is the model's own where all are."""
    places: dict[str, list[Output]] = {}
    for output in outputs:
        places.setdefault(content_of(output.query), []).append(output)
    found = []
    for first, *others in places.values():
        repeats = list(first.repeats)
        for other in others:
            repeats += [other.query.metadata, *other.repeats]
        count = first.count + sum(other.count for other in others)
        generated = first.generated and all(other.generated for other in others)
        found.append(Output(first.query, count, generated, tuple(repeats) if any(repeats) else ()))
    return found


def answered_outputs(
    tracer: Tracer,
    queries: Sequence[Query],
    settings: TraceSettings,
    progress: Callable[[str, int, int | None], None],
    *,
    work: Path,
) -> tuple[list[Output], int]:
    """The different outputs of a log, those without a response answered by the model now; and how many say nothing.

    Outputs with an empty response are left out and counted, as often as the log has them.

    work: folder for the model's answers, which are read from there when the same prompts come again.

    Raises InputError where no output is left, and for a folder that cannot be made.
    """
    outputs = different_outputs(queries)
    for start in range(0, len(outputs), ANSWERED_TOGETHER):
        piece = range(start, min(start + ANSWERED_TOGETHER, len(outputs)))
        places = [place for place in piece if outputs[place].query.response is None]
        if places:
            progress("answering", start, len(outputs))
            answers = _answers(tracer, [outputs[place].query for place in places], settings, work)
            for place, (text, complete) in zip(places, answers, strict=True):
                query = replace(outputs[place].query, response=text, complete=complete)
                outputs[place] = replace(outputs[place], query=query, generated=True)
    outputs = _joined(outputs)
    found = [output for output in outputs if not output.query.is_silent]
    if outputs and not found:
        raise InputError(
            f"Every response of {len(queries)} outputs is empty.",
            "The responses that went wrong, as the model gave them.",
            "Leave the responses out altogether to have the model answer now.",
        )
    return found, sum(output.count for output in outputs) - sum(output.count for output in found)


def _answers(tracer: Tracer, queries: Sequence[Query], settings: TraceSettings, work: Path) -> list[tuple[str, bool]]:
    """The model's greedy answers, and whether each ended by itself; kept in the work folder."""
    from whence.model import generate

    asked = [tracer.index.manifest.identity(), [content_of(query) for query in queries], settings.answer_tokens]
    path = made_folder(work) / f"answers-{hash_of(asked)}.json"
    try:
        return [(str(text), bool(complete)) for text, complete in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        ids = [query.prompt_ids(tracer.encoder) for query in tracer.as_rows(queries)]
        found = generate(tracer.loaded, ids, max_new_tokens=settings.answer_tokens)
        answers = [(answer.text, answer.complete) for answer in found]
        write_atomically(path, json.dumps(answers))
        return answers


def made_folder(folder: Path) -> Path:
    """The work folder of an audit, made where it is not there. Raises InputError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be written: {error.strerror}.",
            "An audit keeps its finished blocks there, to go on after a cut.",
            "Give a folder that can be written with --work.",
        ) from error
    return folder


def matching_outputs(outputs: Sequence[Output], match: str | None) -> list[Output]:
    """The outputs whose response `match` is found in; None finds all.

    Raises InputError: an expression that is none or is in no output.
    """
    if match is None:
        return list(outputs)
    pattern = compiled(match)
    shown = [output for output in outputs if pattern.search(output.query.response or "")]
    if not shown:
        raise InputError(
            f"--match {match!r} is in none of {len(outputs)} outputs.",
            "Expected outputs that show the behaviour.",
            "Change the expression, or leave --match out to audit all.",
        )
    return shown


def silent_note(n: int) -> str:
    """What is said of outputs that say nothing."""
    return f"{n:,} outputs have an empty response and are left out."


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


__all__ = [
    "Output",
    "answered_outputs",
    "compiled",
    "content_of",
    "different_outputs",
    "made_folder",
    "matching_outputs",
    "messages_of",
    "silent_note",
]
