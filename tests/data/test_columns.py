"""Which columns are recognised, what turns they make, and the reason for every row that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from whence.data.columns import check_mapping, recognise, unrecognised
from whence.data.examples import Example, Turn, answer_places, conversation_json, read_conversation, training_row
from whence.data.metadata import LeftOut, RowError, as_json, type_of, unify
from whence.data.readers import read_examples
from whence.errors import DataError

USER, ANSWER, SYSTEM, TOOL = (
    Turn("user", "Where is Oslo?"),
    Turn("assistant", "In Norway."),
    Turn("system", "Be brief."),
    Turn("tool", "Norway"),
)
PARTS = [{"type": "text", "text": "In "}, {"type": "text", "text": "Norway.", "image": None}]


def chat(*messages: tuple[str, object]) -> list[dict[str, object]]:
    return [{"role": role, "content": content} for role, content in messages]


def sharegpt(*messages: tuple[str, object]) -> list[dict[str, object]]:
    return [{"from": role, "value": content} for role, content in messages]


def turns_of(row: Mapping[str, object], mapping: Mapping[str, str] | None = None) -> tuple[Turn, ...]:
    shape = recognise(row, mapping)
    assert shape is not None
    return shape.turns(row)


Q, A = USER.content, ANSWER.content
RECOGNISED = [
    ({"prompt": Q, "response": A}, "prompt/response", (USER, ANSWER)),
    ({"prompts": Q, "responses": A}, "prompts/responses", (USER, ANSWER)),
    ({"prompts": Q, "response": A}, "prompts/response", (USER, ANSWER)),
    ({"prompt": Q, "completion": A}, "prompt/completion", (USER, ANSWER)),
    ({"instruction": Q, "output": A}, "instruction/output", (USER, ANSWER)),
    ({"instruction": Q, "input": "", "output": A}, "instruction/output", (USER, ANSWER)),
    ({"instruction": Q, "input": None, "response": A}, "instruction/response", (USER, ANSWER)),
    (
        {"instruction": "Where?", "input": "Oslo", "output": A},
        "instruction/output",
        (Turn("user", "Where?\n\nOslo"), ANSWER),
    ),
    (
        {"instruction": "Where?", "context": "Oslo", "response": A},
        "instruction/response",
        (Turn("user", "Where?\n\nOslo"), ANSWER),
    ),
    ({"question": Q, "answer": A}, "question/answer", (USER, ANSWER)),
    ({"query": Q, "answer": A}, "query/answer", (USER, ANSWER)),
    ({"Question": Q, " ANSWER ": A}, "Question/ ANSWER ", (USER, ANSWER)),
    ({"messages": chat(("user", Q), ("assistant", A))}, "messages", (USER, ANSWER)),
    (
        {"messages": chat(("user", Q), ("assistant", PARTS))},
        "messages",
        (USER, Turn("assistant", A, {"content": PARTS})),
    ),
    ({"messages": sharegpt(("human", Q), ("gpt", A))}, "messages", (USER, ANSWER)),
    (
        {"messages": '[{"role": "user", "content": "Where is Oslo?"}, {"role": "assistant", "content": "In Norway."}]'},
        "messages",
        (USER, ANSWER),
    ),
    (
        {"conversations": sharegpt(("system", "Be brief."), ("human", Q), ("gpt", A))},
        "conversations",
        (SYSTEM, USER, ANSWER),
    ),
    ({"conversations": sharegpt(("user", Q), ("tool", "Norway"), ("model", A))}, "conversations", (USER, TOOL, ANSWER)),
    (
        {"conversations": sharegpt(("human", Q), ("function", "Norway"), ("assistant", A))},
        "conversations",
        (USER, TOOL, ANSWER),
    ),
    ({"text": "A document."}, "text", (Turn("text", "A document."),)),
    ({"prompt": Q, "response": A, "system": "Be brief."}, "prompt/response", (SYSTEM, USER, ANSWER)),
    ({"question": Q, "response": A, "system_prompt": "Be brief."}, "question/response", (SYSTEM, USER, ANSWER)),
    ({"prompt": Q, "response": A, "system": ""}, "prompt/response", (USER, ANSWER)),
    ({"prompt": Q, "response": A, "system": None}, "prompt/response", (USER, ANSWER)),
    (
        {"prompt": chat(("system", "Be brief."), ("user", Q)), "completion": chat(("assistant", A))},
        "prompt/completion",
        (SYSTEM, USER, ANSWER),
    ),
    ({"prompt": chat(("user", Q)), "completion": A}, "prompt/completion", (USER, ANSWER)),
    (
        {"instruction": "Where?", "input": "Oslo", "chosen": A},
        "instruction/chosen",
        (Turn("user", "Where?\n\nOslo"), ANSWER),
    ),
]


@pytest.mark.parametrize(("row", "name", "turns"), RECOGNISED)
def test_known_column_sets_make_the_same_turns(row: dict[str, object], name: str, turns: tuple[Turn, ...]) -> None:
    shape = recognise(row)
    assert shape is not None
    assert shape.name == name
    assert shape.example(row | {"label": 1}, "f", 3).turns == turns
    assert shape.example(row | {"label": 1}, "f", 3).metadata == {"label": 1}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["text", "output", "instruction", "response", "prompt"], "prompt/response"),
        (["text", "messages", "answer", "question", "output", "instruction"], "instruction/output"),
        (["text", "messages", "answer", "question"], "question/answer"),
        (["prompt", "prompt_id", "messages", "text"], "messages"),
        (["text", "conversations", "messages"], "messages"),
        (["text", "conversations"], "conversations"),
        (["Prompt", "prompt", "response"], "prompt/response"),
    ],
)
def test_priority_does_not_depend_on_the_order_of_columns(names: list[str], chosen: str) -> None:
    for order in (names, names[::-1]):
        shape = recognise(order)
        assert shape is not None
        assert shape.name == chosen


SHARED = [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}, {"role": "user", "content": "q2"}]
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("good", "bad"))


def marked(**marks: object) -> list[dict[str, object]]:
    """A conversation whose first answer has these keys."""
    return [SHARED[0], SHARED[1] | marks, SHARED[2], GOOD]


@pytest.mark.parametrize(
    ("row", "id"),
    [
        ({"chosen": [*SHARED, GOOD], "rejected": [*SHARED, BAD]}, "b25dc4d28000421a"),
        (
            {"system": "Be brief.", "chosen": [*SHARED, GOOD], "rejected": [*SHARED, BAD]},
            "daa3c713c8aec6cf",
        ),
        ({"prompt": SHARED, "chosen": [*SHARED, GOOD]}, "b25dc4d28000421a"),
        ({"prompt": SHARED, "completion": [GOOD]}, "1da486e719479809"),
        ({"messages": marked(loss=False)}, "137601919241346c"),
        ({"messages": marked(loss=0.0)}, "f2ca951cbdfc598e"),
        ({"messages": marked(weight=0)}, "4342c15c3e34c89e"),
        ({"messages": [*marked(train=False), SHARED[0]]}, "1da486e719479809"),
        ({"chosen": marked(train=False), "rejected": [*marked(train=False)[:3], BAD]}, "1da486e719479809"),
    ],
)
def test_ids_of_conversations_with_untrained_answers_stay(row: dict[str, object], id: str) -> None:
    shape = recognise(row)
    assert shape is not None
    example = shape.example(row, "f", 1)
    assert example.id == id
    assert answer_places(example.turns) == [place for place, turn in enumerate(example.turns) if turn.content == "good"]


def test_an_answer_that_both_sides_share_stays_untrained_in_an_index_and_in_written_rows() -> None:
    row = {"chosen": [*SHARED, GOOD], "rejected": [*SHARED, BAD]}
    example = Example(turns_of(row))
    assert "train" not in example.turns[1].message
    assert read_conversation(conversation_json(example, untrained=True)) == (example.turns, {})
    assert answer_places(turns_of(training_row(example))) == [3]


@pytest.mark.parametrize("rejected", [BAD, float("nan"), "bad", "", [], ["bad"], [{"role": "assistant"}], 3])
def test_a_rejected_side_that_is_no_conversation_tells_no_prompt(rejected: object) -> None:
    row = {"chosen": [*SHARED, GOOD], "rejected": rejected}
    assert answer_places(turns_of(row)) == [1, 3]
    shape = recognise(row, answered=False)
    assert shape is not None
    assert shape.turns(row) == turns_of(row)


def test_queries_do_not_read_the_rejected_side() -> None:
    row = {"chosen": [*SHARED, GOOD], "rejected": [*SHARED, BAD]}
    shape = recognise(row, answered=False)
    assert shape is not None
    assert answer_places(shape.turns(row)) == [1, 3]


@pytest.mark.parametrize("names", [[], ["prompt"], ["response", "answer"], ["prompt", "rejected"], ["chosen"]])
def test_other_columns_are_not_recognised(names: list[str]) -> None:
    assert recognise(names) is None


def test_turns_after_the_last_answer_and_several_answers_are_kept() -> None:
    row = {"messages": chat(("user", Q), ("assistant", A), ("user", "And?"), ("assistant", "Yes."), ("user", "Thanks"))}
    assert turns_of(row) == (USER, ANSWER, Turn("user", "And?"), Turn("assistant", "Yes."), Turn("user", "Thanks"))


@pytest.mark.parametrize(
    ("row", "mapping", "turns", "rest"),
    [
        ({"q": Q, "a": A, "x": 1}, {"prompt": "q", "response": "a"}, (USER, ANSWER), {"x": 1}),
        (
            {"q": Q, "a": A, "s": "Be brief."},
            {"prompt": "q", "response": "a", "system": "s"},
            (SYSTEM, USER, ANSWER),
            {},
        ),
        ({"q": Q, "response": A}, {"prompt": "q"}, (USER, ANSWER), {}),
        (
            {"instruction": "Where?", "input": "Oslo", "gold": A},
            {"response": "gold"},
            (Turn("user", "Where?\n\nOslo"), ANSWER),
            {},
        ),
        ({"prompt": Q, "response": A, "who": "Be brief."}, {"system": "who"}, (SYSTEM, USER, ANSWER), {}),
        (
            {"d": chat(("user", Q), ("assistant", A)), "prompt": "p", "response": "r"},
            {"messages": "d"},
            (USER, ANSWER),
            {"prompt": "p", "response": "r"},
        ),
        (
            {"d": chat(("user", Q), ("assistant", A)), "s": "Be brief."},
            {"messages": "d", "system": "s"},
            (SYSTEM, USER, ANSWER),
            {},
        ),
        ({"body": "A document.", "text": "no"}, {"text": "body"}, (Turn("text", "A document."),), {"text": "no"}),
        (
            {"prompt": Q, "response": A, "system": "s", "history": [["a", "b"]], "tools": [{"name": "t"}]},
            {"prompt": "prompt", "system": "", "history": "", "tools": ""},
            (USER, ANSWER),
            {"system": "s", "history": [["a", "b"]], "tools": [{"name": "t"}]},
        ),
        ({"instruction": Q, "input": "Oslo", "output": A}, {"input": ""}, (USER, ANSWER), {"input": "Oslo"}),
        (
            {"messages": chat(("user", Q), ("assistant", A)), "system": "s"},
            {"messages": "messages", "system": ""},
            (USER, ANSWER),
            {"system": "s"},
        ),
        (
            {"q": "Where?", "more": "Oslo", "a": A},
            {"prompt": "q", "query": "more", "response": "a"},
            (Turn("user", "Where?\nOslo"), ANSWER),
            {},
        ),
        ({"q": "", "more": Q, "a": A}, {"prompt": "q", "query": "more", "response": "a"}, (USER, ANSWER), {}),
        ({"q": Q, "a": A}, {"prompt": "q", "query": "more", "response": "a"}, (USER, ANSWER), {}),
        (
            {"talk": sharegpt(("human", Q)), "chosen": {"from": "gpt", "value": A}},
            {"prompt": "talk", "response": "chosen"},
            (USER, ANSWER),
            {},
        ),
    ],
)
def test_a_mapping_comes_before_what_is_recognised(
    row: dict[str, object], mapping: dict[str, str], turns: tuple[Turn, ...], rest: dict[str, object]
) -> None:
    shape = recognise(row, mapping)
    assert shape is not None
    example = shape.example(row, "f", 1)
    assert example.turns == turns
    assert example.metadata == rest


@pytest.mark.parametrize(
    ("row", "mapping"),
    [
        ({"q": Q, "a": A}, {"prompt": "q", "response": "a", "label": "good"}),
        ({"messages": chat(("user", Q), ("assistant", A))}, {"messages": "messages", "label": "good"}),
        ({"messages": chat(("user", Q), ("assistant", A))}, {"label": "good"}),
    ],
)
def test_rows_with_a_false_label_of_any_name_are_left_out(row: dict[str, object], mapping: dict[str, str]) -> None:
    shape = recognise({**row, "good": True}, mapping)
    assert shape is not None
    assert shape.example({**row, "good": True}, "f", 1).turns == (USER, ANSWER)
    with pytest.raises(LeftOut, match="'good' is false"):
        shape.example({**row, "good": False}, "f", 1)
    assert "good" in str(unrecognised("f.jsonl", row, mapping))


@pytest.mark.parametrize("label", [True, 1, 1.0, "1", "1.0", " TRUE ", None, "", float("nan")])
def test_rows_with_a_true_label_or_none_are_read(label: object) -> None:
    row = {"prompt": Q, "response": A, "cls": label}
    shape = recognise(row, {"label": "cls"})
    assert shape is not None
    assert shape.example(row, "f", 1).turns == (USER, ANSWER)


@pytest.mark.parametrize("label", [False, 0, 0.0, "0", "0.0", "False "])
def test_rows_with_a_named_label_of_0_are_left_out(label: object) -> None:
    row = {"prompt": Q, "response": A, "cls": label}
    shape = recognise(row, {"label": "cls"})
    assert shape is not None
    with pytest.raises(LeftOut):
        shape.example(row, "f", 1)


@pytest.mark.parametrize("label", [2, -1, 0.5, "2", "good", [0]])
def test_a_named_label_of_other_values_is_refused(tmp_path: Path, label: object) -> None:
    rows = [{"prompt": Q, "response": A, "cls": value} for value in (0, 1, label)]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        list(read_examples(source, columns={"label": "cls"}))
    assert not isinstance(caught.value, RowError)
    assert f"{source}:3: column 'cls', named as the label, holds {label!r}" in str(caught.value)
    assert len(list(read_examples(source))) == 3


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"question": "q"}, ["'question'", "prompt, response, system, messages, text"]),
        ({"prompt": "q", "text": "t"}, ["prompt, text together"]),
        ({"messages": "m", "response": "r"}, ["messages, response together"]),
        ({"text": "t", "system": "s"}, ["text, system together"]),
        ({"text": "t", "label": "l"}, ["text, label together"]),
        ({"messages": "m", "query": "q"}, ["messages, query together"]),
        ({"prompt": "p", "input": "i", "query": "q"}, ["prompt, input, query together"]),
        (
            {"prompt": "", "response": "a"},
            ["no column for prompt", "only system, history, tools, input, marks may be empty"],
        ),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(mapping: dict[str, str], words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        check_mapping(mapping)
    for word in words:
        assert word in str(caught.value)


def test_a_sensible_mapping_is_taken() -> None:
    pair = {"prompt": "q", "response": "a", "system": "s"}
    for mapping in (
        None,
        {},
        pair,
        {"text": "t", "system": ""},
        {"response": "a"},
        pair | {"query": "i", "label": "l"},
    ):
        check_mapping(mapping)


def test_the_error_for_unknown_columns_lists_them_the_known_ones_and_the_flag() -> None:
    message = str(unrecognised("f.jsonl", ["foo", "bar"]))
    for word in ("f.jsonl", "columns found: foo, bar", "prompt", "conversations", "text", "--columns prompt=q"):
        assert word in message
    mapped = str(unrecognised("f.jsonl", ["foo", "bar"], {"prompt": "foo", "response": "gone"}))
    assert "--columns response=gone names a column that is not there" in mapped
    assert "columns found: foo, bar" in mapped


REJECTED = [
    ({"prompt": Q, "response": ""}, "empty response (column 'response')"),
    ({"prompt": Q, "response": " \n"}, "empty response (column 'response')"),
    ({"prompt": Q, "response": None}, "column 'response' is null, expected text"),
    ({"prompt": Q, "response": 4}, "column 'response' is a number, expected text"),
    ({"prompt": True, "response": A}, "column 'prompt' is true or false, expected text"),
    ({"prompt": {"a": 1}, "response": A}, "column 'prompt' is an object, expected text"),
    ({"prompt": ["a"], "response": A}, "column 'prompt', message 1 is text, expected an object with role and content"),
    ({"prompt": Q, "response": A, "system": 3}, "column 'system' is a number, expected text"),
    ({"instruction": Q, "input": 3, "output": A}, "column 'input' is a number, expected text"),
    ({"prompt": "\ud800x", "response": A}, "column 'prompt' holds a lone surrogate (U+D800) at character 1"),
    ({"prompt": Q, "response": "ab\udfff"}, "column 'response' holds a lone surrogate (U+DFFF) at character 3"),
    ({"prompt": Q, "response": A, "note": "\ud800"}, "column 'note' holds a lone surrogate (U+D800) at character 1"),
    ({"prompt": Q, "response": A, "image": b"x"}, "column 'image' holds bytes, which metadata cannot carry"),
    ({"prompt": Q, "response": A, "x": [{"y": b"x"}]}, "column 'x' holds bytes, which metadata cannot carry"),
    ({"prompt": Q, "response": A, "x": object()}, "column 'x' holds a object, which has no JSON form"),
    ({"text": ""}, "empty text (column 'text')"),
    ({"text": ["a"]}, "column 'text' is a list, expected text"),
    ({"messages": []}, "no assistant turn (column 'messages')"),
    ({"messages": chat(("user", Q))}, "no assistant turn (column 'messages')"),
    (
        {"messages": chat(("user", Q), ("assistant", None))},
        "empty response: assistant turn 1 of column 'messages' has no text",
    ),
    ({"messages": "hello"}, "column 'messages' is text, expected a list of messages (or its JSON)"),
    ({"messages": 3}, "column 'messages' is a number, expected a list of messages"),
    ({"messages": [{"role": "user"}]}, "column 'messages', message 1 has no 'content'"),
    ({"messages": [{"content": Q}]}, "column 'messages', message 1 has no 'role'"),
    ({"conversations": [{"from": "human"}]}, "column 'conversations', message 1 has no 'value'"),
    ({"messages": chat(("wizard", Q))}, "column 'messages', message 1 has the unknown role 'wizard'"),
    ({"messages": chat(("user", None))}, "column 'messages', message 1: 'content' is null, expected text"),
    (
        {"messages": chat(("user", [{"type": "image"}]))},
        "column 'messages', message 1 has a part of type 'image', expected text parts only",
    ),
    (
        {"messages": chat(("user", ["x"]))},
        "column 'messages', message 1 has a part that is text, expected text parts only",
    ),
    (
        {"prompt": chat(("system", "x"), ("user", Q)), "response": A, "system": "y"},
        "two system messages: in column 'system' and in the conversation",
    ),
]


@pytest.mark.parametrize(("row", "reason"), REJECTED)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, object], reason: str) -> None:
    shape = recognise(row)
    assert shape is not None
    with pytest.raises(RowError) as caught:
        shape.example(row, "f", 1)
    assert str(caught.value) == reason


def test_a_later_row_without_the_column_says_so() -> None:
    shape = recognise(["prompt", "response"])
    assert shape is not None
    with pytest.raises(RowError, match=r"^missing column 'response'$"):
        shape.turns({"prompt": "x"})


def test_optional_columns_count_where_only_later_rows_have_them() -> None:
    shape = recognise(["instruction", "output"])
    assert shape is not None
    row = {"instruction": "Where?", "input": "Oslo", "output": A, "system": "Be brief."}
    assert shape.turns(row) == (SYSTEM, Turn("user", "Where?\n\nOslo"), ANSWER)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2024, 5, 6, 7, 8, tzinfo=UTC), "2024-05-06T07:08:00+00:00"),
        (date(2024, 5, 6), "2024-05-06"),
        (timedelta(seconds=90), 90.0),
        (Decimal("1.5"), 1.5),
        (Decimal("9007199254740993"), "9007199254740993"),
        (Decimal("0.12345678901234567890"), "0.12345678901234567890"),
        (Decimal("NaN"), None),
        (float("nan"), None),
        (float("-inf"), None),
        (np.int32(3), 3),
        (np.bool_(True), True),
        (np.float64(0.5), 0.5),
        (np.float32("nan"), None),
        (np.array([1, 2]), [1, 2]),
        ({"a": (1, None)}, {"a": [1, None]}),
    ],
)
def test_metadata_becomes_plain_json(value: object, expected: object) -> None:
    got = as_json(value, "x")
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], "int"),
        ([1, 2.5], "float"),
        ([2.5, None, 1], "float"),
        ([True, None], "bool"),
        ([True, 1], "str"),
        ([1, "a", 2], "str"),
        (["a", 1.5], "str"),
        ([None, None], None),
        ([None, 3], "int"),
        ([[1]], "str"),
        ([{}, 1], "str"),
        ([2**63], "str"),
        ([-(2**63)], "int"),
    ],
)
def test_one_type_a_column(values: list[object], expected: str | None) -> None:
    types: dict[str, object] = {}
    for value in values:
        unify(types, {"x": value})  # type: ignore[arg-type]
    assert types == {"x": expected}
    assert type_of(None) is None
