"""Which chat template is used, and where in the text it renders the response begins and ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from whence.data.examples import ASSISTANT, TEXT, Turn
from whence.errors import EncodingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TemplateSource = Literal["given", "tokenizer", "fallback"]

FALLBACK_TEMPLATE = """\
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {{ message['content'] + '\\n\\n' }}
    {%- elif message['role'] == 'assistant' -%}
        {{ '### Response:\\n' + message['content'] + (eos_token or '') }}
        {%- if not loop.last -%}{{ '\\n\\n' }}{%- endif -%}
    {%- elif message['role'] == 'user' -%}
        {{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}
    {%- else -%}
        {{ '### ' + message['role'] | capitalize + ':\\n' + message['content'] + '\\n\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}
"""
"""Used where neither the user nor the tokenizer gives a template."""

_GENERATION_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
_PROBE = "whence"
"""A response of which every template keeps each letter: what follows it is the end-of-turn marker."""
_SHOWN = 80
_CONTEXT = 20
_FIX = "Give a template that can with `--template FILE` (Jinja, as in tokenizer_config.json)."


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja chat template and where it came from."""

    text: str
    source: TemplateSource

    def __str__(self) -> str:
        return f"the chat template (source: {self.source}, begins {self.text[:_SHOWN]!r})"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text; the response of its last turn is the characters `text[prompt_end:response_end]`.

    The end-of-turn marker is part of it, whitespace after that marker is not.
    """

    text: str
    prompt_end: int
    response_end: int


def choose_template(tokenizer: PreTrainedTokenizerBase, given: str | None = None) -> ChatTemplate:
    """The given template, else the tokenizer's own, else the fallback.

    Raises:
        EncodingError: the tokenizer has several named templates and none of them is its default.
    """
    if given is not None:
        return ChatTemplate(given, "given")
    if not tokenizer.chat_template:
        return ChatTemplate(FALLBACK_TEMPLATE, "fallback")
    try:
        return ChatTemplate(tokenizer.get_chat_template(), "tokenizer")
    except ValueError as error:
        raise EncodingError(
            f"the tokenizer does not say which of its chat templates to use: {error}",
            "expected one template, or one named 'default'",
            "Choose one with `--template FILE`.",
        ) from error


def render_prompt(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, turns: Sequence[Turn]) -> str:
    """The prompt as the model sees it when it is about to answer: every turn, and the answer's header.

    A single turn of role "text" is a prompt without template, for a model trained on plain documents.

    Raises:
        EncodingError: no turns, or the template refuses them.
    """
    if _is_plain(turns):
        return turns[0].content
    return _render(tokenizer, template, turns, add_generation_prompt=True)


def render_turn(
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate,
    turns: Sequence[Turn],
    *,
    complete: bool = True,
) -> Rendered:
    """Render a conversation whose last turn is the assistant's, and find that turn's response in it.

    The response begins where the rendered prompt ends: the prompt must be a prefix of the conversation. Of a
    template with `{% generation %}` markers, what stands outside of them is no part of it, as a trainer that masks by
    them learns nothing there; and where the prompt is no prefix, they alone say where the response is.

    Args:
        complete: False leaves out the end-of-turn marker and what follows (a length limit cut the answer).

    Raises:
        EncodingError: the template refuses the turns, or nothing says where the response begins.
    """
    prompt = render_prompt(tokenizer, template, turns[:-1])
    if _is_plain(turns[:-1]):
        text = prompt + turns[-1].content
        return Rendered(text, len(prompt), len(text))
    text = _render(tokenizer, template, turns, add_generation_prompt=False)
    start, end = len(prompt), len(text.rstrip())
    blocks = _marked_blocks(tokenizer, template, turns)
    if not text.startswith(prompt):
        if not blocks:
            raise _unstable(template, prompt, text)
        start, end = blocks[-1]
    elif own := [block for block in blocks if block[1] > start]:
        start, end = max(start, own[0][0]), min(end, own[-1][1])
    if not complete:
        end = len(text) - len(_end_of_turn(tokenizer, template, turns, text))
        text = text[:end]
    return Rendered(text, start, end)


def _is_plain(turns: Sequence[Turn]) -> bool:
    return len(turns) == 1 and turns[0].role == TEXT


def _render(
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate,
    turns: Sequence[Turn],
    *,
    add_generation_prompt: bool,
) -> str:
    if not turns:
        raise EncodingError(
            "a conversation that begins with the assistant's turn has no prompt",
            "expected at least one turn before the first response",
            "Add the user's turn to the row, or leave the row out.",
        )
    if any(turn.role == TEXT for turn in turns):
        raise EncodingError(
            f"a plain text among other turns: {[turn.role for turn in turns]}",
            f"expected a turn of role {TEXT!r} to stand alone",
            "Give the row either a text or a conversation.",
        )
    try:
        rendered = tokenizer.apply_chat_template(
            _messages(turns),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            chat_template=template.text,
        )
    except Exception as error:  # a template is a program from outside: it may raise anything
        raise EncodingError(
            f"{template} cannot render this conversation: {error}",
            f"expected a template for the roles {[turn.role for turn in turns]}",
            _FIX,
        ) from error
    return str(rendered)


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _marked_blocks(
    tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, turns: Sequence[Turn]
) -> list[tuple[int, int]]:
    """Start and end of each `{% generation %}` block that is not empty, in characters of the rendered turns."""
    if not _GENERATION_MARKER.search(template.text):
        return []
    from transformers.utils.chat_template_utils import render_jinja_template

    # What apply_chat_template(return_assistant_tokens_mask=True) calls before it turns characters into tokens,
    # by offsets that may leave out spaces.
    _, blocks = render_jinja_template(
        conversations=[_messages(turns)],
        chat_template=template.text,
        return_assistant_tokens_mask=True,
        **tokenizer.special_tokens_map,
    )
    return [(int(start), int(end)) for start, end in blocks[0] if end > start]


def _end_of_turn(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, turns: Sequence[Turn], text: str) -> str:
    """What the template writes after a response's last letter."""
    probe = _render(tokenizer, template, [*turns[:-1], Turn(ASSISTANT, _PROBE)], add_generation_prompt=False)
    _, found, marker = probe.rpartition(_PROBE)
    if not found or not text.endswith(marker):
        raise EncodingError(
            f"{template} ends a turn in a way that depends on the response",
            f"expected every response to be followed by {marker!r}",
            _FIX,
        )
    return marker


def _unstable(template: ChatTemplate, prompt: str, text: str) -> EncodingError:
    place = next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), len(text))
    around = slice(max(0, place - _CONTEXT), place + _CONTEXT)
    return EncodingError(
        f"{template} renders the prompt in another way once the response follows: at character {place} "
        f"the prompt has {prompt[around]!r}, the conversation {text[around]!r}",
        "expected the rendered prompt to be the beginning of the rendered conversation, "
        "or `{% generation %}` markers around the response",
        _FIX,
    )
