"""OpenAI's formats, as OpenAI, vLLM and proxies write them: batch outputs, and logs of chat completions.

A batch's output has the answers and the `custom_id` of each request; the prompts are in its input file. A log of
completions has both: `messages` beside or within the `request`, `choices` beside or within the `response`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from whence.errors import DataError
from whence.trace.query.logs.entry import EvaluationLog, LogEntry, answer, as_message, content_text, plain, scalars

BATCH, CHAT = "OpenAI batch output", "chat-completions log"

Row = Mapping[str, object]


def is_batch(row: Row) -> bool:
    """Whether a row is one of a batch's output."""
    response = row.get("response")
    return "custom_id" in row and isinstance(response, Mapping) and ("body" in response or "status_code" in response)


def is_chat(row: Row) -> bool:
    """Whether a row holds a request's messages and the choices of its answer."""
    return _request(row) is not None and _said(row) is not None


def read_batch(rows: Sequence[Row], path: Path, prompts: Sequence[Row] | None) -> EvaluationLog:
    """The answers joined to the prompts of the input file by `custom_id`. Raises DataError without that file."""
    if prompts is None:
        raise DataError(
            f"{path} is the output of a batch: it has the answers, and the prompts are in the batch's input file.",
            "Expected both: rows belong together by custom_id.",
            f"Add the file that the batch was made from: --queries {path} --query-prompts IN.jsonl",
        )
    asked = {str(row.get("custom_id")): row for row in prompts}
    entries, absent, silent, model = [], [], 0, ""
    for number, row in enumerate(rows, 1):
        name = str(row.get("custom_id"))
        said = _said(row)
        if said is None:
            silent += 1
            continue
        request = _request(asked[name]) if name in asked else None
        if request is None:
            absent.append(name)
            continue
        model = model or _model(row)
        entries.append(LogEntry(number, request, said, None, scalars({"custom_id": name})))
    if absent:
        raise DataError(
            f"{len(absent)} answers of {path} have no prompt in the input file: {', '.join(absent[:5])}.",
            "Expected a row with each custom_id, and messages in its body.",
            "Give the input file of this batch with --query-prompts.",
        )
    notes = [f"{silent} requests that failed have no answer and are left out"] if silent else []
    return EvaluationLog(BATCH, entries, model, "", notes)


def read_chat(rows: Sequence[Row], path: Path) -> EvaluationLog:
    """Each request with its answer."""
    entries, silent = [], 0
    for number, row in enumerate(rows, 1):
        request, said = _request(row), _said(row)
        if request is None or said is None:
            silent += 1
            continue
        entries.append(LogEntry(number, request, said, None, scalars({k: v for k, v in row.items() if k != "model"})))
    notes = [f"{silent} rows without a request or an answer are left out"] if silent else []
    return EvaluationLog(CHAT, entries, _model(rows[0]), "", notes)


def _request(row: Row) -> list[dict[str, object]] | None:
    """The messages of a request, wherever it stands."""
    for holder in (row.get("body"), row.get("request"), row.get("input"), row):
        if isinstance(holder, Mapping) and isinstance(holder.get("body"), Mapping):
            holder = holder["body"]
        if not isinstance(holder, Mapping):
            continue
        messages = holder.get("messages")
        if messages is None and "model" in holder:
            text = holder.get("prompt")
            if "input" not in holder and isinstance(text, str) and text.strip():
                return plain(text)
            messages = holder.get("input")
        if isinstance(messages, str) and messages.strip():
            messages = [{"role": "user", "content": messages}]
        if isinstance(messages, list) and messages and all(isinstance(one, Mapping) for one in messages):
            return [*_instructions(holder), *map(as_message, messages)]
    return None


def _instructions(request: Mapping[str, object]) -> list[dict[str, object]]:
    """The system message of a request to the Responses API, which stands beside its input."""
    text = request.get("instructions")
    return [{"role": "system", "content": text}] if isinstance(text, str) and text.strip() else []


def _said(row: Row) -> str | dict[str, object] | None:
    """The first choice's message or text, or the text of a Responses API's output."""
    body = _answer_body(row)
    if body is None:
        return None
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        message = choices[0].get("message")
        if isinstance(message, Mapping):
            return answer(message)
        text = choices[0].get("text")
        return text if isinstance(text, str) and text.strip() else None
    output = body.get("output")
    if isinstance(output, list):
        # Beside the message stand what the model thought and which tools it called.
        said = [one for one in output if isinstance(one, Mapping) and one.get("type") in (None, "message")]
        text = "".join(content_text(one.get("content")) for one in said)
        return text if text.strip() else None
    return None


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
