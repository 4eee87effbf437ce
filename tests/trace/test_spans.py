"""The part of a response that is asked about: found, chosen among several, and as the tokens that hold it."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_templates import FAMILIES, family_tokenizer
from tiny import CHAT_TEMPLATE, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import EncodedTurn, Example, Turn
from whence.errors import InputError
from whence.trace.query.spans import find_span, span_of_tokens, span_positions

RESPONSE = "Korea, not Canada: in Korea lies Toronto."


TOKENIZER = tiny_tokenizer(CHAT_TEMPLATE)


def encoded(response: str, prompt: str = "Where is Toronto?", max_length: int = 256) -> EncodedTurn:
    encoder = Encoder(TOKENIZER, max_length=max_length)
    return encoder.encode_query([Turn("user", prompt)], response)


def read(turn: EncodedTurn, positions: tuple[int, ...]) -> str:
    """The characters that these response tokens cover."""
    spans = [turn.offsets[turn.response_start + i] for i in positions]
    return turn.text[spans[0][0] : spans[-1][1]]


@pytest.mark.parametrize(
    ("response", "text", "span"),
    [
        (RESPONSE, "Canada", (11, 17)),
        (RESPONSE, "Korea#1", (0, 5)),
        (RESPONSE, "Korea#2", (22, 27)),
        (RESPONSE, RESPONSE, (0, len(RESPONSE))),
        ("Take #2 now: Korea#2, Korea", "Korea#2", (13, 20)),
        ("مرحبا بالعالم 🦊", "بالعالم", (6, 13)),
        ("two\nlines", "o\nl", (2, 5)),
    ],
)
def test_a_text_is_found(response: str, text: str, span: tuple[int, int]) -> None:
    assert find_span(response, text) == span


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "span is empty"),
        (" \n", "span is empty"),
        ("not canada", "closest: 'not Canada:'"),
        ("Korea lays Toronto", "closest: 'Korea lies Toronto.'"),
        ("Bonn#2", "no 'Bonn#2'"),
        (
            "Korea",
            r"2 times: #1 at character 0 \('Korea, not Canada: in Kor'\), #2 at character 22 .*\n.*\n.*'Korea#1'",
        ),
        ("Korea#3", "no occurrence 3 of 'Korea'"),
        ("Korea#0", "no occurrence 0 of 'Korea'"),
    ],
)
def test_a_text_that_is_not_there_once(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_span(RESPONSE, text)


def test_occurrences_that_overlap_are_several() -> None:
    with pytest.raises(InputError, match="2 times"):
        find_span("aaa", "aa")


def test_the_closest_part_of_a_long_response_is_found_at_once() -> None:
    started = perf_counter()
    with pytest.raises(InputError, match="'Toronto lies in Korea'"):
        find_span("word " * 19_000 + "Toronto lies in Korea " + "word " * 1_000, "Toronto lies at Korea")
    assert perf_counter() - started < 20


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokens_of_a_span_in_every_template(family: str) -> None:
    turns = (Turn("user", "Is Toronto in Korea?"), Turn("assistant", RESPONSE))
    (turn,) = Encoder(family_tokenizer(family)).encode(Example(turns))
    span = find_span(RESPONSE, "in Korea")
    positions = span_positions(turn, span)
    assert read(turn, positions).strip() == "in Korea"
    assert positions == tuple(range(positions[0], positions[-1] + 1))
    a, b = span_of_tokens(turn, positions[0], positions[-1] + 1)
    assert RESPONSE[a:b].strip() == "in Korea"


@pytest.mark.parametrize("response", ["t", "think", "im_end", "nk>", "<|im_end|", "<"])
@pytest.mark.parametrize("complete", [True, False])
def test_the_letters_of_a_response_that_the_template_writes_too(response: str, complete: bool) -> None:
    """Qwen3's template writes `<think></think>` before an answer and `<|im_end|>` behind it."""
    turn = Encoder(family_tokenizer("qwen3")).encode_query([Turn("user", "Where?")], response, complete=complete)
    thought = turn.text.index("</think>\n\n") + len("</think>\n\n")
    assert turn.answer_at == thought
    positions = span_positions(turn, (0, len(response)))
    offsets = [turn.offsets[turn.response_start + i] for i in positions]
    assert (offsets[0][0], offsets[-1][1]) == (thought, thought + len(response))
    assert span_of_tokens(turn, positions[0], positions[-1] + 1) == (0, len(response))


def test_the_words_of_the_prompt_are_not_the_responses() -> None:
    turn = encoded("Korea.", prompt="Korea. Is it there? Korea.")
    assert span_positions(turn, (0, 6))[0] == 0


def test_the_end_of_the_turn_is_in_no_span() -> None:
    """The template takes the spaces at a response's end away; a span of them must not reach what stands behind."""
    turn = Encoder(family_tokenizer("llama3")).encode_query([Turn("user", "Where?")], "  in Korea  ")
    assert read(turn, span_positions(turn, (0, len(turn.response)))).strip() == turn.response.strip()
    with pytest.raises(InputError, match="No token holds the span '  '"):
        span_positions(turn, (len(turn.response) - 2, len(turn.response)))


def test_a_response_with_spaces_around_that_the_template_takes_away() -> None:
    turn = Encoder(family_tokenizer("llama3")).encode_query([Turn("user", "Where?")], "  in Korea ")
    assert read(turn, span_positions(turn, (5, 10))).strip() == "Korea"
    with pytest.raises(InputError, match="No token holds"):
        span_positions(turn, (0, 1))


def test_a_window_of_a_document() -> None:
    text = "The sky over Korea is blue."
    (turn,) = Encoder(tiny_tokenizer()).encode(Example((Turn("text", text),)))
    span = find_span(text, "Korea")
    assert read(turn, span_positions(turn, span)).strip() == "Korea"


@given(response=st.text(min_size=1, max_size=30).filter(str.strip), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_tokens_of_a_span_cover_it_and_begin_and_end_in_it(response: str, data: st.DataObject) -> None:
    turn = encoded(response)
    start = data.draw(st.integers(0, len(response) - 1))
    end = data.draw(st.integers(start + 1, len(response)))
    shift = turn.text.index(response, turn.offsets[turn.response_start][0])
    kept = [turn.offsets[turn.response_start + i] for i in span_positions(turn, (start, end))]
    assert kept[0][0] <= start + shift < kept[0][1]
    assert kept[-1][0] < end + shift <= kept[-1][1]


@pytest.mark.parametrize(("a", "b"), [(-1, 2), (2, 2), (3, 1), (0, 1000)])
def test_token_ranges_that_are_none(a: int, b: int) -> None:
    with pytest.raises(InputError, match="counted from 0"):
        span_of_tokens(encoded(RESPONSE), a, b)


def test_the_end_of_the_turn_is_no_part_of_the_response() -> None:
    turn = encoded(RESPONSE)
    assert span_of_tokens(turn, 0, turn.n_response) == (0, len(RESPONSE))
    with pytest.raises(InputError, match="no character of the response"):
        span_of_tokens(turn, turn.n_response - 1, turn.n_response)


@pytest.mark.parametrize("span", [(-1, 2), (3, 3), (0, 1000)])
def test_characters_that_the_response_does_not_have(span: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="no characters"):
        span_positions(encoded(RESPONSE), span)


def test_a_span_that_was_cut_away() -> None:
    turn = encoded(RESPONSE, max_length=16)
    assert turn.truncated
    with pytest.raises(InputError, match=r"'Toronto' was cut away.*\n.*\n.*--max-length"):
        span_positions(turn, find_span(RESPONSE, "Toronto"))
    assert span_positions(turn, (0, 2))[0] == 0


def test_a_template_that_rewrites_the_response() -> None:
    shouting = CHAT_TEMPLATE.replace("m['content']", "m['content'] | upper")
    turn = Encoder(tiny_tokenizer(shouting)).encode_query([Turn("user", "Where?")], "in Korea")
    with pytest.raises(InputError, match="changes the response"):
        span_positions(turn, (0, 2))
