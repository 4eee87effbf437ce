"""Any mix of layouts: the text and mask are those of the trainer's own chat template, or the row is set aside."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from field.fuzz_rows import CASES, FILES, Case, Message, write
from field.templates import MARKED, UNMARKED
from tiny import tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example, conversation_json, read_conversation
from whence.data.formats import Rejected
from whence.data.readers import read_examples
from whence.errors import EncodingError

TOKENIZER = tiny_tokenizer()
ENCODERS = {
    name: Encoder(tiny_tokenizer(text), max_length=100_000)
    for name, text in {**UNMARKED, **{f"{name}-marked": text for name, text in MARKED.items()}}.items()
}


def has_text(message: Message) -> bool:
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    return bool(content.strip())


def is_trained(place: int, message: Message) -> bool:
    if message["role"] != "assistant" or place == 0 or message.get("weight") == 0 or message.get("train") is False:
        return False
    return has_text(message) or bool(message.get("tool_calls")) or bool(message.get("reasoning_content"))


def rendered(template: str, messages: list[Message], inputs: dict[str, Any]) -> tuple[list[int], list[int]] | None:
    """The trainer's own ids and mask. Templates that join strings are given strings, as the trainer has to."""
    texts = [
        message | {"content": "".join(part["text"] for part in content)}
        if isinstance(content := message.get("content") or "", list)
        else message | {"content": content}
        for message in messages
    ]
    for handed in (messages, texts):
        try:
            found = TOKENIZER.apply_chat_template(
                handed, chat_template=template, return_dict=True, return_assistant_tokens_mask=True, **inputs
            )
        except (TemplateError, TypeError):
            continue
        return list(found["input_ids"]), list(found["assistant_masks"])
    return None


def runs(mask: list[int]) -> list[tuple[int, int]]:
    """First and past-the-last place of each run of ones: one for each assistant turn."""
    edges = [i for i in range(len(mask) + 1) if (mask[i - 1] if i else 0) != (mask[i] if i < len(mask) else 0)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def leaves_out(name: str, messages: list[Message]) -> bool:
    """Whether the template would silently leave out something that was to be learnt."""
    if name != "plain":
        return False
    return any(
        bool(message.get("tool_calls")) or (not has_text(message) and bool(message.get("reasoning_content")))
        for place, message in enumerate(messages)
        if is_trained(place, message)
    )


def encoded(encoder: Encoder, example: Example) -> list[EncodedTurn] | EncodingError:
    """The turns, or why they cannot be had."""
    try:
        return encoder.encode(example)
    except EncodingError as error:
        return error


def check(case: Case, how: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, loaded = write(case, Path(folder), how)
        rejected: list[Rejected] = []
        left_out: list[str] = []
        examples = list(read_examples(path, on_reject=rejected.append, on_left_out=left_out.append))
    messages, inputs = case.view(loaded)
    last = max((place for place, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    messages = messages[: last + 1]
    trained = [place for place, message in enumerate(messages) if is_trained(place, message)]
    if not trained:
        event("no answer that was trained on")
        assert not examples
        assert len(rejected) + len(left_out) == 1
        return
    if not examples:
        event("empty response")
        # The one reader's rule that is stricter than the trainer: an empty answer in a column of its own.
        assert [bad.reason.split(" (")[0] for bad in rejected] == ["empty response"]
        assert not has_text(messages[-1])
        return
    assert (rejected, left_out) == ([], [])
    family = name.removesuffix("-marked")
    expected = rendered(MARKED[family], messages, inputs)
    encoder = ENCODERS[name]
    if expected is None or leaves_out(family, messages):
        event("the template cannot render it")
        with pytest.raises(EncodingError, match=r"cannot render|leaves out of message"):
            encoder.encode(examples[0])
        return
    ids, mask = expected
    turns = encoded(encoder, examples[0])
    if isinstance(turns, EncodingError):
        event("nobody can tell where an answer is")
        # Nobody can tell where an earlier answer ends that holds the very end-of-turn marker, nor where one begins
        # that follows another, which the template renders as the last one when it is asked for the prompt.
        roles = [message["role"] for message in messages]
        assert name == "forgetful"
        assert "another way" in str(turns)
        assert "<|end|>" in str(messages) or ("assistant", "assistant") in pairwise(roles)
        return
    event("text and mask as trained")
    of_turn = dict(zip([i for i, m in enumerate(messages) if m["role"] == "assistant"], runs(mask), strict=True))
    assert [turn.turn for turn in turns] == list(range(len(trained)))
    for place, turn in zip(trained, turns, strict=True):
        start, end = of_turn[place]
        assert (turn.response_start, len(turn.input_ids)) == (start, end)
        assert list(turn.input_ids) == ids[:end]
    again = Example(*read_conversation(conversation_json(examples[0]))[:1], template_inputs=inputs_of(examples[0]))
    assert encoder.encode(again) == turns
    assert again.id == examples[0].id


def inputs_of(example: Example) -> dict[str, Any]:
    """What a stored row gives back."""
    return read_conversation(conversation_json(example))[1]


ANY = {"case": CASES, "how": st.sampled_from(FILES), "name": st.sampled_from(sorted(ENCODERS))}
COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(COMMON, max_examples=100)
@given(**ANY)
def test_a_row_is_read_as_it_was_trained_on(case: Case, how: str, name: str) -> None:
    check(case, how, name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(COMMON, max_examples=2000)
@given(**ANY)
def test_two_thousand_rows_are_read_as_they_were_trained_on(case: Case, how: str, name: str) -> None:
    check(case, how, name)
