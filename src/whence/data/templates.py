"""Which chat template is used, and the text it makes of a conversation, as the trainer has it made."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from whence.data.examples import TEXT, Json, Turn
from whence.errors import EncodingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TemplateSource = Literal["given", "tokenizer", "fallback"]
Inputs = Mapping[str, Json]
"""What a template is given beside the messages."""

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
_TODAY = re.compile(r"""\bstrftime_now\(\s*(?:(['"])(.*?)\1)\s*\)""")
_SHOWN = 80
_PROBES = (Turn("user", "whence"), Turn("assistant", "ecnehw"))
FIX = "Give a template that can with `--template FILE` (Jinja, as in tokenizer_config.json)."


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja chat template and where it came from."""

    text: str
    source: TemplateSource

    def __str__(self) -> str:
        return f"the chat template (source: {self.source}, begins {self.text[:_SHOWN]!r})"


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


def writes_today(tokenizer: PreTrainedTokenizerBase, template: ChatTemplate) -> bool:
    """Whether the template, or another of the tokenizer's, may write the day on which it renders."""
    return "strftime_now(" in (str(tokenizer.chat_template) if template.source == "tokenizer" else template.text)


class Renderer:
    """Renders conversations with one template, through the tokenizer's own `apply_chat_template`.

    day: what a template writes in place of today's date, an ISO date.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, day: str | None = None) -> None:
        self._day = datetime.date.fromisoformat(day) if day is not None else None
        self.tokenizer = tokenizer
        self.template = template
        self.writes_lists = False
        """Whether the template was seen to write a list of text parts as Python does."""
        self._reads_parts_alone: dict[str, bool] = {}

    def template_text(self, inputs: Inputs) -> str:
        """The Jinja text in use: of a tokenizer with several templates the one named tool_use, if there are tools."""
        if self.template.source == "tokenizer" and inputs.get("tools"):
            return str(self.tokenizer.get_chat_template(None, tools=inputs["tools"]))
        return self.template.text

    def is_marked(self, inputs: Inputs) -> bool:
        """Whether `{% generation %}` blocks say which text is the assistant's."""
        return _GENERATION_MARKER.search(self.template_text(inputs)) is not None

    def text(self, turns: Sequence[Turn], inputs: Inputs, *, add_generation_prompt: bool = False) -> str:
        """The rendered turns. `inputs` are the template's other variables: tools, documents, enable_thinking, ...

        Messages are handed over whole. Where the template fails on a content that is null or a list of text parts, or
        writes the list as Python does, it is handed their text, as a trainer has to do for it. A template that reads
        parts alone is handed each text as one part.

        Raises:
            EncodingError: no turns, a plain text among others, or the template refuses them.
        """
        _check_turns(turns)
        as_parts = self.reads_parts_alone(inputs)
        cause: Exception | None = None
        try:
            text = self._apply(_messages(turns, as_parts=as_parts), inputs, add_generation_prompt)
        except Exception as error:  # a template is a program from outside: it may raise anything
            cause = error
        else:
            if not _has_lists(text, turns):
                return text
            self.writes_lists = True
        if any("content" in turn.extra for turn in turns):
            try:
                handed = _messages(turns, as_text=True, as_parts=as_parts)
                return self._apply(handed, inputs, add_generation_prompt)
            except Exception as error:
                cause = error
        raise EncodingError(
            f"{self.template} cannot render this conversation: {cause}",
            f"expected a template for the roles {[turn.role for turn in turns]}",
            FIX,
        ) from cause

    def reads_parts_alone(self, inputs: Inputs) -> bool:
        """Whether the template leaves out texts, or fails on them, and writes lists of text parts (SmolVLM)."""
        template = self.template_text(inputs)
        if template not in self._reads_parts_alone:
            self._reads_parts_alone[template] = not self._shows_probe(inputs) and self._shows_probe(inputs, parts=True)
        return self._reads_parts_alone[template]

    def _shows_probe(self, inputs: Inputs, *, parts: bool = False) -> bool:
        try:
            text = self._apply(_messages(_PROBES, as_parts=parts), inputs, False)
        except Exception:
            return False
        return all(turn.content in text for turn in _PROBES)

    def blocks(self, turns: Sequence[Turn], inputs: Inputs) -> tuple[str, list[tuple[int, int]]]:
        """The rendered turns, and start and end, in characters, of each `{% generation %}` block."""
        from transformers.utils.chat_template_utils import render_jinja_template

        text = self.text(turns, inputs)
        as_parts = self.reads_parts_alone(inputs)
        handed = [_messages(turns, as_text=as_text, as_parts=as_parts) for as_text in (False, True)]
        # Newer versions of apply_chat_template leave out null keys before they render.
        handed.insert(0, [{key: value for key, value in one.items() if value is not None} for one in handed[0]])
        for messages in handed:
            # What apply_chat_template(return_assistant_tokens_mask=True) calls before it turns characters into tokens,
            # by offsets that may leave out spaces.
            try:
                rendered, found = render_jinja_template(
                    conversations=[messages],
                    chat_template=self._dated(inputs),
                    return_assistant_tokens_mask=True,
                    **self._variables(inputs),
                )
            except Exception:  # the text was rendered from another of the three
                continue
            if rendered[0] == text:
                return text, [(int(start), int(end)) for start, end in found[0]]
        raise EncodingError(
            f"{self.template} renders another text when its generation blocks are asked for",
            "expected the same text both times",
            FIX,
        )

    def _apply(self, messages: list[dict[str, Json]], inputs: Inputs, add_generation_prompt: bool) -> str:
        rendered = self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            chat_template=self._dated(inputs),
            **inputs,
        )
        return str(rendered)

    def _dated(self, inputs: Inputs) -> str:
        """The template with the day in place of its calls for today's date."""
        text, day = self.template_text(inputs), self._day
        return _TODAY.sub(lambda call: repr(day.strftime(call[2])), text) if day is not None else text

    def _variables(self, inputs: Inputs) -> dict[str, object]:
        return {**self.tokenizer.special_tokens_map, **inputs}


def is_plain(turns: Sequence[Turn]) -> bool:
    """Whether the turns are one plain text, which no template touches."""
    return len(turns) == 1 and turns[0].role == TEXT


def _check_turns(turns: Sequence[Turn]) -> None:
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


def _messages(turns: Sequence[Turn], *, as_text: bool = False, as_parts: bool = False) -> list[dict[str, Json]]:
    messages = [turn.message | {"content": turn.content} if as_text else turn.message for turn in turns]
    for message in messages if as_parts else ():
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
    return messages


def _has_lists(text: str, turns: Sequence[Turn]) -> bool:
    """Whether a list of parts stands in the text as Python writes it, which a filter such as `trim` makes of it."""
    lists = [content for turn in turns if isinstance(content := turn.extra.get("content"), list) and content]
    return any(str(content) in text for content in lists)
