"""Words are whole in any script, and tokens find them through templates, truncation and emoji."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_templates import family_tokenizer
from oracles_words import pool_oracle
from tiny import CHAT_TEMPLATE, tiny_tokenizer
from whence.data.encoding import Encoder
from whence.data.examples import ASSISTANT, TEXT, EncodedTurn, Example, Turn
from whence.data.templates import FALLBACK_TEMPLATE
from whence.trace.explain.words import How, part_offset, pool, word_spans, word_tokens

STRIPPING = CHAT_TEMPLATE.replace("m['content']", "m['content'] | trim")
FAMILY = "\N{WOMAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
SUM_BOUND = 1e-9
"""Sums of a dozen terms in another order."""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't panic: 3.14, or 1,000.", ["Don't", "panic", ":", "3.14", ",", "or", "1,000", "."]),
        ("naïve été", ["naïve", "été"]),
        ("e\u0301te\u0301!", ["e\u0301te\u0301", "!"]),
        ("東京タワーはすごい。", ["東", "京", "タワー", "は" + "すごい", "。"]),
        ("abc東京1", ["abc", "東", "京", "1"]),
        ("مرحبا بالعالم!", ["مرحبا", "بالعالم", "!"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("สวัสดีครับ โลก", ["สวัสดีครับ", "โลก"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        (f"hi {FAMILY}🇳🇴👍🏽!", ["hi", FAMILY, "🇳🇴", "👍🏽", "!"]),
        ("a_b x=1;...", ["a_b", "x", "=", "1", ";", ".", ".", "."]),
        (" \n\t\u3000", []),
        ("", []),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    assert [text[start:stop] for start, stop in word_spans(text)] == words


@given(st.text(max_size=60))
def test_words_are_in_order_and_leave_out_whitespace_only(text: str) -> None:
    spans = word_spans(text)
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    assert edges == sorted(edges)
    assert all(start < stop for start, stop in spans)
    between = [text[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2)]
    assert not "".join(between).strip()


def encode(prompt: str, response: str, template: str = CHAT_TEMPLATE, max_length: int = 256) -> EncodedTurn:
    (turn,) = Encoder(tiny_tokenizer(template), max_length=max_length).encode(Example.from_pair(prompt, response))
    return turn


def shown(turn: EncodedTurn, part: str, length: int) -> str:
    offset = part_offset(turn, part)  # type: ignore[arg-type]
    assert offset is not None
    return turn.text[max(0, offset) : offset + length]


def test_parts_are_found_in_the_rendered_text() -> None:
    turn = encode("Where is Toronto?", "Toronto is in Canada.")
    assert shown(turn, "prompt", 17) == "Where is Toronto?"
    assert shown(turn, "response", 21) == "Toronto is in Canada."


def test_a_template_that_strips() -> None:
    turn = encode("  Where? \n", "\n It is here. ", STRIPPING)
    for part, text in (("prompt", "  Where? \n"), ("response", "\n It is here. ")):
        offset = part_offset(turn, part)  # type: ignore[arg-type]
        assert offset is not None
        for start, stop in word_spans(text):
            assert turn.text[offset + start : offset + stop] == text[start:stop]


@pytest.mark.parametrize("prompt", ["user", "assistant", "a", "Where?"])
def test_a_prompt_that_stands_elsewhere_too(prompt: str) -> None:
    (turn,) = Encoder(tiny_tokenizer(CHAT_TEMPLATE), max_length=256).encode(
        Example((Turn("system", prompt), Turn("user", prompt), Turn(ASSISTANT, f"{prompt}. {prompt}")))
    )
    markers = turn.text.index("<|user|>\n") + len("<|user|>\n")
    assert part_offset(turn, "prompt") == markers
    assert part_offset(turn, "response") == turn.text.index("<|assistant|>\n") + len("<|assistant|>\n")


@pytest.mark.parametrize("response", ["think", " t\n"])
def test_a_response_that_stands_in_the_templates_thought_too(response: str) -> None:
    turns = (Turn("user", "Where?"), Turn(ASSISTANT, response))
    (turn,) = Encoder(family_tokenizer("qwen3"), max_length=256).encode(Example(turns))
    at = turn.text.rindex(response.strip(), 0, turn.text.rindex("<|im_end|>"))
    assert at > turn.text.index("</think>")
    assert part_offset(turn, "response") == at - (len(response) - len(response.lstrip()))
    _, ((token, *_),) = word_tokens(turn, "response")
    assert turn.offsets[token][0] == at


@pytest.mark.parametrize("family", ["mistral", "mistral-v0.3", "qwen3", "llama3"])
@pytest.mark.parametrize("first", [Turn("user", "continue"), Turn("user", "What?")])
def test_a_prompt_that_an_earlier_message_has_too(family: str, first: Turn) -> None:
    turns = (first, Turn(ASSISTANT, "continue"), Turn("user", "continue"), Turn(ASSISTANT, "Second part."))
    turn = Encoder(family_tokenizer(family), max_length=256).encode(Example(turns))[-1]
    assert part_offset(turn, "prompt") == turn.text.rindex("continue")


@pytest.mark.parametrize("family", ["mistral", "mistral-v0.3", "qwen3", "llama3", "gemma"])
@pytest.mark.parametrize("prompt", ["Go on\n", "Go on\n\n", "\tGo on", " Go on ", "\u2028Go on", "Go\n\non\n"])
def test_a_repeated_prompt_with_lines_and_spaces_at_its_ends(family: str, prompt: str) -> None:
    turns = (Turn("user", prompt), Turn(ASSISTANT, f"{prompt}!"), Turn("user", prompt), Turn(ASSISTANT, "Done."))
    for place, turn in enumerate(Encoder(family_tokenizer(family), max_length=256).encode(Example(turns))):
        spaces = len(prompt) - len(prompt.lstrip())
        # The answer says it once more between the two.
        starts = [i for i in range(len(turn.text)) if turn.text.startswith(prompt.strip(), i)]
        assert part_offset(turn, "prompt") == starts[2 * place] - spaces


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADERS = (
    "{% for m in messages %}<|head|>{{ m['role'] }}<|/head|>\n\n{{ m['content'] }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "prompt", "before"),
    [
        (FALLBACK_TEMPLATE, "Response", "### Instruction:\n"),
        (FALLBACK_TEMPLATE, "Instruction", "### Instruction:\n"),
        (FALLBACK_TEMPLATE, "Response:", "### Instruction:\n"),
        (CHATML, "assistant", "<|im_start|>user\n"),
        (CHATML, "user", "<|im_start|>user\n"),
        (HEADERS, "assistant", "<|head|>user<|/head|>\n\n"),
        (HEADERS, "user", "<|head|>user<|/head|>\n\n"),
    ],
)
def test_a_prompt_that_is_a_word_of_the_template(template: str, prompt: str, before: str) -> None:
    # One token a word, so that no token's edges tell the template from the prompt.
    turn = encode(prompt, "Yes.", template)
    assert part_offset(turn, "prompt") == turn.text.index(before) + len(before)
    pieces = word_spans(turn.text)
    start = next(i for i, (a, _) in enumerate(pieces) if a >= turn.offsets[turn.response_start][0])
    by_words = replace(turn, offsets=pieces, input_ids=tuple(range(len(pieces))), response_start=start)
    assert part_offset(by_words, "prompt") == turn.text.index(before) + len(before)


def test_parts_that_are_not_there() -> None:
    hidden = CHAT_TEMPLATE.replace("m['content']", "(m['content'] | upper if m['role'] == 'user' else m['content'])")
    assert part_offset(encode("Where?", "Here.", hidden), "prompt") is None
    (document,) = Encoder(tiny_tokenizer(), max_length=64).encode(Example((Turn(TEXT, "Toronto is in Canada."),)))
    assert part_offset(document, "prompt") is None
    assert part_offset(document, "response") == 0
    words, tokens = word_tokens(encode("Where?", "Here.", hidden), "prompt")
    assert (len(words), tokens) == (2, ((), ()))


@pytest.mark.parametrize("text", ["Where is Toronto?", f"Grüße {FAMILY} 🙂 مرحبا こんにちは", "don't  stop\n\nnow"])
def test_each_word_has_the_tokens_of_its_characters(text: str) -> None:
    turn = encode(text, text)
    for part in ("prompt", "response"):
        words, tokens = word_tokens(turn, part)  # type: ignore[arg-type]
        offset = part_offset(turn, part)  # type: ignore[arg-type]
        assert offset is not None
        for (start, stop), mine in zip(words, tokens, strict=True):
            covered = {at for token in mine for at in range(*turn.offsets[token])}
            assert set(range(offset + start, offset + stop)) <= covered
            assert all((token < turn.response_start) == (part == "prompt") for token in mine)


def test_words_that_were_cut_off_have_no_token_and_score_0() -> None:
    turn = encode("one two three four five six seven", "eight nine ten eleven twelve thirteen", max_length=24)
    assert turn.truncated
    words, tokens = word_tokens(turn, "prompt")
    assert not tokens[0]
    assert tokens[-1]
    words, tokens = word_tokens(turn, "response")
    assert tokens[0]
    assert not tokens[-1]
    offset = part_offset(turn, "response")
    assert offset is not None
    spans = [(a - offset, b - offset) for a, b in turn.offsets[turn.response_start :]]
    assert pool(spans, [1.0] * len(spans), words, "sum")[-1] == 0
    assert pool(spans, [-1.0] * len(spans), words, "max")[-1] == 0


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)), max_size=8).map(
    lambda pairs: [(a, a + n) for a, n in pairs]
)
cuts = st.lists(st.integers(0, 40), unique=True, max_size=12).map(
    lambda edges: [(a, b) for a, b in zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False)]
)


@given(spans, cuts, st.sampled_from(["sum", "max"]), st.randoms())
def test_pooling_is_that_of_single_characters(tokens: list, words: list, how: How, rng) -> None:  # type: ignore[no-untyped-def,type-arg]
    scores = [rng.uniform(-1, 1) for _ in tokens]
    expected = pool_oracle(tokens, scores, words, how)
    assert pool(tokens, scores, words, how) == pytest.approx(expected, abs=SUM_BOUND)


def test_a_sum_keeps_the_total_and_bytes_of_an_emoji_add_up() -> None:
    assert pool([(0, 4), (4, 5), (4, 5), (5, 6)], [4.0, 1.0, 2.0, 9.0], [(0, 1), (2, 4), (4, 5)], "sum") == (
        pytest.approx(4 / 3),
        pytest.approx(8 / 3),
        3.0,
    )


def test_a_hundred_thousand_characters() -> None:
    text = "wort 東 🙂 " * 11_112
    words = word_spans(text)
    assert len(words) == 3 * 11_112
    assert pool(words, [1.0] * len(words), words, "sum") == (1.0,) * len(words)
