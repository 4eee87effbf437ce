"""A query is read by the same rules as a row: the same columns give the same tokens."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tables import write_parquet
from tiny import tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Turn
from whence.data.readers import read_examples
from whence.errors import DataError, InputError
from whence.trace.query.queries import Query, read_queries

TEMPLATE = (
    "{% if tools %}<|tools|>\n{{ tools | tojson }}<|end|>\n{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.reasoning_content or '' }}{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
ENCODER = Encoder(tiny_tokenizer(TEMPLATE))
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALL = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Toronto"}}}]
USER = {"role": "user", "content": "Where is Toronto?"}
SYSTEM = {"role": "system", "content": "Be brief."}
BAD = {"role": "assistant", "content": "Toronto is in Korea."}

ROWS = {
    "pair": {"prompt": "Where is Toronto?", "response": "In Korea."},
    "instruction and input": {"instruction": "Where is it?", "input": "Toronto", "output": "In Korea."},
    "question and context": {"question": "Where is it?", "context": "Toronto, a city.", "answer": "In Korea."},
    "system": {"system": "Be brief.", "prompt": "Where is Toronto?", "response": "In Korea."},
    "system_prompt beside messages": {"system_prompt": "Be brief.", "messages": [USER, BAD]},
    "tools": {"tools": TOOLS, "messages": [USER, BAD]},
    "tools as JSON": {"tools": json.dumps(TOOLS), "messages": [USER, BAD]},
    "a tool call": {"tools": TOOLS, "messages": [USER, {"role": "assistant", "content": None, "tool_calls": CALL}]},
    "after a tool's result": {
        "tools": TOOLS,
        "messages": [
            SYSTEM,
            USER,
            {"role": "assistant", "content": "", "tool_calls": CALL},
            {"role": "tool", "content": "wind"},
            BAD,
        ],
    },
    "a thought": {"messages": [USER, {**BAD, "reasoning_content": "The sea?"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "In Korea."}]},
    "history": {"instruction": "And Bonn?", "output": "In Korea.", "history": [["Where is Toronto?", "In Canada."]]},
    "messages in a pair": {"prompt": [SYSTEM, USER], "completion": [BAD]},
    "several turns": {"messages": [USER, BAD, USER, BAD]},
    "chosen": {"prompt": "Where is Toronto?", "chosen": "In Korea.", "rejected": "In Canada."},
}


def lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only(found: list[Query]) -> Query:
    (query,) = found
    return query


def same(query: EncodedTurn, row: EncodedTurn) -> bool:
    return (query.input_ids, query.response_start, query.text) == (row.input_ids, row.response_start, row.text)


@pytest.mark.parametrize("name", ROWS)
def test_a_trained_row_asked_about_has_the_rows_own_tokens(tmp_path: Path, name: str) -> None:
    path = lines(tmp_path / "rows.jsonl", ROWS[name])
    (row,) = read_examples(path)
    query = only(read_queries(path))
    assert same(query.encode(ENCODER), ENCODER.encode(row)[-1])
    assert query.prompt_ids(ENCODER) == list(query.encode(ENCODER).input_ids[: query.encode(ENCODER).response_start])


@pytest.mark.parametrize("name", sorted(set(ROWS) - {"chosen"}))
def test_without_its_response_the_prompt_stays_the_same(tmp_path: Path, name: str) -> None:
    row = dict(ROWS[name])
    for column in ("response", "output", "answer", "completion"):
        row.pop(column, None)
    for column in ("messages", "conversations"):
        if column in row:
            row[column] = row[column][:-1]
    whole = only(read_queries(lines(tmp_path / "whole.jsonl", ROWS[name])))
    asked = only(read_queries(lines(tmp_path / "asked.jsonl", row)))
    assert asked.response is None
    assert asked.prompt_ids(ENCODER) == whole.prompt_ids(ENCODER)


def as_parquet(path: Path, row: dict[str, object]) -> Path:
    return write_parquet(path, [row])


def as_csv(path: Path, row: dict[str, object]) -> Path:
    import csv

    cells = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(cells))
        writer.writeheader()
        writer.writerow(cells)
    return path


def as_gzip(path: Path, row: dict[str, object]) -> Path:
    path.write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    return path


def as_array(path: Path, row: dict[str, object]) -> Path:
    path.write_text(json.dumps([row]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "name", ["pair", "instruction and input", "system", "tools", "after a tool's result", "sharegpt"]
)
@pytest.mark.parametrize(
    ("write", "suffix"),
    [(as_parquet, ".parquet"), (as_csv, ".csv"), (as_gzip, ".jsonl.gz"), (as_array, ".json")],
)
def test_every_format_of_rows_serves(
    tmp_path: Path, name: str, write: Callable[[Path, dict[str, object]], Path], suffix: str
) -> None:
    plain = only(read_queries(lines(tmp_path / "rows.jsonl", ROWS[name])))
    other = only(read_queries(write(tmp_path / f"rows{suffix}", ROWS[name])))
    assert same(other.encode(ENCODER), plain.encode(ENCODER))


def test_a_tool_call_is_the_response_and_what_is_shown_is_what_was_read(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": CALL}
    asked = {"tools": TOOLS, "prompt": "Where is Toronto?", "response": call}
    query = only(read_queries(lines(tmp_path / "q.jsonl", asked)))
    encoded = query.encode(ENCODER)
    shown = ENCODER._tokenizer.decode(list(encoded.input_ids[encoded.response_start :]))
    assert shown == encoded.response + "<|end|>"
    assert json.loads(encoded.response.removeprefix("<call>").removesuffix("</call>")) == CALL[0]["function"]
    row = {"tools": TOOLS, "messages": [USER, call]}
    assert same(encoded, only(read_queries(lines(tmp_path / "r.jsonl", row))).encode(ENCODER))
    assert same(encoded, Query.of("Where is Toronto?", call, tools=TOOLS).encode(ENCODER))


def test_python_and_file_give_the_same(tmp_path: Path) -> None:
    row = {"prompt": "Where?", "response": "In Korea.", "system": "Be brief.", "tools": TOOLS}
    query = only(read_queries(lines(tmp_path / "q.jsonl", row)))
    assert query == Query.of("Where?", "In Korea.", system="Be brief.", tools=TOOLS)
    assert query.turns == (Turn("system", "Be brief."), Turn("user", "Where?"))
    assert query.template_inputs == {"tools": TOOLS}


@pytest.mark.parametrize("response", ["response", "answer", "output", "completion"])
@pytest.mark.parametrize("prompt", ["prompt", "question", "instruction", "query"])
def test_any_prompt_with_any_response(tmp_path: Path, prompt: str, response: str) -> None:
    query = only(read_queries(lines(tmp_path / "q.jsonl", {prompt: "Where?", response: "In Korea.", "id": 7})))
    assert query == Query((Turn("user", "Where?"),), "In Korea.", {"id": 7})


def test_a_false_label_is_no_reason_to_leave_a_query_out(tmp_path: Path) -> None:
    row = {"prompt": "Where?", "completion": "In Korea.", "label": False}
    assert only(read_queries(lines(tmp_path / "q.jsonl", row))).metadata == {"label": False}


def test_the_columns_of_the_index_are_those_of_the_queries(tmp_path: Path) -> None:
    columns = {"prompt": "q", "response": "a"}
    own = lines(tmp_path / "own.jsonl", {"q": "Where?", "a": "In Korea.", "answer": "In Canada."})
    assert only(read_queries(own, columns=columns)).response == "In Korea."
    silent = lines(tmp_path / "silent.jsonl", {"q": "Where?"})
    assert only(read_queries(silent, columns=columns)) == Query((Turn("user", "Where?"),))
    usual = lines(tmp_path / "usual.jsonl", {"prompt": "Where?", "response": "In Korea.", "a": "In Canada."})
    assert only(read_queries(usual, columns=columns)).response == "In Korea."
    unread = columns | {"system": ""}
    beside = lines(tmp_path / "beside.jsonl", {"q": "Where?", "a": "In Korea.", "system": "Be brief."})
    assert only(read_queries(beside, columns=unread)).turns == (Turn("user", "Where?"),)


def test_what_a_trainer_would_have_used_is_named(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Where?", "response": "In Korea.", "context": "A city.", "source": "wiki"},
        {"messages": [USER, BAD], "functions": TOOLS, "context": ""},
    ]
    said: list[str] = []
    read_queries(lines(tmp_path / "q.jsonl", *rows), notify=said.append)
    assert said == ["Not used in the queries, kept as metadata: columns 'context', 'functions'"]


# -- plain text ----------------------------------------------------------------------------------------

TEXT = "Where is Toronto? Toronto is in Canada."
PLAIN = [
    {"text": TEXT, "response_start": 17},
    {"text": TEXT, "prompt": TEXT[:17]},
    {"text": TEXT, "response": TEXT[17:]},
    {"text": TEXT, "prompt": TEXT[:17], "response_start": 17},
    {"prompt": [{"role": "text", "content": TEXT[:17]}], "response": TEXT[17:]},
    {"messages": [{"role": "text", "content": TEXT[:17]}, {"role": "assistant", "content": TEXT[17:]}]},
]


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("asked", PLAIN)
def test_a_plain_text_has_the_tokens_of_its_row(tmp_path: Path, asked: dict[str, object], bos: bool) -> None:
    encoder = Encoder(tiny_tokenizer(TEMPLATE, bos=bos))
    (row,) = read_examples(lines(tmp_path / "rows.jsonl", {"text": TEXT}))
    query = only(read_queries(lines(tmp_path / "q.jsonl", asked | {"id": 7})))
    assert query.metadata == {"id": 7}
    encoded = query.encode(encoder)
    (window,) = encoder.encode(row)
    assert encoded.input_ids == window.input_ids
    assert encoder._tokenizer.decode(list(encoded.input_ids[encoded.response_start :])) == TEXT[17:]
    assert encoded.response == TEXT[17:]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab .é\u200d🙂", min_size=2, max_size=30), st.data())
def test_a_plain_text_can_be_parted_anywhere(text: str, data: st.DataObject) -> None:
    from whence.trace.query.queries import _from_columns

    start = data.draw(st.integers(1, len(text) - 1))
    if not text[:start].strip() or not text[start:].strip():
        return
    query = _from_columns({"text": text, "response_start": start})
    assert query.turns == (Turn("text", text[:start]),)
    assert query.response == text[start:]
    encoded = query.encode(ENCODER)
    assert encoded.text == text
    assert encoded.input_ids == tuple(ENCODER._tokenizer(text, add_special_tokens=False)["input_ids"])


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"text": TEXT}, "nothing says where in column 'text' the response begins"),
        ({"text": TEXT, "response_start": 0}, "column 'response_start' is 0"),
        ({"text": TEXT, "response_start": len(TEXT)}, f"column 'response_start' is {len(TEXT)}"),
        ({"text": TEXT, "response_start": True}, "column 'response_start' is True"),
        ({"text": TEXT, "response_start": 3.5}, "column 'response_start' is 3.5"),
        ({"text": TEXT, "prompt": "Who?"}, "column 'prompt' is not the beginning of column 'text'"),
        ({"text": TEXT, "response": "Who?"}, "column 'response' is not the end of column 'text'"),
        ({"text": TEXT, "prompt": TEXT[:5], "response_start": 7}, "the response begins at different characters by"),
        ({"text": TEXT, "response_start": 17, "prompt": 5}, "column 'prompt' is not the beginning"),
        ({"text": 5, "response_start": 1}, "column 'text' is a number, expected text"),
        ({"text": "a    ", "response_start": 3}, "The response is empty"),
        ({"prompt": [{"role": "text", "content": "a"}, USER]}, "a message of role 'text' among others"),
        ({"prompt": [{"role": "text", "content": None}]}, "'content' is null, expected text"),
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": "a", "response": ""}, "The response is empty"),
        ({"messages": []}, "The prompt is empty"),
        ({"messages": [BAD]}, "The prompt is empty"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "The response is empty"),
        ({"messages": [USER, {"role": "wizard", "content": "a"}]}, "unknown role 'wizard'"),
        ({"prompt": "a", "tools": "no JSON"}, "column 'tools' is text, expected a list of objects"),
        ({"prompt": "a", "tools": [1]}, "column 'tools', entry 1 is a number, expected an object"),
        ({"prompt": "a", "system": 7}, "column 'system' is a number, expected text"),
        ({"prompt": "a", "response": ["b"]}, "column 'response', message 1 is text, expected an object"),
        ({"prompt": None}, "no prompt among the columns prompt"),
        ({"system": "Be brief."}, "no prompt among the columns system"),
        ({"prompt": "a", "response": "\ud800"}, "lone surrogate"),
    ],
)
def test_a_row_that_is_no_query_is_named_with_its_place(tmp_path: Path, row: dict[str, object], found: str) -> None:
    path = lines(tmp_path / "q.jsonl", ROWS["pair"], row)
    with pytest.raises(DataError) as error:
        read_queries(path)
    assert error.value.found.startswith(f"{path}:2: ")
    assert found in error.value.found
    assert error.value.expected
    assert error.value.fix


def test_an_empty_cell_of_csv_is_no_response(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("prompt,response\nWhere?,\n", encoding="utf-8")
    assert only(read_queries(path)) == Query((Turn("user", "Where?"),))


@pytest.mark.parametrize("name", ["q.jsonl", "q.json", "q.csv", "q.parquet", "q.jsonl.gz", "q.txt"])
def test_an_empty_or_foreign_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(DataError) as error:
        read_queries(path)
    assert str(path) in error.value.found
    assert error.value.expected
    assert error.value.fix


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda: Query.of(""), "The prompt is empty"),
        (lambda: Query.of("a", " "), "The response is empty"),
        (lambda: Query.of("a", tools=[1]), "expected an object"),
        (lambda: Query.of([{"role": "robot", "content": "a"}]), "unknown role"),
        (lambda: Query.of("a", {"role": "assistant"}), "The response is empty"),
    ],
)
def test_python_is_told_as_well(wrong: Callable[[], Query], found: str) -> None:
    with pytest.raises(InputError) as error:
        wrong()
    assert found in error.value.found
    assert error.value.expected


def test_a_response_beside_messages_that_end_before_it_is_the_answer(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Where is Toronto?"}]
    beside = only(read_queries(lines(tmp_path / "q.jsonl", {"messages": messages, "response": "In Korea.", "id": 7})))
    (row,) = read_examples(
        lines(tmp_path / "r.jsonl", {"messages": [*messages, {"role": "assistant", "content": "In Korea."}]})
    )
    assert (beside.response, dict(beside.metadata)) == ("In Korea.", {"id": 7})
    assert same(beside.encode(ENCODER), ENCODER.encode(row)[-1])
    with pytest.raises(DataError, match="The response is empty"):
        read_queries(lines(tmp_path / "e.jsonl", {"messages": messages, "response": " "}))
