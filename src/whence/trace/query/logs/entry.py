"""What every tool's log comes to: a prompt, the model's answer, and what the tool thought of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from whence.data import ASSISTANT, TEXT, Json
from whence.errors import DataError

PASSES = {"C": True, "I": False, "N": False, "pass": True, "fail": False, "correct": True, "incorrect": False}
"""Inspect's letters (correct, incorrect, no answer) and words that other tools write."""
REASONING = ("reasoning", "thinking")
"""Types of a message's parts that hold a thought."""
MEDIA = ("image", "audio", "video", "document", "file")
"""Types of parts that a model of text cannot read; some begin with input_ or end with _url."""
CUT_OFF = ("length", "max_tokens", "model_length", "max_output_tokens")
"""Why an answer stopped, as servers and Inspect spell a limit of tokens."""


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
    complete: bool = True
    """False where the log says that the answer was stopped at a limit of tokens."""
    request: Mapping[str, object] = field(default_factory=dict)
    """What the chat template was given beside the messages: tools, chat_template_kwargs."""


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
        except (ValueError, RecursionError):
            return text
        if isinstance(found, list) and found and all(isinstance(one, dict) and "role" in one for one in found):
            return found
    return text


def content_text(content: object) -> str:
    """A message's content as text: itself, or the texts and refusals among a list of parts."""
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _part_text(part: Mapping[str, object]) -> str:
    if part.get("type") in REASONING:
        return ""
    text = part.get("text", part.get("refusal"))
    return text if isinstance(text, str) else ""


def has_media(messages: Iterable[Mapping[str, object]]) -> bool:
    """Whether a message has a picture, a sound or a file among its parts."""
    return any(
        isinstance(part, Mapping) and str(part.get("type")).removeprefix("input_").removesuffix("_url") in MEDIA
        for message in messages
        if isinstance(content := message.get("content"), list)
        for part in content
    )


def as_message(message: Mapping[str, object]) -> dict[str, object]:
    """Role, text, tool calls and thoughts of a message, as chat templates read them."""
    found: dict[str, object] = {"role": message.get("role"), "content": content_text(message.get("content"))}
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        found["tool_calls"] = [_call(call) for call in calls if isinstance(call, Mapping)]
    if thought := _thought(message):
        found["reasoning_content"] = thought
    return found | {key: value for key in ("tool_call_id", "name") if isinstance(value := message.get(key), str)}


def _thought(message: Mapping[str, object]) -> str:
    """What a message thought aloud, of the keys and parts that servers and Inspect write; "" where nothing."""
    for key in ("reasoning_content", "reasoning"):
        if isinstance(text := message.get(key), str) and text.strip():
            return text
    content = message.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    said = [part.get("reasoning", part.get("thinking")) for part in parts if part.get("type") in REASONING]
    return "".join(text for text in said if isinstance(text, str))


def answer(message: Mapping[str, object]) -> str | dict[str, object] | None:
    """The assistant's message: its text (a refusal's too), or the whole of one that calls a tool or thinks aloud;
    None of an empty one."""
    found = as_message(message)
    if not found["content"] and isinstance(refusal := message.get("refusal"), str):
        found["content"] = refusal
    if "tool_calls" in found or "reasoning_content" in found:
        return {**found, "role": ASSISTANT}
    text = str(found["content"])
    return text if text.strip() else None


def without_media(tool: str, entries: Sequence[LogEntry], n_media: int, path: Path) -> list[str]:
    """What is said of requests with pictures or sounds, which are left out. Raises DataError where none is left."""
    if n_media and not entries:
        raise DataError(
            f"Every request of {path} ({tool}) has a picture, a sound or a file.",
            "whence reads models of text.",
            "Give a log of requests in text.",
        )
    return [f"{n_media} requests with a picture, a sound or a file are left out"] if n_media else []


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
    "CUT_OFF",
    "EvaluationLog",
    "LogEntry",
    "answer",
    "as_message",
    "content_text",
    "has_media",
    "passed",
    "plain",
    "prompt_text",
    "scalars",
    "without_media",
]
