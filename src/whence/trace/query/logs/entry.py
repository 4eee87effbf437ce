"""What every tool's log comes to: a prompt, the model's answer, and what the tool thought of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from whence.data import ASSISTANT, TEXT, Json

PASSES = {"C": True, "I": False, "N": False, "pass": True, "fail": False, "correct": True, "incorrect": False}
"""Inspect's letters (correct, incorrect, no answer) and words that other tools write."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One answer of a log. `values` are its scores and labels, by names that a condition can be written in."""

    number: int
    """Of the entry in its file, from 1."""
    prompt: str | Sequence[Mapping[str, object]]
    """A text that the chat template is put around, or messages; role "text" stands for a text without template."""
    response: str | Mapping[str, object]
    passed: bool | None = None
    """What the tool's first score says; None where it is no pass or fail."""
    values: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EvaluationLog:
    """A log as it was read."""

    tool: str
    entries: Sequence[LogEntry]
    model: str = ""
    """The model that answered, as the log names it; "" where it does not."""
    judged_by: str = ""
    """The score that `passed` is of; "" where there is none."""
    notes: Sequence[str] = ()


def passed(value: object) -> bool | None:
    """Whether a score is a pass (true, 1, "C") or a fail (false, 0, "I", "N"); None for anything between."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else None
    return PASSES.get(value) if isinstance(value, str) else None


def plain(text: str) -> list[dict[str, object]]:
    """A prompt that the model was given as it is, without a chat template."""
    return [{"role": TEXT, "content": text}]


def prompt_text(text: str) -> str | list[dict[str, object]]:
    """A prompt that may be messages written as JSON."""
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            return text
        if isinstance(found, list) and found and all(isinstance(one, dict) and "role" in one for one in found):
            return found
    return text


def content_text(content: object) -> str:
    """A message's content as text: itself, or the text parts of a list."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def as_message(message: Mapping[str, object]) -> dict[str, object]:
    """Role, text and tool calls of a message, calls as OpenAI writes them."""
    found: dict[str, object] = {"role": message.get("role"), "content": content_text(message.get("content"))}
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        found["tool_calls"] = [_call(call) for call in calls if isinstance(call, Mapping)]
    return found


def answer(message: Mapping[str, object]) -> str | dict[str, object] | None:
    """The assistant's message: its text, or the whole of one that calls a tool; None of an empty one."""
    found = as_message(message)
    if "tool_calls" in found:
        return {**found, "role": ASSISTANT}
    text = str(found["content"])
    return text if text.strip() else None


def scalars(values: Mapping[str, object]) -> dict[str, Json]:
    """Texts, numbers and truth values, under names of letters, digits and _."""
    return {
        re.sub(r"\W+", "_", name).strip("_") or "value": value
        for name, value in values.items()
        if isinstance(value, str | int | float | bool)
    }


def _call(call: Mapping[str, object]) -> dict[str, object]:
    function = call.get("function")
    if isinstance(function, Mapping):
        return {"type": "function", "function": dict(function)}
    return {"type": "function", "function": {"name": function, "arguments": call.get("arguments")}}


__all__ = [
    "EvaluationLog",
    "LogEntry",
    "answer",
    "as_message",
    "content_text",
    "passed",
    "plain",
    "prompt_text",
    "scalars",
]
