"""Random rows in any layout and file, with what their trainer makes of them: written apart from whence's own reader."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from hypothesis import strategies as st

Message = dict[str, Any]

WORDS = ["Oslo", " is", "\n", " ", ".", "é", "🦊", "<|end|>", "<|assistant|>\n", "**", "\t", "{", "世界", "whence"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=5).map("".join)
SPOKEN = TEXT.filter(lambda text: text.strip() != "")
ARGUMENTS = st.dictionaries(st.sampled_from(["city", "n"]), st.integers(0, 9) | st.just("x"), min_size=1, max_size=2)
CALL = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    st.sampled_from(["find", "add"]),
    ARGUMENTS | ARGUMENTS.map(json.dumps),
)
TOOL = st.builds(
    lambda name: {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}},
    st.sampled_from(["find", "add"]),
)
MARKS = st.sampled_from([{}, {}, {}, {"weight": 0}, {"weight": 1}, {"train": False}, {"training": True}])


@st.composite
def answers(draw: st.DrawFn) -> Message:
    """One message of the assistant, with anything that one may hold."""
    message: Message = {"role": "assistant", "content": draw(st.one_of(SPOKEN, SPOKEN, TEXT, st.none(), parts()))}
    if draw(st.integers(0, 3)) == 0:
        message["tool_calls"] = draw(st.lists(CALL, min_size=1, max_size=2))
    if draw(st.integers(0, 3)) == 0:
        message["reasoning_content"] = draw(SPOKEN)
    return message | draw(MARKS)


def parts() -> st.SearchStrategy[list[Message]]:
    return st.lists(SPOKEN.map(lambda text: {"type": "text", "text": text}), min_size=1, max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Messages in any order that a template may meet; the assistant may begin."""
    found: list[Message] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 5))
        if kind == 0:
            found.append({"role": "tool", "content": draw(TEXT), "tool_call_id": draw(st.sampled_from(["1", "2"]))})
        elif kind != 1:
            user: Message = {"role": "user", "content": draw(TEXT | parts())}
            found.append(user | draw(st.sampled_from([{}, {}, {"name": "Ida"}])))
        found.append(draw(answers()))
    return found


@dataclass(frozen=True)
class Case:
    """A row of a file, and how its trainer reads it once the file's library has loaded it."""

    row: dict[str, Any]
    view: Callable[[dict[str, Any]], tuple[list[Message], dict[str, Any]]]
    """Loaded row -> messages and the template's other inputs, as the trainer hands them to apply_chat_template."""


def _with_system(row: dict[str, Any], messages: list[Message]) -> list[Message]:
    text = row.get("system") or row.get("system_prompt") or ""
    return [{"role": "system", "content": text}, *messages] if text.strip() else messages


def _inputs(row: dict[str, Any]) -> dict[str, Any]:
    tools = row.get("tools") or []
    inputs = dict(row.get("chat_template_kwargs") or {})
    tools = json.loads(tools) if isinstance(tools, str) else tools
    if tools:
        inputs["tools"] = tools
    if row.get("documents"):
        inputs["documents"] = row["documents"]
    return inputs


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}


@st.composite
def besides(draw: st.DrawFn) -> dict[str, Any]:
    """Columns that may stand beside any conversation."""
    row: dict[str, Any] = {}
    if draw(st.booleans()):
        row[draw(st.sampled_from(["system", "system_prompt"]))] = draw(TEXT)
    if draw(st.integers(0, 2)) == 0:
        tools = draw(st.lists(TOOL, min_size=1, max_size=2))
        row["tools"] = draw(st.sampled_from([tools, json.dumps(tools)]))
    if draw(st.integers(0, 4)) == 0:
        row["chat_template_kwargs"] = {"mood": draw(st.sampled_from(["calm", "gay"]))}
    if draw(st.integers(0, 4)) == 0:
        row["documents"] = [{"title": "t", "text": draw(TEXT)}]
    return row | draw(st.sampled_from([{}, {"label": 1, "source": "web"}, {"parallel_tool_calls": True}]))


@st.composite
def chats(draw: st.DrawFn) -> Case:
    row = {"messages": draw(conversations())} | draw(besides())
    return Case(row, lambda row: (_with_system(row, row["messages"]), _inputs(row)))


@st.composite
def sharegpts(draw: st.DrawFn) -> Case:
    names = {"human": "user", "user": "user", "gpt": "assistant", "observation": "tool", "tool": "tool"}
    entries = []
    for _ in range(draw(st.integers(1, 3))):
        entries.append({"from": draw(st.sampled_from(["human", "user", "observation", "tool"])), "value": draw(TEXT)})
        call = draw(st.integers(0, 3)) == 0
        value = json.dumps({"name": "find", "arguments": draw(ARGUMENTS)}) if call else draw(TEXT)
        entries.append({"from": "function_call" if call else "gpt", "value": value} | draw(MARKS))

    def view(row: dict[str, Any]) -> tuple[list[Message], dict[str, Any]]:
        messages = []
        for entry in row["conversations"]:
            rest = {key: value for key, value in entry.items() if key not in ("from", "value")}
            if entry["from"] == "function_call":
                calls = [{"type": "function", "function": json.loads(entry["value"])}]
                messages.append({"role": "assistant", "content": "", "tool_calls": calls} | rest)
            else:
                messages.append({"role": names[entry["from"]], "content": entry["value"]} | rest)
        return _with_system(row, messages), _inputs(row)

    return Case({"conversations": entries} | draw(besides()), view)


@st.composite
def pairs(draw: st.DrawFn) -> Case:
    """Texts: prompt/response, Alpaca, question/context/answer; with LLaMA-Factory's history."""
    asked, about, said = draw(
        st.sampled_from(
            [
                ("prompt", None, "response"),
                ("prompt", None, "completion"),
                ("instruction", "input", "output"),
                ("question", "context", "answer"),
            ]
        )
    )
    row: dict[str, Any] = {asked: draw(TEXT), said: draw(TEXT)} | draw(besides())
    if about:
        row[about] = draw(TEXT)
    if draw(st.integers(0, 2)) == 0:
        row["history"] = draw(st.lists(st.tuples(TEXT, TEXT).map(list), max_size=2))

    def view(row: dict[str, Any]) -> tuple[list[Message], dict[str, Any]]:
        messages = []
        for one, other in row.get("history") or []:
            messages += [_user(one), _said(other)]
        joined = f"{row[asked]}\n\n{row[about]}" if about and row[about].strip() else row[asked]
        return _with_system(row, [*messages, _user(joined), _said(row[said])]), _inputs(row)

    return Case(row, view)


@st.composite
def split_chats(draw: st.DrawFn) -> Case:
    """TRL's prompt and completion as lists; preferences, whose chosen side may repeat the prompt."""
    messages = draw(conversations())
    first = next(place for place, message in enumerate(messages) if message["role"] == "assistant")
    prompt, rest = messages[:first], messages[first:]
    if not prompt:
        prompt = [_user(draw(TEXT))]
    kind = draw(st.sampled_from(["completion", "chosen", "whole", "whole of text", "implicit"]))
    row: dict[str, Any]
    if kind == "whole of text":
        prompt = [_user(draw(TEXT))]
        row = {"prompt": prompt[0]["content"], "chosen": [*prompt, *rest], "rejected": [*prompt, _said("no")]}
    elif kind == "implicit":
        row = {"chosen": [*prompt, *rest], "rejected": [*prompt, _said("no")]}
    elif kind == "whole":
        row = {"prompt": prompt, "chosen": [*prompt, *rest], "rejected": [*prompt, _said("no")]}
    else:
        row = {"prompt": prompt, kind: rest}

    def view(row: dict[str, Any]) -> tuple[list[Message], dict[str, Any]]:
        answer = row["completion"] if kind == "completion" else row["chosen"]
        whole = kind in ("whole", "whole of text", "implicit")
        return _with_system(row, answer if whole else [*row["prompt"], *answer]), _inputs(row)

    return Case(row | draw(besides()), view)


CASES = st.one_of(chats(), chats(), sharegpts(), pairs(), split_chats())


def _json_loaded(text: str) -> list[dict[str, Any]]:
    return [json.loads(text)]


def write(case: Case, folder: Path, how: str) -> tuple[Path, dict[str, Any]]:
    """The row as a file, and as the trainer's library loads it from there."""
    text = json.dumps(case.row, ensure_ascii=False)
    packed = {
        "rows.jsonl": text.encode(),
        "named-as-plain.jsonl": gzip.compress(text.encode()),
        "rows.jsonl.zst": pa.compress(text.encode(), codec="zstd", asbytes=True),
        "rows.json": f"[\n{text}\n]".encode(),
        "inside.json": f'{{"version": 1, "data": [{text}], "n": 1}}'.encode(),
        "bom.jsonl": b"\xef\xbb\xbf" + text.encode(),
    }
    if how == "rows.parquet":
        try:
            pa.parquet.write_table(pa.Table.from_pylist([case.row]), folder / how)
        except (pa.ArrowException, TypeError):
            how = "rows.jsonl"  # a column of mixed types fits no table
        else:
            loaded = pa.parquet.read_table(folder / how).to_pylist()[0]
            return folder / how, {key: _without_nulls(value) for key, value in loaded.items()}
    (folder / how).write_bytes(packed[how])
    return folder / how, json.loads(text)


FILES = (
    "rows.jsonl",
    "named-as-plain.jsonl",
    "rows.jsonl.zst",
    "rows.json",
    "inside.json",
    "bom.jsonl",
    "rows.parquet",
)


def _without_nulls(value: Any) -> Any:
    """As TRL does to what a table loads."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
