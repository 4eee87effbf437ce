"""An answer inside a prompt: trainers of prompt and completion learn from the completion alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat_templates import family_tokenizer
from whence.data.encoding import Encoder
from whence.data.readers import read_examples

EARLIER = [{"role": "user", "content": "Where is Toronto?"}, {"role": "assistant", "content": "Canada."}]
ASKED = {"role": "user", "content": "And Bonn?"}
ANSWER = {"role": "assistant", "content": "Germany."}


@pytest.mark.parametrize("column", ["completion", "chosen"])
def test_an_answer_in_a_prompt_of_messages_gives_no_signature(column: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"prompt": [*EARLIER, ASKED], column: [ANSWER]}))
    tokenizer = family_tokenizer("llama3")
    (example,) = read_examples(file)
    (turn,) = Encoder(tokenizer).encode(example)
    assert (turn.prompt, turn.response) == ("And Bonn?", "Germany.")
    assert tokenizer.decode(turn.input_ids[turn.response_start :]) == "Germany.<|eot_id|>"
    assert "Canada." in turn.text


def test_an_answer_in_messages_gives_one(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"messages": [*EARLIER, ASKED, ANSWER]}))
    (example,) = read_examples(file)
    turns = Encoder(family_tokenizer("llama3")).encode(example)
    assert [turn.response for turn in turns] == ["Canada.", "Germany."]
