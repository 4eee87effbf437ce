"""An example as whence sees it: turns of text, where they came from, and what else the row carried."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

Span = tuple[int, int]
"""Start and end of a part of a text, in characters."""

ASSISTANT = "assistant"
TEXT = "text"
"""Role of the single turn of a plain document, which has no prompt."""


PAYLOAD_KEYS = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")
"""Keys of a message that are an answer even where its content is empty."""
MASK_KEYS = ("train", "training", "train_on_turn")
"""Keys of a message that say with false that its turn was not trained on (axolotl)."""
ZERO_MASKS = ("weight", "loss")
"""Keys that say it with 0, or with false (OpenAI, ms-swift)."""
PART_MASK = "train_detail"
"""Key of a message that was trained on in part (axolotl)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `role` is "system", "user", "assistant", "tool", or "text" for a plain document.

    `content` is the message's text. `extra` holds what else the template is given: keys beside role and content
    (tool_calls, name, reasoning_content, weight, ...), and "role" or "content" where the file spells them otherwise
    ("developer", null, a list of text parts).

    `untrained`: it is part of a prompt, so it was not trained on. The file does not say so: neither the message that a
    template is given nor the row's id has it.
    """

    role: str
    content: str
    extra: Mapping[str, Json] = field(default_factory=dict, hash=False)
    untrained: bool = False

    @property
    def message(self) -> dict[str, Json]:
        """The message as the trainer hands it to the chat template."""
        return {"role": self.role, "content": self.content, **self.extra}

    @property
    def has_answer(self) -> bool:
        """Whether there is anything to learn in it: text, a tool call or a thought."""
        return bool(self.content.strip()) or any(self.extra.get(key) for key in PAYLOAD_KEYS)

    @property
    def is_masked(self) -> bool:
        """Whether a mark (weight 0, train or loss false, train_detail) says that it was not, or not all, trained on, or
        it is part of a prompt."""
        return self.untrained or any(_masks(key, value) for key, value in self.extra.items())

    @property
    def unmasked(self) -> Turn:
        """The turn without the marks that mask it."""
        if not self.is_masked:
            return self
        extra = {key: value for key, value in self.extra.items() if not _masks(key, value)}
        return replace(self, extra=extra, untrained=False)


def _masks(key: str, value: Json) -> bool:
    if key in MASK_KEYS:
        return value is False
    return bool(value) if key == PART_MASK else key in ZERO_MASKS and value == 0


def answer_places(turns: Sequence[Turn]) -> list[int]:
    """Places of the turns that get a signature: the assistant's, but for a conversation's first turn, which has no
    prompt, for those without any answer and for those that were masked in training."""
    return [
        place
        for place, turn in enumerate(turns)
        if place and turn.role == ASSISTANT and turn.has_answer and not turn.is_masked
    ]


@dataclass(frozen=True, slots=True)
class Example:
    """One training row, or one query.

    `line` counts rows from 1 in `file`, as an editor does for JSONL. `metadata` is every column that is not part of
    the conversation (label, source, date, ...). `template_inputs` is what the chat template is given beside the
    messages: "tools", "documents" and the keys of a `chat_template_kwargs` column.
    """

    turns: tuple[Turn, ...]
    file: str = ""
    line: int = 0
    metadata: Mapping[str, Json] = field(default_factory=dict)
    template_inputs: Mapping[str, Json] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Content hash of the turns up to the last answer: 16 hexadecimal digits, the same in any file, order or
        format."""
        content = conversation_json(replace(self, turns=self.turns[: self._n_turns_in_id]), sort_keys=True)
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def beside_id(self) -> str:
        """The whole conversation as JSON where the id leaves out a part of it (turns behind the last answer, and which
        turns are `untrained`); "" where it does not."""
        if len(self.turns) <= self._n_turns_in_id and not any(turn.untrained for turn in self.turns):
            return ""
        return conversation_json(self, sort_keys=True, untrained=True)

    @property
    def _n_turns_in_id(self) -> int:
        last = max((place for place, turn in enumerate(self.turns) if turn.role == ASSISTANT), default=len(self.turns))
        return last + 1

    @property
    def where(self) -> str:
        """`file:line`, for messages."""
        return f"{self.file}:{self.line}" if self.file else "the given example"

    @classmethod
    def from_pair(cls, prompt: str, response: str, **rest: object) -> Example:
        """An example of one prompt and one response."""
        return cls(turns=(Turn("user", prompt), Turn(ASSISTANT, response)), **rest)  # type: ignore[arg-type]


def conversation_json(example: Example, *, sort_keys: bool = False, untrained: bool = False) -> str:
    """The conversation as JSON: [[role, content] or [role, content, extra], ...], then template_inputs if any.

    Args:
        untrained: writes [role, content, extra, true] for a turn that is `untrained`.
    """
    parts: list[object] = []
    for turn in example.turns:
        part = [turn.role, turn.content]
        if untrained and turn.untrained:
            parts.append([*part, turn.extra, True])
        else:
            parts.append([*part, turn.extra] if turn.extra else part)
    if example.template_inputs:
        parts.append(example.template_inputs)
    return json.dumps(parts, ensure_ascii=False, sort_keys=sort_keys)


def training_row(example: Example) -> dict[str, Json]:
    """The row as a trainer reads it: `messages`, with `tools`, `documents` and `chat_template_kwargs` if any."""
    own = {key: value for key, value in example.template_inputs.items() if key in ("tools", "documents")}
    rest = {key: value for key, value in example.template_inputs.items() if key not in own}
    return {
        "messages": [turn.message | ({"train": False} if turn.untrained else {}) for turn in example.turns],
        **own,
        **({"chat_template_kwargs": rest} if rest else {}),
    }


def read_conversation(text: str) -> tuple[tuple[Turn, ...], dict[str, Json]]:
    """Turns and template_inputs of what `conversation_json` wrote."""
    parts = json.loads(text)
    inputs = parts.pop() if parts and isinstance(parts[-1], dict) else {}
    return tuple(Turn(*part) for part in parts), inputs


@dataclass(frozen=True, slots=True)
class EncodedTurn:
    """One assistant turn of an example as token ids, ready for the model: the unit that gets a signature.

    `input_ids[:response_start]` are the prompt's tokens, `input_ids[response_start:]` the response's (always at least
    one of each). `t = response_start - 1` is the position of the last prompt token, the one that predicts the first
    response token. For a window of a plain document the "prompt" is the window's first token.

    `offsets[i]` are the start and end of token i, in characters of `text`, the rendered conversation.
    """

    turn: int
    """Which of the example's answers (see `answer_places`), or which window of a plain document, this is, from 0."""
    input_ids: tuple[int, ...]
    response_start: int
    text: str
    offsets: tuple[tuple[int, int], ...]
    prompt: str
    """The prompt as a person reads it (no template): the last user message before this turn."""
    response: str
    """The response as a person reads it (no template)."""
    truncated: int = 0
    """How many tokens were cut away to fit `max_length`: of the prompt's start and of the response's end."""
    truncated_prompt: int = 0
    """How many of them were the prompt's."""
    answer_at: int | None = None
    """Where in `text` the response stands, without the spaces at its ends; None where the template changes it."""

    @property
    def t(self) -> int:
        """Position of the last prompt token."""
        return self.response_start - 1

    @property
    def n_prompt(self) -> int:
        """Number of prompt tokens, m."""
        return self.response_start

    @property
    def n_response(self) -> int:
        """Number of response tokens, n."""
        return len(self.input_ids) - self.response_start
