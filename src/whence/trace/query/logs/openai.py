"""OpenAI's formats, as OpenAI, vLLM and proxies write them: batch outputs, and logs of chat completions.

A batch's output has the answers and the `custom_id` of each request; the prompts are in its input file. A log of
completions has both: `messages` beside or within the `request`, `choices` beside or within the `response`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from whence.data import ASSISTANT
from whence.errors import DataError
from whence.trace.query.logs.entry import (
    CUT_OFF,
    EvaluationLog,
    LogEntry,
    answer,
    as_message,
    content_text,
    has_media,
    plain,
    scalars,
    without_media,
)

BATCH, CHAT = "OpenAI batch output", "chat-completions log"

Row = Mapping[str, object]


def is_batch(row: Row) -> bool:
    """Whether a row is one of a batch's output."""
    response = row.get("response")
    return "custom_id" in row and isinstance(response, Mapping) and ("body" in response or "status_code" in response)


def is_chat(row: Row) -> bool:
    """Whether a row holds a request's messages and a server's answer, which may be empty."""
    body = _answer_body(row)
    if body is None or _request(row) is None:
        return False
    # Columns of rows have these names too: the choices of a question, an output.
    choices, output = body.get("choices"), body.get("output")
    if isinstance(choices, list):
        return all(isinstance(one, Mapping) and ("message" in one or "text" in one) for one in choices)
    return isinstance(output, list) and all(isinstance(one, Mapping) and _is_item(one) for one in output)


@dataclass(slots=True)
class _Read:
    """What is collected of a file's rows."""

    entries: list[LogEntry] = field(default_factory=list)
    n_silent: int = 0
    n_media: int = 0

    def take(self, number: int, row: Row, request: _Request, values: Mapping[str, object]) -> None:
        """Each choice of a row's answer."""
        if request.has_media:
            self.n_media += 1
            return
        said = _choices(row)
        self.n_silent += not said
        for choice, (text, complete) in enumerate(said):
            labels = scalars(values) | ({"choice": choice} if len(said) > 1 else {})
            self.entries.append(LogEntry(number, request.messages, text, None, labels, complete, request.inputs))

    def log(self, tool: str, path: Path, model: str, silent: str) -> EvaluationLog:
        """The log, with what was left out."""
        notes = [f"{self.n_silent} {silent}"] if self.n_silent else []
        notes += without_media(tool, self.entries, self.n_media, path)
        return EvaluationLog(tool, self.entries, model, "", notes)


@dataclass(frozen=True, slots=True)
class _Request:
    messages: list[dict[str, object]]
    inputs: Mapping[str, object]
    """Its tools and chat_template_kwargs, if any."""
    has_media: bool = False


def read_batch(rows: Sequence[Row], path: Path, prompts: Sequence[Row] | None) -> EvaluationLog:
    """The answers joined to the prompts of the input file by `custom_id`. Raises DataError without that file."""
    if prompts is None:
        raise DataError(
            f"{path} is the output of a batch: it has the answers, and the prompts are in the batch's input file.",
            "Expected both: rows belong together by custom_id.",
            f"Add the file that the batch was made from: --queries {path} --query-prompts IN.jsonl",
        )
    asked = {str(row.get("custom_id")): row for row in prompts}
    read, absent, model = _Read(), [], ""
    for number, row in enumerate(rows, 1):
        name = str(row.get("custom_id"))
        if not _choices(row):
            read.n_silent += 1
            continue
        request = _request(asked[name]) if name in asked else None
        if request is None:
            absent.append(name)
            continue
        model = model or _model(row)
        read.take(number, row, request, {"custom_id": name})
    if absent:
        raise DataError(
            f"{len(absent)} answers of {path} have no prompt in the input file: {', '.join(absent[:5])}.",
            "Expected a row with each custom_id, and messages in its body.",
            "Give the input file of this batch with --query-prompts.",
        )
    return read.log(BATCH, path, model, "requests have no answer and are left out")


def read_chat(rows: Sequence[Row], path: Path) -> EvaluationLog:
    """Each request with its answer, or its answers."""
    read = _Read()
    for number, row in enumerate(rows, 1):
        request = _request(row)
        if request is None:
            read.n_silent += 1
        else:
            read.take(number, row, request, {key: value for key, value in row.items() if key != "model"})
    model = next((name for row in rows if (name := _model(row))), "")
    return read.log(CHAT, path, model, "rows without a request or an answer are left out")


def _request(row: Row) -> _Request | None:
    """What was asked, wherever it stands."""
    for holder in (row.get("body"), row.get("request"), row.get("input"), row):
        if isinstance(holder, Mapping) and isinstance(holder.get("body"), Mapping):
            holder = holder["body"]
        if not isinstance(holder, Mapping):
            continue
        messages = holder.get("messages")
        if messages is None and "model" in holder:
            text = holder.get("prompt")
            if "input" not in holder and isinstance(text, str) and text.strip():
                return _Request(plain(text), {})
            messages = holder.get("input")
        if isinstance(messages, str) and messages.strip():
            messages = [{"role": "user", "content": messages}]
        if isinstance(messages, list) and messages and all(isinstance(one, Mapping) for one in messages):
            said = [found for one in messages if (found := _item(one)) is not None]
            return _Request([*_instructions(holder), *said], _inputs(holder), has_media(messages))
    return None


def _is_item(value: Row) -> bool:
    return "type" in value or "content" in value


def _item(item: Row) -> dict[str, object] | None:
    """A message; or what a Responses API's input has in its place: a call, what a tool said; None of a thought."""
    kind = item.get("type")
    if kind == "function_call":
        return {"role": ASSISTANT, "content": "", "tool_calls": [_called(item)]}
    if kind == "function_call_output":
        said: dict[str, object] = {"role": "tool", "content": content_text(item.get("output"))}
        return said | ({"tool_call_id": item["call_id"]} if isinstance(item.get("call_id"), str) else {})
    return None if kind == "reasoning" else as_message(item)


def _called(item: Row) -> dict[str, object]:
    return {"type": "function", "function": {"name": item.get("name"), "arguments": item.get("arguments")}}


def _inputs(request: Row) -> dict[str, object]:
    """What the chat template is given beside the messages. The Responses API writes a function's parts side by side."""
    found: dict[str, object] = {}
    tools = request.get("tools")
    if isinstance(tools, list) and tools and all(isinstance(tool, Mapping) for tool in tools):
        found["tools"] = [
            tool
            if "function" in tool or tool.get("type") != "function"
            else {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
            for tool in tools
        ]
    kwargs = request.get("chat_template_kwargs")
    if isinstance(kwargs, Mapping) and kwargs:
        found["chat_template_kwargs"] = dict(kwargs)
    return found


def _instructions(request: Mapping[str, object]) -> list[dict[str, object]]:
    """The system message of a request to the Responses API, which stands beside its input."""
    text = request.get("instructions")
    return [{"role": "system", "content": text}] if isinstance(text, str) and text.strip() else []


def _choices(row: Row) -> list[tuple[str | dict[str, object], bool]]:
    """Each choice's message or text, or a Responses API's output, and whether it ended by itself; empty ones not."""
    body = _answer_body(row) or {}
    choices, output = body.get("choices"), body.get("output")
    if isinstance(choices, list):
        found = [(_choice(one), one.get("finish_reason") not in CUT_OFF) for one in choices if isinstance(one, Mapping)]
        return [(said, complete) for said, complete in found if said is not None]
    if not isinstance(output, list):
        return []
    items = [one for one in output if isinstance(one, Mapping)]
    # Beside the message stands what the model thought.
    text = "".join(content_text(one.get("content")) for one in items if one.get("type") in (None, "message"))
    calls = [_called(one) for one in items if one.get("type") == "function_call"]
    said = answer({"content": text, "tool_calls": [{"function": call["function"]} for call in calls]})
    return [] if said is None else [(said, body.get("status") != "incomplete")]


def _choice(choice: Row) -> str | dict[str, object] | None:
    message = choice.get("message")
    if isinstance(message, Mapping):
        return answer(message)
    text = choice.get("text")
    return text if isinstance(text, str) and text.strip() else None


def _answer_body(row: Row) -> Row | None:
    for holder in (row.get("response"), row):
        if isinstance(holder, Mapping) and isinstance(holder.get("body"), Mapping) and "custom_id" not in holder:
            holder = holder["body"]
        if isinstance(holder, Mapping) and ("choices" in holder or isinstance(holder.get("output"), list)):
            found: Row = holder
            return found
    return None


def _model(row: Row) -> str:
    body = _answer_body(row) or {}
    return str(body.get("model") or row.get("model") or "")


__all__ = ["BATCH", "CHAT", "is_batch", "is_chat", "read_batch", "read_chat"]
