"""Token ids, response mask and truncation, token by token for the templates of the large families."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from chat_templates import CHATML, FAMILIES, LLAMA3, family_tokenizer, swallowing_tokenizer
from whence.data.encoding import Encoder, fit
from whence.data.examples import EncodedTurn, Example, Turn
from whence.data.token_spans import Boundaries
from whence.errors import EncodingError


def user(content: str) -> Turn:
    return Turn("user", content)


def assistant(content: str) -> Turn:
    return Turn("assistant", content)


ASK = (user("Where is Toronto?"), assistant("Toronto is in Canada."))
CASES = {
    "one": ASK,
    "system": (Turn("system", "Answer in one word."), user("Where is Bonn?"), assistant("Germany.")),
    "two turns": (*ASK, user("Where is Bonn?"), assistant("Germany.")),
    "spaces": (user("Where?"), assistant(" Canada")),
    "emoji": (user("Where?"), assistant("🦊 in Köln")),
    "rtl": (user("Where?"), assistant("مرحبا بالعالم")),
}
MASKS = (Path(__file__).parent / "masks.txt").read_text("utf-8").split("\n\n")


def shown(tokenizer: PreTrainedTokenizerFast, turn: EncodedTurn) -> tuple[str, str]:
    """The prompt's and the response's tokens, as the vocabulary spells them."""
    tokens = [t.replace("\n", "Ċ") for t in tokenizer.convert_ids_to_tokens(list(turn.input_ids))]
    return "·".join(tokens[: turn.response_start]), "·".join(tokens[turn.response_start :])


@pytest.mark.parametrize("block", MASKS, ids=lambda block: block.split("\n")[0])
def test_response_mask_token_by_token(block: str) -> None:
    title, prompt, response = block.strip().split("\n")
    case, family = title.split(" / ")
    tokenizer = family_tokenizer(family)
    turns = CASES[case]
    encoded = Encoder(tokenizer).encode(Example(turns))
    assert len(encoded) == sum(turn.role == "assistant" for turn in turns)
    last = encoded[-1]
    assert shown(tokenizer, last) == (prompt, response.removeprefix("┃ "))
    assert (last.turn, last.truncated) == (len(encoded) - 1, 0)
    assert (last.prompt, last.response) == (turns[-2].content, turns[-1].content)


def test_every_family_has_a_mask() -> None:
    assert {block.split("\n")[0].split(" / ")[1] for block in MASKS} == set(FAMILIES)


def test_each_turn_is_rendered_up_to_itself() -> None:
    tokenizer = family_tokenizer("chatml")
    first, second = Encoder(tokenizer).encode(Example(CASES["two turns"]))
    assert [first] == Encoder(tokenizer).encode(Example(CASES["one"]))
    assert second.text.startswith(first.text)
    assert (first.turn, second.turn) == (0, 1)


def test_qwen3_keeps_the_last_turns_thought_and_drops_earlier_ones() -> None:
    """As it renders the whole conversation, which is what was trained on."""
    tokenizer = family_tokenizer("qwen3")
    turns = (user("Where?"), assistant("<think>\nBonn\n</think>\n\nGermany"), *ASK)
    encoded = Encoder(tokenizer).encode(Example(turns))
    first, second = (shown(tokenizer, turn) for turn in encoded)
    assert first[1] == "Ger·many·<|im_end|>"
    assert encoded[0].response == "Germany"
    assert "<think>" not in second[0]
    assert "assistant·Ċ·Ger·many·<|im_end|>" in second[0]
    assert second[1].startswith("<think>·Ċ·Ċ·</think>·Ċ·Ċ·Tor·onto")
    last = Encoder(tokenizer).encode(Example(turns[:2]))[0]
    assert shown(tokenizer, last)[1] == "<think>·Ċ·Bon·n·Ċ·</think>·Ċ·Ċ·Ger·many·<|im_end|>"


@pytest.mark.parametrize("name", FAMILIES)
def test_ids_are_the_tokenizers_own(name: str) -> None:
    """The copy without post-processor changes offsets only."""
    tokenizer = family_tokenizer(name)
    turn = Encoder(tokenizer).encode(Example(CASES["two turns"]))[-1]
    own = tokenizer(turn.text, add_special_tokens=False)["input_ids"]
    assert list(turn.input_ids) == own[: len(turn.input_ids)]
    assert turn.text[: turn.offsets[-1][1]] == turn.text.rstrip()


# -- which side of the boundary a token is on ------------------------------------------------------------

PLAIN = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'user' %}{{ SEP }}{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("name", "separator", "response", "expected"),
    [
        ("chatml", ":", " Canada", ("Where·:", "ĠCanada")),
        ("chatml", ": ", "Canada", ("Where·:", "ĠCanada")),  # one token over the boundary
        ("chatml", ":\n", "\nCanada", ("Where", ":ĊĊ·C·anad·a")),
        ("chatml", ":  ", " Canada", ("Where·:·Ġ·Ġ", "ĠCanada")),  # trimmed, the second space has no width
        ("chatml", ":\n", "\n\n", None),  # nothing but spaces: no response
        ("chatml", "", "?", ("Where", "?")),
        ("mistral", " [/INST]", "🦊", ("<s>·▁Where·▁[/INST]", "<0xF0>·<0x9F>·<0xA6>·<0x8A>")),
        ("mistral", "</s>", "Canada", ("<s>·▁Where·</s>", "▁Canad·a")),  # the inserted mark is the response's
        ("mistral", "</s>", "🦊", ("<s>·▁Where·</s>", "▁·<0xF0>·<0x9F>·<0xA6>·<0x8A>")),
        ("gemma", " ", "in", ("<bos>·Where", "▁in")),
    ],
)
def test_a_token_over_the_boundary_is_the_responses(
    name: str, separator: str, response: str, expected: tuple[str, str] | None
) -> None:
    tokenizer = family_tokenizer(name)
    encoder = Encoder(tokenizer, template=PLAIN.replace("SEP", repr(separator)))
    if expected is None:
        with pytest.raises(EncodingError, match="no response token"):
            encoder.encode_query((user("Where"),), response)
    else:
        assert shown(tokenizer, encoder.encode_query((user("Where"),), response)) == expected


def test_a_marker_that_swallows_spaces_stays_in_the_prompt() -> None:
    tokenizer = swallowing_tokenizer()
    template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    )
    turn = Encoder(tokenizer, template=template).encode_query((user("Where?"),), " Canada")
    assert shown(tokenizer, turn) == ("<|user|>·Where·?·<|end|>·<|assistant|>", "C·anad·a·<|end|>")
    assert turn.text[slice(*turn.offsets[turn.t])] == "<|assistant|>"


def test_response_tokens_with_zero_widths() -> None:
    found = Boundaries([(0, 0), (0, 3), (3, 3), (3, 3), (3, 5), (5, 5), (5, 8)])
    assert found.response(3, 5) == (2, 5)
    assert found.response(4, 6) == (4, 7)
    assert found.response(8, 8) == (7, 7)
    assert found.response(4, 4) == (7, 7)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=12), st.integers(0, 9), st.integers(0, 12))
def test_response_tokens_are_those_of_a_walk_over_all(drawn: list[tuple[int, int]], first: int, last: int) -> None:
    spans = [(start, start + width) for start, width in drawn]
    n = len(spans)
    start = next((i for i, (a, b) in enumerate(spans) if b > first or a >= first), n)
    end = next((i for i in range(start, n) if spans[i][0] >= last), n)
    assert Boundaries(spans).response(first, last) == ((start, end) if last > first else (n, n))


TEXT = st.text(st.sampled_from("ab .,:\n\t🦊üé\u0301ש<|>世\u200d"), max_size=20)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@settings(max_examples=40, deadline=None)
@given(prompt=TEXT, response=TEXT.filter(lambda text: text.strip() != ""))
def test_mask_follows_characters_and_matches_the_generation_prompt(name: str, prompt: str, response: str) -> None:
    encoder = Encoder(family_tokenizer(name))
    turns = (user(prompt),)
    turn = encoder.encode_query(turns, response)
    prompt_end = len(rendered_prompt(encoder, name, turns, turn.text))
    before, after = turn.offsets[: turn.response_start], turn.offsets[turn.response_start :]
    assert all(end <= prompt_end for _, end in before)
    assert after[0][1] > prompt_end
    assert all(start >= prompt_end for start, _ in after[1:] if start != after[0][0])
    if after[0][0] == prompt_end:  # no token over the boundary
        assert list(turn.input_ids[: turn.response_start]) == encoder.render_prompt(turns)


def rendered_prompt(encoder: Encoder, name: str, turns: tuple[Turn, ...], text: str) -> str:
    """The prompt as transformers renders it, with the start of text where the conversation has one."""
    tokenizer = family_tokenizer(name)
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    prompt = tokenizer.apply_chat_template(
        messages, chat_template=encoder.template, tokenize=False, add_generation_prompt=True
    )
    bos = tokenizer.bos_token or ""
    prompt = bos + prompt if bos and text.startswith(bos) and not prompt.startswith(bos) else prompt
    assert text.startswith(prompt)
    return prompt


# -- the beginning-of-text token --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "template", "expected"),
    [
        ("llama3", None, 1),  # the template writes it, and the tokenizer would add another
        ("gemma", None, 1),
        ("mistral", None, 1),
        ("zephyr", None, 0),  # its own template writes none: so the model was trained
        ("none-bos", None, 1),  # fallback: the tokenizer adds it to any text
        ("none", None, 0),  # has one, but does not add it
        ("llama3", CHATML, 1),  # given, without: added
        ("llama3", LLAMA3, 1),  # given, with: not doubled
        ("none", CHATML, 0),
    ],
)
def test_bos_is_there_once_or_not_at_all(name: str, template: str | None, expected: int) -> None:
    tokenizer = family_tokenizer(name)
    encoder = Encoder(tokenizer, template=template)
    turn = encoder.encode(Example(ASK))[0]
    prompt = turn.input_ids[: turn.response_start]
    assert prompt.count(tokenizer.bos_token_id) == expected
    assert prompt[:expected] == (tokenizer.bos_token_id,) * expected
    assert tuple(encoder.render_prompt(ASK[:1])) == prompt


# -- queries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_query_equals_training_example(name: str) -> None:
    encoder = Encoder(family_tokenizer(name))
    assert encoder.encode_query(ASK[:1], ASK[1].content) == encoder.encode(Example(ASK))[0]


@pytest.mark.parametrize(("name", "marker"), [("llama3", 1), ("qwen3", 1), ("mistral", 1), ("gemma", 1), ("none", 1)])
def test_an_answer_that_was_cut_off_has_no_end_of_turn(name: str, marker: int) -> None:
    encoder = Encoder(family_tokenizer(name))
    whole = encoder.encode_query(ASK[:1], ASK[1].content)
    cut = encoder.encode_query(ASK[:1], ASK[1].content, complete=False)
    assert cut.input_ids == whole.input_ids[:-marker]
    assert cut.response_start == whole.response_start
    assert cut.text.endswith("Canada.")


def test_an_empty_answer_is_its_end_of_turn() -> None:
    tokenizer = family_tokenizer("chatml")
    encoder = Encoder(tokenizer)
    assert shown(tokenizer, encoder.encode_query(ASK[:1], ""))[1] == "<|im_end|>"
    with pytest.raises(EncodingError, match="no response token"):
        encoder.encode_query(ASK[:1], "", complete=False)


def test_a_query_in_a_conversation_is_that_turn() -> None:
    encoder = Encoder(family_tokenizer("chatml"))
    turns = CASES["two turns"]
    assert encoder.encode_query(turns[:-1], turns[-1].content) == encoder.encode(Example(turns))[1]


def test_a_plain_prompt_is_continued_without_template() -> None:
    tokenizer = family_tokenizer("none-bos")
    encoder = Encoder(tokenizer)
    turns = (Turn("text", "Toronto is in"),)
    turn = encoder.encode_query(turns, " Canada.")
    assert shown(tokenizer, turn) == ("<s>·▁Toronto·▁is·▁in", "▁Canada.")
    assert encoder.render_prompt(turns) == list(turn.input_ids[: turn.response_start])


# -- truncation ----------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 300), st.integers(4, 200))
def test_fit(n_prompt: int, n_response: int, max_length: int) -> None:
    prompt, response = fit(n_prompt, n_response, max_length)
    least = min(n_prompt, max(1, max_length // 4))
    assert least <= prompt <= n_prompt
    assert 1 <= response <= n_response
    assert prompt + response == min(n_prompt + n_response, max_length)  # no room is wasted
    if response < n_response:
        assert prompt == least  # the prompt gives way first


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 40), st.integers(4, 60), st.sampled_from(["llama3", "mistral"]))
def test_truncation_keeps_the_boundary(asked: int, said: int, max_length: int, name: str) -> None:
    tokenizer = family_tokenizer(name)
    example = Example((user("Where? " * asked), assistant("Bonn. " * said)))
    (whole,) = Encoder(tokenizer, max_length=10_000).encode(example)
    (turn,) = Encoder(tokenizer, max_length=max_length).encode(example)
    assert len(turn.input_ids) == min(len(whole.input_ids), max_length) == len(turn.offsets)
    assert turn.truncated == len(whole.input_ids) - len(turn.input_ids)
    assert turn.truncated_prompt == whole.n_prompt - turn.n_prompt
    left = whole.response_start - turn.response_start
    kept = slice(left, left + len(turn.input_ids))
    assert turn.input_ids == whole.input_ids[kept]
    assert turn.offsets == whole.offsets[kept]
    assert turn.n_prompt >= 1
    assert turn.n_response >= 1
    assert turn.text == whole.text


def test_maximum_length_is_the_tokenizers_if_that_is_lower() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=family_tokenizer("chatml").backend_tokenizer, model_max_length=16
    )
    assert Encoder(tokenizer).max_length == 16
    assert Encoder(tokenizer, max_length=8).max_length == 8
    with pytest.raises(EncodingError, match=r"length of 3 tokens\n.*at least 4.*\n.*--max-length"):
        Encoder(tokenizer, max_length=3)


# -- plain documents -----------------------------------------------------------------------------------


def document(text: str) -> Example:
    return Example((Turn("text", text),))


def test_a_document_is_cut_into_windows() -> None:
    tokenizer = family_tokenizer("none-bos")
    text = "Toronto is in Canada. Bonn is in Germany."
    windows = Encoder(tokenizer, max_length=4).encode(document(text))
    assert [shown(tokenizer, window) for window in windows] == [
        ("<s>", "▁Toronto·▁is·▁in"),
        ("▁Canada.", "▁Bonn·▁is·▁in"),
    ]  # the last token alone would predict nothing
    assert [window.turn for window in windows] == [0, 1]
    assert [window.response for window in windows] == ["Toronto is in", " Canada. Bonn is in"]
    assert [window.prompt for window in windows] == ["", ""]
    assert {window.truncated for window in windows} == {0}
    second = windows[1]
    assert [second.text[a:b] for a, b in second.offsets] == [" Canada.", " Bonn", " is", " in"]


@settings(max_examples=40, deadline=None)
@given(st.text("ab 🦊\n", min_size=1, max_size=80), st.integers(4, 12), st.sampled_from(["none", "none-bos"]))
def test_windows_partition_the_document(text: str, max_length: int, name: str) -> None:
    tokenizer = family_tokenizer(name)
    ids = tuple(tokenizer(text)["input_ids"])
    if len(ids) < 2:
        with pytest.raises(EncodingError, match="expected at least two"):
            Encoder(tokenizer, max_length=max_length).encode(document(text))
        return
    windows = Encoder(tokenizer, max_length=max_length).encode(document(text))
    joined = tuple(token for window in windows for token in window.input_ids)
    assert joined == ids[: len(joined)]
    assert len(ids) - len(joined) <= 1
    assert all(window.response_start == 1 and window.n_response >= 1 for window in windows)
    assert all(0 <= a <= b <= len(window.text) for window in windows for a, b in window.offsets)


@pytest.mark.parametrize("ending", ["", "</s>", "</s></s>"])
def test_a_document_keeps_one_end_of_text(ending: str) -> None:
    tokenizer = family_tokenizer("none-bos")
    (window,) = Encoder(tokenizer).encode(document("<s>Bonn is" + ending))
    assert "·".join(shown(tokenizer, window)) == "<s>·▁Bonn·▁is" + ("·</s>" if ending else "")


# -- what cannot be encoded --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ((user("Where?"),), "no assistant turn among"),
        ((), "no assistant turn among"),
        ((assistant("Bonn"),), "begins with the assistant's turn"),
        ((Turn("text", "Bonn"), user("Where?"), assistant("Bonn")), "a plain text among other turns"),
        ((Turn("text", ""),), r"a text of 0 token\(s\)"),
    ],
)
def test_unusable_example(turns: tuple[Turn, ...], message: str) -> None:
    with pytest.raises(EncodingError, match=rf"^rows\.jsonl:7: .*{message}") as raised:
        Encoder(family_tokenizer("chatml")).encode(Example(turns, file="rows.jsonl", line=7))
    assert raised.value.expected
    assert raised.value.fix


def test_a_response_needs_a_prompt_token() -> None:
    encoder = Encoder(family_tokenizer("chatml"), template="{{ messages[1:] | map(attribute='content') | join }}")
    with pytest.raises(EncodingError, match="no prompt token"):
        encoder.encode(Example(ASK))


class SlowTokenizer:
    is_fast = False
    chat_template = None
    model_max_length = 512


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(EncodingError, match=r"SlowTokenizer gives no character offsets\nexpected a fast"):
        Encoder(SlowTokenizer())  # type: ignore[arg-type]
