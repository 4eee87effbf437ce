"""Which template is used, what it renders, and what is said when it cannot."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from chat_templates import CHATML, MARKED, UNSTABLE, family_tokenizer
from whence.data.answers import Rendered, render_answers, render_prompt
from whence.data.encoding import Encoder
from whence.data.examples import Example, Turn
from whence.data.templates import FALLBACK_TEMPLATE, Renderer, choose_template
from whence.errors import EncodingError

ASK = (Turn("user", "Where is Toronto?"), Turn("assistant", "Toronto is in Canada."))
SYSTEM = Turn("system", "Answer in one word.")


def render_last(tokenizer: PreTrainedTokenizerFast, turns: tuple[Turn, ...]) -> Rendered:
    renderer = Renderer(tokenizer, choose_template(tokenizer))
    return render_answers(renderer, turns, [len(turns) - 1], {})[0]


@pytest.mark.parametrize(
    ("name", "given", "source", "text"),
    [
        ("chatml", None, "tokenizer", CHATML),
        ("none", None, "fallback", FALLBACK_TEMPLATE),
        ("chatml", MARKED, "given", MARKED),
        ("none", MARKED, "given", MARKED),
    ],
)
def test_given_before_own_before_fallback(name: str, given: str | None, source: str, text: str) -> None:
    encoder = Encoder(family_tokenizer(name), template=given)
    assert (encoder.template_source, encoder.template) == (source, text)


def test_named_templates() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=family_tokenizer("chatml").backend_tokenizer)
    tokenizer.chat_template = {"default": CHATML, "tool_use": MARKED}
    assert choose_template(tokenizer).text == CHATML
    tokenizer.chat_template = {"rag": CHATML, "tool_use": MARKED}
    with pytest.raises(EncodingError, match=r"which of its chat templates(.|\n)*--template FILE"):
        choose_template(tokenizer)


def test_fallback_as_text() -> None:
    tokenizer = family_tokenizer("none")
    turns = (SYSTEM, *ASK, Turn("tool", "42"), Turn("user", "And Bonn?"), Turn("assistant", "Germany."))
    rendered = render_last(tokenizer, turns)
    assert rendered.text == (
        "Answer in one word.\n\n"
        "### Instruction:\nWhere is Toronto?\n\n### Response:\nToronto is in Canada.<|endoftext|>\n\n"
        "### Tool:\n42\n\n"
        "### Instruction:\nAnd Bonn?\n\n### Response:\nGermany.<|endoftext|>"
    )
    assert rendered.text[rendered.prompt_end : rendered.response_end] == "Germany.<|endoftext|>"
    prompt = render_prompt(Renderer(tokenizer, choose_template(tokenizer)), ASK[:1], {})
    assert prompt == "### Instruction:\nWhere is Toronto?\n\n### Response:\n"


def test_fallback_without_end_of_text_token() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=family_tokenizer("none").backend_tokenizer)
    rendered = render_last(tokenizer, ASK)
    assert rendered.text.endswith("### Response:\nToronto is in Canada.")


@pytest.mark.parametrize("name", ["qwen2.5", "gemma", "zephyr", "chatml"])
def test_space_after_the_end_of_turn_is_not_response(name: str) -> None:
    tokenizer = family_tokenizer(name)
    rendered = render_last(tokenizer, ASK)
    response = rendered.text[rendered.prompt_end : rendered.response_end]
    assert response.startswith("Toronto is in Canada.<")
    assert response.endswith(">")
    assert rendered.text[rendered.response_end :] == "\n"


def test_unstable_template_says_where_and_what_to_do() -> None:
    with pytest.raises(EncodingError) as raised:
        Encoder(family_tokenizer("chatml"), template=UNSTABLE).encode(Example(ASK, file="rows.jsonl", line=3))
    assert str(raised.value) == (
        f"rows.jsonl:3: the chat template (source: given, begins {UNSTABLE[:80]!r}) renders the prompt in "
        "another way once the response follows: at character 67 the prompt has "
        r"'im_start|>assistant\n<think>\n', the conversation 'im_start|>assistant\nToronto is in Canada'"
        "\nexpected the rendered prompt to be the beginning of the rendered conversation, or "
        "`{% generation %}` markers around the response"
        "\nGive a template that can with `--template FILE` (Jinja, as in tokenizer_config.json)."
    )


def test_mistral_v03_with_system_text_is_unstable() -> None:
    """A real one: the system text moves into the last turn, if that is the user's."""
    encoder = Encoder(family_tokenizer("mistral-v0.3"))
    assert len(encoder.encode(Example(ASK))) == 1
    with pytest.raises(EncodingError, match="at character 10 the prompt has '<s>\\[INST\\] Answer in"):
        encoder.encode(Example((SYSTEM, *ASK)))


@pytest.mark.parametrize("user", ["", "|trim"])
@pytest.mark.parametrize("assistant", ["|trim", ""])
@pytest.mark.parametrize("with_tools", [False, True])
def test_answers_under_mistrals_templates_are_where_generation_blocks_are(
    user: str, assistant: str, with_tools: bool
) -> None:
    """Prompts that are repeated, have lines, and spaces at their ends, which the template may strip; tools stand before
    each message that equals the last one of the user."""
    tools = "{% if tools and m == (messages|selectattr('role', 'equalto', 'user')|list)[-1] %}{{ tools }}{% endif %}"
    said = f"{{{{ ' ' + m['content']{assistant} + eos_token }}}}"
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        f"{tools}{{{{ '[INST] ' + m['content']{user} + '[/INST]' }}}}{{% else %}}SAID{{% endif %}}{{% endfor %}}"
    )
    unmarked, marked = (
        template.replace("SAID", said),
        template.replace("SAID", f"{{% generation %}}{said}{{% endgeneration %}}"),
    )
    for prompt in ("Where?\n\n", "  Where?\n\nAnswer: ", "\tWhere? [/INST]"):
        turns = (
            Turn("user", prompt),
            Turn("assistant", f" {prompt} "),
            Turn("user", prompt),
            Turn("assistant", "Oslo\n"),
        )
        example = Example(turns, template_inputs={"tools": [{"name": "f"}]} if with_tools else {})
        one, other = (
            Encoder(family_tokenizer("mistral-v0.3"), template=text).encode(example) for text in (unmarked, marked)
        )
        assert one == other
        assert [turn.text[turn.offsets[turn.response_start][0] :] for turn in one] == [
            " " + (f" {prompt} ".strip() if assistant else f" {prompt} ") + "</s>",
            " " + ("Oslo" if assistant else "Oslo\n") + "</s>",
        ]


def test_generation_markers_settle_an_unstable_template() -> None:
    tokenizer = family_tokenizer("chatml")
    encoder = Encoder(tokenizer, template=MARKED)
    turns = (*ASK, Turn("user", "Where is Bonn?"), Turn("assistant", " Germany."))
    encoded = encoder.encode(Example(turns))
    responses = [tokenizer.decode(turn.input_ids[turn.response_start :]) for turn in encoded]
    assert responses == ["Toronto is in Canada.<|im_end|>", " Germany.<|im_end|>"]
    assert encoded[1].text[: encoded[1].offsets[encoded[1].t][1]].endswith("<|im_start|>assistant\n")
    # the same mask as transformers reads from the markers
    told = tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.content} for turn in turns[:2]],
        chat_template=MARKED,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    assert list(encoded[0].input_ids) == told["input_ids"][: len(encoded[0].input_ids)]
    assert told["assistant_masks"].index(1) == encoded[0].response_start
    assert sum(told["assistant_masks"]) == encoded[0].n_response


def test_generation_markers_and_an_answer_that_was_cut_off() -> None:
    tokenizer = family_tokenizer("chatml")
    turn = Encoder(tokenizer, template=MARKED).encode_query(ASK[:1], "Toronto is", complete=False)
    assert tokenizer.decode(turn.input_ids[turn.response_start :]) == "Toronto is"


def test_markers_around_nothing_do_not_settle_it() -> None:
    template = MARKED.replace("message['role'] == 'assistant'", "message['role'] == 'nobody'")
    with pytest.raises(EncodingError, match="has 0 generation blocks for 1 assistant turns"):
        Encoder(family_tokenizer("chatml"), template=template).encode(Example(ASK))


def test_an_end_of_turn_that_depends_on_the_response() -> None:
    template = CHATML.replace("+ '<|im_end|>'", "+ '<|im_end|>' * (message['content'] | length)")
    with pytest.raises(EncodingError, match="ends a turn in a way that depends on the response"):
        Encoder(family_tokenizer("chatml"), template=template).encode_query(ASK[:1], "No.", complete=False)


@pytest.mark.parametrize(
    ("name", "turns", "message"),
    [
        ("gemma", (SYSTEM, *ASK), "System role not supported"),
        ("gemma", (ASK[0], *ASK), "Conversation roles must alternate user/assistant/user/assistant/..."),
        ("mistral", (SYSTEM, *ASK), "Conversation roles must alternate"),
        ("mistral", (ASK[0], ASK[1], SYSTEM, ASK[1]), "Conversation roles must alternate"),
    ],
)
def test_a_template_that_refuses_says_it_in_its_own_words(name: str, turns: tuple[Turn, ...], message: str) -> None:
    with pytest.raises(EncodingError) as raised:
        Encoder(family_tokenizer(name)).encode(Example(turns, file="rows.jsonl", line=5))
    assert message in raised.value.found
    assert raised.value.found.startswith("rows.jsonl:5: the chat template (source: tokenizer, begins ")
    assert "--template FILE" in raised.value.fix


def test_a_template_with_an_error_of_its_own() -> None:
    with pytest.raises(EncodingError, match="cannot render this conversation"):
        Encoder(family_tokenizer("chatml"), template="{% for m in messages %}").encode(Example(ASK))
