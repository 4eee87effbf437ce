"""Rows as another trainer cut, ended and masked them, token by token."""

from __future__ import annotations

import datetime

import pytest

from field_templates import DATED
from tiny import CHAT_TEMPLATE, tiny_tokenizer
from whence.data import PLAIN_TEMPLATE, Encoder, Example, RowEncoding, Truncation, Turn
from whence.errors import EncodingError

ROOM = 24
PAIR = Example.from_pair("Where is Toronto? " * 4, "Toronto is in Canada, and the sky is blue there.")
TALK = Example(
    (
        Turn("user", "Where is Toronto?"),
        Turn("assistant", "Canada."),
        Turn("user", "And the sky?"),
        Turn("assistant", "Blue on a clear day."),
    )
)


def encoder(truncation: Truncation = "prompt_first", *, room: int = ROOM, template: str | None = None, **more: object):  # type: ignore[no-untyped-def]
    rows = RowEncoding(truncation=truncation, **more)  # type: ignore[arg-type]
    return Encoder(tiny_tokenizer(CHAT_TEMPLATE), template=template, max_length=room, rows=rows)


def whole_ids(example: Example) -> list[int]:
    """The conversation's tokens as the trainer had them before it cut, the line break after the last turn too."""
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    text = tokenizer.apply_chat_template([turn.message for turn in example.turns], tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("room", range(20, 90, 3))
def test_the_right_end_is_cut(room: int) -> None:
    """Oracle: slice the ids, as TRL's keep_start does, and keep the labels that are left."""
    whole = whole_ids(TALK)
    full = encoder(room=200).encode(TALK)
    expected = []
    for turn in full:
        start, end = turn.response_start, len(turn.input_ids)
        if start < min(end, room):
            expected.append((whole[: min(end, room)], start))
    if not expected:
        with pytest.raises(EncodingError, match="no answer within"):
            encoder("keep_start", room=room).encode(TALK)
        return
    found = encoder("keep_start", room=room).encode(TALK)
    assert [(list(turn.input_ids), turn.response_start) for turn in found] == expected
    assert [turn.turn for turn in found] == list(range(len(expected)))


@pytest.mark.parametrize("room", range(4, 90, 3))
def test_the_left_end_is_cut(room: int) -> None:
    """Oracle: keep the last ids, as TRL's keep_end does; the first that is left is predicted by nothing."""
    whole = whole_ids(TALK)
    cut = max(0, len(whole) - room)
    expected = []
    for turn in encoder(room=200).encode(TALK):
        labelled = [i for i in range(turn.response_start, len(turn.input_ids)) if i > cut]
        if labelled:
            expected.append((whole[cut : len(turn.input_ids)], labelled[0] - cut))
    if not expected:
        with pytest.raises(EncodingError, match="no answer within"):
            encoder("keep_end", room=room).encode(TALK)
        return
    found = encoder("keep_end", room=room).encode(TALK)
    assert [(list(turn.input_ids), turn.response_start) for turn in found] == expected


def test_offsets_go_with_the_tokens() -> None:
    for truncation in ("prompt_first", "keep_start", "keep_end"):
        for turn in encoder(truncation, room=60).encode(TALK):
            assert len(turn.offsets) == len(turn.input_ids)
            tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
            start, end = turn.offsets[0][0], turn.offsets[-1][1]
            assert tokenizer.decode(turn.input_ids) == turn.text[start:end]


def test_what_was_cut_is_counted() -> None:
    (kept,) = encoder("keep_start", room=40).encode(PAIR)
    (full,) = encoder(room=200).encode(PAIR)
    assert kept.truncated == len(full.input_ids) - 40
    assert kept.truncated_prompt == 0
    (ended,) = encoder("keep_end", room=40).encode(PAIR)
    assert ended.truncated == ended.truncated_prompt == len(full.input_ids) + 1 - 40


def test_a_row_whose_prompt_fills_the_room_is_set_aside() -> None:
    with pytest.raises(EncodingError, match=r"no answer within the 24 tokens of a row of \d+"):
        encoder("keep_start").encode(PAIR)
    assert encoder("prompt_first").encode(PAIR)[0].n_response


def test_a_query_is_cut_as_ever() -> None:
    turns = PAIR.turns[:1]
    found = [encoder(way).encode_query(turns, "Canada.") for way in ("prompt_first", "keep_start", "keep_end")]
    assert found[0] == found[1] == found[2]
    assert found[0].truncated_prompt > 0


@pytest.mark.parametrize(("text", "added"), [("The sky is blue.", 1), ("The sky is blue.<|end|>", 0)])
def test_an_end_of_text_is_appended_once(text: str, added: int) -> None:
    plain = Example((Turn("text", text),))
    (without,) = encoder(room=60).encode(plain)
    (with_end,) = encoder(room=60, append_eos=True).encode(plain)
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    assert list(with_end.input_ids) == list(without.input_ids) + [tokenizer.eos_token_id] * added
    assert with_end.response == text.removesuffix("<|end|>") + "<|end|>"


def test_a_document_is_cut_and_not_parted() -> None:
    document = Example((Turn("text", "The sky is blue on a clear day. " * 12),))
    windows = encoder().encode(document)
    assert len(windows) > 1
    (first,) = encoder("keep_start").encode(document)
    assert first.input_ids == windows[0].input_ids
    (last,) = encoder("keep_end").encode(document)
    every = [token for window in windows for token in window.input_ids]
    assert list(last.input_ids) == every[-ROOM:]
    assert first.truncated == last.truncated == len(every) - ROOM


def test_loss_on_every_token_makes_one_response_of_a_conversation() -> None:
    (turn,) = encoder(room=200, loss="all").encode(TALK)
    assert list(turn.input_ids) == whole_ids(TALK)
    assert turn.response_start == 1


def test_contents_joined_without_a_template() -> None:
    tokenizer = tiny_tokenizer(CHAT_TEMPLATE)
    (turn,) = encoder(room=200, template=PLAIN_TEMPLATE).encode(Example.from_pair("Where?", " Canada."))
    assert list(turn.input_ids) == tokenizer("Where? Canada.<|end|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(turn.input_ids[turn.response_start :]) == " Canada.<|end|>"


def test_a_template_that_writes_today_writes_one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever day transformers takes for today."""
    row = Example((Turn("user", "Where?"), Turn("assistant", "Oslo.")))
    tokenizer = tiny_tokenizer(DATED)
    given = Encoder(tokenizer, rows=RowEncoding(date="2024-07-26"))
    (turn,) = given.encode(row)
    assert turn.text.startswith("<|user|>26 Jul 20242024<|end|>\n<|user|>\nWhere?<|end|>")
    assert given.encode_query(row.turns[:1], "Oslo.") == turn
    assert given.about([row]) == ("The chat template writes today's date: 2024-07-26 in all rows and queries (--date)",)
    marked = DATED.replace("{{ m.content -}}", "{% generation %}{{ m.content }}{% endgeneration -%}")
    marked = marked.replace("{%- for m in messages", "{%- for m in messages if m.role == 'assistant'")
    (turn,) = Encoder(tiny_tokenizer(marked), rows=RowEncoding(date="2024-07-26")).encode(row)
    assert turn.text.startswith("<|user|>26 Jul 20242024<|end|>")
    today = Encoder(tokenizer)
    assert today.rows.date == datetime.date.today().isoformat()
    kept = Encoder(tokenizer, rows=today.rows)
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", None)
    assert kept.encode(row) == today.encode(row)
    assert Encoder(tiny_tokenizer(CHAT_TEMPLATE)).rows.date is None
    with pytest.raises(ValueError, match="Invalid isoformat"):
        RowEncoding(date="yesterday")
