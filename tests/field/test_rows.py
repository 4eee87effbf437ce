"""One case a layout of rows: its text is the trainer's own, its mask the assistant's tokens, one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from field_templates import GPT_OSS, MARKED, PARTS, PHI3, TRIMS, UNMARKED
from tables import write_parquet
from tiny import tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import Example, Turn, conversation_json, read_conversation
from whence.data.readers import read_examples
from whence.data.row_encoding import PLAIN_TEMPLATE, RowEncoding
from whence.data.scanning import scan
from whence.errors import DataError, EncodingError

Row = dict[str, Any]

Q, A = {"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Oslo."}
USER, ANSWER = "<|user|>\nWhere?<|end|>\n", "<|assistant|>\n[Oslo.<|end|>]\n"
CALLS = [{"id": "7", "type": "function", "function": {"name": "find", "arguments": {"city": "Oslo"}}}]
CALL = {"role": "assistant", "content": None, "tool_calls": CALLS}
FOUND = {"role": "tool", "content": "Norway", "tool_call_id": "7", "name": "find"}
CALLED = '<|assistant|>\n[<call>{"name": "find", "arguments": {"city": "Oslo"}}</call><|end|>]\n'
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
TOOLED = "<|tools|>" + json.dumps(TOOLS) + "<|end|>\n"
BE_BRIEF = "<|system|>\nBe brief.<|end|>\n"

# Name -> the row, and the rendered conversation with the response of each signature in brackets.
LAYOUTS: dict[str, tuple[Row, str]] = {
    "messages": ({"messages": [Q, A]}, USER + ANSWER),
    "messages and system": ({"messages": [Q, A], "system": "Be brief."}, BE_BRIEF + USER + ANSWER),
    "messages and system_prompt": ({"messages": [Q, A], "system_prompt": "Be brief."}, BE_BRIEF + USER + ANSWER),
    "messages and the same system": (
        {"messages": [{"role": "system", "content": "Be brief."}, Q, A], "system": "Be brief."},
        BE_BRIEF + USER + ANSWER,
    ),
    "messages and an empty system": ({"messages": [Q, A], "system": ""}, USER + ANSWER),
    "messages and tools": ({"messages": [Q, A], "tools": TOOLS}, TOOLED + USER + ANSWER),
    "messages and tools as JSON": ({"messages": [Q, A], "tools": json.dumps(TOOLS)}, TOOLED + USER + ANSWER),
    "messages and empty tools": ({"messages": [Q, A], "tools": "[]"}, USER + ANSWER),
    "messages and template variables": (
        {"messages": [Q, A], "chat_template_kwargs": {"mood": "calm"}},
        "<|mood|>calm<|end|>\n" + USER + ANSWER,
    ),
    "messages and documents": (
        {"messages": [Q, A], "documents": [{"title": "t", "text": "x"}]},
        '<|documents|>[{"title": "t", "text": "x"}]<|end|>\n' + USER + ANSWER,
    ),
    "a tool call, its result and an answer": (
        {"messages": [Q, CALL, FOUND, A], "tools": TOOLS, "parallel_tool_calls": False},
        TOOLED + USER + CALLED + "<|tool|>(find)\nNorway#7<|end|>\n" + ANSWER,
    ),
    "a tool call whose arguments are text (OpenAI)": (
        {"messages": [Q, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"n": 1}'}}]}]},
        USER + '<|assistant|>\n[<call>{"name": "f", "arguments": "{\\"n\\": 1}"}</call><|end|>]\n',
    ),
    "text and a tool call": (
        {"messages": [Q, A | {"tool_calls": CALLS}]},
        USER + CALLED.replace("[<call>", "[Oslo.<call>"),
    ),
    "a thought": (
        {"messages": [Q, A | {"reasoning_content": "Hm."}]},
        USER + "<|assistant|>\n[<think>Hm.</think>Oslo.<|end|>]\n",
    ),
    "a name": ({"messages": [Q | {"name": "Ida"}, A]}, USER.replace(">\n", ">(Ida)\n", 1) + ANSWER),
    "role developer": (
        {"messages": [{"role": "developer", "content": "Be brief."}, Q, A]},
        BE_BRIEF.replace("system", "developer") + USER + ANSWER,
    ),
    "text parts": (
        {"messages": [Q, {"role": "assistant", "content": [{"type": "text", "text": t} for t in ("Os", "lo.")]}]},
        USER + ANSWER,
    ),
    "a null content before a good turn": (
        {"messages": [Q, {"role": "assistant", "content": None}, Q, A]},
        USER + "<|assistant|>\n<|end|>\n" + USER + ANSWER,
    ),
    "weight 0": (
        {"messages": [Q, A | {"weight": 0}, Q, A | {"weight": 1}]},
        USER + "<|assistant|>\nOslo.<|end|>\n" + USER + ANSWER,
    ),
    "train false": ({"messages": [Q, A, Q, A | {"train": False}]}, USER + ANSWER),
    "train_on_turn false": (
        {"messages": [Q, A | {"train_on_turn": False}, Q, A]},
        USER + "<|assistant|>\nOslo.<|end|>\n" + USER + ANSWER,
    ),
    "loss false (ms-swift)": (
        {"messages": [Q, A | {"loss": False}, Q, A | {"loss": True}]},
        USER + "<|assistant|>\nOslo.<|end|>\n" + USER + ANSWER,
    ),
    "train_detail": (
        {"messages": [Q, A | {"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": True}]}, Q, A]},
        USER + "<|assistant|>\nOslo.<|end|>\n" + USER + ANSWER,
    ),
    "the assistant begins": ({"messages": [A, Q, A]}, "<|assistant|>\nOslo.<|end|>\n" + USER + ANSWER),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "Oslo."}]},
        USER + ANSWER,
    ),
    "ShareGPT with system, tools and calls (LLaMA-Factory)": (
        {
            "conversations": [
                {"from": "human", "value": "Where?"},
                {"from": "function_call", "value": '{"name": "find", "arguments": {"city": "Oslo"}}'},
                {"from": "observation", "value": "Norway"},
                {"from": "gpt", "value": "Oslo."},
            ],
            "system": "Be brief.",
            "tools": json.dumps(TOOLS),
        },
        TOOLED + BE_BRIEF + USER + CALLED + "<|tool|>\nNorway<|end|>\n" + ANSWER,
    ),
    "prompt/response": ({"prompt": "Where?", "response": "Oslo."}, USER + ANSWER),
    "prompt/completion of messages (TRL)": ({"prompt": [Q], "completion": [A], "tools": TOOLS}, TOOLED + USER + ANSWER),
    "prompt/completion of texts (TRL)": ({"prompt": "Where?", "completion": "Oslo."}, USER + ANSWER),
    "Alpaca": (
        {"instruction": "Where?", "input": "Norway", "output": "Oslo.", "system": "Be brief."},
        BE_BRIEF + USER.replace("?", "?\n\nNorway") + ANSWER,
    ),
    "Alpaca with history (LLaMA-Factory)": (
        {"instruction": "Where?", "input": "", "output": "Oslo.", "history": [["Who?", "Ida."]]},
        "<|user|>\nWho?<|end|>\n<|assistant|>\n[Ida.<|end|>]\n" + USER + ANSWER,
    ),
    "history of messages": (
        {"prompt": "Where?", "response": "Oslo.", "history": [Q, A]},
        USER + ANSWER + USER + ANSWER,
    ),
    "question, context and answer": (
        {"question": "Where?", "context": "Norway", "answer": "Oslo."},
        USER.replace("?", "?\n\nNorway") + ANSWER,
    ),
    "prompt and chosen": ({"prompt": "Where?", "chosen": "Oslo.", "rejected": "Rome."}, USER + ANSWER),
    "prompt and chosen as the whole conversation": (
        {"prompt": "Where?", "chosen": [Q, A], "rejected": [Q, A | {"content": "Rome."}]},
        USER + ANSWER,
    ),
    "prompt with system, chosen without": (
        {"prompt": [{"role": "system", "content": "Be brief."}, Q], "chosen": [Q, A], "rejected": [Q]},
        BE_BRIEF + USER + ANSWER,
    ),
    "prompt of several turns in chosen": (
        {"prompt": [Q, A, Q], "chosen": [Q, A, Q, A]},
        USER + "<|assistant|>\nOslo.<|end|>\n" + USER + ANSWER,
    ),
    "chosen and rejected of several turns alone": (
        {"chosen": [Q, A, Q, A, Q, A], "rejected": [Q, A, Q, A | {"content": "Rome."}]},
        USER + "<|assistant|>\nOslo.<|end|>\n" + (USER + ANSWER) * 2,
    ),
    "equal chosen and rejected of several turns": (
        {"chosen": [Q, A, Q, A], "rejected": [Q, A, Q, A]},
        USER + "<|assistant|>\nOslo.<|end|>\n" + USER + ANSWER,
    ),
    "chosen and rejected alone": ({"chosen": [Q, A], "rejected": [Q, A]}, USER + ANSWER),
}


@pytest.fixture(scope="module", params=["unmarked", "marked"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return Encoder(tiny_tokenizer((MARKED if request.param == "marked" else UNMARKED)["full"]), max_length=10_000)


def read(path: Path, rows: list[Row]) -> list[Example]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    rejected: list[object] = []
    found = list(read_examples(path, on_reject=rejected.append))
    assert rejected == []
    return found


def in_brackets(encoder: Encoder, example: Example) -> str:
    """The text of the last answer's prefix, with each answer's tokens in brackets."""
    turns = encoder.encode(example)
    spans = [(turn.offsets[turn.response_start][0], turn.offsets[-1][1]) for turn in turns]
    text = turns[-1].text
    for start, end in reversed(spans):
        text = f"{text[:start]}[{text[start:end]}]{text[end:]}"
    return text


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_read_as_it_was_trained_on(tmp_path: Path, encoder: Encoder, name: str) -> None:
    row, expected = LAYOUTS[name]
    (example,) = read(tmp_path / "rows.jsonl", [row])
    shown = in_brackets(encoder, example)
    assert shown == expected.rstrip("\n")
    tokenizer = tiny_tokenizer()
    text = expected.replace("[<", "<").replace("[O", "O").replace("[I", "I").replace("]\n", "\n").rstrip("\n")
    for turn in encoder.encode(example):
        assert list(turn.input_ids) == tokenizer(text)["input_ids"][: len(turn.input_ids)]
        assert tokenizer.convert_ids_to_tokens(turn.input_ids[-1]) == "<|end|>"
        start = tokenizer.convert_ids_to_tokens(list(turn.input_ids[: turn.response_start]))
        assert start[-2:] == ["<|assistant|>", "Ċ"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_stored_conversation_gives_the_same_ids(tmp_path: Path, encoder: Encoder, name: str) -> None:
    (example,) = read(tmp_path / "rows.jsonl", [LAYOUTS[name][0]])
    turns, inputs = read_conversation(conversation_json(example, untrained=True))
    again = Example(turns, template_inputs=inputs)
    assert encoder.encode(again) == encoder.encode(example)
    assert again.id == example.id


def test_a_plain_conversation_keeps_its_id_and_an_old_index_its_rows() -> None:
    example = Example.from_pair("q", "a")
    assert conversation_json(example) == '[["user", "q"], ["assistant", "a"]]'
    assert read_conversation('[["user", "q"], ["assistant", "a"]]') == (example.turns, {})
    assert Example((Turn("user", "q"), Turn("assistant", "a", {"tool_calls": [1]}))).id != example.id
    assert Example(example.turns, template_inputs={"tools": [{}]}).id != example.id


def test_a_table_fills_in_nulls_that_the_template_never_sees(tmp_path: Path, encoder: Encoder) -> None:
    name = "a tool call, its result and an answer"
    row, expected = LAYOUTS[name]
    other = {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {"n": 1}}}]}, Q, A]}
    write_parquet(tmp_path / "rows.parquet", [row, other])
    first, _ = read_examples(tmp_path / "rows.parquet")
    assert in_brackets(encoder, first) == expected.rstrip("\n")


# -- what is set aside ------------------------------------------------------------------------------------

IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
REJECTED: list[tuple[Row, str]] = [
    ({"messages": [IMAGE, A]}, "column 'messages', message 1 has a part of type 'image_url', expected text parts only"),
    ({"messages": [A]}, "the conversation begins with its only assistant turn: it has no prompt (column 'messages')"),
    (
        {"messages": [Q, {"role": "assistant", "content": None}]},
        "empty response: assistant turn 1 of column 'messages' has no text",
    ),
    ({"messages": [Q, A | {"weight": "0"}]}, "column 'messages', message 2: 'weight' is text, expected a number"),
    ({"messages": [Q, A | {"train": 0}]}, "column 'messages', message 2: 'train' is a number, expected true or false"),
    ({"messages": [Q, A], "tools": "hammer"}, "column 'tools' is text, expected a list of objects (or its JSON)"),
    ({"messages": [Q, A], "tools": ["find"]}, "column 'tools', entry 1 is text, expected an object"),
    (
        {"messages": [Q, A], "chat_template_kwargs": {"tools": []}},
        "column 'chat_template_kwargs' sets 'tools', which is not a variable of the template",
    ),
    (
        {"messages": [{"role": "system", "content": "x"}, Q, A], "system": "y"},
        "two system messages: in column 'system' and in the conversation",
    ),
    (
        {"prompt": "Who?", "chosen": [Q, A], "rejected": [Q, A]},
        "column 'chosen' is a conversation that does not begin with column 'prompt'",
    ),
    (
        {"prompt": "Where?", "response": "Oslo.", "history": [["Who?"]]},
        "column 'history', entry 1 is not a pair of texts [user, assistant]",
    ),
    (
        {"conversations": [{"from": "human", "value": "Where?"}, {"from": "function_call", "value": "find()"}]},
        "column 'conversations', message 2 is a function_call, expected the JSON of an object with name and arguments",
    ),
    (
        {"chosen": "Human: Where? Assistant: Oslo.", "rejected": "no"},
        "column 'chosen' is text, expected a list of messages (or its JSON)",
    ),
]


@pytest.mark.parametrize(("row", "reason"), REJECTED)
def test_a_row_that_cannot_be_used_is_set_aside_with_its_reason(tmp_path: Path, row: Row, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    rejected: list[Any] = []
    assert list(read_examples(path, on_reject=rejected.append)) == []
    assert [bad.reason for bad in rejected] == [reason]


@pytest.mark.parametrize(
    ("name", "messages", "words"),
    [
        ("plain", [Q, CALL], "leaves out of message 2 its tool call"),
        (
            "plain",
            [Q, A | {"function_call": {"name": "f", "arguments": "{}"}}],
            "leaves out of message 2 its tool call",
        ),
        ("full", [Q, A | {"function_call": {"name": "f", "arguments": "{}"}}], "leaves out of message 2 its tool call"),
        ("plain", [Q, A | {"content": "", "reasoning_content": "Hm."}], "leaves out of message 2 its thought"),
    ],
)
def test_a_template_that_cannot_render_a_message_sets_the_row_aside(
    tmp_path: Path, name: str, messages: list[Row], words: str
) -> None:
    (example,) = read(tmp_path / "rows.jsonl", [{"messages": messages}])
    for templates in (MARKED, UNMARKED):
        with pytest.raises(EncodingError, match=words):
            Encoder(tiny_tokenizer(templates[name])).encode(example)


def test_text_parts_that_a_template_would_drop_set_the_row_aside(tmp_path: Path) -> None:
    """As Qwen3's does: what is no string it takes for nothing."""
    template = UNMARKED["plain"].replace("m['content']", "(m['content'] if m['content'] is string else '')")
    (example,) = read(tmp_path / "rows.jsonl", [{"messages": [Q | {"content": [{"type": "text", "text": "Hm"}]}, A]}])
    with pytest.raises(EncodingError, match="leaves out of message 1 the text of its parts"):
        Encoder(tiny_tokenizer(template)).encode(example)


def test_a_template_that_joins_strings_is_given_strings(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Oslo."}]
    row = {"messages": [Q, {"role": "assistant", "content": None}, Q, {"role": "assistant", "content": parts}]}
    (example,) = read(tmp_path / "rows.jsonl", [row])
    for templates in (MARKED, UNMARKED):
        shown = in_brackets(Encoder(tiny_tokenizer(templates["plain"])), example)
        assert shown == (USER + "<|assistant|>\n<|end|>\n" + USER + ANSWER).rstrip("\n")


@pytest.mark.parametrize("text", ["Oslo.", "In\nOslo.", 'It\'s "in" Oslo.'])
def test_a_template_that_writes_lists_as_python_does_is_given_strings(tmp_path: Path, text: str) -> None:
    parts = [{"type": "text", "text": text}]
    asked = [Q | {"content": [{"type": "text", "text": "Where?"}]}, A | {"content": parts}]
    (example,) = read(tmp_path / "rows.jsonl", [{"messages": asked}])
    encoder = Encoder(tiny_tokenizer(TRIMS))
    assert in_brackets(encoder, example) == USER + f"<|assistant|>\n[{text}<|end|>]"
    said = "The chat template writes a list of text parts as Python does; it is handed their text"
    assert encoder.about([]) == (said,)
    plain = Encoder(tiny_tokenizer(TRIMS))
    assert plain.about(read(tmp_path / "rows.jsonl", [{"messages": [Q, A]}])) == ()


def test_a_template_that_reads_parts_alone_is_given_parts(tmp_path: Path) -> None:
    row = {"messages": [Q, A, Q, {"role": "assistant", "content": [{"type": "text", "text": "Oslo."}]}]}
    (example,) = read(tmp_path / "rows.jsonl", [row])
    marked = PARTS.replace(
        "{% for part",
        "{% if m.role == 'assistant' %}{% generation %}{% for part in m.content %}{{ part.text }}"
        "{% endfor %}{% endgeneration %}{% else %}{% for part",
    ).replace("{% endfor -%}", "{% endfor %}{% endif -%}")
    encoder = Encoder(tiny_tokenizer(PARTS))
    assert in_brackets(encoder, example) == (USER + ANSWER + USER + ANSWER).rstrip("\n")
    assert encoder.about([]) == (
        "The chat template reads lists of text parts alone; a text is handed to it as one part",
    )
    without_end = (USER + ANSWER + USER + ANSWER).replace("<|end|>]", "]<|end|>").removesuffix("<|end|>\n")
    assert in_brackets(Encoder(tiny_tokenizer(marked)), example) == without_end
    assert encoder.encode_query(example.turns[:1], "Oslo.").input_ids == encoder.encode(example)[0].input_ids


def test_a_template_that_leaves_out_the_answer_sets_the_row_aside(tmp_path: Path) -> None:
    template = UNMARKED["plain"].replace("m['content']", "(m['content'] if m['role'] == 'user' else '')")
    spoken, called = read(tmp_path / "rows.jsonl", [{"messages": [Q, A]}, {"messages": [Q, A | {"tool_calls": CALLS}]}])
    with pytest.raises(EncodingError, match="leaves out of message 2 its text"):
        Encoder(tiny_tokenizer(template)).encode(spoken)
    beside = UNMARKED["full"].replace(
        "{%- if m.content is string %}", "{%- if m.content is string and not m.tool_calls %}"
    )
    assert in_brackets(Encoder(tiny_tokenizer(beside)), called) == (USER + CALLED).rstrip("\n")


def test_generation_blocks_decide_even_where_the_prompt_is_a_prefix() -> None:
    """A trainer that trusts the blocks trains the header too, where they hold it."""
    template = MARKED["plain"].replace("{{ '<|' + m['role'] + '|>\n' }}", "")
    template = template.replace("{% generation %}\n", "{% generation %}{{ '<|assistant|>\n' }}")
    encoder = Encoder(tiny_tokenizer(template))
    assert in_brackets(encoder, Example((Turn("user", "Where?"), Turn("assistant", "Oslo.")))) == (
        "Where?<|end|>\n[<|assistant|>\nOslo.<|end|>]"
    )


def test_a_turn_that_is_rendered_otherwise_once_others_follow(tmp_path: Path) -> None:
    """Its tokens are those of the whole conversation, marked or not."""
    thought = A | {"reasoning_content": "Hm."}
    (example,) = read(tmp_path / "rows.jsonl", [{"messages": [Q, thought, Q, thought]}])
    for templates in (MARKED, UNMARKED):
        encoder = Encoder(tiny_tokenizer(templates["forgetful"]))
        assert in_brackets(encoder, example) == (
            USER + ANSWER + USER + "<|assistant|>\n[<think></think><think>Hm.</think>Oslo.<|end|>]"
        )


def test_turns_behind_the_last_answer_are_part_of_the_conversation(tmp_path: Path) -> None:
    thanks = {"role": "user", "content": "Thanks!"}
    row = {"messages": [Q, A | {"reasoning_content": "Hm."}]}
    short, long = read(tmp_path / "rows.jsonl", [row, {"messages": [*row["messages"], thanks]}])
    assert short.id == long.id
    encoder = Encoder(tiny_tokenizer(UNMARKED["forgetful"]))
    assert in_brackets(encoder, short) == USER + "<|assistant|>\n[<think></think><think>Hm.</think>Oslo.<|end|>]"
    assert in_brackets(encoder, long) == (USER + ANSWER).rstrip("\n")
    for name in ("full", "plain"):
        for templates in (MARKED, UNMARKED):
            (turn,) = Encoder(tiny_tokenizer(templates[name])).encode(long)
            assert [turn] == Encoder(tiny_tokenizer(templates[name])).encode(short)
    every = Encoder(tiny_tokenizer(UNMARKED["plain"]), rows=RowEncoding(loss="all"))
    (turn,) = every.encode(long)
    assert turn.text == "<|user|>\nWhere?<|end|>\n<|assistant|>\nOslo.<|end|>\n<|user|>\nThanks!<|end|>\n"


ENDINGS = {
    "PHI3": (PHI3, "", "<|end|>", "<|end|>\n<|pad|>"),
    "GPT_OSS": (GPT_OSS, "<|channel|>final<|message|>", "<|end|>", "<|return|>"),
    "PLAIN": (PLAIN_TEMPLATE, "", "", "<|pad|>"),
    "qwen": (UNMARKED["forgetful"], "", "<|end|>", "<|end|>"),
}
"""A template, the header that is part of an answer, and what ends an earlier answer and the last one."""


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize(
    "answers", [["Oslo.", "Rome.", "Bonn."], ["yes", "yes", "yes", "yes"], ["<|end|> ends", "Oslo. "]]
)
def test_an_earlier_answer_ends_where_it_ends(name: str, answers: list[str]) -> None:
    """Oracle: each answer in turn is replaced by a word that stands nowhere else, and looked for."""
    template, header, end, last_end = ENDINGS[name]
    tokenizer = tiny_tokenizer(template)
    tokenizer.eos_token = "<|pad|>"
    turns = [turn for one in answers for turn in (Turn("user", "Where?"), Turn("assistant", one))]
    encoded = Encoder(tokenizer, max_length=10_000).encode(Example(tuple(turns)))
    whole = tokenizer.apply_chat_template([turn.message for turn in turns], tokenize=False)
    for number, (turn, answer) in enumerate(zip(encoded, answers, strict=True)):
        probed = [*turns[: 2 * number + 1], Turn("assistant", "zebra"), *turns[2 * number + 2 :]]
        found = tokenizer.apply_chat_template([turn.message for turn in probed], tokenize=False).index("zebra")
        ending = last_end if number == len(answers) - 1 else end
        expected = whole[found : found + len(answer + ending)].rstrip()
        if name == "qwen" and number == len(answers) - 1:
            header = "<think></think>"
        start = turn.offsets[turn.response_start][0]
        assert turn.text[start : turn.offsets[-1][1]] == header + expected
        assert start == found - len(header)


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("answer", ["end", "final", "e", "yes"])
def test_an_earlier_answer_is_shown_without_its_own_end_of_turn_marker(name: str, answer: str) -> None:
    template, header, end, _ = ENDINGS[name]
    tokenizer = tiny_tokenizer(template)
    tokenizer.eos_token = "<|pad|>"
    later = (Turn("user", "Why?"), Turn("assistant", "No."))
    first, _ = Encoder(tokenizer).encode(Example((Turn("user", "Where?"), Turn("assistant", answer), *later)))
    assert first.answer_at is not None
    assert first.text[first.answer_at :] == answer + end
    parts = {"content": [{"type": "text", "text": answer}]}
    first, _ = Encoder(tokenizer).encode(Example((Turn("user", "Where?"), Turn("assistant", answer, parts), *later)))
    assert first.response == header + answer


def test_the_answer_of_a_tool_call_is_shown_as_it_was_rendered(tmp_path: Path, encoder: Encoder) -> None:
    (example,) = read(tmp_path / "rows.jsonl", [{"messages": [Q, CALL, FOUND, A]}])
    first, second = encoder.encode(example)
    assert first.response == '<call>{"name": "find", "arguments": {"city": "Oslo"}}</call>'
    assert second.response == "Oslo."
    asked = encoder.encode_query(example.turns[:1], example.turns[1])
    assert asked == encoder.encode(Example(example.turns[:2]))[0]


def test_a_query_is_given_the_tools_of_its_row(tmp_path: Path, encoder: Encoder) -> None:
    (example,) = read(tmp_path / "rows.jsonl", [{"messages": [Q, A], "tools": TOOLS}])
    (turn,) = encoder.encode(example)
    asked = encoder.encode_query(example.turns[:1], "Oslo.", template_inputs=example.template_inputs)
    assert asked == turn
    prompt = encoder.render_prompt(example.turns[:1], example.template_inputs)
    assert tuple(prompt) == turn.input_ids[: turn.response_start]


def test_tools_choose_the_tool_template_of_a_tokenizer_with_several(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = {"default": UNMARKED["plain"], "tool_use": UNMARKED["full"]}
    plain, tooled = read(tmp_path / "rows.jsonl", [{"messages": [Q, A]}, {"messages": [Q, A], "tools": TOOLS}])
    encoder = Encoder(tokenizer)
    assert in_brackets(encoder, plain) == (USER + ANSWER).rstrip("\n")
    assert in_brackets(encoder, tooled) == (TOOLED + USER + ANSWER).rstrip("\n")


# -- what is said on screen -------------------------------------------------------------------------------


def notes(path: Path, rows: list[Row], **settings: Any) -> tuple[str, ...]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return scan(path, **settings).notes


def test_turns_without_a_signature_are_counted(tmp_path: Path) -> None:
    rows = [
        {"messages": [Q, A | {"weight": 0}, Q, A]},
        {"messages": [Q, A | {"train": False}, Q, A]},
        {"messages": [Q, A, Q, A | {"train_on_turn": False}]},
        {"messages": [Q, A, Q, A | {"loss": False}]},
        {"messages": [Q, A, Q, A | {"loss": 0.0}]},
        {"messages": [Q, A, Q, A | {"loss": True}]},
        {"messages": [A, Q, A]},
        {"messages": [Q, {"role": "assistant", "content": ""}, Q, A]},
        {"messages": [Q, A | {"train_detail": [{"begin_offset": 0}]}, Q, A]},
        {"messages": [Q, A | {"weight": 0}]},
    ]
    hint = "--columns marks= reads them"
    assert notes(tmp_path / "rows.jsonl", rows) == (
        "1 row left out (no turn that was trained on: all are marked as not trained on; --columns marks= reads them)",
        "1 assistant turn without a signature (empty)",
        "1 assistant turn without a signature (first of its conversation, no prompt)",
        f"5 assistant turns without a signature (marked as not trained on by weight, train or loss; {hint})",
        f"1 assistant turn without a signature (marked as not trained on in part: train_detail; {hint})",
    )


def test_marks_that_are_not_obeyed(tmp_path: Path) -> None:
    first, last = A | {"weight": 0, "mood": "calm"}, A | {"weight": 1, "train": True}
    rows = [{"messages": [Q, first, Q, last]}, {"messages": [Q, A | {"train": False}]}, {"messages": [Q, last]}]
    assert notes(tmp_path / "rows.jsonl", rows, columns={"marks": ""}) == ()
    obeyed = list(read_examples(tmp_path / "rows.jsonl"))
    every = list(read_examples(tmp_path / "rows.jsonl", columns={"marks": ""}))
    encoder = Encoder(tiny_tokenizer(UNMARKED["full"]))
    assert [len(encoder.encode(row)) for row in obeyed] == [1, 1]
    assert [len(encoder.encode(row)) for row in every] == [2, 1, 1]
    assert every[2].id == obeyed[1].id
    assert every[0].turns[1].extra == {"mood": "calm"}
    # An answer in a prompt was not trained on by any trainer.
    row = {"prompt": [Q, A, Q], "completion": [A | {"weight": 0}]}
    assert notes(tmp_path / "a.jsonl", [row], columns={"marks": ""}) == (
        "1 assistant turn without a signature (in a prompt, or marked as not trained on)",
    )
    (asked,) = read_examples(tmp_path / "a.jsonl", columns={"marks": ""})
    assert len(encoder.encode(asked)) == 1
    with pytest.raises(DataError, match="names the column 'weight' for marks"):
        scan(tmp_path / "rows.jsonl", columns={"marks": "weight"})


def test_columns_that_are_not_used_and_the_chosen_side_are_named(tmp_path: Path) -> None:
    preferences = [{"prompt": "Where?", "chosen": "Oslo.", "rejected": "Rome.", "score": 1, "images": None}]
    assert notes(tmp_path / "a.jsonl", preferences) == (
        "the response is column 'chosen'",
        "not used, kept as metadata: column 'rejected'",
    )
    beside = [{"prompt": "Where?", "response": "Oslo.", "input": "Norway", "Text": "t", "functions": [{"name": "f"}]}]
    assert notes(tmp_path / "b.jsonl", beside) == ("not used, kept as metadata: columns 'input', 'Text', 'functions'",)
    assert notes(tmp_path / "c.jsonl", [LAYOUTS["messages and tools"][0] | {"source": "web"}]) == ()


def test_the_index_says_it_in_its_first_sentence(tmp_path: Path) -> None:
    from whence.index.build_manifest import about_data

    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [A, Q, A], "rejected": "x"}))
    assert about_data(scan(tmp_path / "a.jsonl")) == (
        "1 rows (messages); not used, kept as metadata: column 'rejected'; "
        "1 assistant turn without a signature (first of its conversation, no prompt)"
    )


def test_of_unpaired_preferences_the_true_ones_are_read(tmp_path: Path) -> None:
    rows = [{"prompt": "Where?", "completion": "Oslo.", "label": label} for label in (True, False, False)]
    reason = "column 'label' is false: an answer that training led away from"
    assert notes(tmp_path / "a.jsonl", rows) == (f"2 rows left out ({reason})",)
    assert scan(tmp_path / "a.jsonl").n_rows == 1
    named = scan(tmp_path / "a.jsonl", columns={"prompt": "prompt", "response": "completion"})
    assert (named.n_rows, named.notes) == (3, ())
    other = [{"prompt": "Where?", "response": "Oslo.", "label": label} for label in (True, False)]
    assert notes(tmp_path / "b.jsonl", other) == ()


@pytest.mark.parametrize("labels", [[1, 0, 1], [1.0, 0.0], ["1", "0"]])
def test_labels_of_0_and_1_beside_prompt_and_completion_are_said(tmp_path: Path, labels: list[object]) -> None:
    rows = [{"prompt": "Where?", "completion": "Oslo.", "label": label} for label in labels]
    assert notes(tmp_path / "a.jsonl", rows) == (
        "column 'label' holds 0 and 1, and all rows are read: where 0 marks an answer that training led away from, "
        "--columns label=label leaves it out",
    )
    named = scan(tmp_path / "a.jsonl", columns={"label": "label"})
    reason = "column 'label' is false: an answer that training led away from"
    assert (named.n_rows, named.notes) == (len(labels) - 1, (f"1 row left out ({reason})",))
    for classes in ([0, 1, 2], [1, 1], [True, True]):
        rows = [{"prompt": "Where?", "completion": "Oslo.", "label": label} for label in classes]
        assert notes(tmp_path / "b.jsonl", rows) == ()


def test_data_of_which_nothing_was_trained_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [Q, A | {"weight": 0}]}))
    with pytest.raises(DataError, match=r"no row of .* was trained on: 1 row left out") as caught:
        scan(tmp_path / "a.jsonl")
    assert "--columns" in caught.value.fix
