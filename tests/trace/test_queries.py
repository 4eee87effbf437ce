"""Queries from a file: every usual shape, and a clear error for every line that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny import CHAT_TEMPLATE, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import Turn
from whence.data.readers import read_examples
from whence.errors import InputError
from whence.trace.query.queries import Query, read_queries


def written(tmp_path: Path, text: str, name: str = "bad.jsonl") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


USER = (Turn("user", "Why?"),)


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ('{"prompt": "Why?", "response": "So."}', Query(USER, "So.")),
        ('{"prompt": "Why?"}', Query(USER)),
        ('{"question": "Why?", "answer": "So.", "label": "odd"}', Query(USER, "So.", {"label": "odd"})),
        ('{"messages": [{"role": "user", "content": "Why?"}]}', Query(USER)),
        (
            '{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}',
            Query(USER, "So."),
        ),
        ('{"prompt": [{"role": "user", "content": "Why?"}], "response": "So."}', Query(USER, "So.")),
    ],
)
def test_shapes(tmp_path: Path, line: str, query: Query) -> None:
    assert read_queries(written(tmp_path, line + "\n")) == [query]


def test_csv_serves_too(tmp_path: Path) -> None:
    assert read_queries(written(tmp_path, "prompt,response\nWhy?,So.\n", "bad.csv")) == [Query(USER, "So.")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "a", "response": "b"}\n{"prompt": "a",}\n', r"bad.jsonl:2"),
        ('{"prompt": ""}\n', "bad.jsonl:1: The prompt is empty"),
        ('{"prompt": "a", "response": " "}\n', "bad.jsonl:1: The response is empty"),
        ('{"text": "a"}\n', "nothing says where in column 'text' the response begins"),
        ('{"label": "a"}\n', "no prompt among the columns label"),
        ('{"prompt": "a", "response": 7}\n', "column 'response' is a number, expected text"),
        ('{"prompt": 7}\n', "column 'prompt' is a number"),
        ("\n", "holds no query"),
    ],
)
def test_lines_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_queries(written(tmp_path, text))


@pytest.mark.parametrize(
    "row",
    [
        '{"prompt": "a", "response": " "}',
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]}',
        '{"messages": [{"role": "user", "content": "a"}], "response": ""}',
        '{"text": "a", "prompt": "a", "response": ""}',
    ],
)
def test_an_empty_response_is_refused_where_the_condition_holds_for_it(tmp_path: Path, row: str) -> None:
    path = written(tmp_path, f'{{"prompt": "b", "response": "c"}}\n{row}\n')
    assert [query.response for query in read_queries(path, where="response <> ''")] == ["c"]
    assert [query.is_silent for query in read_queries(path, keep_silent=True)] == [False, True]
    with pytest.raises(InputError, match=r"bad\.jsonl:2: The response is empty"):
        read_queries(path)
    with pytest.raises(InputError, match=r"bad\.jsonl:2: The response is empty"):
        read_queries(path, where="prompt = 'a'")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no query file at"):
        read_queries(tmp_path / "none.jsonl")


def test_the_prompt_a_person_reads_is_the_last_user_message() -> None:
    turns = [
        {"role": r, "content": c}
        for r, c in (("system", "Be brief."), ("user", "A?"), ("assistant", "B."), ("user", "C?"))
    ]
    assert Query.of(turns, "D.").prompt == "C?"
    with pytest.raises(InputError, match="unknown role"):
        Query.of([{"role": "robot", "content": "A"}])


def test_an_empty_prompt_with_a_response_is_read_as_the_row_is(tmp_path: Path) -> None:
    """A row without a prompt is indexed, and can be asked about; without a response there is nothing to answer."""
    turns = [{"role": "user", "content": ""}, {"role": "assistant", "content": "abc"}]
    encoder = Encoder(tiny_tokenizer(CHAT_TEMPLATE))
    for row in ({"prompt": "", "response": "abc"}, {"messages": turns}):
        path = written(tmp_path, json.dumps(row))
        (query,), (example,) = read_queries(path), read_examples(path)
        assert query.encode(encoder).input_ids == encoder.encode(example)[0].input_ids
    with pytest.raises(InputError, match="The prompt is empty"):
        Query.of([{"role": "user", "content": ""}])


def test_a_prompt_that_is_the_text_of_messages_stays_a_text(tmp_path: Path) -> None:
    """In a cell of CSV, which holds texts alone, it is messages."""
    prompt = '[{"role": "text", "content": "Go on"}]'
    (tmp_path / "q.jsonl").write_text(json.dumps({"prompt": prompt, "response": "a"}))
    (query,) = read_queries(tmp_path / "q.jsonl")
    assert query.turns == (Turn("user", prompt),)
    assert Query.of(prompt, "a") == query
    (tmp_path / "q.csv").write_text('prompt,response\n"' + prompt.replace('"', '""') + '",a\n')
    (cell,) = read_queries(tmp_path / "q.csv")
    assert cell.turns == (Turn("text", "Go on"),)


def test_a_condition_on_the_prompt_is_of_the_prompt_beside_columns_of_the_same_name(tmp_path: Path) -> None:
    rows = [{"Prompt": "other", "prompt": f"q{n}", "response": "r"} for n in range(2)]
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [query.prompt for query in read_queries(path, where="prompt = 'q1'")] == ["q1"]
