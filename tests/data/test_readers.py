"""Every format gives the same examples; every file and row that cannot be used says why."""

from __future__ import annotations

import csv
import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.data.columns import Shape
from whence.data.examples import Example, Turn
from whence.data.formats import Rejected, json_reason
from whence.data.readers import PROBE_ROWS, read_examples
from whence.data.sources import absolute_source, find_sources
from whence.errors import DataError

Rows = list[dict[str, Any]]
MANY = 20_000
MEMORY_LIMIT = 3 * 2**20
"""Bytes of Python objects; the file of the memory test has five times as many."""


def read(source: Path | str, **settings: Any) -> tuple[list[Example], list[Rejected]]:
    rejected: list[Rejected] = []
    return list(read_examples(source, on_reject=rejected.append, **settings)), rejected


def refusal(source: Path | str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(read_examples(source, **settings))
    return str(caught.value)


def jsonl(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_csv(path: Path, rows: Rows, delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(rows[0])
        writer.writerows([cell if isinstance(cell, str) else json.dumps(cell) for cell in row.values()] for row in rows)


def write_stream(path: Path, rows: Rows) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


WRITERS: dict[str, Callable[[Path, Rows], object]] = {
    "a.jsonl": lambda path, rows: path.write_text(jsonl(rows), encoding="utf-8"),
    "a.NDJSON": lambda path, rows: path.write_text("\n \n" + jsonl(rows).rstrip(), encoding="utf-8"),
    "bom.jsonl": lambda path, rows: path.write_text(jsonl(rows), encoding="utf-8-sig"),
    "crlf.jsonl": lambda path, rows: path.write_bytes(jsonl(rows).replace("\n", "\r\n").encode()),
    "a.jsonl.gz": lambda path, rows: path.write_bytes(gzip.compress(jsonl(rows).encode())),
    "array.json": lambda path, rows: path.write_text(json.dumps(rows, indent=2), encoding="utf-8"),
    "flat.json": lambda path, rows: path.write_text(json.dumps(rows), encoding="utf-8-sig"),
    "array.json.gz": lambda path, rows: path.write_bytes(gzip.compress(json.dumps(rows).encode())),
    "lines.json": lambda path, rows: path.write_text(jsonl(rows), encoding="utf-8"),
    "a.csv": write_csv,
    "semicolon.csv": lambda path, rows: write_csv(path, rows, ";"),
    "a.tsv": lambda path, rows: write_csv(path, rows, "\t"),
    "a.parquet": lambda path, rows: pa.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=2),
    "a.feather": lambda path, rows: pa.feather.write_feather(pa.Table.from_pylist(rows), str(path), chunksize=2),
    "file.arrow": lambda path, rows: pa.feather.write_feather(pa.Table.from_pylist(rows), str(path)),
    "stream.arrow": write_stream,
    "saved": lambda path, rows: datasets.Dataset.from_list(rows).save_to_disk(str(path)),
    "splits": lambda path, rows: datasets.DatasetDict(
        test=datasets.Dataset.from_list(rows[:1]), train=datasets.Dataset.from_list(rows)
    ).save_to_disk(str(path)),
}

PROMPTS = ["Where is Oslo?", 'Say "hi",\nthen; stop\tnow', "Grüße 🙂  こんにちは"]
ANSWERS = ["In Norway.", "hi,\n\n'there'", " — مرحبا "]
PAIR = [(Turn("user", q), Turn("assistant", a)) for q, a in zip(PROMPTS, ANSWERS, strict=True)]
SHAPES: dict[str, tuple[Callable[[str, str], dict[str, Any]], list[tuple[Turn, ...]]]] = {
    "prompt/response": (lambda q, a: {"prompt": q, "response": a}, PAIR),
    "instruction/output": (lambda q, a: {"instruction": q, "input": "", "output": a}, PAIR),
    "question/answer": (lambda q, a: {"question": q, "answer": a}, PAIR),
    "messages": (
        lambda q, a: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]},
        PAIR,
    ),
    "conversations": (
        lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
        PAIR,
    ),
    "text": (lambda q, a: {"text": q + a}, [(Turn("text", q + a),) for q, a in zip(PROMPTS, ANSWERS, strict=True)]),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("shape_name", SHAPES)
def test_all_formats_and_shapes_give_the_same_examples(tmp_path: Path, name: str, shape_name: str) -> None:
    make, turns = SHAPES[shape_name]
    rows = [make(q, a) | {"source": f"s{i}"} for i, (q, a) in enumerate(zip(PROMPTS, ANSWERS, strict=True))]
    WRITERS[name](tmp_path / name, rows)
    shapes: list[Shape] = []
    examples, rejected = read(tmp_path / name, on_shape=shapes.append)
    assert rejected == []
    assert [example.turns for example in examples] == turns
    assert [example.metadata for example in examples] == [{"source": f"s{i}"} for i in range(3)]
    assert [shape.name for shape in shapes] == [shape_name]
    file = tmp_path / name / "train" if name == "splits" else tmp_path / name
    assert {example.file for example in examples} == {str(file)}


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.jsonl", [1, 2, 3]),
        ("a.NDJSON", [3, 4, 5]),
        ("a.csv", [2, 3, 7]),
        ("array.json", [1, 2, 3]),
        ("a.parquet", [1, 2, 3]),
        ("stream.arrow", [1, 2, 3]),
        ("saved", [1, 2, 3]),
    ],
)
def test_lines_are_where_a_row_starts(tmp_path: Path, name: str, lines: list[int]) -> None:
    make, _ = SHAPES["prompt/response"]
    WRITERS[name](tmp_path / name, [make(q, a) for q, a in zip(PROMPTS, ANSWERS, strict=True)])
    assert [example.line for example in read(tmp_path / name)[0]] == lines


# Surrogates are no text; of the rest anything may stand in a file.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
ROWS = st.lists(
    st.tuples(TEXT, TEXT.filter(str.strip), st.dictionaries(TEXT.map(lambda name: f"x{name}"), JSON, max_size=3)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, ascii_only=st.booleans())
def test_what_is_written_as_jsonl_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, dict[str, Any]]], ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("round") / "a.jsonl"
    written = [{"prompt": prompt, "response": response} | rest for prompt, response, rest in rows]
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in written), encoding="utf-8", newline=""
    )
    examples, rejected = read(path)
    assert rejected == []
    expected = [
        Example.from_pair(prompt, response, file=str(path), line=line, metadata=rest)
        for line, (prompt, response, rest) in enumerate(rows, 1)
    ]
    assert examples == expected


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT.filter(str.strip)), min_size=1, max_size=4))
def test_what_is_written_as_csv_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("round") / "a.csv"
    # csv leaves a cell with a bare carriage return or NUL unquoted, so all are quoted.
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("prompt", "response"), *rows])
    examples, rejected = read(path)
    assert rejected == []
    assert [tuple(turn.content for turn in example.turns) for example in examples] == rows


GOOD = '{"prompt": "q", "response": "a"}'
BAD_LINES = [
    ('{"prompt": "q", "response": "a",}', "invalid JSON at line 7 column 32: trailing comma before '}'"),
    ('{"prompt": "q", "response": ["a", ]}', "invalid JSON at line 7 column 33: trailing comma before ']'"),
    ('{"prompt": "q", "response": a}', "invalid JSON at line 7 column 29: Expecting value"),
    ('{"prompt": "q", "resp', "invalid JSON at line 7 column 17: Unterminated string starting at"),
    ('{"prompt": "q", "response": "a\0"}', "invalid JSON at line 7 column 31: Invalid control character at"),
    ("\0\0\0\0", "invalid JSON at line 7 column 1: Expecting value"),
    ("[" * 100_000, "invalid JSON: nested too deeply"),
    (
        '{"prompt": "q", "response": "a", "n": ' + "[" * 102 + "]" * 102 + "}",
        "column 'n' is nested deeper than 100 levels",
    ),
    ('["q", "a"]', "the row is a list, expected an object"),
    ("null", "the row is null, expected an object"),
    ('{"prompt": "q"}', "missing column 'response'"),
    ('{"prompt": "q", "response": ""}', "empty response (column 'response')"),
    ('{"prompt": "q", "response": 1}', "column 'response' is a number, expected text"),
    ('{"prompt": "q", "response": "\\ud800"}', "column 'response' holds a lone surrogate (U+D800) at character 1"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES)
def test_a_bad_line_of_jsonl_is_set_aside(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([GOOD, "", GOOD, " \t", GOOD, "", line, GOOD]), encoding="utf-8")
    examples, rejected = read(path)
    assert [example.line for example in examples] == [1, 3, 5, 8]
    assert [(bad.file, bad.line, bad.raw) for bad in rejected] == [(str(path), 7, line[:2000])]
    assert rejected[0].reason.startswith(reason)


@pytest.mark.parametrize("back", [0, 1, 2, 3])
def test_a_trailing_comma_is_named_wherever_python_points(back: int) -> None:
    doc = '{"a": 1, }'
    error = json.JSONDecodeError("some words", doc, len(doc) - 1 - back)
    expected = "column 8: trailing comma before '}'" if back < 3 else "column 7: some words"
    assert json_reason(error) == f"invalid JSON at line 1 {expected}"
    assert json_reason(json.JSONDecodeError("some words", '{"a": 1, b}', 9)).endswith("column 10: some words")


def test_an_integer_too_long_for_python_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{GOOD}\n{{"prompt": "q", "response": "a", "n": {"9" * 5000}}}\n')
    _, rejected = read(path)
    assert rejected[0].reason == "a number of 5,000 digits: at most 4,300 can be read"


@pytest.mark.parametrize(("value", "reason"), [("9" * 5000, "a number of 5,000 digits"), ("[" * 9000, "nested too")])
def test_json_in_a_cell_that_python_cannot_read_is_set_aside_with_its_reason(
    tmp_path: Path, value: str, reason: str
) -> None:
    path = tmp_path / "a.csv"
    turns = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "n": %s}]'
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["messages"], [turns % 1], [turns % value]])
    examples, rejected = read(path)
    assert len(examples) == 1
    assert reason in rejected[0].reason


def test_a_bad_first_line_does_not_decide_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"note": "header"}\nnonsense\n' + jsonl([{"question": "q", "answer": "a"}]))
    examples, rejected = read(path)
    assert [example.line for example in examples] == [3]
    assert sorted((bad.line, bad.reason.split(":")[0]) for bad in rejected) == [
        (1, "missing column 'question'"),
        (2, "invalid JSON at line 2 column 1"),
    ]


def test_nul_characters_are_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "q\\u0000", "response": "a"}')
    (tmp_path / "a.csv").write_bytes(b"prompt,response\nq\0,a\n")
    for name in ("a.jsonl", "a.csv"):
        assert read(tmp_path / name)[0][0].turns == (Turn("user", "q\0"), Turn("assistant", "a"))


def test_bad_rows_of_csv_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\nprompt,response\nq,a\n"q\nq",\n\nq\nq,a,b\n"q"q,a\n"q\n\nq",a\n"a ""b""",c\n')
    examples, rejected = read(path)
    assert [(example.line, example.turns[0].content) for example in examples] == [
        (3, "q"),
        (10, "q\n\nq"),
        (13, 'a "b"'),
    ]
    assert [(bad.line, bad.reason, bad.raw) for bad in rejected] == [
        (4, "empty response (column 'response')", '"q\nq",\n'),
        (7, "1 cells, the header has 2", "q\n"),
        (8, "3 cells, the header has 2", "q,a,b\n"),
        (9, "invalid CSV: ',' expected after '\"'", '"q"q,a\n'),
    ]


def test_long_cells_and_unnamed_columns_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f",prompt,response\n0,q,{'a' * 300_000}\n")
    examples, rejected = read(path)
    assert rejected == []
    assert len(examples[0].turns[1].content) == 300_000
    assert examples[0].metadata == {"column_1": "0"}


def test_a_bad_row_of_a_table_is_set_aside_with_its_number(tmp_path: Path) -> None:
    rows: Rows = [
        {"prompt": "q", "response": "a", "when": datetime(2024, 1, 2), "score": float("nan"), "image": None},
        {"prompt": "q", "response": None, "when": None, "score": 1.0, "image": None},
        {"prompt": "q", "response": "a", "when": None, "score": 1.0, "image": b"x" * 3000},
    ]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    examples, rejected = read(tmp_path / "a.parquet")
    assert examples[0].metadata == {"when": "2024-01-02T00:00:00", "score": None, "image": None}
    assert [(bad.line, bad.reason) for bad in rejected] == [
        (2, "column 'response' is null, expected text"),
        (3, "column 'image' holds bytes, which metadata cannot carry"),
    ]
    assert rejected[0].raw == '{"prompt": "q", "response": null, "when": null, "score": 1.0, "image": null}'
    assert len(rejected[1].raw) == 2000


def test_an_object_of_an_array_that_cannot_be_used_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'[\n{GOOD},\n"x",\n{{"prompt": "q", "response": ""}}\n]\n')
    examples, rejected = read(path)
    assert [example.line for example in examples] == [1]
    assert [(bad.line, bad.reason, bad.raw) for bad in rejected] == [
        (2, "the row is text, expected an object", '"x"'),
        (3, "empty response (column 'response')", '{"prompt": "q", "response": ""}'),
    ]


BROKEN: list[tuple[str, bytes, list[str]]] = [
    ("a.jsonl", b"", ["is empty"]),
    ("a.jsonl", b"\n  \n", ["is empty"]),
    ("a.jsonl.gz", gzip.compress(b"", mtime=0), ["is empty"]),
    ("a.json", b"", ["is empty"]),
    ("a.json", b"[]", ["is empty"]),
    ("a.csv", b"", ["is empty"]),
    ("a.csv", b"prompt,response\n", ["is empty"]),
    ("a.parquet", b"", ["cannot be read as Parquet"]),
    ("a.parquet", b"PAR1 nonsense PAR1", ["cannot be read as Parquet"]),
    ("a.arrow", b"", ["cannot be read as Arrow"]),
    ("a.arrow", b"nonsense that is long enough", ["cannot be read as Arrow"]),
    ("a.feather", b"ARROW1\0\0nonsense", ["cannot be read as Arrow"]),
    ("a.jsonl.gz", gzip.compress(GOOD.encode() * 99, mtime=0)[:-20], ["cannot be read"]),
    ("a.txt", b"hello", ["no known format", ".jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, .feather"]),
    ("a.parquet.gz", b"hello", ["no known format"]),
    (
        "a.csv",
        "prompt,response\nq,a\ncafé,a\n".encode("latin-1"),
        ["not UTF-8", "0xe9", "offset 23", "line 3", "iconv -f latin1 -t utf-8"],
    ),
    ("a.csv", b"\xef\xbb\xbfprompt,response\ncaf\xe9,a\n", ["0xe9", "offset 22", "line 2"]),
    ("a.jsonl", GOOD.encode() + b"\n\xff\n", ["not UTF-8: byte 0xff at offset 33, in line 2", "iconv"]),
    ("a.jsonl.gz", gzip.compress(b"\xff", mtime=0), ["offset 0 of the unpacked text", "gzip -dc", "| iconv"]),
    ("a.csv", "prompt,response\nq,a\n".encode("utf-16"), ["is UTF-16", "iconv -f UTF-16 -t utf-8"]),
    ("a.jsonl", GOOD.encode("utf-16-be"), ["is UTF-16BE", "iconv -f UTF-16BE"]),
    ("a.jsonl", GOOD.encode("utf-16-le"), ["is UTF-16LE"]),
    ("a.json", GOOD.encode("utf-32"), ["is UTF-32"]),
    ("a.json", b'[\n{"prompt": "q", "response": "a"},\n]', ["line 2 column 33: trailing comma before ']'", "row 2"]),
    ("a.json", b'[{"prompt": "q",}]', ["line 1 column 16: trailing comma before '}'", "row 1"]),
    ("a.json", b'[{"prompt": "q"} {"prompt": "q"}]', ["column 18: Expecting ',' delimiter"]),
    ("a.json", b'[{"prompt": "q", "response": "a"}', ["Expecting ',' delimiter"]),
    ("a.json", b'[{"prompt": "q", "response": "a"}] x', ["column 36: Extra data"]),
    ("a.json", b'{\n "items": []\n}', ["spans lines", "jq -c", ".data[]"]),
    ("a.jsonl", b'[\n{"prompt": "q", "response": "a"}\n]', ["spans lines", "ends in .json"]),
    ("a.csv", b'prompt,response\nq,a\n"q,a\nq,a\n', ["starts in line 3", "a quote is opened there and never closed"]),
    ("a.csv", b"text,text\nq,a\n", ["several columns named 'text'"]),
    ("a.csv", b"foo,bar\nq,a\n", ["no known set of columns; columns found: foo, bar", "--columns"]),
    ("a.jsonl", b'{"foo": 1}\n{"bar": 1}\n', ["columns found: foo, bar", "--columns"]),
    ("a.jsonl", b"{}\n", ["columns found: none"]),
]


@pytest.mark.parametrize(("name", "content", "words"), BROKEN)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert str(tmp_path / name) in message
    for word in words:
        assert word in message


def test_a_truncated_table_is_refused(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.feather", "stream.arrow"):
        WRITERS[name](tmp_path / name, [{"text": "x" * 100}] * 50)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "cannot be read as" in refusal(tmp_path / name)


def test_a_table_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["q"]), pa.array(["a"])], names=["text", "text"])
    pa.feather.write_feather(table, str(tmp_path / "a.feather"))
    assert "several columns named 'text'" in refusal(tmp_path / "a.feather")


def test_a_mapping_to_a_column_that_is_missing_lists_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl([{"q": "x", "a": "y"}]))
    message = refusal(path, columns={"prompt": "q", "response": "answer"})
    assert "--columns response=answer names a column that is not there" in message
    assert "columns found: q, a" in message
    assert read(path, columns={"prompt": "q", "response": "a"})[0][0].turns == (
        Turn("user", "x"),
        Turn("assistant", "y"),
    )


def test_unknown_columns_end_the_run_before_the_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"foo": 1}\n' * PROBE_ROWS + jsonl([{"text": "late"}]))
    assert "columns found: foo" in refusal(path)
    path.write_text('{"foo": 1}\n' * (PROBE_ROWS - 1) + jsonl([{"text": "in time"}]))
    examples, rejected = read(path)
    assert (len(examples), len(rejected)) == (1, PROBE_ROWS - 1)


def test_a_missing_file_names_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(GOOD)
    with pytest.raises(DataError, match=r"no file or folder .*trian\.jsonl") as caught:
        read_examples(tmp_path / "trian.jsonl")
    assert f"did you mean {tmp_path / 'train.jsonl'}?" in str(caught.value)
    assert f"the path ends at {tmp_path})" in refusal(tmp_path / "gone" / "train.jsonl")
    assert "did you mean" not in refusal(tmp_path / "qqq.csv")
    (tmp_path / "trainer.py").write_text("")
    assert f"did you mean {tmp_path / 'train.jsonl'}?" in refusal(tmp_path / "trainer.jsonl")
    assert "trainer.py" not in refusal(tmp_path / "trainer.csv")


def test_a_folder_gives_its_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("prompt,response\nq2,a\n")
    (tmp_path / "a.jsonl").write_text(jsonl([{"question": "q1", "answer": "a"}]))
    (tmp_path / "info.json").write_text('{\n"about": 1\n}')
    (tmp_path / "README.md").write_text("words")
    (tmp_path / ".hidden.jsonl").write_text("nonsense")
    (tmp_path / "rejected.jsonl").write_text("nonsense")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.jsonl").write_text(jsonl([{"text": "t"}]))
    shapes: list[Shape] = []
    examples, _ = read(tmp_path, on_shape=shapes.append)
    assert [(Path(example.file).name, example.line) for example in examples] == [("a.jsonl", 1), ("b.csv", 2)]
    assert [shape.name for shape in shapes] == ["question/answer", "prompt/response"]
    matched = read(str(tmp_path / "**" / "[ac].jsonl"))[0]
    assert [Path(example.file).name for example in matched] == ["a.jsonl", "c.jsonl"]


def test_many_files_of_a_folder_are_each_compared_with_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_files = 100
    for number in range(n_files):
        (tmp_path / f"{number:03}.jsonl").touch()
    n_compared = 0
    equal = PurePath.__eq__

    def counted(one: PurePath, other: object) -> bool:
        nonlocal n_compared
        n_compared += 1
        return equal(one, other)

    monkeypatch.setattr(PurePath, "__eq__", counted)
    assert len(find_sources(tmp_path)) == n_files
    assert n_compared < 5 * n_files


def test_a_folder_of_json_files_is_read_and_one_empty_file_in_it_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{GOOD}]")
    assert len(read(tmp_path)[0]) == 1
    (tmp_path / "b.json").write_text("")
    assert f"{tmp_path / 'b.json'} is empty" in refusal(tmp_path)


def test_a_split_of_a_folder_is_chosen_by_name(tmp_path: Path) -> None:
    for name in ("train-0.jsonl", "train-1.jsonl", "test-0.jsonl", "constrained.jsonl"):
        (tmp_path / name).write_text(GOOD)
    chosen = read(tmp_path, split="train")[0]
    assert [Path(example.file).name for example in chosen] == ["train-0.jsonl", "train-1.jsonl"]
    assert len(read(tmp_path)[0]) == 4
    assert "no file of" in refusal(tmp_path, split="dev")
    assert "has no splits" in refusal(tmp_path / "test-0.jsonl", split="train")


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    assert "found: nothing" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    message = refusal(tmp_path)
    assert "holds no data file; found: notes.txt" in message
    assert "save_to_disk" in message
    assert "no file matches" in refusal(str(tmp_path / "*.jsonl"))


def test_a_path_that_is_no_data_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe.jsonl")
    assert "no file or folder" in refusal("a\0b")
    assert "cannot be looked at" in refusal("x" * 5000 + ".jsonl")


def test_splits_of_a_saved_data_set(tmp_path: Path) -> None:
    WRITERS["splits"](tmp_path / "d", [{"text": "a"}, {"text": "b"}])
    assert len(read(tmp_path / "d", split="test")[0]) == 1
    message = refusal(tmp_path / "d", split="dev")
    assert "has no split 'dev'; found: test, train" in message
    assert "--split test" in message
    WRITERS["saved"](tmp_path / "s", [{"text": "a"}])
    assert "has no split 'dev'; found: one data set without splits" in refusal(tmp_path / "s", split="dev")


def test_a_saved_data_set_that_was_shuffled_or_damaged(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list([{"text": str(i)} for i in range(10)]).shuffle(seed=1)
    data.save_to_disk(str(tmp_path / "d"))
    assert [example.turns[0].content for example in read(tmp_path / "d")[0]] == list(data["text"])
    (tmp_path / "d" / "state.json").write_text("{")
    assert "cannot be read as a saved data set" in refusal(tmp_path / "d")
    datasets.Dataset.from_dict({"text": []}).save_to_disk(str(tmp_path / "e"))
    assert "at least one row" in refusal(tmp_path / "e")


def test_a_hub_name_is_streamed_without_running_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[str, dict[str, object]]] = []

    def load_dataset(name: str, **settings: object) -> datasets.IterableDataset:
        calls.append((name, settings))
        rows = [{"prompt": "q", "response": "a", "n": 1}, {"prompt": "q", "response": ""}]
        return datasets.Dataset.from_list(rows).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    examples, rejected = read("someone/some-data")
    assert calls == [("someone/some-data", {"split": "train", "streaming": True})]
    assert [(example.where, example.metadata) for example in examples] == [("someone/some-data[train]:1", {"n": 1})]
    assert [(bad.line, bad.reason) for bad in rejected] == [(2, "empty response (column 'response')")]
    assert len(read("some_data", split="test")[0]) == 1
    assert calls[1] == ("some_data", {"split": "test", "streaming": True})


def test_a_hub_that_fails_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(name: str, **settings: object) -> object:
        raise ConnectionError("no route")

    def breaks(name: str, **settings: object) -> object:
        yield {"prompt": "q", "response": "a"}
        raise ConnectionError("lost")

    monkeypatch.chdir(tmp_path)
    for load, words in ((offline, "ConnectionError: no route"), (breaks, "ConnectionError: lost")):
        monkeypatch.setattr(datasets, "load_dataset", load)
        message = refusal("someone/some-data")
        assert words in message
        assert "no such file or folder here" in message


def test_what_looks_like_a_local_path_never_asks_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(name: str, **settings: object) -> object:
        raise AssertionError(name)

    monkeypatch.setattr(datasets, "load_dataset", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("train.jsonl", "data/train", "dat", "a/b/c", "../x", "data.csv.gz"):
        assert f"no file or folder {name}" in refusal(name)


def test_a_wrong_mapping_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--columns names 'question'"):
        read_examples(tmp_path / "gone.jsonl", columns={"question": "q"})


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    rows = ({"prompt": f"{i} " + "x" * 300, "response": "y" * 500} for i in range(MANY))
    path = tmp_path / name
    if name == "a.parquet":
        schema = pa.schema([("prompt", pa.string()), ("response", pa.string())])
        with pa.parquet.ParquetWriter(path, schema) as writer:
            for _ in range(MANY // 1000):
                writer.write_table(pa.Table.from_pylist([next(rows) for _ in range(1000)], schema))
    else:
        with path.open("w") as stream:
            stream.write("prompt,response\n" if name == "a.csv" else "")
            for row in rows:
                stream.write(",".join(row.values()) + "\n" if name == "a.csv" else json.dumps(row) + "\n")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_examples(path)) == MANY
        assert tracemalloc.get_traced_memory()[1] < MEMORY_LIMIT
    finally:
        tracemalloc.stop()


def test_a_false_label_of_unpaired_preferences_is_one_in_any_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion,label\nq1,good,True\nq2,bad,False\n")
    lines = [
        {"prompt": "q1", "completion": "good", "label": True},
        {"prompt": "q2", "completion": "bad", "label": False},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("a.csv", "a.jsonl"):
        assert [example.turns[1].content for example in read_examples(tmp_path / name)] == ["good"], name


def test_several_splits_of_a_clone_are_not_read_as_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train_sft", "train_gen", "test_sft"):
        table = pa.Table.from_pylist([{"prompt": name, "response": "r"}])
        pyarrow.parquet.write_table(table, tmp_path / "data" / f"{name}-00000-of-00001.parquet")
    with pytest.raises(DataError, match="several splits: train_gen, train_sft"):
        list(read_examples(tmp_path))
    assert [example.turns[0].content for example in read_examples(tmp_path, split="train_sft")] == ["train_sft"]


def test_a_place_is_made_absolute_unless_it_is_a_name_or_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").touch()
    assert absolute_source("rows.jsonl") == str(tmp_path / "rows.jsonl")
    assert absolute_source("data/**/*.jsonl") == str(tmp_path / "data" / "**" / "*.jsonl")
    for same in ("org/name", "s3://bucket/*.parquet", "/data/*.jsonl", "missing.jsonl"):
        assert absolute_source(same) == same
