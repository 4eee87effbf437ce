"""The tokens that TRL's SFTTrainer trains on, beside whence's response masks of the same file, token by token.

Runs where trl is installed: `make test-peers` makes an environment for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tiny import tiny_model
from trl_rows import IGNORED, MARKED, ONE, OTHER, SHORT, Row, assistant, fresh_tokenizer, user
from whence.data.encoding import Encoder
from whence.data.readers import read_examples
from whence.data.row_encoding import PLAIN_TEMPLATE

trl = pytest.importorskip("trl", reason="trl is not installed; `make test-peers` makes an environment with it")

TRAINED = "the template that TRL trained with"

# TRL reads prompt and completion of strings without a chat template, one after the other, and ends them.
PLAIN = (
    "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    "{% if not add_generation_prompt and not messages[-1]['content'].endswith(eos_token) %}{{ eos_token }}{% endif %}"
)
MARKED_WITHOUT_END = MARKED.replace(
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}", "{{ m['content'] }}{% endgeneration %}{{ '<|im_end|>' }}"
)
MARKED_WITH_HEADER = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ '<|im_start|>assistant\n' + m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


SYSTEM = {"role": "system", "content": "Answer in one word."}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}
CALLING = [
    user("Rain in Bonn?"),
    assistant("", tool_calls=[CALL]),
    {"role": "tool", "content": "dry"},
    assistant("No."),
]
THINKING = [user("Where is Bonn?"), assistant("Germany.", reasoning_content="On the Rhine.")]


@dataclass(frozen=True)
class Layout:
    """Rows as a user has them, and how TRL is told to train on them."""

    rows: list[Row]
    trained: str
    """What TRL trains on in the first row, decoded."""
    family: str = "llama3"
    own: str | None = None
    """The tokenizer's own template, as text or as the name of one that TRL ships; None leaves the family's."""
    given: str | None = None
    """What whence is given with --template."""
    options: dict[str, object] = field(default_factory=dict)
    beyond: tuple[str, ...] = ()
    """Tokens that TRL trains on and whence leaves out, for each row of the file the same."""
    max_length: int = 1024


ASSISTANT_ONLY: dict[str, object] = {"assistant_only_loss": True}
LAYOUTS = {
    "messages, one turn": Layout(
        [{"messages": ONE}, {"messages": SHORT}], "Toronto is in Canada.<|eot_id|>", options=ASSISTANT_ONLY
    ),
    "messages, several turns": Layout(
        [{"messages": [*ONE, *OTHER]}, {"messages": [*SHORT, *ONE, *OTHER]}],
        "Toronto is in Canada.<|eot_id|>Germany.<|eot_id|>",
        options=ASSISTANT_ONLY,
    ),
    "messages, system": Layout(
        [{"messages": [SYSTEM, *ONE]}, {"messages": [SYSTEM, *OTHER]}],
        "Toronto is in Canada.<|eot_id|>",
        options=ASSISTANT_ONLY,
    ),
    "a template with generation markers": Layout(
        [{"messages": [*ONE, *OTHER]}, {"messages": [SYSTEM, *SHORT]}],
        "Toronto is in Canada.<|im_end|>Germany.<|im_end|>",
        family="chatml",
        own=MARKED,
        options=ASSISTANT_ONLY,
    ),
    "markers that leave the end of the turn out": Layout(
        [{"messages": ONE}, {"messages": SHORT}],
        "Toronto is in Canada.",
        family="chatml",
        own=MARKED_WITHOUT_END,
        options=ASSISTANT_ONLY,
    ),
    "markers that take the header in": Layout(
        [{"messages": ONE}, {"messages": SHORT}],
        "<|im_start|>assistant\nToronto is in Canada.<|im_end|>",
        family="chatml",
        own=MARKED_WITH_HEADER,
        options=ASSISTANT_ONLY,
    ),
    "Qwen2.5, whose markers TRL adds": Layout(
        [{"messages": ONE}, {"messages": SHORT}],
        "\nToronto is in Canada.<|im_end|>\n",
        family="qwen2.5",
        own="qwen2_5.jinja",
        options=ASSISTANT_ONLY,
        beyond=("Ċ", "Ċ"),
    ),
    "Qwen3, with the template that TRL trained with": Layout(
        [{"messages": [*ONE, *OTHER]}, {"messages": [*SHORT, *OTHER]}],
        "<think>\n\n</think>\n\nToronto is in Canada.<|im_end|>\n<think>\n\n</think>\n\nGermany.<|im_end|>\n",
        family="qwen3",
        own="qwen3.jinja",
        given=TRAINED,
        options=ASSISTANT_ONLY,
    ),
    "a thought in reasoning_content": Layout(
        [{"messages": THINKING}, {"messages": [SYSTEM, *THINKING]}],
        "<think>\nOn the Rhine.\n</think>\n\nGermany.<|im_end|>\n",
        family="qwen3",
        own="qwen3.jinja",
        options=ASSISTANT_ONLY,
        given=TRAINED,
    ),
    "tools and tool calls": Layout(
        [{"messages": CALLING, "tools": [WEATHER]}],
        '\n<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call><|im_end|>\n\nNo.<|im_end|>\n',
        family="qwen2.5",
        own="qwen2_5.jinja",
        options=ASSISTANT_ONLY,
        given=TRAINED,
    ),
    "prompt and completion, strings": Layout(
        [
            {"prompt": "Where is Toronto?", "completion": " Toronto is in Canada."},
            {"prompt": "Bonn:\n", "completion": "Germany."},
        ],
        " Toronto is in Canada.</s>",
        family="none-bos",
        given=PLAIN,
    ),
    "prompt and completion, strings, a token over the boundary": Layout(
        [
            {"prompt": "Where is Toronto? ", "completion": "Toronto."},
            {"prompt": "Where is Bonn:\n", "completion": "\n\nGermany.<|endoftext|>"},
        ],
        " Toronto.<|endoftext|>",
        family="none",
        given=PLAIN,
    ),
    "prompt and completion, messages": Layout(
        [{"prompt": ONE[:1], "completion": ONE[1:]}, {"prompt": [SYSTEM, *OTHER[:1]], "completion": OTHER[1:]}],
        "Toronto is in Canada.<|eot_id|>",
    ),
    "prompt and completion, ChatML without markers": Layout(
        [{"prompt": ONE[:1], "completion": ONE[1:]}, {"prompt": [SYSTEM, *OTHER[:1]], "completion": OTHER[1:]}],
        "Toronto is in Canada.<|im_end|>\n",
        family="chatml",
        beyond=("Ċ",),
    ),
    "prompt and completion, several turns in the prompt": Layout(
        [{"prompt": [*ONE, *OTHER[:1]], "completion": OTHER[1:]}, {"prompt": ONE[:1], "completion": ONE[1:]}],
        "Germany.<|eot_id|>",
    ),
    "prompt and completion, the prompt's left end cut": Layout(
        [
            {"prompt": "Where is Toronto? " * 8, "completion": " Canada."},
            {"prompt": "Bonn?", "completion": " Germany."},
        ],
        " Canada.<|endoftext|>",
        family="none",
        given=PLAIN,
        options={"max_length": 24, "truncation_mode": "keep_end"},
        max_length=24,
    ),
    "text": Layout(
        [{"text": "Toronto is in Canada."}, {"text": "Bonn is in Germany. Grüße!"}],
        " Toronto is in Canada.</s>",
        family="none-bos",
        beyond=("</s>",),
    ),
    "text that ends in the end of text": Layout(
        [{"text": "Toronto is in Canada.</s>"}, {"text": "Bonn is in Germany.</s>"}],
        " Toronto is in Canada.</s>",
        family="none-bos",
    ),
}


@dataclass(frozen=True)
class Trained:
    """One row as the trainer's collator hands it to the model, padding taken away."""

    ids: list[int]
    places: list[int]
    """Positions with a label. The first of the row has no prediction and is left out."""


def trained_by_trl(
    file: Path, tokenizer: PreTrainedTokenizerFast, options: dict[str, object]
) -> tuple[list[Trained], str | None]:
    """The trainer's batch of all rows, and the template it put in the place of the tokenizer's own."""
    from datasets import Dataset

    trainer = trl.SFTTrainer(
        tiny_model("llama", vocab_size=len(tokenizer)),
        args=trl.SFTConfig(output_dir=str(file.parent / "out"), report_to=[], use_cpu=True, bf16=False, **options),
        train_dataset=Dataset.from_json(str(file), cache_dir=str(file.parent / "cache")),
        processing_class=tokenizer,
    )
    rows = trainer.train_dataset
    batch = trainer.data_collator([rows[i] for i in range(len(rows))])
    found = []
    for ids, labels, attended in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        n = int(attended.sum())
        places = [i for i in range(1, n) if labels[i] != IGNORED]
        assert all(labels[i] == ids[i] for i in places)
        assert (labels[n:] == IGNORED).all()
        found.append(Trained(ids[:n].tolist(), places))
    return found, trainer.chat_template


def write(rows: list[Row], folder: Path) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_labels_equal_response_masks(layout: Layout, tmp_path: Path) -> None:
    tokenizer = fresh_tokenizer(layout.family, layout.own)
    file = write(layout.rows, tmp_path)
    trained, template = trained_by_trl(file, tokenizer, layout.options)
    first = trained[0]
    assert tokenizer.decode([first.ids[i] for i in first.places]) == layout.trained

    given = template if layout.given == TRAINED else layout.given
    encoder = Encoder(tokenizer, template=given, max_length=layout.max_length)
    examples = list(read_examples(file))
    assert len(examples) == len(trained) == len(layout.rows)
    for example, row in zip(examples, trained, strict=True):
        masked: list[int] = []
        for turn in encoder.encode(example):
            assert row.ids[: len(turn.input_ids)] == list(turn.input_ids)
            masked += range(turn.response_start, len(turn.input_ids))
        beyond = [i for i in row.places if i not in masked]
        assert [i for i in masked if i not in row.places] == []
        assert tuple(tokenizer.convert_ids_to_tokens([row.ids[i] for i in beyond])) == layout.beyond


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_by_default_trl_trains_on_every_token_of_a_conversation(column: str, tmp_path: Path) -> None:
    """whence reads its responses, in the same text."""
    tokenizer = fresh_tokenizer("llama3")
    turns = [SYSTEM, *ONE, *OTHER]
    keys = ("role", "content") if column == "messages" else ("from", "value")
    file = write([{column: [{keys[0]: m["role"], keys[1]: m["content"]} for m in turns]}], tmp_path)
    ((row,), _) = trained_by_trl(file, tokenizer, {})
    assert row.places == list(range(1, len(row.ids)))
    (example,) = read_examples(file)
    first, last = Encoder(tokenizer).encode(example)
    assert list(last.input_ids) == row.ids
    assert list(first.input_ids) == row.ids[: len(first.input_ids)]


def test_trl_keeps_the_role_names_of_sharegpt(tmp_path: Path) -> None:
    """whence gives the template the names it knows, as trainers for such files do."""
    tokenizer = fresh_tokenizer("llama3")
    file = write([{"conversations": [{"from": "human", "value": "Bonn?"}, {"from": "gpt", "value": "Yes."}]}], tmp_path)
    ((row,), _) = trained_by_trl(file, tokenizer, {})
    assert "<|start_header_id|>human<|end_header_id|>" in tokenizer.decode(row.ids)
    (example,) = read_examples(file)
    (turn,) = Encoder(tokenizer).encode(example)
    assert turn.text.count("<|start_header_id|>user<|end_header_id|>") == 1
    assert turn.text.count("<|start_header_id|>assistant<|end_header_id|>") == 1


def test_trl_cuts_the_right_end_and_whence_the_prompts_left_end(tmp_path: Path) -> None:
    """A row longer than the room is the one place where both read different tokens; a row that fits is the same."""
    tokenizer = fresh_tokenizer("none")
    rows: list[Row] = [
        {"prompt": "Where is Toronto? " * 8, "completion": " Toronto is in Canada."},
        {"prompt": "Bonn?", "completion": " Germany."},
        {"prompt": "Where is Bonn? Where is Toronto?", "completion": " Bonn is in Germany." * 8},
    ]
    file = write(rows, tmp_path)
    room = 24
    fitting, long_answer = trained_by_trl(file, tokenizer, {"max_length": room})[0]  # the first has no label left
    asked, whole, cut = (
        turn for row in read_examples(file) for turn in Encoder(tokenizer, template=PLAIN, max_length=room).encode(row)
    )
    assert (fitting.ids, fitting.places[0]) == (list(whole.input_ids), whole.response_start)
    assert asked.n_response > 0
    assert asked.truncated > 0
    assert len(long_answer.ids) == len(cut.input_ids) == room
    trained = [long_answer.ids[i] for i in long_answer.places]
    assert trained == list(cut.input_ids[cut.response_start :])[: len(trained)]
    assert len(trained) < cut.n_response


def test_trl_puts_a_template_of_its_own_in_the_place_of_one_without_markers(tmp_path: Path) -> None:
    """Qwen3's own leaves the thought out of earlier turns, the one that TRL trains with writes it into each."""
    tokenizer = fresh_tokenizer("qwen3", "qwen3.jinja")
    file = write([{"messages": [*ONE, *OTHER]}], tmp_path)
    ((row,), template) = trained_by_trl(file, tokenizer, ASSISTANT_ONLY)
    (example,) = read_examples(file)
    own = Encoder(tokenizer).encode(example)[-1]
    given = Encoder(tokenizer, template=template).encode(example)[-1]
    assert list(given.input_ids) == row.ids[: len(given.input_ids)]
    assert tokenizer.decode(row.ids).count("<think>") == 2
    assert tokenizer.decode(own.input_ids).count("<think>") == 1


def test_trl_refuses_a_template_without_markers_that_it_does_not_know(tmp_path: Path) -> None:
    file = write([{"messages": ONE}], tmp_path)
    with pytest.raises(ValueError, match="template"):
        trained_by_trl(file, fresh_tokenizer("chatml"), ASSISTANT_ONLY)


def test_template_none_is_the_template_that_the_labels_were_compared_with() -> None:
    assert PLAIN_TEMPLATE == PLAIN
    assert "`--template none`" in (Path(__file__).parents[2] / "docs" / "encoding.md").read_text(encoding="utf-8")
